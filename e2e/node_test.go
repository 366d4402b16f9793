package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// node is one agentedge process, which may be started and ended many times. It
// keeps its address, so that clients find it again.
type node struct {
	t      *testing.T
	env    []string
	dir    string
	addr   string
	cmd    *exec.Cmd
	exited chan struct{}
	log    *os.File
}

// newNode prepares a node without starting it.
func newNode(t *testing.T, env []string) *node {
	n := &node{t: t, dir: t.TempDir(), addr: freeAddr(t)}
	n.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + n.dir,
		"EDGE_ADDR=" + n.addr, "METRICS_ADDR=" + freeAddr(t),
	}, env...)
	var err error
	if n.log, err = os.Create(filepath.Join(n.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			data, err := os.ReadFile(n.log.Name())
			t.Logf("node %s said (%v):\n%s", n.addr, err, data[max(0, len(data)-6000):])
		}
		n.log.Close()
	})
	return n
}

// freeAddr finds a loopback port below those that the system hands out for
// outgoing connections: a node that is down must not lose its port to a client.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(16000))
		if listener, err := net.Listen("tcp", addr); err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// start starts the process and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	if err := n.launch(); err != nil {
		n.t.Fatal(err)
	}
	n.awaitReady()
}

func (n *node) launch() error {
	n.cmd = exec.Command(os.Getenv(binaryVar), "serve")
	n.cmd.Dir, n.cmd.Env, n.cmd.Stdout, n.cmd.Stderr = n.dir, n.env, n.log, n.log
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	cmd, exited := n.cmd, make(chan struct{})
	n.exited = exited
	go func() {
		cmd.Wait() // its state is read from cmd
		close(exited)
	}()
	return nil
}

func (n *node) awaitReady() {
	n.t.Helper()
	n.eventually(20*time.Second, "ready", func() (bool, error) {
		select {
		case <-n.exited:
			return false, fmt.Errorf("the node ended: %v", n.cmd.ProcessState)
		default:
		}
		return n.status("/readyz") == http.StatusOK, nil
	})
}

// status of a GET, 0 when nobody answers.
func (n *node) status(path string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	response, err := lone().Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// lone is a client that keeps no connection: nodes come and go.
func lone() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
}

func (n *node) eventually(patience time.Duration, what string, holds func() (bool, error)) {
	n.t.Helper()
	eventually(n.t, patience, what, holds)
}

// eventually asks again and again until what it waits for holds. The patience is
// only how long a broken build takes to fail.
func eventually(t *testing.T, patience time.Duration, what string, holds func() (bool, error)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := holds()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// pass lets time go by, for what is defined by time: a lease that lapses.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// kill ends the process as a crash does.
func (n *node) kill() {
	if n.running() {
		n.signal(syscall.SIGKILL)
		<-n.exited
	}
}

func (n *node) signal(s syscall.Signal) {
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.t.Errorf("signal %v: %v", s, err)
	}
}

// stop ends the process as an operator does; it must end by itself, and well.
func (n *node) stop(patience time.Duration) {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	n.awaitExit(patience)
}

func (n *node) awaitExit(patience time.Duration) {
	n.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-n.exited:
		if code := n.cmd.ProcessState.ExitCode(); code != 0 {
			n.t.Errorf("the node's exit code is %d (%v), want 0", code, n.cmd.ProcessState)
		}
	case <-timer.C:
		n.t.Fatalf("the node did not end within %v of SIGTERM", patience)
	}
}

// envOf builds `name=value` pairs; later ones win in a process's environment.
func envOf(pairs ...string) []string {
	for _, p := range pairs {
		if !strings.Contains(p, "=") {
			panic("not a pair: " + p)
		}
	}
	return pairs
}
