package testedge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/sse"
)

// Event is one event of a stream.
type Event struct {
	ID   string // of its own; empty for none
	Name string
	Data string
}

// Stream is what one response said. After a read from the start, Text is the
// answer; after a resumed one, what it added.
type Stream struct {
	Raw       []byte
	Events    []Event
	Ready     api.Ready
	Deltas    []api.Delta
	Text      string
	Reasoning string
	LastID    string
	Done      *api.Done
	Error     *api.Failure // with LastID its own, or without an id
	ErrorID   string
}

// Parse reads a whole response and holds it to the wire's rules: the form of a
// frame, the order of frames, the ids, and the digest of an answer that was read
// from its start.
func Parse(raw []byte) (*Stream, error) {
	s := &Stream{Raw: raw}
	if err := checkForm(raw); err != nil {
		return s, err
	}
	r := sse.NewReader(bytes.NewReader(raw), sse.Options{})
	before := ""
	for {
		ev, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
		e := Event{Name: ev.Name, Data: string(ev.Data)}
		if ev.ID != before {
			e.ID, before = ev.ID, ev.ID
		}
		if err := s.take(e); err != nil {
			return s, fmt.Errorf("event %d: %w: %.300s", len(s.Events), err, e.Data)
		}
		if len(s.Events) == 1 && ev.Retry <= 0 {
			return s, errors.New("ready says no reconnection time")
		}
	}
	if s.Done == nil && s.Error == nil {
		return s, errors.New("the stream has no terminal frame")
	}
	return s, nil
}

// checkForm holds every frame to the subset that all clients read alike.
func checkForm(raw []byte) error {
	if bytes.ContainsAny(raw, "\r\x00") {
		return errors.New("the stream holds a CR or NUL")
	}
	frames := strings.SplitAfter(string(raw), "\n\n")
	if frames[len(frames)-1] != "" {
		return errors.New("the stream ends within a frame")
	}
	for i, frame := range frames[:len(frames)-1] {
		if len(frame) > api.MaxFrame {
			return fmt.Errorf("frame %d has %d bytes", i, len(frame))
		}
		data := 0
		for line := range strings.SplitSeq(strings.TrimSuffix(frame, "\n\n"), "\n") {
			name, value, ok := strings.Cut(line, ": ")
			switch {
			case ok && name == "data":
				data++
				if !json.Valid([]byte(value)) || !compact(value) {
					return fmt.Errorf("frame %d: data is no compact JSON: %.200s", i, value)
				}
			case !ok || name != "id" && name != "event" && name != "retry":
				return fmt.Errorf("frame %d has the line %.100q", i, line)
			}
		}
		if data != 1 {
			return fmt.Errorf("frame %d has %d data lines", i, data)
		}
	}
	return nil
}

func compact(value string) bool {
	var b bytes.Buffer
	return json.Compact(&b, []byte(value)) == nil && b.String() == value
}

// take takes one event by the automaton ready (keepalive | delta)* (done | error).
func (s *Stream) take(e Event) error {
	s.Events = append(s.Events, e)
	if s.Done != nil || s.Error != nil {
		return errors.New("a frame follows the terminal one")
	}
	if first := len(s.Events) == 1; first != (e.Name == api.FrameReady) {
		return errors.New("ready is not the first frame, or comes twice")
	}
	switch e.Name {
	case api.FrameReady:
		if e.ID != "" {
			return errors.New("ready has an id")
		}
		return strict(e.Data, &s.Ready)
	case api.FrameKeepalive:
		if e.ID != "" {
			return errors.New("a keepalive has an id")
		}
		var k struct {
			TraceID string `json:"trace_id"`
			TS      string `json:"ts"`
		}
		return errors.Join(strict(e.Data, &k), same(k.TraceID, s.Ready.TraceID))
	case api.FrameDelta:
		return s.delta(e)
	case api.FrameDone:
		return s.done(e)
	case api.FrameError:
		s.Error, s.ErrorID = &api.Failure{}, e.ID
		if e.ID != "" {
			if err := s.next(e.ID, false); err != nil {
				return err
			}
		}
		return errors.Join(strict(e.Data, s.Error), same(s.Error.TraceID, s.Ready.TraceID))
	}
	return errors.New("unknown frame " + e.Name)
}

func strict(data string, v any) error {
	d := json.NewDecoder(strings.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func same(got, want string) error {
	if got != want {
		return fmt.Errorf("%q is not %q", got, want)
	}
	return nil
}

func (s *Stream) delta(e Event) error {
	var d api.Delta
	if err := strict(e.Data, &d); err != nil {
		return err
	}
	s.Deltas = append(s.Deltas, d)
	if d.Reset {
		s.Text, s.Reasoning = "", ""
	}
	s.Text += d.Delta
	s.Reasoning += d.Reasoning
	want := fmt.Sprintf("%s-%d-%d", s.Ready.RequestID, d.Attempt, d.Seq)
	return errors.Join(s.next(e.ID, d.Reset), same(e.ID, want), same(d.RequestID, s.Ready.RequestID), same(d.TraceID, s.Ready.TraceID))
}

// next checks that an id follows the one before it: by one, or with a newer
// attempt from its first frame, which resets unless it is the run's end.
func (s *Stream) next(id string, reset bool) error {
	attempt, seq, err := position(id)
	if err != nil {
		return err
	}
	last, lastSeq := 0, 0
	if s.LastID != "" {
		if last, lastSeq, err = position(s.LastID); err != nil {
			return err
		}
	}
	first := s.LastID == ""
	s.LastID = id
	switch {
	case first && s.Ready.Resumed:
		return nil
	case first && seq == 1, attempt == last && seq == lastSeq+1 && !reset:
		return nil
	case attempt > last && seq == 1:
		return nil
	}
	return fmt.Errorf("id %d-%d follows %d-%d", attempt, seq, last, lastSeq)
}

func position(id string) (attempt, seq int, err error) {
	parts := strings.Split(id, "-")
	if len(parts) != 7 {
		return 0, 0, fmt.Errorf("id %q", id)
	}
	attempt, err1 := strconv.Atoi(parts[5])
	seq, err2 := strconv.Atoi(parts[6])
	return attempt, seq, errors.Join(err1, err2)
}

func (s *Stream) done(e Event) error {
	s.Done = &api.Done{}
	if err := errors.Join(strict(e.Data, s.Done), s.next(e.ID, false), same(s.Done.TraceID, s.Ready.TraceID)); err != nil {
		return err
	}
	if s.Ready.Resumed {
		return nil
	}
	sum := sha256.Sum256([]byte(s.Text))
	if s.Done.ContentBytes != len(s.Text) || s.Done.ContentSHA256 != hex.EncodeToString(sum[:]) {
		return errors.New("the deltas are not the answer that chat.done names")
	}
	if s.Done.Content != nil && *s.Done.Content != s.Text {
		return errors.New("the answer in chat.done is not that of the deltas")
	}
	return nil
}
