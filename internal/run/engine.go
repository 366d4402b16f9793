package run

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
)

// Config of an Engine. Zero durations and counts take the defaults.
type Config struct {
	Node        string        // unique among the nodes of a store
	Lease       time.Duration // 15 s
	MaxAttempts int           // 3
	Retention   time.Duration // how long a log is kept after the finish, 24 h
	Grace       time.Duration // how long a run that need not be kept lives without readers, 10 s
	FlushEvery  time.Duration // 250 ms
	FlushBytes  int           // 4 KiB of one run
	Poll        time.Duration // cancels and tails, 250 ms
	StoreAway   time.Duration // how long readers wait for a store that is away, 30 s
	ClaimWait   time.Duration // how long a claim may take, 5 s
	Writers     int           // batches of claims, and of ends, that are written at once, 1: larger batches cost less
	Logger      *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Lease, 15*time.Second)
	def(&c.Retention, 24*time.Hour)
	def(&c.Grace, 10*time.Second)
	def(&c.FlushEvery, 250*time.Millisecond)
	def(&c.Poll, 250*time.Millisecond)
	def(&c.StoreAway, 30*time.Second)
	def(&c.ClaimWait, 5*time.Second)
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 3
	}
	if c.Writers == 0 {
		c.Writers = 1
	}
	if c.FlushBytes == 0 {
		c.FlushBytes = 4 << 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Handler is one kind of run.
type Handler interface {
	// Work produces the run's frames by job.Append and returns how it ended. It
	// runs in the run's own goroutine; when ctx ends, context.Cause says why:
	// ErrCancelled and ErrAbandoned want the ending of a cancelled run,
	// ErrDrained that of an interrupted one, after any other the ending is ignored.
	Work(ctx context.Context, job *Job) *Ending
	// Close makes the ending of a run that nobody will work on again, from the
	// frames that were stored: api.Interrupted or api.Cancelled.
	Close(job *Job, why api.Code) *Ending
	// Fail makes the ending of a run that the edge itself cannot bring to a good
	// one: no more than its terminal frame.
	Fail(job *Job) *Ending
	// Keep tells whether a run goes on when nobody reads it.
	Keep(r Record) bool
}

// Why a job's context ended.
var (
	ErrCancelled = errors.New("cancelled by request")
	ErrAbandoned = errors.New("no reader left")
	ErrDrained   = errors.New("server is draining")
	errReleased  = errors.New("given up for another node")
	errLost      = errors.New("a newer attempt holds this run")
	errStopped   = errors.New("engine stopped")
)

// ErrLogGone says that a run's log was pruned: its answer is in its rows alone.
var ErrLogGone = errors.New("log is gone")

// Engine is one node's part of the mechanism.
type Engine struct {
	cfg      Config
	store    Store
	handlers map[string]Handler
	log      *slog.Logger

	claims   *group[Claim, ClaimResult]
	finishes *group[Finish, bool]
	dirty    chan struct{} // some run has FlushBytes unstored
	pull     chan struct{} // a mirror wants frames at once
	hint     chan struct{} // something was stored that others may tail

	mu       sync.Mutex
	base     context.Context // parent of all jobs; nil until Run
	jobs     map[uuid.UUID]*Job
	mirrors  map[uuid.UUID]*mirror
	claiming int                     // claims let in whose outcome is open
	doubts   map[uuid.UUID]time.Time // runs whose claim may have been committed, or not, since when
	draining bool
	late     chan struct{} // a job was begun while draining
	idle     chan struct{} // closed when draining and no job is left
	working  sync.WaitGroup
}

// NewEngine makes an engine over a store. Handlers are by Record.Kind.
func NewEngine(cfg Config, store Store, handlers map[string]Handler) *Engine {
	cfg = cfg.withDefaults()
	e := &Engine{
		cfg: cfg, store: store, handlers: handlers, log: cfg.Logger,
		dirty: make(chan struct{}, 1), pull: make(chan struct{}, 1), hint: make(chan struct{}, 1),
		jobs: map[uuid.UUID]*Job{}, mirrors: map[uuid.UUID]*mirror{}, doubts: map[uuid.UUID]time.Time{},
		late: make(chan struct{}, 1), idle: make(chan struct{}),
	}
	e.claims = newGroup(128, e.claimBatch)
	e.finishes = newGroup(128, e.finishBatch)
	return e
}

// Node is this engine's name in the store.
func (e *Engine) Node() string { return e.cfg.Node }

// Run works until ctx ends: it holds leases, stores what is produced and takes
// over what others left. Jobs that still run then are abandoned as a crash would;
// Drain first ends them well.
func (e *Engine) Run(ctx context.Context) error {
	base, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	e.mu.Lock()
	e.base = base
	e.mu.Unlock()

	var services sync.WaitGroup
	serve := func(f func(context.Context)) { services.Go(func() { f(ctx) }) }
	for range e.cfg.Writers {
		serve(e.claims.serve)
		serve(e.finishes.serve)
	}
	serve(e.flushLoop)
	serve(e.leaseLoop)
	serve(e.cancelLoop)
	serve(e.sweepLoop)
	serve(e.pruneLoop)
	serve(e.tailLoop)
	serve(e.presenceLoop)
	serve(e.hintLoop)
	<-ctx.Done()
	e.mu.Lock()
	stop(errStopped) // under the lock: no job is begun once it is over
	e.mu.Unlock()
	services.Wait()
	e.working.Wait()
	return nil
}

// Tail opens a reader of a run's log. It returns ErrNotFound, ErrLogGone, or the
// store's error.
func (e *Engine) Tail(ctx context.Context, id uuid.UUID, at Position) (*Reader, error) {
	if r := e.tailHere(id, at); r != nil {
		return r, nil
	}
	rec, err := e.store.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if rec.LogGone {
		return nil, ErrLogGone
	}
	return e.openMirror(ctx, rec, at)
}

// tailHere opens a reader on a log that this node has already, nil if it has none.
func (e *Engine) tailHere(id uuid.UUID, at Position) *Reader {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j := e.jobs[id]; j != nil {
		return j.log.Reader(at)
	}
	if m := e.mirrors[id]; m != nil {
		return m.log.Reader(at)
	}
	return nil
}

// Load returns a run as the store has it.
func (e *Engine) Load(ctx context.Context, id uuid.UUID) (Record, error) {
	return e.store.Load(ctx, id)
}

// Answer returns the assistant message of a run, ErrNotFound if it has none.
func (e *Engine) Answer(ctx context.Context, id uuid.UUID) (record.Message, error) {
	return e.store.Answer(ctx, id)
}

// AddEvents stores events of what happened beside any run.
func (e *Engine) AddEvents(ctx context.Context, events []record.Event) error {
	return e.store.AddEvents(ctx, events)
}

// Cancel asks for a run's end, wherever it runs, and returns it as it was. It is
// idempotent; a run that is over stays as it is.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Record, error) {
	rec, err := e.store.AskCancel(ctx, id)
	if err != nil || rec.State.Terminal() {
		return rec, err
	}
	e.mu.Lock()
	j := e.jobs[id]
	e.mu.Unlock()
	switch {
	case j != nil:
		j.cancel(ErrCancelled)
	case rec.Lapsed && e.handlers[rec.Kind] != nil:
		e.takeOver(ctx, Hold{Run: id, Attempt: rec.Attempt})
	}
	return rec, nil
}

// Held is how many runs this node works on.
func (e *Engine) Held() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.jobs)
}

// holds lists what this node works on.
func (e *Engine) holds() []Hold {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]Hold, 0, len(e.jobs))
	for id, j := range e.jobs {
		list = append(list, Hold{Run: id, Attempt: j.attempt})
	}
	return list
}

// every calls f at once and then each interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		f(ctx)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// storeAway is what readers are told when the store has been away too long.
func storeAway(code api.Code) *fault.Error {
	return fault.New(code, "the store is away; resume this stream later")
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
