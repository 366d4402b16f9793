package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// read decodes all of src; each event as "id|name|data|retry".
func read(src io.Reader, opts Options) (events []string, last string, err error) {
	r := NewReader(src, opts)
	for {
		e, err := r.Next()
		if err != nil {
			return events, r.LastID(), err
		}
		events = append(events, fmt.Sprintf("%s|%s|%s|%d", e.ID, e.Name, e.Data, e.Retry.Milliseconds()))
	}
}

// The cases are those of the web-platform-tests for EventSource, by their
// subject, and some that real senders add.
func TestReader(t *testing.T) {
	cut := io.ErrUnexpectedEOF
	for _, tt := range []struct {
		name, stream string
		want         []string
		err          error // nil: io.EOF
		last         string
	}{
		{name: "empty stream"},
		{name: "byte order mark", stream: "\ufeffdata: 1\n\n", want: []string{"|message|1|0"}},
		{name: "only a byte order mark", stream: "\ufeff"},
		{name: "two byte order marks", stream: "\ufeff\ufeffdata: 1\n\ndata: 2\n\n", want: []string{"|message|2|0"}},
		{name: "byte order mark later", stream: "data: 1\n\n\ufeffdata: 2\n\ndata: 3\n\n", want: []string{"|message|1|0", "|message|3|0"}},
		{name: "comments", stream: "data: 1\n:\x00\n:\r\ndata: 2\n:" + strings.Repeat("x", 2000) + "\ndata: 3\n:data: fail\n:x\ndata: 4\n\n", want: []string{"|message|1\n2\n3\n4|0"}},
		{name: "only comments", stream: ": hello\n\n: bye\n"},
		{name: "empty data is an event", stream: "data:\n\ndata\ndata\n\ndata:test\n\n", want: []string{"|message||0", "|message|\n|0", "|message|test|0"}},
		{name: "no data is none", stream: "event: x\n\ndata: 1\n\n", want: []string{"|message|1|0"}},
		{name: "data before the final empty line is cut", stream: "retry:1000\ndata:test1\n\nid:test\ndata:test2", want: []string{"|message|test1|1000"}, err: cut},
		{name: "cut after a whole line", stream: "data: 1\n\nid: 2\ndata: 2\n", want: []string{"|message|1|0"}, err: cut},
		{name: "cut within a comment", stream: "data: 1\n\n: pi", want: []string{"|message|1|0"}, err: cut},
		{name: "cut after an id alone", stream: "id: 9\n", err: cut},
		{name: "event names", stream: "event:test\ndata:x\n\ndata:y\n\nevent:a\nevent: b\ndata:z\n\n", want: []string{"|test|x|0", "|message|y|0", "|b|z|0"}},
		{name: "empty event name", stream: "event: x\nevent:\ndata:y\n\n", want: []string{"|message|y|0"}},
		{name: "id stays", stream: "id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\n", want: []string{"1|message|a|0", "1|message|b|0", "2|message|c|0"}, last: "2"},
		{name: "empty id resets", stream: "id: 1\ndata: a\n\nid\ndata: b\n\nid: 3\nid:\ndata: c\n\n", want: []string{"1|message|a|0", "|message|b|0", "|message|c|0"}},
		{name: "id with NUL is ignored", stream: "id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", want: []string{"1|message|a|0", "1|message|b|0"}, last: "1"},
		{name: "id of a cut event is not taken", stream: "id: 1\ndata: a\n\nid: 2\ndata: b\n", want: []string{"1|message|a|0"}, err: cut, last: "1"},
		{name: "id without data counts", stream: "id: 1\n\n", last: "1"},
		{name: "field parsing", stream: "data:\x00\ndata:  2\rData:1\ndata\x00:2\ndata:1\r\x00data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n", want: []string{"|message|\x00\n 2\n1\n3\n\n4|0"}},
		{name: "unknown fields", stream: "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\n\n", want: []string{"|message|test\n|0"}},
		{name: "one leading space", stream: "data:\ttest\rdata: \ndata:test\n\n", want: []string{"|message|\ttest\n\ntest|0"}},
		{name: "line breaks of all kinds", stream: "data:test\r\ndata\ndata:test\r\n\r", want: []string{"|message|test\n\ntest|0"}},
		{name: "CR only", stream: "data: a\rid: 1\r\rdata: b\r\r", want: []string{"1|message|a|0", "1|message|b|0"}, last: "1"},
		{name: "CRLF only", stream: "data: a\r\n\r\ndata: b\r\n\r\n", want: []string{"|message|a|0", "|message|b|0"}},
		{name: "many blank lines", stream: "\n\n\r\n\rdata: a\n\n\n\n", want: []string{"|message|a|0"}},
		{name: "multi-byte text", stream: "data:ok…é😀\n\n", want: []string{"|message|ok…é😀|0"}},
		{name: "retry", stream: "retry: 3000\n\ndata: a\n\nretry:5\ndata: b\n\n", want: []string{"|message|a|3000", "|message|b|5"}},
		{name: "retry that is no number", stream: "retry:3000\nretry:1000x\nretry: -5\nretry: 1.5\nretry:\nretry\nretry:  7\ndata:x\n\n", want: []string{"|message|x|3000"}},
		{name: "retry beyond all bounds", stream: "retry:99999999999999999999999999\ndata:x\n\n", want: []string{"|message|x|9223372036854"}},
		{name: "colons in values", stream: "data:: a: b\nid:::\n\n", want: []string{"::|message|: a: b|0"}, last: "::"},
		{name: "case matters", stream: "DATA: x\nId: 1\ndata: y\n\n", want: []string{"|message|y|0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.err
			if want == nil {
				want = io.EOF
			}
			for _, split := range []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
			} {
				got, last, err := read(split(strings.NewReader(tt.stream)), Options{})
				if !slices.Equal(got, tt.want) || err != want || last != tt.last {
					t.Errorf("%q, last %q, %v\nwant %q, last %q, %v", got, last, err, tt.want, tt.last, want)
				}
			}
		})
	}
}

