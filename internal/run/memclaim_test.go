package run

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
)

// memTurns is the most turns that a history has.
const memTurns = 128

// claimMany accepts all claims of a batch or, where a row is refused, none.
func (m *Mem) claimMany(claims []Claim) ([]ClaimResult, error) {
	for _, c := range claims {
		if _, over := m.decide(c); !over && c.Message.ID != uuid.Nil && m.hasMessage(c.Message.ID) {
			return nil, errData
		}
	}
	results := make([]ClaimResult, len(claims))
	for i, c := range claims {
		var over bool
		if results[i], over = m.decide(c); !over {
			results[i] = m.accept(c, results[i].Rate)
		}
	}
	return results, nil
}

// decide says how a claim ends that is not accepted; over is false for one that
// may be.
func (m *Mem) decide(c Claim) (res ClaimResult, over bool) {
	if id, ok := m.keys[memKey{c.Principal, c.Endpoint, c.Key}]; ok && c.Key != "" {
		if r := m.runs[id]; !bytes.Equal(r.Fingerprint, c.Fingerprint) {
			return ClaimResult{Outcome: Conflict}, true
		}
		return ClaimResult{Outcome: Joined, Run: m.seen(m.runs[id])}, true
	}
	if m.runs[c.ID] != nil {
		return ClaimResult{Outcome: IDTaken}, true
	}
	if owner, ok := m.sessions[c.SessionID]; ok && owner != c.Owner && !c.AnySession {
		return ClaimResult{Outcome: NoSession}, true
	}
	return m.limit(c)
}

// limit counts exactly: one time for each run in the window.
func (m *Mem) limit(c Claim) (res ClaimResult, over bool) {
	now := m.now()
	own, all := m.window(memKey{c.Principal, c.Endpoint, ""}, now), m.window(memKey{"", c.Endpoint, "all"}, now)
	leaves := func(times []time.Time, limit int) time.Duration {
		return times[len(times)-limit].Add(RateWindow).Sub(now)
	}
	res.Rate = Rate{Limit: c.Limit, Remaining: max(0, c.Limit-len(own)-1), Reset: RateWindow}
	if len(own) > 0 {
		res.Rate.Reset = leaves(own, len(own))
	}
	if c.Limit == 0 {
		res.Rate = Rate{}
	}
	switch {
	case c.Limit > 0 && len(own) >= c.Limit:
		res.Rate.RetryAfter = max(time.Second, leaves(own, c.Limit))
	case c.GlobalLimit > 0 && len(all) >= c.GlobalLimit:
		res.Rate.RetryAfter, res.Rate.Global = max(time.Second, leaves(all, c.GlobalLimit)), true
	default:
		return res, false
	}
	res.Outcome = Limited
	return res, true
}

func (m *Mem) window(k memKey, now time.Time) []time.Time {
	m.admitted[k] = slices.DeleteFunc(m.admitted[k], func(at time.Time) bool { return !at.Add(RateWindow).After(now) })
	return m.admitted[k]
}

func (m *Mem) accept(c Claim, rate Rate) ClaimResult {
	now := m.now()
	for k, limit := range map[memKey]int{{c.Principal, c.Endpoint, ""}: c.Limit, {"", c.Endpoint, "all"}: c.GlobalLimit} {
		if limit > 0 {
			m.admitted[k] = append(m.admitted[k], now)
		}
	}
	r := &memRun{Record: c.Record, until: now.Add(c.Lease)}
	r.State, r.Attempt, r.Tries, r.Keyed, r.CreatedAt = Running, 1, 1, c.Key != "", now
	if c.SessionID != uuid.Nil {
		if owner, ok := m.sessions[c.SessionID]; ok {
			r.Owner = owner
		}
		m.sessions[c.SessionID] = r.Owner
		r.history = m.history(c.SessionID, c.HistoryBytes)
	}
	m.runs[c.ID] = r
	if c.Key != "" {
		m.keys[memKey{c.Principal, c.Endpoint, c.Key}] = c.ID
	}
	if c.Message.ID != uuid.Nil {
		m.addMessage(c.Message, c.SessionID)
	}
	m.addEvents([]record.Event{c.Event})
	return ClaimResult{Outcome: Claimed, Run: m.seen(r), History: r.history, Rate: rate}
}

// history is the newest turns of a session that have an answer and fit.
func (m *Mem) history(session uuid.UUID, room int) (turns []record.Message) {
	for _, asked := range slices.Backward(m.messages) {
		if asked.SessionID != session || asked.Role != "user" {
			continue
		}
		answer, ok := m.answer(asked.RunID)
		if !ok || answer.Content == "" {
			continue
		}
		room -= len(asked.Content) + len(answer.Content)
		if room < 0 || len(turns) == 2*memTurns {
			break
		}
		turns = append(turns, answer, asked)
	}
	slices.Reverse(turns)
	return turns
}

func (m *Mem) answer(id uuid.UUID) (record.Message, bool) {
	for _, msg := range m.messages {
		if msg.RunID == id && msg.Role == "assistant" {
			return msg, true
		}
	}
	return record.Message{}, false
}
