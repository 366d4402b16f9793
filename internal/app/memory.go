package app

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// headroom is how much garbage may gather before a collection while little is
	// live. With the runtime's default a node that keeps 5 MiB alive would collect
	// every 5 MiB, dozens of times a second under load.
	headroom   = 48 << 20
	maxPercent = 1000
	minPercent = 25 // where much is live, thousands of open streams, memory counts more
	unset      = 100
)

// collectLoop adapts the pace of garbage collection to what is alive. It gives
// the runtime's own setting back when ctx ends; a GOGC of the operator's stays.
func collectLoop(ctx context.Context) error {
	was := debug.SetGCPercent(maxPercent)
	defer debug.SetGCPercent(was)
	if was != unset { // somebody has set GOGC
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := maxPercent
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		metrics.Read(live)
		if p := gcPercent(live[0].Value.Uint64()); p != set {
			debug.SetGCPercent(p)
			set = p
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// gcPercent is how far the heap may grow over what is live, in coarse steps, so
// that it is not set anew every second.
func gcPercent(live uint64) int {
	percent := 100 * headroom / max(live, 1<<20)
	return int(min(max(percent/25*25, minPercent), maxPercent))
}
