package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/client"
	"github.com/agentedge/agentedge/internal/app"
	"github.com/agentedge/agentedge/internal/config"
	"github.com/agentedge/agentedge/internal/mockprovider"
)

// realEdge is the whole server over the embedded store and a mock provider.
type realEdge struct {
	addr string
	mock *mockprovider.Server
}

func startEdge(t *testing.T) *realEdge {
	t.Helper()
	mock, err := mockprovider.New(mockprovider.Options{})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(mock)
	t.Cleanup(upstream.Close)
	t.Cleanup(mock.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	cfg, err := config.Load(config.Sources{Environ: []string{
		"EDGE_ADDR=127.0.0.1:0", "EDGE_DATA_DIR=" + t.TempDir(), "CHAT_API_BASE=" + upstream.URL + "/v1", "CHAT_RATE_LIMIT_PER_MIN=0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	listening, over := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		over <- app.Run(ctx, cfg, app.Options{
			Logger: slog.New(slog.DiscardHandler),
			Ready:  func(addr net.Addr) { listening <- addr },
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	select {
	case addr := <-listening:
		return &realEdge{addr: addr.String(), mock: mock}
	case err := <-over:
		over <- nil
		t.Fatal(err)
		return nil
	}
}

// cutter is a TCP proxy that ends every connection after as many bytes of the
// answer as limit says, -1 for none, by a FIN or a RST.
type cutter struct {
	target string
	ln     net.Listener
	limit  func() (bytes int64, reset bool)
	conns  sync.WaitGroup

	mu       sync.Mutex
	accepted int
	cuts     int
}

func startCutter(t *testing.T, target string, limit func() (int64, bool)) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{target: target, ln: ln, limit: limit}
	c.conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			c.conns.Go(func() { c.serve(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		c.conns.Wait()
	})
	return c
}

func (c *cutter) serve(conn *net.TCPConn) {
	defer conn.Close()
	c.mu.Lock()
	c.accepted++
	limit, reset := c.limit()
	c.mu.Unlock()
	up, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer up.Close()
	var request sync.WaitGroup
	defer request.Wait()
	request.Go(func() {
		_, _ = io.Copy(up, conn) // ends with either connection
		_ = up.Close()           // and then the answer need not go on
	})
	if limit < 0 {
		_, _ = io.Copy(conn, up)
		_ = conn.Close()
		return
	}
	n, _ := io.CopyN(conn, up, limit)
	if n == limit {
		c.mu.Lock()
		c.cuts++
		c.mu.Unlock()
		if reset {
			_ = conn.SetLinger(0)
		}
	}
	_ = conn.Close()
	_ = up.Close()
}

func (c *cutter) counts() (accepted, cuts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accepted, c.cuts
}

func (c *cutter) client(t *testing.T) *client.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return client.New(client.Config{
		BaseURL: "http://" + c.ln.Addr().String(), HTTP: &http.Client{Transport: transport}, Patience: 10 * time.Minute,
	})
}

// TestCutConnections is the promise as a client sees it: whatever happens to its
// connections, every answer arrives whole and was generated once.
func TestCutConnections(t *testing.T) {
	const answers = 120
	edge := startEdge(t)
	random := rand.New(rand.NewPCG(1, 2))
	proxy := startCutter(t, edge.addr, func() (int64, bool) { return random.Int64N(9000), random.IntN(2) == 0 })
	c := proxy.client(t)
	var g errgroup.Group
	for i := range answers {
		g.Go(func() error {
			r := api.ChatRequest{Content: fmt.Sprintf("question %d [[mock: chunks=60 flush=each]]", i)}
			if i%2 == 0 {
				r.IdempotencyKey = fmt.Sprintf("key-%d", i)
			} else {
				r.RequestID = fmt.Sprintf("0198c7a0-6d2e-7b64-9d3f-%012d", i)
			}
			return answer(t.Context(), c, edge, r)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if calls := edge.mock.Stats().Calls; calls != answers {
		t.Errorf("%d provider calls for %d answers", calls, answers)
	}
	if _, cuts := proxy.counts(); cuts < answers {
		t.Errorf("only %d connections were cut: this has shown nothing", cuts)
	}
}

// answer reads one answer and compares it with what the edge has stored.
func answer(ctx context.Context, c *client.Client, edge *realEdge, r api.ChatRequest) error {
	s, err := c.StreamChat(r)
	if err != nil {
		return err
	}
	text, err := read(ctx, s)
	if err != nil {
		return fmt.Errorf("%v: %w", r.Content, err)
	}
	stored, err := storedText(ctx, edge.addr, s.Ready().RequestID)
	if err != nil {
		return err
	}
	if text != stored || s.Text() != stored || s.Done().ContentBytes != len(stored) {
		return fmt.Errorf("%v: read %q, stored %q", r.Content, text, stored)
	}
	return nil
}

// storedText is the answer as the run's state has it.
func storedText(ctx context.Context, addr, run string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/functions/v1/chat/"+run, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var state struct {
		State   string `json:"state"`
		Content string `json:"content"`
	}
	if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
		return "", err
	}
	if state.State != "completed" {
		return "", fmt.Errorf("run %s is %q", run, state.State)
	}
	return state.Content, nil
}

// TestSendAgain cuts the first connections before the edge can say ready: only a
// request that can be recognised is sent again.
func TestSendAgain(t *testing.T) {
	edge := startEdge(t)
	for _, tc := range []struct {
		name    string
		request api.ChatRequest
		conns   int
		whole   bool
	}{
		{"without a key", api.ChatRequest{}, 1, false},
		{"with a key", api.ChatRequest{IdempotencyKey: "k"}, 3, true},
		{"with a request id", api.ChatRequest{RequestID: runID}, 3, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// A run of an earlier case may still be at the provider: each has a tag.
			tag := strings.ReplaceAll(tc.name, " ", "-")
			tc.request.Content = "hello [[mock: tag=" + tag + "]]"
			n := 0
			proxy := startCutter(t, edge.addr, func() (int64, bool) {
				if n++; n <= 2 {
					return 30, true // within the head
				}
				return -1, false
			})
			s, err := proxy.client(t).StreamChat(tc.request)
			if err != nil {
				t.Fatal(err)
			}
			_, err = read(t.Context(), s)
			if (err == nil) != tc.whole {
				t.Errorf("error %v", err)
			}
			if conns, _ := proxy.counts(); conns != tc.conns {
				t.Errorf("%d connections, want %d", conns, tc.conns)
			}
			if calls := edge.mock.Stats().ByTag[tag]; calls > 1 || tc.whole && calls != 1 {
				t.Errorf("%d provider calls", calls)
			}
		})
	}
}

// A cancel ends the run for its reader, and may be repeated.
func TestCancel(t *testing.T) {
	edge := startEdge(t)
	c := client.New(client.Config{BaseURL: "http://" + edge.addr})
	s, err := c.StreamChat(api.ChatRequest{Content: "hello [[mock: fault=stall@2]]", IdempotencyKey: "k"})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	cancels := 0
	for _, err := range s.Deltas(t.Context()) {
		if last = err; err == nil && cancels < 2 {
			cancels++
			if err := c.CancelChat(t.Context(), s.Ready().RequestID); err != nil {
				t.Fatal(err)
			}
		}
	}
	var named *client.Error
	if !errors.As(last, &named) || named.Code != api.Cancelled {
		t.Errorf("the stream ended with %v", last)
	}
	if err := edge.mock.Await(t.Context(), func(s mockprovider.Stats) bool { return s.Open == 0 && s.Aborted == 1 }); err != nil {
		t.Errorf("the provider's call goes on: %v, %+v", err, edge.mock.Stats())
	}
	if err := c.CancelChat(t.Context(), s.Ready().RequestID); err != nil {
		t.Errorf("a second cancel: %v", err)
	}
	var unknown *client.Error
	if err := c.CancelChat(t.Context(), runID); !errors.As(err, &unknown) || unknown.Code != api.StreamNotFound {
		t.Errorf("the cancel of an unknown run: %v", err)
	}
}

// Params travel beside the request's own fields.
func TestParams(t *testing.T) {
	edge := startEdge(t)
	var body []byte
	edge.mock.Script(func(r *mockprovider.Request) mockprovider.Script {
		body = r.Body
		return mockprovider.Script{}
	})
	c := client.New(client.Config{BaseURL: "http://" + edge.addr})
	s, err := c.StreamChat(api.ChatRequest{Content: "hello", Params: map[string]json.RawMessage{"temperature": json.RawMessage("0.25")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	var sent struct {
		Temperature float64 `json:"temperature"`
	}
	if err := json.Unmarshal(body, &sent); err != nil || sent.Temperature != 0.25 {
		t.Errorf("the provider got %s (%v)", body, err)
	}
}
