package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/trace"
)

// FuzzEventID: an id is taken if and only if it is the one form that the edge writes.
func FuzzEventID(f *testing.F) {
	const run = "0192f000-0000-7000-8000-00000000000a"
	for _, s := range []string{run + "-1-1", run + "-999999999-999999999", run + "-01-1", run + "-1-", run, strings.ToUpper(run) + "-2-3", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, at, err := eventID(s)
		if err != nil {
			if fault.From(err).Code != api.InvalidEventID || id != uuid.Nil || at.Attempt != 0 {
				t.Fatalf("%q: %v, %v, %v", s, id, at, err)
			}
			return
		}
		if again := fmt.Sprintf("%s-%d-%d", id, at.Attempt, at.Seq); again != strings.ToLower(s) || at.Attempt < 1 || at.Seq < 1 {
			t.Fatalf("%q was read as %s", s, again)
		}
	})
}

// FuzzIdempotencyKey: what is taken is visible ASCII of a bounded length, and its
// quoted form is the same key.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"k", `"k"`, `""`, `"`, "a b", "é", strings.Repeat("k", 256), `"` + strings.Repeat("k", 255) + `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := idempotencyKey(http.Header{api.HeaderIdempotencyKey: {s}})
		if err != nil {
			if fault.From(err).Code != api.InvalidIdempotencyKey || key != "" {
				t.Fatalf("%q: %q, %v", s, key, err)
			}
			return
		}
		if key == "" || len(key) > api.MaxKey || strings.ContainsFunc(key, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
			t.Fatalf("%q became %q", s, key)
		}
		quoted, err := idempotencyKey(http.Header{api.HeaderIdempotencyKey: {`"` + key + `"`}})
		if err != nil || quoted != key {
			t.Fatalf("%q quoted became %q, %v", key, quoted, err)
		}
	})
}

// FuzzTraceparent: a trace id is the caller's own only if it is well formed.
func FuzzTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "")
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01", "mine")
	f.Add("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a\r\nb")
	f.Fuzz(func(t *testing.T, parent, own string) {
		id := trace.FromHeader(http.Header{"Traceparent": {parent}, api.HeaderTraceID: {own}})
		if !trace.Valid(id) {
			t.Fatalf("%q", id)
		}
		if id != own && !strings.Contains(parent, id) && len(id) != 32 {
			t.Fatalf("%q and %q became %q", parent, own, id)
		}
	})
}

// FuzzForwardedFor: the address is the peer's or one that the header holds.
func FuzzForwardedFor(f *testing.F) {
	f.Add("203.0.113.9, 10.0.0.1")
	f.Add("' or 1=1")
	f.Add("::1%eth0,fe80::1")
	s := &Server{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	f.Fuzz(func(t *testing.T, forwarded string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "10.9.9.9:1234"
		r.Header["X-Forwarded-For"] = []string{forwarded}
		got := s.address(r)
		addr, err := netip.ParseAddr(got)
		if err != nil {
			t.Fatalf("%q became %q", forwarded, got)
		}
		if got != "10.9.9.9" && !strings.Contains(forwarded, ",") {
			want, err := netip.ParseAddr(strings.TrimSpace(forwarded))
			if err != nil || want.Unmap() != addr {
				t.Fatalf("%q became %q", forwarded, got)
			}
		}
	})
}
