package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/strictjson"
)

// readBody reads a JSON body whole, before anything is done with it: a body left
// unread makes net/http lose the response that is being written.
func readBody(w http.ResponseWriter, r *request, limit int64) ([]strictjson.Member, error) {
	if err := checkForm(r.Header); err != nil {
		return nil, err
	}
	tooLarge := fault.New(api.BodyTooLarge, "the body is larger than %d bytes", limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if err != nil {
		var over *http.MaxBytesError
		switch {
		case errors.As(err, &over):
			return nil, tooLarge
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fault.New(api.RequestTimeout, "the body did not arrive within %v", bodyTime)
		}
		return nil, fault.Wrap(err, api.InvalidRequest, "the body could not be read")
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return strictjson.Parse(body, strictjson.Limits{Depth: api.MaxDepth})
}

// maxTrusted is what is set aside for a body that has not come yet.
const maxTrusted = 64 << 10

// readAll is io.ReadAll for a length that is mostly known.
func readAll(r io.Reader, length int64) ([]byte, error) {
	buf := make([]byte, 0, min(max(length, 511), maxTrusted)+1)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// checkForm refuses bodies that are not JSON in UTF-8, and callers that take
// neither JSON nor a stream.
func checkForm(h http.Header) error {
	if err := checkType(h.Get("Content-Type")); err != nil {
		return err
	}
	for _, coding := range h.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return fault.New(api.UnsupportedEncoding, "the body must not be compressed")
		}
	}
	if accept := h.Values("Accept"); len(accept) > 0 && !acceptable(strings.Join(accept, ",")) {
		return fault.New(api.NotAcceptable, "this endpoint answers application/json and text/event-stream")
	}
	return nil
}

func checkType(value string) error {
	if value == "application/json" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(value)
	charset := params["charset"]
	if err != nil || kind != "application/json" && kind != "text/plain" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return fault.New(api.UnsupportedMediaType, "the body must be application/json in UTF-8")
	}
	return nil
}

func acceptable(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "", "*/*", "application/*", "text/*", "application/json", "text/event-stream":
			return true
		}
	}
	return false
}

// wantsStream tells whether a GET asks for the log and not for the state.
func wantsStream(r *request) bool {
	return r.URL.Query().Get("stream") == "true" || strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// idempotencyKey reads the header: a bare value, or RFC 8941's quoted string,
// which is the same key.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values(api.HeaderIdempotencyKey)
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if len(values) > 1 || !chat.ValidKey(key) {
		return "", fault.New(api.InvalidIdempotencyKey, "an idempotency key has 1 to %d visible ASCII characters", api.MaxKey)
	}
	return key, nil
}

// eventID takes the parts of a frame's id: <run>-<attempt>-<seq>.
func eventID(value string) (uuid.UUID, run.Position, error) {
	bad := fault.New(api.InvalidEventID, "this is not the id of a frame")
	if len(value) < 40 || len(value) > 60 || value[36] != '-' {
		return uuid.Nil, run.Position{}, bad
	}
	id, err := uuid.Parse(value[:36])
	if err != nil {
		return uuid.Nil, run.Position{}, bad
	}
	attempt, seq, found := strings.Cut(value[37:], "-")
	a, okA := count(attempt)
	s, okS := count(seq)
	if !found || !okA || !okS {
		return uuid.Nil, run.Position{}, bad
	}
	return id, run.Position{Attempt: a, Seq: s}, nil
}

// count parses a positive decimal number without leading zeros.
func count(s string) (int, bool) {
	if s == "" || len(s) > 9 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, true
}
