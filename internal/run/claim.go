package run

import (
	"context"
	"errors"
	"time"

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
	if err == nil && res.Outcome == IDTaken && !c.OwnID {
		err = errCommitted
	}
	if err != nil {
		return ClaimResult{}, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	return res, nil
}

// errCommitted says that a claim made again after an unknown outcome met itself.
var errCommitted = errors.New("claimed before, outcome not known then")

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
		e.doubt(batch)
		return nil, err
	}
	for i, r := range results {
		if r.Outcome == Claimed {
			e.start(&Job{Record: r.Run, History: r.History, Parsed: batch[i].Parsed}, "")
		}
	}
	return results, nil
}

// maxDoubts bounds the claims that are remembered while the store is away; what
// is beyond lapses by itself, later.
const maxDoubts = 4096

// doubt remembers claims that may have been committed all the same.
func (e *Engine) doubt(batch []Claim) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range batch {
		if len(e.doubts) < maxDoubts {
			e.doubts[c.ID] = time.Now()
		}
	}
}

// settle releases the runs of such claims: if there are any, somebody takes them
// over at once, and those who joined them need not wait for a lease to lapse. A
// claim of a batch that failed is tried once more by itself: it is left alone
// until that is over, or a job just begun would lose its lease.
func (e *Engine) settle(ctx context.Context) {
	e.mu.Lock()
	var holds []Hold
	for id, since := range e.doubts {
		if e.jobs[id] == nil && time.Since(since) > aloneWait {
			holds = append(holds, Hold{Run: id, Attempt: 1})
		}
	}
	e.mu.Unlock()
	if len(holds) > 0 {
		ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
		defer done()
		if err := e.store.Release(ctx, e.cfg.Node, holds); err != nil {
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range holds {
		delete(e.doubts, h.Run)
	}
	for id := range e.doubts {
		if e.jobs[id] != nil {
			delete(e.doubts, id)
		}
	}
}
