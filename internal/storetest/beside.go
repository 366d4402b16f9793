package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

func besideTests() []test {
	return []test{
		{"readers", readers},
		{"readers go", readersAged},
		{"events are stored once", events},
		{"hints", hints},
		{"ping", ping},
		{"an ended context is an error", contextOver},
		{"nodes see one truth", nodesAgree},
	}
}

func ids(records ...run.Record) (all []uuid.UUID) {
	for _, r := range records {
		all = append(all, r.ID)
	}
	return all
}

func events(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	one := record.Event{ID: newID(), Type: "one", TraceID: r.TraceID, RunID: r.ID, SessionID: r.SessionID, Owner: "ann"}
	two := record.Event{ID: newID(), Type: "two", TraceID: r.TraceID, RunID: r.ID, Data: []byte(`{"n":2}`)}
	loose := record.Event{ID: newID(), Type: "rate_limited", TraceID: "t"} // of a run that never was
	for _, batch := range [][]record.Event{{one}, {one, two}, {two, two, loose}, {loose}} {
		if err := s.AddEvents(t.Context(), batch); err != nil {
			t.Fatalf("AddEvents: %v", err)
		}
	}
	if s.o.Events == nil {
		return
	}
	if types := s.o.Events(t, s.Store, r.ID); !slices.Equal(types, []string{"chat_started", "one", "two"}) {
		t.Errorf("events %q", types)
	}
}

func hints(t *testing.T, s suite) {
	hinted := s.Hinted()
	if hinted == nil || hinted != s.Hinted() {
		t.Error("Hinted is not one channel")
	}
	if s.o.Reopen == nil {
		if err := s.Hint(t.Context()); err != nil {
			t.Errorf("Hint: %v", err)
		}
		select {
		case <-hinted:
			t.Error("a hint came back to the only node there is")
		default:
		}
		return
	}
	// A hint may be lost, many in a row are not.
	other := s.o.Reopen(t, s.Store)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if err := other.Hint(t.Context()); err != nil {
			t.Fatalf("Hint: %v", err)
		}
		select {
		case <-hinted:
			return
		case <-tick.C:
		}
	}
	t.Error("none of 500 hints arrived")
}

func ping(t *testing.T, s suite) {
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// nodesAgree walks one run through two nodes.
func nodesAgree(t *testing.T, s suite) {
	if s.o.Reopen == nil {
		t.Skip("one process owns the store")
	}
	b := suite{s.o.Reopen(t, s.Store), s.o}
	r := s.start(t, leased(keyed("ann", "hello", "k"), lapsed))
	if got := b.outcome(t, keyed("ann", "hello", "k"), run.Joined); got.Run.ID != r.ID {
		t.Errorf("joined %s", got.Run.ID)
	}
	s.appendOne(t, segment(r, 1, 1, "a's"))
	got, _ := b.takeOver(t, hold(r))
	if !s.appendOne(t, segment(r, 2, 2, "a's, too late")) {
		t.Error("the old node may still write")
	}
	if lost, err := s.RenewMany(t.Context(), nodeA, []run.Hold{hold(r)}, held); err != nil || len(lost) != 1 {
		t.Errorf("RenewMany: lost %v, %v", lost, err)
	}
	s.cancel(t, r.ID)
	if ids := b.asked(t, nodeB); len(ids) != 1 {
		t.Errorf("asked %v", ids)
	}
	if err := s.TouchReaders(t.Context(), ids(r), held); err != nil {
		t.Fatal(err)
	}
	b.hasReaders(t, r, true)
	b.finish(t, ending(got, "b's"), true)
	s.finish(t, ending(r, "a's"), false)
	answer, err := s.Answer(t.Context(), r.ID)
	if err != nil || answer.Content != "b's" {
		t.Errorf("answer %q, %v", answer.Content, err)
	}
	sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 1, 1, "a's"), segment(got, 1, 2, "b's")})
}

