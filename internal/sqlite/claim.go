package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// ClaimMany accepts runs in one transaction, one after the other: a claim sees
// what those before it in the batch did.
func (s *Store) ClaimMany(ctx context.Context, claims []run.Claim) ([]run.ClaimResult, error) {
	if len(claims) == 0 {
		return nil, ctx.Err()
	}
	results := make([]run.ClaimResult, len(claims))
	err := s.change(ctx, func(c *conn) (err error) {
		b := batch{conn: c, now: time.Now(), logs: logs{}}
		for i := range claims {
			if results[i], err = b.claim(&claims[i]); errors.Is(err, errSessionExists) {
				known := claims[i]
				known.NewSession = false
				results[i], err = b.claim(&known)
			}
			if err != nil {
				return fmt.Errorf("run %s: %w", claims[i].ID, err)
			}
		}
		return b.saveLogs()
	})
	if err != nil {
		return nil, fmt.Errorf("sqlite: claim: %w", err)
	}
	return results, nil
}

// errSessionExists says that a session which was to be new is there: the claim
// was made before, with an outcome that its caller does not know.
var errSessionExists = errors.New("the new session exists")

// batch is the claims of one transaction.
type batch struct {
	*conn
	now  time.Time
	logs logs
}

// claim decides one claim. Nothing is written before it is accepted.
func (b *batch) claim(cl *run.Claim) (run.ClaimResult, error) {
	if cl.Key != "" {
		if r, found, err := b.join(cl); err != nil || found {
			return r, err
		}
	}
	owner, known, err := b.session(cl)
	if err != nil {
		return run.ClaimResult{}, err
	}
	if known && owner != cl.Owner && !cl.AnySession {
		return run.ClaimResult{Outcome: run.NoSession}, nil
	}
	take, err := b.limits(cl)
	if err != nil {
		return run.ClaimResult{}, err
	}
	if take.refused {
		return run.ClaimResult{Outcome: run.Limited, Rate: take.rate(b.now)}, nil
	}
	var seen history
	if known && cl.HistoryBytes > 0 {
		if seen, err = b.history(cl.SessionID, cl.HistoryBytes); err != nil {
			return run.ClaimResult{}, err
		}
	}
	r := b.accepted(cl, owner)
	ok, err := b.insert(cl, &r, known, seen.seqs)
	if err != nil || !ok {
		return run.ClaimResult{Outcome: run.IDTaken}, err
	}
	take.count(b.now)
	return run.ClaimResult{Outcome: run.Claimed, Run: r, History: seen.messages, Rate: take.rate(b.now)}, nil
}

// join answers a claim whose key has a run.
func (b *batch) join(cl *run.Claim) (r run.ClaimResult, found bool, err error) {
	var id uuid.UUID
	var same bool
	found, err = b.one(func(r *row) {
		id, same = r.id(0), bytes.Equal(r.blob(1), cl.Fingerprint)
	}, `select id, fingerprint from runs where principal = ? and endpoint = ? and idempotency_key = ?`,
		cl.Principal, cl.Endpoint, cl.Key)
	if err != nil || !found {
		return r, false, err
	}
	if !same {
		return run.ClaimResult{Outcome: run.Conflict}, true, nil
	}
	r.Outcome = run.Joined
	r.Run, err = load(b.conn, id, b.now)
	return r, true, err
}

// session returns who owns the claim's session. One that nobody knows will be
// the caller's.
func (b *batch) session(cl *run.Claim) (owner string, known bool, err error) {
	owner = cl.Owner
	if cl.SessionID == uuid.Nil || cl.NewSession {
		return owner, false, nil
	}
	known, err = b.one(func(r *row) { owner = r.text(0) }, `select owner from sessions where id = ?`, cl.SessionID)
	return owner, known, err
}

// accepted is the run that a claim becomes.
func (b *batch) accepted(cl *run.Claim, owner string) run.Record {
	r := cl.Record
	r.Owner, r.Keyed = owner, cl.Key != ""
	r.State, r.Attempt, r.Tries = run.Running, 1, 1
	r.Lapsed = cl.Lease <= 0
	r.CancelAsked, r.LogGone, r.LastSeq = false, false, 0
	r.Result, r.Error = nil, nil
	r.CreatedAt, r.FinishedAt = b.now.Truncate(time.Microsecond).UTC(), time.Time{}
	return r
}

// insert writes everything that a claim names; false: its id is taken, and
// nothing is left.
func (b *batch) insert(cl *run.Claim, r *run.Record, known bool, seqs json.RawMessage) (bool, error) {
	makes := r.SessionID != uuid.Nil && !known
	if makes {
		n, err := b.exec(`insert into sessions (id, owner, created_at) values (?, ?, ?) on conflict (id) do nothing`,
			r.SessionID, orNull(r.Owner), b.now)
		if err != nil {
			return false, fmt.Errorf("session: %w", err)
		}
		if n == 0 {
			return false, errSessionExists
		}
	}
	n, err := b.exec(`insert into runs (id, state, attempt, tries, lease_node, lease_until, created_at, kind, endpoint, principal, owner,
		session_id, idempotency_key, keyed, fingerprint, trace_id, request, history)
		values (?, 'running', 1, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do nothing`,
		r.ID, r.Node, b.now.Add(cl.Lease), b.now, r.Kind, r.Endpoint, r.Principal, orNull(r.Owner),
		r.SessionID, orNull(r.Key), r.Keyed, r.Fingerprint, r.TraceID, r.Request, seqs)
	if err != nil {
		return false, err
	}
	if n == 0 {
		if makes {
			_, err = b.exec(`delete from sessions where id = ?`, r.SessionID)
		}
		return false, err
	}
	if err := b.addMessage(&cl.Message, r.SessionID, r.Owner, b.now); err != nil {
		return false, err
	}
	return true, b.addEvent(&cl.Event, r.Owner, b.now)
}

// orNull is null for an empty string.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// addMessage stores a message of a session, which belongs to the session's
// owner whoever wrote it. A message without an id is none.
func (c *conn) addMessage(m *record.Message, session uuid.UUID, owner string, now time.Time) error {
	if m.ID == uuid.Nil {
		return nil
	}
	var usage json.RawMessage
	if m.Usage != nil {
		var err error
		if usage, err = json.Marshal(m.Usage); err != nil {
			return err
		}
	}
	_, err := c.exec(`insert into messages (id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider,
		usage, status, trace_id, created_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.ID, session, m.RunID, orNull(owner), m.Role, m.Content, m.Parts, m.ToolCalls, orNull(m.Model), orNull(m.Provider),
		usage, m.Status, m.TraceID, now)
	if err != nil {
		return fmt.Errorf("message %s: %w", m.ID, err)
	}
	return nil
}

// addEvent stores an event once. An event without an id is none; one without an
// owner is the run's owner's.
func (c *conn) addEvent(e *record.Event, owner string, now time.Time) error {
	if e.ID == uuid.Nil {
		return nil
	}
	if e.Owner != "" {
		owner = e.Owner
	}
	_, err := c.exec(`insert into bus_events (event_id, type, trace_id, request_id, session_id, owner, data, created_at)
		values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (event_id) do nothing`,
		e.ID, e.Type, e.TraceID, e.RunID, e.SessionID, orNull(owner), e.Data, now)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.ID, err)
	}
	return nil
}
