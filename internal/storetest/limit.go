package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/run"
)

func limitTests() []test {
	return []test{
		{"counts down", limitCounts},
		{"costs nothing when refused", limitRefusal},
		{"leaves no trace", limitNoTrace},
		{"holds for each principal and endpoint", limitScope},
		{"holds over all callers", limitGlobal},
		{"charges nobody for the other limit", limitBoth},
		{"is exact in a batch", limitBatch},
		{"is exact among many", limitRace},
		{"slides", limitSlides},
		{"may change", limitChanges},
	}
}

// most is the longest that a limit can make anybody wait: the window, and what
// the neighbours that a log merges may add.
const most = run.RateWindow + time.Second

func saneRate(t *testing.T, got run.ClaimResult, limit, remaining int) {
	t.Helper()
	r := got.Rate
	if r.Limit != limit || r.Remaining != remaining {
		t.Errorf("limit %d, remaining %d; want %d, %d", r.Limit, r.Remaining, limit, remaining)
	}
	if r.Reset <= 0 || r.Reset > most {
		t.Errorf("reset in %v", r.Reset)
	}
	if got.Outcome == run.Limited && (r.RetryAfter < time.Second || r.RetryAfter > most) {
		t.Errorf("retry after %v", r.RetryAfter)
	}
	if got.Outcome != run.Limited && (r.RetryAfter != 0 || r.Global) {
		t.Errorf("accepted, but retry after %v, global %v", r.RetryAfter, r.Global)
	}
}

func limitCounts(t *testing.T, s suite) {
	for left := 4; left >= 0; left-- {
		saneRate(t, s.outcome(t, limited(turn("ann", "x"), 5, 0), run.Claimed), 5, left)
	}
	for range 3 {
		got := s.outcome(t, limited(turn("ann", "x"), 5, 0), run.Limited)
		saneRate(t, got, 5, 0)
		if got.Rate.Global {
			t.Error("a principal's limit is called global")
		}
	}
	if got := s.outcome(t, turn("ann", "x"), run.Claimed); got.Rate.Limit != 0 {
		t.Errorf("an unlimited claim has limit %d", got.Rate.Limit)
	}
}

func limitRefusal(t *testing.T, s suite) {
	one := func(c run.Claim) run.Claim { return limited(c, 3, 3) }
	first := s.start(t, one(keyed("ann", "hello", "k")))
	bobs := s.start(t, turn("bob", "bob's"))
	for range 5 {
		s.outcome(t, one(keyed("ann", "hello", "k")), run.Joined)
		s.outcome(t, one(keyed("ann", "other", "k")), run.Conflict)
		s.outcome(t, one(in(turn("ann", "x"), bobs.SessionID)), run.NoSession)
		taken := one(turn("ann", "x"))
		taken.ID, taken.Message.RunID, taken.Event.RunID = first.ID, first.ID, first.ID
		s.outcome(t, taken, run.IDTaken)
	}
	saneRate(t, s.outcome(t, one(turn("ann", "x")), run.Claimed), 3, 1)
	saneRate(t, s.outcome(t, one(turn("ann", "x")), run.Claimed), 3, 0)
	s.outcome(t, one(turn("ann", "x")), run.Limited)
	// Who has the answer coming may fetch it, limit or no limit.
	s.outcome(t, one(keyed("ann", "hello", "k")), run.Joined)
	s.outcome(t, one(keyed("ann", "other", "k")), run.Conflict)
}

func limitNoTrace(t *testing.T, s suite) {
	s.start(t, limited(turn("ann", "x"), 1, 0))
	c := limited(keyed("ann", "hello", "k"), 1, 0)
	s.outcome(t, c, run.Limited)
	s.absent(t, c.ID)
	s.start(t, in(turn("bob", "mine"), c.SessionID))
	if s.o.Events != nil {
		if types := s.o.Events(t, s.Store, c.ID); len(types) > 0 {
			t.Errorf("events %q of a refused claim", types)
		}
	}
	// Neither key, nor run id, nor message id was used up.
	c.Limit = 0
	s.start(t, in(c, newID()))
}

func limitScope(t *testing.T, s suite) {
	s.start(t, limited(turn("ann", "x"), 1, 0))
	s.outcome(t, limited(turn("ann", "x"), 1, 0), run.Limited)
	s.start(t, limited(turn("bob", "x"), 1, 0))
	other := limited(turn("ann", "x"), 1, 0)
	other.Endpoint = "embed"
	s.start(t, other)
}

