package cli_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/agentedge/agentedge/internal/cli"
)

// TestMain makes this test's binary the command that the scripts call.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agentedge": agentedge})
}

// agentedge is what cmd/agentedge does.
func agentedge() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, stop, os.Args[1:], cli.Process{
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	stop()
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":   code,
			"start":  start,
			"signal": sendSignal,
			"ended":  ended,
			"mock":   startMock,
			"calls":  calls,
			"heard":  heard,
			"cutter": startCutter,
			"cuts":   cuts,
			"http":   request,
			"sql":    sql,
		},
	})
}

// world is what one script has started.
type world struct {
	processes map[string]*process
	mock      *mock
	cutter    *cutter
}

type worldKey struct{}

// patient bounds every wait for something that is sure to come.
const patient = 2 * time.Minute

func setup(env *testscript.Env) error {
	w := &world{processes: map[string]*process{}}
	env.Values[worldKey{}] = w
	env.Defer(func() {
		for _, p := range w.processes {
			p.kill()
		}
		if w.mock != nil {
			w.mock.stop()
		}
		if w.cutter != nil {
			w.cutter.stop()
		}
	})
	env.Setenv("EDGE_ADDR", "127.0.0.1:0")
	env.Setenv("METRICS_ADDR", "127.0.0.1:0")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else each of the scripts' many processes sleeps at its end
	return nil
}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }
