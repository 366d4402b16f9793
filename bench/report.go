package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Verdicts on a budget.
const (
	kept       = "pass"
	missed     = "FAIL"
	unmeasured = "not measured"
)

// budget is one promise of the design and what was measured against it.
type budget struct {
	What     string  `json:"what"`
	Peer     string  `json:"peer"`
	Limit    string  `json:"limit"`
	Measured string  `json:"measured"`
	Value    float64 `json:"value"`
	Verdict  string  `json:"verdict"`
}

// rule is how a budget is computed from the medians.
type rule struct {
	what, peer, limit, unit string
	atLeast                 bool
	bound                   float64
	value                   func(get func(scenario, peer, figure string) float64) float64
}

// judge holds the medians against the budgets. A figure that was not measured
// makes its budget unmeasured, never kept.
func judge(medians map[string]map[string]figures) []budget {
	var budgets []budget
	for _, r := range rules() {
		whole := true
		get := func(scenario, peer, figure string) float64 {
			v, ok := medians[scenario][peer][figure]
			whole = whole && ok
			return v
		}
		v := r.value(get)
		b := budget{What: r.what, Peer: r.peer, Limit: r.limit, Verdict: unmeasured}
		if whole {
			b.Value, b.Measured, b.Verdict = v, strings.TrimSpace(fmt.Sprintf("%.2f %s", v, r.unit)), missed
			if (r.atLeast && v >= r.bound) || (!r.atLeast && v <= r.bound) {
				b.Verdict = kept
			}
		}
		budgets = append(budgets, b)
	}
	return budgets
}

type getter = func(scenario, peer, figure string) float64

// toProxy is a figure's ratio to the proxy's.
func toProxy(scenario, peer, figure string) func(getter) float64 {
	return func(get getter) float64 {
		own, floor := get(scenario, peer, figure), get(scenario, proxied, figure)
		if floor == 0 {
			return 0
		}
		return own / floor
	}
}

func plainly(scenario, peer, figure string) func(getter) float64 {
	return func(get getter) float64 { return get(scenario, peer, figure) }
}

// beyondCommit is the time to the first chunk added to the direct one, without
// what one claim's commit costs on that store.
func beyondCommit(peer, quantile string) func(getter) float64 {
	return func(get getter) float64 {
		return get("low", peer, "first_"+quantile) - get("low", direct, "first_"+quantile) - get("low", peer, "commit_"+quantile)
	}
}

func rules() []rule {
	list := []rule{
		{what: "plain chats/s ÷ RP", peer: postgres, limit: "≥ 0.42", atLeast: true, bound: 0.42, value: toProxy("plain", postgres, "per_s")},
		{what: "plain chats/s ÷ RP", peer: embedded, limit: "≥ 0.40", atLeast: true, bound: 0.4, value: toProxy("plain", embedded, "per_s")},
		{what: "streams/s ÷ RP", peer: postgres, limit: "≥ 0.60", atLeast: true, bound: 0.6, value: toProxy("streams", postgres, "per_s")},
		{what: "streams/s ÷ RP", peer: embedded, limit: "≥ 0.55", atLeast: true, bound: 0.55, value: toProxy("streams", embedded, "per_s")},
		{what: "CPU per plain chat ÷ RP", peer: postgres, limit: "≤ 1.8", bound: 1.8, value: toProxy("plain", postgres, "cpu_us")},
		{what: "PostgreSQL's CPU per plain chat", peer: postgres, limit: "≤ 180 µs", unit: "µs", bound: 180, value: plainly("plain", postgres, "pg_us")},
		{what: "CPU per plain chat ÷ RP", peer: embedded, limit: "≤ 3", bound: 3, value: toProxy("plain", embedded, "cpu_us")},
	}
	for _, p := range []string{embedded, postgres} {
		list = append(list,
			rule{what: "CPU per chunk ÷ RP", peer: p, limit: "≤ 1.8", bound: 1.8, value: toProxy("streams", p, "cpu_us_chunk")},
			rule{what: "added time to first chunk beyond a commit, p50", peer: p, limit: "≤ 0.5 ms", unit: "ms", bound: 0.5, value: beyondCommit(p, "p50")},
			rule{what: "added time to first chunk beyond a commit, p99", peer: p, limit: "≤ 1.5 ms", unit: "ms", bound: 1.5, value: beyondCommit(p, "p99")},
			rule{what: "chunk transit, p50", peer: p, limit: "≤ 0.2 ms", unit: "ms", bound: 0.2, value: plainly("low", p, "transit_p50")},
			rule{what: "chunk transit, p99", peer: p, limit: "≤ 1 ms", unit: "ms", bound: 1, value: plainly("low", p, "transit_p99")},
			rule{what: "memory per open stream at 5,000 ÷ RP", peer: p, limit: "≤ 1.4", bound: 1.4, value: toProxy("slow5k", p, "stream_kib")},
			rule{what: "lost or short of 5,000 slow streams", peer: p, limit: "0", bound: 0, value: plainly("slow5k", p, "lost")},
			rule{what: "idle memory", peer: p, limit: "≤ 25 MiB", unit: "MiB", bound: 25, value: plainly("slow1k", p, "idle_mib")},
		)
	}
	return append(list,
		rule{what: "start to ready", peer: embedded, limit: "≤ 1 s", unit: "ms", bound: 1000, value: plainly("start", embedded, "ready_ms")},
		rule{what: "start to ready", peer: postgres, limit: "≤ 2 s", unit: "ms", bound: 2000, value: plainly("start", postgres, "ready_ms")},
	)
}

