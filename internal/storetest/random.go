package storetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

func randomTests() []test {
	return []test{{"operations keep one truth", randomOperations}}
}

const (
	randomWorkers = 12
	randomSteps   = 60
	randomKeys    = 6
)

// world is what the workers know together: which holds the store said it gave
// out, and which ends it said it took.
type world struct {
	suite
	mu    sync.Mutex
	runs  []uuid.UUID
	holds map[run.Hold]*writer
	ends  map[uuid.UUID][]run.Finish // acknowledged
	given map[run.Hold]int           // how often the store gave out a hold
}

// writer is the one that works in an attempt; its mu stands for the goroutine
// that owns it.
type writer struct {
	mu     sync.Mutex
	record run.Record
	stored []run.Segment // acknowledged
	over   bool          // its end was acknowledged: whoever works in it stops
}

// randomOperations lets workers do whatever nodes do, on few runs, and then
// asks whether what is stored is what the store acknowledged.
func randomOperations(t *testing.T, s suite) {
	w := &world{suite: s, holds: map[run.Hold]*writer{}, ends: map[uuid.UUID][]run.Finish{}, given: map[run.Hold]int{}}
	nodes := s.nodes(t, 3)
	together(randomWorkers, func(i int) {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		for range randomSteps {
			w.step(t, nodes[i%3], rng, fmt.Sprint("node-", i))
		}
	})
	w.check(t)
}

func (w *world) step(t *testing.T, node run.Store, rng *rand.Rand, name string) {
	var err error
	h, writer := w.pick(rng)
	switch n := rng.IntN(10); {
	case n < 3 || writer == nil:
		err = w.doClaim(t, node, rng, name)
	case n < 6:
		err = w.doAppend(t, node, h, writer)
	case n < 7:
		err = w.doFinish(t, node, rng, h, writer)
	case n < 8:
		err = w.doTakeOver(t, node, h, name)
	case n < 9:
		err = w.doNext(t, node, h, writer)
	default:
		err = w.doRead(t, node, h.Run)
	}
	if err != nil {
		t.Error(err)
	}
}

// pick is any hold there ever was, the old ones too: their holders are zombies.
func (w *world) pick(rng *rand.Rand) (run.Hold, *writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.runs) == 0 {
		return run.Hold{}, nil
	}
	id := w.runs[rng.IntN(len(w.runs))]
	for attempt := 1 + rng.IntN(4); attempt > 0; attempt-- {
		h := run.Hold{Run: id, Attempt: attempt}
		if writer := w.holds[h]; writer != nil {
			return h, writer
		}
	}
	return run.Hold{}, nil
}

// gave notes a hold that the store gave out.
func (w *world) gave(r run.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := hold(r)
	if w.given[h]++; r.Attempt == 1 {
		w.runs = append(w.runs, r.ID)
	}
	if w.holds[h] == nil {
		w.holds[h] = &writer{record: r}
	}
}

func (w *world) doClaim(t *testing.T, node run.Store, rng *rand.Rand, name string) error {
	var claims []run.Claim
	for range 1 + rng.IntN(3) {
		c := leased(keyed("ann", "hello", fmt.Sprint("key-", rng.IntN(randomKeys))), lapsed)
		c.Node = name
		claims = append(claims, c)
	}
	results, err := node.ClaimMany(t.Context(), claims)
	for _, r := range results {
		if r.Outcome == run.Claimed {
			w.gave(r.Run)
		} else if r.Outcome != run.Joined {
			t.Errorf("outcome %d", r.Outcome)
		}
	}
	return err
}

func (w *world) doAppend(t *testing.T, node run.Store, h run.Hold, writer *writer) error {
	writer.mu.Lock()
	defer writer.mu.Unlock()
	seg := segment(writer.record, len(writer.stored)+1, len(writer.stored)+1, fmt.Sprintf("%s-%d frame %d", h.Run, h.Attempt, len(writer.stored)+1))
	lost, err := node.AppendMany(t.Context(), []run.Segment{seg})
	if err == nil && len(lost) == 0 {
		writer.stored = append(writer.stored, seg)
	}
	return err
}

func (w *world) doFinish(t *testing.T, node run.Store, rng *rand.Rand, h run.Hold, writer *writer) error {
	writer.mu.Lock()
	defer writer.mu.Unlock()
	if writer.over {
		return nil
	}
	text := make([]byte, 8)
	binary.BigEndian.PutUint64(text, rng.Uint64())
	f := ending(writer.record, fmt.Sprintf("%x of attempt %d", text, h.Attempt))
	f.Segment.First, f.Segment.Last = len(writer.stored)+1, len(writer.stored)+1
	f.LastSeq = len(writer.stored) + 1
	f.State = []run.State{run.Completed, run.Failed, run.Cancelled}[rng.IntN(3)]
	f.FreeKey = f.State == run.Failed
	done, err := node.FinishMany(t.Context(), []run.Finish{f})
	if err != nil || !done[0] {
		return err
	}
	writer.over = true
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[h.Run] = append(w.ends[h.Run], f)
	return nil
}

