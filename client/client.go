// Package client calls an agentedge from Go. A chat is streamed by StreamChat: it
// yields deltas, resumes by itself when the connection breaks, and takes an answer
// for whole only when its length and digest are those that the edge names. A
// stream that merely ends is an error, never an answer.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentedge/agentedge/api"
)

// Config of a Client.
type Config struct {
	BaseURL string       // e.g. http://127.0.0.1:8787 or a Supabase project's URL
	Token   string       // a user's JWT or an API key; empty: none
	HTTP    *http.Client // nil: one without a time limit on responses, that follows no redirects
	// Patience bounds how long a broken or refused connection is made anew without
	// a sign of life from the run, 0: 60 s.
	Patience time.Duration
	// Retrying is told before each wait for a new connection; nil: nobody is.
	Retrying func(err error, pause time.Duration)
}

// Client is safe for concurrent use.
type Client struct {
	cfg  Config
	base string
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.HTTP == nil {
		// A redirect would carry the key to whoever it names.
		cfg.HTTP = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if cfg.Patience == 0 {
		cfg.Patience = time.Minute
	}
	return &Client{cfg: cfg, base: strings.TrimRight(cfg.BaseURL, "/") + "/functions/v1"}
}

// Error is a failure that the edge has named.
type Error struct {
	api.Failure
	Status     int           // HTTP status; 0 for an error frame
	RetryAfter time.Duration // 0: not said
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Code, e.Message)
	if e.TraceID != "" {
		s += " (trace " + e.TraceID + ")"
	}
	return s
}

// ErrTruncated says that a stream could not be brought to its end.
var ErrTruncated = errors.New("the stream was cut off and could not be resumed")

// ErrCorrupt says that an answer is not the one that the edge has stored.
var ErrCorrupt = errors.New("the answer's length or digest is wrong")

// checkBase refuses a base URL that no request could be sent to.
func (c *Client) checkBase() error {
	u, err := url.Parse(c.cfg.BaseURL)
	if err != nil {
		return fmt.Errorf("client: base URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("client: base URL %q is not an http or https URL", c.cfg.BaseURL)
	}
	return nil
}

// request sends one request and returns its response, or the edge's error.
func (c *Client) request(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
		req.Header.Set("Apikey", c.cfg.Token)
	}
	res, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		return nil, refusal(res)
	}
	return res, nil
}

// refusal reads the error that a response is.
func refusal(res *http.Response) error {
	e := &Error{Status: res.StatusCode}
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &e.Failure) != nil || e.Code == "" {
		e.Code, e.Message = "http_"+api.Code(strconv.Itoa(res.StatusCode)), "the server answered "+res.Status
		e.Retryable = res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// encode is the JSON of a chat request with its parameters beside its fields.
func encode(r api.ChatRequest) ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil || len(r.Params) == 0 {
		return data, err
	}
	params, err := json.Marshal(r.Params)
	if err != nil {
		return nil, err
	}
	return append(append(data[:len(data)-1], ','), params[1:]...), nil
}

// CancelChat stops a run. It is idempotent.
func (c *Client) CancelChat(ctx context.Context, requestID string) error {
	res, err := c.request(ctx, http.MethodPost, "/chat/"+requestID+"/cancel", nil, nil)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
