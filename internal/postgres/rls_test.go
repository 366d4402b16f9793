package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentedge/agentedge/internal/pgtest"
	"github.com/agentedge/agentedge/internal/run"
)

const (
	userA = "aaaaaaaa-0000-4000-8000-000000000001"
	userB = "bbbbbbbb-0000-4000-8000-000000000002"
)

func batchOf(claims ...run.Claim) []run.Claim { return claims }

// caller is one column of the matrix: a database role and a request's claims.
type caller struct{ name, role, claims string }

func callers() []caller {
	return []caller{
		{"anon", "anon", `{"role":"anon"}`},
		{"user A", "authenticated", `{"role":"authenticated","sub":"` + userA + `"}`},
		{"user B", "authenticated", `{"role":"authenticated","sub":"` + userB + `"}`},
		{"service", "service_role", `{"role":"service_role"}`},
	}
}

// rights of a caller on a table: which operations are permitted, and how many
// rows a select sees.
type rights struct {
	operations string // of "siud"
	rows       int
}

// expected says who may do what. Every table has user A's rows of one chat, or
// one row that is nobody's.
func expected() map[string]map[string]rights {
	own := func(rows int) map[string]rights {
		return map[string]rights{"anon": {}, "user A": {"s", rows}, "user B": {"s", 0}, "service": {"siud", rows}}
	}
	edge := map[string]rights{"anon": {}, "user A": {}, "user B": {}, "service": {"siud", 1}}
	return map[string]map[string]rights{
		"sessions": own(1), "messages": own(2), "runs": own(1), "bus_events": own(2),
		"run_segments": edge, "rate_limits": edge, "provider_health": edge, "hmac_nonces": edge, "api_keys": edge,
	}
}

func TestRowLevelSecurity(t *testing.T) {
	url := pgtest.Database(t)
	s := open(t, url)
	results, err := s.ClaimMany(t.Context(), batchOf(chat(userA)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.FinishMany(t.Context(), []run.Finish{answer(results[0].Run)}); err != nil {
		t.Fatal(err)
	}
	execute(t, url, "insert into provider_health (provider, kind, state) values ('p', 'chat', 'up')")
	execute(t, url, "insert into hmac_nonces values ('k', 'n', now())")
	execute(t, url, `insert into api_keys (id, name, role, prefix, hash) values ($1, 'n', 'anon', 'p', '\x00')`, uuid.New())

	want := expected()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, table := range tablesOf(t, url) {
		if want[table] == nil {
			t.Errorf("table %s has no expectations: say who may do what with it", table)
			continue
		}
		column := query[string](t, url, "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum = 1", table)[0]
		statements := map[rune]string{
			's': fmt.Sprintf("select %s from %s", column, table),
			'i': fmt.Sprintf("insert into %s default values", table),
			'u': fmt.Sprintf("update %s set %s = %[2]s", table, column),
			'd': "delete from " + table,
		}
		for _, c := range callers() {
			got := rights{}
			for _, operation := range "siud" {
				rows, permitted := as(t, conn, c, statements[operation])
				if permitted {
					got.operations += string(operation)
				}
				if operation == 's' {
					got.rows = rows
				}
			}
			if got != want[table][c.name] {
				t.Errorf("%s on %s: %+v, want %+v", c.name, table, got, want[table][c.name])
			}
		}
		if on := query[bool](t, url, "select relrowsecurity from pg_class where oid = $1::text::regclass", table); !on[0] {
			t.Errorf("%s has no row level security", table)
		}
	}
	for _, hidden := range []string{"request", "principal", "idempotency_key", "fingerprint", "lease_node", "history"} {
		if _, permitted := as(t, conn, callers()[1], "select "+hidden+" from runs"); permitted {
			t.Errorf("a user reads runs.%s", hidden)
		}
	}
}

// as runs a statement as PostgREST would for a caller, and undoes it. Only a
// missing privilege is a refusal: a row that is refused for its values is not.
func as(t *testing.T, conn *pgx.Conn, c caller, sql string) (rows int, permitted bool) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := tx.Exec(t.Context(), "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", c.role, c.claims); err != nil {
		t.Fatal(err)
	}
	tag, err := tx.Exec(t.Context(), sql)
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return 0, e.Code != "42501"
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(tag.RowsAffected()), true
}

// TestFunctionsArePrivate: the store's functions are nobody's but the edge's.
func TestFunctionsArePrivate(t *testing.T) {
	url := pgtest.Database(t)
	names := query[string](t, url, "select oid::regprocedure::text from pg_proc where pronamespace = 'agentedge'::regnamespace")
	if len(names) < 5 {
		t.Fatalf("functions %v", names)
	}
	for _, name := range names {
		for _, role := range []string{"anon", "authenticated", "public"} {
			if query[bool](t, url, "select has_function_privilege($1, $2, 'execute')", role, name)[0] {
				t.Errorf("%s may execute %s", role, name)
			}
		}
	}
}

// TestServiceRole: a connection as service_role has all the rights a node needs.
func TestServiceRole(t *testing.T) {
	url := pgtest.Database(t)
	s := open(t, url+"&role=service_role")
	if who := query[string](t, url+"&role=service_role", "select current_user::text"); who[0] != "service_role" {
		t.Fatalf("connected as %s", who[0])
	}
	exercise(t, s)
}
