package openai

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/dial"
	"github.com/agentedge/agentedge/internal/fault"
)

const (
	maxErrorBody = 64 << 10
	errorTimeout = 5 * time.Second // for reading the whole of it
)

// wrongType refuses by its headers what cannot be an answer.
func wrongType(h http.Header) error {
	encoding := strings.ToLower(strings.TrimSpace(h.Get("Content-Encoding")))
	if encoding != "" && encoding != "identity" {
		f := fault.New(api.UpstreamBadResponse, "the provider compressed its answer without being asked")
		f.UpstreamStatus = http.StatusOK
		return f
	}
	if strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/html") {
		f := fault.New(api.UpstreamBadResponse, "the provider answered with a web page")
		f.UpstreamStatus = http.StatusOK
		return f
	}
	return nil
}

// refusal makes a fault of a response whose status is not 200. Its body is read
// within bounds, and only for its message.
func (c *Client) refusal(resp *http.Response, w *watch, key string) error {
	w.within(errorTimeout)
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	said := parseFailure(body)
	if looksCompressed(resp.Header, body) {
		said = failure{}
	}
	f := byStatus(resp.StatusCode)
	f.UpstreamStatus = resp.StatusCode
	if f.Retryable {
		f.RetryAfter = retryAfter(resp.Header, time.Now())
	}
	return said.describe(f, key)
}

func looksCompressed(h http.Header, body []byte) bool {
	return h.Get("Content-Encoding") != "" || bytes.HasPrefix(body, []byte("\x1f\x8b"))
}

// byStatus names a failure by its HTTP status.
func byStatus(status int) *fault.Error {
	switch {
	case status == 401 || status == 403:
		return fault.New(api.UpstreamAuth, "the provider refused the edge's credentials")
	case status == 404:
		return fault.New(api.UpstreamModelNotFound, "the provider does not know this model")
	case status == 429:
		return fault.New(api.UpstreamRateLimited, "the provider's rate limit is reached")
	case status == 408 || status == 409 || status == 421 || status == 425 || status >= 500 && status < 600:
		return fault.New(api.UpstreamUnavailable, "the provider is unavailable")
	case status >= 400 && status < 500:
		return fault.New(api.UpstreamRejected, "the provider rejected the request")
	case status >= 300 && status < 400:
		return fault.New(api.UpstreamRedirect, "the provider redirects, which is not followed")
	default:
		return fault.New(api.UpstreamBadResponse, "the provider answered with an unexpected status")
	}
}

// reported makes a fault of an error that a provider reports under status 200.
func reported(data []byte, key string) error {
	said := parseFailure(data)
	return said.describe(byStatus(said.status()), key)
}

// A failure is what a provider says about one.
type failure struct {
	Message string
	Type    string
	Code    string
	number  int // Code, where it is a number
}

// parseFailure reads {"error": {…}}, the inner object alone, a list of either, or
// a text. What it cannot read it leaves empty.
func parseFailure(body []byte) failure {
	body = bytes.TrimSpace(body)
	var list []json.RawMessage
	if json.Unmarshal(body, &list) == nil && len(list) > 0 {
		body = list[0]
	}
	var outer struct {
		Error  json.RawMessage `json:"error"`
		Detail json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &outer) == nil {
		switch {
		case len(outer.Error) > 0 && !bytes.Equal(outer.Error, []byte("null")):
			body = outer.Error
		case len(outer.Detail) > 0:
			body = outer.Detail
		}
	}
	var inner struct {
		Message json.RawMessage `json:"message"`
		Type    json.RawMessage `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	var text string
	switch {
	case json.Unmarshal(body, &inner) == nil:
		f := failure{Message: loose(inner.Message), Type: loose(inner.Type), Code: loose(inner.Code)}
		_ = json.Unmarshal([]byte(f.Code), &f.number)
		return f
	case json.Unmarshal(body, &text) == nil:
		return failure{Message: text}
	case bytes.HasPrefix(body, []byte("<")):
		return failure{} // a web page says nothing to a program
	default:
		return failure{Message: string(body)}
	}
}

// loose returns a JSON string's text, and anything else but null as it stands.
func loose(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil || len(raw) == 0 {
		return text
	}
	return string(raw)
}

// status returns the HTTP status that a failure within a stream would have had.
func (f failure) status() int {
	if f.number >= 400 && f.number < 600 {
		return f.number
	}
	kind := strings.ToLower(f.Type + " " + f.Code)
	for _, k := range []struct {
		status int
		words  []string
	}{
		{429, []string{"rate_limit", "quota", "too_many"}},
		{401, []string{"auth", "permission", "api_key"}},
		{404, []string{"not_found"}},
		{400, []string{"invalid", "context_length", "content_filter", "content_policy"}},
	} {
		for _, word := range k.words {
			if strings.Contains(kind, word) {
				return k.status
			}
		}
	}
	return 500
}

// describe adds what the provider said, with nothing in it that looks like a key.
func (f failure) describe(e *fault.Error, key string) *fault.Error {
	if text := redact(f.Message, key); text != "" {
		e.With("upstream_message", text)
	}
	name := f.Code
	if name == "" {
		name = f.Type
	}
	if isName(name) && redact(name, key) == name {
		e.With("upstream_code", name)
	}
	return e
}

// isName tells whether a provider's code is one, and not a sentence.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && r != '.' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}) < 0
}

// noAnswer names an error of RoundTrip: there is no response.
func noAnswer(err error) error {
	var blocked *dial.BlockedError
	var header textproto.ProtocolError
	var record tls.RecordHeaderError
	var network net.Error
	switch {
	case errors.As(err, &blocked):
		f := fault.Wrap(err, api.UpstreamUnavailable, "the provider's address is not allowed")
		f.Retryable = false
		return f
	case errors.Is(err, errDialTimeout), errors.As(err, &network) && network.Timeout():
		return fault.Wrap(err, api.UpstreamTimeout, "the provider could not be reached in time")
	case errors.As(err, &header), errors.As(err, &record), speaksNoHTTP(err):
		return fault.Wrap(err, api.UpstreamBadResponse, "the provider does not speak HTTP")
	default:
		return fault.Wrap(err, api.UpstreamUnavailable, "the provider could not be reached")
	}
}

// speaksNoHTTP knows net/http's errors by their words: they have no type.
func speaksNoHTTP(err error) bool {
	for _, words := range []string{"malformed", "server response headers exceeded", "unsupported transfer encoding", "too many transfer encodings", "bad Content-Length"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// broken names an error of reading the body.
func broken(err error) error {
	if errors.Is(err, io.ErrNoProgress) || strings.Contains(err.Error(), "chunk") || strings.Contains(err.Error(), "line too long") {
		return fault.Wrap(err, api.UpstreamBadResponse, "the provider's answer breaks HTTP")
	}
	return fault.Wrap(err, api.UpstreamTruncated, "the connection to the provider broke before the answer's end")
}

// silence names what the watch ended.
func silence(err error) error {
	f := fault.Wrap(err, api.UpstreamTimeout, "the provider sent nothing for too long")
	f.UpstreamStatus = fault.From(err).UpstreamStatus
	return f
}

func errBadKey() error {
	return fault.New(api.UpstreamAuth, "the key for the provider cannot be sent: it holds a space or a control character")
}
