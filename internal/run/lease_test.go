package run

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// partition cuts a node from the store, as the network does.
func (n *node) partition() { n.store.always("", trouble{before: errAway}) }

// heal ends a partition.
func (n *node) heal() { n.store.always("", trouble{}) }

// takenAt lets time pass until the store has another attempt of a run.
func (w *world) takenAt(id uuid.UUID, attempt int) time.Duration {
	w.t.Helper()
	begun := time.Now()
	for w.load(id).Attempt < attempt {
		if time.Since(begun) > time.Hour {
			w.t.Fatalf("no attempt %d within an hour", attempt)
		}
		pass(100 * time.Millisecond)
	}
	return time.Since(begun)
}

// TestCrash: what a dead node left is done again, by a node that watched the
// lapse for a whole lease.
func TestCrash(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		reader := b.tail(r.ID, Position{})
		a.say("first ", "try")
		pass(time.Second)
		a.say("never stored")
		a.crash()
		took := w.takenAt(r.ID, 2)
		if took < 29*time.Second || took > 41*time.Second { // a lease lapses, one more is watched, two ticks
			t.Errorf("taken over after %v", took)
		}
		b.say("second ")
		pass(10 * time.Second)
		b.say("try")
		b.finish()
		const log = "1-1 first |1-2 try|2-1 second |2-2 try|2-3 Done:done"
		if got := reader.wait(t).String(); got != log {
			t.Errorf("read %q, want %q", got, log)
		}
		if got := w.stored(r.ID); got != log {
			t.Errorf("stored %q, want %q", got, log)
		}
		// A client of the dead node may have seen what was never stored.
		ahead := b.tail(r.ID, Position{1, 3}).wait(t)
		if got := ahead.String(); got != "2-1 second |2-2 try|2-3 Done:done" {
			t.Errorf("after 1-3: read %q", got)
		}
		if rec := w.load(r.ID); rec.Attempt != 2 || rec.Node != "b" || w.answer(r.ID) != "second try" {
			t.Errorf("attempt %d of %s, answer %q", rec.Attempt, rec.Node, w.answer(r.ID))
		}
	})
}

// TestFencing: who lost a run writes nothing more, and its readers go on with
// whoever has it.
func TestFencing(t *testing.T) {
	for name, finished := range map[string]bool{"while working": false, "while finishing": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node("a"), w.node("b")
				r := a.claim("k")
				reader := a.tail(r.ID, Position{})
				a.say("old ")
				pass(time.Second)
				a.partition()
				a.say("zombie's")
				if finished {
					a.finish()
				}
				w.takenAt(r.ID, 2)
				b.say("new ")
				pass(time.Second)
				reader = reopen(t, a, reader)
				a.heal()
				pass(6 * time.Second)
				if !finished {
					a.stoppedBy(errLost)
				}
				if a.Held() != 0 || b.Held() != 1 {
					t.Errorf("held %d and %d", a.Held(), b.Held())
				}
				b.say("text")
				b.finish()
				const log = "1-1 old |2-1 new |2-2 text|2-3 Done:done"
				if got := reader.wait(t).String(); got != "1-1 old |1-2 zombie's|2-1 new |2-2 text|2-3 Done:done" {
					t.Errorf("read %q", got)
				}
				if got := w.stored(r.ID); got != log {
					t.Errorf("stored %q, want %q", got, log)
				}
				if got := w.answer(r.ID); got != "new text" {
					t.Errorf("answer %q", got)
				}
			})
		})
	}
}

// reopen resumes a client whose response ended without the run's end.
func reopen(t *testing.T, n *node, c *client) *client {
	t.Helper()
	if c.take(t); c.broken == nil {
		return c
	}
	c.r.Close()
	last := c.frames[len(c.frames)-1]
	next := n.tail(c.r.log.id, Position{last.Attempt, last.Seq})
	next.frames = c.frames
	return next
}

