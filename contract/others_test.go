package contract

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// command runs a program of another ecosystem in a folder of this package.
func command(t *testing.T, folder, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOWORK=off", "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v\nhint: scripts/node.sh makes Node.js and npm available", err)
	}
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// skipInCheck leaves out what the fast loop (make check) does without: other
// processes. Everywhere else they are never skipped.
func skipInCheck(t *testing.T) {
	t.Helper()
	if os.Getenv("CHECK") != "" {
		t.Skip("CHECK is set: no other processes")
	}
}

// TestOtherGoReaders: openai-go's reader and go-sse find what ours finds.
func TestOtherGoReaders(t *testing.T) {
	skipInCheck(t)
	command(t, "openaigo", "go", "test", "-count=1", "./...")
}

// TestJavaScript: so do the runbook's loop and eventsource-parser.
func TestJavaScript(t *testing.T) {
	skipInCheck(t)
	if !installed(t) {
		command(t, "js", "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	}
	command(t, "js", "node", "--test")
}

// installed tells whether node_modules is of the lockfile that there is.
func installed(t *testing.T) bool {
	t.Helper()
	modules := filepath.Join("js", "node_modules")
	want, err := os.ReadFile(filepath.Join("js", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(modules, ".contract-lock.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return true
	}
	t.Cleanup(func() {
		if !t.Failed() {
			if err := os.WriteFile(filepath.Join(modules, ".contract-lock.json"), want, 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	return false
}
