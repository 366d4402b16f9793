package httpapi_test

import (
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

const post = "POST"

// body is a POST of a body.
func body(text string) testedge.Call {
	return testedge.Call{Method: post, Header: []string{"Content-Type: application/json"}, Body: text}
}

// inUTF16 is a text as a Windows program might write it.
func inUTF16(text string) string {
	b := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = append(b, byte(unit), byte(unit>>8))
	}
	return string(b)
}

// manyMembers is n further members, each of its own name.
func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"x%d":1`, i)
	}
	return b.String()
}

// bodyRows are bodies that are no JSON, or not of the kind that is read.
func bodyRows() []row {
	bad := func(name, text string, code api.Code) row {
		return row{name: name, call: body(text), status: 400, code: code}
	}
	return []row{
		bad("empty body", "", api.InvalidJSON),
		bad("blank body", " \r\n\t", api.InvalidJSON),
		bad("open brace", "{", api.InvalidJSON),
		bad("an array", "[]", api.InvalidRequest),
		bad("a string", `"x"`, api.InvalidRequest),
		bad("null", "null", api.InvalidRequest),
		bad("a number", "7", api.InvalidRequest),
		bad("two values", `{"content":"a"}{"content":"b"}`, api.InvalidJSON),
		bad("trailing comma", `{"content":"a",}`, api.InvalidJSON),
		bad("single quotes", `{'content':'a'}`, api.InvalidJSON),
		bad("a comment", `{"content":"a"/**/}`, api.InvalidJSON),
		bad("form data", "content=a", api.InvalidJSON),
		bad("duplicate content", `{"content":"a","content":"b"}`, api.DuplicateField),
		bad("duplicate by escape", `{"content":"a","\u0063ontent":"b"}`, api.DuplicateField),
		bad("duplicate inside metadata", `{"content":"a","metadata":{"k":1,"k":2}}`, api.DuplicateField),
		bad("CONTENT", `{"CONTENT":"a"}`, api.UnknownField),
		bad("Kelvin sign in the key's name", `{"content":"a","idempotency_\u212aey":"k"}`, api.UnknownField),
		bad("deep array", strings.Repeat("[", 20000), api.TooDeep),
		bad("deep metadata", `{"content":"a","metadata":`+strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 101), api.TooDeep),
		bad("lone high surrogate", `{"content":"\ud800"}`, api.InvalidUnicode),
		bad("lone low surrogate", `{"content":"a\udc00b"}`, api.InvalidUnicode),
		bad("swapped surrogates", `{"content":"\udc00\ud800"}`, api.InvalidUnicode),
		bad("byte 0xFF", "{\"content\":\"\xff\"}", api.InvalidUnicode),
		bad("overlong slash", "{\"content\":\"\xc0\xaf\"}", api.InvalidUnicode),
		bad("escaped NUL", `{"content":"a\u0000b"}`, api.InvalidCharacter),
		bad("escaped NUL in a name", `{"content":"a","metadata":{"\u0000":1}}`, api.InvalidCharacter),
		bad("raw NUL", "{\"content\":\"a\x00b\"}", api.InvalidJSON),
		bad("raw newline", "{\"content\":\"a\nb\"}", api.InvalidJSON),
		bad("byte order mark", "\ufeff"+`{"content":"a"}`, api.InvalidJSON),
		bad("UTF-16", inUTF16(`{"content":"a"}`), api.InvalidJSON),
		bad("NaN", `{"content":"a","temperature":NaN}`, api.InvalidParameter),
		bad("Infinity", `{"content":"a","temperature":-Infinity}`, api.InvalidParameter),
		bad("leading zero", `{"content":"a","seed":01}`, api.InvalidJSON),
		{name: "a body of the cap and a byte", call: body(`{"content":"` + strings.Repeat("a", 1<<20-13) + `"}`), status: 413, code: api.BodyTooLarge,
			header: []string{"Access-Control-Allow-Origin: *"}},
		{name: "many members", call: body(`{"content":"a"` + manyMembers(50000) + `}`), status: 400, code: api.UnknownField},
	}
}

// fieldRows are objects whose fields are not what they should be.
func fieldRows() []row {
	with := func(rest string) testedge.Call { return body(`{"content":"hi",` + rest + `}`) }
	bad := func(name string, c testedge.Call, code api.Code) row {
		return row{name: name, call: c, status: code.Status(), code: code}
	}
	rows := []row{
		bad("no content", body(`{}`), api.EmptyContent),
		bad("empty content", body(`{"content":""}`), api.EmptyContent),
		bad("blank content", body(`{"content":" \n\t\u00a0\u3000"}`), api.EmptyContent),
		bad("no parts", body(`{"content":[]}`), api.EmptyContent),
		bad("blank part", body(`{"content":[{"type":"text","text":" "}]}`), api.EmptyContent),
		bad("content null", body(`{"content":null}`), api.InvalidType),
		bad("content number", body(`{"content":7}`), api.InvalidType),
		bad("content object", body(`{"content":{"text":"a"}}`), api.InvalidType),
		bad("parts of strings", body(`{"content":["a"]}`), api.InvalidType),
		bad("part of an unknown type", body(`{"content":[{"type":"exec","text":"a"}]}`), api.InvalidType),
		bad("part without text", body(`{"content":[{"type":"text"}]}`), api.InvalidType),
		bad("content of 32,001 characters", body(`{"content":"`+strings.Repeat("漢", 32001)+`"}`), api.ContentTooLong),
		bad("parts of 32,001 characters", body(`{"content":[{"type":"text","text":"`+strings.Repeat("x", 32001)+`"}]}`), api.ContentTooLong),
		{name: "content of 32,000 characters", call: body(`{"content":"` + strings.Repeat("漢", 32000) + `"}`), status: 200},
		bad("session id no UUID", with(`"session_id":"abc"`), api.InvalidSessionID),
		bad("session id empty", with(`"session_id":""`), api.InvalidSessionID),
		bad("session id number", with(`"session_id":7`), api.InvalidSessionID),
		bad("session id SQL", with(`"session_id":"' or 1=1"`), api.InvalidSessionID),
		bad("session id in braces", with(`"session_id":"{0192f000-0000-7000-8000-000000000001}"`), api.InvalidSessionID),
		bad("session id nil", with(`"session_id":"00000000-0000-0000-0000-000000000000"`), api.InvalidSessionID),
		bad("request id no UUID", with(`"request_id":"1"`), api.InvalidRequestID),
		bad("request id with a NUL", with(`"request_id":"\u0000"`), api.InvalidCharacter),
		bad("model empty", with(`"model":""`), api.ModelNotAllowed),
		bad("model of 10 KB", with(`"model":"`+strings.Repeat("m", 10<<10)+`"`), api.ModelNotAllowed),
		bad("model a path", with(`"model":"../x"`), api.ModelNotAllowed),
		bad("model a path inside", with(`"model":"a/../x"`), api.ModelNotAllowed),
		bad("model with CRLF", with(`"model":"m\r\nX-Evil: 1"`), api.ModelNotAllowed),
		bad("model with a query", with(`"model":"m?key=1"`), api.ModelNotAllowed),
		bad("model of letters beyond ASCII", with(`"model":"mödel"`), api.ModelNotAllowed),
		bad("model number", with(`"model":4`), api.InvalidType),
		{name: "model not on the list", edge: "models", call: with(`"model":"gpt-4o"`), status: 400, code: api.ModelNotAllowed},
		{name: "model by pattern", edge: "models", call: with(`"model":"team/small"`), status: 200, says: []string{`"model":"team/small"`}},
		{name: "pattern matches no deeper path", edge: "models", call: with(`"model":"team/a/b"`), status: 400, code: api.ModelNotAllowed},
		bad("temperature 1e999", with(`"temperature":1e999`), api.InvalidParameter),
		bad("temperature hot", with(`"temperature":"hot"`), api.InvalidParameter),
		bad("temperature 2.01", with(`"temperature":2.01`), api.InvalidParameter),
		bad("max_tokens -1", with(`"max_tokens":-1`), api.InvalidParameter),
		bad("max_tokens 0", with(`"max_tokens":0`), api.InvalidParameter),
		bad("max_tokens 2^63", with(`"max_tokens":9223372036854775808`), api.InvalidParameter),
		bad("max_tokens 1.5", with(`"max_tokens":1.5`), api.InvalidParameter),
		bad("stop of five", with(`"stop":["a","b","c","d","e"]`), api.InvalidParameter),
		bad("tools no list", with(`"tools":{}`), api.InvalidParameter),
		bad("stream a word", with(`"stream":"yes"`), api.InvalidType),
		bad("system from nobody", with(`"system":"obey"`), api.RoleNotAllowed),
		{name: "system from a user", call: as(testedge.Token("authenticated", "u1"), with(`"system":"obey"`)), status: 403, code: api.RoleNotAllowed},
		{name: "system from the service", call: as(secretKey, with(`"system":"obey"`)), status: 200},
		bad("metadata a list", with(`"metadata":[]`), api.InvalidType),
		bad("metadata of 17 KiB", with(`"metadata":{"k":"`+strings.Repeat("v", 17<<10)+`"}`), api.MetadataTooLarge),
		bad("metadata of 1 MiB", with(`"metadata":{"k":"`+strings.Repeat("v", 1<<20)+`"}`), api.BodyTooLarge),
		{name: "metadata with __proto__", call: with(`"metadata":{"__proto__":{"a":1},"constructor":null}`), status: 200},
		bad("body key of spaces", with(`"idempotency_key":"a b"`), api.InvalidIdempotencyKey),
		bad("body key of 256 characters", with(`"idempotency_key":"`+strings.Repeat("k", 256)+`"`), api.InvalidIdempotencyKey),
		bad("body key of emoji", with(`"idempotency_key":"🔑"`), api.InvalidIdempotencyKey),
		{name: "optional fields null", call: with(`"model":null,"session_id":null,"metadata":null,"stream":null,"temperature":null,"request_id":null`), status: 200},
		{name: "a session that nobody has", call: with(`"session_id":"0192f000-0000-7000-8000-0000000000aa"`), status: 200, says: []string{"0192f000-0000-7000-8000-0000000000aa"}},
		{name: "not a stream", call: with(`"stream":false`), status: 200, says: []string{`"state":"completed"`, `"content":"[mock] hi"`}},
	}
	for _, field := range []string{"api_base", "base_url", "api_key", "messages", "user", "n", "role", "Content", "content ", "constructor", "session-id"} {
		rows = append(rows, row{name: "field " + field, call: with(`"` + field + `":null`), status: 400, code: api.UnknownField})
	}
	return rows
}

func as(token string, c testedge.Call) testedge.Call {
	c.Token = token
	return c
}
