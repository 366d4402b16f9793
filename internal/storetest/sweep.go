package storetest

import (
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/run"
)

func sweepTests() []test {
	return []test{
		{"prunes logs", pruneLogs},
		{"prunes a bounded number", pruneBounded},
		{"prunes after the retention", pruneAged},
		{"keeps young keys", keepKeys},
		{"frees old keys", freeKeys},
	}
}

func (s suite) prune(t *testing.T, retention time.Duration, max, want int) {
	t.Helper()
	if n, err := s.PruneLogs(t.Context(), retention, max); err != nil || n != want {
		t.Errorf("PruneLogs: %d, %v; want %d", n, err, want)
	}
}

func pruneLogs(t *testing.T, s suite) {
	live := s.start(t, turn("ann", "x"))
	s.appendOne(t, segment(live, 1, 1, "live"))
	over := s.answered(t, keyed("ann", "x", "k"), "the answer")
	s.prune(t, time.Hour, 100, 0)
	s.prune(t, -time.Second, 100, 1)
	s.prune(t, -time.Second, 100, 0)

	got := s.load(t, over.ID)
	if !got.LogGone || got.State != run.Completed || got.LastSeq != 2 || len(got.Result) == 0 {
		t.Errorf("pruned %+v", got)
	}
	if answer, err := s.Answer(t.Context(), over.ID); err != nil || answer.Content != "the answer" {
		t.Errorf("Answer: %q, %v", answer.Content, err)
	}
	if log := s.tail(t, run.Tail{Run: over.ID}); !log.Found || !log.LogGone || len(log.Segments) > 0 || log.State != run.Completed {
		t.Errorf("tail of a pruned log: %+v", log)
	}
	if log := s.tail(t, run.Tail{Run: live.ID}); log.LogGone || len(log.Segments) != 1 {
		t.Errorf("tail of a live log: %+v", log)
	}
	if got := s.outcome(t, keyed("ann", "x", "k"), run.Joined); got.Run.ID != over.ID || !got.Run.LogGone {
		t.Errorf("joined %s, log gone %v", got.Run.ID, got.Run.LogGone)
	}
	s.wantHistory(t, "ann", over.SessionID, historyBytes, "x", "the answer")
}

func pruneBounded(t *testing.T, s suite) {
	for range 5 {
		s.answered(t, turn("ann", "x"), "text")
	}
	s.prune(t, -time.Second, 2, 2)
	s.prune(t, -time.Second, 2, 2)
	s.prune(t, -time.Second, 2, 1)
	s.prune(t, -time.Second, 2, 0)
}

func pruneAged(t *testing.T, s suite) {
	if s.o.Age == nil {
		t.Skip("the store's clock cannot be moved")
	}
	old := s.answered(t, turn("ann", "x"), "old")
	s.o.Age(t, s.Store, 25*time.Hour)
	young := s.answered(t, turn("ann", "x"), "young")
	s.prune(t, 24*time.Hour, 100, 1)
	if !s.load(t, old.ID).LogGone || s.load(t, young.ID).LogGone {
		t.Error("the wrong log was pruned")
	}
}

func keepKeys(t *testing.T, s suite) {
	over := s.answered(t, keyed("ann", "x", "k"), "text")
	if n, err := s.FreeKeys(t.Context(), 100); err != nil || n != 0 {
		t.Errorf("FreeKeys: %d, %v; want 0", n, err)
	}
	if got := s.outcome(t, keyed("ann", "x", "k"), run.Joined); got.Run.ID != over.ID {
		t.Errorf("joined %s", got.Run.ID)
	}
}

func freeKeys(t *testing.T, s suite) {
	if s.o.Age == nil {
		t.Skip("the store's clock cannot be moved")
	}
	live := s.start(t, keyed("ann", "live", "live"))
	over := []run.Record{s.answered(t, keyed("ann", "x", "a"), "text"), s.answered(t, keyed("ann", "x", "b"), "text")}
	s.o.Age(t, s.Store, run.KeyLife-time.Hour)
	if n, err := s.FreeKeys(t.Context(), 100); err != nil || n != 0 {
		t.Errorf("FreeKeys an hour early: %d, %v; want 0", n, err)
	}
	s.o.Age(t, s.Store, 2*time.Hour)
	for _, want := range []int{1, 1, 0} {
		if n, err := s.FreeKeys(t.Context(), 1); err != nil || n != want {
			t.Errorf("FreeKeys: %d, %v; want %d", n, err, want)
		}
	}
	for _, r := range over {
		if got := s.load(t, r.ID); got.Key != "" || !got.Keyed || got.State != run.Completed {
			t.Errorf("freed: key %q, keyed %v, state %s", got.Key, got.Keyed, got.State)
		}
	}
	s.start(t, keyed("ann", "another request", "a"))
	if got := s.outcome(t, keyed("ann", "live", "live"), run.Joined); got.Run.ID != live.ID {
		t.Errorf("joined %s; a running run's key holds however long it takes", got.Run.ID)
	}
}
