package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// cutter is a TCP proxy before one node that breaks every connection after some
// number of the node's bytes, half of them by RST.
type cutter struct {
	listener net.Listener
	target   string
	limit    func() int64 // bytes until the cut; negative: none
	conns    sync.WaitGroup
}

func newCutter(t *testing.T, target string, limit func() int64) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, target: target, limit: limit}
	c.conns.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.conns.Wait()
	})
	return c
}

func (c *cutter) addr() string { return c.listener.Addr().String() }

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.conns.Go(func() { c.carry(client.(*net.TCPConn)) })
	}
}

// carry copies both ways until either side is done or the cut is due.
func (c *cutter) carry(client *net.TCPConn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	var up sync.WaitGroup
	up.Go(func() {
		io.Copy(server, client) // either side may break: that is the point
		server.Close()
	})
	if limit := c.limit(); limit < 0 {
		io.Copy(client, server) // as above
	} else {
		io.CopyN(client, server, limit) // as above
		if limit%2 == 0 {
			client.SetLinger(0) // as above
		}
	}
	client.Close()
	up.Wait()
}

// TestCutConnectionsResume cuts connections at a random byte and resumes each at
// any node until the answer is whole: byte for byte what the provider said, and
// the provider called once per run.
func TestCutConnectionsResume(t *testing.T) {
	onBothStores(t, 2, func(t *testing.T, s *site) {
		turns, clients := scale(200, 1000), 16
		var doors []*cutter
		for _, n := range s.nodes {
			doors = append(doors, newCutter(t, n.addr, func() int64 { return rand.Int64N(9000) }))
		}
		var work sync.WaitGroup
		for client := range clients {
			work.Go(func() {
				for i := client; i < turns && !t.Failed(); i += clients {
					s.cutTurn(t, i, doors)
				}
			})
		}
		work.Wait()
		s.settle()
		if rows := s.mustRows(); len(rows) != turns || s.provider.callsInAll() != turns {
			t.Errorf("%d turns, %d runs, %d provider calls", turns, len(rows), s.provider.callsInAll())
		}
	})
}

// cutTurn follows one turn through the cutters, and after five cuts without them.
func (s *site) cutTurn(t *testing.T, i int, doors []*cutter) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tag := fmt.Sprintf("cut%d", i)
	connections := 0
	pick := func() string {
		connections++
		if connections > 5 {
			return s.nodes[rand.IntN(len(s.nodes))].addr
		}
		return doors[rand.IntN(len(doors))].addr()
	}
	var a answer
	if err := s.follow(ctx, turn{tag: tag, prompt: "chunks=30 gap=2ms", key: "key-" + tag}, &a, pick); err != nil {
		t.Error(err)
		return
	}
	if a.Done == nil || a.Text != text(tag, 1, 30) || a.Resets != 0 {
		t.Errorf("%s after %d connections: done %t, %d resets, text %.100q", tag, connections, a.Done != nil, a.Resets, a.Text)
	}
}
