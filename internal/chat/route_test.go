package chat_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/retry"
)

// routeFake is an Upstream that plays one step a call and then its last step
// for ever, and keeps when and for which model it was called.
type routeFake struct {
	name  string
	steps []routeStep

	mu     sync.Mutex
	start  time.Time
	calls  []time.Duration
	models []string
}

// routeStep is what one call does: it takes a while, emits, and ends.
type routeStep struct {
	takes time.Duration
	emit  []chat.Delta
	err   error
}

func (f *routeFake) Name() string { return f.name }

func (f *routeFake) Chat(ctx context.Context, call chat.Call, emit func(chat.Delta) error) (chat.Answer, error) {
	f.mu.Lock()
	if f.start.IsZero() {
		f.start = time.Now()
	}
	step := f.steps[min(len(f.calls), len(f.steps)-1)]
	f.calls = append(f.calls, time.Since(f.start))
	f.models = append(f.models, call.Model)
	f.mu.Unlock()
	select {
	case <-time.After(step.takes):
	case <-ctx.Done():
		return chat.Answer{}, fault.Wrap(ctx.Err(), api.UpstreamUnavailable, "cut")
	}
	for _, d := range step.emit {
		if err := emit(d); err != nil {
			return chat.Answer{}, err
		}
	}
	return chat.Answer{Model: call.Model, FinishReason: "stop"}, step.err
}

