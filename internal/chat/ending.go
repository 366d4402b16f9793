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

// completed is the ending of a whole answer.
func (w *turn) completed(a RouteAnswer) *run.Ending {
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
	data := w.doneData(msg, c, a)
	w.event("chat_done", object(nil).str("message_id", msg.ID.String()).str("model", msg.Model).str("provider", a.Provider).
		raw("usage", usageJSON(msg.Usage)).str("finish_reason", a.FinishReason).int("attempts", rec.Attempt).
		int("provider_calls", w.asked).int("ttfb_ms", ms(w.first)).int("total_ms", ms(time.Since(w.started))).end())
	return &run.Ending{State: run.Completed, Kind: run.Done, Data: data, Result: data, Message: msg, Events: w.events}
}

// doneData is the stored object of chat.done; the encoder adds content, tool_calls
// and replayed.
func (w *turn) doneData(msg *record.Message, c *collected, a RouteAnswer) json.RawMessage {
	rec := w.job.Record
	sum := sha256.Sum256(c.text)
	return object(nil).str("request_id", rec.ID.String()).str("message_id", msg.ID.String()).
		str("session_id", rec.SessionID.String()).int("content_bytes", len(c.text)).
		str("content_sha256", hex.EncodeToString(sum[:])).str("finish_reason", a.FinishReason).
		str("model", msg.Model).str("provider", a.Provider).raw("usage", usageJSON(msg.Usage)).
		int("attempts", rec.Attempt).int("ttfb_ms", ms(w.first)).int("total_ms", ms(time.Since(w.started))).
		str("trace_id", rec.TraceID).end()
}

func usageJSON(u *record.Usage) []byte {
	return object(nil).int("prompt_tokens", u.PromptTokens).int("completion_tokens", u.CompletionTokens).
		int("total_tokens", u.TotalTokens).str("source", u.Source).end()
}

func ms(d time.Duration) int { return int(d.Milliseconds()) }

// failed is the ending of a run whose provider failed for good. What it had said
// by then is kept as a message that says so.
func (w *turn) failed(f *fault.Error) *run.Ending {
	return w.broken(run.Failed, record.StatusFailed, f)
}

// stopped is the ending of a run that something outside ended.
func (w *turn) stopped(cause error) *run.Ending {
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
func (t *Turns) Close(job *run.Job, why api.Code) *run.Ending {
	w := t.turn(job)
	if err := w.read(); err != nil {
		t.cfg.Logger.Error("stored request cannot be read", "request_id", job.Record.ID, "error", err)
	}
	w.prompt = w.messages(job.History)
	if why == api.Cancelled {
		return w.stopped(run.ErrCancelled)
	}
	return w.broken(run.Interrupted, record.StatusInterrupted,
		fault.New(api.Interrupted, "the node that worked on this was lost before the answer was whole"))
}

// Fail makes the ending of a run whose handler broke down, or whose rows the store
// will not take.
func (t *Turns) Fail(job *run.Job) *run.Ending {
	rec := job.Record
	data := errorData(fault.New(api.Internal, "internal error"), rec.ID, rec.TraceID)
	return &run.Ending{State: run.Failed, Kind: run.Error, Data: data, Error: data, FreeKey: true}
}

func (w *turn) broken(state run.State, status string, f *fault.Error) *run.Ending {
	rec := w.job.Record
	c := collect(func(yield func(run.Frame)) { w.job.Frames(0, yield) })
	data := errorData(f, rec.ID, rec.TraceID)
	end := &run.Ending{State: state, Kind: run.Error, Data: data, Error: data, FreeKey: f.Retryable}
	if len(c.text) > 0 || len(c.calls) > 0 {
		end.Message = w.message(c, status)
		end.Message.Model, end.Message.Provider = w.req.Model, w.last
		end.Message.Usage = w.estimate(c)
	}
	if f.Cause != nil {
		w.cfg.Logger.Warn("chat failed", "request_id", rec.ID, "trace_id", rec.TraceID, "code", f.Code,
			"provider", w.last, "upstream_status", f.UpstreamStatus)
	}
	w.event("chat_failed", object(nil).str("code", string(f.Code)).bool("retryable", f.Retryable).
		int("upstream_status", f.UpstreamStatus).str("provider", w.last).int("attempts", rec.Attempt).
		int("provider_calls", w.asked).int("content_bytes", len(c.text)).int("total_ms", ms(time.Since(w.started))).end())
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

func (w *turn) event(kind string, data json.RawMessage) {
	w.events = append(w.events, newEvent(kind, w.job.Record, data))
}

func newEvent(kind string, rec run.Record, data json.RawMessage) record.Event {
	return record.Event{
		ID: uuid.Must(uuid.NewV7()), Type: kind, TraceID: rec.TraceID, RunID: rec.ID,
		SessionID: rec.SessionID, Owner: rec.Owner, Data: data,
	}
}