func (r *results) json() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode results: %w", err)
	}
	return append(data, '\n'), nil
}

// String lists figures in the order of their names, for progress.
func (f figures) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(&b, " %s=%s", name, number(f[name]))
	}
	return b.String()
}

// number prints a figure with as many digits as it deserves.
func number(v float64) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// columns of a scenario's table.
func columns(scenario string) []string {
	switch scenario {
	case "plain":
		return []string{"per_s", "÷rp", "÷direct", "cpu_us", "pg_us", "writes", "requests", "lost"}
	case "streams":
		return []string{"per_s", "÷rp", "÷direct", "cpu_us", "cpu_us_chunk", "pg_us", "writes", "requests", "lost"}
	case "low":
		return []string{"head_p50", "ready_p50", "ready_p99", "first_p50", "first_p99", "commit_p50", "commit_p99",
			"transit_p50", "transit_p99", "cpu_us_chunk", "pg_us", "writes", "requests", "lost"}
	case "start":
		return []string{"ready_ms"}
	default:
		return []string{"open", "stream_kib", "idle_mib", "peak_mib", "transit_p50", "transit_p99", "cpu_us_chunk", "pg_us", "writes", "requests", "lost"}
	}
}

// cell is one figure of a peer; ratios are computed from per_s.
func cell(peers map[string]figures, name, column string) string {
	v, ok := peers[name][column]
	if to, isRatio := strings.CutPrefix(column, "÷"); isRatio {
		own, floor := peers[name]["per_s"], peers[to]["per_s"]
		if floor == 0 {
			return "–"
		}
		return number(own / floor)
	}
	if !ok {
		return "–"
	}
	return number(v)
}

const legend = `Medians over the rounds (requests and losses are sums). Times in ms, CPU in µs per request: the server's process in ` + "`cpu_us`" + `,
PostgreSQL's processes in ` + "`pg_us`" + `; ` + "`writes`" + ` are the server's write calls per request. ` + "`rp`" + ` is a bare httputil.ReverseProxy over the same upstream, which stores nothing. The edges run with
user tokens, rate limits and an idempotency key per request, and store every answer before they call it done.
` + "`head`" + ` is the response's header, ` + "`ready`" + ` the edge's frame after its claim has committed, ` + "`first`" + ` the first chunk of text; the added time is
` + "`first`" + ` less that of the direct run, and the budget counts it beyond ` + "`commit`" + `: one transaction of four rows on the same store, timed by
the driver without the edge in the same round. ` + "`transit`" + ` runs from the upstream's write of a chunk to the driver's read of it, one clock.
Memory per stream is the highest resident size less the idle one, over the streams open at once, text kept for resumption included.
`

// markdown is the report for people.
func (r *results) markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Benchmark\n\n%s, %s, %d cores (%s), load before: %s, fsync p50/p99: %.2f/%.2f ms. %s, took %s, %d round(s), seed %d.\n\n%s\n",
		m.OS, m.Go, m.Cores, m.CPU, m.Load1, m.FsyncP5, m.FsyncP9, r.Began, r.Took, r.Rounds, r.Seed, legend)
	b.WriteString("## Budgets\n\n| what | peer | budget | measured | |\n| --- | --- | --- | --- | --- |\n")
	for _, g := range r.Budgets {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", g.What, g.Peer, g.Limit, g.Measured, g.Verdict)
	}
	for _, name := range scenarioNames() {
		peers := r.Medians[name]
		if len(peers) == 0 {
			continue
		}
		cols := columns(name)
		fmt.Fprintf(&b, "\n## %s: %s\n\n| peer | %s |\n|%s\n", name, r.Titles[name], strings.Join(cols, " | "), strings.Repeat(" --- |", len(cols)+1))
		for _, p := range peerNames() {
			if peers[p] == nil {
				continue
			}
			cells := []string{p}
			for _, c := range cols {
				cells = append(cells, cell(peers, p, c))
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	for _, l := range r.Losses {
		fmt.Fprintf(&b, "\n- lost: %s", l)
	}
	return b.String() + "\n"
}
