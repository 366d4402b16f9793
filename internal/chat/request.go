package chat

import (
	"bytes"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/strictjson"
)

// Request is what a caller asks for, checked. Its JSON is stored with the run, so
// that any node can work on it; the content is stored once, as the user's message.
type Request struct {
	Content  json.RawMessage            `json:"-"` // a string or OpenAI content parts, as it came
	Model    string                     `json:"model"`
	System   string                     `json:"system,omitempty"`
	Params   map[string]json.RawMessage `json:"params,omitempty"` // under OpenAI's names
	Metadata json.RawMessage            `json:"metadata,omitempty"`
	Stream   bool                       `json:"stream"`
}

// stored is the request's JSON. Its raw members have been checked already.
func (r *Request) stored() json.RawMessage {
	o := object(nil).str("model", r.Model).bool("stream", r.Stream)
	if r.System != "" {
		o = o.str("system", r.System)
	}
	if len(r.Params) > 0 {
		params := object(nil)
		for _, name := range slices.Sorted(maps.Keys(r.Params)) {
			params = params.raw(name, r.Params[name])
		}
		o = o.raw("params", params.end())
	}
	return o.raw("metadata", r.Metadata).end()
}

// Body is a parsed request with what identifies it beside its content.
type Body struct {
	Request
	Text      string    // content as plain text: the parts' texts, joined
	SessionID uuid.UUID // zero: a new session
	RequestID uuid.UUID // zero: the edge makes one
	Key       string    // idempotency_key of the body
	Members   []strictjson.Member
}

// Rules bound what a request may ask.
type Rules struct {
	MaxChars int      // of content, in characters
	Model    string   // the default
	Models   []string // allowed names or path.Match patterns; none: any well-formed name
	Service  bool     // the caller is the service role
}

// Parse checks the members of a chat request one by one and refuses what it does
// not know by name.
func Parse(members []strictjson.Member, rules Rules) (*Body, error) {
	b := &Body{Members: members}
	b.Stream = true
	b.Model = rules.Model
	for _, m := range members {
		if bytes.Equal(m.Raw, []byte("null")) && m.Name != "content" {
			if !knownField(m.Name) {
				return nil, unknownField(m.Name)
			}
			continue
		}
		if err := b.set(m, rules); err != nil {
			return nil, err
		}
	}
	if b.Content == nil {
		return nil, fault.New(api.EmptyContent, "content is required").With("field", "content")
	}
	if err := checkModel(b.Model, rules.Models); err != nil {
		return nil, err
	}
	return b, nil
}

func knownField(name string) bool {
	switch name {
	case "session_id", "content", "model", "idempotency_key", "stream", "request_id", "metadata", "system":
		return true
	}
	return paramCheck(name) != nil
}

func unknownField(name string) error {
	e := fault.New(api.UnknownField, "the request has a field that this endpoint does not know")
	if len(name) <= 64 && utf8.ValidString(name) {
		e = e.With("field", name)
	}
	return e
}

func invalidType(field, want string) error {
	return fault.New(api.InvalidType, "%s must be %s", field, want).With("field", field)
}

func (b *Body) set(m strictjson.Member, rules Rules) error {
	switch m.Name {
	case "content":
		return b.setContent(m.Raw, rules.MaxChars)
	case "session_id":
		return setID(&b.SessionID, m, api.InvalidSessionID)
	case "request_id":
		return setID(&b.RequestID, m, api.InvalidRequestID)
	case "model":
		return setString(&b.Model, m)
	case "idempotency_key":
		return setString(&b.Key, m)
	case "stream":
		if json.Unmarshal(m.Raw, &b.Stream) != nil {
			return invalidType("stream", "true or false")
		}
		return nil
	case "metadata":
		return b.setMetadata(m.Raw)
	case "system":
		if !rules.Service {
			return fault.New(api.RoleNotAllowed, "only the service role may set system")
		}
		return setString(&b.System, m)
	}
	check := paramCheck(m.Name)
	if check == nil {
		return unknownField(m.Name)
	}
	if why := check(m.Raw); why != "" {
		return fault.New(api.InvalidParameter, "%s must be %s", m.Name, why).With("field", m.Name)
	}
	if b.Params == nil {
		b.Params = map[string]json.RawMessage{}
	}
	b.Params[m.Name] = m.Raw
	return nil
}

