package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// misdeed is one way in which a provider fails, and what the client must be told.
type misdeed struct {
	fault string
	at    int // chunks before it
	code  string
}

// Statuses and shapes before the first delta, and breaks before and after it.
func misdeeds() []misdeed {
	list := []misdeed{
		{"status401", 0, "upstream_auth"},
		{"status403", 0, "upstream_auth"},
		{"status404", 0, "upstream_model_not_found"},
		{"status400", 0, "upstream_rejected"},
		{"status408", 0, "upstream_unavailable upstream_timeout"},
		{"status429", 0, "upstream_rate_limited"},
		{"status500", 0, "upstream_unavailable"},
		{"status502", 0, "upstream_unavailable"},
		{"status503", 0, "upstream_unavailable"},
		{"status529", 0, "upstream_unavailable"},
		{"errorbody", 0, "upstream_unavailable upstream_bad_response"},
		{"html", 0, "upstream_bad_response"},
		{"empty", 0, "upstream_bad_response upstream_truncated"},
		{"silent", 0, "upstream_timeout"},
	}
	for _, at := range []int{0, 3} {
		list = append(list,
			misdeed{"rst", at, "upstream_truncated upstream_unavailable"},
			misdeed{"fin", at, "upstream_truncated upstream_unavailable"},
			misdeed{"stall", at, "upstream_timeout"},
			misdeed{"errorframe", at, "upstream_unavailable upstream_bad_response"},
			misdeed{"badjson", at, "upstream_bad_response"},
			misdeed{"cutchunk", at, "upstream_truncated upstream_bad_response"},
		)
	}
	return append(list, misdeed{"nofinish", 6, "upstream_truncated"})
}

const faultyWords = 6

// faultEnv: no retries of the edge's own, so that one fault is one end, and a
// silence that is noticed soon.
func faultEnv() []string {
	return envOf("CHAT_PROVIDER_MAX_RETRIES=0", "CHAT_TIMEOUT_MS=700")
}

// TestProviderFaultsEndOnce: without a key, every fault of a provider ends the run
// in one typed error frame; what had been streamed is stored as far as it goes.
func TestProviderFaultsEndOnce(t *testing.T) {
	s := newEmbeddedSite(t, faultEnv()...)
	for _, m := range misdeeds() {
		t.Run(m.name(), func(t *testing.T) {
			a := s.faulty(t, m, "", 1<<30)
			if a.Failed == nil {
				t.Fatalf("no error: done %v, text %.100q", a.Done, a.Text)
			}
			if !strings.Contains(" "+m.code+" ", " "+a.Failed.Code+" ") {
				t.Errorf("code %s (%s), want one of %s", a.Failed.Code, a.Failed.Message, m.code)
			}
			if status, ok := strings.CutPrefix(m.fault, "status"); ok && fmt.Sprint(a.Failed.Upstream) != status {
				t.Errorf("upstream_status %d, want %s", a.Failed.Upstream, status)
			}
			if a.Resets != 0 || a.Text != text(m.tag("fail"), 1, m.sent()) {
				t.Errorf("%d resets, text %.100q", a.Resets, a.Text)
			}
			if r := s.mustRows()[a.Run]; r.State != "failed" || r.Attempt != 1 || r.Assistants > 1 || r.Content != a.Text {
				t.Errorf("the store has %+v, the client %q", r, a.Text)
			}
		})
	}
}

// TestProviderFaultsAreRestarted: with a key, a fault after the first delta starts
// a new attempt in-band; its text is the second call's, whole.
func TestProviderFaultsAreRestarted(t *testing.T) {
	s := newEmbeddedSite(t, faultEnv()...)
	for _, m := range misdeeds() {
		if m.at == 0 {
			continue
		}
		t.Run(m.name(), func(t *testing.T) {
			a := s.faulty(t, m, "key-"+m.tag("restart"), 1)
			if a.Done == nil || a.Resets != 1 || a.Attempt != 2 || a.Done.Attempts != 2 || a.Text != text(m.tag("restart"), 2, faultyWords) {
				t.Errorf("done %v, failed %v, %d resets, attempt %d, text %.100q", a.Done, a.Failed, a.Resets, a.Attempt, a.Text)
			}
			if r := s.mustRows()[a.Run]; r.State != "completed" || r.Attempt != 2 || r.Assistants != 1 || r.Content != a.Text {
				t.Errorf("the store has %+v", r)
			}
		})
	}
}

