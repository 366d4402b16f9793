package tokens

import (
	"strings"
	"testing"
)

func TestEstimateIsInRange(t *testing.T) {
	t.Parallel()
	// The bounds enclose what the tokenizers of current models say about each
	// text, with a third to spare.
	for _, tc := range []struct {
		name, text string
		low, high  int
	}{
		{"empty", "", 0, 0},
		{"one letter", "a", 1, 1},
		{"one space", " ", 1, 1},
		{"one line end", "\n", 1, 1},
		{"one broken byte", "\x80", 1, 1},
		{"one word", "hello", 1, 2},
		{"pangram", "The quick brown fox jumps over the lazy dog.", 8, 13},
		{"sentence", "The promise, in one sentence: one request, one run, one truth.", 11, 20},
		{"digits", "31415926535897932384", 6, 20},
		{"code", "func add(a, b int) int {\n\treturn a + b\n}\n", 13, 26},
		{"json", `{"id":1,"name":"x","tags":["a","b"]}`, 12, 28},
		{"indent", strings.Repeat(" ", 40) + "x", 1, 8},
		{"German", "Übergrößenträger fahren gemütlich über die Brücke.", 11, 22},
		{"Russian", "Съешь же ещё этих мягких французских булок", 12, 26},
		{"Arabic", "السلام عليكم ورحمة الله", 7, 16},
		{"Hindi", "नमस्ते दुनिया", 5, 18},
		{"Chinese", "人人生而自由,在尊严和权利上一律平等。", 14, 28},
		{"Japanese", "すべての人間は、生まれながらにして自由である", 14, 28},
		{"Korean", "모든 인간은 태어날 때부터 자유로우며", 10, 22},
		{"emoji", "👍🎉🚀", 3, 9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if n := Estimate(tc.text); n < tc.low || n > tc.high {
				t.Errorf("Estimate(%q) = %d, want %d to %d", tc.text, n, tc.low, tc.high)
			}
		})
	}
}

func TestEstimateGrowsLinearly(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("One request, one run, one truth. ", 1000)
	if n := Estimate(text); n < 7000 || n > 12000 {
		t.Errorf("Estimate of a thousand sentences = %d", n)
	}
}

func FuzzEstimate(f *testing.F) {
	f.Add("The quick brown fox", uint(4))
	f.Add("  \n\t 12 人👍", uint(7))
	f.Add("\xff\x80\xf0", uint(1))
	f.Fuzz(func(t *testing.T, text string, cut uint) {
		whole := Estimate(text)
		if (whole == 0) != (text == "") {
			t.Fatalf("Estimate(%q) = %d", text, whole)
		}
		if whole > 2*len(text) {
			t.Fatalf("Estimate(%q) = %d: more than two tokens a byte", text, whole)
		}
		if n := EstimateBytes([]byte(text)); n != whole {
			t.Fatalf("EstimateBytes(%q) = %d, Estimate = %d", text, n, whole)
		}
		at := int(cut % uint(len(text)+1))
		if head := Estimate(text[:at]); head > whole {
			t.Fatalf("Estimate(%q) = %d, of its head %q %d", text, whole, text[:at], head)
		}
		var c Counter
		c.Add(text[:at])
		c.Add(text[at:])
		// Only the least cost of a text that is one space can differ, by one unit.
		if n := c.Tokens(); n != whole && n != whole+1 {
			t.Fatalf("in two pieces %q is %d, whole %d", text, n, whole)
		}
	})
}
