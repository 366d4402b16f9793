package run

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// cancelAt asks for a run's end at a node.
func (n *node) cancelAt(id uuid.UUID) Record {
	n.t.Helper()
	r, err := n.Cancel(n.t.Context(), id)
	if err != nil || r.ID != id {
		n.t.Fatalf("Cancel: run %s, %v", r.ID, err)
	}
	synctest.Wait()
	return r
}

const cancelled = `1-1 so far|1-2 Error:{"code":"cancelled"}`

func TestCancel(t *testing.T) {
	for name, c := range map[string]struct {
		elsewhere bool
		within    time.Duration
		key       string
	}{
		"at the holder":                 {false, 0, "k"},
		"at the holder, without a key":  {false, 0, ""},
		"at another node":               {true, 250 * time.Millisecond, "k"},
		"at another node, without keys": {true, 250 * time.Millisecond, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node("a"), w.node("b")
				at := map[bool]*node{false: a, true: b}[c.elsewhere]
				r := a.claim(c.key)
				reader := b.tail(r.ID, Position{})
				a.say("so far")
				pass(time.Second)
				for range 3 { // again and again
					if got := at.cancelAt(r.ID); got.State != Running && c.elsewhere {
						t.Errorf("cancelled in state %s", got.State)
					}
				}
				pass(c.within)
				w.state(r.ID, Cancelled)
				a.stoppedBy(ErrCancelled)
				if got := reader.wait(t).String(); got != cancelled {
					t.Errorf("read %q, want %q", got, cancelled)
				}
				if got := at.cancelAt(r.ID); got.State != Cancelled {
					t.Errorf("cancelled once more: state %s", got.State)
				}
				if got := w.stored(r.ID); got != cancelled || w.answer(r.ID) != "so far" {
					t.Errorf("stored %q, answer %q", got, w.answer(r.ID))
				}
			})
		})
	}
}

// TestCancelLapsed: nobody works on the run; it is closed on the spot.
func TestCancelLapsed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		reader := b.tail(r.ID, Position{})
		a.say("so far")
		pass(time.Second)
		a.crash()
		pass(16 * time.Second)
		if got := b.cancelAt(r.ID); !got.Lapsed {
			t.Fatal("the lease has not lapsed: the test shows nothing")
		}
		w.state(r.ID, Cancelled)
		if got := reader.wait(t).String(); got != `1-1 so far|2-1 Error:{"code":"cancelled"}` {
			t.Errorf("read %q", got)
		}
		if b.works.Load() != 0 {
			t.Error("a cancelled run was worked on")
		}
	})
}

// TestCancelOfADeadNodesRun: the wish outlives the holder that did not hear it.
func TestCancelOfADeadNodesRun(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		a.crash()
		b.cancelAt(r.ID)
		w.state(r.ID, Running)
		pass(time.Minute)
		w.state(r.ID, Cancelled)
		if b.works.Load() != 0 {
			t.Error("a cancelled run was worked on")
		}
	})
}

func TestCancelOfWhatIsOver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		a.say("whole")
		a.finish()
		synctest.Wait()
		if got := a.cancelAt(r.ID); got.State != Completed || got.CancelAsked {
			t.Errorf("state %s, cancel asked %v", got.State, got.CancelAsked)
		}
		if got := w.stored(r.ID); got != "1-1 whole|1-2 Done:done" {
			t.Errorf("stored %q", got)
		}
		if _, err := a.Cancel(t.Context(), uuid.New()); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown run: %v", err)
		}
		r = a.claim("k2")
		a.store.once("AskCancel", trouble{before: errAway})
		if _, err := a.Cancel(t.Context(), r.ID); !errors.Is(err, errAway) {
			t.Errorf("a store that is away: %v", err)
		}
		w.state(r.ID, Running)
	})
}

// TestCancelComesTooLate: an answer that is on its way to the store is not undone.
func TestCancelComesTooLate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		busy := make(chan struct{})
		a.store.once("FinishMany", trouble{hold: busy})
		a.say("whole")
		a.finish()
		synctest.Wait()
		a.cancelAt(r.ID)
		close(busy)
		pass(time.Second)
		w.state(r.ID, Completed)
		if got := w.stored(r.ID); got != "1-1 whole|1-2 Done:done" {
			t.Errorf("stored %q", got)
		}
	})
}

// TestCancelOfAnotherKind: a node that does not work on a kind of run cannot end
// one, and does not fall over it.
func TestCancelOfAnotherKind(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		a.crash()
		pass(16 * time.Second)
		other := NewEngine(Config{Node: "b"}, w.mem.Node(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		go func() { over <- other.Run(ctx) }()
		synctest.Wait()
		if got, err := other.Cancel(ctx, r.ID); err != nil || !got.Lapsed {
			t.Errorf("Cancel: lapsed %v, %v", got.Lapsed, err)
		}
		pass(time.Minute)
		w.state(r.ID, Running)
		cancel()
		<-over
	})
}

func TestAbandonment(t *testing.T) {
	always := func(keep bool) func(Record) bool { return func(Record) bool { return keep } }
	for name, c := range map[string]struct {
		key     string
		keep    func(Record) bool
		readers string        // on which nodes somebody reads for 20 s
		cancel  time.Duration // when the run is cancelled, 0: never
	}{
		"no reader ever":              {"", nil, "", 10 * time.Second},
		"a reader leaves":             {"", nil, "a", 30 * time.Second},
		"a reader on another node":    {"", nil, "b", 40 * time.Second},
		"readers on both":             {"", nil, "ab", 40 * time.Second},
		"with a key":                  {"k", nil, "", 0},
		"kept all the same":           {"", always(true), "", 0},
		"a key that keeps nothing":    {"k", always(false), "", 10 * time.Second},
		"the same, read on this node": {"k", always(false), "a", 30 * time.Second},
		"the same, read elsewhere":    {"k", always(false), "b", 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				nodes := map[rune]*node{'a': w.node("a"), 'b': w.node("b")}
				nodes['a'].keep, nodes['b'].keep = c.keep, c.keep
				r := nodes['a'].claim(c.key)
				var readers []*client
				for _, name := range c.readers {
					readers = append(readers, nodes[name].tail(r.ID, Position{}))
				}
				pass(20 * time.Second)
				for _, reader := range readers {
					if reader.take(t); reader.over || reader.broken != nil {
						t.Fatalf("a run with readers ended: %q", reader)
					}
					reader.r.Close()
				}
				// The grace begins when the last reader has gone; one elsewhere is
				// believed in for a grace after its node's last word.
				pass(c.cancel - 20*time.Second + time.Second)
				if c.cancel == 0 {
					pass(time.Hour)
					w.state(r.ID, Running)
					return
				}
				w.state(r.ID, Cancelled)
				nodes['a'].stoppedBy(ErrAbandoned)
			})
		})
	}
}

// TestReaderComesBack: a reconnect within the grace saves a run.
func TestReaderComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("")
		for i := range 12 {
			n := []*node{a, b}[i%2]
			c := n.tail(r.ID, Position{})
			pass(3 * time.Second)
			c.r.Close()
			pass(9 * time.Second)
			w.state(r.ID, Running)
		}
		// A store that is away is no proof that nobody reads.
		a.partition()
		pass(25 * time.Second)
		a.heal()
		c := a.tail(r.ID, Position{})
		a.say("still here")
		a.finish()
		c.wait(t).want(t, "1-1 still here|1-2 Done:done", true)
	})
}

// TestFirstReaderIsLate: the caller of a claim is on the way to its log, however
// short the grace of those who leave.
func TestFirstReaderIsLate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *Config) { c.Grace = time.Millisecond })
		r := a.claim("")
		pass(time.Second)
		c := a.tail(r.ID, Position{})
		pass(firstReader)
		a.say("word")
		synctest.Wait()
		c.want(t, "1-1 word", false)
		c.r.Close()
		pass(2 * time.Millisecond)
		w.state(r.ID, Cancelled)
	})
}

// TestReaderWhileTheStoreIsAsked: who comes while the store is asked for readers
// elsewhere is a reader.
func TestReaderWhileTheStoreIsAsked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("")
		a.store.once("HasReaders", trouble{delay: 2 * time.Second})
		pass(10*time.Second + time.Millisecond)
		c := a.tail(r.ID, Position{})
		pass(3 * time.Second)
		w.state(r.ID, Running)
		a.finish()
		c.wait(t).want(t, "1-1 Done:done", true)
	})
}
