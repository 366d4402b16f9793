package openai

import (
	"strings"
	"sync/atomic"
)

// Keys hands out a provider's keys in turn. The zero value has none. It is safe
// for concurrent use, and its keys can be replaced while calls are made.
type Keys struct {
	list atomic.Pointer[[]string]
	turn atomic.Uint64
}

// Set replaces the keys by those of list, which are separated by commas.
func (k *Keys) Set(list string) {
	var keys []string
	for key := range strings.SplitSeq(list, ",") {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	k.list.Store(&keys)
}

// Next returns the key for the next call, empty for none. It is a Config.Keys.
func (k *Keys) Next() string {
	list := k.list.Load()
	if list == nil || len(*list) == 0 {
		return ""
	}
	return (*list)[(k.turn.Add(1)-1)%uint64(len(*list))]
}
