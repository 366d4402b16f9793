package config

import (
	"maps"
	"strings"
	"testing"
)

func TestEnvFile(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		want          map[string]string
		err           string
	}{
		{"empty", "", map[string]string{}, ""},
		{"plain", "A=1\nB=two words \n C = 3\n", map[string]string{"A": "1", "B": "two words", "C": "3"}, ""},
		{"no line break at the end", "A=1", map[string]string{"A": "1"}, ""},
		{"CRLF", "A=1\r\n\r\nB=\"x\"\r\n", map[string]string{"A": "1", "B": "x"}, ""},
		{"comments", "# a\n  # b=1\nA=1 # c\nB=x#y\nC=# d\nD=1\t#e\n", map[string]string{"A": "1", "B": "x#y", "C": "", "D": "1"}, ""},
		{"export", "export A=1\nexport  B = 2\n", map[string]string{"A": "1", "B": "2"}, ""},
		{"equals signs", "A=b=c==\n", map[string]string{"A": "b=c=="}, ""},
		{"empty values", "A=\nB=\"\"\nC=''\n", map[string]string{"A": "", "B": "", "C": ""}, ""},
		{"the last one counts", "A=1\nA=2\n", map[string]string{"A": "2"}, ""},
		{"single quotes", `A='a "b" \n $X # y' # c`, map[string]string{"A": `a "b" \n $X # y`}, ""},
		{"double quotes", `A="a 'b'\n\t\"q\" \\ \$X $Y \d # y"`, map[string]string{"A": "a 'b'\n\t\"q\" \\ $X $Y \\d # y"}, ""},
		{"JSON", `A={"a":"b","c":["d"]}`, map[string]string{"A": `{"a":"b","c":["d"]}`}, ""},
		{"several lines", "A=\"x\ny\n\"\nB='1\n2'\nC=3\n", map[string]string{"A": "x\ny\n", "B": "1\n2", "C": "3"}, ""},
		{"no assignment", "A=1\nB\n", nil, "line 2 "},
		{"no name", "=1\n", nil, "line 1 "},
		{"name with a space", "A B=1\n", nil, "line 1 "},
		{"name that begins with a digit", "1A=1\n", nil, "line 1 "},
		{"error after several lines", "A=\"x\ny\"\n\n# c\nfoo\n", nil, "line 5 "},
		{"error after a quoted line", "A='x'\nfoo\n", nil, "line 2 "},
		{"quote without end", "A=1\nB=\"hunter2\nC=1\n", nil, "line 2 "},
		{"text after a quote", "A='x' hunter2\n", nil, "line 1 "},
		{"escape at the end", `A="x\`, nil, "line 1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseEnvFile(tt.content)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter") {
					t.Fatalf("%v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// What a careful writer quotes comes back.
func FuzzEnvFile(f *testing.F) {
	f.Add("A=1\nB='x'\n", "value")
	f.Add("export X=\"a\\\"b\n\"#c", "with \"quotes\" and $\n")
	f.Fuzz(func(t *testing.T, content, value string) {
		values, err := parseEnvFile(content)
		if err == nil {
			for name := range values {
				if !validName(name) {
					t.Fatalf("%q is a name of %q", name, content)
				}
			}
		}
		value = strings.ReplaceAll(value, "\r\n", "\n")
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		if values, err = parseEnvFile("A=\"" + quoted + "\"\nB=1"); err != nil || values["A"] != value || values["B"] != "1" {
			t.Fatalf("%q came back as %q, %v", value, values, err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add("CHAT_FALLBACKS", `[{"name":"a","base":"https://a","key_env":"CHAT_FALLBACKS"}]`)
	f.Add("HMAC_KEYS", "a:b:c")
	f.Add("DATABASE_URL", "postgres://u:p@h/d")
	f.Add("SUPABASE_SECRET_KEYS", `{"a":"b"}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		c, err := Load(Sources{Environ: []string{name + "=" + value}})
		if (c == nil) == (err == nil) {
			t.Fatal("neither or both of a config and an error")
		}
		if c != nil {
			_ = c.Check()
		}
	})
}
