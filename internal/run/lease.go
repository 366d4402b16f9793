package run

import "context"

// leaseLoop renews the leases of all runs held here in one statement, a third
// of the lease apart.
func (e *Engine) leaseLoop(ctx context.Context) {
	every(ctx, e.cfg.Lease/3, e.renew)
}

func (e *Engine) renew(ctx context.Context) {
	holds := e.holds()
	if len(holds) == 0 {
		return
	}
	ctx, done := context.WithTimeout(ctx, e.cfg.Lease/3)
	defer done()
	lost, err := e.store.RenewMany(ctx, e.cfg.Node, holds, e.cfg.Lease)
	if err != nil {
		e.log.Warn("leases not renewed", "runs", len(holds), "error", err)
		return
	}
	e.lost(lost)
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
