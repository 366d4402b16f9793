package run

import (
	"context"
	"encoding/json"
	"errors"
	"runtime/debug"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
)

// Job is one run on the node that works on it.
type Job struct {
	Record    Record           // as it was claimed or taken over
	History   []record.Message // what its first claim saw of its session
	Parsed    any              // what its claim carried for the handler, nil once it was taken over
	Question  record.Message   // of a run taken over: the user's message, if it has one
	TakenOver bool             // an earlier attempt was somebody else's

	e       *Engine
	log     *Log
	handler Handler
	ctx     context.Context
	cancel  context.CancelCauseFunc
	attempt int  // guarded by e.mu
	moving  bool // the next attempt is being stored; guarded by e.mu
	grace   *time.Timer
}

// Ending is how a run ended: its terminal frame, and what is stored with it.
type Ending struct {
	State   State
	Kind    Kind // Done or Error
	Data    []byte
	Result  json.RawMessage
	Error   json.RawMessage
	FreeKey bool
	Message *record.Message
	Events  []record.Event
}

// ErrTried says that a run has used up its attempts.
var ErrTried = errors.New("no attempt left")

// Append adds one frame to the current attempt. An error means that nothing more
// is wanted: the handler returns.
func (j *Job) Append(k Kind, data []byte) error {
	unstored, err := j.log.Append(k, data)
	if unstored >= j.e.cfg.FlushBytes {
		signal(j.e.dirty)
	}
	return err
}

// Attempt is the number of the current attempt.
func (j *Job) Attempt() int {
	j.e.mu.Lock()
	defer j.e.mu.Unlock()
	return j.attempt
}

// Frames calls yield for each frame of an attempt, 0 for the newest that has any.
func (j *Job) Frames(attempt int, yield func(Frame)) { j.log.Frames(attempt, yield) }

// Restart begins the next attempt in the same response: readers drop what they
// have. It waits for a store that is away as long as readers do, and returns
// ErrTried when there is no attempt left.
func (j *Job) Restart(ctx context.Context) error {
	if j.Record.Tries >= j.e.cfg.MaxAttempts {
		return ErrTried
	}
	// While the store may have the next attempt and the job does not know it, a
	// flush or a renewal of the old one that is refused is no loss of the run.
	j.setMoving(true)
	defer j.setMoving(false)
	started, wait := time.Now(), 50*time.Millisecond
	for tried := false; ; tried = true {
		err := j.restart(ctx, tried)
		if err == nil || errors.Is(err, errLost) || ctx.Err() != nil || time.Since(started) > j.e.cfg.StoreAway {
			return err
		}
		pause(ctx, j.e.base, wait)
		wait = min(2*wait, time.Second)
	}
}

func (j *Job) setMoving(moving bool) {
	j.e.mu.Lock()
	defer j.e.mu.Unlock()
	j.moving = moving
}

// restart is one try; tried tells that the outcome of an earlier one is not known.
func (j *Job) restart(ctx context.Context, tried bool) error {
	ctx, done := context.WithTimeout(ctx, j.e.cfg.ClaimWait)
	defer done()
	if err := j.storeAll(ctx, 0); err != nil {
		return err
	}
	ok, err := j.nextAttempt(ctx, Hold{Run: j.Record.ID, Attempt: j.Attempt()}, tried)
	if err != nil || !ok {
		return errors.Join(err, j.lostIf(err == nil))
	}
	j.e.mu.Lock()
	j.attempt++
	j.e.mu.Unlock()
	j.Record.Attempt++
	j.Record.Tries++
	j.log.Begin(j.Record.Attempt)
	return nil
}

// nextAttempt asks for attempt+1, or finds that an earlier try has got it.
func (j *Job) nextAttempt(ctx context.Context, hold Hold, tried bool) (ok bool, err error) {
	ok, err = j.e.store.NextAttempt(ctx, hold, j.e.cfg.Node, j.e.cfg.Lease)
	if err != nil || ok || !tried {
		return ok, err
	}
	rec, err := j.e.store.Load(ctx, hold.Run)
	return rec.State == Running && rec.Attempt == hold.Attempt+1 && rec.Node == j.e.cfg.Node, err
}

