package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

func cancelTests() []test {
	return []test{
		{"is seen by the holder", cancelAsked},
		{"changes nothing that is over", cancelOver},
		{"of nothing", cancelUnknown},
		{"survives a takeover", cancelTakeOver},
	}
}

func (s suite) asked(t *testing.T, node string) []uuid.UUID {
	t.Helper()
	ids, err := s.CancelsAsked(t.Context(), node)
	if err != nil {
		t.Fatalf("CancelsAsked: %v", err)
	}
	return ids
}

func (s suite) cancel(t *testing.T, id uuid.UUID) run.Record {
	t.Helper()
	r, err := s.AskCancel(t.Context(), id)
	if err != nil {
		t.Fatalf("AskCancel: %v", err)
	}
	return r
}

func cancelAsked(t *testing.T, s suite) {
	r, other := s.start(t, turn("ann", "x")), s.start(t, turn("ann", "x"))
	elsewhere := turn("ann", "x")
	elsewhere.Node = nodeB
	b := s.start(t, elsewhere)
	if ids := s.asked(t, nodeA); len(ids) > 0 {
		t.Errorf("asked %v before anybody asked", ids)
	}
	want := r
	want.CancelAsked = true
	for range 3 {
		sameRecord(t, s.cancel(t, r.ID), want)
		if ids := s.asked(t, nodeA); !slices.Equal(ids, []uuid.UUID{r.ID}) {
			t.Errorf("asked %v, want %s", ids, r.ID)
		}
	}
	s.cancel(t, b.ID)
	if ids := s.asked(t, nodeB); !slices.Equal(ids, []uuid.UUID{b.ID}) {
		t.Errorf("node b: asked %v, want %s", ids, b.ID)
	}
	if s.load(t, other.ID).CancelAsked || !s.load(t, r.ID).CancelAsked {
		t.Error("the wrong run is to be cancelled")
	}
	f := ending(r, "so far")
	f.State = run.Cancelled
	s.finish(t, f, true)
	if ids := s.asked(t, nodeA); len(ids) > 0 {
		t.Errorf("asked %v after the end", ids)
	}
}

func cancelOver(t *testing.T, s suite) {
	r := s.answered(t, turn("ann", "x"), "done")
	before := s.load(t, r.ID)
	got := s.cancel(t, r.ID)
	sameRecord(t, got, before)
	if !got.FinishedAt.Equal(before.FinishedAt) {
		t.Errorf("finished %v, then %v", before.FinishedAt, got.FinishedAt)
	}
	sameRecord(t, s.load(t, r.ID), before)
	if ids := s.asked(t, nodeA); len(ids) > 0 {
		t.Errorf("asked %v", ids)
	}
}

func cancelUnknown(t *testing.T, s suite) {
	if _, err := s.AskCancel(t.Context(), newID()); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("AskCancel: %v, want ErrNotFound", err)
	}
	if _, err := s.Load(t.Context(), newID()); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("Load: %v, want ErrNotFound", err)
	}
	if _, err := s.Answer(t.Context(), newID()); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("Answer: %v, want ErrNotFound", err)
	}
	if _, err := s.Question(t.Context(), newID()); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("Question: %v, want ErrNotFound", err)
	}
}

func cancelTakeOver(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	if got := s.cancel(t, r.ID); !got.Lapsed {
		t.Error("a lapsed run does not say so to who cancels it")
	}
	got, _ := s.takeOver(t, hold(r))
	if !got.CancelAsked {
		t.Error("the wish to cancel was lost")
	}
	if a, b := s.asked(t, nodeA), s.asked(t, nodeB); len(a) != 0 || !slices.Equal(b, []uuid.UUID{r.ID}) {
		t.Errorf("node a sees %v, node b %v; want the new holder alone to see it", a, b)
	}
}
