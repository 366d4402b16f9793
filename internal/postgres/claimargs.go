package postgres

import (
	"cmp"
	"slices"
	"strings"

	"github.com/agentedge/agentedge/internal/run"
)

// limitKey names a row of rate_limits. Everybody's has no principal.
type limitKey struct{ principal, endpoint string }

// limits are the distinct limits of a pass, in the order in which every batch
// locks them.
type limits struct {
	keys  []limitKey
	sizes []int32
	asks  []int32 // how many claims ask for one
}

func limitsOf(claims []run.Claim, places []int) (l limits) {
	for _, i := range places {
		c := &claims[i]
		l.add(c.Limit, limitKey{c.Principal, c.Endpoint})
		l.add(c.GlobalLimit, limitKey{"", c.Endpoint})
	}
	return l
}

func (l *limits) add(limit int, k limitKey) {
	if limit <= 0 {
		return
	}
	at, there := slices.BinarySearchFunc(l.keys, k, compareLimits)
	if !there {
		l.keys, l.sizes, l.asks = slices.Insert(l.keys, at, k), slices.Insert(l.sizes, at, 0), slices.Insert(l.asks, at, 0)
	}
	l.sizes[at] = int32(limit)
	l.asks[at]++
}

func compareLimits(a, b limitKey) int {
	return cmp.Or(strings.Compare(a.principal, b.principal), strings.Compare(a.endpoint, b.endpoint))
}

// own and global are the places of a claim's limits in the function's arrays,
// from 1; 0 for no limit.
func (l *limits) own(c *run.Claim) int32    { return l.place(c.Limit, limitKey{c.Principal, c.Endpoint}) }
func (l *limits) global(c *run.Claim) int32 { return l.place(c.GlobalLimit, limitKey{"", c.Endpoint}) }

func (l *limits) place(limit int, k limitKey) int32 {
	if limit <= 0 {
		return 0
	}
	i, _ := slices.BinarySearchFunc(l.keys, k, compareLimits)
	return int32(i + 1)
}

func (l *limits) args() []any {
	principals, endpoints := make([]string, len(l.keys)), make([]string, len(l.keys))
	for i, k := range l.keys {
		principals[i], endpoints[i] = k.principal, k.endpoint
	}
	return []any{principals, endpoints, notNil(l.sizes), notNil(l.asks)}
}

// claimArgs are the arguments of claim_runs_v1 for the claims at places: a
// column each.
func claimArgs(claims []run.Claim, places []int, limits *limits) ([]any, error) {
	n := len(places)
	ids, sessions, eventIDs := make(uuids, n), make(uuids, n), make(uuids, n)
	kinds, endpoints, principals := make([]string, n), make([]string, n), make([]string, n)
	nodes, traces, eventTypes := make([]string, n), make([]string, n), make([]string, n)
	owners, keys, requests, eventData := make(texts, n), make(texts, n), make(texts, n), make(texts, n)
	fingerprints, leases := make([][]byte, n), make([]int64, n)
	fresh, anyone := make([]bool, n), make([]bool, n)
	historyBytes, own, global := make([]int32, n), make([]int32, n), make([]int32, n)
	var said messages
	for at, i := range places {
		c := &claims[i]
		ids[at], sessions[at], eventIDs[at] = id(c.ID), id(c.SessionID), id(c.Event.ID)
		kinds[at], endpoints[at], principals[at] = c.Kind, c.Endpoint, c.Principal
		nodes[at], traces[at], eventTypes[at] = c.Node, c.TraceID, c.Event.Type
		owners[at], keys[at], requests[at], eventData[at] = text(c.Owner), text(c.Key), jsonText(c.Request), jsonbText(c.Event.Data)
		fingerprints[at], leases[at] = notNil(c.Fingerprint), micros(c.Lease)
		fresh[at], anyone[at] = c.NewSession, c.AnySession
		historyBytes[at] = int32(c.HistoryBytes)
		own[at], global[at] = limits.own(c), limits.global(c)
		if err := said.add(&c.Message); err != nil {
			return nil, err
		}
	}
	args := []any{
		ids, kinds, endpoints, principals, owners, sessions, keys, fingerprints, nodes, leases, traces, requests,
		fresh, anyone, historyBytes, own, global,
	}
	args = append(args, limits.args()...)
	args = append(args, said.args()...)
	return append(args, eventIDs, eventTypes, eventData), nil
}
