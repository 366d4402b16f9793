package storetest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

func claimTests() []test {
	return []test{
		{"a new run", claimNew},
		{"without a session or rows", claimBare},
		{"joins a running run", joinRunning},
		{"joins a finished run", joinFinished},
		{"refuses another request", conflict},
		{"has one winner among many", claimRace},
		{"accepts a freed key again", freedKey},
		{"keeps a key after other failures", keptKey},
		{"keeps keys apart", keyScope},
		{"refuses an id in use", idTaken},
		{"needs no key", keyless},
		{"keeps every character", claimText},
		{"leaves nothing when it fails", claimFails},
	}
}

func claimNew(t *testing.T, s suite) {
	c := keyed("ann", "hello", "k1")
	got := s.outcome(t, c, run.Claimed)
	want := c.Record
	want.State, want.Attempt, want.Tries, want.Keyed = run.Running, 1, 1, true
	sameRecord(t, got.Run, want)
	if len(got.History) != 0 {
		t.Errorf("history of a new session: %q", texts(got.History))
	}
	r := s.load(t, c.ID)
	sameRecord(t, r, want)
	if r.CreatedAt.IsZero() || !r.CreatedAt.Equal(got.Run.CreatedAt) || !r.FinishedAt.IsZero() {
		t.Errorf("created %v, by the claim %v, finished %v", r.CreatedAt, got.Run.CreatedAt, r.FinishedAt)
	}
	if _, err := s.Answer(t.Context(), c.ID); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("Answer of a running run: %v, want ErrNotFound", err)
	}
	if s.o.Events != nil {
		if types := s.o.Events(t, s.Store, c.ID); len(types) != 1 || types[0] != "chat_started" {
			t.Errorf("events %q, want chat_started", types)
		}
	}
}

// claimBare: a job need not be part of a conversation.
func claimBare(t *testing.T, s suite) {
	c := keyed("ann", "", "job-1")
	c.Kind, c.Endpoint, c.NewSession = "embed", "embed", false
	c.SessionID, c.Event.SessionID = uuid.Nil, uuid.Nil
	c.Message.ID, c.Message.SessionID = uuid.Nil, uuid.Nil
	r := s.start(t, c)
	if r.SessionID != uuid.Nil || r.Kind != "embed" {
		t.Errorf("session %s, kind %q", r.SessionID, r.Kind)
	}
	f := ending(r, "")
	f.Message, f.Result = nil, json.RawMessage(`{"counts":{"total":0}}`)
	s.finish(t, f, true)
	if r = s.load(t, c.ID); r.State != run.Completed || r.SessionID != uuid.Nil {
		t.Errorf("state %s, session %s", r.State, r.SessionID)
	}
}

func joinRunning(t *testing.T, s suite) {
	first := s.start(t, keyed("ann", "hello", "k1"))
	second := keyed("ann", "hello", "k1")
	got := s.outcome(t, second, run.Joined)
	sameRecord(t, got.Run, first)
	s.absent(t, second.ID)
	// The joiner's own session was not made: its id is still free for others.
	s.start(t, in(turn("bob", "mine"), second.SessionID))
}

func joinFinished(t *testing.T, s suite) {
	first := s.answered(t, keyed("ann", "hello", "k1"), "hi there")
	got := s.outcome(t, keyed("ann", "hello", "k1"), run.Joined)
	sameRecord(t, got.Run, s.load(t, first.ID))
	if got.Run.State != run.Completed || got.Run.LastSeq != 2 || got.Run.FinishedAt.IsZero() || len(got.Run.Result) == 0 {
		t.Errorf("joined %+v, want the finished run whole", got.Run)
	}
	answer, err := s.Answer(t.Context(), first.ID)
	if err != nil || answer.Content != "hi there" {
		t.Errorf("Answer: %q, %v", answer.Content, err)
	}
}

func conflict(t *testing.T, s suite) {
	first := s.start(t, keyed("ann", "hello", "k1"))
	second := keyed("ann", "something else", "k1")
	s.outcome(t, second, run.Conflict)
	s.absent(t, second.ID)
	s.finish(t, ending(first, "hi"), true)
	s.outcome(t, second, run.Conflict)
	s.absent(t, second.ID)
}

