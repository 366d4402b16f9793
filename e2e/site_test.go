package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/agentedge/agentedge/internal/pgtest"
)

const (
	jwtSecret = "e2e-secret-of-more-than-thirty-two-bytes"
	lease     = time.Second // RUN_LEASE of every test: short, so that takeovers are quick
	patience  = time.Minute // for anything that must happen; only failures take so long
)

// site is a provider, a store and the nodes on it.
type site struct {
	t        *testing.T
	provider *provider
	nodes    []*node
	db       *audit
	token    string
}

// onBothStores runs a test on the embedded store with one node, and on
// PostgreSQL with so many nodes.
func onBothStores(t *testing.T, nodes int, test func(t *testing.T, s *site), env ...string) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { test(t, newEmbeddedSite(t, env...)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgresSite(t, pgtest.Database(t), nodes, env...)) })
}

func newEmbeddedSite(t *testing.T, env ...string) *site {
	dir := filepath.Join(t.TempDir(), "data")
	return openSite(t, embeddedAudit(dir), 1, append([]string{"EDGE_DATA_DIR=" + dir}, env...))
}

func newPostgresSite(t *testing.T, dsn string, nodes int, env ...string) *site {
	return openSite(t, postgresAudit(t, dsn), nodes, append([]string{"DATABASE_URL=" + dsn}, env...))
}

func openSite(t *testing.T, db *audit, nodes int, env []string) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	s := &site{t: t, provider: newProvider(t), db: db, token: mintToken(t, "00000000-0000-4000-8000-000000000001")}
	base := []string{
		"JWT_SECRET=" + jwtSecret, "EDGE_AUTH_OPTIONAL=false",
		"CHAT_API_BASE=" + s.provider.server.URL + "/v1", "CHAT_API_KEY=k", "CHAT_MODEL_DEFAULT=m",
		"CHAT_RATE_LIMIT_PER_MIN=1000000", "CHAT_MAX_STREAMS=10000",
		"RUN_LEASE=" + lease.String(), "DRAIN_TIMEOUT=10s",
	}
	for range nodes {
		s.nodes = append(s.nodes, newNode(t, append(base, env...)))
	}
	for _, n := range s.nodes {
		n.start()
	}
	return s
}

func mintToken(t *testing.T, subject string) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"role": "authenticated", "aud": "authenticated", "sub": subject, "exp": time.Now().Add(2 * time.Hour).Unix(),
	}).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// turn is one request as its client keeps it.
type turn struct {
	tag    string
	prompt string // the provider's plan, without the tag
	key    string // empty: none
	plain  bool   // asked with stream: false
}

func (tn turn) body() []byte {
	data, err := json.Marshal(map[string]any{"content": "[[tag=" + tn.tag + " " + tn.prompt + "]] hello", "stream": !tn.plain})
	if err != nil {
		panic(err) // strings of our own
	}
	return data
}

// post sends a turn to an address; lastID resumes.
func (s *site) post(ctx context.Context, addr string, tn turn, lastID string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/functions/v1/chat", bytes.NewReader(tn.body()))
	if err != nil {
		return nil, fmt.Errorf("post: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if tn.key != "" {
		request.Header.Set("Idempotency-Key", tn.key)
	}
	return s.do(request, lastID)
}

// get opens a run's stream after lastID.
func (s *site) get(ctx context.Context, addr, run, lastID string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/functions/v1/chat/"+run, nil)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	request.Header.Set("Accept", "text/event-stream")
	return s.do(request, lastID)
}

func (s *site) do(request *http.Request, lastID string) (*http.Response, error) {
	request.Header.Set("Authorization", "Bearer "+s.token)
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	return lone().Do(request)
}

// state is a run's JSON.
type state struct {
	RequestID string `json:"request_id"`
	State     string `json:"state"`
	Attempt   int    `json:"attempt"`
	Content   string `json:"content"`
	Error     *struct {
		Code string `json:"code"`
	} `json:"error"`
}

// look reads a run's state at a node.
func (s *site) look(addr, run string) (state, error) {
	var st state
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/functions/v1/chat/"+run, nil)
	if err != nil {
		return st, fmt.Errorf("look: %w", err)
	}
	response, err := s.do(request, "")
	if err != nil {
		return st, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return st, err
	}
	if response.StatusCode != http.StatusOK {
		return st, fmt.Errorf("GET chat/%s: %d %s", run, response.StatusCode, body)
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("GET chat/%s: %w in %s", run, err, body)
	}
	return st, nil
}

// refusal is a response that is no stream.
type refusal struct {
	Status int
	Code   string
	Header http.Header
	Body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %.300s", r.Status, r.Body) }

func refused(response *http.Response, body []byte) *refusal {
	r := &refusal{Status: response.StatusCode, Header: response.Header, Body: string(body)}
	var parsed struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &parsed) == nil {
		r.Code = parsed.Code
	}
	return r
}

// receive reads one response into an answer.
func (a *answer) receive(response *http.Response) error {
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
		if err != nil {
			return errCut
		}
		return refused(response, body)
	}
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" && kind != "text/event-stream; charset=utf-8" {
		return violated("a stream of type %q", kind)
	}
	a.Replayed = response.Header.Get("Idempotent-Replayed") == "true"
	return a.read(response.Body)
}

