// Package sqlite is the embedded store: run.Store in one SQLite file that one
// process owns. It holds every SQLite statement there is, and refuses a second
// process, a file of a newer program, and a write that is not on the disk when
// it returns.
//
// One connection writes, in transactions of many runs each; a few others read
// snapshots beside it. Its clock is the process'. Where PostgreSQL has row-level
// security this store has the rules of ownership in the claims' code.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/agentedge/agentedge/internal/run"
)

// readers is how many snapshots can be read at once.
const readers = 4

// ErrClosed is what a store answers after its Close.
var ErrClosed = errors.New("the store is closed")

// Config says where the database is.
type Config struct {
	Path   string // of the file; its directory is made if need be
	Logger *slog.Logger
}

// Store is the embedded store. Its methods may be called by many goroutines.
type Store struct {
	log    *slog.Logger
	lock   *os.File
	write  chan *conn // the one writer
	queue  chan *change
	read   chan *conn
	closed chan struct{}
	once   sync.Once
	dirty  chan struct{} // something was written since the last checkpoint
	tasks  sync.WaitGroup
	hints  chan struct{}
}

var _ run.Store = (*Store)(nil)

// Open opens the database, makes it if it is not there, and voids all leases:
// whoever held them was an earlier process. It does not migrate, and refuses a
// file that a newer program has migrated.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := makeFile(path); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	held, err := lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	s := &Store{
		log: cfg.Logger, lock: held, write: make(chan *conn, 1), queue: make(chan *change, maxChanges), read: make(chan *conn, readers),
		closed: make(chan struct{}), dirty: make(chan struct{}, 1), hints: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.write <- &conn{dsn: dsn(path, writerPragmas()...)}
	for range readers {
		s.read <- &conn{dsn: dsn(path, readerPragmas()...)}
	}
	if err := s.begin(ctx); err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", path, errors.Join(err, s.Close()))
	}
	s.tasks.Go(func() {
		c := &conn{dsn: dsn(path, writerPragmas()...)}
		s.checkpoints(c)
		if err := c.close(); err != nil {
			s.log.Warn("checkpoints not closed", "error", err)
		}
	})
	return s, nil
}

// makeFile sees to it that nobody but the user reads what is to be stored.
func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// writerPragmas: with a write-ahead log and full synchronisation a commit is on
// the disk when it returns. The bound of its own checkpoints (64 MiB) is only
// for when those beside it fail.
func writerPragmas() []string {
	return []string{
		"busy_timeout=2000", "journal_mode=wal", "synchronous=full", "foreign_keys=1", "temp_store=memory",
		"cache_size=-16384", "wal_autocheckpoint=16000", "journal_size_limit=67108864", "trusted_schema=0",
	}
}

func readerPragmas() []string {
	return []string{"busy_timeout=2000", "query_only=1", "temp_store=memory", "trusted_schema=0"}
}

// begin looks at what earlier processes left.
func (s *Store) begin(ctx context.Context) error {
	return s.change(ctx, func(c *conn) error {
		applied, err := appliedMigrations(c)
		if err != nil {
			return err
		}
		if err := refuseNewer(applied); err != nil || len(applied) == 0 {
			return err
		}
		n, err := c.exec(`update runs set released = 1, lease_until = 0, readers_until = 0 where state = 'running'`)
		if n > 0 {
			s.log.Info("runs of an earlier process have no holder", "runs", n)
		}
		return err
	})
}

// look runs fn on a connection that reads.
func (s *Store) look(ctx context.Context, fn func(c *conn) error) error {
	return s.with(ctx, s.read, fn)
}

// snapshot is look in one transaction: everything fn reads is of one moment.
func (s *Store) snapshot(ctx context.Context, fn func(c *conn) error) error {
	return s.look(ctx, func(c *conn) error {
		return c.tx("begin", func() error { return fn(c) })
	})
}

// with lends a connection to fn.
func (s *Store) with(ctx context.Context, pool chan *conn, fn func(c *conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	var c *conn
	select {
	case c = <-pool:
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { pool <- c }()
	if err := c.open(); err != nil {
		return err
	}
	return fn(c)
}

// Ping tells whether the store answers and could be written: it begins what a
// write begins.
func (s *Store) Ping(ctx context.Context) error {
	err := s.change(ctx, func(c *conn) error {
		_, err := c.one(func(*row) {}, `select 1 from sqlite_schema limit 1`)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlite: ping: %w", err)
	}
	return nil
}

// Hint has nobody to tell: no other process reads this store.
func (s *Store) Hint(ctx context.Context) error { return ctx.Err() }

// Hinted never sends.
func (s *Store) Hinted() <-chan struct{} { return s.hints }

// Close waits for what is being written, and gives the file up.
func (s *Store) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		s.tasks.Wait()
		for range readers {
			err = errors.Join(err, (<-s.read).close())
		}
		err = errors.Join(err, (<-s.write).close(), s.lock.Close())
	})
	return err
}
