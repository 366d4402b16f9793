package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// source is one place of values.
type source struct {
	name    string
	values  map[string]string
	origins map[string]string // of values that came from elsewhere, through env()
}

// sources are in the order of their precedence.
type sources []source

// get returns the value of the first source that has the name.
func (s sources) get(name string) (value, origin string, ok bool) {
	for _, source := range s {
		if value, ok := source.values[name]; ok {
			if origin, ok := source.origins[name]; ok {
				return value, origin, true
			}
			return value, source.name, true
		}
	}
	return "", "", false
}

func (s sources) origin(name string) string {
	_, origin, _ := s.get(name)
	return origin
}

// readFile returns an empty text for a file that is not there.
func readFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return "", fmt.Errorf("cannot be read: %w", pathError.Err)
	}
	return strings.TrimPrefix(string(b), "\ufeff"), err
}

// project is what this program takes from supabase/config.toml.
type project struct {
	functions map[string]Function
	secrets   source
}

// readProject reads the file of the Supabase CLI as the CLI does: names of
// secrets are upper-cased, and a value env(NAME) is that of the variable NAME,
// unset if there is none. outer are the sources that NAME is looked for in.
func readProject(path string, outer sources) (project, error) {
	p := project{secrets: source{name: projectFile, values: map[string]string{}, origins: map[string]string{}}}
	content, err := readFile(path)
	if err != nil {
		return p, err
	}
	var file struct {
		Functions map[string]struct {
			VerifyJWT *bool `toml:"verify_jwt"`
			Enabled   *bool `toml:"enabled"`
		} `toml:"functions"`
		EdgeRuntime struct {
			Secrets map[string]string `toml:"secrets"`
		} `toml:"edge_runtime"`
	}
	if _, err := toml.Decode(content, &file); err != nil {
		return p, tomlError(err)
	}
	p.functions = make(map[string]Function, len(file.Functions))
	for name, f := range file.Functions {
		p.functions[name] = Function{
			VerifyJWT: f.VerifyJWT == nil || *f.VerifyJWT,
			Enabled:   f.Enabled == nil || *f.Enabled,
		}
	}
	var twice []string
	for key, value := range file.EdgeRuntime.Secrets {
		name := strings.ToUpper(key)
		if _, ok := p.secrets.values[name]; ok {
			twice = append(twice, name)
		}
		if inner, ok := envReference(value); ok {
			value, _, _ = outer.get(inner)
			p.secrets.origins[name] = projectFile + " env(" + inner + ")"
		}
		p.secrets.values[name] = value
	}
	if len(twice) > 0 {
		slices.Sort(twice)
		return p, fmt.Errorf("edge_runtime.secrets names %s twice, in upper and lower case", strings.Join(twice, ", "))
	}
	return p, nil
}

// tomlError keeps where and drops what: the text around an error may be a secret.
func tomlError(err error) error {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("line %d is not valid TOML", parse.Position.Line)
	}
	return errors.New("has a verify_jwt or enabled that is no boolean, or a secret that is no string")
}

// envReference reads env(NAME).
func envReference(value string) (name string, ok bool) {
	name, ok = strings.CutPrefix(strings.TrimSpace(value), "env(")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, ")")
	return name, ok && validName(name)
}

// validName tells whether s can be the name of a variable.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
