package httpapi_test

import (
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/httpapi"
)

var traceIDs = regexp.MustCompile(`[0-9a-f]{32}`)

// TestForeignRuns: another's run or session answers as one that is not there, to
// the last byte.
func TestForeignRuns(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	u1, u2 := testedge.Token("authenticated", "u1"), testedge.Token("authenticated", "u2")
	anon := testedge.Token("anon", "")
	mine := e.Stream(t, as(u1, body(`{"content":"mine"}`)))
	public := e.Stream(t, as(anon, body(`{"content":"public"}`)))
	const nobodys = "0192f000-0000-7000-8000-0000000000aa"
	calls := func(id string) []testedge.Call {
		path := "/functions/v1/chat/" + id
		return []testedge.Call{
			{Path: path}, {Path: path + "?stream=true"}, {Path: path, Header: []string{"Accept: text/event-stream", "Last-Event-ID: " + id + "-1-1"}},
			{Path: path + "?after=" + id + "-1-1&stream=true"}, {Method: post, Path: path + "/cancel"},
			body2(`{"content":"mine"}`, "Last-Event-ID: "+id+"-1-1"),
		}
	}
	theirs, none := calls(mine.Ready.RequestID), calls(nobodys)
	for i := range theirs {
		for name, token := range map[string]string{"another user": u2, "the anon role": anon, "a publishable key": publishableKey} {
			res, text := e.Do(t, as(token, theirs[i]))
			other, unknown := e.Do(t, as(token, none[i]))
			checkRefusal(t, res, text, api.StreamNotFound)
			if a, b := traceIDs.ReplaceAll(text, nil), traceIDs.ReplaceAll(unknown, nil); string(a) != string(b) || res.StatusCode != 404 {
				t.Errorf("%s, %+v:\n%s\n%s", name, theirs[i], text, unknown)
			}
			for _, h := range []http.Header{res.Header, other.Header} {
				h.Del("Date")
				h.Del("X-Trace-Id")
			}
			if a, b := res.Header, other.Header; len(a) != len(b) || a.Get("X-Request-Id") != b.Get("X-Request-Id") {
				t.Errorf("%s: headers %v, of nobody's %v", name, a, b)
			}
		}
		for name, token := range map[string]string{"its owner": u1, "the service": secretKey} {
			if res, text := e.Do(t, as(token, theirs[i])); res.StatusCode != 200 {
				t.Errorf("%s, %+v: %s %s", name, theirs[i], res.Status, text)
			}
		}
	}
	// What nobody signed for is read by whoever knows its id.
	for name, token := range map[string]string{"anon": anon, "a user": u2, "a publishable key": publishableKey, "the service": secretKey} {
		if st := e.JSON(t, 200, as(token, testedge.Call{Path: "/chat/" + public.Ready.RequestID})); st["content"] != "[mock] public" {
			t.Errorf("%s reads %v", name, st)
		}
	}
	session := func(id string) testedge.Call {
		return as(u2, body(`{"content":"let me in","session_id":"`+id+`"}`))
	}
	res, text := e.Do(t, session(mine.Ready.SessionID))
	if res.StatusCode != 404 {
		t.Fatalf("another's session: %s", res.Status)
	}
	checkRefusal(t, res, text, api.SessionNotFound)
	if s := e.Stream(t, session(nobodys)); s.Ready.SessionID != nobodys {
		t.Errorf("a session that nobody has was not made: %+v", s.Ready)
	}
	if got := e.Query(t, "select owner from sessions where id = ?", nobodys); len(got) != 1 || got[0] != "u2" {
		t.Errorf("its owner is %v", got)
	}
}

// TestRateLimit: so many chats a minute for each principal; what costs nothing is
// not counted.
func TestRateLimit(t *testing.T) {
	inBubble(t, testedge.Config{Chat: chat.ServiceConfig{PerMinute: 3}}, func(t *testing.T, e *testedge.Edge) {
		u1, u2 := testedge.Token("authenticated", "u1"), testedge.Token("authenticated", "u2")
		for i := range 3 {
			res, _ := e.Do(t, as(u1, hello("Idempotency-Key: k"+strconv.Itoa(i))))
			checkHeaders(t, res.Header, []string{`RateLimit-Policy: "chat";q=3;w=60`, `RateLimit: "chat";r=` + strconv.Itoa(2-i) + `;t=` + strconv.Itoa(60-10*i), "Retry-After"})
			pass(10 * time.Second)
		}
		for _, free := range []testedge.Call{ // a replay, refusals, reads
			as(u1, hello("Idempotency-Key: k1")), as(u1, body(`{`)), as(u1, body(`{"content":"other","idempotency_key":"k1"}`)), as("bad", hello()),
			{Path: "/chat/0192f000-0000-7000-8000-0000000000aa"},
		} {
			if res, text := e.Do(t, free); res.StatusCode == 429 {
				t.Errorf("%+v: %s", free, text)
			}
		}
		for _, token := range []string{u2, secretKey, secretKey, secretKey, secretKey} {
			if res, _ := e.Do(t, as(token, hello())); res.StatusCode != 200 {
				t.Errorf("somebody else's request: %s", res.Status)
			} else if token == secretKey {
				checkHeaders(t, res.Header, []string{"RateLimit", "RateLimit-Policy"})
			}
		}
		rows := e.Rows(t)
		res, text := e.Do(t, as(u1, hello("Idempotency-Key: k4")))
		if res.StatusCode != 429 {
			t.Fatalf("the fourth: %s", res.Status)
		}
		checkRefusal(t, res, text, api.QuotaExceeded)
		checkHeaders(t, res.Header, []string{`RateLimit-Policy: "chat";q=3;w=60`, `RateLimit: "chat";r=0;t=30`, "Retry-After: 30"})
		if !strings.Contains(string(text), `"retryable":true`) || !strings.Contains(string(text), `"retry_after_ms":30000`) {
			t.Errorf("the body is %s", text)
		}
		if now := e.Rows(t); now["runs"] != rows["runs"] || now["messages"] != rows["messages"] {
			t.Errorf("the refusal has written: %v → %v", rows, now)
		}
		pass(30 * time.Second)
		if s := open(t, e, as(u1, hello("Idempotency-Key: k4"))).rest(); s.Done == nil {
			t.Error("refused after Retry-After")
		}
		pass(2 * time.Second)
		if got := e.Query(t, "select count(*) from bus_events where type = 'rate_limited'")[0]; got != "1" {
			t.Errorf("%s rate_limited events", got)
		}
	})
}

