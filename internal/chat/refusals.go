package chat

import (
	"context"
	"sync"
	"time"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// refusals records rate-limited requests as events: one for each principal and
// second, with their number, so that a flood of refusals is no flood of writes.
type refusals struct {
	engine *run.Engine

	mu    sync.Mutex
	count map[string]int
	last  map[string]run.Record
}

// maxRefused bounds the principals of one second; more are counted together.
const maxRefused = 1024

func newRefusals(e *run.Engine) *refusals {
	return &refusals{engine: e, count: map[string]int{}, last: map[string]run.Record{}}
}

func (r *refusals) note(rec run.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := rec.Principal
	if _, known := r.count[who]; !known && len(r.count) >= maxRefused {
		who, rec.Owner = "", ""
	}
	r.count[who]++
	r.last[who] = rec
}

func (r *refusals) run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			r.store(ctx)
		case <-ctx.Done():
			last, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer done()
			r.store(last)
			return nil
		}
	}
}

// store writes what has gathered. If the store is away it gathers on.
func (r *refusals) store(ctx context.Context) {
	r.mu.Lock()
	counts, last := r.count, r.last
	r.count, r.last = map[string]int{}, map[string]run.Record{}
	r.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	events := make([]record.Event, 0, len(counts))
	for who, n := range counts {
		rec := last[who]
		rec.SessionID = [16]byte{}
		e := newEvent("rate_limited", rec, object(nil).str("endpoint", rec.Endpoint).int("count", n).end())
		e.RunID = [16]byte{}
		events = append(events, e)
	}
	if r.engine.AddEvents(ctx, events) == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for who, n := range counts {
		r.count[who] += n
		if _, newer := r.last[who]; !newer {
			r.last[who] = last[who]
		}
	}
}
