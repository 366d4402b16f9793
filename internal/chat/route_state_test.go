package chat_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/retry"
)

// R53: one run's 429 cools the provider for all; nobody calls before the time is
// over, and then they come one by one.
func TestRouteCooldownHoldsForAllRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &routeFake{name: "a", steps: []routeStep{route429(5 * time.Second), routeOK}}
		r := chat.NewRoute(routeOver(up))
		var wait sync.WaitGroup
		wait.Go(func() { routeRun(t.Context(), r) })
		synctest.Wait()
		for range 50 {
			wait.Go(func() {
				if _, notes, a, err := routeRun(t.Context(), r); err != nil || a.Calls != 1 || len(notes) != 1 || notes[0].Call != 0 {
					t.Errorf("%+v, %+v, %v", a, notes, err)
				}
			})
		}
		wait.Wait()
		last := up.calls[0]
		for i, at := range up.calls[1:] {
			if at < 5*time.Second || at > 6*time.Second || (i > 0 && at-last < 10*ms) {
				t.Fatalf("call %d at %v after one at %v", i+1, at, last)
			}
			last = at
		}
		if up.count() != 52 { // the refused one twice
			t.Errorf("%d calls", up.count())
		}
	})
}

// R53: a 429 with a longer time fails its own call and cools nobody.
func TestRouteLongRetryAfterCoolsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &routeFake{name: "a", steps: []routeStep{route429(61 * time.Second), routeOK}}
		r := chat.NewRoute(routeOver(up))
		_, _, _, err := routeRun(t.Context(), r)
		if f := fault.From(err); f.Code != api.UpstreamRateLimited || f.RetryAfter != 61*time.Second {
			t.Fatal(err)
		}
		if _, _, _, err := routeRun(t.Context(), r); err != nil || up.calls[1] != 0 {
			t.Errorf("the next run: %v, called at %v", err, up.calls)
		}
	})
}

func TestRouteImpatientWithCooling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &routeFake{name: "a", steps: []routeStep{route429(30 * time.Second), routeOK}}
		c := routeOver(up)
		c.MaxWait = 10 * time.Second
		r := chat.NewRoute(c)
		for i, after := range []time.Duration{30 * time.Second, 28 * time.Second} {
			began := time.Now()
			_, notes, a, err := routeRun(t.Context(), r)
			if f := fault.From(err); f.Code != api.UpstreamRateLimited || f.RetryAfter != after || len(notes) != 0 || time.Since(began) != 0 {
				t.Fatalf("run %d: %v after %v, %v", i, err, f.RetryAfter, notes)
			}
			if a.Calls != 1-i {
				t.Errorf("run %d made %d calls", i, a.Calls)
			}
			<-time.After(2 * time.Second)
		}
		<-time.After(20 * time.Second)
		if _, _, _, err := routeRun(t.Context(), r); err != nil || up.calls[1] != 30*time.Second {
			t.Errorf("within the patience: %v, called at %v", err, up.calls)
		}
	})
}

// R44: a hundred runs a second for a minute against a provider that fails every
// call, in a way that does not open the breaker.
func TestRouteRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &routeFake{name: "a", steps: []routeStep{route409}}
		c := routeOver(up)
		rng := rand.New(rand.NewPCG(7, 7))
		var lock sync.Mutex
		c.Backoff.Rand = func() float64 {
			lock.Lock()
			defer lock.Unlock()
			return rng.Float64()
		}
		r := chat.NewRoute(c)
		const runs = 6000
		var wait sync.WaitGroup
		for range runs {
			<-time.After(10 * ms)
			wait.Go(func() {
				if _, _, _, err := routeRun(t.Context(), r); err == nil {
					t.Error("an answer from nowhere")
				}
			})
		}
		wait.Wait()
		if per := float64(up.count()) / runs; per > 1.25 || per < 1.15 {
			t.Errorf("%.3f calls a run", per)
		}
	})
}

// R46: a dead provider's breaker opens, runs then fail at once and the provider
// sees a probe a second; when it is back the breaker closes.
func TestRouteBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &routeFake{name: "a", steps: []routeStep{route503}}
		r := chat.NewRoute(routeOver(up))
		for range 25 {
			routeRun(t.Context(), r)
		}
		before, began := up.count(), time.Now()
		for time.Since(began) < 10*time.Second {
			<-time.After(20 * ms)
			entered := time.Now()
			_, _, a, err := routeRun(t.Context(), r)
			if f := fault.From(err); f.Code != api.UpstreamUnavailable || !f.Retryable {
				t.Fatal(err)
			}
			if a.Calls == 0 && time.Since(entered) != 0 {
				t.Fatalf("an open breaker took %v", time.Since(entered))
			}
		}
		if probes := up.count() - before; probes < 5 || probes > 10 {
			t.Errorf("%d probes in 10 s", probes)
		}
		up.steps = []routeStep{routeOK}
		<-time.After(time.Second)
		for i := range 100 {
			if _, _, _, err := routeRun(t.Context(), r); err != nil {
				t.Fatalf("run %d after the recovery: %v", i, err)
			}
		}
	})
}

// A probe is good with its first delta: a long stream does not keep others out.
func TestRouteProbeClosesAtFirstDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var breaker retry.Breaker
		for range 20 {
			p, _ := breaker.Allow(time.Now())
			breaker.Done(time.Now(), p, retry.Bad)
		}
		<-time.After(time.Second)
		c := routeOver(&routeFake{name: "a", steps: []routeStep{routeOK}})
		c.Providers[0].Breaker = &breaker
		seen := 0
		_, err := chat.NewRoute(c).Chat(t.Context(), chat.Call{}, func(chat.Delta) error {
			seen++
			if _, open := breaker.Open(time.Now()); open {
				t.Error("still open at the first delta")
			}
			return nil
		}, nil)
		if err != nil || seen != 2 {
			t.Error(err, seen)
		}
	})
}

func TestRouteOpenBreakerFallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &routeFake{name: "a", steps: []routeStep{route503}}
		b := &routeFake{name: "b", steps: []routeStep{routeOK}}
		r := chat.NewRoute(routeOver(a, b))
		for i := range 30 {
			if _, _, answer, err := routeRun(t.Context(), r); err != nil || answer.Provider != "b" {
				t.Fatalf("run %d: %+v, %v", i, answer, err)
			}
		}
		before := a.count()
		_, notes, answer, err := routeRun(t.Context(), r)
		if err != nil || answer.Calls != 1 || a.count() != before {
			t.Fatalf("%+v, %v, %d calls of a", answer, err, a.count()-before)
		}
		if want := []chat.Retry{{Provider: "a", Code: api.UpstreamUnavailable, Next: "b"}}; !reflect.DeepEqual(notes, want) {
			t.Errorf("notes %+v", notes)
		}
	})
}

// All providers out of reach: the sooner one's time is told.
func TestRouteAllPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := routeOver(&routeFake{name: "a"}, &routeFake{name: "b"})
		c.MaxWait = time.Second
		for i, d := range []time.Duration{40 * time.Second, 20 * time.Second} {
			c.Providers[i].Cooldown = new(retry.Cooldown)
			c.Providers[i].Cooldown.Cool(time.Now(), d)
		}
		_, _, a, err := routeRun(t.Context(), chat.NewRoute(c))
		f := fault.From(err)
		if a.Calls != 0 || f.Code != api.UpstreamRateLimited || f.RetryAfter != 20*time.Second || !strings.Contains(fmt.Sprint(err), "provider b") {
			t.Errorf("%+v, %v after %v", a, err, f.RetryAfter)
		}
	})
}