// TestGlobalRateLimit: the cap over all callers, the service included.
func TestGlobalRateLimit(t *testing.T) {
	inBubble(t, testedge.Config{Chat: chat.ServiceConfig{PerMinute: 2, AllPerMinute: 3}}, func(t *testing.T, e *testedge.Edge) {
		for i := range 3 {
			if res, _ := e.Do(t, as(testedge.Token("authenticated", "u"+strconv.Itoa(i)), hello())); res.StatusCode != 200 {
				t.Errorf("request %d: %s", i, res.Status)
			}
		}
		for _, token := range []string{testedge.Token("authenticated", "u9"), secretKey} {
			res, text := e.Do(t, as(token, hello()))
			if res.StatusCode != 429 {
				t.Fatalf("over the cap: %s", res.Status)
			}
			checkRefusal(t, res, text, api.QuotaExceeded)
			checkHeaders(t, res.Header, []string{`RateLimit-Policy: "chat-global";q=3;w=60`, "Retry-After: 60"})
		}
	})
}

// TestForwardedFor: a caller's address is the peer's, unless a proxy that is
// trusted says another.
func TestForwardedFor(t *testing.T) {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	inner := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []struct {
		name    string
		trusted []netip.Prefix
		forward []string
		want    string
	}{
		{"no proxy is trusted", nil, []string{"203.0.113.9"}, "127.0.0.1"},
		{"another proxy is trusted", []netip.Prefix{inner}, []string{"203.0.113.9"}, "127.0.0.1"},
		{"the peer is trusted", []netip.Prefix{loopback}, []string{"203.0.113.9"}, "203.0.113.9"},
		{"the last one counts", []netip.Prefix{loopback}, []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"},
		{"several headers", []netip.Prefix{loopback}, []string{"1.1.1.1", "203.0.113.9"}, "203.0.113.9"},
		{"a chain of trust", []netip.Prefix{loopback, inner}, []string{"1.1.1.1, 203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
		{"IPv6", []netip.Prefix{loopback}, []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv4 in IPv6", []netip.Prefix{loopback}, []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"garbage", []netip.Prefix{loopback}, []string{"203.0.113.9, ' or 1=1"}, "127.0.0.1"},
		{"nothing", []netip.Prefix{loopback}, nil, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := testedge.Start(t, testedge.Config{HTTP: httpapi.Config{AuthOptional: true, TrustedProxies: c.trusted}})
			var header []string
			for _, f := range c.forward {
				header = append(header, "X-Forwarded-For: "+f)
			}
			s := e.Stream(t, hello(header...))
			if got := e.Query(t, "select principal from runs where id = ?", s.Ready.RequestID); len(got) != 1 || got[0] != "anon:"+c.want {
				t.Errorf("the principal is %v, want anon:%s", got, c.want)
			}
		})
	}
}

// TestTraceIDs: a caller's own trace id is taken or replaced, never refused and
// never repeated when it is malformed.
func TestTraceIDs(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	fresh := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for _, bad := range []string{"a b", strings.Repeat("t", 65), "", "é", "a/b", "<x>"} {
		res, _ := e.Do(t, hello("X-Trace-Id: "+bad))
		if got := res.Header.Get("X-Trace-Id"); res.StatusCode != 200 || !fresh.MatchString(got) || got == bad {
			t.Errorf("%q: %s, trace id %q", bad, res.Status, got)
		}
	}
}

// TestPanic: a handler that panics costs one request.
func TestPanic(t *testing.T) {
	verifier, err := auth.New(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.New(httpapi.Config{Functions: edges()["open"].HTTP.Functions}, nil, verifier, nil)
	e := testedge.Serve(t, s)
	for range 2 {
		res, text := e.Do(t, testedge.Call{Path: "/readyz"}) // calls a nil function
		if res.StatusCode != 500 || !strings.Contains(string(text), `"code":"internal_error"`) || strings.Contains(string(text), "nil pointer") {
			t.Errorf("%s %s", res.Status, text)
		}
	}
	if res, _ := e.Do(t, testedge.Call{Path: "/livez"}); res.StatusCode != 200 {
		t.Errorf("afterwards livez says %s", res.Status)
	}
}

// TestHealth: livez asks nobody, readyz the store.
func TestHealth(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	for _, path := range []string{"/livez", "/readyz", "/chat/healthz", "/functions/v1/chat/healthz"} {
		res, text := e.Do(t, testedge.Call{Path: path})
		if res.StatusCode != 200 || string(text) != `{"status":"ok"}` {
			t.Errorf("%s: %s %s", path, res.Status, text)
		}
		if res, text = e.Do(t, testedge.Call{Method: "HEAD", Path: path}); res.StatusCode != 200 || len(text) > 0 {
			t.Errorf("HEAD %s: %s %s", path, res.Status, text)
		}
	}
	if err := e.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if res, _ := e.Do(t, testedge.Call{Path: "/livez"}); res.StatusCode != 200 {
		t.Errorf("livez without a store: %s", res.Status)
	}
}
