package retry

import (
	"sync"
	"time"
)

// What a Budget grants within span: a share of the requests, and a floor
// without which a quiet client could never retry.
const (
	budgetPercent = 20
	budgetFloor   = 3
)

// A Budget keeps the retries of all requests of a client to 20 % of the requests
// it began within the last ten seconds, plus three. A provider that fails every
// call is then asked at most about 1.2 times for each request, however many
// retries one request may make. It counts what began and not what is open: when
// every call hangs until it times out, the open ones are many and a budget taken
// from them would grant most when it should least.
type Budget struct {
	mu  sync.Mutex
	win window // total: requests, marked: retries
}

// Request counts one request. Its first call needs no grant.
func (b *Budget) Request(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.win.advance(now)
	b.win.add(1, 0)
}

// Retry takes one retry from the budget, or tells that none is left.
func (b *Budget) Retry(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.win.advance(now)
	if (b.win.marked+1-budgetFloor)*100 > b.win.total*budgetPercent {
		return false
	}
	b.win.add(0, 1)
	return true
}
