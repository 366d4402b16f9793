package auth

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

func TestCredentials(t *testing.T) {
	legacyService := sign(hs256, `{"role":"service_role","exp":1900000000}`, "a secret the edge is not told")
	v := verifier(t, Config{
		JWTSecret:       secret,
		SecretKeys:      map[string]string{"default": "sb_secret_one", "jobs": "sb_secret_two"},
		PublishableKeys: map[string]string{"default": "sb_publishable_one"},
		ServiceRoleKey:  legacyService,
		AnonKey:         "an-anon-key-of-any-form",
	})
	const addr = "192.0.2.7"
	user := Principal{Role: Authenticated, Subject: userID, Address: addr}
	one := Principal{Role: ServiceRole, KeyName: "default", Address: addr}
	two := Principal{Role: ServiceRole, KeyName: "jobs", Address: addr}
	publishable := Principal{Role: Anon, KeyName: "default", Address: addr}
	nobody := Principal{Role: Anon, Address: addr}
	for _, tt := range []struct {
		name          string
		authorization []string
		apikey        []string
		policy        Policy
		want          Principal
		code          api.Code // empty: let in
	}{
		{"nothing", nil, nil, strict(), Principal{}, api.NoAuthHeader},
		{"nothing, optional", nil, nil, Policy{VerifyJWT: true, Optional: true}, nobody, ""},
		{"nothing, verify_jwt = false", nil, nil, Policy{}, nobody, ""},
		{"user", []string{"Bearer " + good()}, nil, strict(), user, ""},
		{"user where none is wanted", []string{"Bearer " + good()}, nil, Policy{}, user, ""},
		{"user and publishable key", []string{"Bearer " + good()}, []string{"sb_publishable_one"}, strict(), user, ""},
		{"user and secret key", []string{"Bearer " + good()}, []string{"sb_secret_one"}, strict(), user, ""},
		{"bad token and secret key", []string{"Bearer " + good() + "A"}, []string{"sb_secret_one"}, strict(), Principal{}, api.InvalidJWT},
		{"secret key", nil, []string{"sb_secret_one"}, strict(), one, ""},
		{"other secret key", nil, []string{"sb_secret_two"}, strict(), two, ""},
		{"secret key as bearer", []string{"Bearer sb_secret_two"}, nil, strict(), two, ""},
		{"secret key in both", []string{"Bearer sb_secret_two"}, []string{"sb_secret_two"}, strict(), two, ""},
		{"publishable key", nil, []string{"sb_publishable_one"}, strict(), publishable, ""},
		{"publishable key in both", []string{"Bearer sb_publishable_one"}, []string{"sb_publishable_one"}, strict(), publishable, ""},
		{"publishable bearer, secret apikey", []string{"Bearer sb_publishable_one"}, []string{"sb_secret_one"}, strict(), publishable, ""},
		{"secret bearer, unknown apikey", []string{"Bearer sb_secret_one"}, []string{"sb_secret_x"}, strict(), Principal{}, api.InvalidJWT},
		{"unknown bearer, secret apikey", []string{"Bearer sb_secret_x"}, []string{"sb_secret_one"}, strict(), Principal{}, api.InvalidJWT},
		{"unknown key, optional", nil, []string{"sb_secret_x"}, Policy{Optional: true}, Principal{}, api.InvalidJWT},
		{"key cut by a letter", nil, []string{"sb_secret_on"}, strict(), Principal{}, api.InvalidJWT},
		{"key longer by a letter", nil, []string{"sb_secret_onee"}, strict(), Principal{}, api.InvalidJWT},
		{"key in another case", nil, []string{"SB_SECRET_ONE"}, strict(), Principal{}, api.InvalidJWTFormat},
		{"key of the key's name", nil, []string{"default"}, strict(), Principal{}, api.InvalidJWTFormat},
		{"legacy service key that JWT_SECRET did not sign", []string{"Bearer " + legacyService}, nil, strict(), Principal{Role: ServiceRole, KeyName: "legacy", Address: addr}, ""},
		{"legacy anon key of no form", nil, []string{"an-anon-key-of-any-form"}, strict(), Principal{Role: Anon, KeyName: "legacy", Address: addr}, ""},
		{"empty apikey is none", nil, []string{""}, strict(), Principal{}, api.NoAuthHeader},
		{"empty Authorization", []string{""}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"empty Authorization, optional", []string{""}, nil, Policy{Optional: true}, Principal{}, api.InvalidJWTFormat},
		{"scheme only", []string{"Bearer"}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"scheme and a space", []string{"Bearer "}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"two words", []string{"Bearer a b"}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"a tab", []string{"Bearer\t" + good()}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"no scheme", []string{good()}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"Basic", []string{"Basic dXNlcjpwYXNz"}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"Basic, optional", []string{"Basic dXNlcjpwYXNz"}, nil, Policy{VerifyJWT: true, Optional: true}, Principal{}, api.InvalidJWTFormat},
		{"Basic beside a good key", []string{"Basic dXNlcjpwYXNz"}, []string{"sb_secret_one"}, strict(), Principal{}, api.InvalidJWTFormat},
		{"two in one header", []string{"Bearer " + good() + ", Bearer " + good()}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"two headers", []string{"Bearer " + good(), "Bearer " + good()}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"two headers, optional", []string{"Bearer " + good(), ""}, nil, Policy{Optional: true}, Principal{}, api.InvalidJWTFormat},
		{"two apikeys", nil, []string{"sb_secret_one", "sb_secret_one"}, strict(), Principal{}, api.InvalidJWTFormat},
		{"100 KB", []string{"Bearer " + strings.Repeat("a", 100_000)}, nil, strict(), Principal{}, api.InvalidJWTFormat},
		{"SQL", []string{"Bearer ' OR 1=1--"}, nil, strict(), Principal{}, api.InvalidJWTFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			if tt.authorization != nil {
				h["Authorization"] = tt.authorization
			}
			if tt.apikey != nil {
				h["Apikey"] = tt.apikey
			}
			p, err := v.Authenticate(h, addr, tt.policy, now())
			if p != tt.want {
				t.Errorf("%+v, want %+v", p, tt.want)
			}
			switch {
			case tt.code == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.code != "" && (err == nil || fault.From(err).Code != tt.code):
				t.Errorf("%v, want %s", err, tt.code)
			}
		})
	}
}

