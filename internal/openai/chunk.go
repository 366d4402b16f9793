package openai

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/record"
)

var (
	errMalformed = errors.New("malformed JSON")
	errCut       = errors.New("malformed JSON: it ends too early")
)

// The member of a choice that holds the answer: of a chunk, of a whole answer.
const (
	deltaMember   = "delta"
	messageMember = "message"
)

// A chunk is what the edge wants of one chat.completion.chunk, or of one whole
// chat.completion. Members it does not name are checked and forgotten. Its tokens
// and raw values lie in the decoded bytes and live as long as these.
type chunk struct {
	model  token
	usage  *record.Usage // nil: none, or figures that cannot be
	failed []byte        // the member error, raw; nil for none
	object token
	choice choice
	from   int // where the content of the last delta stands, quotes included
	to     int // 0: it has none, or none that is a string
}

// A choice is choice 0: the only one that counts, as nobody asks for more.
type choice struct {
	present bool
	answer  bool // it has a delta (or message), however empty
	finish  string
	delta   chat.Delta
}

// decodeChunk reads one JSON object. What it takes is what encoding/json would
// yield, the last of members of the same name included; only names match exactly.
func decodeChunk(data []byte, member string) (chunk, error) {
	s := scanner{data: data}
	var c chunk
	for ok := s.enter('{'); ok && s.member(); {
		switch string(s.name) {
		case "choices":
			c.choice = s.choices(member)
		case "model":
			c.model = s.optional()
		case "object":
			c.object = s.optional()
		case "usage":
			c.usage = s.usage()
		case "error":
			c.failed = s.raw()
		default:
			s.skip()
		}
	}
	switch {
	case s.end():
		c.from, c.to = s.from, s.to
		return c, nil
	case s.cut:
		return chunk{}, errCut
	default:
		return chunk{}, errMalformed
	}
}

// choices returns the first choice of index 0.
func (s *scanner) choices(member string) choice {
	var zero choice
	if s.null() {
		return zero
	}
	for ok := s.enter('['); ok && s.next(']'); {
		c, index := s.oneChoice(member)
		if index == 0 && !zero.present {
			zero = c
		}
	}
	return zero
}

func (s *scanner) oneChoice(member string) (choice, int) {
	if s.null() {
		return choice{}, 0
	}
	c, index := choice{present: true}, 0
	for ok := s.enter('{'); ok && s.member(); {
		switch string(s.name) {
		case member:
			c.delta, c.answer = s.delta()
		case "finish_reason":
			c.finish = s.text()
		case "index":
			index = s.index()
		default:
			s.skip()
		}
	}
	return c, index
}

// delta reads a delta or a message. A refusal is text to whoever reads it. Some
// servers send their reasoning under both of its names, others one part of text
// per kind.
func (s *scanner) delta() (chat.Delta, bool) {
	if s.null() {
		return chat.Delta{}, false
	}
	var d chat.Delta
	var partsReasoning, reasoning, refusal string
	for ok := s.enter('{'); ok && s.member(); {
		switch string(s.name) {
		case "content":
			d.Text, partsReasoning = s.content()
		case "refusal":
			refusal = s.optional().text()
		case "reasoning_content":
			d.Reasoning = s.optional().text()
		case "reasoning":
			reasoning = s.optional().text()
		case "tool_calls":
			d.ToolCalls = s.toolCalls()
		default:
			s.skip()
		}
	}
	d.Text += refusal
	for _, other := range []string{reasoning, partsReasoning} {
		if d.Reasoning == "" {
			d.Reasoning = other
		}
	}
	return d, !s.bad
}

func (s *scanner) content() (text, reasoning string) {
	s.from, s.to = 0, 0
	switch s.peek() {
	case '[':
	case '"':
		s.from = s.pos
		text = s.text()
		s.to = s.pos
		return text, ""
	default:
		return s.text(), ""
	}
	raw := s.raw()
	if s.bad {
		return "", ""
	}
	text, reasoning, err := joinParts(raw)
	if err != nil {
		s.fail()
	}
	return text, reasoning
}

// joinParts reads content that is an array: parts of type text, and of type
// thinking, which hold parts of text in turn.
func joinParts(raw []byte) (text, reasoning string, err error) {
	var parts []struct {
		Type     string          `json:"type"`
		Text     json.RawMessage `json:"text"`
		Thinking json.RawMessage `json:"thinking"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", "", err
	}
	for _, p := range parts {
		switch p.Type {
		case "text":
			s := scanner{data: p.Text}
			text += s.optional().text()
		case "thinking":
			s := scanner{data: p.Thinking}
			if s.peek() != '[' {
				reasoning += s.optional().text()
				continue
			}
			inner, _, err := joinParts(p.Thinking)
			if err != nil {
				return "", "", err
			}
			reasoning += inner
		}
	}
	return text, reasoning, nil
}

func (s *scanner) toolCalls() json.RawMessage {
	if s.null() {
		return nil
	}
	if s.peek() != '[' {
		s.fail()
		return nil
	}
	from := s.pos
	count := 0
	if s.enter('[') {
		for s.next(']') {
			s.skip()
			count++
		}
	}
	if s.bad || count == 0 {
		return nil
	}
	return clean(s.data[from:s.pos])
}

// text reads a string or null, and fails at anything else.
func (s *scanner) text() string {
	if s.null() {
		return ""
	}
	return s.str().text()
}

// optional reads a string and passes over anything else.
func (s *scanner) optional() token {
	if s.peek() == '"' {
		return s.str()
	}
	s.skip()
	return token{}
}

func (s *scanner) index() int {
	n, err := strconv.Atoi(string(s.raw()))
	if err != nil {
		return 0
	}
	return n
}

// maxUsage is more than any model can read or write in one call; a provider that
// says more is not believed.
const maxUsage = 1_000_000_000

func (s *scanner) usage() *record.Usage {
	if s.peek() != '{' {
		s.skip()
		return nil
	}
	u := record.Usage{Source: record.Measured}
	for ok := s.enter('{'); ok && s.member(); {
		switch string(s.name) {
		case "prompt_tokens":
			u.PromptTokens = s.count()
		case "completion_tokens":
			u.CompletionTokens = s.count()
		case "total_tokens":
			u.TotalTokens = s.count()
		default:
			s.skip()
		}
	}
	sum := u.PromptTokens + u.CompletionTokens
	if u.PromptTokens < 0 || u.CompletionTokens < 0 || u.TotalTokens < 0 || sum == 0 {
		return nil
	}
	// A total beyond the sum counts reasoning apart; one below it is missing or wrong.
	u.TotalTokens = max(u.TotalTokens, sum)
	return &u
}

// count reads a number of tokens: 0 for null, -1 for what cannot be one.
func (s *scanner) count() int {
	raw := s.raw()
	if raw == nil {
		return 0
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < 0 || n > maxUsage {
		return -1
	}
	return n
}
