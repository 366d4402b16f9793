package run

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/record"
)

func TestFlush(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		runs := []Record{a.claim("k1"), a.claim("k2"), a.claim("")}
		pass(250 * time.Millisecond)
		if n := a.store.calls("AppendMany"); n != 0 {
			t.Errorf("%d writes of nothing", n)
		}
		a.say("1", "2", "3") // whichever of the runs says what
		synctest.Wait()
		if n := a.store.calls("AppendMany"); n != 0 {
			t.Errorf("%d writes of 3 bytes at once", n)
		}
		pass(250 * time.Millisecond)
		if n := a.store.calls("AppendMany"); n != 1 {
			t.Errorf("%d writes, want all runs in one", n)
		}
		frames := 0
		for _, r := range runs {
			if log := w.stored(r.ID); log != "" {
				frames += 1 + strings.Count(log, "|")
			}
		}
		if frames != 3 {
			t.Errorf("%d frames stored after FlushEvery, want 3", frames)
		}
		big := strings.Repeat("x", 4<<10)
		a.say(big)
		synctest.Wait()
		if n := a.store.calls("AppendMany"); n != 2 {
			t.Errorf("%d writes, want 4 KiB to be written at once", n)
		}
	})
}

// TestFlushFails: what is not known to be stored is sent again, and is there once.
func TestFlushFails(t *testing.T) {
	for name, trouble := range map[string]trouble{
		"without effect":  {before: errAway},
		"outcome unknown": {after: errAway},
		"hanging":         {delay: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node("a"), w.node("b")
				r := a.claim("k")
				reader := b.tail(r.ID, Position{})
				var want []string
				for i := range 12 {
					if i%2 == 0 {
						a.store.once("AppendMany", trouble)
					}
					a.say(fmt.Sprint(i))
					want = append(want, fmt.Sprintf("1-%d %d", i+1, i))
					pass(time.Duration(i) * 70 * time.Millisecond)
				}
				a.finish()
				log := strings.Join(append(want, "1-13 Done:done"), "|")
				if got := reader.wait(t).String(); got != log {
					t.Errorf("read %q, want %q", got, log)
				}
				if got := w.stored(r.ID); got != log {
					t.Errorf("stored %q, want %q", got, log)
				}
			})
		})
	}
}

// TestFlushDoesNotInsist: while the store is away, a busy run does not send all
// it has with every frame.
func TestFlushDoesNotInsist(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		a.store.always("AppendMany", trouble{before: errAway})
		for range 200 {
			a.say(strings.Repeat("x", 2<<10))
			pass(10 * time.Millisecond)
		}
		if n := a.store.calls("AppendMany"); n > 20 {
			t.Errorf("%d writes to a store that was away for 2 s", n)
		}
		a.store.always("AppendMany", trouble{})
		pass(time.Second)
		if n := strings.Count(w.stored(r.ID), "|"); n != 199 {
			t.Errorf("%d frames stored, want 200", n+1)
		}
	})
}

// TestStoreAway: an outage restarts nothing, and what was produced meanwhile is
// stored when the store is back.
func TestStoreAway(t *testing.T) {
	for _, c := range []struct {
		away   time.Duration
		broken bool // readers are sent away
	}{{20 * time.Second, false}, {30 * time.Second, false}, {45 * time.Second, true}, {10 * time.Minute, true}} {
		t.Run(c.away.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a, b := w.node("a"), w.node("b")
				ends, goes := a.claim("k"), b.claim("k2")
				endsHere, endsThere, goesHere := a.tail(ends.ID, Position{}), b.tail(ends.ID, Position{}), b.tail(goes.ID, Position{})
				a.say("be")
				pass(14 * time.Second)
				a.partition()
				b.partition()
				a.say("fore")
				a.finish()
				b.say("meanwhile")
				pass(c.away)
				endsHere.want(t, "1-1 be|1-2 fore", false)
				endsThere.want(t, "1-1 be", false)
				if c.broken {
					endsHere.wantBroken(t, api.PersistFailed)
					endsThere.wantBroken(t, api.StorageUnavailable)
				}
				goesHere.want(t, "1-1 meanwhile", false) // a run that still works is read on
				if goesHere.broken != nil {
					t.Errorf("the reader of a working run: %v", goesHere.broken)
				}
				a.heal()
				b.heal()
				pass(2 * time.Second)
				for i, r := range []*client{endsHere, endsThere} {
					if r.broken != nil {
						r = []*node{a, b}[i].tail(ends.ID, Position{1, 2})
						r.wait(t).want(t, "1-3 Done:done", true)
					} else {
						r.wait(t).want(t, "1-1 be|1-2 fore|1-3 Done:done", true)
					}
				}
				pass(time.Minute)
				b.say(" and after")
				b.finish()
				goesHere.wait(t).want(t, "1-1 meanwhile|1-2  and after|1-3 Done:done", true)
				for _, r := range []Record{ends, goes} {
					if got := w.load(r.ID); got.State != Completed || got.Attempt != 1 || got.Tries != 1 {
						t.Errorf("state %s in attempt %d, try %d; want completed in the first", got.State, got.Attempt, got.Tries)
					}
				}
				if n := a.works.Load() + b.works.Load(); n != 2 {
					t.Errorf("worked %d times, want once per run", n)
				}
			})
		})
	}
}

