package storetest

import (
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

func sessionTests() []test {
	return []test{
		{"is made where nobody has it", sessionMade},
		{"belongs to its owner", sessionOwner},
		{"is open to a service", sessionService},
		{"has one maker", sessionRace},
	}
}

func sessionMade(t *testing.T, s suite) {
	for _, fresh := range []bool{true, false} {
		c := turn("ann", "hello")
		c.NewSession = fresh
		r := s.answered(t, c, "hi")
		if r.SessionID != c.SessionID || r.Owner != "ann" {
			t.Errorf("new %v: session %s of %q, want %s of ann", fresh, r.SessionID, r.Owner, c.SessionID)
		}
		got := s.outcome(t, in(turn("ann", "next"), c.SessionID), run.Claimed)
		if q, err := s.Question(t.Context(), got.Run.ID); err != nil || q.Content != "next" || q.Role != "user" || q.RunID != got.Run.ID {
			t.Errorf("new %v: question %q of %s, %v", fresh, q.Content, q.RunID, err)
		}
		if h := texts(got.History); len(h) != 2 || h[0] != "hello" || h[1] != "hi" {
			t.Errorf("new %v: history %q", fresh, h)
		}
		s.outcome(t, in(turn("bob", "x"), c.SessionID), run.NoSession)
	}
}

func sessionOwner(t *testing.T, s suite) {
	owned, ownerless := s.start(t, turn("ann", "hello")), s.start(t, turn("", "hello"))
	for name, c := range map[string]struct {
		claim run.Claim
		want  run.Outcome
	}{
		"the owner":              {in(turn("ann", "x"), owned.SessionID), run.Claimed},
		"another user":           {in(keyed("bob", "x", "k"), owned.SessionID), run.NoSession},
		"nobody, in a user's":    {in(keyed("", "x", "k"), owned.SessionID), run.NoSession},
		"nobody, in nobody's":    {in(turn("", "x"), ownerless.SessionID), run.Claimed},
		"a user, in nobody's":    {in(keyed("ann", "x", "k"), ownerless.SessionID), run.NoSession},
		"another letter's case":  {in(turn("Ann", "x"), owned.SessionID), run.NoSession},
		"a run's id for session": {in(turn("bob", "x"), owned.ID), run.Claimed},
	} {
		got := s.claim(t, c.claim)
		if got.Outcome != c.want {
			t.Errorf("%s: outcome %d, want %d", name, got.Outcome, c.want)
		}
		if c.want == run.Claimed {
			continue
		}
		s.absent(t, c.claim.ID)
		if s.o.Events != nil && len(s.o.Events(t, s.Store, c.claim.ID)) > 0 {
			t.Errorf("%s: events of a refused claim", name)
		}
	}
	// The refusals burned no key.
	s.start(t, keyed("bob", "y", "k"))
}

func sessionService(t *testing.T, s suite) {
	owned := s.answered(t, turn("ann", "hello"), "hi")
	c := in(turn("", "from the service"), owned.SessionID)
	c.Principal, c.AnySession = "service_role:main", true
	got := s.outcome(t, c, run.Claimed)
	if got.Run.Owner != "ann" || s.load(t, c.ID).Owner != "ann" {
		t.Errorf("owner %q, want the session's", got.Run.Owner)
	}
	if len(got.History) != 2 {
		t.Errorf("history %q, want the session's", texts(got.History))
	}
	f := ending(got.Run, "done")
	f.Message.Owner = ""
	s.finish(t, f, true)
	answer, err := s.Answer(t.Context(), c.ID)
	if err != nil || answer.Owner != "ann" {
		t.Errorf("the answer's owner %q, %v; want the session's", answer.Owner, err)
	}
	history := s.outcome(t, in(turn("ann", "more"), owned.SessionID), run.Claimed).History
	if len(history) != 4 {
		t.Fatalf("history %q, want both turns", texts(history))
	}
	for _, m := range history {
		if m.Owner != "ann" {
			t.Errorf("message %q belongs to %q, want ann", m.Content, m.Owner)
		}
	}
	// A service's own session is nobody else's.
	c = turn("", "mine")
	c.Principal, c.AnySession, c.NewSession = "service_role:main", true, false
	s.start(t, c)
	s.outcome(t, in(turn("ann", "x"), c.SessionID), run.NoSession)
}

func sessionRace(t *testing.T, s suite) {
	const n = 16
	nodes, id := s.nodes(t, 2), uuid.New()
	var claimed [2]atomic.Int32
	together(n, func(i int) {
		user := []string{"ann", "bob"}[i%2]
		got, err := nodes[i/2%2].ClaimMany(t.Context(), []run.Claim{in(turn(user, "hello"), id)})
		if err != nil {
			t.Error(err)
			return
		}
		switch got[0].Outcome {
		case run.Claimed:
			claimed[i%2].Add(1)
		case run.NoSession:
		default:
			t.Errorf("outcome %d", got[0].Outcome)
		}
	})
	a, b := claimed[0].Load(), claimed[1].Load()
	if a+b != n/2 || a*b != 0 {
		t.Errorf("ann has %d runs and bob %d in one session, want all of one of them", a, b)
	}
}
