package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

func TestParse(t *testing.T) {
	body := " {\t\"content\" : \"h\\u00e9 \\ud83d\\ude00 \xc3\xa9\" ,\r\n\"a\":{\"x\":[1,-0.5e+3,{}],\"y\":null}, \"stop\":[ ] ,\"n\":1e999,\"con\\u0074ent2\":true}\n"
	members, err := Parse([]byte(body), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ name, raw string }{
		{"content", "\"h\\u00e9 \\ud83d\\ude00 \xc3\xa9\""},
		{"a", `{"x":[1,-0.5e+3,{}],"y":null}`},
		{"stop", "[ ]"},
		{"n", "1e999"},
		{"content2", "true"},
	}
	if len(members) != len(want) {
		t.Fatalf("%d members", len(members))
	}
	for i, w := range want {
		if members[i].Name != w.name || string(members[i].Raw) != w.raw {
			t.Errorf("member %d: %s = %s, want %s = %s", i, members[i].Name, members[i].Raw, w.name, w.raw)
		}
	}
	if text, ok := Text(members[0].Raw); !ok || text != "hé 😀 é" {
		t.Errorf("text %q, %t", text, ok)
	}
	if _, ok := Text(members[2].Raw); ok {
		t.Error("an array is a text")
	}
	if members, err := Parse([]byte("{}"), Limits{}); err != nil || len(members) != 0 {
		t.Errorf("{}: %v, %v", members, err)
	}
}