// storeAll stores the frames of the current attempt until at most rest bytes of
// them are left.
func (j *Job) storeAll(ctx context.Context, rest int) error {
	for j.log.waiting() > rest {
		s := j.log.unstored()
		if s == nil { // a flush was quicker
			return nil
		}
		lost, err := j.e.store.AppendMany(ctx, []Segment{*s})
		if err != nil || len(lost) > 0 {
			return errors.Join(err, j.lostIf(len(lost) > 0))
		}
		j.log.stored(*s)
	}
	return nil
}

// lostIf ends the job's context when the store has said that it is not its own.
func (j *Job) lostIf(lost bool) error {
	if !lost {
		return nil
	}
	j.cancel(errLost)
	return errLost
}

// start makes a job of a run that this node holds and lets it work; why is set
// for one that is only to be closed.
func (e *Engine) start(j *Job, why api.Code) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.base.Err() != nil {
		return // as a crash would: the lease lapses
	}
	j.e, j.attempt = e, j.Record.Attempt
	j.handler = e.handlers[j.Record.Kind]
	j.ctx, j.cancel = context.WithCancelCause(e.base)
	if j.log == nil {
		j.log = NewLog(j.Record.ID)
	}
	j.log.Begin(j.attempt)
	if m := e.mirrors[j.Record.ID]; m != nil && m.log == j.log {
		delete(e.mirrors, j.Record.ID)
	}
	e.jobs[j.Record.ID] = j
	if e.draining {
		signal(e.late)
	}
	if why == "" && !j.handler.Keep(j.Record) {
		j.grace = time.AfterFunc(max(e.cfg.Grace, firstReader), func() { e.abandon(j) })
		j.log.onLeft(func() { j.grace.Reset(e.cfg.Grace) })
	}
	e.working.Go(func() { e.work(j, why) })
}

// firstReader is how long a run waits for its first reader, whatever the grace of
// those who leave: the caller who claimed it is still on the way to its log.
const firstReader = 5 * time.Second

func (e *Engine) work(j *Job, why api.Code) {
	defer j.cancel(nil)
	e.over(j, e.guard(j, why))
}

// over does with a run whose handler has returned what its context says.
func (e *Engine) over(j *Job, end *Ending) {
	switch cause := context.Cause(j.ctx); {
	case errors.Is(cause, errLost):
		e.lose(j)
	case errors.Is(cause, errReleased), errors.Is(cause, errStopped):
		e.drop(j)
	default:
		e.end(j, end)
	}
}

// guard lets the handler work, or close a run for why. It ends a run whose handler
// panics as failed: the next node would panic too.
func (e *Engine) guard(j *Job, why api.Code) (end *Ending) {
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("panic in a run", "run", j.Record.ID, "trace_id", j.Record.TraceID, "panic", p, "stack", string(debug.Stack()))
			end = j.handler.Fail(j)
		}
	}()
	if why != "" {
		return j.handler.Close(j, why)
	}
	return j.handler.Work(j.ctx, j)
}

// abandon cancels a run without readers here or on any other node. It comes from
// a timer: while the job is held its work is awaited, and then this is too.
func (e *Engine) abandon(j *Job) {
	e.mu.Lock()
	held := e.jobs[j.Record.ID] == j
	if held {
		e.working.Add(1)
	}
	e.mu.Unlock()
	if !held {
		return
	}
	defer e.working.Done()
	if j.ctx.Err() != nil || j.log.readerCount() > 0 {
		return
	}
	ctx, done := context.WithTimeout(j.ctx, e.cfg.ClaimWait)
	defer done()
	elsewhere, err := e.store.HasReaders(ctx, j.Record.ID)
	if err != nil || elsewhere {
		j.grace.Reset(max(e.cfg.Grace, e.cfg.Poll)) // a short grace must not make a busy loop of this
		return
	}
	if j.log.readerCount() == 0 { // nobody came while the store was asked
		j.cancel(ErrAbandoned)
	}
}

