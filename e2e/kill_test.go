package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestKillUnderLoad kills serving processes without warning, again and again
// (R28, R55–R57, R67): every accepted run ends once, every chat.done is in the
// store, and every reader gets there by resuming.
func TestKillUnderLoad(t *testing.T) {
	onBothStores(t, 2, func(t *testing.T, s *site) {
		kills := scale(25, 200)
		c := gather(s, 8)
		for range kills {
			c.await(50 + rand.Int64N(400))
			n := s.nodes[rand.IntN(len(s.nodes))]
			n.kill()
			n.start()
		}
		c.disperse()
		s.settle()
		c.verify("interrupted")
		c.replayAll(t.Context())
		for _, n := range s.nodes {
			n.stop(patience)
		}
	})
}

// TestReaderAheadOfTheStore kills a node right after its reader got frames that
// the store does not have yet. The reader's id is then ahead of the log; it must
// still end with a whole answer, told to drop what it has.
func TestReaderAheadOfTheStore(t *testing.T) {
	onBothStores(t, 2, func(t *testing.T, s *site) {
		ahead := 0
		for i := range scale(5, 50) {
			if s.readAhead(t, i) {
				ahead++
			}
		}
		if ahead == 0 {
			t.Error("no reader was ever ahead of the store: nothing was tested")
		}
	})
}

// readAhead runs one such crash and tells whether the reader was ahead.
func (s *site) readAhead(t *testing.T, i int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	holder, other := s.nodes[i%len(s.nodes)], s.nodes[(i+1)%len(s.nodes)]
	tag := fmt.Sprintf("ahead%d", i)
	tn := turn{tag: tag, prompt: "chunks=12 hold=10", key: "key-" + tag}
	a := &answer{}
	a.OnFrame = func(frame) {
		if a.Text == text(tag, 1, 10) && holder.running() {
			holder.kill()
		}
	}
	if err := s.ask(ctx, holder.addr, tn, a); err == nil {
		t.Fatalf("the response of a killed node ended properly: %+v", a)
	}
	a.OnFrame = nil
	stored, reached := 0, a.Seq
	if r := s.mustRows()[a.Run]; r != nil {
		stored = r.Segments[1]
	}
	s.provider.release(tag, 2)
	holder.start()
	if err := s.follow(ctx, tn, a, func() string { return other.addr }); err != nil {
		t.Fatal(err)
	}
	if a.Done == nil || a.Text != text(tag, 2, 12) || a.Resets != 1 || a.Attempt != 2 {
		t.Errorf("ended with done %t, attempt %d, %d resets, text %.100q", a.Done != nil, a.Attempt, a.Resets, a.Text)
	}
	return stored < reached
}
