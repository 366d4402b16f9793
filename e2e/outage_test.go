package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/agentedge/agentedge/internal/pgtest"
)

// TestStoreCrashesUnderLoad crashes PostgreSQL itself under load: what was called
// done has survived, and everything else ends once.
func TestStoreCrashesUnderLoad(t *testing.T) {
	cluster := pgtest.Cluster(t)
	s := newClusterSite(t, cluster, 2)
	c := gather(s, 8)
	for range scale(5, 50) {
		c.await(200)
		cluster.Stop(t, "immediate")
		cluster.Start(t)
	}
	c.await(200)
	c.disperse()
	s.settle()
	c.verify()
	c.replayAll(t.Context())
}

// TestStoreAwayUnderLiveRuns takes the store away from runs that are streaming,
// for longer than their leases. The readers go on reading, nobody restarts a run
// that is healthy, and all of them commit when the store is back.
func TestStoreAwayUnderLiveRuns(t *testing.T) {
	cluster := pgtest.Cluster(t)
	s := newClusterSite(t, cluster, 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var readers sync.WaitGroup
	runs := make([]*streaming, 12)
	for i := range runs {
		runs[i] = s.beginStreaming(ctx, &readers, i)
	}
	for _, r := range runs {
		wait(t, ctx, r.got, r.turn.tag+": its first words")
	}
	away := time.Duration(scale(4, 30)) * lease // a soak's lease-times 30 is the 30 s of the contract
	cluster.Stop(t, "fast")
	for _, r := range runs {
		s.provider.release(r.turn.tag, 1)
	}
	for _, r := range runs {
		wait(t, ctx, r.all, r.turn.tag+": all its words, with the store away")
	}
	s.verifyUnavailable()
	pass(ctx, away)
	for _, r := range runs {
		select {
		case <-r.over:
			t.Errorf("%s ended with the store away", r.turn.tag)
		default:
		}
	}
	cluster.Start(t)
	readers.Wait()
	s.settle()
	rows := s.mustRows()
	for _, r := range runs {
		a, stored := &r.answer, rows[r.answer.Run]
		want := text(r.turn.tag, 1, wordsInAll)
		if a.Done == nil || a.Text != want || a.Attempt != 1 || a.Readies != 1 || a.Done.Attempts != 1 {
			t.Errorf("%s: done %v, failed %v, attempt %d, %d responses", r.turn.tag, a.Done, a.Failed, a.Attempt, a.Readies)
		}
		if stored == nil || stored.State != "completed" || stored.Attempt != 1 || stored.Content != want {
			t.Errorf("%s: the store has %+v", r.turn.tag, stored)
		}
		if calls := s.provider.callsOf(r.turn.tag); calls != 1 {
			t.Errorf("%s: %d provider calls", r.turn.tag, calls)
		}
	}
	for _, n := range s.nodes {
		n.stop(patience)
	}
}

// newClusterSite migrates a server of the test's own by the binary's command.
func newClusterSite(t *testing.T, cluster *pgtest.Server, nodes int) *site {
	t.Helper()
	migrate := exec.Command(os.Getenv(binaryVar), "migrate", "up")
	migrate.Dir = t.TempDir()
	migrate.Env = []string{"DATABASE_URL=" + cluster.URL, "PATH=" + os.Getenv("PATH"), "HOME=" + migrate.Dir}
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate up: %v\n%s", err, out)
	}
	return newPostgresSite(t, cluster.URL, nodes)
}

// streaming is one run during the outage.
type streaming struct {
	turn   turn
	answer answer
	got    chan struct{} // closed when the first words have come
	all    chan struct{} // closed when all have
	over   chan struct{} // closed at the terminal frame
}

func (s *site) beginStreaming(ctx context.Context, readers *sync.WaitGroup, i int) *streaming {
	r := &streaming{got: make(chan struct{}), all: make(chan struct{}), over: make(chan struct{})}
	r.turn = turn{tag: fmt.Sprintf("away%d", i), prompt: fmt.Sprintf("chunks=%d hold=%d", wordsInAll, wordsBefore)}
	if i%3 != 0 {
		r.turn.key = "key-" + r.turn.tag
	}
	r.answer.OnFrame = func(frame) {
		if r.answer.over() {
			closeOnce(r.over)
		}
		switch r.answer.Text {
		case text(r.turn.tag, 1, wordsBefore):
			closeOnce(r.got)
		case text(r.turn.tag, 1, wordsInAll):
			closeOnce(r.all)
		}
	}
	readers.Go(func() {
		addr := s.nodes[i%len(s.nodes)].addr
		if err := s.follow(ctx, r.turn, &r.answer, func() string { return addr }); err != nil {
			s.t.Errorf("%s: %v", r.turn.tag, err)
		}
	})
	return r
}

// verifyUnavailable: without its store a node takes nothing, and says so.
func (s *site) verifyUnavailable() {
	s.t.Helper()
	for i, n := range s.nodes {
		tn := turn{tag: fmt.Sprintf("refused%d", i), prompt: "chunks=1", key: fmt.Sprintf("key-refused%d", i)}
		var a answer
		err := s.ask(s.t.Context(), n.addr, tn, &a)
		var r *refusal
		if !errors.As(err, &r) || r.Status != http.StatusServiceUnavailable || r.Code != "storage_unavailable" {
			s.t.Errorf("a request with the store away: %v", err)
		}
		if calls := s.provider.callsOf(tn.tag); calls != 0 {
			s.t.Errorf("it reached the provider %d times", calls)
		}
		eventually(s.t, patience, "the node is not ready", func() (bool, error) {
			return n.status("/readyz") == http.StatusServiceUnavailable, nil
		})
	}
}
