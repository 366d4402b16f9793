// Command agentedge is the durable edge in front of chat and embedding providers.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/agentedge/agentedge/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, stop, os.Args[1:], cli.Process{
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	stop()
	os.Exit(code)
}
