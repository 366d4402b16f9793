package cli_test

import (
	"context"
	databasesql "database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // the driver of the embedded store

	"github.com/agentedge/agentedge/internal/mockprovider"
)

// mock is a provider that a script can ask what it got.
type mock struct {
	provider *mockprovider.Server
	server   *httptest.Server

	mu   sync.Mutex
	last []string // messages of the last chat
}

func (m *mock) stop() {
	m.provider.Close()
	m.server.Close()
}

// mock starts a provider and makes it that of the edges to come.
func startMock(ts *testscript.TestScript, _ bool, _ []string) {
	provider, err := mockprovider.New(mockprovider.Options{})
	ts.Check(err)
	m := &mock{provider: provider, server: httptest.NewServer(provider)}
	provider.Script(func(r *mockprovider.Request) mockprovider.Script {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.last = nil
		for _, message := range r.Messages {
			m.last = append(m.last, message.Role+": "+message.Text)
		}
		return mockprovider.Script{}
	})
	of(ts).mock = m
	ts.Setenv("CHAT_API_BASE", m.server.URL+"/v1")
}

// calls NAME=N… waits until the provider has counted so.
func calls(ts *testscript.TestScript, _ bool, args []string) {
	provider := of(ts).mock.provider
	ctx, done := context.WithTimeout(context.Background(), patient)
	defer done()
	err := provider.Await(ctx, func(s mockprovider.Stats) bool {
		counts := map[string]int{"all": s.Calls, "completed": s.Completed, "aborted": s.Aborted, "faulted": s.Faulted, "open": s.Open}
		for _, arg := range args {
			name, text, _ := strings.Cut(arg, "=")
			want, err := strconv.Atoi(text)
			got, known := counts[name]
			if err != nil || !known {
				ts.Fatalf("calls %s: not a count", arg)
			}
			if got != want {
				return false
			}
		}
		return true
	})
	if err != nil {
		ts.Fatalf("calls %v: %+v", args, provider.Stats())
	}
}

// heard prints the messages of the last chat that reached the provider.
func heard(ts *testscript.TestScript, _ bool, _ []string) {
	m := of(ts).mock
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintln(ts.Stdout(), strings.Join(m.last, "\n"))
}

// cutter is a TCP proxy that cuts every connection behind so many bytes of the
// answer, each a little later than the one before, so that there is an end.
type cutter struct {
	ln    net.Listener
	conns sync.WaitGroup

	mu    sync.Mutex
	limit int64
	cuts  int
}

// cutter ADDRESS BYTES: its address becomes $CUTTER.
func startCutter(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: cutter ADDRESS BYTES")
	}
	limit, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	c := &cutter{ln: ln, limit: limit}
	of(ts).cutter = c
	c.conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			c.conns.Go(func() { c.serve(conn.(*net.TCPConn), args[0]) })
		}
	})
	ts.Setenv("CUTTER", ln.Addr().String())
}

func (c *cutter) serve(conn *net.TCPConn, target string) {
	defer conn.Close()
	c.mu.Lock()
	limit := c.limit
	c.limit += 400
	c.mu.Unlock()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	var request sync.WaitGroup
	request.Go(func() {
		_, _ = io.Copy(up, conn) // ends with either connection
		_ = up.Close()
	})
	if n, _ := io.CopyN(conn, up, limit); n == limit {
		c.mu.Lock()
		c.cuts++
		c.mu.Unlock()
		_ = conn.SetLinger(0)
	}
	_ = conn.Close()
	_ = up.Close()
	request.Wait()
}

func (c *cutter) stop() {
	_ = c.ln.Close()
	c.conns.Wait()
}

// cuts N: at least so many connections were cut.
func cuts(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := of(ts).cutter
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cuts < want {
		ts.Fatalf("%d cuts, want at least %d", c.cuts, want)
	}
}

// http METHOD URL [BODY] prints the status and the body of a response.
func request(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: http METHOD URL [BODY]")
	}
	req, err := http.NewRequest(args[0], args[1], strings.NewReader(strings.Join(args[2:], " ")))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s\n", res.Status, body)
}

// sql FILE STATEMENT changes an embedded store behind the edge's back.
func sql(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	db, err := databasesql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(err)
	ts.Check(db.Close())
}
