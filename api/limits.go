package api

import "time"

// Limits that both sides keep.
const (
	MaxFrame        = 32 << 10 // bytes of one SSE frame; some clients die at 64 KiB
	MaxDelta        = 24 << 10 // bytes of the JSON string of one delta
	MaxInlineAnswer = 16 << 10 // an answer whose JSON is longer is not repeated in chat.done
	MaxChatBody     = 1 << 20
	MaxMetadata     = 16 << 10
	MaxKey          = 255 // characters of an idempotency key
	MaxModel        = 128 // characters of a model's name
	MaxDepth        = 64  // nesting of a JSON body
	KeepaliveEvery  = 14 * time.Second
)

// Names of frames.
const (
	FrameReady     = "ready"
	FrameKeepalive = "keepalive"
	FrameDelta     = "chat.delta"
	FrameDone      = "chat.done"
	FrameError     = "error"
)

// Names of headers.
const (
	HeaderIdempotencyKey = "Idempotency-Key"
	HeaderReplayed       = "Idempotent-Replayed"
	HeaderTraceID        = "X-Trace-Id"
	HeaderRequestID      = "X-Request-Id"
	HeaderLastEventID    = "Last-Event-ID"
	HeaderErrorCode      = "sb-error-code"
)
