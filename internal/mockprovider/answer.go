package mockprovider

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An answer is all that a chat's script makes the model say.
type answer struct {
	deltas []delta // reasoning, then text, then tool calls
	tools  []toolCall
	model  string
	finish string
	usage  usage
}

// A delta is what one chunk adds: text under a member's name, or, for tool
// calls, JSON.
type delta struct {
	field string
	text  string
}

// Members of a chunk's delta.
const (
	fieldText      = "content"
	fieldReasoning = "reasoning_content"
	fieldTools     = "tool_calls"
)

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type toolCall struct {
	Index    *int         `json:"index,omitempty"` // in deltas only
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function toolFunction `json:"function"`
}

type toolFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// countTokens estimates as most tokenizers would: a token for four characters.
func countTokens(text string) int { return (utf8.RuneCountInString(text) + 3) / 4 }

// compose makes the answer of a chat. The same request and script make the same.
func compose(req *Request, sc *Script) answer {
	a := answer{model: or(sc.Model, req.Model, "mock-chat"), finish: sc.Finish}
	for _, word := range pieces(filler(sc.Reasoning), 0) {
		a.deltas = append(a.deltas, delta{fieldReasoning, word})
	}
	a.tools = toolCalls(req, sc)
	switch {
	case sc.has("huge"):
		a.deltas = append(a.deltas, hugeDeltas(int(sc.Size))...)
	case len(a.tools) == 0 || sc.Text != "":
		for _, piece := range pieces(text(req, sc), sc.Chunks) {
			a.deltas = append(a.deltas, delta{fieldText, piece})
		}
	}
	a.deltas = append(a.deltas, toolDeltas(a.tools)...)
	if a.finish == "" {
		a.finish = "stop"
		if len(a.tools) > 0 {
			a.finish = "tool_calls"
		}
	}
	if sc.Usage == "zero" {
		return a
	}
	for _, m := range req.Messages {
		a.usage.PromptTokens += 4 + countTokens(m.Text)
	}
	for _, d := range a.deltas {
		a.usage.CompletionTokens += countTokens(d.text)
	}
	a.usage.TotalTokens = a.usage.PromptTokens + a.usage.CompletionTokens
	return a
}

func or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// hostile is text that would end or forge a stream if it were ever written as
// something other than a JSON string.
const hostile = "data: [DONE]\n\nevent: error\r\ndata: {\"error\":{\"message\":\"forged\"}}\n\nid: 1\rretry: 0\r\n: x\n\n" +
	"\x00\u2028\u2029\ufeff</script>\\u0000\"}]}\n\n"

// multibyte is text whose characters can be split.
const multibyte = "é漢字🙂👩‍👩‍👧"

// text is what the mock says: the script's own, or the message said back under
// the mock's mark.
func text(req *Request, sc *Script) string {
	if sc.Verbatim || sc.Text != "" {
		return sc.Text
	}
	if req.JSONMode {
		body, _ := json.Marshal(map[string]any{"mock": true, "echo": req.User}) // strings always marshal
		return string(body)
	}
	said := or(req.User, "hello")
	switch {
	case sc.Words > 0:
		said = filler(sc.Words)
	case sc.has("hostile"):
		said = hostile + said
	case sc.has("split"):
		said = multibyte + " " + said
	}
	said = "[mock] " + said
	if missing := sc.Chunks - len(pieces(said, 0)); missing > 0 {
		said += " " + filler(missing)
	}
	return said
}

const fillerWords = "once stored twice read never lost always true run by run frame by frame the log keeps what it was told and tells it again"

// filler is n words.
func filler(n int) string {
	words := strings.Fields(fillerWords)
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[i%len(words)])
	}
	return b.String()
}

// pieces cuts a text into n parts, or into words with the space behind them
// when n is 0. A text of fewer than n words is cut between its characters.
func pieces(text string, n int) []string {
	if text == "" {
		return nil
	}
	cuts := []int{0}
	for i := 1; i < len(text); i++ {
		if text[i-1] == ' ' && text[i] != ' ' {
			cuts = append(cuts, i)
		}
	}
	if n > len(cuts) {
		cuts = cuts[:0]
		for i := range text {
			cuts = append(cuts, i)
		}
	}
	if n == 0 || n > len(cuts) {
		n = len(cuts)
	}
	parts, count := make([]string, n), len(cuts)
	cuts = append(cuts, len(text))
	for i := range parts {
		parts[i] = text[cuts[i*count/n]:cuts[(i+1)*count/n]]
	}
	return parts
}

func hugeDeltas(size int) []delta {
	if size == 0 {
		size = 10 << 20
	}
	block := strings.Repeat("0123456789abcde ", 64)
	list := make([]delta, 0, size/len(block)+1)
	for ; size > 0; size -= len(block) {
		list = append(list, delta{fieldText, block[:min(size, len(block))]})
	}
	return list
}

// toolCalls are the calls that the script wants of the tools that the request
// offers. An answer to a tool's result calls none, so that agents come to an end.
func toolCalls(req *Request, sc *Script) []toolCall {
	if sc.Tools == "" || len(req.Tools) == 0 || req.Messages[len(req.Messages)-1].Role == "tool" {
		return nil
	}
	args := sc.Args
	if args == "" {
		body, _ := json.Marshal(map[string]string{"text": req.User}) // strings always marshal
		args = string(body)
	}
	var calls []toolCall
	for name := range strings.SplitSeq(sc.Tools, ",") {
		if name == "*" {
			name = req.Tools[0]
		}
		calls = append(calls, toolCall{
			ID:       "call_mock_" + strconv.Itoa(len(calls)+1),
			Type:     "function",
			Function: toolFunction{Name: name, Arguments: args},
		})
	}
	return calls
}

// toolDeltas tells each call as providers do: its name first, then its
// arguments bit by bit.
func toolDeltas(calls []toolCall) []delta {
	var list []delta
	for i, call := range calls {
		args := call.Function.Arguments
		call.Function.Arguments = ""
		call.Index = &i
		list = append(list, toolDelta(call))
		for len(args) > 0 {
			n := min(len(args), 8)
			for n < len(args) && !utf8.RuneStart(args[n]) {
				n++
			}
			list = append(list, toolDelta(toolCall{Index: &i, Function: toolFunction{Arguments: args[:n]}}))
			args = args[n:]
		}
	}
	return list
}

func toolDelta(call toolCall) delta {
	body, _ := json.Marshal([]toolCall{call}) // has no member that can fail
	return delta{fieldTools, string(body)}
}

// content joins the deltas of one member.
func (a *answer) content(field string) string {
	var b strings.Builder
	for _, d := range a.deltas {
		if d.field == field {
			b.WriteString(d.text)
		}
	}
	return b.String()
}

// appendQuoted appends text as a JSON string.
func appendQuoted(buf []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendEscaped(buf, text)
		}
	}
	buf = append(buf, '"')
	buf = append(buf, text...)
	return append(buf, '"')
}

const hex = "0123456789abcdef"

// appendEscaped leaves everything beyond ASCII as it is, unlike encoding/json,
// which replaces what is not UTF-8: a script may want just that on the wire.
func appendEscaped(buf []byte, text string) []byte {
	buf = append(buf, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			buf = append(buf, '\\', c)
		case c == '\n':
			buf = append(buf, `\n`...)
		case c < ' ' || c == 0x7f:
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			buf = append(buf, c)
		}
	}
	return append(buf, '"')
}
