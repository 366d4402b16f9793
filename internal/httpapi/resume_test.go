package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// waysBack are the three ways to ask for what follows an id.
func waysBack(ask string, s *testedge.Stream, id string) map[string]testedge.Call {
	path := "/functions/v1/chat/" + s.Ready.RequestID
	return map[string]testedge.Call{
		"GET with Last-Event-ID":  {Path: path, Header: []string{"Accept: text/event-stream", "Last-Event-ID: " + id}},
		"GET with after":          {Path: path + "?stream=true&after=" + id},
		"POST with Last-Event-ID": body2(ask, "Last-Event-ID: "+id),
	}
}

func body2(text string, header ...string) testedge.Call {
	c := body(text)
	c.Header = append(c.Header, header...)
	return c
}

// TestResumeFinished: after every id of a run that is over follow exactly the
// bytes that followed it before.
func TestResumeFinished(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	const ask = `{"content":"one two three four"}`
	s := e.Stream(t, body(ask))
	for _, ev := range s.Events {
		if ev.ID == "" || ev.Name != api.FrameDelta {
			continue
		}
		want := asReplay(after(t, s.Raw, ev.ID))
		for name, c := range waysBack(ask, s, ev.ID) {
			res, raw := e.Do(t, c)
			got, err := testedge.Parse(raw)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, raw)
			}
			if afterReady(raw) != want {
				t.Errorf("%s after %s:\n%s\nwant\n%s", name, ev.ID, afterReady(raw), want)
			}
			if !got.Ready.Resumed || got.Ready.RequestID != s.Ready.RequestID || got.Ready.TraceID != s.Ready.TraceID {
				t.Errorf("%s: ready is %+v", name, got.Ready)
			}
			if replayed := res.Header.Get("Idempotent-Replayed") == "true"; replayed != (c.Body != "") {
				t.Errorf("%s: Idempotent-Replayed %v", name, replayed)
			}
		}
	}
	if e.Calls() != 1 {
		t.Errorf("%d calls", e.Calls())
	}
}

// TestResumeEdges: ids at the end, ahead of it, of other runs and of none.
func TestResumeEdges(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	const ask = `{"content":"one two"}`
	s, other := e.Stream(t, body(ask)), e.Stream(t, body(`{"content":"else"}`))
	id := s.Ready.RequestID
	done := "id: " + s.LastID + "\nevent: chat.done\n"
	for _, c := range []struct {
		name, last string
		status     int
		code       api.Code
		says       string
	}{
		{"the terminal id", s.LastID, 204, "", ""},
		{"ahead of the log", id + "-1-900", 200, "", done},
		{"an attempt that never was", id + "-7-1", 400, api.InvalidEventID, ""},
		{"no id at all", "nonsense", 400, api.InvalidEventID, ""},
		{"an id in capitals", strings.ToUpper(id) + "-1-900", 200, "", done},
		{"leading zeros", id + "-01-1", 400, api.InvalidEventID, ""},
		{"a sign", id + "-1-+1", 400, api.InvalidEventID, ""},
		{"a seq beyond all numbers", id + "-1-99999999999999999999", 400, api.InvalidEventID, ""},
		{"another run's", other.LastID, 400, api.InvalidEventID, ""},
	} {
		for name, call := range waysBack(ask, s, c.last) {
			t.Run(c.name+", "+name, func(t *testing.T) {
				status, code := c.status, c.code
				if c.name == "another run's" && call.Body != "" { // the POST names no run of its own
					status, code = 422, api.IdempotencyReused
				}
				res, text := e.Do(t, call)
				if res.StatusCode != status || !strings.Contains(string(text), c.says) {
					t.Fatalf("%s: %s", res.Status, text)
				}
				switch {
				case status >= 400:
					checkRefusal(t, res, text, code)
				case status == 204 && (len(text) > 0 || res.Header.Get("Content-Type") != ""):
					t.Errorf("204 with a body: %q", text)
				case status == 200 && strings.Contains(string(text), "chat.delta"):
					t.Errorf("text after an id ahead of it: %s", text)
				}
			})
		}
	}
}

// TestRepost: who sends a request again with Last-Event-ID gets its own run or none.
func TestRepost(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	u1, u2 := testedge.Token("authenticated", "u1"), testedge.Token("authenticated", "u2")
	const ask = `{"content":"mine"}`
	s := e.Stream(t, as(u1, body(ask)))
	first := "Last-Event-ID: " + s.Events[1].ID
	for _, c := range []struct {
		name, token, ask string
		status           int
		code             api.Code
	}{
		{"the same", u1, ask, 200, ""},
		{"in another order and form", u1, ` { "stream" : true , "content" : "m\u0069ne" } `, 200, ""},
		{"as JSON", u1, `{"content":"mine","stream":false}`, 200, ""},
		{"with a key now", u1, `{"content":"mine","idempotency_key":"k"}`, 200, ""},
		{"another content", u1, `{"content":"Mine"}`, 422, api.IdempotencyReused},
		{"another model", u1, `{"content":"mine","model":"m2"}`, 422, api.IdempotencyReused},
		{"another user", u2, ask, 404, api.StreamNotFound},
		{"the service reads all", secretKey, ask, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, text := e.Do(t, as(c.token, body2(c.ask, first)))
			if res.StatusCode != c.status {
				t.Fatalf("%s: %s", res.Status, text)
			}
			if c.status != 200 {
				checkRefusal(t, res, text, c.code)
			} else if strings.Contains(c.ask, "stream\":false") {
				if !strings.Contains(string(text), `"content":"[mock] mine"`) || res.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("got %v %s", res.Header, text)
				}
			} else if want := asReplay(after(t, s.Raw, s.Events[1].ID)); afterReady(text) != want {
				t.Errorf("got %s", text)
			}
		})
	}
	if e.Calls() != 1 || e.Rows(t)["runs"] != 1 {
		t.Errorf("%d calls, %v", e.Calls(), e.Rows(t))
	}
}

