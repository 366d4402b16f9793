package limit

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"
)

func at(d time.Duration) time.Time { return time.Unix(1_800_000_000, 0).Add(d) }

func TestTake(t *testing.T) {
	type step struct {
		at        time.Duration
		n, grant  int
		remaining int
	}
	for _, tt := range []struct {
		name  string
		limit int
		steps []step
	}{
		{"a burst, then nothing until it leaves", 3, []step{
			{0, 3, 3, 0},
			{time.Second, 1, 0, 0},
			{Window - time.Microsecond, 1, 0, 0},
			{Window, 2, 2, 1},
		}},
		{"part of a batch", 5, []step{{0, 3, 3, 2}, {time.Millisecond, 4, 2, 0}}},
		{"a merged pair leaves with its latest", 2, []step{
			{0, 1, 1, 1},
			{400 * time.Millisecond, 1, 1, 0},
			{Window, 1, 0, 0},
			{Window + 400*time.Millisecond, 1, 1, 1},
		}},
		{"two quanta leave one by one", 2, []step{
			{0, 1, 1, 1},
			{600 * time.Millisecond, 1, 1, 0},
			{Window, 1, 1, 0},
			{Window + 500*time.Millisecond, 1, 0, 0},
			{Window + 600*time.Millisecond, 1, 1, 0},
		}},
		{"the clock set back by an hour", 2, []step{
			{time.Hour, 2, 2, 0},
			{0, 1, 0, 0},
			{Window - time.Microsecond, 1, 0, 0},
			{Window, 1, 1, 1},
		}},
		{"nothing asked", 1, []step{{0, 0, 0, 1}, {0, -1, 0, 1}, {0, 1, 1, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l Log
			for i, s := range tt.steps {
				if got := l.Take(at(s.at), tt.limit, s.n); got != s.grant {
					t.Fatalf("step %d: granted %d, want %d", i, got, s.grant)
				}
				if r := l.Rate(at(s.at), tt.limit); r.Remaining != s.remaining || r.Limit != tt.limit {
					t.Fatalf("step %d: %+v, want %d remaining", i, r, s.remaining)
				}
			}
		})
	}
}

func TestUnlimited(t *testing.T) {
	var l Log
	if got := l.Take(at(0), 0, 7); got != 7 || len(l.Pairs) != 0 {
		t.Fatalf("granted %d, %d pairs", got, len(l.Pairs))
	}
	if r := l.Refusal(at(0), 0); r != (Rate{}) {
		t.Fatalf("rate %+v of no limit", r)
	}
}

// A limit that was lowered while its log was full refuses until enough has left.
func TestLoweredLimit(t *testing.T) {
	var l Log
	l.Take(at(0), 10, 5)
	l.Take(at(10*time.Second), 10, 5)
	now := at(20 * time.Second)
	if got := l.Take(now, 4, 1); got != 0 {
		t.Fatalf("granted %d over the lowered limit", got)
	}
	r := l.Refusal(now, 4)
	if want := 50 * time.Second; r.Remaining != 0 || r.RetryAfter != want || r.Reset != 40*time.Second {
		t.Fatalf("refusal %+v, want retry after %s", r, want)
	}
	if l.Take(now.Add(r.RetryAfter), 4, 1) != 1 {
		t.Fatal("refused after the wait")
	}
}

// Whatever the arrivals: never more than the limit in any window by the true
// times of admission, a bounded log, and a wait that ends in admission.
func TestNeverOver(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		limit := 1 + rnd.IntN(200)
		gap := time.Duration(1 + rnd.Int64N(int64(2*Window)/int64(limit)))
		var l Log
		var admitted []time.Time
		now := at(time.Duration(rnd.Int64N(int64(time.Hour))))
		for range 1500 {
			if rnd.IntN(50) == 0 {
				now = now.Add(time.Duration(rnd.Int64N(int64(2 * Window))))
			}
			now = now.Add(time.Duration(rnd.Int64N(int64(gap))))
			want := 1 + rnd.IntN(3)
			got := l.Take(now, limit, want)
			for range got {
				admitted = append(admitted, now)
			}
			if len(l.Pairs) > MaxPairs {
				t.Fatalf("seed %d: %d pairs", seed, len(l.Pairs))
			}
			if got < want {
				wait := l.Refusal(now, limit).RetryAfter
				later := Log{Pairs: slices.Clone(l.Pairs)}
				if wait < time.Second || wait > Window || later.Take(now.Add(wait), limit, 1) != 1 {
					t.Fatalf("seed %d: refused after waiting %s", seed, wait)
				}
			}
		}
		for i := limit; i < len(admitted); i++ {
			// In µs, as the log counts.
			if d := admitted[i].UnixMicro() - admitted[i-limit].UnixMicro(); d < window {
				t.Fatalf("seed %d: %d admitted within %d µs", seed, limit+1, d)
			}
		}
	}
}

// Pushed without pause a limit gives at least 98 % of what it allows.
func TestGenerous(t *testing.T) {
	for _, limit := range []int{1, 7, 60, 120, 1000, 100_000} {
		for _, step := range []time.Duration{time.Millisecond, 7 * time.Millisecond, 333 * time.Millisecond} {
			var l Log
			got, span := 0, 10*Window
			batch := max(1, limit/40)
			for d := time.Duration(0); d < span; d += step {
				got += l.Take(at(d+137*time.Millisecond), limit, batch)
			}
			possible := min(limit*int(span/Window), batch*int(span/step))
			if float64(got) < 0.98*float64(possible) {
				t.Errorf("limit %d, every %s: %d of %d", limit, step, got, possible)
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name                string
		rate                Rate
		policy, rl, retryIn string
	}{
		{"no limit", Rate{}, "", "", ""},
		{"admitted", Rate{Limit: 60, Remaining: 59, Reset: 59500 * time.Millisecond},
			`"chat";q=60;w=60`, `"chat";r=59;t=60`, ""},
		{"untouched", Rate{Limit: 60, Remaining: 60}, `"chat";q=60;w=60`, `"chat";r=60;t=0`, ""},
		{"refused", Rate{Limit: 60, Reset: time.Minute, RetryAfter: 1001 * time.Millisecond},
			`"chat";q=60;w=60`, `"chat";r=0;t=2`, "2"},
		{"refused for an instant", Rate{Limit: 60, RetryAfter: time.Millisecond},
			`"chat";q=60;w=60`, `"chat";r=0;t=1`, "1"},
		{"refused by the limit over all", Rate{Limit: 500, Remaining: 3, RetryAfter: time.Second, Global: true},
			`"chat-global";q=500;w=60`, `"chat-global";r=0;t=1`, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			Headers(h, "chat", tt.rate)
			for name, want := range map[string]string{"RateLimit-Policy": tt.policy, "RateLimit": tt.rl, "Retry-After": tt.retryIn} {
				if got := h.Get(name); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
		})
	}
}

func BenchmarkTake(b *testing.B) {
	var l Log
	now := at(0)
	for b.Loop() {
		now = now.Add(10 * time.Millisecond)
		l.Take(now, 6000, 1)
	}
}
