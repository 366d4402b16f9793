package httpapi_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// TestJoinRunning: a second request with the key of a running one reads the same
// run from its first frame.
func TestJoinRunning(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		const ask = `{"content":"x [[mock: chunks=10 delay=1s]]"}`
		a := open(t, e, body2(ask, "Idempotency-Key: k", "X-Trace-Id: first"))
		for range 4 {
			a.until("event: chat.delta")
		}
		b := open(t, e, body2(ask, `Idempotency-Key: "k"`, "X-Trace-Id: second"))
		if b.res.Header.Get("Idempotent-Replayed") != "true" || b.res.Header.Get("X-Trace-Id") != "second" {
			t.Errorf("the joiner's headers are %v", b.res.Header)
		}
		if a.res.Header.Get("Idempotent-Replayed") != "" {
			t.Error("the first request is marked as replayed")
		}
		whole := map[string]any{}
		var wait sync.WaitGroup
		wait.Go(func() {
			whole = e.JSON(t, 200, body2(`{"stream":false,"content":"x [[mock: chunks=10 delay=1s]]"}`, "Idempotency-Key: k"))
		})
		sa, sb := a.rest(), b.rest()
		wait.Wait()
		if afterReady(sa.Raw) != afterReady(sb.Raw) {
			t.Errorf("two readers of one run:\n%s\n%s", sa.Raw, sb.Raw)
		}
		if sb.Ready.TraceID != "first" || sb.Ready.RequestID != sa.Ready.RequestID {
			t.Errorf("the joiner's ready is %+v", sb.Ready)
		}
		if whole["content"] != sa.Text || whole["request_id"] != sa.Ready.RequestID {
			t.Errorf("without a stream: %v", whole)
		}
		if rows := e.Rows(t); e.Calls() != 1 || rows["runs"] != 1 || rows["messages"] != 2 || rows["sessions"] != 1 {
			t.Errorf("%d calls, %v", e.Calls(), rows)
		}
	})
}

// TestStampede: many requests with one key at once are one run.
func TestStampede(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	var wait sync.WaitGroup
	streams := make([]*testedge.Stream, 50)
	for i := range streams {
		wait.Go(func() {
			res := e.Open(t.Context(), t, body2(`{"content":"once [[mock: ttfb=50ms]]"}`, "Idempotency-Key: k"))
			defer res.Body.Close()
			raw, err := io.ReadAll(res.Body)
			if err == nil {
				streams[i], err = testedge.Parse(raw)
			}
			if err != nil {
				t.Errorf("%s: %v: %s", res.Status, err, raw)
			}
		})
	}
	wait.Wait()
	for _, s := range streams {
		if s == nil || s.Text != "[mock] once" || s.Done == nil || s.Done.MessageID != streams[0].Done.MessageID {
			t.Fatalf("one of them got %+v", s)
		}
	}
	if rows := e.Rows(t); e.Calls() != 1 || rows["runs"] != 1 || rows["messages"] != 2 {
		t.Errorf("%d calls, %v", e.Calls(), rows)
	}
}

