package retry_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/retry"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

func TestBackoffBounds(t *testing.T) {
	top := retry.Backoff{Rand: func() float64 { return 1 }}
	own := retry.Backoff{Base: time.Second, Cap: 3 * time.Second, Rand: func() float64 { return 0.5 }}
	for _, c := range []struct {
		b    retry.Backoff
		n    int
		want time.Duration
	}{
		{top, 0, 250 * time.Millisecond}, {top, 1, 500 * time.Millisecond}, {top, 4, 4 * time.Second},
		{top, 5, 8 * time.Second}, {top, 6, 8 * time.Second}, {top, 1 << 30, 8 * time.Second}, {top, -1, 250 * time.Millisecond},
		{own, 0, 500 * time.Millisecond}, {own, 1, time.Second}, {own, 2, 1500 * time.Millisecond},
	} {
		if got := c.b.Delay(c.n); got != c.want {
			t.Errorf("Delay(%d) = %v, want %v", c.n, got, c.want)
		}
	}
	if d := (retry.Backoff{}).Delay(0); d < 0 || d >= retry.Base {
		t.Errorf("zero Backoff waits %v", d)
	}
}

// R42: 2,000 waits against the uniform distribution by Kolmogorov and Smirnov,
// whose statistic stays under 1.63/√n with p > 0.01.
func TestBackoffIsUniform(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := retry.Backoff{Rand: rng.Float64}
	for n, top := range []time.Duration{250, 500, 1000, 2000, 4000, 8000, 8000} {
		const draws = 2000
		var waits []float64
		var sum float64
		for range draws {
			w := float64(b.Delay(n)) / float64(top*time.Millisecond)
			waits = append(waits, w)
			sum += w
		}
		slices.Sort(waits)
		var far float64
		for i, w := range waits {
			far = max(far, math.Abs(w-float64(i)/draws), math.Abs(w-float64(i+1)/draws))
		}
		if far > 1.63/math.Sqrt(draws) {
			t.Errorf("retry %d: distance to uniform %.4f", n, far)
		}
		if mean := sum / draws; mean < 0.45 || mean > 0.55 {
			t.Errorf("retry %d: mean %.3f of the top", n, mean)
		}
	}
}

// R44: 100 requests a second for a minute, every call fails, each request would
// retry as often as it is let, at once or late.
func TestBudgetUnderTotalFailure(t *testing.T) {
	for _, late := range []time.Duration{0, time.Second, 20 * time.Second} {
		var b retry.Budget
		requests, retries := 0, 0
		for ms := time.Duration(0); ms < 60_000+late/time.Millisecond; ms += 10 {
			if ms < 60_000 {
				b.Request(at(ms * time.Millisecond))
				requests++
			}
			if ms*time.Millisecond < late {
				continue
			}
			for range 5 {
				if b.Retry(at(ms * time.Millisecond)) {
					retries++
				}
			}
		}
		if per := float64(requests+retries) / float64(requests); per > 1.25 || per < 1.15 {
			t.Errorf("failures %v late: %.3f calls for a request", late, per)
		}
	}
}

func TestBudgetFloorAndRecovery(t *testing.T) {
	var b retry.Budget
	take := func(now time.Time) int {
		n := 0
		for b.Retry(now) {
			n++
		}
		return n
	}
	if n := take(at(0)); n != 3 {
		t.Errorf("a quiet client may retry %d times, want 3", n)
	}
	if n := take(at(9 * time.Second)); n != 0 {
		t.Errorf("%d more retries within the window", n)
	}
	if n := take(at(10 * time.Second)); n != 3 {
		t.Errorf("%d retries after the window, want 3", n)
	}
	for range 100 {
		b.Request(at(11 * time.Second))
	}
	if n := take(at(11 * time.Second)); n != 20 {
		t.Errorf("%d retries for 100 requests after 3, want 20", n)
	}
	if n := take(at(time.Hour)); n != 3 {
		t.Errorf("%d retries after an hour, want 3", n)
	}
}

// call makes one call through the breaker and tells whether it was let.
func call(b *retry.Breaker, now time.Time, o retry.Outcome) bool {
	p, ok := b.Allow(now)
	if ok {
		b.Done(now, p, o)
	}
	return ok
}

func isOpen(b *retry.Breaker, now time.Time) bool {
	_, open := b.Open(now)
	return open
}

