package run

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/internal/record"
)

// State of a run. A run has exactly one terminal state.
type State string

const (
	Accepted    State = "accepted" // queued: no node works on it yet
	Running     State = "running"
	Completed   State = "completed"
	Failed      State = "failed"
	Cancelled   State = "cancelled"
	Interrupted State = "interrupted"
)

// Terminal tells whether a run in this state is over.
func (s State) Terminal() bool { return s != Accepted && s != Running }

// ErrNotFound says that the store has no such run.
var ErrNotFound = errors.New("run not found")

// KeyLife is how long an idempotency key holds after its run's finish.
const KeyLife = 24 * time.Hour

// RateWindow is the window of every rate limit.
const RateWindow = time.Minute

// Record is a run as the store has it.
type Record struct {
	ID          uuid.UUID
	Kind        string // "chat", "embed"
	Endpoint    string // the idempotency key's space beside Principal
	Principal   string // who called: "authenticated:<sub>", "service_role:<key>", "anon:<address>"
	Owner       string // the user's id; empty for none
	SessionID   uuid.UUID
	Key         string // idempotency key; empty for none, and once it is free again
	Keyed       bool   // whether the run was accepted with a key (Key may be free by now)
	Fingerprint []byte // SHA-256, 32 bytes
	State       State
	Attempt     int // the newest attempt, from 1; only its holder may write
	Tries       int // attempts that count against RUN_MAX_ATTEMPTS: each but a released one
	Node        string
	Lapsed      bool // running and lease_until is in the past, on the store's clock
	CancelAsked bool // cancel_requested
	TraceID     string
	Request     json.RawMessage // the kind's own request
	Result      json.RawMessage // the kind's own result, nil until the run is over
	Error       json.RawMessage // data of the terminal error frame, nil for none
	LastSeq     int             // seq of the terminal frame in the newest attempt, 0 until then
	LogGone     bool            // the log's segments were pruned
	CreatedAt   time.Time
	FinishedAt  time.Time // zero until the run is over
}

// Claim asks for one run to be accepted. Everything it names is written in one
// transaction, or nothing is; a session, message or event with a zero id is none.
type Claim struct {
	Record            // ID, Kind, Endpoint, Principal, Owner, SessionID, Key, Fingerprint, Node, TraceID, Request
	Parsed       any  // handed to the run's first Job as it is; stores ignore it
	OwnID        bool // the caller chose the ID; stores ignore it
	NewSession   bool // SessionID was made for this claim and cannot exist yet
	AnySession   bool // the caller may use anyone's session (service role); the rows then take the session's owner
	Lease        time.Duration
	HistoryBytes int // newest turns of the session returned up to so many bytes of content; 0: none
	Limit        int // runs per minute of (Principal, Endpoint); 0: not limited
	GlobalLimit  int // runs per minute of Endpoint over all principals; 0: not limited
	Message      record.Message
	Event        record.Event
}

// Outcome of a claim.
type Outcome int

const (
	Claimed   Outcome = iota // a new run: the caller's node holds its lease, attempt 1
	Joined                   // the key's run, same fingerprint: Run is it, running or over
	Conflict                 // the key's run has another fingerprint
	Limited                  // over a rate limit: nothing written
	NoSession                // the session is someone else's: nothing written
	IDTaken                  // the id the caller chose belongs to a run that it cannot join
)

// ClaimResult answers one Claim. Run is set for Claimed and Joined.
type ClaimResult struct {
	Outcome Outcome
	Run     Record
	History []record.Message // oldest first; for Claimed
	Rate    Rate
}

// Rate is the state of the limits after a claim. Limit 0: not limited.
type Rate struct {
	Limit      int
	Remaining  int
	Reset      time.Duration // until the oldest counted run leaves the window
	RetryAfter time.Duration // Limited only: until one more fits, at least 1 s
	Global     bool          // Limited only: the limit over all callers refused it
}

// Segment is a stretch of one attempt's frames, in the codec of this package.
type Segment struct {
	Run     uuid.UUID
	Attempt int
	First   int // seq of the first frame
	Last    int // seq of the last frame
	Data    []byte
}

// Finish ends one run: state, rows, the frames the store has not acknowledged
// yet and the terminal frame, in one transaction, durably.
type Finish struct {
	Run     uuid.UUID
	Attempt int
	State   State
	LastSeq int      // seq of the terminal frame
	Segment *Segment // ends with the terminal frame
	Result  json.RawMessage
	Error   json.RawMessage
	FreeKey bool            // a retryable failure: the key may start a new run
	Message *record.Message // the assistant's, nil for none
	Events  []record.Event
}

// Hold is one run that a node works on.
type Hold struct {
	Run     uuid.UUID
	Attempt int
}

// Lapse is a run whose lease is over.
type Lapse struct {
	Run      uuid.UUID
	Attempt  int
	Kind     string
	Keyed    bool
	Tries    int
	Released bool      // its holder gave it up: it may be taken at once
	Until    time.Time // lease_until, to tell one lapse from the next
}

