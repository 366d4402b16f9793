// Package strictjson reads request bodies. It owns the grammar: one pass that
// refuses what encoding/json lets through (duplicate names, names that differ in
// case only, lone surrogates, invalid UTF-8, trailing data, bottomless nesting),
// since two readers that see different requests in one body are how checks are
// bypassed, and NUL, which PostgreSQL cannot store. It knows no field: which
// names and values a request may have is its endpoint's matter.
package strictjson

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// Limits bounds what is read. The size of the body is the caller's to bound.
type Limits struct {
	Depth int // of nested objects and arrays, the body's object being 1; 0: 64
}

const defaultDepth = 64

// Member is one member of the body's object. Raw is the value's JSON, a slice
// of the body without the whitespace around it.
type Member struct {
	Name string
	Raw  json.RawMessage
}

// Parse returns the members of the one object that body must be, in their order.
// An error is a *fault.Error whose details hold the offset of the byte that was
// refused and, where its name is harmless, the field it belongs to; its message
// never holds anything of the body.
func Parse(body []byte, limits Limits) ([]Member, error) {
	if limits.Depth <= 0 {
		limits.Depth = defaultDepth
	}
	p := parser{s: string(body), max: limits.Depth}
	p.space()
	if p.i == len(p.s) {
		return nil, p.fail(api.InvalidJSON, "the body is empty")
	}
	object := p.s[p.i] == '{'
	var members []Member
	var err error
	if object {
		members, err = p.members(body)
	} else {
		err = p.value()
	}
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i < len(p.s) {
		return nil, p.fail(api.InvalidJSON, "the body goes on after its JSON value")
	}
	if !object {
		return nil, fault.New(api.InvalidRequest, "the body must be a JSON object")
	}
	return members, nil
}

// parser walks over s. names holds the names of the objects around i, each
// object's behind those of the one around it, so that a body needs one slice.
type parser struct {
	s     string
	i     int
	depth int
	max   int
	names []string
	field string // the top-level member that i is in
}

func (p *parser) fail(code api.Code, message string) *fault.Error {
	e := fault.New(code, "%s", message).With("offset", p.i)
	if harmless(p.field) {
		e.With("field", p.field)
	}
	return e
}

// harmless tells whether a caller's name may be repeated to it.
func harmless(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end of the body.
func (p *parser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *parser) descend() error {
	p.depth++
	if p.depth > p.max {
		return p.fail(api.TooDeep, "the body is nested too deeply")
	}
	p.i++
	p.space()
	return nil
}

// members reads the body's object.
func (p *parser) members(body []byte) ([]Member, error) {
	members := make([]Member, 0, 8)
	err := p.object(func(name string, start int) {
		members = append(members, Member{Name: name, Raw: body[start:p.i:p.i]})
	})
	return members, err
}

// object reads an object and reports its members; each is nil for inner ones.
func (p *parser) object(each func(name string, start int)) error {
	if err := p.descend(); err != nil {
		return err
	}
	seen := nameSet{parser: p, base: len(p.names)}
	if p.peek() == '}' {
		return p.ascend(seen.base)
	}
	for {
		name, err := p.name(&seen)
		if err != nil {
			return err
		}
		if each != nil {
			p.field = name
		}
		start := p.i
		if err := p.value(); err != nil {
			return err
		}
		if each != nil {
			each(name, start)
			p.field = ""
		}
		p.space()
		switch p.peek() {
		case ',':
			p.i++
			p.space()
		case '}':
			return p.ascend(seen.base)
		default:
			return p.fail(api.InvalidJSON, "a comma or the end of an object is missing")
		}
	}
}

// name reads a member's name and the colon after it.
func (p *parser) name(seen *nameSet) (string, error) {
	if p.peek() != '"' {
		return "", p.fail(api.InvalidJSON, "the name of a member is missing")
	}
	start := p.i
	escaped, err := p.str()
	if err != nil {
		return "", err
	}
	name := p.s[start+1 : p.i-1]
	if escaped {
		name = string(appendUnescaped(nil, name))
	}
	if seen.add(name) {
		if p.depth == 1 {
			p.field = name
		}
		p.i = start
		return "", p.fail(api.DuplicateField, "a field occurs twice in one object")
	}
	p.space()
	if p.peek() != ':' {
		return "", p.fail(api.InvalidJSON, "a colon is missing")
	}
	p.i++
	p.space()
	return name, nil
}

// ascend leaves an object whose names began at base.
func (p *parser) ascend(base int) error {
	p.names = p.names[:base]
	p.depth--
	p.i++
	return nil
}

func (p *parser) array() error {
	if err := p.descend(); err != nil {
		return err
	}
	if p.peek() == ']' {
		return p.ascend(len(p.names))
	}
	for {
		if err := p.value(); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.i++
			p.space()
		case ']':
			return p.ascend(len(p.names))
		default:
			return p.fail(api.InvalidJSON, "a comma or the end of an array is missing")
		}
	}
}

