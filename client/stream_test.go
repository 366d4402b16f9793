package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/client"
)

var errBroken = errors.New("connection reset by peer")

// TestChat holds the client to what it sends again, what it resumes and what it
// takes for an answer. Time is the bubble's: no case waits for real.
func TestChat(t *testing.T) {
	keyed := api.ChatRequest{Content: "hi", IdempotencyKey: "k"}
	keyless := api.ChatRequest{Content: "hi"}
	whole := stream(ready(), delta(1, 1, "one "), delta(1, 2, "two"), done(1, 3, "one two"))
	for _, tc := range []struct {
		name     string
		request  api.ChatRequest
		steps    []step
		text     string // of a whole answer; empty: an error is wanted
		code     api.Code
		err      error
		requests []string
	}{
		{
			name: "whole", request: keyless, steps: []step{whole}, text: "one two", requests: []string{post},
		}, {
			name: "cut after a delta", request: keyless,
			steps: []step{stream(ready(), delta(1, 1, "one ")), stream(ready(), delta(1, 2, "two"), done(1, 3, "one two"))},
			text:  "one two", requests: []string{post, get + " " + id(1, 1)},
		}, {
			name: "cut within a frame", request: keyless,
			steps: []step{stream(ready(), delta(1, 1, "one "), delta(1, 2, "two")[:70]), stream(ready(), delta(1, 2, "two"), done(1, 3, "one two"))},
			text:  "one two", requests: []string{post, get + " " + id(1, 1)},
		}, {
			name: "cut after ready", request: keyless, steps: []step{stream(ready()), whole},
			text: "one two", requests: []string{post, get},
		}, {
			name: "cut before ready, without a key", request: keyless, steps: []step{stream(), whole},
			err: io.ErrUnexpectedEOF, requests: []string{post},
		}, {
			name: "broken before ready, without a key", request: keyless, steps: []step{fail(errBroken), whole},
			err: errBroken, requests: []string{post},
		}, {
			name: "cut before ready, with a key", request: keyed, steps: []step{stream(), fail(errBroken), whole},
			text: "one two", requests: []string{post, post, post},
		}, {
			name: "cut before ready, with a request id", request: api.ChatRequest{Content: "hi", RequestID: runID}, steps: []step{stream(), whole},
			text: "one two", requests: []string{post, post},
		}, {
			name: "an error without an id ends the response only", request: keyless,
			steps: []step{stream(ready(), delta(1, 1, "one "), failed("", api.ServerDraining)), stream(ready(), delta(1, 2, "two"), done(1, 3, "one two"))},
			text:  "one two", requests: []string{post, get + " " + id(1, 1)},
		}, {
			name: "an error with an id ends the run", request: keyed,
			steps: []step{stream(ready(), delta(1, 1, "one "), failed(id(1, 2), api.UpstreamTruncated)), whole},
			code:  api.UpstreamTruncated, requests: []string{post},
		}, {
			name: "an error of the next attempt ends the run", request: keyed,
			steps: []step{stream(ready(), delta(1, 1, "one ")), stream(ready(), failed(id(2, 1), api.Interrupted)), whole},
			code:  api.Interrupted, requests: []string{post, get + " " + id(1, 1)},
		}, {
			name: "a new attempt begins anew", request: keyed,
			steps: []step{stream(ready(), delta(1, 1, "wrong"), reset(2, 1, "one "), delta(2, 2, "two"), done(2, 3, "one two"))},
			text:  "one two", requests: []string{post},
		}, {
			name: "the log is gone", request: keyless,
			steps: []step{stream(ready(), delta(1, 1, "one ")), refuse(api.StreamExpired), stream(ready(), reset(1, 1, "one two"), done(1, 2, "one two"))},
			text:  "one two", requests: []string{post, get + " " + id(1, 1), get},
		}, {
			name: "the edge is away for a while", request: keyless,
			steps: []step{stream(ready(), delta(1, 1, "one ")), fail(errBroken), refuse(api.StorageUnavailable), stream(ready(), delta(1, 2, "two"), done(1, 3, "one two"))},
			text:  "one two", requests: []string{post, get + " " + id(1, 1), get + " " + id(1, 1), get + " " + id(1, 1)},
		}, {
			name: "a refusal is final", request: keyed, steps: []step{refuse(api.SessionNotFound), whole},
			code: api.SessionNotFound, requests: []string{post},
		}, {
			name: "a page of some proxy", request: keyless,
			steps: []step{func(*http.Request) (*http.Response, error) {
				return response(http.StatusForbidden, "text/html", io.NopCloser(strings.NewReader("<html>no</html>"))), nil
			}},
			code: "http_403", requests: []string{post},
		}, {
			name: "a wrong digest", request: keyed,
			steps: []step{stream(ready(), delta(1, 1, "one "), delta(1, 2, "tvo"), done(1, 3, "one two")), whole},
			err:   client.ErrCorrupt, requests: []string{post},
		}, {
			name: "a wrong length", request: keyed,
			steps: []step{stream(ready(), delta(1, 1, "one "), done(1, 3, "one two")), whole},
			err:   client.ErrCorrupt, requests: []string{post},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				edge := &fakeEdge{steps: tc.steps}
				s := edge.chat(t, client.Config{}, tc.request)
				text, err := read(t.Context(), s)
				var named *client.Error
				switch {
				case tc.code != "":
					if !errors.As(err, &named) || named.Code != tc.code {
						t.Errorf("error %v, want code %s", err, tc.code)
					}
				case !errors.Is(err, tc.err):
					t.Errorf("error %v, want %v", err, tc.err)
				case err == nil && (text != tc.text || s.Text() != tc.text || s.Done() == nil):
					t.Errorf("deltas %q, text %q, want %q", text, s.Text(), tc.text)
				}
				if err != nil && s.Done() != nil {
					t.Error("an answer that failed is called done")
				}
				if got := edge.requests(); !slices.Equal(got, tc.requests) {
					t.Errorf("requests\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.requests, "\n"))
				}
				if s.Resumes() != len(tc.requests)-1 {
					t.Errorf("%d resumes, want %d", s.Resumes(), len(tc.requests)-1)
				}
			})
		})
	}
}

