// Package dial opens the connections to providers and refuses the addresses that
// no provider of the outside world has. The check runs on the address that the
// socket is about to connect to, after DNS, so that a name which resolves to
// something harmless first and to an inner address later gains nothing.
package dial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Config says what is allowed beyond public addresses.
type Config struct {
	// AllowPrivate opens loopback, private, carrier-grade NAT, unique-local and
	// link-local networks, where a provider of one's own may run. Metadata
	// services, multicast and addresses that stand for others stay refused.
	AllowPrivate bool
	// Allow names what is allowed in any case: host names as they stand in a
	// provider's base, addresses, or CIDR ranges.
	Allow []string
	// Timeout bounds one dial, all addresses of the host included; default 5 s.
	Timeout time.Duration
	// Resolver replaces the system's; nil for that one.
	Resolver *net.Resolver
}

// Guard dials. It is safe for concurrent use.
type Guard struct {
	dialer       net.Dialer
	allowPrivate bool
	hosts        map[string]bool
	prefixes     []netip.Prefix
	ranges       []addressRange
}

// BlockedError says that an address was refused before anything was sent to it.
type BlockedError struct {
	Host string     // as asked for
	Addr netip.Addr // what it resolved to
	Kind string     // loopback, private, metadata, …
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("dial %s: address %s is refused (%s)", e.Host, e.Addr, e.Kind)
}

// New returns a Guard, or an error that names the entry of Allow it cannot read.
func New(cfg Config) (*Guard, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	g := &Guard{
		dialer:       net.Dialer{Timeout: cfg.Timeout, Resolver: cfg.Resolver},
		allowPrivate: cfg.AllowPrivate,
		hosts:        map[string]bool{},
		ranges:       refusedRanges(),
	}
	for _, entry := range cfg.Allow {
		if err := g.allow(strings.TrimSpace(entry)); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *Guard) allow(entry string) error {
	if addr, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		addr = addr.Unmap().WithZone("")
		g.prefixes = append(g.prefixes, netip.PrefixFrom(addr, addr.BitLen()))
		return nil
	}
	if strings.Contains(entry, "/") {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil || prefix.Addr().Is4In6() {
			return fmt.Errorf("dial: allow %q: not a CIDR range", entry)
		}
		g.prefixes = append(g.prefixes, prefix.Masked())
		return nil
	}
	host := canonicalHost(entry)
	if host == "" || strings.ContainsAny(host, ":*@?# \t") {
		return fmt.Errorf("dial: allow %q: neither a host name, an address nor a CIDR range", entry)
	}
	g.hosts[host] = true
	return nil
}

// DialContext connects to addr (host:port) over tcp. A refused address yields a
// *BlockedError in the error's chain; where a host has several addresses, the
// allowed ones are tried.
func (g *Guard) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("dial: network %q is not allowed", network)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	dialer := g.dialer
	if !g.hosts[canonicalHost(host)] {
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return g.checkSocket(host, address)
		}
	}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return conn, nil
}

func (g *Guard) checkSocket(host, address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("unreadable address: %w", err)
	}
	return g.check(host, ap.Addr())
}

// check returns a *BlockedError unless addr may be connected to.
func (g *Guard) check(host string, addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, p := range g.prefixes {
		if p.Contains(addr) {
			return nil
		}
	}
	r, refused := g.classify(addr)
	if !refused || (r.private && g.allowPrivate) {
		return nil
	}
	return &BlockedError{Host: host, Addr: addr, Kind: r.kind}
}

// Names compare without regard to case and to the root's dot.
func canonicalHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
