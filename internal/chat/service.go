package chat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/auth"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
	"github.com/agentedge/agentedge/internal/strictjson"
)

// Kind is the Record.Kind of chats, and their endpoint's name.
const Kind = "chat"

// ServiceConfig says what callers may ask.
type ServiceConfig struct {
	MaxChars      int // of content
	Model         string
	Models        []string
	HistoryTokens int
	PerMinute     int // chats of one principal; 0: not limited
	AllPerMinute  int // chats of all principals; 0: not limited
	RequireKey    bool
}

// Service is what callers ask for chats.
type Service struct {
	cfg    ServiceConfig
	engine *run.Engine
	limits *refusals
}

// NewService makes the service over an engine whose handler for Kind is a Turns.
func NewService(cfg ServiceConfig, engine *run.Engine) *Service {
	return &Service{cfg: cfg, engine: engine, limits: newRefusals(engine)}
}

// Run stores what happens beside the runs until ctx ends.
func (s *Service) Run(ctx context.Context) error { return s.limits.run(ctx) }

// Caller is who asks, and how.
type Caller struct {
	Principal auth.Principal
	TraceID   string
	Key       string // idempotency key of the header
	Endpoint  string // where: Kind, or the name of an ingress
}

// Turn is an accepted request: a run to read.
type Turn struct {
	Run    run.Record
	Joined bool // the run of an earlier request with the same key
	Rate   run.Rate
}

// Parse checks a body on behalf of a caller.
func (s *Service) Parse(members []strictjson.Member, p auth.Principal) (*Body, error) {
	return Parse(members, Rules{
		MaxChars: s.cfg.MaxChars, Model: s.cfg.Model, Models: s.cfg.Models, Service: p.Service(),
	})
}

// Fingerprint identifies what a body asks for, whatever its form: SHA-256 of its
// canonical JSON without stream, request_id and the key.
func Fingerprint(endpoint string, b *Body) []byte {
	h := sha256.New()
	h.Write([]byte(endpoint + "\n"))
	h.Write(strictjson.Canonical(nil, b.Members, func(name string) bool {
		return name == "stream" || name == "request_id" || name == "idempotency_key"
	}))
	return h.Sum(nil)
}

// Start claims a run for a body, or joins the one that its key has. The Rate is
// set beside a quota_exceeded too.
func (s *Service) Start(ctx context.Context, c Caller, b *Body) (Turn, error) {
	key, err := s.key(c, b)
	if err != nil {
		return Turn{}, err
	}
	claim := s.claim(c, b, key)
	res, err := s.engine.Claim(ctx, claim)
	if err == nil && res.Outcome == run.IDTaken && s.isRetry(ctx, &claim) {
		res, err = s.engine.Claim(ctx, claim)
	}
	if err != nil {
		return Turn{}, err
	}
	turn := Turn{Run: res.Run, Joined: res.Outcome == run.Joined, Rate: res.Rate}
	switch res.Outcome {
	case run.Claimed, run.Joined:
		return turn, nil
	case run.Conflict:
		return turn, fault.New(api.IdempotencyReused, "this idempotency key was used for another request")
	case run.NoSession:
		return turn, fault.New(api.SessionNotFound, "no such session")
	case run.IDTaken:
		return turn, fault.New(api.RequestIDInUse, "this request_id cannot be used")
	case run.Limited:
		s.limits.note(claim.Record)
		f := fault.New(api.QuotaExceeded, "too many requests; try again in %d s", seconds(res.Rate.RetryAfter))
		f.RetryAfter = res.Rate.RetryAfter
		return turn, f
	}
	return turn, fault.New(api.Internal, "internal error")
}

