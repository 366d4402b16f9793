// Package config is the only reader of the environment. It turns the process's
// variables, .env files and the user's own supabase/config.toml into one typed
// Config, remembers where each value came from, and refuses what it does not
// know: a misspelt name is an error with a suggestion, never a silent default.
// All that is wrong is reported at once, by name, and no value is ever shown.
package config

import (
	"net"
	"net/netip"
	"strings"
	"time"
)

// Values of EDGE_ENV.
const (
	Development = "development"
	Production  = "production"
)

// Config is everything that can be configured. The variables' names, defaults
// and meanings are in variables.go and docs/configuration.md.
type Config struct {
	Env       string // Development or Production
	Edge      Edge
	Database  Database
	Identity  Identity
	HMAC      HMAC
	Run       Run
	Chat      Chat
	Embed     Embed
	Functions map[string]Function // by name, those of supabase/config.toml

	entries []Entry // redacted already
}

// Edge is the HTTP side.
type Edge struct {
	Addr               string
	MetricsAddr        string
	AuthOptional       bool
	TLSCert, TLSKey    string // paths; both or neither
	CORSOrigins        []string
	TrustedProxies     []netip.Prefix // whose X-Forwarded-For is believed
	PrivateProviders   []string       // hosts, addresses and CIDRs of providers that may be private
	DrainTimeout       time.Duration
	RequireIdempotency bool
}

// Database is where everything durable lives.
type Database struct {
	URL       Secret // empty: the embedded store in Dir
	DirectURL Secret // a session-mode connection for LISTEN; empty: URL is one
	Dir       string
}

// Identity is what credentials are judged by.
type Identity struct {
	JWTSecret       Secret
	SupabaseURL     string
	JWKS            Secret            // JSON: a key set, or a list of keys; empty for none
	JWKSURL         string            // the configured one, else that of SupabaseURL; empty for none
	ServiceRoleKey  Secret            // legacy
	AnonKey         Secret            // legacy
	SecretKeys      map[string]Secret // by name
	PublishableKeys map[string]Secret // by name
}

// HMAC is the signing of requests.
type HMAC struct {
	Required bool
	Keys     []HMACKey
	MaxDrift time.Duration
}

// HMACKey is one key that requests may be signed with.
type HMACKey struct {
	ID       string
	Secret   Secret    // its bytes as they are
	NotAfter time.Time // zero: for good
}

// Run is the mechanism of runs.
type Run struct {
	Lease             time.Duration
	MaxAttempts       int
	LogRetention      time.Duration
	MidstreamRecovery string // auto, restart, fail
}

// Chat is the chat endpoint and its providers.
type Chat struct {
	Providers          []Provider // in order; empty: none is configured
	ModelDefault       string
	Models             []string // allowed names or patterns with *; empty: any well-formed name
	RateLimit          int      // per minute and principal; 0: not limited
	GlobalRateLimit    int      // per minute over all callers; 0: not limited
	TokensPerMin       int      // 0: not limited
	MaxContentChars    int
	MaxStreams         int // per principal; 0: not limited
	ForceMock          bool
	ProviderMaxRetries int
	Timeout            time.Duration // of a provider that sends nothing
	HistoryTokens      int           // 0: no history
	DisconnectGrace    time.Duration
	OnDisconnect       string // auto, continue, cancel
	LegacyTransport    bool
	ChattingStage      string // proxy, eol, gone
	URL                string // a gateway's chat elsewhere; empty: this process
}

// Provider is one upstream of chats.
type Provider struct {
	Name  string
	Base  string
	Keys  []Secret // used in turn; empty: it wants none
	Model string   // replaces the request's model; empty: it does not

	variable string // that it comes from
}

// Configured tells whether a chat has a provider to go to. Without one, `dev`
// answers by the mock and `serve` refuses chats, not to start.
func (c *Chat) Configured() bool { return len(c.Providers) > 0 }

// Embed is the embed endpoint and its provider.
type Embed struct {
	Base               string
	Keys               []Secret
	ModelDefault       string
	Models             []string
	MaxBatch           int
	ProviderMaxRetries int
	ProviderWait       time.Duration // how long a job waits for a provider that fails
	RateLimit          int
	GlobalRateLimit    int
	ForceMock          bool
	Messages           bool // chat messages are embedded too

	baseGiven bool
}

// Configured tells whether there is a provider of embeddings.
func (e *Embed) Configured() bool { return e.baseGiven || len(e.Keys) > 0 }

// Function is what supabase/config.toml says of one function.
type Function struct {
	VerifyJWT bool
	Enabled   bool
}

// Production tells whether the stricter rules hold.
func (c *Config) Production() bool { return c.Env == Production }

// Function returns the settings of a function, Supabase's defaults for one that
// the file does not name.
func (c *Config) Function(name string) Function {
	if f, ok := c.Functions[name]; ok {
		return f
	}
	return Function{VerifyJWT: true, Enabled: true}
}

// AllowPrivateProviders tells whether any provider may be at a private address.
// Where it is false, those of Edge.PrivateProviders may.
func (c *Config) AllowPrivateProviders() bool {
	return !c.Production() && len(c.Edge.PrivateProviders) == 0
}

// Loopback tells whether a listener's address is reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Secret is a value that does not show itself where a Config is printed or
// logged. string(s) is the value. It hides in exported fields only: fmt calls no
// methods on others.
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the value from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
