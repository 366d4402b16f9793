package mockprovider

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An exchange is one call being answered.
type exchange struct {
	s     *Server
	w     http.ResponseWriter
	ctl   *http.ResponseController
	ctx   context.Context // ends when the client leaves
	req   *Request
	sc    Script
	timer *time.Timer
	buf   []byte // written and not yet sent
}

func (s *Server) exchange(w http.ResponseWriter, r *http.Request, read func(*http.Request) (*Request, error), body func(*exchange) ending) {
	req, err := read(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, "[mock] "+err.Error())
		return
	}
	end, how := s.tally.begin(req), faulted
	defer func() { end(how) }()
	sc, err := s.script(r, req)
	if err != nil {
		writeError(w, http.StatusBadRequest, "[mock] "+err.Error())
		return
	}
	s.tally.tag(sc.Tag)
	x := &exchange{s: s, w: w, ctl: http.NewResponseController(w), ctx: r.Context(), req: req, sc: sc}
	x.decide()
	w.Header().Set("X-Request-Id", fmt.Sprintf("req_mock_%06d", req.Call))
	how = x.run(body)
	if x.timer != nil {
		x.timer.Stop()
	}
}

// decide draws what is only probable, and lifts the failures of a flaky key that
// has failed often enough.
func (x *exchange) decide() {
	sc := &x.sc
	holds := func(p float64) bool { return p == 0 || p >= 1 || x.s.tally.draw(sc.Seed) < p }
	if sc.Status != 0 && !holds(sc.StatusP) {
		sc.Status = 0
	}
	kept := sc.Faults[:0]
	for _, f := range sc.Faults {
		if holds(f.P) {
			kept = append(kept, f)
		}
	}
	sc.Faults = kept
	if sc.Flaky == 0 {
		return
	}
	key := or(sc.Key, sc.Tag, x.req.User, strings.Join(x.req.Inputs, "\n"))
	_, fails := sc.in(placedFaults + wholeFaults)
	switch failing := x.s.tally.failsNow(key, sc.Flaky); {
	case !failing:
		sc.Status, kept = 0, sc.Faults[:0]
		for _, f := range sc.Faults {
			if listed(styleFaults, f.Kind) {
				kept = append(kept, f)
			}
		}
		sc.Faults = kept
	case sc.Status == 0 && !fails:
		sc.Status = http.StatusServiceUnavailable
	}
}

func (x *exchange) run(body func(*exchange) ending) ending {
	if !x.pause(x.sc.Wait) {
		return x.quit()
	}
	if f, ok := x.sc.in(placedFaults); ok && f.At < 0 {
		if f.Kind != "stall" {
			return x.sever(f.Kind)
		}
		if !x.stall() {
			return x.quit()
		}
		x.sc.Faults = nil
	}
	if x.sc.Status != 0 {
		return x.status()
	}
	f, ok := x.sc.in(wholeFaults)
	switch {
	case !ok, f.Kind == "json", f.Kind == "sse":
		return body(x)
	case f.Kind == "redirect":
		x.sc.Status = http.StatusTemporaryRedirect
		x.sc.To = or(x.sc.To, x.req.Path)
		return x.status()
	case f.Kind == "gzip-bomb":
		return x.bomb()
	}
	return x.instead(f.Kind)
}

// status answers with the script's status in place of an answer.
func (x *exchange) status() ending {
	sc, h := &x.sc, x.w.Header()
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	body := []byte(sc.Body)
	if sc.Body == "" {
		text, _ := json.Marshal(errorBody(sc.Status, fmt.Sprintf("[mock] status %d", sc.Status))) // plain strings
		body = text
	}
	if sc.BodySize > 0 {
		body = bytes.Repeat([]byte("x"), int(sc.BodySize))
	}
	set("Content-Type", or(sc.Type, "application/json"))
	set("Retry-After", sc.RetryAfter)
	set("Retry-After-Ms", sc.RetryMS)
	set("Location", sc.To)
	if sc.Status == http.StatusNoContent || sc.Status == http.StatusNotModified {
		x.w.WriteHeader(sc.Status)
		return faulted
	}
	set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(sc.Status)
	return x.all(body, faulted)
}

