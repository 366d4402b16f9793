package httpapi_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// TestRandomRequests: whatever a request is, it is answered, in time, and not by
// a failure of the server's own.
func TestRandomRequests(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	r := rand.New(rand.NewPCG(20260101, 7))
	bodies := []string{
		`{"content":"hi","session_id":"0192f000-0000-7000-8000-0000000000aa","model":"m","metadata":{"a":[1,{"b":null}]},"stream":false}`,
		`{"content":[{"type":"text","text":"é漢🙂\n"},{"type":"image_url","image_url":{"url":"x"}}],"stop":["a"],"temperature":0.5,"seed":1}`,
		`{"content":"x","request_id":"0192f000-0000-7000-8000-0000000000bb","tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto"}`,
	}
	headers := []string{"Idempotency-Key", "Last-Event-ID", "X-Trace-Id", "Traceparent", "Accept", "Content-Type", "Authorization", "Apikey", "Origin", "X-Forwarded-For", "Content-Encoding"}
	values := []string{"", "k", `"k"`, "text/event-stream", "application/json", "*/*;q=0", "Bearer x", "0192f000-0000-7000-8000-0000000000bb-1-1", "00-" + strings.Repeat("a", 32) + "-" + strings.Repeat("b", 16) + "-01", "\xff", "a,b;c=\"", strings.Repeat("z", 3000)}
	paths := []string{"/chat", "/functions/v1/chat", "/chat/0192f000-0000-7000-8000-0000000000bb", "/chat/x/cancel", "/chat?after=%zz", "/chat/%ff"}
	answered := map[int]int{}
	for range 400 {
		c := testedge.Call{Method: []string{"POST", "POST", "POST", "POST", "GET", "PUT"}[r.IntN(6)], Path: paths[min(r.IntN(12), 5)], Body: mutated(r, bodies[r.IntN(len(bodies))])}
		if r.IntN(3) > 0 {
			c.Path = "/chat"
		}
		for range r.IntN(3) {
			c.Header = append(c.Header, headers[r.IntN(len(headers))]+": "+values[r.IntN(len(values))])
		}
		if strings.Contains(c.Path, "%zz") || strings.Contains(c.Path, "%ff") {
			c.Body = ""
		}
		ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
		res, err := e.HTTP.Do(e.Request(ctx, t, c))
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		done()
		answered[res.StatusCode]++
		if err != nil || res.StatusCode >= 500 {
			t.Fatalf("%+v: %s, %v: %s", c, res.Status, err, text)
		}
		if code := api.Code(res.Header.Get("Sb-Error-Code")); res.StatusCode >= 400 {
			checkRefusal(t, res, text, code)
			if code.Status() != res.StatusCode {
				t.Errorf("%s with %s", code, res.Status)
			}
		}
	}
	if answered[http.StatusOK] < 20 || answered[http.StatusBadRequest] < 60 {
		t.Errorf("answered by %v: the test has lost its point", answered)
	}
}

// mutated changes some bytes of a body.
func mutated(r *rand.Rand, body string) string {
	b := []byte(body)
	for range r.IntN(4) {
		at := r.IntN(len(b))
		switch r.IntN(4) {
		case 0:
			b[at] = byte(r.IntN(256))
		case 1:
			b = append(b[:at], b[min(len(b), at+1+r.IntN(8)):]...)
		case 2:
			b = append(b[:at], append([]byte(`"\u0000{}[],:9e`)[r.IntN(8):][:4], b[at:]...)...)
		case 3:
			end := min(len(b), at+r.IntN(12))
			b = append(b, b[at:end]...)
		}
		if len(b) == 0 {
			return ""
		}
	}
	return string(b)
}
