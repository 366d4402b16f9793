package mockprovider_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/agentedge/agentedge/internal/mockprovider"
)

// Every fault of a stream, as its bytes. The script is three words after the
// mark: four deltas.
func TestStreamFaultsOnTheWire(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	const end = "0\r\n\r\n"
	for _, c := range []struct {
		fault  string
		head   string // of the answer
		deltas int    // "content":"word" members seen
		tail   string // of the answer
		reset  bool
		lacks  string
		has    string
	}{
		{fault: "rst", reset: true, lacks: "HTTP"},
		{fault: "rst@0", head: "HTTP/1.1 200", reset: true, lacks: "data:"},
		{fault: "rst@2", head: "HTTP/1.1 200", deltas: 2, reset: true, lacks: end},
		{fault: "rst@99", head: "HTTP/1.1 200", deltas: 4, reset: true, lacks: `"stop"`},
		{fault: "fin", lacks: "HTTP"},
		{fault: "fin@0", head: "HTTP/1.1 200", tail: "\r\n\r\n", lacks: end},
		{fault: "fin@3", head: "HTTP/1.1 200", deltas: 3, tail: "}\n\n\r\n", lacks: end},
		{fault: "end@3", head: "HTTP/1.1 200", deltas: 3, tail: "}\n\n\r\n" + end, lacks: `"stop"`},
		{fault: "cut@2", head: "HTTP/1.1 200", deltas: 2, tail: "\r\nff\r\ndata: {\"id\":\"chatcmpl-mock\",\"cho"},
		{fault: "badchunk@2", head: "HTTP/1.1 200", deltas: 2, tail: "\r\nzz\r\ndata: {}\n\n\r\n"},
		{fault: "error-frame@2", deltas: 2, tail: `data: {"error":{"message":"[mock] the provider failed","type":"server_error","param":null,"code":"server_error"}}` + "\n\n\r\n" + end, lacks: "[DONE]"},
		{fault: "error-frame", deltas: 0, tail: "}}\n\n\r\n" + end, lacks: "assistant"},
		{fault: "badjson@1", deltas: 4, tail: "data: [DONE]\n\n\r\n" + end, has: `{"content":"bro` + "\n\n"},
		{fault: "giant@1 size=100KB", deltas: 4, tail: "data: [DONE]\n\n\r\n" + end, has: strings.Repeat("x", 8000)},
		{fault: "badutf8@1", deltas: 4, tail: end, has: "{\"content\":\"\xff\xc3\"}"},
		{fault: "surrogate@1", deltas: 4, tail: end, has: `{"content":"\ud83d"}`},
		{fault: "no-done", deltas: 4, tail: `"total_tokens":`, lacks: "[DONE]"},
		{fault: "no-finish", deltas: 4, tail: "data: [DONE]\n\n\r\n" + end, lacks: `"stop"`},
		{fault: "no-finish,no-done,no-usage", deltas: 4, tail: `"finish_reason":null}],"usage":null}` + "\n\n\r\n" + end},
		{fault: "no-usage", deltas: 4, tail: "data: [DONE]\n\n\r\n" + end, lacks: "total_tokens"},
		{fault: "no-role", deltas: 4, tail: end, lacks: "assistant"},
		{fault: "html", head: "HTTP/1.1 200", tail: "</html>\n", has: "Content-Type: text/html", lacks: "data:"},
		{fault: "empty", head: "HTTP/1.1 200", tail: "\r\n\r\n", has: "Content-Type: text/event-stream", lacks: "data:"},
		{fault: "error-body", head: "HTTP/1.1 200", tail: `"code":"server_error"}}`, has: "Content-Type: application/json", lacks: "data:"},
		{fault: "json", head: "HTTP/1.1 200", deltas: 1, has: `"object":"chat.completion"`, lacks: "data:"},
		{fault: "redirect to=http://127.0.0.1:9/x", head: "HTTP/1.1 307", has: "Location: http://127.0.0.1:9/x\r\n"},
		{fault: "redirect", head: "HTTP/1.1 307", has: "Location: /v1/chat/completions\r\n"},
		{fault: "crlf", deltas: 4, tail: "data: [DONE]\r\n\r\n\r\n" + end, lacks: "}\n"},
		{fault: "cr", deltas: 4, tail: "data: [DONE]\r\r\r\n" + end, lacks: "}\n"},
		{fault: "comments", deltas: 4, tail: end, has: ": mock\n\nid: 1\nretry: 1\nx-unknown\ndata: {"},
		{fault: "multiline", deltas: 4, tail: "data: [DONE]\n\n\r\n" + end, has: "\",\ndata: \"object\""},
		{fault: "nospace", deltas: 4, tail: "data:[DONE]\n\n\r\n" + end, lacks: "data: "},
		{fault: "bom", deltas: 4, tail: end, has: "\r\n\ufeffdata: {"},
		{fault: "identity", deltas: 4, tail: "data: [DONE]\n\n", lacks: "chunked"},
		{fault: "identity,fin@2", deltas: 2, tail: "}\n\n", lacks: "chunked"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			got, err := raw(t, addr, "POST", chatPath, body("hi [[mock: words=3 fault="+c.fault+"]]", streaming))
			if c.reset != errors.Is(err, syscall.ECONNRESET) || !c.reset && err != nil {
				t.Errorf("ended with %v", err)
			}
			deltas := len(regexp.MustCompile(`"content":"(\[mock\]|once|stored|twice)`).FindAllString(got, -1))
			if !strings.HasPrefix(got, c.head) || deltas != c.deltas || !strings.Contains(got, c.has) {
				t.Errorf("%d deltas in %.3000q", deltas, got)
			}
			if c.lacks != "" && strings.Contains(got, c.lacks) {
				t.Errorf("%q in %.3000q", c.lacks, got)
			}
			if c.tail != "" && !strings.HasSuffix(got, c.tail) && !strings.Contains(c.tail, `"total_tokens":`) {
				t.Errorf("ends in %q", got[max(0, len(got)-200):])
			}
		})
	}
	if got := s.Stats(); got.Open != 0 || got.Aborted != 0 || got.Calls != got.Completed+got.Faulted || got.Completed != 13 {
		t.Errorf("%+v", got)
	}
}

