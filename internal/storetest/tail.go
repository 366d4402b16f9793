package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

func tailTests() []test {
	return []test{
		{"resumes anywhere", tailPositions},
		{"of many runs", tailMany},
		{"comes in parts", tailParts},
		{"bounds all of an answer", tailBound},
		{"brings the end with its state", tailConsistent},
	}
}

func tailPositions(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	a1, a2 := segment(r, 1, 3, "one"), segment(r, 4, 10, "two")
	s.appendOne(t, a1)
	s.appendOne(t, a2)
	two, _ := s.takeOver(t, hold(r))
	if ok, err := s.NextAttempt(t.Context(), hold(two), nodeB, held); !ok || err != nil {
		t.Fatalf("NextAttempt: %v, %v", ok, err)
	}
	three := two
	three.Attempt = 3
	c1, c2 := segment(three, 1, 1, "three"), segment(three, 2, 5, "four")
	s.appendOne(t, c2) // order of arrival is not the order of the log
	s.appendOne(t, c1)
	all := []run.Segment{a1, a2, c1, c2}
	for _, c := range []struct {
		attempt, seq, skip int
	}{
		{0, 0, 0}, {1, 0, 0}, {1, 2, 0}, {1, 3, 1}, {1, 4, 1}, {1, 9, 1}, {1, 10, 2}, {1, 99, 2},
		{2, 0, 2}, {2, 7, 2}, {3, 0, 2}, {3, 1, 3}, {3, 4, 3}, {3, 5, 4}, {3, 50, 4}, {4, 0, 4},
	} {
		got := s.tail(t, run.Tail{Run: r.ID, Attempt: c.attempt, Seq: c.seq})
		t.Run(fmt.Sprintf("after %d-%d", c.attempt, c.seq), func(t *testing.T) { sameSegments(t, got.Segments, all[c.skip:]) })
		if !got.Found || got.State != run.Running || got.Attempt != 3 || got.LastSeq != 0 || got.LogGone || got.More {
			t.Errorf("after %d-%d: %+v", c.attempt, c.seq, got)
		}
	}
}

func tailMany(t *testing.T, s suite) {
	var tails []run.Tail
	want := map[uuid.UUID]string{}
	for i := range 30 {
		r := s.start(t, turn("ann", "x"))
		want[r.ID] = fmt.Sprint("log ", i)
		if i%3 > 0 {
			s.appendOne(t, segment(r, 1, 2, want[r.ID]))
		}
		if i%3 > 1 {
			s.finish(t, run.Finish{Run: r.ID, Attempt: 1, State: run.Completed, LastSeq: 2}, true)
		}
		tails = append(tails, run.Tail{Run: r.ID})
	}
	unknown := newID()
	tails = append(tails, run.Tail{Run: unknown}, run.Tail{Run: tails[1].Run, Attempt: 1, Seq: 2})
	got, err := s.Tails(t.Context(), tails)
	if err != nil || len(got) != len(tails) {
		t.Fatalf("%d results for %d tails, %v", len(got), len(tails), err)
	}
	for i, r := range got[:30] {
		if r.Run != tails[i].Run || !r.Found || r.More || len(r.Segments) != min(i%3, 1) {
			t.Fatalf("tail %d: %+v", i, r)
		}
		if len(r.Segments) > 0 && string(r.Segments[0].Data) != want[r.Run] {
			t.Errorf("tail %d has another run's log", i)
		}
		if r.State.Terminal() != (i%3 > 1) {
			t.Errorf("tail %d: state %s", i, r.State)
		}
	}
	if got[30].Found || got[30].Run != unknown || len(got[30].Segments) > 0 {
		t.Errorf("an unknown run: %+v", got[30])
	}
	if !got[31].Found || len(got[31].Segments) > 0 {
		t.Errorf("the second tail of one run: %+v", got[31])
	}
}

// answerBound is the most that one answer of Tails may bring: "a few MiB".
const answerBound = 8 << 20

func size(results []run.TailResult) (n int) {
	for _, r := range results {
		for _, seg := range r.Segments {
			n += len(seg.Data)
		}
	}
	return n
}

