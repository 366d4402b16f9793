// Package postgres is the store on PostgreSQL, Supabase's or plain: every
// statement that the product sends to it is here or in the migrations of
// package supabase. It judges all times on the database's clock and keeps no
// state of its own, so that any number of nodes share one database.
//
// The statements of the hot path are functions in the schema agentedge: one
// round trip and one commit for a whole batch of claims, ends or segments.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agentedge/agentedge/internal/run"
)

const (
	dialTimeout = 3 * time.Second
	// opTimeout bounds one operation of the store, waiting for a connection
	// included. The server's own bound comes a little later: it is for statements
	// whose client is gone.
	opTimeout        = 10 * time.Second
	statementTimeout = "15s"
	lockTimeout      = "8s"

	defaultMaxConns = 8
	maxTries        = 10 // of a batch that lost against others

	supavisorPort = 6543 // Supabase's transaction pooler
)

// Config says which database.
type Config struct {
	URL       string       // postgres://…, as the owner of the schema; a transaction pooler will do
	DirectURL string       // a session-mode connection for LISTEN; empty: URL
	MaxConns  int          // 0: pool_max_conns of URL, else 8
	Logger    *slog.Logger // nil: silent
}

// Store is run.Store on PostgreSQL.
type Store struct {
	pool   *pgxpool.Pool
	log    *slog.Logger
	hinter *hinter
	stop   context.CancelFunc
	done   chan struct{} // closed when the listener has ended
}

var _ run.Store = (*Store)(nil)

// Open connects to a database whose schema is there already (CheckSchema tells).
func Open(ctx context.Context, c Config) (*Store, error) {
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	config, pooled, err := poolConfig(c)
	if err != nil {
		return nil, err
	}
	direct, err := directConfig(c)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	s := &Store{pool: pool, log: log, hinter: newHinter(direct, log), done: make(chan struct{})}
	if err := s.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if pooled && c.DirectURL == "" {
		log.Info("the database URL is a transaction pooler's, which has no LISTEN: tails of other nodes' runs are polled",
			"hint", "set DATABASE_DIRECT_URL to a session-mode connection")
		close(s.done)
		return s, nil
	}
	go func() {
		defer close(s.done)
		s.hinter.listen(listening)
	}()
	return s, nil
}

// poolConfig tells also whether a transaction pooler sits in between, where
// nothing outlives a transaction: no prepared statement and no setting.
func poolConfig(c Config) (config *pgxpool.Config, pooled bool, err error) {
	if c.URL == "" {
		return nil, false, errors.New("postgres: no database URL")
	}
	config, err = pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, false, fmt.Errorf("postgres: database URL: %w", err)
	}
	conn := config.ConnConfig
	pooled = isPooler(conn)
	prepare(conn)
	if pooled && conn.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		conn.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if config.MaxConns = max(config.MaxConns, defaultMaxConns); c.MaxConns > 0 {
		config.MaxConns = int32(c.MaxConns)
	}
	config.MinIdleConns = min(2, config.MaxConns)
	if !pooled {
		config.AfterConnect = settle
	}
	return config, pooled, nil
}

// isPooler tells a transaction pooler by its port or by the parameter that
// other tools know it by.
func isPooler(c *pgx.ConnConfig) bool {
	told := c.RuntimeParams["pgbouncer"] == "true"
	delete(c.RuntimeParams, "pgbouncer")
	return told || c.Port == supavisorPort || c.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement
}

func prepare(c *pgx.ConnConfig) {
	c.ConnectTimeout = dialTimeout
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "agentedge"
	}
}

// directConfig is for the connections that need a session: LISTEN, migrations.
func directConfig(c Config) (*pgx.ConnConfig, error) {
	url := c.DirectURL
	if url == "" {
		url = c.URL
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres: direct database URL: %w", err)
	}
	isPooler(config)
	prepare(config)
	return config, nil
}

// settle sets a new connection up, as agentedge.settle_v1 does a transaction.
func settle(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `select
		set_config('synchronous_commit', 'on', false)
			where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
		union all select set_config('statement_timeout', $1, false)
		union all select set_config('lock_timeout', $2, false)
		union all select set_config('idle_in_transaction_session_timeout', $1, false)
		union all select set_config('default_transaction_isolation', 'read committed', false)
		union all select set_config('plan_cache_mode', 'force_generic_plan', false)
		union all select set_config('enable_seqscan', 'off', false)
		union all select set_config('enable_hashjoin', 'off', false)
		union all select set_config('enable_mergejoin', 'off', false)
		union all select set_config('jit', 'off', false)
		union all select set_config('agentedge.settled', 'on', false)`, statementTimeout, lockTimeout)
	return err
}

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("postgres: ping: %w", err)
	}
	return nil
}

// Close ends the listener and closes every connection.
func (s *Store) Close() error {
	s.stop()
	<-s.done
	s.hinter.close()
	s.pool.Close()
	return nil
}

// do runs one operation. It is run again where that is known to be harmless:
// when nothing of it reached the server, and when the database undid it because
// another transaction was in its way.
func (s *Store) do(ctx context.Context, name string, op func(ctx context.Context, try int) error) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for try := 1; ; try++ {
		err := op(ctx, try)
		if err == nil || errors.Is(err, run.ErrNotFound) {
			return err
		}
		if try == maxTries || ctx.Err() != nil || !(undone(err) || pgconn.SafeToRetry(err)) {
			return fmt.Errorf("postgres: %s: %w", name, err)
		}
		s.log.Debug("postgres: once more", "operation", name, "error", err)
	}
}

// undone tells whether nothing came of an operation only because of what another
// transaction did: a serialization failure, a deadlock, or a key, an id or a
// session that a claim found free and another one took.
func undone(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01":
		return true
	case "23505":
		return e.ConstraintName == "runs_pkey" || e.ConstraintName == "runs_key_idx" || e.ConstraintName == "sessions_pkey"
	}
	return false
}