func TestRefusals(t *testing.T) {
	deep := func(n int) string {
		return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"
	}
	manyNames := func(last string) string {
		var b strings.Builder
		b.WriteString(`{"x":{`)
		for i := range 1000 {
			fmt.Fprintf(&b, `"n%d":0,`, i)
		}
		return b.String() + `"` + last + `":0}}`
	}
	for _, tt := range []struct {
		name, body string
		code       api.Code // empty: accepted
	}{
		{"empty", "", api.InvalidJSON},
		{"only space", " \n", api.InvalidJSON},
		{"open object", "{", api.InvalidJSON},
		{"open object with a name", `{"a"`, api.InvalidJSON},
		{"open object with a colon", `{"a":`, api.InvalidJSON},
		{"open string", `{"a":"b`, api.InvalidJSON},
		{"array", "[]", api.InvalidRequest},
		{"string", `"x"`, api.InvalidRequest},
		{"null", "null", api.InvalidRequest},
		{"number", "-12.5e3", api.InvalidRequest},
		{"broken array", "[1,", api.InvalidJSON},
		{"array with a comma too many", `{"a":[1,]}`, api.InvalidJSON},
		{"object with a comma too many", `{"a":1,}`, api.InvalidJSON},
		{"comma first", `{,"a":1}`, api.InvalidJSON},
		{"two values", "{} {}", api.InvalidJSON},
		{"object and garbage", "{}x", api.InvalidJSON},
		{"object and NUL", "{}\x00", api.InvalidJSON},
		{"single quotes", "{'a':1}", api.InvalidJSON},
		{"bare name", "{a:1}", api.InvalidJSON},
		{"comment", "{/**/}", api.InvalidJSON},
		{"missing colon", `{"a" 1}`, api.InvalidJSON},
		{"missing comma", `{"a":1 "b":2}`, api.InvalidJSON},
		{"capital literal", `{"a":True}`, api.InvalidJSON},
		{"cut literal", `{"a":tru}`, api.InvalidJSON},
		{"long literal", `{"a":nulll}`, api.InvalidJSON},
		{"leading zero", `{"a":01}`, api.InvalidJSON},
		{"leading plus", `{"a":+1}`, api.InvalidJSON},
		{"no digit before the point", `{"a":.5}`, api.InvalidJSON},
		{"no digit after the point", `{"a":5.}`, api.InvalidJSON},
		{"no exponent", `{"a":5e}`, api.InvalidJSON},
		{"no digit in the exponent", `{"a":5e+}`, api.InvalidJSON},
		{"hex", `{"a":0x10}`, api.InvalidJSON},
		{"lone minus", `{"a":-}`, api.InvalidJSON},
		{"NaN", `{"temperature":NaN}`, api.InvalidParameter},
		{"Infinity", `{"temperature":Infinity}`, api.InvalidParameter},
		{"minus Infinity", `{"temperature":-Infinity}`, api.InvalidParameter},
		{"overflowing number is grammar", `{"temperature":1e999}`, ""},
		{"duplicate", `{"content":"a","content":"b"}`, api.DuplicateField},
		{"duplicate by escape", `{"content":"a","c\u006fntent":"b"}`, api.DuplicateField},
		{"duplicate inside", `{"metadata":{"k":{"a":1,"a":2}}}`, api.DuplicateField},
		{"duplicate inside an array", `{"metadata":[{"a":1,"b":[],"a":2}]}`, api.DuplicateField},
		{"duplicate among many", manyNames("n0"), api.DuplicateField},
		{"no duplicate among many", manyNames("last"), ""},
		{"duplicate late among many", manyNames("n999"), api.DuplicateField},
		{"same name in siblings", `{"a":{"x":1},"b":{"x":1},"x":1}`, ""},
		{"names that differ in case", `{"a":1,"A":2}`, ""},
		{"name like another under case folding", "{\"idempotency_key\":1,\"idempotency_\u212aey\":2}", ""},
		{"empty name", `{"":1}`, ""},
		{"as deep as allowed", deep(64), ""},
		{"one too deep", deep(65), api.TooDeep},
		{"arrays without end", strings.Repeat("[", 20_000), api.TooDeep},
		{"objects without end", strings.Repeat(`{"a":`, 20_000), api.TooDeep},
		{"a megabyte of brackets", strings.Repeat("[", 1<<20), api.TooDeep},
		{"lone high surrogate", `{"content":"\ud800"}`, api.InvalidUnicode},
		{"lone low surrogate", `{"content":"\udc00"}`, api.InvalidUnicode},
		{"two high surrogates", `{"content":"\ud800\ud800"}`, api.InvalidUnicode},
		{"high surrogate and a letter", `{"content":"\ud800x"}`, api.InvalidUnicode},
		{"high surrogate and another escape", `{"content":"\ud800\n"}`, api.InvalidUnicode},
		{"high surrogate at the end", `{"content":"\ud800`, api.InvalidUnicode},
		{"lone surrogate in a name", `{"\udfff":1}`, api.InvalidUnicode},
		{"surrogate pair", `{"content":"\uD83D\uDE00"}`, ""},
		{"byte FF", "{\"content\":\"\xff\"}", api.InvalidUnicode},
		{"overlong encoding", "{\"content\":\"\xc0\xaf\"}", api.InvalidUnicode},
		{"encoded surrogate", "{\"content\":\"\xed\xa0\x80\"}", api.InvalidUnicode},
		{"beyond Unicode", "{\"content\":\"\xf5\x80\x80\x80\"}", api.InvalidUnicode},
		{"cut UTF-8", "{\"content\":\"\xe2\x82\"}", api.InvalidUnicode},
		{"byte FF outside a string", "{\xff}", api.InvalidJSON},
		{"replacement character", "{\"content\":\"\ufffd\"}", ""},
		{"escaped NUL", `{"content":"a\u0000b"}`, api.InvalidCharacter},
		{"escaped NUL in a name", `{"\u0000":1}`, api.InvalidCharacter},
		{"raw NUL", "{\"content\":\"\x00\"}", api.InvalidJSON},
		{"raw newline", "{\"content\":\"\n\"}", api.InvalidJSON},
		{"raw DEL", "{\"content\":\"\x7f\"}", ""},
		{"unknown escape", `{"content":"\x41"}`, api.InvalidJSON},
		{"short escape", `{"content":"\u12"}`, api.InvalidJSON},
		{"escape of no hex", `{"content":"\u00g0"}`, api.InvalidJSON},
		{"escape at the end", `{"content":"\`, api.InvalidJSON},
		{"every short escape", `{"content":"\"\\\/\b\f\n\r\t"}`, ""},
		{"BOM", "\ufeff{}", api.InvalidJSON},
		{"UTF-16 LE", "\xff\xfe{\x00}\x00", api.InvalidJSON},
		{"UTF-16 BE", "\xfe\xff\x00{\x00}", api.InvalidJSON},
		{"UTF-16 without BOM", "{\x00}\x00", api.InvalidJSON},
		{"no-break space", "{\u00a0}", api.InvalidJSON},
		{"form feed", "{\f}", api.InvalidJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.body), Limits{Depth: 64})
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *fault.Error
			if !errors.As(err, &e) || e.Code != tt.code {
				t.Fatalf("%v, want %s", err, tt.code)
			}
			if status := e.Code.Status(); status != 400 {
				t.Errorf("status %d", status)
			}
		})
	}
}

// A refusal says where, and repeats nothing a caller sent but a plain name.
func TestRefusalDetails(t *testing.T) {
	for _, tt := range []struct {
		body   string
		field  any
		offset int
	}{
		{`{"content":1,"content":2}`, "content", 13},
		{`{"a":1,"content":"x\u0000"}`, "content", 19},
		{`{"a":{"deep":"\ud800"}}`, "a", 14},
		{`{"secret words":"\ud800"}`, nil, 17},
		{`{"` + strings.Repeat("x", 65) + `":"\ud800"}`, nil, 70},
		{`{"a":1,}`, nil, 7},
	} {
		_, err := Parse([]byte(tt.body), Limits{})
		e := fault.From(err)
		if e.Details["field"] != tt.field || e.Details["offset"] != tt.offset {
			t.Errorf("%s: %v", tt.body, e.Details)
		}
		if strings.Contains(e.Error(), "secret") {
			t.Errorf("%s: message repeats it: %v", tt.body, e)
		}
	}
}

// A megabyte that is refused, and one of many names, cost no more than their size.
func TestRefusalIsCheap(t *testing.T) {
	body := []byte(strings.Repeat("[", 1<<20))
	if allocs := testing.AllocsPerRun(10, func() {
		if _, err := Parse(body, Limits{}); err == nil {
			t.Error("accepted")
		}
	}); allocs > 20 {
		t.Errorf("%.0f allocations for a refusal", allocs)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"content":"hi","n":[1,2.5e-3,{"x":null}]}`, `{"a":"\ud83d\ude00\u0041\/"}`, "{\"a\":\"\xff\"}",
		`{"a":1,"a":2}`, `[1]`, "\ufeff{}", `{"a":1e999}`, `{"a":{"b":{"c":[[[]]]}}}`, `{"\u0000":0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		members, err := Parse(body, Limits{})
		valid := json.Valid(body)
		switch {
		case err == nil && !valid:
			t.Fatalf("accepted what is no JSON: %q", body)
		case err != nil:
			if fault.From(err).Code == api.InvalidJSON && valid {
				t.Fatalf("refused JSON as no JSON: %q: %v", body, err)
			}
			return
		}
		agree(t, body, members)
		once := Canonical(nil, members, nil)
		again, err := Parse(once, Limits{})
		if err != nil {
			t.Fatalf("canonical form %q of %q: %v", once, body, err)
		}
		if twice := Canonical(nil, again, nil); string(twice) != string(once) {
			t.Fatalf("canonical form %q becomes %q", once, twice)
		}
		sameValue(t, body, once)
	})
}

// agree checks the members against encoding/json's reading.
func agree(t *testing.T, body []byte, members []Member) {
	var theirs map[string]json.RawMessage
	if err := json.Unmarshal(body, &theirs); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if len(theirs) != len(members) {
		t.Fatalf("%q: %d members, want %d", body, len(members), len(theirs))
	}
	for _, m := range members {
		if string(theirs[m.Name]) != string(m.Raw) {
			t.Fatalf("%q: %q is %s, want %s", body, m.Name, m.Raw, theirs[m.Name])
		}
		var text *string
		if json.Unmarshal(m.Raw, &text) == nil && text != nil {
			if got, ok := Text(m.Raw); !ok || got != *text {
				t.Fatalf("%q: text %q, want %q", body, got, *text)
			}
		}
	}
}

func chatBody(size int) []byte {
	body, err := json.Marshal(map[string]any{
		"session_id": "018f4e7a-0000-7000-8000-000000000000", "content": strings.Repeat("How are you? Fine, thanks. ", size/27),
		"idempotency_key": "k-1", "temperature": 0.5, "metadata": map[string]any{"b": 1, "a": []int{1, 2}}, "stop": []string{"\n"},
	})
	if err != nil {
		panic(err)
	}
	return body
}

func BenchmarkParse1K(b *testing.B) {
	body := chatBody(800)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(body, Limits{Depth: 64}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonical1K(b *testing.B) {
	members, err := Parse(chatBody(800), Limits{Depth: 64})
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		Canonical(dst, members, func(name string) bool { return name == "idempotency_key" })
	}
}
