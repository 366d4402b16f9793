package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong. It shows no value.
type Problem struct {
	Name    string `json:"name"`             // the variable, or the file
	Origin  string `json:"origin,omitempty"` // where its value came from
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error is all that is wrong.
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("configuration:")
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s", p.Name)
		if p.Origin != "" {
			fmt.Fprintf(&b, " (%s)", p.Origin)
		}
		fmt.Fprintf(&b, ": %s", p.Message)
		if p.Hint != "" {
			fmt.Fprintf(&b, "\n    hint: %s", p.Hint)
		}
	}
	return b.String()
}

// unknownNames refuses names that look like this program's and are not.
func (l *loader) unknownNames() {
	reported := map[string]bool{}
	for _, source := range l.sources {
		for _, name := range sortedNames(source.values) {
			value := source.values[name]
			if l.known[name] || reported[name] || strings.TrimSpace(value) == "" {
				continue
			}
			message, hint := l.unknown(name)
			if message != "" {
				reported[name] = true
				l.problem(name, source.name, message, hint)
			}
		}
	}
}

func (l *loader) unknown(name string) (message, hint string) {
	if now := replacement(name); now != "" {
		return "was retired", "use " + now + " instead"
	}
	for _, prefix := range []string{"CHAT_", "CHATTING_", "EMBED_", "EMBEDDING_", "EDGE_", "RUN_", "HMAC_", "MIDSTREAM_"} {
		if strings.HasPrefix(name, prefix) {
			hint = "agentedge config lists the names there are"
			if near := nearest(name, sortedNames(l.known)); near != "" {
				hint = "did you mean " + near + "?"
			}
			return "is not a known name", hint
		}
	}
	return "", ""
}

// replacement returns what a retired name was replaced by.
func replacement(name string) string {
	switch {
	case name == "HUGGINGFACE_API_TOKEN":
		return "EMBEDDING_API_KEY (or CHAT_API_KEY)"
	case name == "CHATTING_API_MODEL" || name == "CHATTING_API_MODEL_DEFAULT":
		return "CHAT_MODEL_DEFAULT"
	case name == "CHATTING_API_BASE" || name == "CHATTING_API_URL":
		return "CHAT_API_BASE"
	case strings.HasPrefix(name, "CHATTING_API_KEY") || name == "CHATTING_API_TOKEN":
		return "CHAT_API_KEY"
	case strings.HasPrefix(name, "CHATTING_API_"):
		return "CHAT_API_BASE and CHAT_API_KEY"
	default:
		return ""
	}
}

// nearest returns the name with the fewest edits, if they are few enough for it
// to be a guess worth making.
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, candidate := range names {
		if d := distance(name, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the insertions, deletions and substitutions between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
