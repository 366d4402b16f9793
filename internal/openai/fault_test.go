package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/dial"
)

// What a provider can do wrong on the wire, and by which name it is called.
func TestFaults(t *testing.T) {
	t.Parallel()
	page := "<!doctype html><html><body>data: maintenance</body></html>"
	for _, tc := range []struct {
		name string
		raw  string
		end  func(net.Conn) // nil: an orderly close
		code api.Code       // empty: the answer is whole
		text string
	}{
		{"close before headers", "", nil, api.UpstreamUnavailable, ""},
		{"reset before headers", "", reset, api.UpstreamUnavailable, ""},
		{"reset within headers", "HTTP/1.1 200 OK\r\nContent-Type: x/y\r\n", reset, api.UpstreamUnavailable, ""},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", nil, api.UpstreamBadResponse, ""},
		{"endless headers", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Junk: 1\r\n", 40_000), nil, api.UpstreamBadResponse, ""},
		{"reset after headers", sseHead, reset, api.UpstreamTruncated, ""},
		{"empty", sseHead, nil, api.UpstreamBadResponse, ""},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", nil, api.UpstreamBadResponse, ""},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", nil, api.UpstreamBadResponse, ""},
		{"early hints, then an answer", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + sseHead + delta("ok") + finish, nil, "", "ok"},
		{"only blanks", sseHead + "\n\n \r\n", nil, api.UpstreamBadResponse, ""},
		{"only comments", sseHead + ": waiting\n\n: waiting\n\n", nil, api.UpstreamTruncated, ""},
		{"only done", sseHead + "data: [DONE]\n\n", nil, api.UpstreamBadResponse, ""},
		{"a web page by its type", "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n" + page, nil, api.UpstreamBadResponse, ""},
		{"a web page as a stream", sseHead + page, nil, api.UpstreamBadResponse, ""},
		{"plain text", sseHead + "upstream connect error", nil, api.UpstreamBadResponse, ""},
		{"binary", sseHead + "\x1f\x8b\x08\x00\x00\x00", nil, api.UpstreamBadResponse, ""},
		{"gzip", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n\x1f\x8b\x08", nil, api.UpstreamBadResponse, ""},
		{"close after a delta", sseHead + delta("a"), nil, api.UpstreamTruncated, "a"},
		{"reset after a delta", sseHead + delta("a"), reset, api.UpstreamTruncated, "a"},
		{"close within a chunk", sseHead + delta("a") + delta("bcd")[:60], nil, api.UpstreamTruncated, "a"},
		{"close before a blank line", sseHead + delta("a") + strings.TrimRight(delta("b"), "\n"), nil, api.UpstreamTruncated, "ab"},
		{"short of its length", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n" + delta("a"), nil, api.UpstreamTruncated, "a"},
		{"chunked, no last chunk", chunkedHead + chunked(delta("a")), nil, api.UpstreamTruncated, "a"},
		{"chunked, bad length", chunkedHead + chunked(delta("a")) + "zz\r\n", untilClosed, api.UpstreamBadResponse, "a"},
		{"chunked, no line end", chunkedHead + "5\r\ndata:!!", untilClosed, api.UpstreamBadResponse, ""},
		{"junk for JSON", sseHead + delta("a") + "data: {\"choices\":[}\n\n", untilClosed, api.UpstreamBadResponse, "a"},
		{"text for JSON", sseHead + delta("a") + "data: oops\n\n", untilClosed, api.UpstreamBadResponse, "a"},
		{"content of another type", sseHead + `data: {"choices":[{"delta":{"content":5}}]}` + "\n\n", untilClosed, api.UpstreamBadResponse, ""},
		{"nothing but a number", sseHead + "data: 7\n\n", untilClosed, api.UpstreamBadResponse, ""},
		{"nested too deep", sseHead + `data: {"x":` + strings.Repeat("[", 10_000) + "\n\n", untilClosed, api.UpstreamBadResponse, ""},
		{"line too long", sseHead + delta("a") + "data: " + strings.Repeat("x", maxLine+10), untilClosed, api.UpstreamBadResponse, "a"},
		{"event too long", sseHead + strings.Repeat("data: "+strings.Repeat(" ", 1000)+"\n", 1100), untilClosed, api.UpstreamBadResponse, ""},
		{"finish_reason too long", sseHead + `data: {"choices":[{"delta":{},"finish_reason":"` + strings.Repeat("x", 100) + "\"}]}\n\n", untilClosed, api.UpstreamBadResponse, ""},
		{"an event named error", sseHead + delta("a") + "event: error\ndata: {\"message\":\"overloaded\"}\n\n", untilClosed, api.UpstreamUnavailable, "a"},
		{"an event named error without JSON", sseHead + "event: error\ndata: boom\n\n", untilClosed, api.UpstreamUnavailable, ""},
		{"an error in the middle", sseHead + delta("a") + `data: {"error":{"message":"x","type":"server_error"}}` + "\n\n", untilClosed, api.UpstreamUnavailable, "a"},
		{"an error beside a choice", sseHead + delta("a") + `data: {"error":{"code":429},"choices":[{"delta":{"content":"b"}}]}` + "\n\n", untilClosed, api.UpstreamRateLimited, "a"},
		{"an error after the finish", sseHead + delta("a") + finish + `data: {"error":"late"}` + "\n\n", untilClosed, api.UpstreamUnavailable, "a"},
		{"an error object of its own", sseHead + `data: {"object":"error","message":"no such model","code":404}` + "\n\n", untilClosed, api.UpstreamModelNotFound, ""},
		{"no error", sseHead + `data: {"error":null,"choices":[]}` + "\n\n" + delta("a") + finish, nil, "", "a"},
		{"JSON error under 200", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + `{"error":{"message":"bad key","type":"authentication_error"}}`, nil, api.UpstreamAuth, ""},
		{"other JSON under 200", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + `{"ok":true}`, nil, api.UpstreamBadResponse, ""},
		{"a JSON list under 200", sseHead + `[1,2]`, nil, api.UpstreamBadResponse, ""},
		{"JSON cut short", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + `{"choices":[{"message":{"content":"a`, nil, api.UpstreamTruncated, ""},
		{"JSON short of its length", "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + `{"choices":[]}`, nil, api.UpstreamTruncated, ""},
		{"whole but for done", sseHead + delta("a") + finish, nil, "", "a"},
		{"whole but for the last chunk", chunkedHead + chunked(delta("a")+finish), reset, "", "a"},
		{"whole, done, then silence", chunkedHead + chunked(delta("a")+finish+"data: [DONE]\n\n"), untilClosed, "", "a"},
		{"done without a finish", sseHead + delta("a") + "data: [DONE]", nil, "", "a"},
		{"cut within done", sseHead + delta("a") + finish + "data: [DO", nil, "", "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var emitted collected
			seen := make(chan struct{}, 100)
			p := startProvider(t, func(conn net.Conn, _ *http.Request) {
				if _, err := io.WriteString(conn, tc.raw); err != nil {
					return
				}
				if tc.text != "" && tc.end != nil {
					<-seen // a reset throws away what is still on its way
				}
				if tc.end != nil {
					tc.end(conn)
				}
			})
			c := newClient(t, Config{Base: p.base})
			answer, err := c.Chat(testContext(t), call(), func(d chat.Delta) error {
				seen <- struct{}{}
				return emitted.emit(d)
			})
			if got := emitted.text.String(); got != tc.text {
				t.Errorf("text %q, want %q", got, tc.text)
			}
			if tc.code == "" {
				if err != nil || answer.FinishReason == "" || answer.Model == "" {
					t.Fatalf("answer %+v, error %v", answer, err)
				}
				return
			}
			f := wantFault(t, err, tc.code)
			if strings.Contains(tc.raw, "200 OK\r\n") && strings.Contains(tc.raw, "\r\n\r\n") && f.UpstreamStatus != 200 {
				t.Errorf("upstream status %d", f.UpstreamStatus)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status    int
		header    string
		code      api.Code
		retryable bool
		after     time.Duration
	}{
		{201, "", api.UpstreamBadResponse, true, 0},
		{206, "", api.UpstreamBadResponse, true, 0},
		{301, "", api.UpstreamRedirect, false, 0},
		{304, "", api.UpstreamRedirect, false, 0},
		{400, "", api.UpstreamRejected, false, 0},
		{401, "", api.UpstreamAuth, false, 0},
		{402, "", api.UpstreamRejected, false, 0},
		{403, "", api.UpstreamAuth, false, 0},
		{404, "", api.UpstreamModelNotFound, false, 0},
		{408, "", api.UpstreamUnavailable, true, 0},
		{409, "", api.UpstreamUnavailable, true, 0},
		{413, "", api.UpstreamRejected, false, 0},
		{422, "Retry-After: 3", api.UpstreamRejected, false, 0},
		{429, "Retry-After: 3600", api.UpstreamRateLimited, true, time.Hour},
		{429, "Retry-After: 7\r\nRetry-After-Ms: 250.5", api.UpstreamRateLimited, true, 250500 * time.Microsecond},
		{429, "", api.UpstreamRateLimited, true, 0},
		{500, "", api.UpstreamUnavailable, true, 0},
		{502, "", api.UpstreamUnavailable, true, 0},
		{503, "Retry-After: 2", api.UpstreamUnavailable, true, 2 * time.Second},
		{529, "", api.UpstreamUnavailable, true, 0},
		{600, "", api.UpstreamBadResponse, true, 0},
	} {
		t.Run(fmt.Sprint(tc.status, " ", tc.header), func(t *testing.T) {
			t.Parallel()
			p := startProvider(t, func(conn net.Conn, req *http.Request) {
				body := fmt.Sprintf(`{"error":{"message":"no: %s, %s","code":"some_code"}}`, req.Header.Get("Authorization"), testKey)
				fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nConnection: close\r\n%s\r\n\r\n%s", tc.status, tc.header, body)
			})
			c := newClient(t, Config{Base: p.base})
			_, err := c.Chat(testContext(t), call(), new(collected).emit)
			f := wantFault(t, err, tc.code)
			if f.Retryable != tc.retryable || f.RetryAfter != tc.after || f.UpstreamStatus != tc.status {
				t.Errorf("%+v", f)
			}
			if tc.status != 304 && (f.Details["upstream_message"] != "no: Bearer [redacted], [redacted]" || f.Details["upstream_code"] != "some_code") {
				t.Errorf("details %v", f.Details)
			}
			if n := len(p.calls); n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// A refusal's body may be endless, slow or packed: the status still counts.
func TestRefusalBodies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, head string
		end        func(net.Conn)
	}{
		{"endless", "Content-Type: text/plain\r\n", func(conn net.Conn) {
			junk := []byte(strings.Repeat("junk ", 2000))
			for {
				if _, err := conn.Write(junk); err != nil {
					return
				}
			}
		}},
		{"packed", "Content-Encoding: gzip\r\n", func(conn net.Conn) { _, _ = io.WriteString(conn, "\x1f\x8b\x08 secret") }},
		{"reset", "Content-Length: 100\r\n", reset},
		{"a web page", "Content-Type: text/html\r\n", func(conn net.Conn) { _, _ = io.WriteString(conn, "<html>secret</html>") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t, func(conn net.Conn, _ *http.Request) {
				fmt.Fprintf(conn, "HTTP/1.1 503 X\r\nConnection: close\r\n%s\r\n", tc.head)
				tc.end(conn)
			})
			c := newClient(t, Config{Base: p.base})
			_, err := c.Chat(testContext(t), call(), new(collected).emit)
			f := wantFault(t, err, api.UpstreamUnavailable)
			text, _ := f.Details["upstream_message"].(string)
			if len(text) > maxMessage || strings.Contains(text, "secret") {
				t.Errorf("%d bytes of %.80q", len(text), text)
			}
		})
	}
}

// The key and the request stay with the configured origin, whatever it answers.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			target := startProvider(t, func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, sseHead+delta("x")+finish) })
			p := startProvider(t, func(conn net.Conn, _ *http.Request) {
				fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nLocation: %s/chat/completions\r\nContent-Length: 0\r\n\r\n", status, target.base)
			})
			c := newClient(t, Config{Base: p.base})
			_, err := c.Chat(testContext(t), call(), new(collected).emit)
			wantFault(t, err, api.UpstreamRedirect)
			if n := len(target.calls); n != 0 {
				t.Errorf("%d calls reached the target", n)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + ln.Addr().String()
	ln.Close()
	guard, err := dial.New(dial.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		cfg       Config
		code      api.Code
		retryable bool
	}{
		{"refused", Config{Base: closed}, api.UpstreamUnavailable, true},
		{"no such host", Config{Base: "http://nowhere.invalid"}, api.UpstreamUnavailable, true},
		{"address not allowed", Config{Base: closed, DialContext: guard.DialContext}, api.UpstreamUnavailable, false},
		{"dial hangs", Config{Base: closed, DialTimeout: time.Millisecond, DialContext: hangingDial}, api.UpstreamTimeout, true},
		{"bad key", Config{Base: closed, Keys: func() string { return "a\nb" }}, api.UpstreamAuth, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := newClient(t, tc.cfg).Chat(testContext(t), call(), new(collected).emit)
			if f := wantFault(t, err, tc.code); f.Retryable != tc.retryable {
				t.Errorf("retryable %v", f.Retryable)
			}
		})
	}
}

func hangingDial(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestTLSFailures(t *testing.T) {
	t.Parallel()
	plain := startProvider(t, func(net.Conn, *http.Request) {})
	c := newClient(t, Config{Base: strings.Replace(plain.base, "http:", "https:", 1)})
	_, err := c.Chat(testContext(t), call(), new(collected).emit)
	wantFault(t, err, api.UpstreamUnavailable)

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c = newClient(t, Config{Base: "https://" + silent.Addr().String(), TLSTimeout: time.Millisecond})
	_, err = c.Chat(testContext(t), call(), new(collected).emit)
	wantFault(t, err, api.UpstreamTimeout)
}

// Whenever a call is cancelled, it says why, and the provider sees its connection
// closed.
func TestCancel(t *testing.T) {
	t.Parallel()
	reason := errors.New("nobody reads any more")
	for _, tc := range []struct {
		name, raw string
	}{
		{"before headers", ""},
		{"before the first delta", chunkedHead},
		{"in the middle", chunkedHead + chunked(delta("a"))},
		{"within a chunk", chunkedHead + chunked(delta("a")+delta("b")[:40])},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(testContext(t))
			closed := make(chan struct{})
			p := startProvider(t, func(conn net.Conn, _ *http.Request) {
				_, _ = io.WriteString(conn, tc.raw)
				if !strings.Contains(tc.raw, "data:") {
					cancel(reason)
				}
				untilClosed(conn)
				close(closed)
			})
			c := newClient(t, Config{Base: p.base})
			_, err := c.Chat(ctx, call(), func(chat.Delta) error { cancel(reason); return nil })
			if err != reason {
				t.Errorf("error %v", err)
			}
			<-closed
		})
	}
}

func TestEmitFails(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	p := startProvider(t, func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, sseHead+delta("a")+delta("b"))
		untilClosed(conn)
		close(closed)
	})
	c := newClient(t, Config{Base: p.base})
	reason := errors.New("fenced")
	deltas := 0
	_, err := c.Chat(testContext(t), call(), func(chat.Delta) error { deltas++; return reason })
	if err != reason || deltas != 1 {
		t.Errorf("error %v after %d deltas", err, deltas)
	}
	<-closed
}
