package run

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// drain drains a node and tells, when it has returned, how long it took.
func (n *node) drain(patience, flushWait time.Duration) <-chan time.Duration {
	took := make(chan time.Duration, 1)
	begun := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		n.Drain(ctx, flushWait)
		took <- time.Since(begun)
	}()
	synctest.Wait()
	return took
}

func wantTook(t *testing.T, took <-chan time.Duration, want time.Duration) {
	t.Helper()
	select {
	case got := <-took:
		if got != want {
			t.Errorf("drained in %v, want %v", got, want)
		}
	default:
		t.Errorf("not drained, want it in %v", want)
	}
}

func TestDrainOfNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		a.claim("k")
		a.finish()
		synctest.Wait()
		wantTook(t, a.drain(time.Hour, time.Second), 0)
		_, err := a.Claim(t.Context(), request("k"))
		if fault.From(err).Code != api.ServerDraining {
			t.Errorf("a claim while draining: %v", err)
		}
		a.Refuse() // again
	})
}

// TestDrainWaits: live runs go on, and the drain is over with the last of them.
func TestDrainWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("")
		c := a.tail(r.ID, Position{})
		a.Refuse()
		took := a.drain(time.Hour, time.Second)
		pass(time.Minute)
		a.say("to the end")
		a.finish()
		synctest.Wait()
		wantTook(t, took, time.Minute)
		c.want(t, "1-1 to the end|1-2 Done:done", true)
	})
}

// TestDrainWaitsForClaims: a claim that was let in is a live run, or will be.
func TestDrainWaitsForClaims(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		busy := make(chan struct{})
		a.store.once("ClaimMany", trouble{hold: busy})
		c, claimed := request("k"), make(chan error, 1)
		go func() {
			_, err := a.Claim(context.Background(), c)
			claimed <- err
		}()
		synctest.Wait()
		took := a.drain(time.Minute, time.Second)
		select {
		case <-took:
			t.Error("drained while a claim was on its way")
		default:
		}
		pass(time.Second)
		close(busy)
		if err := <-claimed; err != nil {
			t.Fatalf("Claim: %v", err)
		}
		a.finish()
		synctest.Wait()
		wantTook(t, took, time.Second)
		w.state(c.ID, Completed)
	})
}

// TestDrainGivesUp: at the end of its patience a drain hands keyed runs to
// others, at once and without a try used up.
func TestDrainGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		a.say("so far")
		pass(time.Second)
		readers := []*client{a.tail(r.ID, Position{}), a.tail(r.ID, Position{1, 2})}
		const patience = time.Minute + 100*time.Millisecond // not when a flush is due anyway
		took := a.drain(patience, 5*time.Second)
		pass(patience - time.Millisecond)
		a.say("last words")
		pass(time.Millisecond)
		wantTook(t, took, patience)
		if a.Held() != 0 {
			t.Errorf("%d runs held after the drain", a.Held())
		}
		for _, c := range readers {
			c.wait(t).wantBroken(t, api.ServerDraining)
		}
		if got := w.stored(r.ID); got != "1-1 so far|1-2 last words" {
			t.Errorf("stored %q", got)
		}
		pass(6 * time.Second)
		if rec := w.load(r.ID); rec.Node != "b" || rec.Attempt != 2 || rec.Tries != 1 {
			t.Errorf("after the drain: node %s, attempt %d, try %d; want b, 2, 1", rec.Node, rec.Attempt, rec.Tries)
		}
		b.say("whole")
		b.finish()
		b.tail(r.ID, Position{1, 99}).wait(t).want(t, "2-1 whole|2-2 Done:done", true)
	})
}

// TestDrainCloses: a run without a key ends with what there is of it, and its
// readers hear so.
func TestDrainCloses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("")
		here, there := a.tail(r.ID, Position{}), b.tail(r.ID, Position{})
		took := a.drain(time.Minute, 5*time.Second)
		pass(time.Minute - time.Millisecond)
		a.say("last words")
		pass(time.Millisecond)
		wantTook(t, took, time.Minute)
		a.stoppedBy(ErrDrained)
		w.state(r.ID, Interrupted)
		for _, c := range []*client{here, there} {
			c.wait(t).want(t, `1-1 last words|1-2 Error:{"code":"interrupted"}`, true)
		}
		if got := w.answer(r.ID); got != "last words" {
			t.Errorf("answer %q", got)
		}
	})
}

// TestDrainWhileTalking: a handler that has not seen yet that it was stopped
// must not take back what its readers were told.
func TestDrainWhileTalking(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		r := a.claim("k")
		reader := a.tail(r.ID, Position{})
		leave, refused := make(chan struct{}), make(chan error, 1)
		a.acts <- func(_ context.Context, j *Job) *Ending {
			<-leave
			refused <- j.Append(kindText, []byte("too late"))
			return nil
		}
		took := a.drain(time.Minute, 5*time.Second)
		pass(time.Minute)
		close(leave)
		if err := <-refused; err == nil {
			t.Error("a run that was given up takes frames")
		}
		pass(time.Second)
		wantTook(t, took, time.Minute)
		reader.wantBroken(t, api.ServerDraining)
	})
}

