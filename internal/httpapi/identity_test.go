package httpapi_test

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/contract/testedge"
)

// credentialRows are who calls and who may, under each policy.
func credentialRows() []row {
	user, anon := testedge.Token("authenticated", "u1"), testedge.Token("anon", "")
	refused := func(name, edge string, code api.Code, header ...string) row {
		r := row{name: name + " at " + edge, edge: edge, call: hello(header...), status: 401, code: code, header: []string{"WWW-Authenticate: Bearer"}}
		if code.Status() == 403 {
			r.status, r.header = 403, []string{"WWW-Authenticate"}
		}
		return r
	}
	rows := []row{
		refused("nobody", "strict", api.NoAuthHeader),
		{name: "nobody at dev", call: hello(), status: 200},
		{name: "nobody at open", edge: "open", call: hello(), status: 200},
		{name: "nobody reads a run", edge: "strict", call: testedge.Call{Path: "/chat/0192f000-0000-7000-8000-0000000000aa"}, status: 401, code: api.NoAuthHeader},
		{name: "nobody cancels a run", edge: "strict", call: testedge.Call{Method: post, Path: "/chat/0192f000-0000-7000-8000-0000000000aa/cancel"}, status: 401, code: api.NoAuthHeader},
	}
	for _, edge := range []string{"dev", "strict", "open"} {
		for name, header := range map[string]string{
			"a user": "Authorization: Bearer " + user, "the anon role": "Authorization: Bearer " + anon,
			"the service": "Authorization: Bearer " + secretKey, "a publishable key": "apikey: " + publishableKey,
			"a secret key": "apikey: " + secretKey, "lower-case bearer": "authorization: bearer " + user, "a user's token as apikey": "apikey: " + user,
		} {
			rows = append(rows, row{name: name + " at " + edge, edge: edge, call: hello(header), status: 200})
		}
		// A credential that is there must be good, whatever the policy.
		rows = append(rows,
			refused("Basic", edge, api.InvalidJWTFormat, "Authorization: Basic dTpw"),
			refused("an empty header", edge, api.InvalidJWTFormat, "Authorization: "),
			refused("an empty bearer", edge, api.InvalidJWTFormat, "Authorization: Bearer "),
			refused("two words", edge, api.InvalidJWTFormat, "Authorization: Bearer a b"),
			refused("two headers", edge, api.InvalidJWTFormat, "Authorization: Bearer "+user, "Authorization: Bearer "+user),
			refused("a list of two", edge, api.InvalidJWTFormat, "Authorization: Bearer "+user+", Bearer "+user),
			refused("an unknown sb_ key", edge, api.InvalidJWT, "Authorization: Bearer sb_secret_guessed"),
			refused("an unknown apikey", edge, api.InvalidJWT, "apikey: sb_publishable_guessed"),
			refused("a garbage apikey", edge, api.InvalidJWTFormat, "apikey: garbage"),
			refused("a key beside a bad one", edge, api.InvalidJWT, "Authorization: Bearer "+secretKey, "apikey: sb_secret_guessed"),
			refused("SQL", edge, api.InvalidJWTFormat, "Authorization: Bearer ' OR 1=1--"),
			refused("SQL without spaces", edge, api.InvalidJWTFormat, "Authorization: Bearer '/**/OR/**/1=1--"),
			refused("9 KB of dots", edge, api.InvalidJWTFormat, "Authorization: Bearer "+strings.Repeat(".", 9<<10)),
		)
	}
	return rows
}

