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
	if !e.letIn() {
		return ClaimResult{}, fault.New(api.ServerDraining, "the server is shutting down")
	}
	defer e.letOut()
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	c.Node, c.Lease = e.cfg.Node, e.cfg.Lease
	res, err := e.claims.call(ctx, c)
	if err != nil {
		return ClaimResult{}, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	return res, nil
}

// letIn counts a claim that is on its way: a drain waits for the run that it may
// become. It tells whether claims are taken at all.
func (e *Engine) letIn() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.draining {
		return false
	}
	e.claiming++
	return true
}

// letOut takes the claim's place off again: by now it is a job, or never will be.
func (e *Engine) letOut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.claiming--
	e.closeIdle()
}

// claimBatch commits a batch and starts what it claimed.
func (e *Engine) claimBatch(ctx context.Context, batch []Claim) ([]ClaimResult, error) {
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	results, err := e.store.ClaimMany(ctx, batch)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		if r.Outcome == Claimed {
			e.start(&Job{Record: r.Run, History: r.History, Parsed: batch[i].Parsed}, "")
		}
	}
	return results, nil
}
