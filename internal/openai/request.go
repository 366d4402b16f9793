package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"
	"unicode/utf8"

	"github.com/agentedge/agentedge/internal/chat"
)

// encodeCall writes the request's body. The caller's JSON goes in as it came,
// once it is known to be JSON.
func encodeCall(call chat.Call) ([]byte, error) {
	size := 256
	for _, m := range call.Messages {
		size += len(m.Content) + len(m.ToolCalls) + 64
	}
	b := append(make([]byte, 0, size), `{"model":`...)
	b = appendString(b, call.Model)
	b = append(b, `,"messages":[`...)
	var err error
	for i, m := range call.Messages {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendMessage(b, m); err != nil {
			return nil, fmt.Errorf("openai: message %d: %w", i, err)
		}
	}
	b = append(b, ']')
	for _, name := range slices.Sorted(maps.Keys(call.Params)) {
		switch name {
		case "model", "messages", "stream", "stream_options", "n":
			return nil, fmt.Errorf("openai: parameter %q is the protocol's own", name)
		}
		b = append(appendString(append(b, ','), name), ':')
		if b, err = appendRaw(b, call.Params[name]); err != nil {
			return nil, fmt.Errorf("openai: parameter %q: %w", name, err)
		}
	}
	if call.Stream {
		b = append(b, `,"stream":true,"stream_options":{"include_usage":true}`...)
	}
	return append(b, '}'), nil
}

func appendMessage(b []byte, m chat.Message) ([]byte, error) {
	b = appendString(append(b, `{"role":`...), m.Role)
	b = append(b, `,"content":`...)
	var err error
	if len(m.Content) == 0 {
		b = append(b, "null"...)
	} else if b, err = appendRaw(b, m.Content); err != nil {
		return nil, err
	}
	if len(m.ToolCalls) > 0 {
		if b, err = appendRaw(append(b, `,"tool_calls":`...), m.ToolCalls); err != nil {
			return nil, err
		}
	}
	if m.ToolCallID != "" {
		b = appendString(append(b, `,"tool_call_id":`...), m.ToolCallID)
	}
	if m.Name != "" {
		b = appendString(append(b, `,"name":`...), m.Name)
	}
	return append(b, '}'), nil
}

func appendRaw(b []byte, raw json.RawMessage) ([]byte, error) {
	s := scanner{data: raw}
	if s.skip(); !s.end() {
		return nil, errMalformed
	}
	return append(b, raw...), nil
}

func appendString(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(text) // a string always has a form in JSON
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// A payload is a request's body that can be sent again, as long as the transport
// has not got an answer. Then it is let go: a stream may last for minutes, and
// its request holds a whole conversation.
type payload struct {
	size int
	data atomic.Pointer[[]byte]
}

func newPayload(body []byte) *payload {
	p := &payload{size: len(body)}
	p.data.Store(&body)
	return p
}

func (p *payload) open() (io.ReadCloser, error) {
	data := p.data.Load()
	if data == nil {
		return nil, errors.New("openai: the request was answered already")
	}
	return &payloadReader{rest: *data}, nil
}

func (p *payload) release() { p.data.Store(nil) }

// A payloadReader belongs to the transport, which closes it when it is done.
type payloadReader struct{ rest []byte }

func (r *payloadReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *payloadReader) Close() error { return nil }
