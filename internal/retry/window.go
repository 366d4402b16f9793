package retry

import "time"

// span is how far the sliding counters look back.
const span = 10 * time.Second

const slots = 20

// A window counts events of the last span, and how many of them were marked, in
// slots of half a second. It forgets a slot at a time, so it covers between
// span less one slot and span. Its owner locks it.
type window struct {
	start  time.Time // of tick 0; differences to it use the monotonic clock
	tick   int64
	total  int
	marked int
	ring   [slots]struct{ total, marked int }
}

// advance forgets what is older than span. A `now` that lies before an earlier
// one, as concurrent callers may pass, counts as the earlier one.
func (w *window) advance(now time.Time) {
	if w.start.IsZero() {
		w.start = now
	}
	tick := int64(now.Sub(w.start) / (span / slots))
	if tick >= w.tick+slots {
		*w = window{start: w.start, tick: tick}
		return
	}
	for w.tick < tick {
		w.tick++
		old := &w.ring[w.tick%slots]
		w.total -= old.total
		w.marked -= old.marked
		old.total, old.marked = 0, 0
	}
}

func (w *window) add(total, marked int) {
	slot := &w.ring[w.tick%slots]
	slot.total += total
	slot.marked += marked
	w.total += total
	w.marked += marked
}
