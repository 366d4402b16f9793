package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

func TestRunFromClaimToEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		c := a.tail(r.ID, Position{})
		a.say("one ", "two ")
		synctest.Wait()
		c.want(t, "1-1 one |1-2 two ", false)
		a.say("three")
		a.finish()
		synctest.Wait()
		const log = "1-1 one |1-2 two |1-3 three|1-4 Done:done"
		c.want(t, log, true)
		if got := w.stored(r.ID); got != log {
			t.Errorf("stored %q, want %q", got, log)
		}
		rec := w.load(r.ID)
		if rec.State != Completed || rec.Attempt != 1 || rec.LastSeq != 4 || string(rec.Result) != `{"ok":true}` {
			t.Errorf("record %+v", rec)
		}
		if got := w.answer(r.ID); got != "one two three" {
			t.Errorf("answer %q", got)
		}
		if got := w.mem.EventTypes(r.ID); strings.Join(got, " ") != "chat_started chat_done" {
			t.Errorf("events %q", got)
		}
		if a.Held() != 0 {
			t.Errorf("%d runs held after the end", a.Held())
		}
	})
}

// A client that was told that a run is done can rely on it.
func TestEndIsShownOnceItIsStored(t *testing.T) {
	for name, fate := range map[string]struct {
		trouble trouble
		state   State // in the store while the commit's outcome is not known
	}{
		"slow before it commits":  {trouble{}, Running},
		"slow after it committed": {trouble{}, Completed},
		"fails once":              {trouble{before: errAway}, Running},
		"has an unknown outcome":  {trouble{after: errAway}, Completed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := w.node("a")
				gate := make(chan struct{})
				switch {
				case strings.HasPrefix(name, "slow before"):
					fate.trouble.hold = gate
				case strings.HasPrefix(name, "slow after"):
					fate.trouble.late = gate
				}
				a.store.once("FinishMany", fate.trouble)
				r := a.claim("k")
				c := a.tail(r.ID, Position{})
				a.say("answer")
				a.finish()
				synctest.Wait()
				c.want(t, "1-1 answer", false)
				w.state(r.ID, fate.state)
				close(gate)
				pass(time.Second)
				c.want(t, "1-1 answer|1-2 Done:done", true)
				w.state(r.ID, Completed)
				if got := w.stored(r.ID); got != "1-1 answer|1-2 Done:done" {
					t.Errorf("stored %q", got)
				}
				if n := len(w.mem.EventTypes(r.ID)); n != 2 {
					t.Errorf("%d events, want one beginning and one end", n)
				}
			})
		})
	}
}

func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		a.say("so ")
		join := func(n *node, want State) *client {
			t.Helper()
			c := request("k")
			res, err := n.Claim(t.Context(), c)
			if err != nil || res.Outcome != Joined || res.Run.ID != r.ID || res.Run.State != want {
				t.Fatalf("Claim: outcome %d of run %s in state %s, %v; want %s joined in %s",
					res.Outcome, res.Run.ID, res.Run.State, err, r.ID, want)
			}
			return n.tail(res.Run.ID, Position{})
		}
		clients := []*client{join(a, Running), join(b, Running)}
		a.say("far")
		a.finish()
		pass(time.Second)
		clients = append(clients, join(a, Completed), join(b, Completed))
		for i, c := range clients {
			if c.wait(t).String() != "1-1 so |1-2 far|1-3 Done:done" {
				t.Errorf("client %d read %q", i, c)
			}
		}
		if n := a.works.Load() + b.works.Load(); n != 1 {
			t.Errorf("worked %d times, want once", n)
		}
		other := request("k")
		other.Fingerprint = []byte("another request")
		if res, err := b.Claim(t.Context(), other); err != nil || res.Outcome != Conflict {
			t.Errorf("another request with the key: outcome %d, %v", res.Outcome, err)
		}
	})
}

