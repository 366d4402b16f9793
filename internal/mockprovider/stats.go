package mockprovider

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"sync"
)

// Stats counts what happened since the start or the last reset. Every call ends
// as one of completed, faulted and aborted.
type Stats struct {
	Calls     int            `json:"calls"`     // chat and embeddings requests that arrived
	Completed int            `json:"completed"` // answered whole
	Faulted   int            `json:"faulted"`   // ended by a fault of the script, or refused
	Aborted   int            `json:"aborted"`   // the client left first
	Open      int            `json:"open"`      // still being answered
	Streams   int            `json:"streams"`   // of the open ones, streams
	Chats     int            `json:"chats"`
	Embeds    int            `json:"embeds"`
	Inputs    int            `json:"inputs"` // texts of all embeddings requests
	ByTag     map[string]int `json:"by_tag"` // calls
}

// ending is how a call was over.
type ending int

const (
	faulted ending = iota // the zero value: also what a panic leaves behind
	completed
	aborted
)

// tally is the server's memory: counts, and what flaky keys and draws have used.
type tally struct {
	mu      sync.Mutex
	stats   Stats
	epoch   int // resets so far: a call from before one ends unseen
	flaky   map[string]int
	draws   map[uint64]uint64
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// Stats returns the counts as they are now.
func (s *Server) Stats() Stats { return s.tally.read() }

// Reset forgets all counts, flaky keys and draws. Calls that are open then are
// not counted any more.
func (s *Server) Reset() {
	s.tally.change(func(t *tally) {
		t.stats, t.flaky, t.draws = Stats{}, nil, nil
		t.epoch++
	})
}

// Await returns when the counts satisfy done, or with ctx's error.
func (s *Server) Await(ctx context.Context, done func(Stats) bool) error {
	for {
		changed := s.tally.watch()
		if done(s.Stats()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (t *tally) read() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	stats := t.stats
	stats.ByTag = maps.Clone(t.stats.ByTag)
	return stats
}

func (t *tally) watch() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

func (t *tally) change(f func(*tally)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t)
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// begin counts a call and numbers it. The func it returns counts its end.
func (t *tally) begin(req *Request) (end func(ending)) {
	epoch, stream := 0, 0
	if req.Stream {
		stream = 1
	}
	t.change(func(t *tally) {
		epoch = t.epoch
		t.stats.Calls++
		t.stats.Open++
		t.stats.Streams += stream
		req.Call = t.stats.Calls
		if len(req.Inputs) > 0 {
			t.stats.Embeds++
			t.stats.Inputs += len(req.Inputs)
		} else {
			t.stats.Chats++
		}
	})
	return func(how ending) {
		t.change(func(t *tally) {
			if epoch != t.epoch {
				return
			}
			t.stats.Open--
			t.stats.Streams -= stream
			switch how {
			case completed:
				t.stats.Completed++
			case aborted:
				t.stats.Aborted++
			case faulted:
				t.stats.Faulted++
			}
		})
	}
}

func (t *tally) tag(name string) {
	if name == "" {
		return
	}
	t.change(func(t *tally) {
		if t.stats.ByTag == nil {
			t.stats.ByTag = map[string]int{}
		}
		t.stats.ByTag[name]++
	})
}

// failsNow counts one more call of a flaky key and tells whether it is among
// the first n.
func (t *tally) failsNow(key string, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flaky == nil {
		t.flaky = map[string]int{}
	}
	t.flaky[key]++
	return t.flaky[key] <= n
}

// draw is the next number from [0, 1) of a seed's sequence.
func (t *tally) draw(seed uint64) float64 {
	t.mu.Lock()
	if t.draws == nil {
		t.draws = map[uint64]uint64{}
	}
	t.draws[seed]++
	n := t.draws[seed]
	t.mu.Unlock()
	return float64(mix(seed^mix(n))>>11) / (1 << 53)
}

// mix spreads the bits of a counter (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// admin serves the endpoints for tests from outside the process.
func (s *Server) admin(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/__mock/stats":
		if method(w, r, http.MethodGet) {
			stats := s.Stats()
			if stats.ByTag == nil {
				stats.ByTag = map[string]int{}
			}
			writeJSON(w, http.StatusOK, stats)
		}
	case "/__mock/reset":
		if method(w, r, http.MethodPost) {
			s.Reset()
			w.WriteHeader(http.StatusNoContent)
		}
	case "/__mock/script":
		if method(w, r, http.MethodPost) {
			s.setBase(w, r)
		}
	default:
		writeError(w, http.StatusNotFound, "[mock] no such path")
	}
}

// setBase replaces what every request's script begins with.
func (s *Server) setBase(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	base := Script{Seed: s.opts.Seed}
	if err == nil {
		err = base.Apply(string(text))
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "[mock] "+err.Error())
		return
	}
	s.mu.Lock()
	s.base = base
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// writeError answers in the form of OpenAI's errors.
func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, errorBody(status, message))
}

func errorBody(status int, message string) map[string]any {
	kind, code := "server_error", any(nil)
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind, code = "authentication_error", "invalid_api_key"
	case status == http.StatusNotFound:
		kind, code = "invalid_request_error", "model_not_found"
	case status == http.StatusTooManyRequests:
		kind, code = "rate_limit_error", "rate_limit_exceeded"
	case status < 500:
		kind = "invalid_request_error"
	}
	return map[string]any{"error": map[string]any{"message": message, "type": kind, "param": nil, "code": code}}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}