func limitGlobal(t *testing.T, s suite) {
	for i := range 3 {
		s.start(t, limited(turn(fmt.Sprint("user", i), "x"), 0, 3))
	}
	got := s.outcome(t, limited(turn("ann", "x"), 0, 3), run.Limited)
	if !got.Rate.Global || got.Rate.RetryAfter < time.Second || got.Rate.RetryAfter > most {
		t.Errorf("rate %+v, want a global refusal", got.Rate)
	}
	other := limited(turn("ann", "x"), 0, 3)
	other.Endpoint = "embed"
	s.start(t, other)
}

func limitBoth(t *testing.T, s suite) {
	both := func(user string) run.Claim { return limited(turn(user, "x"), 2, 3) }
	s.start(t, both("ann"))
	s.start(t, both("ann"))
	for range 5 { // refused by ann's limit: costs nothing of everybody's
		if got := s.outcome(t, both("ann"), run.Limited); got.Rate.Global {
			t.Error("ann's own limit is called global")
		}
	}
	s.start(t, both("bob"))
	for range 5 { // refused by everybody's limit: costs nothing of bob's
		if got := s.outcome(t, both("bob"), run.Limited); !got.Rate.Global {
			t.Error("everybody's limit is called bob's own")
		}
	}
	saneRate(t, s.outcome(t, limited(turn("bob", "x"), 2, 0), run.Claimed), 2, 0)
}

func limitBatch(t *testing.T, s suite) {
	var claims []run.Claim
	for range 6 {
		claims = append(claims, limited(turn("ann", "x"), 4, 0), limited(turn("bob", "x"), 2, 0))
	}
	claims = append(claims, limited(keyed("cat", "x", "k"), 1, 0), limited(keyed("cat", "x", "k"), 1, 0))
	got, err := s.ClaimMany(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for i, r := range got {
		if r.Outcome == run.Claimed {
			count[claims[i].Owner]++
			continue
		}
		if want := run.Limited; i < 12 && r.Outcome != want {
			t.Errorf("claim %d: outcome %d, want %d", i, r.Outcome, want)
		}
		s.absent(t, claims[i].ID)
	}
	if count["ann"] != 4 || count["bob"] != 2 || count["cat"] != 1 {
		t.Errorf("accepted %v, want ann 4, bob 2, cat 1", count)
	}
	if got[13].Outcome != run.Joined {
		t.Errorf("the double of a claim that took the last place: outcome %d, want Joined", got[13].Outcome)
	}
}

func limitRace(t *testing.T, s suite) {
	const callers, limit, global = 60, 20, 30
	nodes := s.nodes(t, 3)
	var ann, bob atomic.Int32
	together(callers, func(i int) {
		claims := []run.Claim{limited(turn("ann", "x"), limit, global), limited(turn("bob", "x"), limit, global)}
		got, err := nodes[i%3].ClaimMany(t.Context(), claims)
		if err != nil {
			t.Error(err)
			return
		}
		for j, n := range []*atomic.Int32{&ann, &bob} {
			if got[j].Outcome == run.Claimed {
				n.Add(1)
			} else if got[j].Outcome != run.Limited {
				t.Errorf("outcome %d", got[j].Outcome)
			}
		}
	})
	if a, b := ann.Load(), bob.Load(); a > limit || b > limit || a+b != global {
		t.Errorf("accepted %d and %d, want at most %d each and %d in all", a, b, limit, global)
	}
}

func limitSlides(t *testing.T, s suite) {
	if s.o.Age == nil {
		t.Skip("the store's clock cannot be moved")
	}
	c := func() run.Claim { return limited(turn("ann", "x"), 3, 0) }
	s.start(t, c())
	s.o.Age(t, s.Store, 40*time.Second)
	s.start(t, c())
	s.start(t, c())
	got := s.outcome(t, c(), run.Limited)
	if got.Rate.RetryAfter > 21*time.Second {
		t.Errorf("retry after %v, but the first run leaves the window in 20 s", got.Rate.RetryAfter)
	}
	s.o.Age(t, s.Store, got.Rate.RetryAfter)
	s.start(t, c()) // the first left the window
	s.outcome(t, c(), run.Limited)
	s.o.Age(t, s.Store, most)
	for left := 2; left >= 0; left-- {
		saneRate(t, s.outcome(t, c(), run.Claimed), 3, left)
	}
}

func limitChanges(t *testing.T, s suite) {
	for range 3 {
		s.start(t, limited(turn("ann", "x"), 3, 0))
	}
	saneRate(t, s.outcome(t, limited(turn("ann", "x"), 5, 0), run.Claimed), 5, 1)
	saneRate(t, s.outcome(t, limited(turn("ann", "x"), 2, 0), run.Limited), 2, 0)
	saneRate(t, s.outcome(t, limited(turn("ann", "x"), 5, 0), run.Claimed), 5, 0)
}
