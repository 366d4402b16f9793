// Package chat is one kind of run: a turn of a conversation. It checks what a
// caller asks (request.go), claims the run (service.go), drives the providers and
// turns what they say into frames and rows (turn.go, ending.go), and encodes
// frames for readers (frames.go). It speaks to providers through Upstream and
// knows neither their protocol nor HTTP nor a database.
package chat
