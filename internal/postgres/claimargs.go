package postgres

import (
	"cmp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/agentedge/agentedge/internal/run"
)

// limitKey names a row of rate_limits. Everybody's has no principal.
type limitKey struct{ principal, endpoint string }

// limits are the distinct limits of a pass, in the order in which every batch
// locks them.
type limits struct {
	keys  []limitKey
	sizes map[limitKey]int
}

func limitsOf(claims []run.Claim, places []int) limits {
	l := limits{sizes: map[limitKey]int{}}
	for _, i := range places {
		c := &claims[i]
		if c.Limit > 0 {
			l.sizes[limitKey{c.Principal, c.Endpoint}] = c.Limit
		}
		if c.GlobalLimit > 0 {
			l.sizes[limitKey{"", c.Endpoint}] = c.GlobalLimit
		}
	}
	for k := range l.sizes {
		l.keys = append(l.keys, k)
	}
	slices.SortFunc(l.keys, compareLimits)
	return l
}

func compareLimits(a, b limitKey) int {
	return cmp.Or(strings.Compare(a.principal, b.principal), strings.Compare(a.endpoint, b.endpoint))
}

// place is a limit's place in the function's arrays, from 1; 0 for no limit.
func (l limits) place(limit int, k limitKey) int32 {
	if limit <= 0 {
		return 0
	}
	i, _ := slices.BinarySearchFunc(l.keys, k, compareLimits)
	return int32(i + 1)
}

func (l limits) args() []any {
	principals, endpoints, sizes := []string{}, []string{}, []int32{}
	for _, k := range l.keys {
		principals = append(principals, k.principal)
		endpoints = append(endpoints, k.endpoint)
		sizes = append(sizes, int32(l.sizes[k]))
	}
	return []any{principals, endpoints, sizes}
}

// claimArgs are the arguments of claim_runs_v1 for the claims at places: a
// column each.
func claimArgs(claims []run.Claim, places []int) ([]any, error) {
	n := len(places)
	ids, sessions, eventIDs := make([]pgtype.UUID, n), make([]pgtype.UUID, n), make([]pgtype.UUID, n)
	kinds, endpoints, principals := make([]string, n), make([]string, n), make([]string, n)
	nodes, traces, eventTypes := make([]string, n), make([]string, n), make([]string, n)
	owners, keys, requests, eventData := make([]pgtype.Text, n), make([]pgtype.Text, n), make([]pgtype.Text, n), make([]pgtype.Text, n)
	fingerprints, leases := make([][]byte, n), make([]int64, n)
	fresh, anyone := make([]bool, n), make([]bool, n)
	historyBytes, own, global := make([]int32, n), make([]int32, n), make([]int32, n)
	limits := limitsOf(claims, places)
	var said messages
	for at, i := range places {
		c := &claims[i]
		ids[at], sessions[at], eventIDs[at] = id(c.ID), id(c.SessionID), id(c.Event.ID)
		kinds[at], endpoints[at], principals[at] = c.Kind, c.Endpoint, c.Principal
		nodes[at], traces[at], eventTypes[at] = c.Node, c.TraceID, c.Event.Type
		owners[at], keys[at], requests[at], eventData[at] = text(c.Owner), text(c.Key), jsonText(c.Request), jsonbText(c.Event.Data)
		fingerprints[at], leases[at] = c.Fingerprint, micros(c.Lease)
		fresh[at], anyone[at] = c.NewSession, c.AnySession
		historyBytes[at] = int32(c.HistoryBytes)
		own[at] = limits.place(c.Limit, limitKey{c.Principal, c.Endpoint})
		global[at] = limits.place(c.GlobalLimit, limitKey{"", c.Endpoint})
		if fingerprints[at] == nil {
			fingerprints[at] = []byte{}
		}
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
