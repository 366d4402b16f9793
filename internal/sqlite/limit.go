package sqlite

import (
	"fmt"
	"time"

	"github.com/agentedge/agentedge/internal/limit"
	"github.com/agentedge/agentedge/internal/run"
)

// logKey names one limit. The principal ” stands for everybody.
type logKey struct {
	endpoint, principal string
}

// logs are the sliding logs that a transaction has read. Each is written once,
// however many claims of the batch it counts.
type logs map[logKey]*rateLog

type rateLog struct {
	limit.Log
	counted bool
}

// take is what the limits say to one claim.
type take struct {
	own, all *rateLog // nil: not limited
	claim    *run.Claim
	refused  bool
	global   bool // it was the limit over all callers that refused
}

// limits asks both limits of a claim, and counts nothing yet.
func (b *batch) limits(cl *run.Claim) (t take, err error) {
	t.claim = cl
	if cl.Limit > 0 {
		if t.own, err = b.rateLog(logKey{cl.Endpoint, cl.Principal}); err != nil {
			return t, err
		}
		t.refused = t.own.Rate(b.now, cl.Limit).Remaining == 0
	}
	if cl.GlobalLimit > 0 && !t.refused {
		if t.all, err = b.rateLog(logKey{cl.Endpoint, ""}); err != nil {
			return t, err
		}
		t.refused = t.all.Rate(b.now, cl.GlobalLimit).Remaining == 0
		t.global = t.refused
	}
	return t, nil
}

// count counts the claim in both.
func (t *take) count(now time.Time) {
	if t.own != nil {
		t.own.Take(now, t.claim.Limit, 1)
		t.own.counted = true
	}
	if t.all != nil {
		t.all.Take(now, t.claim.GlobalLimit, 1)
		t.all.counted = true
	}
}

// rate is what the caller is told: of its own limit, unless the other refused.
func (t *take) rate(now time.Time) (r run.Rate) {
	switch {
	case t.global:
		r = run.Rate(t.all.Refusal(now, t.claim.GlobalLimit))
		r.Global = true
	case t.refused:
		r = run.Rate(t.own.Refusal(now, t.claim.Limit))
	case t.own != nil:
		r = run.Rate(t.own.Rate(now, t.claim.Limit))
	}
	return r
}

// rateLog reads a log. One that cannot be read is an error: to begin anew would
// admit too many.
func (b *batch) rateLog(k logKey) (*rateLog, error) {
	if l := b.logs[k]; l != nil {
		return l, nil
	}
	l := &rateLog{}
	var raw []byte
	_, err := b.one(func(r *row) { raw = r.blob(0) },
		`select log from rate_limits where endpoint = ? and principal = ?`, k.endpoint, k.principal)
	if err == nil {
		err = l.UnmarshalBinary(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("rate limit of %s: %w", k.endpoint, err)
	}
	b.logs[k] = l
	return l, nil
}

// saveLogs writes the logs that count more than before.
func (b *batch) saveLogs() error {
	for k, l := range b.logs {
		if !l.counted {
			continue
		}
		raw, err := l.AppendBinary(nil)
		if err == nil {
			_, err = b.exec(`insert into rate_limits (endpoint, principal, log) values (?, ?, ?)
				on conflict (endpoint, principal) do update set log = excluded.log`, k.endpoint, k.principal, raw)
		}
		if err != nil {
			return fmt.Errorf("rate limit of %s: %w", k.endpoint, err)
		}
	}
	return nil
}
