package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"
)

// figures of one peer in one round of a scenario, by name.
type figures map[string]float64

// scenario is one kind of load.
type scenario struct {
	name, title string
	peers       []string // that take part
	measure     func(ctx context.Context, f *fleet, name string) (figures, error)
}

func scenarioNames() []string {
	return []string{"plain", "streams", "low", "slow1k", "slow5k", "start"}
}

func scenarios(quick bool) []scenario {
	all, held, edges := peerNames(), []string{proxied, embedded, postgres}, []string{embedded, postgres}
	stretch := 5 * time.Second
	if quick {
		stretch = 2 * time.Second
	}
	list := []scenario{
		{"plain", "plain chats, 64 at once", all, saturated(requestKind{Pace: pace{Chunks: 1}}, stretch)},
		{"streams", "streams of 50 chunks at full speed, 64 at once", all,
			saturated(requestKind{Stream: true, Pace: pace{Chunks: 50}}, stretch)},
		{"low", "100 streams/s of 20 chunks, the first after 20 ms, then every 5 ms", all, lowLoad(stretch)},
		{"slow1k", "1,000 open streams, a chunk every 200 ms", held, slow(1000, 500, pace{45, 0, 200 * time.Millisecond})},
		{"slow5k", "5,000 open streams, a chunk every second", held, slow(5000, 1000, pace{12, 0, time.Second})},
		{"start", "from the process's start until /readyz says 200", edges, startUp},
	}
	if quick {
		list[3].measure = slow(1000, 500, pace{25, 0, 200 * time.Millisecond})
		list = slices.DeleteFunc(list, func(s scenario) bool { return s.name == "slow5k" })
	}
	return list
}

const atOnce = 64

// saturated measures throughput and CPU time with 64 requests in flight.
func saturated(kind requestKind, d time.Duration) func(context.Context, *fleet, string) (figures, error) {
	return func(ctx context.Context, f *fleet, name string) (figures, error) {
		p, err := f.start(ctx, name)
		if err != nil {
			return nil, err
		}
		saturate(ctx, p, kind, atOnce, d/10) // connections, pools and caches
		before, err := f.cost(p)
		if err != nil {
			return nil, err
		}
		l := saturate(ctx, p, kind, atOnce, d)
		out, err := f.account(p, l, before, kind)
		if err != nil {
			return nil, err
		}
		out["per_s"] = float64(l.Done) / l.Took.Seconds()
		return out, nil
	}
}

// account turns a stretch's CPU times into figures per request and per chunk.
func (f *fleet) account(p *peer, l *load, before cost, kind requestKind) (figures, error) {
	if l.Done == 0 {
		return nil, fmt.Errorf("%s answered nothing: %w%s", p.name, l.Err, f.logTail())
	}
	after, err := f.cost(p)
	if err != nil {
		return nil, err
	}
	out := figures{"requests": float64(l.Done + l.Lost), "lost": float64(l.Lost)}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(l.Done) }
	if p.proc != nil {
		out["cpu_us"] = per(after.peer - before.peer)
		out["writes"] = float64(after.writes-before.writes) / float64(l.Done)
		if kind.Stream {
			out["cpu_us_chunk"] = out["cpu_us"] / float64(kind.Pace.Chunks)
		}
	}
	if p.name == postgres {
		out["pg_us"] = per(after.database - before.database)
	}
	if l.Err != nil {
		return out, &lossError{peer: p.name, lost: l.Lost, first: l.Err}
	}
	return out, nil
}

// lossError reports lost work without ending the run: the table shows it.
type lossError struct {
	peer  string
	lost  int
	first error
}

func (e *lossError) Error() string {
	return fmt.Sprintf("%s lost %d requests, the first: %v", e.peer, e.lost, e.first)
}

func (e *lossError) Unwrap() error { return e.first }

