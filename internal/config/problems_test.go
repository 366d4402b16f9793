package config

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func token(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig"
}

// What is malformed is refused by its name, and what it was is not shown.
func TestBadValues(t *testing.T) {
	const canary = "c4n4ry"
	for _, tt := range []struct{ name, value string }{
		{"EDGE_ENV", canary},
		{"EDGE_ENV", "Production"},
		{"EDGE_ADDR", canary},
		{"EDGE_ADDR", "8787"},
		{"EDGE_ADDR", "127.0.0.1:http" + canary},
		{"EDGE_ADDR", "127.0.0.1:65536"},
		{"EDGE_AUTH_OPTIONAL", "yes-" + canary},
		{"EDGE_TLS_CERT", canary},
		{"EDGE_TLS_KEY", canary},
		{"EDGE_CORS_ORIGINS", "https://a.example/" + canary},
		{"EDGE_CORS_ORIGINS", canary},
		{"EDGE_TRUSTED_PROXIES", "10.0.0.0/8, " + canary},
		{"EDGE_TRUSTED_PROXIES", "10.0.0.0/33"},
		{"EDGE_PRIVATE_PROVIDERS", "http://" + canary},
		{"EDGE_PRIVATE_PROVIDERS", canary + ":11434"},
		{"DRAIN_TIMEOUT", "600"},
		{"DRAIN_TIMEOUT", "-1s"},
		{"DRAIN_TIMEOUT", canary},
		{"RUN_LEASE", "0s"},
		{"RUN_LEASE", "99ms"},
		{"RUN_MAX_ATTEMPTS", "0"},
		{"RUN_MAX_ATTEMPTS", "3.0"},
		{"CHAT_TIMEOUT_MS", "0"},
		{"CHAT_TIMEOUT_MS", "60s"},
		{"CHAT_RATE_LIMIT_PER_MIN", "-1"},
		{"CHAT_RATE_LIMIT_PER_MIN", "99999999999999999999"},
		{"EMBED_MAX_BATCH", "2049"},
		{"MIDSTREAM_RECOVERY", canary},
		{"CHAT_API_BASE", canary},
		{"CHAT_API_BASE", "ftp://" + canary},
		{"CHAT_API_BASE", "https://user:" + canary + "@host/v1"},
		{"CHAT_API_BASE", "https://host/v1?key=" + canary},
		{"CHAT_API_BASE", "https://host/v1#" + canary},
		{"CHAT_API_BASE", "https://"},
		{"CHAT_API_KEY", canary + " " + canary},
		{"CHAT_API_KEY", canary + "\r\nX: y"},
		{"SUPABASE_ANON_KEY", canary + "é"},
		{"DATABASE_URL", canary},
		{"DATABASE_URL", "mysql://" + canary + "@host/db"},
		{"DATABASE_URL", "postgres://user:" + canary + "#x@host/db"},
		{"DATABASE_URL", "host=db password=" + canary},
		{"SUPABASE_SECRET_KEYS", canary},
		{"SUPABASE_SECRET_KEYS", `["` + canary + `"]`},
		{"SUPABASE_SECRET_KEYS", `{"default":"sb_publishable_` + canary + `"}`},
		{"SUPABASE_SECRET_KEYS", `{"":"` + canary + `"}`},
		{"SUPABASE_SECRET_KEYS", `{"default":""}`},
		{"SUPABASE_SECRET_KEY", "sb_publishable_" + canary},
		{"SUPABASE_PUBLISHABLE_KEYS", `{"default":"sb_secret_` + canary + `"}`},
		{"SUPABASE_PUBLISHABLE_KEY", "sb_secret_" + canary},
		{"SUPABASE_SERVICE_ROLE_KEY", token(`{"role":"anon","x":"` + canary + `"}`)},
		{"SUPABASE_ANON_KEY", token(`{"role":"service_role"}`)},
		{"SUPABASE_JWKS", canary},
		{"SUPABASE_JWKS_URL", "http://" + canary + ".example/jwks"},
		{"HMAC_KEYS", canary},
		{"HMAC_KEYS", canary + ":"},
		{"HMAC_KEYS", ":" + canary},
		{"HMAC_KEYS", "a:" + canary + ":soon"},
		{"HMAC_KEYS", "a:" + canary + ":2027-01-02"},
		{"HMAC_KEYS", "a:" + canary + ":"},
		{"HMAC_KEYS", "a:" + canary + ":1700000000000"},
		{"HMAC_KEYS", "a:" + canary + ",a:other"},
		{"CHAT_FALLBACKS", canary},
		{"CHAT_FALLBACKS", `{"name":"` + canary + `"}`},
		{"CHAT_FALLBACKS", `[{"name":"a","base":"https://a","key":"` + canary + `"}]`},
		{"CHAT_FALLBACKS", `[{"base":"https://` + canary + `"}]`},
		{"CHAT_FALLBACKS", `[{"name":"a","base":"` + canary + `"}]`},
		{"CHAT_FALLBACKS", `[{"name":"a","base":"https://a"},{"name":"a","base":"https://b"}]`},
		{"CHAT_FALLBACKS", `[{"name":"a","base":"https://a","key_env":"` + canary + ` x"}]`},
		{"CHAT_FALLBACKS", `[{"name":"a","base":"https://a","key_env":"NOT_SET"}]`},
		{"CHAT_FALLBACKS", `[{"name":"a","base":"https://a"}] ` + canary},
		{"EMBEDDING_API_BASE", "https://api.deepinfra.com/v1/inference/" + canary},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			all := problems(t, Sources{Environ: []string{tt.name + "=" + tt.value}})
			if len(all) != 1 || !strings.HasPrefix(all[0].Name, strings.TrimSuffix(tt.name, "KEY")) && all[0].Name != "EDGE_TLS_CERT" {
				t.Fatalf("%+v", all)
			}
			if text := (&Error{all}).Error(); strings.Contains(text, canary) {
				t.Errorf("shows the value: %s", text)
			}
		})
	}
}

