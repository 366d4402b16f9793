package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, environ ...string) *Config {
	t.Helper()
	c, err := Load(Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems loads what must not load.
func problems(t *testing.T, from Sources) []Problem {
	t.Helper()
	_, err := Load(from)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v, want an *Error", err)
	}
	return e.Problems
}

// tree makes a directory of files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func entry(t *testing.T, c *Config, name string) Entry {
	t.Helper()
	for _, e := range c.Entries() {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no entry %s", name)
	return Entry{}
}

func TestDefaults(t *testing.T) {
	got := load(t)
	got.entries = nil
	want := &Config{
		Env: "development",
		Edge: Edge{
			Addr: "127.0.0.1:8787", MetricsAddr: "127.0.0.1:3100", AuthOptional: true,
			CORSOrigins: []string{"*"}, DrainTimeout: 10 * time.Minute,
		},
		Database: Database{Dir: "./.agentedge"},
		HMAC:     HMAC{MaxDrift: 5 * time.Minute},
		Run:      Run{Lease: 15 * time.Second, MaxAttempts: 3, LogRetention: 24 * time.Hour, MidstreamRecovery: "auto"},
		Chat: Chat{
			ModelDefault: "gpt-4o-mini", RateLimit: 60, MaxContentChars: 32000, ProviderMaxRetries: 2,
			Timeout: time.Minute, HistoryTokens: 8000, DisconnectGrace: 10 * time.Second, OnDisconnect: "auto", ChattingStage: "proxy",
		},
		Embed: Embed{
			Base: "https://api.deepinfra.com/v1/openai", ModelDefault: "BAAI/bge-m3", MaxBatch: 64, ProviderMaxRetries: 2, RateLimit: 120,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("defaults\n%+v\nwant\n%+v", got, want)
	}
	if got.Chat.Configured() || got.Embed.Configured() {
		t.Error("providers without a key are configured")
	}
	if f := got.Function("chat"); !f.VerifyJWT || !f.Enabled {
		t.Errorf("function %+v", f)
	}
	if !got.AllowPrivateProviders() {
		t.Error("private providers refused in development")
	}
	if err := got.Check(); err != nil {
		t.Errorf("the defaults do not start: %v", err)
	}
}

func TestValues(t *testing.T) {
	c := load(t,
		"EDGE_ENV=production", "EDGE_ADDR=:8443", "METRICS_ADDR=[::1]:0", "EDGE_TLS_CERT=a.pem", "EDGE_TLS_KEY=b.pem",
		"EDGE_CORS_ORIGINS=https://a.example, http://localhost:3000", "EDGE_TRUSTED_PROXIES=10.0.0.0/8, 192.0.2.1,::ffff:192.0.2.2, 2001:db8::1/64",
		"EDGE_PRIVATE_PROVIDERS=ollama, 10.1.0.0/16,::1", "DRAIN_TIMEOUT=1m30s", "REQUIRE_IDEMPOTENCY=1",
		"DATABASE_URL=postgres://u:p@db:5432/app?sslmode=require", "DATABASE_DIRECT_URL=postgresql://db/app", "EDGE_DATA_DIR=/var/lib/edge",
		"JWT_SECRET= exactly this ", "SUPABASE_URL=https://x.supabase.co/", `SUPABASE_JWKS={"keys":[]}`,
		"SUPABASE_SERVICE_ROLE_KEY=svc", "SUPABASE_ANON_KEY=anon", `SUPABASE_SECRET_KEYS={"jobs":"sb_secret_1"}`, "SUPABASE_SECRET_KEY=sb_secret_2",
		`SUPABASE_PUBLISHABLE_KEYS={"default":"sb_publishable_1"}`, "SUPABASE_PUBLISHABLE_KEY=sb_publishable_2",
		"HMAC_REQUIRED=TRUE", "HMAC_MAX_DRIFT=60s", "MIDSTREAM_RECOVERY=fail", "RUN_LEASE=500ms", "CHAT_TIMEOUT_MS=1500",
		"CHAT_MODELS=gpt-4o*, BAAI/*", "CHAT_ON_DISCONNECT=cancel", "CHATTING_STAGE=gone", "CHAT_URL=http://chat.internal/functions/v1/chat/",
		"EMBED_PROVIDER_WAIT=1h", "EMBED_MESSAGES=true", "EMBEDDING_API_BASE=http://127.0.0.1:9000/v1", "CHAT_HISTORY_TOKENS=0",
	)
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"EDGE_ENV", c.Production(), true},
		{"EDGE_ADDR", c.Edge.Addr, ":8443"},
		{"METRICS_ADDR", c.Edge.MetricsAddr, "[::1]:0"},
		{"EDGE_AUTH_OPTIONAL", c.Edge.AuthOptional, false},
		{"EDGE_CORS_ORIGINS", c.Edge.CORSOrigins, []string{"https://a.example", "http://localhost:3000"}},
		{"EDGE_TRUSTED_PROXIES", c.Edge.TrustedProxies, []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("2001:db8::/64"),
		}},
		{"EDGE_PRIVATE_PROVIDERS", c.Edge.PrivateProviders, []string{"ollama", "10.1.0.0/16", "::1"}},
		{"any private provider", c.AllowPrivateProviders(), false},
		{"DRAIN_TIMEOUT", c.Edge.DrainTimeout, 90 * time.Second},
		{"REQUIRE_IDEMPOTENCY", c.Edge.RequireIdempotency, true},
		{"DATABASE_URL", string(c.Database.URL), "postgres://u:p@db:5432/app?sslmode=require"},
		{"JWT_SECRET", string(c.Identity.JWTSecret), " exactly this "},
		{"SUPABASE_URL", c.Identity.SupabaseURL, "https://x.supabase.co"},
		{"SUPABASE_JWKS_URL", c.Identity.JWKSURL, "https://x.supabase.co/auth/v1/.well-known/jwks.json"},
		{"SUPABASE_JWKS", string(c.Identity.JWKS), `{"keys":[]}`},
		{"secret keys", c.Identity.SecretKeys, map[string]Secret{"jobs": "sb_secret_1", "default": "sb_secret_2"}},
		{"publishable keys", c.Identity.PublishableKeys, map[string]Secret{"default": "sb_publishable_1", "supabase_publishable_key": "sb_publishable_2"}},
		{"HMAC_REQUIRED", c.HMAC.Required, true},
		{"HMAC_MAX_DRIFT", c.HMAC.MaxDrift, time.Minute},
		{"MIDSTREAM_RECOVERY", c.Run.MidstreamRecovery, "fail"},
		{"RUN_LEASE", c.Run.Lease, 500 * time.Millisecond},
		{"CHAT_TIMEOUT_MS", c.Chat.Timeout, 1500 * time.Millisecond},
		{"CHAT_MODELS", c.Chat.Models, []string{"gpt-4o*", "BAAI/*"}},
		{"CHAT_ON_DISCONNECT", c.Chat.OnDisconnect, "cancel"},
		{"CHATTING_STAGE", c.Chat.ChattingStage, "gone"},
		{"CHAT_URL", c.Chat.URL, "http://chat.internal/functions/v1/chat"},
		{"CHAT_HISTORY_TOKENS", c.Chat.HistoryTokens, 0},
		{"EMBED_PROVIDER_WAIT", c.Embed.ProviderWait, time.Hour},
		{"EMBED_MESSAGES", c.Embed.Messages, true},
		{"embeddings configured", c.Embed.Configured(), true},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

// The contract's names are all known from the start.
func TestEveryNameIsKnown(t *testing.T) {
	names := strings.Fields(`DATABASE_URL EDGE_DATA_DIR EDGE_ADDR METRICS_ADDR EDGE_ENV EDGE_AUTH_OPTIONAL JWT_SECRET SUPABASE_URL SUPABASE_JWKS_URL
		SUPABASE_SERVICE_ROLE_KEY SUPABASE_SECRET_KEYS SUPABASE_PUBLISHABLE_KEYS HMAC_REQUIRED HMAC_KEYS HMAC_MAX_DRIFT CHAT_API_BASE CHAT_API_KEY
		OPENAI_API_KEY CHAT_MODEL_DEFAULT CHAT_FALLBACKS CHAT_RATE_LIMIT_PER_MIN CHAT_TOKENS_PER_MIN CHAT_MAX_CONTENT_CHARS CHAT_FORCE_MOCK
		CHAT_PROVIDER_MAX_RETRIES CHAT_TIMEOUT_MS CHAT_HISTORY_TOKENS CHAT_DISCONNECT_GRACE CHAT_ON_DISCONNECT MIDSTREAM_RECOVERY RUN_MAX_ATTEMPTS
		RUN_LOG_RETENTION DRAIN_TIMEOUT CHATTING_STAGE CHAT_LEGACY_TRANSPORT EMBEDDING_API_BASE EMBEDDING_API_KEY EMBEDDING_MODEL_DEFAULT EMBED_MAX_BATCH
		EMBED_PROVIDER_MAX_RETRIES EMBED_RATE_LIMIT_PER_MIN EMBED_FORCE_MOCK REQUIRE_IDEMPOTENCY RUN_LEASE CHAT_GLOBAL_RATE_LIMIT_PER_MIN
		EMBED_GLOBAL_RATE_LIMIT_PER_MIN CHAT_MODELS EMBED_MODELS CHAT_MAX_STREAMS EMBED_MESSAGES EMBED_PROVIDER_WAIT CHAT_URL EDGE_TLS_CERT EDGE_TLS_KEY
		EDGE_CORS_ORIGINS EDGE_TRUSTED_PROXIES EDGE_PRIVATE_PROVIDERS DATABASE_DIRECT_URL SUPABASE_ANON_KEY SUPABASE_DB_URL SUPABASE_JWKS
		SUPABASE_PUBLISHABLE_KEY SUPABASE_SECRET_KEY`)
	var shown []string
	for _, e := range load(t).Entries() {
		shown = append(shown, e.Name)
	}
	for _, name := range names {
		if !slices.Contains(shown, name) {
			t.Errorf("%s is not known", name)
		}
	}
	for _, name := range shown {
		if !slices.Contains(names, name) {
			t.Errorf("%s is known and not in the contract", name)
		}
	}
}

func TestPrecedence(t *testing.T) {
	dir := tree(t, map[string]string{
		".env":                    "CHAT_MODEL_DEFAULT=b\nCHAT_MAX_STREAMS=2\nEMBED_MAX_BATCH=2\nOTHER=from-env-file\nCHAT_URL=\n",
		"supabase/functions/.env": "CHAT_MODEL_DEFAULT=c\nCHAT_MAX_STREAMS=3\nEMBED_MAX_BATCH=3\nRUN_MAX_ATTEMPTS=3\nCHAT_URL=http://c\n",
		"supabase/config.toml": `
project_id = "x"
[functions.chat]
verify_jwt = false
[functions.embed]
enabled = false
import_map = "./deno.json"
[functions.plain]
[edge_runtime]
policy = "oneshot"
[edge_runtime.secrets]
chat_model_default = "d"
run_max_attempts = "4"
CHAT_TOKENS_PER_MIN = "400"
embedding_model_default = "env(OTHER)"
CHAT_ON_DISCONNECT = "env(NOT_SET)"
embed_models = "env(EMBED_MODELS)"
their_own_secret = "kept out"
`,
	})
	c, err := Load(Sources{Dir: dir, Environ: []string{"CHAT_MODEL_DEFAULT=a", "CHAT_MAX_STREAMS=", "EMBED_MODELS=m", "PATH=/bin", "noise"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Entry{
		{"CHAT_MODEL_DEFAULT", "a", "environment", false, false},
		{"CHAT_MAX_STREAMS", "0", "default", false, true}, // emptied by the environment
		{"EMBED_MAX_BATCH", "2", ".env", false, false},
		{"RUN_MAX_ATTEMPTS", "3", "supabase/functions/.env", false, false},
		{"CHAT_URL", "", "default", false, true}, // emptied by .env
		{"CHAT_TOKENS_PER_MIN", "400", "supabase/config.toml", false, false},
		{"EMBEDDING_MODEL_DEFAULT", "from-env-file", "supabase/config.toml env(OTHER)", false, false},
		{"CHAT_ON_DISCONNECT", "auto", "default", false, true},
		{"EMBED_MODELS", "m", "environment", false, false},
		{"functions.chat.verify_jwt", "false", "supabase/config.toml", false, false},
		{"functions.embed.enabled", "false", "supabase/config.toml", false, false},
		{"functions.plain.verify_jwt", "true", "supabase/config.toml", false, true},
	} {
		if got := entry(t, c, want.Name); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if c.Chat.ModelDefault != "a" || c.Chat.MaxStreams != 0 || c.Chat.TokensPerMin != 400 || c.Embed.ModelDefault != "from-env-file" {
		t.Errorf("values do not follow the origins: %+v %+v", c.Chat, c.Embed)
	}
	for name, want := range map[string]Function{
		"chat": {VerifyJWT: false, Enabled: true}, "embed": {VerifyJWT: true, Enabled: false}, "plain": {true, true}, "other": {true, true},
	} {
		if got := c.Function(name); got != want {
			t.Errorf("function %s: %+v, want %+v", name, got, want)
		}
	}
}

func TestAuthOptionalByDefault(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    bool
	}{
		{nil, true},
		{[]string{"EDGE_ADDR=localhost:1"}, true},
		{[]string{"EDGE_ADDR=[::1]:1"}, true},
		{[]string{"EDGE_ADDR=127.9.9.9:1"}, true},
		{[]string{"EDGE_ADDR=0.0.0.0:1"}, false},
		{[]string{"EDGE_ADDR=:1"}, false},
		{[]string{"EDGE_ADDR=localhost.example.com:1"}, false},
		{[]string{"EDGE_ENV=production"}, false},
		{[]string{"EDGE_AUTH_OPTIONAL=false"}, false},
		{[]string{"EDGE_ADDR=:1", "EDGE_AUTH_OPTIONAL=true"}, true},
	} {
		c := load(t, tt.environ...)
		if c.Edge.AuthOptional != tt.want {
			t.Errorf("%v: %t", tt.environ, c.Edge.AuthOptional)
		}
		if got := entry(t, c, "EDGE_AUTH_OPTIONAL").Value; got != map[bool]string{true: "true", false: "false"}[tt.want] {
			t.Errorf("%v: shown as %s", tt.environ, got)
		}
	}
}

func TestProviders(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		want    []Provider
	}{
		{"none", nil, nil},
		{"a key", []string{"CHAT_API_KEY=k"}, []Provider{{Name: "api.openai.com", Base: "https://api.openai.com/v1", Keys: []Secret{"k"}}}},
		{"OpenAI's key", []string{"OPENAI_API_KEY=o"}, []Provider{{Name: "api.openai.com", Base: "https://api.openai.com/v1", Keys: []Secret{"o"}}}},
		{"both keys", []string{"OPENAI_API_KEY=o", "CHAT_API_KEY=k"}, []Provider{{Name: "api.openai.com", Base: "https://api.openai.com/v1", Keys: []Secret{"k"}}}},
		{"several keys", []string{"CHAT_API_KEY= a, b ,,c"}, []Provider{{Name: "api.openai.com", Base: "https://api.openai.com/v1", Keys: []Secret{"a", "b", "c"}}}},
		{"a base without keys", []string{"CHAT_API_BASE=http://127.0.0.1:11434/v1/"}, []Provider{{Name: "127.0.0.1", Base: "http://127.0.0.1:11434/v1"}}},
		{"fallbacks", []string{
			"CHAT_API_KEY=k", "CHAT_GROQ_KEY=g1,g2",
			`CHAT_FALLBACKS=[{"name":"groq","base":"https://api.groq.com/openai/v1/","key_env":"CHAT_GROQ_KEY","model":"llama"},{"name":"local","base":"http://localhost:1/v1"}]`,
		}, []Provider{
			{Name: "api.openai.com", Base: "https://api.openai.com/v1", Keys: []Secret{"k"}},
			{Name: "groq", Base: "https://api.groq.com/openai/v1", Keys: []Secret{"g1", "g2"}, Model: "llama"},
			{Name: "local", Base: "http://localhost:1/v1"},
		}},
		{"fallbacks only", []string{`CHAT_FALLBACKS=[{"name":"local","base":"http://localhost:1/v1"}]`}, []Provider{{Name: "local", Base: "http://localhost:1/v1"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, tt.environ...)
			got := slices.Clone(c.Chat.Providers)
			for i := range got {
				got[i].variable = ""
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if c.Chat.Configured() != (len(tt.want) > 0) {
				t.Errorf("configured: %t", c.Chat.Configured())
			}
		})
	}
}

func TestHMACKeys(t *testing.T) {
	c := load(t, "HMAC_KEYS=a:first-secret, b:second/secret+=:1900000000,c:x:2027-01-02T03:04:05Z,d:y:2027-01-02T03:04:05+02:00")
	want := []HMACKey{
		{ID: "a", Secret: "first-secret"},
		{ID: "b", Secret: "second/secret+=", NotAfter: time.Unix(1900000000, 0).UTC()},
		{ID: "c", Secret: "x", NotAfter: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)},
		{ID: "d", Secret: "y", NotAfter: time.Date(2027, 1, 2, 1, 4, 5, 0, time.UTC)},
	}
	if !reflect.DeepEqual(c.HMAC.Keys, want) {
		t.Errorf("%+v", c.HMAC.Keys)
	}
	if got := entry(t, c, "HMAC_KEYS").Value; got != "a:[redacted],b:[redacted]:2030-03-17T17:46:40Z,c:[redacted]:2027-01-02T03:04:05Z,d:[redacted]:2027-01-02T01:04:05Z" {
		t.Errorf("shown as %s", got)
	}
}

// A key that is in the set already, or its name, does not make it fail.
func TestSingularKeys(t *testing.T) {
	c := load(t, `SUPABASE_SECRET_KEYS={"default":"sb_secret_1"}`, "SUPABASE_SECRET_KEY=sb_secret_1")
	if want := map[string]Secret{"default": "sb_secret_1"}; !reflect.DeepEqual(c.Identity.SecretKeys, want) {
		t.Errorf("%v", len(c.Identity.SecretKeys))
	}
	// A project on plain http in a network of its own has no keys to fetch.
	if c := load(t, "SUPABASE_URL=http://kong:8000"); c.Identity.JWKSURL != "" {
		t.Errorf("keys are fetched from %s", c.Identity.JWKSURL)
	}
	if c := load(t, "SUPABASE_URL=http://127.0.0.1:54321"); c.Identity.JWKSURL != "http://127.0.0.1:54321/auth/v1/.well-known/jwks.json" {
		t.Errorf("keys are fetched from %s", c.Identity.JWKSURL)
	}
}