func TestPlainFaultsOnTheWire(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	for _, c := range []struct {
		fault string
		size  float64 // share of Content-Length that arrives
		reset bool
		has   string
	}{
		{fault: "rst@0", reset: true}, {fault: "rst@1", size: 0.5, reset: true}, {fault: "fin@0"}, {fault: "fin@1", size: 0.5},
		{fault: "badjson", size: 1}, {fault: "end", size: 1}, {fault: "error-frame", size: 1, has: `{"error":`},
		{fault: "giant size=1MB", size: 1, has: strings.Repeat(" ", 4096)}, {fault: "drip", size: 1}, {fault: "stall@1 stall=1ms", size: 1},
		{fault: "html", size: 1, has: "<!doctype"}, {fault: "empty", size: 1},
	} {
		got, err := raw(t, addr, "POST", chatPath, body("hi [[mock: fault="+c.fault+"]]", ""))
		if c.reset != errors.Is(err, syscall.ECONNRESET) || !c.reset && err != nil {
			t.Errorf("%s: ended with %v", c.fault, err)
		}
		head, rest, _ := strings.Cut(got, "\r\n\r\n")
		length, _ := strconv.Atoi(regexp.MustCompile(`Content-Length: (\d+)`).FindStringSubmatch(head)[1])
		if want := int(float64(length) * c.size); len(rest) != want || !strings.Contains(rest, c.has) {
			t.Errorf("%s: %d of %d bytes, want %d", c.fault, len(rest), length, want)
		}
	}
	got, err := raw(t, addr, "POST", chatPath, body("hi [[mock: fault=sse]]", ""))
	if err != nil || !strings.Contains(got, "text/event-stream") && !strings.Contains(got, "data: [DONE]") {
		t.Errorf("sse: %q, %v", got, err)
	}
}

func TestStatus(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	for _, c := range []struct {
		script string
		status int
		has    []string
	}{
		{"status=401", 401, []string{`"code":"invalid_api_key"`}},
		{"status=404", 404, []string{`"code":"model_not_found"`}},
		{"status=429 retry-after=5", 429, []string{"Retry-After: 5\r\n", `"code":"rate_limit_exceeded"`}},
		{`status=429 retry-after="Wed, 21 Oct 2099 07:28:00 GMT" retry-after-ms=1500`, 429, []string{"Retry-After: Wed, 21", "Retry-After-Ms: 1500"}},
		{"status=529", 529, []string{`[mock] status 529`}},
		{"status=503 body=oops type=text/plain", 503, []string{"Content-Type: text/plain", "\r\n\r\noops"}},
		{"status=500 body-size=1MB", 500, []string{strings.Repeat("x", 4096)}},
		{"status=204", 204, nil},
		{"status=302 to=/elsewhere", 302, []string{"Location: /elsewhere"}},
		{"status=200 type=text/event-stream body64=ZGF0YTogWw==", 200, []string{"text/event-stream", "\r\n\r\ndata: ["}},
	} {
		got, err := raw(t, addr, "POST", chatPath, body("hi [[mock: "+c.script+"]]", streaming))
		if !strings.HasPrefix(got, "HTTP/1.1 "+strconv.Itoa(c.status)) || err != nil {
			t.Errorf("%s: %.200q, %v", c.script, got, err)
		}
		for _, want := range c.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in %.400q", c.script, want, got)
			}
		}
	}
}

