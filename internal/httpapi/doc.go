// Package httpapi is the edge's HTTP side: routes on one screen (routes.go), what
// every request passes (server.go, cors.go, body.go), the chat endpoints (chat.go)
// and the writing of streams (stream.go). It decides nothing about runs: it checks
// the form of a request, asks internal/chat, and writes what comes back. Errors of
// every kind become a response in one place (errors.go).
package httpapi
