package run

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// Refuse makes every further claim answer server_draining; live runs go on.
func (e *Engine) Refuse() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.draining {
		return
	}
	e.draining = true
	e.closeIdle()
}

// closeIdle says so when a draining engine has nothing left. The lock is held.
func (e *Engine) closeIdle() {
	if !e.draining || e.claiming > 0 || len(e.jobs) > 0 {
		return
	}
	select {
	case <-e.idle:
	default:
		close(e.idle)
	}
}

// Drain waits for the live runs until ctx ends. What is left then is given up:
// runs with a key are released, so that another node takes them at once, the
// others end as interrupted. It returns when all of it is stored, or after
// flushWait more.
func (e *Engine) Drain(ctx context.Context, flushWait time.Duration) {
	e.Refuse()
	defer e.sendAway()
	select {
	case <-e.idle:
		return
	case <-ctx.Done():
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
	defer done()
	for {
		e.giveUp(ctx)
		select {
		case <-e.idle:
			return
		case <-e.late: // a claim that was on its way has become a run
		case <-ctx.Done():
			e.log.Warn("runs left behind by the drain", "runs", e.Held())
			return
		}
	}
}

// sendAway ends the responses of those who read other nodes' runs here.
func (e *Engine) sendAway() {
	e.mu.Lock()
	mirrors := slices.Collect(maps.Values(e.mirrors))
	e.mu.Unlock()
	for _, m := range mirrors {
		m.log.breakOff(goingAway())
	}
}

func goingAway() *fault.Error {
	return fault.New(api.ServerDraining, "the server is shutting down; resume this stream")
}

func (e *Engine) giveUp(ctx context.Context) {
	var keyed []*Job
	var holds []Hold
	e.mu.Lock()
	for id, j := range e.jobs {
		if j.Record.Keyed {
			keyed = append(keyed, j)
			holds = append(holds, Hold{Run: id, Attempt: j.attempt})
		} else {
			j.cancel(ErrDrained)
		}
	}
	e.mu.Unlock()
	if len(keyed) == 0 {
		return
	}
	for _, j := range keyed {
		j.cancel(errReleased)
	}
	e.flushAll(ctx, keyed)
	if err := e.store.Release(ctx, e.cfg.Node, holds); err != nil {
		e.log.Warn("leases not released", "runs", len(holds), "error", err)
	}
	for _, j := range keyed {
		j.log.seal(fault.New(api.ServerDraining, "the server is shutting down; resume this stream"))
	}
}
