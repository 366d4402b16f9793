package retry

import (
	"math/rand/v2"
	"time"
)

// Base and Cap bound the full jitter of a zero Backoff.
const (
	Base = 250 * time.Millisecond
	Cap  = 8 * time.Second
)

// A Backoff spreads retries evenly over U(0, min(Cap, Base·2^n)). Full jitter
// and not a band around the middle: clients that failed together must not come
// back together.
type Backoff struct {
	Base time.Duration  // 0: the package's Base
	Cap  time.Duration  // 0: the package's Cap
	Rand func() float64 // from [0, 1), safe for concurrent use; nil: math/rand/v2
}

// Delay is the wait before retry n, counted from 0.
func (b Backoff) Delay(n int) time.Duration {
	top, limit := b.Base, b.Cap
	if top <= 0 {
		top = Base
	}
	if limit <= 0 {
		limit = Cap
	}
	for ; n > 0 && top < limit; n-- {
		top *= 2
	}
	draw := b.Rand
	if draw == nil {
		draw = rand.Float64
	}
	return time.Duration(draw() * float64(min(top, limit)))
}