// read reads an answer as a caller does, minding resets.
func read(ctx context.Context, s *client.ChatStream) (text string, err error) {
	for d, err := range s.Deltas(ctx) {
		if err != nil {
			return text, err
		}
		if d.Reset {
			text = ""
		}
		text += d.Delta
	}
	return text, nil
}

// TestWaits measures, in the bubble's time, how long the client waits before it
// comes again, and when it comes no more.
func TestWaits(t *testing.T) {
	whole := stream(ready(), delta(1, 1, "one"), done(1, 2, "one"))
	rest := stream(ready(), delta(1, 2, "two"), done(1, 3, "one two"))
	begun := stream(ready(), delta(1, 1, "one "))
	for _, tc := range []struct {
		name     string
		steps    []step
		patience time.Duration
		least    time.Duration
		most     time.Duration
		err      error
		code     api.Code
	}{
		{name: "Retry-After of a refusal", steps: []step{refuse(api.QuotaExceeded, "Retry-After", "7"), whole}, least: 7 * time.Second, most: 7 * time.Second},
		{name: "Retry-After of a resume", steps: []step{begun, refuse(api.StorageUnavailable, "Retry-After", "9"), rest}, least: 9 * time.Second, most: 10 * time.Second},
		{name: "Retry-After beyond patience", steps: []step{refuse(api.QuotaExceeded, "Retry-After", "61"), whole}, code: api.QuotaExceeded},
		{name: "retry of the stream", steps: []step{begun, stream(ready()), rest}, least: 1500 * time.Millisecond, most: 2 * time.Second},
		{name: "cut for ever", steps: []step{begun, stream(ready())}, least: 50 * time.Second, most: time.Minute, err: client.ErrTruncated},
		{name: "draining for ever", steps: []step{begun, stream(ready(), failed("", api.ServerDraining))}, least: 50 * time.Second, most: time.Minute, err: client.ErrTruncated},
		{name: "away for ever", steps: []step{begun, fail(errBroken)}, patience: 5 * time.Second, least: 2 * time.Second, most: 5 * time.Second, err: client.ErrTruncated},
		{name: "never there", steps: []step{fail(errBroken)}, least: 50 * time.Second, most: time.Minute, err: errBroken},
		{name: "expired for ever", steps: []step{begun, refuse(api.StreamExpired)}, least: 50 * time.Second, most: time.Minute, err: client.ErrTruncated},
		{name: "silent after a delta", steps: []step{hanging(ready() + delta(1, 1, "one ")), rest}, least: 42 * time.Second, most: 43 * time.Second},
		{name: "silent before the head", steps: []step{deaf, whole}, least: 42 * time.Second, most: 43 * time.Second},
		{name: "cut after minutes of thought", steps: []step{thinking(10), rest2()}, least: 140 * time.Second, most: 141 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				told := time.Duration(0)
				edge := &fakeEdge{steps: tc.steps}
				s := edge.chat(t, client.Config{Patience: tc.patience, Retrying: func(_ error, pause time.Duration) { told += pause }},
					api.ChatRequest{Content: "hi", IdempotencyKey: "k"})
				_, err := read(t.Context(), s)
				var named *client.Error
				if tc.code != "" && (!errors.As(err, &named) || named.Code != tc.code) || tc.code == "" && !errors.Is(err, tc.err) {
					t.Errorf("error %v, want %v%s", err, tc.err, tc.code)
				}
				if took := time.Since(start); took < tc.least || took > tc.most {
					t.Errorf("took %v, want %v to %v", took, tc.least, tc.most)
				}
				if told > time.Since(start) {
					t.Errorf("told of %v of waiting, took %v", told, time.Since(start))
				}
			})
		})
	}
}

