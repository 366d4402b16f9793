package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Sources is where values are looked for.
type Sources struct {
	Environ []string // as of os.Environ; goes before all files
	Dir     string   // holds .env and supabase/; empty: no files
}

// Names of the sources, as origins are given.
const (
	fromEnvironment = "environment"
	fromDefault     = "default"
	envFile         = ".env"
	functionsFile   = "supabase/functions/.env"
	projectFile     = "supabase/config.toml"
)

// Load reads the configuration. An error is an *Error that names everything
// that is wrong. A value that is empty counts as not set, and hides what a
// source behind it says.
func Load(from Sources) (*Config, error) {
	l := &loader{config: &Config{}, known: map[string]bool{}}
	l.read(from)
	for _, v := range l.variables() {
		l.known[v.name] = true
		l.variable(v)
	}
	l.resolveProviders()
	l.resolveRest()
	l.unknownNames()
	if len(l.problems) > 0 {
		return nil, &Error{Problems: l.problems}
	}
	return l.config, nil
}

type loader struct {
	config   *Config
	sources  sources
	known    map[string]bool
	problems []Problem

	// What becomes Chat.Providers.
	chatBase             string
	chatKeys, openAIKeys []Secret
	fallbacks            []fallback
}

func (l *loader) problem(name, origin, message, hint string) {
	l.problems = append(l.problems, Problem{Name: name, Origin: origin, Message: message, Hint: hint})
}

// read collects the sources in the order of their precedence.
func (l *loader) read(from Sources) {
	environ := map[string]string{}
	for _, entry := range from.Environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			environ[name] = value
		}
	}
	l.sources = sources{{name: fromEnvironment, values: environ}}
	if from.Dir == "" {
		return
	}
	for _, file := range []string{envFile, functionsFile} {
		values, err := readEnvFile(filepath.Join(from.Dir, filepath.FromSlash(file)))
		if err != nil {
			l.problem(file, "", err.Error(), "")
		}
		l.sources = append(l.sources, source{name: file, values: values})
	}
	project, err := readProject(filepath.Join(from.Dir, filepath.FromSlash(projectFile)), l.sources)
	if err != nil {
		l.problem(projectFile, "", err.Error(), "")
	}
	l.sources = append(l.sources, project.secrets)
	l.config.Functions = project.functions
}

// variable reads one value into the Config and notes its origin.
func (l *loader) variable(v variable) {
	value, origin, _ := l.sources.get(v.name)
	if strings.TrimSpace(value) == "" {
		value, origin = v.def, fromDefault
	}
	if value != "" {
		if err := v.read(value); err != nil {
			l.problem(v.name, origin, err.Error(), "")
			return
		}
	}
	e := Entry{Name: v.name, Value: strings.TrimSpace(value), Origin: origin, Secret: v.secret, Default: origin == fromDefault}
	if v.show != nil && value != "" {
		e.Value = v.show()
	}
	l.config.entries = append(l.config.entries, e)
}

// resolveRest fills in what depends on more than one variable.
func (l *loader) resolveRest() {
	c := l.config
	if l.isDefault("EDGE_AUTH_OPTIONAL") {
		c.Edge.AuthOptional = !c.Production() && Loopback(c.Edge.Addr)
		l.amend("EDGE_AUTH_OPTIONAL", fmt.Sprint(c.Edge.AuthOptional))
	}
	c.Embed.baseGiven = !l.isDefault("EMBEDDING_API_BASE")
	if (c.Edge.TLSCert == "") != (c.Edge.TLSKey == "") {
		l.problem("EDGE_TLS_CERT", "", "must be set together with EDGE_TLS_KEY", "")
	}
	l.resolveIdentity()
	for _, name := range slices.Sorted(maps.Keys(c.Functions)) {
		f := c.Functions[name]
		name = "functions." + name
		c.entries = append(c.entries,
			Entry{Name: name + ".enabled", Value: fmt.Sprint(f.Enabled), Origin: projectFile, Default: f.Enabled},
			Entry{Name: name + ".verify_jwt", Value: fmt.Sprint(f.VerifyJWT), Origin: projectFile, Default: f.VerifyJWT})
	}
}

func (l *loader) resolveIdentity() {
	i := &l.config.Identity
	// Whoever changes the answer on its way could sign as anyone. A project
	// behind plain http (a compose file's own network) has no keys to fetch.
	if i.JWKSURL == "" && private(i.SupabaseURL) {
		i.JWKSURL = i.SupabaseURL + "/auth/v1/.well-known/jwks.json"
		l.amend("SUPABASE_JWKS_URL", i.JWKSURL)
	}
	if i.JWKSURL != "" && !private(i.JWKSURL) {
		l.problem("SUPABASE_JWKS_URL", l.sources.origin("SUPABASE_JWKS_URL"), "must be https unless it is on this machine", "")
	}
	for _, legacy := range []struct {
		name, role string
		key        Secret
	}{{"SUPABASE_SERVICE_ROLE_KEY", "service_role", i.ServiceRoleKey}, {"SUPABASE_ANON_KEY", "anon", i.AnonKey}} {
		if role := tokenClaim(string(legacy.key), "role"); role != "" && role != legacy.role {
			l.problem(legacy.name, l.sources.origin(legacy.name), "is a token of another role than "+legacy.role, "")
		}
	}
	l.duplicateKeys()
}

// private tells whether nobody can change what a URL answers on its way.
func private(base string) bool {
	return strings.HasPrefix(base, "https:") || base != "" && loopbackHost(host(base))
}

// duplicateKeys refuses an API key that stands for two roles.
func (l *loader) duplicateKeys() {
	i := &l.config.Identity
	secretKeys := append(slices.Collect(maps.Values(i.SecretKeys)), i.ServiceRoleKey)
	publicKeys := append(slices.Collect(maps.Values(i.PublishableKeys)), i.AnonKey)
	for _, key := range secretKeys {
		if key != "" && slices.Contains(publicKeys, key) {
			l.problem("SUPABASE_SECRET_KEYS", "", "a key that acts as service_role is also one that acts as anon", "")
			return
		}
	}
}

func (l *loader) isDefault(name string) bool {
	return slices.ContainsFunc(l.config.entries, func(e Entry) bool { return e.Name == name && e.Default })
}

// amend corrects the shown value of a default that depends on others.
func (l *loader) amend(name, value string) {
	for i := range l.config.entries {
		if e := &l.config.entries[i]; e.Name == name && e.Default {
			e.Value = value
		}
	}
}