// instead answers 200 with something that is no answer.
func (x *exchange) instead(kind string) ending {
	contentType, body := "application/json", ""
	switch kind {
	case "html":
		contentType, body = "text/html; charset=utf-8", "<!doctype html>\n<html><body><h1>502 Bad Gateway</h1></body></html>\n"
	case "empty":
		contentType = x.contentType()
	case "error-body":
		body = streamError
	}
	x.w.Header().Set("Content-Type", contentType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	return x.all([]byte(body), faulted)
}

const streamError = `{"error":{"message":"[mock] the provider failed","type":"server_error","param":null,"code":"server_error"}}`

func (x *exchange) contentType() string {
	if x.req.Stream {
		return "text/event-stream; charset=utf-8"
	}
	return "application/json"
}

// bomb is a small body that unpacks into a large one: the same megabyte again
// and again, each as a gzip member of its own.
func (x *exchange) bomb() ending {
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	_, err := z.Write(bytes.Repeat([]byte("data: x "), 1<<17))
	if err = errors.Join(err, z.Close()); err != nil {
		return faulted
	}
	size := x.sc.Size
	if size == 0 {
		size = 100 << 20
	}
	x.w.Header().Set("Content-Type", x.contentType())
	x.w.Header().Set("Content-Encoding", "gzip")
	for ; size > 0; size -= 1 << 20 {
		if _, err := x.w.Write(member.Bytes()); err != nil {
			return aborted
		}
	}
	return faulted
}

// all writes a body and ends so, unless the client has gone.
func (x *exchange) all(body []byte, how ending) ending {
	x.buf = append(x.buf, body...)
	if !x.flush() {
		return x.quit()
	}
	return how
}

// pause waits, or tells that the client has left or the server was closed.
func (x *exchange) pause(d time.Duration) bool {
	if d <= 0 {
		return x.ctx.Err() == nil && x.s.over.Err() == nil
	}
	if x.timer == nil {
		x.timer = time.NewTimer(d)
	} else {
		x.timer.Reset(d)
	}
	select {
	case <-x.timer.C:
		return true
	case <-x.ctx.Done():
	case <-x.s.over.Done():
	}
	return false
}

// stall says nothing for the script's time, or until somebody leaves.
func (x *exchange) stall() bool {
	if x.sc.Stall > 0 {
		return x.pause(x.sc.Stall)
	}
	select {
	case <-x.ctx.Done():
	case <-x.s.over.Done():
	}
	return false
}

// quit ends a call that cannot go on: the client left, or the server is closed,
// and then the client must not take what it has for whole.
func (x *exchange) quit() ending {
	if x.s.over.Err() != nil && x.ctx.Err() == nil {
		return x.sever("fin")
	}
	return aborted
}

// write hands on what is buffered.
func (x *exchange) write() bool {
	_, err := x.w.Write(x.buf)
	x.buf = x.buf[:0]
	return err == nil
}

func (x *exchange) flush() bool {
	if len(x.buf) > 0 && !x.write() {
		return false
	}
	return x.ctl.Flush() == nil
}

// sever breaks the connection behind what was sent. A server that cannot give
// it away (HTTP/2) resets the stream instead.
func (x *exchange) sever(kind string) ending {
	conn, _, err := x.ctl.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	switch kind {
	case "rst":
		raw := conn
		if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
			raw = t.NetConn()
		}
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // else it is a FIN, which breaks the answer as well
		}
	case "cut":
		_, _ = conn.Write([]byte("ff\r\ndata: {\"id\":\"chatcmpl-mock\",\"cho")) // the client may have gone
	case "badchunk":
		_, _ = conn.Write([]byte("zz\r\ndata: {}\n\n\r\n"))
	}
	_ = conn.Close() // broken on purpose
	return faulted
}
