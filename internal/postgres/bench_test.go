package postgres_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/pgtest"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// chat is a keyed, limited claim of a user's in a session of its own.
func chat(user string) run.Claim {
	id, session := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	return run.Claim{
		Record: run.Record{
			ID: id, Kind: "chat", Endpoint: "chat", Principal: "authenticated:" + user, Owner: user, SessionID: session,
			Key: id.String(), Fingerprint: bytes.Repeat([]byte{7}, 32), Node: "node", TraceID: id.String(),
			Request: json.RawMessage(`{"content":"What is the capital of France?","model":"m"}`),
		},
		NewSession: true, Lease: 15e9, HistoryBytes: 32 << 10, Limit: 1 << 30,
		Message: record.Message{
			ID: uuid.Must(uuid.NewV7()), SessionID: session, RunID: id, Owner: user, Role: "user",
			Content: "What is the capital of France?", Status: record.StatusComplete, TraceID: id.String(),
		},
		Event: record.Event{
			ID: uuid.Must(uuid.NewV7()), Type: "chat_started", TraceID: id.String(), RunID: id, SessionID: session, Owner: user,
			Data: json.RawMessage(`{"model":"m"}`),
		},
	}
}

// answer is the end of a chat whose log is all in it.
func answer(r run.Record) run.Finish {
	return run.Finish{
		Run: r.ID, Attempt: r.Attempt, State: run.Completed, LastSeq: 3,
		Segment: &run.Segment{Run: r.ID, Attempt: r.Attempt, First: 1, Last: 3, Data: bytes.Repeat([]byte("frame "), 60)},
		Result:  json.RawMessage(`{"finish_reason":"stop","content_bytes":200,"total_ms":12}`),
		Message: &record.Message{
			ID: uuid.Must(uuid.NewV7()), SessionID: r.SessionID, RunID: r.ID, Owner: r.Owner, Role: "assistant",
			Content: strings.Repeat("Paris. ", 30), Model: "m", Provider: "p", Status: record.StatusComplete, TraceID: r.TraceID,
			Usage: &record.Usage{PromptTokens: 10, CompletionTokens: 60, TotalTokens: 70, Source: record.Measured},
		},
		Events: []record.Event{{
			ID: uuid.Must(uuid.NewV7()), Type: "chat_done", TraceID: r.TraceID, RunID: r.ID, SessionID: r.SessionID,
			Owner: r.Owner, Data: json.RawMessage(`{"total_ms":12,"ttfb_ms":3}`),
		}},
	}
}

// BenchmarkClaimFinish is a chat as the database sees it: a claim, and an end
// with one segment. pg-µs/chat is the CPU of the store's backends (Linux, where
// the server runs on this machine).
func BenchmarkClaimFinish(b *testing.B) {
	for _, size := range []int{1, 8, 32} {
		b.Run(fmt.Sprint("batch ", size), func(b *testing.B) {
			url := pgtest.Database(b)
			s := open(b, url)
			talk := func() {
				claims := make([]run.Claim, size)
				for i := range claims {
					claims[i] = chat(fmt.Sprint("user", i%4))
				}
				results, err := s.ClaimMany(b.Context(), claims)
				if err != nil {
					b.Fatal(err)
				}
				finishes := make([]run.Finish, size)
				for i, r := range results {
					finishes[i] = answer(r.Run)
				}
				if _, err := s.FinishMany(b.Context(), finishes); err != nil {
					b.Fatal(err)
				}
			}
			for range 20 {
				talk() // plans are made
			}
			before := backendCPU(b, url)
			b.ResetTimer()
			for b.Loop() {
				talk()
			}
			chats := float64(b.N * size)
			b.ReportMetric(float64(b.Elapsed().Microseconds())/chats, "µs/chat")
			b.ReportMetric((backendCPU(b, url)-before)*1e6/chats, "pg-µs/chat")
		})
	}
}

// backendCPU is how many seconds the store's backends have worked.
func backendCPU(b *testing.B, url string) (seconds float64) {
	b.Helper()
	pids := query[int32](b, url, "select pid from pg_stat_activity where application_name = 'agentedge' and datname = current_database()")
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Skip("the server's CPU cannot be read here: ", err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		var user, system float64
		if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
			b.Fatal(err)
		}
		seconds += (user + system) / 100 // ticks
	}
	return seconds
}
