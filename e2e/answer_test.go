package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
)

// answer is what one client has of one run, over as many responses as it took.
// It is the automaton of the contract: each response is `ready (keepalive |
// chat.delta)* (chat.done | error)` and EOF; over all of them the ids count up by
// one within an attempt; a new attempt begins at 1 and says so before its text.
type answer struct {
	Run      string
	Session  string
	Trace    string
	Attempt  int
	Seq      int
	LastID   string
	Text     string
	Resets   int
	Deltas   int
	Readies  int
	Retry    string // of the last frame that had one
	Replayed bool   // Idempotent-Replayed on the last response
	Done     *payload
	Failed   *payload // the run's own end
	Soft     *payload // the last error without an id: the response's end, not the run's
	OnFrame  func(frame)
}

// over tells whether the run's terminal frame has come.
func (a *answer) over() bool { return a.Done != nil || a.Failed != nil }

// read takes one response. nil: it ended properly, by the run's end or by an
// error of its own; errCut: it broke off; anything else is a violation.
func (a *answer) read(body io.Reader) error {
	in := bufio.NewReaderSize(body, 64<<10)
	a.Soft = nil
	first, ended := true, false
	for {
		f, err := readFrame(in)
		var v *violation
		switch {
		case errors.As(err, &v):
			return err
		case err != nil && !ended:
			return errCut // a reset, an EOF, a half frame: to a client they are one
		case errors.Is(err, errHalf):
			return violated("half a frame after the terminal frame")
		case err != nil:
			return nil // the end, or a crash that came after all was said
		case ended:
			return violated("%s after the terminal frame", f.Event)
		case first != (f.Event == "ready"):
			return violated("%s where ready is due or after it", f.Event)
		}
		first = false
		if f.Retry != "" {
			a.Retry = f.Retry
		}
		if ended, err = a.take(f); err != nil {
			return err
		}
		if a.OnFrame != nil {
			a.OnFrame(f)
		}
	}
}

// take moves the automaton by one frame and tells whether the response must end.
func (a *answer) take(f frame) (bool, error) {
	if a.Trace != "" && f.Data.TraceID != a.Trace {
		return false, violated("%s of trace %s in trace %s", f.Event, f.Data.TraceID, a.Trace)
	}
	a.Trace = f.Data.TraceID
	switch f.Event {
	case "ready":
		return false, a.takeReady(f)
	case "keepalive":
		if f.ID != "" {
			return false, violated("keepalive with id %q", f.ID)
		}
		return false, nil
	case "chat.delta":
		return false, a.takeDelta(f)
	case "chat.done":
		return true, a.takeDone(f)
	case "error":
		return true, a.takeError(f)
	}
	return false, violated("unknown frame %q", f.Event)
}

func (a *answer) takeReady(f frame) error {
	switch {
	case f.ID != "":
		return violated("ready with id %q", f.ID)
	case f.Retry == "":
		return violated("ready without retry")
	case a.Run != "" && f.Data.RequestID != a.Run:
		return violated("ready of run %q, not %q", f.Data.RequestID, a.Run)
	case f.Data.RequestID == "" || f.Data.SessionID == "":
		return violated("ready without run or session: %s", f.Raw)
	}
	a.Run, a.Session = f.Data.RequestID, f.Data.SessionID
	a.Readies++
	return nil
}

// move checks that a frame's id is the one that is due.
func (a *answer) move(f frame) error {
	p, err := parseID(f.ID)
	if err != nil {
		return err
	}
	if p.run != a.Run || f.Data.RequestID != a.Run {
		return violated("%s of run %q (%q), not %q", f.Event, p.run, f.Data.RequestID, a.Run)
	}
	switch {
	case p.attempt == a.Attempt && p.seq == a.Seq+1:
	case p.attempt > a.Attempt && p.seq == 1:
		// A delta of another attempt must tell the reader to drop what it has.
		if f.Event == "chat.delta" && a.Text != "" && !f.Data.Reset {
			return violated("attempt %d begins without reset after %d bytes of text", p.attempt, len(a.Text))
		}
	default:
		return violated("%s %d-%d after %d-%d", f.Event, p.attempt, p.seq, a.Attempt, a.Seq)
	}
	a.Attempt, a.Seq, a.LastID = p.attempt, p.seq, f.ID
	return nil
}

func (a *answer) takeDelta(f frame) error {
	if err := a.move(f); err != nil {
		return err
	}
	if f.Data.Seq != a.Seq || f.Data.Attempt != a.Attempt {
		return violated("delta %d-%d under id %s", f.Data.Attempt, f.Data.Seq, f.ID)
	}
	if f.Data.Reset {
		a.Text = ""
		a.Resets++
	}
	a.Text += f.Data.Delta
	a.Deltas++
	return nil
}

func (a *answer) takeDone(f frame) error {
	if err := a.move(f); err != nil {
		return err
	}
	d := f.Data
	sum := sha256.Sum256([]byte(a.Text))
	switch {
	case d.ContentBytes == nil || *d.ContentBytes != len(a.Text):
		return violated("chat.done names another length than %d: %.300s", len(a.Text), f.Raw)
	case d.ContentSHA256 != hex.EncodeToString(sum[:]):
		return violated("chat.done names another hash than that of %.100q: %.300s", a.Text, f.Raw)
	case d.Content != nil && *d.Content != a.Text:
		return violated("chat.done carries another text than was streamed")
	case d.MessageID == "" || d.FinishReason == "":
		return violated("chat.done without message or finish reason: %.300s", f.Raw)
	}
	a.Done = &d
	return nil
}

func (a *answer) takeError(f frame) error {
	d := f.Data
	if d.Code == "" || d.Message == "" || d.Retryable == nil {
		return violated("error without code, message or retryable: %.300s", f.Raw)
	}
	if f.ID == "" {
		if !*d.Retryable {
			return violated("an error that ends only the response is not retryable: %.300s", f.Raw)
		}
		a.Soft = &d
		return nil
	}
	if err := a.move(f); err != nil {
		return err
	}
	a.Failed = &d
	return nil
}
