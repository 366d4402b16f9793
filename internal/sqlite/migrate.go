package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var files embed.FS

// ErrNewer says that a newer program has migrated the file. What this one does
// not know it could only damage.
var ErrNewer = errors.New("the database was made by a newer version of agentedge")

// Migration is one step of the schema.
type Migration struct {
	Version string // a timestamp: versions are applied in its order
	Name    string
	Applied bool
}

// Applied is a migration that Migrate has just applied.
type Applied struct {
	Version string
	Name    string
	Took    time.Duration
}

// step is a migration and its statements.
type step struct {
	version, name, sql string
}

// steps are the embedded migrations, oldest first.
func steps() ([]step, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []step
	for _, path := range names {
		sql, err := files.ReadFile(path)
		if err != nil {
			return nil, err
		}
		version, name, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql"), "_")
		if !ok {
			return nil, fmt.Errorf("migration %s is not named <timestamp>_<name>.sql", path)
		}
		all = append(all, step{version, name, string(sql)})
	}
	return all, nil
}

// appliedMigrations are the versions in the file's history with their names.
func appliedMigrations(c *conn) (map[string]string, error) {
	applied := map[string]string{}
	found, err := c.one(func(*row) {}, `select 1 from sqlite_schema where type = 'table' and name = 'schema_migrations'`)
	if err != nil || !found {
		return applied, err
	}
	err = c.query(func(r *row) error {
		applied[r.text(0)] = r.text(1)
		return nil
	}, `select version, name from schema_migrations`)
	return applied, err
}

func refuseNewer(applied map[string]string) error {
	all, err := steps()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, st := range all {
		known[st.version] = true
	}
	var unknown []string
	for version, name := range applied {
		if !known[version] {
			unknown = append(unknown, version+"_"+name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("%w: it has migration %s", ErrNewer, strings.Join(unknown, ", "))
}

// Migrate applies what is not applied yet, each migration in a transaction of
// its own, and returns what it applied.
func (s *Store) Migrate(ctx context.Context) ([]Applied, error) {
	all, err := steps()
	if err != nil {
		return nil, fmt.Errorf("sqlite: migrate: %w", err)
	}
	var done []Applied
	for _, st := range all {
		began, fresh := time.Now(), false
		err := s.change(ctx, func(c *conn) (err error) {
			fresh, err = apply(c, st)
			return err
		})
		if err != nil {
			return done, fmt.Errorf("sqlite: migration %s_%s: %w", st.version, st.name, err)
		}
		if fresh {
			done = append(done, Applied{st.version, st.name, time.Since(began)})
		}
	}
	return done, nil
}

// apply runs one migration unless the file has it.
func apply(c *conn, st step) (fresh bool, err error) {
	err = c.script(`create table if not exists schema_migrations (
		version text not null primary key, name text not null, applied_at integer not null) strict, without rowid`)
	if err != nil {
		return false, err
	}
	n, err := c.exec(`insert into schema_migrations (version, name, applied_at) values (?, ?, ?) on conflict do nothing`,
		st.version, st.name, time.Now())
	if err != nil || n == 0 {
		return false, err
	}
	return true, c.script(st.sql)
}

// Status lists the migrations there are and whether the file has them.
func (s *Store) Status(ctx context.Context) ([]Migration, error) {
	all, err := steps()
	if err != nil {
		return nil, fmt.Errorf("sqlite: status: %w", err)
	}
	var applied map[string]string
	err = s.look(ctx, func(c *conn) (err error) {
		applied, err = appliedMigrations(c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: status: %w", err)
	}
	var list []Migration
	for _, st := range all {
		_, ok := applied[st.version]
		list = append(list, Migration{st.version, st.name, ok})
	}
	return list, nil
}
