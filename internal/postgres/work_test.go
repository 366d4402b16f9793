package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/pgtest"
	"github.com/agentedge/agentedge/internal/postgres"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// in moves a claim into a session that exists.
func in(c run.Claim, session uuid.UUID) run.Claim {
	c.SessionID, c.NewSession = session, false
	return c
}

// exercise does once what nodes do all day, and returns the run.
func exercise(t testing.TB, s store) run.Record {
	t.Helper()
	ctx := context.Background()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := chat(userA)
	results, err := s.ClaimMany(ctx, batchOf(first, chat(userB)))
	check(err)
	_, err = s.FinishMany(ctx, []run.Finish{answer(results[0].Run), answer(results[1].Run)})
	check(err)
	next := in(chat(userA), first.SessionID)
	next.Lease, next.GlobalLimit = -time.Second, 1000
	results, err = s.ClaimMany(ctx, batchOf(next))
	check(err)
	r := results[0].Run
	if results[0].Outcome != run.Claimed || len(results[0].History) != 2 {
		t.Fatalf("claim: %+v", results[0])
	}
	again, err := s.ClaimMany(ctx, batchOf(next))
	check(err)
	if again[0].Outcome != run.Joined {
		t.Fatalf("again: outcome %d", again[0].Outcome)
	}
	_, err = s.AppendMany(ctx, []run.Segment{{Run: r.ID, Attempt: 1, First: 1, Last: 2, Data: []byte("x")}})
	check(err)
	_, err = s.Tails(ctx, []run.Tail{{Run: r.ID}})
	check(err)
	_, err = s.RenewMany(ctx, "node", []run.Hold{{Run: r.ID, Attempt: 1}}, -time.Second)
	check(err)
	_, err = s.Lapsed(ctx, 10)
	check(err)
	r, _, ok, err := s.TakeOver(ctx, run.Hold{Run: r.ID, Attempt: 1}, "node", time.Minute)
	check(err)
	if !ok {
		t.Fatal("not taken over")
	}
	ok, err = s.NextAttempt(ctx, run.Hold{Run: r.ID, Attempt: 2}, "node", time.Minute)
	check(err)
	if !ok {
		t.Fatal("no next attempt")
	}
	check(s.TouchReaders(ctx, []uuid.UUID{r.ID}, time.Minute))
	_, err = s.HasReaders(ctx, r.ID)
	check(err)
	_, err = s.AskCancel(ctx, r.ID)
	check(err)
	_, err = s.CancelsAsked(ctx, "node")
	check(err)
	check(s.Release(ctx, "node", []run.Hold{{Run: r.ID, Attempt: 3}}))
	r, err = s.Load(ctx, r.ID)
	check(err)
	_, err = s.FinishMany(ctx, []run.Finish{answer(r)})
	check(err)
	_, err = s.Answer(ctx, r.ID)
	check(err)
	check(s.AddEvents(ctx, []record.Event{{ID: uuid.New(), Type: "provider_retry", TraceID: "t", RunID: r.ID}}))
	_, err = s.PruneLogs(ctx, -time.Second, 10)
	check(err)
	_, err = s.FreeKeys(ctx, 10)
	check(err)
	return r
}

