package mockprovider_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/internal/mockprovider"
)

// serve starts a mock on a loopback port.
func serve(t testing.TB, o mockprovider.Options) (*mockprovider.Server, string) {
	t.Helper()
	s, err := mockprovider.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		h.Close()
	})
	return s, h.Listener.Addr().String()
}

// body is a chat request with one user message and further members.
func body(message, more string) string {
	text, _ := json.Marshal(message) // a string
	return `{"model":"m1","messages":[{"role":"system","content":"be brief"},{"role":"user","content":` + string(text) + `}]` + more + `}`
}

const streaming = `,"stream":true,"stream_options":{"include_usage":true}`

// dial sends one request by hand.
func dial(t testing.TB, addr, method, path, body string, headers ...string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil { // a hang fails by its name
		t.Fatal(err)
	}
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: mock\r\nConnection: close\r\nContent-Length: %d\r\n", method, path, len(body))
	for _, h := range headers {
		request += h + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return conn
}

// raw returns every byte of the answer, and the error that ended it.
func raw(t testing.TB, addr, method, path, body string, headers ...string) (string, error) {
	t.Helper()
	conn := dial(t, addr, method, path, body, headers...)
	defer func() { _ = conn.Close() }()
	all, err := io.ReadAll(conn)
	return string(all), err
}

const chatPath = "/v1/chat/completions"

// whole reads an answer as HTTP; it fails on a broken one.
func whole(t testing.TB, addr, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	conn := dial(t, addr, "POST", path, body, headers...)
	defer func() { _ = conn.Close() }()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(all)
}

// chunk is what a client sees of one.
type chunk struct {
	ID      string
	Model   string
	Choices []struct {
		Delta struct {
			Role      string
			Content   string
			Reasoning string `json:"reasoning_content"`
			Tools     []struct {
				Index    int
				ID       string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Finish string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
	Error json.RawMessage
}

// parse reads LF-ended events; it fails on what is not JSON.
func parse(t testing.TB, stream string) (chunks []chunk, done bool) {
	t.Helper()
	for event := range strings.SplitSeq(stream, "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		switch {
		case event == "":
			continue
		case !ok || done:
			t.Fatalf("stray event %q", event)
		case data == "[DONE]":
			done = true
			continue
		}
		var c chunk
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		chunks = append(chunks, c)
	}
	return chunks, done
}

func content(chunks []chunk) (string, int) {
	var text strings.Builder
	deltas := 0
	for _, c := range chunks {
		for _, choice := range c.Choices {
			if choice.Delta.Content != "" {
				deltas++
			}
			text.WriteString(choice.Delta.Content)
		}
	}
	return text.String(), deltas
}

func TestStream(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	res, stream := whole(t, addr, chatPath, body("say canary-17 twice", streaming))
	if ct := res.Header.Get("Content-Type"); res.StatusCode != 200 || !strings.HasPrefix(ct, "text/event-stream") {
		t.Fatal(res.Status, ct)
	}
	chunks, done := parse(t, stream)
	text, deltas := content(chunks)
	if text != "[mock] say canary-17 twice" || deltas != 4 || !done || len(chunks) != 7 {
		t.Fatalf("%q in %d deltas of %d chunks, done %v", text, deltas, len(chunks), done)
	}
	first, finish, usage := chunks[0], chunks[5], chunks[6]
	if first.Choices[0].Delta.Role != "assistant" || finish.Choices[0].Finish != "stop" || len(usage.Choices) != 0 {
		t.Errorf("role %+v, finish %+v, usage %+v", first, finish, usage)
	}
	if u := usage.Usage; u == nil || u.Prompt != 4+2+4+5 || u.Completion != 2+1+3+2 || u.Total != u.Prompt+u.Completion {
		t.Errorf("usage %+v", u)
	}
	for _, c := range chunks {
		if c.ID != "chatcmpl-mock-000001" || c.Model != "m1" {
			t.Errorf("chunk %+v", c)
		}
	}
	if got := s.Stats(); got.Calls != 1 || got.Completed != 1 || got.Chats != 1 || got.Open != 0 {
		t.Errorf("%+v", got)
	}
	_, again := whole(t, addr, chatPath, body("say canary-17 twice", streaming))
	chunks, _ = parse(t, again)
	if same, _ := content(chunks); same != text || chunks[0].ID != "chatcmpl-mock-000002" {
		t.Errorf("the same request: %q as %s", same, chunks[0].ID)
	}
}

func TestAnswers(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	tool := `,"tools":[{"type":"function","function":{"name":"weather"}},{"type":"function","function":{"name":"time"}}]`
	for _, c := range []struct {
		name, message, more string
		text                string
		deltas              int
		finish              string
	}{
		{"echo", "hi", "", "[mock] hi", 2, "stop"},
		{"nothing to echo", "", "", "[mock] hello", 2, "stop"},
		{"only a directive", "[[mock: tag=x]]", "", "[mock] hello", 2, "stop"},
		{"directive within", "hi [[mock: tag=x]] you", "", "[mock] hi  you", 3, "stop"},
		{"two directives", "[[mock: text=a]]x[[mock: finish=length]]", "", "a", 1, "length"},
		{"unclosed", "[[mock: text=a", "", "[mock] [[mock: text=a", 3, "stop"},
		{"text", `[[mock: text="two words"]]`, "", "two words", 2, "stop"},
		{"text with an end mark", `[[mock: text="a ]] \"b\" c"]]`, "", `a ]] "b" c`, 4, "stop"},
		{"text in base64", "[[mock: text64=CsOkCg==]]", "", "\nä\n", 1, "stop"},
		{"no text at all", "[[mock: text=]]", "", "", 0, "stop"},
		{"words", "x [[mock: words=3]]", "", "[mock] once stored twice", 4, "stop"},
		{"chunks of an echo", "hi [[mock: chunks=5]]", "", "[mock] hi once stored twice", 5, "stop"},
		{"chunks of words", "[[mock: words=9 chunks=5]]", "", "[mock] once stored twice read never lost always true run", 5, "stop"},
		{"chunks of a word", "[[mock: text=äbc chunks=3]]", "", "äbc", 3, "stop"},
		{"more chunks than characters", "[[mock: text=äbc chunks=9]]", "", "äbc", 3, "stop"},
		{"finish", "hi [[mock: finish=content_filter]]", "", "[mock] hi", 2, "content_filter"},
		{"finish in error", "hi [[mock: finish=error]]", "", "[mock] hi", 2, "error"},
		{"JSON mode", "hi", `,"response_format":{"type":"json_object"}`, `{"echo":"hi","mock":true}`, 1, "stop"},
		{"tools nobody asked for", "hi", tool, "[mock] hi", 2, "stop"},
		{"tools nobody offers", "hi [[mock: tool=weather]]", "", "[mock] hi", 2, "stop"},
		{"tool", "hi [[mock: tool=*]]", tool, "", 0, "tool_calls"},
		{"hostile", "hi [[mock: fault=hostile chunks=2]]", "", "[mock] data: [DONE]\n\nevent: error\r\ndata: {\"error\":{\"message\":\"forged\"}}\n\nid: 1\rretry: 0\r\n: x\n\n\x00\u2028\u2029\ufeff</script>\\u0000\"}]}\n\nhi", 2, "stop"},
		{"script from a header", "hi", "", "from the header", 3, "stop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var headers []string
			if strings.HasPrefix(c.name, "script from") {
				headers = append(headers, `X-Mock-Script: {"text":"from the header","chunks":3}`)
			}
			_, stream := whole(t, addr, chatPath, body(c.message, c.more+streaming), headers...)
			chunks, done := parse(t, stream)
			text, deltas := content(chunks)
			if text != c.text || deltas != c.deltas || !done {
				t.Errorf("%q in %d deltas, done %v", text, deltas, done)
			}
			if last := chunks[len(chunks)-2]; last.Choices[0].Finish != c.finish {
				t.Errorf("finish %q", last.Choices[0].Finish)
			}
			_, plain := whole(t, addr, chatPath, body(c.message, c.more), headers...)
			var got struct {
				Choices []struct {
					Message struct{ Content string }
					Finish  string `json:"finish_reason"`
				}
				Usage struct {
					Total int `json:"total_tokens"`
				}
			}
			if err := json.Unmarshal([]byte(plain), &got); err != nil || got.Choices[0].Message.Content != c.text || got.Choices[0].Finish != c.finish {
				t.Errorf("plain: %s, %v", plain, err)
			}
			if usage := chunks[len(chunks)-1].Usage; usage == nil || usage.Total != got.Usage.Total {
				t.Errorf("usage %+v streamed, %d plain", usage, got.Usage.Total)
			}
		})
	}
}

func TestToolCallsAndReasoning(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	more := `,"tools":[{"type":"function","function":{"name":"weather"}}]` + streaming
	_, stream := whole(t, addr, chatPath, body(`hi [[mock: reasoning=3 tool=weather,time args={"city":"Rom"}]]`, more))
	chunks, _ := parse(t, stream)
	var thought string
	names, args := map[int]string{}, map[int]string{}
	for _, c := range chunks {
		for _, choice := range c.Choices {
			thought += choice.Delta.Reasoning
			for _, call := range choice.Delta.Tools {
				names[call.Index] += call.ID + call.Function.Name
				args[call.Index] += call.Function.Arguments
			}
		}
	}
	if thought != "once stored twice" || names[0] != "call_mock_1weather" || names[1] != "call_mock_2time" || args[0] != `{"city":"Rom"}` || args[1] != args[0] {
		t.Errorf("%q, %v, %v", thought, names, args)
	}
	_, plain := whole(t, addr, chatPath, body(`hi [[mock: reasoning=1 tool=*]]`, strings.Replace(more, streaming, "", 1)))
	for _, want := range []string{`"content":null`, `"reasoning_content":"once"`, `"tool_calls":[{"id":"call_mock_1","type":"function","function":{"name":"weather","arguments":"{\"text\":\"hi\"}"}}]`} {
		if !strings.Contains(plain, want) {
			t.Errorf("%s\nlacks %s", plain, want)
		}
	}
	result := `{"messages":[{"role":"user","content":"hi [[mock: tool=*]]"},{"role":"assistant","content":null},{"role":"tool","content":"sunny"}]` + more + "}"
	if _, stream = whole(t, addr, chatPath, result); strings.Contains(stream, "call_mock") || !strings.Contains(stream, `"[mock] "`) {
		t.Errorf("after a tool's result: %s", stream)
	}
}

func TestUsageModes(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	for _, c := range []struct {
		mode, asked string
		tail        string // of the stream before [DONE]; the ids are cut
	}{
		{"", streaming, `"finish_reason":"stop"}],"usage":null}|,"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`},
		{"", `,"stream":true`, `"finish_reason":null}]}|"finish_reason":"stop"}]}`},
		{"none", streaming, `"finish_reason":null}],"usage":null}|"finish_reason":"stop"}],"usage":null}`},
		{"always", `,"stream":true`, `"finish_reason":"stop"}]}|,"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`},
		{"final", `,"stream":true`, `"finish_reason":null}]}|"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`},
		{"each", `,"stream":true`, `"finish_reason":null}],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}|"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`},
		{"missing", streaming, `"usage":null}|"model":"m1","usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`},
		{"null", streaming, `"usage":null}|,"choices":null,"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}`},
		{"zero", streaming, `"usage":null}|,"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`},
	} {
		message := "hi"
		if c.mode != "" {
			message += " [[mock: usage=" + c.mode + "]]"
		}
		_, stream := whole(t, addr, chatPath, strings.Replace(body(message, c.asked), "be brief", "", 1))
		events := strings.Split(stream, "\n\n")
		last := events[len(events)-4 : len(events)-2]
		before, after, _ := strings.Cut(c.tail, "|")
		// the prompt is 4 + 0 + 4 + the directive's own characters
		prompt := fmt.Sprintf(`"prompt_tokens":%d`, 8+(len(message)+3)/4)
		fix := func(s string) string {
			if c.mode == "zero" {
				return s
			}
			s = strings.ReplaceAll(s, `"prompt_tokens":11`, prompt)
			return strings.ReplaceAll(s, `"total_tokens":14`, fmt.Sprintf(`"total_tokens":%d`, 8+(len(message)+3)/4+3))
		}
		if !strings.HasSuffix(last[0], fix(before)) || !strings.HasSuffix(last[1], fix(after)) {
			t.Errorf("usage=%s: %q", c.mode, last)
		}
	}
}

// The pace is exact: head at once, then the first chunk, then the others.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		script string
		want   time.Duration
	}{
		{"chunks=50", 0},
		{"chunks=50 delay=20ms", 49 * 20 * time.Millisecond},
		{"chunks=5 delay=1s ttfb=3s wait=10s", 17 * time.Second},
		{"chunks=5 fault=stall@2 stall=7s", 7 * time.Second},
		{"chunks=5 fault=stall stall=7s", 7 * time.Second},
		{"chunks=1 usage=none fault=drip drip=1ms", 0},
	} {
		t.Run(c.script, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := mockprovider.New(mockprovider.Options{Script: c.script})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				began, w := time.Now(), httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest("POST", chatPath, strings.NewReader(body("hi", streaming))))
				want := c.want
				if strings.Contains(c.script, "drip") {
					want = time.Duration(w.Body.Len()) * time.Millisecond
				}
				if took := time.Since(began); took != want {
					t.Errorf("took %v, want %v", took, want)
				}
				if _, done := parse(t, w.Body.String()); !done {
					t.Error("no [DONE]")
				}
			})
		})
	}
}

