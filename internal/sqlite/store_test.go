package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/limit"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/storetest"
)

// opened is a migrated store in a file.
func opened(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if _, err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t testing.TB) *Store {
	t.Helper()
	return opened(t, filepath.Join(t.TempDir(), "data", "edge.db"))
}

// sql runs statements on the writer.
func (s *Store) sql(t testing.TB, sql string) {
	t.Helper()
	if err := s.change(context.Background(), func(c *conn) error { return c.script(sql) }); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T) run.Store { return fresh(t) }, storetest.Options{Age: age, Events: events})
}

func age(t *testing.T, s run.Store, d time.Duration) {
	t.Helper()
	store, us := s.(*Store), d.Microseconds()
	store.sql(t, fmt.Sprintf(`update runs set created_at = created_at - %d, finished_at = finished_at - %d,
		lease_until = lease_until - %d, readers_until = readers_until - %d`, us, us, us, us))
	err := store.change(t.Context(), func(c *conn) error {
		b := batch{conn: c, logs: logs{}}
		var keys []logKey
		err := c.query(func(r *row) error {
			keys = append(keys, logKey{r.text(0), r.text(1)})
			return nil
		}, `select endpoint, principal from rate_limits`)
		if err != nil {
			return err
		}
		for _, k := range keys {
			l, err := b.rateLog(k)
			if err != nil {
				return err
			}
			l.counted = true
			for i, p := range l.Pairs {
				l.Pairs[i] = limit.Pair{At: p.At - us, N: p.N}
			}
		}
		return b.saveLogs()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func events(t *testing.T, s run.Store, id uuid.UUID) (types []string) {
	t.Helper()
	err := s.(*Store).look(t.Context(), func(c *conn) error {
		return c.query(func(r *row) error {
			types = append(types, r.text(0))
			return nil
		}, `select type from bus_events where request_id = ? order by event_id`, id)
	})
	if err != nil {
		t.Fatal(err)
	}
	return types
}
