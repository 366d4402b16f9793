package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/config"
	"github.com/agentedge/agentedge/internal/dial"
	"github.com/agentedge/agentedge/internal/mockprovider"
	"github.com/agentedge/agentedge/internal/openai"
)

// errNoProvider says that there is nobody to ask.
var errNoProvider = errors.New("no chat provider is configured\nhint: set CHAT_API_KEY, or CHAT_API_BASE for one that wants none; CHAT_FORCE_MOCK=true or `agentedge dev` answer by a mock")

// providers is whom chats are sent to, and what that takes.
type providers struct {
	route *chat.Route
	keys  map[string]*openai.Keys // by provider
	mock  *mock
	close func()
}

// openProviders makes the route. mockIfNone asks for the mock where nothing else
// is configured.
func openProviders(cfg *config.Config, mockIfNone bool) (*providers, error) {
	p := &providers{keys: map[string]*openai.Keys{}, close: func() {}}
	list := cfg.Chat.Providers
	if cfg.Chat.ForceMock || len(list) == 0 && mockIfNone {
		m, err := startMock()
		if err != nil {
			return nil, err
		}
		p.mock, p.close = m, m.stop
		list = []config.Provider{{Name: "mock", Base: m.base}}
	}
	if len(list) == 0 {
		return nil, errNoProvider
	}
	guard, err := dial.New(dial.Config{
		AllowPrivate: cfg.AllowPrivateProviders() || p.mock != nil, Allow: cfg.Edge.PrivateProviders,
	})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("EDGE_PRIVATE_PROVIDERS: %w", err)
	}
	route := chat.RouteConfig{MaxRetries: cfg.Chat.ProviderMaxRetries}
	for _, c := range list {
		keys := &openai.Keys{}
		keys.Set(secrets(c.Keys))
		up, err := openai.New(openai.Config{
			Name: c.Name, Base: c.Base, Keys: keys.Next, Timeout: cfg.Chat.Timeout, DialContext: guard.DialContext,
		})
		if err != nil {
			p.close()
			return nil, err
		}
		p.keys[c.Name] = keys
		route.Providers = append(route.Providers, chat.RouteProvider{Upstream: up, Model: c.Model})
	}
	p.route = chat.NewRoute(route)
	return p, nil
}

// reload takes over the keys of another configuration, and tells for how many
// providers they changed. Providers themselves do not come or go.
func (p *providers) reload(cfg *config.Config) (changed int) {
	for _, c := range cfg.Chat.Providers {
		if keys := p.keys[c.Name]; keys != nil && keys.Set(secrets(c.Keys)) {
			changed++
		}
	}
	return changed
}

func secrets(keys []config.Secret) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = string(k)
	}
	return list
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
