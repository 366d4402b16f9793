package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	want := pace{Chunks: 20, First: 20 * time.Millisecond, Gap: 5 * time.Millisecond}
	got, err := parsePace([]byte(`{"content":"` + want.directive() + ` and more"}`))
	if err != nil || got != want {
		t.Errorf("parsePace = %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "[[]]", "[[1 2s]]", "[[x 0s 0s]]", "[[1 x 0s]]", "[[1 0s x]]", "[[1 0s 0s"} {
		if _, err := parsePace([]byte(bad)); err == nil {
			t.Errorf("parsePace(%q): no error", bad)
		}
	}
}

// TestClientAgainstUpstream drives the load generator's client over the real
// upstream and the real proxy, keep-alive included.
func TestClientAgainstUpstream(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(handleUpstream))
	defer upstream.Close()
	base, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(newProxy(base))
	defer proxy.Close()
	t.Run(direct, func(t *testing.T) { driveClient(t, &peer{name: direct, addr: base.Host}) })
	t.Run(proxied, func(t *testing.T) {
		driveClient(t, &peer{name: proxied, addr: strings.TrimPrefix(proxy.URL, "http://")})
	})
}

func driveClient(t *testing.T, p *peer) {
	c := newConn(p.addr)
	defer c.close()
	for _, at := range []pace{{1, 0, 0}, {50, 0, 0}, {3, time.Millisecond, time.Millisecond}} {
		for _, stream := range []bool{true, false, true} {
			kind := requestKind{Stream: stream, Pace: at}
			request := p.request(nil, kind, 0)
			if !stream {
				if err := c.plain(t.Context(), request, []byte{mark}); err != nil {
					t.Errorf("plain %+v: %v", at, err)
				}
				continue
			}
			tm := timing{Transit: []time.Duration{}}
			calls := 0
			if err := c.stream(t.Context(), request, p.dialect(kind), &tm, time.Minute, func() { calls++ }); err != nil {
				t.Errorf("stream %+v: %v", at, err)
			}
			if len(tm.Transit) != at.Chunks || calls != 1 || tm.First == 0 || tm.Head == 0 {
				t.Errorf("stream %+v: %d transits, %d first calls, %+v", at, len(tm.Transit), calls, tm)
			}
		}
	}
}

const (
	ready = "retry: 1000\nevent: ready\ndata: {}\n\n"
	done2 = "id: r-1-3\nevent: chat.done\ndata: {\"content_bytes\":64,\"usage\":{}}\n\n"
)

func delta(text string) string {
	return fmt.Sprintf("id: r-1-1\nevent: chat.delta\ndata: {\"delta\":%q}\n\n", text)
}

const chunkText = "1234567890123456789~ lorem ipsum"

func TestEdgeStreamIsChecked(t *testing.T) {
	if len(chunkText) != chunkBytes {
		t.Fatalf("a chunk has %d bytes, the test's %d", chunkBytes, len(chunkText))
	}
	whole := ready + "event: keepalive\ndata: {}\n\n" + delta(chunkText) + delta(chunkText)
	cases := map[string]struct {
		body string
		want string // part of the error; empty: none
	}{
		"whole":             {whole + done2, ""},
		"two in one frame":  {ready + delta(chunkText+chunkText) + done2, ""},
		"one missing":       {ready + delta(chunkText) + done2, "1 of 2 chunks"},
		"one too many":      {whole + delta(chunkText) + done2, "3 of 2 chunks"},
		"no terminal frame": {whole, "terminal frame false"},
		"wrong length":      {whole + strings.Replace(done2, "64", "63", 1), "chat.done without"},
		"error frame":       {whole + "event: error\ndata: {\"code\":\"interrupted\"}\n\n", "interrupted"},
		"after the end":     {whole + done2 + delta("x"), "after the terminal frame"},
		"empty":             {"", "0 of 2 chunks"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				for part := range strings.SplitAfterSeq(tc.body, "m") { // chunks that end in mid-line
					io.WriteString(w, part)
					w.(http.Flusher).Flush()
				}
			}))
			defer server.Close()
			c := newConn(strings.TrimPrefix(server.URL, "http://"))
			defer c.close()
			p := &peer{name: embedded, tokens: []string{"t"}, nth: func() uint64 { return 1 }}
			kind := requestKind{Stream: true, Pace: pace{Chunks: 2}}
			err := c.stream(t.Context(), p.request(nil, kind, 0), p.dialect(kind), &timing{}, time.Minute, nil)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestCutStreamIsLost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, ready+delta(chunkText))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	c := newConn(strings.TrimPrefix(server.URL, "http://"))
	err := c.stream(t.Context(), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), dialect{edge: true, chunks: 1}, &timing{}, time.Minute, nil)
	if err == nil || errors.Is(err, errShort) {
		t.Errorf("a cut stream gave %v", err)
	}
	if c.nc != nil {
		t.Error("a broken connection was kept")
	}
}

func TestRefusalIsAnError(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"code":"quota_exceeded"}`, http.StatusTooManyRequests)
	}))
	defer server.Close()
	c := newConn(strings.TrimPrefix(server.URL, "http://"))
	request := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := c.plain(t.Context(), request, nil); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("plain: %v", err)
	}
	err := c.stream(t.Context(), request, dialect{}, &timing{}, time.Minute, nil)
	if err == nil || !strings.Contains(err.Error(), "quota_exceeded") {
		t.Errorf("stream: %v", err)
	}
}