func TestBreakerOpens(t *testing.T) {
	const good, bad, unknown = retry.Good, retry.Bad, retry.Unknown
	for _, c := range []struct {
		name  string
		every time.Duration
		calls []retry.Outcome // repeated
		n     int
		open  bool
	}{
		{"19 failures are too few", 10 * time.Millisecond, []retry.Outcome{bad}, 19, false},
		{"20 failures", 10 * time.Millisecond, []retry.Outcome{bad}, 20, true},
		{"half of 20", 10 * time.Millisecond, []retry.Outcome{good, bad}, 20, true},
		{"half of 18", 10 * time.Millisecond, []retry.Outcome{good, bad}, 18, false},
		{"a third of many", 10 * time.Millisecond, []retry.Outcome{good, good, bad}, 600, false},
		{"too slow for the window", time.Second, []retry.Outcome{bad}, 200, false},
		{"two a second are enough", 500 * time.Millisecond, []retry.Outcome{bad}, 20, true},
		{"unknown outcomes count nothing", time.Millisecond, []retry.Outcome{unknown}, 500, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b retry.Breaker
			now := at(0)
			for i := range c.n {
				now = at(time.Duration(i) * c.every)
				if !call(&b, now, c.calls[i%len(c.calls)]) {
					t.Fatalf("call %d refused", i)
				}
			}
			if isOpen(&b, now) != c.open {
				t.Fatalf("open = %v, want %v", !c.open, c.open)
			}
		})
	}
}

// R46: a provider that dies behind a long good spell is noticed within a second.
func TestBreakerOpensSoonBehindGoodSpell(t *testing.T) {
	var b retry.Breaker
	now := at(0)
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		call(&b, now, retry.Good)
	}
	died := now
	for !isOpen(&b, now) {
		now = now.Add(10 * time.Millisecond)
		call(&b, now, retry.Bad)
		if now.Sub(died) > time.Second {
			t.Fatal("still closed a second after the provider died")
		}
	}
}

// R46: an open breaker lets one probe a second through and closes within five
// seconds of the recovery.
func TestBreakerProbesAndCloses(t *testing.T) {
	var b retry.Breaker
	for range 20 {
		call(&b, at(0), retry.Bad)
	}
	calls, recovery := 0, 30*time.Second
	var closed time.Duration
	for ms := time.Duration(1); ms < 40_000 && closed == 0; ms++ {
		now := ms * time.Millisecond
		p, ok := b.Allow(at(now))
		if !ok {
			continue
		}
		calls++
		if !p.Probe {
			t.Fatalf("%v: let through, and not as a probe", now)
		}
		if now < recovery {
			b.Done(at(now), p, retry.Bad)
			continue
		}
		b.Done(at(now), p, retry.Good)
		closed = now
	}
	if closed == 0 || closed > recovery+5*time.Second || isOpen(&b, at(closed)) {
		t.Fatalf("closed at %v", closed)
	}
	if calls > 31 {
		t.Errorf("%d probes in %v", calls, closed)
	}
	if left, open := b.Open(at(closed)); open || left != 0 {
		t.Error("open after a good probe")
	}
	for i := range 19 { // and starts from nothing
		if !call(&b, at(closed), retry.Bad) {
			t.Fatalf("failure %d after the recovery opened it", i)
		}
	}
}

// A probe that hangs must not keep the breaker open, and what it says in the end
// is no longer of interest.
func TestBreakerHangingProbe(t *testing.T) {
	var b retry.Breaker
	early, _ := b.Allow(at(0))
	for range 20 {
		call(&b, at(0), retry.Bad)
	}
	hanging, ok := b.Allow(at(time.Second))
	if !ok || !hanging.Probe {
		t.Fatal("no probe after a second")
	}
	b.Done(at(time.Second), early, retry.Good)
	if !isOpen(&b, at(time.Second)) {
		t.Fatal("a call from before the opening closed it")
	}
	probe, ok := b.Allow(at(2 * time.Second))
	if !ok {
		t.Fatal("the hanging probe kept the next one back")
	}
	after := b.Done(at(2*time.Second), probe, retry.Good)
	for range 19 {
		call(&b, at(2*time.Second), retry.Bad)
	}
	b.Done(at(2*time.Second), hanging, retry.Bad)
	if isOpen(&b, at(2*time.Second)) {
		t.Fatal("a probe from before the closing counted")
	}
	b.Done(at(2*time.Second), after, retry.Bad) // the good probe's stream broke later
	if !isOpen(&b, at(2*time.Second)) {
		t.Fatal("the probe's own later failure did not count")
	}
}

