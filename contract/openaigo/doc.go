// Package openaigo reads the transcripts of the wire with the SSE readers of
// other Go libraries: that of openai-go, and go-sse. It is a module of its own,
// so that what they need is not needed by agentedge.
package openaigo