func (f *routeFake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func upstreamFault(code api.Code, status int, after time.Duration) error {
	f := fault.New(code, "fake %d", status)
	f.UpstreamStatus, f.RetryAfter = status, after
	return f
}

var (
	routeOK      = routeStep{emit: []chat.Delta{{Text: "hel"}, {Text: "lo"}}}
	route503     = routeStep{err: upstreamFault(api.UpstreamUnavailable, 503, 0)}
	route401     = routeStep{err: upstreamFault(api.UpstreamAuth, 401, 0)}
	route409     = routeStep{err: upstreamFault(api.UpstreamRejected, 409, 0)}
	errRouteEmit = errors.New("the reader's own")
)

func route429(after time.Duration) routeStep {
	return routeStep{err: upstreamFault(api.UpstreamRateLimited, 429, after)}
}

func route503after(after time.Duration) routeStep {
	return routeStep{err: upstreamFault(api.UpstreamUnavailable, 503, after)}
}

// topJitter draws the longest possible backoff: 250 ms, 500 ms, 1 s, …
var topJitter = retry.Backoff{Rand: func() float64 { return 1 }}

func routeOver(fakes ...*routeFake) chat.RouteConfig {
	c := chat.RouteConfig{MaxRetries: 2, Backoff: topJitter}
	for _, f := range fakes {
		c.Providers = append(c.Providers, chat.RouteProvider{Upstream: f})
	}
	return c
}

// routeRun makes one call and returns what came of it.
func routeRun(ctx context.Context, r *chat.Route, avoid ...string) (text string, notes []chat.Retry, a chat.RouteAnswer, err error) {
	a, err = r.Chat(ctx, chat.Call{Model: "m"}, func(d chat.Delta) error {
		text += d.Text
		return nil
	}, func(n chat.Retry) { notes = append(notes, n) }, avoid...)
	return text, notes, a, err
}

const ms = time.Millisecond

func TestRouteOneProvider(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []routeStep
		code  api.Code // "": an answer
		after time.Duration
		calls []time.Duration
	}{
		{"at once", []routeStep{routeOK}, "", 0, []time.Duration{0}},
		{"third call", []routeStep{route503, route503, routeOK}, "", 0, []time.Duration{0, 250 * ms, 750 * ms}},
		{"retries end", []routeStep{route503}, api.UpstreamUnavailable, 0, []time.Duration{0, 250 * ms, 750 * ms}},
		{"409", []routeStep{route409, routeOK}, "", 0, []time.Duration{0, 250 * ms}},
		{"408", []routeStep{{err: upstreamFault(api.UpstreamTimeout, 408, 0)}, routeOK}, "", 0, []time.Duration{0, 250 * ms}},
		{"time-out", []routeStep{{takes: time.Minute, err: upstreamFault(api.UpstreamTimeout, 0, 0)}, routeOK}, "", 0, []time.Duration{0, 60_250 * ms}},
		{"truncated before content", []routeStep{{err: upstreamFault(api.UpstreamTruncated, 200, 0)}, routeOK}, "", 0, []time.Duration{0, 250 * ms}},
		{"bad response", []routeStep{{err: upstreamFault(api.UpstreamBadResponse, 200, 0)}, routeOK}, "", 0, []time.Duration{0, 250 * ms}},
		{"an empty delta is nothing", []routeStep{{emit: []chat.Delta{{}}, err: route503.err}, routeOK}, "", 0, []time.Duration{0, 250 * ms}},
		{"auth", []routeStep{route401}, api.UpstreamAuth, 0, []time.Duration{0}},
		{"no model", []routeStep{{err: upstreamFault(api.UpstreamModelNotFound, 404, 0)}}, api.UpstreamModelNotFound, 0, []time.Duration{0}},
		{"rejected", []routeStep{{err: upstreamFault(api.UpstreamRejected, 400, 0)}}, api.UpstreamRejected, 0, []time.Duration{0}},
		{"not a fault", []routeStep{{err: errors.New("bug")}}, api.Internal, 0, []time.Duration{0}},
		{"429 without a time", []routeStep{route429(0), routeOK}, "", 0, []time.Duration{0, 250 * ms}},
		{"429 with a time", []routeStep{route429(5 * time.Second), routeOK}, "", 0, []time.Duration{0, 5 * time.Second}},
		{"429 of a minute", []routeStep{route429(time.Minute), routeOK}, "", 0, []time.Duration{0, time.Minute}},
		{"429 of an hour", []routeStep{route429(time.Hour), routeOK}, api.UpstreamRateLimited, time.Hour, []time.Duration{0}},
		{"429 beyond the patience left", []routeStep{route429(40 * time.Second)}, api.UpstreamRateLimited, 40 * time.Second, []time.Duration{0, 40 * time.Second}},
		{"503 with a time", []routeStep{route503after(5 * time.Second), routeOK}, "", 0, []time.Duration{0, 5250 * ms}},
		{"503 of an hour", []routeStep{route503after(time.Hour), routeOK}, api.UpstreamUnavailable, time.Hour, []time.Duration{0}},
		{"503 beyond the patience left", []routeStep{route503after(40 * time.Second)}, api.UpstreamUnavailable, 40 * time.Second, []time.Duration{0, 40_250 * ms}},
		{"503 of a negative time", []routeStep{route503after(-time.Hour), routeOK}, "", 0, []time.Duration{0, 250 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := &routeFake{name: "a", steps: c.steps}
				text, notes, a, err := routeRun(t.Context(), chat.NewRoute(routeOver(up)))
				if c.code == "" && (err != nil || text != "hello" || a.FinishReason != "stop") {
					t.Fatalf("text %q, answer %+v, error %v", text, a, err)
				}
				if c.code != "" && (err == nil || fault.From(err).Code != c.code || fault.From(err).RetryAfter != c.after) {
					t.Fatalf("error %v (after %v), want %s after %v", err, fault.From(err).RetryAfter, c.code, c.after)
				}
				if !reflect.DeepEqual(up.calls, c.calls) {
					t.Errorf("calls at %v, want %v", up.calls, c.calls)
				}
				if a.Provider != "a" || a.Calls != len(c.calls) || len(notes) != len(c.calls)-1 {
					t.Errorf("answer %+v, notes %+v", a, notes)
				}
			})
		})
	}
}

