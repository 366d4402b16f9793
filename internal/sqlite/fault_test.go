package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

// onWriter runs a pragma on the connection that writes.
func (s *Store) onWriter(t *testing.T, pragma string) {
	t.Helper()
	if err := s.with(t.Context(), s.write, func(c *conn) error { return c.script(pragma) }); err != nil {
		t.Fatal(err)
	}
}

// A full disk refuses a batch whole, and the store goes on when there is room.
func TestFull(t *testing.T) {
	s := fresh(t)
	big := func() run.Claim {
		c := benchClaim(1)
		c.Message.Content = strings.Repeat("x", 1<<20)
		return c
	}
	first, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		// A failure may cost the connection, and with it the bound.
		s.onWriter(t, `pragma max_page_count = 100`)
		small, large := benchClaim(0), big()
		if _, err := s.ClaimMany(t.Context(), []run.Claim{small, large}); err == nil || !strings.Contains(err.Error(), "full") {
			t.Fatalf("ClaimMany on a full disk: %v", err)
		}
		if _, err := s.Load(t.Context(), small.ID); !errors.Is(err, run.ErrNotFound) {
			t.Errorf("half of a batch: %v", err)
		}
		if r, err := s.Load(t.Context(), first[0].Run.ID); err != nil || r.State != run.Running {
			t.Errorf("reading on a full disk: %v", err)
		}
	}
	s.onWriter(t, `pragma max_page_count = 1000000`)
	if _, err := s.ClaimMany(t.Context(), []run.Claim{big()}); err != nil {
		t.Errorf("ClaimMany with room again: %v", err)
	}
	if done, err := s.FinishMany(t.Context(), []run.Finish{benchFinish(first[0].Run)}); err != nil || !done[0] {
		t.Errorf("FinishMany with room again: %v, %v", done, err)
	}
}

func TestReadOnly(t *testing.T) {
	s := fresh(t)
	s.onWriter(t, `pragma query_only = 1`)
	if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)}); err == nil {
		t.Error("a claim was accepted by a database that cannot be written")
	}
	s.onWriter(t, `pragma query_only = 0`)
	if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)}); err != nil {
		t.Error(err)
	}
}

// A transaction that cannot be rolled back costs its connection, not the store.
func TestBrokenConnection(t *testing.T) {
	s := fresh(t)
	for range 3 {
		err := s.change(t.Context(), func(c *conn) error {
			if _, err := c.exec(`rollback`); err != nil { // as SQLite does when the disk fails
				return err
			}
			return errors.New("disk failure")
		})
		if err == nil {
			t.Fatal("no error")
		}
		if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)}); err != nil {
			t.Fatalf("after a broken connection: %v", err)
		}
	}
}

// A damaged file is an error everywhere, never an answer.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	s := opened(t, path)
	var id uuid.UUID
	for i := range 50 {
		results, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(i)})
		if err != nil {
			t.Fatal(err)
		}
		id = results[0].Run.ID
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(raw); i++ {
		raw[i] ^= 0xa5
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = Open(t.Context(), Config{Path: path})
	if err != nil {
		return // noticed at once: as good
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Load(t.Context(), id); err == nil || errors.Is(err, run.ErrNotFound) {
		t.Errorf("Load from a damaged file: %v", err)
	}
	if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)}); err == nil {
		t.Error("a damaged file took a claim")
	}
}

// A limit whose log cannot be read admits nobody.
func TestDamagedLimit(t *testing.T) {
	s := fresh(t)
	if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)}); err != nil {
		t.Fatal(err)
	}
	s.sql(t, `update rate_limits set log = x'0580'`)
	if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)}); err == nil || !strings.Contains(err.Error(), "rate limit") {
		t.Errorf("ClaimMany: %v", err)
	}
}

