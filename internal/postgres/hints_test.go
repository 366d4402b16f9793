package postgres_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/pgtest"
	"github.com/agentedge/agentedge/internal/postgres"
)

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func logged(t *testing.T, c postgres.Config) (*postgres.Store, *lines) {
	t.Helper()
	log := &lines{}
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	s, err := postgres.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, log
}

// heard hints from one store until another hears it.
func heard(t *testing.T, from, to *postgres.Store) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1500 {
		if err := from.Hint(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-to.Hinted():
			return
		case <-tick.C:
		}
	}
	t.Fatal("no hint arrived")
}

// TestHintsComeBack breaks the connections that listen and notify.
func TestHintsComeBack(t *testing.T) {
	url := pgtest.Database(t)
	a, log := logged(t, postgres.Config{URL: url})
	b := open(t, url)
	heard(t, b.Store, a)
	for _, statement := range []string{"listen %", "notify %"} {
		if n := query[bool](t, url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like $1", statement); len(n) == 0 {
			t.Fatalf("nobody does %q", statement)
		}
	}
	// The first hint may find the broken connection; it is made anew after that.
	if err := b.Hint(t.Context()); err == nil {
		t.Log("the broken connection took a hint")
	}
	for len(a.Hinted()) > 0 {
		<-a.Hinted()
	}
	heard(t, b.Store, a)
	if !strings.Contains(log.String(), "do not arrive") || strings.Contains(log.String(), "postgres://") {
		t.Errorf("log %q", log)
	}
}

// TestPoolerHints: behind a transaction pooler nobody listens, unless there is a
// direct connection.
func TestPoolerHints(t *testing.T) {
	url := pgtest.Database(t)
	_, log := logged(t, postgres.Config{URL: url + pooled})
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "DATABASE_DIRECT_URL") {
		t.Errorf("log %q, want one line that names the way out", log)
	}
	if n := query[int](t, url, "select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %'"); n[0] != 0 {
		t.Error("somebody listens through the pooler")
	}
	direct, log := logged(t, postgres.Config{URL: url + pooled, DirectURL: url})
	heard(t, open(t, url).Store, direct)
	if log.String() != "" {
		t.Errorf("log %q", log)
	}
}

// TestOpen refuses what is no database.
func TestOpen(t *testing.T) {
	for _, url := range []string{"", "postgres://%zz", "postgres://nobody@127.0.0.1:1/none?sslmode=disable", "mysql://x"} {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err == nil {
			t.Errorf("%q was opened", url)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
