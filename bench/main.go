// Command bench measures agentedge beside the same load sent direct and through
// a bare httputil.ReverseProxy, in one run on one machine. It starts every
// process itself, measures in interleaved rounds with the peers shuffled, and
// writes medians, ratios and the budgets they are held against.
//
//	go run ./bench                       all scenarios, at most 15 minutes
//	go run ./bench -quick                one short round, at most 90 seconds
//	go run ./bench -only plain,streams   some of them
//
// Absolute figures depend on the machine and on what else runs there; the ratios
// and the CPU time per request are what to compare.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// settings of one run of the driver.
type settings struct {
	Quick  bool
	Strict bool
	Rounds int
	Seed   uint64
	Only   []string
	Peers  []string
	Out    string
	Binary string
	URL    string // an existing PostgreSQL server; empty: scripts/postgres.sh starts one
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// dispatch runs the driver, or one of the processes the driver starts from its
// own executable.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "upstream":
			return serveUpstream(ctx, stdout)
		case "proxy":
			if len(args) != 2 {
				return fmt.Errorf("usage: bench proxy TARGET")
			}
			return serveProxy(ctx, args[1], stdout)
		}
	}
	s, err := parseSettings(args, stderr)
	if err != nil {
		return err
	}
	return drive(ctx, s, stdout, stderr)
}

func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var s settings
	var only, peers string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&s.Quick, "quick", false, "one short round, 1,000 slow streams only")
	fs.BoolVar(&s.Strict, "strict", false, "exit 1 when a budget is missed")
	fs.IntVar(&s.Rounds, "rounds", 0, "interleaved rounds (default 3, with -quick 1)")
	fs.Uint64Var(&s.Seed, "seed", 0, "seed of the peers' order (default: from the clock)")
	fs.StringVar(&only, "only", "", "scenarios: "+strings.Join(scenarioNames(), ","))
	fs.StringVar(&peers, "peers", "", "peers: "+strings.Join(peerNames(), ","))
	fs.StringVar(&s.Out, "out", "bench/results/latest", "results file, without its ending")
	fs.StringVar(&s.Binary, "binary", "", "agentedge to measure (default: built from ./cmd/agentedge)")
	if err := fs.Parse(args); err != nil {
		return s, fmt.Errorf("parse flags: %w", err)
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if s.Rounds == 0 {
		s.Rounds = 3
		if s.Quick {
			s.Rounds = 1
		}
	}
	if s.Seed == 0 {
		s.Seed = uint64(time.Now().UnixNano())
	}
	s.URL = os.Getenv("TEST_DATABASE_URL")
	var err error
	if s.Only, err = choose(only, scenarioNames()); err != nil {
		return s, fmt.Errorf("-only: %w", err)
	}
	if s.Peers, err = choose(peers, peerNames()); err != nil {
		return s, fmt.Errorf("-peers: %w", err)
	}
	return s, nil
}

// choose splits a comma-separated list whose names must all be known. Empty: all.
func choose(list string, known []string) ([]string, error) {
	if list == "" {
		return known, nil
	}
	var chosen []string
	for name := range strings.SplitSeq(list, ",") {
		found := false
		for _, k := range known {
			found = found || k == name
		}
		if !found {
			return nil, fmt.Errorf("unknown name %q, have %s", name, strings.Join(known, ","))
		}
		chosen = append(chosen, name)
	}
	return chosen, nil
}
