package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/agentedge/agentedge/internal/pgtest"
	"github.com/agentedge/agentedge/internal/postgres"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/storetest"
)

// pooled makes a URL one of a transaction pooler.
const pooled = "&pgbouncer=true"

// store is a store that knows its database.
type store struct {
	*postgres.Store
	url string
}

func open(t testing.TB, url string) store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, DirectURL: strings.TrimSuffix(url, pooled)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return store{s, url}
}

// query runs one statement beside the store and collects its only column.
func query[T any](t testing.TB, url, sql string, args ...any) (all []T) {
	t.Helper()
	beside(t, url, func(conn *pgx.Conn) error {
		rows, err := conn.Query(context.Background(), sql, args...)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowTo[T])
		return err
	})
	return all
}

func execute(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	beside(t, url, func(conn *pgx.Conn) error {
		_, err := conn.Exec(context.Background(), sql, args...)
		return err
	})
}

// beside runs fn on a connection of its own.
func beside(t testing.TB, url string, fn func(*pgx.Conn) error) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), strings.TrimSuffix(url, pooled))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fn(conn), conn.Close(context.Background())); err != nil {
		t.Fatal(err)
	}
}

// conformance runs the suite on one database that is emptied for each test.
func conformance(t *testing.T, params string) {
	url := pgtest.Database(t) + params
	storetest.Exercise(t,
		func(t *testing.T) run.Store {
			empty(t, url)
			return open(t, url)
		},
		storetest.Options{
			Reopen: func(t *testing.T, s run.Store) run.Store { return open(t, s.(store).url) },
			Age:    age,
			Events: func(t *testing.T, s run.Store, id uuid.UUID) []string {
				return query[string](t, s.(store).url, "select type from bus_events where request_id = $1 order by created_at, event_id", id)
			},
		})
}

// empty deletes all rows, which is faster than another database.
func empty(t *testing.T, url string) {
	t.Helper()
	for _, table := range tablesOf(t, url) {
		execute(t, url, "delete from "+table)
	}
}

// tablesOf lists the tables that a caller can reach.
func tablesOf(t testing.TB, url string) []string {
	t.Helper()
	tables := query[string](t, url, "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1")
	if len(tables) == 0 {
		t.Fatal("no tables")
	}
	return tables
}

func TestConformance(t *testing.T) { conformance(t, "") }

// TestConformancePooled: as behind a transaction pooler, where nothing outlives
// a transaction.
func TestConformancePooled(t *testing.T) {
	if testing.Short() {
		t.Skip("the same suite in another mode")
	}
	conformance(t, pooled)
}

func age(t *testing.T, s run.Store, d time.Duration) {
	url, us := s.(store).url, float64(d.Microseconds())
	execute(t, url, `update runs set created_at = created_at - $1 * interval '1 microsecond',
		finished_at = finished_at - $1 * interval '1 microsecond', lease_until = lease_until - $1 * interval '1 microsecond',
		readers_until = readers_until - $1 * interval '1 microsecond'`, us)
	execute(t, url, `update rate_limits set times = array(select at - $1::bigint from unnest(times) with ordinality u (at, n) order by n)`,
		d.Microseconds())
}
