package run

import (
	"github.com/agentedge/agentedge/internal/fault"
)

// Position is a place in a run's log: after frame Seq of Attempt. The zero
// Position is before the first frame.
type Position struct {
	Attempt int
	Seq     int
}

// Reader tails one log from a position. It is used by one goroutine.
type Reader struct {
	log  *Log
	at   Position
	wake chan struct{}
}

// Wake receives when there may be something new to Take.
func (r *Reader) Wake() <-chan struct{} { return r.wake }

// Take appends up to max bytes of frames that the log has after the reader's
// position, at least one if there is any. over: the last frame is terminal, or
// was taken before. broken, when nothing is taken, ends this response only.
func (r *Reader) Take(dst []Frame, max int) (frames []Frame, over bool, broken *fault.Error) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	frames = dst
	size := 0
	for i, p := range l.parts {
		if p.attempt < r.at.Attempt {
			continue
		}
		if p.attempt > r.at.Attempt {
			r.at = Position{Attempt: p.attempt}
		}
		for r.at.Seq < p.last() {
			if len(frames) > len(dst) && size >= max {
				return frames, false, nil
			}
			r.at.Seq++
			f := p.frame(r.at.Seq)
			frames = append(frames, f)
			size += len(f.Data)
		}
		if newest := i == len(l.parts)-1; newest && l.over {
			return r.terminal(p, frames), true, nil
		}
	}
	if l.over {
		// The position is in an attempt that never was.
		p := l.parts[len(l.parts)-1]
		r.at = Position{Attempt: p.attempt, Seq: p.last() + 1}
		return r.terminal(p, frames), true, nil
	}
	if len(frames) == len(dst) {
		broken = l.broken
	}
	return frames, false, broken
}

// terminal makes sure that a reader whose position was ahead of the log's end
// still gets the terminal frame.
func (r *Reader) terminal(p *part, frames []Frame) []Frame {
	if r.at.Seq > p.last() {
		r.at.Seq = p.last()
		return append(frames, p.frame(p.last()))
	}
	return frames
}

// Frames calls yield for each frame of an attempt, whether the reader has passed
// it or not.
func (r *Reader) Frames(attempt int, yield func(Frame)) { r.log.Frames(attempt, yield) }

// Close ends the reader.
func (r *Reader) Close() {
	l := r.log
	l.mu.Lock()
	_, had := l.readers[r]
	delete(l.readers, r)
	last := had && len(l.readers) == 0
	left := l.left
	l.mu.Unlock()
	if last && left != nil {
		left()
	}
}

// Reader opens a reader of the log at a position.
func (l *Log) Reader(at Position) *Reader {
	r := &Reader{log: l, at: at, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readers[r] = struct{}{}
	r.wake <- struct{}{}
	return r
}

// readerCount tells how many readers tail the log here.
func (l *Log) readerCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.readers)
}
