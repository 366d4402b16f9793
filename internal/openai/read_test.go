package openai

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/record"
)

// readBody reads body as the answer to a call, without a network.
func readBody(t *testing.T, stream bool, body io.Reader) (*collected, chat.Answer, error) {
	t.Helper()
	c := newClient(t, Config{Base: "http://provider"})
	w := startWatch(time.Hour, func(error) {})
	defer w.stop()
	var got collected
	a := answering{asked: call().Model, stream: stream, emit: got.emit, watch: w}
	answer, err := c.read(&a, &http.Response{StatusCode: 200, Body: io.NopCloser(body)})
	return &got, answer, err
}

// Whole answers, in every shape that providers give them, read in pieces of every
// size.
func TestAnswers(t *testing.T) {
	t.Parallel()
	text := delta("Grüße, ") + delta("世界 👍") + finish + "data: [DONE]\n\n"
	const want = "Grüße, 世界 👍"
	one := func(delta string) string {
		return `data: {"choices":[{"delta":` + delta + `}]}` + "\n\n" + finish
	}
	used := record.Usage{PromptTokens: 3, CompletionTokens: 4, TotalTokens: 7, Source: record.Measured}
	for _, tc := range []struct {
		name, body                     string
		text, reasoning, tools, finish string
		usage                          *record.Usage
	}{
		{name: "LF", body: text, text: want},
		{name: "CRLF", body: strings.ReplaceAll(text, "\n", "\r\n"), text: want},
		{name: "CR", body: strings.ReplaceAll(text, "\n", "\r"), text: want},
		{name: "all line ends", body: strings.Replace(strings.Replace(text, "\n\n", "\r\r\n", 1), "\n\n", "\n\r", 1), text: want},
		{name: "byte order mark", body: "\ufeff" + text, text: want},
		{name: "comments", body: ": hi\n\n" + strings.ReplaceAll(text, "\n\n", "\n: ping\n\n:\n"), text: want},
		{name: "other fields", body: "retry: 5\nid: 7\nfoo: bar\nevent\n" + strings.ReplaceAll(text, "data:", "event: message\nid\ndata:"), text: want},
		{name: "no space", body: strings.ReplaceAll(text, "data: ", "data:"), text: want},
		{name: "two spaces", body: strings.ReplaceAll(text, "data: ", "data:  "), text: want},
		{name: "data over lines", body: strings.ReplaceAll(text, `,"choices"`, ",\ndata: \"choices\""), text: want},
		{name: "empty data", body: "data\n\ndata:\n\ndata: \ndata:\n\n" + text, text: want},
		{name: "done without a line end", body: strings.TrimRight(text, "\n"), text: want},
		{name: "done with spaces", body: strings.Replace(text, "[DONE]", " [DONE]  ", 1), text: want},
		{name: "done without a blank line", body: strings.TrimSuffix(text, "\n"), text: want},
		{name: "more after done", body: text + delta("not this"), text: want},
		{name: "no done", body: strings.Replace(text, "data: [DONE]\n\n", "", 1), text: want},
		{name: "no finish", body: strings.Replace(text, finish, "", 1), text: want},
		{name: "escaped", body: one(`{"content":"\u0047r\u00fc\u00DFe, \u4e16\u754c \ud83d\udc4d"}`), text: want},
		{name: "all escapes", body: one(`{"content":"\"\\\/\b\f\n\r\t"}`), text: "\"\\/\b\f\n\r\t"},
		{name: "NUL", body: one(`{"content":"a\u0000b"}`), text: "a\ufffdb"},
		{name: "lone surrogates", body: one(`{"content":"\ud83d \udc4d \ud83d\u0041"}`), text: "\ufffd \ufffd \ufffdA"},
		{name: "broken UTF-8", body: one("{\"content\":\"a\xff\xe4\xb8b\"}"), text: "a\ufffd\ufffd\ufffdb"},
		{name: "usage in a chunk of its own", body: delta("a") + finish + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":1}}}` + "\n\ndata: [DONE]\n\n", text: "a", usage: &used},
		{name: "usage null, then not", body: `data: {"choices":[],"usage":null}` + "\n\n" + `data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}` + "\n\n" + `data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}` + "\n\n", text: "a", usage: &used},
		{name: "usage beyond belief", body: delta("a") + finish + `data: {"choices":[],"usage":{"prompt_tokens":-3,"completion_tokens":4}}` + "\n\n" + `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1e99}}` + "\n\n" + `data: {"usage":{"prompt_tokens":0,"completion_tokens":0}}` + "\n\n" + `data: {"usage":[1]}` + "\n\n", text: "a"},
		{name: "empty choices first", body: `data: {"choices":[],"prompt_filter_results":[{"index":0}]}` + "\n\n" + text, text: want},
		{name: "choices null, delta null", body: `data: {"choices":null}` + "\n\n" + `data: {"choices":[null]}` + "\n\n" + `data: {"choices":[{"delta":null}]}` + "\n\n" + text, text: want},
		{name: "another choice", body: `data: {"choices":[{"index":1,"delta":{"content":"no"}},{"delta":{"content":"yes"},"index":0}]}` + "\n\n" + finish, text: "yes"},
		{name: "role first", body: one(`{"role":"assistant","content":""}`), text: ""},
		{name: "reasoning_content", body: one(`{"content":null,"reasoning_content":"hm"}`), reasoning: "hm"},
		{name: "reasoning", body: one(`{"reasoning":"hm"}`), reasoning: "hm"},
		{name: "reasoning twice", body: one(`{"reasoning":"hm","reasoning_content":"hm","reasoning_details":[{}]}`), reasoning: "hm"},
		{name: "content in parts", body: one(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a\u0000"},{"type":"image"}]}`), text: "a\ufffd", reasoning: "hm"},
		{name: "refusal", body: one(`{"content":null,"refusal":"I can't"}`), text: "I can't"},
		{name: "tool calls", body: one(`{"tool_calls":[ {"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":1}"}}]}`), tools: `[ {"index":0,"id":"x","function":{"name":"f","arguments":"{\"a\":1}"}}]`},
		{name: "no tool calls", body: one(`{"content":"a","tool_calls":[]}`), text: "a"},
		{name: "tool calls with what cannot be stored", body: one(`{"tool_calls":[{"a":"\u0000\ud800\u00e9\\u0000\ud83d\udc4d` + "\xff" + `"}]}`), tools: `[{"a":"` + "\ufffd\ufffd" + `\u00e9\\u0000\ud83d\udc4d` + "\ufffd" + `"}]`},
		{name: "tool calls over lines", body: one("{\"tool_calls\":[\ndata: {}\ndata: ]}"), tools: "[{}]"},
		{name: "another finish", body: delta("a") + strings.Replace(finish, `"stop"`, `"length"`, 1), text: "a", finish: "length"},
		{name: "finish with the last text", body: strings.Replace(delta("a"), "null", `"content_filter"`, 1), text: "a", finish: "content_filter"},
		{name: "done after tool calls", body: `data: {"choices":[{"delta":{"tool_calls":[{}]}}]}` + "\n\ndata: [DONE]\n\n", tools: "[{}]", finish: "tool_calls"},
		{name: "a ping event", body: "event: ping\ndata: {\"type\":\"ping\"}\n\n" + text, text: want},
		{name: "JSON", body: `{"object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"a","reasoning":"hm","tool_calls":[{}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}`, text: "a", reasoning: "hm", tools: "[{}]", usage: &used},
		{name: "JSON behind blanks", body: "\n \n\t\r\n" + `{"choices":[{"message":{"content":"a"}}]}` + "\n", text: "a"},
		{name: "a long line", body: delta(strings.Repeat("x", 700_000)) + finish, text: strings.Repeat("x", 700_000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for how, body := range map[string]io.Reader{
				"at once":        strings.NewReader(tc.body),
				"by bytes":       iotest.OneByteReader(strings.NewReader(tc.body)),
				"by halves":      iotest.HalfReader(strings.NewReader(tc.body)),
				"with its error": iotest.DataErrReader(strings.NewReader(tc.body)),
			} {
				got, answer, err := readBody(t, true, body)
				if err != nil {
					t.Errorf("%s: %v", how, err)
					continue
				}
				if got.text.String() != tc.text || got.reasoning.String() != tc.reasoning || got.tools.String() != tc.tools {
					t.Errorf("%s: text %.99q, reasoning %q, tools %q", how, got.text.String(), got.reasoning.String(), got.tools.String())
				}
				if want := cmp.Or(tc.finish, "stop"); answer.FinishReason != want {
					t.Errorf("%s: finish %q, want %q", how, answer.FinishReason, want)
				}
				if (answer.Usage == nil) != (tc.usage == nil) || (tc.usage != nil && *answer.Usage != *tc.usage) {
					t.Errorf("%s: usage %+v", how, answer.Usage)
				}
			}
		})
	}
}

func TestAnswerNamesItsModel(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`data: {"model":"m-2","choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n":                        "m-2",
		`data: {"model":"","choices":[{"delta":{}}]}` + "\n\n" + strings.ReplaceAll(finish, "m-1", "m\u00e9"):   "mé",
		`data: {"choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n":                                      "m-1",
		strings.ReplaceAll(finish, "m-1", strings.Repeat("m", 300)):                                             "m-1",
		`data: {"model":null,"choices":[{"delta":{},"finish_reason":"stop"}],"model":7}` + "\n\ndata: [DONE]\n": "m-1",
	} {
		if _, answer, err := readBody(t, true, strings.NewReader(body)); err != nil || answer.Model != want {
			t.Errorf("%.80s: model %.20q, error %v", body, answer.Model, err)
		}
	}
}

func TestOneJSONAnswer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, body string
		code       api.Code
	}{
		{"whole", `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}`, ""},
		{"empty", ``, api.UpstreamBadResponse},
		{"a stream", delta("a") + finish, api.UpstreamBadResponse},
		{"no choices", `{"choices":[]}`, api.UpstreamBadResponse},
		{"no message", `{"choices":[{"delta":{"content":"a"}}]}`, api.UpstreamBadResponse},
		{"message null", `{"choices":[{"message":null}]}`, api.UpstreamBadResponse},
		{"error", `{"error":{"message":"x","code":"rate_limit_exceeded"}}`, api.UpstreamRateLimited},
		{"error object", `{"object":"error","code":503}`, api.UpstreamUnavailable},
		{"two values", `{"choices":[{"message":{"content":"a"}}]} {}`, api.UpstreamBadResponse},
		{"cut", `{"choices":[{"message":{"content":"a"}`, api.UpstreamTruncated},
		{"too large", `{"x":"` + strings.Repeat("x", maxAnswer) + `"}`, api.UpstreamBadResponse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := readBody(t, false, strings.NewReader(tc.body))
			if tc.code != "" {
				if f := wantFault(t, err, tc.code); f.UpstreamStatus != 200 {
					t.Errorf("upstream status %d", f.UpstreamStatus)
				}
				return
			}
			if err != nil || got.text.String() != "a" || got.deltas != 1 {
				t.Errorf("%d deltas %q, error %v", got.deltas, got.text.String(), err)
			}
		})
	}
}

