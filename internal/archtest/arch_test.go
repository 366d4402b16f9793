// Package archtest keeps the house's floors: a package imports only lower
// layers, packages of one layer do not import each other, and the layers that
// hold the product's mechanisms know no driver and no server. It parses the
// sources itself, so no cached answer can hide a change.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/agentedge/agentedge/"

// layers is the floor of every package. A new package needs a line here.
var layers = map[string]int{
	"api": 0, "sse": 0, "supabase": 0,
	"internal/fault": 0, "internal/record": 0, "internal/trace": 0, "internal/strictjson": 0,
	"client":          1,
	"internal/config": 1, "internal/auth": 1, "internal/limit": 1, "internal/run": 1,
	"internal/retry": 1, "internal/dial": 1, "internal/tokens": 1,
	"internal/chat":   2,
	"internal/openai": 3, "internal/postgres": 3, "internal/sqlite": 3, "internal/httpapi": 3,
	"internal/app": 4,
	"internal/cli": 5,
}

// beside are packages outside the floors: they serve tests and development, and
// only what is named here may import them.
var beside = map[string][]string{
	"internal/mockprovider": {"internal/app", "internal/cli"},
	"internal/storetest":    {},
	"internal/pgtest":       {},
	"internal/archtest":     {},
	"cmd/agentedge":         {},
}

// siblings may be imported by packages of their own layer, for a reason each.
var siblings = map[string]string{
	"internal/fault": "every layer speaks in faults, the strict parser of layer 0 too",
}

func TestLayers(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(rel, ".go") && !strings.HasSuffix(rel, "_test.go") {
			pkg := filepath.ToSlash(filepath.Dir(rel))
			seen[pkg] = true
			check(t, pkg, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range layers {
		if !seen[pkg] {
			t.Errorf("%s has a layer but no code", pkg)
		}
	}
}

func check(t *testing.T, pkg, path string) {
	layer, ok := layers[pkg]
	_, outside := beside[pkg]
	if strings.HasPrefix(pkg, "bench") || strings.HasPrefix(pkg, "e2e") || strings.HasPrefix(pkg, "contract") {
		return
	}
	if !ok && !outside {
		t.Errorf("%s has no layer: name it in this test", pkg)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, imp := range file.Imports {
		target, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		own, isOwn := strings.CutPrefix(target, module)
		switch {
		case !isOwn:
			if ok && layer <= 2 && (target == "database/sql" || target == "net/http/httputil" ||
				strings.HasPrefix(target, "github.com/jackc/") || strings.HasPrefix(target, "modernc.org/")) {
				t.Errorf("%s imports %s: layers 0 to 2 know no driver and no server", pkg, target)
			}
		case outside:
		default:
			checkOwn(t, pkg, layer, own)
		}
	}
}

func checkOwn(t *testing.T, pkg string, layer int, target string) {
	if users, ok := beside[target]; ok {
		for _, u := range users {
			if u == pkg {
				return
			}
		}
		t.Errorf("%s imports %s, which is not for it", pkg, target)
		return
	}
	below, ok := layers[target]
	if !ok {
		t.Errorf("%s imports %s, which has no layer", pkg, target)
		return
	}
	if siblings[target] != "" && below == layer {
		return
	}
	if target == "api" && below == layer {
		return // the words that everything shares
	}
	if below >= layer {
		t.Errorf("%s (layer %d) imports %s (layer %d)", pkg, layer, target, below)
	}
}
