package contract

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/mockprovider"
	"github.com/agentedge/agentedge/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "record the transcripts anew")

// recorder makes the transcripts of one scenario, which share their ids.
type recorder struct {
	t     *testing.T
	edge  *testedge.Edge
	norm  normal
	texts map[string]string // of the transcripts so far
}

// TestServer: the server still says what the transcripts hold.
func TestServer(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s.config.Pipes, s.config.HTTP = true, testedge.Dev()
				s.config.Dir = t.TempDir()
				r := &recorder{t: t, norm: normal{ids: map[string]string{}}, texts: map[string]string{}}
				r.edge = testedge.Start(t, s.config)
				s.play(r, s.config)
			})
		})
	}
}

// stream plays a call and keeps what comes back under a name.
func (r *recorder) stream(name, about string, c testedge.Call) *testedge.Stream {
	r.t.Helper()
	res := r.open(c)
	return r.keep(name, about, res, nil)
}

func (r *recorder) open(c testedge.Call) io.ReadCloser {
	r.t.Helper()
	c.Header = append(c.Header, "X-Trace-Id: contract")
	res := r.edge.Open(r.t.Context(), r.t, c)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(res.Body) // for the message
		r.t.Fatalf("%s: %s", res.Status, text)
	}
	return res.Body
}

func (r *recorder) keep(name, about string, body io.ReadCloser, follows *cut) *testedge.Stream {
	r.t.Helper()
	raw, err := io.ReadAll(body)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		r.t.Fatal(err)
	}
	s, err := testedge.Parse(raw)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, raw)
	}
	before := ""
	if follows != nil {
		before = r.texts[follows.Transcript+" "+follows.ID]
		follows.ID = string(r.norm.apply([]byte(follows.ID)))
	}
	text := ""
	for _, d := range s.Deltas {
		if d.Reset {
			text = ""
		}
		text += d.Delta
		r.texts[name+" "+idOf(d.RequestID, d.Attempt, d.Seq)] = text
	}
	raw = r.norm.apply(raw)
	r.compare(name+".sse", raw)
	r.compare(name+".json", encode(r.t, meaning(r.t, about, raw, follows, before)))
	return s
}

func (r *recorder) compare(name string, got []byte) {
	r.t.Helper()
	path := filepath.Join(dir, name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		r.t.Errorf("%s is not what it was:\n%.3000s\nwant\n%.3000s", name, got, want)
	}
}

type scenario struct {
	config testedge.Config
	play   func(r *recorder, cfg testedge.Config)
}

func ask(body string) testedge.Call { return testedge.Call{Body: body} }

// says is a script of an exact text in so many deltas.
func says(text string, deltas int) func(*mockprovider.Request) mockprovider.Script {
	return func(*mockprovider.Request) mockprovider.Script {
		return mockprovider.Script{Text: text, Verbatim: true, Chunks: deltas}
	}
}

