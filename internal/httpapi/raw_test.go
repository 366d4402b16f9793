package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// raw sends bytes over a connection of their own and returns what comes back
// until the server closes it.
func raw(t *testing.T, e *testedge.Edge, text string) string {
	t.Helper()
	conn, err := e.Dial(t.Context(), "tcp", strings.TrimPrefix(e.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, text)
		sent <- err
	}()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the server keeps the connection open after %.200q", got)
	}
	conn.Close()
	<-sent // an error is the server's right: it need not read all of nonsense
	return string(got)
}

const head = "POST /functions/v1/chat HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"

// TestRawRequests sends what no HTTP library would. Every connection is closed
// after the answer.
func TestRawRequests(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	good := `{"content":"hi","stream":false}`
	framed := func(header, body string) string { return head + header + "\r\n" + body }
	big := strings.Repeat("a", 1<<20+1)
	for _, c := range []struct {
		name, send string
		status     int // 0: closed without an answer
		says       string
	}{
		{"PRI on HTTP/1", "PRI * HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n", 400, ""},
		{"half of an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 0, ""},
		{"headers of 17 KiB", framed("X-Pad: "+strings.Repeat("x", 17<<10)+"\r\n", ""), 431, ""},
		{"headers of 2 MB", framed(strings.Repeat("X-Pad: "+strings.Repeat("x", 1000)+"\r\n", 2000), ""), 431, ""},
		{"length and chunks", framed("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "1f\r\n"+good+"\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"), 200, "[mock] hi"},
		{"two lengths", framed("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), 400, ""},
		{"length +3", framed("Content-Length: +3\r\n", "abc"), 400, ""},
		{"length -1", framed("Content-Length: -1\r\n", "abc"), 400, ""},
		{"unknown transfer encoding", framed("Transfer-Encoding: xchunked\r\n", "abc"), 501, ""},
		{"no Host", "POST /chat HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, ""},
		{"two Hosts", framed("Host: b\r\nContent-Length: 0\r\n", ""), 400, ""},
		{"NUL in a header", framed("X-A: a\x00b\r\n", ""), 400, ""},
		{"bare CR in a header", framed("X-A: a\rX-B: b\r\n", ""), 400, ""},
		{"HTTP/9.9", "GET /livez HTTP/9.9\r\nHost: edge\r\n\r\n", 505, ""},
		{"the hello of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaa\r\n\r\n", 400, ""},
		{"endless chunks", framed("Transfer-Encoding: chunked\r\n", strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", len(big), big), 3)), 413, "body_too_large"},
		{"a broken chunk", framed("Transfer-Encoding: chunked\r\nConnection: close\r\n", "zz\r\nabc\r\n"), 400, "invalid_request"},
		{"a length over the cap", framed("Content-Length: 1048577\r\n", big), 413, "body_too_large"},
		{"a length over the cap, nothing sent", framed("Content-Length: 1048577\r\n", ""), 413, "body_too_large"},
		{"a length over the cap, asked first", framed("Content-Length: 1048577\r\nExpect: 100-continue\r\n", ""), 413, "body_too_large"},
		{"a body cut short", framed("Content-Length: 10\r\nConnection: close\r\n", "{}"), -1, ""},
		{"HTTP/1.0", strings.Replace(framed("Content-Length: 31\r\n", good), "HTTP/1.1", "HTTP/1.0", 1), 200, "[mock] hi"},
		{"a stream over HTTP/1.0", strings.Replace(framed("Content-Length: 16\r\n", `{"content":"hi"}`), "HTTP/1.1", "HTTP/1.0", 1), 200, "event: chat.done"},
		{"trace id with a bare LF", framed("X-Trace-Id: a\n b\r\nContent-Length: 31\r\nConnection: close\r\n", good), 200, "[mock] hi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.status < 0 { // the client closes its half: nobody is left to answer
				halfClosed(t, e, c.send)
				return
			}
			got := raw(t, e, c.send)
			if c.status == 0 {
				if strings.HasPrefix(got, "HTTP/1.1 200") {
					t.Errorf("answered %.300q", got)
				}
				return
			}
			res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			if err != nil {
				t.Fatalf("%v: %.300q", err, got)
			}
			body, _ := io.ReadAll(res.Body) // what there is
			if res.StatusCode != c.status || !bytes.Contains(body, []byte(c.says)) {
				t.Errorf("got %.400q, want %d with %q", got, c.status, c.says)
			}
			if strings.Count(got, "HTTP/1.") != 1 {
				t.Errorf("more than one answer: %.600q", got)
			}
		})
	}
	if res, _ := e.Do(t, testedge.Call{Path: "/livez"}); res.StatusCode != 200 {
		t.Errorf("afterwards livez says %s", res.Status)
	}
}

func halfClosed(t *testing.T, e *testedge.Edge, send string) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, send); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || bytes.Contains(got, []byte(" 200 ")) {
		t.Errorf("%v %.300q", err, got)
	}
	if e.Calls() > 0 && bytes.Contains(got, []byte("event:")) {
		t.Error("half a body was taken for a request")
	}
}

// TestSlowRequests sends bodies and headers that do not arrive.
func TestSlowRequests(t *testing.T) {
	for _, c := range []struct {
		name, send string
		within     time.Duration
		says       []string
	}{
		{"a body that stops", head + "Content-Length: 10\r\n\r\n{\"a", 30 * time.Second, []string{"HTTP/1.1 408", "Connection: close", "request_timeout"}},
		{"chunks that stop", head + "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n", 30 * time.Second, []string{"HTTP/1.1 408", "Connection: close", "request_timeout"}},
		{"headers that stop", "POST /functions/v1/chat HTTP/1.1\r\nHost: edge\r\nX-A", 10 * time.Second, nil},
		{"nothing at all", "", 10 * time.Second, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := testedge.Start(t, testedge.Config{Pipes: true, HTTP: testedge.Dev()})
				conn, err := e.Dial(t.Context(), "tcp", "edge")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, c.send); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				got, err := io.ReadAll(conn)
				if err != nil || time.Since(began) > c.within+time.Second {
					t.Errorf("closed after %v with %v", time.Since(began), err)
				}
				for _, want := range c.says {
					if !bytes.Contains(got, []byte(want)) {
						t.Errorf("%q lacks %q", got, want)
					}
				}
			})
		})
	}
}

