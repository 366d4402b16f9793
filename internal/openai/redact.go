package openai

import (
	"strings"
	"unicode/utf8"
)

const (
	maxMessage = 1 << 10
	minSecret  = 4 // a shorter key guards nothing, and is part of many words
	redacted   = "[redacted]"
	masked     = "*******" // a secret by isSecret
)

// validKey tells whether key can stand in a header.
func validKey(key string) bool {
	return strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// redact returns at most 1 KiB of what a provider said, on one line, without the
// key of the call and without anything that looks like a secret: what follows
// Bearer, words with a known prefix, words that are partly masked, and long runs
// of letters and digits. It would rather take too much.
func redact(text, key string) string {
	if len(key) >= minSecret {
		text = strings.ReplaceAll(text, key, masked)
	}
	if len(text) > 4*maxMessage {
		text = text[:4*maxMessage]
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	var b strings.Builder
	word, bearer := 0, false
	flush := func(end int) {
		w := text[word:end]
		if w == "" {
			return
		}
		if bearer || isSecret(w) {
			b.WriteString(redacted)
		} else {
			b.WriteString(w)
		}
		bearer = strings.EqualFold(w, "bearer")
	}
	for i, r := range text {
		if isWordRune(r) {
			continue
		}
		flush(i)
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		b.WriteRune(r)
		word = i + utf8.RuneLen(r)
	}
	flush(len(text))
	return shorten(strings.TrimSpace(b.String()))
}

// shorten cuts at a rune's start.
func shorten(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	end := maxMessage
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func isWordRune(r rune) bool {
	switch {
	case r >= '0' && r <= '9', r|0x20 >= 'a' && r|0x20 <= 'z':
		return true
	default:
		return strings.ContainsRune("_-.*+/~", r) || r == '…' || r == '•'
	}
}

func isSecret(word string) bool {
	word = strings.Trim(word, ".")
	for _, prefix := range []string{"sk-", "sk_", "pk-", "sb_", "gsk_", "hf_", "xai-", "AIza", "eyJ", "r8_", "nvapi-", "pplx-", "fw_", "key-", "csk-"} {
		if strings.HasPrefix(word, prefix) && len(word) >= len(prefix)+4 {
			return true
		}
	}
	if strings.Contains(word, "***") || strings.ContainsAny(word, "…•") {
		return len(word) > 6
	}
	return longestRun(word) >= 24
}

// longestRun returns the length of word's longest run of letters and digits that
// holds both. Names of models have their digits apart, behind dashes or dots.
func longestRun(word string) int {
	longest := 0
	for _, run := range strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune("_-.*+/~…•", r) }) {
		if strings.ContainsAny(run, "0123456789") && strings.IndexFunc(run, func(r rune) bool { return r > '9' }) >= 0 {
			longest = max(longest, len(run))
		}
	}
	return longest
}
