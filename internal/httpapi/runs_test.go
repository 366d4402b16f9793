package httpapi_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/mockprovider"
)

// TestCancel: the verb stops a run wherever it is read, once and for all.
func TestCancel(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		const ask = `{"content":"x [[mock: chunks=100 delay=1s]]","idempotency_key":"k"}`
		l := open(t, e, body(ask))
		id := requestID(t, l.until("event: ready"))
		other := readAside(t, e, body(ask))
		plain := make(chan map[string]any, 1)
		go func() { plain <- e.JSON(t, 409, body(strings.Replace(ask, "{", `{"stream":false,`, 1))) }()
		for range 3 {
			l.until("event: chat.delta")
		}
		stop := testedge.Call{Method: post, Path: "/chat/" + id + "/cancel"}
		began := time.Now()
		for range 3 {
			st := e.JSON(t, 200, stop)
			if st["state"] != "cancelled" || st["content"] != "[mock] x once " && st["content"] == nil {
				t.Errorf("cancelled: %v", st)
			}
		}
		if time.Since(began) > time.Second {
			t.Errorf("the cancel took %v", time.Since(began))
		}
		for _, s := range []*testedge.Stream{l.rest(), other()} {
			if s.Error == nil || s.Error.Code != api.Cancelled || s.ErrorID == "" || s.Error.Retryable {
				t.Errorf("a reader got %+v", s.Error)
			}
		}
		if p := <-plain; p["code"] != "cancelled" || p["request_id"] != id {
			t.Errorf("without a stream: %v", p)
		}
		if err := e.Mocks[0].Await(t.Context(), func(s mockprovider.Stats) bool { return s.Aborted == 1 && s.Open == 0 }); err != nil {
			t.Error(err)
		}
		if s := open(t, e, body(ask)).rest(); s.Error == nil || s.Error.Code != api.Cancelled || e.Calls() != 1 {
			t.Errorf("the key's run is not the cancelled one: %+v", s)
		}
		done := open(t, e, hello()).rest()
		if st := e.JSON(t, 200, testedge.Call{Method: post, Path: "/chat/" + done.Ready.RequestID + "/cancel"}); st["state"] != "completed" {
			t.Errorf("a run that was over became %v", st["state"])
		}
		if n := e.Query(t, "select count(*) from messages where role = 'assistant' and request_id = ?", id)[0]; n != "1" {
			t.Errorf("%s assistant rows", n)
		}
	})
}

// TestDisconnect: without a key the run ends when nobody has read it for the
// grace; with one it goes on.
func TestDisconnect(t *testing.T) {
	for _, c := range []struct{ name, key, state string }{
		{"with a key", "k", "completed"}, {"without", "", "cancelled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
				ask := body(`{"content":"x [[mock: chunks=30 delay=1s]]"}`)
				if c.key != "" {
					ask.Header = append(ask.Header, "Idempotency-Key: "+c.key)
				}
				l := open(t, e, ask)
				id := requestID(t, l.until("event: ready"))
				l.until("event: chat.delta")
				l.leave()
				pass(9 * time.Second)
				if st := e.JSON(t, 200, testedge.Call{Path: "/chat/" + id}); st["state"] != "running" || st["content"] != nil {
					t.Errorf("within the grace: %v", st)
				}
				pass(30 * time.Second)
				st := e.JSON(t, 200, testedge.Call{Path: "/chat/" + id})
				if st["state"] != c.state || st["finished_at"] == nil || !strings.HasPrefix(st["content"].(string), "[mock] x") {
					t.Errorf("after it: %v", st)
				}
				if usage := st["usage"].(map[string]any); (usage["source"] == "measured") != (c.key != "") {
					t.Errorf("usage %v", usage)
				}
			})
		})
	}
}

