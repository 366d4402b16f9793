// Package tokens estimates how many tokens a text costs a language model,
// without any model's vocabulary. It owns one rule of thumb and refuses to be
// exact: its figures bound a history and fill in for a provider that reports no
// usage, and are marked as estimated wherever they show.
//
// Every byte adds a fixed cost, so that an estimate never shrinks when a text
// grows, costs about a nanosecond per byte, and can be carried on from one piece
// of a stream to the next. The costs follow byte-pair vocabularies of 100,000 to
// 200,000 entries:
//
//   - ASCII letters: four to a token;
//   - a space between words: nothing, it is part of the word's token; further
//     spaces in a row: ten to a token;
//   - digits and line ends: two to a token; punctuation: five to four;
//   - letters of two bytes (Latin with accents, Greek, Cyrillic, Hebrew, Arabic):
//     five to two tokens; of three bytes below U+3000 (the scripts of India and
//     South-East Asia, symbols): five to four;
//   - Chinese, Japanese, Korean: one each; beyond the basic plane, emoji above
//     all: two each.
//
// A figure may be off by a third, on unusual text by more.
package tokens

// Costs are counted in twentieths of a token.
const (
	perToken = 20

	costLetter  = 5
	costDigit   = 10
	costLine    = 10
	costSpace   = 2
	costPunct   = 16
	costTwo     = 8
	costThree   = 16
	costIdeo    = 20
	costOutside = 40
)

// Counter estimates a text that comes in pieces, wherever these were cut. The
// zero value is ready.
type Counter struct {
	units  int
	spaced bool // the last byte was a space
}

// Add counts one more piece.
func (c *Counter) Add(piece string) { add(c, piece) }

// Tokens returns the estimate for all pieces so far: at least 1 once a byte has
// been added.
func (c *Counter) Tokens() int { return (c.units + perToken - 1) / perToken }

// Estimate returns about how many tokens text is: 0 for the empty text only.
func Estimate(text string) int {
	var c Counter
	add(&c, text)
	return c.Tokens()
}

// EstimateBytes is Estimate for bytes.
func EstimateBytes(text []byte) int {
	var c Counter
	add(&c, text)
	return c.Tokens()
}

func add[T string | []byte](c *Counter, text T) {
	if len(text) == 0 {
		return
	}
	units, spaced := c.units, c.spaced
	for i := 0; i < len(text); i++ {
		b := text[i]
		if b == ' ' {
			if spaced {
				units += costSpace
			}
			spaced = true
			continue
		}
		spaced = false
		units += cost(b)
	}
	// A text of nothing but one space is a token too.
	c.units, c.spaced = max(units, 1), spaced
}

// cost judges a rune by its first byte alone; the bytes that follow it are free.
func cost(b byte) int {
	switch {
	case b|0x20 >= 'a' && b|0x20 <= 'z':
		return costLetter
	case b >= 0x80:
		return costWide(b)
	case b >= '0' && b <= '9':
		return costDigit
	case b == '\n':
		return costLine
	case b < ' ':
		return costSpace
	default:
		return costPunct
	}
}

func costWide(b byte) int {
	switch {
	case b < 0xC0:
		return 0
	case b < 0xE0:
		return costTwo
	case b < 0xE3:
		return costThree
	case b < 0xF0:
		return costIdeo
	default:
		return costOutside
	}
}
