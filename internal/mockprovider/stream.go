package mockprovider

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// gather is how much a stream without delays collects before it writes.
const gather = 16 << 10

// A stream is a chat answer on its way as text/event-stream.
type stream struct {
	*exchange
	style style
	pace  bool // every chunk is flushed

	head  []byte // of every chunk, up to the delta
	chunk []byte // scratch
	usage usage
	told  int    // completion tokens of the deltas sent, for usage=each
	tail  string // behind the choices of a chunk
}

// style is how events are put on the wire.
type style struct {
	eol       string
	comments  bool
	multiline bool
	nospace   bool
	split     bool
	drip      bool
}

func (x *exchange) stream(a *answer) ending {
	st := &stream{exchange: x, usage: a.usage, pace: x.sc.Delay > 0 || x.sc.Flush}
	st.style = style{"\n", x.sc.has("comments"), x.sc.has("multiline"), x.sc.has("nospace"), x.sc.has("split"), x.sc.has("drip")}
	switch {
	case x.sc.has("crlf"):
		st.style.eol = "\r\n"
	case x.sc.has("cr"):
		st.style.eol = "\r"
	}
	buf := x.s.chunks.Get().(*[]byte)
	x.buf = (*buf)[:0]
	defer func() {
		*buf = x.buf[:0]
		x.s.chunks.Put(buf)
	}()
	if x.req.IncludeUsage {
		st.tail = `,"usage":null`
	}
	st.head = st.appendHead(nil, a.model)
	return st.run(a)
}

// appendHead appends a chunk's members up to its choices.
func (st *stream) appendHead(buf []byte, model string) []byte {
	buf = append(buf, `{"id":"`...)
	buf = append(buf, st.id()...)
	buf = append(buf, `","object":"chat.completion.chunk","created":`...)
	buf = strconv.AppendInt(buf, time.Now().Unix(), 10)
	buf = append(buf, `,"model":`...)
	return appendQuoted(buf, model)
}

func (st *stream) run(a *answer) ending {
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	if st.sc.has("identity") {
		h.Set("Transfer-Encoding", "identity") // the end of the connection is the end of the body
	}
	f, hurt := st.sc.in(placedFaults)
	f.At = min(f.At, len(a.deltas))
	early := st.pace || st.sc.TTFB > 0 || hurt || st.style.drip
	if early && !st.flush() || !st.pause(st.sc.TTFB) {
		return st.quit()
	}
	if st.sc.has("bom") {
		st.buf = append(st.buf, "\ufeff"...)
	}
	for i := 0; i <= len(a.deltas); i++ {
		if hurt && f.At == i {
			if how, over := st.strike(f); over {
				return how
			}
		}
		if i == 0 && !st.sc.has("no-role") && !st.role() {
			return st.quit()
		}
		if i < len(a.deltas) && !(i == 0 || st.pause(st.sc.Delay)) || i < len(a.deltas) && !st.delta(a.deltas[i]) {
			return st.quit()
		}
	}
	if !st.finish(a) || !st.flush() {
		return st.quit()
	}
	if hurt {
		return faulted
	}
	return completed
}

func (st *stream) role() bool {
	return st.send(`{"role":"assistant","content":""}`, "null", st.tail)
}

// delta sends one chunk of the answer.
func (st *stream) delta(d delta) bool {
	c := append(st.chunk[:0], st.head...)
	c = append(c, `,"choices":[{"index":0,"delta":{"`...)
	c = append(c, d.field...)
	c = append(c, `":`...)
	switch {
	case d.field == fieldTools:
		c = append(c, d.text...)
	case st.sc.Stamp:
		c = append(c, '"')
		c = strconv.AppendInt(c, time.Now().UnixNano(), 10)
		c = append(c, ` "`...)
	default:
		c = appendQuoted(c, d.text)
	}
	c = append(c, `},"logprobs":null,"finish_reason":null}]`...)
	if st.sc.Usage == "each" {
		st.told += countTokens(d.text)
		c = append(c, st.usageMember(st.told)...)
	} else {
		c = append(c, st.tail...)
	}
	st.chunk = append(c, '}')
	return st.event(st.chunk)
}

// send sends a chunk of the given delta and finish reason, both JSON.
func (st *stream) send(delta, finish, tail string) bool {
	c := append(st.chunk[:0], st.head...)
	c = append(c, `,"choices":[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+`}]`+tail+`}`...)
	st.chunk = c
	return st.event(c)
}

func (st *stream) usageMember(completion int) string {
	u := usage{st.usage.PromptTokens, completion, st.usage.PromptTokens + completion}
	text, _ := json.Marshal(u) // three ints
	return `,"usage":` + string(text)
}

// finish sends the finish reason, the usage in the way the script wants it, and
// the end mark.
func (st *stream) finish(a *answer) bool {
	tell := st.wantsUsage(st.req.IncludeUsage)
	onLast := tell && (st.sc.Usage == "final" || st.sc.Usage == "each")
	if !st.sc.has("no-finish") {
		tail := st.tail
		if onLast {
			tail = st.usageMember(a.usage.CompletionTokens)
		}
		if !st.send("{}", string(appendQuoted(nil, a.finish)), tail) {
			return false
		}
	}
	if tell && !onLast {
		choices := `,"choices":[]`
		switch st.sc.Usage {
		case "missing":
			choices = ""
		case "null":
			choices = `,"choices":null`
		}
		st.chunk = append(append(st.chunk[:0], st.head...), choices+st.usageMember(a.usage.CompletionTokens)+"}"...)
		if !st.event(st.chunk) {
			return false
		}
	}
	return st.sc.has("no-done") || st.event([]byte("[DONE]"))
}

// strike commits a placed fault. The stream is over with it, or goes on wounded.
func (st *stream) strike(f Fault) (how ending, over bool) {
	ok := true
	switch f.Kind {
	case "rst", "fin", "cut", "badchunk":
		if !st.flush() {
			return st.quit(), true
		}
		return st.sever(f.Kind), true
	case "end":
		if !st.flush() {
			return st.quit(), true
		}
		return faulted, true
	case "stall":
		ok = st.flush() && st.stall()
	case "error-frame":
		if !st.event([]byte(streamError)) || !st.flush() {
			return st.quit(), true
		}
		return faulted, true
	case "badjson":
		ok = st.event([]byte(`{"id":"chatcmpl-mock","choices":[{"index":0,"delta":{"content":"bro`))
	case "giant":
		ok = st.send(`{"content":"`+strings.Repeat("x", st.giantSize())+`"}`, "null", st.tail)
	case "badutf8":
		ok = st.send("{\"content\":\"\xff\xc3\"}", "null", st.tail)
	case "surrogate":
		ok = st.send(`{"content":"\ud83d"}`, "null", st.tail) && st.send(`{"content":"\ude42"}`, "null", st.tail)
	}
	if !ok {
		return st.quit(), true
	}
	return faulted, false
}

// event puts one event on the wire, or into the buffer when nothing hurries.
func (st *stream) event(payload []byte) bool {
	if st.style == (style{eol: "\n"}) {
		st.buf = append(st.buf, "data: "...)
		st.buf = append(st.buf, payload...)
		st.buf = append(st.buf, "\n\n"...)
	} else {
		st.buf = st.style.append(st.buf, payload)
	}
	switch {
	case st.style.drip:
		return st.drip()
	case st.style.split:
		return st.halves()
	case st.pace:
		return st.flush()
	case len(st.buf) >= gather:
		return st.ctx.Err() == nil && st.write()
	}
	return true
}

// append appends an event in this style.
func (s style) append(buf, payload []byte) []byte {
	if s.comments {
		buf = append(buf, ": mock"+s.eol+s.eol+"id: 1"+s.eol+"retry: 1"+s.eol+"x-unknown"+s.eol...)
	}
	name := "data: "
	if s.nospace {
		name = "data:"
	}
	for {
		first, rest, more := payload, []byte(nil), false
		if s.multiline { // a comma of the outermost object: JSON allows a line end behind it
			first, rest, more = bytes.Cut(payload, []byte(","))
		}
		buf = append(append(buf, name...), first...)
		if more {
			buf = append(buf, ',')
		}
		buf = append(buf, s.eol...)
		if !more {
			return append(buf, s.eol...)
		}
		s.multiline, payload = false, rest
	}
}

// halves sends what is buffered so that a character is torn between two writes.
func (st *stream) halves() bool {
	all := st.buf
	at := bytes.IndexFunc(all, func(r rune) bool { return r >= 0x80 })
	if at >= 0 {
		st.buf = all[:at+1]
		if !st.flush() {
			return false
		}
		st.buf = append(all[:0], all[at+1:]...)
	}
	return st.flush()
}
