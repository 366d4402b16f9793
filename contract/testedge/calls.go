package testedge

import (
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Secret is a JWT secret for tests.
const Secret = "a-secret-of-tests-with-at-least-32-bytes"

// Token makes a user's token, or with an empty subject one of a key of that role.
func Token(role, subject string) string {
	claims := jwt.MapClaims{"role": role, "exp": time.Now().Add(time.Hour).Unix()}
	if subject != "" {
		claims["sub"] = subject
	}
	return Sign(Secret, claims)
}

// Sign makes an HS256 token of any claims.
func Sign(secret string, claims jwt.MapClaims) string {
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil { // a byte slice always signs
		panic(err)
	}
	return s
}

// Call is one request. Header is "Name: value" lines.
type Call struct {
	Method string // POST with a body, else GET
	Path   string // empty: /functions/v1/chat
	Header []string
	Body   string
	Token  string
}

// Request makes the http.Request of a call.
func (e *Edge) Request(ctx context.Context, tb testing.TB, c Call) *http.Request {
	tb.Helper()
	if c.Path == "" {
		c.Path = "/functions/v1/chat"
	}
	if c.Method == "" {
		c.Method = http.MethodGet
		if c.Body != "" {
			c.Method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, e.URL+c.Path, strings.NewReader(c.Body))
	if err != nil {
		tb.Fatal(err)
	}
	if c.Body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	set := map[string]bool{}
	for _, line := range c.Header {
		name, value, _ := strings.Cut(line, ":")
		name, value = http.CanonicalHeaderKey(name), strings.TrimPrefix(value, " ")
		switch {
		case value == "-":
			req.Header.Del(name)
		case set[name]:
			req.Header[name] = append(req.Header[name], value)
		default:
			req.Header[name] = []string{value}
		}
		set[name] = true
	}
	return req
}

// Open sends a call and returns its response, whose body the caller closes.
func (e *Edge) Open(ctx context.Context, tb testing.TB, c Call) *http.Response {
	tb.Helper()
	res, err := e.HTTP.Do(e.Request(ctx, tb, c))
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

// Do sends a call and reads its response whole.
func (e *Edge) Do(tb testing.TB, c Call) (*http.Response, []byte) {
	tb.Helper()
	res := e.Open(tb.Context(), tb, c)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, body
}

// Stream sends a call that is answered by a stream, and reads it whole.
func (e *Edge) Stream(tb testing.TB, c Call) *Stream {
	tb.Helper()
	res, body := e.Do(tb, c)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		tb.Fatalf("%s %q: %s", res.Status, res.Header.Get("Content-Type"), body)
	}
	s, err := Parse(body)
	if err != nil {
		tb.Fatalf("%v\n%s", err, body)
	}
	return s
}

// JSON sends a call that is answered by a JSON object of the given status.
func (e *Edge) JSON(tb testing.TB, status int, c Call) map[string]any {
	tb.Helper()
	res, body := e.Do(tb, c)
	if res.StatusCode != status {
		tb.Fatalf("%s, want %d: %s", res.Status, status, body)
	}
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		tb.Fatalf("%v: %s", err, body)
	}
	return v
}

// Calls counts the requests that all providers got.
func (e *Edge) Calls() int {
	n := 0
	for _, m := range e.Mocks {
		n += m.Stats().Calls
	}
	return n
}

// Rows counts the rows of the tables that chats write.
func (e *Edge) Rows(tb testing.TB) map[string]int {
	tb.Helper()
	rows := map[string]int{}
	for _, table := range []string{"runs", "sessions", "messages", "bus_events", "rate_limits"} {
		n, err := strconv.Atoi(e.Query(tb, "select count(*) from "+table)[0])
		if err != nil {
			tb.Fatal(err)
		}
		rows[table] = n
	}
	return rows
}

// Query returns the text of every row's first column.
func (e *Edge) Query(tb testing.TB, query string, args ...any) []string {
	tb.Helper()
	if e.db == nil {
		db, err := sql.Open("sqlite", "file://"+e.file+"?mode=ro")
		if err != nil {
			tb.Fatal(err)
		}
		e.db = db
		e.later(func() { _ = db.Close() })
	}
	rows, err := e.db.Query(query, args...)
	if err != nil {
		tb.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			tb.Fatal(err)
		}
		list = append(list, s.String)
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return list
}
