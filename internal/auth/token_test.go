package auth

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

func strict() Policy { return Policy{VerifyJWT: true} }

func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

func verifier(t *testing.T, c Config) *Verifier {
	t.Helper()
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// No token that the issuer did not sign for this use gets in, neither as its
// role nor as nobody, with the credential optional or not.
func TestForgedTokens(t *testing.T) {
	keys := newIssuer(t)
	v := verifier(t, Config{JWTSecret: secret, Keys: keys})
	claims := userClaims("")
	at := func(claim string, offset int64) string {
		return sign(hs256, fmt.Sprintf(`{"%s":%d,"exp":%d,"role":"authenticated","sub":"%s"}`, claim, now().Unix()+offset, now().Unix()+3600, userID), secret)
	}
	payload := func(exp string) string {
		return sign(hs256, fmt.Sprintf(`{"role":"authenticated","sub":"%s"%s}`, userID, exp), secret)
	}
	head := func(s string) string { return sign(s, claims, secret) }
	parts := strings.Split(good(), ".")
	unsigned := b64(`{"alg":"none"}`) + "." + b64(claims) + "."
	es := keys.es256(t, keys.ec, `{"alg":"ES256","kid":"ec"}`, claims)
	rs := keys.rs256(t, `{"alg":"RS256","kid":"rsa"}`, claims)
	ecPEM, rsaPEM := publicPEM(t, &keys.ec.PublicKey), publicPEM(t, &keys.rsa.PublicKey)

	type forged struct {
		name, token string
		code        api.Code
	}
	tokens := []forged{
		// No signature, or none by a key.
		{"alg none", unsigned, api.UnsupportedAlgorithm},
		{"alg None", b64(`{"alg":"None"}`) + "." + b64(claims) + ".", api.UnsupportedAlgorithm},
		{"alg nOnE", b64(`{"alg":"nOnE"}`) + "." + b64(claims) + ".", api.UnsupportedAlgorithm},
		{"alg NONE with the good signature", b64(`{"alg":"NONE"}`) + "." + parts[1] + "." + parts[2], api.UnsupportedAlgorithm},
		{"alg none signed", sign(`{"alg":"none"}`, claims, secret), api.UnsupportedAlgorithm},
		{"empty signature", parts[0] + "." + parts[1] + ".", api.InvalidJWT},
		{"signature of zeros", parts[0] + "." + parts[1] + "." + b64(strings.Repeat("\x00", 32)), api.InvalidJWT},
		{"cut signature", good()[:len(good())-4], api.InvalidJWT},
		{"longer signature", good() + "AAAA", api.InvalidJWT},
		{"signature of another token", parts[0] + "." + b64(userClaims(`"x":1,`)) + "." + parts[2], api.InvalidJWT},
		{"payload changed by one letter", parts[0] + "." + flip(parts[1]) + "." + parts[2], api.InvalidJWT},
		{"signature of the payload alone", parts[0] + "." + parts[1] + "." + strings.Split(sign("", claims, secret), ".")[2], api.InvalidJWT},
		{"signature with other trailing bits", parts[0] + "." + parts[1] + "." + trailing(parts[2]), api.InvalidJWT},

		// Signed with what is not the secret.
		{"empty secret", sign(hs256, claims, ""), api.InvalidJWT},
		{"public demo secret", sign(hs256, claims, "super-secret-jwt-token-with-at-least-32-characters-long"), api.InvalidJWT},
		{"the secret and a newline", sign(hs256, claims, secret+"\n"), api.InvalidJWT},
		{"the secret in base64", sign(hs256, claims, b64(secret)), api.InvalidJWT},
		{"upper-cased secret", sign(hs256, claims, strings.ToUpper(secret)), api.InvalidJWT},
		{"HS256 with the RSA public key", sign(hs256, claims, rsaPEM), api.InvalidJWT},
		{"HS256 with the RSA public key and its kid", sign(`{"alg":"HS256","kid":"rsa"}`, claims, rsaPEM), api.InvalidJWT},
		{"HS256 with the RSA public key, no newline", sign(hs256, claims, strings.TrimSpace(rsaPEM)), api.InvalidJWT},
		{"HS256 with the RSA key's DER", sign(`{"alg":"HS256","kid":"rsa"}`, claims, publicDER(t, &keys.rsa.PublicKey)), api.InvalidJWT},
		{"HS256 with the EC public key", sign(`{"alg":"HS256","kid":"ec"}`, claims, ecPEM), api.InvalidJWT},
		{"HS256 with the EC key's DER", sign(`{"alg":"HS256","kid":"ec"}`, claims, publicDER(t, &keys.ec.PublicKey)), api.InvalidJWT},

		// Another algorithm than the key is for.
		{"HS384", sign512(`{"alg":"HS384"}`, claims, secret), api.UnsupportedAlgorithm},
		{"HS512", sign512(`{"alg":"HS512"}`, claims, secret), api.UnsupportedAlgorithm},
		{"hs256", sign(`{"alg":"hs256"}`, claims, secret), api.UnsupportedAlgorithm},
		{"HS256 with a space", sign(`{"alg":"HS256 "}`, claims, secret), api.UnsupportedAlgorithm},
		{"PS256", rsHead(rs, `{"alg":"PS256","kid":"rsa"}`), api.UnsupportedAlgorithm},
		{"ES384", rsHead(es, `{"alg":"ES384","kid":"p384"}`), api.UnsupportedAlgorithm},
		{"EdDSA", rsHead(es, `{"alg":"EdDSA","kid":"ec"}`), api.UnsupportedAlgorithm},
		{"RS256 by the EC key's name", keys.rs256(t, `{"alg":"RS256","kid":"ec"}`, claims), api.InvalidJWT},
		{"ES256 by the RSA key's name", keys.es256(t, keys.ec, `{"alg":"ES256","kid":"rsa"}`, claims), api.InvalidJWT},
		{"ES256 over P-384", keys.es256(t, keys.p384, `{"alg":"ES256","kid":"p384"}`, claims), api.InvalidJWT},
		{"RS256 header on an ES256 signature", rsHead(es, `{"alg":"RS256","kid":"rsa"}`), api.InvalidJWT},
		{"ES256 header on an RS256 signature", rsHead(rs, `{"alg":"ES256","kid":"ec"}`), api.InvalidJWT},
		{"HS256 header on an RS256 signature", rsHead(rs, hs256), api.InvalidJWT},
		{"ES256 without kid", keys.es256(t, keys.ec, `{"alg":"ES256"}`, claims), api.InvalidJWT},
		{"ES256 with an unknown kid", keys.es256(t, keys.ec, `{"alg":"ES256","kid":"other"}`, claims), api.InvalidJWT},
		{"ES256 with r and s zero", es[:strings.LastIndex(es, ".")+1] + b64(strings.Repeat("\x00", 64)), api.InvalidJWT},
		{"ES256 signed with the secret", sign(`{"alg":"ES256","kid":"ec"}`, claims, secret), api.InvalidJWT},
		{"RS256 signed with the secret", sign(`{"alg":"RS256","kid":"rsa"}`, claims, secret), api.InvalidJWT},

		// Headers that bring or fetch a key, or extend the rules.
		{"jwk", head(`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`), api.InvalidJWT},
		{"jku", head(`{"alg":"HS256","jku":"https://evil.test/jwks.json"}`), api.InvalidJWT},
		{"x5u", head(`{"alg":"HS256","x5u":"https://evil.test/cert"}`), api.InvalidJWT},
		{"x5c", head(`{"alg":"HS256","x5c":["MIIB"]}`), api.InvalidJWT},
		{"crit", head(`{"alg":"HS256","crit":["exp"]}`), api.InvalidJWT},
		{"crit and b64", head(`{"alg":"HS256","b64":false,"crit":["b64"]}`), api.InvalidJWT},
		{"zip", head(`{"alg":"HS256","zip":"DEF"}`), api.InvalidJWT},
		{"two algs", head(`{"alg":"none","alg":"HS256"}`), api.InvalidJWTFormat},
		{"alg in another case", head(`{"ALG":"HS256"}`), api.InvalidJWTFormat},
		{"alg as a list", head(`{"alg":["HS256"]}`), api.InvalidJWTFormat},
		{"no alg", head(`{"typ":"JWT"}`), api.InvalidJWTFormat},
		{"header of null", head(`null`), api.InvalidJWTFormat},
		{"header of no JSON", head(`alg=HS256`), api.InvalidJWTFormat},
		{"kid climbs directories", head(`{"alg":"HS256","kid":"../../etc/passwd"}`), api.InvalidJWT},
		{"kid is SQL", head(`{"alg":"HS256","kid":"' union select 'x"}`), api.InvalidJWT},
		{"kid of 5 KB", head(`{"alg":"HS256","kid":"` + strings.Repeat("k", 5000) + `"}`), api.InvalidJWT},
		{"kid as a number", head(`{"alg":"HS256","kid":1}`), api.InvalidJWT},
		{"kid with NUL", head(`{"alg":"HS256","kid":"\u0000"}`), api.InvalidJWTFormat},

		// Times.
		{"expired", payload(fmt.Sprintf(`,"exp":%d`, now().Unix()-31)), api.InvalidJWT},
		{"exp missing", payload(``), api.InvalidJWT},
		{"exp never", payload(`,"exp":"never"`), api.InvalidJWT},
		{"exp as a string", payload(`,"exp":"1900000000"`), api.InvalidJWT},
		{"exp null", payload(`,"exp":null`), api.InvalidJWT},
		{"exp zero", payload(`,"exp":0`), api.InvalidJWT},
		{"exp negative", payload(`,"exp":-1`), api.InvalidJWT},
		{"exp beyond all time", payload(`,"exp":1e300`), api.InvalidJWT},
		{"exp beyond floats", payload(`,"exp":1e999`), api.InvalidJWT},
		{"exp in milliseconds", payload(`,"exp":1800003600000`), api.InvalidJWT},
		{"exp twice", payload(`,"exp":1,"exp":1900000000`), api.InvalidJWT},
		{"exp in another case", payload(`,"EXP":1900000000`), api.InvalidJWT},
		{"not yet valid", at("nbf", 600), api.InvalidJWT},
		{"issued in the future", at("iat", 600), api.InvalidJWT},
		{"nbf as a string", payload(`,"nbf":"0","exp":1900000000`), api.InvalidJWT},

		// Roles and users.
		{"role postgres", roleToken(`"postgres"`), api.RoleNotAllowed},
		{"role missing", roleToken(""), api.RoleNotAllowed},
		{"role in another case", roleToken(`"Service_Role"`), api.RoleNotAllowed},
		{"role with NUL", roleToken(`"service_role\u0000"`), api.InvalidJWT},
		{"role as a list", roleToken(`["service_role"]`), api.RoleNotAllowed},
		{"role supabase_admin", roleToken(`"supabase_admin"`), api.RoleNotAllowed},
		{"user without sub", sign(hs256, `{"exp":1900000000,"role":"authenticated"}`, secret), api.InvalidJWT},
		{"user with an empty sub", sign(hs256, `{"exp":1900000000,"role":"authenticated","sub":""}`, secret), api.InvalidJWT},
		{"sub as a number", sign(hs256, `{"exp":1900000000,"role":"authenticated","sub":7}`, secret), api.InvalidJWT},
		{"sub with a newline", sign(hs256, `{"exp":1900000000,"role":"authenticated","sub":"a\nb"}`, secret), api.InvalidJWT},
		{"sub of 1 KB", sign(hs256, `{"exp":1900000000,"role":"authenticated","sub":"`+strings.Repeat("s", 1024)+`"}`, secret), api.InvalidJWT},
		{"payload null", sign(hs256, `null`, secret), api.InvalidJWT},
		{"payload list", sign(hs256, `[]`, secret), api.InvalidJWT},
		{"payload cut", sign(hs256, claims[:len(claims)-1], secret), api.InvalidJWT},

		// What is no token.
		{"two segments", parts[0] + "." + parts[1], api.InvalidJWTFormat},
		{"four segments", good() + "." + parts[2], api.InvalidJWTFormat},
		{"five segments", strings.Repeat("AA.", 4) + "AA", api.InvalidJWTFormat},
		{"no dots", "token", api.InvalidJWTFormat},
		{"dots", "..", api.InvalidJWTFormat},
		{"a megabyte of dots", strings.Repeat(".", 1<<20), api.InvalidJWTFormat},
		{"8 KiB of dots", strings.Repeat(".", 8000), api.InvalidJWTFormat},
		{"a huge payload", sign(hs256, userClaims(`"x":"`+strings.Repeat("x", 8<<10)+`",`), secret), api.InvalidJWTFormat},
		{"padded base64", parts[0] + "=." + parts[1] + "." + parts[2], api.InvalidJWTFormat},
		{"standard base64 in the signature", parts[0] + "." + parts[1] + ".++//", api.InvalidJWT},
		{"SQL", "'OR1=1--", api.InvalidJWTFormat},
	}
	if len(tokens) < 60 {
		t.Errorf("%d forged tokens", len(tokens))
	}
	for _, tt := range tokens {
		t.Run(tt.name, func(t *testing.T) {
			for _, policy := range []Policy{strict(), {VerifyJWT: true, Optional: true}, {}} {
				for _, h := range []http.Header{bearer(tt.token), {"Apikey": {tt.token}}} {
					p, err := v.Authenticate(h, "192.0.2.1", policy, now())
					if err == nil {
						t.Fatalf("%+v: let in as %+v", policy, p)
					}
					e := fault.From(err)
					if e.Code != tt.code || p != (Principal{}) {
						t.Fatalf("%+v: %v as %+v, want %s", policy, err, p, tt.code)
					}
					if want := map[bool]int{true: 403, false: 401}[tt.code == api.RoleNotAllowed]; e.Code.Status() != want {
						t.Fatalf("status %d", e.Code.Status())
					}
				}
			}
		})
	}
	for _, asked := range keys.asked {
		if !strings.HasPrefix(asked, "ES256 ") && !strings.HasPrefix(asked, "RS256 ") {
			t.Errorf("keys asked for %q", asked)
		}
	}
}

// rsHead puts another header before a token's payload and signature.
func rsHead(token, head string) string { return b64(head) + token[strings.Index(token, "."):] }

func roleToken(role string) string {
	if role != "" {
		role = `,"role":` + role
	}
	return sign(hs256, `{"exp":1900000000,"sub":"`+userID+`"`+role+`}`, secret)
}

func flip(segment string) string {
	b := []byte(segment)
	b[20] ^= 1
	return string(b)
}

// trailing sets bits of the last letter that decoders ignore: 32 bytes leave two.
func trailing(signature string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, signature[len(signature)-1])
	return signature[:len(signature)-1] + string(alphabet[last|1])
}

