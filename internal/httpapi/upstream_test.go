package httpapi_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// TestProviderFailures: whatever a provider does ends in one typed failure, as a
// frame for a stream and as a status without one.
func TestProviderFailures(t *testing.T) {
	wide := "x [[mock: flush=each chunks=6 "
	inBubble(t, testedge.Config{Timeout: 20 * time.Second}, func(t *testing.T, e *testedge.Edge) {
		elsewhere := 0
		for _, c := range []struct {
			name, script string
			code         api.Code
			status       int // without a stream; 0: the fault is one of streams only
			upstream     int
			retry        bool
			after        int64
		}{
			{"401", "status=401", api.UpstreamAuth, 502, 401, false, 0},
			{"403", "status=403", api.UpstreamAuth, 502, 403, false, 0},
			{"404", "status=404", api.UpstreamModelNotFound, 502, 404, false, 0},
			{"400", "status=400", api.UpstreamRejected, 502, 400, false, 0},
			{"422", "status=422", api.UpstreamRejected, 502, 422, false, 0},
			{"429 for an hour", "status=429 retry-after=3600", api.UpstreamRateLimited, 502, 429, true, 3_600_000},
			{"408", "status=408", api.UpstreamUnavailable, 502, 408, true, 0},
			{"500", "status=500", api.UpstreamUnavailable, 502, 500, true, 0},
			{"502 in HTML", "status=502 type=text/html body-size=10KB", api.UpstreamUnavailable, 502, 502, true, 0},
			{"503", "status=503", api.UpstreamUnavailable, 502, 503, true, 0},
			{"529 of 10 MB", "status=529 body-size=10MB", api.UpstreamUnavailable, 502, 529, true, 0},
			{"204", "status=204", api.UpstreamBadResponse, 502, 204, true, 0},
			{"a redirect", "status=307 to=http://evil.test/v1/chat/completions", api.UpstreamRedirect, 502, 307, false, 0},
			{"a web page", "fault=html", api.UpstreamBadResponse, 502, 200, true, 0},
			{"an empty answer", "fault=empty", api.UpstreamBadResponse, 502, -1, true, 0},
			{"an error under 200", "fault=error-body", api.UpstreamUnavailable, 502, -1, true, 0},
			{"a gzip bomb", "fault=gzip-bomb size=10MB", api.UpstreamBadResponse, 502, -1, true, 0},
			{"closed before the answer", "fault=fin", api.UpstreamUnavailable, 502, 0, true, 0},
			{"silence before the answer", "fault=stall", api.UpstreamTimeout, 504, 0, true, 0},
			{"silence within the answer", "fault=stall@3", api.UpstreamTimeout, 504, -1, true, 0},
			{"closed within the answer", "fault=fin@3", api.UpstreamTruncated, 502, -1, true, 0},
			{"a broken chunk", "fault=badchunk@3", api.UpstreamBadResponse, 0, -1, true, 0},
			{"an end without an end", "fault=end@3", api.UpstreamTruncated, 0, -1, true, 0},
			{"an error frame within the answer", "fault=error-frame@3", api.UpstreamUnavailable, 0, -1, true, 0},
			{"bad JSON within the answer", "fault=badjson@3", api.UpstreamBadResponse, 0, -1, true, 0},
			{"a giant line", "fault=giant@3", api.UpstreamBadResponse, 0, -1, true, 0},
		} {
			pass(11 * time.Second) // the breaker's window
			content, err := json.Marshal(wide + c.script + "]]")
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, e, body(`{"content":`+string(content)+`}`)).rest()
			f := s.Error
			switch {
			case f == nil:
				t.Errorf("%s: no error: %s", c.name, s.Raw)
				continue
			case f.Code != c.code || f.Retryable != c.retry || f.RetryAfterMS != c.after || s.ErrorID == "" || f.RequestID != s.Ready.RequestID:
				t.Errorf("%s: %+v", c.name, f)
			case c.upstream >= 0 && f.UpstreamStatus != c.upstream:
				t.Errorf("%s: upstream status %d", c.name, f.UpstreamStatus)
			}
			mute(t, c.name, s.Raw)
			if c.status == 0 {
				continue
			}
			pass(11 * time.Second)
			res, text := e.Do(t, body(`{"stream":false,"content":`+string(content)+`}`))
			if res.StatusCode != c.status {
				t.Errorf("%s without a stream: %s %s", c.name, res.Status, text)
				continue
			}
			failedWhole(t, c.name, res.Header.Get("X-Request-Id"), text, c.code)
			mute(t, c.name, text)
			elsewhere++
		}
		if n := e.Query(t, "select count(*) from runs where state <> 'failed'")[0]; n != "0" || elsewhere == 0 {
			t.Errorf("%s runs are not failed", n)
		}
	})
}