// end stores a run's ending and then, and only then, shows it to readers. It
// does not give up while the run is this node's: an answer is generated once.
func (e *Engine) end(j *Job, end *Ending) {
	var refused time.Time // since when the store answers but will not take this ending
	started, wait := time.Now(), 50*time.Millisecond
	for {
		done, err := e.commit(j, end)
		cause := context.Cause(j.ctx)
		switch {
		case err == nil && done:
			if _, err := j.log.Append(end.Kind, end.Data); err != nil {
				e.log.Error("terminal frame after the end", "run", j.Record.ID, "error", err)
			}
			e.drop(j)
			return
		case err == nil, errors.Is(cause, errLost):
			e.lose(j)
			return
		case errors.Is(cause, errReleased), e.base.Err() != nil:
			e.drop(j)
			return
		}
		e.log.Warn("run cannot be finished yet", "run", j.Record.ID, "trace_id", j.Record.TraceID, "error", err)
		if refused = e.refusing(refused); !refused.IsZero() && time.Since(refused) > refusedFor*e.cfg.StoreAway {
			end, refused = j.handler.Fail(j), time.Time{} // its rows cannot be stored: the run must end all the same
		}
		if time.Since(started) > e.cfg.StoreAway {
			j.log.breakOff(storeAway(api.PersistFailed))
		}
		pause(j.ctx, e.base, wait)
		wait = min(2*wait, time.Second)
	}
}

// refusedFor is for how many times StoreAway an ending is tried on a store that
// answers but will not take it: a full disk may be emptied, a lock given back.
const refusedFor = 4

// refusing keeps the time since when the store answers, while it does.
func (e *Engine) refusing(since time.Time) time.Time {
	ctx, done := context.WithTimeout(e.base, e.cfg.ClaimWait)
	defer done()
	switch {
	case e.store.Ping(ctx) != nil:
		return time.Time{}
	case since.IsZero():
		return time.Now()
	}
	return since
}

// commit stores an ending together with every frame that is not stored yet.
func (e *Engine) commit(j *Job, end *Ending) (done bool, err error) {
	if j.log.waiting() > maxSegment {
		ctx, cancel := context.WithTimeout(e.base, 2*e.cfg.ClaimWait)
		defer cancel()
		if err := j.storeAll(ctx, maxSegment); err != nil {
			return false, err
		}
	}
	seg := j.log.ending(end.Kind, end.Data)
	return e.finishes.call(e.base, Finish{
		Run: j.Record.ID, Attempt: j.Record.Attempt, State: end.State, LastSeq: seg.Last, Segment: seg,
		Result: end.Result, Error: end.Error, FreeKey: end.FreeKey, Message: end.Message, Events: end.Events,
	})
}

// pause waits for d, or until the engine stops. A job's own end does not shorten
// it unless that end came while waiting.
func pause(job, base context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	ended := job.Done()
	if job.Err() != nil {
		ended = nil
	}
	select {
	case <-t.C:
	case <-ended:
	case <-base.Done():
	}
}

// drop forgets a job.
func (e *Engine) drop(j *Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget(j)
}

// forget is drop with the lock held.
func (e *Engine) forget(j *Job) {
	if j.grace != nil {
		j.grace.Stop()
	}
	if e.jobs[j.Record.ID] == j {
		delete(e.jobs, j.Record.ID)
	}
	e.closeIdle()
}

// lose gives a run up to the newer attempt that another node has; the readers
// here tail that one from the store. Where this node has another log of the run
// by now, they are sent to it.
func (e *Engine) lose(j *Job) {
	e.log.Info("run taken over elsewhere", "run", j.Record.ID, "attempt", j.Record.Attempt, "trace_id", j.Record.TraceID)
	e.mu.Lock()
	e.forget(j)
	elsewhere := e.jobs[j.Record.ID] != nil || e.mirrors[j.Record.ID] != nil
	if !elsewhere && j.log.readerCount() > 0 {
		e.addMirror(j.Record, j.log)
	}
	e.mu.Unlock()
	if elsewhere {
		j.log.breakOff(fault.New(api.StorageUnavailable, "this run has moved; resume this stream"))
	}
	signal(e.pull)
}

// lost cancels the jobs that the store says are not this node's any more.
func (e *Engine) lost(holds []Hold) {
	for _, h := range holds {
		e.mu.Lock()
		j := e.jobs[h.Run]
		mine := j != nil && j.attempt == h.Attempt && !j.moving
		e.mu.Unlock()
		if mine {
			j.cancel(errLost)
		}
	}
}
