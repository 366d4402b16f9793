package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentedge/agentedge/supabase"
)

// migrationLock is the advisory lock under which schemas change: nodes that
// start at once take turns.
const migrationLock = 7_205_130_144

// Migration is one file of package supabase.
type Migration struct {
	Version string // YYYYMMDDHHMMSS
	Name    string
	Applied bool
	sql     string
}

// migrations returns all files in order.
func migrations() ([]Migration, error) {
	files, err := supabase.Migrations.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	name := regexp.MustCompile(`^([0-9]{14})_(.+)\.sql$`)
	var all []Migration
	for _, f := range files {
		m := name.FindStringSubmatch(f.Name())
		if m == nil {
			return nil, fmt.Errorf("%s is not a migration's name", f.Name())
		}
		sql, err := supabase.Migrations.ReadFile("migrations/" + f.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, Migration{Version: m[1], Name: m[2], sql: string(sql)})
	}
	slices.SortFunc(all, func(a, b Migration) int { return strings.Compare(a.Version, b.Version) })
	return all, nil
}

// connect opens a connection of its own, without the pool's settings.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := directConfig(Config{URL: url})
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: connect: %w", err)
	}
	return conn, nil
}

// Migrate applies what is missing, each file in a transaction of its own, and
// returns the versions it applied. Any number of nodes may call it at once.
func Migrate(ctx context.Context, url string) (applied []string, err error) {
	all, err := migrations()
	if err != nil {
		return nil, fmt.Errorf("postgres: migrate: %w", err)
	}
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	missing, err := pending(ctx, conn, all)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	if err := inTurn(ctx, conn, func(tx pgx.Tx) error { return prepareSchema(ctx, tx) }); err != nil {
		return nil, fmt.Errorf("postgres: migrate: what Supabase brings: %w", describe(err, supabase.Stub))
	}
	for _, m := range missing {
		done := false
		err := inTurn(ctx, conn, func(tx pgx.Tx) (err error) {
			done, err = apply(ctx, tx, m)
			return err
		})
		if err != nil {
			return applied, fmt.Errorf("postgres: migrate: %s_%s: %w", m.Version, m.Name, describe(err, m.sql))
		}
		if done {
			applied = append(applied, m.Version)
		}
	}
	return applied, nil
}

// inTurn runs fn in a transaction that holds the migrations' lock.
func inTurn(ctx context.Context, conn *pgx.Conn, fn func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", migrationLock); err != nil {
			return err
		}
		// A migration that cannot get a table's lock must not hold up everybody
		// who queues behind it.
		if _, err := tx.Exec(ctx, "set local lock_timeout = '10s'"); err != nil {
			return err
		}
		return fn(tx)
	})
	if err != nil {
		return err
	}
	// The files set search_path for their session.
	_, err = conn.Exec(ctx, "reset all")
	return err
}

// prepareSchema makes the history as Supabase's CLI does, and on a PostgreSQL that
// is not Supabase's what the migrations need of it.
func prepareSchema(ctx context.Context, tx pgx.Tx) error {
	var hosted bool
	if err := tx.QueryRow(ctx, "select exists (select from pg_roles where rolname = 'supabase_admin')").Scan(&hosted); err != nil {
		return err
	}
	script := `create schema if not exists supabase_migrations;
		create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
		alter table supabase_migrations.schema_migrations add column if not exists statements text[];
		alter table supabase_migrations.schema_migrations add column if not exists name text;`
	if !hosted {
		script += supabase.Stub
	}
	return execScript(ctx, tx, script)
}

func apply(ctx context.Context, tx pgx.Tx, m Migration) (bool, error) {
	tag, err := tx.Exec(ctx, `insert into supabase_migrations.schema_migrations (version, name, statements)
		values ($1, $2, $3) on conflict do nothing`, m.Version, m.Name, []string{m.sql})
	if err != nil || tag.RowsAffected() == 0 {
		return false, err // another node was first
	}
	return true, execScript(ctx, tx, m.sql)
}

// execScript runs many statements, which takes the simple protocol.
func execScript(ctx context.Context, tx pgx.Tx, sql string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// describe adds the line of the script at which it failed.
func describe(err error, script string) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Position == 0 {
		return err
	}
	runes := []rune(script)
	line := 1 + strings.Count(string(runes[:min(int(e.Position), len(runes))]), "\n")
	return fmt.Errorf("line %d: %w", line, err)
}

// appliedVersions is the history; none if there is no history yet.
func appliedVersions(ctx context.Context, db querier) ([]string, error) {
	rows, _ := db.Query(ctx, "select version from supabase_migrations.schema_migrations order by version")
	versions, err := pgx.CollectRows(rows, pgx.RowTo[string]) // Query's error too
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "42P01" || e.Code == "3F000") { // no such table, no such schema
		return nil, nil
	}
	return versions, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func pending(ctx context.Context, db querier, all []Migration) ([]Migration, error) {
	versions, err := appliedVersions(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("postgres: migration history: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(m Migration) bool { return slices.Contains(versions, m.Version) }), nil
}

// Status returns this binary's migrations, and the versions in the database that
// it does not know: those of a newer binary, or of the user's own project.
func Status(ctx context.Context, url string) (known []Migration, unknown []string, err error) {
	known, err = migrations()
	if err != nil {
		return nil, nil, fmt.Errorf("postgres: migration status: %w", err)
	}
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	versions, err := appliedVersions(ctx, conn)
	if err != nil {
		return nil, nil, fmt.Errorf("postgres: migration status: %w", err)
	}
	for i := range known {
		known[i].Applied = slices.Contains(versions, known[i].Version)
	}
	for _, v := range versions {
		if !slices.ContainsFunc(known, func(m Migration) bool { return m.Version == v }) {
			unknown = append(unknown, v)
		}
	}
	return known, unknown, nil
}

// CheckSchema refuses a database that lacks a migration of this binary.
func (s *Store) CheckSchema(ctx context.Context) error {
	all, err := migrations()
	if err != nil {
		return fmt.Errorf("postgres: check schema: %w", err)
	}
	missing, err := pending(ctx, s.pool, all)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("postgres: the database's schema is behind by %d migrations, the first is %s_%s: run `agentedge migrate up`",
			len(missing), missing[0].Version, missing[0].Name)
	}
	return nil
}

// CheckDurability refuses a database that may lose what it has acknowledged.
func (s *Store) CheckDurability(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `select name from pg_settings
		where (name in ('fsync', 'full_page_writes') and setting = 'off')
			or (name = 'synchronous_commit' and setting in ('off', 'local', 'remote_write'))
		order by name`)
	if err != nil {
		return fmt.Errorf("postgres: check durability: %w", err)
	}
	lossy, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("postgres: check durability: %w", err)
	}
	if len(lossy) > 0 {
		return fmt.Errorf("postgres: the database may lose what it has acknowledged: turn %s on", strings.Join(lossy, ", "))
	}
	return nil
}
