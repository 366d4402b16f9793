package mockprovider

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// embed answers an embeddings request, with the faults that vectors can have.
func (x *exchange) embed() ending {
	dim := x.req.Dimensions
	if dim == 0 {
		dim = x.s.opts.Dim
	}
	if x.sc.has("dim") {
		dim--
	}
	model := or(x.sc.Model, x.req.Model, "mock-embed")
	tokens := 0
	for _, text := range x.req.Inputs {
		tokens += max(1, countTokens(text))
	}
	buf := append(make([]byte, 0, len(x.req.Inputs)*(dim*12+64)+256), `{"object":"list","data":[`...)
	for i, place := range x.places(len(x.req.Inputs)) {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, `{"object":"embedding","index":`...)
		buf = strconv.AppendInt(buf, int64(place.index), 10)
		buf = append(buf, `,"embedding":`...)
		v := vector(model, x.req.Inputs[place.input], dim)
		bad := ""
		if i == 0 {
			bad = x.spoil(v)
		}
		buf = append(appendVector(buf, v, x.req.Base64, bad), '}')
	}
	buf = append(buf, `],"model":`...)
	buf = appendQuoted(buf, model)
	if x.wantsUsage(true) {
		n := strconv.Itoa(tokens)
		buf = append(buf, `,"usage":{"prompt_tokens":`+n+`,"total_tokens":`+n+`}`...)
	}
	return x.plain(append(buf, '}'))
}

// place says which input's vector is sent under which index.
type place struct{ input, index int }

// places is the order of the vectors: the inputs', unless a fault says otherwise.
func (x *exchange) places(n int) []place {
	list := make([]place, n, n+1)
	for i := range list {
		list[i] = place{i, i}
	}
	switch last := n - 1; {
	case x.sc.has("short"):
		list = list[:last]
	case x.sc.has("long"):
		list = append(list, place{last, n})
	case x.sc.has("gap"):
		list[last].index++
	case x.sc.has("dup"):
		list[last].index = 0
	case x.sc.has("reversed"):
		slices.Reverse(list)
	}
	return list
}

// spoil ruins one vector. What JSON's numbers cannot say it returns as text for
// the first component.
func (x *exchange) spoil(v []float32) string {
	switch {
	case len(v) == 0:
	case x.sc.has("zero"):
		clear(v)
	case x.sc.has("nan"):
		v[0] = float32(math.NaN())
		return "NaN"
	case x.sc.has("inf"):
		v[0] = float32(math.Inf(1))
		return "1e39"
	}
	return ""
}

func appendVector(buf []byte, v []float32, packed bool, first string) []byte {
	if packed {
		raw := make([]byte, 0, 4*len(v))
		for _, f := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
		}
		buf = append(buf, '"')
		return append(base64.StdEncoding.AppendEncode(buf, raw), '"')
	}
	buf = append(buf, '[')
	for i, f := range v {
		if i > 0 {
			buf = append(buf, ',')
		}
		if i == 0 && first != "" {
			buf = append(buf, first...)
			continue
		}
		buf = strconv.AppendFloat(buf, float64(f), 'g', -1, 32)
	}
	return append(buf, ']')
}

// vector is the unit vector of a text: the same for the same text, near for
// texts that share words, and different for texts that differ at all.
func vector(model, text string, dim int) []float32 {
	v := make([]float32, dim)
	if dim == 0 {
		return v
	}
	scatter := func(s string, points int, weight float32) {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s)) // never fails
		state := h.Sum64()
		for range points {
			state = mix(state)
			w := weight
			if state&(1<<63) != 0 {
				w = -w
			}
			v[int(state>>8)&math.MaxInt32%dim] += w
		}
	}
	scatter(model+"\n"+text, 16, 0.1)
	for _, word := range strings.FieldsFunc(strings.ToLower(text), notInWord) {
		scatter(word, 8, 1)
	}
	var sum float64
	for _, f := range v {
		sum += float64(f) * float64(f)
	}
	if sum == 0 {
		v[0], sum = 1, 1
	}
	norm := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= norm
	}
	return v
}

func notInWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
