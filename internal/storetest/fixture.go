package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

const (
	nodeA = "node-a"
	nodeB = "node-b"

	held   = time.Hour    // a lease that no test outlives
	lapsed = -time.Second // a lease that is over when it begins

	historyBytes = 1 << 20
)

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// turn is a keyless chat of user's in a session of its own.
func turn(user, content string) run.Claim {
	id, session := newID(), newID()
	principal := "anon:192.0.2.1"
	if user != "" {
		principal = "authenticated:" + user
	}
	sum := sha256.Sum256([]byte(content))
	return run.Claim{
		Record: run.Record{
			ID: id, Kind: "chat", Endpoint: "chat", Principal: principal, Owner: user, SessionID: session,
			Fingerprint: sum[:], Node: nodeA, TraceID: "trace-" + id.String(),
			Request: json.RawMessage(`{"content":"as asked","temperature":0.5}`),
		},
		NewSession:   true,
		Lease:        held,
		HistoryBytes: historyBytes,
		Message: record.Message{
			ID: newID(), SessionID: session, RunID: id, Owner: user, Role: "user", Content: content,
			Status: record.StatusComplete, TraceID: "trace-" + id.String(),
		},
		Event: record.Event{
			ID: newID(), Type: "chat_started", TraceID: "trace-" + id.String(), RunID: id, SessionID: session,
			Owner: user, Data: json.RawMessage(`{"model":"m"}`),
		},
	}
}

// keyed is turn with an idempotency key.
func keyed(user, content, key string) run.Claim {
	c := turn(user, content)
	c.Key, c.Keyed = key, true
	return c
}

// in moves a claim into a session that may exist.
func in(c run.Claim, session uuid.UUID) run.Claim {
	c.SessionID, c.Message.SessionID, c.Event.SessionID = session, session, session
	c.NewSession = false
	return c
}

// leased gives a claim another lease.
func leased(c run.Claim, lease time.Duration) run.Claim {
	c.Lease = lease
	return c
}

// limited puts a claim under limits.
func limited(c run.Claim, limit, global int) run.Claim {
	c.Limit, c.GlobalLimit = limit, global
	return c
}

// claim makes one claim.
func (s suite) claim(t *testing.T, c run.Claim) run.ClaimResult {
	t.Helper()
	results, err := s.ClaimMany(t.Context(), []run.Claim{c})
	if err != nil {
		t.Fatalf("ClaimMany: %v", err)
	}
	if len(results) != 1 {
		t.Fatalf("ClaimMany: %d results for one claim", len(results))
	}
	return results[0]
}

// outcome makes one claim and wants an outcome.
func (s suite) outcome(t *testing.T, c run.Claim, want run.Outcome) run.ClaimResult {
	t.Helper()
	got := s.claim(t, c)
	if got.Outcome != want {
		t.Fatalf("outcome %d, want %d", got.Outcome, want)
	}
	return got
}

// start makes one claim that has to be accepted.
func (s suite) start(t *testing.T, c run.Claim) run.Record {
	t.Helper()
	return s.outcome(t, c, run.Claimed).Run
}

func (s suite) load(t *testing.T, id uuid.UUID) run.Record {
	t.Helper()
	r, err := s.Load(t.Context(), id)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return r
}

// absent wants the store to know nothing of a run.
func (s suite) absent(t *testing.T, id uuid.UUID) {
	t.Helper()
	if r, err := s.Load(t.Context(), id); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("Load of a run that was not accepted: %+v, %v; want ErrNotFound", r, err)
	}
}

// ending is a completed end of r's newest attempt with an answer.
func ending(r run.Record, text string) run.Finish {
	f := run.Finish{
		Run: r.ID, Attempt: r.Attempt, State: run.Completed, LastSeq: 2,
		Segment: &run.Segment{Run: r.ID, Attempt: r.Attempt, First: 1, Last: 2, Data: []byte(text)},
		Result:  json.RawMessage(`{"finish_reason":"stop"}`),
		Events: []record.Event{{
			ID: newID(), Type: "chat_done", TraceID: r.TraceID, RunID: r.ID, SessionID: r.SessionID, Owner: r.Owner,
			Data: json.RawMessage(`{"total_ms":12}`),
		}},
	}
	f.Message = &record.Message{
		ID: newID(), SessionID: r.SessionID, RunID: r.ID, Owner: r.Owner, Role: "assistant", Content: text,
		Model: "m", Provider: "p", Status: record.StatusComplete, TraceID: r.TraceID,
		Usage: &record.Usage{PromptTokens: 3, CompletionTokens: 4, TotalTokens: 7, Source: record.Measured},
	}
	return f
}

