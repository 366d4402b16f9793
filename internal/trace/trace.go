// Package trace names the calls that pass through the edge. A trace id is the 32
// hex digits of a W3C traceparent where the caller sends one, the caller's own
// X-Trace-Id where that is well formed, and a fresh one otherwise.
package trace

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/agentedge/agentedge/api"
)

// maxID bounds a caller's own trace id.
const maxID = 64

// NewID makes a trace id of 32 hex digits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}

// FromHeader returns the trace id of a request. What is malformed is replaced,
// never refused and never repeated.
func FromHeader(h http.Header) string {
	if id, ok := parent(h.Get("Traceparent")); ok {
		return id
	}
	if id := h.Get(api.HeaderTraceID); Valid(id) {
		return id
	}
	return NewID()
}

// Valid tells whether a caller's id may stand in headers, logs and rows.
func Valid(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// parent takes the trace id out of a traceparent: version-traceid-spanid-flags.
func parent(v string) (string, bool) {
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || v[:2] == "ff" || len(v) > 55 && (v[:2] == "00" || v[55] != '-') {
		return "", false
	}
	id := v[3:35]
	if !lowerHex(v[:2]) || !lowerHex(id) || !lowerHex(v[36:52]) || !lowerHex(v[53:55]) {
		return "", false
	}
	if strings.Trim(id, "0") == "" || strings.Trim(v[36:52], "0") == "" {
		return "", false
	}
	return id, true
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
