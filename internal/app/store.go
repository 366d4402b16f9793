package app

import (
	"context"
	"errors"
	"log/slog"

	"github.com/agentedge/agentedge/internal/config"
	"github.com/agentedge/agentedge/internal/postgres"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/sqlite"
)

// store is a run.Store that the app has opened.
type store = run.Store

// openStore opens the configured store. The embedded one migrates itself; on
// PostgreSQL an old schema is refused, and in production a lossy server.
func openStore(ctx context.Context, cfg *config.Config, log *slog.Logger) (store, error) {
	if cfg.Database.URL == "" {
		s, err := sqlite.Open(ctx, sqlite.Config{Path: dataFile(cfg), Logger: log})
		if err != nil {
			return nil, err
		}
		if _, err := s.Migrate(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return s, nil
	}
	s, err := postgres.Open(ctx, postgres.Config{
		URL: string(cfg.Database.URL), DirectURL: string(cfg.Database.DirectURL), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	err = s.CheckSchema(ctx)
	if err == nil && cfg.Production() {
		err = s.CheckDurability(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
