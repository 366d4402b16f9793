package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/tokens"
)

// done is the stored object of a chat.done; the encoder adds content, tool_calls
// and replayed.
type done struct {
	RequestID     uuid.UUID     `json:"request_id"`
	MessageID     uuid.UUID     `json:"message_id"`
	SessionID     uuid.UUID     `json:"session_id"`
	ContentBytes  int           `json:"content_bytes"`
	ContentSHA256 string        `json:"content_sha256"`
	FinishReason  string        `json:"finish_reason"`
	Model         string        `json:"model"`
	Provider      string        `json:"provider"`
	Usage         *record.Usage `json:"usage"`
	Attempts      int           `json:"attempts"`
	TTFBms        int64         `json:"ttfb_ms"`
	TotalMS       int64         `json:"total_ms"`
	TraceID       string        `json:"trace_id"`
}

// completed is the ending of a whole answer.
func (w *turn) completed(a RouteAnswer) run.Ending {
	rec := w.job.Record
	if rec.Attempt > 1 && !w.emitted {
		// The reset must reach readers even if the new answer says nothing.
		if err := w.append(kindText, nil); err != nil {
			return w.failed(asFault(err))
		}
	}
	c := collect(func(yield func(run.Frame)) { w.job.Frames(rec.Attempt, yield) })
	msg := w.message(c, record.StatusComplete)
	msg.Model, msg.Provider, msg.Usage = a.Model, a.Provider, a.Usage
	if msg.Model == "" {
		msg.Model = w.req.Model
	}
	if msg.Usage == nil {
		msg.Usage = w.estimate(c)
	}
	sum := sha256.Sum256(c.text)
	d := done{
		RequestID: rec.ID, MessageID: msg.ID, SessionID: rec.SessionID,
		ContentBytes: len(c.text), ContentSHA256: hex.EncodeToString(sum[:]),
		FinishReason: a.FinishReason, Model: msg.Model, Provider: a.Provider, Usage: msg.Usage,
		Attempts: rec.Attempt, TTFBms: w.first.Milliseconds(), TotalMS: time.Since(w.started).Milliseconds(),
		TraceID: rec.TraceID,
	}
	data, err := json.Marshal(d)
	if err != nil {
		return w.failed(fault.Wrap(err, api.Internal, "internal error"))
	}
	w.event("chat_done", map[string]any{
		"message_id": msg.ID, "model": d.Model, "provider": d.Provider, "usage": d.Usage, "finish_reason": d.FinishReason,
		"attempts": d.Attempts, "provider_calls": w.asked, "ttfb_ms": d.TTFBms, "total_ms": d.TotalMS,
	})
	return run.Ending{State: run.Completed, Kind: run.Done, Data: data, Result: data, Message: msg, Events: w.events}
}

// failed is the ending of a run whose provider failed for good. What it had said
// by then is kept as a message that says so.
func (w *turn) failed(f *fault.Error) run.Ending {
	return w.broken(run.Failed, record.StatusFailed, f)
}

// stopped is the ending of a run that something outside ended.
func (w *turn) stopped(cause error) run.Ending {
	switch {
	case errors.Is(cause, run.ErrDrained):
		return w.broken(run.Interrupted, record.StatusInterrupted,
			fault.New(api.Interrupted, "the server stopped before the answer was whole"))
	case errors.Is(cause, run.ErrAbandoned):
		return w.broken(run.Cancelled, record.StatusCancelled,
			fault.New(api.Cancelled, "cancelled: nobody was reading").With("reason", "disconnected"))
	default:
		return w.broken(run.Cancelled, record.StatusCancelled, fault.New(api.Cancelled, "cancelled by request"))
	}
}

// Close makes the ending of a run that nobody will work on again.
func (t *Turns) Close(job *run.Job, why api.Code) run.Ending {
	w := t.turn(job)
	if err := json.Unmarshal(job.Record.Request, &w.req); err != nil {
		t.cfg.Logger.Error("stored request cannot be read", "request_id", job.Record.ID, "error", err)
	}
	w.prompt = w.messages(job.History)
	if why == api.Cancelled {
		return w.stopped(run.ErrCancelled)
	}
	return w.broken(run.Interrupted, record.StatusInterrupted,
		fault.New(api.Interrupted, "the node that worked on this was lost before the answer was whole"))
}

func (w *turn) broken(state run.State, status string, f *fault.Error) run.Ending {
	rec := w.job.Record
	c := collect(func(yield func(run.Frame)) { w.job.Frames(0, yield) })
	data := errorData(f, rec.ID, rec.TraceID)
	end := run.Ending{State: state, Kind: run.Error, Data: data, Error: data, FreeKey: f.Retryable}
	if len(c.text) > 0 || len(c.calls) > 0 {
		end.Message = w.message(c, status)
		end.Message.Model, end.Message.Provider = w.req.Model, w.last
		end.Message.Usage = w.estimate(c)
	}
	if f.Cause != nil {
		w.cfg.Logger.Warn("chat failed", "request_id", rec.ID, "trace_id", rec.TraceID, "code", f.Code,
			"provider", w.last, "upstream_status", f.UpstreamStatus)
	}
	w.event("chat_failed", map[string]any{
		"code": f.Code, "retryable": f.Retryable, "upstream_status": f.UpstreamStatus, "provider": w.last,
		"attempts": rec.Attempt, "provider_calls": w.asked, "content_bytes": len(c.text),
		"total_ms": time.Since(w.started).Milliseconds(),
	})
	end.Events = w.events
	return end
}

func (w *turn) message(c *collected, status string) *record.Message {
	rec := w.job.Record
	return &record.Message{
		ID: uuid.Must(uuid.NewV7()), SessionID: rec.SessionID, RunID: rec.ID, Owner: rec.Owner,
		Role: "assistant", Content: string(c.text), ToolCalls: c.toolCalls(), Status: status, TraceID: rec.TraceID,
	}
}

// estimate counts the tokens that a provider did not count.
func (w *turn) estimate(c *collected) *record.Usage {
	u := &record.Usage{Source: record.Estimated}
	for _, m := range w.prompt {
		text := bytesAsString(m.Content)
		if m.Content[0] == '[' { // pictures and sounds are not counted by their bytes
			text, _ = partsText(m.Content)
		}
		u.PromptTokens += tokens.Estimate(text) + 4 // the role and the message's frame
	}
	u.CompletionTokens = tokens.Estimate(bytesAsString(c.text)) + tokens.Estimate(bytesAsString(c.reasoning))
	for _, call := range c.calls {
		u.CompletionTokens += tokens.Estimate(call.Function.Name) + tokens.Estimate(call.Function.Arguments)
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

func (w *turn) event(kind string, data map[string]any) {
	w.events = append(w.events, newEvent(kind, w.job.Record, data))
}

func newEvent(kind string, rec run.Record, data map[string]any) record.Event {
	body, err := json.Marshal(data)
	if err != nil { // ids, counts and times always marshal
		body = json.RawMessage(`{}`)
	}
	return record.Event{
		ID: uuid.Must(uuid.NewV7()), Type: kind, TraceID: rec.TraceID, RunID: rec.ID,
		SessionID: rec.SessionID, Owner: rec.Owner, Data: body,
	}
}
