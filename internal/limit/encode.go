package limit

import (
	"encoding/binary"
	"errors"
	"math"
)

// errCorrupt says that bytes are no log. A store that reads them must refuse
// rather than start from an empty log, which would admit too much.
var errCorrupt = errors.New("limit: corrupt log")

// AppendBinary appends the log in the form that a store keeps: one varint pair
// (µs since the pair before, count) each, some 4 bytes. An empty log is empty.
func (l *Log) AppendBinary(b []byte) ([]byte, error) {
	before := int64(0)
	for _, p := range l.Pairs {
		if p.At < before || p.N <= 0 {
			return nil, errCorrupt
		}
		b = binary.AppendUvarint(b, uint64(p.At-before))
		b = binary.AppendUvarint(b, uint64(p.N))
		before = p.At
	}
	return b, nil
}

// UnmarshalBinary reads what AppendBinary wrote. It keeps nothing of b.
func (l *Log) UnmarshalBinary(b []byte) error {
	pairs := l.Pairs[:0]
	before, total := int64(0), 0
	for len(b) > 0 {
		delta, width := binary.Uvarint(b)
		if width <= 0 || delta > uint64(math.MaxInt64-before) {
			return errCorrupt
		}
		b = b[width:]
		n, width := binary.Uvarint(b)
		if width <= 0 || n == 0 || n > math.MaxInt32 || len(pairs) == MaxPairs {
			return errCorrupt
		}
		b = b[width:]
		before += int64(delta)
		total += int(n)
		pairs = append(pairs, Pair{At: before, N: int(n)})
	}
	if total > math.MaxInt32 {
		return errCorrupt
	}
	l.Pairs = pairs
	return nil
}
