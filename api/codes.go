package api

// A Code names one kind of failure. Codes are stable: clients branch on them.
// Status gives the HTTP status of a refusal before the stream; after `ready`
// the same code travels in an `error` frame.
type Code string

// Refusals of a request, before anything costs.
const (
	InvalidJSON            Code = "invalid_json"
	InvalidRequest         Code = "invalid_request"
	DuplicateField         Code = "duplicate_field"
	UnknownField           Code = "unknown_field"
	TooDeep                Code = "too_deep"
	InvalidUnicode         Code = "invalid_unicode"
	InvalidCharacter       Code = "invalid_character"
	EmptyContent           Code = "empty_content"
	ContentTooLong         Code = "content_too_long"
	InvalidType            Code = "invalid_type"
	InvalidParameter       Code = "invalid_parameter"
	InvalidSessionID       Code = "invalid_session_id"
	SessionNotFound        Code = "session_not_found"
	InvalidRequestID       Code = "invalid_request_id"
	MetadataTooLarge       Code = "metadata_too_large"
	RequestIDInUse         Code = "request_id_in_use"
	ModelNotAllowed        Code = "model_not_allowed"
	RoleNotAllowed         Code = "role_not_allowed"
	BodyTooLarge           Code = "body_too_large"
	RequestTimeout         Code = "request_timeout"
	UnsupportedMediaType   Code = "unsupported_media_type"
	UnsupportedEncoding    Code = "unsupported_encoding"
	NotAcceptable          Code = "not_acceptable"
	MethodNotAllowed       Code = "method_not_allowed"
	URITooLong             Code = "uri_too_long"
	NotFound               Code = "NOT_FOUND"
	InvalidIdempotencyKey  Code = "invalid_idempotency_key"
	IdempotencyMismatch    Code = "idempotency_key_mismatch"
	IdempotencyReused      Code = "idempotency_key_reused"
	IdempotencyKeyRequired Code = "idempotency_key_required"
	InvalidEventID         Code = "invalid_event_id"
	StreamNotFound         Code = "stream_not_found"
	StreamExpired          Code = "stream_expired"
	QuotaExceeded          Code = "quota_exceeded"
	TooManyStreams         Code = "too_many_streams"
	OriginNotAllowed       Code = "origin_not_allowed"
)

// Failures of identity, under Supabase's names.
const (
	NoAuthHeader         Code = "UNAUTHORIZED_NO_AUTH_HEADER"
	InvalidJWTFormat     Code = "UNAUTHORIZED_INVALID_JWT_FORMAT"
	InvalidJWT           Code = "UNAUTHORIZED_LEGACY_JWT"
	UnsupportedAlgorithm Code = "UNAUTHORIZED_UNSUPPORTED_TOKEN_ALGORITHM"
)

// Failures of the edge itself.
const (
	ServerDraining     Code = "server_draining"
	StorageUnavailable Code = "storage_unavailable"
	PersistFailed      Code = "persist_failed"
	Overloaded         Code = "overloaded"
	SlowReader         Code = "slow_reader"
	Internal           Code = "internal_error"
	ConfigError        Code = "config_error"
)

// Ends of a run that are no answer.
const (
	Cancelled   Code = "cancelled"
	Interrupted Code = "interrupted"
)

// Failures of a provider, each called by its name.
const (
	UpstreamAuth          Code = "upstream_auth"
	UpstreamModelNotFound Code = "upstream_model_not_found"
	UpstreamRejected      Code = "upstream_rejected"
	UpstreamRateLimited   Code = "upstream_rate_limited"
	UpstreamUnavailable   Code = "upstream_unavailable"
	UpstreamTimeout       Code = "upstream_timeout"
	UpstreamBadResponse   Code = "upstream_bad_response"
	UpstreamTruncated     Code = "upstream_truncated"
	UpstreamRedirect      Code = "upstream_redirect"
)

type codeInfo struct {
	status    int
	retryable bool
}

func info(c Code) codeInfo {
	switch c {
	case NoAuthHeader, InvalidJWTFormat, InvalidJWT, UnsupportedAlgorithm:
		return codeInfo{401, false}
	case RoleNotAllowed, OriginNotAllowed:
		return codeInfo{403, false}
	case SessionNotFound, NotFound, StreamNotFound:
		return codeInfo{404, false}
	case MethodNotAllowed:
		return codeInfo{405, false}
	case NotAcceptable:
		return codeInfo{406, false}
	case RequestTimeout:
		return codeInfo{408, true}
	case StreamExpired:
		return codeInfo{410, false}
	case ContentTooLong, BodyTooLarge:
		return codeInfo{413, false}
	case URITooLong:
		return codeInfo{414, false}
	case UnsupportedMediaType, UnsupportedEncoding:
		return codeInfo{415, false}
	case IdempotencyReused, RequestIDInUse:
		return codeInfo{422, false}
	case QuotaExceeded, TooManyStreams:
		return codeInfo{429, true}
	case Cancelled:
		return codeInfo{409, false}
	case Interrupted:
		return codeInfo{503, true}
	case Internal:
		return codeInfo{500, true}
	case ConfigError:
		return codeInfo{500, false}
	case ServerDraining, StorageUnavailable, PersistFailed, Overloaded, SlowReader:
		return codeInfo{503, true}
	case UpstreamAuth, UpstreamModelNotFound, UpstreamRejected, UpstreamRedirect:
		return codeInfo{502, false}
	case UpstreamRateLimited, UpstreamUnavailable, UpstreamBadResponse, UpstreamTruncated:
		return codeInfo{502, true}
	case UpstreamTimeout:
		return codeInfo{504, true}
	default:
		return codeInfo{400, false}
	}
}

// Status returns the HTTP status of a refusal with this code.
func (c Code) Status() int { return info(c).status }

// Retryable tells whether the same request may succeed when it is sent again.
func (c Code) Retryable() bool { return info(c).retryable }
