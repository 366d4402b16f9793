package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// outcome is one turn and what its client has of it.
type outcome struct {
	turn   turn
	chunks int
	answer *answer
}

// crowd is clients that send turns until they are told to stop, and see each
// of them through.
type crowd struct {
	s        *site
	frames   atomic.Int64
	moved    chan struct{} // receives after frames have come
	mu       sync.Mutex
	outcomes []outcome
	stop     context.CancelFunc
	clients  sync.WaitGroup
}

// gather starts n clients.
func gather(s *site, n int) *crowd {
	ctx, stop := context.WithCancel(s.t.Context())
	c := &crowd{s: s, moved: make(chan struct{}, 1), stop: stop}
	for client := range n {
		c.clients.Go(func() {
			for i := 0; ctx.Err() == nil && !s.t.Failed(); i++ {
				c.turn(client, i)
			}
		})
	}
	return c
}

// turn sends one turn and follows it to its end: of five, one has no key, one
// asks for the whole answer at once, three stream with a key.
func (c *crowd) turn(client, i int) {
	tag := fmt.Sprintf("c%d-%d", client, i)
	o := outcome{turn: turn{tag: tag, plain: i%5 == 1}, chunks: 1 + rand.IntN(40), answer: &answer{}}
	o.turn.prompt = fmt.Sprintf("chunks=%d gap=10ms", o.chunks)
	if i%5 != 0 {
		o.turn.key = "key-" + tag
	}
	o.answer.OnFrame = func(frame) {
		c.frames.Add(1)
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(c.s.t.Context(), patience)
	defer cancel()
	pick := func() string { return c.s.nodes[rand.IntN(len(c.s.nodes))].addr }
	see := c.s.follow
	if o.turn.plain {
		see = c.s.insist
	}
	if err := see(ctx, o.turn, o.answer, pick); err != nil {
		c.s.t.Error(err)
	}
	c.mu.Lock()
	c.outcomes = append(c.outcomes, o)
	c.mu.Unlock()
}

// await waits until so many more frames have reached the clients.
func (c *crowd) await(more int64) {
	c.s.t.Helper()
	target := c.frames.Load() + more
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for c.frames.Load() < target {
		select {
		case <-c.moved:
		case <-timer.C:
			c.s.t.Fatalf("no %d frames within %v", more, patience)
		}
	}
}

// disperse lets every client see its last turn through.
func (c *crowd) disperse() {
	c.stop()
	c.clients.Wait()
}

// settle waits until no run is left without a terminal state.
func (s *site) settle() {
	s.t.Helper()
	eventually(s.t, patience, "every run ends", func() (bool, error) {
		rows, err := s.db.rows(s.t.Context())
		if err != nil {
			return false, nil // the store may be on its way back
		}
		for _, r := range rows {
			if !r.terminal() {
				return false, nil
			}
		}
		return true, nil
	})
}

// verify holds what the clients saw against what the tables have.
// An accepted run may end without an answer only for one of the given reasons.
func (c *crowd) verify(reasons ...string) {
	c.s.t.Helper()
	rows := c.s.mustRows()
	seen, done, failed := 0, 0, map[string]int{}
	for _, o := range c.outcomes {
		if o.answer.Run == "" {
			continue // never accepted, as far as its client knows
		}
		seen++
		r := rows[o.answer.Run]
		if r == nil {
			c.s.t.Errorf("%s: run %s was accepted and is not in the store", o.turn.tag, o.answer.Run)
			continue
		}
		if o.answer.Done != nil {
			done++
			c.s.verifyDone(o, r)
		} else {
			code := o.answer.Failed.Code
			failed[code]++
			if r.State == "completed" || !r.terminal() || !slices.Contains(reasons, code) {
				c.s.t.Errorf("%s (key %q) ended in %v for its client and is %s in the store, attempt %d", o.turn.tag, o.turn.key, o.answer.Failed, r.State, r.Attempt)
			}
		}
	}
	for _, r := range rows {
		if r.Assistants > 1 || r.Users != 1 || !r.terminal() {
			c.s.t.Errorf("run %s (%s, attempt %d): %d assistant rows, %d user rows", r.ID, r.State, r.Attempt, r.Assistants, r.Users)
		}
	}
	c.s.t.Logf("%d turns accepted, %d done, in an error: %v; %d runs in the store; %d provider calls",
		seen, done, failed, len(rows), c.s.provider.callsInAll())
	if done == 0 {
		c.s.t.Error("nothing was ever done: the load tested nothing")
	}
}

// verifyDone: a client was told that the answer is whole and stored.
func (s *site) verifyDone(o outcome, r *row) {
	s.t.Helper()
	sum := sha256.Sum256([]byte(r.Content))
	if r.State != "completed" || r.Assistants != 1 || hex.EncodeToString(sum[:]) != o.answer.Done.ContentSHA256 {
		s.t.Errorf("%s: chat.done was sent; the store has state %s, %d assistant rows, text %.80q", o.turn.tag, r.State, r.Assistants, r.Content)
	}
	if err := s.oneCall(o.turn.tag, o.chunks, o.answer.Text); err != nil {
		s.t.Errorf("%s: %v", o.turn.tag, err)
	}
}

// oneCall: a whole text is exactly what one call of the provider said.
func (s *site) oneCall(tag string, chunks int, got string) error {
	for call := 1; call <= s.provider.callsOf(tag); call++ {
		if got == text(tag, call, chunks) {
			return nil
		}
	}
	return fmt.Errorf("the text is not that of any one call: %.200q", got)
}

// replayAll reads every accepted run's log once more, from its start and without
// its client's state: it must end as it ended for its client.
func (c *crowd) replayAll(ctx context.Context) {
	c.s.t.Helper()
	for i, o := range c.outcomes {
		if o.answer.Run == "" {
			continue
		}
		var again answer
		response, err := c.s.get(ctx, c.s.nodes[i%len(c.s.nodes)].addr, o.answer.Run, "")
		if err == nil {
			err = again.receive(response)
		}
		if err != nil || (o.answer.LastID != "" && again.LastID != o.answer.LastID) || (o.answer.Done != nil && again.Text != o.answer.Text) {
			c.s.t.Errorf("%s read again: %v; last id %s, was %s; text %.60q, was %.60q",
				o.turn.tag, err, again.LastID, o.answer.LastID, again.Text, o.answer.Text)
		}
	}
}

// TestLoadWithoutFaults makes sure that the load itself breaks nothing: what the
// tests with faults find is then the faults'.
func TestLoadWithoutFaults(t *testing.T) {
	onBothStores(t, 2, func(t *testing.T, s *site) {
		c := gather(s, 8)
		c.await(1000)
		c.disperse()
		s.settle()
		c.verify()
		c.replayAll(t.Context())
		for _, o := range c.outcomes {
			if o.answer.Done == nil || o.answer.Attempt != 1 || o.answer.Readies > 1 {
				t.Errorf("%s: done %t, attempt %d, %d responses", o.turn.tag, o.answer.Done != nil, o.answer.Attempt, o.answer.Readies)
			}
		}
		for _, n := range s.nodes {
			n.stop(patience)
		}
	})
}
