package mockprovider

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Script says how one request is answered. The names in the comments are those
// of directives. Apply reads them from text, where values with spaces are JSON
// strings and any text may be given in base64 under its name with 64 behind it
// (text64, args64, body64).
type Script struct {
	// Time.
	Wait  time.Duration // wait=1s: before the status line
	TTFB  time.Duration // ttfb=1s: between the head and the first chunk
	Delay time.Duration // delay=20ms: before each further chunk
	Drip  time.Duration // drip=1ms: before each byte, with fault=drip
	Stall time.Duration // stall=5s: how long fault=stall lasts, 0: for ever
	Flush bool          // flush=each: every chunk is sent on its own, also without delay

	// The answer.
	Text      string // text="…": the answer, as it is and without the mock's mark
	Verbatim  bool   // Text is meant also when it is empty
	Words     int    // words=200: so many words after the mark
	Chunks    int    // chunks=50: exactly so many deltas of text
	Reasoning int    // reasoning=20: so many words of reasoning first, a delta each
	Tools     string // tool=name,name or tool=*: calls of tools that the request offers
	Args      string // args={"a":1}: their arguments
	Finish    string // finish=length
	Model     string // model=name: as the answer names it
	Stamp     bool   // stamp: each delta is the time it was written, in unix nanoseconds, and a space

	// Usage: "" as asked, none, always, final (on the last chunk), each (on every
	// chunk), missing or null (no or null choices in the usage chunk), zero.
	Usage string

	// Failure.
	Status     int     // status=429 or status=429:0.2
	StatusP    float64 // its probability; 0 means 1
	RetryAfter string  // retry-after=5, also a date or nonsense
	RetryMS    string  // retry-after-ms=1500
	Body       string  // body={"error":…}: of the status
	BodySize   Size    // body-size=10MB: so much body instead
	Type       string  // type=text/html: of that body
	Faults     []Fault // fault=rst@10,crlf or fault=stall@3:0.5
	Size       Size    // size=2MB: of giant, huge and gzip-bomb
	To         string  // to=http://…: of redirect
	Flaky      int     // flaky=2: only the first calls of a key fail, by the status or faults given, or by 503
	Key        string  // key=abc: of flaky; default: tag, else the message
	Seed       uint64  // seed=7: of the draws

	Tag string // tag=abc: counted in Stats.ByTag
}

// Size is a number of bytes: 100, 64KB, 2MB.
type Size int

const maxSize = 256 << 20

// A Fault is one thing that goes wrong. At counts the deltas sent before it;
// -1, the default of rst, fin and stall, is before the status line.
type Fault struct {
	Kind string
	At   int
	P    float64 // probability; 0 means 1
}

// Faults by what they do. Those of a place end or wound the stream there; the
// others shape all of it, or take its place.
const (
	placedFaults = " rst fin end stall cut badchunk error-frame badjson giant badutf8 surrogate "
	wholeFaults  = " html empty error-body json sse redirect gzip-bomb "
	styleFaults  = " crlf cr comments multiline nospace bom split drip identity no-done no-finish no-usage no-role hostile huge "
	vectorFaults = " short long gap dup reversed nan inf zero dim "
)

const usageModes = " none always final each missing null zero "

func listed(list, kind string) bool { return strings.Contains(list, " "+kind+" ") }

// fault returns the script's fault of a kind.
func (s *Script) fault(kind string) (Fault, bool) {
	for _, f := range s.Faults {
		if f.Kind == kind {
			return f, true
		}
	}
	return Fault{}, false
}

func (s *Script) has(kind string) bool {
	_, ok := s.fault(kind)
	return ok
}

// in returns the first fault of a list of kinds.
func (s *Script) in(list string) (Fault, bool) {
	for _, f := range s.Faults {
		if listed(list, f.Kind) {
			return f, true
		}
	}
	return Fault{}, false
}

func (s Script) clone() Script {
	s.Faults = slices.Clone(s.Faults)
	return s
}

// Apply reads directives (`a=1 b="two words" c`) or a JSON object of them.
func (s *Script) Apply(text string) error {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		for _, token := range tokens(text) {
			key, value, _ := strings.Cut(token, "=")
			if err := s.set(key, value); err != nil {
				return fmt.Errorf("directive %q: %w", key, err)
			}
		}
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		return fmt.Errorf("script: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if err := s.set(key, string(members[key])); err != nil {
			return fmt.Errorf("directive %q: %w", key, err)
		}
	}
	return nil
}

func (s *Script) set(key, value string) error {
	if strings.HasPrefix(value, `"`) {
		var plain string
		if err := json.Unmarshal([]byte(value), &plain); err != nil {
			return err
		}
		value = plain
	}
	if name, ok := strings.CutSuffix(key, "64"); ok {
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return err
		}
		key, value = name, string(raw)
	}
	switch key {
	case "fault":
		return s.setFaults(value)
	case "status":
		return s.setStatus(value)
	case "text":
		s.Verbatim = true
	case "usage":
		if !listed(usageModes, value) {
			return fmt.Errorf("unknown mode %q", value)
		}
	}
	field, ok := s.fields()[key]
	if !ok {
		return errors.New("unknown")
	}
	return assign(field, value)
}

