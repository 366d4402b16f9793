package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

var claimOneSQL = `select agentedge.claim_run_v1(` + params(27) + `)`

// usual tells whether a claim may be one for claim_run_v1.
func usual(c *run.Claim) bool {
	return c.GlobalLimit <= 0 && (!c.AnySession || c.NewSession || c.SessionID == uuid.Nil)
}

// claimOne accepts a claim in the usual case. No result and no error: it is not
// that case, and nothing was written.
func (s *Store) claimOne(ctx context.Context, c *run.Claim) ([]run.ClaimResult, error) {
	args, err := claimOneArgs(c)
	if err != nil {
		return nil, err
	}
	var figures []int64
	results := make([]run.ClaimResult, 1)
	if c.NewSession || c.SessionID == uuid.Nil || c.HistoryBytes <= 0 {
		if err := s.pool.QueryRow(ctx, claimOneSQL, args...).Scan(&figures); err != nil || figures == nil {
			return nil, err
		}
		results[0] = accepted(c, figures)
		return results, nil
	}
	var batch pgx.Batch
	batch.Queue(claimOneSQL, args...)
	batch.Queue(historySQL, uuids{id(c.ID)})
	answers := s.pool.SendBatch(ctx, &batch)
	defer answers.Close()
	if err := answers.QueryRow().Scan(&figures); err != nil {
		return nil, err
	}
	if figures == nil {
		return nil, answers.Close()
	}
	results[0] = accepted(c, figures)
	if err := readHistories(answers, results); err != nil {
		return nil, err
	}
	return results, answers.Close()
}

func claimOneArgs(c *run.Claim) ([]any, error) {
	args := append(make([]any, 0, 27),
		id(c.ID), c.Kind, c.Endpoint, c.Principal, text(c.Owner), id(c.SessionID),
		text(c.Key), notNil(c.Fingerprint), c.Node, micros(c.Lease), c.TraceID, jsonText(c.Request),
		c.NewSession, int32(c.HistoryBytes), int32(max(c.Limit, 0)))
	said, err := messageArgs(&c.Message)
	if err != nil {
		return nil, err
	}
	return append(append(args, said...), id(c.Event.ID), c.Event.Type, jsonbText(c.Event.Data)), nil
}

// accepted is the result that claim_run_v1's figures tell.
func accepted(c *run.Claim, figures []int64) run.ClaimResult {
	r := run.ClaimResult{Outcome: run.Claimed, Run: claimed(c, c.Owner, time.UnixMicro(figures[0]))}
	if c.Limit > 0 {
		r.Rate = run.Rate{Limit: c.Limit, Remaining: int(figures[1]), Reset: time.Duration(figures[2]) * time.Microsecond}
	}
	return r
}

var finishOneSQL = `select agentedge.finish_run_v1(` + params(22) + `)`

// finishOne ends a run that has at most one event.
func (s *Store) finishOne(ctx context.Context, f *run.Finish) (done bool, err error) {
	args := append(make([]any, 0, 22),
		id(f.Run), int32(f.Attempt), string(f.State), int32(f.LastSeq), jsonText(f.Result), jsonText(f.Error), f.FreeKey)
	if f.Segment != nil {
		args = append(args, int32(f.Segment.First), int32(f.Segment.Last), notNil(f.Segment.Data))
	} else {
		args = append(args, nil, nil, nil)
	}
	said, err := messageArgs(f.Message)
	if err != nil {
		return false, err
	}
	var e record.Event
	if len(f.Events) > 0 {
		e = f.Events[0]
	}
	args = append(append(args, said...), id(e.ID), e.Type, jsonbText(e.Data))
	err = s.pool.QueryRow(ctx, finishOneSQL, args...).Scan(&done)
	return done, err
}
