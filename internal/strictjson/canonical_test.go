package strictjson

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

func canonical(t *testing.T, body string, drop func(string) bool) string {
	t.Helper()
	members, err := Parse([]byte(body), Limits{})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return string(Canonical(nil, members, drop))
}

func TestCanonical(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{"{}", "{}"},
		{` { "b" : 1 , "a" : [ ] , "c" : { } } `, `{"a":[],"b":1,"c":{}}`},
		{`{"b":{"z":1,"y":{"d":1,"c":[{"n":1,"m":2},3]}},"a":null}`, `{"a":null,"b":{"y":{"c":[{"m":2,"n":1},3],"d":1},"z":1}}`},
		{`{"a":true,"aa":false,"a b":"x"}`, `{"a b":"x","a":true,"aa":false}`},
		{`{"s":"\u0041\/\u00e9\ud83d\ude00\n\u0009\"\\\u007f"}`, "{\"s\":\"A/é😀\\u000a\\u0009\\\"\\\\\x7f\"}"},
		{`{"\u0062":1,"\u0061":2,"\n":3}`, `{"\u000a":3,"a":2,"b":1}`},
		{`{"n":[1,1.0,1e0,10e-1,0.1e1,100E-2]}`, `{"n":[1,1,1,1,1,1]}`},
		{`{"n":[0,-0,0.0,0e9,-0.00e-5]}`, `{"n":[0,0,0,0,0]}`},
		{`{"n":[100,1e2,1E+2,0.5,50e-2,-10.50,0.050]}`, `{"n":[1e2,1e2,1e2,5e-1,5e-1,-105e-1,5e-2]}`},
		{`{"n":[9007199254740993,9007199254740992]}`, `{"n":[9007199254740993,9007199254740992]}`},
		{`{"n":1e99999999999999999999}`, `{"n":1e99999999999999999999}`},
	} {
		if got := canonical(t, tt.body, nil); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.body, got, tt.want)
		}
	}
}

func TestCanonicalDrops(t *testing.T) {
	drop := func(name string) bool { return name == "stream" || name == "idempotency_key" }
	got := canonical(t, `{"stream":true,"content":"x","metadata":{"stream":1},"idempotency\u005fkey":"k"}`, drop)
	if want := `{"content":"x","metadata":{"stream":1}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := canonical(t, `{"stream":true}`, drop); got != "{}" {
		t.Errorf("nothing left: %s", got)
	}
	members, err := Parse([]byte(`{"a":1}`), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := Canonical([]byte("chat\n"), members, nil); string(got) != "chat\n{\"a\":1}" {
		t.Errorf("appended: %s", got)
	}
}

// Values that differ must not share a form.
func TestCanonicalDistinguishes(t *testing.T) {
	seen := map[string]string{}
	for _, body := range []string{
		`{"a":1}`, `{"a":"1"}`, `{"a":-1}`, `{"a":1.5}`, `{"a":10}`, `{"a":0.1}`, `{"a":[1]}`, `{"a":[[1]]}`, `{"a":{}}`, `{"a":[]}`,
		`{"a":null}`, `{"a":"null"}`, `{"a":""}`, `{"a":"\\n"}`, `{"a":"\n"}`, `{"a":"n"}`, `{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[12]}`,
		`{"a":{"b":1}}`, `{"a":{"b":{}},"c":1}`, `{"a":{"b":{},"c":1}}`, `{"A":1}`, `{"a":"x\",\"b\":\"y"}`, `{"a":"x","b":"y"}`,
	} {
		form := canonical(t, body, nil)
		if other, ok := seen[form]; ok {
			t.Errorf("%s and %s share %s", body, other, form)
		}
		seen[form] = body
	}
}

// Deep objects are sorted level by level: each level may move all that is
// inside it once, not more.
func TestCanonicalDeep(t *testing.T) {
	inner := `{"z":"` + strings.Repeat("x", 1000) + `","a":0}`
	for range 60 {
		inner = `{"z":` + inner + `,"a":0}`
	}
	form := canonical(t, inner, nil)
	if !strings.HasPrefix(form, strings.Repeat(`{"a":0,"z":`, 61)) {
		t.Errorf("not sorted: %.200s", form)
	}
}

// sameValue checks that two bodies hold the same data, numbers by their value.
func sameValue(t *testing.T, a, b []byte) {
	read := func(body []byte) any {
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		return exact(v)
	}
	if va, vb := read(a), read(b); !reflect.DeepEqual(va, vb) {
		t.Fatalf("%q became %q", a, b)
	}
}

// exact replaces numbers by a comparable exact form, where their exponent is
// small enough for one.
func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		if f, ok := new(big.Float).SetString(string(v)); ok && f.MantExp(nil) < 4000 && f.MantExp(nil) > -4000 {
			r, _ := new(big.Rat).SetString(string(v))
			return r.String()
		}
		return "extreme"
	case map[string]any:
		for k := range v {
			v[k] = exact(v[k])
		}
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	}
	return v
}
