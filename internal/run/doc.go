// Package run is the mechanism that the product stands on: one request becomes
// one run, its answer is produced once, stored once, and read by anybody who may,
// from any offset, through any node.
//
//	           claim (atomic)
//	request ──► accepted ──► running ──► completed | failed | cancelled | interrupted
//	                ▲            │ crash, lease lost, provider died
//	                └ attempt+1 ◄┘
//
// An Engine is one node. It accepts runs (claim.go), lets each run's Handler
// produce frames into a Log (job.go, log.go), stores what was produced in
// segments and ends each run in one transaction (writer.go), keeps its leases and
// hears of cancels (lease.go), takes over what a dead node left (sweep.go) and
// follows the runs of other nodes for its own readers (tail.go). Readers
// (reader.go) are independent of all this: they come and go.
//
// The package knows nothing of chat, of embeddings, of HTTP or of a database: the
// kinds of run are Handlers, their rows travel as values (internal/record), and
// stores implement the small interfaces of store.go.
//
// Rules that the rest of the product relies on:
//   - A frame is addressed by (attempt, seq). Frames never change once appended;
//     a newer attempt replaces an older one's text, it never continues it.
//   - The terminal frame of a run reaches a reader only after the store has
//     committed the run's end.
//   - Only the holder of the newest attempt writes. Whoever lost that learns it
//     from the store (fencing) and becomes a reader like any other.
package run
