package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/sse"
)

var fixedID = uuid.MustParse("0192f000-0000-7000-8000-00000000000a")

func encoder(replayed bool) *Encoder {
	return NewEncoder(run.Record{ID: fixedID, TraceID: "t-1"}, replayed)
}

func noLog(int, func(run.Frame)) {}

// TestEncoder writes each frame to the byte.
func TestEncoder(t *testing.T) {
	e := encoder(false)
	rec := run.Record{
		ID: fixedID, SessionID: uuid.MustParse("0192f000-0000-7000-8000-00000000000b"), Attempt: 2, TraceID: "t-1",
		Request: json.RawMessage(`{"model":"m","content":"x"}`),
	}
	const id = "0192f000-0000-7000-8000-00000000000a"
	frame := func(attempt, seq int, kind run.Kind, data string) string {
		return string(e.Frame(nil, run.Frame{Attempt: attempt, Seq: seq, Kind: kind, Data: []byte(data)}, noLog))
	}
	lost := fault.New(api.SlowReader, "too slow")
	for _, c := range []struct{ name, got, want string }{
		{"ready", string(e.Ready(nil, rec, true, 1500*time.Millisecond)),
			"retry: 1500\nevent: ready\ndata: {\"trace_id\":\"t-1\",\"request_id\":\"" + id + `","session_id":"0192f000-0000-7000-8000-00000000000b","attempt":2,"model":"m","resumed":true,"retry_ms":1500}` + "\n\n"},
		{"keepalive", string(e.Keepalive(nil, time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC))),
			"event: keepalive\ndata: {\"trace_id\":\"t-1\",\"ts\":\"2026-01-02T03:04:05.006Z\"}\n\n"},
		{"text", frame(1, 3, kindText, "a\n\n\"b\""),
			"id: " + id + "-1-3\nevent: chat.delta\ndata: {\"request_id\":\"" + id + `","seq":3,"attempt":1,"delta":"a\n\n\"b\"","trace_id":"t-1"}` + "\n\n"},
		{"reset", frame(2, 1, kindText, ""),
			"id: " + id + "-2-1\nevent: chat.delta\ndata: {\"request_id\":\"" + id + `","seq":1,"attempt":2,"delta":"","reset":true,"trace_id":"t-1"}` + "\n\n"},
		{"reasoning", frame(1, 1, kindReasoning, "hm"),
			"id: " + id + "-1-1\nevent: chat.delta\ndata: {\"request_id\":\"" + id + `","seq":1,"attempt":1,"delta":"","reasoning":"hm","trace_id":"t-1"}` + "\n\n"},
		{"tools", frame(1, 2, kindTools, `[{"index":0}]`),
			"id: " + id + "-1-2\nevent: chat.delta\ndata: {\"request_id\":\"" + id + `","seq":2,"attempt":1,"delta":"","tool_calls":[{"index":0}],"trace_id":"t-1"}` + "\n\n"},
		{"error", frame(1, 4, run.Error, `{"code":"x"}`), "id: " + id + "-1-4\nevent: error\ndata: {\"code\":\"x\"}\n\n"},
		{"broken", string(e.Broken(nil, lost, 900*time.Millisecond)),
			"retry: 900\nevent: error\ndata: {\"code\":\"slow_reader\",\"message\":\"too slow\",\"retryable\":true,\"request_id\":\"" + id + `","trace_id":"t-1"}` + "\n\n"},
		{"done", frame(1, 5, run.Done, `{"finish_reason":"stop"}`),
			"id: " + id + "-1-5\nevent: chat.done\ndata: {\"finish_reason\":\"stop\",\"content\":\"\",\"replayed\":false}\n\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, c.got, c.want)
		}
	}
	e.renumber = true
	if got := frame(1, 1, kindText, "x"); !strings.Contains(got, `"reset":true`) {
		t.Errorf("a rebuilt log does not reset: %s", got)
	}
}

// TestDoneInline: an answer is repeated in chat.done while it is short, with its
// tool calls or not at all.
func TestDoneInline(t *testing.T) {
	for _, c := range []struct {
		text, tools string
		inline      bool
	}{
		{"short", "", true},
		{strings.Repeat("x", 16<<10), "", false},
		{strings.Repeat("\n", 9<<10), "", false}, // 18 KiB of JSON
		{"", `[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]`, true},
		{"", `[{"index":0,"function":{"arguments":"` + strings.Repeat("x", 17<<10) + `"}}]`, false},
		{strings.Repeat("x", 9<<10), `[{"index":0,"function":{"arguments":"` + strings.Repeat("x", 9<<10) + `"}}]`, false},
	} {
		log := func(_ int, yield func(run.Frame)) {
			yield(entry(kindText, c.text))
			if c.tools != "" {
				yield(entry(kindTools, c.tools))
			}
		}
		raw := encoder(true).Frame(nil, run.Frame{Attempt: 1, Seq: 2, Kind: run.Done, Data: []byte(`{"finish_reason":"stop"}`)}, log)
		var d struct {
			Content   *string
			ToolCalls json.RawMessage `json:"tool_calls"`
			Replayed  bool
		}
		_, data, _ := bytes.Cut(raw, []byte("data: "))
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		if (d.Content != nil) != c.inline || (d.ToolCalls != nil) != (c.inline && c.tools != "") || !d.Replayed || len(raw) > api.MaxFrame {
			t.Errorf("%d and %d bytes: content %v, calls %v, %d bytes", len(c.text), len(c.tools), d.Content != nil, d.ToolCalls != nil, len(raw))
		}
	}
}

