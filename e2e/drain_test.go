package e2e

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// drained is one reader during a drain.
type drained struct {
	turn   turn
	answer answer
	began  chan struct{} // closed when the first words have come
	err    error
}

// TestDrain ends a node by SIGTERM with three kinds of runs in flight (R122–R125):
// one that ends in time, one with a key that goes on elsewhere, and one without.
func TestDrain(t *testing.T) {
	onBothStores(t, 2, func(t *testing.T, s *site) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		n := s.nodes[0]
		inTime := &drained{turn: turn{tag: "intime", prompt: "chunks=12 hold=5", key: "key-intime"}}
		keyed := &drained{turn: turn{tag: "keyed", prompt: "chunks=12 hold=5", key: "key-keyed"}}
		loose := &drained{turn: turn{tag: "loose", prompt: "chunks=12 hold=5"}}
		var readers sync.WaitGroup
		for _, d := range []*drained{inTime, keyed, loose} {
			s.beginReading(ctx, &readers, n.addr, d)
		}
		n.signal(syscall.SIGTERM)
		s.verifyRefuses(n)
		s.provider.release("intime", 1)
		began := time.Now()
		n.awaitExit(patience)
		readers.Wait()
		t.Logf("drained in %v", time.Since(began).Round(100*time.Millisecond))
		s.verifyDrained(inTime, keyed, loose)
		s.provider.release("keyed", 2)
		s.continueElsewhere(ctx, keyed, loose)
	}, "DRAIN_TIMEOUT=3s")
}

// beginReading posts a turn and waits until its first words have come.
func (s *site) beginReading(ctx context.Context, readers *sync.WaitGroup, addr string, d *drained) {
	s.t.Helper()
	d.began = make(chan struct{})
	d.answer.OnFrame = func(frame) {
		if d.answer.Text == text(d.turn.tag, 1, wordsBefore) {
			closeOnce(d.began)
		}
	}
	readers.Go(func() { d.err = s.ask(ctx, addr, d.turn, &d.answer) })
	wait(s.t, ctx, d.began, d.turn.tag+": its first words")
}

// verifyRefuses: from SIGTERM on nothing new is taken, and balancers can see it,
// while the listener stays open.
func (s *site) verifyRefuses(n *node) {
	s.t.Helper()
	eventually(s.t, patience, "readyz says 503", func() (bool, error) {
		status := n.status("/readyz")
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			return false, errors.New("the listener closed, or answered something else: " + http.StatusText(status))
		}
		return status == http.StatusServiceUnavailable, nil
	})
	var a answer
	err := s.ask(s.t.Context(), n.addr, turn{tag: "late", prompt: "chunks=1", key: "key-late"}, &a)
	var r *refusal
	if !errors.As(err, &r) || r.Status != http.StatusServiceUnavailable || r.Code != "server_draining" || r.Header.Get("Retry-After") == "" {
		s.t.Errorf("a new request during the drain: %v", err)
	}
	if calls := s.provider.callsOf("late"); calls != 0 {
		s.t.Errorf("it reached the provider %d times", calls)
	}
}

func (s *site) verifyDrained(inTime, keyed, loose *drained) {
	s.t.Helper()
	if inTime.err != nil || inTime.answer.Done == nil || inTime.answer.Text != text("intime", 1, 12) {
		s.t.Errorf("the run that ended in time: %v, done %t", inTime.err, inTime.answer.Done != nil)
	}
	if soft := keyed.answer.Soft; keyed.err != nil || soft == nil || soft.Code != "server_draining" || keyed.answer.Retry == "" {
		s.t.Errorf("the keyed run's reader: %v, soft end %v, failed %v", keyed.err, soft, keyed.answer.Failed)
	}
	soft, failed := loose.answer.Soft, loose.answer.Failed
	if loose.err != nil || (soft == nil && (failed == nil || failed.Code != "interrupted")) {
		s.t.Errorf("the key-less run's reader: %v, soft end %v, failed %v", loose.err, soft, failed)
	}
}

// continueElsewhere: after the exit the keyed run goes on at another node, or at
// the same one started again, and the key-less one is over.
func (s *site) continueElsewhere(ctx context.Context, keyed, loose *drained) {
	s.t.Helper()
	if len(s.nodes) == 1 {
		s.nodes[0].start()
	}
	pick := func() string { return s.nodes[len(s.nodes)-1].addr }
	for _, d := range []*drained{keyed, loose} {
		d.answer.OnFrame = nil
		if d.answer.over() {
			continue
		}
		if err := s.follow(ctx, d.turn, &d.answer, pick); err != nil {
			s.t.Errorf("%s: %v", d.turn.tag, err)
		}
	}
	if a := &keyed.answer; a.Done == nil || a.Text != text("keyed", 2, 12) || a.Resets != 1 {
		s.t.Errorf("the keyed run: done %t, failed %v, %d resets, text %.100q", a.Done != nil, a.Failed, a.Resets, a.Text)
	}
	if a := &loose.answer; a.Failed == nil || a.Failed.Code != "interrupted" {
		s.t.Errorf("the key-less run: failed %v", a.Failed)
	}
	s.settle()
	rows := s.mustRows()
	if r := rows[loose.answer.Run]; r.State != "interrupted" || r.Content != text("loose", 1, wordsBefore) {
		s.t.Errorf("the key-less run in the store: %+v", r)
	}
	if r := rows[keyed.answer.Run]; r.State != "completed" || r.Assistants != 1 {
		s.t.Errorf("the keyed run in the store: %+v", r)
	}
}

// TestIdleDrain: with nothing in flight SIGTERM ends a node at once.
func TestIdleDrain(t *testing.T) {
	onBothStores(t, 1, func(t *testing.T, s *site) {
		s.nodes[0].stop(patience)
		s.nodes[0].start()
		s.nodes[0].stop(patience)
	}, "DRAIN_TIMEOUT=10m")
}
