package retry

import (
	"net/http"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
)

// Again tells whether the same provider may do better when it is asked again:
// a connection error, a time-out, 408, 409, 429, 5xx, or an answer that was
// broken. A fault that its maker marked as not retryable is not.
func Again(f *fault.Error) bool {
	switch f.UpstreamStatus {
	case http.StatusRequestTimeout, http.StatusConflict:
		return true
	}
	return f.Retryable && transient(f.Code)
}

// Elsewhere tells whether another provider may do better. A request that one
// provider calls wrong is wrong; a missing model or a refused key is not the
// request's fault.
func Elsewhere(f *fault.Error) bool {
	switch f.Code {
	case api.UpstreamAuth, api.UpstreamModelNotFound, api.UpstreamRedirect:
		return true
	}
	return transient(f.Code) || Again(f)
}

// Failure tells whether a call's fault speaks against its provider's health. A
// 4xx other than 408 and 429 does not: the provider is there and answers.
func Failure(f *fault.Error) bool {
	switch s := f.UpstreamStatus; {
	case s == http.StatusRequestTimeout, s == http.StatusTooManyRequests, s >= 500:
		return true
	case s >= 400:
		return false
	}
	return transient(f.Code) || f.Code == api.UpstreamRedirect
}

func transient(c api.Code) bool {
	switch c {
	case api.UpstreamRateLimited, api.UpstreamUnavailable, api.UpstreamTimeout,
		api.UpstreamBadResponse, api.UpstreamTruncated:
		return true
	}
	return false
}
