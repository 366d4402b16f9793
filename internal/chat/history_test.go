package chat

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/tokens"
)

// conversation is turns of one user and one assistant message of n letters each.
func conversation(turns, n int) []record.Message {
	var list []record.Message
	for range turns {
		for _, role := range []string{"user", "assistant"} {
			list = append(list, record.Message{Role: role, Content: strings.Repeat("a", n)})
		}
	}
	return list
}

// TestNewest: as many whole turns as fit, the newest ones.
func TestNewest(t *testing.T) {
	each := tokens.Estimate(strings.Repeat("a", 40))
	for _, c := range []struct {
		name   string
		budget int
		want   int // messages
	}{
		{"nothing", 0, 0}, {"not even one message", each - 1, 0}, {"half a turn", each, 0}, {"a turn less one", 2*each - 1, 0},
		{"a turn", 2 * each, 2}, {"a turn and a half", 3 * each, 2}, {"two turns", 4 * each, 4}, {"everything", 100 * each, 10},
	} {
		history := conversation(5, 40)
		got := newest(history, c.budget)
		if len(got) != c.want {
			t.Errorf("%s: %d messages, want %d", c.name, len(got), c.want)
		}
		if len(got) > 0 && got[0].Role != "user" {
			t.Errorf("%s begins with %s", c.name, got[0].Role)
		}
	}
	pictures := conversation(5, 40)
	for i := 0; i < len(pictures); i += 2 {
		pictures[i].Parts = make(json.RawMessage, api.MaxChatBody/2)
	}
	if got := newest(pictures, 100*each); len(got) != 4 {
		t.Errorf("of pictures %d messages, want 4", len(got))
	}
	if got := newest(nil, 100); len(got) != 0 {
		t.Errorf("nothing became %v", got)
	}
}

// TestMessages: system, history and content, in this order and in the provider's form.
func TestMessages(t *testing.T) {
	parts := json.RawMessage(`[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"u"}}]`)
	w := &turn{Turns: &Turns{cfg: TurnConfig{HistoryTokens: 100}}}
	w.req = Request{System: `be "brief"`, Content: json.RawMessage(`"n\u0065w"`)}
	got, err := json.Marshal(w.messages([]record.Message{
		{Role: "user", Content: "see", Parts: parts},
		{Role: "assistant", Content: "a\nb", ToolCalls: json.RawMessage(`[{"id":"c"}]`)},
	}))
	want := `[{"role":"system","content":"be \"brief\""},{"role":"user","content":` + string(parts) + `},{"role":"assistant","content":"a\nb"},{"role":"user","content":"n\u0065w"}]`
	if err != nil || string(got) != strings.ReplaceAll(want, `\u0065`, `\u0065`) {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

// TestEstimate counts what a provider did not, pictures not by their bytes.
func TestEstimate(t *testing.T) {
	w := &turn{prompt: []Message{
		{Role: "system", Content: json.RawMessage(`"be brief"`)},
		{Role: "user", Content: json.RawMessage(`[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"` + strings.Repeat("A", 100_000) + `"}}]`)},
	}}
	c := collect(framesOf(entry(kindText, "some words of text"), entry(kindReasoning, "a thought"),
		entry(kindTools, `[{"index":0,"function":{"name":"lookup","arguments":"{\"q\":1}"}}]`)))
	u := w.estimate(c)
	wantPrompt := tokens.Estimate(`"be brief"`) + tokens.Estimate("see") + 8
	wantAnswer := tokens.Estimate("some words of text") + tokens.Estimate("a thought") + tokens.Estimate("lookup") + tokens.Estimate(`{"q":1}`)
	if u.PromptTokens != wantPrompt || u.CompletionTokens != wantAnswer || u.TotalTokens != wantPrompt+wantAnswer || u.Source != record.Estimated {
		t.Errorf("%+v, want %d and %d", u, wantPrompt, wantAnswer)
	}
}

// TestKeep: who reads decides, unless the configuration does.
func TestKeep(t *testing.T) {
	for _, c := range []struct {
		policy string
		keyed  bool
		want   bool
	}{
		{"", true, true}, {"", false, false}, {Auto, true, true}, {Auto, false, false},
		{Continue, false, true}, {Cancel, true, false},
	} {
		if got := NewTurns(TurnConfig{OnDisconnect: c.policy}, nil).Keep(run.Record{Keyed: c.keyed}); got != c.want {
			t.Errorf("%q, keyed %v: %v", c.policy, c.keyed, got)
		}
	}
}