// finish makes one finish and wants done.
func (s suite) finish(t *testing.T, f run.Finish, want bool) {
	t.Helper()
	done, err := s.FinishMany(t.Context(), []run.Finish{f})
	if err != nil {
		t.Fatalf("FinishMany: %v", err)
	}
	if len(done) != 1 || done[0] != want {
		t.Fatalf("FinishMany: done %v, want [%v]", done, want)
	}
}

// answered runs a whole turn.
func (s suite) answered(t *testing.T, c run.Claim, text string) run.Record {
	t.Helper()
	r := s.start(t, c)
	s.finish(t, ending(r, text), true)
	return r
}

func hold(r run.Record) run.Hold { return run.Hold{Run: r.ID, Attempt: r.Attempt} }

// takeOver wants node B to win a run.
func (s suite) takeOver(t *testing.T, h run.Hold) (run.Record, []record.Message) {
	t.Helper()
	r, history, ok, err := s.TakeOver(t.Context(), h, nodeB, held)
	if err != nil || !ok {
		t.Fatalf("TakeOver: ok %v, %v; want it taken", ok, err)
	}
	return r, history
}

// appendOne stores one segment and tells whether it was refused.
func (s suite) appendOne(t *testing.T, seg run.Segment) (lost bool) {
	t.Helper()
	holds, err := s.AppendMany(t.Context(), []run.Segment{seg})
	if err != nil {
		t.Fatalf("AppendMany: %v", err)
	}
	return len(holds) > 0
}

// tail reads one stretch of a log.
func (s suite) tail(t *testing.T, want run.Tail) run.TailResult {
	t.Helper()
	results, err := s.Tails(t.Context(), []run.Tail{want})
	if err != nil {
		t.Fatalf("Tails: %v", err)
	}
	if len(results) != 1 || results[0].Run != want.Run {
		t.Fatalf("Tails: %+v for a tail of %s", results, want.Run)
	}
	return results[0]
}

// segment is frames first to last of r's attempt, told apart by text.
func segment(r run.Record, first, last int, text string) run.Segment {
	return run.Segment{Run: r.ID, Attempt: r.Attempt, First: first, Last: last, Data: []byte(text)}
}

// sameSegments compares logs.
func sameSegments(t *testing.T, got, want []run.Segment) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d segments, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Run != w.Run || g.Attempt != w.Attempt || g.First != w.First || g.Last != w.Last || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("segment %d: attempt %d, %d-%d, %d bytes; want attempt %d, %d-%d, %d bytes (or their content differs)",
				i, g.Attempt, g.First, g.Last, len(g.Data), w.Attempt, w.First, w.Last, len(w.Data))
		}
	}
}

// sameRecord compares all of two records but the times and the lease.
func sameRecord(t *testing.T, got, want run.Record) {
	t.Helper()
	sameJSON(t, "request", got.Request, want.Request)
	sameJSON(t, "result", got.Result, want.Result)
	sameJSON(t, "error", got.Error, want.Error)
	for _, r := range []*run.Record{&got, &want} {
		r.Request, r.Result, r.Error = nil, nil, nil
		r.CreatedAt, r.FinishedAt = time.Time{}, time.Time{}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("record\n got %+v\nwant %+v", got, want)
	}
}

// sameMessage compares all of two messages but the time, which the store sets.
func sameMessage(t *testing.T, got, want record.Message) {
	t.Helper()
	if got.CreatedAt.IsZero() {
		t.Errorf("message %s has no time", got.ID)
	}
	sameJSON(t, "parts", got.Parts, want.Parts)
	sameJSON(t, "tool_calls", got.ToolCalls, want.ToolCalls)
	for _, m := range []*record.Message{&got, &want} {
		m.Parts, m.ToolCalls, m.CreatedAt = nil, nil, time.Time{}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("message\n got %.300v\nwant %.300v", got, want)
	}
}

// sameJSON compares JSON by meaning; nothing is only like nothing.
func sameJSON(t *testing.T, what string, got, want json.RawMessage) {
	t.Helper()
	if len(got) == 0 || len(want) == 0 {
		if len(got) != len(want) {
			t.Errorf("%s: %.200q, want %.200q", what, got, want)
		}
		return
	}
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal(want, &w)); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%s: %.200q, want %.200q", what, got, want)
	}
}

// texts is a history's contents.
func texts(history []record.Message) []string {
	all := []string{}
	for _, m := range history {
		all = append(all, m.Content)
	}
	return all
}

// together runs fn n times at once and waits for all.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			fn(i)
		})
	}
	close(gate)
	wg.Wait()
}

// over is a context that has been cancelled.
func over(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
