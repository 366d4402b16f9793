package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	if got := median(values); got != 3 {
		t.Errorf("median = %v", got)
	}
	if got := median([]float64{1, 2, 3, 10}); got != 2.5 {
		t.Errorf("even median = %v", got)
	}
	if got := quantile(values, 0.99); got != 5 {
		t.Errorf("p99 = %v", got)
	}
	if got := quantile(values, 0); got != 1 {
		t.Errorf("p0 = %v", got)
	}
	if quantile(nil, 0.5) != 0 || median(nil) != 0 {
		t.Error("empty values have a quantile")
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 1 1 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 9 0 100 1 2"
	got, err := parseStat([]byte(line))
	want := procStat{Parent: 7, Own: 2 * time.Second, Children: 500 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("parseStat = %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S x 1 1 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 9"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q): no error", bad)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc on this system; the driver says so itself")
	}
	stat, err := readStat(os.Getpid())
	if err != nil || stat.Parent != os.Getppid() {
		t.Errorf("readStat = %+v, %v; parent is %d", stat, err, os.Getppid())
	}
	if kib, err := residentKiB(os.Getpid()); err != nil || kib < 100 {
		t.Errorf("residentKiB = %d, %v", kib, err)
	}
	if n, err := writeCalls(os.Getpid()); err != nil || n < 0 {
		t.Errorf("writeCalls = %d, %v", n, err)
	}
}

func TestParseResident(t *testing.T) {
	if got, err := parseResident([]byte("Name:\tx\nVmRSS:\t   61234 kB\nThreads:\t4\n")); err != nil || got != 61234 {
		t.Errorf("parseResident = %d, %v", got, err)
	}
	for _, bad := range []string{"", "VmRSS: many kB\n"} {
		if _, err := parseResident([]byte(bad)); err == nil {
			t.Errorf("parseResident(%q): no error", bad)
		}
	}
}

func TestMedians(t *testing.T) {
	got := medians(map[string][]figures{direct: {
		{"per_s": 10, "lost": 1}, {"per_s": 30, "lost": 0}, {"per_s": 20, "lost": 2},
	}})[direct]
	if got["per_s"] != 20 || got["lost"] != 3 {
		t.Errorf("medians = %v", got)
	}
}

func TestJudge(t *testing.T) {
	budgets := judge(map[string]map[string]figures{
		"plain": {
			proxied:  {"per_s": 1000, "cpu_us": 80},
			postgres: {"per_s": 420, "cpu_us": 145, "pg_us": 180},
			embedded: {"per_s": 399, "cpu_us": 241},
		},
		"low": {
			direct:   {"first_p50": 20.6, "first_p99": 21},
			embedded: {"first_p50": 21.5, "first_p99": 24, "commit_p50": 0.45, "commit_p99": 1},
		},
		"slow5k": {postgres: {"lost": 1}},
	})
	want := map[string]string{
		"plain chats/s ÷ RP postgres":                             kept,
		"plain chats/s ÷ RP embedded":                             missed,
		"CPU per plain chat ÷ RP postgres":                        missed,
		"PostgreSQL's CPU per plain chat postgres":                kept,
		"CPU per plain chat ÷ RP embedded":                        missed,
		"streams/s ÷ RP postgres":                                 unmeasured,
		"added time to first chunk beyond a commit, p50 embedded": kept,
		"added time to first chunk beyond a commit, p99 embedded": missed,
		"added time to first chunk beyond a commit, p50 postgres": unmeasured,
		"lost or short of 5,000 slow streams postgres":            missed,
		"lost or short of 5,000 slow streams embedded":            unmeasured,
		"start to ready embedded":                                 unmeasured,
		"memory per open stream at 5,000 ÷ RP " + postgres:        unmeasured,
	}
	for _, b := range budgets {
		if verdict, ok := want[b.What+" "+b.Peer]; ok && b.Verdict != verdict {
			t.Errorf("%s %s: %s (%s against %s), want %s", b.What, b.Peer, b.Verdict, b.Measured, b.Limit, verdict)
		}
		delete(want, b.What+" "+b.Peer)
	}
	if len(want) > 0 {
		t.Errorf("no such budgets: %v", want)
	}
}

func TestMarkdownNamesEveryPeer(t *testing.T) {
	each := map[string][]figures{direct: {{"per_s": 200}}, proxied: {{"per_s": 100}}, embedded: {{"per_s": 50}}}
	r := &results{Titles: map[string]string{"plain": "title"}, Medians: map[string]map[string]figures{"plain": medians(each)}}
	text := r.markdown()
	for _, want := range []string{"| direct | 200 | 2 | 1 |", "| rp | 100 | 1 | 0.50 |", "| embedded | 50 | 0.50 | 0.25 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := parseSettings([]string{"-quick", "-only", "low,plain", "-peers", "rp"}, io.Discard)
	if err != nil || s.Rounds != 1 || len(s.Only) != 2 || len(s.Peers) != 1 || s.Seed == 0 {
		t.Errorf("parseSettings = %+v, %v", s, err)
	}
	for _, bad := range [][]string{{"-only", "nothing"}, {"-peers", "plain"}, {"extra"}, {"-rounds", "x"}} {
		if _, err := parseSettings(bad, io.Discard); err == nil {
			t.Errorf("parseSettings(%q): no error", bad)
		}
	}
}

func TestWithDatabase(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u:p@127.0.0.1:5432/postgres?sslmode=disable": "postgres://u:p@127.0.0.1:5432/other?sslmode=disable",
		"host=/tmp/x dbname=postgres":                            "host=/tmp/x dbname=postgres dbname=other",
	} {
		if got, err := withDatabase(dsn, "other"); err != nil || got != want {
			t.Errorf("withDatabase(%q) = %q, %v", dsn, got, err)
		}
	}
}

func TestProbeCommit(t *testing.T) {
	times, err := probeCommit(t.Context(), "sqlite", sqliteDSN(t.TempDir()+"/p.db"), 3)
	if err != nil || len(times) != 3 || times[0] <= 0 {
		t.Errorf("probeCommit = %v, %v", times, err)
	}
}
