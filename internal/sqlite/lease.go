package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// RenewMany renews the leases that nobody has taken and their holder has not
// given up.
func (s *Store) RenewMany(ctx context.Context, node string, holds []run.Hold, lease time.Duration) (lost []run.Hold, err error) {
	if len(holds) == 0 {
		return nil, ctx.Err()
	}
	err = s.change(ctx, func(c *conn) error {
		until := time.Now().Add(lease)
		for _, h := range holds {
			n, err := c.exec(`update runs set lease_until = ?
				where id = ? and attempt = ? and lease_node = ? and state = 'running' and released = 0`, until, h.Run, h.Attempt, node)
			if err != nil {
				return err
			}
			if n == 0 {
				lost = append(lost, h)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: renew: %w", err)
	}
	return lost, nil
}

// Release gives up runs of node. Their attempt counts as not tried, and their lease
// is over by any clock, one that is set back as well.
func (s *Store) Release(ctx context.Context, node string, holds []run.Hold) error {
	if len(holds) == 0 {
		return ctx.Err()
	}
	err := s.change(ctx, func(c *conn) error {
		for _, h := range holds {
			_, err := c.exec(`update runs set released = 1, lease_until = 0, tries = tries - 1
				where id = ? and attempt = ? and lease_node = ? and state = 'running' and released = 0`, h.Run, h.Attempt, node)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlite: release: %w", err)
	}
	return nil
}

// CancelsAsked lists the runs that node is to stop.
func (s *Store) CancelsAsked(ctx context.Context, node string) (ids []uuid.UUID, err error) {
	err = s.look(ctx, func(c *conn) error {
		return c.query(func(r *row) error {
			ids = append(ids, r.id(0))
			return nil
		}, `select id from runs where cancel_requested = 1 and state = 'running' and lease_node = ?`, node)
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: cancels: %w", err)
	}
	return ids, nil
}

// Lapsed lists the runs that have stayed without their holder longest.
func (s *Store) Lapsed(ctx context.Context, max int) (lapses []run.Lapse, err error) {
	err = s.look(ctx, func(c *conn) error {
		return c.query(func(r *row) error {
			lapses = append(lapses, run.Lapse{
				Run: r.id(0), Attempt: r.int(1), Kind: r.text(2), Keyed: r.bool(3), Tries: r.int(4),
				Released: r.bool(5), Until: r.time(6),
			})
			return nil
		}, `select id, attempt, kind, keyed, tries, released, lease_until from runs
			where state = 'running' and lease_until <= ? order by lease_until limit ?`, time.Now(), max)
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: lapsed: %w", err)
	}
	return lapses, nil
}

// TakeOver gives a lapsed run to node.
func (s *Store) TakeOver(ctx context.Context, h run.Hold, node string, lease time.Duration) (r run.Record, history []record.Message, ok bool, err error) {
	err = s.change(ctx, func(c *conn) error {
		now := time.Now()
		n, err := c.exec(`update runs set attempt = attempt + 1, tries = tries + 1, lease_node = ?, lease_until = ?, released = 0
			where id = ? and attempt = ? and state = 'running' and lease_until <= ?`, node, now.Add(lease), h.Run, h.Attempt, now)
		if ok = n > 0; err != nil || !ok {
			return err
		}
		if r, err = load(c, h.Run, now); err != nil {
			return err
		}
		history, err = c.historyOf(h.Run)
		return err
	})
	if err != nil {
		return run.Record{}, nil, false, fmt.Errorf("sqlite: take over: %w", err)
	}
	return r, history, ok, nil
}
