// Package record holds the rows that travel through the run mechanism without
// being understood by it: what a chat or an embed job wants stored in the same
// transaction as its run. Stores know their columns; nothing here has behaviour.
package record

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Sources of a usage figure.
const (
	Measured  = "measured"  // the provider's own numbers
	Estimated = "estimated" // counted by the edge because the provider gave none
)

// States of a message.
const (
	StatusComplete    = "complete"
	StatusCancelled   = "cancelled"   // the answer up to the stop
	StatusInterrupted = "interrupted" // the answer up to a crash
	StatusFailed      = "failed"      // the answer up to a provider's failure
)

// Usage counts tokens.
type Usage struct {
	PromptTokens     int    `json:"prompt_tokens"`
	CompletionTokens int    `json:"completion_tokens"`
	TotalTokens      int    `json:"total_tokens"`
	Source           string `json:"source"` // measured or estimated
}

// Message is one row of messages. Owner is the user's id (the JWT's sub), empty
// for a run that no user owns; the store takes the session's owner where a
// service acts in a user's session.
type Message struct {
	ID        uuid.UUID
	SessionID uuid.UUID
	RunID     uuid.UUID // column request_id
	Owner     string
	Role      string // system, user, assistant, tool
	Content   string
	Parts     json.RawMessage // OpenAI content parts as the caller sent them, nil for plain text
	ToolCalls json.RawMessage // nil for none
	Model     string
	Provider  string
	Usage     *Usage
	Status    string
	TraceID   string
	CreatedAt time.Time // set by the store
}

// Event is one row of bus_events. Data holds ids, durations and counts, never
// prompt text.
type Event struct {
	ID        uuid.UUID // column event_id
	Type      string    // chat_started, chat_done, chat_failed, provider_retry, …
	TraceID   string
	RunID     uuid.UUID
	SessionID uuid.UUID // zero for none
	Owner     string
	Data      json.RawMessage
	CreatedAt time.Time // set by the store
}