// follow tails a set of runs to where their logs end now.
func (s suite) follow(t *testing.T, tails []run.Tail) (logs [][]run.Segment, calls int) {
	t.Helper()
	logs = make([][]run.Segment, len(tails))
	for more := true; more; calls++ {
		results, err := s.Tails(t.Context(), tails)
		if err != nil {
			t.Fatal(err)
		}
		if n := size(results); n > answerBound {
			t.Fatalf("%d bytes in one answer", n)
		}
		more = false
		for i, r := range results {
			logs[i] = append(logs[i], r.Segments...)
			if n := len(r.Segments); n > 0 {
				if first := r.Segments[0]; first.Attempt == tails[i].Attempt && first.Last <= tails[i].Seq {
					t.Fatalf("after frame %d came segment %d-%d", tails[i].Seq, first.First, first.Last)
				}
				tails[i].Attempt, tails[i].Seq = r.Segments[n-1].Attempt, r.Segments[n-1].Last
			}
			more = more || r.More
		}
		if more && size(results) == 0 {
			t.Fatal("there is more, but none of it comes")
		}
	}
	return logs, calls
}

func tailParts(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	var want []run.Segment
	for i := range 24 {
		seg := segment(r, i*10+1, i*10+10, string(bytes.Repeat([]byte{byte(i), 0}, 1<<19)))
		want = append(want, seg)
		s.appendOne(t, seg)
	}
	logs, calls := s.follow(t, []run.Tail{{Run: r.ID}})
	sameSegments(t, logs[0], want)
	if calls < 3 {
		t.Errorf("24 MiB came in %d answers", calls)
	}
}

func tailBound(t *testing.T, s suite) {
	const runs, each = 12, 4
	var tails []run.Tail
	var want [runs][]run.Segment
	for i := range runs {
		r := s.start(t, turn("ann", "x"))
		tails = append(tails, run.Tail{Run: r.ID})
		for k := range each {
			seg := segment(r, k+1, k+1, string(bytes.Repeat([]byte{byte(i), byte(k)}, 1<<18)))
			want[i] = append(want[i], seg)
		}
		if lost, err := s.AppendMany(t.Context(), want[i]); err != nil || len(lost) > 0 {
			t.Fatalf("AppendMany: lost %v, %v", lost, err)
		}
	}
	logs, _ := s.follow(t, tails)
	for i := range runs {
		sameSegments(t, logs[i], want[i])
	}
}

// tailConsistent: a log that grows and ends while it is tailed never has a gap,
// and a terminal state never comes before the last frame.
func tailConsistent(t *testing.T, s suite) {
	const runs, frames = 8, 25
	nodes := s.nodes(t, 2)
	var records []run.Record
	for range runs {
		records = append(records, s.start(t, turn("ann", "x")))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range 2 {
		wg.Go(func() { s.writeLogs(t, nodes[i], records[i*runs/2:(i+1)*runs/2], frames) })
	}
	tails := make([]run.Tail, runs)
	for i, r := range records {
		tails[i].Run = r.ID
	}
	deadline := time.Now().Add(time.Minute)
	for open := runs; open > 0; {
		if time.Now().After(deadline) {
			t.Errorf("%d runs are still open after a minute", open)
			return
		}
		results, err := nodes[1].Tails(t.Context(), tails)
		if err != nil {
			t.Error(err)
			return
		}
		open = 0
		for i, r := range results {
			for _, seg := range r.Segments {
				if seg.First != tails[i].Seq+1 {
					t.Errorf("run %d: frame %d follows %d", i, seg.First, tails[i].Seq)
				}
				tails[i].Attempt, tails[i].Seq = 1, seg.Last
			}
			if !r.State.Terminal() {
				open++
			} else if !r.More && (r.LastSeq != frames || tails[i].Seq != frames) {
				t.Errorf("run %d is %s at frame %d, but the log ends at %d", i, r.State, r.LastSeq, tails[i].Seq)
				return
			}
		}
	}
}

// writeLogs writes every run's frames one by one; the last comes with the end.
func (s suite) writeLogs(t *testing.T, node run.Store, records []run.Record, frames int) {
	for n := 1; n <= frames; n++ {
		var segs []run.Segment
		var ends []run.Finish
		for i, r := range records {
			seg := segment(r, n, n, fmt.Sprint("frame ", n, " of run ", i))
			if segs = append(segs, seg); n == frames {
				ends = append(ends, run.Finish{Run: r.ID, Attempt: 1, State: run.Completed, LastSeq: n, Segment: &seg})
			}
		}
		if n < frames {
			if lost, err := node.AppendMany(t.Context(), segs); err != nil || len(lost) > 0 {
				t.Errorf("AppendMany: lost %v, %v", lost, err)
			}
			continue
		}
		if _, err := node.FinishMany(t.Context(), ends); err != nil {
			t.Errorf("FinishMany: %v", err)
		}
	}
}