// TestProviderFaultsForEver: a keyed run whose provider fails every time ends too,
// after RUN_MAX_ATTEMPTS, in one error.
func TestProviderFaultsForEver(t *testing.T) {
	s := newEmbeddedSite(t, append(faultEnv(), "RUN_MAX_ATTEMPTS=2")...)
	for _, m := range []misdeed{{"rst", 3, ""}, {"stall", 3, ""}, {"nofinish", 6, ""}, {"status500", 0, ""}} {
		t.Run(m.name(), func(t *testing.T) {
			a := s.faulty(t, m, "key-"+m.tag("ever"), 1<<30)
			if a.Failed == nil || a.Text != text(m.tag("ever"), a.Attempt, m.sent()) {
				t.Errorf("done %v, failed %v, attempt %d, text %.100q", a.Done, a.Failed, a.Attempt, a.Text)
			}
			if calls := s.provider.callsOf(m.tag("ever")); calls > 2 {
				t.Errorf("%d provider calls", calls)
			}
		})
	}
}

// TestFaultBeforeFirstDeltaIsRetriedUnseen: such a fault costs a retry, which the
// client does not notice.
func TestFaultBeforeFirstDeltaIsRetriedUnseen(t *testing.T) {
	s := newEmbeddedSite(t, envOf("CHAT_PROVIDER_MAX_RETRIES=2", "CHAT_TIMEOUT_MS=700")...)
	for _, m := range []misdeed{{"status500", 0, ""}, {"status408", 0, ""}, {"rst", 0, ""}, {"stall", 0, ""}, {"errorframe", 0, ""}} {
		t.Run(m.name(), func(t *testing.T) {
			a := s.faulty(t, m, "", 1)
			if a.Done == nil || a.Attempt != 1 || a.Resets != 0 || a.Text != text(m.tag("fail"), 2, faultyWords) {
				t.Errorf("done %v, failed %v, attempt %d, text %.100q", a.Done, a.Failed, a.Attempt, a.Text)
			}
		})
	}
}

// TestFinishWithoutDone: a provider that names its finish reason has finished,
// with or without the last marker.
func TestFinishWithoutDone(t *testing.T) {
	s := newEmbeddedSite(t, faultEnv()...)
	m := misdeed{"nodone", faultyWords, ""}
	if a := s.faulty(t, m, "", 1<<30); a.Done == nil || a.Text != text(m.tag("fail"), 1, faultyWords) {
		t.Errorf("done %v, failed %v", a.Done, a.Failed)
	}
}

func (m misdeed) name() string { return fmt.Sprintf("%s after %d", m.fault, m.at) }

func (m misdeed) tag(prefix string) string { return fmt.Sprintf("%s-%s-%d", prefix, m.fault, m.at) }

// sent is how many words the provider got out.
func (m misdeed) sent() int { return min(m.at, faultyWords) }

// faulty runs one turn against a misdeed. Good calls follow it: one provider's
// fault must not spoil the next request, and the breaker must not hide the next
// case.
func (s *site) faulty(t *testing.T, m misdeed, key string, times int) *answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience/4)
	defer cancel()
	prefix := "fail"
	if key != "" {
		prefix, _, _ = strings.Cut(strings.TrimPrefix(key, "key-"), "-")
	}
	tn := turn{tag: m.tag(prefix), key: key, prompt: fmt.Sprintf("chunks=%d fault=%s at=%d times=%d", faultyWords, m.fault, m.at, times)}
	a := &answer{}
	if err := s.ask(ctx, s.first(), tn, a); err != nil {
		t.Fatalf("%v; text so far %.100q", err, a.Text)
	}
	if a.Soft != nil {
		t.Errorf("ended without the run's end: %v", a.Soft)
	}
	for i := range 4 {
		good := turn{tag: fmt.Sprintf("good%d-%s", i, tn.tag), prompt: "chunks=2"}
		var next answer
		if err := s.ask(ctx, s.first(), good, &next); err != nil || next.Done == nil {
			t.Fatalf("the next request: %v, failed %v", err, next.Failed)
		}
	}
	return a
}
