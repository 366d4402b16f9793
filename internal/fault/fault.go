// Package fault is the one error type that reaches a caller: a stable code, a
// message that is safe to show, and what a retry needs to know. An error is
// classified once, where it arises; internal/httpapi maps it once to a JSON
// body and once to an `error` frame. The cause stays in the logs.
package fault

import (
	"errors"
	"fmt"
	"time"

	"github.com/agentedge/agentedge/api"
)

// Error is a failure that a caller may see. Message never holds a prompt, a
// key, an address or a cause.
type Error struct {
	Code           api.Code
	Message        string
	Retryable      bool
	RetryAfter     time.Duration  // 0: not known
	UpstreamStatus int            // the provider's HTTP status, 0: none
	Details        map[string]any // small and safe, e.g. {"field": "temperature"}
	Cause          error          // for logs only
}

// New makes an Error whose Retryable is the code's own.
func New(code api.Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Retryable: code.Retryable()}
}

// Wrap is New with a cause for the logs.
func Wrap(cause error, code api.Code, format string, args ...any) *Error {
	e := New(code, format, args...)
	e.Cause = cause
	return e
}

// With adds one detail and returns the error.
func (e *Error) With(name string, value any) *Error {
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	e.Details[name] = value
	return e
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.Cause }

// From returns the Error in err's chain, or an internal_error that hides err.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Wrap(err, api.Internal, "internal error")
}
