package httpapi

import (
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
func (s *Server) stream(w http.ResponseWriter, r *request, rec run.Record, at run.Position) error {
	if rec.State.Terminal() && at.Attempt == rec.Attempt && at.Seq == rec.LastSeq {
		w.WriteHeader(http.StatusNoContent) // nothing follows: the client need not come again
		return nil
	}
	if at.Attempt > rec.Attempt {
		return fault.New(api.InvalidEventID, "this attempt was never made")
	}
	reader, enc, err := s.chat.Tail(r.Context(), rec, at)
	if err != nil {
		return err
	}
	defer reader.Close()
	h := w.Header()
	h["Content-Type"] = streamType
	h["Cache-Control"] = streamCache
	h["X-Accel-Buffering"] = streamAccel
	h["X-Content-Type-Options"] = streamSniff
	h["X-Request-Id"] = []string{rec.ID.String()}
	w.WriteHeader(http.StatusOK)
	out := &writer{w: w, control: http.NewResponseController(w), pool: &s.buffers}
	defer out.rest()
	out.need()
	out.buf = enc.Ready(out.buf, rec, at != run.Position{}, retryIn(2*time.Second))
	if out.flush() != nil {
		return nil
	}
	s.pump(r, out, reader, enc)
	return nil
}

// pump copies frames to the connection. It ends with the run's terminal frame,
// with the client, or with an error frame of this response alone.
func (s *Server) pump(r *request, out *writer, reader *run.Reader, enc *chat.Encoder) {
	quiet := time.NewTimer(s.cfg.Keepalive)
	defer quiet.Stop()
	var frames []run.Frame
	for {
		var over bool
		var broken *fault.Error
		frames, over, broken = reader.Take(frames[:0], maxBatch)
		out.need()
		for _, f := range frames {
			out.buf = enc.Frame(out.buf, f, reader.Frames)
		}
		if broken != nil {
			out.buf = enc.Broken(out.buf, broken, retryIn(time.Second))
		}
		if out.flush() != nil || over || broken != nil {
			return
		}
		if len(frames) > 0 {
			clear(frames)
			continue
		}
		out.rest()
		select {
		case <-reader.Wake():
		case <-quiet.C:
			wait := s.cfg.Keepalive - time.Since(out.last)
			if wait <= 0 {
				out.need()
				out.buf = enc.Keepalive(out.buf, time.Now())
				wait = s.cfg.Keepalive
			}
			quiet.Reset(wait)
		case <-r.Context().Done():
			return
		}
	}
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
	return o.control.Flush()
}