// hanging sends some frames and then nothing, for ever.
func hanging(frames string) step {
	return pausing(func(w io.Writer, left <-chan struct{}) {
		_, _ = io.WriteString(w, frames)
		<-left
	})
}

// deaf never answers.
func deaf(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// thinking sends n keepalives and is then cut without a word.
func thinking(n int) step {
	return pausing(func(w io.Writer, left <-chan struct{}) {
		_, _ = io.WriteString(w, ready())
		for range n {
			select {
			case <-time.After(api.KeepaliveEvery):
			case <-left:
				return
			}
			_, _ = io.WriteString(w, keepalive())
		}
	})
}

func rest2() step { return stream(ready(), delta(1, 1, "one"), done(1, 2, "one")) }

// A caller that takes its time with a delta is no silence of the edge.
func TestSlowCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge := &fakeEdge{steps: []step{pausing(func(w io.Writer, _ <-chan struct{}) {
			for _, frame := range []string{ready(), delta(1, 1, "one "), delta(1, 2, "two"), done(1, 3, "one two")} {
				_, _ = io.WriteString(w, frame)
			}
		})}}
		s := edge.chat(t, client.Config{}, api.ChatRequest{Content: "hi"})
		for _, err := range s.Deltas(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Minute)
		}
		if s.Text() != "one two" || s.Resumes() != 0 {
			t.Errorf("%q after %d resumes", s.Text(), s.Resumes())
		}
	})
}

func TestCallerLeaves(t *testing.T) {
	t.Run("by its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			edge := &fakeEdge{steps: []step{hanging(ready() + delta(1, 1, "one "))}}
			s := edge.chat(t, client.Config{}, api.ChatRequest{Content: "hi", IdempotencyKey: "k"})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := read(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if n := len(edge.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	})
	t.Run("while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			edge := &fakeEdge{steps: []step{refuse(api.QuotaExceeded, "Retry-After", "30")}}
			s := edge.chat(t, client.Config{}, api.ChatRequest{Content: "hi", IdempotencyKey: "k"})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := read(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("by breaking off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			edge := &fakeEdge{steps: []step{hanging(ready() + delta(1, 1, "one ") + delta(1, 2, "two"))}}
			s := edge.chat(t, client.Config{}, api.ChatRequest{Content: "hi", IdempotencyKey: "k"})
			for _, err := range s.Deltas(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if s.Text() != "one " || len(edge.requests()) != 1 {
				t.Errorf("text %q, requests %q", s.Text(), edge.requests())
			}
		})
	})
}

// A redirect must not take the key with it.
func TestRedirect(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	edge := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer edge.Close()
	s, err := client.New(client.Config{BaseURL: edge.URL, Token: "secret"}).StreamChat(api.ChatRequest{Content: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = read(t.Context(), s)
	var named *client.Error
	if !errors.As(err, &named) || named.Status != http.StatusTemporaryRedirect {
		t.Errorf("error %v", err)
	}
	if reached {
		t.Error("the request was sent on to where the redirect led")
	}
}

func TestBaseURL(t *testing.T) {
	for base, good := range map[string]bool{
		"http://127.0.0.1:8787": true, "https://x.supabase.co/": true,
		"": false, "127.0.0.1:8787": false, "ftp://x": false, "http://": false, "http://a b": false,
	} {
		_, err := client.New(client.Config{BaseURL: base}).StreamChat(api.ChatRequest{Content: "hi"})
		if (err == nil) != good {
			t.Errorf("%q: %v", base, err)
		}
	}
}
