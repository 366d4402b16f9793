package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

func leaseTests() []test {
	return []test{
		{"lapses", leaseLapses},
		{"lists a bounded number", leaseBounded},
		{"is renewed even after a lapse", leaseRenewed},
		{"is lost to whoever took it", leaseLost},
		{"tells one lapse from the next", leaseUntil},
		{"is given up at once", leaseReleased},
		{"is given up by its holder only", leaseReleasedByOther},
		{"lapses in time", leaseInTime},
	}
}

// lapses is what Lapsed says, by run.
func (s suite) lapses(t *testing.T) map[uuid.UUID]run.Lapse {
	t.Helper()
	all, err := s.Lapsed(t.Context(), 1000)
	if err != nil {
		t.Fatalf("Lapsed: %v", err)
	}
	by := map[uuid.UUID]run.Lapse{}
	for _, l := range all {
		by[l.Run] = l
	}
	if len(by) != len(all) {
		t.Errorf("Lapsed names a run twice: %+v", all)
	}
	return by
}

func leaseLapses(t *testing.T, s suite) {
	s.start(t, turn("ann", "held"))
	over := s.start(t, leased(turn("ann", "over"), lapsed))
	s.finish(t, ending(over, "done"), true)
	late := keyed("ann", "late", "k")
	late.Kind = "embed"
	r := s.start(t, leased(late, lapsed))
	if !s.load(t, r.ID).Lapsed {
		t.Error("a lapsed run does not say so")
	}
	all := s.lapses(t)
	l, ok := all[r.ID]
	if len(all) != 1 || !ok {
		t.Fatalf("lapsed %+v, want only %s", all, r.ID)
	}
	if l.Attempt != 1 || l.Kind != "embed" || !l.Keyed || l.Tries != 1 || l.Released || l.Until.IsZero() {
		t.Errorf("lapse %+v", l)
	}
}

func leaseBounded(t *testing.T, s suite) {
	for range 7 {
		s.start(t, leased(turn("ann", "x"), lapsed))
	}
	for _, n := range []int{1, 3, 7, 50} {
		all, err := s.Lapsed(t.Context(), n)
		if err != nil || len(all) != min(n, 7) {
			t.Errorf("Lapsed %d: %d runs, %v", n, len(all), err)
		}
	}
}

func leaseRenewed(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	live := s.start(t, turn("ann", "x"))
	lost, err := s.RenewMany(t.Context(), nodeA, []run.Hold{hold(r), hold(live)}, held)
	if err != nil || len(lost) > 0 {
		t.Fatalf("RenewMany: lost %v, %v", lost, err)
	}
	if s.load(t, r.ID).Lapsed || len(s.lapses(t)) > 0 {
		t.Error("lapsed after its renewal")
	}
	if _, _, ok, err := s.TakeOver(t.Context(), hold(r), nodeB, held); ok || err != nil {
		t.Errorf("taken over while held: %v, %v", ok, err)
	}
}

func leaseLost(t *testing.T, s suite) {
	mine, over := s.start(t, turn("ann", "x")), s.answered(t, turn("ann", "x"), "done")
	taken := s.start(t, leased(turn("ann", "x"), lapsed))
	s.takeOver(t, hold(taken))
	again := s.start(t, turn("ann", "x"))
	if ok, err := s.NextAttempt(t.Context(), hold(again), nodeA, held); !ok || err != nil {
		t.Fatalf("NextAttempt: %v, %v", ok, err)
	}
	unknown := run.Hold{Run: newID(), Attempt: 1}
	lost, err := s.RenewMany(t.Context(), nodeA, []run.Hold{hold(taken), hold(mine), hold(over), unknown, hold(again)}, lapsed)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []run.Hold{hold(over), hold(taken), unknown, hold(again)} {
		if !slices.Contains(lost, want) {
			t.Errorf("lost %v lacks %v", lost, want)
		}
	}
	if len(lost) != 4 {
		t.Errorf("lost %v, want 4 holds", lost)
	}
	if s.load(t, taken.ID).Lapsed {
		t.Error("the old holder changed the new one's lease")
	}
	if !s.load(t, mine.ID).Lapsed {
		t.Error("the lease that was still held was not set")
	}
}

