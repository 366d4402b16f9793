package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/internal/auth"
)

// TestPanics: before the response has begun a panic is a 500 that says nothing
// of its cause; after it the connection is cut, so that nobody takes the half
// for the whole.
func TestPanics(t *testing.T) {
	verifier, err := auth.New(auth.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Functions: func(string) Function { return Function{} }}, nil, verifier, nil)
	mux := http.NewServeMux()
	mux.Handle("/before", s.plain(func(http.ResponseWriter, *request) error { panic("the secret cause") }))
	mux.Handle("/after", s.plain(func(w http.ResponseWriter, _ *request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		if _, err := io.WriteString(w, "event: ready\n"); err != nil {
			return err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		panic("the secret cause")
	}))
	mux.Handle("/abort", s.plain(func(http.ResponseWriter, *request) error { panic(http.ErrAbortHandler) }))
	mux.Handle("/fine", s.plain(func(w http.ResponseWriter, _ *request) error { w.WriteHeader(http.StatusNoContent); return nil }))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, c := range []struct {
		path   string
		status int // 0: no response
		cut    bool
		says   string
	}{
		{"/before", 500, false, `"code":"internal_error"`}, {"/after", 200, true, "event: ready"}, {"/abort", 0, true, ""}, {"/fine", 204, false, ""},
	} {
		res, err := http.Get(server.URL + c.path)
		if err != nil {
			if c.status != 0 {
				t.Errorf("%s: %v", c.path, err)
			}
			continue
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || (err != nil) != c.cut || !strings.Contains(string(text), c.says) || strings.Contains(string(text), "secret") {
			t.Errorf("%s: %s, %v, %q", c.path, res.Status, err, text)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
