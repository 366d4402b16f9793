package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	aRun     = "0199aaaa-0000-7000-8000-000000000001"
	aReady   = "retry: 900\nevent: ready\ndata: {\"trace_id\":\"t\",\"request_id\":\"" + aRun + "\",\"session_id\":\"s\",\"attempt\":1}\n\n"
	keepOn   = "event: keepalive\ndata: {\"trace_id\":\"t\"}\n\n"
	softEnd  = "retry: 900\nevent: error\ndata: {\"code\":\"server_draining\",\"message\":\"m\",\"retryable\":true,\"trace_id\":\"t\"}\n\n"
	hardSoft = "event: error\ndata: {\"code\":\"server_draining\",\"message\":\"m\",\"retryable\":false,\"trace_id\":\"t\"}\n\n"
)

func aDelta(attempt, seq int, text, more string) string {
	return fmt.Sprintf("id: %s-%d-%d\nevent: chat.delta\ndata: {\"request_id\":%q,\"seq\":%d,\"attempt\":%d,\"delta\":%q%s,\"trace_id\":\"t\"}\n\n",
		aRun, attempt, seq, aRun, seq, attempt, text, more)
}

func aDone(attempt, seq int, text string) string {
	return fmt.Sprintf("id: %s-%d-%d\nevent: chat.done\ndata: {\"request_id\":%q,\"message_id\":\"m\",\"content_bytes\":%d,\"content_sha256\":\"%x\",\"finish_reason\":\"stop\",\"trace_id\":\"t\"}\n\n",
		aRun, attempt, seq, aRun, len(text), sha256.Sum256([]byte(text)))
}

func anError(attempt, seq int) string {
	return fmt.Sprintf("id: %s-%d-%d\nevent: error\ndata: {\"request_id\":%q,\"code\":\"upstream_truncated\",\"message\":\"m\",\"retryable\":true,\"trace_id\":\"t\"}\n\n",
		aRun, attempt, seq, aRun)
}

// TestCheckerOfFrames makes sure that the checker which every other test here
// leans on lets right streams pass and catches wrong ones.
func TestCheckerOfFrames(t *testing.T) {
	d := aDelta
	cases := []struct {
		name      string
		responses []string // of one run, in order
		text      string
		want      string // part of the violation, "cut" for errCut, "" for a proper end
	}{
		{"whole", []string{aReady + keepOn + d(1, 1, "a", "") + d(1, 2, "b", "") + aDone(1, 3, "ab")}, "ab", ""},
		{"failed", []string{aReady + d(1, 1, "a", "") + anError(1, 2)}, "a", ""},
		{"failed at once", []string{aReady + anError(1, 1)}, "", ""},
		{"resumed", []string{aReady + d(1, 1, "a", ""), aReady + d(1, 2, "b", "") + aDone(1, 3, "ab")}, "ab", ""},
		{"new attempt", []string{aReady + d(1, 1, "x", "") + d(2, 1, "a", `,"reset":true`) + aDone(2, 2, "a")}, "a", ""},
		{"attempt skipped", []string{aReady + d(1, 1, "x", ""), aReady + d(3, 1, "a", `,"reset":true`) + aDone(3, 2, "a")}, "a", ""},
		{"drained", []string{aReady + d(1, 1, "a", "") + softEnd, aReady + aDone(1, 2, "a")}, "a", ""},
		{"no end", []string{aReady + d(1, 1, "a", "")}, "a", "cut"},
		{"half a frame", []string{aReady + d(1, 1, "a", "")[:20]}, "", "cut"},
		{"no ready", []string{d(1, 1, "a", "")}, "", "where ready is due"},
		{"two readies", []string{aReady + aReady}, "", "where ready is due"},
		{"gap", []string{aReady + d(1, 1, "a", "") + d(1, 3, "c", "")}, "a", "1-3 after 1-1"},
		{"twice", []string{aReady + d(1, 1, "a", "") + d(1, 1, "a", "")}, "a", "1-1 after 1-1"},
		{"back", []string{aReady + d(2, 1, "a", "") + d(1, 1, "a", "")}, "a", "1-1 after 2-1"},
		{"spliced", []string{aReady + d(1, 1, "a", "") + d(2, 1, "b", "")}, "a", "without reset"},
		{"spliced end", []string{aReady + d(1, 1, "a", "") + aDone(2, 1, "")}, "a", "another length"},
		{"wrong hash", []string{aReady + d(1, 1, "a", "") + aDone(1, 2, "b")}, "a", "another hash"},
		{"two ends", []string{aReady + d(1, 1, "a", "") + aDone(1, 2, "a") + aDone(1, 3, "a")}, "a", "after the terminal frame"},
		{"half after the end", []string{aReady + anError(1, 1) + "id: x"}, "", "after the terminal frame"},
		{"soft but final", []string{aReady + hardSoft}, "", "not retryable"},
		{"keepalive with id", []string{aReady + "id: x\n" + keepOn}, "", "keepalive with id"},
		{"carriage return", []string{strings.ReplaceAll(aReady, "\n", "\r\n")}, "", "line"},
		{"two data lines", []string{"event: ready\ndata: {}\ndata: {}\n\n"}, "", "two lines"},
		{"not compact", []string{"event: ready\ndata: {\"trace_id\": \"t\"}\n\n"}, "", "not compact"},
		{"comment", []string{": hello\n\n"}, "", "line"},
		{"no trace", []string{"event: ready\ndata: {}\n\n"}, "", "without trace_id"},
		{"forged run", []string{aReady + strings.ReplaceAll(d(1, 1, "a", ""), "0001", "0002")}, "", "of run"},
		{"too long", []string{aReady + d(1, 1, strings.Repeat("x", maxFrame), "")}, "", "more than"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var a answer
			var err error
			for _, r := range tc.responses {
				err = a.read(strings.NewReader(r))
			}
			var v *violation
			switch {
			case tc.want == "" && (err != nil || !a.over()):
				t.Errorf("refused: %v, over %t", err, a.over())
			case tc.want == "cut" && !errors.Is(err, errCut):
				t.Errorf("error %v, want errCut", err)
			case tc.want != "" && tc.want != "cut" && (!errors.As(err, &v) || !strings.Contains(v.what, tc.want)):
				t.Errorf("error %v, want a violation with %q", err, tc.want)
			}
			if a.Text != tc.text {
				t.Errorf("text %q, want %q", a.Text, tc.text)
			}
		})
	}
}
