package httpapi_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/httpapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is one request and what must come of it, at both of the edge's prefixes. A
// refusal reaches no provider and leaves no row anywhere.
type row struct {
	name   string
	edge   string // of edges; empty: "dev"
	call   testedge.Call
	status int
	code   api.Code // of a refusal
	header []string // "Name: value" is there; "Name" is not
	says   []string // the body contains
}

const (
	secretKey      = "sb_secret_of-the-tests"
	publishableKey = "sb_publishable_of-the-tests"
)

// edges are the configurations that rows name.
func edges() map[string]testedge.Config {
	function := func(verify, enabled bool) func(string) httpapi.Function {
		return func(string) httpapi.Function { return httpapi.Function{VerifyJWT: verify, Enabled: enabled} }
	}
	keys := auth.Config{
		JWTSecret: testedge.Secret, SecretKeys: map[string]string{"default": secretKey},
		PublishableKeys: map[string]string{"default": publishableKey},
	}
	return map[string]testedge.Config{
		"dev":     {HTTP: httpapi.Config{AuthOptional: true}, Auth: keys},
		"strict":  {Auth: keys},
		"open":    {HTTP: httpapi.Config{Functions: function(false, true)}, Auth: keys},
		"off":     {HTTP: httpapi.Config{Functions: function(true, false), AuthOptional: true}},
		"keyed":   {HTTP: httpapi.Config{AuthOptional: true}, Chat: chat.ServiceConfig{RequireKey: true}},
		"models":  {HTTP: httpapi.Config{AuthOptional: true}, Chat: chat.ServiceConfig{Models: []string{"mock-chat", "team/*"}}},
		"origins": {HTTP: httpapi.Config{AuthOptional: true, CORSOrigins: []string{"https://app.example", "https://b.example"}}},
	}
}

func TestRequests(t *testing.T) {
	configs := edges()
	running := map[string]*testedge.Edge{}
	rows := []row{}
	for _, group := range [][]row{bodyRows(), fieldRows(), headerRows(), pathRows(), corsRows(), credentialRows(), tokenRows()} {
		rows = append(rows, group...)
	}
	for _, r := range rows {
		name := r.edge
		if name == "" {
			name = "dev"
		}
		e := running[name]
		if e == nil {
			config, ok := configs[name]
			if !ok {
				t.Fatalf("no edge %q", name)
			}
			e = testedge.Start(t, config)
			running[name] = e
		}
		for _, prefix := range []string{"/functions/v1", ""} {
			t.Run(r.name+"@"+prefix, func(t *testing.T) { r.run(t, e, prefix) })
		}
	}
}

func (r row) run(t *testing.T, e *testedge.Edge, prefix string) {
	c := r.call
	if c.Path == "" {
		c.Path = "/chat"
	}
	c.Path = prefix + c.Path
	before, calls := e.Rows(t), e.Calls()
	res, body := e.Do(t, c)
	if res.StatusCode != r.status {
		t.Fatalf("%s, want %d: %.400s", res.Status, r.status, body)
	}
	checkHeaders(t, res.Header, r.header)
	for _, want := range r.says {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("the body lacks %q: %.400s", want, body)
		}
	}
	if r.status < 400 {
		checkAnswer(t, res, body)
		return
	}
	checkRefusal(t, res, body, r.code)
	if after := e.Rows(t); !maps.Equal(before, after) {
		t.Errorf("a refusal has written: %v → %v", before, after)
	}
	if e.Calls() != calls {
		t.Error("a refusal has asked the provider")
	}
}

// checkAnswer holds a 200 to the wire's rules, whichever form it has.
func checkAnswer(t *testing.T, res *http.Response, body []byte) {
	t.Helper()
	switch res.Header.Get("Content-Type") {
	case "text/event-stream":
		s, err := testedge.Parse(body)
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if s.Done == nil {
			t.Errorf("the answer is %+v", s.Error)
		}
	case "application/json; charset=utf-8":
		if !json.Valid(body) {
			t.Errorf("the body is no JSON: %s", body)
		}
	case "":
		if len(body) > 0 {
			t.Errorf("a body without a type: %s", body)
		}
	default:
		t.Errorf("Content-Type %q", res.Header.Get("Content-Type"))
	}
}

// checkRefusal holds a refusal to the form of all refusals.
func checkRefusal(t *testing.T, res *http.Response, body []byte, code api.Code) {
	t.Helper()
	var p struct {
		Code, Message, Msg string
		TraceID            string `json:"trace_id"`
		Retryable          *bool
	}
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("the body is no JSON: %v: %.400s", err, body)
	}
	if p.Code != string(code) {
		t.Errorf("code %q, want %q: %s", p.Code, code, body)
	}
	if p.Message == "" || p.Message != p.Msg || p.Retryable == nil {
		t.Errorf("the body lacks message, msg or retryable: %s", body)
	}
	if p.TraceID == "" || p.TraceID != res.Header.Get("X-Trace-Id") {
		t.Errorf("trace id %q, header %q", p.TraceID, res.Header.Get("X-Trace-Id"))
	}
	checkHeaders(t, res.Header, []string{
		"Sb-Error-Code: " + string(code), "Content-Type: application/json; charset=utf-8", "X-Content-Type-Options: nosniff",
	})
	if res.Header.Get("Access-Control-Expose-Headers") == "" {
		t.Error("browsers may not read the error's headers")
	}
	if res.StatusCode >= 500 && code != api.ServerDraining && code != api.StorageUnavailable {
		t.Errorf("a request was answered by %s", res.Status)
	}
}

func checkHeaders(t *testing.T, h http.Header, want []string) {
	t.Helper()
	for _, line := range want {
		name, value, there := strings.Cut(line, ": ")
		got, has := h[http.CanonicalHeaderKey(name)]
		switch {
		case !there && has:
			t.Errorf("header %s: %q should not be there", name, got)
		case there && value == "*" && has:
		case there && (len(got) != 1 || got[0] != value):
			t.Errorf("header %s: %q, want %q", name, got, value)
		}
	}
}
