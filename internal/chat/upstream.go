package chat

import (
	"context"
	"encoding/json"

	"github.com/agentedge/agentedge/internal/record"
)

// Message is one message of a call, in OpenAI's form. Content is JSON: a string,
// an array of content parts, or null beside tool calls.
type Message struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCalls  json.RawMessage `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
	Name       string          `json:"name,omitempty"`
}

// Call is one request to a provider.
type Call struct {
	Model    string
	Messages []Message
	// Params are further members of the request body under OpenAI's names
	// (temperature, tools, response_format, …), each a JSON value, passed through.
	Params map[string]json.RawMessage
	// Stream false asks for one JSON answer, which is then emitted as one Delta.
	Stream bool
}

// Delta is what one chunk of a provider adds to the answer. ToolCalls is
// OpenAI's array of tool-call deltas, passed through as it came. It and the
// strings are the callee's to keep.
type Delta struct {
	Text      string
	Reasoning string
	ToolCalls json.RawMessage
}

// Answer is what a provider says beside the deltas. Its usage is nil where the
// provider gave none.
type Answer struct {
	Model        string // as the provider names it
	FinishReason string // stop, length, tool_calls, content_filter, …; never empty
	Usage        *record.Usage
}

// Upstream is one provider. Chat returns after the answer's proper end, or a
// *fault.Error whose code says how the provider failed; every delta was emitted
// by then. An error of emit ends the call and is returned as it is.
type Upstream interface {
	Name() string
	Chat(ctx context.Context, call Call, emit func(Delta) error) (Answer, error)
}
