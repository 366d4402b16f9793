package httpapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// problem is the JSON body of every error. msg repeats message for clients of
// older Supabase versions.
type problem struct {
	Code           api.Code       `json:"code"`
	Message        string         `json:"message"`
	Msg            string         `json:"msg"`
	TraceID        string         `json:"trace_id"`
	RequestID      string         `json:"request_id,omitempty"`
	Retryable      bool           `json:"retryable"`
	RetryAfterMS   int64          `json:"retry_after_ms,omitempty"`
	UpstreamStatus int            `json:"upstream_status,omitempty"`
	Details        map[string]any `json:"details,omitempty"`
}

// docs is where a required header is described.
const docs = `<https://github.com/agentedge/agentedge/blob/main/docs/errors.md#idempotency_key_required>; rel="describedby"`

// fail writes the one response an error becomes, and logs what a caller must not
// see.
func (s *Server) fail(w http.ResponseWriter, r *request, err error) {
	f := fault.From(err)
	status := f.Code.Status()
	h := w.Header()
	h.Set(api.HeaderErrorCode, string(f.Code))
	switch f.Code {
	case api.ServerDraining:
		h.Set("Connection", "close")
		setRetryAfter(h, time.Second)
	case api.StorageUnavailable, api.Overloaded:
		setRetryAfter(h, time.Second)
	case api.RequestTimeout, api.BodyTooLarge:
		h.Set("Connection", "close")
	case api.IdempotencyKeyRequired:
		h.Set("Link", docs)
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if f.RetryAfter > 0 {
		setRetryAfter(h, f.RetryAfter)
	}
	if r.Context().Err() != nil { // the caller has left: nobody sees it
		s.log.Debug("request abandoned", "trace_id", r.trace, "code", f.Code)
	} else if status >= 500 || f.Cause != nil {
		s.log.Warn("request failed", "trace_id", r.trace, "code", f.Code, "status", status, "error", f.Cause)
	}
	writeJSON(w, status, problem{
		Code: f.Code, Message: f.Message, Msg: f.Message, TraceID: r.trace, RequestID: r.runID, Retryable: f.Retryable,
		RetryAfterMS: f.RetryAfter.Milliseconds(), UpstreamStatus: f.UpstreamStatus, Details: f.Details,
	})
}

func setRetryAfter(h http.Header, d time.Duration) {
	h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // only our own shapes come here
		status, data = http.StatusInternalServerError, []byte(`{"code":"internal_error","message":"internal error","msg":"internal error"}`)
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json; charset=utf-8"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Content-Length"] = []string{strconv.Itoa(len(data))}
	bound(w)
	w.WriteHeader(status)
	w.Write(data) // the caller may be gone; nothing depends on it
}

// bound lets a short response wait so long for a caller who does not take it.
func bound(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(replyTime)) // every connection has deadlines
}

// send writes a response of any length, each piece with a fresh deadline.
func send(w http.ResponseWriter, data []byte) {
	control := http.NewResponseController(w)
	for len(data) > 0 {
		if control.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
			return
		}
		n, err := w.Write(data[:min(len(data), maxBatch)])
		if err != nil {
			return // the caller is gone; nothing depends on it
		}
		data = data[n:]
	}
}
