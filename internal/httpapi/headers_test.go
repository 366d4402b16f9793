package httpapi_test

import (
	"strings"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// hello is a good request with further headers.
func hello(header ...string) testedge.Call {
	c := body(`{"content":"hi"}`)
	c.Header = append(c.Header, header...)
	return c
}

// typed is hello with another Content-Type.
func typed(value string) testedge.Call {
	c := hello()
	c.Header = []string{"Content-Type: " + value}
	return c
}

// headerRows are good bodies under headers good and bad.
func headerRows() []row {
	bad := func(name string, c testedge.Call, code api.Code) row {
		return row{name: name, call: c, status: code.Status(), code: code}
	}
	good := func(name string, c testedge.Call) row { return row{name: name, call: c, status: 200} }
	const trace = "0af7651916cd43dd8448eb211c80319c"
	return []row{
		good("application/json; charset=utf-8", typed("application/json; charset=UTF-8")),
		good("Application/JSON", typed("Application/JSON")),
		good("text/plain, as supabase-js sends strings", typed("text/plain")),
		good("text/plain;charset=UTF-8", typed("text/plain;charset=UTF-8")),
		bad("no Content-Type", typed("-"), api.UnsupportedMediaType),
		bad("a form", typed("application/x-www-form-urlencoded"), api.UnsupportedMediaType),
		bad("multipart", typed("multipart/form-data; boundary=x"), api.UnsupportedMediaType),
		bad("text/html", typed("text/html"), api.UnsupportedMediaType),
		bad("charset utf-16", typed("application/json; charset=utf-16"), api.UnsupportedMediaType),
		bad("a broken type", typed("application/json; charset"), api.UnsupportedMediaType),
		bad("gzip", hello("Content-Encoding: gzip"), api.UnsupportedEncoding),
		bad("br", hello("Content-Encoding: br"), api.UnsupportedEncoding),
		bad("identity, gzip", hello("Content-Encoding: identity, gzip"), api.UnsupportedEncoding),
		bad("identity and gzip", hello("Content-Encoding: identity", "Content-Encoding: gzip"), api.UnsupportedEncoding),
		good("identity", hello("Content-Encoding: identity")),
		bad("Accept text/html", hello("Accept: text/html"), api.NotAcceptable),
		bad("Accept image/*", hello("Accept: image/*, text/html;q=0.9"), api.NotAcceptable),
		good("Accept */*", hello("Accept: */*")),
		good("Accept text/event-stream", hello("Accept: text/event-stream")),
		good("Accept with weights", hello("Accept: text/html, application/json;q=0.9")),
		good("what supabase-js sends", hello("x-client-info: supabase-js/2.109.0; runtime=node", "x-region: us-east-1", "apikey: "+publishableKey, "Authorization: Bearer "+publishableKey)),

		bad("key empty", hello("Idempotency-Key: "), api.InvalidIdempotencyKey),
		bad("key of empty quotes", hello(`Idempotency-Key: ""`), api.InvalidIdempotencyKey),
		bad("key of 256 characters", hello("Idempotency-Key: "+strings.Repeat("k", 256)), api.InvalidIdempotencyKey),
		good("key of 255 characters", hello("Idempotency-Key: "+strings.Repeat("k", 255))),
		bad("key with a space", hello("Idempotency-Key: a b"), api.InvalidIdempotencyKey),
		bad("key with a tab", hello("Idempotency-Key: a\tb"), api.InvalidIdempotencyKey),
		bad("key of emoji", hello("Idempotency-Key: 🔑"), api.InvalidIdempotencyKey),
		bad("two keys", hello("Idempotency-Key: a", "Idempotency-Key: a"), api.InvalidIdempotencyKey),
		{name: "keys that differ", call: testedge.Call{Method: post, Header: []string{"Idempotency-Key: a"}, Body: `{"content":"hi","idempotency_key":"b"}`},
			status: 400, code: api.IdempotencyMismatch},
		{name: "a key is required", edge: "keyed", call: hello(), status: 400, code: api.IdempotencyKeyRequired,
			header: []string{`Link: <https://github.com/agentedge/agentedge/blob/main/docs/errors.md#idempotency_key_required>; rel="describedby"`}},
		{name: "a required key in the header", edge: "keyed", call: hello("Idempotency-Key: k1"), status: 200},
		{name: "a required key in the body", edge: "keyed", call: body(`{"content":"hi","idempotency_key":"k2"}`), status: 200},
		{name: "a request id is a key", edge: "keyed", call: body(`{"content":"hi","request_id":"0192f000-0000-7000-8000-0000000000bb"}`), status: 200},

		bad("Last-Event-ID garbage", hello("Last-Event-ID: 42"), api.InvalidEventID),
		bad("Last-Event-ID of 10 KB", hello("Last-Event-ID: "+strings.Repeat("1", 10<<10)), api.InvalidEventID),
		bad("Last-Event-ID without seq", hello("Last-Event-ID: 0192f000-0000-7000-8000-0000000000aa-1"), api.InvalidEventID),
		bad("Last-Event-ID with seq 0", hello("Last-Event-ID: 0192f000-0000-7000-8000-0000000000aa-1-0"), api.InvalidEventID),
		bad("Last-Event-ID unknown", hello("Last-Event-ID: 0192f000-0000-7000-8000-0000000000aa-1-1"), api.StreamNotFound),

		{name: "a traceparent's trace id", call: hello("traceparent: 00-" + trace + "-b7ad6b7169203331-01"), status: 200, header: []string{"X-Trace-Id: " + trace}},
		{name: "a trace id of the caller's", call: hello("X-Trace-Id: my-trace_1"), status: 200, header: []string{"X-Trace-Id: my-trace_1"}},
		good("a trace id of 1 KB", hello("X-Trace-Id: "+strings.Repeat("t", 1<<10))),
		good("a trace id with spaces", hello("X-Trace-Id: a b")),
		good("a malformed traceparent", hello("traceparent: 00-zz-zz-zz")),
		good("a header nobody knows", hello("X-Sb-Anything: ' or 1=1")),
		good("unknown query parameters", testedge.Call{Path: "/chat?forceFunctionRegion=us-east-1&x=%00", Body: `{"content":"hi"}`}),
	}
}

// pathRows are methods and paths.
func pathRows() []row {
	const id = "0192f000-0000-7000-8000-0000000000aa"
	get := func(path string) testedge.Call { return testedge.Call{Path: path} }
	by := func(method, path string) testedge.Call { return testedge.Call{Method: method, Path: path} }
	not := func(c testedge.Call, allow string) row {
		return row{name: c.Method + " " + c.Path, call: c, status: 405, code: api.MethodNotAllowed, header: []string{"Allow: " + allow}}
	}
	return []row{
		not(by("GET", "/chat"), "POST, OPTIONS"),
		not(by("GET", "/chat?stream=true"), "POST, OPTIONS"),
		not(by("PUT", "/chat"), "POST, OPTIONS"),
		not(by("PATCH", "/chat"), "POST, OPTIONS"),
		not(by("DELETE", "/chat"), "POST, OPTIONS"),
		not(by("TRACE", "/chat"), "POST, OPTIONS"),
		not(by("BREW", "/chat"), "POST, OPTIONS"),
		not(by("DELETE", "/chat/"+id), "GET, OPTIONS"),
		not(by("GET", "/chat/"+id+"/cancel"), "POST, OPTIONS"),
		not(by("POST", "/chat/healthz"), "GET, HEAD, OPTIONS"),
		{name: "405 comes before 401", edge: "strict", call: by("PUT", "/chat"), status: 405, code: api.MethodNotAllowed},
		{name: "unknown function", call: get("/nothing"), status: 404, code: api.NotFound, says: []string{"Requested function was not found"}},
		{name: "unknown subpath", call: get("/chat/a/b/c"), status: 404, code: api.NotFound},
		{name: "a slash too many", call: by("POST", "/chat/"), status: 404, code: api.NotFound},
		{name: "a double slash", call: by("POST", "//chat"), status: 404, code: api.NotFound},
		{name: "a dot", call: by("POST", "/./chat"), status: 404, code: api.NotFound},
		{name: "two dots", call: get("/chat/../livez"), status: 404, code: api.NotFound},
		{name: "preflight of two dots", call: by("OPTIONS", "/chat/.."), status: 204},
		{name: "a function that is off", edge: "off", call: hello(), status: 404, code: api.NotFound},
		{name: "a run that is no UUID", call: get("/chat/abc"), status: 404, code: api.StreamNotFound},
		{name: "a run of a NUL", call: get("/chat/%00"), status: 404, code: api.StreamNotFound},
		{name: "a run of SQL", call: get("/chat/'%20or%201=1--"), status: 404, code: api.StreamNotFound},
		{name: "a run that nobody has", call: get("/chat/" + id), status: 404, code: api.StreamNotFound},
		{name: "a stream that nobody has", call: get("/chat/" + id + "?stream=true"), status: 404, code: api.StreamNotFound},
		{name: "a cancel of what nobody has", call: by("POST", "/chat/"+id+"/cancel"), status: 404, code: api.StreamNotFound},
		{name: "a run as a URN", call: get("/chat/urn:uuid:" + id), status: 404, code: api.StreamNotFound},
		{name: "an escaped dot path", call: get("/chat/%2e%2e%2f" + id), status: 404, code: api.NotFound},
		{name: "a URL of 9 KiB", call: testedge.Call{Path: "/chat?x=" + strings.Repeat("a", 9<<10), Body: `{"content":"hi"}`}, status: 414, code: api.URITooLong},
		{name: "healthz", call: get("/chat/healthz"), status: 200, says: []string{`"status":"ok"`}},
		{name: "healthz needs no credential", edge: "strict", call: get("/chat/healthz"), status: 200},
	}
}

// corsRows are what browsers ask before they ask, and what they read of errors.
func corsRows() []row {
	preflight := func(path string, header ...string) testedge.Call {
		return testedge.Call{Method: "OPTIONS", Path: path, Header: append([]string{
			"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization, idempotency-key",
		}, header...)}
	}
	own := []string{"Access-Control-Allow-Origin: https://app.example", "Vary: Origin"}
	none := []string{"Access-Control-Allow-Origin", "Vary: Origin"}
	any := []string{"Access-Control-Allow-Origin: *", "Vary"}
	methods := "Access-Control-Allow-Methods: GET, POST, PUT, PATCH, DELETE, OPTIONS"
	return []row{
		{name: "preflight", call: preflight("/chat", "Origin: https://any.example"), status: 204,
			header: append(any, methods, "Access-Control-Max-Age: 86400")},
		{name: "preflight without a credential", edge: "strict", call: preflight("/chat", "Origin: https://any.example"), status: 204, header: any},
		{name: "preflight of a run", call: preflight("/chat/abc/cancel"), status: 204, header: any},
		{name: "preflight of nothing", call: preflight("/nothing"), status: 204, header: any},
		{name: "an answer to a browser", call: hello("Origin: https://any.example"), status: 200, header: any},
		{name: "a refusal to a browser", call: typed("text/html"), status: 415, code: api.UnsupportedMediaType, header: any},
		{name: "401 to a browser", edge: "strict", call: hello("Origin: https://any.example"), status: 401, code: api.NoAuthHeader, header: any},
		{name: "preflight of a listed origin", edge: "origins", call: preflight("/chat", "Origin: https://app.example"), status: 204, header: append(own, methods)},
		{name: "preflight of another origin", edge: "origins", call: preflight("/chat", "Origin: https://evil.example"), status: 403, code: api.OriginNotAllowed, header: none},
		{name: "preflight of a longer origin", edge: "origins", call: preflight("/chat", "Origin: https://app.example.evil"), status: 403, code: api.OriginNotAllowed, header: none},
		{name: "preflight of origin null", edge: "origins", call: preflight("/chat", "Origin: null"), status: 403, code: api.OriginNotAllowed, header: none},
		{name: "an answer to a listed origin", edge: "origins", call: hello("Origin: https://app.example"), status: 200, header: own},
		{name: "an answer to another origin", edge: "origins", call: hello("Origin: https://evil.example"), status: 200, header: none},
		{name: "an answer to no browser", edge: "origins", call: hello(), status: 200, header: none},
		{name: "a refusal to a listed origin", edge: "origins", call: testedge.Call{Path: "/nothing", Header: []string{"Origin: https://app.example"}},
			status: 404, code: api.NotFound, header: own},
	}
}
