// Package pgtest gives tests a real PostgreSQL with pgvector: the server that
// TEST_DATABASE_URL names, or one that the test process starts for itself by
// scripts/postgres.sh and that ends with it, however it ends. A test that needs
// the database and has none fails; it is never skipped.
package pgtest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/agentedge/agentedge/internal/postgres"
	"github.com/agentedge/agentedge/supabase"
)

const (
	variable = "TEST_DATABASE_URL"
	patience = time.Minute // for any one step of setting up
)

// server is this process's server, and template the database on it that the
// tests' databases are copies of. They are the one thing that tests share, made
// by the first that asks.
var (
	server   = sync.OnceValues(startServer)
	template = sync.OnceValues(makeTemplate)
)

// Database returns the URL of a new database with the whole schema. It is
// dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	name, err := template()
	if err != nil {
		t.Fatal(err)
	}
	return create(t, " template "+name)
}

// Empty returns the URL of a new database without anything.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, "")
}

func create(t testing.TB, how string) string {
	t.Helper()
	base, err := server()
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec := func(sql string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return admin(ctx, base.url, func(c *pgx.Conn) error {
			_, err := c.Exec(ctx, sql)
			return err
		})
	}
	if err := exec("create database " + name + how); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := exec("drop database if exists " + name + " with (force)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return named(base.url, name)
}

// admin runs fn on a connection to the server's own database.
func admin(ctx context.Context, base string, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return err
	}
	return errors.Join(fn(conn), conn.Close(context.WithoutCancel(ctx)))
}

// named is base with another database.
func named(base, database string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base // startServer has parsed it
	}
	u.Path = "/" + database
	return u.String()
}

// shared is a running server. Its life hangs on stdin: collected as garbage the
// pipe would close, and the server end.
type shared struct {
	url   string
	stdin io.Closer // nil: the server is somebody else's
}

// startServer finds the server to use.
func startServer() (shared, error) {
	if given := os.Getenv(variable); given != "" {
		if u, err := url.Parse(given); err != nil || u.Scheme == "" {
			return shared{}, fmt.Errorf("pgtest: %s is not a postgres:// URL", variable)
		}
		return shared{url: given}, nil
	}
	dir, err := os.MkdirTemp("", "agentedge-pg")
	if err != nil {
		return shared{}, fmt.Errorf("pgtest: %w", err)
	}
	cmd, err := script("hold", dir)
	if err != nil {
		return shared{}, err
	}
	// The pipe closes with this process, and the server goes with the pipe.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return shared{}, fmt.Errorf("pgtest: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return shared{}, fmt.Errorf("pgtest: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "pgtest.log"))
	if err != nil {
		return shared{}, fmt.Errorf("pgtest: %w", err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return shared{}, fmt.Errorf("pgtest: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return shared{}, errors.Join(fmt.Errorf("pgtest: no PostgreSQL: %s", strings.TrimSpace(string(said))), os.RemoveAll(dir))
	}
	return shared{strings.TrimSpace(line), stdin}, nil
}

// script is a call of the repository's scripts/postgres.sh.
func script(args ...string) (*exec.Cmd, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	for {
		path := filepath.Join(dir, "scripts", "postgres.sh")
		if _, err := os.Stat(path); err == nil {
			return exec.Command("sh", append([]string{path}, args...)...), nil
		}
		if dir == filepath.Dir(dir) {
			return nil, errors.New("pgtest: scripts/postgres.sh is in no directory above the test's")
		}
		dir = filepath.Dir(dir)
	}
}

// makeTemplate migrates a database that no test writes to. Its name says which
// migrations it has; processes that share a server share it.
func makeTemplate() (string, error) {
	base, err := server()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	name := "template_" + fingerprint()
	err = admin(ctx, base.url, func(c *pgx.Conn) error {
		const lock = "select pg_advisory_lock(hashtext('agentedge pgtest'))"
		if _, err := c.Exec(ctx, lock); err != nil {
			return err
		}
		var there bool
		if err := c.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&there); err != nil || there {
			return err
		}
		// Under its name it is always whole.
		const draft = "template_draft"
		for _, sql := range []string{"drop database if exists " + draft + " with (force)", "create database " + draft} {
			if _, err := c.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := postgres.Migrate(ctx, named(base.url, draft)); err != nil {
			return err
		}
		_, err := c.Exec(ctx, "alter database "+draft+" rename to "+name)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("pgtest: template: %w", err)
	}
	return name, nil
}

func fingerprint() string {
	h := sha256.New()
	h.Write([]byte(supabase.Stub))
	files, _ := fs.Glob(supabase.Migrations, "migrations/*.sql") // the pattern is well-formed
	for _, f := range files {
		sql, _ := supabase.Migrations.ReadFile(f) // it is embedded
		fmt.Fprintf(h, "%s\n%s\n", f, sql)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}
