package run

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// bench is a group of ints under test: each batch waits to be let go.
type bench struct {
	*group[int, int]
	mu      sync.Mutex
	batches [][]int
	release chan error // one per batch; nil: its results are the values times ten
}

func newBench(ctx context.Context, max int) *bench {
	b := &bench{release: make(chan error)}
	b.group = newGroup(max, func(ctx context.Context, batch []int) ([]int, error) {
		b.mu.Lock()
		b.batches = append(b.batches, batch)
		b.mu.Unlock()
		select {
		case err := <-b.release:
			results := make([]int, len(batch))
			for i, v := range batch {
				results[i] = 10 * v
			}
			return results, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	go b.serve(ctx)
	return b
}

// ask calls and sends what comes back.
func (b *bench) ask(ctx context.Context, v int) <-chan answer[int] {
	got := make(chan answer[int], 1)
	go func() {
		r, err := b.call(ctx, v)
		got <- answer[int]{r, err}
	}()
	synctest.Wait()
	return got
}

func TestGroup(t *testing.T) {
	errBad := errors.New("bad")
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t.Context(), 3)
		asked := map[int]<-chan answer[int]{}
		for v := 1; v <= 6; v++ {
			if v != 4 {
				asked[v] = b.ask(t.Context(), v)
				continue
			}
			ctx, leave := context.WithCancel(t.Context())
			gone := b.ask(ctx, v)
			leave()
			if got := <-gone; !errors.Is(got.err, context.Canceled) {
				t.Errorf("a caller that left: %v", got.err)
			}
		}
		for _, err := range []error{nil, errBad, nil, errBad, nil, nil} {
			b.release <- err
			synctest.Wait()
		}
		// The first goes alone, no batch is above 3, of one that failed each is
		// tried by itself, and who left before any of this is not served any more.
		want := [][]int{{1}, {2, 3, 5}, {2}, {3}, {5}, {6}}
		if !slices.EqualFunc(b.batches, want, slices.Equal) {
			t.Errorf("batches %v, want %v", b.batches, want)
		}
		for v, c := range asked {
			got := <-c
			if bad := v == 3; bad != errors.Is(got.err, errBad) || !bad && got.value != 10*v {
				t.Errorf("%d: %d, %v", v, got.value, got.err)
			}
		}
	})
}

// TestGroupStops: who asks of a group that nobody serves any more waits no
// longer than its context.
func TestGroupStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		b := newBench(ctx, 3)
		first := b.ask(t.Context(), 1)
		stop()
		if got := <-first; !errors.Is(got.err, context.Canceled) {
			t.Errorf("a batch under way at the stop: %v", got.err)
		}
		late, leave := context.WithCancel(t.Context())
		asked := b.ask(late, 2)
		leave()
		if got := <-asked; !errors.Is(got.err, context.Canceled) {
			t.Errorf("after the stop: %v", got.err)
		}
	})
}