// At full speed a stream is written in few pieces; with a delay or flush=each
// every chunk is on its own.
func TestFlush(t *testing.T) {
	for script, most := range map[string]int{"chunks=50": 1, "chunks=50 flush=each": 54, "chunks=50 delay=1us": 54} {
		s, err := mockprovider.New(mockprovider.Options{Script: script})
		if err != nil {
			t.Fatal(err)
		}
		w := &flushes{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, httptest.NewRequest("POST", chatPath, strings.NewReader(body("hi", streaming))))
		if w.writes != most {
			t.Errorf("%s: %d writes, want %d", script, w.writes, most)
		}
	}
}

type flushes struct {
	*httptest.ResponseRecorder
	writes int
}

func (f *flushes) Write(p []byte) (int, error) {
	f.writes++
	return f.ResponseRecorder.Write(p)
}

func TestBadRequests(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{Key: "sk-mock"})
	key := "Authorization: Bearer sk-mock"
	for _, c := range []struct {
		name, method, path, body, key string
		status                        int
	}{
		{"no key", "POST", chatPath, body("hi", ""), "", 401},
		{"wrong key", "POST", chatPath, body("hi", ""), key + "x", 401},
		{"right key", "POST", chatPath, body("hi", ""), key, 200},
		{"not JSON", "POST", chatPath, `{"messages"`, key, 400},
		{"no messages", "POST", chatPath, `{}`, key, 400},
		{"wrong content", "POST", chatPath, `{"messages":[{"role":"user","content":7}]}`, key, 400},
		{"parts", "POST", chatPath, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]}`, key, 200},
		{"method", "GET", chatPath, "", key, 405},
		{"path", "POST", "/v1/completions", "{}", key, 404},
		{"unknown directive", "POST", chatPath, body("[[mock: nonsense=1]]", ""), key, 400},
		{"unknown fault", "POST", chatPath, body("[[mock: fault=nonsense]]", ""), key, 400},
		{"several kinds as one", "POST", chatPath, body(`[[mock: fault="rst fin"]]`, ""), key, 400},
		{"bad number", "POST", chatPath, body("[[mock: chunks=-1]]", ""), key, 400},
		{"bad probability", "POST", chatPath, body("[[mock: status=429:2]]", ""), key, 400},
		{"bad status", "POST", chatPath, body("[[mock: status=99]]", ""), key, 400},
		{"bad size", "POST", chatPath, body("[[mock: size=9999MB]]", ""), key, 400},
		{"bad duration", "POST", chatPath, body("[[mock: wait=-1s]]", ""), key, 400},
		{"bad usage", "POST", chatPath, body("[[mock: usage=x]]", ""), key, 400},
		{"bad base64", "POST", chatPath, body("[[mock: text64=!]]", ""), key, 400},
		{"no input", "POST", "/v1/embeddings", `{"input":[]}`, key, 400},
		{"wrong input", "POST", "/v1/embeddings", `{"input":7}`, key, 400},
		{"models", "GET", "/v1/models", "", key, 200},
		{"no such control", "GET", "/__mock/nothing", "", "", 404},
		{"bad script", "POST", "/__mock/script", "nonsense=1", "", 400},
		{"script's method", "GET", "/__mock/script", "", "", 405},
	} {
		var headers []string
		if c.key != "" {
			headers = append(headers, c.key)
		}
		got, err := raw(t, addr, c.method, c.path, c.body, headers...)
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || err != nil {
			t.Errorf("%s: %.200q, %v", c.name, got, err)
		}
		if c.status >= 400 && !strings.Contains(got, `{"error":{"code":`) {
			t.Errorf("%s: no error body: %s", c.name, got)
		}
	}
	if got := s.Stats(); got.Open != 0 || got.Calls != got.Completed+got.Faulted {
		t.Errorf("%+v", got)
	}
	if _, err := mockprovider.New(mockprovider.Options{Script: "nonsense"}); err == nil {
		t.Error("New took nonsense")
	}
}
