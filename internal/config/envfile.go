package config

import (
	"fmt"
	"strings"
)

// readEnvFile reads a file of NAME=value lines.
func readEnvFile(path string) (map[string]string, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parseEnvFile(content)
}

// parseEnvFile reads the common ground of .env files: `export`, comments, values
// in single quotes as they are, in double quotes with the escapes \n \r \t \" \\
// and \$, both over several lines, and bare ones up to ` #`. Nothing is expanded: a $
// is a $. A name that comes twice has its last value. Errors name a line and
// show nothing of it.
func parseEnvFile(content string) (map[string]string, error) {
	content = strings.ReplaceAll(content, "\r\n", "\n")
	values := map[string]string{}
	line := 0
	for content != "" {
		line++
		name, rest, ok := assignment(content)
		if !ok {
			return nil, fmt.Errorf("line %d is not NAME=value", line)
		}
		if name == "" {
			_, content, _ = strings.Cut(content, "\n")
			continue
		}
		value, rest, ok := envValue(rest)
		if !ok {
			return nil, fmt.Errorf("line %d has a quoted value that does not end, or goes on after its end", line)
		}
		values[name] = value
		// The line break at the end is counted by the next round.
		line += strings.Count(content[:len(content)-len(rest)], "\n") - 1
		content = rest
	}
	return values, nil
}

// assignment reads a line up to its value. A blank line or comment has no name.
func assignment(content string) (name, rest string, ok bool) {
	line, _, _ := strings.Cut(content, "\n")
	trimmed := strings.TrimSpace(line)
	if trimmed == "" || trimmed[0] == '#' {
		return "", "", true
	}
	name, _, ok = strings.Cut(line, "=")
	rest = content[min(len(name)+1, len(content)):]
	name = strings.TrimSpace(name)
	if after, exported := strings.CutPrefix(name, "export "); exported {
		name = strings.TrimSpace(after)
	}
	return name, rest, ok && validName(name)
}

// envValue reads a value and the rest of its last line.
func envValue(s string) (value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if s == "" || s[0] != '"' && s[0] != '\'' {
		value, rest, _ = strings.Cut(s, "\n")
		if strings.HasPrefix(value, "#") {
			value = ""
		}
		for _, comment := range []string{" #", "\t#"} {
			value, _, _ = strings.Cut(value, comment)
		}
		return strings.TrimSpace(value), rest, true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			tail, rest, _ := strings.Cut(s[i+1:], "\n")
			tail = strings.TrimSpace(tail)
			return b.String(), rest, tail == "" || tail[0] == '#'
		case s[i] == '\\' && s[0] == '"' && i+1 < len(s):
			i++
			b.WriteString(unescape(s[i]))
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// unescape leaves an escape that it does not know as it was written.
func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 'r':
		return "\r"
	case 't':
		return "\t"
	case '"', '\\', '$':
		return string(rune(c))
	default:
		return `\` + string([]byte{c})
	}
}