// TestResumeRunning: a stream that is cut again and again, each time continued
// where it was, is the stream that nobody has cut.
func TestResumeRunning(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		const ask = `{"content":"x [[mock: chunks=40 delay=1s]]","idempotency_key":"k"}`
		whole := readAside(t, e, body(ask))
		l := open(t, e, body(ask))
		ready := l.until("event: ready")
		var mine strings.Builder
		for cuts := 0; ; cuts++ {
			f, last := "", ""
			for n := 0; n < 3+cuts%4; n++ {
				if f = l.frame(); f == "" {
					break
				}
				mine.WriteString(f)
				last = idOf(f)
			}
			l.leave()
			if strings.Contains(f, "event: chat.done") || f == "" {
				break
			}
			s := &testedge.Stream{}
			s.Ready.RequestID = requestID(t, ready)
			ways := []string{"GET with Last-Event-ID", "GET with after", "POST with Last-Event-ID"}
			l = open(t, e, waysBack(ask, s, last)[ways[cuts%3]])
			l.until(`"resumed":true`)
		}
		if want := whole(); mine.String() != afterReady(want.Raw) {
			t.Errorf("cut and continued:\n%s\nwhole:\n%s", mine.String(), want.Raw)
		}
		if e.Calls() != 1 {
			t.Errorf("%d calls", e.Calls())
		}
	})
}

func requestID(t *testing.T, ready string) string {
	t.Helper()
	_, rest, ok := strings.Cut(ready, `"request_id":"`)
	if !ok || len(rest) < 36 {
		t.Fatalf("no request id in %s", ready)
	}
	return rest[:36]
}

// TestWaitAhead: an id ahead of a live run's log waits for what follows it.
func TestWaitAhead(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		l := open(t, e, body(`{"content":"x [[mock: chunks=10 delay=1s]]","idempotency_key":"k"}`))
		id := requestID(t, l.until("event: ready"))
		l.until("event: chat.delta")
		ahead := open(t, e, testedge.Call{Path: "/chat/" + id + "?stream=true&after=" + id + "-1-8"})
		began := time.Now()
		ahead.until("event: ready")
		f := ahead.until("event: chat.delta")
		if idOf(f) != id+"-1-9" || time.Since(began) < 7*time.Second {
			t.Errorf("after %v came %s", time.Since(began), f)
		}
		ahead.rest()
		l.rest()
	})
}

// TestExpiredLog: once the log is gone the answer is still there, as deltas
// numbered anew, and ids into the old log are gone with it.
func TestExpiredLog(t *testing.T) {
	config := drowsy()
	config.Retention = time.Hour
	for _, c := range []struct{ name, text string }{
		{"short", "an answer"}, {"empty", ""}, {"long", strings.Repeat("漢字🙂\n", 9000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, testedge.Config{Run: config}, func(t *testing.T, e *testedge.Edge) {
				e.Mocks[0].Script(scripted(c.text, 0))
				const ask = `{"content":"go","idempotency_key":"k"}`
				s := open(t, e, body(ask)).rest()
				path := "/chat/" + s.Ready.RequestID
				before := e.JSON(t, 200, testedge.Call{Path: path})
				pass(2 * time.Hour)
				for name, call := range map[string]testedge.Call{"GET": {Path: path + "?stream=true"}, "POST": body(ask)} {
					again := open(t, e, call).rest()
					switch {
					case again.Text != c.text || again.Done == nil:
						t.Errorf("%s: %d bytes, %+v", name, len(again.Text), again.Error)
					case len(again.Deltas) > 0 && (!again.Deltas[0].Reset || again.Deltas[0].Seq != 1):
						t.Errorf("%s: the first delta is %d, reset %v", name, again.Deltas[0].Seq, again.Deltas[0].Reset)
					case !again.Done.Replayed || again.Done.MessageID != s.Done.MessageID || again.Done.ContentSHA256 != s.Done.ContentSHA256 || again.Done.Usage != s.Done.Usage:
						t.Errorf("%s: done is %+v, was %+v", name, again.Done, s.Done)
					}
				}
				for name, call := range waysBack(ask, s, s.Ready.RequestID+"-1-1") {
					if c.text == "" {
						break
					}
					res, text := e.Do(t, call)
					if res.StatusCode != http.StatusGone {
						t.Fatalf("%s into the old log: %s %s", name, res.Status, text)
					}
					checkRefusal(t, res, text, api.StreamExpired)
				}
				if res, _ := e.Do(t, testedge.Call{Path: path + "?stream=true&after=" + s.LastID}); res.StatusCode != 204 {
					t.Errorf("after the terminal id: %s", res.Status)
				}
				if now := e.JSON(t, 200, testedge.Call{Path: path}); now["content"] != before["content"] || now["state"] != "completed" {
					t.Errorf("the state is %v, was %v", now, before)
				}
				if whole := e.JSON(t, 200, body(`{"content":"go","idempotency_key":"k","stream":false}`)); whole["content"] != c.text {
					t.Errorf("without a stream: %v", whole)
				}
				if e.Calls() != 1 {
					t.Errorf("%d calls", e.Calls())
				}
			})
		})
	}
}