// TestReplay: a finished run is replayed in either form under its key.
func TestReplay(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	for name, first := range map[string]string{"streamed first": `{"content":"hi"}`, "plain first": `{"content":"hi","stream":false}`} {
		t.Run(name, func(t *testing.T) {
			calls := e.Calls()
			key := "Idempotency-Key: " + strings.ReplaceAll(name, " ", "-")
			if res, text := e.Do(t, body2(first, key)); res.StatusCode != 200 || strings.Contains(string(text), `"replayed":true`) {
				t.Fatalf("%s: %s", res.Status, text)
			}
			res, raw := e.Do(t, body2(`{"content":"hi"}`, key))
			s, err := testedge.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if res.Header.Get("Idempotent-Replayed") != "true" || !s.Done.Replayed || s.Text != "[mock] hi" {
				t.Errorf("replay: %v %s", res.Header, raw)
			}
			res, text := e.Do(t, body2(`{"stream":false,"content":"hi"}`, key))
			if res.Header.Get("Idempotent-Replayed") != "true" || !strings.Contains(string(text), s.Done.MessageID) ||
				!strings.Contains(string(text), `"replayed":true`) || res.Header.Get("X-Request-Id") != s.Ready.RequestID {
				t.Errorf("replay: %v %s", res.Header, text)
			}
			for _, other := range []string{`{"content":"ho"}`, `{"content":"hi","temperature":1}`, `{"content":"hi","model":"m"}`, `{"content":"hi","metadata":{}}`} {
				res, text := e.Do(t, body2(other, key))
				if res.StatusCode != 422 {
					t.Fatalf("%s under the key: %s", other, res.Status)
				}
				checkRefusal(t, res, text, api.IdempotencyReused)
			}
			if n := e.Calls() - calls; n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// TestRequestID: a caller's own request id is the run's, and its key.
func TestRequestID(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	u1, u2 := testedge.Token("authenticated", "u1"), testedge.Token("authenticated", "u2")
	const id = "0192f000-0000-7000-8000-0000000000cc"
	ask := as(u1, body(`{"content":"hi","request_id":"`+id+`"}`))
	s := e.Stream(t, ask)
	if s.Ready.RequestID != id || s.Ready.Resumed {
		t.Errorf("ready is %+v", s.Ready)
	}
	if again := e.Stream(t, ask); !again.Done.Replayed || again.Done.MessageID != s.Done.MessageID {
		t.Errorf("again: %+v", again.Done)
	}
	for _, c := range []struct {
		name string
		call testedge.Call
		code api.Code
	}{
		{"another request", as(u1, body(`{"content":"ho","request_id":"`+id+`"}`)), api.IdempotencyReused},
		{"another user", as(u2, ask), api.RequestIDInUse},
		{"under another key", as(u1, body(`{"content":"ho","request_id":"`+id+`","idempotency_key":"k"}`)), api.RequestIDInUse},
	} {
		res, text := e.Do(t, c.call)
		if res.StatusCode != 422 {
			t.Fatalf("%s: %s %s", c.name, res.Status, text)
		}
		checkRefusal(t, res, text, c.code)
		if strings.Contains(string(text), "hi") && strings.Contains(string(text), "mock") {
			t.Errorf("%s: the answer leaks: %s", c.name, text)
		}
	}
	if e.Calls() != 1 {
		t.Errorf("%d calls", e.Calls())
	}
}

// TestKeysBelongToPrincipals: another caller's key is a key like any other.
func TestKeysBelongToPrincipals(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	ids := map[string]bool{}
	for _, token := range []string{testedge.Token("authenticated", "u1"), testedge.Token("authenticated", "u2"), secretKey, publishableKey} {
		ids[e.Stream(t, as(token, hello("Idempotency-Key: shared"))).Ready.RequestID] = true
	}
	if len(ids) != 4 || e.Calls() != 4 {
		t.Errorf("%d runs, %d calls", len(ids), e.Calls())
	}
}

// TestRefusalsKeepTheKey: what was refused has not used its key.
func TestRefusalsKeepTheKey(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	token := testedge.Token("authenticated", "u1")
	key := "Idempotency-Key: kept"
	for _, c := range []testedge.Call{
		hello(key), as("bad", hello(key)), as(token, body2(`{`, key)), as(token, body2(`{"content":""}`, key)),
		as(token, typed("text/html")), as(token, body2(`{"content":"`+strings.Repeat("x", 32001)+`"}`, key)),
	} {
		if res, _ := e.Do(t, c); res.StatusCode < 400 {
			t.Fatalf("%+v was accepted", c)
		}
	}
	if s := e.Stream(t, as(token, hello(key))); s.Done == nil || s.Done.Replayed {
		t.Errorf("got %+v", s.Done)
	}
}

// TestKeyExpires: a key is forgotten a day after its run's finish.
func TestKeyExpires(t *testing.T) {
	inBubble(t, testedge.Config{Run: drowsy()}, func(t *testing.T, e *testedge.Edge) {
		first := open(t, e, hello("Idempotency-Key: k")).rest()
		pass(23 * time.Hour)
		if again := open(t, e, hello("Idempotency-Key: k")).rest(); again.Ready.RequestID != first.Ready.RequestID {
			t.Error("the key was forgotten within the day")
		}
		pass(time.Hour + 2*time.Minute)
		if again := open(t, e, hello("Idempotency-Key: k")).rest(); again.Ready.RequestID == first.Ready.RequestID {
			t.Error("the key is still there after a day")
		}
	})
}
