package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// ClaimMany makes one transaction, whatever the claims are. A lone claim is
// usually accepted by a cheaper call that knows only the usual case.
func (s *Store) ClaimMany(ctx context.Context, claims []run.Claim) ([]run.ClaimResult, error) {
	if len(claims) == 0 {
		return nil, ctx.Err()
	}
	var results []run.ClaimResult
	err := s.do(ctx, "claim", func(ctx context.Context, try int) error {
		var err error
		if try == 1 && len(claims) == 1 && usual(&claims[0]) {
			if results, err = s.claimOne(ctx, &claims[0]); err != nil || results != nil {
				return err
			}
		}
		results, err = s.claim(ctx, claims, passes(claims, try > 1), try > 1)
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, s.loadJoined(ctx, claims, results)
}

// identity is what decides whether a session that a claim makes is another's.
type identity struct {
	owner, principal string
	any              bool
}

// passes splits a batch into calls of the function within one transaction, as
// places in claims. The first has no two claims that contend for one key, one id
// or, as different callers, one session; the second has what the first leaves,
// and finds what the first wrote. Alone: one claim each, for a batch that lost
// against another one.
func passes(claims []run.Claim, alone bool) [][]int {
	order := make([]int, len(claims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &claims[a], &claims[b]
		return cmp.Or(strings.Compare(x.Principal, y.Principal), strings.Compare(x.Endpoint, y.Endpoint), strings.Compare(x.Key, y.Key))
	})
	if alone {
		return chunks(order, 1)
	}
	type key struct{ principal, endpoint, key string }
	keys, ids, sessions := map[key]bool{}, map[uuid.UUID]bool{}, map[uuid.UUID]identity{}
	var first, second []int
	for _, i := range order {
		c := &claims[i]
		k, who := key{c.Principal, c.Endpoint, c.Key}, identity{c.Owner, c.Principal, c.AnySession}
		maker, made := sessions[c.SessionID]
		if (c.Key != "" && keys[k]) || ids[c.ID] || (c.SessionID != uuid.Nil && made && maker != who) {
			second = append(second, i)
			continue
		}
		keys[k], ids[c.ID], sessions[c.SessionID] = true, true, who
		first = append(first, i)
	}
	return append(chunks(first, maxCall), chunks(second, maxCall)...)
}

// maxCall bounds the claims or ends of one call: what a function's arrays cost
// grows with their square.
const maxCall = 64

func chunks(order []int, size int) [][]int { return slices.Collect(slices.Chunk(order, size)) }

var claimSQL = `select outcomes, joined, row_owners, accepted_at, by_all, useds, taken, resets, retries
	from agentedge.claim_runs_v1(` + params(34) + `)`

const historySQL = `select r.id, ` + messageColumns + `
	from runs r cross join lateral unnest(r.history) with ordinality h (seq, place)
	join messages m on m.session_id = r.session_id and m.seq = h.seq
	where r.id = any ($1) order by r.id, h.place`

// params is "$1, $2, … $n".
func params(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(all, ", ")
}

// claim sends the passes as one pipeline, which is one transaction.
func (s *Store) claim(ctx context.Context, claims []run.Claim, passes [][]int, careful bool) ([]run.ClaimResult, error) {
	var batch pgx.Batch
	asked := make([]limits, len(passes))
	for at, places := range passes {
		asked[at] = limitsOf(claims, places)
		args, err := claimArgs(claims, places, &asked[at])
		if err != nil {
			return nil, err
		}
		batch.Queue(claimSQL, append(args, careful)...)
	}
	talks := continued(claims)
	if len(talks) > 0 {
		batch.Queue(historySQL, talks)
	}
	results := make([]run.ClaimResult, len(claims))
	answers := s.pool.SendBatch(ctx, &batch)
	defer answers.Close()
	for at, places := range passes {
		var d decisions
		if err := d.read(answers.QueryRow()); err != nil {
			return nil, err
		}
		if len(d.outcomes) != len(places) {
			return nil, fmt.Errorf("%d results for %d claims", len(d.outcomes), len(places))
		}
		for k, i := range places {
			results[i] = d.result(k, &claims[i], &asked[at])
		}
	}
	if len(talks) > 0 {
		if err := readHistories(answers, results); err != nil {
			return nil, err
		}
	}
	return results, answers.Close()
}

// continued are the runs that may have a history.
func continued(claims []run.Claim) (ids uuids) {
	for i := range claims {
		if c := &claims[i]; c.HistoryBytes > 0 && !c.NewSession && c.SessionID != uuid.Nil {
			ids = append(ids, id(c.ID))
		}
	}
	return ids
}

// decisions is the row that claim_runs_v1 returns.
type decisions struct {
	outcomes        []int32
	joined          uuids
	owners          texts
	accepted        time.Time
	byAll           []bool
	useds, taken    []int32
	resets, retries pgtype.FlatArray[pgtype.Int8] // null, or shorter, where there is nothing to tell
}

func (d *decisions) read(row pgx.Row) error {
	return row.Scan(&d.outcomes, &d.joined, &d.owners, &d.accepted, &d.byAll, &d.useds, &d.taken, &d.resets, &d.retries)
}

// result is that of claim c, the pass's k-th. A joined run has its id only.
func (d *decisions) result(k int, c *run.Claim, l *limits) run.ClaimResult {
	r := run.ClaimResult{Outcome: run.Outcome(d.outcomes[k])}
	switch r.Outcome {
	case run.Claimed:
		r.Run = claimed(c, d.owners[k].String, d.accepted)
	case run.Joined:
		r.Run.ID = d.joined[k].Bytes
	}
	if at := l.own(c) - 1; at >= 0 {
		r.Rate = run.Rate{Limit: c.Limit, Remaining: max(c.Limit-int(d.useds[at]+d.taken[at]), 0), Reset: duration(d.resets, at)}
		if d.useds[at] == 0 && d.taken[at] > 0 {
			r.Rate.Reset = run.RateWindow
		}
	}
	if r.Outcome == run.Limited {
		at := l.own(c) - 1
		if r.Rate.Global = d.byAll[k]; r.Rate.Global {
			at = l.global(c) - 1
		}
		r.Rate.RetryAfter = max(duration(d.retries, at), time.Second)
	}
	return r
}

func duration(micros pgtype.FlatArray[pgtype.Int8], at int32) time.Duration {
	if int(at) >= len(micros) {
		return 0
	}
	return time.Duration(micros[at].Int64) * time.Microsecond
}

var joinedSQL = `select ` + recordColumns("r") + ` from runs r where r.id = any ($1)`

// loadJoined reads the runs that claims joined. It comes after the transaction,
// which stands whatever becomes of this, and so is no part of what is repeated.
func (s *Store) loadJoined(ctx context.Context, claims []run.Claim, results []run.ClaimResult) error {
	var ids uuids
	for i := range results {
		if results[i].Outcome == run.Joined {
			ids = append(ids, id(results[i].Run.ID))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found := map[uuid.UUID]run.Record{}
	err := s.do(ctx, "claim: joined", func(ctx context.Context, _ int) error {
		rows, err := s.pool.Query(ctx, joinedSQL, ids)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanOne(rows)
			if err != nil {
				return err
			}
			found[r.ID] = r
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	for i := range results {
		r := &results[i]
		if r.Outcome != run.Joined {
			continue
		}
		var there bool
		if r.Run, there = found[r.Run.ID]; there {
			continue
		}
		// Deleted since, with its session: the claim finds its key free.
		again, err := s.ClaimMany(ctx, claims[i:i+1])
		if err != nil {
			return err
		}
		*r = again[0]
	}
	return nil
}

// claimed is the run as the claim wrote it.
func claimed(c *run.Claim, owner string, accepted time.Time) run.Record {
	r := c.Record
	r.Owner, r.Keyed = owner, c.Key != ""
	r.State, r.Attempt, r.Tries, r.Lapsed = run.Running, 1, 1, c.Lease <= 0
	r.CancelAsked, r.Result, r.Error, r.LastSeq, r.LogGone = false, nil, nil, 0, false
	r.CreatedAt, r.FinishedAt = accepted.UTC(), time.Time{}
	return r
}

// readHistories gives each claimed run what historySQL found for it.
func readHistories(answers pgx.BatchResults, results []run.ClaimResult) error {
	rows, err := answers.Query()
	if err != nil {
		return err
	}
	histories, err := scanHistories(rows)
	if err != nil {
		return err
	}
	for i := range results {
		if r := &results[i]; r.Outcome == run.Claimed {
			r.History = histories[r.Run.ID]
		}
	}
	return nil
}

func scanHistories(rows pgx.Rows) (map[uuid.UUID][]record.Message, error) {
	defer rows.Close()
	histories := map[uuid.UUID][]record.Message{}
	for rows.Next() {
		var of uuid.UUID
		var m record.Message
		dest, take := scanMessage(&m)
		if err := rows.Scan(append([]any{&of}, dest...)...); err != nil {
			return nil, err
		}
		if err := take(); err != nil {
			return nil, err
		}
		histories[of] = append(histories[of], m)
	}
	return histories, rows.Err()
}
