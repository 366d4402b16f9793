package storetest

import (
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

func finishTests() []test {
	return []test{
		{"stores everything", finishAll},
		{"in every terminal state", finishStates},
		{"twice changes nothing", finishTwice},
		{"is fenced", finishFenced},
		{"has one end among many", finishRace},
		{"many at once", finishMany},
		{"frees a key for the next claim", finishFreesKey},
		{"leaves nothing when it fails", finishFails},
		{"needs no segment", finishBare},
	}
}

func finishAll(t *testing.T, s suite) {
	r := s.start(t, keyed("ann", "hello", "k"))
	head := segment(r, 1, 6, "head")
	s.appendOne(t, head)
	f := ending(r, "the answer")
	f.LastSeq = 9
	f.Segment = &run.Segment{Run: r.ID, Attempt: 1, First: 7, Last: 9, Data: []byte("tail\x00")}
	f.Result = json.RawMessage(`{"finish_reason":"stop","content_bytes":10}`)
	f.Message.Usage.Source = record.Estimated
	f.Events = append(f.Events, record.Event{
		ID: newID(), Type: "provider_retry", TraceID: r.TraceID, RunID: r.ID, Data: json.RawMessage(`{"n":1}`),
	})
	s.finish(t, f, true)

	got := s.load(t, r.ID)
	want := r
	want.State, want.LastSeq, want.Result = run.Completed, 9, f.Result
	sameRecord(t, got, want)
	if got.FinishedAt.Before(got.CreatedAt) || got.FinishedAt.IsZero() {
		t.Errorf("created %v, finished %v", got.CreatedAt, got.FinishedAt)
	}
	answer, err := s.Answer(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	sameMessage(t, answer, *f.Message)
	log := s.tail(t, run.Tail{Run: r.ID})
	sameSegments(t, log.Segments, []run.Segment{head, *f.Segment})
	if log.State != run.Completed || log.LastSeq != 9 || log.Attempt != 1 {
		t.Errorf("tail: state %s, attempt %d, last %d", log.State, log.Attempt, log.LastSeq)
	}
	if s.o.Events != nil {
		types := s.o.Events(t, s.Store, r.ID)
		if slices.Sort(types); !slices.Equal(types, []string{"chat_done", "chat_started", "provider_retry"}) {
			t.Errorf("events %q", types)
		}
	}
}

func finishStates(t *testing.T, s suite) {
	for _, state := range []run.State{run.Completed, run.Failed, run.Cancelled, run.Interrupted} {
		r := s.start(t, turn("ann", "x"))
		f := ending(r, "text")
		f.State, f.Message.Usage = state, nil
		f.Result, f.Error = nil, json.RawMessage(`{"code":"cancelled","retryable":false}`)
		s.finish(t, f, true)
		got := s.load(t, r.ID)
		if got.State != state || got.Lapsed {
			t.Errorf("state %s, lapsed %v; want %s", got.State, got.Lapsed, state)
		}
		sameJSON(t, "error", got.Error, f.Error)
		sameJSON(t, "result", got.Result, nil)
		answer, err := s.Answer(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		sameMessage(t, answer, *f.Message)
	}
}

func finishTwice(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	f := ending(r, "the answer")
	s.finish(t, f, true)
	first := s.load(t, r.ID)
	// The caller does not know whether it was stored, and asks again.
	s.finish(t, f, true)
	done, err := s.FinishMany(t.Context(), []run.Finish{f, f})
	if err != nil || !slices.Equal(done, []bool{true, true}) {
		t.Errorf("again, twice: %v, %v", done, err)
	}
	// Another end of the same attempt came too late.
	other := ending(r, "another answer")
	other.State = run.Cancelled
	s.finish(t, other, false)

	again := s.load(t, r.ID)
	sameRecord(t, again, first)
	if !again.FinishedAt.Equal(first.FinishedAt) {
		t.Errorf("finished at %v, then at %v", first.FinishedAt, again.FinishedAt)
	}
	answer, err := s.Answer(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	sameMessage(t, answer, *f.Message)
	sameSegments(t, s.ofLog(t, r), []run.Segment{*f.Segment})
	if s.o.Events != nil {
		if types := s.o.Events(t, s.Store, r.ID); len(types) != 2 {
			t.Errorf("events %q, want one beginning and one end", types)
		}
	}
}

func finishFenced(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	s.appendOne(t, segment(r, 1, 1, "first attempt"))
	newer, _ := s.takeOver(t, hold(r))
	s.finish(t, ending(r, "a zombie's"), false)
	unknown := run.Record{ID: newID(), Attempt: 1}
	bad := ending(unknown, "x")
	bad.Message, bad.Events = nil, nil
	s.finish(t, bad, false)
	ahead := newer
	ahead.Attempt++
	s.finish(t, ending(ahead, "not yet"), false)

	if got := s.load(t, r.ID); got.State != run.Running || got.Attempt != 2 {
		t.Errorf("state %s, attempt %d", got.State, got.Attempt)
	}
	if _, err := s.Answer(t.Context(), r.ID); !errors.Is(err, run.ErrNotFound) {
		t.Errorf("Answer: %v, want ErrNotFound", err)
	}
	s.finish(t, ending(newer, "the answer"), true)
	s.finish(t, ending(r, "a zombie's"), false)
	answer, err := s.Answer(t.Context(), r.ID)
	if err != nil || answer.Content != "the answer" {
		t.Errorf("answer %q, %v", answer.Content, err)
	}
	want := []run.Segment{segment(r, 1, 1, "first attempt"), segment(newer, 1, 2, "the answer")}
	sameSegments(t, s.ofLog(t, r), want)
}

func finishRace(t *testing.T, s suite) {
	const n = 16
	nodes := s.nodes(t, 2)
	for range 4 {
		r := s.start(t, turn("ann", "x"))
		var done atomic.Int32
		together(n, func(i int) {
			f := ending(r, string(rune('a'+i)))
			f.LastSeq, f.Segment.Last = i+1, i+1 // each its own end
			got, err := nodes[i%2].FinishMany(t.Context(), []run.Finish{f})
			if err != nil {
				t.Error(err)
			} else if got[0] {
				done.Add(1)
			}
		})
		if done.Load() != 1 {
			t.Errorf("%d ends of one run, want 1", done.Load())
		}
		answer, err := s.Answer(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		log := s.tail(t, run.Tail{Run: r.ID})
		if len(log.Segments) != 1 || string(log.Segments[0].Data) != answer.Content {
			t.Errorf("the log is not the answer's %q", answer.Content)
		}
	}
}

func finishMany(t *testing.T, s suite) {
	const n = 40
	var finishes []run.Finish
	want := make([]bool, n)
	for i := range n {
		r := s.start(t, turn("ann", "x"))
		f := ending(r, r.ID.String())
		if want[i] = i%5 != 3; !want[i] {
			f.Attempt, f.Segment.Attempt = 7, 7
		}
		finishes = append(finishes, f)
	}
	done, err := s.FinishMany(t.Context(), finishes)
	if err != nil || !slices.Equal(done, want) {
		t.Fatalf("done %v, %v", done, err)
	}
	for i, f := range finishes {
		answer, err := s.Answer(t.Context(), f.Run)
		if want[i] && (err != nil || answer.Content != f.Run.String()) {
			t.Errorf("finish %d: answer %q, %v", i, answer.Content, err)
		}
		if !want[i] && !errors.Is(err, run.ErrNotFound) {
			t.Errorf("finish %d was refused but has an answer: %v", i, err)
		}
		if got := s.load(t, f.Run).State.Terminal(); got != want[i] {
			t.Errorf("finish %d: over %v, want %v", i, got, want[i])
		}
	}
}

func finishFreesKey(t *testing.T, s suite) {
	first := s.start(t, keyed("ann", "hello", "k"))
	f := ending(first, "")
	f.State, f.Message, f.FreeKey = run.Failed, nil, true
	s.finish(t, f, true)
	second := s.start(t, keyed("ann", "hello", "k"))
	// The late repetition of the finish must not free the key of the second run.
	s.finish(t, f, true)
	if got := s.outcome(t, keyed("ann", "hello", "k"), run.Joined); got.Run.ID != second.ID {
		t.Errorf("joined %s, want %s", got.Run.ID, second.ID)
	}
}

func finishFails(t *testing.T, s suite) {
	good, bad := s.start(t, turn("ann", "x")), s.start(t, turn("ann", "x"))
	fine, broken := ending(good, "fine"), ending(bad, "broken")
	broken.Message.ID = s.answeredMessage(t)
	if done, err := s.FinishMany(t.Context(), []run.Finish{fine, broken}); err == nil {
		t.Fatalf("two messages with one id: %v", done)
	}
	for _, r := range []run.Record{good, bad} {
		if got := s.load(t, r.ID); got.State != run.Running {
			t.Errorf("state %s after a finish that failed", got.State)
		}
		sameSegments(t, s.ofLog(t, r), nil)
	}
	s.finish(t, fine, true)
	broken.Message.ID = newID()
	s.finish(t, broken, true)
}

// answeredMessage is the id of a stored answer.
func (s suite) answeredMessage(t *testing.T) (id [16]byte) {
	t.Helper()
	r := s.answered(t, turn("ann", "x"), "text")
	m, err := s.Answer(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	return m.ID
}

func finishBare(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	s.appendOne(t, segment(r, 1, 2, "all of it"))
	s.finish(t, run.Finish{Run: r.ID, Attempt: 1, State: run.Failed, LastSeq: 2}, true)
	got := s.load(t, r.ID)
	if got.State != run.Failed || got.LastSeq != 2 || len(got.Result) > 0 || len(got.Error) > 0 {
		t.Errorf("finished %+v", got)
	}
	sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 1, 2, "all of it")})
}
