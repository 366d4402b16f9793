package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

func historyTests() []test {
	return []test{
		{"is in order", historyOrder},
		{"has the turns with an answer", historyAnswered},
		{"is bounded", historyBounded},
		{"is bounded in turns", historyTurns},
		{"stays the same for later attempts", historyTakeOver},
		{"of another session is not seen", historyApart},
		{"counts bytes", historyBytesNotRunes},
	}
}

// wantHistory claims a turn in a session and compares what it sees.
func (s suite) wantHistory(t *testing.T, user string, session uuid.UUID, bytes int, want ...string) run.Record {
	t.Helper()
	c := in(turn(user, "and now?"), session)
	c.HistoryBytes = bytes
	got := s.outcome(t, c, run.Claimed)
	if h := texts(got.History); !slices.Equal(h, want) {
		t.Errorf("history of %d bytes: %q, want %q", bytes, h, want)
	}
	return got.Run
}

func historyOrder(t *testing.T, s suite) {
	// Two turns overlap; the one asked first comes first whoever answers first.
	one := s.start(t, turn("ann", "q1"))
	two := s.start(t, in(turn("ann", "q2"), one.SessionID))
	s.finish(t, ending(two, "a2"), true)
	s.wantHistory(t, "ann", one.SessionID, historyBytes, "q2", "a2")
	s.finish(t, ending(one, "a1"), true)
	s.answered(t, in(turn("ann", "q3"), one.SessionID), "a3")
	s.wantHistory(t, "ann", one.SessionID, historyBytes, "q1", "a1", "q2", "a2", "q3", "a3")
}

func historyAnswered(t *testing.T, s suite) {
	first := s.answered(t, turn("ann", "q1"), "a1")
	var want []string
	want = append(want, "q1", "a1")
	for i, c := range []struct {
		state  run.State
		status string
		text   string
		none   bool
	}{
		{run.Failed, "", "", true},
		{run.Completed, record.StatusComplete, "", false}, // only tool calls
		{run.Cancelled, record.StatusCancelled, "partly", false},
		{run.Interrupted, record.StatusInterrupted, "cut", false},
		{run.Failed, record.StatusFailed, "broken", false},
		{run.Cancelled, record.StatusCancelled, "", false},
	} {
		question := fmt.Sprint("question ", i)
		r := s.start(t, in(turn("ann", question), first.SessionID))
		f := ending(r, c.text)
		f.State = c.state
		if f.Message.Status = c.status; c.none {
			f.Message = nil
		}
		s.finish(t, f, true)
		if c.text != "" {
			want = append(want, question, c.text)
		}
	}
	s.start(t, in(turn("ann", "still running"), first.SessionID))
	s.wantHistory(t, "ann", first.SessionID, historyBytes, want...)
}

func historyBounded(t *testing.T, s suite) {
	first := s.answered(t, turn("ann", "aaaa"), "bbbbbb")               // 10
	s.answered(t, in(turn("ann", "cc"), first.SessionID), "ddd")        // 5
	s.answered(t, in(turn("ann", "eeeeeeeee"), first.SessionID), "fff") // 12
	s.answered(t, in(turn("ann", "g"), first.SessionID), "h")           // 2
	for _, c := range []struct {
		bytes int
		want  []string
	}{
		{0, nil}, {1, nil}, {2, []string{"g", "h"}}, {13, []string{"g", "h"}},
		{14, []string{"eeeeeeeee", "fff", "g", "h"}}, {18, []string{"eeeeeeeee", "fff", "g", "h"}},
		{19, []string{"cc", "ddd", "eeeeeeeee", "fff", "g", "h"}}, {28, []string{"cc", "ddd", "eeeeeeeee", "fff", "g", "h"}},
		{29, []string{"aaaa", "bbbbbb", "cc", "ddd", "eeeeeeeee", "fff", "g", "h"}},
	} {
		s.wantHistory(t, "ann", first.SessionID, c.bytes, c.want...)
	}
	// A turn that does not fit ends the history: no hole in a conversation.
	s.answered(t, in(turn("ann", strings.Repeat("i", 100)), first.SessionID), "j")
	s.answered(t, in(turn("ann", "k"), first.SessionID), "l")
	s.wantHistory(t, "ann", first.SessionID, 100, "k", "l")
}

// maxTurns is the most turns that a history has.
const maxTurns = 128

func historyTurns(t *testing.T, s suite) {
	first := turn("ann", "q")
	claims := []run.Claim{first}
	for i := 1; i < maxTurns+10; i++ {
		claims = append(claims, in(turn("ann", "q"), first.SessionID))
	}
	results, err := s.ClaimMany(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	var finishes []run.Finish
	for i, r := range results {
		if r.Outcome != run.Claimed {
			t.Fatalf("outcome %d", r.Outcome)
		}
		finishes = append(finishes, ending(r.Run, fmt.Sprint("a", i)))
	}
	if _, err := s.FinishMany(t.Context(), finishes); err != nil {
		t.Fatal(err)
	}
	c := in(turn("ann", "q"), first.SessionID)
	history := s.outcome(t, c, run.Claimed).History
	if len(history) != 2*maxTurns {
		t.Fatalf("%d messages, want %d turns", len(history), maxTurns)
	}
	for i := range maxTurns {
		if got, want := history[2*i+1].Content, fmt.Sprint("a", i+10); got != want || history[2*i].Role != "user" {
			t.Fatalf("turn %d: %s %q, want answer %q", i, history[2*i].Role, got, want)
		}
	}
}

func historyTakeOver(t *testing.T, s suite) {
	first := s.answered(t, turn("ann", "q1"), "a1")
	other := s.start(t, in(turn("ann", "q2"), first.SessionID))
	c := leased(in(turn("ann", "q3"), first.SessionID), lapsed)
	c.HistoryBytes = 5
	got := s.outcome(t, c, run.Claimed)
	s.finish(t, ending(other, "a2"), true)
	s.answered(t, in(turn("ann", "q4"), first.SessionID), "a4")

	h := hold(got.Run)
	for range 3 {
		r, history, ok, err := s.TakeOver(t.Context(), h, nodeB, lapsed)
		if err != nil || !ok {
			t.Fatalf("TakeOver: ok %v, %v", ok, err)
		}
		if len(history) != len(got.History) || len(history) != 2 {
			t.Fatalf("history %q, the first attempt's %q", texts(history), texts(got.History))
		}
		for i := range history {
			sameMessage(t, history[i], got.History[i])
		}
		h = hold(r)
	}
	// Its own answer is not part of it, and without a history there is none.
	bare := leased(in(turn("ann", "q5"), first.SessionID), lapsed)
	bare.HistoryBytes = 0
	if _, history := s.takeOver(t, hold(s.start(t, bare))); len(history) != 0 {
		t.Errorf("history %q, want none", texts(history))
	}
}

func historyApart(t *testing.T, s suite) {
	mine := s.answered(t, turn("ann", "q1"), "a1")
	s.answered(t, turn("ann", "q2"), "a2")
	s.answered(t, turn("bob", "q3"), "a3")
	s.wantHistory(t, "ann", mine.SessionID, historyBytes, "q1", "a1")
}

func historyBytesNotRunes(t *testing.T, s suite) {
	first := s.answered(t, turn("ann", "é"), "日本") // 2 + 6 bytes, 3 letters
	s.wantHistory(t, "ann", first.SessionID, 7)
	s.wantHistory(t, "ann", first.SessionID, 8, "é", "日本")
}
