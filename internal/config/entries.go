package config

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Entry is one value as `agentedge config` shows it.
type Entry struct {
	Name    string `json:"name"`
	Value   string `json:"value"` // redacted where Secret
	Origin  string `json:"origin"`
	Secret  bool   `json:"secret"`
	Default bool   `json:"default"`
}

// Entries returns every value with its origin, in the documentation's order.
func (c *Config) Entries() []Entry { return slices.Clone(c.entries) }

// WriteTable writes entries for people to read.
func WriteTable(w io.Writer, entries []Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tORIGIN")
	for _, e := range entries {
		value := e.Value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", e.Name, value, e.Origin)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("config: write table: %w", err)
	}
	return nil
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
