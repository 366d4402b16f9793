package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/client"
)

const runID = "0198c7a0-6d2e-7b64-9d3f-2f4f2f6f9b01"

// A step is how a fakeEdge answers one request.
type step func(*http.Request) (*http.Response, error)

// fakeEdge answers requests by its steps in turn, the last one for ever. It keeps
// what was asked.
type fakeEdge struct {
	steps []step

	mu    sync.Mutex
	asked []string // method, path and Last-Event-ID
}

func (f *fakeEdge) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get(api.HeaderLastEventID)))
	next := f.steps[min(len(f.asked), len(f.steps))-1]
	f.mu.Unlock()
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	return next(r)
}

// requests are what was asked so far.
func (f *fakeEdge) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

func (f *fakeEdge) chat(t *testing.T, cfg client.Config, r api.ChatRequest) *client.ChatStream {
	t.Helper()
	cfg.BaseURL, cfg.HTTP = "http://edge.test", &http.Client{Transport: f}
	stream, err := client.New(cfg).StreamChat(r)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// stream answers with frames and then cuts the connection, or ends it where the
// last frame is a terminal one: the client cannot tell and must not need to.
func stream(frames ...string) step {
	return func(*http.Request) (*http.Response, error) {
		return response(http.StatusOK, "text/event-stream", io.NopCloser(strings.NewReader(strings.Join(frames, "")))), nil
	}
}

// pausing answers with frames that a function writes in its own time. The
// request's context ends the response, as it does a real one.
func pausing(write func(w io.Writer, left <-chan struct{})) step {
	return func(r *http.Request) (*http.Response, error) {
		pr, pw := io.Pipe()
		context.AfterFunc(r.Context(), func() { pw.CloseWithError(r.Context().Err()) })
		go func() {
			write(pw, r.Context().Done())
			pw.Close() // without effect on a response that its context has ended
		}()
		return response(http.StatusOK, "text/event-stream", pr), nil
	}
}

// refuse answers with an error body.
func refuse(code api.Code, header ...string) step {
	return func(*http.Request) (*http.Response, error) {
		body, err := json.Marshal(api.Failure{Code: code, Message: "no", Retryable: code.Retryable(), TraceID: "t"})
		if err != nil {
			return nil, err
		}
		res := response(code.Status(), "application/json", io.NopCloser(strings.NewReader(string(body))))
		for i := 0; i < len(header); i += 2 {
			res.Header.Set(header[i], header[i+1])
		}
		return res, nil
	}
}

func fail(err error) step {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

func response(status int, kind string, body io.ReadCloser) *http.Response {
	return &http.Response{
		StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}}, Body: body, ContentLength: -1,
	}
}

func ready() string {
	return "retry: 1500\nevent: ready\ndata: {\"trace_id\":\"t\",\"request_id\":\"" + runID + "\",\"session_id\":\"s\",\"attempt\":1}\n\n"
}

func keepalive() string { return "event: keepalive\ndata: {\"trace_id\":\"t\"}\n\n" }

func id(attempt, seq int) string { return fmt.Sprintf("%s-%d-%d", runID, attempt, seq) }

func delta(attempt, seq int, text string) string {
	return fmt.Sprintf("id: %s\nevent: chat.delta\ndata: {\"seq\":%d,\"attempt\":%d,\"delta\":%q}\n\n", id(attempt, seq), seq, attempt, text)
}

func reset(attempt, seq int, text string) string {
	return strings.Replace(delta(attempt, seq, text), `"delta"`, `"reset":true,"delta"`, 1)
}

// done is the end of an answer with this text.
func done(attempt, seq int, text string) string {
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("id: %s\nevent: chat.done\ndata: {\"request_id\":%q,\"content_bytes\":%d,\"content_sha256\":%q,\"attempts\":%d}\n\n",
		id(attempt, seq), runID, len(text), hex.EncodeToString(sum[:]), attempt)
}

// failed is an error frame; with an empty eventID one that ends this response only.
func failed(eventID string, code api.Code) string {
	frame := fmt.Sprintf("event: error\ndata: {\"code\":%q,\"message\":\"no\",\"retryable\":%t,\"trace_id\":\"t\"}\n\n", code, code.Retryable())
	if eventID != "" {
		frame = "id: " + eventID + "\n" + frame
	}
	return frame
}

const (
	post = "POST /functions/v1/chat"
	get  = "GET /functions/v1/chat/" + runID + "?stream=true"
)
