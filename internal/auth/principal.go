// Package auth turns a request's headers into the principal who calls. It is
// pure over its keys and the time it is given: it opens no connection, reads no
// clock, and knows no route. It owns which credentials are good; what a role may
// do at an endpoint, and whether an endpoint wants a credential at all, is the
// endpoint's policy.
package auth

import "strings"

// Roles, as Supabase names them.
const (
	Anon          = "anon"
	Authenticated = "authenticated"
	ServiceRole   = "service_role"
)

// Principal is who calls.
type Principal struct {
	Role    string // Anon, Authenticated or ServiceRole
	Subject string // the token's sub: the user's id; empty for keys and anonymous callers
	KeyName string // which API key, "legacy" for the two that are JWTs; empty for users
	Tenant  string // empty while an installation has one
	Address string // the caller's, as the edge sees it
}

// Key names the principal in rate limits, idempotency keys and the ownership of
// runs. Anonymous callers, those with a publishable key among them, are told
// apart by their address only.
func (p Principal) Key() string {
	switch p.Role {
	case Authenticated:
		return Authenticated + ":" + p.Subject
	case ServiceRole:
		return ServiceRole + ":" + p.KeyName
	default:
		return Anon + ":" + p.Address
	}
}

// Owner returns the user's id, empty for a caller who is no user.
func (p Principal) Owner() string {
	if p.Role == Authenticated {
		return p.Subject
	}
	return ""
}

// Service tells whether the caller is a server of the installation's own.
func (p Principal) Service() bool { return p.Role == ServiceRole }

// CanRead tells whether the caller may read a run of the principal with this
// Key. A service may read all; a run that nobody signed for is read by whoever
// knows its unguessable id, since addresses change; any other by its own caller.
func (p Principal) CanRead(key string) bool {
	return p.Service() || strings.HasPrefix(key, Anon+":") || key == p.Key()
}