func leaseUntil(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	first, again := s.lapses(t)[r.ID], s.lapses(t)[r.ID]
	if !first.Until.Equal(again.Until) {
		t.Errorf("one lapse is over at %v and at %v", first.Until, again.Until)
	}
	if _, err := s.RenewMany(t.Context(), nodeA, []run.Hold{hold(r)}, -time.Minute); err != nil {
		t.Fatal(err)
	}
	if next := s.lapses(t)[r.ID]; next.Until.Equal(first.Until) {
		t.Errorf("two lapses are over at %v", next.Until)
	}
}

func leaseReleased(t *testing.T, s suite) {
	r, other := s.start(t, keyed("ann", "x", "k")), s.start(t, turn("ann", "x"))
	if err := s.Release(t.Context(), nodeA, []run.Hold{hold(r)}); err != nil {
		t.Fatal(err)
	}
	all := s.lapses(t)
	if l := all[r.ID]; len(all) != 1 || !l.Released || l.Attempt != 1 || l.Tries != 0 || !l.Keyed {
		t.Fatalf("lapsed %+v", all)
	}
	if got := s.load(t, r.ID); got.State != run.Running || !got.Lapsed {
		t.Errorf("released: state %s, lapsed %v", got.State, got.Lapsed)
	}
	// What was given up is given up.
	if lost, err := s.RenewMany(t.Context(), nodeA, []run.Hold{hold(r)}, held); err != nil || len(lost) != 1 {
		t.Errorf("renewed after its release: lost %v, %v", lost, err)
	}
	if ok, err := s.NextAttempt(t.Context(), hold(r), nodeA, held); ok || err != nil {
		t.Errorf("another attempt after its release: %v, %v", ok, err)
	}
	got, _ := s.takeOver(t, hold(r))
	if got.Attempt != 2 || got.Tries != 1 || got.Node != nodeB || got.Lapsed {
		t.Errorf("taken: attempt %d, tries %d, node %q, lapsed %v", got.Attempt, got.Tries, got.Node, got.Lapsed)
	}
	if len(s.lapses(t)) > 0 {
		t.Error("the release outlived the takeover")
	}
	if lost, err := s.RenewMany(t.Context(), nodeB, []run.Hold{hold(got)}, lapsed); err != nil || len(lost) > 0 {
		t.Fatalf("RenewMany: lost %v, %v", lost, err)
	}
	if l := s.lapses(t)[r.ID]; l.Released {
		t.Error("a plain lapse after a takeover is called released")
	}
	if s.load(t, other.ID).Lapsed {
		t.Error("another run was released too")
	}
}

func leaseReleasedByOther(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	over := s.answered(t, turn("ann", "x"), "done")
	late := s.start(t, leased(turn("ann", "x"), lapsed))
	taken, _ := s.takeOver(t, hold(late))
	if err := s.Release(t.Context(), nodeB, []run.Hold{hold(r)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), nodeA, []run.Hold{hold(over), hold(late), {Run: newID(), Attempt: 1}}); err != nil {
		t.Fatal(err)
	}
	if all := s.lapses(t); len(all) > 0 {
		t.Errorf("lapsed %+v, want none", all)
	}
	if got := s.load(t, taken.ID); got.Tries != 2 || got.Node != nodeB {
		t.Errorf("tries %d, node %q after the old holder's release", got.Tries, got.Node)
	}
	if got := s.load(t, over.ID); got.State != run.Completed || got.Tries != 1 {
		t.Errorf("finished run: state %s, tries %d", got.State, got.Tries)
	}
}

// leaseInTime: a real lease lapses by itself, and not before.
func leaseInTime(t *testing.T, s suite) {
	const lease = 50 * time.Millisecond
	begin := time.Now()
	r := s.start(t, leased(turn("ann", "x"), lease))
	deadline := begin.Add(30 * time.Second)
	for !s.load(t, r.ID).Lapsed {
		if time.Now().After(deadline) {
			t.Fatal("a lease of 50 ms did not lapse within 30 s")
		}
	}
	if took := time.Since(begin); took < lease {
		t.Errorf("lapsed after %v, before its time", took)
	}
	s.takeOver(t, hold(r))
}
