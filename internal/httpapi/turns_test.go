package httpapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/mockprovider"
)

// TestHistory: the turns of a session go before the new content, the same for
// whoever asks in that session.
func TestHistory(t *testing.T) {
	e := testedge.Start(t, edges()["strict"])
	provider := watch(e)
	u1 := testedge.Token("authenticated", "u1")
	first := e.Stream(t, as(u1, body(`{"content":"first"}`)))
	session := first.Ready.SessionID
	if got := provider.last().Messages; fmt.Sprint(got) != "[{user first}]" {
		t.Errorf("the first turn was asked as %v", got)
	}
	in := func(content string) testedge.Call {
		return as(u1, body(`{"session_id":"`+session+`","content":`+content+`}`))
	}
	second := e.Stream(t, in(`"second"`))
	if second.Ready.SessionID != session {
		t.Errorf("another session: %+v", second.Ready)
	}
	if got := fmt.Sprint(provider.last().Messages); got != "[{user first} {assistant [mock] first} {user second}]" {
		t.Errorf("the second turn was asked as %s", got)
	}
	// A turn that failed before it said anything is no part of the conversation.
	e.Mocks[0].Script(func(*mockprovider.Request) mockprovider.Script { return mockprovider.Script{Status: 401} })
	e.Stream(t, in(`"lost"`))
	provider = watch(e)
	e.Stream(t, in(`[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]`))
	e.Stream(t, in(`"last"`))
	var roles []string
	for _, m := range provider.last().Messages {
		roles = append(roles, m.Role)
	}
	if want := []string{"user", "assistant", "user", "assistant", "user", "assistant", "user"}; !slices.Equal(roles, want) {
		t.Errorf("the last turn was asked as %v", provider.last().Messages)
	}
	if parts := fmt.Sprint(provider.last().Messages[4].Content); !strings.Contains(parts, "base64,AA==") {
		t.Errorf("content parts in the history: %s", parts)
	}
	// The service acts in a user's session; its rows are the user's.
	s := e.Stream(t, as(secretKey, body(`{"session_id":"`+session+`","content":"by the service","system":"be brief"}`)))
	got := provider.last().Messages
	if got[0].Role != "system" || got[0].Content != "be brief" || len(got) != 10 {
		t.Errorf("the service's turn was asked as %v", got)
	}
	if owners := e.Query(t, "select distinct owner from messages where session_id = ?", session); !slices.Equal(owners, []string{"u1"}) {
		t.Errorf("owners of the session's messages: %v", owners)
	}
	if s.Ready.SessionID != session {
		t.Errorf("another session: %+v", s.Ready)
	}
}

// TestHistoryIsBounded: old turns are left out, whole turns only.
func TestHistoryIsBounded(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev(), Chat: chat.ServiceConfig{HistoryTokens: 60}})
	provider := watch(e)
	session := e.Stream(t, body(`{"content":"turn 0"}`)).Ready.SessionID
	for i := 1; i <= 12; i++ {
		e.Stream(t, body(fmt.Sprintf(`{"session_id":"%s","content":"turn %d of a conversation"}`, session, i)))
	}
	got := provider.last().Messages
	if len(got) < 3 || len(got) > 11 || got[0].Role != "user" || len(got)%2 != 1 {
		t.Errorf("asked as %v", got)
	}
	if last := got[len(got)-1].Content; last != "turn 12 of a conversation" {
		t.Errorf("the newest turn is %v", last)
	}
	if before := got[len(got)-2].Content; before != "[mock] turn 11 of a conversation" {
		t.Errorf("the turn before it is %v", before)
	}
}

// TestPassedOn: parameters reach the provider as they came, and nothing else does.
func TestPassedOn(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	provider := watch(e)
	params := map[string]string{
		"temperature": "0.50", "top_p": "1e-1", "max_tokens": "7", "stop": `["a","b"]`, "seed": "-3", "presence_penalty": "-2",
		"tools": `[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`, "tool_choice": `"auto"`,
		"response_format": `{"type":"json_object"}`, "logit_bias": `{"50256":-100}`,
	}
	ask := `{"content":"x","metadata":{"k":"private"},"model":"team/m-1","idempotency_key":"secret-key"`
	for name, value := range params {
		ask += `,"` + name + `":` + value
	}
	s := e.Stream(t, as("", body(ask+"}")))
	got := provider.last().Body
	for name, value := range params {
		if string(got[name]) != value {
			t.Errorf("%s was %s, sent as %s", name, value, got[name])
		}
		delete(got, name)
	}
	if string(got["model"]) != `"team/m-1"` || string(got["stream"]) != "true" {
		t.Errorf("asked %v", got)
	}
	for _, extra := range []string{"metadata", "idempotency_key", "session_id", "request_id", "content", "user"} {
		if _, there := got[extra]; there {
			t.Errorf("the provider was sent %s", extra)
		}
	}
	stored := e.Query(t, "select request from runs where id = ?", s.Ready.RequestID)[0]
	if !strings.Contains(stored, `"metadata":{"k":"private"}`) {
		t.Errorf("the metadata is not stored: %s", stored)
	}
	e.JSON(t, 200, body(`{"content":"x","stream":false}`))
	if string(provider.last().Body["stream"]) == "true" {
		t.Error("an answer without a stream was asked for as one")
	}
}

