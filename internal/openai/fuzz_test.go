package openai

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/agentedge/agentedge/internal/chat"
)

// Every cut of a body into reads gives the same events, and these are what a
// splitter gives that has the whole body before it.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\ndata:b\r\rdata: c\r\n\r\n",
		"\ufeffdata: a\n\n",
		": x\nevent: error\ndata: a\ndata\ndata: b\n\ndata: [DONE]",
		"data: a\n", "data", "\r\n\n\r", "\xef\xbb", "event: error\n\ndata: x\n\n", "data: \n\ndata:  [DONE] \n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want := splitWhole(body)
		for how, src := range map[string]io.Reader{
			"at once":  bytes.NewReader(body),
			"by bytes": iotest.OneByteReader(bytes.NewReader(body)),
			"by parts": iotest.HalfReader(bytes.NewReader(body)),
		} {
			var r reader
			r.reset(src)
			var got []string
			for {
				e, err := r.next()
				if err != nil {
					if err != io.EOF {
						t.Fatalf("%s: %v", how, err)
					}
					break
				}
				got = append(got, describe(string(e.data), e.failed, e.done, e.last))
				if e.done {
					break
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: %q\ngot  %q\nwant %q", how, body, got, want)
			}
		}
	})
}

func describe(data string, failed, done, last bool) string {
	if done {
		return "done"
	}
	return strconv.Quote(data) + strconv.FormatBool(failed) + strconv.FormatBool(last)
}

func splitWhole(body []byte) []string {
	text := strings.TrimLeft(strings.TrimPrefix(string(body), "\ufeff"), " \t\r\n")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var events, data []string
	failed := false
	for i, line := range lines {
		last := i == len(lines)-1
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			if data = append(data, value); isDoneMarker(data) {
				return append(events, "done")
			}
		case "event":
			failed = value == "error"
		}
		joined := string(bytes.TrimSpace([]byte(strings.Join(data, "\n"))))
		if line == "" || last {
			if joined != "" {
				events = append(events, describe(joined, failed, false, last))
			}
			data, failed = nil, false
		}
	}
	return events
}

func isDoneMarker(data []string) bool {
	joined := strings.Join(data, "\n")
	return len(joined) <= 12 && strings.TrimSpace(joined) == "[DONE]"
}

// What the scanner makes of a chunk is what encoding/json makes of it.
func FuzzChunk(f *testing.F) {
	for _, seed := range []string{
		`{"id":"x","model":"m","choices":[{"index":0,"delta":{"content":"a\u00e9\ud83d\udc4d\u0000"},"finish_reason":null}],"usage":null}`,
		`{"choices":[{"index":1,"delta":{"content":"no"}},{"delta":{"reasoning":"a","reasoning_content":"b","refusal":"c"}}]}`,
		`{"choices":[{"delta":{"tool_calls":[{"a":"\ud800"}]},"finish_reason":"tool_calls"}]}`,
		`{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
		`{"error":{"message":"x"}} `, `{"a":[1,-0.5e+3,true,false,null,{}],"b":[[]]}`, `{"a":01}`, `{"a":1,}`, `{"a":"` + "\x01" + `"}`,
		`{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}`, `{"\u006dodel":"m","model":7}`, `null`, ``, `{`, `{"a":nul`, `{"a":"\u12"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if depth(data) > maxDepth || (json.Valid(data) && hasTwins(data)) {
			return // too deep is refused on purpose; a twin that is overruled may be of any type
		}
		for _, member := range []string{deltaMember, messageMember} {
			got, err := decodeChunk(data, member)
			want, ok := referenceChunk(data, member)
			if (err == nil) != ok {
				t.Fatalf("%q: error %v, by encoding/json valid: %v", data, err, ok)
			}
			if err != nil {
				continue
			}
			if got.model.text() != want.model.text() || !reflect.DeepEqual(got.usage, want.usage) || !bytes.Equal(got.failed, want.failed) || !reflect.DeepEqual(got.choice, want.choice) {
				t.Fatalf("%q:\ngot  %+v\nwant %+v", data, got, want)
			}
			checkStorable(t, got.choice.delta)
		}
	})
}

func checkStorable(t *testing.T, d chat.Delta) {
	t.Helper()
	for _, text := range []string{d.Text, d.Reasoning, string(d.ToolCalls)} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			t.Fatalf("cannot be stored: %q", text)
		}
	}
	if d.ToolCalls != nil && !json.Valid(d.ToolCalls) {
		t.Fatalf("tool calls are no JSON: %q", d.ToolCalls)
	}
}

type object = map[string]json.RawMessage

