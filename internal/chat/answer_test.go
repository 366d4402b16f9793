package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/sse"
)

// alphabets of characters that cost differently in JSON.
var alphabets = []string{"a", "\n", "\"\\", "\x01\x1f", "é", "漢", "🙂", "\u2028\u2029", "\x7f", "<>&", "a\"\n\x02é漢🙂\u2028", "\xff\xfe", "a\xff漢"}

func randomText(r *rand.Rand, alphabet string, n int) string {
	var list []string
	for _, c := range alphabet {
		list = append(list, string(c))
	}
	if !utf8.ValidString(alphabet) {
		list = strings.Split(alphabet, "")
	}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(list[r.IntN(len(list))])
	}
	return b.String()
}

// TestPieces: put together the pieces are the text, each fits a frame, and none
// ends within a character.
func TestPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, alphabet := range alphabets {
		for _, n := range []int{0, 1, 4000, api.MaxDelta/6 - 1, api.MaxDelta / 6, api.MaxDelta/6 + 1, api.MaxDelta - 2, api.MaxDelta - 1, api.MaxDelta, 100_000} {
			text := randomText(r, alphabet, n)
			var joined strings.Builder
			count := 0
			err := pieces(text, func(s string) error {
				joined.WriteString(s)
				count++
				if size := len(sse.AppendString(nil, s)); size > api.MaxDelta || s == "" {
					t.Errorf("%q × %d: a piece of %d bytes of JSON", alphabet, n, size)
				}
				if utf8.ValidString(text) && !utf8.ValidString(s) {
					t.Errorf("%q × %d: a piece ends within a character", alphabet, n)
				}
				return nil
			})
			if err != nil || joined.String() != text {
				t.Errorf("%q × %d: %v, %d bytes of %d", alphabet, n, err, joined.Len(), len(text))
			}
			if most := 1 + len(text)*6/(api.MaxDelta/2); count > most {
				t.Errorf("%q × %d: %d pieces", alphabet, n, count)
			}
		}
	}
	stop := errors.New("stop")
	calls := 0
	if err := pieces(strings.Repeat("x", 100_000), func(string) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("a yield that fails: %v after %d", err, calls)
	}
}

