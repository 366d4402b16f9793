package sqlite

import (
	"context"
	"errors"
	"sync/atomic"
)

// maxChanges is how many changes one transaction takes.
const maxChanges = 64

// change is something to be written: a batch of claims, of ends, of segments.
// Whatever waits while the writer is busy is written together by its next
// transaction, since a commit costs more than what it commits.
type change struct {
	fn    func(c *conn) error
	taken atomic.Bool // by the transaction that carries it out, or by a caller that left
	done  chan error
}

// change runs fn in a transaction of the writer, with others that wait. Once
// begun it is not interrupted: it is short, and its outcome is then known.
func (s *Store) change(ctx context.Context, fn func(c *conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch := &change{fn: fn, done: make(chan error, 1)}
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	if err := s.enqueue(ctx, ch); err != nil {
		return err
	}
	for {
		select {
		case err := <-ch.done:
			return err
		case c := <-s.write:
			s.writeQueued(c)
			s.write <- c
		case <-s.closed:
			if ch.taken.CompareAndSwap(false, true) {
				return ErrClosed
			}
			return <-ch.done
		case <-ctx.Done():
			if ch.taken.CompareAndSwap(false, true) {
				return ctx.Err()
			}
			return <-ch.done
		}
	}
}

// enqueue waits for a place in the queue. The places may all be taken by changes
// whose callers have left, with nobody to write them: then it makes room itself.
func (s *Store) enqueue(ctx context.Context, ch *change) error {
	select {
	case s.queue <- ch:
		return nil
	default:
	}
	for {
		select {
		case s.queue <- ch:
			return nil
		case c := <-s.write:
			s.writeQueued(c)
			s.write <- c
		case <-s.closed:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeQueued carries out what is queued, in one transaction.
func (s *Store) writeQueued(c *conn) {
	var batch []*change
	for more := true; more && len(batch) < maxChanges; {
		select {
		case ch := <-s.queue:
			if ch.taken.CompareAndSwap(false, true) {
				batch = append(batch, ch)
			}
		default:
			more = false
		}
	}
	if len(batch) == 0 {
		return
	}
	failed := make([]error, len(batch))
	err := c.open()
	if err == nil {
		err = c.tx("begin immediate", func() error { return c.changes(batch, failed) })
	}
	if err == nil {
		s.wrote()
	}
	for i, ch := range batch {
		if failed[i] == nil {
			failed[i] = err
		}
		ch.done <- failed[i]
	}
}

// changes runs a batch; of several each is undone by itself where it fails.
func (c *conn) changes(batch []*change, failed []error) error {
	if len(batch) == 1 {
		return batch[0].fn(c)
	}
	for i, ch := range batch {
		if _, err := c.exec("savepoint change"); err != nil {
			return err
		}
		if failed[i] = ch.fn(c); failed[i] != nil {
			if _, err := c.exec("rollback to change"); err != nil {
				return errors.Join(failed[i], err)
			}
		}
		if _, err := c.exec("release change"); err != nil {
			return err
		}
	}
	return nil
}
