package openai

import (
	"slices"
	"sync/atomic"
)

// Keys hands out a provider's keys in turn. The zero value has none. It is safe
// for concurrent use, and its keys can be replaced while calls are made.
type Keys struct {
	list atomic.Pointer[[]string]
	turn atomic.Uint64
}

// Set replaces the keys and tells whether they are others than before.
func (k *Keys) Set(keys []string) (changed bool) {
	was := k.list.Swap(&keys)
	return was == nil && len(keys) > 0 || was != nil && !slices.Equal(*was, keys)
}

// Next returns the key for the next call, empty for none. It is a Config.Keys.
func (k *Keys) Next() string {
	list := k.list.Load()
	if list == nil || len(*list) == 0 {
		return ""
	}
	return (*list)[(k.turn.Add(1)-1)%uint64(len(*list))]
}
