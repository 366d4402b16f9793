package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

const (
	defaultChatBase  = "https://api.openai.com/v1"
	defaultEmbedBase = "https://api.deepinfra.com/v1/openai"
)

// fallback is one entry of CHAT_FALLBACKS.
type fallback struct {
	Name   string `json:"name"`
	Base   string `json:"base"`
	KeyEnv string `json:"key_env"`
	Model  string `json:"model"`
}

func fallbacks(name string, to *[]fallback, help string) variable {
	return variable{name: name, kind: "JSON list", help: help,
		read: func(s string) error {
			var all []fallback
			d := json.NewDecoder(strings.NewReader(s))
			d.DisallowUnknownFields()
			if d.Decode(&all) != nil || d.More() {
				return errors.New(`must be a JSON list of {"name","base","key_env","model"}`)
			}
			for i := range all {
				if err := all[i].check(all[:i]); err != nil {
					return fmt.Errorf("provider %d %w", i+1, err)
				}
			}
			*to = all
			return nil
		},
		show: func() string {
			if len(*to) == 0 {
				return ""
			}
			shown, err := json.Marshal(*to) // holds no key, only where it is
			if err != nil {
				return redacted
			}
			return string(shown)
		},
	}
}

func (f *fallback) check(before []fallback) error {
	base, err := cleanURL(f.Base)
	switch {
	case !headerSafe(f.Name) || len(f.Name) > 64:
		return errors.New("has no name of 1 to 64 printable characters")
	case slices.ContainsFunc(before, func(other fallback) bool { return other.Name == f.Name }):
		return errors.New("has the name of one before it")
	case err != nil:
		return fmt.Errorf("has a base that %w", err)
	case f.KeyEnv != "" && !validName(f.KeyEnv):
		return errors.New("has a key_env that is no variable's name")
	}
	f.Base = base
	return nil
}

// embeddingBase knows DeepInfra's one mistake that looks right: its native path
// answers, in another protocol.
func embeddingBase(name string, e *Embed, help string) variable {
	v := webURL(name, &e.Base, defaultEmbedBase, help)
	read := v.read
	v.read = func(s string) error {
		if err := read(s); err != nil {
			return err
		}
		if under(host(e.Base), "deepinfra.com") && !strings.HasSuffix(e.Base, "/v1/openai") {
			return errors.New(name + " for DeepInfra must be " + defaultEmbedBase)
		}
		return nil
	}
	return v
}

// under tells whether host is domain or a name below it.
func under(host, domain string) bool {
	return strings.EqualFold(host, domain) || len(host) > len(domain) && strings.EqualFold(host[len(host)-len(domain)-1:], "."+domain)
}

func host(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// resolveProviders puts the chat providers in order, the keys of fallbacks
// looked up in the same sources as everything else.
func (l *loader) resolveProviders() {
	chat := &l.config.Chat
	if len(l.chatKeys) == 0 {
		l.chatKeys = l.openAIKeys
	}
	if l.chatBase == "" && len(l.chatKeys) > 0 {
		l.chatBase = defaultChatBase
		l.amend("CHAT_API_BASE", defaultChatBase)
	}
	if l.chatBase != "" {
		chat.Providers = append(chat.Providers, Provider{
			Name: host(l.chatBase), Base: l.chatBase, Keys: l.chatKeys, variable: "CHAT_API_BASE",
		})
	}
	for i, f := range l.fallbacks {
		p := Provider{Name: f.Name, Base: f.Base, Model: f.Model, variable: "CHAT_FALLBACKS"}
		if f.KeyEnv != "" {
			p.Keys = l.fallbackKeys(i, f)
		}
		if slices.ContainsFunc(chat.Providers, func(other Provider) bool { return other.Name == p.Name }) {
			l.problem("CHAT_FALLBACKS", l.sources.origin("CHAT_FALLBACKS"),
				fmt.Sprintf("provider %d has the name of the first provider, its host", i+1), "")
		}
		chat.Providers = append(chat.Providers, p)
	}
}

// fallbackKeys reads the variable that a fallback names.
func (l *loader) fallbackKeys(i int, f fallback) []Secret {
	value, origin, _ := l.sources.get(f.KeyEnv)
	keys, err := splitKeys(value)
	switch {
	case err != nil:
		l.problem(f.KeyEnv, origin, err.Error(), "")
	case len(keys) == 0:
		l.problem("CHAT_FALLBACKS", l.sources.origin("CHAT_FALLBACKS"),
			fmt.Sprintf("provider %d names a variable for its key that is not set", i+1), "set "+f.KeyEnv+", or leave key_env out for a provider without keys")
	case !l.known[f.KeyEnv]:
		l.known[f.KeyEnv] = true
		l.config.entries = append(l.config.entries, Entry{Name: f.KeyEnv, Value: showKeys(keys), Origin: origin, Secret: true})
	}
	l.known[f.KeyEnv] = true
	return keys
}
