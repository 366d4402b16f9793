package mockprovider

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestApply(t *testing.T) {
	for _, c := range []struct {
		text string
		want Script
	}{
		{"", Script{}},
		{"  chunks=50\tdelay=20ms\nttfb=1s ", Script{Chunks: 50, Delay: 20 * time.Millisecond, TTFB: time.Second}},
		{"fault=rst@10", Script{Faults: []Fault{{"rst", 10, 0}}}},
		{"fault=rst,fin,stall,end,cut", Script{Faults: []Fault{{"rst", -1, 0}, {"fin", -1, 0}, {"stall", -1, 0}, {"end", 0, 0}, {"cut", 0, 0}}}},
		{"fault=stall@3:0.5,crlf fault=no-done", Script{Faults: []Fault{{"stall", 3, 0.5}, {"crlf", 0, 0}, {"no-done", 0, 0}}}},
		{"status=429:0.2 retry-after=5 seed=7", Script{Status: 429, StatusP: 0.2, RetryAfter: "5", Seed: 7}},
		{`text="a \"b\" c" tag=x`, Script{Text: `a "b" c`, Verbatim: true, Tag: "x"}},
		{`body={"a":"b c"} body-size=64KB`, Script{Body: `{"a":"b c"}`, BodySize: 64 << 10}},
		{"text64=YSBi args64=e30=", Script{Text: "a b", Verbatim: true, Args: "{}"}},
		{"flush=each stamp flaky=2 key=k", Script{Flush: true, Stamp: true, Flaky: 2, Key: "k"}},
		{`{"chunks":5,"stamp":true,"text":"a b","body":{"error":1},"status":"503:1"}`,
			Script{Chunks: 5, Stamp: true, Text: "a b", Verbatim: true, Body: `{"error":1}`, Status: 503, StatusP: 1}},
	} {
		var got Script
		if err := got.Apply(c.text); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
	}
}

func TestEveryFaultIsKnownOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range strings.Fields(placedFaults + wholeFaults + styleFaults + vectorFaults) {
		var sc Script
		if err := sc.Apply("fault=" + kind); err != nil || seen[kind] {
			t.Errorf("%s: %v, twice %v", kind, err, seen[kind])
		}
		seen[kind] = true
	}
}

func TestVectorsOfLikeTextsAreNear(t *testing.T) {
	dot := func(a, b string) float32 {
		var sum float32
		v, w := vector("m", a, 1024), vector("m", b, 1024)
		for i := range v {
			sum += v[i] * w[i]
		}
		return sum
	}
	const text = "The lease is renewed every third of its time."
	same, near, far := dot(text, text), dot(text, "When is the lease renewed?"), dot(text, "Bananas ripen quickly.")
	if same < 0.999 || near < 0.3 || far > 0.2 || near > 0.95 {
		t.Errorf("same %.3f, near %.3f, far %.3f", same, near, far)
	}
}

func FuzzDirectives(f *testing.F) {
	f.Add(`hi [[mock: chunks=5 text="a ]] b" fault=rst@3:0.5,crlf]] you`)
	f.Fuzz(func(t *testing.T, message string) {
		clean, directives := extract(message)
		size := len(clean)
		for _, d := range directives {
			if !strings.Contains(message, directiveMark+d+"]]") {
				t.Errorf("directive %q is not in %q", d, message)
			}
			size += len(d) + len(directiveMark) + len("]]")
		}
		if size > len(message) || len(directives) == 0 && clean != strings.TrimSpace(message) && clean != message {
			t.Errorf("%q became %q and %q", message, clean, directives)
		}
		for _, text := range append(directives, message) {
			var sc Script
			if err := sc.Apply(text); err != nil {
				continue
			}
			if sc.Chunks < 0 || sc.Words < 0 || sc.Size < 0 || sc.Size > maxSize || sc.Wait < 0 || sc.Stall < 0 ||
				sc.Status != 0 && (sc.Status < 200 || sc.Status > 599) || sc.StatusP < 0 || sc.StatusP > 1 {
				t.Errorf("%q gave %+v", text, sc)
			}
		}
	})
}

func FuzzInputs(f *testing.F) {
	f.Add(`["a","b"]`)
	f.Fuzz(func(t *testing.T, input string) {
		texts, err := inputTexts([]byte(input))
		if err == nil && len(texts) == 0 {
			t.Errorf("%q gave no text", input)
		}
	})
}
