package run

import (
	"context"
	"time"
)

// leaseLoop renews the leases of all runs held here in one statement, a third
// of the lease apart.
// After a failure it tries again soon: a store that is back is back for the
// sweepers of other nodes too.
func (e *Engine) leaseLoop(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		next := e.cfg.Lease / 3
		if !e.renew(ctx) {
			next = min(next, e.cfg.Poll)
		}
		t.Reset(next)
	}
}

func (e *Engine) renew(ctx context.Context) (ok bool) {
	holds := e.holds()
	if len(holds) == 0 {
		return true
	}
	ctx, done := context.WithTimeout(ctx, e.cfg.Lease/3)
	defer done()
	lost, err := e.store.RenewMany(ctx, e.cfg.Node, holds, e.cfg.Lease)
	if err != nil {
		e.log.Warn("leases not renewed", "runs", len(holds), "error", err)
		return false
	}
	e.lost(lost)
	return true
}

// cancelLoop hears of cancels that were asked for at other nodes.
func (e *Engine) cancelLoop(ctx context.Context) {
	every(ctx, e.cfg.Poll, func(ctx context.Context) {
		if e.Held() == 0 {
			return
		}
		ids, err := e.store.CancelsAsked(ctx, e.cfg.Node)
		if err != nil {
			e.log.Debug("cancels not read", "error", err)
			return
		}
		for _, id := range ids {
			e.mu.Lock()
			j := e.jobs[id]
			e.mu.Unlock()
			if j != nil {
				j.cancel(ErrCancelled)
			}
		}
	})
}