func TestCooldown(t *testing.T) {
	var c retry.Cooldown
	for _, d := range []time.Duration{0, -time.Second, retry.MaxCooldown + 1, math.MaxInt64} {
		if c.Cool(at(0), d) || c.Left(at(0)) != 0 {
			t.Errorf("Cool(%v) cooled", d)
		}
	}
	if !c.Cool(at(0), 5*time.Second) || c.Left(at(time.Second)) != 4*time.Second {
		t.Fatal("no cooldown")
	}
	if !c.Cool(at(time.Second), time.Second) || c.Left(at(time.Second)) != 4*time.Second {
		t.Error("a shorter cooldown cut the longer one")
	}
	for i := range 3 {
		wait, ok := c.Turn(at(time.Second), time.Minute)
		if want := 4*time.Second + time.Duration(i)*10*time.Millisecond; !ok || wait != want {
			t.Errorf("turn %d after %v, want %v", i, wait, want)
		}
	}
	if wait, ok := c.Turn(at(time.Second), 4*time.Second); ok || wait != 4030*time.Millisecond {
		t.Errorf("a turn beyond the limit: %v, %v", wait, ok)
	}
	if wait, ok := c.Turn(at(time.Second), time.Minute); !ok || wait != 4030*time.Millisecond {
		t.Errorf("a refused turn was used up: %v, %v", wait, ok)
	}
	if c.Left(at(5*time.Second)) != 0 {
		t.Error("cooling for ever")
	}
	if wait, ok := c.Turn(at(time.Hour), 0); !ok || wait != 0 {
		t.Errorf("a turn long after the cooldown waits %v", wait)
	}
}

func TestClassify(t *testing.T) {
	mark := func(c api.Code, status int, retryable bool) *fault.Error {
		return &fault.Error{Code: c, UpstreamStatus: status, Retryable: retryable}
	}
	for _, c := range []struct {
		name                    string
		f                       *fault.Error
		again, elsewhere, blame bool
	}{
		{"connection error", mark(api.UpstreamUnavailable, 0, true), true, true, true},
		{"time-out", mark(api.UpstreamTimeout, 0, true), true, true, true},
		{"500", mark(api.UpstreamUnavailable, 500, true), true, true, true},
		{"529", mark(api.UpstreamUnavailable, 529, true), true, true, true},
		{"408", mark(api.UpstreamTimeout, 408, true), true, true, true},
		{"408 as a refusal", mark(api.UpstreamRejected, 408, false), true, true, true},
		{"409", mark(api.UpstreamRejected, 409, false), true, true, false},
		{"429", mark(api.UpstreamRateLimited, 429, true), true, true, true},
		{"429 for good", mark(api.UpstreamRateLimited, 429, false), false, true, true},
		{"truncated", mark(api.UpstreamTruncated, 200, true), true, true, true},
		{"nonsense", mark(api.UpstreamBadResponse, 200, true), true, true, true},
		{"redirect", mark(api.UpstreamRedirect, 307, false), false, true, true},
		{"401", mark(api.UpstreamAuth, 401, false), false, true, false},
		{"404", mark(api.UpstreamModelNotFound, 404, false), false, true, false},
		{"400", mark(api.UpstreamRejected, 400, false), false, false, false},
		{"the edge's own", mark(api.Internal, 0, true), false, false, false},
	} {
		if got := retry.Again(c.f); got != c.again {
			t.Errorf("%s: Again = %v", c.name, got)
		}
		if got := retry.Elsewhere(c.f); got != c.elsewhere {
			t.Errorf("%s: Elsewhere = %v", c.name, got)
		}
		if got := retry.Failure(c.f); got != c.blame {
			t.Errorf("%s: Failure = %v", c.name, got)
		}
	}
}

// All of it at once from many goroutines; the race detector is the judge.
func TestConcurrentUse(t *testing.T) {
	var (
		b    retry.Budget
		br   retry.Breaker
		c    retry.Cooldown
		wait sync.WaitGroup
	)
	for g := range 8 {
		wait.Go(func() {
			for i := range 2000 {
				now := at(time.Duration(i) * time.Millisecond)
				b.Request(now)
				b.Retry(now)
				call(&br, now, retry.Outcome(1+(g+i)%2))
				c.Cool(now, time.Millisecond)
				c.Turn(now, time.Second)
				c.Left(now)
			}
		})
	}
	wait.Wait()
	if _, ok := br.Allow(at(time.Hour)); !ok {
		t.Error("no probe after an hour")
	}
}

func BenchmarkCall(b *testing.B) {
	var (
		budget  retry.Budget
		breaker retry.Breaker
		cool    retry.Cooldown
	)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		budget.Request(now)
		if cool.Left(now) == 0 {
			call(&breaker, now, retry.Good)
		}
	}
}
