package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// No way of printing a Config shows a secret.
func TestNothingShowsSecrets(t *testing.T) {
	c := load(t,
		"JWT_SECRET=canary-1", "SUPABASE_SERVICE_ROLE_KEY=canary-2", "SUPABASE_ANON_KEY=canary-3",
		`SUPABASE_SECRET_KEYS={"jobs":"canary-4"}`, `SUPABASE_PUBLISHABLE_KEYS={"web":"canary-5"}`, "SUPABASE_SECRET_KEY=canary-6",
		"SUPABASE_PUBLISHABLE_KEY=canary-7", "HMAC_KEYS=k:canary-8:1900000000", "CHAT_API_KEY=canary-9,canary-10", "OPENAI_API_KEY=canary-11",
		"EMBEDDING_API_KEY=canary-12", "DATABASE_URL=postgres://me:canary-13@db.example:5432/app?password=canary-14",
		"DATABASE_DIRECT_URL=postgres://canary-15:canary-16@db/app", `SUPABASE_JWKS={"keys":[{"k":"canary-17"}]}`, "SUPABASE_DB_URL=postgres://x:canary-18@y/z",
		"FALLBACK_KEY=canary-19", `CHAT_FALLBACKS=[{"name":"f","base":"https://f.example","key_env":"FALLBACK_KEY"}]`,
	)
	var table strings.Builder
	if err := WriteTable(&table, c.Entries()); err != nil {
		t.Fatal(err)
	}
	entries, err := json.Marshal(c.Entries())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "config", c, "key", c.Identity.JWTSecret, "keys", c.Chat.Providers)
	for name, text := range map[string]string{
		"table": table.String(), "entries": string(entries), "JSON": string(whole), "log": logged.String(),
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", *c), "%#v": fmt.Sprintf("%#v", *c), "%s": fmt.Sprintf("%s", c.Chat.Providers), "%q": fmt.Sprintf("%q", c.Identity.SecretKeys),
	} {
		if i := strings.Index(text, "canary"); i >= 0 {
			t.Errorf("%s shows %s", name, text[max(0, i-40):min(len(text), i+12)])
		}
	}
	for name, want := range map[string]string{
		"JWT_SECRET": "[redacted]", "SUPABASE_SECRET_KEYS": "jobs", "CHAT_API_KEY": "[redacted] (2 keys)", "FALLBACK_KEY": "[redacted]",
		"DATABASE_URL": "postgres://db.example:5432/app", "HMAC_KEYS": "k:[redacted]:2030-03-17T17:46:40Z", "SUPABASE_DB_URL": "(ignored)",
		"CHAT_FALLBACKS": `[{"name":"f","base":"https://f.example","key_env":"FALLBACK_KEY","model":""}]`, "CHAT_API_BASE": "https://api.openai.com/v1",
	} {
		if got := entry(t, c, name).Value; got != want {
			t.Errorf("%s is shown as %s, want %s", name, got, want)
		}
	}
	if string(c.Identity.JWTSecret) != "canary-1" {
		t.Error("the secret itself is lost")
	}
}

// A password that should have been escaped does not show in another part.
func TestDatabaseURLWithARawPassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://me:p@canary@host/db", "postgres://me:1/canary@host/db", "postgres://me:1?canary@host/db", "postgres://me:p@can/ary@host/db",
	} {
		c, err := Load(Sources{Environ: []string{"DATABASE_URL=" + dsn}})
		if err != nil {
			continue
		}
		if got := entry(t, c, "DATABASE_URL").Value; strings.Contains(got, "can") || strings.Contains(got, "1") {
			t.Errorf("%s is shown as %s", dsn, got)
		}
	}
}

func TestWriteTable(t *testing.T) {
	var b strings.Builder
	err := WriteTable(&b, []Entry{{Name: "EDGE_ADDR", Value: ":1", Origin: ".env"}, {Name: "CHAT_URL", Origin: "default"}})
	want := "NAME       VALUE  ORIGIN\nEDGE_ADDR  :1     .env\nCHAT_URL   -      default\n"
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
	if err := WriteTable(full{}, []Entry{{}}); err == nil {
		t.Error("a write that fails is no error")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }
