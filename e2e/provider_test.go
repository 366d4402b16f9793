package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// provider is the upstream of the tests. The prompt says what it does:
// `[[tag=x chunks=20 gap=10ms hold=5 fault=rst at=3 times=1]]`. Every chunk names
// its tag, the call it belongs to and its place, so a text that is spliced of two
// calls, or lacks a word, shows.
type provider struct {
	server *httptest.Server
	mu     sync.Mutex
	calls  map[string]int           // by tag
	gates  map[string]chan struct{} // by tag and call
	ended  map[string]chan struct{}
	total  int
}

// plan is one call as its prompt wants it.
type plan struct {
	tag    string
	call   int
	chunks int
	gap    time.Duration
	hold   int    // chunks before it waits to be released; -1: none
	fault  string // rst, fin, stall, …
	at     int    // chunks before the fault
	times  int    // calls that are faulty; the next are good
}

func newProvider(t *testing.T) *provider {
	p := &provider{calls: map[string]int{}, gates: map[string]chan struct{}{}, ended: map[string]chan struct{}{}}
	p.server = httptest.NewServer(http.HandlerFunc(p.handle))
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.releaseAll()
		p.server.Close()
	})
	return p
}

func parsePlan(body string) plan {
	p := plan{chunks: 20, hold: -1, times: 1 << 30}
	at := strings.LastIndex(body, "[[") // the newest message is last
	inner, _, _ := strings.Cut(body[at+2:], "]]")
	for field := range strings.FieldsSeq(inner) {
		name, value, _ := strings.Cut(field, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "tag":
			p.tag = value
		case "chunks":
			p.chunks = n
		case "gap":
			p.gap, _ = time.ParseDuration(value)
		case "hold":
			p.hold = n
		case "fault":
			p.fault = value
		case "at":
			p.at = n
		case "times":
			p.times = n
		}
	}
	return p
}

// word is the text of one chunk.
func word(tag string, call, i int) string { return fmt.Sprintf("%s/%d:%d ", tag, call, i) }

// text is a whole answer.
func text(tag string, call, chunks int) string {
	var b strings.Builder
	for i := range chunks {
		b.WriteString(word(tag, call, i))
	}
	return b.String()
}

func (p *provider) begin(pl *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	p.calls[pl.tag]++
	pl.call = p.calls[pl.tag]
}

// gate is closed when a call may go on past its hold.
func (p *provider) gate(table map[string]chan struct{}, tag string, call int) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := fmt.Sprintf("%s/%d", tag, call)
	if table[name] == nil {
		table[name] = make(chan struct{})
	}
	return table[name]
}

func (p *provider) release(tag string, call int) { closeOnce(p.gate(p.gates, tag, call)) }

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (p *provider) releaseAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.gates {
		closeOnce(c)
	}
}

// over is closed when the provider is done with a call.
func (p *provider) over(tag string, call int) <-chan struct{} { return p.gate(p.ended, tag, call) }

func (p *provider) callsOf(tag string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[tag]
}

func (p *provider) callsInAll() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

func (p *provider) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(body), "[[") {
		http.Error(w, "no plan", http.StatusBadRequest)
		return
	}
	pl := parsePlan(string(body))
	p.begin(&pl)
	defer close(p.gate(p.ended, pl.tag, pl.call))
	if pl.call > pl.times {
		pl.fault = ""
	}
	if pl.fault != "" && pl.at == 0 && p.refuse(r.Context(), w, pl) {
		return
	}
	if !strings.Contains(string(body), `"stream":true`) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}`,
			text(pl.tag, pl.call, pl.chunks))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	p.stream(r.Context(), w, pl)
}

func (p *provider) stream(ctx context.Context, w http.ResponseWriter, pl plan) {
	flush(w) // the header is out before anything goes wrong
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for i := range pl.chunks {
		if i == pl.hold {
			select {
			case <-p.gate(p.gates, pl.tag, pl.call):
			case <-ctx.Done():
				return
			}
		}
		if pl.fault != "" && i == pl.at && spoil(ctx, w, pl.fault) {
			return
		}
		fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n",
			word(pl.tag, pl.call, i))
		flush(w)
		if pl.gap > 0 {
			timer.Reset(pl.gap)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
	}
	if pl.fault == "nofinish" {
		return
	}
	io.WriteString(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n")
	io.WriteString(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n")
	if pl.fault != "nodone" {
		io.WriteString(w, "data: [DONE]\n\n")
	}
}

func flush(w http.ResponseWriter) { http.NewResponseController(w).Flush() }

// refuse answers a call with something else than a stream, if its fault is of
// that kind.
func (p *provider) refuse(ctx context.Context, w http.ResponseWriter, pl plan) bool {
	status, isStatus := strings.CutPrefix(pl.fault, "status")
	switch {
	case isStatus:
		code, _ := strconv.Atoi(status)
		if code == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "3600") // too long to wait for: fails this call, cools nobody
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		io.WriteString(w, `{"error":{"message":"the provider's own words","type":"t","code":"c"}}`)
	case pl.fault == "errorbody":
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"error":{"message":"the provider's own words","type":"server_error"}}`)
	case pl.fault == "html":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>Bad gateway</title>")
	case pl.fault == "empty":
		w.WriteHeader(http.StatusOK)
	case pl.fault == "silent":
		<-ctx.Done()
	case pl.fault == "rst" || pl.fault == "fin":
		return spoil(ctx, w, pl.fault) // before any header
	default:
		return false
	}
	return true
}

// spoil breaks a stream in its middle. It returns true when nothing can follow.
func spoil(ctx context.Context, w http.ResponseWriter, fault string) bool {
	switch fault {
	case "stall":
		<-ctx.Done()
	case "badjson":
		io.WriteString(w, "data: {\"choices\":[{]\n\n")
		flush(w)
		return false
	case "errorframe":
		io.WriteString(w, "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n")
	case "rst", "fin", "cutchunk":
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		if fault == "rst" {
			conn.(*net.TCPConn).SetLinger(0)
		}
		if fault == "cutchunk" {
			io.WriteString(conn, "fff\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half")
		}
	default:
		return false
	}
	return true
}