func toolArray(t *testing.T, calls ...toolDelta) json.RawMessage {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(calls); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func toolOf(index *int, id, name, args string) toolDelta {
	d := toolDelta{Index: index, ID: id}
	d.Function.Name, d.Function.Arguments = name, args
	return d
}

// TestToolPieces: entries of tool calls fit a frame whatever the arguments hold,
// and put together they are the calls.
func TestToolPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	zero, two := 0, 2
	for _, alphabet := range alphabets[:11] {
		for _, n := range []int{0, 10, 5000, api.MaxDelta, 90_000} {
			args := randomText(r, alphabet, n)
			raw := toolArray(t, toolOf(&zero, "c0", "first", args), toolOf(&two, "c2", "third", args+"!"))
			got := collect(entriesOf(t, raw))
			if len(got.calls) != 3 || got.calls[0].Function.Arguments != args || got.calls[2].Function.Arguments != args+"!" ||
				got.calls[2].ID != "c2" || got.calls[0].Function.Name != "first" || got.calls[1].Function.Name != "" {
				t.Errorf("%q × %d: %.300v", alphabet, n, got.calls)
			}
		}
	}
	// A call without an index is told by its place.
	got := collect(entriesOf(t, toolArray(t, toolOf(nil, "a", "f", "{}"), toolOf(nil, "b", "g", strings.Repeat("x", 50_000)))))
	if len(got.calls) != 2 || got.calls[1].ID != "b" || len(got.calls[1].Function.Arguments) != 50_000 {
		t.Errorf("calls without an index: %.300v", got.calls)
	}
	for _, bad := range []string{`{}`, `[1]`, `"x"`, `[{"function":"f"}]`} {
		if err := toolPieces(json.RawMessage(bad), func([]byte) error { return nil }); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	for _, endless := range []toolDelta{toolOf(&zero, strings.Repeat("i", 50_000), "f", ""), toolOf(&zero, "i", strings.Repeat("f", 50_000), "")} {
		if err := toolPieces(toolArray(t, endless), func([]byte) error { return nil }); !errors.Is(err, errCallName) {
			t.Errorf("an endless name: %v", err)
		}
	}
	var said []byte
	err := toolPieces(json.RawMessage(" [ {\"index\": 0,\n \"function\": {\"arguments\": \"a \\n b\"} } ] "), func(b []byte) error { said = b; return nil })
	if want := `[{"index":0,"function":{"arguments":"a \n b"}}]`; err != nil || string(said) != want {
		t.Errorf("%v: %s, want %s", err, said, want)
	}
}

// entriesOf are the log entries of a tool-call delta, each held to its bound.
func entriesOf(t *testing.T, raw json.RawMessage) func(yield func(run.Frame)) {
	t.Helper()
	var list []run.Frame
	err := toolPieces(raw, func(data []byte) error {
		if len(data) > api.MaxDelta+1024 || !json.Valid(data) || bytes.ContainsAny(data, "\n\r") {
			t.Errorf("an entry of %d bytes: %.100s", len(data), data)
		}
		list = append(list, run.Frame{Attempt: 1, Seq: len(list) + 1, Kind: kindTools, Data: slices.Clone(data)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return framesOf(list...)
}

func framesOf(list ...run.Frame) func(yield func(run.Frame)) {
	return func(yield func(run.Frame)) {
		for _, f := range list {
			yield(f)
		}
	}
}

func entry(kind run.Kind, data string) run.Frame { return run.Frame{Kind: kind, Data: []byte(data)} }

// TestCollect puts an answer together from entries as providers send them.
func TestCollect(t *testing.T) {
	c := collect(framesOf(
		entry(kindReasoning, "hm"), entry(kindText, "a"), entry(kindReasoning, "m"), entry(kindText, "b"),
		entry(kindTools, `[{"index":0,"id":"c0","type":"function","function":{"name":"f","arguments":""}}]`),
		entry(kindTools, `[{"index":0,"function":{"arguments":"{\"x\""}},{"index":1,"id":"c1","function":{"name":"g","arguments":"[]"}}]`),
		entry(kindTools, `[{"index":0,"function":{"arguments":":1}"}}]`),
		entry(kindTools, `[{"index":-1,"id":"bad"},{"index":1024,"id":"bad"}]`),
		entry(kindTools, `not JSON`),
		entry(run.Done, `{}`),
	))
	want := `[{"id":"c0","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"c1","type":"function","function":{"name":"g","arguments":"[]"}}]`
	if string(c.text) != "ab" || string(c.reasoning) != "hmm" || string(c.toolCalls()) != want {
		t.Errorf("got %q, %q, %s", c.text, c.reasoning, c.toolCalls())
	}
	if c := collect(framesOf()); len(c.text) != 0 || c.toolCalls() != nil {
		t.Errorf("nothing became %+v", c)
	}
}

// TestManyToolDeltas: a call that comes in very many small pieces costs no
// quadratic time: twice the pieces, about twice the bytes moved.
func TestManyToolDeltas(t *testing.T) {
	allocated := func(n int) uint64 {
		list := make([]run.Frame, n)
		for i := range list {
			list[i] = entry(kindTools, `[{"index":0,"function":{"arguments":"0123456789abcdef"}}]`)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := collect(framesOf(list...))
		runtime.ReadMemStats(&after)
		if len(c.calls[0].Function.Arguments) != 16*n {
			t.Error("arguments are lost")
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := allocated(500), allocated(4000); many > 12*few {
		t.Errorf("eight times the pieces allocate %d times the bytes", many/few)
	}
}
