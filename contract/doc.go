// Package contract holds what every client must read alike: transcripts of the
// edge's streams, byte for byte, and beside each what it means. The tests here
// hold the server to producing them and each reader to reading them: this
// module's own (sse, client), those of other Go libraries (openaigo/, a module of
// its own so that theirs stay out of this one), and those of JavaScript (js/).
//
// `go test ./contract -update` records the transcripts anew; a change of theirs is
// a change of the wire, and is read as one.
package contract
