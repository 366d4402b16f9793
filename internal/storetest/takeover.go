package storetest

import (
	"sync/atomic"
	"testing"

	"github.com/agentedge/agentedge/internal/run"
)

func takeoverTests() []test {
	return []test{
		{"makes the next attempt", takeoverNext},
		{"is refused", takeoverRefused},
		{"has one winner", takeoverRace},
		{"next attempt by the holder", nextAttempt},
		{"next attempt is fenced", nextAttemptFenced},
	}
}

func takeoverNext(t *testing.T, s suite) {
	c := leased(keyed("ann", "x", "k"), lapsed)
	r := s.start(t, c)
	s.appendOne(t, segment(r, 1, 4, "so far"))
	got, _ := s.takeOver(t, hold(r))
	want := c.Record
	want.State, want.Attempt, want.Tries, want.Node = run.Running, 2, 2, nodeB
	sameRecord(t, got, want)
	sameRecord(t, s.load(t, r.ID), want)
	if !got.CreatedAt.Equal(r.CreatedAt) {
		t.Errorf("created %v, then %v", r.CreatedAt, got.CreatedAt)
	}
	// The old attempt's frames stay readable.
	sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 1, 4, "so far")})
	s.finish(t, ending(got, "done"), true)
	if end := s.load(t, r.ID); end.Attempt != 2 || end.LastSeq != 2 {
		t.Errorf("ended in attempt %d at %d", end.Attempt, end.LastSeq)
	}
}

func takeoverRefused(t *testing.T, s suite) {
	live, over := s.start(t, turn("ann", "x")), s.start(t, leased(turn("ann", "x"), lapsed))
	s.finish(t, ending(over, "done"), true)
	late := s.start(t, leased(turn("ann", "x"), lapsed))
	newer, _ := s.takeOver(t, hold(late))
	late2 := s.start(t, leased(turn("ann", "x"), lapsed))
	for name, h := range map[string]run.Hold{
		"held":          hold(live),
		"over":          hold(over),
		"taken already": hold(late),
		"the taker's":   hold(newer),
		"a later one":   {Run: late2.ID, Attempt: 2},
		"no such run":   {Run: newID(), Attempt: 1},
	} {
		if _, _, ok, err := s.TakeOver(t.Context(), h, nodeB, held); ok || err != nil {
			t.Errorf("%s: ok %v, %v; want neither", name, ok, err)
		}
	}
	if got := s.load(t, live.ID); got.Attempt != 1 || got.Node != nodeA {
		t.Errorf("attempt %d of %q", got.Attempt, got.Node)
	}
}

func takeoverRace(t *testing.T, s suite) {
	const n = 16
	nodes := s.nodes(t, 3)
	for range 5 {
		r := s.start(t, leased(turn("ann", "x"), lapsed))
		var won atomic.Int32
		together(n, func(i int) {
			got, _, ok, err := nodes[i%3].TakeOver(t.Context(), hold(r), nodeB, held)
			if err != nil {
				t.Error(err)
			}
			if ok {
				won.Add(1)
				if got.Attempt != 2 {
					t.Errorf("attempt %d", got.Attempt)
				}
			}
		})
		if won.Load() != 1 {
			t.Errorf("%d winners, want 1", won.Load())
		}
		if got := s.load(t, r.ID); got.Attempt != 2 || got.Tries != 2 {
			t.Errorf("attempt %d, tries %d; want 2, 2", got.Attempt, got.Tries)
		}
	}
}

func nextAttempt(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	s.appendOne(t, segment(r, 1, 2, "broken"))
	if ok, err := s.NextAttempt(t.Context(), hold(r), nodeA, held); !ok || err != nil {
		t.Fatalf("NextAttempt: %v, %v", ok, err)
	}
	got := s.load(t, r.ID)
	if got.Attempt != 2 || got.Tries != 2 || got.Node != nodeA || got.Lapsed || got.State != run.Running {
		t.Errorf("attempt %d, tries %d, node %q, lapsed %v, state %s", got.Attempt, got.Tries, got.Node, got.Lapsed, got.State)
	}
	if !s.appendOne(t, segment(r, 3, 3, "of the old attempt")) {
		t.Error("the old attempt may still write")
	}
	if s.appendOne(t, segment(got, 1, 1, "of the new attempt")) {
		t.Error("the new attempt may not write")
	}
	s.finish(t, ending(r, "old"), false)
	f := ending(got, "new")
	f.Segment, f.LastSeq = &run.Segment{Run: r.ID, Attempt: 2, First: 2, Last: 2, Data: []byte("end")}, 2
	s.finish(t, f, true)
	sameSegments(t, s.ofLog(t, r), []run.Segment{
		segment(r, 1, 2, "broken"), segment(got, 1, 1, "of the new attempt"), *f.Segment,
	})
}

func nextAttemptFenced(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	s.takeOver(t, hold(r))
	over := s.answered(t, turn("ann", "x"), "done")
	live := s.start(t, turn("ann", "x"))
	for name, h := range map[string]run.Hold{
		"taken over":  hold(r),
		"over":        hold(over),
		"ahead":       {Run: live.ID, Attempt: 2},
		"no such run": {Run: newID(), Attempt: 1},
	} {
		if ok, err := s.NextAttempt(t.Context(), h, nodeA, held); ok || err != nil {
			t.Errorf("%s: ok %v, %v; want neither", name, ok, err)
		}
	}
	if got := s.load(t, r.ID); got.Attempt != 2 || got.Node != nodeB {
		t.Errorf("attempt %d of %q, want 2 of the taker", got.Attempt, got.Node)
	}
}
