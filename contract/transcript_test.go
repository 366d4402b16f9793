package contract

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// transcript is what a reader must find in the bytes of the same name.
type transcript struct {
	About     string  `json:"about"`
	Follows   *cut    `json:"follows,omitempty"`
	Events    []event `json:"events"`
	RetryMS   int     `json:"retry_ms"`      // as of the end
	LastID    string  `json:"last_event_id"` // as of the end
	Text      string  `json:"text"`          // of a client that has read what goes before, too
	Reasoning string  `json:"reasoning,omitempty"`
	End       string  `json:"end"` // done; error: the run has ended; cut: only this response has
	Code      string  `json:"code,omitempty"`
}

// cut says what a client has read before, up to and with the frame of an id.
type cut struct {
	Transcript string `json:"transcript"`
	ID         string `json:"id"`
}

type event struct {
	ID    string `json:"id,omitempty"` // of its own
	Event string `json:"event"`
	Data  string `json:"data"`
}

const dir = "transcripts"

// names are the transcripts there are, in order.
func names(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.sse"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".sse")
	}
	return files
}

func load(t *testing.T, name string) (raw []byte, tr transcript) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name+".sse"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &tr); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return raw, tr
}

// normal gives what is random a name in the order in which it occurs: ids, and
// the jitter of reconnection times. Everything else is the same each time.
type normal struct{ ids map[string]string }

var (
	ids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	retries = regexp.MustCompile(`(?m)^(retry: )[0-9]+$|("retry_ms":)[0-9]+`)
)

func (n *normal) apply(raw []byte) []byte {
	raw = ids.ReplaceAllFunc(raw, func(id []byte) []byte {
		name, ok := n.ids[string(id)]
		if !ok {
			name = fmt.Sprintf("00000000-0000-7000-8000-%012d", len(n.ids)+1)
			n.ids[string(id)] = name
		}
		return []byte(name)
	})
	return retries.ReplaceAll(raw, []byte("${1}${2}2000"))
}

// meaning is what a stream says, worked out by the test's own reader.
func meaning(t *testing.T, about string, raw []byte, follows *cut, before string) transcript {
	t.Helper()
	s, err := testedge.Parse(raw)
	if err != nil {
		t.Fatalf("%s: %v\n%s", about, err, raw)
	}
	tr := transcript{About: about, Follows: follows, RetryMS: 2000, LastID: s.LastID, Text: s.Text, Reasoning: s.Reasoning}
	if !slices.ContainsFunc(s.Deltas, func(d api.Delta) bool { return d.Reset }) {
		tr.Text = before + s.Text
	}
	for _, e := range s.Events {
		tr.Events = append(tr.Events, event{e.ID, e.Name, e.Data})
	}
	switch {
	case s.Done != nil:
		tr.End = "done"
	case s.ErrorID != "":
		tr.End, tr.Code = "error", string(s.Error.Code)
	default:
		tr.End, tr.Code = "cut", string(s.Error.Code)
	}
	return tr
}

func encode(t *testing.T, tr transcript) []byte {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(tr); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}
