package openai

import (
	"bytes"
	"errors"
	"io"
)

const (
	readBuffer  = 2 << 10
	keepBuffer  = 64 << 10 // larger buffers do not go back to the pool
	maxLine     = 1 << 20  // also of the lines of one event together
	doneMarker  = "[DONE]"
	emptyReads  = 100
	byteOrder   = "\ufeff"
	errorsEvent = "error"
)

var errLineTooLong = errors.New("a line or an event of more than 1 MiB")

// An event is one event of a provider's stream. Its data lies in the reader's
// buffer and lives until the next call.
type event struct {
	data   []byte
	failed bool // event: error
	done   bool // data: [DONE]
	last   bool // the body ended before the blank line
}

// A reader splits a body into events as WHATWG's text/event-stream says, with two
// liberties that providers need: [DONE] counts as soon as its line does, and an
// event that the end of the body cuts off from its blank line is still told. It
// has one buffer, 2 KiB until a longer line comes; one event's data is copied only
// if the event spans two reads or several lines.
type reader struct {
	src     io.Reader
	err     error // how src ended
	buf     []byte
	r, w    int    // the unread bytes
	scanned int    // how many of them hold no line end
	skipLF  bool   // the last line ended in CR
	started bool   // the byte order mark is behind us
	stream  bool   // a line that text/event-stream knows has been seen
	data    []byte // of the event so far
	pending bool   // the event has data, however empty
	copied  bool   // data lies in joined, not in buf
	joined  []byte
}

func (r *reader) reset(src io.Reader) {
	*r = reader{src: src, buf: r.buf, joined: r.joined[:0]}
	if r.buf == nil {
		r.buf = make([]byte, readBuffer)
	}
}

// first skips white space and the byte order mark and returns the byte that
// follows, without consuming it: it tells JSON and HTML from a stream.
func (r *reader) first() (byte, error) {
	for {
		rest := r.buf[r.r:r.w]
		if !r.started && bytes.HasPrefix(rest, []byte(byteOrder)) {
			r.r += len(byteOrder)
			rest = rest[len(byteOrder):]
			r.started = true
		}
		partial := !r.started && len(rest) < len(byteOrder) && bytes.HasPrefix([]byte(byteOrder), rest)
		if !partial || r.err != nil {
			r.started = true
			trimmed := bytes.TrimLeft(rest, " \t\r\n")
			r.r += len(rest) - len(trimmed)
			if len(trimmed) > 0 {
				return trimmed[0], nil
			}
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// next returns the next event, or how the body ended: io.EOF for its proper end.
func (r *reader) next() (event, error) {
	if !r.started {
		if _, err := r.first(); err != nil {
			return event{}, err
		}
	}
	r.drop()
	var e event
	for {
		line, err := r.line()
		if err != nil && (err != io.EOF || (len(line) == 0 && !r.pending)) {
			return event{}, err
		}
		ended := err == io.EOF
		if len(line) > 0 {
			if err := r.field(line, &e); err != nil {
				return event{}, err
			}
		}
		if r.isDone() {
			return event{done: true}, nil
		}
		if len(line) > 0 && !ended {
			continue
		}
		if e.data = bytes.TrimSpace(r.data); len(e.data) > 0 {
			e.last = ended
			return e, nil
		}
		if ended {
			return event{}, io.EOF
		}
		r.drop()
		e = event{}
	}
}

// isDone is asked after every line, so it must not look at much.
func (r *reader) isDone() bool {
	return len(r.data) <= 2*len(doneMarker) && string(bytes.TrimSpace(r.data)) == doneMarker
}

// drop forgets the event so far.
func (r *reader) drop() { r.data, r.pending, r.copied = nil, false, false }

func (r *reader) field(line []byte, e *event) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "data":
		r.stream = true
		return r.append(value)
	case "event":
		r.stream = true
		e.failed = string(value) == errorsEvent
	case "", "id", "retry":
		r.stream = true
	}
	return nil
}

// append adds one data line to the event.
func (r *reader) append(value []byte) error {
	if !r.pending {
		r.data, r.pending = value, true
		return nil
	}
	if len(r.data)+len(value) > maxLine {
		return errLineTooLong
	}
	r.spill()
	r.joined = append(append(r.joined, '\n'), value...)
	r.data = r.joined
	return nil
}

// spill moves the event's data out of the buffer, whose bytes are about to move.
func (r *reader) spill() {
	if r.pending && !r.copied {
		r.joined = append(r.joined[:0], r.data...)
		r.data, r.copied = r.joined, true
	}
}

// line returns the next line without its end: CR, LF or both. With an error it
// returns what there is of a line that has no end.
func (r *reader) line() ([]byte, error) {
	for {
		if r.skipLF && r.r < r.w {
			if r.buf[r.r] == '\n' {
				r.r++
			}
			r.skipLF = false
		}
		rest := r.buf[r.r:r.w]
		if i := lineEnd(rest[r.scanned:]); i >= 0 {
			i += r.scanned
			if i > maxLine {
				return nil, errLineTooLong
			}
			r.skipLF = rest[i] == '\r'
			r.r += i + 1
			r.scanned = 0
			return rest[:i], nil
		}
		r.scanned = len(rest)
		if r.scanned > maxLine {
			return nil, errLineTooLong
		}
		if err := r.fill(); err != nil {
			rest = r.buf[r.r:r.w]
			r.r, r.scanned = r.w, 0
			return rest, err
		}
	}
}

func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// fill reads once from the source, behind the unread bytes.
func (r *reader) fill() error {
	if r.err != nil {
		return r.err
	}
	r.spill()
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	for range emptyReads {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		r.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// rest returns the body from here on, for one that is no stream.
func (r *reader) rest() io.Reader {
	unread := bytes.NewReader(r.buf[r.r:r.w])
	if r.err != nil {
		return io.MultiReader(unread, failing{r.err})
	}
	return io.MultiReader(unread, r.src)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
