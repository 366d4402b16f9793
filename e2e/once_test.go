package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestOneKeyManyRequests posts one request fifty times at once, over all nodes:
// it must be generated once, stored once, and read alike by everybody.
func TestOneKeyManyRequests(t *testing.T) {
	onBothStores(t, 3, func(t *testing.T, s *site) {
		for round := range scale(3, 20) {
			tag := fmt.Sprintf("once%d", round)
			answers := s.askTogether(turn{tag: tag, prompt: "chunks=30 gap=2ms", key: "key-" + tag}, 50)
			want, replayed := text(tag, 1, 30), 0
			for i, a := range answers {
				if a.Done == nil || a.Text != want || a.Run != answers[0].Run || a.LastID != answers[0].LastID || a.Done.MessageID != answers[0].Done.MessageID {
					t.Errorf("answer %d: run %s, last id %s, done %t, text %.60q", i, a.Run, a.LastID, a.Done != nil, a.Text)
				}
				if a.Replayed {
					replayed++
				}
			}
			if calls := s.provider.callsOf(tag); calls != 1 {
				t.Errorf("the provider was called %d times", calls)
			}
			if replayed != 49 {
				t.Errorf("%d of 50 answers are marked as replayed, want 49", replayed)
			}
			rows := s.mustRows()
			r := rows[answers[0].Run]
			if len(rows) != round+1 || r == nil || r.Assistants != 1 || r.Users != 1 || r.State != "completed" || r.Content != want {
				t.Errorf("%d runs for %d keys; the run: %+v", len(rows), round+1, r)
			}
		}
	})
}

// askTogether sends a turn n times at once, to the nodes in turn.
func (s *site) askTogether(tn turn, n int) []*answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	answers := make([]*answer, n)
	begin := make(chan struct{})
	var clients sync.WaitGroup
	for i := range n {
		answers[i] = &answer{}
		clients.Go(func() {
			<-begin
			if err := s.ask(ctx, s.nodes[i%len(s.nodes)].addr, tn, answers[i]); err != nil {
				s.t.Errorf("client %d: %v", i, err)
			}
		})
	}
	close(begin)
	clients.Wait()
	return answers
}
