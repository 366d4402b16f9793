package sqlite

import (
	"context"
	"time"
)

const (
	// checkpointPages is how many pages of the write-ahead log make a checkpoint
	// worth its two synchronisations: 4 MiB.
	checkpointPages = 1000
	// logPages is from where the log is to begin anew: 16 MiB.
	logPages = 4000
	// checkpointEvery paces the checkpoints under load.
	checkpointEvery = 100 * time.Millisecond
)

// checkpoints moves the write-ahead log into the file, until the store closes.
// SQLite would do it within whichever commit crosses a bound, and some chat
// would wait for thousands of pages and two synchronisations of the disk; here
// they are written beside the writer. Only the rest that came meanwhile is
// written with the writer held: a log begins anew once all of it is in the file.
//
// It works on a connection of its own. A checkpoint that fails loses nothing,
// the log is kept; the writer's own bound then takes over.
func (s *Store) checkpoints(c *conn) {
	timer := time.NewTimer(checkpointEvery)
	defer timer.Stop()
	for {
		select {
		case <-s.dirty:
		case <-s.closed:
			return
		}
		if err := s.checkpoint(c); err != nil {
			s.log.Warn("write-ahead log not checkpointed", "error", err)
		}
		timer.Reset(checkpointEvery)
		select {
		case <-timer.C:
		case <-s.closed:
			return
		}
	}
}

func (s *Store) checkpoint(c *conn) error {
	if err := c.open(); err != nil {
		return err
	}
	pages, moved, err := c.checkpoint(`pragma wal_checkpoint(noop)`)
	if err != nil || pages-moved < checkpointPages {
		return err
	}
	if pages, _, err = c.checkpoint(`pragma wal_checkpoint(passive)`); err != nil || pages < logPages {
		return err
	}
	return s.with(context.Background(), s.write, func(w *conn) error {
		_, _, err := w.checkpoint(`pragma wal_checkpoint(passive)`)
		return err
	})
}

// checkpoint returns how many pages the log has and how many of them are in the
// file.
func (c *conn) checkpoint(pragma string) (pages, moved int, err error) {
	_, err = c.one(func(r *row) { pages, moved = r.int(1), r.int(2) }, pragma)
	return pages, moved, err
}

// wrote wakes the checkpoints.
func (s *Store) wrote() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}
