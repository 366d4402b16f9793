package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

const (
	allowHeaders = "authorization, x-client-info, apikey, content-type, x-retry-count, x-region, traceparent, tracestate, baggage, " +
		"idempotency-key, last-event-id, x-signature, x-timestamp, x-nonce, x-signature-key-id, x-trace-id, x-request-id, accept, cache-control"
	allowMethods  = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
	exposeHeaders = "sb-error-code, x-trace-id, x-request-id, idempotent-replayed, retry-after, ratelimit, ratelimit-policy, deprecation, sunset, link"
)

// cors sets the headers that browsers need on every response, errors included,
// and answers preflights. It reports whether the request is answered.
func (s *Server) cors(w http.ResponseWriter, r *request) (done bool) {
	h := w.Header()
	origin := r.Header.Get("Origin")
	allowed := true
	if s.anyOrigin {
		h["Access-Control-Allow-Origin"] = anyOrigin
	} else {
		h.Add("Vary", "Origin")
		allowed = slices.Contains(s.cfg.CORSOrigins, origin)
		if origin != "" && allowed {
			h.Set("Access-Control-Allow-Origin", origin)
		}
	}
	h["Access-Control-Expose-Headers"] = expose
	if r.Method != http.MethodOptions {
		return false
	}
	if origin != "" && !allowed {
		s.fail(w, r, fault.New(api.OriginNotAllowed, "this origin is not allowed"))
		return true
	}
	h.Set("Access-Control-Allow-Headers", allowHeaders)
	h.Set("Access-Control-Allow-Methods", allowMethods)
	h.Set("Access-Control-Max-Age", "86400")
	bound(w)
	w.WriteHeader(http.StatusNoContent)
	return true
}

// Header values that many responses share; they are never changed.
var (
	anyOrigin = []string{"*"}
	expose    = []string{exposeHeaders}
)

// takesAny tells whether the configured origins are all there are.
func takesAny(origins []string) bool {
	return len(origins) == 0 || slices.ContainsFunc(origins, func(o string) bool { return strings.TrimSpace(o) == "*" })
}