// referenceChunk decodes by encoding/json alone.
func referenceChunk(data []byte, member string) (chunk, bool) {
	var top object
	if json.Unmarshal(data, &top) != nil || top == nil {
		return chunk{}, false
	}
	var c chunk
	if raw, isString := top["model"], isKind(top["model"], '"'); isString {
		c.model = token{raw: raw[1 : len(raw)-1]}
	}
	if !absent(top["error"]) {
		c.failed = top["error"]
	}
	var usage object
	if isKind(top["usage"], '{') && json.Unmarshal(top["usage"], &usage) == nil {
		s := scanner{data: top["usage"]}
		c.usage = s.usage() // its arithmetic has a test of its own
	}
	if absent(top["choices"]) {
		return c, true
	}
	var list []json.RawMessage
	if json.Unmarshal(top["choices"], &list) != nil {
		return chunk{}, false
	}
	for _, raw := range list {
		got, index, ok := referenceChoice(raw, member)
		if !ok {
			return chunk{}, false
		}
		if index == 0 && !c.choice.present {
			c.choice = got
		}
	}
	return c, true
}

func referenceChoice(raw json.RawMessage, member string) (choice, int, bool) {
	if absent(raw) {
		return choice{}, 0, true
	}
	var fields, answer object
	if json.Unmarshal(raw, &fields) != nil {
		return choice{}, 0, false
	}
	c := choice{present: true}
	index, _ := strconv.Atoi(string(fields["index"]))
	var ok bool
	if c.finish, ok = mended(fields["finish_reason"]); !ok {
		return choice{}, 0, false
	}
	if absent(fields[member]) {
		return c, index, true
	}
	if json.Unmarshal(fields[member], &answer) != nil {
		return choice{}, 0, false
	}
	c.answer = true
	c.delta, ok = referenceDelta(answer)
	return c, index, ok
}

func referenceDelta(fields object) (chat.Delta, bool) {
	var d chat.Delta
	var parts string
	ok := true
	if isKind(fields["content"], '[') {
		var err error
		d.Text, parts, err = joinParts(fields["content"])
		ok = err == nil
	} else {
		d.Text, ok = mended(fields["content"])
	}
	refusal, _ := mended(fields["refusal"])
	d.Text += refusal
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if d.Reasoning == "" {
			d.Reasoning, _ = mended(fields[name])
		}
	}
	if d.Reasoning == "" {
		d.Reasoning = parts
	}
	var calls []json.RawMessage
	if raw := fields["tool_calls"]; !absent(raw) {
		if json.Unmarshal(raw, &calls) != nil {
			return d, false
		}
		if len(calls) > 0 {
			d.ToolCalls = clean(raw)
		}
	}
	return d, ok
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func isKind(raw json.RawMessage, c byte) bool { return len(raw) > 0 && raw[0] == c }

// mended returns a string's text without NUL, "" for null.
func mended(raw json.RawMessage) (string, bool) {
	var text string
	if absent(raw) {
		return "", true
	}
	err := json.Unmarshal(raw, &text)
	return strings.ReplaceAll(text, "\x00", "\ufffd"), err == nil
}

func depth(data []byte) int {
	return bytes.Count(data, []byte("[")) + bytes.Count(data, []byte("{"))
}

// hasTwins tells whether an object of valid JSON has two members of one name.
func hasTwins(data []byte) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	found := false
	var value func()
	value = func() {
		tok, err := d.Token()
		if err != nil {
			return
		}
		switch tok {
		case json.Delim('{'):
			seen := map[string]bool{}
			for d.More() {
				name, _ := d.Token()
				text, _ := name.(string)
				found = found || seen[text]
				seen[text] = true
				value()
			}
			_, _ = d.Token()
		case json.Delim('['):
			for d.More() {
				value()
			}
			_, _ = d.Token()
		}
	}
	value()
	return found
}

// A provider's error may be anything: it never shows the key.
func FuzzFailure(f *testing.F) {
	for _, seed := range []string{`{"error":{"message":"bad ` + testKey + `","code":401}}`, `[{"error":"x"}]`, testKey, "Bearer " + testKey, `{"detail":["` + testKey + `"]}`, "<html>"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		shown := wantAnyFault(t, reported(data, testKey)).Details
		text, _ := json.Marshal(shown)
		if strings.Contains(string(text), testKey) {
			t.Fatalf("%q shows the key: %s", data, text)
		}
		if message, _ := shown["upstream_message"].(string); len(message) > maxMessage || !utf8.ValidString(message) {
			t.Fatalf("%d bytes: %q", len(message), message)
		}
	})
}