// isRetry tells whether a request_id is taken by the caller's own earlier run of
// the same request, which failed and may be tried again. An id names one run, so
// the retry gets a new one.
func (s *Service) isRetry(ctx context.Context, c *run.Claim) bool {
	rec, err := s.engine.Load(ctx, c.ID)
	if err != nil || rec.Principal != c.Principal || rec.Key != "" || !rec.State.Terminal() ||
		!bytes.Equal(rec.Fingerprint, c.Fingerprint) {
		return false
	}
	c.ID, c.OwnID = uuid.Must(uuid.NewV7()), false
	c.Message.RunID, c.Event.RunID = c.ID, c.ID
	return true
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// key settles the request's idempotency key: the header's or the body's, which
// must agree, else the request id of the caller's.
func (s *Service) key(c Caller, b *Body) (string, error) {
	if b.Key != "" && !ValidKey(b.Key) {
		return "", fault.New(api.InvalidIdempotencyKey, "an idempotency key has 1 to 255 visible ASCII characters")
	}
	key := c.Key
	if key == "" {
		key = b.Key
	} else if b.Key != "" && b.Key != key {
		return "", fault.New(api.IdempotencyMismatch, "header and body have different idempotency keys")
	}
	if key == "" && b.RequestID != uuid.Nil {
		key = b.RequestID.String()
	}
	if key == "" && s.cfg.RequireKey {
		return "", fault.New(api.IdempotencyKeyRequired, "this server requires an Idempotency-Key")
	}
	return key, nil
}

// ValidKey tells whether an idempotency key has 1 to api.MaxKey visible ASCII
// characters.
func ValidKey(k string) bool {
	if k == "" || len(k) > api.MaxKey {
		return false
	}
	for i := range len(k) {
		if k[i] < 0x21 || k[i] > 0x7e {
			return false
		}
	}
	return true
}

func (s *Service) claim(c Caller, b *Body, key string) run.Claim {
	id := b.RequestID
	if id == uuid.Nil {
		id = uuid.Must(uuid.NewV7())
	}
	cl := run.Claim{
		Record: run.Record{
			ID: id, Kind: Kind, Endpoint: c.Endpoint, Principal: c.Principal.Key(), Owner: c.Principal.Owner(),
			SessionID: b.SessionID, Key: key, Keyed: key != "", Fingerprint: Fingerprint(c.Endpoint, b),
			TraceID: c.TraceID, Request: b.Request.stored(),
		},
		Parsed: &b.Request, OwnID: b.RequestID != uuid.Nil, AnySession: c.Principal.Service(), HistoryBytes: s.cfg.HistoryTokens * bytesPerToken,
		GlobalLimit: s.cfg.AllPerMinute,
	}
	if !c.Principal.Service() {
		cl.Limit = s.cfg.PerMinute
	}
	if cl.SessionID == uuid.Nil {
		cl.SessionID, cl.NewSession = uuid.Must(uuid.NewV7()), true
	}
	cl.Message = record.Message{
		ID: uuid.Must(uuid.NewV7()), SessionID: cl.SessionID, RunID: id, Owner: cl.Owner,
		Role: "user", Content: b.Text, Model: b.Model, Status: record.StatusComplete, TraceID: c.TraceID,
	}
	if b.Content[0] == '[' {
		cl.Message.Parts = b.Content
	}
	cl.Event = newEvent("chat_started", cl.Record, object(nil).str("model", b.Model).bool("stream", b.Stream).
		bool("keyed", cl.Keyed).int("content_bytes", len(b.Text)).end())
	return cl
}

// Load returns a run that the caller may read. Another's is as unknown as one
// that does not exist.
func (s *Service) Load(ctx context.Context, p auth.Principal, id uuid.UUID) (run.Record, error) {
	rec, err := s.engine.Load(ctx, id)
	if errors.Is(err, run.ErrNotFound) || err == nil && (rec.Kind != Kind || !p.CanRead(rec.Principal)) {
		return run.Record{}, fault.New(api.StreamNotFound, "no such run")
	}
	if err != nil {
		return run.Record{}, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	return rec, nil
}

// Tail opens a reader of a run's log.
func (s *Service) Tail(ctx context.Context, rec run.Record, at run.Position) (*run.Reader, *Encoder, error) {
	enc := NewEncoder(rec, rec.State.Terminal())
	r, err := s.engine.Tail(ctx, rec.ID, at)
	switch {
	case err == nil:
		return r, enc, nil
	case errors.Is(err, run.ErrLogGone):
		return s.rebuilt(ctx, rec, at, enc)
	case errors.Is(err, run.ErrNotFound):
		return nil, nil, fault.New(api.StreamNotFound, "no such run")
	}
	return nil, nil, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
}

// rebuilt makes a log from a run's rows once its own is gone: the answer in as
// few deltas as fit, numbered anew.
func (s *Service) rebuilt(ctx context.Context, rec run.Record, at run.Position, enc *Encoder) (*run.Reader, *Encoder, error) {
	if at != (run.Position{}) {
		return nil, nil, fault.New(api.StreamExpired, "this stream's log is gone; read it from the start")
	}
	rec, err := s.engine.Load(ctx, rec.ID)
	if err != nil {
		return nil, nil, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	msg, err := s.engine.Answer(ctx, rec.ID)
	if err != nil && !errors.Is(err, run.ErrNotFound) {
		return nil, nil, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	log := run.NewLog(rec.ID)
	log.Begin(rec.Attempt)
	add := func(k run.Kind, data []byte) error {
		_, err := log.Append(k, data)
		return err
	}
	err = pieces(msg.Content, func(t string) error { return add(kindText, []byte(t)) })
	if err == nil && len(msg.ToolCalls) > 0 {
		err = toolPieces(msg.ToolCalls, func(data []byte) error { return add(kindTools, data) })
	}
	if err == nil {
		if len(rec.Error) > 0 {
			err = add(run.Error, compact(rec.Error))
		} else {
			err = add(run.Done, compact(rec.Result))
		}
	}
	if err != nil {
		return nil, nil, fault.Wrap(err, api.Internal, "internal error")
	}
	enc.renumber = true
	return log.Reader(run.Position{}), enc, nil
}

// compact undoes a database's way of printing JSON.
func compact(data json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return data
	}
	return b.Bytes()
}

// Cancel stops a run, wherever it runs, and returns it as it is after at most
// wait: over, if its holder could be reached by then.
func (s *Service) Cancel(ctx context.Context, rec run.Record, wait time.Duration) (run.Record, error) {
	if rec, err := s.engine.Cancel(ctx, rec.ID); err != nil || rec.State.Terminal() {
		if err != nil {
			err = fault.Wrap(err, api.StorageUnavailable, "the store is not available")
		}
		return rec, err
	}
	ctx, done := context.WithTimeout(ctx, wait)
	defer done()
	if r, err := s.engine.Tail(ctx, rec.ID, run.Position{}); err == nil {
		defer r.Close()
		over := false
		for frames := []run.Frame(nil); !over && ctx.Err() == nil; {
			if frames, over, _ = r.Take(frames[:0], 1<<20); !over && len(frames) == 0 {
				select {
				case <-r.Wake():
				case <-ctx.Done():
				}
			}
		}
	}
	rec, err := s.engine.Load(context.WithoutCancel(ctx), rec.ID)
	if err != nil {
		return rec, fault.Wrap(err, api.StorageUnavailable, "the store is not available")
	}
	return rec, nil
}
