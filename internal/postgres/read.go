package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// tailBytes bounds the data of one answer of Tails, give or take one segment;
// segmentsPerTail is the limit in read_logs_v1.
const (
	tailBytes       = 4 << 20
	segmentsPerTail = 1024
)

var loadSQL = `select ` + recordColumns("r") + ` from runs r where r.id = $1`

// Load reads one run.
func (s *Store) Load(ctx context.Context, runID uuid.UUID) (r run.Record, err error) {
	err = s.do(ctx, "load", func(ctx context.Context, _ int) error {
		r, err = scanOne(s.pool.QueryRow(ctx, loadSQL, id(runID)))
		return err
	})
	return r, err
}

func scanOne(row pgx.Row) (run.Record, error) {
	var r run.Record
	dest, take := scanRecord(&r)
	if err := row.Scan(dest...); err != nil {
		return run.Record{}, found(err)
	}
	take()
	return r, nil
}

func found(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return run.ErrNotFound
	}
	return err
}

var askCancelSQL = `update runs r set cancel_requested = true
	where r.id = $1 and r.state in ('accepted', 'running') returning ` + recordColumns("r")

// AskCancel leaves what is over as it is. The run is then read by a statement
// of its own, whose snapshot has the end that was in the way.
func (s *Store) AskCancel(ctx context.Context, runID uuid.UUID) (r run.Record, err error) {
	err = s.do(ctx, "ask cancel", func(ctx context.Context, _ int) error {
		r, err = scanOne(s.pool.QueryRow(ctx, askCancelSQL, id(runID)))
		if errors.Is(err, run.ErrNotFound) {
			r, err = scanOne(s.pool.QueryRow(ctx, loadSQL, id(runID)))
		}
		return err
	})
	return r, err
}

// Answer reads the assistant's message of a run.
func (s *Store) Answer(ctx context.Context, runID uuid.UUID) (m record.Message, err error) {
	err = s.do(ctx, "answer", func(ctx context.Context, _ int) error {
		m = record.Message{}
		dest, take := scanMessage(&m)
		row := s.pool.QueryRow(ctx, `select `+messageColumns+` from runs r join messages m on m.id = r.answer_id where r.id = $1`, id(runID))
		if err := row.Scan(dest...); err != nil {
			return found(err)
		}
		return take()
	})
	return m, err
}

// Question reads the user's message of a run, by its session's index.
func (s *Store) Question(ctx context.Context, runID uuid.UUID) (m record.Message, err error) {
	err = s.do(ctx, "question", func(ctx context.Context, _ int) error {
		m = record.Message{}
		dest, take := scanMessage(&m)
		row := s.pool.QueryRow(ctx, `select `+messageColumns+` from runs r join messages m
			on m.session_id = r.session_id and m.role = 'user' and m.request_id = r.id where r.id = $1`, id(runID))
		if err := row.Scan(dest...); err != nil {
			return found(err)
		}
		return take()
	})
	return m, err
}

// Tails answers all tails with one statement.
func (s *Store) Tails(ctx context.Context, tails []run.Tail) ([]run.TailResult, error) {
	if len(tails) == 0 {
		return nil, ctx.Err()
	}
	n := len(tails)
	ids, attempts, seqs := make(uuids, n), make([]int32, n), make([]int32, n)
	for i, t := range tails {
		ids[i], attempts[i], seqs[i] = id(t.Run), int32(t.Attempt), int32(t.Seq)
	}
	var results []run.TailResult
	err := s.do(ctx, "tails", func(ctx context.Context, _ int) error {
		results = make([]run.TailResult, n)
		for i, t := range tails {
			results[i].Run = t.Run
		}
		rows, err := s.pool.Query(ctx, `select place, state, run_attempt, run_last_seq, log_gone, attempt, first_seq, last_seq, data
			from agentedge.read_logs_v1($1, $2, $3, $4)`, ids, attempts, seqs, tailBytes)
		if err != nil {
			return err
		}
		return readTails(rows, results)
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func readTails(rows pgx.Rows, results []run.TailResult) error {
	defer rows.Close()
	for rows.Next() {
		var place int
		var found run.TailResult
		var attempt, first, last pgtype.Int4
		var data []byte
		err := rows.Scan(&place, (*string)(&found.State), &found.Attempt, &found.LastSeq, &found.LogGone, &attempt, &first, &last, &data)
		if err != nil {
			return err
		}
		r := &results[place-1]
		r.Found, r.State, r.Attempt, r.LastSeq, r.LogGone = true, found.State, found.Attempt, found.LastSeq, found.LogGone
		if !attempt.Valid {
			continue
		}
		if data == nil || r.More {
			r.More = true
			continue
		}
		r.Segments = append(r.Segments, run.Segment{
			Run: r.Run, Attempt: int(attempt.Int32), First: int(first.Int32), Last: int(last.Int32), Data: data,
		})
		r.More = len(r.Segments) == segmentsPerTail
	}
	return rows.Err()
}

// TouchReaders notes that a node serves readers of runs.
func (s *Store) TouchReaders(ctx context.Context, ids []uuid.UUID, ttl time.Duration) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	return s.do(ctx, "touch readers", func(ctx context.Context, _ int) error {
		_, err := s.pool.Exec(ctx, `update runs r
			set readers_until = greatest(r.readers_until, clock_timestamp() + $2 * interval '1 microsecond')
			from (select l.id from runs l where l.id = any ($1) order by l.id for no key update) l
			where r.id = l.id`, ids, float64(micros(ttl)))
		return err
	})
}

// HasReaders tells whether a node touched the run within its ttl.
func (s *Store) HasReaders(ctx context.Context, runID uuid.UUID) (has bool, err error) {
	err = s.do(ctx, "has readers", func(ctx context.Context, _ int) error {
		return s.pool.QueryRow(ctx, `select exists (select from runs where id = $1 and readers_until > clock_timestamp())`, id(runID)).Scan(&has)
	})
	return has, err
}

// PruneLogs skips what another node prunes at this moment. now() and not
// clock_timestamp(): what changes within a statement searches no index, and the
// sweep would read every run that is not yet due.
func (s *Store) PruneLogs(ctx context.Context, retention time.Duration, max int) (pruned int, err error) {
	return s.sweep(ctx, "prune logs", `with old as (
			select id from runs
			where log_gone = false and num_nulls(idempotency_key) in (0, 1)
				and finished_at < now() - $1 * interval '1 microsecond'
			limit $2 for no key update skip locked
		), gone as (
			delete from run_segments s using old where s.run_id = old.id
		)
		update runs r set log_gone = true from old where r.id = old.id`, float64(micros(retention)), max)
}

// FreeKeys skips what another node frees at this moment.
func (s *Store) FreeKeys(ctx context.Context, max int) (freed int, err error) {
	return s.sweep(ctx, "free keys", `with old as (
			select id from runs
			where log_gone in (false, true) and num_nulls(idempotency_key) = 0 and idempotency_key is not null
				and finished_at < now() - $1 * interval '1 microsecond'
			limit $2 for no key update skip locked
		)
		update runs r set idempotency_key = null from old where r.id = old.id`, float64(micros(run.KeyLife)), max)
}

func (s *Store) sweep(ctx context.Context, name, sql string, args ...any) (n int, err error) {
	err = s.do(ctx, name, func(ctx context.Context, _ int) error {
		tag, err := s.pool.Exec(ctx, sql, args...)
		n = int(tag.RowsAffected())
		return err
	})
	return n, err
}
