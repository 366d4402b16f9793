package run

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
)

const (
	sweepMax = 4096 // lapses watched: all runs of a dead node are watched at once, not one lot after another
	pruneMax = 500  // runs pruned in one statement
)

// sweepLoop takes over the runs whose holders are gone.
func (e *Engine) sweepLoop(ctx context.Context) {
	seen := map[Hold]sighting{}
	every(ctx, e.cfg.Lease/3, func(ctx context.Context) {
		e.settle(ctx)
		seen = e.sweep(ctx, time.Now(), seen)
	})
}

// sighting is when this sweeper first saw a lease over. A holder may renew a
// lapsed lease; then the lapse that was seen is not the one there is.
type sighting struct {
	until time.Time
	at    time.Time
}

// sweep takes over what has stayed lapsed for one whole lease of this sweeper's
// own unbroken contact with the store. A store that was away has lapsed every
// lease there is, and none of their holders need be dead: after an error the
// watch begins anew.
func (e *Engine) sweep(ctx context.Context, now time.Time, seen map[Hold]sighting) map[Hold]sighting {
	readCtx, done := context.WithTimeout(ctx, max(e.cfg.Lease/3, time.Second))
	lapses, err := e.store.Lapsed(readCtx, sweepMax)
	done()
	if err != nil {
		e.log.Debug("lapsed runs not read", "error", err)
		return map[Hold]sighting{}
	}
	still := make(map[Hold]sighting, len(lapses))
	for _, l := range lapses {
		hold := Hold{Run: l.Run, Attempt: l.Attempt}
		if e.holdsRun(hold) || e.handlers[l.Kind] == nil {
			continue
		}
		s, ok := seen[hold]
		if !ok || !s.until.Equal(l.Until) {
			s = sighting{until: l.Until, at: now}
		}
		if !l.Released && now.Sub(s.at) < e.cfg.Lease {
			still[hold] = s
			continue
		}
		e.takeOver(ctx, hold)
	}
	return still
}

func (e *Engine) holdsRun(h Hold) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	j := e.jobs[h.Run]
	return j != nil && j.attempt == h.Attempt
}

// takeOver makes this node the holder of a lapsed run: it works on it again, or
// closes it where that is not allowed.
func (e *Engine) takeOver(ctx context.Context, hold Hold) {
	e.mu.Lock()
	stopped := e.draining || e.base == nil || e.base.Err() != nil
	e.mu.Unlock()
	if stopped {
		return
	}
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	rec, history, ok, err := e.store.TakeOver(ctx, hold, e.cfg.Node, e.cfg.Lease)
	if err != nil || !ok {
		if err != nil {
			e.log.Warn("run not taken over", "run", hold.Run, "error", err)
		}
		return
	}
	log := e.mirrorLog(rec.ID)
	err = e.readStored(ctx, log)
	if errors.Is(err, errCodec) {
		// It will not get better: what was said is given up, the run is not.
		e.log.Error("log of a run taken over is damaged", "run", hold.Run, "trace_id", rec.TraceID)
		log, err = NewLog(rec.ID), nil
	}
	if err != nil {
		// Its lease lapses again and somebody tries once more.
		e.log.Warn("log of a run taken over not read", "run", hold.Run, "error", err)
		return
	}
	question, err := e.store.Question(ctx, rec.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		e.log.Warn("question of a run taken over not read", "run", hold.Run, "error", err)
		return
	}
	e.log.Info("run taken over", "run", rec.ID, "attempt", rec.Attempt, "trace_id", rec.TraceID)
	e.start(&Job{Record: rec, History: history, Question: question, TakenOver: true, log: log}, e.verdict(rec))
}

// mirrorLog is the log that readers here tail already, or a new one.
func (e *Engine) mirrorLog(id uuid.UUID) *Log {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.mirrors[id]; m != nil {
		return m.log
	}
	return NewLog(id)
}

// verdict says whether a run taken over is closed, and as what, or tried again.
func (e *Engine) verdict(rec Record) api.Code {
	switch {
	case rec.CancelAsked:
		return api.Cancelled
	case !rec.Keyed || rec.Tries > e.cfg.MaxAttempts:
		return api.Interrupted
	default:
		return ""
	}
}

// pruneLoop removes logs and keys whose time is over.
func (e *Engine) pruneLoop(ctx context.Context) {
	every(ctx, min(time.Minute, max(e.cfg.Retention/4, time.Second)), func(ctx context.Context) {
		e.prune(ctx, "logs", func() (int, error) { return e.store.PruneLogs(ctx, e.cfg.Retention, pruneMax) })
		e.prune(ctx, "keys", func() (int, error) { return e.store.FreeKeys(ctx, pruneMax) })
	})
}

func (e *Engine) prune(ctx context.Context, what string, some func() (int, error)) {
	for ctx.Err() == nil {
		n, err := some()
		if err != nil {
			e.log.Debug("not pruned", "what", what, "error", err)
			return
		}
		if n < pruneMax {
			return
		}
	}
}