// R41: whatever the chunk at which the provider fails, nothing that a reader saw
// is asked for again.
func TestRouteNeverRetriesAfterFirstDelta(t *testing.T) {
	kinds := []chat.Delta{{Text: "x"}, {Reasoning: "x"}, {ToolCalls: []byte(`[{"index":0}]`)}}
	for k := range 30 {
		for _, code := range []api.Code{api.UpstreamUnavailable, api.UpstreamTruncated, api.UpstreamTimeout, api.UpstreamRateLimited} {
			synctest.Test(t, func(t *testing.T) {
				broken := routeStep{err: upstreamFault(code, 0, 0)}
				for i := range k {
					broken.emit = append(broken.emit, kinds[i%len(kinds)])
				}
				a := &routeFake{name: "a", steps: []routeStep{broken}}
				b := &routeFake{name: "b", steps: []routeStep{routeOK}}
				deltas := 0
				answer, err := chat.NewRoute(routeOver(a, b)).Chat(t.Context(), chat.Call{}, func(chat.Delta) error {
					deltas++
					return nil
				}, nil)
				if k == 0 {
					if err != nil || answer.Provider != "b" || deltas != 2 {
						t.Fatalf("%s before content: %+v, %v, %d deltas", code, answer, err, deltas)
					}
					return
				}
				if err == nil || fault.From(err).Code != code || deltas != k || a.count() != 1 || b.count() != 0 || answer.Provider != "a" {
					t.Fatalf("%s at %d: %+v, %v, %d deltas, calls %d and %d", code, k, answer, err, deltas, a.count(), b.count())
				}
			})
		}
	}
}

func TestRouteFallback(t *testing.T) {
	reject := routeStep{err: upstreamFault(api.UpstreamRejected, 400, 0)}
	for _, c := range []struct {
		name     string
		a, b     []routeStep
		avoid    string
		provider string
		code     api.Code
		calls    [2]int
		took     time.Duration
	}{
		{name: "retries, then the next", a: []routeStep{route503}, b: []routeStep{routeOK}, provider: "b", calls: [2]int{3, 1}, took: 750 * ms},
		{name: "auth at once", a: []routeStep{route401}, b: []routeStep{routeOK}, provider: "b", calls: [2]int{1, 1}},
		{name: "redirect at once", a: []routeStep{{err: upstreamFault(api.UpstreamRedirect, 307, 0)}}, b: []routeStep{routeOK}, provider: "b", calls: [2]int{1, 1}},
		{name: "the request's own fault", a: []routeStep{reject}, b: []routeStep{routeOK}, provider: "a", code: api.UpstreamRejected, calls: [2]int{1, 0}},
		{name: "429 goes on at once", a: []routeStep{route429(5 * time.Second)}, b: []routeStep{routeOK}, provider: "b", calls: [2]int{1, 1}},
		{name: "429 of an hour goes on at once", a: []routeStep{route429(time.Hour)}, b: []routeStep{routeOK}, provider: "b", calls: [2]int{1, 1}},
		{name: "back to the cooled one", a: []routeStep{route429(5 * time.Second), routeOK}, b: []routeStep{route401}, provider: "a", calls: [2]int{2, 1}, took: 5 * time.Second},
		{name: "both cool, the sooner first", a: []routeStep{route429(9 * time.Second)}, b: []routeStep{route429(4 * time.Second), routeOK}, provider: "b", calls: [2]int{1, 2}, took: 4 * time.Second},
		{name: "the retryable failure is told", a: []routeStep{route503}, b: []routeStep{route401}, provider: "b", code: api.UpstreamUnavailable, calls: [2]int{3, 1}, took: 750 * ms},
		{name: "avoid the first", a: []routeStep{routeOK}, b: []routeStep{routeOK}, avoid: "a", provider: "b", calls: [2]int{0, 1}},
		{name: "avoided is still the last resort", a: []routeStep{routeOK}, b: []routeStep{route401}, avoid: "a", provider: "a", calls: [2]int{1, 1}},
		{name: "avoid nobody known", a: []routeStep{routeOK}, b: []routeStep{routeOK}, avoid: "z", provider: "a", calls: [2]int{1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := &routeFake{name: "a", steps: c.a}, &routeFake{name: "b", steps: c.b}
				began := time.Now()
				_, notes, answer, err := routeRun(t.Context(), chat.NewRoute(routeOver(a, b)), c.avoid)
				if c.code == "" && err != nil || c.code != "" && (err == nil || fault.From(err).Code != c.code) {
					t.Fatalf("error %v, want %q", err, c.code)
				}
				if answer.Provider != c.provider || answer.Calls != a.count()+b.count() || [2]int{a.count(), b.count()} != c.calls {
					t.Errorf("answer %+v, calls %d and %d", answer, a.count(), b.count())
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("took %v, want %v (%+v)", took, c.took, notes)
				}
			})
		})
	}
}

func TestRouteNotesAndModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &routeFake{name: "a", steps: []routeStep{route503, route401}}
		b := &routeFake{name: "b", steps: []routeStep{route429(2 * time.Second), routeOK}}
		c := routeOver(a, b)
		c.Providers[1].Model = "b-model"
		text, notes, answer, err := routeRun(t.Context(), chat.NewRoute(c))
		if err != nil || text != "hello" || answer.Model != "b-model" {
			t.Fatal(text, answer, err)
		}
		want := []chat.Retry{
			{Provider: "a", Code: api.UpstreamUnavailable, UpstreamStatus: 503, Next: "a", Wait: 250 * ms, Call: 1},
			{Provider: "a", Code: api.UpstreamAuth, UpstreamStatus: 401, Next: "b", Call: 2},
			{Provider: "b", Code: api.UpstreamRateLimited, UpstreamStatus: 429, Next: "b", Wait: 2 * time.Second, Call: 3},
		}
		if !reflect.DeepEqual(notes, want) {
			t.Errorf("notes %+v", notes)
		}
		if !reflect.DeepEqual(a.models, []string{"m", "m"}) || !reflect.DeepEqual(b.models, []string{"b-model", "b-model"}) {
			t.Errorf("models %v and %v", a.models, b.models)
		}
	})
}

func TestRouteContext(t *testing.T) {
	stop := errors.New("stop asked")
	for _, c := range []struct {
		name  string
		step  routeStep
		in    time.Duration // of the cancel
		is    error
		calls int
	}{
		{"in a backoff", route503, 100 * ms, stop, 1},
		{"in a Retry-After", route503after(30 * time.Second), 20 * time.Second, stop, 1},
		{"in a cooldown", route429(30 * time.Second), 20 * time.Second, stop, 1},
		{"in a call", routeStep{takes: time.Hour}, time.Second, context.Canceled, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(c.in, func() { cancel(stop) })
				up := &routeFake{name: "a", steps: []routeStep{c.step}}
				began := time.Now()
				_, _, _, err := routeRun(ctx, chat.NewRoute(routeOver(up)))
				if !errors.Is(err, c.is) || time.Since(began) != c.in || up.count() != c.calls {
					t.Errorf("%v after %v, %d calls", err, time.Since(began), up.count())
				}
			})
		})
	}
	t.Run("no wait beyond a deadline", func(t *testing.T) {
		for _, step := range []routeStep{route503after(3 * time.Second), route429(3 * time.Second)} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				began := time.Now()
				_, _, _, err := routeRun(ctx, chat.NewRoute(routeOver(&routeFake{name: "a", steps: []routeStep{step}})))
				if time.Since(began) != 0 || fault.From(err).RetryAfter != 3*time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		}
	})
}

// A caller that leaves says nothing about the provider: its errors go back as
// they are and do not open the breaker.
func TestRouteEmitError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &routeFake{name: "a", steps: []routeStep{routeOK}}
		r := chat.NewRoute(routeOver(up))
		for range 40 {
			a, err := r.Chat(t.Context(), chat.Call{}, func(chat.Delta) error { return errRouteEmit }, nil)
			if err != errRouteEmit || a.Calls != 1 {
				t.Fatal(a, err)
			}
		}
		if _, _, _, err := routeRun(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRouteWithoutProviders(t *testing.T) {
	_, _, a, err := routeRun(t.Context(), chat.NewRoute(chat.RouteConfig{}))
	if fault.From(err).Code != api.ConfigError || a.Calls != 0 {
		t.Error(a, err)
	}
}
