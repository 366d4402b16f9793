package openai

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agentedge/agentedge/internal/chat"
)

func TestNewChecksTheBase(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ base, url string }{
		{"https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"},
		{"https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"},
		{" http://localhost:11434 ", "http://localhost:11434/chat/completions"},
		{"https://h/a%2Fb/v1?api-version=3", "https://h/a%2Fb/v1/chat/completions?api-version=3"},
		{"https://[::1]:8080/v1", "https://[::1]:8080/v1/chat/completions"},
		{"", ""},
		{"api.openai.com/v1", ""},
		{"//api.openai.com/v1", ""},
		{"https:///v1", ""},
		{"https://:443/v1", ""},
		{"ftp://h/v1", ""},
		{"file:///etc/passwd", ""},
		{"unix:/run/x", ""},
		{"https://user:hunter2@h/v1", ""},
		{"https://hunter2@h/v1", ""},
		{"https://h/v1#x", ""},
		{"https://h hunter2/v1", ""},
		{"https://h/%zz", ""},
	} {
		c, err := New(Config{Name: "p", Base: tc.base})
		switch {
		case tc.url == "" && err == nil:
			t.Errorf("base %q was accepted", tc.base)
		case tc.url == "" && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the error repeats the base: %v", err)
		case tc.url != "" && err != nil:
			t.Errorf("base %q: %v", tc.base, err)
		case tc.url != "" && c.url.String() != tc.url:
			t.Errorf("base %q: %s, want %s", tc.base, c.url, tc.url)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	p := startProvider(t, func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, sseHead+delta("a")+finish) })
	var keys Keys
	keys.Set([]string{"first-key", "second-key"})
	c := newClient(t, Config{Name: "p", Base: p.base + "/x?v=1", Keys: keys.Next})
	if c.Name() != "p" {
		t.Errorf("name %q", c.Name())
	}
	ask := chat.Call{
		Model:  "m\"é",
		Stream: true,
		Messages: []chat.Message{
			{Role: "system", Content: json.RawMessage(`"<b> & é"`)},
			{Role: "user", Name: "u", Content: json.RawMessage(`[{"type":"text","text":"hi"}]`)},
			{Role: "assistant", ToolCalls: json.RawMessage(`[{"id":"t"}]`)},
			{Role: "tool", ToolCallID: "t", Content: json.RawMessage(`"ok"`)},
		},
		Params: map[string]json.RawMessage{"temperature": json.RawMessage(`0.5`), "stop": json.RawMessage(`["x"]`)},
	}
	want := `{"model":"m\"é","messages":[{"role":"system","content":"<b> & é"},{"role":"user","content":[{"type":"text","text":"hi"}],"name":"u"},` +
		`{"role":"assistant","content":null,"tool_calls":[{"id":"t"}]},{"role":"tool","content":"ok","tool_call_id":"t"}],"stop":["x"],"temperature":0.5`
	for _, tc := range []struct {
		stream            bool
		accept, key, tail string
	}{
		{true, "text/event-stream", "first-key", `,"stream":true,"stream_options":{"include_usage":true}}`},
		{false, "application/json", "second-key", `}`},
		{true, "text/event-stream", "first-key", `,"stream":true,"stream_options":{"include_usage":true}}`},
	} {
		ask.Stream = tc.stream
		_, _ = c.Chat(testContext(t), ask, new(collected).emit)
		req := <-p.calls
		body, _ := io.ReadAll(req.Body)
		if string(body) != want+tc.tail {
			t.Errorf("body\n%s\nwant\n%s", body, want+tc.tail)
		}
		if req.Method != "POST" || req.URL.String() != "/v1/x/chat/completions?v=1" || req.Header.Get("Authorization") != "Bearer "+tc.key ||
			req.Header.Get("Accept") != tc.accept || req.Header.Get("Accept-Encoding") != "identity" || req.Header.Get("Content-Type") != "application/json" || req.ContentLength != int64(len(body)) {
			t.Errorf("%s %s %v", req.Method, req.URL, req.Header)
		}
	}
	keys.Set([]string{""})
	_, _ = c.Chat(testContext(t), ask, new(collected).emit)
	if req := <-p.calls; req.Header.Get("Authorization") != "" {
		t.Errorf("without a key: %v", req.Header)
	}
}