func (w *world) doTakeOver(t *testing.T, node run.Store, h run.Hold, name string) error {
	r, _, ok, err := node.TakeOver(t.Context(), h, name, lapsed)
	if err != nil || !ok {
		return err
	}
	if r.Attempt != h.Attempt+1 {
		t.Errorf("took attempt %d and got %d", h.Attempt, r.Attempt)
	}
	w.gave(r)
	return nil
}

func (w *world) doNext(t *testing.T, node run.Store, h run.Hold, writer *writer) error {
	ok, err := node.NextAttempt(t.Context(), h, writer.record.Node, lapsed)
	if err != nil || !ok {
		return err
	}
	r := writer.record
	r.Attempt++
	w.gave(r)
	return nil
}

func (w *world) doRead(t *testing.T, node run.Store, id uuid.UUID) error {
	results, err := node.Tails(t.Context(), []run.Tail{{Run: id}})
	if err != nil {
		return err
	}
	inOrder(t, results[0])
	if _, err = node.AskCancel(t.Context(), id); err != nil {
		return err
	}
	_, err = node.Lapsed(t.Context(), 5)
	return err
}

// inOrder wants a log without gaps that ends where its state says.
func inOrder(t *testing.T, log run.TailResult) {
	t.Helper()
	attempt, seq := 0, 0
	for _, seg := range log.Segments {
		if seg.Attempt > attempt {
			attempt, seq = seg.Attempt, 0
		}
		if seg.Attempt < attempt || seg.First != seq+1 || seg.Attempt > log.Attempt {
			t.Errorf("segment %d-%d follows %d-%d in a run of %d attempts", seg.Attempt, seg.First, attempt, seq, log.Attempt)
		}
		seq = seg.Last
	}
	if log.State.Terminal() && !log.More && (attempt != log.Attempt || seq != log.LastSeq) {
		t.Errorf("%s at %d-%d, but the log ends at %d-%d", log.State, log.Attempt, log.LastSeq, attempt, seq)
	}
}

// check compares the store with what it acknowledged.
func (w *world) check(t *testing.T) {
	for h, n := range w.given {
		if n != 1 {
			t.Errorf("attempt %d of %s was given out %d times", h.Attempt, h.Run, n)
		}
	}
	holders := map[string]uuid.UUID{}
	for _, id := range w.runs {
		r, log := w.load(t, id), w.tail(t, run.Tail{Run: id})
		inOrder(t, log)
		var want []run.Segment
		for attempt := 1; attempt <= r.Attempt; attempt++ {
			if writer := w.holds[run.Hold{Run: id, Attempt: attempt}]; writer != nil {
				want = append(want, writer.stored...)
			} else {
				t.Errorf("attempt %d of %s was given to nobody", attempt, id)
			}
		}
		ends := w.ends[id]
		if len(ends) > 1 || r.State.Terminal() != (len(ends) == 1) {
			t.Errorf("run %s is %s with %d acknowledged ends", id, r.State, len(ends))
			continue
		}
		for _, f := range ends {
			want = append(want, *f.Segment)
			w.checkEnd(t, r, f)
		}
		sameSegments(t, log.Segments, want)
		if r.Key == "" {
			continue
		}
		if other, taken := holders[r.Key]; taken {
			t.Errorf("runs %s and %s have one key", id, other)
		}
		holders[r.Key] = id
	}
	if len(w.runs) < randomKeys || !slices.ContainsFunc(w.runs, func(id uuid.UUID) bool { return len(w.ends[id]) > 0 }) {
		t.Errorf("%d runs: the test tests nothing", len(w.runs))
	}
}

func (w *world) checkEnd(t *testing.T, r run.Record, f run.Finish) {
	t.Helper()
	if r.State != f.State || r.Attempt != f.Attempt || r.LastSeq != f.LastSeq {
		t.Errorf("run %s is %s at %d-%d; acknowledged %s at %d-%d", r.ID, r.State, r.Attempt, r.LastSeq, f.State, f.Attempt, f.LastSeq)
	}
	answer, err := w.Answer(t.Context(), r.ID)
	if err != nil || answer.Content != f.Message.Content {
		t.Errorf("answer %q, %v; acknowledged %q", answer.Content, err, f.Message.Content)
	}
	if w.o.Events == nil {
		return
	}
	if types := w.o.Events(t, w.Store, r.ID); len(types) != 2 {
		t.Errorf("events %q of one run", types)
	}
}
