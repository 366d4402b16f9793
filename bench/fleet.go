package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// fleet is every process of a run.
type fleet struct {
	settings settings
	dir      string // scratch, removed at the end
	log      *os.File
	binary   string
	tokens   []string
	upstream *process
	address  string // of the upstream
	cluster  *cluster
	peers    map[string]*peer
	requests atomic.Uint64 // numbers idempotency keys
	starts   map[string][]float64
}

// openFleet builds what is measured and starts the upstream and the store, but
// none of the peers.
func openFleet(ctx context.Context, s settings, stderr io.Writer) (*fleet, error) {
	dir, err := os.MkdirTemp("", "agentedge-bench-")
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	f := &fleet{settings: s, dir: dir, binary: s.Binary, peers: map[string]*peer{}, starts: map[string][]float64{}}
	if err := f.open(ctx, stderr); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *fleet) open(ctx context.Context, stderr io.Writer) error {
	var err error
	if err = os.Chmod(f.dir, 0o755); err != nil { // PostgreSQL may run as another user
		return fmt.Errorf("scratch: %w", err)
	}
	if f.log, err = os.Create(filepath.Join(f.dir, "edge.log")); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if f.tokens, err = mintTokens(users); err != nil {
		return err
	}
	if f.upstream, f.address, err = startHelper(ctx, "upstream"); err != nil {
		return err
	}
	if f.binary == "" && (f.has(embedded) || f.has(postgres)) {
		fmt.Fprintln(stderr, "bench: building agentedge")
		f.binary = filepath.Join(f.dir, "agentedge")
		build := exec.CommandContext(ctx, "go", "build", "-o", f.binary, "./cmd/agentedge")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build agentedge: %w\n%s", err, out)
		}
	}
	if f.has(postgres) {
		fmt.Fprintln(stderr, "bench: preparing PostgreSQL")
		if f.cluster, err = openCluster(ctx, f.settings.URL, f.dir); err != nil {
			return err
		}
		return f.migrate(ctx)
	}
	return nil
}

func (f *fleet) has(name string) bool { return slices.Contains(f.settings.Peers, name) }

// migrate brings the benchmark's database up to date.
func (f *fleet) migrate(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, f.binary, "migrate", "up")
	cmd.Dir, cmd.Env = f.dir, edgeEnv(f.address, f.dir, f.cluster.dsn)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate up: %w\n%s", err, out)
	}
	return nil
}

// start starts a peer that is not running, and notes how long it took.
func (f *fleet) start(ctx context.Context, name string) (*peer, error) {
	if p := f.peers[name]; p != nil {
		return p, nil
	}
	var p *peer
	var err error
	switch name {
	case direct:
		p = &peer{addr: f.address}
	case proxied:
		p = &peer{}
		p.proc, p.addr, err = startHelper(ctx, "proxy", "http://"+f.address)
	case embedded:
		p, err = startEdge(ctx, f.binary, f.address, f.dir, "", f.log)
	case postgres:
		p, err = startEdge(ctx, f.binary, f.address, f.dir, f.cluster.dsn, f.log)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", name, err, f.logTail())
	}
	p.name, p.tokens, p.nonce = name, f.tokens, "bench-"+strconv.FormatUint(f.settings.Seed, 36)
	p.nth = func() uint64 { return f.requests.Add(1) }
	if p.edge() {
		f.starts[name] = append(f.starts[name], millis(p.started))
	}
	f.peers[name] = p
	return p, nil
}

// restart gives a peer a fresh process: memory is compared from the start.
func (f *fleet) restart(ctx context.Context, name string) (*peer, error) {
	f.stopPeer(name)
	return f.start(ctx, name)
}

func (f *fleet) stopPeer(name string) {
	if p := f.peers[name]; p != nil && p.proc != nil {
		p.proc.stop()
	}
	delete(f.peers, name)
}

// logTail is the end of what the edges said, for an error message.
func (f *fleet) logTail() string {
	data, err := os.ReadFile(f.log.Name())
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\n" + string(data[max(0, len(data)-2000):])
}

func (f *fleet) close() error {
	for _, name := range peerNames() {
		f.stopPeer(name)
	}
	var err error
	if f.cluster != nil {
		err = f.cluster.close()
	}
	if f.upstream != nil {
		f.upstream.stop()
	}
	if f.log != nil {
		err = errors.Join(err, f.log.Close())
	}
	return errors.Join(err, os.RemoveAll(f.dir))
}

// cost is what a peer and PostgreSQL have spent so far.
type cost struct {
	peer, database time.Duration // CPU time
	writes         int64         // the peer's write calls
}

func (f *fleet) cost(p *peer) (cost, error) {
	var c cost
	if p.proc != nil {
		stat, err := readStat(p.proc.pid())
		if err != nil {
			return c, fmt.Errorf("%s: %w", p.name, err)
		}
		c.peer = stat.Own
		if c.writes, err = writeCalls(p.proc.pid()); err != nil {
			return c, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if p.name == postgres {
		var err error
		if c.database, err = familyCPU(f.cluster.postmaster); err != nil {
			return c, fmt.Errorf("postgresql: %w", err)
		}
	}
	return c, nil
}
