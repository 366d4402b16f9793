package strictjson

import (
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns the string that a member's value is, false if it is none.
func Text(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	s := string(raw[1 : len(raw)-1])
	for i := range len(s) {
		if s[i] == '\\' {
			return string(appendUnescaped(make([]byte, 0, len(s)), s)), true
		}
	}
	return s, true
}

// appendUnescaped appends what the inside of a string literal stands for. The
// literal was parsed: its escapes are whole and its surrogates are in pairs.
func appendUnescaped(dst []byte, s string) []byte {
	for len(s) > 0 {
		r, width := nextRune(s)
		if r < 0 {
			dst = append(dst, s[:width]...)
		} else {
			dst = utf8.AppendRune(dst, r)
		}
		s = s[width:]
	}
	return dst
}

// nextRune returns the character of the escape that s begins with, or -1 for a
// stretch without escapes, and how long it is.
func nextRune(s string) (r rune, width int) {
	if s[0] != '\\' || len(s) < 2 {
		width = 1
		for width < len(s) && s[width] != '\\' {
			width++
		}
		return -1, width
	}
	switch s[1] {
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
		unit, _ := hex4(s)
		if !utf16.IsSurrogate(unit) {
			return unit, min(6, len(s))
		}
		low, _ := hex4(s[min(6, len(s)):])
		return utf16.DecodeRune(unit, low), min(12, len(s))
	default: // quote, backslash, slash
		return rune(s[1]), 2
	}
}
