package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

const (
	docsPath = "../../docs/configuration.md"
	begin    = "<!-- The tables are written by: go test ./internal/config -run TestDocs -update -->\n"
	end      = "<!-- end of the tables -->\n"
)

// The documentation lists every name there is, with its kind, default and
// meaning as the code has them, and no other.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	tables, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around its tables", docsPath)
	}
	want := docsTables()
	if *update {
		if err := os.WriteFile(docsPath, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	wantLines, lines := strings.Split(want, "\n"), strings.Split(tables, "\n")
	for i := range max(len(wantLines), len(lines)) {
		var code, docs string
		if i < len(wantLines) {
			code = wantLines[i]
		}
		if i < len(lines) {
			docs = lines[i]
		}
		if code != docs {
			t.Fatalf("docs/configuration.md and the code differ (go test ./internal/config -run TestDocs -update)\ndocs: %s\ncode: %s", docs, code)
		}
	}
}

func docsTables() string {
	var b strings.Builder
	for _, g := range (&loader{config: &Config{}}).groups() {
		fmt.Fprintf(&b, "\n## %s\n\n| name | form | default | meaning |\n|---|---|---|---|\n", g.title)
		for _, v := range g.variables {
			def := "empty"
			switch {
			case v.defNote != "":
				def = v.defNote
			case v.def != "":
				def = "`" + v.def + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.name, v.kind, def, v.help)
		}
	}
	return b.String() + "\n"
}
