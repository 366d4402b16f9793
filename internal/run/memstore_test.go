package run

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
)

// Mem is a store in memory: the fake behind the tests of this package. It keeps
// the whole contract (conformance_test.go holds it to the same suite as the real
// stores), and its clock is time.Now, so that it lives in synctest bubbles. Each
// Node is one node's handle on it.
type Mem struct {
	mu       sync.Mutex
	aged     time.Duration
	nodes    []*MemNode
	runs     map[uuid.UUID]*memRun
	keys     map[memKey]uuid.UUID
	sessions map[uuid.UUID]string // owner
	messages []record.Message     // in the order in which they were stored
	events   []record.Event
	admitted map[memKey][]time.Time
}

// memKey is the space of an idempotency key or a rate limit, and its name in it.
type memKey struct{ principal, endpoint, key string }

type memRun struct {
	Record
	until    time.Time
	released bool
	readers  time.Time // readers_until
	history  []record.Message
	segments []Segment // by (attempt, first)
	end      *Finish
}

// errData stands for a row that the database refuses.
var errData = errors.New("duplicate id")

// NewMem makes an empty store.
func NewMem() *Mem {
	return &Mem{
		runs: map[uuid.UUID]*memRun{}, keys: map[memKey]uuid.UUID{}, sessions: map[uuid.UUID]string{},
		admitted: map[memKey][]time.Time{},
	}
}

// Age moves the store's clock on.
func (m *Mem) Age(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.aged += d
}

// EventTypes are the types of a run's events, in the order of storing.
func (m *Mem) EventTypes(id uuid.UUID) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var types []string
	for _, e := range m.events {
		if e.RunID == id {
			types = append(types, e.Type)
		}
	}
	return types
}

func (m *Mem) now() time.Time { return time.Now().Add(m.aged) }

// seen is a run as the store shows it.
func (m *Mem) seen(r *memRun) Record {
	rec := r.Record
	rec.Lapsed = rec.State == Running && !r.until.After(m.now())
	return rec
}

// running is the run that a hold names while it is running in that attempt.
func (m *Mem) running(h Hold) *memRun {
	if r := m.runs[h.Run]; r != nil && r.State == Running && r.Attempt == h.Attempt {
		return r
	}
	return nil
}

func (r *memRun) put(s Segment) {
	s.Data = bytes.Clone(s.Data)
	at, found := slices.BinarySearchFunc(r.segments, s, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.Attempt, b.Attempt), cmp.Compare(a.First, b.First))
	})
	switch {
	case !found:
		r.segments = slices.Insert(r.segments, at, s)
	case s.Last > r.segments[at].Last:
		r.segments[at] = s
	}
}

func (m *Mem) appendMany(segments []Segment) (lost []Hold) {
	for _, s := range segments {
		h := Hold{Run: s.Run, Attempt: s.Attempt}
		if r := m.running(h); r != nil {
			r.put(s)
		} else {
			lost = append(lost, h)
		}
	}
	return lost
}

func (m *Mem) finishMany(finishes []Finish) ([]bool, error) {
	for _, f := range finishes {
		if m.running(Hold{Run: f.Run, Attempt: f.Attempt}) != nil && f.Message != nil && m.hasMessage(f.Message.ID) {
			return nil, errData
		}
	}
	done := make([]bool, len(finishes))
	for i := range finishes {
		done[i] = m.finish(&finishes[i])
	}
	return done, nil
}

func (m *Mem) finish(f *Finish) bool {
	r := m.running(Hold{Run: f.Run, Attempt: f.Attempt})
	if r == nil {
		r = m.runs[f.Run]
		return r != nil && r.end != nil && sameEnd(r.end, f)
	}
	kept := *f
	r.end, r.State, r.LastSeq, r.Result, r.Error, r.FinishedAt = &kept, f.State, f.LastSeq, f.Result, f.Error, m.now()
	if f.Segment != nil {
		r.put(*f.Segment)
	}
	if f.FreeKey {
		m.freeKey(r)
	}
	if f.Message != nil {
		m.addMessage(*f.Message, r.SessionID)
	}
	m.addEvents(f.Events)
	return true
}