func TestGoodTokens(t *testing.T) {
	keys := newIssuer(t)
	user := Principal{Role: Authenticated, Subject: userID, Address: "192.0.2.1"}
	service := Principal{Role: ServiceRole, KeyName: "legacy", Address: "192.0.2.1"}
	anon := Principal{Role: Anon, KeyName: "legacy", Address: "192.0.2.1"}
	for _, tt := range []struct {
		name, token string
		want        Principal
	}{
		{"user", good(), user},
		{"user with kid", sign(`{"alg":"HS256","kid":"Zx+/=_-1","typ":"JWT"}`, userClaims(""), secret), user},
		{"user with aud as a list", sign(hs256, strings.Replace(userClaims(""), `"authenticated"`, `["authenticated"]`, 1), secret), user},
		{"user with unknown claims", sign(hs256, userClaims(`"amr":[{"method":"otp"}],"is_anonymous":true,`), secret), user},
		{"within the leeway of exp", sign(hs256, fmt.Sprintf(`{"exp":%d,"role":"authenticated","sub":"%s"}`, now().Unix()-5, userID), secret), user},
		{"within the leeway of iat", sign(hs256, fmt.Sprintf(`{"exp":1900000000,"iat":%d,"role":"authenticated","sub":"%s"}`, now().Unix()+5, userID), secret), user},
		{"legacy anon key", sign(hs256, `{"iss":"supabase","ref":"x","role":"anon","iat":1600000000,"exp":1900000000}`, secret), anon},
		{"legacy service key", sign(hs256, `{"iss":"supabase","ref":"x","role":"service_role","iat":1600000000,"exp":1900000000}`, secret), service},
		{"ES256", keys.es256(t, keys.ec, `{"alg":"ES256","kid":"ec"}`, userClaims("")), user},
		{"RS256", keys.rs256(t, `{"alg":"RS256","kid":"rsa"}`, userClaims("")), user},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := verifier(t, Config{JWTSecret: secret, Keys: keys})
			for _, h := range []http.Header{
				bearer(tt.token), {"Apikey": {tt.token}}, {"Authorization": {"bearer   " + tt.token}},
				{"Authorization": {"BEARER " + tt.token}, "Apikey": {"sb_publishable_unknown"}},
			} {
				p, err := v.Authenticate(h, "192.0.2.1", strict(), now())
				if err != nil || p != tt.want {
					t.Errorf("%+v, %v", p, err)
				}
			}
		})
	}
}

