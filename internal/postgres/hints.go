package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// channel is what all nodes of a database listen to. A hint says only that some
// segments were stored somewhere.
const channel = "agentedge_hint"

const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// hinter has two connections of its own: one listens, one notifies. A NOTIFY
// within a data transaction would queue up all commits of the database.
type hinter struct {
	config *pgx.ConnConfig
	log    *slog.Logger
	hints  chan struct{}
	pid    atomic.Uint32 // of the notifying backend: its hints are no news here

	mu   sync.Mutex
	conn *pgx.Conn // nil until the first hint, and after an error
}

func newHinter(config *pgx.ConnConfig, log *slog.Logger) *hinter {
	config = config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return &hinter{config: config, log: log, hints: make(chan struct{}, 1)}
}

// Hint wakes the other nodes.
func (s *Store) Hint(ctx context.Context) error {
	if err := s.hinter.notify(ctx); err != nil {
		return fmt.Errorf("postgres: hint: %w", err)
	}
	return nil
}

// Hinted receives after another node's hint, and after a time without ears.
func (s *Store) Hinted() <-chan struct{} { return s.hinter.hints }

func (h *hinter) notify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		conn, err := pgx.ConnectConfig(ctx, h.config)
		if err != nil {
			return err
		}
		h.conn = conn
		h.pid.Store(conn.PgConn().PID())
	}
	_, err := h.conn.Exec(ctx, "notify "+channel)
	if err != nil {
		h.drop()
	}
	return err
}

// drop closes the notifying connection. It is bounded: there is nothing on it
// to wait for.
func (h *hinter) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.conn.Close(ctx) // it is given up because it failed, or at the end
	h.conn = nil
}

func (h *hinter) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		h.drop()
	}
}

// listen hears hints until ctx ends. While it cannot, tails are polled, which
// finds all that hints would have told.
func (h *hinter) listen(ctx context.Context) {
	backoff := minBackoff
	for deaf := false; ; {
		err := h.hear(ctx, func() {
			if deaf {
				h.log.Info("hints from other nodes arrive again")
			}
			deaf, backoff = false, minBackoff
		})
		if ctx.Err() != nil {
			return
		}
		if !deaf {
			h.log.Warn("hints from other nodes do not arrive: their runs' tails are polled until they do", "error", err)
		}
		deaf = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// hear listens on one connection until it breaks.
func (h *hinter) hear(ctx context.Context, ready func()) error {
	conn, err := pgx.ConnectConfig(ctx, h.config)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // broken, or not needed any more
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	ready()
	h.tell() // what was said before the ears were open
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.PID != h.pid.Load() {
			h.tell()
		}
	}
}

func (h *hinter) tell() {
	select {
	case h.hints <- struct{}{}:
	default:
	}
}