// TestFlushFindsOut: the next write tells a holder that it has lost a run; it
// need not wait for the next renewal.
func TestFlushFindsOut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		w.steal(r.ID, "thief")
		a.say("zombie's")
		pass(300 * time.Millisecond)
		a.stoppedBy(errLost)
		if got := w.stored(r.ID); got != "" {
			t.Errorf("stored %q", got)
		}
	})
}

// TestLostBeforeItsEndIsStored: a node that cannot finish a run and hears that
// the run is another's lets go of it.
func TestLostBeforeItsEndIsStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		reader := a.tail(r.ID, Position{})
		a.store.always("FinishMany", trouble{before: errAway})
		a.finish()
		pass(time.Second)
		w.steal(r.ID, "thief")
		pass(6 * time.Second)
		if a.Held() != 0 {
			t.Error("a lost run is still held")
		}
		w.end(r.ID, "thief's")
		if got := reader.wait(t).String(); got != "2-1 thief's|2-2 Done:done" {
			t.Errorf("read %q", got)
		}
	})
}

// TestTakerServesAtOnce: readers that tail a run on the node that takes it over
// are the new holder's own.
func TestTakerServesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		reader := b.tail(r.ID, Position{})
		a.say("old")
		pass(time.Second)
		a.crash()
		w.takenAt(r.ID, 2)
		before := b.store.calls("Tails")
		b.say("new")
		synctest.Wait()
		reader.want(t, "1-1 old|2-1 new", false)
		pass(time.Second)
		if n := b.store.calls("Tails") - before; n != 0 {
			t.Errorf("the holder read its own run from the store %d times", n)
		}
	})
}

// TestOneLapseAndTheNext: a lease that was renewed and lapsed again between two
// looks has not been lapsed all the time.
func TestOneLapseAndTheNext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		a.crash()
		b.store.always("Lapsed", trouble{before: errAway}) // its own loop sees nothing
		pass(20 * time.Second)
		b.store.always("Lapsed", trouble{})
		now := time.Now()
		seen := b.sweep(t.Context(), now, nil)
		w.mem.mu.Lock()
		w.mem.runs[r.ID].until = w.mem.now().Add(-time.Second)
		w.mem.mu.Unlock()
		seen = b.sweep(t.Context(), now.Add(15*time.Second), seen)
		if got := w.load(r.ID).Attempt; got != 1 {
			t.Fatal("taken over in the second lapse for having seen the first")
		}
		b.sweep(t.Context(), now.Add(30*time.Second), seen)
		if got := w.load(r.ID).Attempt; got != 2 {
			t.Errorf("attempt %d after a whole lease of the second lapse", got)
		}
	})
}

// TestRegained: a node that lost a run to another may get it back while its old
// work is still on its way out; no reader is left behind.
func TestRegained(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		first := a.tail(r.ID, Position{})
		leave := make(chan struct{})
		a.acts <- func(_ context.Context, j *Job) *Ending {
			<-leave // a handler that is slow to see that it was stopped
			return nil
		}
		w.steal(r.ID, "thief")
		pass(6 * time.Second)
		w.mem.mu.Lock() // the thief dies
		w.mem.runs[r.ID].until = w.mem.now()
		w.mem.mu.Unlock()
		w.takenAt(r.ID, 3)
		synctest.Wait()
		second := a.tail(r.ID, Position{})
		close(leave)
		synctest.Wait()
		a.say("whole")
		a.finish()
		if got := second.wait(t).String(); got != "3-1 whole|3-2 Done:done" {
			t.Errorf("read %q", got)
		}
		if first.wait(t); !first.over && first.broken == nil {
			t.Error("the reader of the old attempt was left behind")
		}
	})
}

// TestLateHolder: a lapse alone takes nothing from a holder who comes back
// before anybody has watched it for a lease.
func TestLateHolder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		w.node("b")
		r := a.claim("k")
		for range 4 {
			a.store.always("RenewMany", trouble{before: errAway})
			pass(24 * time.Second)
			if !w.load(r.ID).Lapsed {
				t.Fatal("the lease has not lapsed: the test shows nothing")
			}
			a.store.always("RenewMany", trouble{})
			pass(6 * time.Second)
		}
		a.say("mine")
		a.finish()
		pass(time.Second)
		if got := w.stored(r.ID); got != "1-1 mine|1-2 Done:done" {
			t.Errorf("stored %q", got)
		}
	})
}

