package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// Check returns an *Error with the reasons not to start a server with this
// configuration, nil for none: what would leave it open, unsigned or answering
// with a mock. The database's own settings are judged where it is opened.
func (c *Config) Check() error {
	problems := c.open()
	problems = append(problems, c.weakSigning()...)
	if c.Production() {
		problems = append(problems, c.unsafeInProduction()...)
		problems = append(problems, c.demoKeys()...)
		problems = append(problems, c.privateProviders()...)
	}
	if len(problems) == 0 {
		return nil
	}
	return &Error{Problems: problems}
}

// open finds listeners that anybody could use.
func (c *Config) open() []Problem {
	var problems []Problem
	if c.Edge.AuthOptional && !Loopback(c.Edge.Addr) {
		problems = append(problems, Problem{
			Name: "EDGE_ADDR", Message: "is reached from other machines while EDGE_AUTH_OPTIONAL is true",
			Hint: "set EDGE_AUTH_OPTIONAL=false, or listen on 127.0.0.1",
		})
	}
	if !c.judgesCredentials() && !Loopback(c.Edge.MetricsAddr) {
		problems = append(problems, Problem{
			Name: "METRICS_ADDR", Message: "is reached from other machines and there is no key to ask for",
			Hint: "set JWT_SECRET or SUPABASE_SECRET_KEYS, or listen on 127.0.0.1",
		})
	}
	return problems
}

func (c *Config) weakSigning() []Problem {
	var problems []Problem
	if c.HMAC.Required && len(c.HMAC.Keys) == 0 {
		problems = append(problems, Problem{
			Name: "HMAC_REQUIRED", Message: "is true without any key in HMAC_KEYS",
			Hint: "set HMAC_KEYS to id:secret, the secret from: openssl rand -hex 32",
		})
	}
	for _, k := range c.HMAC.Keys {
		if len(k.Secret) < minKeyBytes {
			problems = append(problems, Problem{
				Name: "HMAC_KEYS", Message: fmt.Sprintf("key %s is shorter than %d bytes", k.ID, minKeyBytes),
				Hint: "make one with: openssl rand -hex 32",
			})
		}
	}
	return problems
}

func (c *Config) unsafeInProduction() []Problem {
	i := &c.Identity
	var problems []Problem
	for _, rule := range []struct {
		broken              bool
		name, message, hint string
	}{
		{c.Edge.AuthOptional, "EDGE_AUTH_OPTIONAL", "is true in production", "leave it unset, or set it to false"},
		{i.JWTSecret != "" && len(i.JWTSecret) < minKeyBytes, "JWT_SECRET", fmt.Sprintf("is shorter than %d bytes", minKeyBytes), "take the project's own, or make one with: openssl rand -hex 32"},
		{!c.judgesCredentials(), "JWT_SECRET", "production has nothing to verify callers with", "set JWT_SECRET, SUPABASE_URL, SUPABASE_JWKS or SUPABASE_SECRET_KEYS"},
		{c.Chat.ForceMock, "CHAT_FORCE_MOCK", "is true in production", "leave it unset: a mock answers nobody's question"},
		{c.Embed.ForceMock, "EMBED_FORCE_MOCK", "is true in production", "leave it unset: a mock's vectors find nothing"},
	} {
		if rule.broken {
			problems = append(problems, Problem{Name: rule.name, Message: rule.message, Hint: rule.hint})
		}
	}
	return problems
}

func (c *Config) judgesCredentials() bool {
	i := &c.Identity
	return i.JWTSecret != "" || i.JWKSURL != "" || i.JWKS != "" || i.ServiceRoleKey != "" ||
		i.AnonKey != "" || len(i.SecretKeys) > 0 || len(i.PublishableKeys) > 0
}

// demoKeys finds the keys that every local Supabase project has, which anybody
// can read in its documentation.
func (c *Config) demoKeys() []Problem {
	const (
		demoSecret      = "super-secret-jwt-token-with-at-least-32-characters-long"
		demoIssuer      = "supabase-demo"
		demoSecretKey   = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
		demoPublishable = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
	)
	i := &c.Identity
	var problems []Problem
	add := func(demo bool, name string) {
		if demo {
			problems = append(problems, Problem{
				Name: name, Message: "is the public demo key of local Supabase projects",
				Hint: "take the project's own from its API settings",
			})
		}
	}
	add(i.JWTSecret == demoSecret, "JWT_SECRET")
	add(tokenClaim(string(i.ServiceRoleKey), "iss") == demoIssuer || i.ServiceRoleKey == demoSecretKey, "SUPABASE_SERVICE_ROLE_KEY")
	add(tokenClaim(string(i.AnonKey), "iss") == demoIssuer || i.AnonKey == demoPublishable, "SUPABASE_ANON_KEY")
	for _, name := range sortedNames(i.SecretKeys) {
		key := i.SecretKeys[name]
		add(key == demoSecretKey || tokenClaim(string(key), "iss") == demoIssuer, "SUPABASE_SECRET_KEYS")
	}
	for _, name := range sortedNames(i.PublishableKeys) {
		key := i.PublishableKeys[name]
		add(key == demoPublishable || tokenClaim(string(key), "iss") == demoIssuer, "SUPABASE_PUBLISHABLE_KEYS")
	}
	return problems
}

// tokenClaim returns a text claim of what may be a JWT, unverified.
func tokenClaim(token, name string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	value, _ := claims[name].(string)
	return value
}

// privateProviders finds providers at private addresses as far as their URLs
// show; names are judged when they are dialled.
func (c *Config) privateProviders() []Problem {
	var problems []Problem
	add := func(name, base string) {
		if h := host(base); privateHost(h) && !c.listed(h) {
			problems = append(problems, Problem{
				Name: name, Message: "is at a private address in production",
				Hint: "name the host in EDGE_PRIVATE_PROVIDERS if that is meant",
			})
		}
	}
	for _, p := range c.Chat.Providers {
		add(p.variable, p.Base)
	}
	if c.Embed.Configured() {
		add("EMBEDDING_API_BASE", c.Embed.Base)
	}
	return problems
}

// listed tells whether EDGE_PRIVATE_PROVIDERS names a host.
func (c *Config) listed(host string) bool {
	ip, err := netip.ParseAddr(host)
	for _, entry := range c.Edge.PrivateProviders {
		if strings.EqualFold(entry, host) {
			return true
		}
		if p, ok := prefix(entry); ok && err == nil && p.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}

func privateHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return loopbackHost(host)
	}
	ip = ip.Unmap()
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) // carrier-grade NAT
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || shared.Contains(ip)
}

// loopbackHost tells whether a host is this machine.
func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || under(strings.TrimSuffix(host, "."), "localhost")
}
