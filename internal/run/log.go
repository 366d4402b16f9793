package run

import (
	"errors"
	"math"
	"sync"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/fault"
)

const (
	maxLogBytes = 32 << 20 // what one run may hold in memory
	maxSegment  = 1 << 20  // what one segment takes up, but for its last frame
)

// ErrLogFull says that a run has produced more than a log may hold.
var ErrLogFull = errors.New("run log is full")

// errOver says that nothing more can be appended: the run is over, or a newer
// attempt has begun.
var errOver = errors.New("attempt is over")

// part is the frames of one attempt. The bytes of a frame never change, so a
// reader may keep slices of data while more is appended.
type part struct {
	attempt int
	data    []byte
	ends    []uint32 // end of frame i+1 in data
	kinds   []Kind
	stored  int // frames up to this seq are known to be in the store
}

func (p *part) last() int { return len(p.ends) }

func (p *part) frame(seq int) Frame {
	start := uint32(0)
	if seq > 1 {
		start = p.ends[seq-2]
	}
	end := p.ends[seq-1]
	return Frame{Attempt: p.attempt, Seq: seq, Kind: p.kinds[seq-1], Data: p.data[start:end:end]}
}

func (p *part) append(k Kind, data []byte) {
	if p.ends == nil { // most answers fit these without growing
		p.data, p.ends, p.kinds = make([]byte, 0, 512), make([]uint32, 0, 64), make([]Kind, 0, 64)
	}
	p.data = append(p.data, data...)
	p.ends = append(p.ends, uint32(len(p.data)))
	p.kinds = append(p.kinds, k)
}

// segment packs the frames after p.stored, up to max bytes, nil if there are none.
func (p *part) segment(run uuid.UUID, max int) *Segment {
	if p.stored >= p.last() {
		return nil
	}
	s := &Segment{Run: run, Attempt: p.attempt, First: p.stored + 1, Last: p.stored}
	size := 1
	for s.Last < p.last() && size < max {
		s.Last++
		size += len(p.frame(s.Last).Data) + 4
	}
	s.Data = append(make([]byte, 0, size), codecVersion)
	for seq := s.First; seq <= s.Last; seq++ {
		f := p.frame(seq)
		s.Data = appendEntry(s.Data, f.Kind, f.Data)
	}
	return s
}

// Log holds the frames of one run in memory, attempt by attempt, and wakes the
// readers that tail it. It is written by the run's job on the node that holds
// it, or by the tailer on others.
type Log struct {
	id uuid.UUID

	mu      sync.Mutex
	parts   []*part // in order of attempt
	bytes   int
	over    bool         // the terminal frame is in
	sealed  bool         // this node gave the run up: it appends nothing more
	broken  *fault.Error // why readers cannot be served at present, nil if they can
	readers map[*Reader]struct{}
	left    func() // called without the lock when the last reader has gone
}

// NewLog makes an empty log of a run.
func NewLog(id uuid.UUID) *Log {
	return &Log{id: id, readers: map[*Reader]struct{}{}}
}

// Begin starts an attempt: the parts before it are over.
func (l *Log) Begin(attempt int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts = append(l.parts, &part{attempt: attempt})
	l.wake()
}

// Append adds a frame to the newest attempt, attempt 1 if there is none. It
// returns the bytes that wait to be stored.
func (l *Log) Append(k Kind, data []byte) (unstored int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.sealed && !k.Terminal() {
		return 0, errOver
	}
	if l.bytes+len(data) > maxLogBytes && !k.Terminal() {
		return 0, ErrLogFull
	}
	if len(l.parts) == 0 {
		l.parts = append(l.parts, &part{attempt: 1})
	}
	p := l.parts[len(l.parts)-1]
	p.append(k, data)
	l.bytes += len(data)
	l.over = k.Terminal()
	l.broken = nil
	l.wake()
	return p.unstored(), nil
}

func (p *part) unstored() int {
	if p.stored == 0 {
		return len(p.data)
	}
	return len(p.data) - int(p.ends[p.stored-1])
}

// unstored packs what the newest attempt has not in the store.
func (l *Log) unstored() *Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.parts) == 0 {
		return nil
	}
	return l.parts[len(l.parts)-1].segment(l.id, maxSegment)
}

// ending packs all that is unstored together with a terminal frame that readers
// must not see yet. The frame's place is right behind what was said, however much
// that is: most of it is stored by then.
func (l *Log) ending(k Kind, data []byte) *Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[len(l.parts)-1]
	s := p.segment(l.id, math.MaxInt)
	if s == nil {
		s = &Segment{Run: l.id, Attempt: p.attempt, First: p.last() + 1, Last: p.last(), Data: []byte{codecVersion}}
	}
	s.Last++
	s.Data = appendEntry(s.Data, k, data)
	return s
}

// stored notes that the frames of a segment are in the store.
func (l *Log) stored(s Segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		if p.attempt == s.Attempt && s.Last > p.stored && s.Last <= p.last() {
			p.stored = s.Last
		}
	}
}

// merge adds the frames of a stored segment that the log lacks. Segments come in
// order; one may overlap what is here.
func (l *Log) merge(s Segment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil
	}
	var p *part
	for _, have := range l.parts {
		if have.attempt == s.Attempt {
			p = have
		}
	}
	if p == nil {
		p = &part{attempt: s.Attempt}
		l.parts = append(l.parts, p)
	}
	if s.First > p.last()+1 {
		return errCodec
	}
	seq := s.First
	err := decodeSegment(s, func(k Kind, data []byte) {
		if seq == p.last()+1 {
			p.append(k, data)
			l.bytes += len(data)
			l.over = l.over || k.Terminal()
		}
		seq++
	})
	p.stored = max(p.stored, min(s.Last, p.last()))
	l.broken = nil
	l.wake()
	return err
}

// position is where a tail of the store goes on.
func (l *Log) position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.parts) == 0 {
		return Position{}
	}
	p := l.parts[len(l.parts)-1]
	return Position{Attempt: p.attempt, Seq: p.last()}
}

// breakOff ends the responses of all readers of now, and of those that come
// until the log moves on, with an error that has no id.
func (l *Log) breakOff(why *fault.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.broken = why
	l.wake()
}

// seal is breakOff for a run that this node has given up: a handler that has not
// noticed yet must not take back what readers were told.
func (l *Log) seal(why *fault.Error) {
	l.mu.Lock()
	l.sealed = true
	l.mu.Unlock()
	l.breakOff(why)
}

// wake tells every reader to look again. The lock is held.
func (l *Log) wake() {
	for r := range l.readers {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// isOver tells whether the terminal frame is in.
func (l *Log) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// Frames calls yield for every frame of one attempt; the newest that has frames
// for attempt 0. It is for a run's own handler, which reads what it has written.
func (l *Log) Frames(attempt int, yield func(Frame)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.parts) - 1; i >= 0; i-- {
		p := l.parts[i]
		if p.attempt == attempt || attempt == 0 && p.last() > 0 {
			for seq := 1; seq <= p.last(); seq++ {
				yield(p.frame(seq))
			}
			return
		}
	}
}
