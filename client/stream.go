package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/sse"
)

// ChatStream is one answer on its way. It is used by one goroutine.
type ChatStream struct {
	client *Client
	body   []byte
	key    string

	ready   api.Ready
	done    *api.Done
	text    []byte
	lastID  string
	resumes int
	retry   time.Duration // what the edge asked for last
	heard   time.Time     // the run's last sign of life
}

// StreamChat prepares a chat; Deltas sends it. Without an idempotency key (or a
// request id) a request whose fate is unknown is not sent again; once the edge has
// said ready the stream is resumed in either case.
func (c *Client) StreamChat(r api.ChatRequest) (*ChatStream, error) {
	if err := c.checkBase(); err != nil {
		return nil, err
	}
	body, err := encode(r)
	if err != nil {
		return nil, fmt.Errorf("client: encode request: %w", err)
	}
	key := r.IdempotencyKey
	if key == "" {
		key = r.RequestID
	}
	return &ChatStream{client: c, body: body, key: key}, nil
}

// Ready is what the edge said of the run; its RequestID is empty until then.
func (s *ChatStream) Ready() api.Ready { return s.ready }

// Done is the end of the answer, nil until it is there.
func (s *ChatStream) Done() *api.Done { return s.done }

// Text is the answer so far; after Deltas has ended without an error, all of it.
func (s *ChatStream) Text() string { return string(s.text) }

// Resumes is how often the connection had to be made anew.
func (s *ChatStream) Resumes() int { return s.resumes }

// Deltas sends the request and yields the answer's deltas. A delta with Reset
// voids the text before it. It ends after the whole answer, or with an error: an
// *Error the edge has named, ErrTruncated, ErrCorrupt, or the context's.
func (s *ChatStream) Deltas(ctx context.Context) iter.Seq2[api.Delta, error] {
	return func(yield func(api.Delta, error) bool) {
		stop := false
		err := s.run(ctx, func(d api.Delta) bool {
			stop = !yield(d, nil)
			return !stop
		})
		if err != nil && !stop {
			yield(api.Delta{}, err)
		}
	}
}

var errStopped = errors.New("stopped by the caller")

func (s *ChatStream) run(ctx context.Context, yield func(api.Delta) bool) error {
	s.heard = time.Now()
	for try := 0; ; try++ {
		before := s.lastID
		err := s.connect(ctx, yield)
		if err != nil && ctx.Err() != nil {
			return ctx.Err() // whatever the broken connection looked like
		}
		if err == nil || errors.Is(err, errStopped) || !s.again(err) {
			return err
		}
		if s.lastID != before {
			try = 0
		}
		pause := s.pause(try, err)
		if time.Since(s.heard)+pause > s.client.cfg.Patience {
			if s.ready.RequestID == "" {
				return err // nothing was cut off
			}
			return fmt.Errorf("%w: %w", ErrTruncated, err)
		}
		if s.client.cfg.Retrying != nil {
			s.client.cfg.Retrying(err, pause)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		s.resumes++
	}
}

// again tells whether a failure may be overcome by connecting once more.
func (s *ChatStream) again(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return !errors.Is(err, ErrCorrupt) && (s.ready.RequestID != "" || s.key != "")
	}
	if e.Code == api.StreamExpired {
		s.lastID = "" // the log is gone: read the answer from its start
		return true
	}
	if e.Status == 0 { // an error frame: it ended the run unless it had no id
		return e.Retryable && errors.Is(err, errResponseOnly)
	}
	return e.Retryable && (s.ready.RequestID != "" || s.key != "")
}

// pause is how long to wait before the next connection: as long as the edge asked
// for, else with full jitter.
func (s *ChatStream) pause(try int, err error) time.Duration {
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	pause := time.Duration(rand.Int64N(int64(min(100*time.Millisecond<<min(try, 6), 5*time.Second))))
	if try > 0 {
		pause = max(pause, s.retry)
	}
	return pause
}

func wait(ctx context.Context, pause time.Duration) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// silence is how long a connection may bring nothing. The edge sends a keepalive
// well within it, so a longer one is a connection that nobody holds any more.
const silence = 3 * api.KeepaliveEvery

var errSilent = fmt.Errorf("nothing came for %v", silence)

// connect makes one connection and reads it to its end. nil: the answer is whole.
func (s *ChatStream) connect(ctx context.Context, yield func(api.Delta) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if s.lastID != "" {
		header.Set(api.HeaderLastEventID, s.lastID)
	}
	method, path, body := http.MethodPost, "/chat", s.body
	if s.ready.RequestID != "" {
		method, path, body = http.MethodGet, "/chat/"+s.ready.RequestID+"?stream=true", nil
	}
	res, err := s.client.request(ctx, method, path, body, header)
	if err != nil {
		return silent(ctx, err)
	}
	defer res.Body.Close()
	events := sse.NewReader(res.Body, sse.Options{})
	for {
		watch.Reset(silence)
		ev, err := events.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // no terminal frame: a broken connection
			}
			return silent(ctx, err)
		}
		watch.Stop() // a caller that takes its time with a delta is no silence
		if over, err := s.event(ev, yield); over || err != nil {
			return err
		}
	}
}

// silent names the error of a connection that was given up for its silence.
func silent(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}

// event takes one frame in.
func (s *ChatStream) event(ev sse.Event, yield func(api.Delta) bool) (over bool, err error) {
	if ev.Retry > 0 {
		s.retry = ev.Retry
	}
	if ev.Name == api.FrameDelta || ev.Name == api.FrameKeepalive {
		s.heard = time.Now() // ready and an error come from an edge that cannot serve, too
	}
	own := ev.ID != "" && ev.ID != s.lastID
	switch ev.Name {
	case api.FrameReady:
		return false, json.Unmarshal(ev.Data, &s.ready)
	case api.FrameDelta:
		var d api.Delta
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			return false, err
		}
		s.lastID = ev.ID
		if d.Reset {
			s.text = s.text[:0]
		}
		s.text = append(s.text, d.Delta...)
		if !yield(d) {
			return false, errStopped
		}
	case api.FrameDone:
		var d api.Done
		if err := json.Unmarshal(ev.Data, &d); err != nil {
			return false, err
		}
		sum := sha256.Sum256(s.text)
		if d.ContentBytes != len(s.text) || d.ContentSHA256 != hex.EncodeToString(sum[:]) {
			return false, ErrCorrupt
		}
		s.done = &d
		return true, nil
	case api.FrameError:
		e := &Error{}
		if err := json.Unmarshal(ev.Data, &e.Failure); err != nil {
			return false, err
		}
		e.RetryAfter = time.Duration(e.RetryAfterMS) * time.Millisecond
		if own {
			return false, e
		}
		return false, fmt.Errorf("%w: %w", errResponseOnly, e)
	}
	return false, nil
}

// errResponseOnly marks an error frame without an id: it ended one response, and
// the run goes on.
var errResponseOnly = errors.New("this response was ended")
