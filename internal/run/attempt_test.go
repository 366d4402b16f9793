package run

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		here, there := a.tail(r.ID, Position{}), b.tail(r.ID, Position{})
		a.say("bro", "ken")
		if err := <-a.restart(); err != nil {
			t.Fatalf("Restart: %v", err)
		}
		// What was said is stored before the next attempt begins.
		if got := w.stored(r.ID); got != "1-1 bro|1-2 ken" {
			t.Errorf("stored %q by the restart", got)
		}
		if rec := w.load(r.ID); rec.Attempt != 2 || rec.Tries != 2 || rec.Node != "a" {
			t.Errorf("attempt %d, tries %d of node %s", rec.Attempt, rec.Tries, rec.Node)
		}
		a.say("whole")
		if err := <-a.restart(); err != nil {
			t.Fatalf("Restart: %v", err)
		}
		if err := <-a.restart(); !errors.Is(err, ErrTried) {
			t.Errorf("a fourth attempt: %v, want ErrTried", err)
		}
		a.say("third")
		a.finish()
		const log = "1-1 bro|1-2 ken|2-1 whole|3-1 third|3-2 Done:done"
		for _, c := range []*client{here, there} {
			if got := c.wait(t).String(); got != log {
				t.Errorf("read %q, want %q", got, log)
			}
		}
		if got := w.stored(r.ID); got != log {
			t.Errorf("stored %q, want %q", got, log)
		}
		if got := w.answer(r.ID); got != "third" {
			t.Errorf("answer %q, want that of the last attempt", got)
		}
	})
}

// TestRestartAndStore: a restart waits for a store that is away, and finds out
// what became of a try whose outcome it does not know.
func TestRestartAndStore(t *testing.T) {
	for name, c := range map[string]struct {
		method  string
		trouble trouble
	}{
		"old attempt not stored":         {"AppendMany", trouble{before: errAway}},
		"old attempt stored, not known":  {"AppendMany", trouble{after: errAway}},
		"next attempt not stored":        {"NextAttempt", trouble{before: errAway}},
		"next attempt stored, not known": {"NextAttempt", trouble{after: errAway}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := w.node("a")
				r := a.claim("k")
				reader := a.tail(r.ID, Position{})
				a.store.once(c.method, c.trouble)
				a.say("old")
				if err := <-a.restart(); err != nil {
					t.Errorf("Restart: %v", err)
				}
				a.say("new")
				a.finish()
				pass(time.Second)
				w.state(r.ID, Completed)
				const log = "1-1 old|2-1 new|2-2 Done:done"
				if got := w.stored(r.ID); got != log {
					t.Errorf("stored %q, want %q", got, log)
				}
				if got := reader.wait(t).String(); got != log {
					t.Errorf("read %q, want %q", got, log)
				}
			})
		})
	}
}

// TestRestartBesideOthers: while the store has the next attempt and the node
// does not know it yet, a flush or a renewal of the old one is refused; that is
// no loss of the run.
func TestRestartBesideOthers(t *testing.T) {
	for name, during := range map[string]func(a *node, open func()){
		"renewal": func(a *node, open func()) {
			pass(6 * time.Second) // the lease loop's next turn
			open()
		},
		"renewal begun before": func(a *node, open func()) { open() },
		"flush": func(a *node, open func()) {
			pass(time.Second)
			open()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := w.node("a")
				r := a.claim("k")
				reader := a.tail(r.ID, Position{})
				next, renewal := make(chan struct{}), make(chan struct{})
				if name == "renewal begun before" {
					a.store.once("RenewMany", trouble{hold: renewal})
					pass(5 * time.Second)
				}
				if name == "flush" {
					a.store.once("AppendMany", trouble{delay: 400 * time.Millisecond}) // the flush loop's
					a.say("old")
					pass(300 * time.Millisecond)
				}
				a.store.once("NextAttempt", trouble{late: next})
				restarted := a.restart()
				synctest.Wait()
				close(renewal)
				synctest.Wait()
				during(a, func() { close(next) })
				if err := <-restarted; err != nil {
					t.Fatalf("Restart: %v", err)
				}
				a.say("new")
				a.finish()
				pass(time.Second)
				w.state(r.ID, Completed)
				reader.take(t)
				if n := len(reader.frames); n < 2 || !reader.over {
					t.Errorf("read %q, over %v", reader, reader.over)
				}
				if cause := a.cause.Load(); cause != nil {
					t.Errorf("the work was stopped: %v", cause)
				}
				if rec := w.load(r.ID); rec.Attempt != 2 {
					t.Errorf("attempt %d, want 2", rec.Attempt)
				}
			})
		})
	}
}

// TestRestartOfALostRun: only the holder begins an attempt.
func TestRestartOfALostRun(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		reader := a.tail(r.ID, Position{})
		w.steal(r.ID, "thief")
		if err := <-a.restart(); !errors.Is(err, errLost) {
			t.Errorf("Restart: %v, want errLost", err)
		}
		synctest.Wait()
		if a.Held() != 0 {
			t.Error("a lost run is still held")
		}
		w.end(r.ID, "thief's")
		if got := reader.wait(t).String(); got != "2-1 thief's|2-2 Done:done" {
			t.Errorf("read %q", got)
		}
	})
}