// TestDrip sends a body so slowly that it never ends, a byte each second.
func TestDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testedge.Start(t, testedge.Config{Pipes: true, HTTP: testedge.Dev()})
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		req := e.Request(ctx, t, hello())
		req.Body = io.NopCloser(&drip{ctx: ctx})
		req.ContentLength = 1 << 19
		res, err := e.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, res, text, api.RequestTimeout)
		if res.StatusCode != 408 || time.Since(began) > 31*time.Second {
			t.Errorf("%s after %v", res.Status, time.Since(began))
		}
	})
}

type drip struct{ ctx context.Context }

func (d *drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, io.EOF
	}
}

// TestHTTP2 speaks HTTP/2 in clear text, as a proxy would.
func TestHTTP2(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	e.HTTP = &http.Client{Transport: transport}

	for range 3 {
		s := e.Stream(t, hello())
		if s.Text != "[mock] hi" || s.Done == nil {
			t.Errorf("the stream is %s", s.Raw)
		}
	}
	for _, c := range []struct {
		call   testedge.Call
		status int
		code   api.Code
	}{
		{body(`{"content":"` + strings.Repeat("a", 1<<20) + `"}`), 413, api.BodyTooLarge},
		{body(`{`), 400, api.InvalidJSON},
		{testedge.Call{Method: "PUT", Path: "/chat"}, 405, api.MethodNotAllowed},
		{hello("Last-Event-ID: x"), 400, api.InvalidEventID},
	} {
		res, text := e.Do(t, c.call)
		if res.ProtoMajor != 2 || res.StatusCode != c.status {
			t.Errorf("%s %s: %.200s", res.Proto, res.Status, text)
		}
		checkRefusal(t, res, text, c.code)
	}
	if s := e.Stream(t, hello()); s.Done == nil {
		t.Error("the connection is of no use any more")
	}
}
