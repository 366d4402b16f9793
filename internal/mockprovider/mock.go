// Package mockprovider is a scripted OpenAI-compatible provider: the upstream of
// `agentedge dev` without keys, of the tests and of the benchmarks, and a
// command of its own. It owns answers that are plainly a mock's, the same for the
// same request, and every fault that a provider can commit, asked for by the
// request itself:
//
//	[[mock: chunks=50 delay=20ms ttfb=1s fault=rst@10]]   in the last user message (or an embedding input),
//	X-Mock-Script: status=429:0.2 seed=7                  in a header, or {"status":"429:0.2"}; also POST /__mock/script
//	server.Script(func(*Request) Script { … })            by a test in the same process
//
// Script lists what there is. GET /__mock/stats counts what happened, so that a
// test from outside can compare provider calls with runs.
//
// It refuses to resemble a model: it holds no cleverness, keeps no conversation
// and makes no outgoing request.
package mockprovider

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Options of a Server. The zero value is a quick and healthy provider.
type Options struct {
	Script string   // directives for every request, before the request's own
	Key    string   // the bearer key that requests must carry; empty: any or none
	Models []string // of GET /models; nil: mock-chat and mock-embed
	Dim    int      // of embeddings; 0: 1024
	Seed   uint64   // of the draws for probabilities, where a script sets none
}

// A Server is the provider: an http.Handler that starts nothing of its own.
type Server struct {
	opts   Options
	tally  tally
	chunks sync.Pool // *[]byte

	mu    sync.Mutex
	base  Script
	hook  func(*Request) Script
	close func()
	over  context.Context
}

// New makes a Server. It fails on directives that it does not understand.
func New(o Options) (*Server, error) {
	if o.Dim <= 0 {
		o.Dim = 1024
	}
	if o.Models == nil {
		o.Models = []string{"mock-chat", "mock-embed"}
	}
	s := &Server{opts: o, base: Script{Seed: o.Seed}}
	if err := s.base.Apply(o.Script); err != nil {
		return nil, fmt.Errorf("mock provider: %w", err)
	}
	s.chunks.New = func() any { return new([]byte) }
	s.over, s.close = context.WithCancel(context.Background())
	return s, nil
}

// Script sets what each request's script begins with, nil for nothing. The
// request's header and directives go on top.
func (s *Server) Script(f func(*Request) Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Close ends all requests that wait or stall. Those that come later are refused.
func (s *Server) Close() { s.close() }

// ServeHTTP answers under any prefix: …/chat/completions, …/embeddings, …/models.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/__mock/"):
		s.admin(w, r)
	case s.over.Err() != nil:
		writeError(w, http.StatusServiceUnavailable, "[mock] closed")
	case s.opts.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.opts.Key:
		writeError(w, http.StatusUnauthorized, "[mock] wrong key")
	case strings.HasSuffix(path, "/models"):
		if method(w, r, http.MethodGet, http.MethodHead) {
			s.models(w)
		}
	case strings.HasSuffix(path, "/chat/completions"):
		if method(w, r, http.MethodPost) {
			s.exchange(w, r, readChat, (*exchange).chat)
		}
	case strings.HasSuffix(path, "/embeddings"):
		if method(w, r, http.MethodPost) {
			s.exchange(w, r, readEmbed, (*exchange).embed)
		}
	default:
		writeError(w, http.StatusNotFound, "[mock] no such path")
	}
}

func method(w http.ResponseWriter, r *http.Request, allowed ...string) bool {
	if slices.Contains(allowed, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeError(w, http.StatusMethodNotAllowed, "[mock] method not allowed")
	return false
}

func (s *Server) models(w http.ResponseWriter) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int    `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	list := make([]model, 0, len(s.opts.Models))
	for _, id := range s.opts.Models {
		list = append(list, model{id, "model", 1700000000, "mock"})
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

// script joins what the options, the test, the header and the directives say.
func (s *Server) script(r *http.Request, req *Request) (Script, error) {
	s.mu.Lock()
	sc, hook := s.base.clone(), s.hook
	s.mu.Unlock()
	if hook != nil {
		seed := sc.Seed
		if sc = hook(req).clone(); sc.Seed == 0 {
			sc.Seed = seed
		}
	}
	for _, text := range append(r.Header.Values("X-Mock-Script"), req.directives...) {
		if err := sc.Apply(text); err != nil {
			return sc, err
		}
	}
	return sc, nil
}
