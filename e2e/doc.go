// Package e2e holds the tests that treat agentedge as a black box: they build the
// binary, start it as processes on free ports, kill, pause and drain them, cut
// their connections, take their store away, and hold every stream they send
// against one checker of frames. Nothing here imports the server; what is known
// of it is its wire, its variables and its tables.
//
// The lengths fit a continuous build; SOAK=1 makes them long. E2E_BINARY names a
// binary to test instead of building one.
package e2e
