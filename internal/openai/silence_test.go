package openai

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
)

// step is something a provider sends after a pause.
type step struct {
	after time.Duration
	text  string
}

func repeat(n int, s step) []step {
	steps := make([]step, n)
	for i := range steps {
		steps[i] = s
	}
	return steps
}

// Time is the bubble's: each case takes exactly as long as it says, in no time.
func TestSilence(t *testing.T) {
	t.Parallel()
	const limit = 10 * time.Second
	head := step{0, sseHead}
	for _, tc := range []struct {
		name  string
		steps []step
		emit  time.Duration // how long each emit takes
		code  api.Code
		text  string
		took  time.Duration
	}{
		{name: "never a byte", code: api.UpstreamTimeout, took: limit},
		{name: "within headers", steps: []step{{0, "HTTP/1.1 200"}}, code: api.UpstreamTimeout, took: limit},
		{name: "after headers", steps: []step{{9 * time.Second, sseHead}}, code: api.UpstreamTimeout, took: 19 * time.Second},
		{name: "after a delta", steps: []step{head, {9 * time.Second, delta("a")}}, code: api.UpstreamTimeout, text: "a", took: 19 * time.Second},
		{name: "within a chunk", steps: []step{head, {time.Second, delta("a")[:30]}}, code: api.UpstreamTimeout, took: 11 * time.Second},
		{name: "slow but alive", steps: append(append([]step{head}, repeat(100, step{9 * time.Second, delta("a")})...), step{time.Second, finish + "data: [DONE]\n\n"}),
			text: strings.Repeat("a", 100), took: 901*time.Second + endTimeout},
		{name: "comments in between", steps: []step{head, {9 * time.Second, ":\n\n"}, {9 * time.Second, ":\n\n"}, {9 * time.Second, delta("a") + finish + "data: [DONE]\n\n"}},
			text: "a", took: 27*time.Second + endTimeout},
		{name: "nothing but comments", steps: append([]step{head}, repeat(60, step{3 * time.Second, ":\n\n"})...), code: api.UpstreamTimeout, took: (3 + 100) * time.Second},
		{name: "a drip of one byte", steps: append([]step{head}, repeat(200, step{time.Second, "x"})...), code: api.UpstreamTimeout, took: (1 + 100) * time.Second},
		{name: "slow emit", steps: []step{head, {0, delta("a")}, {0, delta("b")}, {0, finish + "data: [DONE]\n\n"}}, emit: time.Minute, text: "ab", took: 2*time.Minute + endTimeout},
		{name: "no end after the finish", steps: []step{head, {0, delta("a")}, {0, finish}}, text: "a", took: tailTimeout},
		{name: "no end after done", steps: []step{head, {0, delta("a") + finish + "data: [DONE]\n\n"}}, text: "a", took: endTimeout},
		{name: "a refusal without end", steps: []step{{0, "HTTP/1.1 503 X\r\n\r\nbusy"}}, code: api.UpstreamUnavailable, took: errorTimeout},
		{name: "JSON without end", steps: []step{{0, "HTTP/1.1 200 OK\r\n\r\n{"}}, code: api.UpstreamTimeout, took: limit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, err := New(Config{Base: "http://provider", Timeout: limit, DialContext: scripted(tc.steps)})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				var got collected
				begin := time.Now()
				_, err = c.Chat(t.Context(), call(), func(d chat.Delta) error {
					if tc.emit > 0 {
						<-time.After(tc.emit)
					}
					return got.emit(d)
				})
				took := time.Since(begin)
				synctest.Wait()
				if tc.code != "" {
					wantFault(t, err, tc.code)
				} else if err != nil {
					t.Fatal(err)
				}
				if got.text.String() != tc.text || took != tc.took {
					t.Errorf("text %q after %v, want %q after %v", got.text.String(), took, tc.text, tc.took)
				}
			})
		})
	}
}

// scripted dials a provider that reads one request, plays its steps and then
// waits until it is hung up on.
func scripted(steps []step) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := readRequest(far); err != nil {
				return
			}
			gone := make(chan struct{})
			go func() { untilClosed(far); close(gone) }()
			for _, s := range steps {
				select {
				case <-time.After(s.after):
				case <-gone:
					return
				}
				if _, err := io.WriteString(far, s.text); err != nil {
					break
				}
			}
			<-gone
		}()
		return near, nil
	}
}

func TestCancelWhileSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Base: "http://provider", DialContext: scripted(nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		reason := errors.New("stop")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, reason)
		defer cancel()
		begin := time.Now()
		_, err = c.Chat(ctx, call(), new(collected).emit)
		if took := time.Since(begin); !errors.Is(err, reason) || took != 3*time.Second {
			t.Errorf("error %v after %v", err, took)
		}
		synctest.Wait()
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		ms, value string
		want      time.Duration
	}{
		{"", "", 0},
		{"", "0", 0},
		{"", "5", 5 * time.Second},
		{"", " 5 ", 5 * time.Second},
		{"", "1.5", 1500 * time.Millisecond},
		{"", "-5", 0},
		{"", "NaN", 0},
		{"", "Inf", maxRetryAfter},
		{"", "-Inf", 0},
		{"", "1e300", maxRetryAfter},
		{"", "1e999", maxRetryAfter},
		{"", "99999999999999999999", maxRetryAfter},
		{"", "86400", maxRetryAfter},
		{"", "soon", 0},
		{"", "5s", 0},
		{"", "Sun, 01 Mar 2026 12:00:07 GMT", 7 * time.Second},
		{"", "Sun, 01 Mar 2026 11:00:00 GMT", 0},
		{"", "Sun, 01 Mar 2099 12:00:00 GMT", maxRetryAfter},
		{"250", "9", 250 * time.Millisecond},
		{"0.5", "", 500 * time.Microsecond},
		{"NaN", "9", 9 * time.Second},
		{"-1", "9", 9 * time.Second},
		{"1e12", "", maxRetryAfter},
	} {
		h := http.Header{}
		h.Set("Retry-After-Ms", tc.ms)
		h.Set("Retry-After", tc.value)
		if got := retryAfter(h, now); got != tc.want {
			t.Errorf("retry-after-ms %q, Retry-After %q: %v, want %v", tc.ms, tc.value, got, tc.want)
		}
	}
}