func TestSourceWithoutProgress(t *testing.T) {
	t.Parallel()
	var r reader
	r.reset(stuck{})
	if _, err := r.next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestRedact(t *testing.T) {
	t.Parallel()
	const key = "local-key"
	for in, want := range map[string]string{
		"":                              "",
		"plain words stay, 42 of them.": "plain words stay, 42 of them.",
		"Incorrect API key provided: sk-proj-abcd1234.": "Incorrect API key provided: [redacted]",
		"header 'Authorization: Bearer abc'":            "header 'Authorization: Bearer [redacted]'",
		"bearer  x y":                                   "bearer  [redacted] y",
		"key=local-key, or \"local-key\"":               "key=[redacted], or \"[redacted]\"",
		"xlocal-keyx":                                   "[redacted]",
		"masked ab******yz":                             "masked [redacted]",
		"token eyJhbGciOi.eyJzdWI.sig":                  "token [redacted]",
		"run 0123456789abcdef0123456789abcdef":          "run [redacted]",
		"model meta-llama-3.1-405b-instruct-turbo":      "model meta-llama-3.1-405b-instruct-turbo",
		"model accounts/fireworks/models/llama-v3p1":    "model accounts/fireworks/models/llama-v3p1",
		"two\nlines\x00and\tmore":                       "two lines and more",
		"broken \xff byte, 世界":                          "broken \ufffd byte, 世界",
		strings.Repeat("é ", 2000):                      strings.Repeat("é ", 341),
	} {
		if got := redact(in, key); got != want {
			t.Errorf("redact(%.60q) = %.80q, want %.80q", in, got, want)
		}
	}
	if got := redact("a key of one letter", "a"); got != "a key of one letter" {
		t.Errorf("a short key tore words apart: %q", got)
	}
}

func TestReported(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]api.Code{
		`{"error":{"code":402,"message":"pay"}}`:            api.UpstreamRejected,
		`{"error":{"code":"503"}}`:                          api.UpstreamUnavailable,
		`{"code":429}`:                                      api.UpstreamRateLimited,
		`{"type":"rate_limit_error"}`:                       api.UpstreamRateLimited,
		`{"code":"insufficient_quota"}`:                     api.UpstreamRateLimited,
		`{"type":"authentication_error"}`:                   api.UpstreamAuth,
		`{"code":"invalid_api_key"}`:                        api.UpstreamAuth,
		`{"code":"model_not_found"}`:                        api.UpstreamModelNotFound,
		`{"type":"invalid_request_error"}`:                  api.UpstreamRejected,
		`{"code":"context_length_exceeded"}`:                api.UpstreamRejected,
		`{"type":"overloaded_error"}`:                       api.UpstreamUnavailable,
		`{"error":"boom"}`:                                  api.UpstreamUnavailable,
		`[{"error":{"code":401,"status":"UNAUTHORIZED"}}]`:  api.UpstreamAuth,
		`{"detail":"x"}`:                                    api.UpstreamUnavailable,
		`"x"`:                                               api.UpstreamUnavailable,
		`{"error":{"code":{"a":1},"message":[1],"type":2}}`: api.UpstreamUnavailable,
		`junk`: api.UpstreamUnavailable,
		``:     api.UpstreamUnavailable,
	} {
		if f := wantFault(t, reported([]byte(body), testKey), want); f.Message == "" {
			t.Errorf("%s: no message", body)
		}
	}
}