// TestRecovery: an answer that breaks off is begun anew under a key, in the same
// response; without one it ends.
func TestRecovery(t *testing.T) {
	for _, fault := range []string{"fin@3", "error-frame@3", "badjson@3", "end@3", "stall@3"} {
		t.Run(fault, func(t *testing.T) {
			inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
				ask := func(name, key string) testedge.Call {
					return body(`{"content":"a b c d [[mock: flush=each fault=` + fault + ` flaky=1 key=` + name + `]]","idempotency_key":` + key + `}`)
				}
				s := open(t, e, ask("keyed", `"k"`)).rest()
				if s.Done == nil || s.Text != "[mock] a b c d" || s.Done.Attempts != 2 || e.Calls() != 2 {
					t.Fatalf("with a key: %s", s.Raw)
				}
				reset := 0
				for i, d := range s.Deltas {
					if d.Reset {
						reset++
						if i != 3 || d.Attempt != 2 || d.Seq != 1 {
							t.Errorf("delta %d resets: %+v", i, d)
						}
					}
				}
				if reset != 1 {
					t.Errorf("%d resets", reset)
				}
				s = open(t, e, ask("keyless", "null")).rest()
				if s.Error == nil || s.ErrorID == "" || !s.Error.Retryable || s.Text == "" {
					t.Errorf("without a key: %s", s.Raw)
				}
			})
		})
	}
}

// TestRestartWithoutText: the reset reaches the reader even if the new answer
// says nothing.
func TestRestartWithoutText(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		e.Mocks[0].Script(func(r *mockprovider.Request) mockprovider.Script {
			if r.Call == 1 {
				return mockprovider.Script{Flush: true, Text: "to be dropped", Faults: []mockprovider.Fault{{Kind: "end", At: 2}}}
			}
			return mockprovider.Script{Verbatim: true}
		})
		s := open(t, e, hello("Idempotency-Key: k")).rest()
		if s.Done == nil || s.Text != "" || s.Done.Content == nil || *s.Done.Content != "" {
			t.Errorf("got %s", s.Raw)
		}
	})
}

// TestAttemptsAreBounded: a provider that always breaks off ends the run, and
// frees its key.
func TestAttemptsAreBounded(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		const ask = `{"content":"a b c [[mock: flush=each fault=end@2]]","idempotency_key":"k"}`
		first := open(t, e, body(ask)).rest()
		if first.Error == nil || first.Error.Code != api.UpstreamTruncated || first.ErrorID == "" || e.Calls() != 3 {
			t.Fatalf("%d calls: %s", e.Calls(), first.Raw)
		}
		if again := open(t, e, body(ask)).rest(); again.Ready.RequestID == first.Ready.RequestID || e.Calls() != 6 {
			t.Errorf("the key was not freed: %d calls", e.Calls())
		}
	})
}

// TestFallback: a provider that fails before it has said anything is replaced by
// the next, unseen.
func TestFallback(t *testing.T) {
	inBubble(t, testedge.Config{Providers: []string{"first", "second"}}, func(t *testing.T, e *testedge.Edge) {
		e.Mocks[0].Script(func(*mockprovider.Request) mockprovider.Script { return mockprovider.Script{Status: 503} })
		s := open(t, e, hello()).rest()
		if s.Done == nil || s.Done.Provider != "second" || s.Done.Attempts != 1 || s.Text != "[mock] hi" {
			t.Fatalf("got %s", s.Raw)
		}
		if e.Mocks[0].Stats().Calls != 1 || e.Mocks[1].Stats().Calls != 1 {
			t.Errorf("%+v %+v", e.Mocks[0].Stats(), e.Mocks[1].Stats())
		}
		events := e.Query(t, "select type from bus_events where request_id = ? order by created_at, event_id", s.Ready.RequestID)
		if strings.Join(events, " ") != "chat_started provider_retry chat_done" {
			t.Errorf("events: %v", events)
		}
	})
}

