package run

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
)

// kindText is the one kind of frame that the runs of these tests have.
const kindText = FirstKind

// errAway is a database that does not answer.
var errAway = errors.New("connection refused")

// act is one thing that a stage does in a run; an ending ends it.
type act func(ctx context.Context, j *Job) *Ending

// stage is a Handler whose runs do what the test says, in the order of saying.
type stage struct {
	acts    chan act
	works   atomic.Int32 // calls of Work
	closes  atomic.Int32 // calls of Close
	history atomic.Int32 // messages that the last Work was given
	cause   atomic.Value // why the last Work was stopped
	keep    func(Record) bool
}

func newStage() *stage { return &stage{acts: make(chan act, 4096)} }

func (s *stage) Work(ctx context.Context, j *Job) *Ending {
	s.works.Add(1)
	s.history.Store(int32(len(j.History)))
	for {
		select {
		case do := <-s.acts:
			if end := do(ctx, j); end != nil {
				return end
			}
		case <-ctx.Done():
			s.cause.Store(context.Cause(ctx))
			return stopped(ctx, j)
		}
	}
}

func (s *stage) Close(j *Job, why api.Code) *Ending {
	s.closes.Add(1)
	return broken(j, map[api.Code]State{api.Interrupted: Interrupted, api.Cancelled: Cancelled}[why], why)
}

func (s *stage) Fail(*Job) *Ending {
	return &Ending{State: Failed, Kind: Error, Data: []byte("broken down"), FreeKey: true}
}

func (s *stage) Keep(r Record) bool {
	if s.keep != nil {
		return s.keep(r)
	}
	return r.Keyed
}

// say appends frames.
func (s *stage) say(words ...string) {
	for _, word := range words {
		s.acts <- func(_ context.Context, j *Job) *Ending {
			if err := j.Append(kindText, []byte(word)); err != nil {
				panic(fmt.Sprintf("append %q: %v", word, err))
			}
			return nil
		}
	}
}

// stoppedBy wants to know why the last Work was stopped.
func (n *node) stoppedBy(want error) {
	n.t.Helper()
	if got, _ := n.cause.Load().(error); !errors.Is(got, want) {
		n.t.Errorf("stopped by %v, want %v", got, want)
	}
}

// restart begins the next attempt; the error goes to the channel.
func (s *stage) restart() <-chan error {
	result := make(chan error, 1)
	s.acts <- func(ctx context.Context, j *Job) *Ending {
		result <- j.Restart(ctx)
		return nil
	}
	return result
}

// finish ends a run with its answer.
func (s *stage) finish() {
	s.acts <- func(_ context.Context, j *Job) *Ending {
		end := Ending{State: Completed, Kind: Done, Data: []byte("done"), Result: json.RawMessage(`{"ok":true}`)}
		end.Message = message(j, record.StatusComplete)
		end.Events = []record.Event{{ID: uuid.New(), Type: "chat_done", RunID: j.Record.ID}}
		return &end
	}
}

// stopped is the ending that a handler makes when its context ends.
func stopped(ctx context.Context, j *Job) *Ending {
	if errors.Is(context.Cause(ctx), ErrDrained) {
		return broken(j, Interrupted, api.Interrupted)
	}
	return broken(j, Cancelled, api.Cancelled)
}

func broken(j *Job, state State, why api.Code) *Ending {
	data := json.RawMessage(`{"code":"` + string(why) + `"}`)
	return &Ending{
		State: state, Kind: Error, Data: data, Error: data, FreeKey: why.Retryable(), Message: message(j, string(state)),
	}
}

// message is the assistant's: what the newest attempt with frames says.
func message(j *Job, status string) *record.Message {
	var text strings.Builder
	j.Frames(0, func(f Frame) { text.Write(f.Data) })
	return &record.Message{
		ID: uuid.New(), RunID: j.Record.ID, SessionID: j.Record.SessionID, Role: "assistant",
		Content: text.String(), Status: status,
	}
}

// world is one store and the nodes on it.
type world struct {
	t   *testing.T
	mem *Mem
}

// node is one engine at work.
type node struct {
	*Engine
	*stage
	t     *testing.T
	store *MemNode
	crash func() // as a killed process: nothing is flushed, nothing released
}

// bubble runs a test in a bubble of its own time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, &world{t: t, mem: NewMem()}) })
}

// node starts an engine with a stage of its own.
func (w *world) node(name string, tune ...func(*Config)) *node {
	w.t.Helper()
	cfg := Config{Node: name}
	for _, f := range tune {
		f(&cfg)
	}
	n := &node{t: w.t, store: w.mem.Node(), stage: newStage()}
	n.Engine = NewEngine(cfg, n.store, map[string]Handler{"chat": n.stage})
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := n.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	n.crash = func() {
		cancel()
		<-over
	}
	w.t.Cleanup(n.crash)
	synctest.Wait()
	return n
}

// pass lets time pass, and everything happen that it brings.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// request is a claim of its own; key may be empty.
func request(key string) Claim {
	id := uuid.New()
	sum := sha256.Sum256([]byte("hello"))
	return Claim{
		Record: Record{
			ID: id, Kind: "chat", Endpoint: "chat", Principal: "authenticated:ann", Owner: "ann", SessionID: uuid.New(),
			Key: key, Keyed: key != "", Fingerprint: sum[:], TraceID: "trace",
		},
		NewSession: true,
		Message:    record.Message{ID: uuid.New(), RunID: id, Role: "user", Content: "hello"},
		Event:      record.Event{ID: uuid.New(), Type: "chat_started", RunID: id},
	}
}

