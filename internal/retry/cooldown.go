package retry

import (
	"sync"
	"time"
)

// MaxCooldown is the longest Retry-After that cools a provider. A longer one is
// a quota that a single caller ran into, or a provider's mistake: it fails its
// own call and must not take the provider away from all others.
const MaxCooldown = 60 * time.Second

// turnGap spaces those who waited for the end of a cooldown.
const turnGap = 10 * time.Millisecond

// A Cooldown is the time for which a provider that answered 429 is left alone by
// all runs. Those who wait for its end are let go one after the other, a hundred
// a second, so that they do not provoke the next 429 together.
type Cooldown struct {
	mu    sync.Mutex
	until time.Time
	last  time.Time // the newest turn given away
}

// Cool starts or prolongs a cooldown of d. It refuses, and changes nothing, when
// d is not positive or longer than MaxCooldown.
func (c *Cooldown) Cool(now time.Time, d time.Duration) bool {
	if d <= 0 || d > MaxCooldown {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := now.Add(d); until.After(c.until) {
		c.until = until
	}
	return true
}

// Left is the rest of the cooldown, 0 for none.
func (c *Cooldown) Left(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, c.until.Sub(now))
}

// Turn gives away the next turn after the cooldown and returns the wait for it.
// It gives none, and tells how long it would be, when that is more than limit.
func (c *Cooldown) Turn(now time.Time, limit time.Duration) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	turn := c.until
	if next := c.last.Add(turnGap); !c.last.Before(c.until) {
		turn = next
	}
	wait := max(0, turn.Sub(now))
	if wait > limit {
		return wait, false
	}
	c.last = turn
	return wait, true
}