// TestPlans: no statement of the store reads a table from end to end, not even
// while the tables are so small that it would be cheap: such plans are kept while
// the tables grow.
func TestPlans(t *testing.T) {
	url := pgtest.Database(t)
	execute(t, url, "analyze")
	s := open(t, url)
	for range 12 { // past the point where plans become generic
		exercise(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Backends report what they did when they end.
	deadline := time.Now().Add(30 * time.Second)
	for query[int64](t, url, "select coalesce(sum(idx_scan), 0)::bigint from pg_stat_user_tables")[0] < 100 {
		if time.Now().After(deadline) {
			t.Fatal("no index was used")
		}
	}
	for _, table := range query[string](t, url, "select relname || ' ' || seq_scan from pg_stat_user_tables where schemaname = 'public' and seq_scan > 0") {
		t.Errorf("read from end to end: %s times", table)
	}
}

// TestBigBatch: many calls in a batch are still one transaction.
func TestBigBatch(t *testing.T) {
	s := open(t, pgtest.Database(t))
	claims := make([]run.Claim, 200)
	for i := range claims {
		claims[i] = chat(userA)
	}
	bad := slices.Clone(claims)
	bad[199].Message.ID = bad[0].Message.ID
	if _, err := s.ClaimMany(t.Context(), bad); err == nil {
		t.Fatal("two messages with one id")
	}
	for _, c := range claims {
		if _, err := s.Load(t.Context(), c.ID); !errors.Is(err, run.ErrNotFound) {
			t.Fatalf("a run of a batch that failed: %v", err)
		}
	}
	results, err := s.ClaimMany(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	finishes := make([]run.Finish, len(results))
	for i, r := range results {
		if r.Outcome != run.Claimed || r.Run.ID != claims[i].ID {
			t.Fatalf("claim %d: outcome %d, run %s", i, r.Outcome, r.Run.ID)
		}
		finishes[i] = answer(r.Run)
	}
	finishes[150].Attempt = 2
	done, err := s.FinishMany(t.Context(), finishes)
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range done {
		if ok != (i != 150) {
			t.Errorf("finish %d: %v", i, ok)
		}
	}
}

// TestOppositeBatches: batches that want the same keys, sessions, limits and ids
// in opposite orders all end, and each key has one run.
func TestOppositeBatches(t *testing.T) {
	url := pgtest.Database(t)
	stores := []store{open(t, url), open(t, url), open(t, url)}
	const rounds, batches, size = 5, 9, 16
	for range rounds {
		claims := make([]run.Claim, size)
		shared := uuid.New()
		for i := range claims {
			claims[i] = chat(userA)
			if i%4 == 0 { // a session that nobody has yet
				claims[i] = in(claims[i], shared)
			}
			claims[i].GlobalLimit = 1 << 20
		}
		var wg sync.WaitGroup
		results, errs := make([][]run.ClaimResult, batches), make([]error, batches)
		for b := range batches {
			mine := slices.Clone(claims)
			if b%2 == 1 {
				slices.Reverse(mine)
			}
			calls := [][]run.Claim{mine}
			if b >= 6 { // and some as they come
				calls = slices.Collect(slices.Chunk(mine, 1))
			}
			wg.Go(func() {
				for _, c := range calls {
					r, err := stores[b%3].ClaimMany(t.Context(), c)
					results[b], errs[b] = append(results[b], r...), errors.Join(errs[b], err)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		claimed := map[string]int{}
		for _, batch := range results {
			for _, r := range batch {
				if r.Outcome == run.Claimed {
					claimed[r.Run.Key]++
				} else if r.Outcome != run.Joined {
					t.Errorf("outcome %d", r.Outcome)
				}
			}
		}
		for _, c := range claims {
			if claimed[c.Key] != 1 {
				t.Errorf("%d runs for one key", claimed[c.Key])
			}
		}
	}
}

// TestLimitOverTime moves the log of a limit back step by step, as time does, and
// pushes all the while.
func TestLimitOverTime(t *testing.T) {
	for _, each := range []int{1, 2} { // claims at a time
		t.Run(fmt.Sprint(each, " at a time"), func(t *testing.T) { limitOverTime(t, each) })
	}
}

func limitOverTime(t *testing.T, each int) {
	url := pgtest.Database(t)
	s := open(t, url)
	const limit, steps = 40, 260
	const step = 700 * time.Millisecond
	var admitted []time.Time
	var passed time.Duration
	for i := range steps {
		claims := make([]run.Claim, each)
		for k := range claims {
			claims[k] = chat(userA)
			claims[k].Limit = limit
		}
		results, err := s.ClaimMany(t.Context(), claims)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Outcome == run.Claimed {
				admitted = append(admitted, r.Run.CreatedAt.Add(passed))
			}
		}
		if pairs := query[int](t, url, "select max(cardinality(times)) from rate_limits")[0]; pairs > 128 {
			t.Fatalf("step %d: %d pairs", i, pairs)
		}
		age(t, s, step)
		passed += step
	}
	for i := limit; i < len(admitted); i++ {
		// The claim's own time is a moment before the one that was judged.
		if d := admitted[i].Sub(admitted[i-limit]); d < run.RateWindow-100*time.Millisecond {
			t.Fatalf("%d admitted within %v", limit+1, d)
		}
	}
	if least := int(0.98 * limit * float64(int(passed/run.RateWindow))); len(admitted) < least {
		t.Errorf("%d admitted in %v, want at least %d", len(admitted), passed, least)
	}
}

// TestDelete: what a session had goes with it.
func TestDelete(t *testing.T) {
	url := pgtest.Database(t)
	s := open(t, url)
	mine, other, nobodys := chat(userA), chat(userA), chat("")
	results, err := s.ClaimMany(t.Context(), batchOf(mine, other, nobodys))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if _, err := s.FinishMany(t.Context(), []run.Finish{answer(r.Run)}); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, url, "delete from sessions where id = any ($1)", []uuid.UUID{mine.SessionID, nobodys.SessionID})
	for table, want := range map[string]int{"sessions": 1, "messages": 2, "runs": 1, "run_segments": 1} {
		if got := query[int](t, url, "select count(*) from "+table)[0]; got != want {
			t.Errorf("%d rows in %s, want the other session's %d", got, table, want)
		}
	}
}

// TestCharacters: nothing that a provider may send makes an end unstorable.
func TestCharacters(t *testing.T) {
	s := open(t, pgtest.Database(t))
	results, err := s.ClaimMany(t.Context(), batchOf(chat(userA)))
	if err != nil {
		t.Fatal(err)
	}
	f := answer(results[0].Run)
	f.Message.Content = "a\x00b\xffc"
	f.Message.ToolCalls = []byte(`[{"arguments":"\u0000\ud800"}]`)
	f.Events[0].Data = []byte(`{"note":"\u0000"}`)
	f.Result = []byte(`{"note":"\u0000"}`)
	done, err := s.FinishMany(t.Context(), []run.Finish{f})
	if err != nil || !done[0] {
		t.Fatalf("done %v, %v", done, err)
	}
	m, err := s.Answer(t.Context(), f.Run)
	if err != nil || m.Content != "a\ufffdb\ufffdc" || string(m.ToolCalls) != string(f.Message.ToolCalls) {
		t.Errorf("stored %q, %s, %v", m.Content, m.ToolCalls, err)
	}
}

// TestCrash stops the server as a crash does, under load. What was acknowledged is
// there afterwards, and the store finds back by itself.
func TestCrash(t *testing.T) {
	server := pgtest.Cluster(t)
	if _, err := postgres.Migrate(t.Context(), server.URL); err != nil {
		t.Fatal(err)
	}
	s := open(t, server.URL)
	for range 2 {
		const workers = 8
		var wg sync.WaitGroup
		acknowledged := make([][]run.Finish, workers)
		first := make(chan struct{}, workers)
		for w := range workers {
			wg.Go(func() { acknowledged[w] = chatUntilError(t, s, fmt.Sprint("user", w), first) })
		}
		for range workers {
			<-first
		}
		server.Stop(t, "immediate")
		wg.Wait()
		if err := s.Ping(t.Context()); err == nil {
			t.Error("a server that is down answers")
		}
		server.Start(t)
		for _, f := range slices.Concat(acknowledged...) {
			r, err := s.Load(t.Context(), f.Run)
			if err != nil || r.State != run.Completed {
				t.Fatalf("an acknowledged end is lost: %s, %v", r.State, err)
			}
			m, err := s.Answer(t.Context(), f.Run)
			if err != nil || m.Content != f.Message.Content {
				t.Fatalf("an acknowledged answer is lost: %v", err)
			}
			log, err := s.Tails(t.Context(), []run.Tail{{Run: f.Run}})
			if err != nil || len(log[0].Segments) != 2 {
				t.Fatalf("an acknowledged log is lost: %+v, %v", log, err)
			}
		}
	}
}

// chatUntilError chats until the store fails, and returns what it acknowledged.
func chatUntilError(t *testing.T, s store, user string, first chan<- struct{}) (acknowledged []run.Finish) {
	for n := 0; ; n++ {
		c := chat(user)
		results, err := s.ClaimMany(t.Context(), batchOf(c))
		if err != nil {
			return acknowledged
		}
		f := answer(results[0].Run)
		segment := run.Segment{Run: c.ID, Attempt: 1, First: 1, Last: 1, Data: []byte("first")}
		f.Segment.First = 2
		if _, err := s.AppendMany(t.Context(), []run.Segment{segment}); err != nil {
			return acknowledged
		}
		done, err := s.FinishMany(t.Context(), []run.Finish{f})
		if err != nil {
			return acknowledged
		}
		if !done[0] {
			t.Error("an end was refused")
		}
		if acknowledged = append(acknowledged, f); n == 2 {
			first <- struct{}{}
		}
	}
}
