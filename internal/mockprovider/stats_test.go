package mockprovider_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/internal/mockprovider"
)

func serveHTTP2(t *testing.T) (*mockprovider.Server, *http.Client, string) {
	t.Helper()
	s, err := mockprovider.New(mockprovider.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(s)
	h.EnableHTTP2 = true
	h.StartTLS()
	t.Cleanup(func() {
		s.Close()
		h.Close()
	})
	return s, h.Client(), h.URL
}

// status is the answer's status line code.
func status(t *testing.T, addr, message, more string, headers ...string) string {
	t.Helper()
	got, err := raw(t, addr, "POST", chatPath, body(message, more), headers...)
	if err != nil || len(got) < 12 {
		t.Fatalf("%q, %v", got, err)
	}
	return got[9:12]
}

func TestFlaky(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	for i, c := range []struct{ script, want string }{
		{"flaky=2 key=a", "503"}, {"flaky=2 key=a", "503"}, {"flaky=2 key=b status=429", "429"},
		{"flaky=2 key=a", "200"}, {"flaky=2 key=b status=429", "429"}, {"flaky=2 key=b status=429", "200"},
		{"flaky=1 tag=t", "503"}, {"flaky=1 tag=t", "200"}, {"flaky=1", "503"}, {"flaky=1", "200"},
	} {
		if got := status(t, addr, "hi [[mock: "+c.script+"]]", ""); got != c.want {
			t.Errorf("call %d (%s): %s, want %s", i, c.script, got, c.want)
		}
	}
	const broken = "hi [[mock: flaky=1 key=c fault=error-body,crlf]]"
	first, _ := raw(t, addr, "POST", chatPath, body(broken, streaming))
	second, _ := raw(t, addr, "POST", chatPath, body(broken, streaming))
	if !strings.Contains(first, `{"error"`) || !strings.Contains(second, "data: [DONE]\r\n") {
		t.Errorf("%q\nthen %q", first, second)
	}
	s.Reset()
	if got := status(t, addr, "hi [[mock: flaky=2 key=a]]", ""); got != "503" {
		t.Errorf("after a reset: %s", got)
	}
}

// A probability holds about as often as it says, and the same calls of the same
// seed fail every time.
func TestProbability(t *testing.T) {
	draw := func(script string, seed uint64) (pattern string) {
		s, err := mockprovider.New(mockprovider.Options{Script: script, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", chatPath, strings.NewReader(body("hi", streaming))))
			if w.Code != 200 || strings.Contains(w.Body.String(), `"error"`) {
				pattern += "x"
			} else {
				pattern += "."
			}
		}
		return pattern
	}
	one := draw("status=429:0.2", 1)
	if n := strings.Count(one, "x"); n < 150 || n > 250 {
		t.Errorf("%d of 1000 failed", n)
	}
	if draw("status=429:0.2", 1) != one || draw("status=429:0.2 seed=1", 9) != one {
		t.Error("the same seed drew otherwise")
	}
	if draw("status=429:0.2", 2) == one {
		t.Error("another seed drew the same")
	}
	if n := strings.Count(draw("fault=error-frame@1:0.5", 1), "x"); n < 430 || n > 570 {
		t.Errorf("%d of 1000 streams failed", n)
	}
}

func TestScriptFunc(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{Script: "text=base"})
	if _, got := whole(t, addr, chatPath, body("hi", "")); !strings.Contains(got, `"content":"base"`) {
		t.Error(got)
	}
	var seen []*mockprovider.Request
	s.Script(func(r *mockprovider.Request) mockprovider.Script {
		seen = append(seen, r)
		if r.Call == 2 {
			return mockprovider.Script{Status: 500}
		}
		return mockprovider.Script{Text: "from the test", Faults: []mockprovider.Fault{{Kind: "no-usage"}}}
	})
	if got := status(t, addr, "hi [[mock: tag=x]]", "", "X-Tenant: t1"); got != "500" {
		t.Error(got)
	}
	if _, got := whole(t, addr, chatPath, body("hi", "")); !strings.Contains(got, `"content":"from the test"`) || strings.Contains(got, "usage") {
		t.Error(got)
	}
	if _, got := whole(t, addr, chatPath, body("[[mock: text=directive]]", "")); !strings.Contains(got, `"content":"directive"`) {
		t.Error(got)
	}
	want := []mockprovider.Message{{Role: "system", Text: "be brief"}, {Role: "user", Text: "hi [[mock: tag=x]]"}}
	if r := seen[0]; r.User != "hi" || r.Model != "m1" || r.Stream || r.Header.Get("X-Tenant") != "t1" || !reflect.DeepEqual(r.Messages, want) {
		t.Errorf("%+v", r)
	}
}

func TestControlOverHTTP(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	for _, tag := range []string{"a", "b", "a"} {
		status(t, addr, "hi [[mock: tag="+tag+"]]", "")
	}
	status(t, addr, "hi [[mock: status=500]]", "")
	read := func() (st mockprovider.Stats, text string) {
		t.Helper()
		res, err := http.Get("http://" + addr + "/__mock/stats")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var fields map[string]json.RawMessage
		if err := json.NewDecoder(res.Body).Decode(&fields); err != nil {
			t.Fatal(err)
		}
		all, _ := json.Marshal(fields)
		if err := json.Unmarshal(all, &st); err != nil {
			t.Fatal(err)
		}
		return st, string(all)
	}
	got, text := read()
	if want := (mockprovider.Stats{Calls: 4, Completed: 3, Faulted: 1, Chats: 4, ByTag: map[string]int{"a": 2, "b": 1}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"calls", "completed", "faulted", "aborted", "open", "streams", "by_tag"} {
		if !strings.Contains(text, `"`+name+`":`) {
			t.Errorf("no %s in %s", name, text)
		}
	}
	post := func(path, body string) {
		t.Helper()
		if got, err := raw(t, addr, "POST", path, body); err != nil || !strings.HasPrefix(got, "HTTP/1.1 204") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	post("/__mock/reset", "")
	if _, text := read(); !strings.Contains(text, `"by_tag":{}`) || !strings.Contains(text, `"calls":0`) {
		t.Error(text)
	}
	post("/__mock/script", "status=418")
	if got := status(t, addr, "hi", ""); got != "418" {
		t.Error(got)
	}
	post("/__mock/script", "")
	if got := status(t, addr, "hi", ""); got != "200" {
		t.Error(got)
	}
}

func BenchmarkStream(b *testing.B) {
	s, err := mockprovider.New(mockprovider.Options{})
	if err != nil {
		b.Fatal(err)
	}
	request := body("hi [[mock: chunks=50]]", streaming)
	b.ReportAllocs()
	for b.Loop() {
		s.ServeHTTP(discard{}, httptest.NewRequest("POST", chatPath, strings.NewReader(request)))
	}
	b.ReportMetric(float64(b.N)*50/b.Elapsed().Seconds(), "chunks/s")
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Flush()                      {}
