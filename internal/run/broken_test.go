package run

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/record"
)

// TestPanic: a handler that panics costs its own run and no other.
func TestPanic(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		reader := a.tail(r.ID, Position{})
		a.say("word")
		a.acts <- func(context.Context, *Job) *Ending { panic("out of order") }
		if got := reader.wait(t).String(); got != "1-1 word|1-2 Error:broken down" {
			t.Errorf("read %q", got)
		}
		w.state(r.ID, Failed)
		next := a.claim("k2")
		a.finish()
		pass(time.Second)
		w.state(next.ID, Completed)
	})
}

// TestRefusedEnd: a store that answers but never takes an ending cannot keep a
// run for ever, nor make it give up at the first refusal.
func TestRefusedEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		c := request("k")
		if res, err := a.Claim(t.Context(), c); err != nil || res.Outcome != Claimed {
			t.Fatal(res.Outcome, err)
		}
		a.acts <- func(_ context.Context, j *Job) *Ending {
			return &Ending{
				State: Completed, Kind: Done, Data: []byte("done"),
				Message: &record.Message{ID: c.Message.ID, RunID: j.Record.ID, Role: "assistant"},
			}
		}
		pass(time.Minute)
		w.state(c.ID, Running)
		pass(2 * time.Minute)
		w.state(c.ID, Failed)
	})
}

// TestDamagedLogEnds: a stored log that nobody can read keeps no run from its end, and
// counts as gone once the run is over.
func TestDamagedLogEnds(t *testing.T) {
	for key, want := range map[string]State{"k": Completed, "": Interrupted} {
		bubble(t, func(t *testing.T, w *world) {
			a := w.node("a")
			r := a.claim(key)
			a.say("hello")
			pass(time.Second)
			a.crash()
			w.mem.mu.Lock()
			w.mem.runs[r.ID].segments[0].Data = []byte("damaged")
			w.mem.mu.Unlock()
			b := w.node("b")
			b.finish()
			pass(time.Minute)
			w.state(r.ID, want)
			if got := w.load(r.ID).Attempt; got != 2 {
				t.Errorf("%d attempts, want 2", got)
			}
			if _, err := b.Tail(t.Context(), r.ID, Position{}); !errors.Is(err, ErrLogGone) {
				t.Errorf("Tail: %v, want %v", err, ErrLogGone)
			}
		})
	}
}