func claimRace(t *testing.T, s suite) {
	const n = 64
	nodes := s.nodes(t, 3)
	results := make([]run.ClaimResult, n)
	errs := make([]error, n)
	together(n, func(i int) {
		got, err := nodes[i%3].ClaimMany(t.Context(), []run.Claim{keyed("ann", "hello", "k1"), turn("bob", "beside")})
		if errs[i] = err; err == nil {
			results[i] = got[0]
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	claimed := 0
	for _, r := range results {
		if r.Outcome == run.Claimed {
			claimed++
		} else if r.Outcome != run.Joined {
			t.Errorf("outcome %d", r.Outcome)
		}
		if r.Run.ID != results[0].Run.ID {
			t.Errorf("run %s and run %s for one key", r.Run.ID, results[0].Run.ID)
		}
	}
	if claimed != 1 {
		t.Errorf("%d claims accepted for one key, want 1", claimed)
	}
}

func freedKey(t *testing.T, s suite) {
	first := s.start(t, keyed("ann", "hello", "k1"))
	f := ending(first, "")
	f.State, f.Message, f.FreeKey = run.Failed, nil, true
	f.Error = json.RawMessage(`{"code":"provider_unavailable","retryable":true}`)
	s.finish(t, f, true)
	if r := s.load(t, first.ID); r.Key != "" || !r.Keyed {
		t.Errorf("key %q, keyed %v; want a free key of a keyed run", r.Key, r.Keyed)
	}
	// Free means free for any request.
	second := s.start(t, keyed("ann", "something else", "k1"))
	s.outcome(t, keyed("ann", "hello", "k1"), run.Conflict)
	if got := s.outcome(t, keyed("ann", "something else", "k1"), run.Joined); got.Run.ID != second.ID {
		t.Errorf("joined %s, want %s", got.Run.ID, second.ID)
	}
}

func keptKey(t *testing.T, s suite) {
	first := s.start(t, keyed("ann", "hello", "k1"))
	f := ending(first, "")
	f.State, f.Message, f.Error = run.Failed, nil, json.RawMessage(`{"code":"provider_error"}`)
	s.finish(t, f, true)
	got := s.outcome(t, keyed("ann", "hello", "k1"), run.Joined)
	if got.Run.ID != first.ID || got.Run.State != run.Failed {
		t.Errorf("joined %s in state %s", got.Run.ID, got.Run.State)
	}
	sameJSON(t, "error", got.Run.Error, f.Error)
}

func keyScope(t *testing.T, s suite) {
	s.start(t, keyed("ann", "hello", "k1"))
	s.start(t, keyed("bob", "hello", "k1"))
	s.start(t, keyed("ann", "hello", "K1"))
	s.start(t, keyed("ann", "hello", "k1 "))
	elsewhere := keyed("ann", "hello", "k1")
	elsewhere.Endpoint = "embed"
	s.start(t, elsewhere)
	// Keys and principals are not glued together anywhere.
	glued := keyed("ann", "hello", "bk")
	glued.Principal = "a"
	s.start(t, glued)
	glued = keyed("ann", "hello", "k")
	glued.Principal = "ab"
	s.start(t, glued)
	long := keyed("ann", "hello", strings.Repeat("k", 255))
	s.start(t, long)
	again := keyed("ann", "hello", long.Key)
	s.outcome(t, again, run.Joined)
}

func idTaken(t *testing.T, s suite) {
	first := s.answered(t, keyed("ann", "hello", "k1"), "hi")
	for name, c := range map[string]run.Claim{
		"keyless":        turn("ann", "hello"),
		"another key":    keyed("ann", "hello", "k2"),
		"another caller": keyed("bob", "hello", "k1"),
	} {
		c.ID, c.Message.RunID, c.Event.RunID = first.ID, first.ID, first.ID
		if got := s.claim(t, c); got.Outcome != run.IDTaken {
			t.Errorf("%s: outcome %d, want IDTaken", name, got.Outcome)
		}
		// It left no session behind: a stranger may have that id.
		if got := s.claim(t, in(turn("zoe", "x"), c.SessionID)); got.Outcome != run.Claimed {
			t.Errorf("%s: its session was made", name)
		}
	}
	sameRecord(t, s.load(t, first.ID), s.outcome(t, keyed("ann", "hello", "k1"), run.Joined).Run)
	// With the run's own key the id is no obstacle.
	c := keyed("ann", "hello", "k1")
	c.ID, c.Message.RunID, c.Event.RunID = first.ID, first.ID, first.ID
	s.outcome(t, c, run.Joined)
}

func keyless(t *testing.T, s suite) {
	for range 3 {
		if r := s.start(t, turn("ann", "hello")); r.Keyed || r.Key != "" {
			t.Errorf("keyed %v, key %q", r.Keyed, r.Key)
		}
	}
}

// everyPlane has a letter of each plane of Unicode, what editors like to lose,
// and what encoders like to change.
func everyPlane() string {
	var b strings.Builder
	for plane := rune(0); plane <= 16; plane++ {
		b.WriteRune(plane<<16 | 0x1234)
	}
	b.WriteString("\t\r\n\x01\x7f\u0085\u2028\u2029\ufeff\ufffd\u00e9 e\u0301 \\u0041 'quoted' \"quoted\" $1 ?1 --x <&>  ")
	return b.String()
}

func claimText(t *testing.T, s suite) {
	big := everyPlane() + strings.Repeat("0123456789abcdéf", 1<<16)
	for _, text := range []string{everyPlane(), big} {
		c := turn("ann", text)
		c.HistoryBytes = 8 << 20
		quoted, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		c.Request, c.Message.Parts = quoted, json.RawMessage(`[{"type":"text","text":"é"}]`)
		r := s.start(t, c)
		sameJSON(t, "request", s.load(t, r.ID).Request, quoted)
		f := ending(r, text)
		f.Message.ToolCalls = json.RawMessage(`[{"id":"call_1","function":{"name":"f","arguments":"{}"}}]`)
		f.Result, f.Error = quoted, quoted
		s.finish(t, f, true)
		got := s.load(t, r.ID)
		sameJSON(t, "result", got.Result, quoted)
		sameJSON(t, "error", got.Error, quoted)
		next := in(turn("ann", "next"), c.SessionID)
		next.HistoryBytes = 8 << 20
		history := s.outcome(t, next, run.Claimed).History
		if len(history) != 2 {
			t.Fatalf("history of %d messages, want 2", len(history))
		}
		sameMessage(t, history[0], c.Message)
		sameMessage(t, history[1], *f.Message)
		answer, err := s.Answer(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		sameMessage(t, answer, *f.Message)
	}
}

// claimFails: a row that cannot be stored fails its batch whole, and the
// other claims can be made without it.
func claimFails(t *testing.T, s suite) {
	first := turn("ann", "hello")
	s.start(t, first)
	good, bad := keyed("ann", "good", "k1"), keyed("ann", "bad", "k2")
	bad.Message.ID = first.Message.ID
	if got, err := s.ClaimMany(t.Context(), []run.Claim{good, bad}); err == nil {
		t.Fatalf("two messages with one id: %+v", got)
	}
	s.absent(t, good.ID)
	s.absent(t, bad.ID)
	s.start(t, good)
	bad.Message.ID = newID()
	s.start(t, bad)
}
