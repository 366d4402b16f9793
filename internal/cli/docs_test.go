package cli_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/config"
	"github.com/agentedge/agentedge/internal/mockprovider"
)

const root = "../../"

func page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), root+name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// stringsIn collects the string constants below a node.
func stringsIn(node ast.Node) (list []string) {
	ast.Inspect(node, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				list = append(list, s)
			}
		}
		return true
	})
	return list
}

// docs/errors.md lists every code there is, with its status and whether the
// request may be sent again, and no other.
func TestErrorsPage(t *testing.T) {
	documented := map[api.Code]bool{}
	row := regexp.MustCompile("(?m)^\\| <a id=\"([^\"]+)\"></a>`([^`]+)` \\| (\\d+) \\| (yes|no) \\| [^|]+ \\| [^|]+ \\|$")
	for _, m := range row.FindAllStringSubmatch(page(t, "docs/errors.md"), -1) {
		code := api.Code(m[2])
		if m[1] != m[2] || documented[code] {
			t.Errorf("%s: anchor %s, twice: %t", code, m[1], documented[code])
		}
		documented[code] = true
		if m[3] != strconv.Itoa(code.Status()) || (m[4] == "yes") != code.Retryable() {
			t.Errorf("%s: the page says %s and retryable %s, the code %d and %t", code, m[3], m[4], code.Status(), code.Retryable())
		}
	}
	codes := map[api.Code]bool{}
	for _, decl := range parse(t, "api/codes.go").Decls {
		if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, code := range stringsIn(d) {
				codes[api.Code(code)] = true
			}
		}
	}
	if len(codes) < 50 {
		t.Fatalf("only %d codes found in api/codes.go", len(codes))
	}
	for code := range codes {
		if !documented[code] {
			t.Errorf("docs/errors.md lacks %s", code)
		}
	}
	for code := range documented {
		if !codes[code] {
			t.Errorf("docs/errors.md has %s, which is no code", code)
		}
	}
}

// docs/mock-provider.md lists every directive, usage mode and fault, and its
// examples are such that the mock understands them.
func TestMockPage(t *testing.T) {
	text := page(t, "docs/mock-provider.md")
	names := map[string]bool{}
	ast.Inspect(parse(t, "internal/mockprovider/script.go"), func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "fields" {
				for _, name := range stringsIn(n.Body) {
					names[name+"="] = true
				}
			}
		case *ast.ValueSpec:
			if name := n.Names[0].Name; strings.HasSuffix(name, "Faults") || name == "usageModes" {
				for name := range strings.FieldsSeq(stringsIn(n)[0]) {
					names[name] = true
				}
			}
		}
		return true
	})
	if len(names) < 50 {
		t.Fatalf("only %d names found in script.go", len(names))
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !strings.Contains(text, "`"+name) {
			t.Errorf("docs/mock-provider.md lacks `%s`", name)
		}
	}
	examples := regexp.MustCompile(`\[\[mock: ([^…\]]*)\]\]`).FindAllStringSubmatch(text, -1)
	if len(examples) < 3 {
		t.Errorf("only %d examples", len(examples))
	}
	for _, m := range examples {
		if err := new(mockprovider.Script).Apply(m[1]); err != nil {
			t.Errorf("%s: %v", m[0], err)
		}
	}
}

// .env.example names only what there is, also in its comments, and is a
// configuration that a server starts with once its keys are filled in.
func TestEnvExample(t *testing.T) {
	var environ []string
	for line := range strings.Lines(page(t, ".env.example")) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
		if regexp.MustCompile(`^[A-Z][A-Z0-9_]+=`).MatchString(line) {
			environ = append(environ, line)
		}
	}
	if len(environ) < 15 {
		t.Fatalf("only %d variables", len(environ))
	}
	cfg, err := config.Load(config.Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, entry := range cfg.Entries() {
		known[entry.Name] = true
	}
	for _, line := range environ {
		if name, _, _ := strings.Cut(line, "="); !known[name] && name != "FALLBACK_KEY" { // named by CHAT_FALLBACKS
			t.Errorf("%s is no variable", name)
		}
	}
}

// Links between the pages lead somewhere.
func TestLinks(t *testing.T) {
	pages := []string{
		"README.md", "docs/errors.md", "docs/mock-provider.md", "docs/providers.md", "docs/operations.md", "docs/dependencies.md",
		"docs/testing.md", "docs/configuration.md", "docs/architecture.md",
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, name := range pages {
		dir := root
		if strings.HasPrefix(name, "docs/") {
			dir += "docs/"
		}
		for _, m := range link.FindAllStringSubmatch(page(t, name), -1) {
			if _, err := os.Stat(dir + m[1]); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}
