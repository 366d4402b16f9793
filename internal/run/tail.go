package run

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
)

// mirror is the log of a run that another node holds, or that is over, filled
// from the store for the readers here.
type mirror struct {
	id    uuid.UUID
	kept  bool // it goes on without readers: nobody need know of those here
	log   *Log
	since time.Time // the store has not answered since; zero: it has
}

// openMirror opens a reader on a run that this node does not hold.
func (e *Engine) openMirror(ctx context.Context, rec Record, at Position) (*Reader, error) {
	if rec.State.Terminal() {
		log, err := e.storedLog(ctx, rec)
		if err != nil {
			return nil, err
		}
		return log.Reader(at), nil
	}
	if !e.kept(rec) {
		if err := e.store.TouchReaders(ctx, []uuid.UUID{rec.ID}, e.present()); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if j := e.jobs[rec.ID]; j != nil {
		return j.log.Reader(at), nil
	}
	m := e.mirrors[rec.ID]
	if m == nil {
		m = e.addMirror(rec, NewLog(rec.ID))
	}
	signal(e.pull)
	return m.log.Reader(at), nil
}

// kept tells whether a run goes on when nobody reads it.
func (e *Engine) kept(rec Record) bool {
	h := e.handlers[rec.Kind]
	return h != nil && h.Keep(rec)
}

// addMirror registers a log with the tailer until its last reader has gone. The
// lock is held.
func (e *Engine) addMirror(rec Record, log *Log) *mirror {
	m := &mirror{id: rec.ID, kept: e.kept(rec), log: log}
	e.mirrors[rec.ID] = m
	log.onLeft(func() { e.dropMirror(m) })
	return m
}

func (e *Engine) dropMirror(m *mirror) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.log.readerCount() == 0 && e.mirrors[m.id] == m {
		delete(e.mirrors, m.id)
	}
}

// onLeft sets what is called when the last reader has gone.
func (l *Log) onLeft(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = f
}

// errNoEnd says that a stored log lacks what every run that is over has.
var errNoEnd = errors.New("run is over without a terminal frame")

// storedLog reads the log of a run that is over. One that cannot be read is as
// good as gone: the answer is in the run's rows.
func (e *Engine) storedLog(ctx context.Context, rec Record) (*Log, error) {
	log := NewLog(rec.ID)
	err := e.readStored(ctx, log)
	if err == nil && !log.isOver() {
		err = errNoEnd
	}
	if errors.Is(err, errCodec) || errors.Is(err, errNoEnd) {
		e.log.Error("stored log cannot be read", "run", rec.ID, "trace_id", rec.TraceID, "error", err)
		err = ErrLogGone
	}
	if err != nil {
		return nil, err
	}
	return log, nil
}

// readStored adds to a log what the store has beyond it.
func (e *Engine) readStored(ctx context.Context, log *Log) error {
	for {
		at := log.position()
		res, err := e.store.Tails(ctx, []Tail{{Run: log.id, Attempt: at.Attempt, Seq: at.Seq}})
		if err != nil {
			return err
		}
		if !res[0].Found {
			return ErrNotFound
		}
		if res[0].LogGone {
			return ErrLogGone
		}
		for _, s := range res[0].Segments {
			if err := log.merge(s); err != nil {
				return err
			}
		}
		if !res[0].More {
			return nil
		}
	}
}

// tailLoop fills the mirrors: one query for all of them on a hint, and every
// Poll whether there was one or not.
func (e *Engine) tailLoop(ctx context.Context) {
	t := time.NewTicker(e.cfg.Poll)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-e.store.Hinted():
		case <-e.pull:
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil; {
			more = e.fill(ctx)
		}
	}
}

// fill brings every mirror up to what is stored. It tells whether there is more.
func (e *Engine) fill(ctx context.Context) (more bool) {
	mirrors, tails := e.tails()
	if len(tails) == 0 {
		return false
	}
	readCtx, done := context.WithTimeout(ctx, e.cfg.ClaimWait)
	defer done()
	results, err := e.store.Tails(readCtx, tails)
	if err != nil {
		e.tailsFailed(mirrors, err)
		return false
	}
	for i, res := range results {
		m := mirrors[i]
		m.since = time.Time{}
		if err := m.take(res); err != nil {
			e.log.Error("stored log cannot be read", "run", m.id, "error", err)
			m.log.breakOff(storeAway(api.Internal))
			continue // asked again at once it would say the same
		}
		more = more || res.More
		if m.log.isOver() {
			e.mu.Lock()
			if e.mirrors[m.id] == m {
				delete(e.mirrors, m.id)
			}
			e.mu.Unlock()
		}
	}
	return more
}

// take merges what the store has. A run that is over has its terminal frame in
// the same snapshot.
func (m *mirror) take(res TailResult) error {
	if !res.Found || res.LogGone {
		return ErrLogGone
	}
	for _, s := range res.Segments {
		if err := m.log.merge(s); err != nil {
			return err
		}
	}
	if res.State.Terminal() && !res.More && !m.log.isOver() {
		return errNoEnd
	}
	return nil
}

func (e *Engine) tails() ([]*mirror, []Tail) {
	e.mu.Lock()
	defer e.mu.Unlock()
	mirrors := make([]*mirror, 0, len(e.mirrors))
	tails := make([]Tail, 0, len(e.mirrors))
	for _, m := range e.mirrors {
		at := m.log.position()
		mirrors = append(mirrors, m)
		tails = append(tails, Tail{Run: m.id, Attempt: at.Attempt, Seq: at.Seq})
	}
	return mirrors, tails
}

// tailsFailed lets readers wait for a store that is away, but not for ever.
func (e *Engine) tailsFailed(mirrors []*mirror, err error) {
	e.log.Debug("tails not read", "error", err)
	for _, m := range mirrors {
		if m.since.IsZero() {
			m.since = time.Now()
		}
		if time.Since(m.since) > e.cfg.StoreAway {
			m.log.breakOff(storeAway(api.StorageUnavailable))
		}
	}
}

// present is how long a word about readers holds: they may leave right before
// the next word is due, and have their grace from then.
func (e *Engine) present() time.Duration { return e.word() * 4 }

// word is how often readers are spoken of: a third of the grace, and not so often
// that a short one costs more than it saves.
func (e *Engine) word() time.Duration { return max(e.cfg.Grace/3, time.Second) }

// presenceLoop tells the holders of runs that end without readers that somebody
// reads here.
func (e *Engine) presenceLoop(ctx context.Context) {
	every(ctx, e.word(), func(ctx context.Context) {
		e.mu.Lock()
		var ids []uuid.UUID
		for id, m := range e.mirrors {
			if !m.kept {
				ids = append(ids, id)
			}
		}
		e.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		if err := e.store.TouchReaders(ctx, ids, e.present()); err != nil {
			e.log.Debug("readers not noted", "error", err)
		}
	})
}
