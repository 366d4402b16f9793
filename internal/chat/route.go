package chat

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/retry"
)

// A RouteProvider is one provider of a Route, in the order of preference.
type RouteProvider struct {
	Upstream Upstream
	Model    string // asked of this provider instead of the call's model; empty: the call's
	// Breaker and Cooldown are the provider's state over all runs. A nil one is
	// made; pass them to share a provider between routes or to watch it.
	Breaker  *retry.Breaker
	Cooldown *retry.Cooldown
}

// RouteConfig says whom a Route asks, and how patient it is.
type RouteConfig struct {
	Providers  []RouteProvider
	MaxRetries int // CHAT_PROVIDER_MAX_RETRIES: further calls to one provider
	// MaxWait bounds all waiting that providers ask of one Chat (Retry-After,
	// cooldowns) together, 0: 60 s. Backoff comes on top, and so do the calls
	// themselves, which have their own time-outs.
	MaxWait time.Duration
	Backoff retry.Backoff
	Budget  *retry.Budget // of all routes of this client; nil: one of its own
}

// A Route asks providers in order until one begins to answer. Everything before
// the first delta is unseen and may be repeated; after it nothing is, and the
// failure goes up to the caller, who decides about a new attempt.
type Route struct {
	providers  []RouteProvider
	maxRetries int
	maxWait    time.Duration
	backoff    retry.Backoff
	budget     *retry.Budget
}

// NewRoute makes a Route. It is safe for concurrent use and holds nothing to close.
func NewRoute(c RouteConfig) *Route {
	r := &Route{
		providers:  slices.Clone(c.Providers),
		maxRetries: c.MaxRetries,
		maxWait:    c.MaxWait,
		backoff:    c.Backoff,
		budget:     c.Budget,
	}
	if r.maxWait <= 0 {
		r.maxWait = retry.MaxCooldown
	}
	if r.budget == nil {
		r.budget = new(retry.Budget)
	}
	for i := range r.providers {
		p := &r.providers[i]
		if p.Breaker == nil {
			p.Breaker = new(retry.Breaker)
		}
		if p.Cooldown == nil {
			p.Cooldown = new(retry.Cooldown)
		}
	}
	return r
}

// A Retry is one step from a provider that failed, or was passed over because it
// is cooling or its breaker is open, to the next call.
type Retry struct {
	Provider       string // who failed or was passed over
	Code           api.Code
	UpstreamStatus int           // 0: none
	Next           string        // who is asked next, maybe the same
	Wait           time.Duration // before that
	Call           int           // provider calls made so far
}

// RouteAnswer is an Answer and who gave it. Provider and Calls are set beside an
// error too: who was asked last, and how many calls were made in all.
type RouteAnswer struct {
	Answer
	Provider string
	Calls    int
}

// Chat makes one call through the route. note, which may be nil, is told of each
// further step before it is taken. The providers named in avoid are asked last:
// an attempt that follows a broken stream should begin elsewhere.
//
// It returns emit's error as it is, the provider's error when ctx ends a call,
// the context's cause (wrapped) when ctx ends the wait between calls, and
// otherwise the *fault.Error of the last failure that a caller may hope to
// overcome, with RetryAfter where one is known.
// Refusals of the request itself (upstream_rejected) are final at once.
func (r *Route) Chat(ctx context.Context, call Call, emit func(Delta) error, note func(Retry), avoid ...string) (RouteAnswer, error) {
	return r.trip(call, emit, note, avoid).run(ctx)
}

// trip sets out on one Chat.
func (r *Route) trip(call Call, emit func(Delta) error, note func(Retry), avoid []string) *trip {
	r.budget.Request(time.Now())
	t := &trip{Route: r, call: call, emit: emit, note: note, patience: r.maxWait}
	for i := range r.providers {
		t.legs = append(t.legs, &leg{RouteProvider: &r.providers[i]})
	}
	slices.SortStableFunc(t.legs, func(a, b *leg) int {
		return rank(avoid, a.Upstream.Name()) - rank(avoid, b.Upstream.Name())
	})
	return t
}

func (t *trip) run(ctx context.Context) (RouteAnswer, error) {
	for {
		l, permit, err := t.next(ctx)
		if err != nil {
			return t.answer(Answer{}), err
		}
		answer, err := t.ask(ctx, l, permit)
		if err == nil {
			return t.answer(answer), nil
		}
		f := fault.From(err)
		if t.begun || t.gone || ctx.Err() != nil || !retry.Elsewhere(f) {
			return t.answer(Answer{}), err
		}
		t.failed(ctx, l, f)
	}
}

