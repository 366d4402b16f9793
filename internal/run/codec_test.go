package run

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// entry is a frame without its address.
type entry struct {
	kind Kind
	data string
}

// pack makes a segment that begins at first.
func pack(first int, entries ...entry) Segment {
	s := Segment{Attempt: 1, First: first, Last: first + len(entries) - 1, Data: []byte{codecVersion}}
	for _, e := range entries {
		s.Data = appendEntry(s.Data, e.kind, []byte(e.data))
	}
	return s
}

// unpack is what a segment holds.
func unpack(s Segment) (entries []entry, err error) {
	err = decodeSegment(s, func(k Kind, data []byte) { entries = append(entries, entry{k, string(data)}) })
	return entries, err
}

func TestSegmentRoundTrip(t *testing.T) {
	long := string(bytes.Repeat([]byte{0, 0xff, '\n'}, 1<<20))
	for name, entries := range map[string][]entry{
		"none":      nil,
		"one":       {{kindText, "hello"}},
		"empty":     {{kindText, ""}, {kindText, ""}, {Done, ""}},
		"all kinds": {{kindText, "a"}, {255, "b"}, {0, "c"}, {Error, "d"}},
		"lengths":   {{kindText, long[:127]}, {kindText, long[:128]}, {kindText, long[:16383]}, {kindText, long[:16384]}, {kindText, long}},
	} {
		for _, first := range []int{1, 2, 100000} {
			got, err := unpack(pack(first, entries...))
			if err != nil || !slices.Equal(got, entries) {
				t.Errorf("%s from %d: %.100v, %v", name, first, got, err)
			}
		}
	}
}

// TestSegmentOfALog: what a log packs is what it holds, wherever storing got to.
func TestSegmentOfALog(t *testing.T) {
	log := NewLog(uuid.New())
	if log.unstored() != nil || log.waiting() != 0 {
		t.Error("an empty log has something to store")
	}
	for _, word := range []string{"a", "", "ccc"} {
		if _, err := log.Append(kindText, []byte(word)); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		log.stored(Segment{Attempt: 1, First: 1, Last: 2}) // a late answer to an earlier flush
		log.stored(Segment{Attempt: 2, First: 1, Last: 9})
		if s := log.unstored(); s != nil {
			t.Errorf("all was stored, but %d to %d is not", s.First, s.Last)
		}
	}()
	for stored, want := range [][]entry{
		{{kindText, "a"}, {kindText, ""}, {kindText, "ccc"}, {Done, "end"}},
		{{kindText, ""}, {kindText, "ccc"}, {Done, "end"}},
		{{kindText, "ccc"}, {Done, "end"}},
		{{Done, "end"}},
	} {
		log.stored(Segment{Attempt: 1, First: 1, Last: stored})
		s := log.ending(Done, []byte("end"))
		got, err := unpack(*s)
		if err != nil || !slices.Equal(got, want) || s.First != stored+1 || s.Last != 4 {
			t.Errorf("%d stored: %d to %d, %v, %v; want %v", stored, s.First, s.Last, got, err, want)
		}
		if s = log.unstored(); (s == nil) != (stored == 3) {
			t.Errorf("%d stored: unstored %v", stored, s)
		} else if s != nil && (s.First != stored+1 || s.Last != 3) {
			t.Errorf("%d stored: unstored %d to %d", stored, s.First, s.Last)
		}
	}
}

// TestDamagedSegment: a segment that is not exactly its frames is an error.
func TestDamagedSegment(t *testing.T) {
	good := pack(1, entry{kindText, "hello"}, entry{kindText, "world"}, entry{Done, "{}"})
	for n := range good.Data {
		cut := good
		cut.Data = good.Data[:n]
		if _, err := unpack(cut); !errors.Is(err, errCodec) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for name, change := range map[string]func(s *Segment){
		"another version": func(s *Segment) { s.Data[0]++ },
		"more bytes":      func(s *Segment) { s.Data = append(s.Data, 0) },
		"more frames":     func(s *Segment) { s.Last++ },
		"fewer frames":    func(s *Segment) { s.Last-- },
		"no frames":       func(s *Segment) { s.First = s.Last + 1 },
		"a huge length":   func(s *Segment) { s.Data = append(s.Data[:2], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1) },
		"a length above":  func(s *Segment) { s.Data = append(s.Data[:2], bytes.Repeat([]byte{0xff}, 20)...) },
		"a long length":   func(s *Segment) { s.Data[2] = 100 },
	} {
		bad := good
		bad.Data = bytes.Clone(good.Data)
		change(&bad)
		if _, err := unpack(bad); !errors.Is(err, errCodec) {
			t.Errorf("%s: %v, want errCodec", name, err)
		}
	}
}

// TestSegmentAnyDamage flips bytes: any answer will do, but no panic and no
// frame that is not in the bytes.
func TestSegmentAnyDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		s := pack(1, entry{kindText, "hello"}, entry{kindText, "world"}, entry{Done, "{}"})
		for range 1 + rng.IntN(4) {
			s.Data[rng.IntN(len(s.Data))] = byte(rng.Uint32())
		}
		s.Last += rng.IntN(3) - 1
		got, _ := unpack(s)
		size := 0
		for _, e := range got {
			size += 2 + len(e.data)
		}
		if size > len(s.Data) {
			t.Fatalf("%d bytes of frames out of %d", size, len(s.Data))
		}
	}
}

// FuzzDecodeSegment: whatever the store gives back is read or refused, and what
// is read packs into the same bytes again, the form of its lengths aside.
func FuzzDecodeSegment(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, first, frames uint16) {
		s := Segment{Attempt: 1, First: int(first), Last: int(first) + int(frames) - 1, Data: data}
		got, err := unpack(s)
		if err != nil {
			if !errors.Is(err, errCodec) {
				t.Fatalf("error %v", err)
			}
		} else {
			if len(got) != int(frames) {
				t.Fatalf("%d frames, want %d", len(got), frames)
			}
			again, err := unpack(pack(s.First, got...))
			if err != nil || !slices.Equal(again, got) {
				t.Fatalf("packed again: %v, %v", again, err)
			}
		}
		log := NewLog(uuid.New())
		if merged := log.merge(s); first == 1 && (merged == nil) != (err == nil) {
			t.Fatalf("merged with %v, decoded with %v", merged, err)
		}
		log.Reader(Position{}).Take(nil, 1<<20)
	})
}