// What verifies nothing lets nobody in.
func TestNoSecret(t *testing.T) {
	v := verifier(t, Config{})
	for name, tt := range map[string]struct {
		token string
		code  api.Code
	}{
		"the empty secret": {sign(hs256, userClaims(""), ""), api.InvalidJWT},
		"a good token":     {good(), api.InvalidJWT},
		"ES256":            {rsHead(good(), `{"alg":"ES256","kid":"ec"}`), api.UnsupportedAlgorithm},
	} {
		if _, err := v.Authenticate(bearer(tt.token), "", Policy{Optional: true}, now()); err == nil || fault.From(err).Code != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The messages are those of Supabase, and repeat nothing a caller chose but the
// name of an algorithm.
func TestMessages(t *testing.T) {
	v := verifier(t, Config{JWTSecret: secret})
	for _, tt := range []struct {
		header  http.Header
		message string
	}{
		{http.Header{}, "Missing authorization header"},
		{bearer("x"), "Invalid JWT format"},
		{bearer(good() + "A"), "Invalid JWT"},
		{bearer(rsHead(good(), `{"alg":"EdDSA"}`)), "Unsupported JWT algorithm EdDSA"},
		{bearer(rsHead(good(), `{"alg":"<script>"}`)), "Unsupported JWT algorithm"},
		{bearer(rsHead(good(), `{"alg":"`+strings.Repeat("A", 99)+`"}`)), "Unsupported JWT algorithm"},
	} {
		_, err := v.Authenticate(tt.header, "", strict(), now())
		if err == nil || fault.From(err).Message != tt.message {
			t.Errorf("%v, want %q", err, tt.message)
		}
	}
}

// A megabyte that is refused is not even copied.
func TestHugeTokensAreCheap(t *testing.T) {
	v := verifier(t, Config{JWTSecret: secret, SecretKeys: map[string]string{"a": "sb_secret_a"}})
	for name, token := range map[string]string{"dots": strings.Repeat(".", 1<<20), "base64": strings.Repeat("A", 1<<20)} {
		h := bearer(token)
		if allocs := testing.AllocsPerRun(10, func() {
			if _, err := v.Authenticate(h, "", strict(), now()); err == nil {
				t.Error("let in")
			}
		}); allocs > 10 {
			t.Errorf("%s: %.0f allocations", name, allocs)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	f.Add("Bearer "+good(), "")
	f.Add("Bearer sb_secret_a", "sb_secret_a")
	f.Add("bearer "+sign(`{"alg":"none"}`, `{}`, ""), good())
	v, err := New(Config{JWTSecret: secret, SecretKeys: map[string]string{"a": "sb_secret_a"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization, apikey string) {
		p, err := v.Authenticate(http.Header{"Authorization": {authorization}, "Apikey": {apikey}}, "192.0.2.1", strict(), now())
		if err != nil {
			if status := fault.From(err).Code.Status(); status != 401 && status != 403 {
				t.Fatalf("status %d: %v", status, err)
			}
			return
		}
		// Only what was signed above, or the key itself, is anybody.
		known := strings.Contains(authorization, "sb_secret_a") || strings.Contains(authorization, good()) ||
			authorization == "" && (apikey == "sb_secret_a" || apikey == good())
		if !known || p.Role == "" {
			t.Fatalf("%q, %q: let in as %+v", authorization, apikey, p)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	v, err := New(Config{JWTSecret: secret, SecretKeys: map[string]string{"a": "sb_secret_a"}})
	if err != nil {
		b.Fatal(err)
	}
	h := bearer(good())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Authenticate(h, "192.0.2.1", strict(), now()); err != nil {
			b.Fatal(err)
		}
	}
}
