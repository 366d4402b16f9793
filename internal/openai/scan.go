package openai

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is far beyond any chunk's nesting and keeps the scanner's stack small.
const maxDepth = 256

// A scanner walks one JSON text without building anything, as strict as
// encoding/json about what it passes over. The first malformed byte makes it fail
// for good: every further call does nothing, and loops over members end.
type scanner struct {
	data  []byte
	pos   int
	depth int
	fresh bool // just behind an opening bracket
	bad   bool
	cut   bool // it failed because the text ended
	name  []byte
	from  int // see chunk
	to    int
}

// A token is what stands between the quotes of a string, still in the scanned
// bytes. plain says that they are the text as they are.
type token struct {
	raw   []byte
	plain bool
}

func (s *scanner) fail() {
	if !s.bad {
		s.bad, s.cut = true, s.pos >= len(s.data)
	}
	s.pos = len(s.data)
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// end fails unless only white space is left, and tells whether all was well.
func (s *scanner) end() bool {
	s.peek()
	if s.pos < len(s.data) {
		s.fail()
	}
	return !s.bad
}

// enter consumes an opening bracket, { or [.
func (s *scanner) enter(open byte) bool {
	if s.bad || s.peek() != open || s.depth == maxDepth {
		s.fail()
		return false
	}
	s.pos++
	s.depth++
	s.fresh = true
	return true
}

// member goes to the next member of the object entered last and leaves its name
// in s.name and the scanner before its value, which the caller has to consume.
// It returns false behind the closing brace.
func (s *scanner) member() bool {
	if !s.next('}') {
		return false
	}
	name := s.str()
	if s.peek() != ':' {
		s.fail()
		return false
	}
	s.pos++
	s.name = name.raw
	if !name.plain {
		s.name = []byte(name.text())
	}
	return !s.bad
}

// next goes to the next element of the array, or the next name of the object,
// entered last. It returns false behind the closing bracket.
func (s *scanner) next(closing byte) bool {
	if s.bad {
		return false
	}
	c := s.peek()
	if c == closing {
		s.pos++
		s.depth--
		s.fresh = false
		return false
	}
	if !s.fresh {
		if c != ',' {
			s.fail()
			return false
		}
		s.pos++
	}
	s.fresh = false
	return true
}

// skip consumes any one value.
func (s *scanner) skip() {
	switch s.peek() {
	case '{':
		for ok := s.enter('{'); ok && s.member(); {
			s.skip()
		}
	case '[':
		for ok := s.enter('['); ok && s.next(']'); {
			s.skip()
		}
	case '"':
		s.str()
	case 'n':
		s.literal("null")
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	default:
		s.number()
	}
}

// raw consumes any one value and returns its bytes, nil for null.
func (s *scanner) raw() []byte {
	if s.peek() == 'n' {
		s.literal("null")
		return nil
	}
	from := s.pos
	s.skip()
	if s.bad {
		return nil
	}
	return s.data[from:s.pos]
}

func (s *scanner) literal(word string) {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		s.pos = min(s.pos+len(word), len(s.data))
		s.fail()
		return
	}
	s.pos += len(word)
}

// null consumes a null if there is one.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.literal("null")
	return true
}

func (s *scanner) number() {
	s.accept('-')
	if !s.accept('0') && s.digits() == 0 {
		s.fail()
		return
	}
	if s.accept('.') && s.digits() == 0 {
		s.fail()
		return
	}
	if s.accept('e') || s.accept('E') {
		_ = s.accept('+') || s.accept('-')
		if s.digits() == 0 {
			s.fail()
		}
	}
}

func (s *scanner) accept(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) digits() int {
	from := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos - from
}

// str consumes a string.
func (s *scanner) str() token {
	if s.peek() != '"' {
		s.fail()
		return token{}
	}
	s.pos++
	from, plain := s.pos, true
	for i := from + plainRun(s.data[from:]); i < len(s.data); i++ {
		c := s.data[i]
		switch {
		case c == '"':
			s.pos = i + 1
			return token{s.data[from:i], plain}
		case c == '\\':
			plain = false
			n := escapeLen(s.data[i:])
			if n == 0 {
				s.pos = i
				if len(s.data)-i < len(`\uFFFF`) {
					s.pos = len(s.data) // perhaps only cut
				}
				s.fail()
				return token{}
			}
			i += n - 1
		case c >= utf8.RuneSelf:
			plain = false
		case c < ' ':
			s.pos = i
			s.fail()
			return token{}
		}
	}
	s.pos = len(s.data)
	s.fail()
	return token{}
}

// plainRun returns how many bytes at the start of b, in steps of eight, are ASCII
// and mean nothing within a string: neither a quote, a backslash nor a control
// character, which all set the high bit of their byte here.
func plainRun(b []byte) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, backslash := x^each*'"', x^each*'\\'
		if (x|(x-each*' ')|(quote-each)|(backslash-each))&high != 0 {
			break
		}
	}
	return i
}

// escapeLen returns how long the escape at the start of b is, 0 for none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

// text returns the string that a token means. What PostgreSQL cannot store does
// not come through: NUL, lone surrogates and broken UTF-8 become U+FFFD (the
// latter two by encoding/json's rule, the first by ours).
func (t token) text() string {
	if t.plain || (bytes.IndexByte(t.raw, '\\') < 0 && utf8.Valid(t.raw)) {
		return string(t.raw)
	}
	out := make([]byte, 0, len(t.raw))
	for b := t.raw; len(b) > 0; {
		var r rune
		var n int
		if b[0] == '\\' {
			r, n = unescape(b)
		} else {
			r, n = utf8.DecodeRune(b)
		}
		out = utf8.AppendRune(out, r)
		b = b[n:]
	}
	return string(out)
}

// unescape returns the rune of the valid escape at the start of b, two escapes
// for a surrogate pair, and its length.
func unescape(b []byte) (rune, int) {
	switch b[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return rune(b[1]), 2
	}
	r, _ := hex4(b[2:])
	if r == 0 {
		return utf8.RuneError, 6
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		low, _ := hex4(b[8:])
		if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
			return both, 12
		}
	}
	return utf8.RuneError, 6
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// clean copies a scanned JSON value, without line ends between its tokens and
// with its strings mended as text mends them: tool calls are stored as they came,
// and PostgreSQL refuses such escapes and bytes in JSON too.
func clean(raw []byte) json.RawMessage {
	if utf8.Valid(raw) && !bytes.Contains(raw, []byte(`\u`)) && !bytes.ContainsAny(raw, "\r\n") {
		return bytes.Clone(raw)
	}
	out := make([]byte, 0, len(raw))
	for b := raw; len(b) > 0; {
		n := 1
		switch c := b[0]; {
		case c == '\n' || c == '\r': // never within a string
		case c >= utf8.RuneSelf:
			var r rune
			r, n = utf8.DecodeRune(b)
			out = utf8.AppendRune(out, r)
		case c == '\\':
			var r rune
			if r, n = unescape(b); r == utf8.RuneError {
				out = utf8.AppendRune(out, r)
			} else {
				out = append(out, b[:n]...)
			}
		default:
			out = append(out, c)
		}
		b = b[n:]
	}
	return out
}
