package postgres

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// recordColumns are the columns of a run.Record, of the runs that r names.
func recordColumns(r string) string {
	return strings.ReplaceAll(`@id, @kind, @endpoint, @principal, coalesce(@owner, ''), @session_id, coalesce(@idempotency_key, ''),
		@keyed, @fingerprint, @state, @attempt, @tries, @lease_node,
		@state = 'running' and (@lease_until is null or @lease_until < clock_timestamp()),
		@cancel_requested, @trace_id, @request::text, @result::text, @error::text, @last_seq, @log_gone, @created_at, @finished_at`,
		"@", r+".")
}

// scanRecord is where recordColumns go; take makes r of them.
func scanRecord(r *run.Record) (dest []any, take func()) {
	var session pgtype.UUID
	var request, result, failure pgtype.Text
	var finished pgtype.Timestamptz
	dest = []any{
		&r.ID, &r.Kind, &r.Endpoint, &r.Principal, &r.Owner, &session, &r.Key, &r.Keyed, &r.Fingerprint, (*string)(&r.State),
		&r.Attempt, &r.Tries, &r.Node, &r.Lapsed, &r.CancelAsked, &r.TraceID, &request, &result, &failure, &r.LastSeq, &r.LogGone,
		&r.CreatedAt, &finished,
	}
	return dest, func() {
		r.SessionID = session.Bytes
		r.Request, r.Result, r.Error = raw(request), raw(result), raw(failure)
		r.CreatedAt = r.CreatedAt.UTC()
		if finished.Valid {
			r.FinishedAt = finished.Time.UTC()
		}
	}
}

// messageColumns are the columns of a record.Message, of the messages m.
const messageColumns = `m.id, m.session_id, m.request_id, coalesce(m.owner, ''), m.role, m.content, m.parts::text, m.tool_calls::text,
	coalesce(m.model, ''), coalesce(m.provider, ''), m.usage::text, m.status, m.trace_id, m.created_at`

// scanMessage is where messageColumns go; take makes m of them.
func scanMessage(m *record.Message) (dest []any, take func() error) {
	var parts, calls, usage pgtype.Text
	dest = []any{
		&m.ID, &m.SessionID, &m.RunID, &m.Owner, &m.Role, &m.Content, &parts, &calls,
		&m.Model, &m.Provider, &usage, &m.Status, &m.TraceID, &m.CreatedAt,
	}
	return dest, func() error {
		m.Parts, m.ToolCalls = raw(parts), raw(calls)
		m.CreatedAt = m.CreatedAt.UTC()
		if !usage.Valid {
			return nil
		}
		m.Usage = new(record.Usage)
		return json.Unmarshal([]byte(usage.String), m.Usage)
	}
}

// messages collects rows of messages as the functions take them: a column each.
// A place without a message has no id.
type messages struct {
	ids                                            uuids
	roles, contents, statuses                      []string
	parts, toolCalls, models, providers, usageJSON texts
}

// uuids and texts are arrays with nulls that pgx encodes without reflection.
type (
	uuids = pgtype.FlatArray[pgtype.UUID]
	texts = pgtype.FlatArray[pgtype.Text]
)

func (c *messages) add(m *record.Message) error {
	if m == nil {
		m = &record.Message{}
	}
	usage, err := usageText(m.Usage)
	if err != nil {
		return err
	}
	c.ids = append(c.ids, id(m.ID))
	c.roles = append(c.roles, m.Role)
	c.contents = append(c.contents, storable(m.Content))
	c.parts = append(c.parts, jsonText(m.Parts))
	c.toolCalls = append(c.toolCalls, jsonText(m.ToolCalls))
	c.models = append(c.models, text(storable(m.Model)))
	c.providers = append(c.providers, text(m.Provider))
	c.usageJSON = append(c.usageJSON, usage)
	c.statuses = append(c.statuses, m.Status)
	return nil
}

// messageArgs are one message as the functions for one run take it.
func messageArgs(m *record.Message) ([]any, error) {
	if m == nil {
		m = &record.Message{}
	}
	usage, err := usageText(m.Usage)
	if err != nil {
		return nil, err
	}
	return []any{
		id(m.ID), m.Role, storable(m.Content), jsonText(m.Parts), jsonText(m.ToolCalls),
		text(storable(m.Model)), text(m.Provider), usage, m.Status,
	}, nil
}

func usageText(u *record.Usage) (pgtype.Text, error) {
	if u == nil {
		return pgtype.Text{}, nil
	}
	b, err := json.Marshal(u)
	return pgtype.Text{String: string(b), Valid: true}, err
}

func (c *messages) args() []any {
	return []any{c.ids, c.roles, c.contents, c.parts, c.toolCalls, c.models, c.providers, c.usageJSON, c.statuses}
}

// id is null for the zero UUID.
func id(u uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: u, Valid: u != uuid.Nil} }

// text is null for the empty string.
func text(s string) pgtype.Text { return pgtype.Text{String: s, Valid: s != ""} }

// jsonText is null for no JSON.
func jsonText(j json.RawMessage) pgtype.Text { return text(strings.ToValidUTF8(string(j), "\ufffd")) }

// jsonbText is jsonText for jsonb, which has no U+0000 in its strings.
func jsonbText(j json.RawMessage) pgtype.Text {
	if nul := []byte(`\u0000`); bytes.Contains(j, nul) {
		j = bytes.ReplaceAll(j, nul, []byte(`\ufffd`))
	}
	return jsonText(j)
}

func raw(t pgtype.Text) json.RawMessage {
	if !t.Valid {
		return nil
	}
	return json.RawMessage(t.String)
}

// storable replaces what PostgreSQL's text cannot hold. A provider can send such
// characters, and must not make the end of a run unstorable with them.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// notNil is a slice as a value that is not null.
func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func micros(d time.Duration) int64 { return d.Microseconds() }