// TestReadersAnywhere reads one log of two attempts from every place, live and
// stored, here and on another node.
func TestReadersAnywhere(t *testing.T) {
	frames := []Frame{{Attempt: 1, Seq: 1}, {Attempt: 1, Seq: 2}, {Attempt: 2, Seq: 1}, {Attempt: 2, Seq: 2}, {Attempt: 2, Seq: 3}}
	after := func(at Position) (rest string) {
		var s []string
		for i, f := range frames {
			if f.Attempt > at.Attempt || f.Attempt == at.Attempt && f.Seq > at.Seq {
				data := fmt.Sprintf("%d%d", f.Attempt, f.Seq)
				if i == len(frames)-1 {
					data = "Done:done"
				}
				s = append(s, fmt.Sprintf("%d-%d %s", f.Attempt, f.Seq, data))
			}
		}
		return strings.Join(s, "|")
	}
	positions := []Position{{}, {1, 0}, {1, 1}, {1, 2}, {1, 50}, {2, 0}, {2, 1}, {2, 2}, {2, 3}}
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		var clients []*client
		open := func() {
			for _, at := range positions {
				clients = append(clients, a.tail(r.ID, at), b.tail(r.ID, at))
			}
			pass(time.Second)
		}
		open()
		a.say("11", "12")
		open()
		if err := <-a.restart(); err != nil {
			t.Fatalf("Restart: %v", err)
		}
		open()
		a.say("21", "22")
		open()
		a.finish()
		pass(time.Second)
		open()
		for i, c := range clients {
			at := positions[i/2%len(positions)]
			if got := c.wait(t).String(); got != after(at) || !c.over {
				t.Errorf("client %d, on node %c, after %v: read %q, want %q", i, 'a'+rune(i%2), at, got, after(at))
			}
		}
	})
}

// TestAheadOfTheLog: a crash may have lost what a client has seen.
func TestAheadOfTheLog(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		a.say("1", "2")
		synctest.Wait()
		waits, jumps, forged := a.tail(r.ID, Position{1, 3}), a.tail(r.ID, Position{1, 30}), a.tail(r.ID, Position{7, 1})
		a.say("3", "4")
		synctest.Wait()
		waits.want(t, "1-4 4", false)
		jumps.want(t, "", false)
		if err := <-a.restart(); err != nil {
			t.Fatal(err)
		}
		a.say("new")
		a.finish()
		synctest.Wait()
		waits.want(t, "1-4 4|2-1 new|2-2 Done:done", true)
		jumps.want(t, "2-1 new|2-2 Done:done", true)
		// An id that nobody was given must not hang its reader for ever.
		forged.want(t, "2-2 Done:done", true)
		a.tail(r.ID, Position{7, 1}).want(t, "2-2 Done:done", true)
		a.tail(r.ID, Position{2, 99}).want(t, "2-2 Done:done", true)
	})
}

// TestSlowReader: who does not read costs nobody else anything.
func TestSlowReader(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		slow, fast := a.tail(r.ID, Position{}), a.tail(r.ID, Position{})
		begun := time.Now()
		for i := range 2000 {
			a.say(fmt.Sprintf("word %d ", i))
		}
		a.finish()
		fast.wait(t)
		if len(fast.frames) != 2001 || !fast.over {
			t.Errorf("the fast reader has %d frames, over %v", len(fast.frames), fast.over)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("a run beside a slow reader took %v", took)
		}
		if slow.wait(t).String() != fast.String() {
			t.Error("the slow reader read something else")
		}
	})
}

func TestTailRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *Config) { c.Retention = time.Hour })
		if _, err := a.Tail(t.Context(), uuid.New(), Position{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown run: %v, want ErrNotFound", err)
		}
		r := a.claim("k")
		a.finish()
		pass(59 * time.Minute)
		a.tail(r.ID, Position{}).want(t, "1-1 Done:done", true)
		pass(3 * time.Minute)
		if _, err := a.Tail(t.Context(), r.ID, Position{}); !errors.Is(err, ErrLogGone) {
			t.Errorf("a pruned log: %v, want ErrLogGone", err)
		}
		a.store.once("Load", trouble{before: errAway})
		if _, err := a.Tail(t.Context(), r.ID, Position{}); !errors.Is(err, errAway) {
			t.Errorf("a store that is away: %v", err)
		}
	})
}

