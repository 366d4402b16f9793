package openai

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "sk-test-0123456789abcdef"

// sseHead begins a stream whose body ends with the connection.
const sseHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

const chunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

// delta returns one event that adds text.
func delta(text string) string {
	return fmt.Sprintf(`data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`, text) + "\n\n"
}

const finish = `data: {"model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"

func chunked(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

func call() chat.Call {
	return chat.Call{Model: "m-1", Stream: true, Messages: []chat.Message{{Role: "user", Content: []byte(`"hi"`)}}}
}

// collected is what a call emitted.
type collected struct {
	text, reasoning, tools strings.Builder
	deltas                 int
}

func (c *collected) emit(d chat.Delta) error {
	c.deltas++
	c.text.WriteString(d.Text)
	c.reasoning.WriteString(d.Reasoning)
	c.tools.Write(d.ToolCalls)
	return nil
}

// provider is a TCP server that hands every request to a script, with the
// connection to write to as it likes.
type provider struct {
	base  string
	calls chan *http.Request
	conns sync.WaitGroup
}

func startProvider(t *testing.T, script func(net.Conn, *http.Request)) *provider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{base: "http://" + ln.Addr().String() + "/v1", calls: make(chan *http.Request, 1000)}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() {
				defer conn.Close()
				req, err := readRequest(conn)
				if err != nil {
					return
				}
				p.calls <- req
				script(conn, req)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		accepting.Wait()
		p.conns.Wait()
	})
	return p
}

func readRequest(conn net.Conn) (*http.Request, error) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(req.Body)
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	return req, err
}

// untilClosed waits until the other side has closed the connection.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	if cfg.Keys == nil {
		cfg.Keys = func() string { return testKey }
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func wantFault(t *testing.T, err error, code api.Code) *fault.Error {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v, want %s", err, code)
	}
	if f.Code != code {
		t.Fatalf("code %s (%v), want %s", f.Code, err, code)
	}
	shown := fmt.Sprint(f.Message, f.Details)
	if strings.Contains(shown, testKey) || strings.Contains(shown, "127.0.0.1") {
		t.Errorf("the fault shows what it must not: %s", shown)
	}
	return f
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func wantAnyFault(t *testing.T, err error) *fault.Error {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v", err)
	}
	return f
}