// TestReasoning: what a model thinks passes through beside what it says.
func TestReasoning(t *testing.T) {
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	s := e.Stream(t, body(`{"content":"hi [[mock: reasoning=5]]"}`))
	if s.Reasoning == "" || s.Text != "[mock] hi" || s.Deltas[0].Reasoning == "" || s.Deltas[0].Delta != "" {
		t.Errorf("got %s", s.Raw)
	}
	whole := e.JSON(t, 200, body(`{"content":"hi [[mock: reasoning=5]]","stream":false}`))
	if whole["reasoning"] != s.Reasoning || whole["content"] != "[mock] hi" {
		t.Errorf("without a stream: %v", whole)
	}
}

// TestToolCalls: calls of tools pass through, in frames of a bounded size, and are
// put together at the end.
func TestToolCalls(t *testing.T) {
	const tools = `"tools":[{"type":"function","function":{"name":"look"}},{"type":"function","function":{"name":"book"}}]`
	e := testedge.Start(t, testedge.Config{HTTP: testedge.Dev()})
	for _, c := range []struct {
		name, args string
		inline     bool
	}{
		{"small", `{"q":"é \"x\" \n"}`, true},
		{"large", `{"q":"` + strings.Repeat("漢字 🙂 \\n ", 3000) + `"}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.Mocks[0].Script(func(*mockprovider.Request) mockprovider.Script {
				return mockprovider.Script{Tools: "look,book", Args: c.args}
			})
			s := e.Stream(t, body(`{"content":"go",`+tools+`}`))
			if s.Done == nil || s.Done.FinishReason != "tool_calls" || (s.Done.ToolCalls != nil) != c.inline {
				t.Fatalf("done is %+v, error %+v", s.Done, s.Error)
			}
			calls := joined(t, s)
			if len(calls) != 2 || calls[0].name != "look" || calls[1].name != "book" || calls[0].id == calls[1].id {
				t.Errorf("calls: %.200v", calls)
			}
			for _, call := range calls {
				if call.args != c.args {
					t.Errorf("%s: %d bytes of arguments, want %d", call.name, len(call.args), len(c.args))
				}
			}
			checkCalls(t, "GET", e.JSON(t, 200, testedge.Call{Path: "/chat/" + s.Ready.RequestID})["tool_calls"], c.args)
			// Without a stream the calls come in one piece, however long.
			whole := e.JSON(t, 200, body(`{"stream":false,"content":"go",`+tools+`}`))
			checkCalls(t, "JSON", whole["tool_calls"], c.args)
			again := e.Stream(t, testedge.Call{Path: "/chat/" + whole["request_id"].(string) + "?stream=true"})
			if calls := joined(t, again); len(calls) != 2 || calls[1].args != c.args {
				t.Errorf("the log of the JSON answer: %.200v", calls)
			}
		})
	}
	e.Mocks[0].Script(func(*mockprovider.Request) mockprovider.Script {
		return mockprovider.Script{Tools: "look", Text: "beside it"}
	})
	if s := e.Stream(t, body(`{"content":"go",`+tools+`}`)); s.Text != "beside it" || len(joined(t, s)) != 1 {
		t.Errorf("text beside a call: %s", s.Raw)
	}
	if s := e.Stream(t, body(`{"content":"no tools are offered"}`)); s.Done == nil || s.Done.ToolCalls != nil {
		t.Errorf("done is %+v", s.Done)
	}
}

func checkCalls(t *testing.T, where string, v any, args string) {
	t.Helper()
	list, _ := v.([]any)
	if len(list) != 2 {
		t.Fatalf("%s has %d calls", where, len(list))
	}
	call := list[1].(map[string]any)
	function := call["function"].(map[string]any)
	if call["type"] != "function" || call["id"] == "" || function["name"] != "book" || function["arguments"] != args {
		t.Errorf("%s: %.300v", where, call)
	}
}

type calledTool struct{ id, name, args string }

// joined puts a stream's tool calls together as a client of OpenAI's would.
func joined(t *testing.T, s *testedge.Stream) []calledTool {
	t.Helper()
	var calls []calledTool
	for _, d := range s.Deltas {
		for _, part := range toolDeltas(t, d) {
			for len(calls) <= part.Index {
				calls = append(calls, calledTool{})
			}
			c := &calls[part.Index]
			c.id += part.ID
			c.name += part.Function.Name
			c.args += part.Function.Arguments
		}
	}
	return calls
}

type toolDelta struct {
	Index    int
	ID       string
	Function struct{ Name, Arguments string }
}

func toolDeltas(t *testing.T, d api.Delta) []toolDelta {
	t.Helper()
	var list []toolDelta
	if d.ToolCalls == nil {
		return nil
	}
	if err := json.Unmarshal(d.ToolCalls, &list); err != nil {
		t.Fatal(err)
	}
	return list
}
