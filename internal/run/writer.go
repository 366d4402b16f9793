package run

import (
	"context"
	"time"
)

// maxFlush bounds the segments of one statement.
const maxFlush = 512

// flushLoop stores what runs have produced: every FlushEvery, and at once when a
// run has FlushBytes waiting. While the store fails, only the ticks try it: a
// busy run would else send all it has with every frame.
func (e *Engine) flushLoop(ctx context.Context) {
	t := time.NewTicker(e.cfg.FlushEvery)
	defer t.Stop()
	dirty := e.dirty
	for {
		var ok bool
		select {
		case <-t.C:
			ok = e.flush(ctx, 1)
		case <-dirty:
			ok = e.flush(ctx, e.cfg.FlushBytes)
		case <-ctx.Done():
			return
		}
		if dirty = e.dirty; !ok {
			dirty = nil
		}
	}
}

// flush stores the logs that have at least min bytes unstored. A failure leaves
// them unstored; the next flush sends more, and the store keeps the longer.
func (e *Engine) flush(ctx context.Context, min int) (ok bool) {
	return e.flushAll(ctx, e.unflushed(min))
}

func (e *Engine) flushAll(ctx context.Context, jobs []*Job) (ok bool) {
	for ok = true; len(jobs) > 0 && ctx.Err() == nil; {
		n := len(jobs)
		if n > maxFlush {
			n = maxFlush
		}
		ok = e.flushSome(ctx, jobs[:n]) && ok
		jobs = jobs[n:]
	}
	return ok
}

func (e *Engine) unflushed(min int) []*Job {
	e.mu.Lock()
	defer e.mu.Unlock()
	var jobs []*Job
	for _, j := range e.jobs {
		if j.log.waiting() >= min {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

func (e *Engine) flushSome(ctx context.Context, jobs []*Job) (ok bool) {
	segments := make([]Segment, 0, len(jobs))
	from := make([]*Log, 0, len(jobs))
	for _, j := range jobs {
		if s := j.log.unstored(); s != nil {
			segments, from = append(segments, *s), append(from, j.log)
		}
	}
	if len(segments) == 0 {
		return true
	}
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	lost, err := e.store.AppendMany(ctx, segments)
	if err != nil {
		e.log.Warn("segments not stored yet", "runs", len(segments), "error", err)
		return false
	}
	e.lost(lost)
	for i, l := range from {
		l.stored(segments[i])
	}
	signal(e.hint)
	return true
}

// waiting is the bytes of the newest attempt that are not known to be stored.
func (l *Log) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.parts) == 0 {
		return 0
	}
	p := l.parts[len(l.parts)-1]
	if p.stored < p.last() {
		return max(1, p.unstored())
	}
	return 0
}

// finishBatch ends many runs in one transaction.
func (e *Engine) finishBatch(ctx context.Context, batch []Finish) ([]bool, error) {
	ctx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	ok, err := e.store.FinishMany(ctx, batch)
	if err == nil {
		signal(e.hint)
	}
	return ok, err
}

// hintLoop tells other nodes that there is something to tail, at most every 20 ms.
func (e *Engine) hintLoop(ctx context.Context) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-e.hint:
		case <-ctx.Done():
			return
		}
		if err := e.store.Hint(ctx); err != nil && ctx.Err() == nil {
			e.log.Debug("hint not sent", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
