package openai

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	idlePerHost  = 1024
	idleTimeout  = 90 * time.Second
	headerBytes  = 256 << 10
	writeBuffer  = 2 << 10 // kept for as long as a stream lasts; larger requests go past it
	pingEvery    = 15 * time.Second
	streamWindow = 256 << 10
	connWindow   = 64 << 20
)

// newTransport is used without an http.Client: RoundTrip follows no redirect,
// keeps no cookies and retries only what was never sent. It is tuned for many
// streams to one host. Over TLS it speaks HTTP/2 where the provider does, pings
// connections that have gone quiet, and lets no stream nobody reads fill memory.
// No proxy is taken from the environment: it would dial on our behalf.
func newTransport(cfg Config) *http.Transport {
	dial := cfg.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	config := cfg.TLS
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeoutCause(ctx, cfg.DialTimeout, errDialTimeout)
			defer cancel()
			conn, err := dial(ctx, network, addr)
			if err != nil && context.Cause(ctx) == errDialTimeout {
				err = errDialTimeout
			}
			return conn, err
		},
		TLSClientConfig:        config.Clone(),
		TLSHandshakeTimeout:    cfg.TLSTimeout,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerBytes,
		WriteBufferSize:        writeBuffer,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:               pingEvery,
			PingTimeout:                   pingEvery,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
		},
	}
}

var (
	errSilent      = errors.New("the provider sent nothing for too long")
	errDialTimeout = errors.New("the connection took too long")
)

// A watch cancels a request whose provider keeps silent. It counts only the time
// in which somebody waits for the provider, so that a slow emit costs a provider
// nothing. One timer looks at the clock now and then; a read costs two atomic
// stores.
type watch struct {
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	begin   time.Time
	limit   atomic.Int64 // silence that is borne, in ns
	waiting atomic.Int64 // since when, in ns since begin; idle or over
	useful  atomic.Int64 // when the wait for the current event began
	until   atomic.Int64 // an end that nothing postpones, 0 for none
}

// States of watch.waiting beside a time.
const (
	idle = -1
	over = -2
)

// blanksLimit times the limit may pass between two events, whatever fills it.
const blanksLimit = 10

func startWatch(limit time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{cancel: cancel, begin: time.Now()}
	w.limit.Store(int64(limit))
	w.waiting.Store(idle)
	// Set running only once the field is, which check uses.
	w.timer = time.AfterFunc(time.Hour, w.check)
	w.timer.Reset(limit)
	return w
}

func (w *watch) now() int64 { return int64(time.Since(w.begin)) }

// wait says that the provider is to send something now; got, that it did.
func (w *watch) wait() { w.waiting.Store(w.now()) }
func (w *watch) got()  { w.waiting.Store(idle) }

// hurry lowers the limit to at most d.
func (w *watch) hurry(d time.Duration) {
	if int64(d) < w.limit.Load() {
		w.limit.Store(int64(d))
		w.timer.Reset(d)
	}
}

// within ends the request in d at the latest.
func (w *watch) within(d time.Duration) {
	w.until.Store(w.now() + int64(d))
	w.timer.Reset(d)
}

func (w *watch) stop() {
	w.waiting.Store(over)
	w.timer.Stop()
}

func (w *watch) check() {
	now, since, limit := w.now(), w.waiting.Load(), w.limit.Load()
	if since == over {
		return
	}
	due := now + limit
	if since != idle {
		due = min(since+limit, w.useful.Load()+blanksLimit*limit)
	}
	if until := w.until.Load(); until != 0 {
		due = min(due, until)
	}
	if now >= due {
		w.cancel(errSilent)
		return
	}
	w.timer.Reset(time.Duration(due - now))
}
