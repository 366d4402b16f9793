package run

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
)

// model is a log as it should be: all frames in order. The log under test is
// written as its holder does, and the mirror gets segments of it.
type model struct {
	*testing.T
	rng     *rand.Rand
	frames  []Frame
	holder  *Log
	mirror  *Log
	waiting []Segment // in order; the mirror has not got them yet
	merged  []Segment
	readers []*reader
}

// reader is one client of either log, and the place it began at.
type reader struct {
	at  Position
	log *Log
	r   *Reader
	got []Frame
}

// TestLogModel does random things to a log: every reader, wherever it began and
// however often it was broken off, has exactly the frames that follow its place.
func TestLogModel(t *testing.T) {
	for seed := range uint64(300) {
		id := uuid.New()
		m := &model{T: t, rng: rand.New(rand.NewPCG(seed, 1)), holder: NewLog(id), mirror: NewLog(id)}
		m.holder.Begin(1)
		steps := m.rng.IntN(200)
		for range steps {
			m.step()
		}
		m.append(Done)
		m.flush()
		for len(m.waiting) > 0 {
			m.merge()
		}
		for range 5 {
			m.open()
		}
		for i, r := range m.readers {
			for over := false; !over; {
				over = m.take(r)
			}
			m.check(seed, i, r)
		}
		if t.Failed() {
			return
		}
	}
}

func (m *model) step() {
	switch n := m.rng.IntN(100); {
	case n < 40:
		m.append(kindText)
	case n < 43:
		m.flush() // a holder stores an attempt before it begins the next
		m.holder.Begin(m.attempt() + 1 + m.rng.IntN(2))
	case n < 55:
		m.flush()
	case n < 70:
		m.merge()
	case n < 75:
		m.open()
	case n < 78:
		m.pick().breakOff(storeAway(api.StorageUnavailable))
	default:
		if len(m.readers) > 0 {
			m.take(m.readers[m.rng.IntN(len(m.readers))])
		}
	}
}

func (m *model) attempt() int { return m.holder.position().Attempt }

func (m *model) pick() *Log { return []*Log{m.holder, m.mirror}[m.rng.IntN(2)] }

func (m *model) append(k Kind) {
	at := m.holder.position()
	data := []byte(fmt.Sprintf("%d-%d ", at.Attempt, at.Seq+1))[:m.rng.IntN(4)]
	if k.Terminal() {
		// Its frame goes to the store before it is shown.
		m.waiting = append(m.waiting, *m.holder.ending(k, data))
	}
	if _, err := m.holder.Append(k, data); err != nil {
		m.Fatal(err)
	}
	m.frames = append(m.frames, Frame{Attempt: at.Attempt, Seq: at.Seq + 1, Kind: k, Data: data})
}

// flush stores what is unstored; now and then nobody knows that it did.
func (m *model) flush() {
	s := m.holder.unstored()
	if s == nil {
		return
	}
	m.waiting = append(m.waiting, *s)
	if m.rng.IntN(4) > 0 {
		m.holder.stored(*s)
	}
}

// merge gives the mirror its next segment, and sometimes an old one again.
func (m *model) merge() {
	if len(m.merged) > 0 && m.rng.IntN(4) == 0 {
		m.mustMerge(m.merged[m.rng.IntN(len(m.merged))])
	}
	if len(m.waiting) > 0 {
		m.mustMerge(m.waiting[0])
		m.merged = append(m.merged, m.waiting[0])
		m.waiting = m.waiting[1:]
	}
}

func (m *model) mustMerge(s Segment) {
	if err := m.mirror.merge(s); err != nil {
		m.Fatalf("merge %d-%d..%d: %v", s.Attempt, s.First, s.Last, err)
	}
}

// open begins a reader at the beginning, at a frame, or beyond all of them.
func (m *model) open() {
	r := &reader{log: m.pick()}
	switch n := m.rng.IntN(4); {
	case n == 0 || len(m.frames) == 0:
	case n == 1:
		r.at = Position{1 + m.rng.IntN(m.attempt()+2), m.rng.IntN(60)}
	default:
		f := m.frames[m.rng.IntN(len(m.frames))]
		r.at = Position{f.Attempt, f.Seq}
	}
	r.r = r.log.Reader(r.at)
	m.readers = append(m.readers, r)
}

// take reads a little; one that was broken off resumes after its last frame.
func (m *model) take(r *reader) (over bool) {
	before := len(r.got)
	limit := m.rng.IntN(20)
	frames, over, why := r.r.Take(r.got, limit)
	r.got = frames
	size := 0
	for _, f := range r.got[before:] {
		size += len(f.Data)
	}
	if n := len(r.got) - before; n > 1 && size-len(r.got[len(r.got)-1].Data) >= limit && limit > 0 {
		m.Errorf("%d bytes in %d frames for a limit of %d", size, n, limit)
	}
	if why == nil {
		return over
	}
	if over || len(r.got) > before {
		m.Errorf("broken off with %d frames, over %v", len(r.got)-before, over)
	}
	r.r.Close()
	at := r.at
	if n := len(r.got); n > 0 {
		at = Position{r.got[n-1].Attempt, r.got[n-1].Seq}
	}
	r.r = r.log.Reader(at)
	return false
}

