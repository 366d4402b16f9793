package sse

import (
	"bytes"
	"errors"
	"io"
	"math"
	"time"
)

// ErrTooLong says that a line, or the data of one event, is over MaxLine.
var ErrTooLong = errors.New("sse: line too long")

// defaultMaxLine is far over any frame of this product (32 KiB) and under what
// could hurt a client.
const defaultMaxLine = 1 << 20

// Options bounds a Reader.
type Options struct {
	MaxLine int // bytes of one line, and of one event's data; 0: 1 MiB
}

// Event is one event as the standard dispatches it.
type Event struct {
	ID    string        // the last event id as of this event, possibly from an earlier one
	Name  string        // "message" where the stream names none
	Data  []byte        // as it came, not checked for UTF-8; valid until the next call of Next
	Retry time.Duration // the reconnection time as of this event; 0: the stream named none
}

// Reader decodes a stream. It reads from one goroutine.
type Reader struct {
	src     io.Reader
	maxLine int

	buf     []byte // what was read and not yet decoded is buf[start:end]
	start   int
	end     int
	scanned int   // buf[start:scanned] holds no line break
	err     error // what src ended with

	begun  bool // the first line was read
	skipLF bool // the last line ended with CR: an LF that follows belongs to it

	name    string
	data    []byte
	hasData bool
	open    bool // a field came since the last blank line
	nextID  string
	lastID  string
	retry   time.Duration
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader, opts Options) *Reader {
	if opts.MaxLine <= 0 {
		opts.MaxLine = defaultMaxLine
	}
	return &Reader{src: src, maxLine: opts.MaxLine}
}

// Next returns the next event. At the end it returns io.EOF, or
// io.ErrUnexpectedEOF if the stream was cut within an event: what had come of it
// is not returned, its id not taken. Other errors are src's own, or ErrTooLong.
// After an error every call returns it again.
func (r *Reader) Next() (Event, error) {
	for {
		line, err := r.line()
		if err == nil && len(line) > 0 {
			err = r.field(line)
		}
		if err != nil {
			r.err, r.start = err, r.end
			return Event{}, err
		}
		if len(line) > 0 {
			continue
		}
		// A blank line ends the event, and its id counts even without data.
		r.lastID, r.open = r.nextID, false
		if r.hasData {
			return r.event(), nil
		}
		r.name = ""
	}
}

// LastID returns what a Last-Event-ID header would carry now.
func (r *Reader) LastID() string { return r.lastID }

// Retry returns the reconnection time that the stream asked for, 0 for none.
func (r *Reader) Retry() time.Duration { return r.retry }

// event hands out what was collected and begins anew.
func (r *Reader) event() Event {
	e := Event{ID: r.lastID, Name: r.name, Data: r.data, Retry: r.retry}
	if e.Name == "" {
		e.Name = "message"
	}
	r.name, r.data, r.hasData = "", r.data[:0], false
	return e
}

// field takes one line that is not blank.
func (r *Reader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte{':'})
	if len(name) == 0 {
		return nil // a comment
	}
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "data":
		if len(r.data)+len(value)+1 > r.maxLine {
			return ErrTooLong
		}
		if r.hasData {
			r.data = append(r.data, '\n')
		}
		r.data, r.hasData, r.open = append(r.data, value...), true, true
	case "event":
		r.name, r.open = string(value), true
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.nextID, r.open = string(value), true
		}
	case "retry":
		if ms, ok := digits(value); ok {
			r.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return nil
}

// digits reads a number of ASCII digits, at most what a Duration holds in ms.
func digits(b []byte) (n int64, ok bool) {
	const most = math.MaxInt64 / int64(time.Millisecond)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), most)
	}
	return n, len(b) > 0
}

// line returns the next line without its end. It does not wait for the LF that
// may follow a CR, which could be long in coming.
func (r *Reader) line() ([]byte, error) {
	for {
		if r.skipLF && r.start < r.end {
			if r.buf[r.start] == '\n' {
				r.start++
			}
			r.skipLF = false
		}
		for i := max(r.scanned, r.start); i < r.end; i++ {
			if c := r.buf[i]; c == '\n' || c == '\r' {
				line := r.buf[r.start:i]
				r.skipLF = c == '\r'
				r.start, r.scanned = i+1, i+1
				return r.first(line), r.bound(line)
			}
		}
		r.scanned = r.end
		if r.err != nil {
			return nil, r.ended()
		}
		if err := r.bound(r.buf[r.start:r.end]); err != nil {
			return nil, err
		}
		r.fill()
	}
}

func (r *Reader) bound(line []byte) error {
	if len(line) > r.maxLine {
		return ErrTooLong
	}
	return nil
}

// first drops the byte order mark that a stream may begin with.
func (r *Reader) first(line []byte) []byte {
	if !r.begun {
		r.begun = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	return line
}

// ended tells how the stream ended once all its lines are read.
func (r *Reader) ended() error {
	if r.err != io.EOF {
		return r.err
	}
	if r.open || len(r.first(r.buf[r.start:r.end])) > 0 {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

// fill reads once more from src, behind what is not decoded yet.
func (r *Reader) fill() {
	if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
		r.scanned -= r.start
		r.end -= r.start
		r.start = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, max(2*len(r.buf), 4096))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.err = err
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}
