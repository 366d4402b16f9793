package postgres

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

const appendSQL = `select agentedge.append_segments_v1($1, $2, $3, $4, $5)`

// AppendMany stores segments in one statement.
func (s *Store) AppendMany(ctx context.Context, segments []run.Segment) (lost []run.Hold, err error) {
	if len(segments) == 0 {
		return nil, ctx.Err()
	}
	sorted := distinct(segments)
	n := len(sorted)
	ids, datas := make(uuids, n), make([][]byte, n)
	attempts, firsts, lasts := make([]int32, n), make([]int32, n), make([]int32, n)
	for i, seg := range sorted {
		ids[i], datas[i] = id(seg.Run), notNil(seg.Data)
		attempts[i], firsts[i], lasts[i] = int32(seg.Attempt), int32(seg.First), int32(seg.Last)
	}
	var held []bool
	err = s.do(ctx, "append", func(ctx context.Context, _ int) error {
		return s.pool.QueryRow(ctx, appendSQL, ids, attempts, firsts, lasts, datas).Scan(&held)
	})
	if err != nil {
		return nil, err
	}
	for i, seg := range sorted {
		if h := (run.Hold{Run: seg.Run, Attempt: seg.Attempt}); !held[i] && !slices.Contains(lost, h) {
			lost = append(lost, h)
		}
	}
	return lost, nil
}

// distinct sorts segments in the order in which runs are locked and leaves one
// of those that begin with the same frame, the longest.
func distinct(segments []run.Segment) []run.Segment {
	sorted := slices.Clone(segments)
	slices.SortStableFunc(sorted, func(a, b run.Segment) int {
		return cmp.Or(bytes.Compare(a.Run[:], b.Run[:]), cmp.Compare(a.Attempt, b.Attempt), cmp.Compare(a.First, b.First),
			cmp.Compare(b.Last, a.Last))
	})
	return slices.CompactFunc(sorted, func(a, b run.Segment) bool {
		return a.Run == b.Run && a.Attempt == b.Attempt && a.First == b.First
	})
}

var finishSQL = `select agentedge.finish_runs_v1(` + params(24) + `)`

// FinishMany ends runs in one round trip and one transaction.
func (s *Store) FinishMany(ctx context.Context, finishes []run.Finish) (done []bool, err error) {
	if len(finishes) == 0 {
		return nil, ctx.Err()
	}
	if len(finishes) == 1 && len(finishes[0].Events) <= 1 {
		done = make([]bool, 1)
		err = s.do(ctx, "finish", func(ctx context.Context, _ int) error {
			done[0], err = s.finishOne(ctx, &finishes[0])
			return err
		})
		return done, err
	}
	order := make([]int, len(finishes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(finishes[a].Run[:], finishes[b].Run[:]) })
	done = make([]bool, len(finishes))
	err = s.do(ctx, "finish", func(ctx context.Context, _ int) error { return s.finish(ctx, finishes, chunks(order, maxCall), done) })
	if err != nil {
		return nil, err
	}
	return done, nil
}

// finish sends the calls as one pipeline, which is one transaction.
func (s *Store) finish(ctx context.Context, finishes []run.Finish, calls [][]int, done []bool) error {
	var batch pgx.Batch
	for _, places := range calls {
		args, err := finishArgs(finishes, places)
		if err != nil {
			return err
		}
		batch.Queue(finishSQL, args...)
	}
	answers := s.pool.SendBatch(ctx, &batch)
	defer answers.Close()
	for _, places := range calls {
		var ended []bool
		if err := answers.QueryRow().Scan(&ended); err != nil {
			return err
		}
		for at, i := range places {
			done[i] = ended[at]
		}
	}
	return answers.Close()
}

