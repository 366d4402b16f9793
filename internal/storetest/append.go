package storetest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/agentedge/agentedge/internal/run"
)

func appendTests() []test {
	return []test{
		{"stores many runs' segments", appendMany},
		{"changes nothing twice", appendTwice},
		{"keeps the longer stretch", appendLonger},
		{"is fenced", appendFenced},
		{"keeps every byte", appendBytes},
		{"goes on after a lapse", appendLapsed},
	}
}

// ofLog is a whole log.
func (s suite) ofLog(t *testing.T, r run.Record) []run.Segment {
	t.Helper()
	got := s.tail(t, run.Tail{Run: r.ID})
	if got.More {
		t.Fatal("a small log came in parts")
	}
	return got.Segments
}

func appendMany(t *testing.T, s suite) {
	const runs, each = 20, 5
	var batches [each][]run.Segment
	want := map[run.Hold][]run.Segment{}
	var records []run.Record
	for range runs {
		r := s.start(t, turn("ann", "x"))
		records = append(records, r)
		for i := range each {
			seg := segment(r, 2*i+1, 2*i+2, r.ID.String()+string(rune('a'+i)))
			batches[i] = append(batches[i], seg)
			want[hold(r)] = append(want[hold(r)], seg)
		}
	}
	// Two stretches of each run travel together.
	for _, b := range [][]run.Segment{batches[0], append(batches[1], batches[2]...), batches[3], batches[4]} {
		lost, err := s.AppendMany(t.Context(), b)
		if err != nil || len(lost) > 0 {
			t.Fatalf("AppendMany: lost %v, %v", lost, err)
		}
	}
	for _, r := range records {
		sameSegments(t, s.ofLog(t, r), want[hold(r)])
	}
}

func appendTwice(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	first, other := segment(r, 1, 3, "once"), segment(r, 1, 3, "again")
	for _, batch := range [][]run.Segment{{first, first}, {other}, {other, segment(r, 4, 4, "next")}} {
		lost, err := s.AppendMany(t.Context(), batch)
		if err != nil || len(lost) > 0 {
			t.Fatalf("AppendMany: lost %v, %v", lost, err)
		}
	}
	sameSegments(t, s.ofLog(t, r), []run.Segment{first, segment(r, 4, 4, "next")})
}

// appendLonger: after an unknown outcome the writer sends what it had sent, and
// what came since; so does the end.
func appendLonger(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	short, longer, longest := segment(r, 4, 6, "456"), segment(r, 4, 8, "45678"), segment(r, 4, 11, "4567890e")
	for _, batch := range [][]run.Segment{{segment(r, 1, 3, "123")}, {short}, {longer}, {short}, {longer, short}} {
		lost, err := s.AppendMany(t.Context(), batch)
		if err != nil || len(lost) > 0 {
			t.Fatalf("AppendMany: lost %v, %v", lost, err)
		}
	}
	sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 1, 3, "123"), longer})
	f := ending(r, "done")
	f.Segment, f.LastSeq = &longest, 11
	s.finish(t, f, true)
	sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 1, 3, "123"), longest})

	// Both in one batch, the shorter first and last.
	for _, batch := range [][]run.Segment{{short, longer}, {longer, short}} {
		r := s.start(t, turn("ann", "x"))
		for i := range batch {
			batch[i].Run = r.ID
		}
		if lost, err := s.AppendMany(t.Context(), batch); err != nil || len(lost) > 0 {
			t.Fatalf("AppendMany: lost %v, %v", lost, err)
		}
		sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 4, 8, "45678")})
	}
}

func appendFenced(t *testing.T, s suite) {
	mine, over := s.start(t, turn("ann", "x")), s.answered(t, turn("ann", "x"), "done")
	taken := s.start(t, leased(turn("ann", "x"), lapsed))
	newer, _ := s.takeOver(t, hold(taken))
	unknown := run.Record{ID: newID(), Attempt: 1}
	ahead := mine
	ahead.Attempt = 2

	good := segment(mine, 1, 1, "good")
	lost, err := s.AppendMany(t.Context(), []run.Segment{
		segment(over, 3, 3, "after the end"), segment(taken, 1, 1, "zombie"), good,
		segment(unknown, 1, 1, "nobody's"), segment(ahead, 1, 1, "not yet"), segment(taken, 2, 2, "zombie"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []run.Hold{hold(over), hold(taken), hold(unknown), hold(ahead)} {
		if !slices.Contains(lost, want) {
			t.Errorf("lost %v lacks %v", lost, want)
		}
	}
	if slices.Contains(lost, hold(mine)) {
		t.Errorf("lost %v has a run that is held", lost)
	}
	sameSegments(t, s.ofLog(t, mine), []run.Segment{good})
	sameSegments(t, s.ofLog(t, taken), nil)
	if got := s.ofLog(t, over); len(got) != 1 {
		t.Errorf("%d segments after a write behind the end, want 1", len(got))
	}
	if s.appendOne(t, segment(newer, 1, 1, "the new one's")) {
		t.Error("the new holder's segment was refused")
	}
}

// everyByte is 64 KiB in which each byte follows each.
func everyByte() []byte {
	b := make([]byte, 0, 1<<16)
	for i := range 256 {
		for j := range 256 {
			b = append(b, byte(i^j))
		}
	}
	return b
}

func appendBytes(t *testing.T, s suite) {
	r := s.start(t, turn("ann", "x"))
	want := []run.Segment{
		segment(r, 1, 1, "\x00"),
		segment(r, 2, 2, string(everyByte())),
		segment(r, 3, 900, string(bytes.Repeat(everyByte(), 16))),
		segment(r, 901, 901, "\xff\xfe\x00\x00"),
	}
	lost, err := s.AppendMany(t.Context(), want)
	if err != nil || len(lost) > 0 {
		t.Fatalf("AppendMany: lost %v, %v", lost, err)
	}
	sameSegments(t, s.ofLog(t, r), want)
}

// appendLapsed: a lapse alone takes nothing from a holder.
func appendLapsed(t *testing.T, s suite) {
	r := s.start(t, leased(turn("ann", "x"), lapsed))
	if s.appendOne(t, segment(r, 1, 1, "late")) {
		t.Error("a lapsed run that nobody took was refused")
	}
	f := ending(r, "done")
	f.Segment, f.LastSeq = &run.Segment{Run: r.ID, Attempt: 1, First: 2, Last: 2, Data: []byte("end")}, 2
	s.finish(t, f, true)
	sameSegments(t, s.ofLog(t, r), []run.Segment{segment(r, 1, 1, "late"), segment(r, 2, 2, "end")})
}