// forged is a token of any header, signed by the edge's own secret.
func forged(header string, claims jwt.MapClaims) string {
	whole := testedge.Sign(testedge.Secret, claims)
	parts := strings.Split(whole, ".")
	head := base64.RawURLEncoding.EncodeToString([]byte(header))
	signed := head + "." + parts[1]
	sig, err := jwt.SigningMethodHS256.Sign(signed, []byte(testedge.Secret))
	if err != nil { // a byte slice always signs
		panic(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// tokenRows are tokens that are not good, each for one reason.
func tokenRows() []row {
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	claims := func(change ...any) jwt.MapClaims {
		c := jwt.MapClaims{"role": "authenticated", "sub": "u1", "exp": in(time.Hour)}
		for i := 0; i < len(change); i += 2 {
			if change[i+1] == nil {
				delete(c, change[i].(string))
			} else {
				c[change[i].(string)] = change[i+1]
			}
		}
		return c
	}
	sign := func(change ...any) string { return testedge.Sign(testedge.Secret, claims(change...)) }
	good := sign()
	unsigned := func(alg string) string {
		parts := strings.Split(good, ".")
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+alg+`","typ":"JWT"}`)) + "." + parts[1] + "."
	}
	bad := func(name, token string, code api.Code) row {
		return row{name: "token: " + name, edge: "strict", call: as(token, hello()), status: code.Status(), code: code}
	}
	rows := []row{
		{name: "token: good", edge: "strict", call: as(good, hello()), status: 200},
		{name: "token: aud as a list, iss of anyone", edge: "strict", call: as(sign("aud", []string{"authenticated"}, "iss", "supabase-demo"), hello()), status: 200},
		bad("alg none", unsigned("none"), api.UnsupportedAlgorithm),
		bad("alg None", unsigned("None"), api.UnsupportedAlgorithm),
		bad("alg nOnE", unsigned("nOnE"), api.UnsupportedAlgorithm),
		bad("HS256 without a signature", unsigned("HS256"), api.InvalidJWT),
		bad("alg EdDSA", forged(`{"alg":"EdDSA"}`, claims()), api.UnsupportedAlgorithm),
		bad("alg ES256 without keys", forged(`{"alg":"ES256"}`, claims()), api.UnsupportedAlgorithm),
		bad("no alg", forged(`{"typ":"JWT"}`, claims()), api.InvalidJWTFormat),
		bad("two algs", forged(`{"alg":"HS256","alg":"none"}`, claims()), api.InvalidJWTFormat),
		bad("another secret", testedge.Sign("another-secret-with-at-least-32-bytes", claims()), api.InvalidJWT),
		bad("an empty secret", testedge.Sign("", claims()), api.InvalidJWT),
		bad("a changed claim", changed(good), api.InvalidJWT),
		bad("kid a path", forged(`{"alg":"HS256","kid":"../../etc/passwd"}`, claims()), api.InvalidJWT),
		bad("kid SQL", forged(`{"alg":"HS256","kid":"' union select 1--"}`, claims()), api.InvalidJWT),
		bad("kid of 5 KB", forged(`{"alg":"HS256","kid":"`+strings.Repeat("k", 5<<10)+`"}`, claims()), api.InvalidJWT),
		bad("jku", forged(`{"alg":"HS256","jku":"http://127.0.0.1:1/keys"}`, claims()), api.InvalidJWT),
		bad("x5u", forged(`{"alg":"HS256","x5u":"http://127.0.0.1:1/cert"}`, claims()), api.InvalidJWT),
		bad("jwk", forged(`{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}`, claims()), api.InvalidJWT),
		bad("exp past", sign("exp", in(-time.Minute)), api.InvalidJWT),
		bad("exp missing", sign("exp", nil), api.InvalidJWT),
		bad("exp never", sign("exp", "never"), api.InvalidJWT),
		bad("exp beyond all calendars", sign("exp", 1e300), api.InvalidJWT),
		bad("nbf to come", sign("nbf", in(10*time.Minute)), api.InvalidJWT),
		bad("iat to come", sign("iat", in(10*time.Minute)), api.InvalidJWT),
		bad("role postgres", sign("role", "postgres"), api.RoleNotAllowed),
		bad("role missing", sign("role", nil), api.RoleNotAllowed),
		bad("role a list", sign("role", []string{"service_role"}), api.RoleNotAllowed),
		bad("sub missing", sign("sub", nil), api.InvalidJWT),
		bad("sub with a newline", sign("sub", "u\n1"), api.InvalidJWT),
		bad("two segments", strings.Join(strings.Split(good, ".")[:2], "."), api.InvalidJWTFormat),
		bad("four segments", good+".x", api.InvalidJWTFormat),
		bad("padding", good+"==", api.InvalidJWT),
	}
	return rows
}

// changed is a token whose payload names somebody else.
func changed(token string) string {
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil { // it was just made
		panic(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"u1"`, `"u2"`, 1)))
	return strings.Join(parts, ".")
}
