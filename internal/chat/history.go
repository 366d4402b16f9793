package chat

import (
	"encoding/json"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/tokens"
)

// bytesPerToken bounds what the store is asked for: a token is rarely longer.
const bytesPerToken = 6

// messages puts the call's messages together: the system message, as much of the
// session as HistoryTokens allow, newest turns first in line, and the new content.
func (w *turn) messages(history []record.Message) []Message {
	var list []Message
	if w.req.System != "" {
		list = append(list, Message{Role: "system", Content: quoted(w.req.System)})
	}
	for _, m := range newest(history, w.cfg.HistoryTokens) {
		list = append(list, Message{Role: m.Role, Content: contentOf(m)})
	}
	return append(list, Message{Role: "user", Content: w.req.Content})
}

// newest returns the longest tail of a history that fits the budget and does not
// begin in the middle of a turn. What pictures cost in tokens only their provider
// knows: of content parts there are no more bytes than one request may have.
func newest(history []record.Message, budget int) []record.Message {
	start, room := len(history), api.MaxChatBody
	for i := len(history) - 1; i >= 0; i-- {
		budget -= tokens.Estimate(history[i].Content)
		room -= len(history[i].Parts)
		if budget < 0 || room < 0 {
			break
		}
		if history[i].Role == "user" {
			start = i
		}
	}
	return history[start:]
}

// contentOf is a stored message as a provider gets it. An assistant's tool calls
// are left out: without the tools' answers no provider would take them.
func contentOf(m record.Message) json.RawMessage {
	if m.Role == "user" && len(m.Parts) > 0 {
		return m.Parts
	}
	return quoted(m.Content)
}

func quoted(s string) json.RawMessage {
	data, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return json.RawMessage(`""`)
	}
	return data
}
