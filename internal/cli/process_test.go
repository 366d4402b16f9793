package cli_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// process is a command in the background whose output can be waited for.
type process struct {
	cmd    *exec.Cmd
	over   chan struct{} // closed when it has ended
	code   int
	stdout *output
	stderr *output
}

// output keeps what a process wrote and tells of every write.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

// await returns the first match in the output of a process.
func (p *process) await(ts *testscript.TestScript, o *output, pattern string) []string {
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	ctx, done := context.WithTimeout(context.Background(), patient)
	defer done()
	for last := false; ; {
		text, changed := o.read()
		if found := re.FindStringSubmatch(text); found != nil {
			return found
		}
		if last {
			ts.Fatalf("%q did not come; output:\n%s\n%s", pattern, all(p.stdout), all(p.stderr))
		}
		select {
		case <-changed:
		case <-p.over:
			last = true
		case <-ctx.Done():
			last = true
		}
	}
}

func all(o *output) string {
	text, _ := o.read()
	return text
}

// start NAME PATTERN COMMAND… runs a command in the background and waits until
// its standard output matches. What the pattern's group caught becomes $NAME.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: start NAME PATTERN COMMAND...")
	}
	path, err := findCommand(ts, args[2])
	ts.Check(err)
	p := &process{cmd: exec.Command(path, args[3:]...), over: make(chan struct{}), stdout: newOutput(), stderr: newOutput()}
	p.cmd.Args[0] = args[2]
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = environ(ts)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	ts.Check(p.cmd.Start())
	go func() {
		defer close(p.over)
		err := p.cmd.Wait()
		p.code = exitCode(err)
	}()
	of(ts).processes[args[0]] = p
	found := p.await(ts, p.stdout, args[1])
	ts.Setenv(args[0], found[len(found)-1])
}

// environ is what a script's commands see.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "GORACE", "EDGE_ADDR", "METRICS_ADDR", "EDGE_DATA_DIR", "CHAT_API_BASE", "DRAIN_TIMEOUT", "RUN_LEASE",
	} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// findCommand looks a command up where the script would.
func findCommand(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.over
}

func named(ts *testscript.TestScript, name string) *process {
	p := of(ts).processes[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

// signal NAME INT|TERM|KILL
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	if len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME INT|TERM|KILL")
	}
	ts.Check(named(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

// ended NAME CODE waits for the end of a command and compares its exit code. Its
// output is then that of the script's last command.
func ended(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	p := named(ts, args[0])
	ctx, done := context.WithTimeout(context.Background(), patient)
	defer done()
	select {
	case <-p.over:
	case <-ctx.Done():
		ts.Fatalf("%s did not end\n%s\n%s", args[0], all(p.stdout), all(p.stderr))
	}
	_, err := ts.Stdout().Write([]byte(all(p.stdout)))
	ts.Check(err)
	_, err = ts.Stderr().Write([]byte(all(p.stderr)))
	ts.Check(err)
	if strconv.Itoa(p.code) != args[1] {
		ts.Fatalf("%s ended with %d, not %s\n%s", args[0], p.code, args[1], all(p.stderr))
	}
}

// code N COMMAND… runs a command that must exit with N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}