func (s *Script) fields() map[string]any {
	return map[string]any{
		"wait": &s.Wait, "ttfb": &s.TTFB, "delay": &s.Delay, "drip": &s.Drip, "stall": &s.Stall, "flush": &s.Flush,
		"text": &s.Text, "words": &s.Words, "chunks": &s.Chunks, "reasoning": &s.Reasoning,
		"tool": &s.Tools, "args": &s.Args, "finish": &s.Finish, "model": &s.Model, "stamp": &s.Stamp, "usage": &s.Usage,
		"retry-after": &s.RetryAfter, "retry-after-ms": &s.RetryMS, "body": &s.Body, "body-size": &s.BodySize, "type": &s.Type,
		"size": &s.Size, "to": &s.To, "flaky": &s.Flaky, "key": &s.Key, "seed": &s.Seed, "tag": &s.Tag,
	}
}

func assign(field any, value string) (err error) {
	switch p := field.(type) {
	case *string:
		*p = value
	case *bool: // flush=each, or only the name
		*p = value != "false" && value != "0"
	case *int:
		*p, err = count(value)
	case *uint64:
		*p, err = strconv.ParseUint(value, 10, 64)
	case *Size:
		*p, err = parseSize(value)
	case *time.Duration:
		if *p, err = time.ParseDuration(value); err == nil && *p < 0 {
			err = errors.New("negative")
		}
	}
	return err
}

func count(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err == nil && (n < 0 || n > 1e6) {
		err = errors.New("out of 0…1000000")
	}
	return n, err
}

func parseSize(value string) (Size, error) {
	unit := 1
	for i, suffix := range []string{"KB", "MB"} {
		if digits, ok := strings.CutSuffix(value, suffix); ok {
			value, unit = digits, 1<<(10*(i+1))
		}
	}
	n, err := strconv.Atoi(value)
	if err == nil && (n < 0 || n > maxSize/unit) {
		err = errors.New("out of 0…256MB")
	}
	return Size(n * unit), err
}

func (s *Script) setStatus(value string) error {
	value, p, err := probability(value)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(value)
	if err == nil && (n < 200 || n > 599) {
		err = errors.New("out of 200…599")
	}
	s.Status, s.StatusP = n, p
	return err
}

func (s *Script) setFaults(value string) error {
	for part := range strings.SplitSeq(value, ",") {
		part, p, err := probability(part)
		if err != nil {
			return err
		}
		kind, place, placed := strings.Cut(part, "@")
		f := Fault{Kind: kind, P: p}
		switch {
		case kind == "" || strings.Contains(kind, " ") ||
			!listed(placedFaults+wholeFaults+styleFaults+vectorFaults, kind):
			return fmt.Errorf("unknown fault %q", kind)
		case placed:
			if f.At, err = count(place); err != nil {
				return err
			}
		case listed(" rst fin stall ", kind):
			f.At = -1
		}
		s.Faults = append(s.Faults, f)
	}
	return nil
}

// probability cuts the :0.2 from the end of a value.
func probability(value string) (rest string, p float64, err error) {
	rest, text, ok := strings.Cut(value, ":")
	if !ok {
		return rest, 0, nil
	}
	p, err = strconv.ParseFloat(text, 64)
	if err == nil && (math.IsNaN(p) || p <= 0 || p > 1) {
		err = errors.New("probability out of (0, 1]")
	}
	return rest, p, err
}

const directiveMark = "[[mock:"

// extract cuts the directives out of a message. One that has no end is text.
func extract(message string) (clean string, directives []string) {
	if !strings.Contains(message, directiveMark) {
		return message, nil
	}
	var kept strings.Builder
	for {
		before, rest, ok := strings.Cut(message, directiveMark)
		end := closing(rest)
		if !ok || end < 0 {
			kept.WriteString(message)
			return strings.TrimSpace(kept.String()), directives
		}
		kept.WriteString(before)
		directives = append(directives, rest[:end])
		message = rest[end+len("]]"):]
	}
}

// closing finds the ]] that is not within a quoted value.
func closing(text string) int {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(text[i:], "]]"):
			return i
		}
	}
	return -1
}

// tokens splits at spaces that are not within a quoted value.
func tokens(text string) []string {
	var list []string
	start, quoted := -1, false
	for i := 0; i < len(text); i++ {
		space := strings.IndexByte(" \t\r\n", text[i]) >= 0
		switch {
		case space && !quoted:
			if start >= 0 {
				list = append(list, text[start:i])
			}
			start = -1
			continue
		case start < 0:
			start = i
		}
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		}
	}
	if start >= 0 {
		list = append(list, text[start:])
	}
	return list
}
