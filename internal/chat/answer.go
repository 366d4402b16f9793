package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
	"unsafe"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/run"
)

// collected is the answer of one attempt, put together from its entries.
type collected struct {
	text      []byte
	reasoning []byte
	calls     []toolCall
	arguments [][]byte // of calls, while they come in
}

// toolCall is one call of a tool, its deltas put together, in OpenAI's form.
type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function toolFunction `json:"function"`
}

type toolFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// toolDelta is one element of a tool-call entry.
type toolDelta struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments,omitempty"`
	} `json:"function"`
}

// maxCallName bounds what a delta says of a call beside its arguments, which
// alone are cut to fit a frame.
const maxCallName = 1 << 10

var errCallName = errors.New("a tool call has an endless name")

// collect puts the answer of an attempt together; frames yields its entries.
func collect(frames func(yield func(run.Frame))) *collected {
	c := &collected{}
	size := 0
	frames(func(f run.Frame) {
		if f.Kind == kindText {
			size += len(f.Data)
		}
	})
	c.text = make([]byte, 0, size)
	frames(func(f run.Frame) {
		switch f.Kind {
		case kindText:
			c.text = append(c.text, f.Data...)
		case kindReasoning:
			c.reasoning = append(c.reasoning, f.Data...)
		case kindTools:
			c.addCalls(f.Data)
		}
	})
	for at := range c.calls {
		c.calls[at].Function.Arguments = bytesAsString(c.arguments[at])
	}
	return c
}

func (c *collected) addCalls(data []byte) {
	var deltas []toolDelta
	if json.Unmarshal(data, &deltas) != nil {
		return
	}
	for at, d := range deltas {
		if d.Index != nil {
			at = *d.Index
		}
		if at < 0 || at >= 1024 {
			continue
		}
		for len(c.calls) <= at {
			c.calls = append(c.calls, toolCall{Type: "function"})
			c.arguments = append(c.arguments, nil)
		}
		call := &c.calls[at]
		if d.ID != "" {
			call.ID = d.ID
		}
		if d.Type != "" {
			call.Type = d.Type
		}
		call.Function.Name += d.Function.Name
		c.arguments[at] = append(c.arguments[at], d.Function.Arguments...)
	}
}

// toolCalls is the calls as OpenAI's array, nil for none.
func (c *collected) toolCalls() json.RawMessage {
	if len(c.calls) == 0 {
		return nil
	}
	data, err := json.Marshal(c.calls)
	if err != nil {
		return nil
	}
	return data
}

// pieces cuts text into deltas whose JSON strings stay under api.MaxDelta, never
// inside a character.
func pieces(text string, yield func(string) error) error {
	for len(text) > (api.MaxDelta-2)/6 { // what surely fits is not counted
		n := cut(text)
		if err := yield(text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	if text == "" {
		return nil
	}
	return yield(text)
}

// cut returns how many bytes of text fit one delta.
func cut(text string) int {
	size, n := 0, 0
	for n < len(text) {
		r, w := utf8.DecodeRuneInString(text[n:])
		cost := w
		switch {
		case r < 0x20 || r == 0x7f || r == utf8.RuneError || r == '\u2028' || r == '\u2029':
			cost = 6
		case r == '"' || r == '\\':
			cost = 2
		}
		if size+cost > api.MaxDelta-2 {
			return n
		}
		size += cost
		n += w
	}
	return n
}

// toolPieces cuts a tool-call delta into entries under api.MaxDelta: the first
// names the calls, the rest carry on their arguments.
func toolPieces(raw json.RawMessage, yield func([]byte) error) error {
	var deltas []toolDelta
	if err := json.Unmarshal(raw, &deltas); err != nil {
		return err
	}
	whole := len(raw) <= api.MaxDelta
	for at := range deltas {
		whole = whole && deltas[at].Index != nil
	}
	if whole {
		return yield(compact(raw))
	}
	for at, d := range deltas {
		if d.Index == nil {
			d.Index = &at
		}
		arguments := d.Function.Arguments
		d.Function.Arguments = ""
		if err := yieldCall(d, yield); err != nil {
			return err
		}
		more := toolDelta{Index: d.Index}
		err := pieces(arguments, func(s string) error {
			more.Function.Arguments = s
			return yieldCall(more, yield)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func yieldCall(d toolDelta, yield func([]byte) error) error {
	if len(d.ID)+len(d.Type)+len(d.Function.Name) > maxCallName {
		return errCallName
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // pieces counts < as the one byte that it is
	if err := enc.Encode([]toolDelta{d}); err != nil {
		return err
	}
	return yield(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// bytesAsString reads bytes that never change as a string, without a copy.
func bytesAsString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// stringAsBytes lends a string's bytes to a callee that only reads them.
func stringAsBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
