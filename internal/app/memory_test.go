package app

import "testing"

func TestGCPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 1000}, {4 << 20, 1000}, {8 << 20, 600}, {16 << 20, 300}, {40 << 20, 100}, {60 << 20, 75}, {400 << 20, 25}} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("%d live: %d, want %d", c.live, got, c.want)
		}
	}
}