// ask reads one response to a turn, which must be a stream.
func (s *site) ask(ctx context.Context, addr string, tn turn, a *answer) error {
	response, err := s.post(ctx, addr, tn, a.LastID)
	if err != nil {
		return err
	}
	return a.receive(response)
}

// follow sees a turn through as a good client does: it posts, resumes whenever
// the response broke off or ended without the run's end, at whatever address pick
// names, and stops at the run's terminal frame. A run that has been accepted is
// never given up, and never unknown. A request without a key whose fate is not
// known is not sent again: the answer then has no run.
func (s *site) follow(ctx context.Context, tn turn, a *answer, pick func() string) error {
	for round := 0; ; round++ {
		err := s.connect(ctx, tn, a, pick(), round)
		var v *violation
		var r *refusal
		switch {
		case errors.As(err, &v):
			return fmt.Errorf("%s: %w", tn.tag, err)
		case errors.As(err, &r) && r.Status < 500:
			return violated("%s (run %q, after %q): %v", tn.tag, a.Run, a.LastID, err)
		case a.over():
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s (run %q, after %q) has no end: %w", tn.tag, a.Run, a.LastID, err)
		}
		pass(ctx, 20*time.Millisecond)
		if a.Run == "" && tn.key == "" {
			return nil
		}
	}
}

// connect is one connection of follow: GET and POST take turns where both would do.
func (s *site) connect(ctx context.Context, tn turn, a *answer, addr string, round int) error {
	var response *http.Response
	var err error
	if a.Run == "" || (tn.key != "" && round%2 == 1) {
		response, err = s.post(ctx, addr, tn, a.LastID)
	} else {
		response, err = s.get(ctx, addr, a.Run, a.LastID)
	}
	if err != nil {
		return err
	}
	return a.receive(response)
}

// insist sends a turn without streaming until it has an answer or the run's own
// end. It needs a key: only that makes asking again safe.
func (s *site) insist(ctx context.Context, tn turn, a *answer, pick func() string) error {
	for {
		err := s.askPlain(ctx, pick(), tn, a)
		var r *refusal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &r) && r.Code == "interrupted":
			a.Failed = &payload{Code: r.Code}
			return nil
		case errors.As(err, &r) && r.Status < 500:
			return violated("%s: %v", tn.tag, err)
		case ctx.Err() != nil:
			return fmt.Errorf("%s has no end: %w", tn.tag, err)
		}
		pass(ctx, 20*time.Millisecond)
	}
}

// askPlain reads one whole answer. A 200 promises what chat.done promises.
func (s *site) askPlain(ctx context.Context, addr string, tn turn, a *answer) error {
	response, err := s.post(ctx, addr, tn, "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return errCut
	}
	if response.StatusCode != http.StatusOK {
		return refused(response, body)
	}
	var st state
	if err := json.Unmarshal(body, &st); err != nil || st.State != "completed" || st.RequestID == "" {
		return violated("a 200 without an answer: %v in %.300s", err, body)
	}
	sum := sha256.Sum256([]byte(st.Content))
	a.Run, a.Text, a.Attempt = st.RequestID, st.Content, st.Attempt
	a.Done = &payload{ContentSHA256: hex.EncodeToString(sum[:])}
	return nil
}

// first is the address of the first node.
func (s *site) first() string { return s.nodes[0].addr }