// claim makes a run that has to be accepted, and lets its work begin.
func (n *node) claim(key string) Record {
	n.t.Helper()
	res, err := n.Claim(n.t.Context(), request(key))
	if err != nil || res.Outcome != Claimed {
		n.t.Fatalf("Claim: outcome %d, %v", res.Outcome, err)
	}
	synctest.Wait()
	return res.Run
}

// load is a run as the store has it.
func (w *world) load(id uuid.UUID) Record {
	w.t.Helper()
	w.mem.mu.Lock()
	defer w.mem.mu.Unlock()
	r := w.mem.runs[id]
	if r == nil {
		w.t.Fatalf("run %s is not in the store", id)
	}
	return w.mem.seen(r)
}

// stored is a run's log as the store has it: "1-1 hello|1-2 Done:done".
func (w *world) stored(id uuid.UUID) string {
	w.t.Helper()
	w.mem.mu.Lock()
	segments := w.mem.runs[id].segments
	w.mem.mu.Unlock()
	log := NewLog(id)
	for _, s := range segments {
		if err := log.merge(s); err != nil {
			w.t.Fatalf("stored segment %d, %d to %d: %v", s.Attempt, s.First, s.Last, err)
		}
	}
	c := &client{r: log.Reader(Position{})}
	c.take(w.t)
	return c.String()
}

// answer is the assistant's message of a run.
func (w *world) answer(id uuid.UUID) string {
	w.t.Helper()
	w.mem.mu.Lock()
	defer w.mem.mu.Unlock()
	msg, ok := w.mem.answer(id)
	if !ok {
		return "none"
	}
	return msg.Content
}

func (w *world) state(id uuid.UUID, want State) {
	w.t.Helper()
	if got := w.load(id).State; got != want {
		w.t.Errorf("state %s, want %s", got, want)
	}
}

// client reads one log as an HTTP response does.
type client struct {
	r      *Reader
	frames []Frame
	over   bool
	broken *fault.Error
}

// tail opens a client, closed with the test at the latest.
func (n *node) tail(id uuid.UUID, at Position) *client {
	n.t.Helper()
	r, err := n.Tail(n.t.Context(), id, at)
	if err != nil {
		n.t.Fatalf("Tail: %v", err)
	}
	n.t.Cleanup(r.Close)
	return &client{r: r}
}

// take takes what there is now.
func (c *client) take(t *testing.T) *client {
	t.Helper()
	for !c.over && c.broken == nil {
		before := len(c.frames)
		c.frames, c.over, c.broken = c.r.Take(c.frames, 64)
		if len(c.frames) == before {
			break
		}
	}
	return c
}

// wait reads until the response ends.
func (c *client) wait(t *testing.T) *client {
	t.Helper()
	patience := time.After(time.Hour)
	for c.take(t); !c.over && c.broken == nil; c.take(t) {
		select {
		case <-c.r.Wake():
		case <-patience:
			t.Fatalf("the response does not end; so far %q", c)
		}
	}
	return c
}

// String is the frames as a test writes them down.
func (c *client) String() string {
	var s []string
	for _, f := range c.frames {
		kind := map[Kind]string{Done: "Done:", Error: "Error:"}[f.Kind]
		s = append(s, fmt.Sprintf("%d-%d %s%s", f.Attempt, f.Seq, kind, f.Data))
	}
	return strings.Join(s, "|")
}

// want compares what a client has with what it should have.
func (c *client) want(t *testing.T, frames string, over bool) {
	t.Helper()
	c.take(t)
	if got := c.String(); got != frames || c.over != over {
		t.Errorf("read %q, over %v; want %q, %v", got, c.over, frames, over)
	}
}

// wantBroken wants the response ended by an error without an id.
func (c *client) wantBroken(t *testing.T, code api.Code) {
	t.Helper()
	c.take(t)
	if c.broken == nil || c.broken.Code != code || !c.broken.Retryable {
		t.Errorf("broken off with %v, want a retryable %s; read %q", c.broken, code, c)
	}
}

// steal makes another node the holder of a run, as if its lease were over.
func (w *world) steal(id uuid.UUID, node string) {
	w.t.Helper()
	w.mem.mu.Lock()
	defer w.mem.mu.Unlock()
	r := w.mem.runs[id]
	r.until = w.mem.now()
	if _, _, ok := w.mem.takeOver(Hold{Run: id, Attempt: r.Attempt}, node, time.Hour); !ok {
		w.t.Fatal("not stolen")
	}
}

// end finishes a run in the store with one frame of text, as another node does.
func (w *world) end(id uuid.UUID, text string) {
	w.t.Helper()
	w.mem.mu.Lock()
	defer w.mem.mu.Unlock()
	attempt := w.mem.runs[id].Attempt
	data := appendEntry(appendEntry([]byte{codecVersion}, kindText, []byte(text)), Done, []byte("done"))
	done, err := w.mem.finishMany([]Finish{{
		Run: id, Attempt: attempt, State: Completed, LastSeq: 2,
		Segment: &Segment{Run: id, Attempt: attempt, First: 1, Last: 2, Data: data},
	}})
	if err != nil || !done[0] {
		w.t.Fatalf("not ended: %v, %v", done, err)
	}
}

// fill appends until the log takes no more.
func fill(full chan<- error) act {
	return func(_ context.Context, j *Job) *Ending {
		word := make([]byte, 1<<20)
		for range 2 * maxLogBytes / len(word) {
			if err := j.Append(kindText, word); err != nil {
				full <- err
				return nil
			}
		}
		full <- nil
		return nil
	}
}
