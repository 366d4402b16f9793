package run

import (
	"context"
	"time"
)

// group commits what many callers ask for together: while one batch is being
// written the next one gathers, so there is no linger and a lone caller waits
// for nobody.
type group[T, R any] struct {
	in  chan ask[T, R]
	max int
	do  func(ctx context.Context, batch []T) ([]R, error)
}

type ask[T, R any] struct {
	value T
	left  func() error // not nil once the caller has gone
	reply chan answer[R]
}

type answer[R any] struct {
	value R
	err   error
}

func newGroup[T, R any](max int, do func(context.Context, []T) ([]R, error)) *group[T, R] {
	return &group[T, R]{in: make(chan ask[T, R], max), max: max, do: do}
}

// call hands v to the next batch and waits for its result. When ctx ends first
// while the batch is being written, it may still carry v out.
func (g *group[T, R]) call(ctx context.Context, v T) (R, error) {
	a := ask[T, R]{value: v, left: ctx.Err, reply: make(chan answer[R], 1)}
	var none R
	select {
	case g.in <- a:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-a.reply:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// serve writes batches until ctx ends. Several may serve one group.
func (g *group[T, R]) serve(ctx context.Context) {
	for {
		select {
		case first := <-g.in:
			if batch := g.gather(first); len(batch) > 0 {
				g.write(ctx, batch)
			}
		case <-ctx.Done():
			return
		}
	}
}

// gather takes what waits. Who has gone was told that nothing came of it, and it
// is better so: after a store's absence those are the requests of long ago.
func (g *group[T, R]) gather(first ask[T, R]) (batch []ask[T, R]) {
	for next := first; ; {
		if next.left() == nil {
			batch = append(batch, next)
		}
		if len(batch) == g.max {
			return batch
		}
		select {
		case next = <-g.in:
		default:
			return batch
		}
	}
}

func (g *group[T, R]) write(ctx context.Context, batch []ask[T, R]) {
	values := make([]T, len(batch))
	for i := range batch {
		values[i] = batch[i].value
	}
	results, err := g.do(ctx, values)
	ctx, done := context.WithTimeout(ctx, aloneWait)
	defer done()
	for i := range batch {
		var a answer[R]
		switch {
		case err == nil:
			a.value = results[i]
		case len(batch) > 1:
			a = g.alone(ctx, values[i:i+1]) // one that cannot be stored must not fail the others
		default:
			a.err = err
		}
		batch[i].reply <- a
	}
}

// aloneWait bounds how long the parts of a batch that failed are tried one by one.
const aloneWait = 5 * time.Second

func (g *group[T, R]) alone(ctx context.Context, one []T) (a answer[R]) {
	results, err := g.do(ctx, one)
	if a.err = err; err == nil {
		a.value = results[0]
	}
	return a
}
