package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const minKeyBytes = 32

// secret is a text of which every byte counts.
func secret(name string, to *Secret, help string) variable {
	return variable{name: name, kind: "secret", help: help, secret: true,
		read: func(s string) error { *to = Secret(s); return nil },
		show: func() string { return to.String() },
	}
}

// apiKey is a secret that travels in a header.
func apiKey(name string, to *Secret, help string) variable {
	v := secret(name, to, help)
	v.read = func(s string) error {
		if s = strings.TrimSpace(s); !headerSafe(s) {
			return errNotHeaderSafe()
		}
		*to = Secret(s)
		return nil
	}
	return v
}

func errNotHeaderSafe() error {
	return errors.New("must be printable characters without spaces")
}

func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

func keyList(name string, to *[]Secret, help string) variable {
	return variable{name: name, kind: "secret", help: help, secret: true,
		read: func(s string) error {
			keys, err := splitKeys(s)
			if err == nil {
				*to = keys
			}
			return err
		},
		show: func() string { return showKeys(*to) },
	}
}

func splitKeys(s string) ([]Secret, error) {
	var keys []Secret
	for _, key := range items(s) {
		if !headerSafe(key) {
			return nil, errNotHeaderSafe()
		}
		keys = append(keys, Secret(key))
	}
	return keys, nil
}

func showKeys(keys []Secret) string {
	switch len(keys) {
	case 0:
		return ""
	case 1:
		return redacted
	default:
		return fmt.Sprintf("%s (%d keys)", redacted, len(keys))
	}
}

// keySet is one of Supabase's sets of named keys. A key with the mark of the
// other set is refused: a publishable key among the secret ones would make every
// browser a service.
func keySet(name string, to *map[string]Secret, other, help string) variable {
	return variable{name: name, kind: "JSON object", help: help, secret: true,
		read: func(s string) error {
			var set map[string]string
			if json.Unmarshal([]byte(s), &set) != nil {
				return errors.New(`must be a JSON object such as {"default":"sb_…"}`)
			}
			for _, keyName := range slices.Sorted(maps.Keys(set)) {
				if err := addKey(to, keyName, set[keyName], other); err != nil {
					return err
				}
			}
			return nil
		},
		show: func() string { return strings.Join(slices.Sorted(maps.Keys(*to)), ", ") },
	}
}

// oneKey adds one key to a set, beside one of its name that is there already.
func oneKey(name string, to *map[string]Secret, other, help string) variable {
	return variable{name: name, kind: "secret", help: help, secret: true,
		read: func(s string) error {
			s = strings.TrimSpace(s)
			if slices.Contains(slices.Collect(maps.Values(*to)), Secret(s)) {
				return nil
			}
			keyName := "default"
			if _, taken := (*to)[keyName]; taken {
				keyName = strings.ToLower(name)
			}
			return addKey(to, keyName, s, other)
		},
		show: func() string { return redacted },
	}
}

func addKey(to *map[string]Secret, name, key, other string) error {
	switch {
	case name == "" || !headerSafe(name) || len(name) > 64:
		return errors.New("has a key whose name is not 1 to 64 printable characters without spaces")
	case !headerSafe(key):
		return errors.New("has a key that is not printable characters without spaces")
	case strings.HasPrefix(key, other):
		return fmt.Errorf("has a key that begins with %s, which belongs to the other set", other)
	}
	if *to == nil {
		*to = map[string]Secret{}
	}
	(*to)[name] = Secret(key)
	return nil
}

func jwks(name string, to *Secret, help string) variable {
	return variable{name: name, kind: "JSON", help: help, secret: true,
		read: func(s string) error {
			var set struct{ Keys []json.RawMessage }
			var bare []json.RawMessage
			if json.Unmarshal([]byte(s), &set) != nil && json.Unmarshal([]byte(s), &bare) != nil {
				return errors.New(`must be JSON: {"keys":[…]} or a list of keys`)
			}
			*to = Secret(s)
			return nil
		},
		show: func() string { return to.String() },
	}
}

// hmacKeys reads id:secret[:not-after], several of them separated by commas.
// Neither an id nor a secret holds a colon, so that the rest is the time, which
// does.
func hmacKeys(name string, to *[]HMACKey, help string) variable {
	return variable{name: name, kind: "list of keys", help: help, secret: true,
		read: func(s string) error {
			var keys []HMACKey
			for i, item := range items(s) {
				key, err := hmacKey(item)
				if err != nil {
					return fmt.Errorf("key %d %w", i+1, err)
				}
				if slices.ContainsFunc(keys, func(k HMACKey) bool { return k.ID == key.ID }) {
					return fmt.Errorf("key %d has the id of one before it", i+1)
				}
				keys = append(keys, key)
			}
			*to = keys
			return nil
		},
		show: func() string { return showHMACKeys(*to) },
	}
}

func hmacKey(item string) (HMACKey, error) {
	id, rest, ok := strings.Cut(item, ":")
	key, notAfter, limited := strings.Cut(rest, ":")
	k := HMACKey{ID: id, Secret: Secret(key)}
	switch {
	case !ok || key == "":
		return k, errors.New("must have the form id:secret[:not-after]")
	case !headerSafe(id) || len(id) > 64:
		return k, errors.New("has an id that is not 1 to 64 printable characters")
	case !limited:
		return k, nil
	}
	if seconds, err := strconv.ParseInt(notAfter, 10, 64); err == nil && seconds > 0 && seconds < 1e12 {
		k.NotAfter = time.Unix(seconds, 0).UTC()
		return k, nil
	}
	t, err := time.Parse(time.RFC3339, notAfter)
	if err != nil {
		return k, errors.New("has a not-after that is neither RFC 3339 nor unix seconds")
	}
	k.NotAfter = t.UTC()
	return k, nil
}

func showHMACKeys(keys []HMACKey) string {
	var out []string
	for _, k := range keys {
		s := k.ID + ":" + redacted
		if !k.NotAfter.IsZero() {
			s += ":" + k.NotAfter.Format(time.RFC3339)
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// databaseURL is shown by its host and database only: drivers take passwords in
// the query as well.
func databaseURL(name string, to *Secret, help string) variable {
	return variable{name: name, kind: "URL", help: help, secret: true,
		read: func(s string) error {
			s = strings.TrimSpace(s)
			u, err := url.Parse(s)
			if err != nil || u.Host == "" && u.Query().Get("host") == "" || u.Scheme != "postgres" && u.Scheme != "postgresql" {
				return errors.New("must be a postgres:// URL")
			}
			*to = Secret(s)
			return nil
		},
		show: func() string {
			u, err := url.Parse(string(*to))
			// A password with an unescaped @, ? or / would show in another part.
			at := strings.Count(string(*to), "@")
			if err != nil || *to == "" || at > 1 || at == 1 && u.User == nil {
				return to.String()
			}
			return "postgres://" + u.Host + u.EscapedPath()
		},
	}
}
