package trace

import (
	"net/http"
	"strings"
	"testing"
)

func TestFromHeader(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	good := "00-" + id + "-00f067aa0ba902b7-01"
	for _, c := range []struct {
		name, parent, own, want string // want "" : a fresh id
	}{
		{"traceparent", good, "", id},
		{"traceparent before own", good, "mine", id},
		{"own", "", "mine_1-A", "mine_1-A"},
		{"future version", "01-" + id + "-00f067aa0ba902b7-01-extra", "", id},
		{"version ff", "ff" + good[2:], "", ""},
		{"upper case", strings.ToUpper(good), "", ""},
		{"zero trace", "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", "", ""},
		{"zero span", "00-" + id + "-0000000000000000-01", "", ""},
		{"tail in version 00", good + "-x", "", ""},
		{"short", good[:54], "", ""},
		{"own with spaces", "", "a b", ""},
		{"own with CR LF", "", "a\r\nX: y", ""},
		{"own too long", "", strings.Repeat("a", 65), ""},
		{"none", "", "", ""},
	} {
		h := http.Header{}
		if c.parent != "" {
			h.Set("Traceparent", c.parent)
		}
		if c.own != "" {
			h.Set("X-Trace-Id", c.own)
		}
		got := FromHeader(h)
		if c.want != "" && got != c.want || !Valid(got) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if c.want == "" && (got == c.own || len(got) != 32) {
			t.Errorf("%s: got %q, want a fresh id", c.name, got)
		}
	}
}
