// Package retry decides whether a failed provider is asked again, when, and by
// whom. It owns four small mechanisms, each with a usable zero value, safe for
// concurrent use, and pure over the `now` its caller passes:
//
//	Backoff   how long one call waits before it tries again (full jitter)
//	Budget    how many retries all calls of a client may make together
//	Breaker   whether a provider is asked at all:  closed ──failures──► open
//	                                                  ▲                  │ one probe a second
//	                                                  └───a good probe───┘
//	Cooldown  how long a provider that said 429 is left alone, by every run
//
// It sleeps nowhere, starts nothing and talks to nobody: the caller does.
package retry
