// Package api holds what travels: the names of frames, headers and error codes,
// the shapes of their data, and the limits both sides keep. The server, the Go
// client and the tests share it; it imports nothing but the standard library.
package api
