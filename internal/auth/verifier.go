package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// maxCredential bounds a token or key before anything else looks at it.
const maxCredential = 8 << 10

// legacy is the key name of the two API keys that are JWTs, however they are
// recognised, so that one caller stays one principal.
const legacy = "legacy"

// Config holds what credentials are judged by. Its zero value knows none.
type Config struct {
	JWTSecret       string            // HS256 over its raw bytes; empty: no such token is good
	SecretKeys      map[string]string // name → key that acts as service_role
	PublishableKeys map[string]string // name → key that acts as anon
	ServiceRoleKey  string            // the legacy service_role key
	AnonKey         string            // the legacy anon key
	Keys            KeySource         // ES256 and RS256 tokens; nil: none is good
}

// Policy is what an endpoint wants.
type Policy struct {
	VerifyJWT bool // a credential is wanted: the function's verify_jwt
	Optional  bool // EDGE_AUTH_OPTIONAL: none will do all the same
}

// Verifier judges credentials. It is immutable: new keys make a new Verifier.
type Verifier struct {
	secret []byte
	source KeySource
	keys   []apiKey
}

// apiKey is a key by its hash, so that comparing tells nothing of its length.
type apiKey struct {
	hash [sha256.Size]byte
	role string
	name string
}

// New makes a Verifier. A key that is listed twice is refused, since its role
// would depend on the order.
func New(c Config) (*Verifier, error) {
	v := &Verifier{secret: []byte(c.JWTSecret), source: c.Keys}
	var problems []error
	add := func(role, name, key string) {
		hash := sha256.Sum256([]byte(key))
		for _, other := range v.keys {
			if other.hash == hash {
				problems = append(problems, fmt.Errorf("auth: API key %q of %s is also %q of %s", name, role, other.name, other.role))
			}
		}
		v.keys = append(v.keys, apiKey{hash: hash, role: role, name: name})
	}
	for _, set := range []struct {
		role, legacyKey string
		keys            map[string]string
	}{{ServiceRole, c.ServiceRoleKey, c.SecretKeys}, {Anon, c.AnonKey, c.PublishableKeys}} {
		for _, name := range slices.Sorted(maps.Keys(set.keys)) {
			if set.keys[name] == "" {
				problems = append(problems, fmt.Errorf("auth: API key %q of %s is empty", name, set.role))
				continue
			}
			add(set.role, name, set.keys[name])
		}
		if set.legacyKey != "" {
			add(set.role, legacy, set.legacyKey)
		}
	}
	return v, errors.Join(problems...)
}

// Authenticate returns who sent the headers from addr. An error is a
// *fault.Error: 401, or 403 for a good token of a role that no caller may have.
//
// A credential that is there must be good, whatever the policy: a bad one is
// never taken for none. A user's token in Authorization goes before apikey, which
// Supabase's clients send along; an API key may come in either, and where two
// different ones come both must be good and Authorization's counts.
func (v *Verifier) Authenticate(header http.Header, addr string, policy Policy, now time.Time) (Principal, error) {
	bearer, err := bearerToken(header["Authorization"])
	if err != nil {
		return Principal{}, err
	}
	apikey, err := single(header["Apikey"])
	if err != nil {
		return Principal{}, err
	}
	var p Principal
	switch {
	case bearer != "":
		p, err = v.credential(bearer, now)
		if err == nil && apikey != "" && strings.HasPrefix(bearer, "sb_") {
			_, err = v.credential(apikey, now)
		}
	case apikey != "":
		p, err = v.credential(apikey, now)
	case policy.VerifyJWT && !policy.Optional:
		return Principal{}, fault.New(api.NoAuthHeader, "Missing authorization header")
	default:
		p = Principal{Role: Anon}
	}
	if err != nil {
		return Principal{}, err
	}
	p.Address = addr
	return p, nil
}

// credential judges one API key or token.
func (v *Verifier) credential(s string, now time.Time) (Principal, error) {
	if len(s) > maxCredential {
		return Principal{}, badFormat()
	}
	if k, ok := v.apiKey(s); ok {
		return Principal{Role: k.role, KeyName: k.name}, nil
	}
	if strings.HasPrefix(s, "sb_") {
		return Principal{}, fault.New(api.InvalidJWT, "Invalid API key")
	}
	return v.token(s, now)
}

// apiKey compares with every key there is, in a time that tells nothing.
func (v *Verifier) apiKey(s string) (found apiKey, ok bool) {
	if len(v.keys) == 0 {
		return apiKey{}, false
	}
	hash := sha256.Sum256([]byte(s))
	for _, k := range v.keys {
		if subtle.ConstantTimeCompare(hash[:], k.hash[:]) == 1 {
			found, ok = k, true
		}
	}
	return found, ok
}

// bearerToken returns the credential of the Authorization header, empty for none.
func bearerToken(values []string) (string, error) {
	value, err := single(values)
	if err != nil || len(values) == 0 {
		return "", err
	}
	scheme, token, ok := strings.Cut(value, " ")
	token = strings.TrimLeft(token, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t,") {
		return "", badFormat()
	}
	return token, nil
}

// single returns a header's value; one that comes twice names two callers.
func single(values []string) (string, error) {
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1 || len(values[0]) > maxCredential+len("Bearer "):
		return "", badFormat()
	default:
		return values[0], nil
	}
}

func badFormat() *fault.Error { return fault.New(api.InvalidJWTFormat, "Invalid JWT format") }
