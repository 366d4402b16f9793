package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/client"
	"github.com/agentedge/agentedge/sse"
)

// TestReader: this module's reader finds the events, however the bytes come.
func TestReader(t *testing.T) {
	for _, name := range names(t) {
		raw, want := load(t, name)
		for how, src := range map[string]io.Reader{
			"whole": bytes.NewReader(raw), "byte by byte": iotest.OneByteReader(bytes.NewReader(raw)), "with its end": iotest.DataErrReader(bytes.NewReader(raw)),
		} {
			r := sse.NewReader(src, sse.Options{})
			var got []event
			last := ""
			for {
				ev, err := r.Next()
				if err != nil {
					if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%s, %s: %v", name, how, err)
					}
					break
				}
				e := event{Event: ev.Name, Data: string(ev.Data)}
				if ev.ID != last {
					e.ID, last = ev.ID, ev.ID
				}
				got = append(got, e)
			}
			if !slices.Equal(got, want.Events) || r.LastID() != want.LastID || r.Retry().Milliseconds() != int64(want.RetryMS) {
				t.Errorf("%s, %s: got %v, last %s, retry %v", name, how, got, r.LastID(), r.Retry())
			}
		}
	}
}

// TestReaderCut: a transcript that is cut anywhere within a frame is an error at
// its end, and every whole frame before it was read.
func TestReaderCut(t *testing.T) {
	raw, _ := load(t, "tools")
	for n := range len(raw) {
		r := sse.NewReader(bytes.NewReader(raw[:n]), sse.Options{})
		whole := 0
		var err error
		for err == nil {
			if _, err = r.Next(); err == nil {
				whole++
			}
		}
		// A retry line sets the reconnection time by itself and opens no event.
		between := n == 0 || bytes.HasSuffix(raw[:n], []byte("\n\n")) || string(raw[:n]) == "retry: 2000\n"
		if between != errors.Is(err, io.EOF) || whole != bytes.Count(raw[:n], []byte("\n\n")) {
			t.Errorf("cut at %d: %d events, %v", n, whole, err)
		}
	}
}

// replies answers the requests of a client with transcripts, in turn.
type replies struct {
	bodies [][]byte
	asked  []string
}

func (r *replies) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked = append(r.asked, fmt.Sprintf("%s %s %s", req.Method, req.URL.Path, req.Header.Get(api.HeaderLastEventID)))
	if req.Body != nil {
		req.Body.Close()
	}
	n := len(r.asked) - 1
	if n >= len(r.bodies) {
		return nil, errors.New("nobody is there any more")
	}
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{"Content-Type": {"text/event-stream"}},
		Body: io.NopCloser(iotest.HalfReader(bytes.NewReader(r.bodies[n]))), Request: req,
	}, nil
}

// TestClient: the Go client takes from each transcript what it means. A client
// that comes back after a cut has read the transcript that goes before.
func TestClient(t *testing.T) {
	for _, name := range names(t) {
		raw, want := load(t, name)
		if want.End == "cut" {
			continue // its client comes back: read with the transcript that follows it
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &replies{bodies: [][]byte{raw}}
				if f := want.Follows; f != nil {
					before, _ := load(t, f.Transcript)
					if !strings.HasPrefix(want.Events[0].Data, `{"trace_id"`) {
						t.Fatal("no ready")
					}
					server.bodies = [][]byte{upTo(t, before, f.ID), raw}
				}
				c := client.New(client.Config{BaseURL: "http://edge.test", HTTP: &http.Client{Transport: server}})
				s, err := c.StreamChat(api.ChatRequest{Content: "x"})
				if err != nil {
					t.Fatal(err)
				}
				var failed error
				for _, err := range s.Deltas(t.Context()) {
					failed = err
				}
				if s.Text() != want.Text {
					t.Errorf("text %.200q, want %.200q", s.Text(), want.Text)
				}
				var named *client.Error
				switch {
				case want.End == "done" && (failed != nil || s.Done() == nil || s.Done().ContentBytes != len(want.Text)):
					t.Errorf("%v, %+v", failed, s.Done())
				case want.End == "error" && (!errors.As(failed, &named) || string(named.Code) != want.Code || s.Done() != nil):
					t.Errorf("%v, want %s", failed, want.Code)
				}
				if f := want.Follows; f != nil && !strings.HasSuffix(server.asked[1], " "+f.ID) {
					t.Errorf("asked %v", server.asked)
				}
			})
		})
	}
}

// upTo is a transcript's bytes up to and with the frame of an id, or all of it if
// that is its last.
func upTo(t *testing.T, raw []byte, id string) []byte {
	t.Helper()
	at := bytes.Index(raw, []byte("id: "+id+"\n"))
	if at < 0 {
		t.Fatalf("no frame %s", id)
	}
	end := at + bytes.Index(raw[at:], []byte("\n\n")) + 2
	if !bytes.Contains(raw[end:], []byte("id: ")) {
		return raw
	}
	return raw[:end]
}

func idOf(request string, attempt, seq int) string {
	return fmt.Sprintf("%s-%d-%d", request, attempt, seq)
}

// rest puts back what was read of a body.
func rest(read []byte, body io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(bytes.Clone(read)), body), body}
}