// sameEnd tells whether b is a again, asked for because its outcome was not known.
func sameEnd(a, b *Finish) bool {
	if a.Attempt != b.Attempt || a.State != b.State || a.LastSeq != b.LastSeq || (a.Segment == nil) != (b.Segment == nil) {
		return false
	}
	return a.Segment == nil || bytes.Equal(a.Segment.Data, b.Segment.Data)
}

func (m *Mem) freeKey(r *memRun) {
	delete(m.keys, memKey{r.Principal, r.Endpoint, r.Key})
	r.Key = ""
}

func (m *Mem) hasMessage(id uuid.UUID) bool {
	return slices.ContainsFunc(m.messages, func(have record.Message) bool { return have.ID == id })
}

func (m *Mem) addMessage(msg record.Message, session uuid.UUID) {
	if owner, ok := m.sessions[session]; ok {
		msg.Owner = owner
	}
	msg.CreatedAt = m.now()
	m.messages = append(m.messages, msg)
}

func (m *Mem) addEvents(events []record.Event) {
	for _, e := range events {
		if e.ID != uuid.Nil && !slices.ContainsFunc(m.events, func(have record.Event) bool { return have.ID == e.ID }) {
			e.CreatedAt = m.now()
			m.events = append(m.events, e)
		}
	}
}

func (m *Mem) nextAttempt(h Hold, node string, lease time.Duration) bool {
	r := m.running(h)
	if r == nil || r.released || r.Node != node {
		return false
	}
	r.Attempt++
	r.Tries++
	r.until = m.now().Add(lease)
	return true
}

func (m *Mem) renewMany(node string, holds []Hold, lease time.Duration) (lost []Hold) {
	for _, h := range holds {
		if r := m.running(h); r != nil && !r.released && r.Node == node {
			r.until = m.now().Add(lease)
		} else {
			lost = append(lost, h)
		}
	}
	return lost
}

func (m *Mem) lapsed(most int) (all []Lapse) {
	for id, r := range m.runs {
		if m.seen(r).Lapsed {
			all = append(all, Lapse{
				Run: id, Attempt: r.Attempt, Kind: r.Kind, Keyed: r.Keyed, Tries: r.Tries, Released: r.released, Until: r.until,
			})
		}
	}
	slices.SortFunc(all, func(a, b Lapse) int { return a.Until.Compare(b.Until) })
	return all[:min(most, len(all))]
}

func (m *Mem) takeOver(h Hold, node string, lease time.Duration) (Record, []record.Message, bool) {
	r := m.running(h)
	if r == nil || !m.seen(r).Lapsed {
		return Record{}, nil, false
	}
	r.Attempt++
	r.Tries++
	r.Node, r.released, r.until = node, false, m.now().Add(lease)
	return m.seen(r), r.history, true
}

func (m *Mem) release(node string, holds []Hold) {
	for _, h := range holds {
		if r := m.running(h); r != nil && !r.released && r.Node == node {
			r.Tries--
			r.released, r.until = true, m.now()
		}
	}
}

// tailBytes is the most that one answer of tails brings.
const tailBytes = 4 << 20

func (m *Mem) tails(tails []Tail) []TailResult {
	results := make([]TailResult, len(tails))
	size := 0
	for i, t := range tails {
		results[i] = TailResult{Run: t.Run}
		r := m.runs[t.Run]
		if r == nil {
			continue
		}
		res := &results[i]
		res.Found, res.State, res.Attempt, res.LastSeq, res.LogGone = true, r.State, r.Attempt, r.LastSeq, r.LogGone
		for _, s := range r.segments {
			if s.Attempt < t.Attempt || s.Attempt == t.Attempt && s.Last <= t.Seq {
				continue
			}
			if res.More = size > 0 && size+len(s.Data) > tailBytes; res.More {
				break
			}
			size += len(s.Data)
			res.Segments = append(res.Segments, s)
		}
	}
	return results
}

func (m *Mem) pruneLogs(retention time.Duration, most int) (n int) {
	for _, r := range m.runs {
		if n < most && r.State.Terminal() && !r.LogGone && !r.FinishedAt.Add(retention).After(m.now()) {
			r.segments, r.LogGone = nil, true
			n++
		}
	}
	return n
}

func (m *Mem) freeKeys(most int) (n int) {
	for _, r := range m.runs {
		if n < most && r.State.Terminal() && r.Key != "" && !r.FinishedAt.Add(KeyLife).After(m.now()) {
			m.freeKey(r)
			n++
		}
	}
	return n
}
