package chat

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/sse"
)

// Kinds of entries in a chat's log. The data of a text or reasoning entry is the
// text itself; that of a tool-call entry is OpenAI's array of deltas; that of
// run.Done and run.Error is the JSON object of the frame without what the encoder
// adds.
const (
	kindText      = run.FirstKind
	kindReasoning = run.FirstKind + 1
	kindTools     = run.FirstKind + 2
)

// Encoder turns the entries of one run's log into SSE frames for one reader.
type Encoder struct {
	id       uuid.UUID
	trace    string
	replayed bool
	renumber bool // the log was rebuilt from rows: the first delta resets
	name     string
	head     string // of every delta, up to its attempt in the id
	middle   string // between the id and the seq of a delta
	tail     string // of every delta, from the trace id on
}

// NewEncoder makes an encoder for a reader of rec's log. replayed marks the
// answers that were not generated for this request.
func NewEncoder(rec run.Record, replayed bool) *Encoder {
	e := &Encoder{id: rec.ID, trace: rec.TraceID, replayed: replayed, name: rec.ID.String()}
	e.head = "id: " + e.name + "-"
	e.middle = "\nevent: " + api.FrameDelta + "\ndata: {\"request_id\":\"" + e.name + "\",\"seq\":"
	e.tail = string(sse.AppendString([]byte(`,"trace_id":`), e.trace)) + "}\n\n"
	return e
}

// Ready appends the frame that opens every stream.
func (e *Encoder) Ready(dst []byte, rec run.Record, resumed bool, retry time.Duration) []byte {
	ms := strconv.FormatInt(retry.Milliseconds(), 10)
	d := sse.AppendString(append(make([]byte, 0, 320), `{"trace_id":`...), e.trace)
	d = append(append(d, `,"request_id":"`...), e.name...)
	d = append(append(d, `","session_id":"`...), rec.SessionID.String()...)
	d = append(strconv.AppendInt(append(d, `","attempt":`...), int64(rec.Attempt), 10), `,"model":`...)
	d = sse.AppendString(d, modelOf(rec))
	d = append(strconv.AppendBool(append(d, `,"resumed":`...), resumed), `,"retry_ms":`...)
	d = append(append(d, ms...), '}')
	dst = append(append(append(dst, "retry: "...), ms...), '\n')
	return sse.AppendFrame(dst, "", api.FrameReady, d)
}

// Keepalive appends the frame that keeps a silent connection open.
func (e *Encoder) Keepalive(dst []byte, now time.Time) []byte {
	d := sse.AppendString([]byte(`{"trace_id":`), e.trace)
	d = now.UTC().AppendFormat(append(d, `,"ts":"`...), "2006-01-02T15:04:05.000Z")
	return sse.AppendFrame(dst, "", api.FrameKeepalive, append(d, `"}`...))
}

// Broken appends an error frame without an id: it ends this response, not the run.
func (e *Encoder) Broken(dst []byte, err *fault.Error, retry time.Duration) []byte {
	dst = append(strconv.AppendInt(append(dst, "retry: "...), retry.Milliseconds(), 10), '\n')
	return sse.AppendFrame(dst, "", api.FrameError, errorData(err, e.id, e.trace))
}

// Frames yields the entries of one attempt of a log.
type Frames func(attempt int, yield func(run.Frame))

func (fs Frames) of(attempt int) *collected {
	return collect(func(yield func(run.Frame)) { fs(attempt, yield) })
}

// Frame appends one entry. log gives the end of an answer what came before it.
func (e *Encoder) Frame(dst []byte, f run.Frame, log Frames) []byte {
	dst = append(dst, e.head...)
	dst = strconv.AppendInt(dst, int64(f.Attempt), 10)
	dst = strconv.AppendInt(append(dst, '-'), int64(f.Seq), 10)
	switch f.Kind {
	case run.Done:
		return sse.AppendFrame(append(dst, '\n'), "", api.FrameDone, e.doneData(nil, f, log.of(f.Attempt)))
	case run.Error:
		return sse.AppendFrame(append(dst, '\n'), "", api.FrameError, f.Data)
	}
	return e.delta(dst, f)
}

// delta writes the rest of a delta's frame in one pass: it is what streams are
// made of. A frame of text is as safe as sse.AppendFrame's: strings are escaped,
// and tool calls, which are the provider's JSON, go through it.
func (e *Encoder) delta(dst []byte, f run.Frame) []byte {
	dst = append(dst, e.middle...)
	from := len(dst)
	dst = strconv.AppendInt(dst, int64(f.Seq), 10)
	dst = strconv.AppendInt(append(dst, `,"attempt":`...), int64(f.Attempt), 10)
	dst = append(dst, `,"delta":`...)
	if f.Kind == kindText {
		dst = sse.AppendString(dst, bytesAsString(f.Data))
	} else {
		dst = append(dst, `""`...)
	}
	if f.Seq == 1 && (f.Attempt > 1 || e.renumber) {
		dst = append(dst, `,"reset":true`...)
	}
	switch f.Kind {
	case kindReasoning:
		dst = sse.AppendString(append(dst, `,"reasoning":`...), bytesAsString(f.Data))
	case kindTools:
		dst = append(append(dst, `,"tool_calls":`...), f.Data...)
		sse.OneLine(dst[from:])
	}
	return append(dst, e.tail...)
}

// doneData completes the stored object with the answer, where it is short enough
// to be repeated, and with whether this is a replay.
func (e *Encoder) doneData(d []byte, f run.Frame, c *collected) []byte {
	d = append(d, f.Data[:len(f.Data)-1]...)
	mark := len(d)
	d = sse.AppendString(append(d, `,"content":`...), bytesAsString(c.text))
	if calls := c.toolCalls(); calls != nil {
		d = append(append(d, `,"tool_calls":`...), calls...)
	}
	if len(d)-mark > api.MaxInlineAnswer {
		d = d[:mark]
	}
	d = strconv.AppendBool(append(d, `,"replayed":`...), e.replayed)
	return append(d, '}')
}

// errorData is the object of an error frame.
func errorData(err *fault.Error, id uuid.UUID, trace string) []byte {
	data, fail := json.Marshal(struct {
		Code           api.Code       `json:"code"`
		Message        string         `json:"message"`
		Retryable      bool           `json:"retryable"`
		RetryAfterMS   int64          `json:"retry_after_ms,omitempty"`
		UpstreamStatus int            `json:"upstream_status,omitempty"`
		Details        map[string]any `json:"details,omitempty"`
		RequestID      uuid.UUID      `json:"request_id"`
		TraceID        string         `json:"trace_id"`
	}{err.Code, err.Message, err.Retryable, err.RetryAfter.Milliseconds(), err.UpstreamStatus, err.Details, id, trace})
	if fail != nil || len(data) > api.MaxFrame-512 {
		plain := *err
		plain.Details = nil
		plain.Message = strings.ToValidUTF8(plain.Message[:min(len(plain.Message), 1<<10)], "")
		return errorData(&plain, id, trace)
	}
	return data
}

// modelOf is the model that a run's request names. It is the first member of the
// stored object, and stays it in jsonb, which orders names by length.
func modelOf(rec run.Record) string {
	dec := json.NewDecoder(bytes.NewReader(rec.Request))
	var key, value json.Token
	if _, err := dec.Token(); err == nil {
		key, _ = dec.Token()
		value, _ = dec.Token()
	}
	if model, ok := value.(string); ok && key == "model" {
		return model
	}
	var req struct {
		Model string `json:"model"`
	}
	if json.Unmarshal(rec.Request, &req) != nil {
		return ""
	}
	return req.Model
}