func setString(dst *string, m strictjson.Member) error {
	s, ok := strictjson.Text(m.Raw)
	if !ok {
		return invalidType(m.Name, "a string")
	}
	*dst = s
	return nil
}

// setID takes the canonical form of a UUID and nothing else.
func setID(dst *uuid.UUID, m strictjson.Member, code api.Code) error {
	s, ok := strictjson.Text(m.Raw)
	if !ok || len(s) != 36 {
		return fault.New(code, "%s must be a UUID", m.Name).With("field", m.Name)
	}
	id, err := uuid.Parse(s)
	if err != nil || id == uuid.Nil {
		return fault.New(code, "%s must be a UUID", m.Name).With("field", m.Name)
	}
	*dst = id
	return nil
}

func (b *Body) setMetadata(raw json.RawMessage) error {
	if raw[0] != '{' {
		return invalidType("metadata", "an object")
	}
	if len(raw) > api.MaxMetadata {
		return fault.New(api.MetadataTooLarge, "metadata is larger than %d bytes", api.MaxMetadata)
	}
	b.Metadata = raw
	return nil
}

func (b *Body) setContent(raw json.RawMessage, maxChars int) error {
	switch raw[0] {
	case '"':
		b.Text, _ = strictjson.Text(raw)
	case '[':
		text, err := partsText(raw)
		if err != nil {
			return err
		}
		b.Text = text
	default:
		return invalidType("content", "a string or an array of content parts")
	}
	b.Content = raw
	if raw[0] == '"' && strings.TrimSpace(b.Text) == "" {
		return fault.New(api.EmptyContent, "content is empty").With("field", "content")
	}
	if n := utf8.RuneCountInString(b.Text); n > maxChars {
		return fault.New(api.ContentTooLong, "content has %d characters, more than %d", n, maxChars).With("field", "content")
	}
	return nil
}

// partsText checks OpenAI's content parts and joins the texts among them.
func partsText(raw json.RawMessage) (string, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", invalidType("content", "a string or an array of content parts")
	}
	if len(parts) == 0 {
		return "", fault.New(api.EmptyContent, "content has no parts").With("field", "content")
	}
	var texts []string
	useful := false
	for _, p := range parts {
		kind, text, err := readPart(p)
		if err != nil {
			return "", err
		}
		if kind == "text" {
			texts = append(texts, text)
		}
		useful = useful || kind != "text" || strings.TrimSpace(text) != ""
	}
	if !useful {
		return "", fault.New(api.EmptyContent, "content is empty").With("field", "content")
	}
	return strings.Join(texts, "\n"), nil
}

// readPart reads a part by the exact names of its members: encoding/json would
// take a TEXT beside the text, and count another text than the provider reads.
func readPart(raw json.RawMessage) (kind, text string, err error) {
	members, err := strictjson.Parse(raw, strictjson.Limits{Depth: api.MaxDepth})
	if err != nil {
		return "", "", invalidType("content", "a string or an array of content parts")
	}
	hasText := false
	for _, m := range members {
		switch m.Name {
		case "type":
			kind, _ = strictjson.Text(m.Raw)
		case "text":
			text, hasText = strictjson.Text(m.Raw)
		}
	}
	switch {
	case kind == "text" && !hasText:
		return "", "", invalidType("content", "parts whose text is a string")
	case kind == "text", kind == "image_url", kind == "input_audio", kind == "file":
		return kind, text, nil
	}
	return "", "", invalidType("content", "parts of type text, image_url, input_audio or file")
}

// checkModel takes a well-formed name that the configured list allows. What it
// refuses never reaches a provider.
func checkModel(name string, allowed []string) error {
	ok := wellFormedModel(name)
	if ok && len(allowed) > 0 {
		ok = false
		for _, pattern := range allowed {
			if hit, err := path.Match(pattern, name); err == nil && hit || pattern == name {
				ok = true
				break
			}
		}
	}
	if !ok {
		return fault.New(api.ModelNotAllowed, "this model is not allowed here").With("field", "model")
	}
	return nil
}

func wellFormedModel(name string) bool {
	if name == "" || len(name) > api.MaxModel || strings.Contains(name, "..") {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && strings.IndexByte("._:/@+-", c) >= 0:
		default:
			return false
		}
	}
	return true
}