func TestCallThatIsNoJSON(t *testing.T) {
	t.Parallel()
	c := newClient(t, Config{Base: "http://provider"})
	for name, ask := range map[string]chat.Call{
		"content":    {Messages: []chat.Message{{Content: json.RawMessage(`"a`)}}},
		"tool calls": {Messages: []chat.Message{{ToolCalls: json.RawMessage(`[1] 2`)}}},
		"parameter":  {Params: map[string]json.RawMessage{"x": json.RawMessage(`1},"y":{`)}},
		"stream":     {Params: map[string]json.RawMessage{"stream": json.RawMessage(`false`)}},
		"model":      {Params: map[string]json.RawMessage{"model": json.RawMessage(`"x"`)}},
	} {
		if _, err := c.Chat(testContext(t), ask, new(collected).emit); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPayloadIsLetGo(t *testing.T) {
	t.Parallel()
	p := newPayload([]byte("abc"))
	for range 2 {
		body, err := p.open()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(body); string(got) != "abc" || p.size != 3 {
			t.Errorf("%q", got)
		}
	}
	p.release()
	if _, err := p.open(); err == nil {
		t.Error("a body that was let go can be sent again")
	}
}

// Connections are used again after whole answers, over either protocol, and each
// of many calls at once gets its own answer, although every third is given up
// half-way.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	for _, overTLS := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", overTLS), func(t *testing.T) {
			t.Parallel()
			const workers, each = 8, 30
			var conns atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(echo))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					conns.Add(1)
				}
			}
			cfg := Config{}
			if overTLS {
				server.EnableHTTP2 = true
				server.StartTLS()
				cfg.TLS = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
			} else {
				server.Start()
			}
			defer server.Close()
			cfg.Base = server.URL
			c := newClient(t, cfg)
			var done sync.WaitGroup
			for w := range workers {
				done.Go(func() {
					for i := range each {
						callAndCheck(t, c, fmt.Sprintf("answer %d of %d. ", i, w), i%3 == 2)
					}
				})
			}
			done.Wait()
			// A third of the calls costs a connection; the rest leaves room for body
			// ends that come too late on a busy machine.
			if n, calls := conns.Load(), int64(workers*each); n > calls*3/4 {
				t.Errorf("%d connections for %d calls", n, calls)
			}
		})
	}
}

// echo streams the model's name three times.
func echo(w http.ResponseWriter, r *http.Request) {
	var ask struct{ Model string }
	if json.NewDecoder(r.Body).Decode(&ask) != nil {
		w.WriteHeader(400)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for range 3 {
		_, _ = io.WriteString(w, delta(ask.Model))
		w.(http.Flusher).Flush()
	}
	_, _ = io.WriteString(w, finish+"data: [DONE]\n\n")
}

func callAndCheck(t *testing.T, c *Client, model string, giveUp bool) {
	var got collected
	ask := call()
	ask.Model = model
	_, err := c.Chat(testContext(t), ask, func(d chat.Delta) error {
		if d.Text != model {
			t.Errorf("delta %q, want %q", d.Text, model)
		}
		_ = got.emit(d)
		if giveUp {
			return io.ErrClosedPipe
		}
		return nil
	})
	switch {
	case giveUp && err != io.ErrClosedPipe:
		t.Errorf("given up: %v", err)
	case !giveUp && (err != nil || got.deltas != 3):
		t.Errorf("%d deltas, error %v", got.deltas, err)
	}
}

func TestHTTP2IsSpoken(t *testing.T) {
	t.Parallel()
	proto := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto <- r.Proto
		echo(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c := newClient(t, Config{Base: server.URL, TLS: server.Client().Transport.(*http.Transport).TLSClientConfig})
	callAndCheck(t, c, "m-1", false)
	if p := <-proto; p != "HTTP/2.0" {
		t.Errorf("protocol %s", p)
	}
}
