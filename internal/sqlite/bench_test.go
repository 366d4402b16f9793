package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// BenchmarkClaimFinish is the store's share of a plain chat: a claim in a
// session of its own under a limit, and a finish with a segment, an answer and
// an event, at several sizes of batch. It reports the CPU of the whole process
// per chat, and how long one waits for its two commits.
func BenchmarkClaimFinish(b *testing.B) {
	for _, size := range []int{1, 8, 16, 32} {
		b.Run(fmt.Sprint("batch", size), func(b *testing.B) {
			s := fresh(b)
			before := cpu(b)
			chats := 0
			for b.Loop() {
				chat(b, s, size)
				chats += size
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(chats)/1e3, "cpu-µs/chat")
			b.ReportMetric(float64(b.Elapsed())/float64(chats)/1e3, "µs/chat")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// chat makes and ends size runs.
func chat(b *testing.B, s *Store, size int) {
	b.Helper()
	claims := make([]run.Claim, size)
	for i := range claims {
		claims[i] = benchClaim(i)
	}
	results, err := s.ClaimMany(context.Background(), claims)
	if err != nil {
		b.Fatal(err)
	}
	finishes := make([]run.Finish, size)
	for i, r := range results {
		if r.Outcome != run.Claimed {
			b.Fatalf("outcome %d", r.Outcome)
		}
		finishes[i] = benchFinish(r.Run)
	}
	if _, err := s.FinishMany(context.Background(), finishes); err != nil {
		b.Fatal(err)
	}
}

func benchClaim(i int) run.Claim {
	id, session := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	user, trace := uuid.NewString(), uuid.NewString()
	content := strings.Repeat("What is the answer to this? ", 8)
	return run.Claim{
		Record: run.Record{
			ID: id, Kind: "chat", Endpoint: "chat", Principal: fmt.Sprint("authenticated:user-", i%8), Owner: user, SessionID: session,
			Fingerprint: make([]byte, 32), Node: "node", TraceID: trace,
			Request: json.RawMessage(`{"content":"` + content + `","model":"gpt-4o-mini","temperature":0.2}`),
		},
		NewSession: true, Lease: 15 * time.Second, HistoryBytes: 32000, Limit: 1 << 20,
		Message: record.Message{
			ID: uuid.Must(uuid.NewV7()), SessionID: session, RunID: id, Owner: user, Role: "user", Content: content,
			Status: record.StatusComplete, TraceID: trace,
		},
		Event: record.Event{
			ID: uuid.Must(uuid.NewV7()), Type: "chat_started", TraceID: trace, RunID: id, SessionID: session, Owner: user,
			Data: json.RawMessage(`{"model":"gpt-4o-mini","history":0}`),
		},
	}
}

func benchFinish(r run.Record) run.Finish {
	answer := strings.Repeat("The answer is forty-two. ", 20)
	return run.Finish{
		Run: r.ID, Attempt: r.Attempt, State: run.Completed, LastSeq: 2,
		Segment: &run.Segment{Run: r.ID, Attempt: r.Attempt, First: 1, Last: 2, Data: []byte(answer + answer)},
		Result:  json.RawMessage(`{"finish_reason":"stop","model":"gpt-4o-mini","provider":"openai","total_ms":812,"ttfb_ms":120}`),
		Message: &record.Message{
			ID: uuid.Must(uuid.NewV7()), SessionID: r.SessionID, RunID: r.ID, Owner: r.Owner, Role: "assistant", Content: answer,
			Model: "gpt-4o-mini", Provider: "openai", Status: record.StatusComplete, TraceID: r.TraceID,
			Usage: &record.Usage{PromptTokens: 30, CompletionTokens: 90, TotalTokens: 120, Source: record.Measured},
		},
		Events: []record.Event{{
			ID: uuid.Must(uuid.NewV7()), Type: "chat_done", TraceID: r.TraceID, RunID: r.ID, SessionID: r.SessionID, Owner: r.Owner,
			Data: json.RawMessage(`{"total_ms":812,"ttfb_ms":120,"total_tokens":120}`),
		}},
	}
}
