package httpapi_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/mockprovider"
)

// TestBodyThatNobodyReads: a body that stops arriving holds no connection, whether
// anybody wants it or not.
func TestBodyThatNobodyReads(t *testing.T) {
	for name, c := range map[string]struct{ head, status string }{
		"bad credential":    {"POST /chat HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Type: application/json", "401"},
		"another type":      {"POST /chat HTTP/1.1\r\nContent-Type: x/y", "415"},
		"no such path":      {"POST /nowhere HTTP/1.1", "404"},
		"health":            {"GET /livez HTTP/1.1", "200"},
		"preflight":         {"OPTIONS /chat HTTP/1.1", "204"},
		"cancel of nothing": {"POST /chat/x/cancel HTTP/1.1", "404"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := testedge.Start(t, testedge.Config{Pipes: true, HTTP: testedge.Dev()})
				conn, err := e.Dial(t.Context(), "tcp", "edge")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, c.head+"\r\nHost: edge\r\nContent-Length: 10\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				got, err := io.ReadAll(conn)
				if took := time.Since(began); err != nil || took > 31*time.Second || !bytes.HasPrefix(got, []byte("HTTP/1.1 "+c.status)) {
					t.Errorf("after %v: %v, %.40q", took, err, got)
				}
			})
		})
	}
}

// TestReaderWhoTakesNothing: a response that nobody takes is given up.
func TestReaderWhoTakesNothing(t *testing.T) {
	for name, request := range map[string]string{
		"whole answer": head + "Content-Length: 31\r\n\r\n" + `{"content":"hi","stream":false}`,
		"refusal":      head + "Content-Length: 1\r\n\r\n{",
		"preflight":    "OPTIONS /chat HTTP/1.1\r\nHost: edge\r\n\r\n",
		"stream":       head + "Content-Length: 16\r\n\r\n" + `{"content":"hi"}`,
	} {
		inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
			conn, err := e.Dial(t.Context(), "tcp", "edge")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			pass(41 * time.Second)
			if got, err := io.ReadAll(conn); err != nil || len(got) > 0 { // a pipe keeps nothing: these were still being written
				t.Errorf("%s: %v, %.40q", name, err, got)
			}
		})
	}
}

// TestQuietStreams: a stream outlives any silence, on every kind of connection.
func TestQuietStreams(t *testing.T) {
	for name, c := range map[string]struct {
		http2 bool
		call  func(id string) testedge.Call
	}{
		"HTTP/1.1":                 {false, nil},
		"HTTP/2":                   {true, nil},
		"HTTP/1.1 GET with a body": {false, get},
		"HTTP/2 GET with a body":   {true, get},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, testedge.Config{Timeout: time.Hour}, func(t *testing.T, e *testedge.Edge) {
				var protocols http.Protocols
				protocols.SetHTTP1(!c.http2)
				protocols.SetUnencryptedHTTP2(c.http2)
				e.HTTP.Transport.(*http.Transport).Protocols = &protocols
				e.Mocks[0].Script(func(*mockprovider.Request) mockprovider.Script {
					return mockprovider.Script{Text: "one two", Verbatim: true, Chunks: 2, TTFB: 12 * time.Second, Delay: 5 * time.Minute}
				})
				l := open(t, e, body(`{"content":"hi"}`))
				if c.call != nil {
					l.frame()
					l = open(t, e, c.call(l.res.Header.Get("X-Request-Id")))
				}
				if s := l.rest(); s.Done == nil || s.Text != "one two" {
					t.Errorf("the stream is %s", s.Raw)
				}
				if major := l.res.ProtoMajor; (major == 2) != c.http2 {
					t.Errorf("HTTP/%d", major)
				}
			})
		})
	}
}

func get(id string) testedge.Call {
	return testedge.Call{Method: "GET", Path: "/chat/" + id, Header: []string{"Accept: text/event-stream"}, Body: "ignored"}
}

// TestQuietWhole: so does the wait for an answer without a stream.
func TestQuietWhole(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		inBubble(t, testedge.Config{Timeout: time.Hour}, func(t *testing.T, e *testedge.Edge) {
			var protocols http.Protocols
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			e.HTTP.Transport.(*http.Transport).Protocols = &protocols
			e.Mocks[0].Script(func(*mockprovider.Request) mockprovider.Script {
				return mockprovider.Script{Text: "at last", Verbatim: true, Wait: 10 * time.Minute}
			})
			if res, text := e.Do(t, body(`{"content":"hi","stream":false}`)); res.StatusCode != 200 || !bytes.Contains(text, []byte("at last")) {
				t.Errorf("%s %s", res.Status, text)
			}
		})
	}
}

// TestLongAnswerReplayedWhole: an answer of several megabytes is replayed to who
// wants it in one piece.
func TestLongAnswerReplayedWhole(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		text := strings.Repeat("x", 3<<20)
		e.Mocks[0].Script(scripted(text, 10))
		if s := open(t, e, body(`{"content":"hi","idempotency_key":"k"}`)).rest(); s.Text != text {
			t.Fatalf("%d bytes streamed", len(s.Text))
		}
		res, whole := e.Do(t, body(`{"content":"hi","idempotency_key":"k","stream":false}`))
		if res.StatusCode != 200 || !bytes.Contains(whole, []byte(text)) {
			t.Errorf("%s, %d bytes", res.Status, len(whole))
		}
	})
}