// TestDamagedLog: a stored log that cannot be read is an error, not a silence.
func TestDamagedLog(t *testing.T) {
	for name, damage := range map[string]func(r *memRun){
		"bytes": func(r *memRun) { r.segments[0].Data[0] = 99 },
		"bytes of a long log": func(r *memRun) {
			r.segments[0].Data[0] = 99
			r.segments = append(r.segments, Segment{Run: r.ID, Attempt: 1, First: 3, Last: 3, Data: make([]byte, tailBytes)})
		},
		"end missing": func(r *memRun) { r.segments = nil },
		"gap":         func(r *memRun) { r.segments[0].First, r.segments[0].Last = 2, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node("a"), w.node("b")
				r := a.claim("k")
				a.say("text")
				live := b.tail(r.ID, Position{})
				b.store.always("Tails", trouble{before: errAway})
				a.finish()
				pass(time.Second)
				w.mem.mu.Lock()
				damage(w.mem.runs[r.ID])
				w.mem.mu.Unlock()
				b.store.always("Tails", trouble{})
				pass(time.Second)
				live.wantBroken(t, api.Internal)
				live.r.Close()
				if _, err := b.Tail(t.Context(), r.ID, Position{}); err == nil {
					t.Error("a reader of the damaged log was opened")
				}
				if n := b.store.calls("Tails"); n > 100 {
					t.Errorf("the damaged log was read %d times in a second", n)
				}
			})
		})
	}
}

func TestClaimFailures(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		code := func(err error) api.Code { return fault.From(err).Code }

		a.store.once("ClaimMany", trouble{before: errAway})
		if _, err := a.Claim(t.Context(), request("")); code(err) != api.StorageUnavailable || !errors.Is(err, errAway) {
			t.Errorf("a store that is away: %v", err)
		}
		a.store.once("ClaimMany", trouble{delay: time.Hour})
		begun := time.Now()
		if _, err := a.Claim(t.Context(), request("")); code(err) != api.StorageUnavailable {
			t.Errorf("a store that hangs: %v", err)
		}
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("a claim waited %v for a store that hangs, want ClaimWait", took)
		}
		if a.works.Load() != 0 {
			t.Error("work was begun on what was not accepted")
		}
		// The outcome is not known; the key finds out.
		c := request("k")
		a.store.once("ClaimMany", trouble{after: errAway})
		if _, err := a.Claim(t.Context(), c); code(err) != api.StorageUnavailable {
			t.Errorf("an unknown outcome: %v", err)
		}
		res, err := a.Claim(t.Context(), request("k"))
		if err != nil || res.Outcome != Joined || res.Run.ID != c.ID {
			t.Fatalf("again: outcome %d, %v", res.Outcome, err)
		}
		a.say("late but whole")
		a.finish()
		if got := a.tail(c.ID, Position{}).wait(t).String(); got != "2-1 late but whole|2-2 Done:done" {
			t.Errorf("read %q", got)
		}
	})
}

// TestCallerLeavesItsClaim: what was accepted is worked on.
func TestCallerLeavesItsClaim(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		gate := make(chan struct{})
		a.store.once("ClaimMany", trouble{hold: gate})
		ctx, cancel := context.WithCancel(t.Context())
		c, failed := request("k"), make(chan error, 1)
		go func() {
			_, err := a.Claim(ctx, c)
			failed <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-failed; err == nil {
			t.Error("a claim outlived its caller")
		}
		close(gate)
		a.say("text")
		a.finish()
		pass(time.Second)
		w.state(c.ID, Completed)
	})
}

// TestParsed: what a claim carries reaches its own job, and no later one.
func TestParsed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		parsed := make(chan any, 1)
		look := func(_ context.Context, j *Job) *Ending {
			parsed <- j.Parsed
			return nil
		}
		c := request("k")
		c.Parsed = "as asked"
		a.acts <- look
		if res, err := a.Claim(t.Context(), c); err != nil || res.Outcome != Claimed {
			t.Fatal(err)
		}
		if got := <-parsed; got != "as asked" {
			t.Errorf("the claim's job got %v", got)
		}
		a.crash()
		b.acts <- look
		if got := <-parsed; got != nil {
			t.Errorf("a later attempt got %v", got)
		}
	})
}
