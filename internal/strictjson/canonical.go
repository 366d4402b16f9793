package strictjson

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Canonical appends the one form that equal requests share, for fingerprints:
// names sorted at every level, no whitespace, a character escaped only where it
// must be and in one way, numbers equal in value written alike. Top-level
// members for which drop is true are left out; drop may be nil. The members are
// as Parse returned them.
func Canonical(dst []byte, members []Member, drop func(name string) bool) []byte {
	c := canon{dst: dst}
	open := len(c.dst)
	c.dst = append(c.dst, '{')
	for _, m := range members {
		if drop != nil && drop(m.Name) {
			continue
		}
		start := len(c.dst)
		c.dst = appendQuotedRaw(c.dst, m.Name)
		c.spans = append(c.spans, span{start: start, name: len(c.dst)})
		c.dst = append(c.dst, ':')
		c.s, c.i = string(m.Raw), 0
		c.value()
		c.spans[len(c.spans)-1].end = len(c.dst)
		c.dst = append(c.dst, ',')
	}
	c.sort(open+1, 0)
	c.close('}')
	return c.dst
}

// canon rewrites s into dst. spans are the members written so far of the objects
// around i, as stretches of dst: an object is sorted once it is complete.
type canon struct {
	s       string
	i       int
	dst     []byte
	spans   []span
	scratch []byte
}

// span is one member in dst: its quoted name ends at name, its value at end.
type span struct{ start, name, end int }

func (c *canon) value() {
	c.space()
	if c.i >= len(c.s) {
		return
	}
	switch c.s[c.i] {
	case '{':
		c.object()
	case '[':
		c.array()
	case '"':
		c.str()
	case 't', 'n':
		c.literal(4)
	case 'f':
		c.literal(5)
	default:
		end := max(scanNumber(c.s, c.i), c.i+1)
		c.dst = appendNumber(c.dst, c.s[c.i:end])
		c.i = end
	}
	c.space()
}

func (c *canon) space() {
	for c.i < len(c.s) && strings.IndexByte(" \t\r\n", c.s[c.i]) >= 0 {
		c.i++
	}
}

func (c *canon) literal(width int) {
	end := min(c.i+width, len(c.s))
	c.dst = append(c.dst, c.s[c.i:end]...)
	c.i = end
}

// inside tells whether the container that ends with end goes on.
func (c *canon) inside(end byte) bool {
	c.space()
	return c.i < len(c.s) && c.s[c.i] != end
}

// skip passes over the byte b, if it is the next.
func (c *canon) skip(b byte) {
	c.space()
	if c.i < len(c.s) && c.s[c.i] == b {
		c.i++
	}
}

func (c *canon) array() {
	c.i++
	c.dst = append(c.dst, '[')
	for c.inside(']') {
		c.value()
		c.dst = append(c.dst, ',')
		c.skip(',')
	}
	c.skip(']')
	c.close(']')
}

func (c *canon) object() {
	c.i++
	c.dst = append(c.dst, '{')
	first, mine := len(c.dst), len(c.spans)
	for c.inside('}') {
		start := len(c.dst)
		c.str()
		c.spans = append(c.spans, span{start: start, name: len(c.dst)})
		own := len(c.spans) - 1
		c.skip(':')
		c.dst = append(c.dst, ':')
		c.value()
		c.spans[own].end = len(c.dst)
		c.dst = append(c.dst, ',')
		c.skip(',')
	}
	c.sort(first, mine)
	c.skip('}')
	c.close('}')
}

// close ends a container whose last element may have left a comma.
func (c *canon) close(b byte) {
	if last := len(c.dst) - 1; c.dst[last] == ',' {
		c.dst[last] = b
		return
	}
	c.dst = append(c.dst, b)
}

// sort puts the members c.spans[mine:], which fill dst from first on, into the
// order of their names and forgets them.
func (c *canon) sort(first, mine int) {
	spans := c.spans[mine:]
	c.spans = c.spans[:mine]
	order := func(a, b span) int {
		return bytes.Compare(c.dst[a.start:a.name], c.dst[b.start:b.name])
	}
	if slices.IsSortedFunc(spans, order) {
		return
	}
	slices.SortFunc(spans, order)
	c.scratch = c.scratch[:0]
	for _, s := range spans {
		c.scratch = append(c.scratch, c.dst[s.start:s.end]...)
		c.scratch = append(c.scratch, ',')
	}
	copy(c.dst[first:], c.scratch)
}

// str rewrites the string literal at i.
func (c *canon) str() {
	end := c.i + 1
	escaped := false
	for end < len(c.s) && c.s[end] != '"' {
		if c.s[end] == '\\' {
			escaped = true
			end++
		}
		end++
	}
	end = min(end, len(c.s))
	inside := c.s[min(c.i+1, end):end]
	c.i = min(end+1, len(c.s))
	c.dst = append(c.dst, '"')
	if !escaped {
		c.dst = append(append(c.dst, inside...), '"')
		return
	}
	for len(inside) > 0 {
		r, width := nextRune(inside)
		if r < 0 {
			c.dst = append(c.dst, inside[:width]...)
		} else {
			c.dst = appendRune(c.dst, r)
		}
		inside = inside[min(width, len(inside)):]
	}
	c.dst = append(c.dst, '"')
}

// appendQuotedRaw appends the literal of an unescaped string.
func appendQuotedRaw(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		if b := s[i]; b < 0x20 || b == '"' || b == '\\' {
			dst = append(dst, s[from:i]...)
			dst = appendRune(dst, rune(b))
			from = i + 1
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// appendRune appends a character of a string in its one form.
func appendRune(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r < 0x20:
		return append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
	default:
		return append(dst, string(r)...)
	}
}

// appendNumber appends a JSON number as digits without leading or trailing
// zeros and a power of ten: 1, 1.0, 10e-1 are "1"; 100 is "1e2". It is exact for
// any number of digits. An exponent beyond 18 digits is left as it was written.
func appendNumber(dst []byte, s string) []byte {
	mantissa, exponent := s, ""
	if e := strings.IndexAny(s, "eE"); e >= 0 {
		mantissa, exponent = s[:e], strings.TrimPrefix(s[e+1:], "+")
	}
	power := int64(0)
	if exponent != "" {
		var err error
		power, err = strconv.ParseInt(exponent, 10, 64)
		if err != nil || power >= 1e18 || power <= -1e18 {
			return append(dst, s...)
		}
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	fraction = strings.TrimRight(fraction, "0")
	power -= int64(len(fraction))
	if fraction == "" {
		trimmed := strings.TrimRight(whole, "0")
		power += int64(len(whole) - len(trimmed))
		whole = trimmed
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		fraction = strings.TrimLeft(fraction, "0")
	}
	if whole == "" && fraction == "" {
		return append(dst, '0')
	}
	if negative {
		dst = append(dst, '-')
	}
	dst = append(append(dst, whole...), fraction...)
	if power != 0 {
		dst = strconv.AppendInt(append(dst, 'e'), power, 10)
	}
	return dst
}
