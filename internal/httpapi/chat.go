package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/limit"
	"github.com/agentedge/agentedge/internal/run"
)

// cancelWait is how long a cancel waits for the run's end.
const cancelWait = 2 * time.Second

// reading is a run that a request has got to read, from where, and how.
type reading struct {
	run    run.Record
	at     run.Position
	stream bool
}

// postChat accepts a turn and answers it: as a stream, or as JSON once it is over.
func (s *Server) postChat(w http.ResponseWriter, r *request) error {
	got, err := s.acceptChat(w, r)
	if err != nil {
		return err
	}
	if got.stream {
		return s.stream(w, r, got)
	}
	return s.answer(w, r, got)
}

// acceptChat does all that comes before the answer. What it needs for that is off
// the stack, and forgotten, while a stream is open.
func (s *Server) acceptChat(w http.ResponseWriter, r *request) (*reading, error) {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return nil, err
	}
	members, err := readBody(w, r, api.MaxChatBody)
	if err != nil {
		return nil, err
	}
	body, err := s.chat.Parse(members, r.who)
	if err != nil {
		return nil, err
	}
	if last := r.Header.Get(api.HeaderLastEventID); last != "" {
		return s.repost(w, r, body, last)
	}
	turn, err := s.chat.Start(r.Context(), chat.Caller{
		Principal: r.who, TraceID: r.trace, Key: key, Endpoint: chat.Kind,
	}, body)
	limit.Headers(w.Header(), chat.Kind, limit.Rate(turn.Rate))
	if err != nil {
		return nil, err
	}
	if turn.Joined {
		w.Header().Set(api.HeaderReplayed, "true")
	}
	return &reading{run: turn.Run, stream: body.Stream}, nil
}

// repost finds the run for a client that sends its request again after a cut.
func (s *Server) repost(w http.ResponseWriter, r *request, body *chat.Body, last string) (*reading, error) {
	id, at, err := eventID(last)
	if err != nil {
		return nil, err
	}
	rec, err := s.chat.Load(r.Context(), r.who, id)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(rec.Fingerprint, chat.Fingerprint(rec.Endpoint, body)) {
		return nil, fault.New(api.IdempotencyReused, "Last-Event-ID names the run of another request")
	}
	w.Header().Set(api.HeaderReplayed, "true")
	return &reading{run: rec, at: at, stream: body.Stream}, nil
}

// getChat returns a run's state, or its log.
func (s *Server) getChat(w http.ResponseWriter, r *request) error {
	rec, err := s.named(r)
	if err != nil {
		return err
	}
	if !wantsStream(r) {
		return s.state(w, r, rec)
	}
	last := r.Header.Get(api.HeaderLastEventID)
	if last == "" {
		last = r.URL.Query().Get("after")
	}
	if last == "" {
		return s.stream(w, r, &reading{run: rec})
	}
	id, at, err := eventID(last)
	if err != nil {
		return err
	}
	if id != rec.ID {
		return fault.New(api.InvalidEventID, "this is the id of another run's frame")
	}
	return s.stream(w, r, &reading{run: rec, at: at})
}

// cancelChat stops a run. It is idempotent: a run that is over stays as it is.
func (s *Server) cancelChat(w http.ResponseWriter, r *request) error {
	rec, err := s.named(r)
	if err != nil {
		return err
	}
	if rec, err = s.chat.Cancel(r.Context(), rec, cancelWait); err != nil {
		return err
	}
	return s.state(w, r, rec)
}

// named loads the run that the path names, if the caller may read it.
func (s *Server) named(r *request) (run.Record, error) {
	text := r.PathValue("id")
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return run.Record{}, fault.New(api.StreamNotFound, "no such run")
	}
	rec, err := s.chat.Load(r.Context(), r.who, id)
	if err == nil {
		r.runID = rec.ID.String()
	}
	return rec, err
}

func (s *Server) state(w http.ResponseWriter, r *request, rec run.Record) error {
	state, err := s.chat.State(r.Context(), rec)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, state)
	return nil
}

// answer waits for a run's end and writes it as one JSON object.
func (s *Server) answer(w http.ResponseWriter, r *request, got *reading) error {
	rec := &got.run
	r.runID = rec.ID.String()
	w.Header()[http.CanonicalHeaderKey(api.HeaderRequestID)] = []string{r.runID}
	reader, enc, err := s.chat.Tail(r.Context(), *rec, run.Position{})
	if err != nil {
		return err
	}
	defer reader.Close()
	var frames []run.Frame
	for {
		var over bool
		var broken *fault.Error
		frames, over, broken = reader.Take(frames[:0], 1<<20)
		if over {
			return s.writeAnswer(w, reader, rec, enc, frames)
		}
		if broken != nil {
			return broken
		}
		if len(frames) > 0 {
			continue // there may be more than one taking
		}
		select {
		case <-reader.Wake():
		case <-r.Context().Done():
			return fault.Wrap(r.Context().Err(), api.InvalidRequest, "the caller left")
		}
	}
}

func (s *Server) writeAnswer(w http.ResponseWriter, reader *run.Reader, rec *run.Record, enc *chat.Encoder, frames []run.Frame) error {
	end := frames[len(frames)-1]
	if end.Kind == run.Error {
		var f fault.Error
		if err := json.Unmarshal(end.Data, (*storedError)(&f)); err != nil {
			return err
		}
		return &f
	}
	data := enc.Answer(rec, end, reader.Frames)
	h := w.Header()
	h["Content-Type"] = []string{"application/json; charset=utf-8"}
	h["X-Content-Type-Options"] = streamSniff
	h["Content-Length"] = []string{strconv.Itoa(len(data))}
	w.WriteHeader(http.StatusOK)
	send(w, data)
	return nil
}

// storedError reads the data of an error frame back.
type storedError fault.Error

func (e *storedError) UnmarshalJSON(data []byte) error {
	var v struct {
		Code           api.Code       `json:"code"`
		Message        string         `json:"message"`
		Retryable      bool           `json:"retryable"`
		RetryAfterMS   int64          `json:"retry_after_ms"`
		UpstreamStatus int            `json:"upstream_status"`
		Details        map[string]any `json:"details"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*e = storedError{
		Code: v.Code, Message: v.Message, Retryable: v.Retryable, UpstreamStatus: v.UpstreamStatus, Details: v.Details,
		RetryAfter: time.Duration(v.RetryAfterMS) * time.Millisecond,
	}
	return nil
}
