package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaryVar names the binary under test.
const binaryVar = "E2E_BINARY"

// TestMain builds the binary once, as it ships: without the race detector, whose
// slowness would hide races between processes.
func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if os.Getenv(binaryVar) == "" {
		dir, err := os.MkdirTemp("", "agentedge-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "agentedge")
		build := exec.Command("go", "build", "-o", path, "github.com/agentedge/agentedge/cmd/agentedge")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: build: %v\n%s", err, out)
			return 1
		}
		if err := os.Setenv(binaryVar, path); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	return m.Run()
}

// soak is true for the long versions.
func soak() bool { return os.Getenv("SOAK") != "" }

// scale chooses between the length for a continuous build and the long one.
func scale(short, long int) int {
	if soak() {
		return long
	}
	return short
}
