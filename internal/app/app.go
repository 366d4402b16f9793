// Package app is the composition root: it makes the parts from the configuration,
// runs them together and stops them in an order that loses nothing.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/config"
	"github.com/agentedge/agentedge/internal/httpapi"
	"github.com/agentedge/agentedge/internal/run"
)

const (
	flushWait = 10 * time.Second // what is left at DRAIN_TIMEOUT is stored within this
	closeWait = 5 * time.Second  // and the last bytes of the responses go out within this
)

// Options are what a process adds to its configuration.
type Options struct {
	Mock   bool // answer by a mock provider where no other is configured
	Logger *slog.Logger
	Ready  func(addr net.Addr)                     // called once requests are served
	Reload func() (*config.Config, error)          // for SIGHUP: keys are taken over from it
	Listen func(addr string) (net.Listener, error) // nil: net.Listen on TCP
}

// App is one node.
type App struct {
	cfg       *config.Config
	opts      Options
	log       *slog.Logger
	store     store
	providers *providers
	engine    *run.Engine
	chats     *chat.Service
	server    *httpapi.Server
}

// Run runs a node until ctx ends, and then drains it.
func Run(ctx context.Context, cfg *config.Config, opts Options) error {
	a := &App{cfg: cfg, opts: opts, log: opts.Logger}
	if err := a.open(ctx); err != nil {
		return errors.Join(err, a.close())
	}
	err := a.serve(ctx)
	return errors.Join(err, a.close())
}

// open makes the parts, the store first.
func (a *App) open(ctx context.Context) (err error) {
	if a.store, err = openStore(ctx, a.cfg, a.log); err != nil {
		return err
	}
	if a.providers, err = openProviders(a.cfg, a.opts.Mock); err != nil {
		return err
	}
	verifier, err := newVerifier(a.cfg)
	if err != nil {
		return err
	}
	c, r := &a.cfg.Chat, &a.cfg.Run
	turns := chat.NewTurns(chat.TurnConfig{
		HistoryTokens: c.HistoryTokens, OnDisconnect: c.OnDisconnect, Recovery: r.MidstreamRecovery, Logger: a.log,
	}, a.providers.route)
	a.engine = run.NewEngine(run.Config{
		Node: nodeName(), Lease: r.Lease, MaxAttempts: r.MaxAttempts, Retention: r.LogRetention,
		Grace: max(c.DisconnectGrace, time.Millisecond), Logger: a.log,
	}, a.store, map[string]run.Handler{chat.Kind: turns})
	a.chats = chat.NewService(chat.ServiceConfig{
		MaxChars: c.MaxContentChars, Model: c.ModelDefault, Models: c.Models, HistoryTokens: c.HistoryTokens,
		PerMinute: c.RateLimit, AllPerMinute: c.GlobalRateLimit, RequireKey: a.cfg.Edge.RequireIdempotency,
	}, a.engine)
	a.server = httpapi.New(httpapi.Config{
		AuthOptional: a.cfg.Edge.AuthOptional, Functions: functions(a.cfg),
		CORSOrigins: a.cfg.Edge.CORSOrigins, TrustedProxies: a.cfg.Edge.TrustedProxies, Logger: a.log,
	}, a.chats, verifier, a.store.Ping)
	return nil
}

// nodeName is this process among the nodes of a store.
func nodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), uuid.NewString()[:8])
}

func newVerifier(cfg *config.Config) (*auth.Verifier, error) {
	i := &cfg.Identity
	return auth.New(auth.Config{
		JWTSecret: string(i.JWTSecret), ServiceRoleKey: string(i.ServiceRoleKey), AnonKey: string(i.AnonKey),
		SecretKeys: plain(i.SecretKeys), PublishableKeys: plain(i.PublishableKeys),
	})
}

func plain(keys map[string]config.Secret) map[string]string {
	out := make(map[string]string, len(keys))
	for name, key := range keys {
		out[name] = string(key)
	}
	return out
}

func functions(cfg *config.Config) func(string) httpapi.Function {
	return func(name string) httpapi.Function {
		f := cfg.Function(name)
		return httpapi.Function{VerifyJWT: f.VerifyJWT, Enabled: f.Enabled}
	}
}

// serve runs the parts until ctx ends, then stops them in turn: no new requests,
// the live runs to their end, the responses, the engine.
func (a *App) serve(ctx context.Context) error {
	listen := a.opts.Listen
	if listen == nil {
		listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	ln, err := listen(a.cfg.Edge.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w\nhint: set EDGE_ADDR to a free address", err)
	}
	server := a.server.HTTP()
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	group, parts := errgroup.WithContext(parts)
	group.Go(func() error { return a.engine.Run(parts) })
	group.Go(func() error { return a.chats.Run(parts) })
	group.Go(func() error { return a.reloadLoop(parts) })
	group.Go(func() error { return collectLoop(parts) })
	group.Go(func() error {
		err := a.serveHTTP(server, ln)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve: %w", err)
	})
	if a.opts.Ready != nil {
		a.opts.Ready(ln.Addr())
	}
	select {
	case <-ctx.Done():
		a.drain(server)
	case <-parts.Done(): // a part failed
		_ = server.Close() // the process ends: there is nobody left to serve
	}
	stopParts()
	return group.Wait()
}

func (a *App) serveHTTP(server *http.Server, ln net.Listener) error {
	if a.cfg.Edge.TLSCert != "" {
		return server.ServeTLS(ln, a.cfg.Edge.TLSCert, a.cfg.Edge.TLSKey)
	}
	return server.Serve(ln)
}

// drain ends what is live, as well as it can be ended in the time there is.
func (a *App) drain(server *http.Server) {
	a.log.Info("draining", "runs", a.engine.Held(), "timeout", a.cfg.Edge.DrainTimeout)
	a.server.Refuse()
	wait, done := context.WithTimeout(context.Background(), a.cfg.Edge.DrainTimeout)
	defer done()
	a.engine.Drain(wait, flushWait)
	last, done := context.WithTimeout(context.Background(), closeWait)
	defer done()
	if err := server.Shutdown(last); err != nil {
		a.log.Warn("connections cut", "error", err)
		_ = server.Close() // those that did not end by themselves
	}
}

// reloadLoop takes new provider keys over on SIGHUP. A configuration with a fault
// changes nothing.
func (a *App) reloadLoop(ctx context.Context) error {
	if a.opts.Reload == nil {
		return nil
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return nil
		}
		cfg, err := a.opts.Reload()
		if err != nil {
			a.log.Error("configuration not reloaded", "error", err)
			continue
		}
		a.log.Info("provider keys reloaded", "changed", a.providers.reload(cfg))
	}
}

// close gives back what open took.
func (a *App) close() error {
	if a.providers != nil {
		a.providers.close()
	}
	if a.store == nil {
		return nil
	}
	return a.store.Close()
}

// dataFile is the embedded store's file.
func dataFile(cfg *config.Config) string { return filepath.Join(cfg.Database.Dir, "agentedge.db") }
