package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/strictjson"
)

// leeway is how far the clocks of the issuer and the edge may be apart.
const leeway = 10 * time.Second

// maxSubject bounds a user's id, which becomes part of keys and rows.
const maxSubject = 255

// KeySource finds the public keys of the project's issuer.
type KeySource interface {
	// Key returns the key with this id for tokens of alg ("ES256" or "RS256"),
	// nil if there is none. kid is what a caller sent and opaque.
	Key(alg, kid string, now time.Time) crypto.PublicKey
}

// token judges a JWT: first its form, cheaply, then its signature by the one
// algorithm its key is for, then its times, and its role last. The parts of
// golang-jwt are called one by one, since its Parser would read header and
// claims a second time, and less strictly.
func (v *Verifier) token(s string, now time.Time) (Principal, error) {
	t, err := split(s)
	if err != nil {
		return Principal{}, err
	}
	method, key, err := v.key(t.head, now)
	if err != nil {
		return Principal{}, err
	}
	if err := method.Verify(t.signed, t.signature, key); err != nil {
		return Principal{}, invalid(err)
	}
	c, err := readClaims(t.payload)
	if err != nil {
		return Principal{}, invalid(err)
	}
	validator := jwt.NewValidator(
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	if err := validator.Validate(c); err != nil {
		return Principal{}, invalid(err)
	}
	return c.principal()
}

// key returns what verifies a token of this header. The algorithm decides which
// kind of key it is; the key never follows what the token says it is.
func (v *Verifier) key(head header, now time.Time) (jwt.SigningMethod, any, error) {
	switch {
	case head.alg == "HS256" && len(v.secret) > 0:
		return jwt.SigningMethodHS256, v.secret, nil
	case head.alg == "HS256":
		return nil, nil, invalid(errors.New("auth: there is no JWT secret"))
	case v.source == nil || head.alg != "ES256" && head.alg != "RS256":
		return nil, nil, unsupported(head.alg)
	}
	switch k := v.source.Key(head.alg, head.kid, now).(type) {
	case *ecdsa.PublicKey:
		if head.alg == "ES256" && k.Curve == elliptic.P256() {
			return jwt.SigningMethodES256, k, nil
		}
	case *rsa.PublicKey:
		if head.alg == "RS256" && k.N.BitLen() >= 2048 {
			return jwt.SigningMethodRS256, k, nil
		}
	}
	return nil, nil, invalid(errors.New("auth: no such public key"))
}

type header struct{ alg, kid string }

// parts is a token in the form of one, nothing of it known to be true.
type parts struct {
	head      header
	signed    string // what the signature is over
	payload   []byte
	signature []byte
}

// split decodes a token's three segments and reads its header.
func split(s string) (parts, error) {
	last := strings.LastIndexByte(s, '.')
	if last < 0 || strings.Count(s, ".") != 2 {
		return parts{}, badFormat()
	}
	t := parts{signed: s[:last]}
	first, second, _ := strings.Cut(t.signed, ".")
	encoding := base64.RawURLEncoding.Strict()
	head, err := encoding.DecodeString(first)
	if err != nil {
		return parts{}, badFormat()
	}
	if t.head, err = readHeader(head); err != nil {
		return parts{}, err
	}
	if t.payload, err = encoding.DecodeString(second); err != nil {
		return parts{}, invalid(err)
	}
	if t.signature, err = encoding.DecodeString(s[last+1:]); err != nil {
		return parts{}, invalid(err)
	}
	return t, nil
}

// readHeader refuses headers that bring a key of their own, point to one, or
// ask for an extension of the rules.
func readHeader(raw []byte) (header, error) {
	members, err := strictjson.Parse(raw, strictjson.Limits{Depth: 8})
	if err != nil {
		return header{}, badFormat()
	}
	var h header
	for _, m := range members {
		text, isText := strictjson.Text(m.Raw)
		switch m.Name {
		case "alg":
			h.alg = text
		case "kid":
			if !isText || !validKeyID(text) {
				return header{}, invalid(errors.New("auth: malformed kid"))
			}
			h.kid = text
		case "crit", "b64", "jku", "jwk", "x5u", "x5c", "zip":
			return header{}, invalid(errors.New("auth: header field " + m.Name + " is refused"))
		}
	}
	if h.alg == "" {
		return header{}, badFormat()
	}
	return h, nil
}

func validKeyID(kid string) bool {
	for i := range len(kid) {
		if kid[i] <= ' ' || kid[i] > '~' || kid[i] == '\'' || kid[i] == '"' || kid[i] == '\\' {
			return false
		}
	}
	return kid != "" && len(kid) <= 256 && !strings.Contains(kid, "..")
}

// claims is what the edge reads of a token, by exact name.
type claims struct {
	exp, nbf, iat *jwt.NumericDate
	role, sub     string // empty where they are no strings
}

// readClaims reads strictly: a claim that comes twice makes the token bad.
func readClaims(payload []byte) (*claims, error) {
	members, err := strictjson.Parse(payload, strictjson.Limits{})
	if err != nil {
		return nil, fmt.Errorf("auth: claims: %w", err)
	}
	c := new(claims)
	for _, m := range members {
		var err error
		switch m.Name {
		case "exp":
			c.exp, err = numericDate(m.Raw)
		case "nbf":
			c.nbf, err = numericDate(m.Raw)
		case "iat":
			c.iat, err = numericDate(m.Raw)
		case "role":
			c.role, _ = strictjson.Text(m.Raw)
		case "sub":
			c.sub, _ = strictjson.Text(m.Raw)
		}
		if err != nil {
			return nil, fmt.Errorf("auth: claim %s: %w", m.Name, err)
		}
	}
	return c, nil
}

// numericDate reads seconds since the epoch up to the year 9999; beyond it a
// conversion could wrap around to a date in the future.
func numericDate(raw json.RawMessage) (*jwt.NumericDate, error) {
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return nil, errors.New("not a number")
	}
	if seconds < 0 || seconds > 253402300799 {
		return nil, errors.New("out of range")
	}
	return jwt.NewNumericDate(time.Unix(int64(seconds), 0)), nil
}

// principal maps good claims to who calls.
func (c *claims) principal() (Principal, error) {
	switch {
	case c.role != Anon && c.role != Authenticated && c.role != ServiceRole:
		return Principal{}, fault.New(api.RoleNotAllowed, "the token's role is not one of anon, authenticated, service_role")
	case c.role != Authenticated:
		return Principal{Role: c.role, KeyName: legacy}, nil
	case !validSubject(c.sub):
		return Principal{}, invalid(errors.New("auth: a user's token without a usable sub"))
	}
	return Principal{Role: Authenticated, Subject: c.sub}, nil
}

func validSubject(sub string) bool {
	for _, r := range sub {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return sub != "" && len(sub) <= maxSubject
}

// The rest of jwt.Claims. Supabase's platform checks no issuer or audience.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }
func (c *claims) GetIssuer() (string, error)                   { return "", nil }
func (c *claims) GetSubject() (string, error)                  { return c.sub, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

func invalid(cause error) *fault.Error {
	return fault.Wrap(cause, api.InvalidJWT, "Invalid JWT")
}

// unsupported names the algorithm where it can be one.
func unsupported(alg string) *fault.Error {
	for i := range len(alg) {
		c := alg[i] | 0x20
		if (c < 'a' || c > 'z') && (alg[i] < '0' || alg[i] > '9') || len(alg) > 16 {
			return fault.New(api.UnsupportedAlgorithm, "Unsupported JWT algorithm")
		}
	}
	return fault.New(api.UnsupportedAlgorithm, "Unsupported JWT algorithm %s", alg)
}