func (p *parser) value() error {
	switch c := p.peek(); {
	case c == '"':
		_, err := p.str()
		return err
	case c == '{':
		return p.object(nil)
	case c == '[':
		return p.array()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	}
	for _, literal := range [...]string{"true", "false", "null"} {
		if strings.HasPrefix(p.s[p.i:], literal) {
			p.i += len(literal)
			return nil
		}
	}
	return p.notValue()
}

// notValue names the two mistakes that senders make where a value should be.
func (p *parser) notValue() error {
	for _, literal := range [...]string{"NaN", "Infinity", "-Infinity"} {
		if strings.HasPrefix(p.s[p.i:], literal) {
			return p.fail(api.InvalidParameter, "NaN and Infinity are no JSON numbers")
		}
	}
	if p.i == len(p.s) {
		return p.fail(api.InvalidJSON, "the body ends within its JSON value")
	}
	return p.fail(api.InvalidJSON, "a value is missing or malformed")
}

func (p *parser) number() error {
	end := scanNumber(p.s, p.i)
	if end < 0 {
		return p.notValue()
	}
	p.i = end
	return nil
}

// scanNumber returns the end of the number at i, -1 if there is none.
func scanNumber(s string, i int) int {
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	default:
		if i = digits(s, i); i < 0 {
			return -1
		}
	}
	if i < len(s) && s[i] == '.' {
		if i = digits(s, i+1); i < 0 {
			return -1
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return digits(s, i)
	}
	return i
}

// digits returns the end of the digits at i, -1 if there is none.
func digits(s string, i int) int {
	start := i
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// str reads a string literal and tells whether it holds escapes.
func (p *parser) str() (escaped bool, err error) {
	p.i++
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return escaped, nil
		case c == '\\':
			escaped = true
			if err := p.escape(); err != nil {
				return false, err
			}
		case c < 0x20:
			return false, p.fail(api.InvalidJSON, "a string holds a raw control character")
		case c < utf8.RuneSelf:
			p.i++
		default:
			r, width := utf8.DecodeRuneInString(p.s[p.i:])
			if r == utf8.RuneError && width == 1 {
				return false, p.fail(api.InvalidUnicode, "a string is not valid UTF-8")
			}
			p.i += width
		}
	}
	return false, p.fail(api.InvalidJSON, "the body ends within a string")
}

// escape reads one escape sequence, both halves of a surrogate pair together.
func (p *parser) escape() error {
	rest := p.s[p.i:]
	if len(rest) > 1 && strings.IndexByte(`"\/bfnrt`, rest[1]) >= 0 {
		p.i += 2
		return nil
	}
	unit, ok := hex4(rest)
	switch {
	case !ok:
		return p.fail(api.InvalidJSON, "a string holds a malformed escape")
	case unit == 0:
		return p.fail(api.InvalidCharacter, "a string holds the character U+0000")
	case unit < 0xD800 || unit > 0xDFFF:
		p.i += 6
		return nil
	}
	low, ok := hex4(rest[6:])
	if unit > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
		return p.fail(api.InvalidUnicode, "a string holds half of a surrogate pair")
	}
	p.i += 12
	return nil
}

// hex4 decodes the \uXXXX that s begins with.
func hex4(s string) (unit rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for i := 2; i < 6; i++ {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			unit = unit<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			unit = unit<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return unit, true
}
