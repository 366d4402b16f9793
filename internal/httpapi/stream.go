package httpapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/run"
)

const (
	maxBatch    = 32 << 10 // bytes of entries encoded before they are written
	firstBuffer = 8 << 10
	keepBuffer  = 128 << 10 // a larger buffer is not used again
)

// Header values of every stream; they are never changed.
var (
	streamType  = []string{"text/event-stream"}
	streamCache = []string{"no-store, no-transform"}
	streamAccel = []string{"no"}
	streamSniff = []string{"nosniff"}
)

// stream writes a run's log from a position on, until its end or the reader's.
func (s *Server) stream(w http.ResponseWriter, r *request, got *reading) error {
	p, err := s.openStream(w, r, got)
	if p == nil || err != nil {
		return err
	}
	defer p.close()
	p.run(r.Context(), s.cfg.Keepalive)
	return nil
}

// openStream begins the response of a stream. Without an error and without a pump there
// is nothing to stream.
func (s *Server) openStream(w http.ResponseWriter, r *request, got *reading) (*pump, error) {
	rec, at := &got.run, got.at
	if rec.State.Terminal() && at.Attempt == rec.Attempt && at.Seq == rec.LastSeq {
		bound(w)
		w.WriteHeader(http.StatusNoContent) // nothing follows: the client need not come again
		return nil, nil
	}
	if at.Attempt > rec.Attempt {
		return nil, fault.New(api.InvalidEventID, "this attempt was never made")
	}
	reader, enc, err := s.chat.Tail(r.Context(), *rec, at)
	if err != nil {
		return nil, err
	}
	h := w.Header()
	h["Content-Type"] = streamType
	h["Cache-Control"] = streamCache
	h["X-Accel-Buffering"] = streamAccel
	h["X-Content-Type-Options"] = streamSniff
	h["X-Request-Id"] = []string{rec.ID.String()}
	w.WriteHeader(http.StatusOK)
	p := &pump{reader: reader, enc: enc, writer: writer{w: w, control: http.NewResponseController(w), pool: &s.buffers, muxed: r.ProtoMajor > 1}}
	p.need()
	p.buf = enc.Ready(p.buf, *rec, at != run.Position{}, retryIn(2*time.Second))
	if p.flush() != nil {
		p.close()
		return nil, nil
	}
	return p, nil
}

// pump copies the frames of a log to one connection.
type pump struct {
	writer
	reader *run.Reader
	enc    *chat.Encoder
	frames []run.Frame
}

func (p *pump) close() {
	p.rest()
	p.reader.Close()
}

// run copies until the run's terminal frame, the client's leaving, or an error
// frame of this response alone.
func (p *pump) run(ctx context.Context, keepalive time.Duration) {
	quiet := time.NewTimer(keepalive)
	defer quiet.Stop()
	for {
		more, over := p.copy()
		if over {
			return
		}
		if more {
			continue
		}
		p.rest()
		select {
		case <-p.reader.Wake():
		case <-quiet.C:
			quiet.Reset(p.keepAlive(keepalive))
		case <-ctx.Done():
			return
		}
	}
}

// copy writes what the log has for the reader. more: there may be more at once.
func (p *pump) copy() (more, over bool) {
	var broken *fault.Error
	p.frames, over, broken = p.reader.Take(p.frames[:0], maxBatch)
	p.need()
	for _, f := range p.frames {
		p.buf = p.enc.Frame(p.buf, f, p.reader.Frames)
	}
	more = len(p.frames) > 0
	clear(p.frames)
	if broken != nil {
		p.buf = p.enc.Broken(p.buf, broken, retryIn(time.Second))
	}
	return more, p.flush() != nil || over || broken != nil
}

// keepAlive writes a keepalive if nothing was written for so long, and returns
// when to look again. An error of the connection shows at the next write, or by
// the request's end.
func (p *pump) keepAlive(every time.Duration) time.Duration {
	if wait := every - time.Since(p.last); wait > 0 {
		return wait
	}
	p.need()
	p.buf = p.enc.Keepalive(p.buf, time.Now())
	return every
}

// retryIn spreads reconnections around d.
func retryIn(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Int64N(int64(d)))
}

// writer sends what has gathered in buf, each time with a fresh deadline. The
// buffer is borrowed: a stream that waits has none.
type writer struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	pool     *sync.Pool // of *[]byte
	lent     *[]byte
	buf      []byte
	last     time.Time // of the last write
	deadline time.Time
	muxed    bool // HTTP/2 ends a stream when its deadline passes, also one that waits
}

// need makes sure that there is a buffer.
func (o *writer) need() {
	if o.lent != nil {
		return
	}
	o.lent, _ = o.pool.Get().(*[]byte)
	if o.lent == nil {
		b := make([]byte, 0, firstBuffer)
		o.lent = &b
	}
	o.buf = *o.lent
}

// rest gives the buffer back.
func (o *writer) rest() {
	if o.lent != nil && cap(o.buf) <= keepBuffer {
		*o.lent = o.buf[:0]
		o.pool.Put(o.lent)
	}
	o.lent, o.buf = nil, nil
}

func (o *writer) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	o.last = time.Now()
	// Moving a deadline by less than a second is not worth a timer's change.
	if o.deadline.Sub(o.last) < writeTime-time.Second {
		o.deadline = o.last.Add(writeTime)
		if err := o.control.SetWriteDeadline(o.deadline); err != nil {
			return err
		}
	}
	if _, err := o.w.Write(o.buf); err != nil {
		return err
	}
	o.buf = o.buf[:0]
	if err := o.control.Flush(); err != nil || !o.muxed {
		return err
	}
	o.deadline = time.Time{}
	return o.control.SetWriteDeadline(o.deadline)
}
