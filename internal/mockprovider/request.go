package mockprovider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const maxBody = 64 << 20

// A Request is one call as the mock read it.
type Request struct {
	Call   int // its number on this server, from 1
	Path   string
	Header http.Header
	Body   []byte
	Model  string

	// Of a chat.
	Stream       bool
	IncludeUsage bool
	JSONMode     bool // response_format asks for JSON
	Messages     []Message
	Tools        []string // names of the offered tools
	User         string   // the last user message without directives

	// Of an embeddings request.
	Inputs     []string // without directives
	Dimensions int      // 0: the server's
	Base64     bool

	directives []string
}

// A Message is one message of a chat, its text parts joined.
type Message struct{ Role, Text string }

type chatBody struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	ResponseFormat struct {
		Type string `json:"type"`
	} `json:"response_format"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
}

func readBody(r *http.Request) (*Request, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(body) > maxBody {
		return nil, errors.New("body too large")
	}
	return &Request{Path: r.URL.Path, Header: r.Header, Body: body}, nil
}

func readChat(r *http.Request) (*Request, error) {
	req, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var body chatBody
	if err := json.Unmarshal(req.Body, &body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if len(body.Messages) == 0 {
		return nil, errors.New("messages: none")
	}
	req.Model, req.Stream, req.IncludeUsage = body.Model, body.Stream, body.StreamOptions.IncludeUsage
	req.JSONMode = strings.HasPrefix(body.ResponseFormat.Type, "json")
	last := -1
	for i, m := range body.Messages {
		text, err := contentText(m.Content)
		if err != nil {
			return nil, fmt.Errorf("messages[%d].content: %w", i, err)
		}
		req.Messages = append(req.Messages, Message{m.Role, text})
		if m.Role == "user" {
			last = i
		}
	}
	if last >= 0 {
		req.User, req.directives = extract(req.Messages[last].Text)
	}
	for _, t := range body.Tools {
		req.Tools = append(req.Tools, t.Function.Name)
	}
	return req, nil
}

// contentText reads a string, null, or an array of parts, of which it joins
// those that have text.
func contentText(raw json.RawMessage) (string, error) {
	switch {
	case len(raw) == 0 || bytes.Equal(raw, []byte("null")):
		return "", nil
	case raw[0] == '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", err
	}
	texts := make([]string, 0, len(parts))
	for _, p := range parts {
		if p.Text != "" {
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, " "), nil
}

func readEmbed(r *http.Request) (*Request, error) {
	req, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Model          string          `json:"model"`
		Input          json.RawMessage `json:"input"`
		Dimensions     int             `json:"dimensions"`
		EncodingFormat string          `json:"encoding_format"`
	}
	if err := json.Unmarshal(req.Body, &body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if body.Dimensions < 0 || body.Dimensions > 1<<16 {
		return nil, errors.New("dimensions: out of range")
	}
	inputs, err := inputTexts(body.Input)
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	req.Model, req.Dimensions, req.Base64 = body.Model, body.Dimensions, body.EncodingFormat == "base64"
	for _, text := range inputs {
		clean, directives := extract(text)
		req.Inputs = append(req.Inputs, clean)
		req.directives = append(req.directives, directives...)
	}
	return req, nil
}

// inputTexts reads a text, an array of texts, an array of tokens or an array of
// those. Tokens stand for themselves: their JSON is the text.
func inputTexts(raw json.RawMessage) ([]string, error) {
	if len(raw) > 0 && raw[0] == '"' {
		text, err := contentText(raw)
		return []string{text}, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("none")
	}
	if c := items[0][0]; c == '-' || c >= '0' && c <= '9' {
		return []string{string(raw)}, nil
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = string(item)
		if item[0] == '"' {
			if err := json.Unmarshal(item, &texts[i]); err != nil {
				return nil, err
			}
		}
	}
	return texts, nil
}
