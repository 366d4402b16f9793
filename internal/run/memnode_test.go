package run

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
)

// MemNode is one node's handle on a Mem, with faults on its way: what a database
// does to its clients. Each method is named by its own name.
type MemNode struct {
	mem    *Mem
	hinted chan struct{}

	mu    sync.Mutex
	next  map[string][]trouble // for one call each, in order
	every map[string]trouble   // for all others; "" for all methods
	count map[string]int
}

// trouble is what happens to a call. Nothing of it: it works.
type trouble struct {
	before error           // the call fails and has no effect
	after  error           // the call has its effect and fails: an unknown outcome
	hold   <-chan struct{} // the effect waits for this
	late   <-chan struct{} // the effect is there, its answer waits for this
	delay  time.Duration   // before the effect
	deaf   <-chan struct{} // the effect is there, and the call waits for this whatever its context says
}

// Node makes another node's handle.
func (m *Mem) Node() *MemNode {
	n := &MemNode{
		mem: m, hinted: make(chan struct{}, 1),
		next: map[string][]trouble{}, every: map[string]trouble{}, count: map[string]int{},
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes = append(m.nodes, n)
	return n
}

// Mem is the store behind a handle.
func (n *MemNode) Mem() *Mem { return n.mem }

// once gives the next calls of a method these troubles.
func (n *MemNode) once(method string, t ...trouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next[method] = append(n.next[method], t...)
}

// always gives every call of a method this trouble; "" is all methods.
func (n *MemNode) always(method string, t trouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.every[method] = t
}

// calls is how often a method was called.
func (n *MemNode) calls(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count[method]
}

func (n *MemNode) trouble(method string) trouble {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count[method]++
	if q := n.next[method]; len(q) > 0 {
		n.next[method] = q[1:]
		return q[0]
	}
	if t, ok := n.every[method]; ok {
		return t
	}
	return n.every[""]
}

func (n *MemNode) call(ctx context.Context, method string, effect func(m *Mem) error) error {
	t := n.trouble(method)
	if t.delay > 0 {
		wait := make(chan struct{})
		timer := time.AfterFunc(t.delay, func() { close(wait) })
		defer timer.Stop()
		if err := until(ctx, wait); err != nil {
			return err
		}
	}
	if err := until(ctx, t.hold); err != nil {
		return err
	}
	if t.before != nil {
		return t.before
	}
	if err := n.effect(ctx, effect); err != nil {
		return err
	}
	if err := until(ctx, t.late); err != nil {
		return err
	}
	if t.deaf != nil {
		<-t.deaf
	}
	return t.after
}

func (n *MemNode) effect(ctx context.Context, effect func(m *Mem) error) error {
	n.mem.mu.Lock()
	defer n.mem.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return effect(n.mem)
}

// until waits for c where there is one.
func until(ctx context.Context, c <-chan struct{}) error {
	if c == nil {
		return nil
	}
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *MemNode) ClaimMany(ctx context.Context, claims []Claim) (res []ClaimResult, err error) {
	err = n.call(ctx, "ClaimMany", func(m *Mem) (err error) { res, err = m.claimMany(claims); return err })
	return res, err
}

func (n *MemNode) AppendMany(ctx context.Context, segments []Segment) (lost []Hold, err error) {
	err = n.call(ctx, "AppendMany", func(m *Mem) error { lost = m.appendMany(segments); return nil })
	return lost, err
}

func (n *MemNode) FinishMany(ctx context.Context, finishes []Finish) (done []bool, err error) {
	err = n.call(ctx, "FinishMany", func(m *Mem) (err error) { done, err = m.finishMany(finishes); return err })
	return done, err
}

func (n *MemNode) NextAttempt(ctx context.Context, hold Hold, node string, lease time.Duration) (ok bool, err error) {
	err = n.call(ctx, "NextAttempt", func(m *Mem) error { ok = m.nextAttempt(hold, node, lease); return nil })
	return ok, err
}

func (n *MemNode) RenewMany(ctx context.Context, node string, holds []Hold, lease time.Duration) (lost []Hold, err error) {
	err = n.call(ctx, "RenewMany", func(m *Mem) error { lost = m.renewMany(node, holds, lease); return nil })
	return lost, err
}

func (n *MemNode) CancelsAsked(ctx context.Context, node string) (ids []uuid.UUID, err error) {
	err = n.call(ctx, "CancelsAsked", func(m *Mem) error {
		for id, r := range m.runs {
			if r.State == Running && r.Node == node && r.CancelAsked {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, err
}

func (n *MemNode) Lapsed(ctx context.Context, most int) (all []Lapse, err error) {
	err = n.call(ctx, "Lapsed", func(m *Mem) error { all = m.lapsed(most); return nil })
	return all, err
}

func (n *MemNode) TakeOver(ctx context.Context, hold Hold, node string, lease time.Duration) (r Record, h []record.Message, ok bool, err error) {
	err = n.call(ctx, "TakeOver", func(m *Mem) error { r, h, ok = m.takeOver(hold, node, lease); return nil })
	return r, h, ok, err
}

func (n *MemNode) Release(ctx context.Context, node string, holds []Hold) error {
	return n.call(ctx, "Release", func(m *Mem) error { m.release(node, holds); return nil })
}

func (n *MemNode) Load(ctx context.Context, id uuid.UUID) (rec Record, err error) {
	err = n.call(ctx, "Load", func(m *Mem) error {
		r := m.runs[id]
		if r == nil {
			return ErrNotFound
		}
		rec = m.seen(r)
		return nil
	})
	return rec, err
}

func (n *MemNode) Tails(ctx context.Context, tails []Tail) (res []TailResult, err error) {
	err = n.call(ctx, "Tails", func(m *Mem) error { res = m.tails(tails); return nil })
	return res, err
}

func (n *MemNode) Answer(ctx context.Context, id uuid.UUID) (msg record.Message, err error) {
	err = n.call(ctx, "Answer", func(m *Mem) error {
		var ok bool
		if msg, ok = m.answer(id); !ok {
			return ErrNotFound
		}
		return nil
	})
	return msg, err
}

func (n *MemNode) Question(ctx context.Context, id uuid.UUID) (msg record.Message, err error) {
	err = n.call(ctx, "Question", func(m *Mem) error {
		for _, msg = range m.messages {
			if msg.RunID == id && msg.Role == "user" {
				return nil
			}
		}
		return ErrNotFound
	})
	return msg, err
}

func (n *MemNode) AskCancel(ctx context.Context, id uuid.UUID) (rec Record, err error) {
	err = n.call(ctx, "AskCancel", func(m *Mem) error {
		r := m.runs[id]
		if r == nil {
			return ErrNotFound
		}
		r.CancelAsked = r.CancelAsked || !r.State.Terminal()
		rec = m.seen(r)
		return nil
	})
	return rec, err
}

func (n *MemNode) TouchReaders(ctx context.Context, ids []uuid.UUID, ttl time.Duration) error {
	return n.call(ctx, "TouchReaders", func(m *Mem) error {
		for _, id := range ids {
			if r := m.runs[id]; r != nil {
				r.readers = m.now().Add(ttl)
			}
		}
		return nil
	})
}

func (n *MemNode) HasReaders(ctx context.Context, id uuid.UUID) (has bool, err error) {
	err = n.call(ctx, "HasReaders", func(m *Mem) error {
		has = m.runs[id] != nil && m.runs[id].readers.After(m.now())
		return nil
	})
	return has, err
}

func (n *MemNode) PruneLogs(ctx context.Context, retention time.Duration, most int) (pruned int, err error) {
	err = n.call(ctx, "PruneLogs", func(m *Mem) error { pruned = m.pruneLogs(retention, most); return nil })
	return pruned, err
}

func (n *MemNode) FreeKeys(ctx context.Context, most int) (freed int, err error) {
	err = n.call(ctx, "FreeKeys", func(m *Mem) error { freed = m.freeKeys(most); return nil })
	return freed, err
}

func (n *MemNode) AddEvents(ctx context.Context, events []record.Event) error {
	return n.call(ctx, "AddEvents", func(m *Mem) error { m.addEvents(events); return nil })
}

func (n *MemNode) Hint(ctx context.Context) error {
	return n.call(ctx, "Hint", func(m *Mem) error {
		for _, other := range m.nodes {
			if other != n {
				signal(other.hinted)
			}
		}
		return nil
	})
}

func (n *MemNode) Hinted() <-chan struct{} { return n.hinted }

func (n *MemNode) Ping(ctx context.Context) error {
	return n.call(ctx, "Ping", func(*Mem) error { return nil })
}

func (n *MemNode) Close() error { return nil }
