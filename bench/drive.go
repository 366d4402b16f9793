package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// results of a run: the medians over the rounds, and the rounds themselves.
type results struct {
	Machine machine                         `json:"machine"`
	Began   string                          `json:"began"`
	Took    string                          `json:"took"`
	Seed    uint64                          `json:"seed"`
	Rounds  int                             `json:"rounds"`
	Quick   bool                            `json:"quick"`
	Titles  map[string]string               `json:"scenarios"`
	Medians map[string]map[string]figures   `json:"medians"` // scenario, peer
	Each    map[string]map[string][]figures `json:"rounds_each"`
	Losses  []string                        `json:"losses"`
	Budgets []budget                        `json:"budgets"`
}

// drive measures everything and writes the results.
func drive(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	if err := raiseFiles(12000); err != nil {
		return err
	}
	f, err := openFleet(ctx, s, stderr)
	if err != nil {
		return err
	}
	r, err := runAll(ctx, f, stderr)
	if err := errors.Join(err, f.close()); err != nil {
		return err
	}
	if err := r.save(s.Out); err != nil {
		return err
	}
	fmt.Fprint(stdout, r.markdown())
	if s.Strict {
		for _, b := range r.Budgets {
			if b.Verdict == missed {
				return fmt.Errorf("budget missed: %s (%s)", b.What, b.Peer)
			}
		}
	}
	return nil
}

func runAll(ctx context.Context, f *fleet, stderr io.Writer) (*results, error) {
	s := f.settings
	began := time.Now()
	r := &results{
		Began: began.UTC().Format(time.DateTime) + " UTC", Seed: s.Seed, Rounds: s.Rounds, Quick: s.Quick,
		Titles: map[string]string{}, Medians: map[string]map[string]figures{}, Each: map[string]map[string][]figures{},
	}
	var err error
	if r.Machine, err = readMachine(f.dir); err != nil {
		return nil, err
	}
	say(stderr, "seed %d, %d rounds", s.Seed, s.Rounds)
	rng := rand.New(rand.NewPCG(s.Seed, 0))
	for _, sc := range scenarios(s.Quick) {
		if !slices.Contains(s.Only, sc.name) {
			continue
		}
		if err := r.run(ctx, f, sc, rng, stderr); err != nil {
			return nil, fmt.Errorf("%s: %w", sc.name, err)
		}
	}
	r.Took = time.Since(began).Round(time.Second).String()
	r.Budgets = judge(r.Medians)
	return r, nil
}

// run measures one scenario in interleaved rounds.
func (r *results) run(ctx context.Context, f *fleet, sc scenario, rng *rand.Rand, stderr io.Writer) error {
	r.Titles[sc.name] = sc.title
	r.Each[sc.name] = map[string][]figures{}
	for round := range f.settings.Rounds {
		for _, name := range order(rng, sc.peers, f.settings.Peers) {
			if err := ctx.Err(); err != nil {
				return err
			}
			began := time.Now()
			out, err := sc.measure(ctx, f, name)
			var loss *lossError
			if err != nil && !errors.As(err, &loss) {
				return err
			}
			if loss != nil {
				r.Losses = append(r.Losses, fmt.Sprintf("%s, round %d: %v", sc.name, round+1, loss))
				say(stderr, "%s", r.Losses[len(r.Losses)-1])
			}
			r.Each[sc.name][name] = append(r.Each[sc.name][name], out)
			say(stderr, "%s round %d %-8s %4.1fs %s", sc.name, round+1, name, time.Since(began).Seconds(), out)
		}
	}
	r.Medians[sc.name] = medians(r.Each[sc.name])
	return nil
}

// medians over the rounds, figure by figure. Losses are summed: one is one too many.
func medians(each map[string][]figures) map[string]figures {
	all := map[string]figures{}
	for name, rounds := range each {
		values := map[string][]float64{}
		for _, round := range rounds {
			for figure, v := range round {
				values[figure] = append(values[figure], v)
			}
		}
		all[name] = figures{}
		for figure, v := range values {
			all[name][figure] = median(v)
			if figure == "lost" || figure == "requests" {
				all[name][figure] = sum(v)
			}
		}
	}
	return all
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

func (r *results) save(out string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	data, err := r.json()
	if err != nil {
		return err
	}
	if err := os.WriteFile(out+".json", data, 0o644); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	if err := os.WriteFile(out+".md", []byte(r.markdown()), 0o644); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	return nil
}
