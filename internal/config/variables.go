package config

import "slices"

// variable is one name: how its text becomes a value of the Config it is bound
// to. The table of them is what Load accepts, `agentedge config` prints and
// docs/configuration.md lists.
type variable struct {
	name    string
	kind    string // for the documentation
	def     string // read like any value; empty: the zero value
	defNote string // what the documentation says of a default that depends
	help    string
	secret  bool
	read    func(text string) error
	show    func() string // a secret's redacted form; nil: all of it
}

type group struct {
	title     string
	variables []variable
}

func (l *loader) groups() []group {
	return []group{
		{"The edge", l.edgeVariables()},
		{"The store", l.databaseVariables()},
		{"Identity", l.identityVariables()},
		{"Runs", l.runVariables()},
		{"Chat", slices.Concat(l.chatProviderVariables(), l.chatVariables())},
		{"Embeddings", l.embedVariables()},
	}
}

func (l *loader) variables() []variable {
	var all []variable
	for _, g := range l.groups() {
		all = append(all, g.variables...)
	}
	return all
}

func (l *loader) edgeVariables() []variable {
	c, e := l.config, &l.config.Edge
	return []variable{
		choice("EDGE_ENV", &c.Env, []string{Development, Production}, "What is refused at start: production is never open, lossy or a mock"),
		address("EDGE_ADDR", &e.Addr, "127.0.0.1:8787", "Where the edge listens"),
		address("METRICS_ADDR", &e.MetricsAddr, "127.0.0.1:3100", "Where metrics and the console listen"),
		boolean("EDGE_AUTH_OPTIONAL", &e.AuthOptional, "A request without a credential is anonymous; a bad credential is refused all the same").
			defaultNote("true in development on loopback, else false"),
		text("EDGE_TLS_CERT", "path", &e.TLSCert, "", "Certificate of the edge's own TLS, with EDGE_TLS_KEY"),
		text("EDGE_TLS_KEY", "path", &e.TLSKey, "", "Private key of EDGE_TLS_CERT"),
		origins("EDGE_CORS_ORIGINS", &e.CORSOrigins, "*", "Origins whose browsers may call, or `*`"),
		prefixes("EDGE_TRUSTED_PROXIES", &e.TrustedProxies, "Addresses and CIDRs of proxies whose X-Forwarded-For is believed"),
		hosts("EDGE_PRIVATE_PROVIDERS", &e.PrivateProviders, "Hosts, addresses and CIDRs of providers that may be at private addresses").
			defaultNote("any in development, none in production"),
		duration("DRAIN_TIMEOUT", &e.DrainTimeout, "600s", 0, "How long live runs go on after SIGTERM"),
		boolean("REQUIRE_IDEMPOTENCY", &e.RequireIdempotency, "Refuse a run without an idempotency key"),
	}
}

func (l *loader) databaseVariables() []variable {
	return []variable{
		databaseURL("DATABASE_URL", &l.config.Database.URL, "PostgreSQL with pgvector. Empty: the embedded store"),
		databaseURL("DATABASE_DIRECT_URL", &l.config.Database.DirectURL, "A session-mode connection to the same database, where DATABASE_URL goes through a pooler"),
		text("EDGE_DATA_DIR", "path", &l.config.Database.Dir, "./.agentedge", "Directory of the embedded store"),
		ignored("SUPABASE_DB_URL", "Set by Supabase; does not choose the store, only DATABASE_URL does"),
	}
}

func (l *loader) identityVariables() []variable {
	i, h := &l.config.Identity, &l.config.HMAC
	return []variable{
		secret("JWT_SECRET", &i.JWTSecret, "Secret of HS256 tokens, its bytes as they are"),
		webURL("SUPABASE_URL", &i.SupabaseURL, "", "The project, whose signing keys are fetched from it"),
		jwks("SUPABASE_JWKS", &i.JWKS, "Signing keys, instead of fetching them: `{\"keys\":[…]}` or a list"),
		webURL("SUPABASE_JWKS_URL", &i.JWKSURL, "", "Where signing keys are fetched").
			defaultNote("`SUPABASE_URL`/auth/v1/.well-known/jwks.json"),
		apiKey("SUPABASE_SERVICE_ROLE_KEY", &i.ServiceRoleKey, "Legacy key that acts as service_role"),
		apiKey("SUPABASE_ANON_KEY", &i.AnonKey, "Legacy key that acts as anon"),
		keySet("SUPABASE_SECRET_KEYS", &i.SecretKeys, "sb_publishable_", "Keys that act as service_role: `{\"name\":\"sb_secret_…\"}`"),
		keySet("SUPABASE_PUBLISHABLE_KEYS", &i.PublishableKeys, "sb_secret_", "Keys that act as anon: `{\"name\":\"sb_publishable_…\"}`"),
		oneKey("SUPABASE_SECRET_KEY", &i.SecretKeys, "sb_publishable_", "One more secret key, by the name `default`"),
		oneKey("SUPABASE_PUBLISHABLE_KEY", &i.PublishableKeys, "sb_secret_", "One more publishable key, by the name `default`"),
		boolean("HMAC_REQUIRED", &h.Required, "Refuse requests that are not signed"),
		hmacKeys("HMAC_KEYS", &h.Keys, "Keys of signed requests, at least 32 bytes each: `id:secret[:not-after],…`, not-after in RFC 3339 or unix seconds"),
		duration("HMAC_MAX_DRIFT", &h.MaxDrift, "300s", 1, "How far a signature's time may be off"),
	}
}

