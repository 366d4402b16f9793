package storetest

import (
	"fmt"
	"testing"

	"github.com/agentedge/agentedge/internal/run"
)

func batchTests() []test {
	return []test{
		{"is empty", batchEmpty},
		{"answers in order", batchOrder},
		{"folds duplicates", batchDuplicates},
		{"conflicts within itself", batchConflict},
		{"shares a session", batchSession},
		{"shares an id", batchID},
		{"refuses one and accepts its double", batchRefused},
		{"races another in the opposite order", batchOpposite},
	}
}

func batchEmpty(t *testing.T, s suite) {
	got, err := s.ClaimMany(t.Context(), nil)
	if err != nil || len(got) != 0 {
		t.Errorf("ClaimMany: %v, %v", got, err)
	}
	lost, err := s.AppendMany(t.Context(), nil)
	if err != nil || len(lost) != 0 {
		t.Errorf("AppendMany: %v, %v", lost, err)
	}
	done, err := s.FinishMany(t.Context(), nil)
	if err != nil || len(done) != 0 {
		t.Errorf("FinishMany: %v, %v", done, err)
	}
	tails, err := s.Tails(t.Context(), nil)
	if err != nil || len(tails) != 0 {
		t.Errorf("Tails: %v, %v", tails, err)
	}
	lost, err = s.RenewMany(t.Context(), nodeA, nil, held)
	if err != nil || len(lost) != 0 {
		t.Errorf("RenewMany: %v, %v", lost, err)
	}
	if err := s.Release(t.Context(), nodeA, nil); err != nil {
		t.Errorf("Release: %v", err)
	}
	if err := s.AddEvents(t.Context(), nil); err != nil {
		t.Errorf("AddEvents: %v", err)
	}
	if err := s.TouchReaders(t.Context(), nil, held); err != nil {
		t.Errorf("TouchReaders: %v", err)
	}
}

// batchOf makes a batch and wants its outcomes.
func (s suite) batchOf(t *testing.T, claims []run.Claim, want ...run.Outcome) []run.ClaimResult {
	t.Helper()
	got, err := s.ClaimMany(t.Context(), claims)
	if err != nil {
		t.Fatalf("ClaimMany: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Outcome != want[i] {
			t.Errorf("claim %d: outcome %d, want %d", i, got[i].Outcome, want[i])
		}
	}
	return got
}

func batchOrder(t *testing.T, s suite) {
	mine := s.start(t, turn("ann", "mine"))
	s.start(t, keyed("ann", "old", "old"))
	claims := []run.Claim{
		keyed("zed", "1", "z"),
		in(turn("bob", "in ann's session"), mine.SessionID),
		keyed("ann", "old", "old"),
		turn("", "2"),
		keyed("ann", "new", "old"),
		keyed("ann", "3", "a"),
		in(turn("ann", "4"), mine.SessionID),
	}
	got := s.batchOf(t, claims, run.Claimed, run.NoSession, run.Joined, run.Claimed, run.Conflict, run.Claimed, run.Claimed)
	for i, r := range got {
		if r.Outcome != run.Claimed {
			s.absent(t, claims[i].ID)
			continue
		}
		if r.Run.ID != claims[i].ID {
			t.Errorf("claim %d got the run of another", i)
		}
		sameRecord(t, s.load(t, claims[i].ID), r.Run)
	}
}

func batchDuplicates(t *testing.T, s suite) {
	claims := []run.Claim{keyed("ann", "hello", "k"), keyed("bob", "hello", "k"), keyed("ann", "hello", "k"), keyed("ann", "hello", "k")}
	got := s.batchOf(t, claims, run.Claimed, run.Claimed, run.Joined, run.Joined)
	for _, i := range []int{2, 3} {
		sameRecord(t, got[i].Run, got[0].Run)
		s.absent(t, claims[i].ID)
		// A folded claim leaves no session behind.
		s.start(t, in(turn("zoe", "x"), claims[i].SessionID))
	}
}

func batchConflict(t *testing.T, s suite) {
	claims := []run.Claim{keyed("ann", "hello", "k"), keyed("ann", "other", "k"), keyed("ann", "hello", "k")}
	s.batchOf(t, claims, run.Claimed, run.Conflict, run.Joined)
	s.absent(t, claims[1].ID)
}

func batchSession(t *testing.T, s suite) {
	first := turn("ann", "1")
	first.NewSession = false // the caller named an id that nobody has
	claims := []run.Claim{first, in(turn("ann", "2"), first.SessionID), in(turn("bob", "3"), first.SessionID)}
	s.batchOf(t, claims, run.Claimed, run.Claimed, run.NoSession)
	s.absent(t, claims[2].ID)
}

func batchID(t *testing.T, s suite) {
	first, second, third := keyed("ann", "1", "k1"), keyed("ann", "1", "k2"), keyed("ann", "1", "k1")
	second.ID, second.Message.RunID, second.Event.RunID = first.ID, first.ID, first.ID
	third.ID, third.Message.RunID, third.Event.RunID = first.ID, first.ID, first.ID
	s.batchOf(t, []run.Claim{first, second, third}, run.Claimed, run.IDTaken, run.Joined)
	s.outcome(t, keyed("ann", "1", "k2"), run.Claimed)
}

// batchRefused: a claim that is refused does not drag its double down, nor hold
// its key.
func batchRefused(t *testing.T, s suite) {
	taken := s.start(t, turn("bob", "bob's"))
	bad, good := in(keyed("ann", "hello", "k"), taken.SessionID), keyed("ann", "hello", "k")
	got, err := s.ClaimMany(t.Context(), []run.Claim{bad, good})
	if err != nil {
		t.Fatal(err)
	}
	if got[1].Outcome != run.Claimed || got[1].Run.ID != good.ID {
		t.Errorf("the good double: outcome %d, want Claimed", got[1].Outcome)
	}
	if got[0].Outcome != run.NoSession && got[0].Outcome != run.Joined {
		t.Errorf("the refused one: outcome %d", got[0].Outcome)
	}
	s.absent(t, bad.ID)
}

// batchOpposite: batches with the same keys in opposite order end, each key
// with one run.
func batchOpposite(t *testing.T, s suite) {
	const keys, batches = 20, 8
	nodes := s.nodes(t, 2)
	results := make([][]run.ClaimResult, batches)
	errs := make([]error, batches)
	together(batches, func(i int) {
		claims := make([]run.Claim, keys)
		for k := range keys {
			at := k
			if i%2 == 1 {
				at = keys - 1 - k
			}
			claims[at] = keyed("ann", "hello", fmt.Sprintf("key-%02d", k))
		}
		results[i], errs[i] = nodes[i%2].ClaimMany(t.Context(), claims)
	})
	claimed := map[string]int{}
	for i := range batches {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		for _, r := range results[i] {
			if r.Outcome == run.Claimed {
				claimed[r.Run.Key]++
			} else if r.Outcome != run.Joined {
				t.Errorf("outcome %d", r.Outcome)
			}
		}
	}
	for k := range keys {
		if n := claimed[fmt.Sprintf("key-%02d", k)]; n != 1 {
			t.Errorf("key %d: %d runs, want 1", k, n)
		}
	}
}
