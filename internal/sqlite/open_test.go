package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/run"
)

// childPath names the database that this binary, run as a child, writes to.
const childPath = "SQLITE_TEST_CHILD"

// TestChild is the child of the tests below: it runs chats and says which of
// them the store has acknowledged, until it is killed.
func TestChild(t *testing.T) {
	path := os.Getenv(childPath)
	if path == "" {
		t.Skip("not a child")
	}
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("open")
	for i := 0; ; i++ {
		results, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(i), benchClaim(i)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("accepted", results[0].Run.ID)
		fmt.Println("accepted", results[1].Run.ID)
		if _, err := s.FinishMany(t.Context(), []run.Finish{benchFinish(results[0].Run)}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("finished", results[0].Run.ID)
	}
}

// child starts a process that owns the database at path.
func child(t *testing.T, path string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines = bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "open" {
		continue
	}
	return cmd, lines
}

// kill ends a child the hard way and returns what it still said.
func kill(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner) (rest []string) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return rest
}

func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	cmd, lines := child(t, path)
	_, err := Open(t.Context(), Config{Path: path})
	if want := fmt.Sprintf("process %d", cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("opened beside the child: %v, want an error that names %s", err, want)
	}
	kill(t, cmd, lines)
	opened(t, path)
	if _, err := Open(t.Context(), Config{Path: path}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("opened twice in one process: %v", err)
	}
}

// What was acknowledged is there after kill -9, all of it, and what was running
// has lost its holder.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	for round := range 4 {
		cmd, lines := child(t, path)
		var said []string
		for range 20 + 37*round {
			if !lines.Scan() {
				t.Fatal("the child is gone")
			}
			said = append(said, lines.Text())
		}
		said = append(said, kill(t, cmd, lines)...)
		s, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		checkSaid(t, s, said)
		if err := s.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func checkSaid(t *testing.T, s *Store, said []string) {
	t.Helper()
	over := map[uuid.UUID]bool{}
	for _, line := range said {
		what, id, ok := strings.Cut(line, " ")
		run, err := uuid.Parse(id)
		if !ok || err != nil {
			continue // a line that the kill has cut
		}
		over[run] = over[run] || what == "finished"
	}
	if len(over) == 0 {
		t.Fatal("the child said nothing")
	}
	for id, finished := range over {
		r, err := s.Load(t.Context(), id)
		if err != nil {
			t.Fatalf("accepted run %s: %v", id, err)
		}
		if !finished {
			if r.State == run.Running && (!r.Lapsed || r.Tries != 1) {
				t.Errorf("run %s without a process: lapsed %v, tries %d", id, r.Lapsed, r.Tries)
			}
			continue
		}
		_, err = s.Answer(t.Context(), id)
		tail, tailErr := s.Tails(t.Context(), []run.Tail{{Run: id}})
		if err = errors.Join(err, tailErr); err != nil || r.State != run.Completed || len(tail[0].Segments) != 1 {
			t.Errorf("finished run %s: %s, %v", id, r.State, err)
		}
	}
}

func TestReopenVoidsLeases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	s := opened(t, path)
	results, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(1), benchClaim(2)})
	if err != nil {
		t.Fatal(err)
	}
	live, over := results[0].Run, results[1].Run
	if _, err := s.FinishMany(t.Context(), []run.Finish{benchFinish(over)}); err != nil {
		t.Fatal(err)
	}
	if err := s.TouchReaders(t.Context(), []uuid.UUID{live.ID}, 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, path)
	lapses, err := s.Lapsed(t.Context(), 10)
	if err != nil || len(lapses) != 1 || lapses[0].Run != live.ID || !lapses[0].Released || lapses[0].Tries != 1 {
		t.Fatalf("lapsed %+v, %v; want the run that was live, to be taken at once", lapses, err)
	}
	if has, err := s.HasReaders(t.Context(), live.ID); has || err != nil {
		t.Errorf("the readers of another process: %v, %v", has, err)
	}
	hold := run.Hold{Run: live.ID, Attempt: 1}
	if lost, err := s.RenewMany(t.Context(), live.Node, []run.Hold{hold}, 1<<40); err != nil || len(lost) != 1 {
		t.Errorf("an old lease was renewed: %v, %v", lost, err)
	}
	r, _, ok, err := s.TakeOver(t.Context(), hold, "again", 1<<40)
	if err != nil || !ok || r.Attempt != 2 || r.Tries != 2 {
		t.Errorf("taken over: %v, attempt %d, tries %d, %v; the lost attempt counts", ok, r.Attempt, r.Tries, err)
	}
}

func TestPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	s := opened(t, filepath.Join(dir, "edge.db"))
	if _, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(1)}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		dir: 0o700 | os.ModeDir, dir + "/edge.db": 0o600, dir + "/edge.db-wal": 0o600, dir + "/edge.db-shm": 0o600, dir + "/edge.db.lock": 0o600,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s: %v, want %v", filepath.Base(name), info.Mode(), want)
		}
	}
}

func TestOddPaths(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a?b=c&mode=memory.db", "50% #1.db", "ünï cödé.db", "plus+sign.db", ":memory:"} {
		path := filepath.Join(dir, name)
		s := opened(t, path)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: the database is elsewhere: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage, blocked := filepath.Join(dir, "garbage.db"), filepath.Join(dir, "file")
	for _, path := range []string{garbage, blocked} {
		if err := os.WriteFile(path, []byte(strings.Repeat("this is no database ", 500)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range map[string]string{
		"not a database": garbage, "a file for a directory": filepath.Join(blocked, "edge.db"), "a directory": dir,
	} {
		s, err := Open(t.Context(), Config{Path: path})
		if err == nil {
			t.Errorf("%s was opened", name)
			_ = s.Close()
		}
	}
	// A failed Open leaves no lock behind.
	if err := os.Remove(garbage); err != nil {
		t.Fatal(err)
	}
	opened(t, garbage)
}

func TestPragmas(t *testing.T) {
	s := fresh(t)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "temp_store": "2",
	} {
		err := s.with(t.Context(), s.write, func(c *conn) error {
			_, err := c.one(func(r *row) {
				if got := fmt.Sprint(r.values[0]); got != want {
					t.Errorf("%s is %s, want %s", pragma, got, want)
				}
			}, "pragma "+pragma)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	err := s.look(t.Context(), func(c *conn) error { return c.script(`delete from runs`) })
	if err == nil {
		t.Error("a reader may write")
	}
}

func TestClosed(t *testing.T) {
	s := fresh(t)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, loadErr := s.Load(t.Context(), uuid.New())
	for name, err := range map[string]error{"Ping": s.Ping(context.Background()), "Load": loadErr} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
	_, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(1)})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("ClaimMany of a closed store: %v", err)
	}
}

// A caller that gives up does not wait for whoever is writing.
func TestWaitEnds(t *testing.T) {
	s := fresh(t)
	held, let := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- s.change(context.Background(), func(*conn) error {
			close(held)
			<-let
			return io.ErrUnexpectedEOF
		})
	}()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() { waiting <- s.Ping(ctx) }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("Ping: %v, want the context's end", err)
	}
	// Readers are not held up.
	if _, err := s.Lapsed(t.Context(), 1); err != nil {
		t.Errorf("Lapsed beside a writer: %v", err)
	}
	close(let)
	if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the writer: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestQueueOfWhoLeft: a queue that is full of changes whose callers have left does
// not keep the next one out.
func TestQueueOfWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fresh(t)
		c := <-s.write // a write that takes too long
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, maxChanges+1)
		for range maxChanges + 1 { // one finds no place
			go func() { left <- s.Ping(ctx) }()
		}
		synctest.Wait()
		leave()
		for range maxChanges + 1 {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("Ping: %v", err)
			}
		}
		waiting := make(chan error)
		go func() { waiting <- s.Ping(t.Context()) }()
		synctest.Wait()
		s.write <- c
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestClockSetBack: runs without a holder are found, whatever the clock says of
// when they were left.
func TestClockSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	s := opened(t, path)
	claimed, err := s.ClaimMany(t.Context(), []run.Claim{benchClaim(0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // in a bubble it is the year 2000
		s := opened(t, path)
		lapses, err := s.Lapsed(t.Context(), 10)
		if err != nil || len(lapses) != 1 || !lapses[0].Released {
			t.Fatalf("Lapsed: %+v, %v", lapses, err)
		}
		rec, _, ok, err := s.TakeOver(t.Context(), run.Hold{Run: claimed[0].Run.ID, Attempt: 1}, "b", time.Minute)
		if err != nil || !ok {
			t.Fatalf("TakeOver: %v, %v", ok, err)
		}
		if err := s.Release(t.Context(), "b", []run.Hold{{Run: rec.ID, Attempt: rec.Attempt}}); err != nil {
			t.Fatal(err)
		}
		if rec, err := s.Load(t.Context(), rec.ID); err != nil || !rec.Lapsed {
			t.Errorf("after Release: lapsed %v, %v", rec.Lapsed, err)
		}
	})
}