// TestErrorData is bounded whatever an error holds.
func TestErrorData(t *testing.T) {
	for _, c := range []struct {
		name string
		err  *fault.Error
		says string
	}{
		{"small details", fault.New(api.UpstreamAuth, "no").With("field", "x"), `"details":{"field":"x"}`},
		{"endless details", fault.New(api.UpstreamAuth, "no").With("body", strings.Repeat("x", 100_000)), `"message":"no"`},
		{"details that are no JSON", fault.New(api.UpstreamAuth, "no").With("f", func() {}), `"message":"no"`},
		{"an endless message", fault.New(api.Internal, "%s", strings.Repeat("漢\x01", 50_000)), `"code":"internal_error"`},
		{"a wait", &fault.Error{Code: api.UpstreamRateLimited, Message: "m", RetryAfter: 1500 * time.Millisecond, UpstreamStatus: 429}, `"retry_after_ms":1500,"upstream_status":429`},
	} {
		data := errorData(c.err, fixedID, "t-1")
		if !json.Valid(data) || len(data) > api.MaxFrame-512 || !strings.Contains(string(data), c.says) || !utf8.Valid(data) {
			t.Errorf("%s: %d bytes: %.300s", c.name, len(data), data)
		}
	}
}

// FuzzFrames: whatever a text holds, one entry is one event with one meaning.
func FuzzFrames(f *testing.F) {
	f.Add("plain", 1, 1, byte(0))
	f.Add("\n\nevent: chat.done\ndata: {}\n\n", 2, 7, byte(1))
	f.Add("a\r\nid: 9\x00\u2028\xff", 1, 1, byte(2))
	f.Fuzz(func(t *testing.T, text string, attempt, seq int, which byte) {
		attempt, seq = 1+attempt&0xffff, 1+seq&0xffff
		e := encoder(false)
		data := []byte(text)
		kind := []run.Kind{kindText, kindReasoning, kindTools, run.Error, run.Done}[which%5]
		log := func(int, func(run.Frame)) {}
		switch kind {
		case kindTools:
			data = sse.AppendString([]byte(`[{"index":0,"function":{"arguments":`), text)
			data = append(data, "}}]"...)
		case run.Error:
			data = errorData(fault.New(api.Internal, "%s", text), fixedID, "t-1")
		case run.Done:
			data = []byte(`{"finish_reason":"stop"}`)
			log = func(_ int, yield func(run.Frame)) { yield(entry(kindText, text)) }
		}
		raw := e.Keepalive(e.Frame(e.Keepalive(nil, time.Time{}), run.Frame{Attempt: attempt, Seq: seq, Kind: kind, Data: data}, log), time.Time{})
		r := sse.NewReader(bytes.NewReader(raw), sse.Options{MaxLine: 64 << 20})
		var names []string
		for {
			ev, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, ev.Name)
			if !json.Valid(ev.Data) {
				t.Fatalf("no JSON: %q", ev.Data)
			}
			if ev.Name == api.FrameDelta {
				checkDelta(t, ev.Data, kind, text, attempt, seq)
			}
		}
		want := map[run.Kind]string{run.Error: api.FrameError, run.Done: api.FrameDone}[kind]
		if want == "" {
			want = api.FrameDelta
		}
		if len(names) != 3 || names[1] != want || names[0] != api.FrameKeepalive || names[2] != api.FrameKeepalive {
			t.Fatalf("one frame became %v: %q", names, raw)
		}
	})
}

func checkDelta(t *testing.T, data []byte, kind run.Kind, text string, attempt, seq int) {
	t.Helper()
	var d api.Delta
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	var valid strings.Builder // each broken byte is its own U+FFFD
	for _, r := range text {
		valid.WriteRune(r)
	}
	said := map[run.Kind]string{kindText: d.Delta, kindReasoning: d.Reasoning, kindTools: valid.String()}[kind]
	if said != valid.String() || d.Attempt != attempt || d.Seq != seq || d.RequestID != fixedID.String() || d.TraceID != "t-1" ||
		d.Reset != (seq == 1 && attempt > 1) {
		t.Fatalf("%q became %+v", text, d)
	}
}
