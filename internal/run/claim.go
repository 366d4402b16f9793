package run

import (
	"context"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// Claim accepts a run, or says why not. A claimed run has begun to work when
// Claim returns, whether the caller is still there or not. The error is one of
// storage: then it is not known whether the run was accepted, and a retry with
// the same key finds out.
func (e *Engine) Claim(ctx context.Context, c Claim) (ClaimResult, error) {
	e.mu.Lock()
	draining := e.draining
	e.mu.Unlock()
	if draining {
		return ClaimResult{}, fault.New(api.ServerDraining, "the server is shutting down")
	}
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	c.Node, c.Lease = e.cfg.Node, e.cfg.Lease
	res, err := e.claims.call(ctx, c)
	if err != nil {
		return ClaimResult{}, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	return res, nil
}

// claimBatch commits a batch and starts what it claimed.
func (e *Engine) claimBatch(ctx context.Context, batch []Claim) ([]ClaimResult, error) {
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	results, err := e.store.ClaimMany(ctx, batch)
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		if r.Outcome == Claimed {
			e.start(&Job{Record: r.Run, History: r.History}, "")
		}
	}
	return results, nil
}
