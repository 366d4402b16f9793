package run_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/storetest"
)

// TestMemConforms holds the fake that the tests of this package trust to the
// suite that the real stores pass.
func TestMemConforms(t *testing.T) {
	mem := func(s run.Store) *run.Mem { return s.(*run.MemNode).Mem() }
	storetest.Exercise(t, func(*testing.T) run.Store { return run.NewMem().Node() }, storetest.Options{
		Reopen: func(_ *testing.T, s run.Store) run.Store { return mem(s).Node() },
		Age:    func(_ *testing.T, s run.Store, d time.Duration) { mem(s).Age(d) },
		Events: func(_ *testing.T, s run.Store, id uuid.UUID) []string { return mem(s).EventTypes(id) },
	})
}