func TestDeepInfraGuard(t *testing.T) {
	for base, good := range map[string]bool{
		"https://api.deepinfra.com/v1/openai":        true,
		"https://api.deepinfra.com/v1/openai/":       true,
		"https://API.DeepInfra.com/v1/openai":        true,
		"https://api.deepinfra.com/v1":               false,
		"https://deepinfra.com/v1/openai/embeddings": false,
		"https://api.deepinfra.com":                  false,
		"https://deepinfra.com.evil.example/v1":      true,
		"https://notdeepinfra.com/v1":                true,
		"https://example.com/deepinfra.com":          true,
	} {
		_, err := Load(Sources{Environ: []string{"EMBEDDING_API_BASE=" + base}})
		if (err == nil) != good {
			t.Errorf("%s: %v", base, err)
		}
		if err != nil && !strings.Contains(err.Error(), "EMBEDDING_API_BASE for DeepInfra must be https://api.deepinfra.com/v1/openai") {
			t.Errorf("%s: %v", base, err)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	for name, hint := range map[string]string{
		"CHAT_MODLE_DEFAULT":     "did you mean CHAT_MODEL_DEFAULT?",
		"CHAT_API_KEYS":          "did you mean CHAT_API_KEY?",
		"EMBED_API_KEY":          "did you mean EMBEDDING_API_KEY?",
		"EDGE_ADRR":              "did you mean EDGE_ADDR?",
		"HMAC_KEY":               "did you mean HMAC_KEYS?",
		"RUN_MAX_ATTEMPT":        "did you mean RUN_MAX_ATTEMPTS?",
		"MIDSTREAM_RECOVER":      "did you mean MIDSTREAM_RECOVERY?",
		"EMBEDDING_BASE":         "did you mean EMBEDDING_API_BASE?",
		"CHATTING_STAGES":        "did you mean CHATTING_STAGE?",
		"CHAT_SOMETHING_ELSE_AT": "agentedge config lists the names there are",
		"HUGGINGFACE_API_TOKEN":  "use EMBEDDING_API_KEY (or CHAT_API_KEY) instead",
		"CHATTING_API_BASE":      "use CHAT_API_BASE instead",
		"CHATTING_API_KEY":       "use CHAT_API_KEY instead",
		"CHATTING_API_MODEL":     "use CHAT_MODEL_DEFAULT instead",
		"CHATTING_API_OTHER":     "use CHAT_API_BASE and CHAT_API_KEY instead",
	} {
		for _, from := range []Sources{
			{Environ: []string{name + "=secret-value"}},
			{Dir: tree(t, map[string]string{".env": name + "=secret-value"})},
			{Dir: tree(t, map[string]string{"supabase/config.toml": "[edge_runtime.secrets]\n" + strings.ToLower(name) + " = 'secret-value'"})},
		} {
			all := problems(t, from)
			if len(all) != 1 || all[0].Name != name || all[0].Hint != hint || all[0].Origin == "" {
				t.Errorf("%s: %+v, want hint %q", name, all, hint)
			}
			if text := (&Error{all}).Error(); strings.Contains(text, "secret-value") {
				t.Errorf("shows the value: %s", text)
			}
		}
	}
	// Empty, or nobody's business.
	load(t, "CHAT_FOO=", "HUGGINGFACE_API_TOKEN= ", "chat_model=x", "CHATTY=1", "MOCK_X=1", "EDGEWISE=2", "HOME=/root")
}

// Everything that is wrong is reported at once, with where it came from.
func TestAllProblemsAtOnce(t *testing.T) {
	dir := tree(t, map[string]string{
		".env":                    "CHAT_TIMEOUT_MS=soon\nEDGE_FOO=1\n",
		"supabase/functions/.env": "this is no assignment\n",
		"supabase/config.toml":    "[functions.chat]\nverify_jwt = maybe-secret\n",
	})
	_, err := Load(Sources{Dir: dir, Environ: []string{"EDGE_ADDR=nowhere", "CHATTING_API_KEY=x", "EDGE_FOO=2"}})
	want := `configuration:
  supabase/functions/.env: line 1 is not NAME=value
  supabase/config.toml: line 2 is not valid TOML
  EDGE_ADDR (environment): must be host:port, or :port for all interfaces
  CHAT_TIMEOUT_MS (.env): must be an integer from 1 to 86400000
  CHATTING_API_KEY (environment): was retired
    hint: use CHAT_API_KEY instead
  EDGE_FOO (environment): is not a known name
    hint: agentedge config lists the names there are`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

func TestProjectFileProblems(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"no TOML":             {"[edge_runtime.secrets]\nA = hunter2", "line 2"},
		"cut string":          {"a = \"hunter2", "line 1"},
		"secret of a number":  {"[edge_runtime.secrets]\nA = 1234567", "secret that is no string"},
		"verify_jwt as text":  {"[functions.chat]\nverify_jwt = 'hunter2'", "verify_jwt or enabled that is no boolean"},
		"a name twice":        {"[edge_runtime.secrets]\na = 'hunter2'\nA = 'hunter3'", "names A twice"},
		"duplicate TOML keys": {"[edge_runtime.secrets]\na = 'hunter2'\na = 'hunter3'", "line 3"},
	} {
		all := problems(t, Sources{Dir: tree(t, map[string]string{"supabase/config.toml": tt.content})})
		text := (&Error{all}).Error()
		if len(all) != 1 || !strings.Contains(text, tt.want) || strings.Contains(text, "hunter") || strings.Contains(text, "1234567") {
			t.Errorf("%s: %s", name, text)
		}
	}
	dir := tree(t, map[string]string{".env/x": ""})
	if all := problems(t, Sources{Dir: dir}); all[0].Name != ".env" || strings.Contains(all[0].Message, dir) {
		t.Errorf("an unreadable .env: %+v", all)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%s, %s: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
	if got := nearest("CHAT_XYZ", []string{"CHAT_ABC", "RUN"}); got != "" {
		t.Errorf("guessed %s", got)
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("s", 32)
	safe := []string{"EDGE_ENV=production", "JWT_SECRET=" + long, "CHAT_API_KEY=k"}
	prod := func(more ...string) []string { return append(slices.Clone(safe), more...) }
	demo := "super-secret-jwt-token-with-at-least-32-characters-long"
	for _, tt := range []struct {
		name    string
		environ []string
		want    []string // names of the problems
	}{
		{"development", nil, nil},
		{"development with everything demo", []string{"JWT_SECRET=" + demo, "CHAT_FORCE_MOCK=1", "CHAT_API_BASE=http://127.0.0.1:1"}, nil},
		{"development open to the network", []string{"EDGE_ADDR=:8787", "EDGE_AUTH_OPTIONAL=true"}, []string{"EDGE_ADDR"}},
		{"development on the network with auth", []string{"EDGE_ADDR=:8787", "JWT_SECRET=short"}, nil},
		{"metrics open to the network", []string{"METRICS_ADDR=:3100"}, []string{"METRICS_ADDR"}},
		{"metrics on the network with a key", []string{"METRICS_ADDR=:3100", "SUPABASE_SECRET_KEY=sb_secret_x"}, nil},
		{"signing required without keys", []string{"HMAC_REQUIRED=true"}, []string{"HMAC_REQUIRED"}},
		{"short signing key", []string{"HMAC_KEYS=a:" + long[:31] + ",b:" + long}, []string{"HMAC_KEYS"}},
		{"signing as it should be", []string{"HMAC_REQUIRED=true", "HMAC_KEYS=a:" + long}, nil},
		{"production", safe, nil},
		{"production on the network", prod("EDGE_ADDR=0.0.0.0:8787"), nil},
		{"optional auth", prod("EDGE_AUTH_OPTIONAL=true"), []string{"EDGE_AUTH_OPTIONAL"}},
		{"optional auth on the network", prod("EDGE_AUTH_OPTIONAL=true", "EDGE_ADDR=:1"), []string{"EDGE_ADDR", "EDGE_AUTH_OPTIONAL"}},
		{"nothing to verify with", []string{"EDGE_ENV=production"}, []string{"JWT_SECRET"}},
		{"a project's keys", []string{"EDGE_ENV=production", "SUPABASE_URL=https://x.supabase.co"}, nil},
		{"API keys only", []string{"EDGE_ENV=production", `SUPABASE_SECRET_KEYS={"a":"sb_secret_x"}`}, nil},
		{"short secret", []string{"EDGE_ENV=production", "JWT_SECRET=short"}, []string{"JWT_SECRET"}},
		{"demo secret", []string{"EDGE_ENV=production", "JWT_SECRET=" + demo}, []string{"JWT_SECRET"}},
		{"demo legacy keys", prod("SUPABASE_SERVICE_ROLE_KEY="+token(`{"iss":"supabase-demo","role":"service_role"}`), "SUPABASE_ANON_KEY="+token(`{"iss":"supabase-demo"}`)), []string{"SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_ANON_KEY"}},
		{"demo keys", prod("SUPABASE_SECRET_KEY=sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz", `SUPABASE_PUBLISHABLE_KEYS={"x":"sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"}`), []string{"SUPABASE_SECRET_KEYS", "SUPABASE_PUBLISHABLE_KEYS"}},
		{"mocks", prod("CHAT_FORCE_MOCK=true", "EMBED_FORCE_MOCK=true"), []string{"CHAT_FORCE_MOCK", "EMBED_FORCE_MOCK"}},
		{"private provider", prod("CHAT_API_BASE=http://10.0.0.1:8000/v1"), []string{"CHAT_API_BASE"}},
		{"provider on this machine", prod("CHAT_API_BASE=http://localhost:8000/v1"), []string{"CHAT_API_BASE"}},
		{"provider in shared address space", prod("CHAT_API_BASE=http://100.64.1.1/v1"), []string{"CHAT_API_BASE"}},
		{"provider at a mapped address", prod("CHAT_API_BASE=http://[::ffff:127.0.0.1]/v1"), []string{"CHAT_API_BASE"}},
		{"private fallback and embeddings", prod(`CHAT_FALLBACKS=[{"name":"a","base":"http://192.168.1.1"}]`, "EMBEDDING_API_BASE=http://[fd00::1]/v1"), []string{"CHAT_FALLBACKS", "EMBEDDING_API_BASE"}},
		{"private providers by name", prod("CHAT_API_BASE=http://LocalHost:8000/v1", "EMBEDDING_API_BASE=http://10.2.3.4/v1", "EDGE_PRIVATE_PROVIDERS=localhost,10.0.0.0/8"), nil},
		{"other private providers by name", prod("CHAT_API_BASE=http://10.2.3.4/v1", "EDGE_PRIVATE_PROVIDERS=10.3.0.0/16"), []string{"CHAT_API_BASE"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := load(t, tt.environ...).Check()
			var got []string
			if e, ok := err.(*Error); ok {
				for _, p := range e.Problems {
					got = append(got, p.Name)
					if p.Hint == "" {
						t.Errorf("%s has no hint", p.Name)
					}
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
