package openaigo

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/tmaxmax/go-sse"
)

type event struct{ ID, Event, Data string }

type transcript struct {
	Events []event
	LastID string `json:"last_event_id"`
}

// TestTranscripts: both readers find the events of every transcript, with the
// limits that they have by default, however the bytes come.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../transcripts/*.sse")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(strings.TrimSuffix(file, ".sse") + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var want transcript
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		for how, arrive := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "in halves": iotest.HalfReader,
		} {
			t.Run(filepath.Base(file)+", "+how, func(t *testing.T) {
				byOpenAI(t, arrive(bytes.NewReader(raw)), want)
				byGoSSE(t, arrive(bytes.NewReader(raw)), want)
			})
		}
	}
}

// byOpenAI reads with the reader of openai-go, which knows no ids.
func byOpenAI(t *testing.T, src io.Reader, want transcript) {
	t.Helper()
	d := ssestream.NewDecoder(&http.Response{Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(src)})
	defer d.Close()
	var got []event
	for d.Next() {
		e := d.Event()
		got = append(got, event{Event: e.Type, Data: strings.TrimSuffix(string(e.Data), "\n")})
	}
	wanted := slices.Clone(want.Events)
	for i := range wanted {
		wanted[i].ID = ""
	}
	if d.Err() != nil || !slices.Equal(got, wanted) {
		t.Errorf("openai-go: %v, %v", d.Err(), got)
	}
}

// byGoSSE reads with go-sse, whose events carry the last id there was.
func byGoSSE(t *testing.T, src io.Reader, want transcript) {
	t.Helper()
	var got []event
	last := ""
	for e, err := range sse.Read(src, nil) {
		if err != nil {
			t.Fatalf("go-sse: %v", err)
		}
		one := event{Event: e.Type, Data: e.Data}
		if e.LastEventID != last {
			one.ID, last = e.LastEventID, e.LastEventID
		}
		got = append(got, one)
	}
	if !slices.Equal(got, want.Events) || last != want.LastID {
		t.Errorf("go-sse: %v, last %s", got, last)
	}
}