// TestStoreFlickers: readers wait for one outage, not for the sum of all.
func TestStoreFlickers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		reader := b.tail(r.ID, Position{})
		for range 5 {
			b.partition()
			pass(25 * time.Second)
			b.heal()
			pass(time.Second)
		}
		a.say("text")
		a.finish()
		reader.wait(t).want(t, "1-1 text|1-2 Done:done", true)
	})
}

// TestNewReaderOfAnUnstoredEnd: who comes while the end cannot be stored is sent
// away too, and gets it when it is.
func TestNewReaderOfAnUnstoredEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		a.store.always("FinishMany", trouble{before: errAway})
		a.say("text")
		a.finish()
		pass(time.Minute)
		late := a.tail(r.ID, Position{})
		late.want(t, "1-1 text", false)
		late.wantBroken(t, api.PersistFailed)
		a.store.always("FinishMany", trouble{})
		pass(2 * time.Second)
		a.tail(r.ID, Position{1, 1}).want(t, "1-2 Done:done", true)
	})
}

// TestOneBadEnd: an ending that the store refuses keeps no other run from its end.
func TestOneBadEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		first := request("")
		if res, err := a.Claim(t.Context(), first); err != nil || res.Outcome != Claimed {
			t.Fatal(err)
		}
		var runs []uuid.UUID
		for i := range 8 {
			runs = append(runs, a.claim(fmt.Sprint("k", i)).ID)
		}
		busy := make(chan struct{})
		a.store.once("FinishMany", trouble{hold: busy}, trouble{hold: busy})
		a.finish() // two batches are under way,
		synctest.Wait()
		a.finish()
		synctest.Wait()
		a.acts <- func(_ context.Context, j *Job) *Ending {
			return &Ending{
				State: Completed, Kind: Done, Data: []byte("done"),
				Message: &record.Message{ID: first.Message.ID, RunID: j.Record.ID, Role: "assistant"},
			}
		}
		for range 6 { // the others gather with the bad one
			a.finish()
		}
		synctest.Wait()
		close(busy)
		pass(time.Second)
		done := 0
		for _, id := range append(runs, first.ID) {
			if w.load(id).State == Completed {
				done++
			}
		}
		if done != 8 {
			t.Errorf("%d of 8 good ends are stored after a second", done)
		}
		if a.Held() != 1 {
			t.Errorf("%d runs held, want the bad one", a.Held())
		}
	})
}

// TestRetriedClaimKeepsItsLease: a claim of a batch that failed is made once more.
// While that is under way nobody gives up what it may have become.
func TestRetriedClaimKeepsItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		busy, slow := make(chan struct{}), make(chan struct{})
		a.store.once("ClaimMany", trouble{hold: busy}, trouble{before: errAway}, trouble{late: slow})
		pass(3 * time.Second)
		claims := []Claim{request("before"), request(""), request("")}
		for _, c := range claims { // the first is a batch, the others are the next
			go a.Claim(context.Background(), c)
			synctest.Wait()
		}
		close(busy)
		pass(2500 * time.Millisecond) // the sweeper has looked for what to settle
		close(slow)
		pass(time.Minute)
		for _, c := range claims[1:] {
			w.state(c.ID, Cancelled) // nobody came to read it; no other holder
			if rec := w.load(c.ID); rec.Attempt != 1 {
				t.Errorf("%d attempts, want 1", rec.Attempt)
			}
		}
	})
}
