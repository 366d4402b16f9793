package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/agentedge/agentedge/internal/app"
	"github.com/agentedge/agentedge/internal/config"
)

// load reads the configuration of the working directory and the environment.
func load(p Process) (*config.Config, error) {
	dir, err := workDir()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(config.Sources{Environ: p.Environ, Dir: dir})
	if err != nil {
		return nil, &failure{exitUsage, err}
	}
	return cfg, nil
}

// checked is load with the refusals to start.
func checked(p Process) (*config.Config, error) {
	cfg, err := load(p)
	if err != nil {
		return nil, err
	}
	if err := cfg.Check(); err != nil {
		return nil, &failure{exitUsage, err}
	}
	return cfg, nil
}

type serveCommand struct{}

func (serveCommand) Help() string {
	return `Configuration comes from the environment, .env and supabase/config.toml: see
docs/configuration.md and "agentedge config". On PostgreSQL run "agentedge migrate up" first;
the embedded store migrates itself.

Example:
  DATABASE_URL=postgres://… CHAT_API_KEY=… agentedge serve`
}

func (c *serveCommand) Run(ctx context.Context, p Process) error {
	cfg, err := checked(p)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(p.Stderr, nil))
	return app.Run(ctx, cfg, app.Options{
		Logger: log,
		Reload: func() (*config.Config, error) { return checked(p) },
		Ready:  func(addr net.Addr) { log.Info("serving", "addr", addr.String()) },
	})
}

type devCommand struct{}

func (devCommand) Help() string {
	return `Like serve, with the embedded store in ./.agentedge unless DATABASE_URL is set, and with
a mock provider inside the process unless a key is.

Example:
  agentedge dev`
}

func (c *devCommand) Run(ctx context.Context, p Process) error {
	cfg, err := checked(p)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(p.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return app.Run(ctx, cfg, app.Options{
		Mock:   true,
		Logger: log,
		Ready:  func(addr net.Addr) { greet(p, cfg, addr) },
	})
}

// defaultAddr is where the chat command looks for an edge.
const defaultAddr = "127.0.0.1:8787"

// greet says what can be done now.
func greet(p Process, cfg *config.Config, addr net.Addr) {
	kept := "PostgreSQL"
	if cfg.Database.URL == "" {
		kept = cfg.Database.Dir
		if dir, err := workDir(); err == nil && !filepath.IsAbs(kept) {
			kept = filepath.Join(dir, kept)
		}
	}
	from := "the mock provider (set CHAT_API_KEY for a real one)"
	if cfg.Chat.Configured() && !cfg.Chat.ForceMock {
		from = cfg.Chat.Providers[0].Name
	}
	chat := os.Args[0] + ` chat "Hello"`
	if addr.String() != defaultAddr {
		chat += " --url http://" + addr.String()
	}
	fmt.Fprintf(p.Stdout, `agentedge is ready at http://%[1]s
answers come from %[2]s, everything is stored in %[3]s

Try it:
  curl -N http://%[1]s/functions/v1/chat -H 'Content-Type: application/json' -d '{"content":"Hello"}'
  %[4]s
`, addr, from, kept, chat)
}
