package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// audit reads the tables behind the server's back.
type audit struct {
	driver string
	dsn    func() (string, error)
}

func postgresAudit(t *testing.T, dsn string) *audit {
	t.Helper()
	return &audit{"pgx", func() (string, error) { return dsn, nil }}
}

// embeddedAudit finds the one SQLite file in a data directory.
func embeddedAudit(dir string) *audit {
	return &audit{"sqlite", func() (string, error) {
		for _, pattern := range []string{"*.db", "*.sqlite", "*.sqlite3"} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return "", err
			}
			if len(found) == 1 {
				return "file:" + found[0] + "?mode=ro&_pragma=busy_timeout(5000)", nil
			}
		}
		return "", fmt.Errorf("no SQLite file in %s", dir)
	}}
}

// row is one run as the tables have it.
type row struct {
	ID         string
	Key        string
	State      string
	Attempt    int
	Assistants int
	Users      int
	Content    string
	Status     string      // of the assistant's message
	Segments   map[int]int // by attempt, the last seq that is stored
	Count      map[int]int // by attempt, segments
}

func (r row) terminal() bool { return r.State != "accepted" && r.State != "running" }

// rows reads every run with its messages and segments.
func (a *audit) rows(ctx context.Context) (map[string]*row, error) {
	dsn, err := a.dsn()
	if err != nil {
		return nil, err
	}
	db, err := sql.Open(a.driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer db.Close()
	runs := map[string]*row{}
	err = each(ctx, db, `select cast(id as text), coalesce(idempotency_key, ''), state, attempt from runs`, func(s *sql.Rows) error {
		r := &row{Segments: map[int]int{}, Count: map[int]int{}}
		if err := s.Scan(&r.ID, &r.Key, &r.State, &r.Attempt); err != nil {
			return err
		}
		runs[r.ID] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, db, `select cast(request_id as text), role, content, status from messages where request_id is not null`, func(s *sql.Rows) error {
		var id, role, content, status string
		if err := s.Scan(&id, &role, &content, &status); err != nil {
			return err
		}
		r := runs[id]
		switch {
		case r == nil:
			return fmt.Errorf("a message of run %s, which is not there", id)
		case role == "assistant":
			r.Assistants++
			r.Content, r.Status = content, status
		case role == "user":
			r.Users++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return runs, each(ctx, db, `select cast(run_id as text), attempt, max(last_seq), count(*) from run_segments group by run_id, attempt`, func(s *sql.Rows) error {
		var id string
		var attempt, last, count int
		if err := s.Scan(&id, &attempt, &last, &count); err != nil {
			return err
		}
		r := runs[id]
		if r == nil {
			return fmt.Errorf("segments of run %s, which is not there", id)
		}
		r.Segments[attempt], r.Count[attempt] = last, count
		return nil
	})
}

func each(ctx context.Context, db *sql.DB, query string, take func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := take(rows); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return rows.Err()
}

// mustRows is rows for a test that cannot go on without them.
func (s *site) mustRows() map[string]*row {
	s.t.Helper()
	rows, err := s.db.rows(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}
