package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
)

// maxTurns bounds a history beside its bytes.
const maxTurns = 128

const (
	questionColumns = `u.id, u.session_id, u.request_id, u.owner, u.role, u.content, u.parts, u.tool_calls, u.model, u.provider,
		u.usage, u.status, u.trace_id, u.created_at`
	answerColumns = `a.id, a.session_id, a.request_id, a.owner, a.role, a.content, a.parts, a.tool_calls, a.model, a.provider,
		a.usage, a.status, a.trace_id, a.created_at`
	messageColumns = 14

	turns = `select u.seq, ` + questionColumns + `, ` + answerColumns + `
		from messages u join messages a on a.request_id = u.request_id and a.role = 'assistant'
		where u.role = 'user' and a.content <> '' and `
)

// history is what was said in a session before a turn.
type history struct {
	messages []record.Message // oldest first
	seqs     json.RawMessage  // the questions' places, by which later attempts find the same turns
}

// history reads the newest turns of a session up to so many bytes of content.
func (c *conn) history(session uuid.UUID, bytes int) (h history, err error) {
	var seqs []int64
	err = c.query(func(r *row) error {
		answer, question := message(r, 1+messageColumns), message(r, 1)
		bytes -= len(question.Content) + len(answer.Content)
		if bytes < 0 {
			return errStop
		}
		h.messages = append(h.messages, answer, question)
		seqs = append(seqs, r.int64(0))
		return nil
	}, turns+`u.session_id = ? order by u.seq desc limit ?`, session, maxTurns)
	if err != nil {
		return history{}, fmt.Errorf("history: %w", err)
	}
	slices.Reverse(h.messages)
	if len(seqs) > 0 {
		h.seqs, err = json.Marshal(seqs)
	}
	return h, err
}

// historyOf reads what a run's first attempt saw. A turn does not change once
// it has an answer.
func (c *conn) historyOf(run uuid.UUID) (messages []record.Message, err error) {
	err = c.query(func(r *row) error {
		messages = append(messages, message(r, 1), message(r, 1+messageColumns))
		return nil
	}, turns+`u.seq in (select value from json_each((select history from runs where id = ?))) order by u.seq`, run)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return messages, nil
}

// message reads the columns of a message from column i on.
func message(r *row, i int) record.Message {
	m := record.Message{
		ID: r.id(i), SessionID: r.id(i + 1), RunID: r.id(i + 2), Owner: r.text(i + 3), Role: r.text(i + 4),
		Content: r.text(i + 5), Parts: r.json(i + 6), ToolCalls: r.json(i + 7), Model: r.text(i + 8), Provider: r.text(i + 9),
		Status: r.text(i + 11), TraceID: r.text(i + 12), CreatedAt: r.time(i + 13),
	}
	if usage := r.json(i + 10); usage != nil {
		m.Usage = &record.Usage{}
		if err := json.Unmarshal(usage, m.Usage); err != nil && r.err == nil {
			r.err = fmt.Errorf("usage of message %s: %w", m.ID, err)
		}
	}
	return m
}
