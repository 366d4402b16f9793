package pgtest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agentedge/agentedge/internal/pgtest"
)

func ask(t *testing.T, url, sql string) (answer string, err error) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(context.Background(), sql).Scan(&answer)
	return answer, errors.Join(err, conn.Close(context.Background()))
}

func TestDatabase(t *testing.T) {
	var gone string
	t.Run("apart", func(t *testing.T) {
		a, b := pgtest.Database(t), pgtest.Database(t)
		gone = a
		if _, err := ask(t, a, "insert into rate_limits (principal, endpoint) values ('p', 'chat') returning principal"); err != nil {
			t.Fatal(err)
		}
		if n, err := ask(t, b, "select count(*)::text from rate_limits"); err != nil || n != "0" {
			t.Errorf("%s rows in another test's database, %v", n, err)
		}
		if n, err := ask(t, pgtest.Empty(t), "select count(*)::text from pg_tables where schemaname = 'public'"); err != nil || n != "0" {
			t.Errorf("%s tables in an empty database, %v", n, err)
		}
		if v, err := ask(t, a, "select default_version from pg_available_extensions where name = 'vector'"); err != nil || v == "" {
			t.Errorf("pgvector %q, %v", v, err)
		}
	})
	if _, err := ask(t, gone, "select 'still here'"); err == nil {
		t.Error("a database outlived its test")
	}
}

func TestCluster(t *testing.T) {
	s := pgtest.Cluster(t)
	if v, err := ask(t, s.URL, "select setting from pg_settings where name = 'fsync'"); err != nil || v != "on" {
		t.Errorf("fsync %q, %v", v, err)
	}
	if _, err := ask(t, s.URL, "select current_database()"); err != nil {
		t.Error(err)
	}
	s.Stop(t, "immediate")
	if _, err := ask(t, s.URL, "select ''"); err == nil {
		t.Error("a stopped server answers")
	}
	s.Start(t)
	if _, err := ask(t, s.URL, "select ''"); err != nil {
		t.Error(err)
	}
}