// mute tells whether a failure says what it must not: a key, an address, a page.
func mute(t *testing.T, name string, text []byte) {
	t.Helper()
	for _, secret := range []string{"sk-mock", "edge.test", "evil.test", "<html"} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s: the failure says %q: %.400s", name, secret, text)
		}
	}
	if len(text) > 4<<10 {
		t.Errorf("%s: a failure of %d bytes", name, len(text))
	}
}

func failedWhole(t *testing.T, name, id string, text []byte, code api.Code) {
	t.Helper()
	var f api.Failure
	if err := json.Unmarshal(text, &f); err != nil || f.Code != code || f.RequestID == "" || f.RequestID != id {
		t.Errorf("%s without a stream: %v %s", name, err, text)
	}
}

// TestProviderForms: odd and good answers are answers.
func TestProviderForms(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	for _, script := range []string{
		"fault=crlf", "fault=cr", "fault=comments", "fault=multiline", "fault=nospace", "fault=bom", "fault=drip", "fault=no-done",
		"fault=no-finish", "fault=no-usage", "fault=no-role", "fault=json", "fault=identity", "usage=none", "usage=final", "usage=each", "usage=missing", "usage=null", "usage=zero",
		"finish=length", "finish=content_filter",
	} {
		s := e.Stream(t, body(`{"content":"one two [[mock: `+script+`]]"}`))
		if s.Text != "[mock] one two" || s.Done == nil {
			t.Errorf("%s: %s", script, s.Raw)
			continue
		}
		want := "measured"
		if script == "fault=no-usage" || script == "usage=none" {
			want = "estimated"
		}
		if s.Done.Usage.Source != want && script != "usage=zero" {
			t.Errorf("%s: usage %+v", script, s.Done.Usage)
		}
		if u := s.Done.Usage; u.Source == "estimated" && (u.PromptTokens == 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens) {
			t.Errorf("%s: usage %+v", script, u)
		}
		if finish, ok := strings.CutPrefix(script, "finish="); ok && s.Done.FinishReason != finish {
			t.Errorf("%s: %s", script, s.Done.FinishReason)
		}
	}
	if s := e.Stream(t, body(`{"content":"x","stream":null}`)); s.Done.FinishReason != "stop" || s.Done.Provider != "mock" || s.Done.Model != "mock-chat" {
		t.Errorf("done is %+v", s.Done)
	}
}

// TestWholeAnswerFields: the answer without a stream has the fields of chat.done
// and of the run's state.
func TestWholeAnswerFields(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	res, text := e.Do(t, body(`{"content":"hi [[mock: reasoning=3]]","stream":false}`))
	checkHeaders(t, res.Header, []string{"Content-Type: application/json; charset=utf-8", "X-Content-Type-Options: nosniff", "Access-Control-Allow-Origin: *"})
	whole := map[string]any{}
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{
		"request_id", "message_id", "session_id", "content", "content_bytes", "content_sha256", "reasoning", "finish_reason", "model", "provider",
		"usage", "attempts", "ttfb_ms", "total_ms", "trace_id", "kind", "state", "attempt", "created_at", "replayed",
	} {
		if _, ok := whole[field]; !ok {
			t.Errorf("the answer lacks %s: %s", field, text)
		}
	}
	if whole["request_id"] != res.Header.Get("X-Request-Id") || whole["trace_id"] != res.Header.Get("X-Trace-Id") {
		t.Errorf("headers %v, answer %s", res.Header, text)
	}
}
