package openai

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/chat"
)

const benchChunks = 50

// benchStream looks like a real provider's: long ids, a chunk of 300 bytes.
func benchStream() string {
	chunk := `data: {"id":"chatcmpl-BxQ0k3vT8yR2mN5pL7wZ1aC4dE6fG","object":"chat.completion.chunk","created":1767225600,"model":"gpt-5-mini-2025-08-07","service_tier":"default","system_fingerprint":"fp_a1b2c3d4e5","choices":[{"index":0,"delta":{"content":" promise"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"Zk3"}` + "\n\n"
	return strings.Repeat(chunk, benchChunks) + finish + "data: [DONE]\n\n"
}

// BenchmarkDecode50 is our own work on a stream of 50 chunks: everything but HTTP.
func BenchmarkDecode50(b *testing.B) {
	c, err := New(Config{Base: "http://provider"})
	if err != nil {
		b.Fatal(err)
	}
	w := startWatch(time.Hour, func(error) {})
	defer w.stop()
	body := benchStream()
	b.ReportAllocs()
	for b.Loop() {
		a := answering{stream: true, emit: func(chat.Delta) error { return nil }, watch: w}
		if _, err := c.read(&a, &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchChunks), "ns/chunk")
}

// BenchmarkStream50 is a whole call against a server in this process, whose work
// is counted too.
func BenchmarkStream50(b *testing.B) {
	chunks := strings.SplitAfter(benchStream(), "\n\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, chunk := range chunks {
			_, _ = io.WriteString(w, chunk)
			w.(http.Flusher).Flush()
		}
	}))
	defer server.Close()
	c, err := New(Config{Base: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		deltas := 0
		_, err := c.Chat(context.Background(), call(), func(chat.Delta) error { deltas++; return nil })
		if err != nil || deltas != benchChunks {
			b.Fatal(deltas, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchChunks), "ns/chunk")
}
