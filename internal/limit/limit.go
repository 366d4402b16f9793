// Package limit is the arithmetic of rate limits: a sliding log that admits at
// most N in any 60 seconds, bursts included, and says so in headers. It is pure:
// the stores bring the row, the lock and their clock, and PostgreSQL does the
// same sums in SQL. It refuses nothing by itself and knows no principal.
//
// A log is a short list of (time, count) pairs, oldest first. Admissions within
// one 500 ms quantum share a pair that carries the time of the latest of them,
// so a pair never leaves the window before an admission it counts: merging can
// cost a caller up to half a second, and can never let one through too early.
// 60 s hold at most 121 quanta, which bounds the row, and N in 60.5 s is more
// than 99 % of what is allowed.
package limit

import "time"

const (
	// Window is what every limit is counted over.
	Window = time.Minute
	// Quantum is the stretch within which admissions share a pair.
	Quantum = 500 * time.Millisecond
	// MaxPairs bounds a log; Take never leaves more.
	MaxPairs = 128
)

const (
	window  = int64(Window / time.Microsecond)
	quantum = int64(Quantum / time.Microsecond)
)

// A Pair counts the admissions of one quantum.
type Pair struct {
	At int64 // the latest of them, µs since the Unix epoch
	N  int
}

// Log is the sliding log of one limit. Its zero value has admitted nothing.
type Log struct {
	Pairs []Pair // ascending by At
}

// Rate is what a caller is told about its limit. It has the fields of run.Rate,
// so that one converts to the other.
type Rate struct {
	Limit      int // per Window; 0: not limited
	Remaining  int
	Reset      time.Duration // until the oldest counted admission leaves the window
	RetryAfter time.Duration // refusals only: until one more fits, at least 1 s
	Global     bool          // refusals only: the limit over all callers refused it
}

// Take admits as many of n as fit under limit at now, records them and returns
// their number. A limit of 0 or less admits everything and records nothing.
//
// A clock that was set back leaves pairs in the future. They count as of now:
// what they stand for has happened, and a caller waits a window at most.
func (l *Log) Take(now time.Time, limit, n int) int {
	if limit <= 0 || n <= 0 {
		return max(n, 0)
	}
	at := now.UnixMicro()
	l.prune(at)
	n = min(n, limit-l.count())
	if n <= 0 {
		return 0
	}
	l.add(at, n)
	return n
}

// Rate tells the state of the limit at now, after a Take.
func (l *Log) Rate(now time.Time, limit int) Rate {
	if limit <= 0 {
		return Rate{}
	}
	at := now.UnixMicro()
	l.prune(at)
	r := Rate{Limit: limit, Remaining: max(limit-l.count(), 0)}
	if len(l.Pairs) > 0 {
		r.Reset = l.leaves(0, at)
	}
	return r
}

// Refusal is Rate for a caller who was refused: it tells when one more fits.
func (l *Log) Refusal(now time.Time, limit int) Rate {
	r := l.Rate(now, limit)
	if limit <= 0 {
		return r
	}
	over := l.count() - limit + 1 // so many must leave first
	for i := 0; i < len(l.Pairs) && over > 0; i++ {
		over -= l.Pairs[i].N
		r.RetryAfter = l.leaves(i, now.UnixMicro())
	}
	r.RetryAfter = max(r.RetryAfter, time.Second)
	return r
}

// leaves returns how long pair i still counts.
func (l *Log) leaves(i int, at int64) time.Duration {
	return time.Duration(l.Pairs[i].At+window-at) * time.Microsecond
}

func (l *Log) count() int {
	n := 0
	for _, p := range l.Pairs {
		n += p.N
	}
	return n
}

// prune drops what has left the window and folds what is in the future.
func (l *Log) prune(at int64) {
	first := 0
	for first < len(l.Pairs) && l.Pairs[first].At <= at-window {
		first++
	}
	kept := len(l.Pairs) - first
	copy(l.Pairs, l.Pairs[first:])
	l.Pairs = l.Pairs[:kept]

	ahead := 0
	for len(l.Pairs) > 0 && l.Pairs[len(l.Pairs)-1].At > at {
		ahead += l.Pairs[len(l.Pairs)-1].N
		l.Pairs = l.Pairs[:len(l.Pairs)-1]
	}
	if ahead > 0 {
		l.add(at, ahead)
	}
}

// add counts n more at a time that is not before the newest pair's.
func (l *Log) add(at int64, n int) {
	if i := len(l.Pairs) - 1; i >= 0 && at/quantum == l.Pairs[i].At/quantum {
		l.Pairs[i] = Pair{At: at, N: l.Pairs[i].N + n}
		return
	}
	l.Pairs = append(l.Pairs, Pair{At: at, N: n})
}
