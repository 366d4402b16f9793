// Package cli is the command line: it parses arguments and hands over to
// internal/app (what runs in this process) or to the client (what asks a running
// edge). Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the edge
// could not be reached or its answer not brought to its end, 130 interrupted.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitInterrupted = 130
)

// Process is what a command may use of the process it runs in.
type Process struct {
	Environ []string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}

type commands struct {
	Dev          devCommand     `cmd:"" help:"Run an edge for development: embedded store, mock provider unless keys are set."`
	Serve        serveCommand   `cmd:"" help:"Run the edge."`
	Migrate      migrateCommand `cmd:"" help:"Bring the store's schema up to date, or look at it."`
	Config       configCommand  `cmd:"" help:"Print the configuration, redacted, with each value's origin."`
	Chat         chatCommand    `cmd:"" help:"Send a message to a running edge and stream the answer."`
	MockProvider mockCommand    `cmd:"" name:"mock-provider" help:"Run a scripted OpenAI-compatible provider with faults."`
	Version      versionCommand `cmd:"" help:"Print the version."`
}

// failure is an error with the exit code it asks for.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// exited is what kong asks for after --help.
type exited struct{ code int }

// Run runs one command and returns its exit code. stop gives the signals back, so
// that a second one ends a process that takes too long to stop.
func Run(ctx context.Context, stop func(), args []string, p Process) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = e.code
		}
	}()
	context.AfterFunc(ctx, stop)
	var c commands
	parser, err := kong.New(&c,
		kong.Name("agentedge"),
		kong.Description("The durable edge in front of chat and embedding providers: one request, one run, one truth."),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(exited{code}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
	)
	if err != nil {
		return report(p, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		return report(p, &failure{exitUsage, fmt.Errorf("%w\nhint: agentedge --help", err)})
	}
	return report(p, k.Run())
}

// report prints an error and returns the exit code for it.
func report(p Process, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(p.Stderr, "agentedge:", strings.TrimPrefix(err.Error(), "agentedge: "))
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return exitFailed
}

// workDir is where .env and supabase/config.toml are looked for.
func workDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	return dir, nil
}
