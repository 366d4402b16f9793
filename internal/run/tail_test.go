package run

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMirror: a node asks the store once for all its readers, and stops asking
// when they have gone.
func TestMirror(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		pass(time.Second)
		if n := b.store.calls("Tails"); n != 0 {
			t.Errorf("%d tails of nothing", n)
		}
		runs := []Record{a.claim("k1"), a.claim("k2")}
		var clients []*client
		for range 50 {
			clients = append(clients, b.tail(runs[0].ID, Position{}), b.tail(runs[1].ID, Position{}))
		}
		synctest.Wait()
		before := b.store.calls("Tails")
		pass(10 * time.Second)
		if n := b.store.calls("Tails") - before; n < 39 || n > 41 { // every Poll
			t.Errorf("%d reads in 10 s for 100 readers", n)
		}
		for _, c := range clients {
			c.r.Close()
		}
		before = b.store.calls("Tails")
		pass(10 * time.Second)
		if n := b.store.calls("Tails") - before; n != 0 {
			t.Errorf("%d reads in 10 s without readers", n)
		}
		if n := b.store.calls("TouchReaders"); n != 0 {
			t.Errorf("%d words about readers of runs that go on without any", n)
		}
	})
}

// TestMirrorDelay: a hint brings frames at once; a lost one costs a poll.
func TestMirrorDelay(t *testing.T) {
	for name, c := range map[string]struct {
		hint trouble
		most time.Duration
	}{
		"hinted":    {trouble{}, 20 * time.Millisecond},
		"hint lost": {trouble{before: errAway}, 250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node("a"), w.node("b")
				a.store.always("Hint", c.hint)
				r := a.claim("k")
				reader := b.tail(r.ID, Position{})
				var text []string
				for range 10 {
					pass(77 * time.Millisecond)
					word := strings.Repeat("x", 4<<10) // stored at once
					a.say(word)
					text = append(text, word)
					pass(c.most)
					if reader.take(t); len(reader.frames) != len(text) {
						t.Fatalf("%d of %d frames after %v", len(reader.frames), len(text), c.most)
					}
				}
			})
		})
	}
}

// TestLongLog: a log that the store gives out in parts is read whole, live and
// when it is over.
func TestLongLog(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		var want strings.Builder
		word := strings.Repeat("0123456789abcdef", 2<<10) // 32 KiB
		for i := range 400 {
			a.say(word)
			want.WriteString(word)
			if i%20 == 19 {
				synctest.Wait() // stored by now: a segment is no larger than the parts
			}
		}
		live := b.tail(r.ID, Position{})
		a.finish()
		over := func(c *client) {
			t.Helper()
			var got strings.Builder
			for _, f := range c.wait(t).frames[:400] {
				got.Write(f.Data)
			}
			if got.String() != want.String() || !c.over {
				t.Errorf("%d bytes in %d frames, over %v", got.Len(), len(c.frames), c.over)
			}
		}
		over(live)
		before := b.store.calls("Tails")
		over(b.tail(r.ID, Position{}))
		if n := b.store.calls("Tails") - before; n < 3 {
			t.Errorf("12 MiB were read in %d parts: the test shows nothing", n)
		}
	})
}

// TestLogIsBounded: a provider without end does not take the node with it.
func TestLogIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		full := make(chan error, 1)
		a.acts <- fill(full)
		if err := <-full; err != ErrLogFull {
			t.Errorf("Append: %v, want ErrLogFull", err)
		}
		a.finish()
		pass(time.Second)
		w.state(r.ID, Completed)
	})
}

// TestReaderOfALostRunWithoutReaders: who comes after the loss reads the new holder's.
func TestReaderOfALostRunWithoutReaders(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		w.steal(r.ID, "thief")
		pass(6 * time.Second)
		if a.Held() != 0 {
			t.Fatal("a lost run is still held")
		}
		reader := a.tail(r.ID, Position{})
		w.end(r.ID, "thief's")
		if got := reader.wait(t).String(); got != "2-1 thief's|2-2 Done:done" {
			t.Errorf("read %q", got)
		}
	})
}

// TestHolderDiesUnderItsMirrors: readers on two other nodes get through a crash
// to the end, whichever of the two takes the run over.
func TestHolderDiesUnderItsMirrors(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b, c := w.node("a"), w.node("b"), w.node("c")
		r := a.claim("k")
		readers := []*client{b.tail(r.ID, Position{}), c.tail(r.ID, Position{}), b.tail(r.ID, Position{1, 1})}
		a.say("lost")
		pass(time.Second)
		a.crash()
		w.takenAt(r.ID, 2)
		taker := map[string]*node{"b": b, "c": c}[w.load(r.ID).Node]
		taker.say("found")
		taker.finish()
		for i, reader := range readers {
			want := []string{"1-1 lost|", "1-1 lost|", ""}[i] + "2-1 found|2-2 Done:done"
			if got := reader.wait(t).String(); got != want {
				t.Errorf("reader %d read %q, want %q", i, got, want)
			}
		}
		if n := b.works.Load() + c.works.Load(); n != 1 {
			t.Errorf("taken over %d times", n)
		}
	})
}