func TestHugeAndBomb(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	_, stream := whole(t, addr, chatPath, body("[[mock: fault=huge size=3MB]]", streaming))
	chunks, done := parse(t, stream)
	if text, deltas := content(chunks); len(text) != 3<<20 || deltas != 3<<10 || !done {
		t.Errorf("%d bytes in %d deltas", len(text), deltas)
	}
	res, err := http.Post("http://"+addr+chatPath, "application/json", strings.NewReader(body("[[mock: fault=gzip-bomb size=20MB]]", streaming)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil || n != 20<<20 || !res.Uncompressed {
		t.Errorf("unpacked %d bytes, %v", n, err)
	}
	packed, err := raw(t, addr, "POST", chatPath, body("[[mock: fault=gzip-bomb size=20MB]]", streaming))
	if err != nil || len(packed) > 200<<10 {
		t.Errorf("packed %d bytes, %v", len(packed), err)
	}
	if got := s.Stats(); got.Faulted != 2 || got.Completed != 1 {
		t.Errorf("%+v", got)
	}
}

// The bytes of a character arrive in different HTTP chunks.
func TestSplitCharacters(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	got, err := raw(t, addr, "POST", chatPath, body("hi [[mock: fault=split chunks=3]]", streaming))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(got, "\r\n\r\n")
	torn, stream := 0, ""
	for rest != "" {
		size, more, _ := strings.Cut(rest, "\r\n")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil {
			t.Fatalf("%q", size)
		}
		if part := more[:n]; !utf8.ValidString(part) {
			torn++
		}
		stream += more[:n]
		rest = strings.TrimPrefix(more[n:], "\r\n")
	}
	chunks, _ := parse(t, stream)
	if text, _ := content(chunks); torn < 2 || text != "[mock] é漢字🙂👩‍👩‍👧 hi" {
		t.Errorf("%d torn parts, %q", torn, text)
	}
}

func TestDripIsOneByteAWrite(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	got, err := raw(t, addr, "POST", chatPath, body("[[mock: text=a fault=drip]]", streaming))
	_, rest, _ := strings.Cut(got, "\r\n\r\n")
	parts := strings.Split(rest, "\r\n")
	if err != nil || len(parts) < 200 {
		t.Fatal(err, len(parts))
	}
	for i := 0; i+1 < len(parts)-3; i += 2 {
		if parts[i] != "1" || len(parts[i+1]) != 1 {
			t.Fatalf("part %q of size %s", parts[i+1], parts[i])
		}
	}
}

// A client that leaves is noticed at once, however silent the mock is.
func TestAborts(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i, c := range []struct {
		script, more string
		reads        string // what arrives before the client leaves
	}{
		{"wait=1h", streaming, ""},
		{"ttfb=1h", streaming, "HTTP/1.1 200 OK\r\n"},
		{"delay=1h", streaming, `"content":"[mock] "`},
		{"fault=stall", streaming, ""},
		{"fault=stall@0", streaming, "HTTP/1.1 200 OK\r\n"},
		{"words=3 fault=stall@2", streaming, `"content":"once "`},
		{"fault=stall@1", "", `{"choices"`},
		{"fault=drip drip=1h", streaming, "HTTP/1.1 200 OK\r\n"},
		{"fault=huge size=256MB", streaming, `"content":"0123`},
	} {
		conn := dial(t, addr, "POST", chatPath, body("hi [[mock: "+c.script+"]]", c.more))
		in := bufio.NewReader(conn)
		for seen := ""; !strings.Contains(seen, c.reads); {
			b, err := in.ReadByte()
			if err != nil {
				t.Fatalf("%s: %v after %q", c.script, err, seen)
			}
			seen += string(b)
		}
		if err := s.Await(ctx, func(st mockprovider.Stats) bool { return st.Calls == i+1 && st.Open == 1 }); err != nil {
			t.Fatalf("%s: %+v", c.script, s.Stats())
		}
		_ = conn.Close()
		if err := s.Await(ctx, func(st mockprovider.Stats) bool { return st.Aborted == i+1 && st.Open == 0 && st.Streams == 0 }); err != nil {
			t.Fatalf("%s: %+v", c.script, s.Stats())
		}
	}
}

// Close ends what waits, in a way that no client takes for a whole answer.
func TestClose(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	conn := dial(t, addr, "POST", chatPath, body("hi [[mock: fault=stall@1]]", streaming))
	if err := s.Await(t.Context(), func(st mockprovider.Stats) bool { return st.Open == 1 }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	got, err := io.ReadAll(conn)
	if err != nil || strings.HasSuffix(string(got), "0\r\n\r\n") {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Await(t.Context(), func(st mockprovider.Stats) bool { return st.Faulted == 1 }); err != nil {
		t.Error(err)
	}
	if got, _ := raw(t, addr, "POST", chatPath, body("hi", "")); !strings.HasPrefix(got, "HTTP/1.1 503") {
		t.Errorf("after Close: %q", got)
	}
}

// Over HTTP/2 a broken connection is a reset stream.
func TestHTTP2(t *testing.T) {
	s, client, url := serveHTTP2(t)
	res, err := client.Post(url+chatPath, "application/json", strings.NewReader(body("hi [[mock: words=3 fault=rst@2]]", streaming)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if res.ProtoMajor != 2 || err == nil || !strings.Contains(string(got), `"content":"once "`) || strings.Contains(string(got), "stored") {
		t.Errorf("HTTP/%d: %q, %v", res.ProtoMajor, got, err)
	}
	if err := s.Await(t.Context(), func(st mockprovider.Stats) bool { return st.Faulted == 1 && st.Open == 0 }); err != nil {
		t.Error(err)
	}
}