// lowLoad measures what a lone stream's reader waits for, at an easy rate.
func lowLoad(d time.Duration) func(context.Context, *fleet, string) (figures, error) {
	kind := requestKind{Stream: true, Pace: pace{20, 20 * time.Millisecond, 5 * time.Millisecond}}
	const rate = 100
	return func(ctx context.Context, f *fleet, name string) (figures, error) {
		p, err := f.start(ctx, name)
		if err != nil {
			return nil, err
		}
		(&load{}).schedule(ctx, p, kind, rate/2, rate, nil) // connections
		before, err := f.cost(p)
		if err != nil {
			return nil, err
		}
		l := &load{}
		l.schedule(ctx, p, kind, int(rate*d.Seconds()), rate, nil)
		out, lost := f.account(p, l, before, kind)
		if out == nil {
			return nil, lost
		}
		out.latencies(l, p.edge())
		if p.edge() {
			if err := f.commit(ctx, p, out); err != nil {
				return nil, err
			}
		}
		return out, lost
	}
}

// latencies adds the quantiles of a load's timings, in milliseconds.
func (out figures) latencies(l *load, edge bool) {
	var heads, readies, firsts, transits []float64
	for _, t := range l.Timings {
		heads, firsts = append(heads, millis(t.Head)), append(firsts, millis(t.First))
		if edge {
			readies = append(readies, millis(t.Ready))
		}
		for _, d := range t.Transit {
			transits = append(transits, millis(d))
		}
	}
	for name, values := range map[string][]float64{"head": heads, "ready": readies, "first": firsts, "transit": transits} {
		if len(values) > 0 {
			out[name+"_p50"], out[name+"_p99"] = quantile(values, 0.5), quantile(values, 0.99)
		}
	}
}

// commit measures what one claim's commit costs on the peer's store, right after
// the peer was measured.
func (f *fleet) commit(ctx context.Context, p *peer, out figures) error {
	driver, dsn := "sqlite", sqliteDSN(filepath.Join(f.dir, "probe.db"))
	if p.name == postgres {
		driver, dsn = "pgx", f.cluster.dsn
	}
	times, err := probeCommit(ctx, driver, dsn, 100)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	out["commit_p50"], out["commit_p99"] = quantile(times, 0.5), quantile(times, 0.99)
	return nil
}

// slow holds many slow streams open on a fresh process and measures its memory.
func slow(n int, rate float64, at pace) func(context.Context, *fleet, string) (figures, error) {
	kind := requestKind{Stream: true, Pace: at}
	return func(ctx context.Context, f *fleet, name string) (figures, error) {
		p, err := f.restart(ctx, name)
		if err != nil {
			return nil, err
		}
		settle := time.NewTimer(time.Second)
		defer settle.Stop()
		await(ctx, settle) // whatever a process does once after its start
		idle, err := residentKiB(p.proc.pid())
		if err != nil {
			return nil, err
		}
		before, err := f.cost(p)
		if err != nil {
			return nil, err
		}
		l, seen, err := hold(ctx, p, kind, n, rate)
		if err != nil {
			return nil, err
		}
		out, lost := f.account(p, l, before, kind)
		if out == nil {
			return nil, lost
		}
		out.latencies(l, p.edge())
		out["idle_mib"] = float64(idle) / 1024
		out["peak_mib"] = float64(seen.PeakKiB) / 1024
		out["open"] = float64(seen.Open)
		out["stream_kib"] = float64(seen.PeakKiB-idle) / float64(max(seen.Open, 1))
		return out, lost
	}
}

// startUp restarts an edge whose store is there already.
func startUp(ctx context.Context, f *fleet, name string) (figures, error) {
	var times []float64
	for range 3 {
		p, err := f.restart(ctx, name)
		if err != nil {
			return nil, err
		}
		times = append(times, millis(p.started))
	}
	return figures{"ready_ms": median(times)}, nil
}

// order shuffles the peers of one round.
func order(rng *rand.Rand, taking, chosen []string) []string {
	var names []string
	for _, name := range taking {
		if slices.Contains(chosen, name) {
			names = append(names, name)
		}
	}
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

// say prints progress.
func say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "bench: "+format+"\n", args...)
}