// finishArgs are the arguments of finish_runs_v1: a column each.
func finishArgs(finishes []run.Finish, order []int) ([]any, error) {
	n := len(order)
	ids, states, free := make(uuids, n), make([]string, n), make([]bool, n)
	attempts, lastSeqs, firsts, lasts := make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n)
	results, failures, datas := make(texts, n), make(texts, n), make([][]byte, n)
	eventFirsts, eventLasts := make([]int32, n), make([]int32, n)
	var said messages
	var events []record.Event
	for at, i := range order {
		f := &finishes[i]
		ids[at], states[at], free[at] = id(f.Run), string(f.State), f.FreeKey
		attempts[at], lastSeqs[at] = int32(f.Attempt), int32(f.LastSeq)
		results[at], failures[at] = jsonText(f.Result), jsonText(f.Error)
		if f.Segment != nil {
			firsts[at], lasts[at], datas[at] = int32(f.Segment.First), int32(f.Segment.Last), notNil(f.Segment.Data)
		}
		if err := said.add(f.Message); err != nil {
			return nil, err
		}
		eventFirsts[at] = int32(len(events) + 1)
		events = append(events, f.Events...)
		eventLasts[at] = int32(len(events))
	}
	eventIDs, types, data := eventColumns(events)
	args := []any{ids, attempts, states, lastSeqs, results, failures, free, firsts, lasts, datas}
	args = append(args, said.args()...)
	return append(args, eventFirsts, eventLasts, eventIDs, types, data), nil
}

func eventColumns(events []record.Event) (ids uuids, types []string, data texts) {
	for _, e := range events {
		ids, types, data = append(ids, id(e.ID)), append(types, e.Type), append(data, jsonbText(e.Data))
	}
	return ids, types, data
}

// AddEvents stores events that belong to no transaction of a run.
func (s *Store) AddEvents(ctx context.Context, events []record.Event) error {
	if len(events) == 0 {
		return ctx.Err()
	}
	ids, types, data := eventColumns(events)
	n := len(events)
	traces, runs, sessions, owners := make([]string, n), make(uuids, n), make(uuids, n), make(texts, n)
	for i, e := range events {
		traces[i], runs[i], sessions[i], owners[i] = e.TraceID, id(e.RunID), id(e.SessionID), text(e.Owner)
	}
	return s.do(ctx, "events", func(ctx context.Context, _ int) error {
		_, err := s.pool.Exec(ctx, `insert into bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
			select e.id, e.type, e.trace, e.run, e.session, e.owner, e.data::jsonb
			from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::text[])
				e (id, type, trace, run, session, owner, data)
			order by e.id
			on conflict do nothing`, ids, types, traces, runs, sessions, owners, data)
		return err
	})
}

// NextAttempt starts the holder's next attempt.
func (s *Store) NextAttempt(ctx context.Context, h run.Hold, node string, lease time.Duration) (ok bool, err error) {
	err = s.do(ctx, "next attempt", func(ctx context.Context, _ int) error {
		tag, err := s.pool.Exec(ctx, `update runs
			set attempt = attempt + 1, tries = tries + 1, lease_node = $3,
				lease_until = clock_timestamp() + $4 * interval '1 microsecond'
			where id = $1 and attempt = $2 and state = 'running' and lease_until is not null`,
			id(h.Run), h.Attempt, node, float64(micros(lease)))
		ok = tag.RowsAffected() == 1
		return err
	})
	return ok, err
}

// RenewMany renews leases in one statement.
func (s *Store) RenewMany(ctx context.Context, _ string, holds []run.Hold, lease time.Duration) (lost []run.Hold, err error) {
	if len(holds) == 0 {
		return nil, ctx.Err()
	}
	sorted, ids, attempts := holdColumns(holds)
	var held []bool
	err = s.do(ctx, "renew", func(ctx context.Context, _ int) error {
		return s.pool.QueryRow(ctx, `select agentedge.renew_runs_v1($1, $2, $3)`, ids, attempts, micros(lease)).Scan(&held)
	})
	if err != nil {
		return nil, err
	}
	for i, h := range sorted {
		if !held[i] {
			lost = append(lost, h)
		}
	}
	return lost, nil
}