func TestReaderBounds(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tt := range []struct {
		name, stream string
		max          int
		events       int
		err          error
	}{
		{"a line within", "data:" + long + "\n\n", 206, 1, io.EOF},
		{"a line over", "data: a\n\ndata:" + long + "\n\ndata: b\n\n", 100, 1, ErrTooLong},
		{"an endless line", "data: a\n\ndata:" + strings.Repeat("x", 100_000), 100, 1, ErrTooLong},
		{"a comment over", ":" + long + "\ndata: b\n\n", 100, 0, ErrTooLong},
		{"many lines over", strings.Repeat("data: xxxxxxxxx\n", 20) + "\ndata: b\n\n", 100, 0, ErrTooLong},
		{"default holds a large frame", "data: " + strings.Repeat("x", 1<<20-100) + "\n\n", 0, 1, io.EOF},
		{"default bounds", "data: " + strings.Repeat("x", 1<<20) + "\n\n", 0, 0, ErrTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(tt.stream), Options{MaxLine: tt.max})
			for range tt.events {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // and it stays so
				if _, err := r.Next(); err != tt.err {
					t.Fatalf("%v, want %v", err, tt.err)
				}
			}
		})
	}
}

// What arrived before an error is delivered before it; the error is the source's.
func TestReaderPassesErrors(t *testing.T) {
	reset := errors.New("connection reset")
	got, last, err := read(io.MultiReader(strings.NewReader("id: 1\ndata: a\n\ndata: b"), iotest.ErrReader(reset)), Options{})
	if !slices.Equal(got, []string{"1|message|a|0"}) || last != "1" || err != reset {
		t.Errorf("%q, %q, %v", got, last, err)
	}
	if _, _, err := read(idle{}, Options{}); err != io.ErrNoProgress {
		t.Errorf("a reader that never reads: %v", err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// An event that ends in CR is delivered at once, not when the next byte comes.
func TestReaderDoesNotWaitAfterCR(t *testing.T) {
	src, out := io.Pipe()
	events := make(chan string)
	go func() {
		defer close(events)
		r := NewReader(src, Options{})
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			events <- string(e.Data)
		}
	}()
	for _, chunk := range []string{"data: a\r\r", "\ndata: b\r\n\r", "\ndata: c\r\r"} {
		if _, err := out.Write([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
		if got := <-events; got != chunk[strings.Index(chunk, ": ")+2:][:1] {
			t.Errorf("%q: event %q", chunk, got)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if e, ok := <-events; ok {
		t.Errorf("event %q of nothing", e)
	}
}

// reference decodes the plain way, from the whole text.
func reference(stream string) (events []string, last string, cut bool) {
	stream = strings.TrimPrefix(stream, "\ufeff")
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	lines := strings.Split(stream, "\n")
	name, id, retry, open := "", "", int64(0), false
	var data []string
	for _, line := range lines[:len(lines)-1] {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			last, open = id, false
			if data != nil {
				if name == "" {
					name = "message"
				}
				events = append(events, fmt.Sprintf("%s|%s|%s|%d", id, name, strings.Join(data, "\n"), retry))
			}
			name, data = "", nil
		case field == "data":
			data, open = append(data, value), true
		case field == "event":
			name, open = value, true
		case field == "id" && !strings.Contains(value, "\x00"):
			id, open = value, true
		case field == "retry":
			if ms, ok := digits([]byte(value)); ok {
				retry = (time.Duration(ms) * time.Millisecond).Milliseconds()
			}
		}
	}
	return events, last, open || lines[len(lines)-1] != ""
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\ufeffid: 1\r\nevent: a\rdata: x\ndata\n\nretry: 10\n\ndata: y\r\r"), byte(3))
	f.Add([]byte(":c\n\ndata\x00:x\nid: \x00\nid\ndata:  z"), byte(1))
	f.Fuzz(func(t *testing.T, stream []byte, size byte) {
		got, last, err := read(iotest.OneByteReader(bytes.NewReader(stream)), Options{})
		chunked, chunkedLast, chunkedErr := read(&chunks{stream, int(size%64) + 1}, Options{})
		if !slices.Equal(got, chunked) || last != chunkedLast || err != chunkedErr {
			t.Fatalf("%q by bytes: %q %q %v; in chunks: %q %q %v", stream, got, last, err, chunked, chunkedLast, chunkedErr)
		}
		want, wantLast, cut := reference(string(stream))
		wantErr := io.EOF
		if cut {
			wantErr = io.ErrUnexpectedEOF
		}
		if !slices.Equal(got, want) || last != wantLast || err != wantErr {
			t.Fatalf("%q: %q %q %v, want %q %q %v", stream, got, last, err, want, wantLast, wantErr)
		}
	})
}

type chunks struct {
	rest []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest[:min(c.size, len(c.rest))])
	c.rest = c.rest[n:]
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	var stream []byte
	for range 50 {
		stream = AppendFrame(stream, "018f4e7a-0000-7000-8000-000000000000-1-42", "chat.delta",
			[]byte(`{"request_id":"018f4e7a-0000-7000-8000-000000000000","seq":42,"attempt":1,"delta":"a handful of words"}`))
	}
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(bytes.NewReader(stream), Options{})
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}
