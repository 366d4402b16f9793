package app

import (
	"context"
	"errors"

	"github.com/agentedge/agentedge/internal/config"
	"github.com/agentedge/agentedge/internal/postgres"
	"github.com/agentedge/agentedge/internal/sqlite"
)

// Migration is one step of the store's schema. Known is false for one that a
// newer version of the program has applied.
type Migration struct {
	Version string `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
	Known   bool   `json:"known"`
}

// MigrateUp applies what the store's schema lacks and returns what it applied.
func MigrateUp(ctx context.Context, cfg *config.Config) (applied []string, err error) {
	if cfg.Database.URL != "" {
		return postgres.Migrate(ctx, migrateURL(cfg))
	}
	err = withFile(ctx, cfg, func(s *sqlite.Store) error {
		done, err := s.Migrate(ctx)
		for _, m := range done {
			applied = append(applied, m.Version+"_"+m.Name)
		}
		return err
	})
	return applied, err
}

// MigrateStatus lists the migrations and whether the store has them.
func MigrateStatus(ctx context.Context, cfg *config.Config) (list []Migration, err error) {
	if cfg.Database.URL != "" {
		known, unknown, err := postgres.Status(ctx, migrateURL(cfg))
		for _, m := range known {
			list = append(list, Migration{m.Version, m.Name, m.Applied, true})
		}
		for _, version := range unknown {
			list = append(list, Migration{version, "", true, false})
		}
		return list, err
	}
	err = withFile(ctx, cfg, func(s *sqlite.Store) error {
		known, err := s.Status(ctx)
		for _, m := range known {
			list = append(list, Migration{m.Version, m.Name, m.Applied, true})
		}
		return err
	})
	return list, err
}

// MigrateVerify compares the store's schema with the one this program expects.
// The error names every object that differs.
func MigrateVerify(ctx context.Context, cfg *config.Config) error {
	if cfg.Database.URL != "" {
		return postgres.Verify(ctx, migrateURL(cfg))
	}
	return withFile(ctx, cfg, func(s *sqlite.Store) error { return s.Verify(ctx) })
}

// migrateURL is a connection that can hold a lock over several statements.
func migrateURL(cfg *config.Config) string {
	if cfg.Database.DirectURL != "" {
		return string(cfg.Database.DirectURL)
	}
	return string(cfg.Database.URL)
}

func withFile(ctx context.Context, cfg *config.Config, f func(*sqlite.Store) error) error {
	s, err := sqlite.Open(ctx, sqlite.Config{Path: dataFile(cfg)})
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}
