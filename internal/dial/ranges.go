package dial

import "net/netip"

// An addressRange is a block that is not the public internet. private marks
// those where a provider of one's own may live.
type addressRange struct {
	prefix  netip.Prefix
	kind    string
	private bool
}

// classify finds the first range that holds addr. IPv6 outside of 2000::/3 is
// refused even where no range names it: nothing there is routed.
func (g *Guard) classify(addr netip.Addr) (addressRange, bool) {
	for _, r := range g.ranges {
		if r.prefix.Contains(addr) {
			return r, true
		}
	}
	if addr.Is6() && addr.As16()[0]>>5 != 1 {
		return addressRange{kind: "reserved"}, true
	}
	return addressRange{}, false
}

// refusedRanges follows IANA's special-purpose registries, with the metadata
// services of the clouds before the ranges they lie in. Addresses that embed
// another (6to4, NAT64, Teredo, IPv4-compatible) are refused whole: the socket's
// address says nothing about where the packets end up.
func refusedRanges() []addressRange {
	const own = true
	list := func(kind string, private bool, prefixes ...string) []addressRange {
		out := make([]addressRange, len(prefixes))
		for i, p := range prefixes {
			out[i] = addressRange{netip.MustParsePrefix(p), kind, private}
		}
		return out
	}
	var all []addressRange
	for _, ranges := range [][]addressRange{
		list("metadata", !own, "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "100.100.100.200/32",
			"168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128"),
		list("loopback", own, "127.0.0.0/8", "::1/128"),
		list("unspecified", own, "0.0.0.0/8", "::/128"),
		list("private", own, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
		list("carrier-grade NAT", own, "100.64.0.0/10"),
		list("unique-local", own, "fc00::/7"),
		list("link-local", own, "169.254.0.0/16", "fe80::/10"),
		list("site-local", own, "fec0::/10"),
		list("multicast", !own, "224.0.0.0/4", "ff00::/8"),
		list("documentation", !own, "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
		list("benchmark", !own, "198.18.0.0/15", "2001:2::/48"),
		list("6to4", !own, "2002::/16", "192.88.99.0/24"),
		list("NAT64", !own, "64:ff9b::/96", "64:ff9b:1::/48"),
		list("Teredo", !own, "2001::/32"),
		list("IPv4-compatible", !own, "::/96", "::ffff:0:0:0/96"),
		list("reserved", !own, "192.0.0.0/24", "240.0.0.0/4", "100::/64", "2001::/23"),
	} {
		all = append(all, ranges...)
	}
	return all
}