func TestKeySetsThatContradictThemselves(t *testing.T) {
	for name, c := range map[string]Config{
		"secret and publishable": {SecretKeys: map[string]string{"a": "k"}, PublishableKeys: map[string]string{"b": "k"}},
		"two names":              {SecretKeys: map[string]string{"a": "k", "b": "k"}},
		"legacy pair":            {ServiceRoleKey: "k", AnonKey: "k"},
		"empty":                  {SecretKeys: map[string]string{"a": ""}},
	} {
		_, err := New(c)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if strings.Contains(err.Error(), `"k"`) {
			t.Errorf("%s: shows the key: %v", name, err)
		}
	}
}

func TestPrincipal(t *testing.T) {
	alice := Principal{Role: Authenticated, Subject: "alice", Address: "192.0.2.1"}
	bob := Principal{Role: Authenticated, Subject: "bob", Address: "192.0.2.1"}
	job := Principal{Role: ServiceRole, KeyName: "jobs", Address: "192.0.2.1"}
	anon := Principal{Role: Anon, Address: "192.0.2.1"}
	other := Principal{Role: Anon, KeyName: "default", Address: "2001:db8::1"}
	trick := Principal{Role: Authenticated, Subject: "x:anon:192.0.2.1"}
	for _, tt := range []struct {
		p          Principal
		key, owner string
		service    bool
		reads      [6]bool // runs of alice, bob, job, anon, other, trick
	}{
		{alice, "authenticated:alice", "alice", false, [6]bool{true, false, false, true, true, false}},
		{bob, "authenticated:bob", "bob", false, [6]bool{false, true, false, true, true, false}},
		{job, "service_role:jobs", "", true, [6]bool{true, true, true, true, true, true}},
		{anon, "anon:192.0.2.1", "", false, [6]bool{false, false, false, true, true, false}},
		{other, "anon:2001:db8::1", "", false, [6]bool{false, false, false, true, true, false}},
		{trick, "authenticated:x:anon:192.0.2.1", "x:anon:192.0.2.1", false, [6]bool{false, false, false, true, true, true}},
	} {
		if tt.p.Key() != tt.key || tt.p.Owner() != tt.owner || tt.p.Service() != tt.service {
			t.Errorf("%+v: key %s, owner %s, service %t", tt.p, tt.p.Key(), tt.p.Owner(), tt.p.Service())
		}
		for i, of := range []Principal{alice, bob, job, anon, other, trick} {
			if got := tt.p.CanRead(of.Key()); got != tt.reads[i] {
				t.Errorf("%s reads a run of %s: %t", tt.key, of.Key(), got)
			}
		}
	}
}
