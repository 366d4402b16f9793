// Package openai speaks the chat-completions protocol to a provider: any server
// whose base URL answers as OpenAI's does. It owns the request, the reading of
// what comes back and the naming of what went wrong.
//
// It refuses to try again (that is internal/chat's to decide), to follow a
// redirect, to send a key anywhere but to the configured origin, and to take a
// broken answer for a whole one: an answer has ended when its provider said so,
// by a finish_reason or by [DONE].
package openai

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/agentedge/agentedge/internal/chat"
)

// Config describes one provider.
type Config struct {
	Name string
	// Base is what stands before /chat/completions, e.g. https://api.openai.com/v1.
	// Its path and query are kept.
	Base string
	// Keys returns the key for the next call, empty for none; nil for never any.
	Keys func() string
	// Timeout ends a provider that sends nothing for so long, before or after its
	// first chunk; default 60 s. One that sends comments or blanks and no event is
	// ended after ten times as long.
	Timeout     time.Duration
	DialTimeout time.Duration // default 5 s
	TLSTimeout  time.Duration // default 5 s
	// DialContext opens connections; nil for net.Dialer. A guard that refuses
	// private addresses goes here.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS replaces the default client configuration, e.g. to trust a private CA.
	TLS *tls.Config
}

// Client is one provider. It is safe for concurrent use.
type Client struct {
	name      string
	url       *url.URL
	keys      func() string
	timeout   time.Duration
	transport *http.Transport
	readers   sync.Pool
}

var _ chat.Upstream = (*Client)(nil)

// New checks cfg and returns a client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.Base)
	if err != nil {
		return nil, fmt.Errorf("provider %q: %w", cfg.Name, err)
	}
	if cfg.Keys == nil {
		cfg.Keys = func() string { return "" }
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{{&cfg.Timeout, time.Minute}, {&cfg.DialTimeout, 5 * time.Second}, {&cfg.TLSTimeout, 5 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	c := &Client{
		name:      cfg.Name,
		url:       base.JoinPath("chat", "completions"),
		keys:      cfg.Keys,
		timeout:   cfg.Timeout,
		transport: newTransport(cfg),
	}
	c.readers.New = func() any { return new(reader) }
	return c, nil
}

// parseBase never repeats what it refuses: a base may hold a password.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(raw))
	switch {
	case err != nil:
		return nil, errors.New("the base is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the base must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("the base has no host")
	case u.User != nil:
		return nil, errors.New("the base must not hold credentials: set the key instead")
	case u.Fragment != "":
		return nil, errors.New("the base must not have a fragment")
	}
	if u.Path == "" {
		u.Path = "/" // or the joined path would be a relative one
	}
	return u, nil
}

// Name returns the provider's name.
func (c *Client) Name() string { return c.name }

// Close closes the idle connections. Calls under way keep theirs.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Chat makes one request and emits what comes back. It returns when the answer
// has ended, or a *fault.Error; the cause of ctx where that is done first; or the
// error of emit as it is. In all but the first case the provider's request is
// aborted and its connection closed, never kept half-read.
func (c *Client) Chat(ctx context.Context, call chat.Call, emit func(chat.Delta) error) (chat.Answer, error) {
	x, err := c.send(ctx, call)
	if err != nil {
		return chat.Answer{}, err
	}
	defer x.close()
	x.stream, x.asked, x.emit = call.Stream, call.Model, emit
	answer, err := c.read(&x.answering, x.resp)
	if x.emitFailed {
		return chat.Answer{}, err
	}
	return answer, cause(ctx, x.ctx, err)
}

// exchange is a request whose answer has begun. It is kept apart from the sending,
// which takes more stack than thousands of open streams should each keep.
type exchange struct {
	answering
	ctx    context.Context
	cancel context.CancelCauseFunc
	resp   *http.Response
}

func (x *exchange) close() {
	if x.resp != nil {
		_ = x.resp.Body.Close() // what it says is about the rest of an answer that nobody wants
	}
	x.watch.stop()
	x.cancel(nil)
}

// send makes the request and returns its answer's beginning: a response that may
// hold an answer.
func (c *Client) send(ctx context.Context, call chat.Call) (_ *exchange, err error) {
	body, err := encodeCall(call)
	if err != nil {
		return nil, err
	}
	x := &exchange{}
	x.key = strings.TrimSpace(c.keys())
	if !validKey(x.key) {
		return nil, errBadKey()
	}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.watch = startWatch(c.timeout, x.cancel)
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	sent := newPayload(body)
	x.watch.wait()
	x.resp, err = c.transport.RoundTrip(c.request(x.ctx, sent, x.key, call.Stream))
	x.watch.got()
	if err != nil {
		return nil, cause(ctx, x.ctx, noAnswer(err))
	}
	sent.release()
	if x.resp.StatusCode != http.StatusOK {
		return nil, cause(ctx, nil, c.refusal(x.resp, x.watch, x.key))
	}
	return x, wrongType(x.resp.Header)
}

func (c *Client) request(ctx context.Context, body *payload, key string, stream bool) *http.Request {
	accept := "application/json"
	if stream {
		accept = "text/event-stream"
	}
	header := http.Header{
		"Accept": {accept},
		// Asked for, or else some proxies compress a stream, and so delay it.
		"Accept-Encoding": {"identity"},
		"Cache-Control":   {"no-store"},
		"Content-Type":    {"application/json"},
		"User-Agent":      {"agentedge"},
	}
	if key != "" {
		header["Authorization"] = []string{"Bearer " + key}
	}
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           c.url,
		Host:          c.url.Host,
		Header:        header,
		ContentLength: int64(body.size),
		GetBody:       body.open,
	}).WithContext(ctx)
	req.Body, _ = body.open()
	return req
}
