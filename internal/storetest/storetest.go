// Package storetest is the conformance suite of a run.Store. Every store runs
// all of it; a difference between two stores is a bug in one of them. What the
// contract's comments leave open, the suite does not ask for.
//
// Nothing in it waits for time to pass: a lease that is to lapse is a negative
// one, and what only days bring about is reached through Options.Age.
package storetest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

// Options says what else a store's own tests can do. What is nil skips the
// checks that need it.
type Options struct {
	// Reopen returns another handle on the data of s: a second node. Nil for a
	// store that one process owns.
	Reopen func(t *testing.T, s run.Store) run.Store
	// Age makes everything in the store older by d, as if its clock had moved
	// on: finish times, leases, readers, the logs of the rate limits.
	Age func(t *testing.T, s run.Store, d time.Duration)
	// Events returns the types of the bus events stored for a run, in the order
	// in which they were stored.
	Events func(t *testing.T, s run.Store, id uuid.UUID) []string
}

// suite is what one subtest works with.
type suite struct {
	run.Store
	o Options
}

// Exercise runs the suite. open returns a fresh, empty, migrated store and sees
// to its closing through t.Cleanup.
func Exercise(t *testing.T, open func(t *testing.T) run.Store, o Options) {
	groups := []struct {
		name  string
		tests []test
	}{
		{"claim", claimTests()},
		{"batch", batchTests()},
		{"session", sessionTests()},
		{"history", historyTests()},
		{"limit", limitTests()},
		{"append", appendTests()},
		{"finish", finishTests()},
		{"lease", leaseTests()},
		{"takeover", takeoverTests()},
		{"cancel", cancelTests()},
		{"tail", tailTests()},
		{"sweep", sweepTests()},
		{"beside", besideTests()},
		{"random", randomTests()},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.tests {
				t.Run(c.name, func(t *testing.T) { c.run(t, suite{open(t), o}) })
			}
		})
	}
}

// test is one rule of the contract.
type test struct {
	name string
	run  func(t *testing.T, s suite)
}

// nodes returns n handles on the store's data: as many nodes where the store
// can have them, else the same handle n times.
func (s suite) nodes(t *testing.T, n int) []run.Store {
	t.Helper()
	all := []run.Store{s.Store}
	for len(all) < n {
		if s.o.Reopen == nil {
			all = append(all, s.Store)
			continue
		}
		all = append(all, s.o.Reopen(t, s.Store))
	}
	return all
}
