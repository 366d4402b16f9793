package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

// AppendMany stores segments of runs that are still held.
func (s *Store) AppendMany(ctx context.Context, segments []run.Segment) (lost []run.Hold, err error) {
	if len(segments) == 0 {
		return nil, ctx.Err()
	}
	err = s.change(ctx, func(c *conn) error {
		held := map[run.Hold]bool{}
		for i := range segments {
			h := run.Hold{Run: segments[i].Run, Attempt: segments[i].Attempt}
			ok, asked := held[h]
			if !asked {
				if ok, err = c.holds(h); err != nil {
					return err
				}
				if held[h] = ok; !ok {
					lost = append(lost, h)
				}
			}
			if !ok {
				continue
			}
			if err := c.addSegment(&segments[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: append: %w", err)
	}
	return lost, nil
}

// holds tells whether a run is running in an attempt.
func (c *conn) holds(h run.Hold) (bool, error) {
	return c.one(func(*row) {}, `select 1 from runs where id = ? and attempt = ? and state = 'running'`, h.Run, h.Attempt)
}

// addSegment stores a segment, in the place of a shorter one from the same frame.
func (c *conn) addSegment(seg *run.Segment) error {
	_, err := c.exec(`insert into run_segments (run_id, attempt, first_seq, last_seq, data) values (?, ?, ?, ?, ?)
		on conflict (run_id, attempt, first_seq) do update set last_seq = excluded.last_seq, data = excluded.data
		where excluded.last_seq > run_segments.last_seq`, seg.Run, seg.Attempt, seg.First, seg.Last, seg.Data)
	if err != nil {
		return fmt.Errorf("segment %s-%d-%d: %w", seg.Run, seg.Attempt, seg.First, err)
	}
	return nil
}

// FinishMany ends runs that are still held.
func (s *Store) FinishMany(ctx context.Context, finishes []run.Finish) ([]bool, error) {
	if len(finishes) == 0 {
		return nil, ctx.Err()
	}
	done := make([]bool, len(finishes))
	err := s.change(ctx, func(c *conn) (err error) {
		now := time.Now()
		for i := range finishes {
			if done[i], err = c.finish(&finishes[i], now); err != nil {
				return fmt.Errorf("run %s: %w", finishes[i].Run, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: finish: %w", err)
	}
	return done, nil
}

func (c *conn) finish(f *run.Finish, now time.Time) (bool, error) {
	var session uuid.UUID
	var owner string
	ended, err := c.one(func(r *row) { session, owner = r.id(0), r.text(1) },
		`update runs set state = ?, last_seq = ?, result = ?, error = ?, finished_at = ?,
		idempotency_key = case when ? then null else idempotency_key end
		where id = ? and attempt = ? and state = 'running' returning session_id, owner`,
		string(f.State), f.LastSeq, f.Result, f.Error, now, f.FreeKey, f.Run, f.Attempt)
	if err != nil {
		return false, err
	}
	if !ended {
		// Done already if this very end is the one that is stored.
		return c.one(func(*row) {}, `select 1 from runs where id = ? and attempt = ? and state = ? and last_seq = ?`,
			f.Run, f.Attempt, string(f.State), f.LastSeq)
	}
	if f.Segment != nil {
		if err := c.addSegment(f.Segment); err != nil {
			return false, err
		}
	}
	if f.Message != nil {
		if err := c.addMessage(f.Message, session, owner, now); err != nil {
			return false, err
		}
	}
	for i := range f.Events {
		if err := c.addEvent(&f.Events[i], owner, now); err != nil {
			return false, err
		}
	}
	return true, nil
}

// NextAttempt starts the next attempt of a run that node holds.
func (s *Store) NextAttempt(ctx context.Context, h run.Hold, node string, lease time.Duration) (ok bool, err error) {
	err = s.change(ctx, func(c *conn) error {
		n, err := c.exec(`update runs set attempt = attempt + 1, tries = tries + 1, lease_until = ?
			where id = ? and attempt = ? and lease_node = ? and state = 'running' and released = 0`,
			time.Now().Add(lease), h.Run, h.Attempt, node)
		ok = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("sqlite: next attempt: %w", err)
	}
	return ok, nil
}
