package testedge

import (
	"context"
	"net"
	"sync"
)

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// network opens a listener and says how to reach it.
func network(inProcess bool) (net.Listener, dialer, error) {
	if !inProcess {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		return ln, (&net.Dialer{}).DialContext, err
	}
	p := &pipes{conns: make(chan net.Conn), over: make(chan struct{})}
	return p, p.dial, nil
}

// pipes is a network without buffers: a byte is written when it is read, so a
// reader that stops is seen at once.
type pipes struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.over) })
	return nil
}

// Addr is a name that needs no resolver.
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "tcp" }
func (pipeAddr) String() string  { return "edge.test:80" }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
