package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentedge/agentedge/internal/mockprovider"
)

// keyring hands out the keys of one provider in turn. They can be replaced while
// calls are made.
type keyring struct {
	keys atomic.Pointer[[]string]
	next atomic.Uint64
}

// newKeyring takes keys separated by commas.
func newKeyring(list string) *keyring {
	k := &keyring{}
	k.set(list)
	return k
}

func (k *keyring) set(list string) {
	var keys []string
	for key := range strings.SplitSeq(list, ",") {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	k.keys.Store(&keys)
}

func (k *keyring) key() string {
	keys := *k.keys.Load()
	if len(keys) == 0 {
		return ""
	}
	return keys[(k.next.Add(1)-1)%uint64(len(keys))]
}

// mock is a mock provider inside this process, reached over HTTP like any other.
type mock struct {
	base   string
	server *http.Server
	mock   *mockprovider.Server
	served sync.WaitGroup
}

func startMock() (*mock, error) {
	provider, err := mockprovider.New(mockprovider.Options{})
	if err != nil {
		return nil, fmt.Errorf("mock provider: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("mock provider: %w", err)
	}
	m := &mock{
		base: "http://" + ln.Addr().String() + "/v1", mock: provider,
		server: &http.Server{Handler: provider, ReadHeaderTimeout: 10 * time.Second},
	}
	m.served.Go(func() { _ = m.server.Serve(ln) }) // always an error, ErrServerClosed after stop
	return m, nil
}

func (m *mock) stop() {
	ctx, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	if m.server.Shutdown(ctx) != nil {
		_ = m.server.Close() // what would not end in time is cut
	}
	m.mock.Close()
	m.served.Wait()
}
