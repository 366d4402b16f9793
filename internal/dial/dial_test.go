package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	strict := newGuard(t, Config{})
	open := newGuard(t, Config{AllowPrivate: true})
	// kind "" is a public address; private ones open with AllowPrivate.
	for _, tc := range []struct {
		addr, kind string
		private    bool
	}{
		{"1.1.1.1", "", false},
		{"8.8.8.8", "", false},
		{"104.18.7.192", "", false},
		{"172.15.255.255", "", false},
		{"172.32.0.0", "", false},
		{"100.63.255.255", "", false},
		{"100.128.0.0", "", false},
		{"198.17.255.255", "", false},
		{"198.20.0.0", "", false},
		{"223.255.255.255", "", false},
		{"2606:4700::6810:7c0", "", false},
		{"2a00:1450:4001:81b::200a", "", false},
		{"::ffff:8.8.8.8", "", false},
		{"127.0.0.1", "loopback", true},
		{"127.255.255.254", "loopback", true},
		{"::1", "loopback", true},
		{"::ffff:127.0.0.1", "loopback", true},
		{"0.0.0.0", "unspecified", true},
		{"0.1.2.3", "unspecified", true},
		{"::", "unspecified", true},
		{"10.0.0.1", "private", true},
		{"10.255.255.255", "private", true},
		{"172.16.0.1", "private", true},
		{"172.31.255.255", "private", true},
		{"192.168.1.1", "private", true},
		{"::ffff:192.168.1.1", "private", true},
		{"100.64.0.1", "carrier-grade NAT", true},
		{"100.127.255.255", "carrier-grade NAT", true},
		{"fc00::1", "unique-local", true},
		{"fdff:ffff::1", "unique-local", true},
		{"169.254.1.1", "link-local", true},
		{"fe80::1", "link-local", true},
		{"fe80::1%eth0", "link-local", true},
		{"febf::1", "link-local", true},
		{"fec0::1", "site-local", true},
		{"feff::1", "site-local", true},
		{"169.254.169.254", "metadata", false},
		{"::ffff:169.254.169.254", "metadata", false},
		{"169.254.170.2", "metadata", false},
		{"100.100.100.200", "metadata", false},
		{"168.63.129.16", "metadata", false},
		{"fd00:ec2::254", "metadata", false},
		{"224.0.0.1", "multicast", false},
		{"239.255.255.250", "multicast", false},
		{"ff02::1", "multicast", false},
		{"192.0.2.1", "documentation", false},
		{"198.51.100.7", "documentation", false},
		{"203.0.113.9", "documentation", false},
		{"2001:db8::1", "documentation", false},
		{"3fff::1", "documentation", false},
		{"198.18.0.1", "benchmark", false},
		{"198.19.255.255", "benchmark", false},
		{"2001:2::1", "benchmark", false},
		{"2002:7f00:1::", "6to4", false},
		{"2002:808:808::1", "6to4", false},
		{"192.88.99.1", "6to4", false},
		{"64:ff9b::7f00:1", "NAT64", false},
		{"64:ff9b::808:808", "NAT64", false},
		{"64:ff9b:1::1", "NAT64", false},
		{"2001::1", "Teredo", false},
		{"::127.0.0.1", "IPv4-compatible", false},
		{"::ffff:0:7f00:1", "IPv4-compatible", false},
		{"192.0.0.8", "reserved", false},
		{"240.0.0.1", "reserved", false},
		{"255.255.255.255", "reserved", false},
		{"100::1", "reserved", false},
		{"2001:10::1", "reserved", false},
		{"4000::1", "reserved", false},
	} {
		t.Run(tc.addr, func(t *testing.T) {
			t.Parallel()
			addr := netip.MustParseAddr(tc.addr)
			wantKind(t, strict.check("h", addr), tc.kind)
			kind := tc.kind
			if tc.private {
				kind = ""
			}
			wantKind(t, open.check("h", addr), kind)
		})
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	g := newGuard(t, Config{Allow: []string{"10.1.0.0/16", "::1", " 192.168.7.7 ", "169.254.169.254", "[fd00::5]"}})
	for addr, kind := range map[string]string{
		"10.1.200.3":         "",
		"10.2.0.1":           "private",
		"::1":                "",
		"127.0.0.1":          "loopback",
		"192.168.7.7":        "",
		"::ffff:192.168.7.7": "",
		"192.168.7.8":        "private",
		"169.254.169.254":    "",
		"fd00::5":            "",
		"fd00::6":            "unique-local",
	} {
		wantKind(t, g.check("h", netip.MustParseAddr(addr)), kind)
	}
	for _, entry := range []string{"", "10.0.0.0/33", "a/b", "*.corp", "host:80", "http://x", "u@h", "::ffff:10.0.0.0/104"} {
		if _, err := New(Config{Allow: []string{entry}}); err == nil {
			t.Errorf("Allow %q was accepted", entry)
		}
	}
}

// Against a real listener: what is refused never reaches it.
func TestDial(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, tc := range []struct {
		name, host string
		cfg        Config
		refused    bool
	}{
		{"address refused", "127.0.0.1", Config{}, true},
		{"name refused after DNS", "localhost", Config{}, true},
		{"unspecified is loopback too", "0.0.0.0", Config{}, true},
		{"mapped address refused", "::ffff:127.0.0.1", Config{}, true},
		{"private allowed", "127.0.0.1", Config{AllowPrivate: true}, false},
		{"range allowed", "127.0.0.1", Config{Allow: []string{"127.0.0.0/8"}}, false},
		{"host allowed", "LOCALHOST", Config{Allow: []string{"localhost."}}, false},
		{"another host allowed", "127.0.0.1", Config{Allow: []string{"localhost"}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			conn, err := newGuard(t, tc.cfg).DialContext(context.Background(), "tcp", net.JoinHostPort(tc.host, port))
			if err == nil {
				conn.Close()
			}
			var blocked *BlockedError
			if errors.As(err, &blocked) != tc.refused || (err != nil) != tc.refused {
				t.Fatalf("refused %v, error %v", tc.refused, err)
			}
			if tc.refused && (blocked.Host != tc.host || !strings.Contains(err.Error(), blocked.Kind)) {
				t.Errorf("%+v in %v", blocked, err)
			}
		})
	}
}

func TestDialRefusesOtherNetworks(t *testing.T) {
	t.Parallel()
	g := newGuard(t, Config{AllowPrivate: true})
	for _, network := range []string{"udp", "unix", "ip"} {
		if _, err := g.DialContext(context.Background(), network, "127.0.0.1:1"); err == nil {
			t.Errorf("%s was dialled", network)
		}
	}
	if _, err := g.DialContext(context.Background(), "tcp", "no-port"); err == nil {
		t.Error("an address without a port was dialled")
	}
}

func newGuard(t *testing.T, cfg Config) *Guard {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func wantKind(t *testing.T, err error, kind string) {
	t.Helper()
	var blocked *BlockedError
	switch {
	case kind == "" && err != nil:
		t.Errorf("refused: %v", err)
	case kind != "" && !errors.As(err, &blocked):
		t.Errorf("error %v, want a refusal as %s", err, kind)
	case kind != "" && blocked.Kind != kind:
		t.Errorf("refused as %s, want %s", blocked.Kind, kind)
	}
}
