package mockprovider

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// chat answers a chat completion, streamed or whole.
func (x *exchange) chat() ending {
	a := compose(x.req, &x.sc)
	if (x.req.Stream || x.sc.has("sse")) && !x.sc.has("json") {
		return x.stream(&a)
	}
	message := map[string]any{"role": "assistant", "content": nil, "refusal": nil}
	if text := a.content(fieldText); text != "" || len(a.tools) == 0 {
		message["content"] = json.RawMessage(appendQuoted(nil, text))
	}
	if text := a.content(fieldReasoning); text != "" {
		message[fieldReasoning] = text
	}
	if len(a.tools) > 0 {
		message[fieldTools] = a.tools
	}
	body := map[string]any{
		"id": x.id(), "object": "chat.completion", "created": time.Now().Unix(), "model": a.model,
		"choices": []any{map[string]any{
			"index": 0, "message": message, "logprobs": nil, "finish_reason": a.finish,
		}},
	}
	if x.wantsUsage(true) {
		body["usage"] = a.usage
	}
	text, err := json.Marshal(body)
	if err != nil {
		return x.instead("error-body")
	}
	return x.plain(text)
}

func (x *exchange) id() string { return fmt.Sprintf("chatcmpl-mock-%06d", x.req.Call) }

// wantsUsage tells whether usage is told at all.
func (x *exchange) wantsUsage(asked bool) bool {
	if x.sc.has("no-usage") || x.sc.Usage == "none" {
		return false
	}
	return asked || x.sc.Usage != "" && x.sc.Usage != "zero"
}

// plain sends one JSON body, with the faults that a body can have. A place past
// 0 means its middle.
func (x *exchange) plain(body []byte) ending {
	if !x.pause(x.sc.TTFB) {
		return x.quit()
	}
	f, hurt := x.sc.in(placedFaults)
	sent := 0
	if f.At > 0 {
		sent = len(body) / 2
	}
	switch f.Kind {
	case "error-frame":
		return x.instead("error-body")
	case "badjson", "badutf8", "surrogate", "end":
		body = body[:len(body)/2]
	case "giant":
		body = append(make([]byte, 0, x.giantSize()+len(body)), body...)
		for len(body) < cap(body) {
			body = append(body, ' ')
		}
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	switch {
	case !hurt && x.sc.has("drip"):
		x.buf = append(x.buf, body...)
		if !x.drip() {
			return x.quit()
		}
		return completed
	case !hurt:
		return x.all(body, completed)
	case listed(" badjson badutf8 surrogate end giant ", f.Kind):
		return x.all(body, faulted)
	}
	x.buf = append(x.buf, body[:sent]...)
	if !x.flush() {
		return x.quit()
	}
	if f.Kind != "stall" {
		return x.sever(f.Kind)
	}
	if !x.stall() {
		return x.quit()
	}
	return x.all(body[sent:], faulted)
}

func (x *exchange) giantSize() int {
	if x.sc.Size == 0 {
		return 2 << 20
	}
	return int(x.sc.Size)
}

// drip sends what is buffered byte by byte.
func (x *exchange) drip() bool {
	rest := x.buf
	for i := range rest {
		if !x.pause(x.sc.Drip) {
			return false
		}
		x.buf = rest[i : i+1]
		if !x.flush() {
			return false
		}
	}
	x.buf = rest[:0]
	return true
}
