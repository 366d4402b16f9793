package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// maxTail is where an answer of Tails is cut off: after the segment that
// reaches it.
const maxTail = 4 << 20

// load reads a run as it is at now.
func load(c *conn, id uuid.UUID, now time.Time) (run.Record, error) {
	var rec run.Record
	found, err := c.one(func(r *row) {
		rec = run.Record{
			ID: r.id(0), State: run.State(r.text(1)), Attempt: r.int(2), Tries: r.int(3), Node: r.text(4),
			CancelAsked: r.bool(6), LastSeq: r.int(7), LogGone: r.bool(8), CreatedAt: r.time(9), FinishedAt: r.time(10),
			Kind: r.text(11), Endpoint: r.text(12), Principal: r.text(13), Owner: r.text(14), SessionID: r.id(15),
			Key: r.text(16), Keyed: r.bool(17), Fingerprint: r.blob(18), TraceID: r.text(19),
			Request: r.json(20), Result: r.json(21), Error: r.json(22),
		}
		rec.Lapsed = rec.State == run.Running && r.int64(5) <= now.UnixMicro()
	}, `select id, state, attempt, tries, lease_node, lease_until, cancel_requested, last_seq, log_gone, created_at, finished_at,
		kind, endpoint, principal, owner, session_id, idempotency_key, keyed, fingerprint, trace_id, request, result, error
		from runs where id = ?`, id)
	if err == nil && !found {
		err = run.ErrNotFound
	}
	return rec, err
}

// Load reads a run.
func (s *Store) Load(ctx context.Context, id uuid.UUID) (rec run.Record, err error) {
	err = s.look(ctx, func(c *conn) (err error) {
		rec, err = load(c, id, time.Now())
		return err
	})
	if err != nil {
		return run.Record{}, fmt.Errorf("sqlite: load: %w", err)
	}
	return rec, nil
}

// Answer reads the assistant message of a run.
func (s *Store) Answer(ctx context.Context, id uuid.UUID) (m record.Message, err error) {
	err = s.look(ctx, func(c *conn) error {
		found, err := c.one(func(r *row) { m = message(r, 0) },
			`select `+answerColumns+` from messages a where a.request_id = ? and a.role = 'assistant'`, id)
		if err == nil && !found {
			err = run.ErrNotFound
		}
		return err
	})
	if err != nil {
		return record.Message{}, fmt.Errorf("sqlite: answer: %w", err)
	}
	return m, nil
}

// Question reads the user's message of a run.
func (s *Store) Question(ctx context.Context, id uuid.UUID) (m record.Message, err error) {
	err = s.look(ctx, func(c *conn) error {
		found, err := c.one(func(r *row) { m = message(r, 0) }, `select `+questionColumns+` from runs r join messages u
			on u.session_id = r.session_id and u.role = 'user' and u.request_id = r.id where r.id = ?`, id)
		if err == nil && !found {
			err = run.ErrNotFound
		}
		return err
	})
	if err != nil {
		return record.Message{}, fmt.Errorf("sqlite: question: %w", err)
	}
	return m, nil
}

// AskCancel marks a run that is not over.
func (s *Store) AskCancel(ctx context.Context, id uuid.UUID) (rec run.Record, err error) {
	err = s.change(ctx, func(c *conn) error {
		_, err := c.exec(`update runs set cancel_requested = 1
			where id = ? and cancel_requested = 0 and state in ('accepted', 'running')`, id)
		if err == nil {
			rec, err = load(c, id, time.Now())
		}
		return err
	})
	if err != nil {
		return run.Record{}, fmt.Errorf("sqlite: cancel: %w", err)
	}
	return rec, nil
}

// Tails reads what follows in logs, all from one snapshot.
func (s *Store) Tails(ctx context.Context, tails []run.Tail) ([]run.TailResult, error) {
	if len(tails) == 0 {
		return nil, ctx.Err()
	}
	results := make([]run.TailResult, len(tails))
	err := s.snapshot(ctx, func(c *conn) (err error) {
		room := maxTail
		for i, t := range tails {
			if results[i], err = c.tail(t, &room); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: tails: %w", err)
	}
	return results, nil
}

// tail reads one log as far as there is room.
func (c *conn) tail(t run.Tail, room *int) (run.TailResult, error) {
	res := run.TailResult{Run: t.Run}
	found, err := c.one(func(r *row) {
		res.State, res.Attempt, res.LastSeq, res.LogGone = run.State(r.text(0)), r.int(1), r.int(2), r.bool(3)
	}, `select state, attempt, last_seq, log_gone from runs where id = ?`, t.Run)
	if res.Found = found; err != nil || !found || res.LogGone {
		return res, err
	}
	// The first segment is the last that begins at or before the next frame, if
	// it reaches so far.
	err = c.query(func(r *row) error {
		if *room <= 0 {
			res.More = true
			return errStop
		}
		seg := run.Segment{Run: t.Run, Attempt: r.int(0), First: r.int(1), Last: r.int(2), Data: r.blob(3)}
		*room -= len(seg.Data)
		res.Segments = append(res.Segments, seg)
		return nil
	}, `select attempt, first_seq, last_seq, data from run_segments
		where run_id = ?1 and (attempt, first_seq) >= (?2, coalesce((select max(first_seq) from run_segments
			where run_id = ?1 and attempt = ?2 and first_seq <= ?3 + 1), 0))
		and (attempt > ?2 or last_seq > ?3)
		order by attempt, first_seq`, t.Run, t.Attempt, t.Seq)
	return res, err
}