// Tail asks for what follows (Attempt, Seq) in a run's stored log.
type Tail struct {
	Run     uuid.UUID
	Attempt int // 0: from the first attempt there is
	Seq     int
}

// TailResult is the stored log after a Tail, in order of (attempt, seq), and the
// run's state read in the same snapshot, so that a terminal state comes with its
// last segment.
type TailResult struct {
	Run      uuid.UUID
	Found    bool
	State    State
	Attempt  int
	LastSeq  int
	LogGone  bool
	Segments []Segment
	More     bool // cut off at the size bound: ask again from the last segment
}

// ClaimStore accepts runs, many in one transaction.
type ClaimStore interface {
	// ClaimMany returns one result per claim, in order. An error means that
	// none of them was accepted, or that it is not known.
	ClaimMany(ctx context.Context, claims []Claim) ([]ClaimResult, error)
}

// LogStore writes what runs produce. Every write is fenced: it changes a run
// only while that run is running in the same attempt.
type LogStore interface {
	// AppendMany stores segments of many runs in one transaction and returns
	// the holds that are no longer theirs. A segment whose first frame is stored
	// already is the same or a longer stretch of the same frames: the longer stays.
	AppendMany(ctx context.Context, segments []Segment) (lost []Hold, err error)
	// FinishMany returns per finish whether it is now in the store; false: a
	// newer attempt or another end was there first. Finishing again with the
	// same attempt after an unknown outcome returns true and changes nothing.
	FinishMany(ctx context.Context, finishes []Finish) (done []bool, err error)
	// NextAttempt starts attempt+1 of a run that this node holds, with a fresh
	// lease. false: it is not held any more.
	NextAttempt(ctx context.Context, hold Hold, node string, lease time.Duration) (bool, error)
}

// LeaseStore keeps runs held by those who work on them. All times are judged on
// the store's clock.
type LeaseStore interface {
	// RenewMany renews by (run, attempt) even after a lapse, as long as nobody
	// has taken over, and returns the holds that are lost.
	RenewMany(ctx context.Context, node string, holds []Hold, lease time.Duration) (lost []Hold, err error)
	// CancelsAsked returns the running runs of node with cancel_requested.
	CancelsAsked(ctx context.Context, node string) ([]uuid.UUID, error)
	// Lapsed returns up to max running runs whose lease is over.
	Lapsed(ctx context.Context, max int) ([]Lapse, error)
	// TakeOver makes node the holder with attempt+1, if the run still runs in
	// that attempt and its lease is over. ok false: somebody else was quicker.
	// History is what the run's first claim saw.
	TakeOver(ctx context.Context, hold Hold, node string, lease time.Duration) (r Record, history []record.Message, ok bool, err error)
	// Release gives up held runs at once; the attempt does not count as tried.
	Release(ctx context.Context, node string, holds []Hold) error
}

// ReadStore reads runs for whoever asks.
type ReadStore interface {
	Load(ctx context.Context, id uuid.UUID) (Record, error) // ErrNotFound
	// Tails answers every tail from one snapshot each, at most a few MiB in all.
	Tails(ctx context.Context, tails []Tail) ([]TailResult, error)
	// Answer returns the assistant message of a run. ErrNotFound: it has none.
	Answer(ctx context.Context, id uuid.UUID) (record.Message, error)
	// Question returns the user's message of a run. ErrNotFound: it has none.
	Question(ctx context.Context, id uuid.UUID) (record.Message, error)
	// AskCancel sets cancel_requested on a run that is not over and returns the run.
	AskCancel(ctx context.Context, id uuid.UUID) (Record, error) // ErrNotFound
}

// PresenceStore knows on which runs a node elsewhere serves readers.
type PresenceStore interface {
	TouchReaders(ctx context.Context, ids []uuid.UUID, ttl time.Duration) error
	HasReaders(ctx context.Context, id uuid.UUID) (bool, error)
}

// SweepStore removes what is over, a bounded number of runs at a time.
type SweepStore interface {
	// PruneLogs deletes the segments of runs finished longer ago than retention
	// and marks them LogGone; it returns how many runs it pruned.
	PruneLogs(ctx context.Context, retention time.Duration, max int) (int, error)
	// FreeKeys frees the idempotency keys whose KeyLife is over.
	FreeKeys(ctx context.Context, max int) (int, error)
}

// EventStore records what happened beside a run's own transactions.
type EventStore interface {
	AddEvents(ctx context.Context, events []record.Event) error
}

// Hints wakes the tails of other nodes. A hint may be lost and may come for
// nothing: polling finds what it misses.
type Hints interface {
	// Hint tells other nodes that segments were stored. Called at most every 20 ms.
	Hint(ctx context.Context) error
	// Hinted returns a channel that receives after another node's Hint. A store
	// with one process never sends. It is the same channel on every call.
	Hinted() <-chan struct{}
}

// Store is all of it, as the two stores implement it and storetest exercises it.
type Store interface {
	ClaimStore
	LogStore
	LeaseStore
	ReadStore
	PresenceStore
	SweepStore
	EventStore
	Hints
	Ping(ctx context.Context) error
	Close() error
}
