package httpapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

func TestStreamHeaders(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	res, raw := e.Do(t, hello("Accept-Encoding: gzip, br", "X-Trace-Id: t-1"))
	s, err := testedge.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	checkHeaders(t, res.Header, []string{
		"Content-Type: text/event-stream", "Cache-Control: no-store, no-transform", "X-Accel-Buffering: no",
		"X-Content-Type-Options: nosniff", "X-Request-Id: " + s.Ready.RequestID, "X-Trace-Id: t-1", "Access-Control-Allow-Origin: *",
		"Content-Length", "Content-Encoding", "Idempotent-Replayed", "Sb-Error-Code",
	})
	if s.Ready.TraceID != "t-1" || s.Ready.Resumed || s.Ready.Attempt != 1 || s.Ready.Model != "mock-chat" || s.Ready.SessionID == "" {
		t.Errorf("ready is %+v", s.Ready)
	}
	if !strings.HasPrefix(string(raw), fmt.Sprintf("retry: %d\nevent: ready\ndata: ", s.Ready.RetryMS)) {
		t.Errorf("the stream begins with %.200q", raw)
	}
	if s.Ready.RetryMS < 1000 || s.Ready.RetryMS > 3000 {
		t.Errorf("retry after %d ms", s.Ready.RetryMS)
	}
	if res.ContentLength != -1 || slices.Contains(res.TransferEncoding, "gzip") {
		t.Errorf("length %d, encoding %v", res.ContentLength, res.TransferEncoding)
	}
}

// TestReadyComesFirst: the edge speaks before the provider does, and hands on
// every delta when it comes.
func TestReadyComesFirst(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		began := time.Now()
		l := open(t, e, body(`{"content":"one two three [[mock: ttfb=5s delay=2s]]"}`))
		l.until("event: ready")
		at := []time.Duration{time.Since(began)}
		for range 4 { // "[mock] " is a word too
			l.until("event: chat.delta")
			at = append(at, time.Since(began).Round(100*time.Millisecond))
		}
		if want := []time.Duration{0, 5 * time.Second, 7 * time.Second, 9 * time.Second, 11 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("frames came at %v, want %v", at, want)
		}
		l.rest()
	})
}

// TestKeepalive: at most 15 s between bytes, and no more keepalives than that takes.
func TestKeepalive(t *testing.T) {
	for _, c := range []struct {
		name, script string
		keepalives   int
	}{
		{"silent provider", "ttfb=50s", 3},
		{"slow deltas", "delay=10s chunks=5", 0},
		{"pauses longer than the interval", "delay=20s chunks=4", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
				l := open(t, e, body(`{"content":"a b c d [[mock: `+c.script+`]]"}`))
				last, kept := time.Now(), 0
				for f := l.frame(); f != ""; f = l.frame() {
					if gap := time.Since(last); gap > 15*time.Second {
						t.Errorf("%v of silence before %q", gap, f)
					}
					last = time.Now()
					if strings.HasPrefix(f, "event: keepalive\n") {
						kept++
						if want := last.UTC().Format("2006-01-02T15:04:05.000Z"); !strings.Contains(f, `"ts":"`+want+`"`) {
							t.Errorf("at %s: %s", want, f)
						}
					}
				}
				if kept != c.keepalives {
					t.Errorf("%d keepalives, want %d", kept, c.keepalives)
				}
			})
		})
	}
}

// TestLongStream: nothing limits how long an answer takes.
func TestLongStream(t *testing.T) {
	inBubble(t, testedge.Config{Run: drowsy()}, func(t *testing.T, e *testedge.Edge) {
		began := time.Now()
		s := open(t, e, body(`{"content":"a [[mock: chunks=40 delay=30s]]"}`)).rest()
		if s.Done == nil || len(s.Deltas) != 40 || time.Since(began) < 19*time.Minute {
			t.Errorf("%d deltas in %v", len(s.Deltas), time.Since(began))
		}
	})
}

