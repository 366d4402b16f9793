package chat

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/strictjson"
)

func members(t testing.TB, text string) []strictjson.Member {
	t.Helper()
	m, err := strictjson.Parse([]byte(text), strictjson.Limits{})
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

var rules = Rules{MaxChars: 20, Model: "default-model"}

// TestParseRefuses names every refusal that a field can meet, by code and field.
func TestParseRefuses(t *testing.T) {
	with := func(rest string) string { return `{"content":"hi",` + rest + `}` }
	for _, c := range []struct {
		body  string
		code  api.Code
		field string
	}{
		{`{}`, api.EmptyContent, "content"},
		{`{"model":"m"}`, api.EmptyContent, "content"},
		{`{"content":""}`, api.EmptyContent, "content"},
		{`{"content":"\u3000 \n"}`, api.EmptyContent, "content"},
		{`{"content":[]}`, api.EmptyContent, "content"},
		{`{"content":[{"type":"text","text":""}]}`, api.EmptyContent, "content"},
		{`{"content":null}`, api.InvalidType, "content"},
		{`{"content":true}`, api.InvalidType, "content"},
		{`{"content":1}`, api.InvalidType, "content"},
		{`{"content":{}}`, api.InvalidType, "content"},
		{`{"content":[null]}`, api.InvalidType, "content"},
		{`{"content":[1]}`, api.InvalidType, "content"},
		{`{"content":[[]]}`, api.InvalidType, "content"},
		{`{"content":[{}]}`, api.InvalidType, "content"},
		{`{"content":[{"type":"text"}]}`, api.InvalidType, "content"},
		{`{"content":[{"type":"text","text":null}]}`, api.InvalidType, "content"},
		{`{"content":[{"type":"text","TEXT":"a"}]}`, api.InvalidType, "content"},
		{`{"content":[{"TYPE":"text","text":"a"}]}`, api.InvalidType, "content"},
		{`{"content":[{"type":"tool_result","text":"a"}]}`, api.InvalidType, "content"},
		{`{"content":"123456789012345678901"}`, api.ContentTooLong, "content"},
		{`{"content":[{"type":"text","text":"12345678901234567890"},{"type":"text","text":"1"}]}`, api.ContentTooLong, "content"},
		{`{"content":[{"type":"text","text":"123456789012345678901","TEXT":"short"}]}`, api.ContentTooLong, "content"},
		{with(`"session_id":"x"`), api.InvalidSessionID, "session_id"},
		{with(`"session_id":7`), api.InvalidSessionID, "session_id"},
		{with(`"session_id":"0192f00000007000800000000000000a"`), api.InvalidSessionID, "session_id"},
		{with(`"session_id":"00000000-0000-0000-0000-000000000000"`), api.InvalidSessionID, "session_id"},
		{with(`"request_id":"x"`), api.InvalidRequestID, "request_id"},
		{with(`"request_id":{}`), api.InvalidRequestID, "request_id"},
		{with(`"model":7`), api.InvalidType, "model"},
		{with(`"model":""`), api.ModelNotAllowed, "model"},
		{with(`"idempotency_key":7`), api.InvalidType, "idempotency_key"},
		{with(`"stream":"true"`), api.InvalidType, "stream"},
		{with(`"stream":1`), api.InvalidType, "stream"},
		{with(`"metadata":"x"`), api.InvalidType, "metadata"},
		{with(`"metadata":[]`), api.InvalidType, "metadata"},
		{with(`"metadata":{"k":"` + strings.Repeat("v", api.MaxMetadata) + `"}`), api.MetadataTooLarge, ""},
		{with(`"system":"s"`), api.RoleNotAllowed, ""},
		{with(`"temperature":-0.1`), api.InvalidParameter, "temperature"},
		{with(`"temperature":2.1`), api.InvalidParameter, "temperature"},
		{with(`"temperature":"1"`), api.InvalidParameter, "temperature"},
		{with(`"temperature":1e999`), api.InvalidParameter, "temperature"},
		{with(`"top_p":1.01`), api.InvalidParameter, "top_p"},
		{with(`"frequency_penalty":-2.5`), api.InvalidParameter, "frequency_penalty"},
		{with(`"presence_penalty":[]`), api.InvalidParameter, "presence_penalty"},
		{with(`"max_tokens":0`), api.InvalidParameter, "max_tokens"},
		{with(`"max_tokens":1.0`), api.InvalidParameter, "max_tokens"},
		{with(`"max_tokens":2147483648`), api.InvalidParameter, "max_tokens"},
		{with(`"max_completion_tokens":-1`), api.InvalidParameter, "max_completion_tokens"},
		{with(`"seed":9223372036854775808`), api.InvalidParameter, "seed"},
		{with(`"stop":[]`), api.InvalidParameter, "stop"},
		{with(`"stop":[1]`), api.InvalidParameter, "stop"},
		{with(`"stop":["1","2","3","4","5"]`), api.InvalidParameter, "stop"},
		{with(`"logit_bias":{"1":101}`), api.InvalidParameter, "logit_bias"},
		{with(`"logit_bias":{"1":"x"}`), api.InvalidParameter, "logit_bias"},
		{with(`"tools":[]`), api.InvalidParameter, "tools"},
		{with(`"tools":[{"type":"code"}]`), api.InvalidParameter, "tools"},
		{with(`"tools":[{"type":"function","function":{}}]`), api.InvalidParameter, "tools"},
		{with(`"tools":[` + strings.Repeat(`{"type":"function","function":{"name":"f"}},`, 128) + `{"type":"function","function":{"name":"f"}}]`), api.InvalidParameter, "tools"},
		{with(`"tool_choice":"maybe"`), api.InvalidParameter, "tool_choice"},
		{with(`"tool_choice":[]`), api.InvalidParameter, "tool_choice"},
		{with(`"parallel_tool_calls":"yes"`), api.InvalidParameter, "parallel_tool_calls"},
		{with(`"response_format":{}`), api.InvalidParameter, "response_format"},
		{with(`"response_format":"json"`), api.InvalidParameter, "response_format"},
		{with(`"reasoning_effort":""`), api.InvalidParameter, "reasoning_effort"},
		{with(`"reasoning_effort":5`), api.InvalidParameter, "reasoning_effort"},
		{with(`"verbosity":"` + strings.Repeat("v", 33) + `"`), api.InvalidParameter, "verbosity"},
		{with(`"api_key":"x"`), api.UnknownField, "api_key"},
		{with(`"base_url":null`), api.UnknownField, "base_url"},
		{with(`"messages":[]`), api.UnknownField, "messages"},
		{with(`"Model":"m"`), api.UnknownField, "Model"},
		{with(`"` + strings.Repeat("x", 65) + `":1`), api.UnknownField, ""},
	} {
		b, err := Parse(members(t, c.body), rules)
		f := fault.From(err)
		if err == nil || f.Code != c.code {
			t.Errorf("%.200s: %v, want %s (%+v)", c.body, err, c.code, b)
			continue
		}
		field, _ := f.Details["field"].(string)
		if field != c.field {
			t.Errorf("%.200s: field %q, want %q", c.body, field, c.field)
		}
		if len(f.Message) > 200 {
			t.Errorf("%.100s: a message of %d bytes", c.body, len(f.Message))
		}
	}
}

// TestParseTakes reads what is good.
func TestParseTakes(t *testing.T) {
	const id = "0192f000-0000-7000-8000-00000000000a"
	for _, c := range []struct {
		body  string
		check func(b *Body) bool
	}{
		{`{"content":"hi"}`, func(b *Body) bool { return b.Text == "hi" && b.Stream && b.Model == "default-model" && b.Params == nil }},
		{`{"content":"h\u0069"}`, func(b *Body) bool { return b.Text == "hi" && string(b.Content) == `"h\u0069"` }},
		{`{"content":"12345678901234567890"}`, func(b *Body) bool { return len(b.Text) == 20 }},
		{`{"content":"漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢"}`, func(b *Body) bool { return len(b.Text) == 60 }},
		{`{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}},{"text":"b","type":"text"}]}`, func(b *Body) bool { return b.Text == "a\nb" && b.Content[0] == '[' }},
		{`{"content":[{"type":"input_audio","input_audio":{}}]}`, func(b *Body) bool { return b.Text == "" }},
		{`{"content":"hi","stream":false,"model":"a/b:c@1.2-x+y"}`, func(b *Body) bool { return !b.Stream && b.Model == "a/b:c@1.2-x+y" }},
		{`{"content":"hi","session_id":"` + strings.ToUpper(id) + `","request_id":"` + id + `"}`, func(b *Body) bool { return b.SessionID.String() == id && b.RequestID.String() == id }},
		{`{"content":"hi","metadata":{"a":{"b":null}}}`, func(b *Body) bool { return string(b.Metadata) == `{"a":{"b":null}}` }},
		{`{"content":"hi","idempotency_key":"k"}`, func(b *Body) bool { return b.Key == "k" }},
		{`{"content":"hi","temperature":0,"top_p":1,"seed":-9223372036854775808,"stop":"x","max_tokens":1}`, func(b *Body) bool { return len(b.Params) == 5 && string(b.Params["temperature"]) == "0" }},
		{`{"content":"hi","tool_choice":{"type":"function"},"response_format":{"type":"json_schema"},"parallel_tool_calls":true,"reasoning_effort":"low"}`, func(b *Body) bool { return len(b.Params) == 4 }},
		{`{"content":"hi","model":null,"stream":null,"session_id":null,"request_id":null,"metadata":null,"idempotency_key":null,"system":null,"temperature":null,"tools":null}`,
			func(b *Body) bool {
				return b.Model == "default-model" && b.Stream && b.Params == nil && b.Metadata == nil && b.Key == ""
			}},
	} {
		b, err := Parse(members(t, c.body), rules)
		if err != nil || !c.check(b) {
			t.Errorf("%s: %v, %+v", c.body, err, b)
		}
	}
	service := rules
	service.Service = true
	if b, err := Parse(members(t, `{"content":"hi","system":"obey"}`), service); err != nil || b.System != "obey" {
		t.Errorf("the service's system: %v", err)
	}
}

func TestModels(t *testing.T) {
	for _, c := range []struct {
		name    string
		allowed []string
		ok      bool
	}{
		{"gpt-4o", nil, true}, {"org/model:free", nil, true}, {"@cf/x", nil, false}, {"-x", nil, false}, {".x", nil, false},
		{"a b", nil, false}, {"a\n", nil, false}, {"a%2f", nil, false}, {"a/../b", nil, false}, {"é", nil, false},
		{strings.Repeat("m", api.MaxModel), nil, true}, {strings.Repeat("m", api.MaxModel+1), nil, false},
		{"gpt-4o", []string{"gpt-4o"}, true}, {"gpt-4o-mini", []string{"gpt-4o"}, false}, {"gpt-4o-mini", []string{"gpt-4o*"}, true},
		{"team/a", []string{"team/*"}, true}, {"team/a/b", []string{"team/*"}, false}, {"x", []string{"y", "?"}, true}, {"x", []string{"["}, false},
	} {
		if err := checkModel(c.name, c.allowed); (err == nil) != c.ok {
			t.Errorf("%.40q by %v: %v", c.name, c.allowed, err)
		}
	}
}

// TestFingerprint: the same request in another form is the same, and a change of
// any member is another.
func TestFingerprint(t *testing.T) {
	print := func(text string) []byte {
		t.Helper()
		b, err := Parse(members(t, text), Rules{MaxChars: 100, Model: "m", Service: true})
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return Fingerprint("chat", b)
	}
	const full = `{"content":"héllo","model":"m-1","session_id":"0192f000-0000-7000-8000-00000000000a","temperature":0.5,"max_tokens":100,` +
		`"metadata":{"a":1,"b":[1,2]},"system":"s","stop":["x"],"tools":[{"type":"function","function":{"name":"f"}}]}`
	want := print(full)
	if len(want) != 32 {
		t.Fatalf("%d bytes", len(want))
	}
	for _, same := range []string{
		` {"tools" : [ { "function":{"name":"f"},"type":"function" } ],"stop":["x"],"system":"s","metadata":{"b":[1,2],"a":1},` +
			`"max_tokens":100,"temperature":5e-1,"session_id":"0192f000-0000-7000-8000-00000000000a","model":"m-1","content":"h\u00e9llo"} `,
		strings.Replace(full, `0.5`, `0.50`, 1), strings.Replace(full, `"a":1`, `"a":1.0`, 1), strings.Replace(full, `"m-1"`, `"\u006d-1"`, 1),
		strings.Replace(full, "{", `{"stream":false,`, 1), strings.Replace(full, "{", `{"stream":true,`, 1),
		strings.Replace(full, "{", `{"idempotency_key":"k",`, 1), strings.Replace(full, "{", `{"request_id":"0192f000-0000-7000-8000-00000000000b",`, 1),
	} {
		if !bytes.Equal(print(same), want) {
			t.Errorf("another fingerprint: %s", same)
		}
	}
	seen := [][]byte{want}
	for _, other := range [][2]string{
		{`"héllo"`, `"hello"`}, {`"héllo"`, `"héllo "`}, {`"héllo"`, `[{"type":"text","text":"héllo"}]`}, {`m-1`, `m-2`}, {`00000000000a`, `00000000000c`},
		{`0.5`, `0.6`}, {`100`, `101`}, {`"a":1`, `"a":2`}, {`[1,2]`, `[2,1]`}, {`"b"`, `"c"`}, {`"system":"s"`, `"system":"S"`}, {`["x"]`, `"x"`}, {`"f"`, `"g"`},
		{`,"system":"s"`, ``}, {`"metadata":{"a":1,"b":[1,2]},`, ``}, {`,"max_tokens":100`, ``}, {`{"content"`, `{"seed":1,"content"`},
	} {
		got := print(strings.Replace(full, other[0], other[1], 1))
		if slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, got) }) {
			t.Errorf("%s → %s has a fingerprint that was there", other[0], other[1])
		}
		seen = append(seen, got)
	}
	b, err := Parse(members(t, full), Rules{MaxChars: 100, Service: true})
	if err != nil || bytes.Equal(Fingerprint("chat-gateway", b), want) {
		t.Errorf("another endpoint has the same fingerprint (%v)", err)
	}
}

// FuzzParse: whatever the bytes, a refusal is named and what is taken can be
// stored and read back.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"content":"hi","temperature":0.5}`))
	f.Add([]byte(`{"content":[{"type":"text","text":"a"}],"metadata":{"k":[1,{}]},"stop":["x"],"model":"a/b"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := strictjson.Parse(data, strictjson.Limits{Depth: api.MaxDepth})
		var b *Body
		if err == nil {
			b, err = Parse(m, Rules{MaxChars: 32000, Model: "m", Service: len(data)%2 == 0})
		}
		if err != nil {
			if s := fault.From(err).Code.Status(); s < 400 || s > 499 {
				t.Fatalf("%v is a %d", err, s)
			}
			return
		}
		first := Fingerprint("chat", b)
		if !bytes.Equal(first, Fingerprint("chat", b)) {
			t.Fatal("two fingerprints of one body")
		}
		stored, err := json.Marshal(b.Request)
		if err != nil {
			t.Fatal(err)
		}
		var back Request
		if err := json.Unmarshal(stored, &back); err != nil || back.Model != b.Model || back.Stream != b.Stream || len(back.Params) != len(b.Params) {
			t.Fatalf("%v: %s", err, stored)
		}
	})
}
