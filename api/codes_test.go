package api

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// statuses is the contract: what every code is as a refusal, and whether the same
// request may be sent again.
var statuses = map[string][]Code{
	"400": {
		InvalidJSON, InvalidRequest, DuplicateField, UnknownField, TooDeep, InvalidUnicode, InvalidCharacter, EmptyContent, InvalidType,
		InvalidParameter, InvalidSessionID, InvalidRequestID, MetadataTooLarge, ModelNotAllowed, InvalidIdempotencyKey, IdempotencyMismatch,
		IdempotencyKeyRequired, InvalidEventID,
	},
	"401":       {NoAuthHeader, InvalidJWTFormat, InvalidJWT, UnsupportedAlgorithm},
	"403":       {RoleNotAllowed, OriginNotAllowed},
	"404":       {SessionNotFound, NotFound, StreamNotFound},
	"405":       {MethodNotAllowed},
	"406":       {NotAcceptable},
	"408 again": {RequestTimeout},
	"409":       {Cancelled},
	"410":       {StreamExpired},
	"413":       {ContentTooLong, BodyTooLarge},
	"414":       {URITooLong},
	"415":       {UnsupportedMediaType, UnsupportedEncoding},
	"422":       {IdempotencyReused, RequestIDInUse},
	"429 again": {QuotaExceeded, TooManyStreams},
	"500":       {ConfigError},
	"500 again": {Internal},
	"502":       {UpstreamAuth, UpstreamModelNotFound, UpstreamRejected, UpstreamRedirect},
	"502 again": {UpstreamRateLimited, UpstreamUnavailable, UpstreamBadResponse, UpstreamTruncated},
	"503 again": {ServerDraining, StorageUnavailable, PersistFailed, Overloaded, SlowReader, Interrupted},
	"504 again": {UpstreamTimeout},
}

func TestCodes(t *testing.T) {
	known := map[string]bool{}
	for status, codes := range statuses {
		number, again := strings.CutSuffix(status, " again")
		for _, c := range codes {
			if known[string(c)] {
				t.Errorf("%s is there twice", c)
			}
			known[string(c)] = true
			if strconv.Itoa(c.Status()) != number || c.Retryable() != again {
				t.Errorf("%s is %d, retryable %v, and should be %s", c, c.Status(), c.Retryable(), status)
			}
		}
	}
	for _, c := range declared(t) {
		if !known[c] {
			t.Errorf("%s has no line in this test", c)
		}
	}
	if c := Code("of_tomorrow"); c.Status() != 400 || c.Retryable() {
		t.Errorf("an unknown code is %d", c.Status())
	}
}

// declared are the codes in the source, each with a value of its own.
func declared(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, value)
		}
		return true
	})
	if len(list) < 50 {
		t.Fatalf("%d codes found", len(list))
	}
	return list
}

// TestShapes writes the frames' data as they travel: names, order, and what is
// left out when there is none.
func TestShapes(t *testing.T) {
	text := "hi"
	for _, c := range []struct {
		value any
		want  string
	}{
		{Ready{}, `{"trace_id":"","request_id":"","session_id":"","attempt":0,"model":"","resumed":false,"retry_ms":0}`},
		{Delta{}, `{"request_id":"","seq":0,"attempt":0,"delta":"","trace_id":""}`},
		{Delta{Reset: true, Reasoning: "r", ToolCalls: json.RawMessage(`[]`)}, `{"request_id":"","seq":0,"attempt":0,"delta":"","reset":true,"reasoning":"r","tool_calls":[],"trace_id":""}`},
		{Done{}, `{"request_id":"","message_id":"","session_id":"","content_bytes":0,"content_sha256":"","finish_reason":"","model":"","provider":"",` +
			`"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"source":""},"attempts":0,"ttfb_ms":0,"total_ms":0,"replayed":false,"trace_id":""}`},
		{Done{Content: &text}.Content, `"hi"`},
		{Failure{}, `{"code":"","message":"","retryable":false,"trace_id":""}`},
		{ChatRequest{Content: "hi"}, `{"content":"hi"}`},
	} {
		got, err := json.Marshal(c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("%T: %v\n%s\nwant\n%s", c.value, err, got, c.want)
		}
		back := reflect.New(reflect.TypeOf(c.value))
		if err := json.Unmarshal(got, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), c.value) {
			t.Errorf("%T does not come back: %v %+v", c.value, err, back.Elem())
		}
	}
}

// TestLimits: what fits a delta fits a frame, with all that stands around it.
func TestLimits(t *testing.T) {
	if around := MaxFrame - MaxDelta; around < 1024 {
		t.Errorf("%d bytes are left around a delta", around)
	}
	if around := MaxFrame - MaxInlineAnswer; around < 4096 {
		t.Errorf("%d bytes are left around an answer in chat.done", around)
	}
}
