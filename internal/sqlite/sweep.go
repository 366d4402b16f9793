package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// PruneLogs deletes the logs of runs that ended longer ago than retention.
func (s *Store) PruneLogs(ctx context.Context, retention time.Duration, max int) (n int, err error) {
	err = s.change(ctx, func(c *conn) error {
		var ids []uuid.UUID
		err := c.query(func(r *row) error {
			ids = append(ids, r.id(0))
			return nil
		}, `select id from runs where log_gone = 0 and finished_at is not null and finished_at <= ?
			order by finished_at limit ?`, time.Now().Add(-retention), max)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := c.exec(`delete from run_segments where run_id = ?`, id); err != nil {
				return err
			}
			if _, err := c.exec(`update runs set log_gone = 1 where id = ?`, id); err != nil {
				return err
			}
		}
		n = len(ids)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("sqlite: prune: %w", err)
	}
	return n, nil
}

// FreeKeys frees the keys of runs that ended longer ago than a key lives.
func (s *Store) FreeKeys(ctx context.Context, max int) (n int, err error) {
	err = s.change(ctx, func(c *conn) error {
		n, err = c.exec(`update runs set idempotency_key = null where rowid in (
			select rowid from runs where idempotency_key is not null and finished_at is not null and finished_at <= ?
			order by finished_at limit ?)`, time.Now().Add(-run.KeyLife), max)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sqlite: free keys: %w", err)
	}
	return n, nil
}

// TouchReaders notes that runs have readers. It never shortens what was noted.
func (s *Store) TouchReaders(ctx context.Context, ids []uuid.UUID, ttl time.Duration) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	err := s.change(ctx, func(c *conn) error {
		until := time.Now().Add(ttl)
		for _, id := range ids {
			if _, err := c.exec(`update runs set readers_until = ?1 where id = ?2 and readers_until < ?1`, until, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlite: readers: %w", err)
	}
	return nil
}

// HasReaders tells whether a run has readers as far as was noted.
func (s *Store) HasReaders(ctx context.Context, id uuid.UUID) (has bool, err error) {
	err = s.look(ctx, func(c *conn) (err error) {
		has, err = c.one(func(*row) {}, `select 1 from runs where id = ? and readers_until > ?`, id, time.Now())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("sqlite: readers: %w", err)
	}
	return has, nil
}

// AddEvents stores events, each once.
func (s *Store) AddEvents(ctx context.Context, events []record.Event) error {
	if len(events) == 0 {
		return ctx.Err()
	}
	err := s.change(ctx, func(c *conn) error {
		now := time.Now()
		for i := range events {
			if err := c.addEvent(&events[i], "", now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlite: events: %w", err)
	}
	return nil
}