// TestSlowReader: a reader that takes nothing is sent away when a write has
// waited for ten seconds, and costs nobody else anything.
func TestSlowReader(t *testing.T) {
	inBubble(t, testedge.Config{}, func(t *testing.T, e *testedge.Edge) {
		const ask = `{"content":"x [[mock: chunks=60 delay=1s]]","idempotency_key":"k"}`
		conn, err := e.Dial(t.Context(), "tcp", "edge")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(ask), ask); err != nil {
			t.Fatal(err)
		}
		// The dead reader has read nothing, not even the head. Another one reads
		// the same run.
		s := e.Stream(t, body(ask))
		if s.Done == nil || len(s.Deltas) != 60 || e.Calls() != 1 {
			t.Errorf("the other reader got %d deltas of %d calls: %+v", len(s.Deltas), e.Calls(), s.Error)
		}
		if s.Done.TotalMS > 60_000 {
			t.Errorf("the run took %d ms", s.Done.TotalMS)
		}
		// By now the server has closed: reading finds the end at once.
		before := time.Now()
		n := 0
		for buf := make([]byte, 1<<10); err == nil; n++ {
			_, err = conn.Read(buf)
		}
		if time.Since(before) > 0 || n > 1 {
			t.Errorf("the dead reader's connection lived on: %d reads, %v", n, time.Since(before))
		}
	})
}

// TestHostileText: what a model says never becomes a frame.
func TestHostileText(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	for _, text := range []string{
		"\n\nevent: chat.done\ndata: {}\n\n", "a\r\ndata: x\r\rid: 9\n", "\u2028 \u2029 \ufeff \u0085 \x7f \x1b[2J",
		`","seq":9}` + "\n\nretry: 0\n\n", "</script><!-- & ' \" \\ \\n", "�", strings.Repeat("\n\n", 5000), "🙂👩‍👩‍👧é漢字",
	} {
		e.Mocks[0].Script(scripted(text, 1))
		s := e.Stream(t, body(`{"content":"go"}`))
		if s.Text != text || s.Done == nil {
			t.Errorf("%.60q came as %.60q", text, s.Text)
		}
		if got := e.JSON(t, http.StatusOK, body(`{"content":"go","stream":false}`))["content"]; got != text {
			t.Errorf("%.60q came as %.60q in JSON", text, got)
		}
	}
	// A NUL cannot be stored and becomes what stands for the unreadable.
	e.Mocks[0].Script(scripted("a\x00b", 1))
	if s := e.Stream(t, body(`{"content":"go"}`)); s.Text != "a\ufffdb" {
		t.Errorf("a NUL came as %q", s.Text)
	}
	e.Mocks[0].Script(nil)
	s := e.Stream(t, body(`{"content":"go [[mock: fault=hostile]]"}`))
	if s.Done == nil || !strings.Contains(s.Text, "forged") {
		t.Errorf("the mock's own hostility: %q", s.Text)
	}
}

// TestSplitCharacters: a character torn between two of the provider's writes is whole.
func TestSplitCharacters(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	s := e.Stream(t, body(`{"content":"x [[mock: fault=split]]"}`))
	if !strings.Contains(s.Text, "é漢字🙂👩‍👩‍👧") || strings.Contains(s.Text, "\ufffd") {
		t.Errorf("got %q", s.Text)
	}
}

// TestLargeAnswers: an answer of a mebibyte comes in frames of a bounded size, and
// chat.done repeats it only while it is short.
func TestLargeAnswers(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	for _, c := range []struct {
		name, text string
		inline     bool
	}{
		{"short", "short", true},
		{"just short enough", strings.Repeat("x", api.MaxInlineAnswer-len(`,"content":""`)), true},
		{"a byte too long", strings.Repeat("x", api.MaxInlineAnswer-len(`,"content":""`)+1), false},
		{"24 KiB of control characters", strings.Repeat("\x01", 24<<10), false},
		{"a mebibyte of characters", strings.Repeat("漢字🙂 ", 1<<20/11), false},
		{"100 KB of newlines", strings.Repeat("\n", 100<<10), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.Mocks[0].Script(scripted(c.text, 1+len(c.text)>>18))
			s := e.Stream(t, body(`{"content":"go"}`))
			if s.Text != c.text {
				t.Fatalf("%d bytes came as %d", len(c.text), len(s.Text))
			}
			if (s.Done.Content != nil) != c.inline {
				t.Errorf("%d bytes, content in chat.done: %v", len(c.text), s.Done.Content != nil)
			}
			state := e.JSON(t, http.StatusOK, testedge.Call{Path: "/chat/" + s.Ready.RequestID})
			if state["content"] != c.text {
				t.Error("GET has another content")
			}
			whole := e.JSON(t, http.StatusOK, body(`{"content":"go","stream":false}`))
			if whole["content"] != c.text || whole["content_bytes"] != float64(len(c.text)) {
				t.Error("the answer without a stream has another content")
			}
		})
	}
}
