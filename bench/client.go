package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"
)

// The client speaks just enough HTTP/1.1 to cost little beside what it measures:
// one connection, one request at a time, the request's bytes made by the caller.

// errShort is a stream that ended properly but did not carry what was asked for.
var errShort = errors.New("short stream")

// maxFrame is more than any line of a stream may have.
const maxFrame = 40 << 10

// conn is one keep-alive connection of the load generator.
type conn struct {
	addr string
	nc   net.Conn
	in   *bufio.Reader
	body *bufio.Reader // over a chunked body, kept from one answer to the next
	out  []byte
}

func newConn(addr string) *conn {
	return &conn{addr: addr}
}

func (c *conn) close() {
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
}

// send writes a request, dialling first where there is no connection.
func (c *conn) send(ctx context.Context, request []byte, patience time.Duration) error {
	if c.nc == nil {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		c.nc = nc
		if c.in == nil {
			c.in, c.body = bufio.NewReader(nc), bufio.NewReaderSize(nil, maxFrame)
		} else {
			c.in.Reset(nc)
		}
	}
	if err := c.nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := c.nc.Write(request); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// head is what the client needs of a response's header.
type head struct {
	status  int
	length  int64 // -1: none given
	chunked bool
	closing bool
}

func (c *conn) readHead() (head, error) {
	h := head{length: -1}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return h, fmt.Errorf("status line: %w", err)
	}
	if len(line) < 12 {
		return h, fmt.Errorf("status line %q", line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, fmt.Errorf("status line: %w", err)
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return h, fmt.Errorf("header: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return h, fmt.Errorf("content length: %w", err)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			h.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			h.closing = bytes.EqualFold(value, []byte("close"))
		}
	}
}

// readBody starts reading a body. A streamed answer must be chunked.
func (c *conn) readBody(h head) *bufio.Reader {
	if h.chunked {
		c.body.Reset(httputil.NewChunkedReader(c.in))
	} else {
		c.body.Reset(io.LimitReader(c.in, max(h.length, 0)))
	}
	return c.body
}

// finish leaves the connection ready for the next request.
func (c *conn) finish(h head) error {
	if h.chunked {
		if line, err := c.in.ReadSlice('\n'); err != nil || len(bytes.TrimSpace(line)) != 0 {
			return fmt.Errorf("after the last chunk: %q, %w", line, err)
		}
	}
	if h.closing {
		c.close()
	}
	return nil
}

// plain sends a request and reads a whole answer, which must hold want.
func (c *conn) plain(ctx context.Context, request, want []byte) error {
	err := c.tryPlain(ctx, request, want)
	if err != nil {
		c.close()
	}
	return err
}

func (c *conn) tryPlain(ctx context.Context, request, want []byte) error {
	if err := c.send(ctx, request, 30*time.Second); err != nil {
		return err
	}
	h, err := c.readHead()
	if err != nil {
		return err
	}
	body := c.readBody(h)
	c.out = c.out[:0]
	for {
		if _, err := body.Peek(1); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("body: %w", err)
		}
		part, _ := body.Peek(body.Buffered())
		c.out = append(c.out, part...)
		body.Discard(len(part)) // these bytes are buffered
	}
	if h.status != 200 {
		return fmt.Errorf("status %d: %.300s", h.status, c.out)
	}
	if !bytes.Contains(c.out, want) {
		return fmt.Errorf("%w: %.300s", errShort, c.out)
	}
	return c.finish(h)
}

// timing is when a stream's milestones came, counted from its request.
type timing struct {
	Head, Ready, First time.Duration
	Transit            []time.Duration // of each chunk, where asked for
}

// dialect is how the frames of a peer are told apart.
type dialect struct {
	edge   bool
	chunks int
}

// stream sends a request and reads its stream to the end. first, if given, is
// called when the first chunk has come. The stream must be whole: every chunk,
// the terminal frame, and nothing after it.
func (c *conn) stream(ctx context.Context, request []byte, d dialect, t *timing, patience time.Duration, first func()) error {
	err := c.tryStream(ctx, request, d, t, patience, first)
	if err != nil {
		c.close()
	}
	return err
}

func (c *conn) tryStream(ctx context.Context, request []byte, d dialect, t *timing, patience time.Duration, first func()) error {
	began := time.Now()
	if err := c.send(ctx, request, patience); err != nil {
		return err
	}
	h, err := c.readHead()
	if err != nil {
		return err
	}
	t.Head = time.Since(began)
	body := c.readBody(h)
	if h.status != 200 {
		text, _ := io.ReadAll(io.LimitReader(body, 300)) // the status is the error
		return fmt.Errorf("status %d: %s", h.status, text)
	}
	r := frames{dialect: d, timing: t, began: began, first: first}
	for {
		line, err := body.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("frame after %d chunks: %w", r.seen, err)
		}
		if err := r.line(line); err != nil {
			return err
		}
	}
	if !r.done || r.seen != d.chunks {
		return fmt.Errorf("%w: %d of %d chunks, terminal frame %t", errShort, r.seen, d.chunks, r.done)
	}
	return c.finish(h)
}

// frames checks one stream line by line.
type frames struct {
	dialect
	timing *timing
	began  time.Time
	first  func()
	event  string // of the frame being read, edge only
	seen   int    // chunks
	done   bool
}

func (f *frames) line(line []byte) error {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil
	}
	if f.done {
		return fmt.Errorf("%w: %.200q after the terminal frame", errShort, line)
	}
	if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
		f.event = string(name)
		return nil
	}
	data, ok := bytes.CutPrefix(line, []byte("data: "))
	if !ok {
		return nil
	}
	if f.edge {
		return f.edgeData(data)
	}
	if string(data) == "[DONE]" {
		f.done = true
		return nil
	}
	f.count(data)
	return nil
}

func (f *frames) edgeData(data []byte) error {
	switch f.event {
	case "ready":
		f.timing.Ready = time.Since(f.began)
	case "chat.delta":
		f.count(data)
	case "chat.done":
		f.done = true
		want := fmt.Appendf(nil, `"content_bytes":%d,`, f.chunks*chunkBytes)
		if !bytes.Contains(data, want) {
			return fmt.Errorf("%w: chat.done without %s in %.300s", errShort, want, data)
		}
	case "error":
		return fmt.Errorf("error frame: %.300s", data)
	}
	return nil
}

// count finds the upstream's chunks in one frame by their marks: a peer may
// join several in one frame.
func (f *frames) count(data []byte) {
	for {
		at := bytes.IndexByte(data, mark)
		if at < 0 {
			return
		}
		if f.seen == 0 {
			f.timing.First = time.Since(f.began)
			if f.first != nil {
				f.first()
			}
		}
		f.seen++
		if f.timing.Transit != nil && at >= stampBytes {
			if sent, err := strconv.ParseInt(string(data[at-stampBytes:at]), 10, 64); err == nil {
				f.timing.Transit = append(f.timing.Transit, time.Duration(time.Now().UnixNano()-sent))
			}
		}
		data = data[at+1:]
	}
}