func (s suite) hasReaders(t *testing.T, r run.Record, want bool) {
	t.Helper()
	if got, err := s.HasReaders(t.Context(), r.ID); err != nil || got != want {
		t.Errorf("HasReaders: %v, %v; want %v", got, err, want)
	}
}

func readers(t *testing.T, s suite) {
	a, b, c := s.start(t, turn("ann", "x")), s.start(t, turn("ann", "x")), s.start(t, turn("ann", "x"))
	s.hasReaders(t, a, false)
	unknown := run.Record{ID: newID()}
	touch := func(ttl time.Duration, of ...run.Record) {
		t.Helper()
		for _, r := range of {
			if err := s.TouchReaders(t.Context(), ids(r, unknown), ttl); err != nil {
				t.Fatal(err)
			}
		}
	}
	touch(time.Hour, a, c)
	touch(-time.Second, b)
	s.hasReaders(t, a, true)
	s.hasReaders(t, b, false)
	s.hasReaders(t, c, true)
	s.hasReaders(t, unknown, false)
	touch(time.Hour, a, b)
	s.hasReaders(t, a, true)
	s.hasReaders(t, b, true)
}

func readersAged(t *testing.T, s suite) {
	if s.o.Age == nil {
		t.Skip("the store's clock cannot be moved")
	}
	a := s.start(t, turn("ann", "x"))
	if err := s.TouchReaders(t.Context(), ids(a), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	s.hasReaders(t, a, true)
	s.o.Age(t, s.Store, 11*time.Second)
	s.hasReaders(t, a, false)
}

func contextOver(t *testing.T, s suite) {
	r, ctx, c := s.start(t, turn("ann", "x")), over(t), keyed("ann", "hello", "k")
	_, claimErr := s.ClaimMany(ctx, []run.Claim{c})
	_, appendErr := s.AppendMany(ctx, []run.Segment{segment(r, 1, 1, "x")})
	_, finishErr := s.FinishMany(ctx, []run.Finish{ending(r, "x")})
	_, nextErr := s.NextAttempt(ctx, hold(r), nodeA, held)
	_, renewErr := s.RenewMany(ctx, nodeA, []run.Hold{hold(r)}, held)
	_, asksErr := s.CancelsAsked(ctx, nodeA)
	_, lapsedErr := s.Lapsed(ctx, 10)
	_, _, _, takeErr := s.TakeOver(ctx, hold(r), nodeB, held)
	_, loadErr := s.Load(ctx, r.ID)
	_, tailErr := s.Tails(ctx, []run.Tail{{Run: r.ID}})
	_, answerErr := s.Answer(ctx, r.ID)
	_, questionErr := s.Question(ctx, r.ID)
	_, cancelErr := s.AskCancel(ctx, r.ID)
	_, hasErr := s.HasReaders(ctx, r.ID)
	_, pruneErr := s.PruneLogs(ctx, held, 10)
	_, freeErr := s.FreeKeys(ctx, 10)
	for name, err := range map[string]error{
		"ClaimMany": claimErr, "AppendMany": appendErr, "FinishMany": finishErr, "NextAttempt": nextErr,
		"RenewMany": renewErr, "CancelsAsked": asksErr, "Lapsed": lapsedErr, "TakeOver": takeErr, "Load": loadErr,
		"Tails": tailErr, "Answer": answerErr, "Question": questionErr, "AskCancel": cancelErr, "HasReaders": hasErr, "PruneLogs": pruneErr,
		"FreeKeys": freeErr, "Release": s.Release(ctx, nodeA, []run.Hold{hold(r)}),
		"TouchReaders": s.TouchReaders(ctx, ids(r), held), "AddEvents": s.AddEvents(ctx, ending(r, "").Events), "Ping": s.Ping(ctx),
	} {
		if err == nil {
			t.Errorf("%s under an ended context: no error", name)
		} else if errors.Is(err, run.ErrNotFound) {
			t.Errorf("%s under an ended context: %v", name, err)
		}
	}
	s.absent(t, c.ID)
	sameRecord(t, s.load(t, r.ID), r)
	s.start(t, c)
}
