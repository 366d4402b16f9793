package sse

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppendFrame(t *testing.T) {
	for _, tt := range []struct {
		name, id, event, data, want string
	}{
		{"all", "r-1-2", "chat.delta", `{"a":1}`, "id: r-1-2\nevent: chat.delta\ndata: {\"a\":1}\n\n"},
		{"no id", "", "keepalive", "{}", "event: keepalive\ndata: {}\n\n"},
		{"data only", "", "", `{"id":"x"}`, "data: {\"id\":\"x\"}\n\n"},
		{"no data", "1", "x", "", "id: 1\nevent: x\ndata: \n\n"},
		{"breaks in data", "", "", "{\r\n\"a\":\n1}", "data: {  \"a\": 1}\n\n"},
		{"forged by data", "", "x", "{}\n\nevent: chat.done\ndata: {}", "event: x\ndata: {}  event: chat.done data: {}\n\n"},
		{"forged by id", "1\n\ndata: x", "e", "{}", "id: 1__data: x\nevent: e\ndata: {}\n\n"},
		{"forged by event", "1", "e\r\ndata: x", "{}", "id: 1\nevent: e__data: x\ndata: {}\n\n"},
		{"NUL in id", "1\x002", "", "{}", "id: 1_2\ndata: {}\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(AppendFrame(nil, tt.id, tt.event, []byte(tt.data))); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if got := string(AppendFrame([]byte("<"), []byte(tt.id), []byte(tt.event), []byte(tt.data))); got != "<"+tt.want {
				t.Errorf("from bytes: %q, want %q", got, tt.want)
			}
		})
	}
}

// The caller's data is not changed by what is replaced in the frame.
func TestAppendFrameKeepsItsInput(t *testing.T) {
	id, data := []byte("a\nb"), []byte("{\n}")
	AppendFrame(nil, id, "", data)
	if string(id) != "a\nb" || string(data) != "{\n}" {
		t.Errorf("id %q, data %q", id, data)
	}
}

func TestAppendRetry(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "retry: 0\n", 1500 * time.Millisecond: "retry: 1500\n", -time.Second: "retry: 0\n", time.Microsecond: "retry: 0\n",
	} {
		if got := string(AppendRetry(nil, d)); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	frame := AppendFrame(AppendRetry(nil, time.Second), "", "ready", []byte("{}"))
	e, err := NewReader(bytes.NewReader(frame), Options{}).Next()
	if err != nil || e.Retry != time.Second || e.Name != "ready" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                          `""`,
		"plain <b>&amp; 'x' / \x7f": "\"plain <b>&amp; 'x' / \x7f\"",
		"\"\\":                      `"\"\\"`,
		"\n\r\t\b\f\x00\x1f":        `"\n\r\t\u0008\u000c\u0000\u001f"`,
		"é€😀":                       `"é€😀"`,
		"a\u2028b\u2029":            `"a\u2028b\u2029"`,
		"\u2027\u202a":              "\"\u2027\u202a\"",
		"a\xffb\xc0\xafc":           "\"a\ufffdb\ufffd\ufffdc\"",
		"\xed\xa0\x80":              "\"\ufffd\ufffd\ufffd\"",
		"cut \xe2\x82":              "\"cut \ufffd\ufffd\"",
		"\ufffd":                    "\"\ufffd\"",
		"\n\nevent: chat.done":      `"\n\nevent: chat.done"`,
	} {
		if got := string(AppendString(nil, in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// FuzzFrame: whatever is put in, exactly one event comes out, and the text in it
// is the text that went in.
func FuzzFrame(f *testing.F) {
	f.Add("r-1-1", "chat.delta", "\n\nevent: chat.done\ndata: {}\n\n")
	f.Add("1\x00\r", "a\nb", "\u2028 \xff \x00 \"\\")
	f.Add("", "", "\ufeff")
	f.Add(" ", ":", "\rid: 7\r\r")
	f.Fuzz(func(t *testing.T, id, event, text string) {
		data := AppendString([]byte(`{"delta":`), text)
		data = append(data, '}')
		if !utf8.Valid(data) || bytes.ContainsAny(data, "\r\n") {
			t.Fatalf("data %q", data)
		}
		var read struct{ Delta string }
		if err := json.Unmarshal(data, &read); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if want := strings.ToValidUTF8(text, "\ufffd"); utf8.ValidString(text) && read.Delta != want {
			t.Fatalf("%q came back as %q", text, read.Delta)
		}
		for _, data := range [][]byte{data, []byte(text)} { // a JSON text, and anything at all
			frame := AppendFrame(nil, id, event, data)
			r := NewReader(bytes.NewReader(append(frame, "data: next\n\n"...)), Options{MaxLine: len(frame) + 64})
			e, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if want := clean(event, "message"); e.Name != want {
				t.Fatalf("event %q, want %q", e.Name, want)
			}
			if want := clean(id, ""); e.ID != want {
				t.Fatalf("id %q, want %q", e.ID, want)
			}
			if want := strings.NewReplacer("\n", " ", "\r", " ").Replace(string(data)); string(e.Data) != want {
				t.Fatalf("data %q, want %q", e.Data, want)
			}
			if e, err := r.Next(); err != nil || string(e.Data) != "next" {
				t.Fatalf("then %+v, %v", e, err)
			}
			if _, err := r.Next(); err != io.EOF {
				t.Fatalf("then %v", err)
			}
		}
	})
}

func clean(s, empty string) string {
	if s == "" {
		return empty
	}
	return strings.NewReplacer("\n", "_", "\r", "_", "\x00", "_").Replace(s)
}

func BenchmarkFrame(b *testing.B) {
	dst := make([]byte, 0, 1024)
	id := []byte("018f4e7a-0000-7000-8000-000000000000-1-42")
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data = append(data[:0], `{"request_id":"018f4e7a-0000-7000-8000-000000000000","seq":42,"attempt":1,"delta":`...)
		data = AppendString(data, "a handful of words, as a chunk has ")
		data = append(data, `,"trace_id":"0123456789abcdef0123456789abcdef"}`...)
		dst = AppendFrame(dst[:0], id, "chat.delta", data)
	}
}