func rank(avoid []string, name string) int {
	if slices.Contains(avoid, name) {
		return 1
	}
	return 0
}

// A trip is one Chat on its way along the providers.
type trip struct {
	*Route
	call Call
	emit func(Delta) error
	note func(Retry)

	legs     []*leg
	stay     *leg          // asked again next, after asked + jitter
	asked    time.Duration // the provider's Retry-After
	jitter   time.Duration
	patience time.Duration // what is left to wait when providers ask for it

	calls    int
	provider string  // asked last
	begun    bool    // a delta was emitted
	gone     bool    // emit failed: the caller does not want more
	untold   []Retry // steps whose next provider is not known yet

	verdict *fault.Error // returned when no provider is left
	guessed bool         // it comes from a provider's state and not from a call
}

// A leg is what one trip knows of one provider.
type leg struct {
	*RouteProvider
	tries   int
	granted bool // its next call is paid for by the budget
	passed  bool // its being passed over is noted
	done    bool // not to be asked again on this trip
}

func (t *trip) answer(a Answer) RouteAnswer {
	return RouteAnswer{Answer: a, Provider: t.provider, Calls: t.calls}
}

// next finds the provider to ask now, having waited where it must.
func (t *trip) next(ctx context.Context) (*leg, retry.Permit, error) {
	for {
		if t.stay != nil && t.asked+t.jitter > 0 {
			if err := t.wait(ctx, t.stay, t.asked, t.jitter); err != nil {
				return nil, retry.Permit{}, err
			}
		}
		now := time.Now()
		if l, permit := t.ready(now); l != nil {
			t.tell(l, 0)
			return l, permit, nil
		}
		l, wait := t.soonest(ctx, now)
		if l == nil {
			return nil, retry.Permit{}, t.giveUp()
		}
		if err := t.wait(ctx, l, wait, 0); err != nil {
			return nil, retry.Permit{}, err
		}
	}
}

// ready returns the first provider that may be asked at once, the one to stay
// with before all others.
func (t *trip) ready(now time.Time) (*leg, retry.Permit) {
	order := t.legs
	if t.stay != nil {
		order = append([]*leg{t.stay}, t.legs...)
		t.stay = nil
	}
	for _, l := range order {
		if l.done {
			continue
		}
		if left := l.Cooldown.Left(now); left > 0 {
			t.passOver(l, cooling(l, left))
			continue
		}
		if !t.grant(l, now) {
			continue
		}
		permit, ok := l.Breaker.Allow(now)
		if !ok {
			l.done = true
			t.passOver(l, broken(l))
			continue
		}
		return l, permit
	}
	return nil, retry.Permit{}
}

// soonest returns the cooling provider whose turn comes first and the wait for
// it, or nil when none comes within this trip's patience.
func (t *trip) soonest(ctx context.Context, now time.Time) (*leg, time.Duration) {
	var first *leg
	for _, l := range t.legs {
		if !l.done && (first == nil || l.Cooldown.Left(now) < first.Cooldown.Left(now)) {
			first = l
		}
	}
	if first == nil || !t.grant(first, now) {
		return nil, 0
	}
	wait, ok := first.Cooldown.Turn(now, min(t.patience, remaining(ctx, now)))
	if !ok {
		return nil, 0
	}
	return first, wait
}

// grant pays a provider's second and later calls from the budget. The first call
// to each provider is free: a provider that is down for good must not use up
// what lets another one answer.
func (t *trip) grant(l *leg, now time.Time) bool {
	if l.tries == 0 || l.granted {
		return true
	}
	if l.tries > t.maxRetries || !t.budget.Retry(now) {
		l.done = true
		return false
	}
	l.granted = true
	return true
}

// remaining is the time to ctx's deadline. No wait may pass it: a failure now
// says more than a time-out later.
func remaining(ctx context.Context, now time.Time) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return deadline.Sub(now)
	}
	return math.MaxInt64
}

