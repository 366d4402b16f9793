package limit

import (
	"net/http"
	"strconv"
	"time"
)

// Headers sets the RateLimit fields of the IETF draft for the policy's name
// ("chat", "embed"), and Retry-After for a refusal. An unlimited rate sets none.
func Headers(h http.Header, policy string, r Rate) {
	if r.Limit <= 0 {
		return
	}
	if r.Global {
		policy += "-global"
	}
	remaining, reset := r.Remaining, seconds(r.Reset)
	if r.RetryAfter > 0 {
		// Counted in whole seconds upwards, so that a caller who waits exactly
		// so long is admitted.
		remaining, reset = 0, max(seconds(r.RetryAfter), 1)
		h.Set("Retry-After", strconv.FormatInt(reset, 10))
	}
	name := strconv.Quote(policy)
	h.Set("RateLimit-Policy", name+";q="+strconv.Itoa(r.Limit)+";w="+strconv.FormatInt(int64(Window/time.Second), 10))
	h.Set("RateLimit", name+";r="+strconv.Itoa(remaining)+";t="+strconv.FormatInt(reset, 10))
}

// seconds rounds up.
func seconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d + time.Second - 1) / time.Second)
}