// holdColumns sorts holds in the order in which runs are locked.
func holdColumns(holds []run.Hold) (sorted []run.Hold, ids uuids, attempts []int32) {
	sorted = slices.Clone(holds)
	slices.SortFunc(sorted, func(a, b run.Hold) int {
		return cmp.Or(bytes.Compare(a.Run[:], b.Run[:]), cmp.Compare(a.Attempt, b.Attempt))
	})
	sorted = slices.Compact(sorted)
	for _, h := range sorted {
		ids, attempts = append(ids, id(h.Run)), append(attempts, int32(h.Attempt))
	}
	return sorted, ids, attempts
}

// CancelsAsked reads an index that is empty most of the time.
func (s *Store) CancelsAsked(ctx context.Context, node string) (ids []uuid.UUID, err error) {
	err = s.do(ctx, "cancels asked", func(ctx context.Context, _ int) error {
		rows, err := s.pool.Query(ctx, `select id from runs where lease_node = $1 and cancel_requested and state = 'running'`, node)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	return ids, err
}

// Lapsed returns what a sweeper may take over, the longest lapsed first.
func (s *Store) Lapsed(ctx context.Context, max int) (lapses []run.Lapse, err error) {
	err = s.do(ctx, "lapsed", func(ctx context.Context, _ int) error {
		rows, err := s.pool.Query(ctx, `select id, attempt, kind, keyed, tries, lease_until is null, lease_until
			from runs where state = 'running' and (lease_until is null or lease_until < clock_timestamp())
			order by lease_until nulls first limit $1`, max)
		if err != nil {
			return err
		}
		lapses, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l run.Lapse, err error) {
			var until pgtype.Timestamptz
			err = row.Scan(&l.Run, &l.Attempt, &l.Kind, &l.Keyed, &l.Tries, &l.Released, &until)
			l.Until = until.Time
			return l, err
		})
		return err
	})
	return lapses, err
}

var takeOverSQL = `update runs r
	set attempt = r.attempt + 1, tries = r.tries + 1, lease_node = $3,
		lease_until = clock_timestamp() + $4 * interval '1 microsecond'
	where r.id = $1 and r.attempt = $2 and r.state = 'running'
		and (r.lease_until is null or r.lease_until < clock_timestamp())
	returning ` + recordColumns("r")

// TakeOver and the history that the first attempt saw come in one round trip.
func (s *Store) TakeOver(ctx context.Context, h run.Hold, node string, lease time.Duration) (r run.Record, history []record.Message, ok bool, err error) {
	err = s.do(ctx, "take over", func(ctx context.Context, _ int) error {
		var batch pgx.Batch
		batch.Queue(takeOverSQL, id(h.Run), h.Attempt, node, float64(micros(lease)))
		batch.Queue(historySQL, uuids{id(h.Run)})
		answers := s.pool.SendBatch(ctx, &batch)
		defer answers.Close()
		r, ok = run.Record{}, false
		dest, take := scanRecord(&r)
		switch err := answers.QueryRow().Scan(dest...); err {
		case nil:
			take()
			ok = true
		case pgx.ErrNoRows:
			return answers.Close()
		default:
			return err
		}
		rows, err := answers.Query()
		if err != nil {
			return err
		}
		histories, err := scanHistories(rows)
		if err != nil {
			return err
		}
		history = histories[h.Run]
		return answers.Close()
	})
	if err != nil || !ok {
		return run.Record{}, nil, false, err
	}
	return r, history, true, nil
}

// Release gives runs up: a lease without an end that anybody may take.
func (s *Store) Release(ctx context.Context, node string, holds []run.Hold) error {
	if len(holds) == 0 {
		return ctx.Err()
	}
	_, ids, attempts := holdColumns(holds)
	return s.do(ctx, "release", func(ctx context.Context, _ int) error {
		_, err := s.pool.Exec(ctx, `update runs r set lease_until = null, tries = r.tries - 1
			from unnest($1::uuid[], $2::int[]) h (id, attempt)
			where r.id = h.id and r.attempt = h.attempt and r.lease_node = $3 and r.state = 'running' and r.lease_until is not null`,
			ids, attempts, node)
		return err
	})
}