func (m *model) check(seed uint64, i int, r *reader) {
	var want []Frame
	for _, f := range m.frames {
		if f.Attempt > r.at.Attempt || f.Attempt == r.at.Attempt && f.Seq > r.at.Seq {
			want = append(want, f)
		}
	}
	last := m.frames[len(m.frames)-1]
	if len(want) == 0 && r.at != (Position{last.Attempt, last.Seq}) {
		want = []Frame{last} // the position is beyond the end: the end is what there is
	}
	if got, want := fmt.Sprint(r.got), fmt.Sprint(want); got != want {
		m.Errorf("seed %d, reader %d after %v: read %s, want %s", seed, i, r.at, got, want)
	}
}

// TestLogTogether reads a log from many goroutines while it grows.
func TestLogTogether(t *testing.T) {
	const frames, each = 3000, 6
	log, mirror := NewLog(uuid.New()), NewLog(uuid.New())
	var all sync.WaitGroup
	for i := range 2 * each {
		r := []*Log{log, mirror}[i%2].Reader(Position{Attempt: 1, Seq: i})
		all.Go(func() {
			defer r.Close()
			next := i + 1
			for range r.Wake() {
				for {
					got, over, _ := r.Take(nil, 100)
					for _, f := range got {
						if f.Seq != next || f.Kind != Done && string(f.Data) != fmt.Sprint(f.Seq) {
							t.Errorf("frame %d is %q, want %d", f.Seq, f.Data, next)
						}
						next++
					}
					if over {
						if next != frames+2 {
							t.Errorf("over after frame %d", next-1)
						}
						return
					}
					if len(got) == 0 {
						break
					}
				}
			}
		})
	}
	for seq := 1; seq <= frames; seq++ {
		if _, err := log.Append(kindText, fmt.Append(nil, seq)); err != nil {
			t.Fatal(err)
		}
		if seq%7 == 0 {
			s := log.unstored()
			log.stored(*s)
			if err := mirror.merge(*s); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := log.ending(Done, []byte("done"))
	if err := mirror.merge(*end); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(Done, []byte("done")); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if log.readerCount()+mirror.readerCount() != 0 {
		t.Error("readers are left")
	}
}

// TestLogIsOver: nothing follows the end.
func TestLogIsOver(t *testing.T) {
	log := NewLog(uuid.New())
	if _, err := log.Append(Error, []byte("end")); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{kindText, Done, Error} {
		if _, err := log.Append(k, nil); !errors.Is(err, errOver) {
			t.Errorf("append of kind %d after the end: %v", k, err)
		}
	}
	log.breakOff(storeAway(api.PersistFailed))
	frames, over, why := log.Reader(Position{}).Take(nil, 0)
	if len(frames) != 1 || !over || why != nil {
		t.Errorf("%d frames, over %v, broken %v", len(frames), over, why)
	}
}

// TestFrames: a handler reads what was written, attempt by attempt.
func TestFrames(t *testing.T) {
	log := NewLog(uuid.New())
	text := func(attempt int) (s string) {
		log.Frames(attempt, func(f Frame) { s += fmt.Sprintf("%d-%d:%s ", f.Attempt, f.Seq, f.Data) })
		return s
	}
	for _, word := range []string{"a", "b"} {
		log.Append(kindText, []byte(word))
	}
	log.Begin(2)
	if got := text(0); got != "1-1:a 1-2:b " {
		t.Errorf("the newest attempt with frames: %q", got)
	}
	log.Append(kindText, []byte("c"))
	for attempt, want := range []string{"2-1:c ", "1-1:a 1-2:b ", "2-1:c ", ""} {
		if got := text(attempt); got != want {
			t.Errorf("attempt %d: %q, want %q", attempt, got, want)
		}
	}
}

// BenchmarkFrame is what one frame costs between a provider's chunk and a
// reader's encoder: an Append and a Take.
func BenchmarkFrame(b *testing.B) {
	const perRun = 50
	data := []byte("a token or two ")
	frames := make([]Frame, 0, perRun)
	b.ReportAllocs()
	runs := 0
	for b.Loop() {
		log := NewLog(uuid.Nil)
		r := log.Reader(Position{})
		for range perRun {
			if _, err := log.Append(kindText, data); err != nil {
				b.Fatal(err)
			}
			<-r.Wake()
			frames, _, _ = r.Take(frames[:0], 1<<15)
		}
		r.Close()
		runs++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(runs*perRun), "ns/frame")
}

// TestEndingOfMuch: the terminal frame comes right after the last one said, also
// when frames of a byte each take up more than a segment.
func TestEndingOfMuch(t *testing.T) {
	const frames = 300_000
	l := NewLog(uuid.New())
	l.Begin(1)
	for range frames {
		if _, err := l.Append(kindText, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s := l.ending(Done, []byte("done"))
	if s.First != 1 || s.Last != frames+1 {
		t.Fatalf("the ending has frames %d to %d, want 1 to %d", s.First, s.Last, frames+1)
	}
	stored := NewLog(l.id)
	if err := stored.merge(*s); err != nil || !stored.isOver() {
		t.Errorf("read back: %v, over %v", err, stored.isOver())
	}
}
