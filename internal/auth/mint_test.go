package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash"
	"testing"
	"time"
)

const (
	secret = "a-secret-of-the-tests-that-has-more-than-32-bytes"
	userID = "5b4d7a52-6a5c-4d3f-9a3e-0d0a4c6a9f11"
	hs256  = `{"alg":"HS256","typ":"JWT"}`
)

func now() time.Time { return time.Unix(1_800_000_000, 0) }

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// userClaims is a good user's payload with a few claims put in front.
func userClaims(more string) string {
	return fmt.Sprintf(`{%s"iss":"https://x.supabase.co/auth/v1","aud":"authenticated","iat":%d,"exp":%d,"sub":"%s","role":"authenticated","app_metadata":{"provider":"email"}}`,
		more, now().Unix()-60, now().Unix()+3600, userID)
}

func mac(newHash func() hash.Hash, key, text string) string {
	m := hmac.New(newHash, []byte(key))
	m.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// sign makes a token of any header and payload, HMAC-SHA-256 by key.
func sign(head, payload, key string) string {
	text := b64(head) + "." + b64(payload)
	return text + "." + mac(sha256.New, key, text)
}

func sign512(head, payload, key string) string {
	text := b64(head) + "." + b64(payload)
	return text + "." + mac(sha512.New, key, text)
}

// good is a user's token as Supabase issues it.
func good() string { return sign(hs256, userClaims(""), secret) }

// issuer has key pairs, and is the KeySource of their public halves.
type issuer struct {
	ec, p384 *ecdsa.PrivateKey
	rsa      *rsa.PrivateKey
	asked    []string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{ec: ec, p384: p384, rsa: key}
}

func (i *issuer) Key(alg, kid string, _ time.Time) crypto.PublicKey {
	i.asked = append(i.asked, alg+" "+kid)
	switch kid {
	case "ec":
		return &i.ec.PublicKey
	case "p384":
		return &i.p384.PublicKey
	case "rsa":
		return &i.rsa.PublicKey
	default:
		return nil
	}
}

func (i *issuer) es256(t *testing.T, key *ecdsa.PrivateKey, head, payload string) string {
	t.Helper()
	text := b64(head) + "." + b64(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	width := (key.Curve.Params().BitSize + 7) / 8
	sig := make([]byte, 2*width)
	r.FillBytes(sig[:width])
	s.FillBytes(sig[width:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (i *issuer) rs256(t *testing.T, head, payload string) string {
	t.Helper()
	text := b64(head) + "." + b64(payload)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.rsa, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// publicPEM and publicDER are what an attacker knows of a key.
func publicPEM(t *testing.T, key crypto.PublicKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(publicDER(t, key))}))
}

func publicDER(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(der)
}
