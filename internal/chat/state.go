package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/sse"
)

// State is a run as JSON. Content is null until there is any; a run that ended
// badly has what it had said by then.
type State struct {
	RequestID    uuid.UUID       `json:"request_id"`
	Kind         string          `json:"kind"`
	State        run.State       `json:"state"`
	Attempt      int             `json:"attempt"`
	SessionID    uuid.UUID       `json:"session_id"`
	MessageID    *uuid.UUID      `json:"message_id"`
	Content      *string         `json:"content"`
	ToolCalls    json.RawMessage `json:"tool_calls,omitempty"`
	FinishReason string          `json:"finish_reason,omitempty"`
	Model        string          `json:"model"`
	Provider     string          `json:"provider,omitempty"`
	Usage        *record.Usage   `json:"usage"`
	Error        json.RawMessage `json:"error,omitempty"`
	CreatedAt    time.Time       `json:"created_at"`
	FinishedAt   *time.Time      `json:"finished_at"`
	TraceID      string          `json:"trace_id"`
}

// State returns what GET answers for a run.
func (s *Service) State(ctx context.Context, rec run.Record) (State, error) {
	st := State{
		RequestID: rec.ID, Kind: rec.Kind, State: rec.State, Attempt: rec.Attempt, SessionID: rec.SessionID,
		Model: modelOf(rec), Error: rec.Error, CreatedAt: rec.CreatedAt.UTC(), TraceID: rec.TraceID,
	}
	if !rec.State.Terminal() {
		return st, nil
	}
	finished := rec.FinishedAt.UTC()
	st.FinishedAt = &finished
	msg, err := s.engine.Answer(ctx, rec.ID)
	if errors.Is(err, run.ErrNotFound) {
		return st, nil
	}
	if err != nil {
		return st, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	st.MessageID, st.Content, st.ToolCalls = &msg.ID, &msg.Content, msg.ToolCalls
	st.Provider, st.Usage = msg.Provider, msg.Usage
	if msg.Model != "" {
		st.Model = msg.Model
	}
	var done struct {
		FinishReason string `json:"finish_reason"`
	}
	if rec.Result != nil && json.Unmarshal(rec.Result, &done) == nil {
		st.FinishReason = done.FinishReason
	}
	return st, nil
}

// Answer is the JSON of a finished run for a caller who did not want a stream:
// the fields of chat.done and of the run's state, with the whole content.
func (e *Encoder) Answer(rec *run.Record, end run.Frame, log Frames) []byte {
	c := log.of(end.Attempt)
	d := make([]byte, 0, len(end.Data)+len(c.text)+len(c.text)/8+256)
	d = append(d, bytes.TrimSuffix(end.Data, []byte("}"))...)
	d = sse.AppendString(append(d, `,"content":`...), bytesAsString(c.text))
	if calls := c.toolCalls(); calls != nil {
		d = append(append(d, `,"tool_calls":`...), calls...)
	}
	if len(c.reasoning) > 0 {
		d = sse.AppendString(append(d, `,"reasoning":`...), bytesAsString(c.reasoning))
	}
	d = strconv.AppendInt(append(d, `,"kind":"chat","state":"completed","attempt":`...), int64(end.Attempt), 10)
	d = rec.CreatedAt.UTC().AppendFormat(append(d, `,"created_at":"`...), time.RFC3339Nano)
	d = strconv.AppendBool(append(d, `","replayed":`...), e.replayed)
	return append(d, '}')
}
