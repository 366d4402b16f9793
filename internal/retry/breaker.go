package retry

import (
	"sync"
	"time"
)

// When a Breaker opens, and how often it lets a probe through.
const (
	breakerCalls = 20 // within span
	breakerHalf  = 2  // opens when failures·breakerHalf ≥ calls
	ProbeEvery   = time.Second
)

// Outcome is what a call says about its provider.
type Outcome uint8

// Outcomes of a call.
const (
	Unknown Outcome = iota // the caller left before the provider could show anything
	Good                   // it answered, be it to refuse the request
	Bad                    // it failed: see Failure
)

// A Permit is the breaker's leave for one call. The call hands it back with its
// outcome. A Probe is a call that an open breaker let through.
type Permit struct {
	Probe bool
	gen   uint32
}

// A Breaker stops asking a provider that fails. It opens at 20 or more calls
// within ten seconds of which half or more failed, or at 20 failures in a row
// within that time: behind a long good spell the share alone would notice a dead
// provider only after seconds. Open, it lets one probe a second through, also
// when an earlier probe has not come back, since a hanging one must not keep it
// open; the first good probe closes it.
type Breaker struct {
	mu    sync.Mutex
	win   window // total: calls, marked: failures
	row   int    // failures since the last good call
	rowAt time.Time
	open  bool
	probe time.Time // the next probe is due
	gen   uint32    // how often it has opened or closed: tells late outcomes apart
}

// Allow asks for leave to make a call. A caller that gets it must call Done.
func (b *Breaker) Allow(now time.Time) (Permit, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return Permit{gen: b.gen}, true
	}
	if now.Before(b.probe) {
		return Permit{}, false
	}
	b.probe = now.Add(ProbeEvery)
	return Permit{Probe: true, gen: b.gen}, true
}

// Done counts a call's outcome. It returns the permit under which the same call
// may report once more: a stream's first delta proves a probe good, and the
// stream can still break later.
func (b *Breaker) Done(now time.Time, p Permit, o Outcome) Permit {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o == Unknown || p.gen != b.gen {
		return p // a call from before the last change says nothing about now
	}
	if b.open {
		if o == Good {
			b.turn(false)
		}
		return Permit{gen: b.gen}
	}
	b.count(now, o == Bad)
	if b.row >= breakerCalls || (b.win.total >= breakerCalls && b.win.marked*breakerHalf >= b.win.total) {
		b.turn(true)
		b.probe = now.Add(ProbeEvery)
	}
	return p
}

// Open tells whether the breaker is open, and for how long no probe is due.
func (b *Breaker) Open(now time.Time) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return 0, false
	}
	return max(0, b.probe.Sub(now)), true
}

func (b *Breaker) count(now time.Time, bad bool) {
	b.win.advance(now)
	if !bad {
		b.win.add(1, 0)
		b.row = 0
		return
	}
	b.win.add(1, 1)
	if b.row == 0 || now.Sub(b.rowAt) > span {
		b.row, b.rowAt = 0, now
	}
	b.row++
}

func (b *Breaker) turn(open bool) {
	b.open = open
	b.gen++
	b.win = window{}
	b.row = 0
}
