package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxLimit = 100_000_000
	minLease = 100 * time.Millisecond
)

// The kinds of variables. Their errors say what is wanted and nothing of what
// was there.

func (v variable) defaultNote(note string) variable {
	v.defNote = note
	return v
}

func text(name, kind string, to *string, def, help string) variable {
	return variable{name: name, kind: kind, def: def, help: help, read: func(s string) error {
		*to = strings.TrimSpace(s)
		return nil
	}}
}

// choice is one of a few words, the first by default.
func choice(name string, to *string, words []string, help string) variable {
	kind := strings.Join(words, ", ")
	return variable{name: name, kind: "one of " + kind, def: words[0], help: help, read: func(s string) error {
		if s = strings.TrimSpace(s); !slices.Contains(words, s) {
			return errors.New("must be one of " + kind)
		}
		*to = s
		return nil
	}}
}

func boolean(name string, to *bool, help string) variable {
	return variable{name: name, kind: "true or false", def: "false", help: help, read: func(s string) error {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "true", "1":
			*to = true
		case "false", "0":
			*to = false
		default:
			return errors.New("must be true or false")
		}
		return nil
	}}
}

func integer(name string, to *int, def string, least, most int, help string) variable {
	return variable{name: name, kind: "integer", def: def, help: help, read: func(s string) error {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < least || n > most {
			return fmt.Errorf("must be an integer from %d to %d", least, most)
		}
		*to = n
		return nil
	}}
}

func duration(name string, to *time.Duration, def string, least time.Duration, help string) variable {
	return variable{name: name, kind: "duration", def: def, help: help, read: func(s string) error {
		d, err := time.ParseDuration(strings.TrimSpace(s))
		if err != nil {
			return errors.New("must be a duration such as 10s, 5m or 24h")
		}
		if d < least {
			return fmt.Errorf("must be a duration of at least %s", least)
		}
		*to = d
		return nil
	}}
}

func milliseconds(name string, to *time.Duration, def, help string) variable {
	var n int
	v := integer(name, &n, def, 1, int(24*time.Hour/time.Millisecond), help)
	read := v.read
	v.kind = "milliseconds"
	v.read = func(s string) error {
		err := read(s)
		*to = time.Duration(n) * time.Millisecond
		return err
	}
	return v
}

// address is a listener's host:port.
func address(name string, to *string, def, help string) variable {
	return variable{name: name, kind: "host:port", def: def, help: help, read: func(s string) error {
		s = strings.TrimSpace(s)
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return errors.New("must be host:port, or :port for all interfaces")
		}
		*to = s
		return nil
	}}
}

// items splits a comma-separated list.
func items(s string) []string {
	var out []string
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func list(name string, to *[]string, help string) variable {
	return variable{name: name, kind: "list", help: help, read: func(s string) error {
		*to = items(s)
		return nil
	}}
}

func origins(name string, to *[]string, def, help string) variable {
	v := list(name, to, help)
	v.def = def
	v.read = func(s string) error {
		all := items(s)
		for _, origin := range all {
			u, err := url.Parse(origin)
			if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
				return errors.New("must be origins such as https://app.example.com, comma-separated, or *")
			}
		}
		*to = all
		return nil
	}
	return v
}

func prefixes(name string, to *[]netip.Prefix, help string) variable {
	return variable{name: name, kind: "list of addresses", help: help, read: func(s string) error {
		*to = nil
		for _, item := range items(s) {
			p, ok := prefix(item)
			if !ok {
				return errors.New("must be addresses or CIDRs, comma-separated")
			}
			*to = append(*to, p)
		}
		return nil
	}}
}

// prefix reads an address or a CIDR.
func prefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, ip.BitLen()), true
}

// hosts is a list of host names, addresses and CIDRs.
func hosts(name string, to *[]string, help string) variable {
	v := list(name, to, help)
	v.read = func(s string) error {
		all := items(s)
		for _, host := range all {
			if _, ok := prefix(host); !ok && strings.ContainsAny(host, "/:@? ") {
				return errors.New("must be hosts, addresses or CIDRs without scheme or port, comma-separated")
			}
		}
		*to = all
		return nil
	}
	return v
}

// webURL is an absolute http(s) URL, kept without a slash at its end. Credentials
// in a URL end up in logs, so it may have none.
func webURL(name string, to *string, def, help string) variable {
	return variable{name: name, kind: "URL", def: def, help: help, read: func(s string) error {
		base, err := cleanURL(s)
		if err == nil {
			*to = base
		}
		return err
	}}
}

func cleanURL(s string) (string, error) {
	s = strings.TrimSpace(s)
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("must be an http or https URL")
	case u.User != nil:
		return "", errors.New("must not hold a user or password")
	case u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(s, "?#"):
		return "", errors.New("must not have a query or fragment")
	}
	return strings.TrimRight(s, "/"), nil
}

// ignored is a name that is known and has no effect.
func ignored(name, help string) variable {
	return variable{name: name, kind: "ignored", help: help, secret: true,
		read: func(string) error { return nil },
		show: func() string { return "(ignored)" },
	}
}
