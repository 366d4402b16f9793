// Package sse encodes and decodes text/event-stream. It owns the wire's bytes
// and no HTTP: who sends what and when is for others to say. The encoder writes
// the subset that every known parser reads alike (LF, at most one field of a
// kind per frame, exactly one data line); the decoder reads all that the WHATWG
// standard allows and tells a stream that was cut off from one that ended.
package sse

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"
)

// Text is what a field's value may be given as.
type Text interface{ ~string | ~[]byte }

// AppendFrame appends one frame. An empty id or event leaves its line out. data
// is compact JSON; it makes exactly one data line whatever it holds, and nothing
// in id, event or data can end the frame early or begin another: a line break in
// data is written as a space, which JSON reads alike, and one in the others (or
// NUL, which readers refuse in an id) as an underscore.
func AppendFrame[I, E Text](dst []byte, id I, event E, data []byte) []byte {
	if len(id) > 0 {
		dst = append(dst, "id: "...)
		dst = appendField(dst, id)
	}
	if len(event) > 0 {
		dst = append(dst, "event: "...)
		dst = appendField(dst, event)
	}
	dst = append(dst, "data: "...)
	from := len(dst)
	dst = append(dst, data...)
	OneLine(dst[from:])
	return append(dst, '\n', '\n')
}

// AppendRetry appends the line that sets a reader's reconnection time. It does
// not end a frame: the one appended next carries it.
func AppendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, max(d.Milliseconds(), 0), 10)
	return append(dst, '\n')
}

func appendField[T Text](dst []byte, value T) []byte {
	from := len(dst)
	dst = append(dst, value...)
	for _, c := range [...]byte{'\n', '\r', 0} {
		replace(dst[from:], c, '_')
	}
	return append(dst, '\n')
}

// OneLine makes compact JSON that a caller has put behind "data: " one line: what
// AppendFrame does to its data.
func OneLine(data []byte) {
	replace(data, '\n', ' ')
	replace(data, '\r', ' ')
}

// replace overwrites c, which hardly ever occurs.
func replace(b []byte, c, by byte) {
	for i := bytes.IndexByte(b, c); i >= 0; i = bytes.IndexByte(b, c) {
		b[i] = by
		b = b[i+1:]
	}
}

// AppendString appends s as a compact JSON string: no HTML escapes, control
// characters and U+2028 and U+2029 escaped, invalid UTF-8 as U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[from:i]...)
			dst = appendEscape(dst, c)
			i++
			from = i
			continue
		}
		r, width := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && width == 1:
			dst = append(append(dst, s[from:i]...), "\ufffd"...)
			from = i + width
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[from:i]...), `\u202`...)
			dst = append(dst, '0'+byte(r&0xf))
			from = i + width
		}
		i += width
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// appendEscape appends the escape of a quote, a backslash or a control character.
func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
}
