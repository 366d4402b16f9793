package httpapi_test

import (
	"encoding/json"
	"sync"

	"github.com/agentedge/agentedge/contract/testedge"
	"github.com/agentedge/agentedge/internal/mockprovider"
)

// scripted is a script that says a text as it is, in so many deltas.
func scripted(text string, deltas int) func(*mockprovider.Request) mockprovider.Script {
	return func(*mockprovider.Request) mockprovider.Script {
		return mockprovider.Script{Text: text, Verbatim: true, Chunks: deltas}
	}
}

// seen keeps what a provider was asked.
type seen struct {
	mu   sync.Mutex
	list []asked
}

type asked struct {
	Messages []message
	Body     map[string]json.RawMessage
}

type message struct {
	Role    string
	Content any
}

// watch keeps what the edge's first provider is asked from now on.
func watch(e *testedge.Edge) *seen {
	s := &seen{}
	e.Mocks[0].Script(func(r *mockprovider.Request) mockprovider.Script {
		var a asked
		var v struct{ Messages []message }
		if json.Unmarshal(r.Body, &a.Body) == nil && json.Unmarshal(r.Body, &v) == nil {
			a.Messages = v.Messages
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.list = append(s.list, a)
		return mockprovider.Script{}
	})
	return s
}

func (s *seen) last() asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return asked{}
	}
	return s.list[len(s.list)-1]
}
