package openai

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a provider may ask for.
const maxRetryAfter = 24 * time.Hour

// retryAfter returns how long a provider wants to be left alone: by
// retry-after-ms, else by Retry-After in seconds or as a date. 0 means that it did
// not say, or not in a way that makes sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if d, ok := delay(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return d
	}
	value := h.Get("Retry-After")
	if d, ok := delay(value, time.Second); ok {
		return d
	}
	at, err := http.ParseTime(strings.TrimSpace(value))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// delay reads a decimal number of units. NaN fails both comparisons.
func delay(value string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if n >= float64(maxRetryAfter/unit) {
		return maxRetryAfter, true // too large for a float64 included
	}
	if err != nil || !(n >= 0) {
		return 0, false
	}
	return time.Duration(n * float64(unit)), true
}
