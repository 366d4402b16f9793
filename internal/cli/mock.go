package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/agentedge/agentedge/internal/mockprovider"
)

type mockCommand struct {
	Addr   string   `help:"Where to listen." default:"127.0.0.1:8788"`
	Script string   `help:"Directives for every request, as in [[mock: …]], e.g. \"chunks=50 delay=20ms\"."`
	Key    string   `help:"The bearer key that requests must carry."`
	Model  []string `help:"Models to list."`
}

func (mockCommand) Help() string {
	return `Its answers are plainly a mock's. A request scripts its own faults by a directive in the
last user message. See docs/mock-provider.md.

Example:
  agentedge mock-provider --addr 127.0.0.1:8788
  agentedge chat "tell me a story [[mock: chunks=50 delay=20ms fault=rst@10]]"`
}

func (c *mockCommand) Run(ctx context.Context, p Process) error {
	mock, err := mockprovider.New(mockprovider.Options{Script: c.Script, Key: c.Key, Models: c.Model})
	if err != nil {
		return &failure{exitUsage, err}
	}
	defer mock.Close()
	ln, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: mock, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintf(p.Stdout, "mock provider at http://%s/v1\n", ln.Addr())
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		if err := server.Close(); err != nil {
			fmt.Fprintln(p.Stderr, "agentedge: close:", err)
		}
	})
	err = server.Serve(ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