// TestUnbrokenContact: a sweeper that lost sight of the store begins its watch anew.
func TestUnbrokenContact(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		a.crash()
		for range 8 { // one call in three fails: never a lease of contact
			pass(11 * time.Second)
			b.store.once("Lapsed", trouble{before: errAway})
			pass(2 * time.Second)
			if got := w.load(r.ID).Attempt; got != 1 {
				t.Fatal("taken over without a lease of unbroken contact")
			}
		}
		if took := w.takenAt(r.ID, 2); took > 25*time.Second {
			t.Errorf("taken over %v after the last failure", took)
		}
	})
}

// TestKeylessCrash: a run without a key is closed with what was stored of it.
func TestKeylessCrash(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("")
		reader := b.tail(r.ID, Position{})
		a.say("so far")
		pass(time.Second)
		a.crash()
		const log = `1-1 so far|2-1 Error:{"code":"interrupted"}`
		if got := reader.wait(t).String(); got != log {
			t.Errorf("read %q, want %q", got, log)
		}
		if got := w.stored(r.ID); got != log {
			t.Errorf("stored %q, want %q", got, log)
		}
		w.state(r.ID, Interrupted)
		if got := w.answer(r.ID); got != "so far" || b.works.Load() != 0 {
			t.Errorf("answer %q, worked %d times", got, b.works.Load())
		}
	})
}

// TestMaxAttempts: a run that brings down whoever works on it comes to an end.
func TestMaxAttempts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var r Record
		for i := range 4 {
			n := w.node(fmt.Sprint("node ", i))
			if i == 0 {
				r = n.claim("k")
			} else {
				w.takenAt(r.ID, i+1)
			}
			n.say(fmt.Sprint("try ", i+1))
			pass(time.Second)
			if i < 3 {
				w.state(r.ID, Running)
			} else if n.works.Load() != 0 {
				t.Error("a fourth attempt was worked on")
			}
			n.crash()
		}
		w.state(r.ID, Interrupted)
		const log = `1-1 try 1|2-1 try 2|3-1 try 3|4-1 Error:{"code":"interrupted"}`
		if got := w.stored(r.ID); got != log {
			t.Errorf("stored %q, want %q", got, log)
		}
		// Its key is free: the failure is one that a retry may mend.
		w.node("last").claim("k")
	})
}

// TestManyLapses: a node that dies with a thousand runs does not cost the last
// of them a thousand watches.
func TestManyLapses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		var runs []Record
		for i := range 300 {
			runs = append(runs, a.claim(fmt.Sprint("key ", i)))
		}
		a.crash()
		b := w.node("b")
		pass(45 * time.Second)
		if b.Held() != len(runs) {
			t.Errorf("%d of %d runs taken over within three leases", b.Held(), len(runs))
		}
	})
}

// TestTakeOverFails: whatever fails on the way, the run is taken over in the end.
func TestTakeOverFails(t *testing.T) {
	for name, c := range map[string]struct {
		method  string
		trouble trouble
		attempt int
	}{
		"not taken":         {"TakeOver", trouble{before: errAway}, 2},
		"taken, not known":  {"TakeOver", trouble{after: errAway}, 3},
		"log cannot be got": {"Tails", trouble{before: errAway}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := w.node("a")
				r := a.claim("k")
				a.say("old")
				pass(time.Second)
				a.crash()
				b := w.node("b")
				b.store.once(c.method, c.trouble)
				w.takenAt(r.ID, c.attempt)
				b.say("new")
				b.finish()
				pass(time.Second)
				want := fmt.Sprintf("1-1 old|%d-1 new|%d-2 Done:done", c.attempt, c.attempt)
				if got := w.stored(r.ID); got != want {
					t.Errorf("stored %q, want %q", got, want)
				}
			})
		})
	}
}