// Rows that this package never wrote are errors and no panics.
func TestForeignRows(t *testing.T) {
	s := fresh(t)
	results, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)})
	if err != nil {
		t.Fatal(err)
	}
	r := results[0].Run
	if _, err := s.FinishMany(t.Context(), []run.Finish{benchFinish(r)}); err != nil {
		t.Fatal(err)
	}
	s.sql(t, `update messages set usage = '{', id = 'no uuid' where role = 'assistant'`)
	if _, err := s.Answer(t.Context(), r.ID); err == nil {
		t.Error("an answer with a broken id and usage")
	}
	s.sql(t, `update runs set session_id = null, trace_id = 'x', owner = 'y'; pragma foreign_keys = 0;`)
	if got, err := s.Load(t.Context(), r.ID); err != nil || got.SessionID != uuid.Nil || got.Owner != "y" {
		t.Errorf("Load: %+v, %v", got, err)
	}
}

// Text may hold what C strings cannot.
func TestNUL(t *testing.T) {
	s := fresh(t)
	c := benchClaim(0)
	c.Key, c.Keyed = "k", true
	results, err := s.ClaimMany(t.Context(), []run.Claim{c})
	if err != nil {
		t.Fatal(err)
	}
	f := benchFinish(results[0].Run)
	f.Message.Content = "a\x00b\x00"
	if _, err := s.FinishMany(t.Context(), []run.Finish{f}); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Answer(t.Context(), c.ID); err != nil || m.Content != "a\x00b\x00" {
		t.Errorf("answer %q, %v", m.Content, err)
	}
}

// A claim that is made again after an unknown outcome finds its own session.
func TestClaimAgain(t *testing.T) {
	s := fresh(t)
	c := benchClaim(0)
	for i, want := range []run.Outcome{run.Claimed, run.IDTaken} {
		results, err := s.ClaimMany(t.Context(), []run.Claim{c})
		if err != nil || results[0].Outcome != want {
			t.Errorf("time %d: %+v, %v; want outcome %d", i+1, results, err, want)
		}
	}
	stolen := benchClaim(0)
	stolen.SessionID, stolen.Owner = c.SessionID, "somebody else"
	results, err := s.ClaimMany(t.Context(), []run.Claim{stolen})
	if err != nil || results[0].Outcome != run.NoSession {
		t.Errorf("a new session that is another's: %+v, %v", results, err)
	}
}

// The write-ahead log begins anew once it is in the file, which the store sees
// to beside its writes.
func TestCheckpoint(t *testing.T) {
	s := fresh(t)
	results, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)})
	if err != nil {
		t.Fatal(err)
	}
	r, seq := results[0].Run, 0
	write := func(size int) {
		seq++
		seg := run.Segment{Run: r.ID, Attempt: 1, First: seq, Last: seq, Data: make([]byte, size)}
		if lost, err := s.AppendMany(t.Context(), []run.Segment{seg}); err != nil || len(lost) > 0 {
			t.Fatalf("AppendMany: %v, %v", lost, err)
		}
	}
	c := &conn{dsn: s.dsnForTest(t)}
	defer func() { _ = c.close() }()
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	for range 24 {
		write(1 << 20)
	}
	deadline := time.Now().Add(time.Minute)
	for pages := logPages; pages >= logPages; {
		if time.Now().After(deadline) {
			t.Fatalf("%d pages in the log after a minute", pages)
		}
		write(10)
		if pages, _, err = c.checkpoint(`pragma wal_checkpoint(noop)`); err != nil {
			t.Fatal(err)
		}
	}
	tails, err := s.Tails(t.Context(), []run.Tail{{Run: r.ID, Attempt: 1, Seq: seq - 1}})
	if err != nil || len(tails[0].Segments) != 1 || tails[0].Segments[0].Last != seq {
		t.Errorf("after a checkpoint: %d segments, %v", len(tails[0].Segments), err)
	}
}

// dsnForTest addresses the store's file.
func (s *Store) dsnForTest(t *testing.T) (dsn string) {
	t.Helper()
	err := s.with(t.Context(), s.write, func(c *conn) error {
		dsn = c.dsn
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}
