package pgtest

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// Server is a PostgreSQL of the test's own, to be stopped and started.
type Server struct {
	URL string // of the database postgres, which is empty
	dir string
}

// Cluster starts a server that only this test uses; it ends with the test.
func Cluster(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentedge-pg")
	if err != nil {
		t.Fatal(err)
	}
	guard, err := script("guard", dir)
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := guard.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := guard.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(stdin.Close(), guard.Wait()); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	s := &Server{dir: dir}
	s.Start(t)
	return s
}

// Start starts the server again, at the same URL.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.URL = s.script(t, "start", s.dir)
}

// Stop ends the server: mode "fast" in order, "immediate" as a crash does.
func (s *Server) Stop(t testing.TB, mode string) {
	t.Helper()
	s.script(t, "stop", s.dir, mode)
}

func (s *Server) script(t testing.TB, args ...string) string {
	t.Helper()
	cmd, err := script(args...)
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pgtest: postgres.sh %s: %v\n%s", args[0], err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