func scenarios() map[string]scenario {
	one := func(name, about, body string) scenario {
		return scenario{play: func(r *recorder, _ testedge.Config) { r.stream(name, about, ask(body)) }}
	}
	const unicode = "ASCII, é, 漢字, 🙂👩‍👩‍👧, \u2028 \u2029 \ufeff, \"quoted\", back\\slash,\ttab\r\nline\n\ndata: x\n\nevent: chat.done\ndata: {}\n\n\x1b[31m</script>"
	return map[string]scenario{
		"plain":        {play: playPlain},
		"keepalives":   one("keepalives", "a provider that is silent for 30 s", `{"content":"slow [[mock: ttfb=30s]]"}`),
		"error-before": one("error-before", "a provider that refuses", `{"content":"x [[mock: status=401]]"}`),
		"error-after":  one("error-after", "an answer that breaks off, without a key", `{"content":"a b c [[mock: flush=each fault=end@2]]"}`),
		"reset":        one("reset", "an answer that breaks off and is begun anew", `{"content":"a b c [[mock: flush=each fault=end@2 flaky=1 key=x]]","idempotency_key":"k"}`),
		"tools": one("tools", "reasoning, text and tool calls", `{"content":"look it up [[mock: reasoning=3 text=\"one moment\" tool=look,book args={\"q\":\"é\"}]]",`+
			`"tools":[{"type":"function","function":{"name":"look"}},{"type":"function","function":{"name":"book"}}]}`),
		"unicode": {play: func(r *recorder, _ testedge.Config) {
			r.edge.Mocks[0].Script(says(unicode, 6))
			r.stream("unicode", "text that looks like frames, and characters of every width", ask(`{"content":"go"}`))
		}},
		"long": {play: func(r *recorder, _ testedge.Config) {
			r.edge.Mocks[0].Script(says(strings.Repeat("one line of a long answer\n", 1500), 1))
			r.stream("long", "an answer that is split, and not repeated in chat.done", ask(`{"content":"go"}`))
		}},
		"cancelled": {play: playCancelled},
		"draining":  {play: playDraining},
		"expired":   {config: testedge.Config{Run: run.Config{Retention: time.Minute}}, play: playExpired},
	}
}

// playPlain records an answer, its replay, and what follows a cut within it.
func playPlain(r *recorder, _ testedge.Config) {
	const body = `{"content":"hello, edge","idempotency_key":"k"}`
	s := r.stream("plain", "an answer", ask(body))
	r.stream("replay", "the same request again", ask(body))
	id := s.Events[2].ID
	path := "/functions/v1/chat/" + s.Ready.RequestID
	r.keep("resumed", "what follows a cut", r.open(testedge.Call{Path: path + "?stream=true", Header: []string{"Last-Event-ID: " + id}}), &cut{"plain", id})
}

func playCancelled(r *recorder, _ testedge.Config) {
	body := r.open(ask(`{"content":"x [[mock: chunks=9 delay=1s]]"}`))
	first := make([]byte, 4<<10)
	n, err := body.Read(first)
	if err != nil {
		r.t.Fatal(err)
	}
	id := ids.FindString(string(first[:n]))
	<-time.After(2500 * time.Millisecond)
	r.edge.JSON(r.t, 200, testedge.Call{Method: "POST", Path: "/chat/" + id + "/cancel"})
	r.keep("cancelled", "a run that its caller stops", rest(first[:n], body), nil)
}

// playDraining records a response that a stopping server ends, and what its
// client finds at the next one.
func playDraining(r *recorder, cfg testedge.Config) {
	const body = `{"content":"a b c d [[mock: delay=1s]]","idempotency_key":"k"}`
	res := r.open(ask(body))
	ctx, done := context.WithTimeout(r.t.Context(), 1500*time.Millisecond)
	defer done()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		r.edge.Server.Refuse()
		r.edge.Engine.Drain(ctx, time.Second)
	}()
	s := r.keep("draining", "a server that stops under a run with a key", res, nil)
	<-drained
	r.edge.Stop()
	cfg.Run.Node = "next"
	r.edge = testedge.Start(r.t, cfg)
	<-time.After(100 * time.Millisecond) // the next server has taken the run over
	last := s.Deltas[len(s.Deltas)-1]
	id := idOf(last.RequestID, last.Attempt, last.Seq)
	r.keep("drained", "the same run at the next server", r.open(testedge.Call{
		Path: "/functions/v1/chat/" + s.Ready.RequestID, Header: []string{"Accept: text/event-stream", "Last-Event-ID: " + id},
	}), &cut{"draining", id})
}

func playExpired(r *recorder, _ testedge.Config) {
	s := r.edge.Stream(r.t, testedge.Call{Body: `{"content":"kept as rows"}`, Header: []string{"X-Trace-Id: contract"}})
	<-time.After(10 * time.Minute)
	r.stream("expired", "an answer whose log is gone", testedge.Call{Path: "/functions/v1/chat/" + s.Ready.RequestID + "?stream=true"})
}
