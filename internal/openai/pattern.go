package openai

import (
	"bytes"
	"unicode/utf8"
)

// A pattern is what the chunks of one answer have in common: most differ in their
// content alone. A chunk that stands between the same bytes as one that was
// decoded, and whose content needs no decoding, says the same but for that
// content, and need not be decoded again.
type pattern struct {
	before, after []byte // up to and with the opening quote; from the closing one on
}

// match returns the content of a chunk that fits the pattern, in data.
func (p *pattern) match(data []byte) (content []byte, ok bool) {
	n := len(data) - len(p.before) - len(p.after)
	if n <= 0 || len(p.before) == 0 || !bytes.HasPrefix(data, p.before) || !bytes.HasSuffix(data, p.after) {
		return nil, false
	}
	content = data[len(p.before) : len(p.before)+n]
	ascii := true
	for _, b := range content {
		if b < 0x20 || b == '"' || b == '\\' {
			return nil, false
		}
		ascii = ascii && b < utf8.RuneSelf
	}
	return content, ascii || utf8.Valid(content)
}

// learn takes a decoded chunk for the pattern, if its content is all that it says.
func (p *pattern) learn(data []byte, c *chunk) {
	d := &c.choice.delta
	if c.to-c.from < 3 || c.choice.finish != "" || c.usage != nil || len(c.failed) > 0 ||
		d.Reasoning != "" || d.ToolCalls != nil || d.Text != string(data[c.from+1:c.to-1]) {
		return
	}
	p.before = append(p.before[:0], data[:c.from+1]...)
	p.after = append(p.after[:0], data[c.to-1:]...)
}
