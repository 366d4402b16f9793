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

// ClaimMany makes one round trip and one transaction, whatever the claims are.
func (s *Store) ClaimMany(ctx context.Context, claims []run.Claim) ([]run.ClaimResult, error) {
	if len(claims) == 0 {
		return nil, ctx.Err()
	}
	var results []run.ClaimResult
	err := s.do(ctx, "claim", func(ctx context.Context, try int) error {
		var err error
		results, err = s.claim(ctx, claims, passes(claims, try > 1), try > 1)
		return err
	})
	return results, err
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

var claimSQL = `select c.place, c.outcome, coalesce(c.row_owner, ''), c.accepted_at, coalesce(c.remaining, 0), coalesce(c.reset_us, 0),
	coalesce(c.retry_us, 0), c.refused_by_all, ` + recordColumns("(c.joined)") + `
	from agentedge.claim_runs_v1(` + params(33) + `) c`

// joinedID is the place of the joined run's id among claimSQL's columns.
const joinedID = 8

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
	for _, places := range passes {
		args, err := claimArgs(claims, places)
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
	for _, places := range passes {
		if err := readClaims(answers, claims, places, results); err != nil {
			return nil, err
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
func continued(claims []run.Claim) (ids []pgtype.UUID) {
	for i := range claims {
		if c := &claims[i]; c.HistoryBytes > 0 && !c.NewSession && c.SessionID != uuid.Nil {
			ids = append(ids, id(c.ID))
		}
	}
	return ids
}

func readClaims(answers pgx.BatchResults, claims []run.Claim, places []int, results []run.ClaimResult) error {
	rows, err := answers.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var place, outcome, remaining int
		var owner string
		var accepted time.Time
		var reset, retry int64
		var byAll bool
		dest := []any{&place, &outcome, &owner, &accepted, &remaining, &reset, &retry, &byAll}
		var joined run.Record
		columns, take := scanRecord(&joined)
		if rows.RawValues()[joinedID] == nil {
			clear(columns)
			take = func() {}
		}
		if err := rows.Scan(append(dest, columns...)...); err != nil {
			return err
		}
		take()
		i := places[place-1]
		results[i] = run.ClaimResult{Outcome: run.Outcome(outcome), Run: joined}
		if results[i].Outcome == run.Claimed {
			results[i].Run = claimed(&claims[i], owner, accepted)
		}
		results[i].Rate = rate(&claims[i], results[i].Outcome, remaining, reset, retry, byAll)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != len(places) {
		return fmt.Errorf("%d results for %d claims", n, len(places))
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

func rate(c *run.Claim, outcome run.Outcome, remaining int, reset, retry int64, byAll bool) run.Rate {
	var r run.Rate
	if c.Limit > 0 {
		r = run.Rate{Limit: c.Limit, Remaining: remaining, Reset: time.Duration(reset) * time.Microsecond}
	}
	if outcome == run.Limited {
		r.RetryAfter = max(time.Duration(retry)*time.Microsecond, time.Second)
		r.Global = byAll
	}
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