// TestDrain: from the word on new requests are refused and live streams go on;
// what is not over in time is given up in a way that its reader understands.
func TestDrain(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		short := readAside(t, e, body(`{"content":"a b c d [[mock: delay=2s]]"}`))
		keyed := readAside(t, e, body(`{"content":"x [[mock: chunks=100 delay=1s]]","idempotency_key":"k"}`))
		keyless := readAside(t, e, body(`{"content":"y [[mock: chunks=100 delay=1s]]"}`))
		pass(3500 * time.Millisecond)
		e.Server.Refuse()
		for _, c := range []testedge.Call{
			hello(), {Path: "/chat/0192f000-0000-7000-8000-0000000000aa"}, {Path: "/readyz"}, {Path: "/functions/v1/chat/healthz"},
		} {
			res, text := e.Do(t, c)
			if res.StatusCode != 503 || !res.Close {
				t.Fatalf("%s: %s, close %v", c.Path, res.Status, res.Close)
			}
			checkRefusal(t, res, text, api.ServerDraining)
			checkHeaders(t, res.Header, []string{"Retry-After: 1"})
		}
		if res, _ := e.Do(t, testedge.Call{Path: "/livez"}); res.StatusCode != 200 {
			t.Errorf("livez: %s", res.Status)
		}
		if res, _ := e.Do(t, testedge.Call{Method: "OPTIONS"}); res.StatusCode != 204 {
			t.Errorf("preflight: %s", res.Status)
		}
		ctx, done := context.WithTimeout(t.Context(), 20*time.Second)
		defer done()
		e.Engine.Drain(ctx, time.Second)
		if s := short(); s.Done == nil || s.Text != "[mock] a b c d" {
			t.Errorf("the short one: %+v", s.Error)
		}
		if s := keyed(); s.Error == nil || s.Error.Code != api.ServerDraining || s.ErrorID != "" || !s.Error.Retryable || !strings.Contains(string(s.Raw), "\n\nretry: ") {
			t.Errorf("the keyed one: %s", s.Raw)
		}
		if s := keyless(); s.Error == nil || s.Error.Code != api.Interrupted || s.ErrorID == "" || !s.Error.Retryable {
			t.Errorf("the key-less one: %+v", s.Error)
		}
	})
}

// TestStoreAway: a store that does not answer is 503 before anything is promised.
func TestStoreAway(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	s := e.Stream(t, hello("Idempotency-Key: k"))
	if err := e.Store.Close(); err != nil {
		t.Fatal(err)
	}
	path := "/chat/" + s.Ready.RequestID
	for _, c := range []testedge.Call{
		hello(), hello("Idempotency-Key: k"), hello("Last-Event-ID: " + s.Events[1].ID), {Path: path}, {Path: path + "?stream=true"},
		{Method: post, Path: path + "/cancel"}, {Path: "/readyz"}, {Path: "/chat/healthz"},
	} {
		res, text := e.Do(t, c)
		if res.StatusCode != 503 {
			t.Fatalf("%+v: %s %s", c, res.Status, text)
		}
		checkRefusal(t, res, text, api.StorageUnavailable)
		checkHeaders(t, res.Header, []string{"Retry-After: 1"})
		if strings.Contains(string(text), "sqlite") || strings.Contains(string(text), "closed") {
			t.Errorf("the cause leaks: %s", text)
		}
	}
	if e.Calls() != 1 {
		t.Errorf("%d calls", e.Calls())
	}
}

// TestCrash: what a crash leaves is taken up by the next process: a keyed run
// again from its start, a key-less one as interrupted.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testedge.Config{Pipes: true, Dir: t.TempDir(), HTTP: testedge.Dev()}
		one := testedge.Start(t, cfg)
		keyed := open(t, one, body(`{"content":"a b c [[mock: delay=1s]]","idempotency_key":"k"}`))
		keyless := open(t, one, body(`{"content":"d e f [[mock: delay=1s]]"}`))
		kept, lost := requestID(t, keyed.until("event: ready")), requestID(t, keyless.until("event: ready"))
		first := idOf(keyed.until("event: chat.delta"))
		keyless.until("event: chat.delta")
		pass(500 * time.Millisecond) // until the frames are stored
		keyed.leave()
		keyless.leave()
		one.Stop()

		cfg.Run.Node = "next"
		two := testedge.Start(t, cfg)
		s := open(t, two, testedge.Call{Path: "/chat/" + kept + "?stream=true&after=" + first}).rest()
		if s.Done == nil || s.Done.Attempts != 2 || s.Text != "[mock] a b c" || !s.Deltas[0].Reset && !s.Deltas[1].Reset {
			t.Errorf("the keyed run: %s", s.Raw)
		}
		s = open(t, two, testedge.Call{Path: "/chat/" + lost + "?stream=true"}).rest()
		if s.Error == nil || s.Error.Code != api.Interrupted || s.ErrorID != lost+"-2-1" || s.Text != "[mock] " {
			t.Errorf("the key-less run: %s", s.Raw)
		}
		if st := two.JSON(t, 200, testedge.Call{Path: "/chat/" + lost}); st["state"] != "interrupted" || st["content"] != "[mock] " {
			t.Errorf("its state: %v", st)
		}
	})
}
