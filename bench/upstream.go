package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The upstream is an OpenAI-compatible provider of the cheapest kind, so that
// what is measured is what stands before it. A directive in the prompt sets its
// pace. The text of every chunk begins with the clock at which it was sent,
// which is how the driver, on the same machine, knows a chunk's transit.

const (
	mark       = '~' // ends the stamp; each chunk has one, nothing else has any
	stampBytes = 19  // nanoseconds since 1970, in decimal
	chunkTail  = " lorem ipsum"
	chunkBytes = stampBytes + 1 + len(chunkTail) // of text in one chunk

	chunkPrefix = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,"delta":{"content":"`
	chunkSuffix = chunkTail + `"},"finish_reason":null}]}` + "\n\n"
	streamEnd   = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" +
		`data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[],"usage":{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250}}` + "\n\n" +
		"data: [DONE]\n\n"
	plainText   = "The quick brown fox jumps over the lazy dog, and the answer is plainly a benchmark's. "
	plainAnswer = `{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		plainText + plainText + plainText + `~"},"finish_reason":"stop"}],"usage":{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250}}`
)

// pace says how an answer is sent.
type pace struct {
	Chunks int
	First  time.Duration // before the first chunk
	Gap    time.Duration // between chunks; 0: as fast as the connection takes them
}

// directive writes p into a prompt.
func (p pace) directive() string {
	return fmt.Sprintf("[[%d %s %s]]", p.Chunks, p.First, p.Gap)
}

// parsePace finds the directive in a request body.
func parsePace(body []byte) (pace, error) {
	_, rest, ok := bytes.Cut(body, []byte("[["))
	inner, _, closed := bytes.Cut(rest, []byte("]]"))
	fields := strings.Fields(string(inner))
	if !ok || !closed || len(fields) != 3 {
		return pace{}, errors.New("no directive in the prompt")
	}
	chunks, err := strconv.Atoi(fields[0])
	if err != nil {
		return pace{}, fmt.Errorf("chunks: %w", err)
	}
	first, err := time.ParseDuration(fields[1])
	if err != nil {
		return pace{}, fmt.Errorf("first: %w", err)
	}
	gap, err := time.ParseDuration(fields[2])
	if err != nil {
		return pace{}, fmt.Errorf("gap: %w", err)
	}
	return pace{Chunks: chunks, First: first, Gap: gap}, nil
}

func handleUpstream(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p, err := parsePace(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, plainAnswer) // the driver counts what arrives
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	streamChunks(r.Context(), w, p)
}

// streamChunks sends chunks at p's pace, each flushed as a provider flushes every
// token, at full speed too: chunks then gather in the kernel's buffers only.
func streamChunks(ctx context.Context, w http.ResponseWriter, p pace) {
	control := http.NewResponseController(w)
	paced := p.First > 0 || p.Gap > 0
	if paced && control.Flush() != nil {
		return
	}
	timer := time.NewTimer(p.First)
	defer timer.Stop()
	buf := make([]byte, 0, 512)
	for i := range p.Chunks {
		if paced && !await(ctx, timer) {
			return
		}
		buf = append(buf[:0], chunkPrefix...)
		buf = strconv.AppendInt(buf, time.Now().UnixNano(), 10)
		buf = append(buf, mark)
		buf = append(buf, chunkSuffix...)
		if i == p.Chunks-1 {
			buf = append(buf, streamEnd...)
		}
		if _, err := w.Write(buf); err != nil {
			return
		}
		if control.Flush() != nil {
			return
		}
		timer.Reset(p.Gap)
	}
}

// await returns false when ctx ended before the timer.
func await(ctx context.Context, timer *time.Timer) bool {
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serveUpstream is the upstream's process: it prints its address and serves
// until ctx ends.
func serveUpstream(ctx context.Context, stdout io.Writer) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", handleUpstream)
	return serveLocal(ctx, mux, stdout)
}

// serveLocal serves on a free loopback port until ctx ends. The address is the
// first line on stdout; the driver waits for it.
func serveLocal(ctx context.Context, h http.Handler, stdout io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if _, err := fmt.Fprintln(stdout, listener.Addr()); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
