package run

import (
	"encoding/binary"
	"errors"
)

// Kind says what an entry of a log is. Done and Error are terminal; a kind of
// run gives every value from FirstKind on a meaning of its own.
type Kind byte

const (
	Done      Kind = 1
	Error     Kind = 2
	FirstKind Kind = 16
)

// Terminal tells whether an entry of this kind ends its run.
func (k Kind) Terminal() bool { return k == Done || k == Error }

// Frame is one entry of a log with its address. Data must not be changed.
type Frame struct {
	Attempt int
	Seq     int
	Kind    Kind
	Data    []byte
}

// errCodec says that a stored segment cannot be read.
var errCodec = errors.New("segment is damaged")

// codecVersion is the first byte of every segment. After it each frame is its
// kind, the length of its data as an unsigned varint, and its data.
const codecVersion = 1

func appendEntry(dst []byte, k Kind, data []byte) []byte {
	dst = append(dst, byte(k))
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	return append(dst, data...)
}

// decodeSegment calls yield for each frame of s, in order. It returns errCodec
// when the bytes are not exactly the frames First to Last.
func decodeSegment(s Segment, yield func(k Kind, data []byte)) error {
	if len(s.Data) == 0 || s.Data[0] != codecVersion {
		return errCodec
	}
	rest := s.Data[1:]
	for seq := s.First; seq <= s.Last; seq++ {
		if len(rest) < 2 {
			return errCodec
		}
		n, w := binary.Uvarint(rest[1:])
		if w <= 0 || n > uint64(len(rest)-1-w) {
			return errCodec
		}
		end := 1 + w + int(n)
		yield(Kind(rest[0]), rest[1+w:end:end])
		rest = rest[end:]
	}
	if len(rest) != 0 {
		return errCodec
	}
	return nil
}
