package chat

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/agentedge/agentedge/sse"
)

// object writes a JSON object member by member. Events and ends of runs are
// written for every chat, most of them with the same few members; this costs a
// tenth of what encoding/json takes for a map.
type object []byte

func (o object) name(n string) object {
	if len(o) == 0 {
		o = append(slices.Grow(o, 512), '{') // most objects fit without growing
	} else {
		o = append(o, ',')
	}
	return append(append(append(o, '"'), n...), '"', ':') // names are ours: nothing to escape
}

func (o object) str(n, v string) object { return sse.AppendString(o.name(n), v) }

func (o object) int(n string, v int) object { return strconv.AppendInt(o.name(n), int64(v), 10) }

func (o object) bool(n string, v bool) object { return strconv.AppendBool(o.name(n), v) }

// raw takes a value that is JSON already; nil leaves the member out.
func (o object) raw(n string, v []byte) object {
	if v == nil {
		return o
	}
	return append(o.name(n), v...)
}

func (o object) end() json.RawMessage {
	if len(o) == 0 {
		return json.RawMessage("{}")
	}
	return json.RawMessage(append(o, '}'))
}