// TestDrainWithoutAStore ends all the same, in its time.
func TestDrainWithoutAStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		keyed := a.claim("k")
		keyless := a.claim("")
		reader := a.tail(keyed.ID, Position{})
		a.partition()
		took := a.drain(time.Second, 5*time.Second)
		pass(6 * time.Second)
		wantTook(t, took, 6*time.Second)
		reader.wantBroken(t, api.ServerDraining)
		w.state(keyed.ID, Running)
		w.state(keyless.ID, Running)
		a.crash()
		b := w.node("b")
		b.say("after all")
		b.finish()
		pass(time.Minute)
		w.state(keyed.ID, Completed)
		w.state(keyless.ID, Interrupted)
	})
}

// TestDrainingTakesNothingOver: who is about to go takes no new work.
func TestDrainingTakesNothingOver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		r := a.claim("k")
		b.Refuse()
		a.crash()
		pass(20 * time.Second)
		b.cancelAt(r.ID)
		pass(time.Minute)
		if rec := w.load(r.ID); rec.Attempt != 1 {
			t.Errorf("attempt %d of node %s", rec.Attempt, rec.Node)
		}
	})
}

// TestStopLeavesNothing: the bubble would not end with a goroutine left in it;
// this looks at the moment of Run's return.
func TestStopLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.node("a"), w.node("b")
		for i := range 20 {
			r := a.claim(fmt.Sprint(strings.Repeat("k", i%2), i))
			a.tail(r.ID, Position{})
			b.tail(r.ID, Position{})
		}
		r := a.claim("")
		a.say("text")
		a.finish()
		a.store.always("FinishMany", trouble{before: errAway})
		a.store.always("HasReaders", trouble{late: make(chan struct{})})
		pass(10 * time.Second) // the grace is over: somebody asks for readers
		pass(time.Second)
		b.claim("last")
		a.crash()
		b.crash()
		if stack := engineStacks(); stack != "" {
			t.Errorf("left behind:\n%s", stack)
		}
		// What comes after the end starts nothing.
		pass(20 * time.Second)
		if _, err := b.Cancel(t.Context(), r.ID); err != nil {
			t.Errorf("Cancel: %v", err)
		}
		if got := w.load(r.ID); got.Attempt != 1 {
			t.Errorf("a stopped engine took over attempt %d", got.Attempt)
		}
		if _, err := b.Claim(t.Context(), request("")); err == nil {
			t.Error("a claim was accepted by a stopped engine")
		}
		synctest.Wait()
		if stack := engineStacks(); stack != "" {
			t.Errorf("begun after the end:\n%s", stack)
		}
	})
}

// TestStopWaits: when Run returns, nothing of the engine works any more, and
// what commits after the stop is not begun.
func TestStopWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		a.claim("k")
		handler, service := make(chan struct{}), make(chan struct{})
		a.acts <- func(context.Context, *Job) *Ending {
			<-handler
			return nil
		}
		a.store.once("ClaimMany", trouble{deaf: service})
		go a.Claim(t.Context(), request("late"))
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			a.crash()
			close(stopped)
		}()
		for what, end := range map[string]chan struct{}{"a handler": handler, "a service": service} {
			synctest.Wait()
			select {
			case <-stopped:
				t.Errorf("Run returned before %s had", what)
			default:
			}
			close(end)
		}
		<-stopped
		if n := a.works.Load(); n != 1 {
			t.Errorf("%d runs were worked on, want the one before the stop", n)
		}
	})
}

// engineStacks is the stacks of the goroutines that run an engine's code.
func engineStacks() string {
	buf := make([]byte, 1<<20)
	var left []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "run.(*Engine)") && !strings.Contains(stack, "run.TestStopLeavesNothing") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// TestDrainGivesUpLateClaims: a claim that becomes a run after the drain has given
// up the others is given up too, and its reader hears so.
func TestDrainGivesUpLateClaims(t *testing.T) {
	for _, key := range []string{"k", ""} {
		bubble(t, func(t *testing.T, w *world) {
			a := w.node("a")
			busy := make(chan struct{})
			a.store.once("ClaimMany", trouble{hold: busy})
			c := request(key)
			go a.Claim(context.Background(), c)
			synctest.Wait()
			took := a.drain(0, 5*time.Second)
			pass(time.Second)
			close(busy)
			synctest.Wait()
			wantTook(t, took, time.Second)
			rec := w.load(c.ID)
			if released := rec.State == Running && rec.Tries == 0; key == "" && rec.State != Interrupted || key != "" && !released {
				t.Errorf("key %q: %s after %d tries", key, rec.State, rec.Tries)
			}
		})
	}
}
