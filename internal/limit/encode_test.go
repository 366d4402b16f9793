package limit

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEncodingRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var l Log
	now := at(0)
	for range 5000 {
		now = now.Add(time.Duration(rnd.Int64N(int64(time.Second))))
		l.Take(now, 100, 1+rnd.IntN(5))
		b, err := l.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > MaxPairs*8+8 {
			t.Fatalf("%d bytes for %d pairs", len(b), len(l.Pairs))
		}
		back := Log{Pairs: []Pair{{1, 1}}} // what was there before is forgotten
		if err := back.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(back.Pairs, l.Pairs) {
			t.Fatalf("%v came back as %v", l.Pairs, back.Pairs)
		}
	}
}

func TestCorruptLogs(t *testing.T) {
	many := Log{}
	for i := range MaxPairs + 1 {
		many.Pairs = append(many.Pairs, Pair{At: int64(i), N: 1})
	}
	tooMany, err := many.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"half a pair":      {5},
		"cut varint":       {0x80},
		"cut count":        {5, 0x80},
		"no count":         {5, 0},
		"count too large":  {5, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"time overflows":   {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 1},
		"varint too long":  bytes.Repeat([]byte{0xff}, 12),
		"too many pairs":   tooMany,
		"counts too large": {1, 0xff, 0xff, 0xff, 0xff, 7, 1, 0xff, 0xff, 0xff, 0xff, 7},
	} {
		l := Log{Pairs: []Pair{{At: 9, N: 9}}}
		if err := l.UnmarshalBinary(b); err == nil {
			t.Errorf("%s: read as %v", name, l.Pairs)
		}
	}
	for name, l := range map[string]Log{
		"descending": {Pairs: []Pair{{2, 1}, {1, 1}}},
		"empty pair": {Pairs: []Pair{{2, 0}}},
	} {
		if _, err := l.AppendBinary(nil); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	full, _ := (&Log{Pairs: []Pair{{At: 1_800_000_000_000_000, N: 3}, {At: 1_800_000_000_600_000, N: 1}}}).AppendBinary(nil)
	f.Add(full)
	f.Add([]byte{5, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l Log
		if l.UnmarshalBinary(b) != nil {
			return
		}
		again, err := l.AppendBinary(nil)
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		var back Log
		if err := back.UnmarshalBinary(again); err != nil || !slices.Equal(back.Pairs, l.Pairs) {
			t.Fatalf("%v came back as %v, %v", l.Pairs, back.Pairs, err)
		}
		// A log that was read never admits over the limit, whatever it holds.
		counted := l.count()
		if got := l.Take(time.UnixMicro(0), 10, 100); got > max(10-counted, 0) {
			t.Fatalf("admitted %d on top of %d", got, counted)
		}
	})
}