// ask makes one call and lets the provider's state learn from it.
func (t *trip) ask(ctx context.Context, l *leg, permit retry.Permit) (Answer, error) {
	l.tries++
	l.granted, l.passed = false, false
	t.calls++
	t.provider = l.Upstream.Name()
	call := t.call
	if l.Model != "" {
		call.Model = l.Model
	}
	answer, err := l.Upstream.Chat(ctx, call, func(d Delta) error {
		if d.Text == "" && d.Reasoning == "" && len(d.ToolCalls) == 0 {
			return nil // nothing the reader could see twice
		}
		t.begun = true
		if permit.Probe {
			permit = l.Breaker.Done(time.Now(), permit, retry.Good)
		}
		err := t.emit(d)
		t.gone = t.gone || err != nil
		return err
	})
	now := time.Now()
	if err == nil {
		l.Breaker.Done(now, permit, retry.Good)
		return answer, nil
	}
	if t.gone || ctx.Err() != nil {
		l.Breaker.Done(now, permit, retry.Unknown)
		return answer, err
	}
	outcome := retry.Good
	f := fault.From(err)
	if retry.Failure(f) {
		outcome = retry.Bad
	}
	l.Breaker.Done(now, permit, outcome)
	if f.Code == api.UpstreamRateLimited {
		l.Cooldown.Cool(now, f.RetryAfter)
	}
	return answer, err
}

// failed decides what follows a failure before the first delta: the same
// provider after a wait, the same after its cooldown unless another one answers
// meanwhile, or never.
func (t *trip) failed(ctx context.Context, l *leg, f *fault.Error) {
	now := time.Now()
	t.blame(f, false)
	t.untold = append(t.untold, Retry{
		Provider: t.provider, Code: f.Code, UpstreamStatus: f.UpstreamStatus, Call: t.calls,
	})
	jitter := t.backoff.Delay(l.tries - 1)
	switch {
	case !retry.Again(f), l.tries > t.maxRetries, f.RetryAfter > retry.MaxCooldown:
		l.done = true
	case l.Cooldown.Left(now) > 0:
		l.passed = true
	case f.RetryAfter > t.patience, f.RetryAfter+jitter > remaining(ctx, now):
		l.done = true
	case t.grant(l, now):
		t.stay, t.asked, t.jitter = l, max(0, f.RetryAfter), jitter
	}
}

// passOver notes that a provider is not asked although nothing is known against
// it from this trip's own calls.
func (t *trip) passOver(l *leg, f *fault.Error) {
	t.blame(f, true)
	if !l.passed {
		l.passed = true
		t.untold = append(t.untold, Retry{Provider: l.Upstream.Name(), Code: f.Code, Call: t.calls})
	}
}

// blame keeps the failure that tells a caller most: one it may hope to overcome
// before one it may not, a call's own before a guess, then the newest; of two
// guesses the sooner.
func (t *trip) blame(f *fault.Error, guess bool) {
	old := t.verdict
	switch {
	case old == nil:
	case old.Retryable != f.Retryable:
		if old.Retryable {
			return
		}
	case guess && !t.guessed:
		return
	case guess && old.RetryAfter <= f.RetryAfter:
		return
	}
	t.verdict, t.guessed = f, guess
}

func (t *trip) giveUp() error {
	if t.verdict == nil {
		return fault.New(api.ConfigError, "no provider is configured")
	}
	return t.verdict
}

// tell notes the steps that lead to the next call, the newest with its wait.
func (t *trip) tell(next *leg, wait time.Duration) {
	for i, step := range t.untold {
		step.Next = next.Upstream.Name()
		if i == len(t.untold)-1 {
			step.Wait = wait
		}
		if t.note != nil {
			t.note(step)
		}
	}
	t.untold = t.untold[:0]
}

// wait waits for what a provider asked and for jitter of the trip's own.
func (t *trip) wait(ctx context.Context, next *leg, asked, jitter time.Duration) error {
	t.tell(next, asked+jitter)
	t.patience -= asked
	timer := time.NewTimer(asked + jitter)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for provider %s: %w", next.Upstream.Name(), context.Cause(ctx))
	}
}

func cooling(l *leg, left time.Duration) *fault.Error {
	f := fault.New(api.UpstreamRateLimited, "provider %s asked for a pause", l.Upstream.Name())
	f.RetryAfter = left
	return f
}

func broken(l *leg) *fault.Error {
	f := fault.New(api.UpstreamUnavailable, "provider %s keeps failing and is not asked for now", l.Upstream.Name())
	f.RetryAfter = retry.ProbeEvery
	return f
}