func (l *loader) runVariables() []variable {
	r := &l.config.Run
	return []variable{
		duration("RUN_LEASE", &r.Lease, "15s", minLease, "How long a node holds a run without renewing"),
		integer("RUN_MAX_ATTEMPTS", &r.MaxAttempts, "3", 1, 100, "Attempts at a run before it is closed as interrupted"),
		duration("RUN_LOG_RETENTION", &r.LogRetention, "24h", 1, "How long a finished run's frames are kept"),
		choice("MIDSTREAM_RECOVERY", &r.MidstreamRecovery, []string{"auto", "restart", "fail"}, "When a provider dies in mid-answer: start again or fail; auto restarts runs that have a key"),
	}
}

func (l *loader) chatProviderVariables() []variable {
	h := &l.config.Chat
	return []variable{
		webURL("CHAT_API_BASE", &l.chatBase, "", "OpenAI-compatible provider of chats").
			defaultNote(defaultChatBase + " once there is a key"),
		keyList("CHAT_API_KEY", &l.chatKeys, "Its API key; several, comma-separated, are used in turn"),
		keyList("OPENAI_API_KEY", &l.openAIKeys, "Used where CHAT_API_KEY is empty"),
		text("CHAT_MODEL_DEFAULT", "text", &h.ModelDefault, "gpt-4o-mini", "Model of a request that names none"),
		fallbacks("CHAT_FALLBACKS", &l.fallbacks, "More providers, in order: `[{\"name\",\"base\",\"key_env\",\"model\"}]`; key_env names the variable that holds the key"),
		list("CHAT_MODELS", &h.Models, "Model names that requests may ask for, `*` for any text").defaultNote("any well-formed name"),
		integer("CHAT_PROVIDER_MAX_RETRIES", &h.ProviderMaxRetries, "2", 0, 10, "Retries of a provider before the first word"),
		milliseconds("CHAT_TIMEOUT_MS", &h.Timeout, "60000", "A provider that sends nothing for so long has failed"),
		boolean("CHAT_FORCE_MOCK", &h.ForceMock, "Answer by the mock provider"),
	}
}

func (l *loader) chatVariables() []variable {
	h := &l.config.Chat
	return []variable{
		integer("CHAT_RATE_LIMIT_PER_MIN", &h.RateLimit, "60", 0, maxLimit, "Chats a minute for each principal but the service role; 0: no limit"),
		integer("CHAT_GLOBAL_RATE_LIMIT_PER_MIN", &h.GlobalRateLimit, "0", 0, maxLimit, "Chats a minute over all callers; 0: no limit"),
		integer("CHAT_TOKENS_PER_MIN", &h.TokensPerMin, "0", 0, maxLimit, "Tokens a minute for each principal; 0: no limit"),
		integer("CHAT_MAX_CONTENT_CHARS", &h.MaxContentChars, "32000", 1, 1_000_000, "Characters of a request's content"),
		integer("CHAT_MAX_STREAMS", &h.MaxStreams, "0", 0, maxLimit, "Open streams of a principal; 0: no limit"),
		integer("CHAT_HISTORY_TOKENS", &h.HistoryTokens, "8000", 0, 10_000_000, "Tokens of the session's history that go before the content; 0: none"),
		duration("CHAT_DISCONNECT_GRACE", &h.DisconnectGrace, "10s", 0, "How long a run without a key goes on without a reader; it waits for its first one for at least 5 s"),
		choice("CHAT_ON_DISCONNECT", &h.OnDisconnect, []string{"auto", "continue", "cancel"}, "When all readers left: auto goes on with a key and cancels without one"),
		choice("CHATTING_STAGE", &h.ChattingStage, []string{"proxy", "eol", "gone"}, "How far the deprecated `chatting` endpoint is on its way out"),
		boolean("CHAT_LEGACY_TRANSPORT", &h.LegacyTransport, "Keep the transport that came before SSE"),
		webURL("CHAT_URL", &h.URL, "", "Where `chat-gateway` finds chat, if not in this process"),
	}
}

func (l *loader) embedVariables() []variable {
	e := &l.config.Embed
	return []variable{
		embeddingBase("EMBEDDING_API_BASE", e, "OpenAI-compatible provider of embeddings"),
		keyList("EMBEDDING_API_KEY", &e.Keys, "Its API key; several, comma-separated, are used in turn"),
		text("EMBEDDING_MODEL_DEFAULT", "text", &e.ModelDefault, "BAAI/bge-m3", "Model of a job that names none"),
		list("EMBED_MODELS", &e.Models, "Model names that jobs may ask for, `*` for any text").defaultNote("any well-formed name"),
		integer("EMBED_MAX_BATCH", &e.MaxBatch, "64", 1, 2048, "Texts in one call of the provider"),
		integer("EMBED_PROVIDER_MAX_RETRIES", &e.ProviderMaxRetries, "2", 0, 10, "Retries of a batch before its items fail"),
		duration("EMBED_PROVIDER_WAIT", &e.ProviderWait, "0s", 0, "How long a job waits for a failing provider instead"),
		integer("EMBED_RATE_LIMIT_PER_MIN", &e.RateLimit, "120", 0, maxLimit, "Embed calls a minute for each principal but the service role; 0: no limit"),
		integer("EMBED_GLOBAL_RATE_LIMIT_PER_MIN", &e.GlobalRateLimit, "0", 0, maxLimit, "Embed calls a minute over all callers; 0: no limit"),
		boolean("EMBED_FORCE_MOCK", &e.ForceMock, "Embed by the mock provider"),
		boolean("EMBED_MESSAGES", &e.Messages, "Embed chat messages too"),
	}
}
