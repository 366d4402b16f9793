package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/run"
)

// inBubble runs a test against an edge whose time is the bubble's: what takes
// hours takes no time, and what takes no time happens at once.
func inBubble(t *testing.T, cfg testedge.Config, test func(t *testing.T, e *testedge.Edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Pipes, cfg.HTTP.AuthOptional = true, true
		cfg.Auth = auth.Config{JWTSecret: testedge.Secret, SecretKeys: map[string]string{"default": secretKey}}
		test(t, testedge.Start(t, cfg))
	})
}

// drowsy is an engine whose services look up rarely, for tests in which hours go by.
func drowsy() run.Config {
	return run.Config{Lease: time.Hour, Grace: time.Hour, FlushEvery: time.Minute, Poll: time.Minute}
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

// live is a stream that is read frame by frame.
type live struct {
	t    *testing.T
	res  *http.Response
	in   *bufio.Reader
	got  bytes.Buffer
	stop context.CancelFunc
}

// open sends a call and returns once the head of its response is there.
func open(t *testing.T, e *testedge.Edge, c testedge.Call) *live {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	res := e.Open(ctx, t, c)
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body) // for the message
		t.Fatalf("%s: %s", res.Status, text)
	}
	l := &live{t: t, res: res, in: bufio.NewReader(res.Body), stop: stop}
	t.Cleanup(l.leave)
	return l
}

// leave cuts the connection.
func (l *live) leave() {
	l.stop()
	_ = l.res.Body.Close() // cut on purpose
}

// frame reads one frame and returns its bytes, "" at the end.
func (l *live) frame() string {
	l.t.Helper()
	var b strings.Builder
	for {
		line, err := l.in.ReadString('\n')
		b.WriteString(line)
		if err == io.EOF && b.Len() == 0 {
			return ""
		}
		if err != nil {
			l.t.Fatalf("after %q: %v", b.String(), err)
		}
		if line == "\n" {
			l.got.WriteString(b.String())
			return b.String()
		}
	}
}

// until reads frames up to and with the first that has the text.
func (l *live) until(text string) string {
	l.t.Helper()
	for {
		f := l.frame()
		if f == "" {
			l.t.Fatalf("the stream ended before %q:\n%s", text, l.got.Bytes())
		}
		if strings.Contains(f, text) {
			return f
		}
	}
}

// rest reads the stream to its end and holds it to the wire's rules.
func (l *live) rest() *testedge.Stream {
	l.t.Helper()
	for l.frame() != "" {
	}
	s, err := testedge.Parse(l.got.Bytes())
	if err != nil {
		l.t.Fatalf("%v\n%s", err, l.got.Bytes())
	}
	return s
}

// readAside begins to read a stream beside the test; the returned function waits
// for its end.
func readAside(t *testing.T, e *testedge.Edge, c testedge.Call) (wait func() *testedge.Stream) {
	t.Helper()
	res := e.Open(t.Context(), t, c)
	type outcome struct {
		s   *testedge.Stream
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		s, bad := testedge.Parse(raw)
		done <- outcome{s, errors.Join(err, bad)}
	}()
	return func() *testedge.Stream {
		t.Helper()
		o := <-done
		if o.err != nil {
			t.Fatalf("%v\n%s", o.err, o.s.Raw)
		}
		return o.s
	}
}

// idOf is the id of a frame.
func idOf(frame string) string {
	rest, ok := strings.CutPrefix(frame, "id: ")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

// after is what follows the frame of an id in a stream's bytes.
func after(t *testing.T, raw []byte, id string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(raw), "id: "+id+"\n")
	if !ok {
		t.Fatalf("no frame %s", id)
	}
	_, rest, _ = strings.Cut(rest, "\n\n")
	return rest
}

// afterReady is a stream's bytes without its first frame.
func afterReady(raw []byte) string {
	_, rest, _ := strings.Cut(string(raw), "\n\n")
	return rest
}

// asReplay is a stream's tail as a replay says it.
func asReplay(tail string) string {
	return strings.Replace(tail, `"replayed":false`, `"replayed":true`, 1)
}
