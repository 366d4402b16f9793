// Package testedge is a whole edge in one process for tests: the HTTP server,
// the chat service, the run engine, an embedded store and mock providers, joined
// as internal/app joins them. Its network is TCP, or pipes: those work inside a
// testing/synctest bubble, where an hour of silence takes no time. It holds no
// behaviour of its own and refuses to start anything that it does not end.
package testedge

import (
	"context"
	"database/sql"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/httpapi"
	"github.com/agentedge/agentedge/internal/mockprovider"
	"github.com/agentedge/agentedge/internal/openai"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/sqlite"
)

// Config of an Edge. The zero value has what `agentedge dev` has.
type Config struct {
	Dir       string // of the store; empty: one of the test's own
	Pipes     bool   // the network is pipes and not TCP
	Chat      chat.ServiceConfig
	Turns     chat.TurnConfig
	Run       run.Config
	HTTP      httpapi.Config // Functions nil: all enabled, verify_jwt on
	Auth      auth.Config
	Retries   int      // CHAT_PROVIDER_MAX_RETRIES
	Providers []string // names; none: one, "mock"
	Timeout   time.Duration
}

// Edge is a running edge.
type Edge struct {
	URL    string
	HTTP   *http.Client
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Server *httpapi.Server
	Engine *run.Engine
	Store  *sqlite.Store
	Mocks  []*mockprovider.Server // as Config.Providers

	file    string
	db      *sql.DB // a view of the store from outside, once it is wanted
	pipes   bool
	closers []func()
	once    sync.Once
}

// Start starts an edge and ends it with the test.
func Start(tb testing.TB, cfg Config) *Edge {
	tb.Helper()
	cfg = withDefaults(tb, cfg)
	e := &Edge{pipes: cfg.Pipes, file: filepath.Join(cfg.Dir, "edge.db")}
	tb.Cleanup(e.Stop) // after the folder was made: it must go last
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	e.Store, err = sqlite.Open(context.Background(), sqlite.Config{Path: e.file})
	must(err)
	e.later(func() { must(e.Store.Close()) })
	_, err = e.Store.Migrate(context.Background())
	must(err)

	route := chat.RouteConfig{MaxRetries: cfg.Retries}
	for _, name := range cfg.Providers {
		up, err := e.provider(name, cfg)
		must(err)
		route.Providers = append(route.Providers, chat.RouteProvider{Upstream: up})
	}
	turns := chat.NewTurns(cfg.Turns, chat.NewRoute(route))
	e.Engine = run.NewEngine(cfg.Run, e.Store, map[string]run.Handler{chat.Kind: turns})
	service := chat.NewService(cfg.Chat, e.Engine)
	verifier, err := auth.New(cfg.Auth)
	must(err)
	e.Server = httpapi.New(cfg.HTTP, service, verifier, e.Store.Ping)
	var parts sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	parts.Go(func() { _ = e.Engine.Run(ctx) })
	parts.Go(func() { _ = service.Run(ctx) })
	e.later(func() { stop(); parts.Wait() })
	e.listen(tb)
	return e
}

func withDefaults(tb testing.TB, cfg Config) Config {
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	if cfg.Chat.MaxChars == 0 {
		cfg.Chat.MaxChars = 32000
	}
	if cfg.Chat.Model == "" {
		cfg.Chat.Model = "mock-chat"
	}
	if cfg.Chat.HistoryTokens == 0 {
		cfg.Chat.HistoryTokens = 8000
	}
	cfg.Turns.HistoryTokens = cfg.Chat.HistoryTokens
	if cfg.Run.Node == "" {
		cfg.Run.Node = "node"
	}
	if cfg.HTTP.Functions == nil {
		cfg.HTTP.Functions = func(string) httpapi.Function { return httpapi.Function{VerifyJWT: true, Enabled: true} }
	}
	if len(cfg.Providers) == 0 {
		cfg.Providers = []string{"mock"}
	}
	return cfg
}

// provider starts a mock and returns the client that the edge has of it.
func (e *Edge) provider(name string, cfg Config) (*openai.Client, error) {
	mock, err := mockprovider.New(mockprovider.Options{})
	if err != nil {
		return nil, err
	}
	e.Mocks = append(e.Mocks, mock)
	ln, dial, err := network(e.pipes)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: mock, ReadHeaderTimeout: time.Minute}
	closed := e.serve(server, ln)
	up, err := openai.New(openai.Config{
		Name: name, Base: "http://" + ln.Addr().String() + "/v1", Keys: func() string { return "sk-mock" },
		DialContext: dial, Timeout: cfg.Timeout,
	})
	if err != nil {
		return nil, err
	}
	e.later(func() { mock.Close(); closed(); up.Close() })
	return up, nil
}

// Serve starts a server that has nothing behind it but what the test gave it.
func Serve(tb testing.TB, server *httpapi.Server) *Edge {
	tb.Helper()
	e := &Edge{Server: server}
	tb.Cleanup(e.Stop)
	e.listen(tb)
	return e
}

func (e *Edge) listen(tb testing.TB) {
	tb.Helper()
	ln, dial, err := network(e.pipes)
	if err != nil {
		tb.Fatal(err)
	}
	server := e.Server.HTTP()
	closed := e.serve(server, ln)
	transport := &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 64}
	e.HTTP = &http.Client{Transport: transport}
	e.URL, e.Dial = "http://"+ln.Addr().String(), dial
	e.later(func() { closed(); transport.CloseIdleConnections() })
}

// serve serves until the returned function is called, which cuts what is open
// and waits for every connection's goroutine.
func (e *Edge) serve(server *http.Server, ln net.Listener) (closed func()) {
	var parts sync.WaitGroup
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			parts.Add(1)
		case http.StateClosed, http.StateHijacked:
			parts.Done()
		}
	}
	parts.Go(func() { _ = server.Serve(ln) })
	return func() { _ = server.Close(); parts.Wait() }
}

// later registers what ends a part; the newest ends first.
func (e *Edge) later(f func()) { e.closers = append(e.closers, f) }

// Stop ends the edge as a crash would: nothing is drained.
func (e *Edge) Stop() {
	e.once.Do(func() {
		for i := len(e.closers) - 1; i >= 0; i-- {
			e.closers[i]()
		}
	})
}

// Dev is the HTTP side as it is in development: a credential is optional.
func Dev() httpapi.Config { return httpapi.Config{AuthOptional: true} }
