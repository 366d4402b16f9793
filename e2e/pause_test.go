package e2e

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"testing"

	"github.com/agentedge/agentedge/internal/pgtest"
)

// sleeper is one run whose first holder is paused.
type sleeper struct {
	tag    string
	early  bool // whether attempt 2 ends before the first holder wakes
	answer answer
	run    string        // set before got is closed
	got    chan struct{} // closed when the first words have come
	reset  chan struct{} // closed when the second attempt's first words have come
}

const (
	wordsBefore = 5
	wordsInAll  = 12
)

// TestPausedHolderWritesNothing stops a node for longer than its leases (R29).
// Another takes its runs over; when the first wakes up, with its provider still
// sending, nothing of what it has may reach the store or splice a reader's text.
func TestPausedHolderWritesNothing(t *testing.T) {
	s := newPostgresSite(t, pgtest.Database(t), 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	holder, other := s.nodes[0], s.nodes[1]
	var readers sync.WaitGroup
	sleepers := make([]*sleeper, scale(10, 100))
	for i := range sleepers {
		sleepers[i] = s.fallAsleep(ctx, &readers, holder, i)
	}
	for _, sl := range sleepers {
		wait(t, ctx, sl.got, sl.tag+": its first words")
	}
	holder.signal(syscall.SIGSTOP)
	for _, sl := range sleepers {
		s.awaitTakeover(sl, other)
	}
	before := s.mustRows()
	holder.signal(syscall.SIGCONT)
	for _, sl := range sleepers {
		s.provider.release(sl.tag, 1) // the old holder's provider goes on
	}
	for _, sl := range sleepers {
		wait(t, ctx, sl.reset, sl.tag+": the old holder's reader is told of the new attempt")
		wait(t, ctx, s.provider.over(sl.tag, 1), sl.tag+": the old call's end")
		s.provider.release(sl.tag, 2)
	}
	readers.Wait()
	s.settle()
	after := s.mustRows()
	for _, sl := range sleepers {
		s.verifyWoken(sl, before[sl.run], after[sl.run])
	}
	for _, n := range s.nodes {
		n.stop(patience)
	}
}

// fallAsleep starts one run and its reader on the node that will be paused.
func (s *site) fallAsleep(ctx context.Context, readers *sync.WaitGroup, holder *node, i int) *sleeper {
	sl := &sleeper{tag: fmt.Sprintf("zzz%d", i), early: i%2 == 0, got: make(chan struct{}), reset: make(chan struct{})}
	sl.answer.OnFrame = func(f frame) {
		if sl.answer.Text == text(sl.tag, 1, wordsBefore) && sl.run == "" {
			sl.run = sl.answer.Run
			close(sl.got)
		}
		if sl.answer.Attempt == 2 {
			closeOnce(sl.reset)
		}
	}
	tn := turn{tag: sl.tag, prompt: fmt.Sprintf("chunks=%d hold=%d", wordsInAll, wordsBefore), key: "key-" + sl.tag}
	readers.Go(func() {
		if err := s.follow(ctx, tn, &sl.answer, func() string { return holder.addr }); err != nil {
			s.t.Errorf("%s: %v", sl.tag, err)
		}
	})
	return sl
}

func wait(t *testing.T, ctx context.Context, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("%s: %v", what, ctx.Err())
	}
}

// awaitTakeover waits until the other node has the run; half of the runs end there.
func (s *site) awaitTakeover(sl *sleeper, other *node) {
	s.t.Helper()
	eventually(s.t, patience, sl.tag+" is taken over", func() (bool, error) {
		st, err := s.look(other.addr, sl.run)
		return err == nil && st.Attempt == 2 && s.provider.callsOf(sl.tag) == 2, err
	})
	if !sl.early {
		return
	}
	s.provider.release(sl.tag, 2)
	eventually(s.t, patience, sl.tag+" ends", func() (bool, error) {
		st, err := s.look(other.addr, sl.run)
		return err == nil && st.State == "completed", err
	})
}

func (s *site) verifyWoken(sl *sleeper, before, after *row) {
	want := text(sl.tag, 2, wordsInAll)
	if sl.answer.Done == nil || sl.answer.Text != want {
		s.t.Errorf("%s: the reader ended with done %t and %.120q", sl.tag, sl.answer.Done != nil, sl.answer.Text)
	}
	if after.State != "completed" || after.Attempt != 2 || after.Assistants != 1 || after.Content != want {
		s.t.Errorf("%s: the store has %+v", sl.tag, after)
	}
	if before.Segments[1] != after.Segments[1] || before.Count[1] != after.Count[1] {
		s.t.Errorf("%s: attempt 1 grew after the takeover: %v, then %v", sl.tag, before.Segments, after.Segments)
	}
	if sl.early && (!maps.Equal(before.Segments, after.Segments) || !maps.Equal(before.Count, after.Count)) {
		s.t.Errorf("%s: written to after its end: %+v, then %+v", sl.tag, before, after)
	}
	if calls := s.provider.callsOf(sl.tag); calls != 2 {
		s.t.Errorf("%s: %d provider calls, want 2", sl.tag, calls)
	}
}

// TestPauseOfTheOnlyNode: with nobody to take over, a pause restarts nothing.
func TestPauseOfTheOnlyNode(t *testing.T) {
	onBothStores(t, 1, func(t *testing.T, s *site) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var readers sync.WaitGroup
		sl := s.fallAsleep(ctx, &readers, s.nodes[0], 1)
		wait(t, ctx, sl.got, "its first words")
		s.nodes[0].signal(syscall.SIGSTOP)
		pass(ctx, 3*lease)
		s.nodes[0].signal(syscall.SIGCONT)
		pass(ctx, 2*lease) // for a sweep that should find nothing
		s.provider.release(sl.tag, 1)
		readers.Wait()
		if sl.answer.Done == nil || sl.answer.Attempt != 1 || sl.answer.Text != text(sl.tag, 1, wordsInAll) {
			t.Errorf("done %t, attempt %d, text %.100q", sl.answer.Done != nil, sl.answer.Attempt, sl.answer.Text)
		}
	})
}
