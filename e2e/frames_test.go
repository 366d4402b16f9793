package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxFrame is the longest frame that the contract allows.
const maxFrame = 32 << 10

// errCut is a response that ended without a terminal frame: the connection broke,
// and a client resumes.
var errCut = errors.New("response ended without a terminal frame")

// errHalf is a proper end of the body in the middle of a frame.
var errHalf = errors.New("half a frame")

// violation is a break of the contract, as opposed to a break of the connection.
type violation struct{ what string }

func (v *violation) Error() string { return "violation: " + v.what }

func violated(format string, args ...any) error {
	return &violation{fmt.Sprintf(format, args...)}
}

// frame is one SSE event as it came.
type frame struct {
	ID    string
	Event string
	Retry string
	Data  payload
	Raw   string
}

// payload is the union of what frames carry, as far as it is checked.
type payload struct {
	TraceID       string  `json:"trace_id"`
	RequestID     string  `json:"request_id,omitempty"`
	SessionID     string  `json:"session_id,omitempty"`
	Seq           int     `json:"seq,omitempty"`
	Attempt       int     `json:"attempt,omitempty"`
	Attempts      int     `json:"attempts,omitempty"`
	Delta         string  `json:"delta,omitempty"`
	Reset         bool    `json:"reset,omitempty"`
	Resumed       bool    `json:"resumed,omitempty"`
	Content       *string `json:"content,omitempty"`
	ContentBytes  *int    `json:"content_bytes,omitempty"`
	ContentSHA256 string  `json:"content_sha256,omitempty"`
	MessageID     string  `json:"message_id,omitempty"`
	FinishReason  string  `json:"finish_reason,omitempty"`
	Code          string  `json:"code,omitempty"`
	Message       string  `json:"message,omitempty"`
	Retryable     *bool   `json:"retryable,omitempty"`
	RetryAfterMS  int     `json:"retry_after_ms,omitempty"`
	Upstream      int     `json:"upstream_status,omitempty"`
}

// String is for messages of failed tests.
func (p *payload) String() string {
	if p == nil {
		return "none"
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// readFrame reads one frame in the narrow form that the edge promises: LF only,
// one event name, exactly one line of compact JSON. io.EOF comes only between
// frames.
func readFrame(in *bufio.Reader) (frame, error) {
	var f frame
	seen := map[string]bool{}
	size := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if err == io.EOF && (len(line) > 0 || len(seen) > 0) {
				err = errHalf
			}
			return f, err
		}
		if size += len(line); size > maxFrame {
			return f, violated("a frame of more than %d bytes", maxFrame)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return f, f.check(seen)
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok || strings.ContainsAny(line, "\r\x00") {
			return f, violated("line %q", line)
		}
		if seen[name] {
			return f, violated("two lines of %q in one frame", name)
		}
		seen[name] = true
		switch name {
		case "id":
			f.ID = value
		case "event":
			f.Event = value
		case "retry":
			f.Retry = value
		case "data":
			f.Raw = value
		default:
			return f, violated("line %q", line)
		}
	}
}

// check looks at a whole frame by itself.
func (f *frame) check(seen map[string]bool) error {
	if !seen["event"] || !seen["data"] {
		return violated("a frame without event or data: %+v", *f)
	}
	if seen["retry"] {
		if n, err := strconv.Atoi(f.Retry); err != nil || n < 0 {
			return violated("retry %q", f.Retry)
		}
	}
	if err := json.Unmarshal([]byte(f.Raw), &f.Data); err != nil {
		return violated("data of %s: %v in %.200q", f.Event, err, f.Raw)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(f.Raw)); err != nil || compact.String() != f.Raw {
		return violated("data of %s is not compact: %.200q", f.Event, f.Raw)
	}
	if f.Data.TraceID == "" {
		return violated("%s without trace_id: %.200q", f.Event, f.Raw)
	}
	return nil
}

// position is a place in a run's log.
type position struct {
	run          string
	attempt, seq int
}

// parseID reads `<run>-<attempt>-<seq>`; the run's own id has dashes too.
func parseID(id string) (position, error) {
	head, seq, ok := cutLast(id, "-")
	run, attempt, ok2 := cutLast(head, "-")
	if !ok || !ok2 || len(run) != 36 {
		return position{}, violated("id %q", id)
	}
	s, err := strconv.Atoi(seq)
	if err != nil || s < 1 {
		return position{}, violated("seq of id %q", id)
	}
	a, err := strconv.Atoi(attempt)
	if err != nil || a < 1 {
		return position{}, violated("attempt of id %q", id)
	}
	return position{run, a, s}, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}
