package api

import "encoding/json"

// ChatRequest is the body of POST chat. Optional fields are left out when zero;
// Params are OpenAI's sampling, tool and response_format parameters by name.
type ChatRequest struct {
	SessionID      string                     `json:"session_id,omitempty"`
	Content        any                        `json:"content"` // a string or OpenAI content parts
	Model          string                     `json:"model,omitempty"`
	IdempotencyKey string                     `json:"idempotency_key,omitempty"`
	RequestID      string                     `json:"request_id,omitempty"`
	Metadata       json.RawMessage            `json:"metadata,omitempty"`
	System         string                     `json:"system,omitempty"` // service role only
	Params         map[string]json.RawMessage `json:"-"`
}

// Ready is the data of the frame that opens every stream.
type Ready struct {
	TraceID   string `json:"trace_id"`
	RequestID string `json:"request_id"`
	SessionID string `json:"session_id"`
	Attempt   int    `json:"attempt"`
	Model     string `json:"model"`
	Resumed   bool   `json:"resumed"`
	RetryMS   int    `json:"retry_ms"`
}

// Delta is the data of chat.delta. Reset: what came before is void.
type Delta struct {
	RequestID string          `json:"request_id"`
	Seq       int             `json:"seq"`
	Attempt   int             `json:"attempt"`
	Delta     string          `json:"delta"`
	Reset     bool            `json:"reset,omitempty"`
	Reasoning string          `json:"reasoning,omitempty"`
	ToolCalls json.RawMessage `json:"tool_calls,omitempty"` // OpenAI's array of tool-call deltas
	TraceID   string          `json:"trace_id"`
}

// Usage counts tokens; Source is measured (the provider's numbers) or estimated.
type Usage struct {
	PromptTokens     int    `json:"prompt_tokens"`
	CompletionTokens int    `json:"completion_tokens"`
	TotalTokens      int    `json:"total_tokens"`
	Source           string `json:"source"`
}

// Done is the data of chat.done. Content and ToolCalls are there while their
// JSON is at most MaxInlineAnswer bytes.
type Done struct {
	RequestID     string          `json:"request_id"`
	MessageID     string          `json:"message_id"`
	SessionID     string          `json:"session_id"`
	Content       *string         `json:"content,omitempty"`
	ContentBytes  int             `json:"content_bytes"`
	ContentSHA256 string          `json:"content_sha256"`
	ToolCalls     json.RawMessage `json:"tool_calls,omitempty"`
	FinishReason  string          `json:"finish_reason"`
	Model         string          `json:"model"`
	Provider      string          `json:"provider"`
	Usage         Usage           `json:"usage"`
	Attempts      int             `json:"attempts"`
	TTFBms        int64           `json:"ttfb_ms"`
	TotalMS       int64           `json:"total_ms"`
	Replayed      bool            `json:"replayed"`
	TraceID       string          `json:"trace_id"`
}

// Failure is the data of an error frame, and with Msg the body of a refusal.
type Failure struct {
	Code           Code           `json:"code"`
	Message        string         `json:"message"`
	Retryable      bool           `json:"retryable"`
	RetryAfterMS   int64          `json:"retry_after_ms,omitempty"`
	UpstreamStatus int            `json:"upstream_status,omitempty"`
	Details        map[string]any `json:"details,omitempty"`
	RequestID      string         `json:"request_id,omitempty"`
	TraceID        string         `json:"trace_id"`
}
