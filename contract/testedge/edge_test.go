package testedge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentedge/agentedge/contract/testedge"
)

// TestBothNetworks holds the two networks to one answer.
func TestBothNetworks(t *testing.T) {
	turn := func(t *testing.T, pipes bool) {
		e := testedge.Start(t, testedge.Config{Pipes: pipes, HTTP: testedge.Dev()})
		s := e.Stream(t, testedge.Call{Body: `{"content":"hello there"}`})
		if s.Text != "[mock] hello there" || s.Done == nil || e.Calls() != 1 {
			t.Errorf("got %+v", s)
		}
		if n := e.Rows(t)["messages"]; n != 2 {
			t.Errorf("%d messages stored", n)
		}
	}
	t.Run("tcp", func(t *testing.T) { turn(t, false) })
	t.Run("pipes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			turn(t, true)
			if time.Since(began) > time.Minute {
				t.Error("time passed")
			}
		})
	})
}
