package chat

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
	"github.com/agentedge/agentedge/internal/run"
)

// Policies that configuration names.
const (
	Auto     = "auto"     // CHAT_ON_DISCONNECT: a keyed run goes on, a key-less one is cancelled
	Continue = "continue" // every run goes on
	Cancel   = "cancel"   // no run goes on

	Restart = "restart" // MIDSTREAM_RECOVERY: a broken answer is begun anew in-band
	Fail    = "fail"    // a broken answer ends its run
)

// TurnConfig says how turns are worked on.
type TurnConfig struct {
	HistoryTokens int
	OnDisconnect  string // Auto, Continue or Cancel; empty: Auto
	Recovery      string // Restart or Fail; empty: Restart with a key, Fail without
	Logger        *slog.Logger
}

// Turns is the run.Handler of chats.
type Turns struct {
	cfg   TurnConfig
	route *Route
}

// NewTurns makes the handler. route asks the providers.
func NewTurns(cfg TurnConfig, route *Route) *Turns {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Turns{cfg: cfg, route: route}
}

// Keep tells whether a chat goes on when nobody reads it.
func (t *Turns) Keep(r run.Record) bool {
	switch t.cfg.OnDisconnect {
	case Continue:
		return true
	case Cancel:
		return false
	}
	return r.Keyed
}

// turn is one run being worked on by this node.
type turn struct {
	*Turns
	job     *run.Job
	req     Request
	started time.Time
	first   time.Duration // from started to the first delta, 0: none yet
	emitted bool          // the current attempt has a frame
	asked   int           // provider calls
	last    string        // the provider asked last
	answer  RouteAnswer
	events  []record.Event
	prompt  []Message
}

// Work asks the providers until there is an answer, a failure that is final, or
// an end from outside.
func (t *Turns) Work(ctx context.Context, job *run.Job) *run.Ending {
	w := t.turn(job)
	if err := w.read(); err != nil {
		return w.failed(fault.Wrap(err, api.Internal, "the stored request cannot be read"))
	}
	w.prompt = w.messages(job.History)
	for {
		w.emitted = false
		err := w.ask(ctx)
		if end := w.judge(ctx, err); end != nil {
			return end
		}
	}
}

// ask lets the providers answer, the one last that broke off before.
func (w *turn) ask(ctx context.Context) (err error) {
	w.answer, err = w.route.Chat(ctx, w.call(), w.emit, w.note, w.last)
	w.asked += w.answer.Calls
	if w.answer.Provider != "" {
		w.last = w.answer.Provider
	}
	return err
}

// judge turns what came of asking into the run's ending; nil after an answer that
// broke off and is begun anew.
func (w *turn) judge(ctx context.Context, err error) *run.Ending {
	if err == nil {
		return w.completed(w.answer)
	}
	if ctx.Err() != nil {
		return w.stopped(context.Cause(ctx))
	}
	f := asFault(err)
	if !w.emitted || !f.Retryable || !w.restarts() {
		return w.failed(f)
	}
	switch err := w.job.Restart(ctx); {
	case ctx.Err() != nil:
		return w.stopped(context.Cause(ctx))
	case errors.Is(err, run.ErrTried):
		return w.failed(f)
	case err != nil:
		return w.failed(fault.Wrap(err, api.StorageUnavailable, "the store is not available"))
	}
	w.retried(f)
	return nil
}

func (t *Turns) turn(job *run.Job) *turn {
	return &turn{Turns: t, job: job, started: time.Now()}
}

// read takes the request from the claim that began this run here, or from the
// store.
func (w *turn) read() error {
	if parsed, ok := w.job.Parsed.(*Request); ok {
		w.req = *parsed
		return nil
	}
	w.req.Content = contentOf(w.job.Question)
	return json.Unmarshal(w.job.Record.Request, &w.req)
}

// restarts tells whether an answer that broke off is begun anew in-band.
func (w *turn) restarts() bool {
	switch w.cfg.Recovery {
	case Restart:
		return true
	case Fail:
		return false
	}
	return w.job.Record.Keyed
}

func (w *turn) call() Call {
	return Call{Model: w.req.Model, Messages: w.prompt, Params: w.req.Params, Stream: w.req.Stream}
}

// asFault names what is none of the provider's failures: an answer that is too
// long for a log.
func asFault(err error) *fault.Error {
	if errors.Is(err, run.ErrLogFull) {
		f := fault.Wrap(err, api.UpstreamBadResponse, "the provider's answer is too long")
		f.Retryable = false
		return f
	}
	return fault.From(err)
}

// emit appends what a provider said to the log, in frames of a bounded size.
func (w *turn) emit(d Delta) error {
	if w.first == 0 {
		w.first = max(time.Since(w.started), 1)
	}
	if d.Reasoning != "" {
		if err := pieces(d.Reasoning, func(s string) error { return w.append(kindReasoning, stringAsBytes(s)) }); err != nil {
			return err
		}
	}
	if d.Text != "" {
		if err := pieces(d.Text, func(s string) error { return w.append(kindText, stringAsBytes(s)) }); err != nil {
			return err
		}
	}
	if len(d.ToolCalls) > 0 {
		err := toolPieces(d.ToolCalls, func(data []byte) error { return w.append(kindTools, data) })
		var syntax *json.UnmarshalTypeError
		if errors.As(err, &syntax) || errors.Is(err, errCallName) {
			return fault.Wrap(err, api.UpstreamBadResponse, "the provider sent tool calls of an unknown shape")
		}
		return err
	}
	return nil
}

func (w *turn) append(k run.Kind, data []byte) error {
	w.emitted = true
	return w.job.Append(k, data)
}

// note records a provider's failure that the caller does not see.
func (w *turn) note(r Retry) {
	w.cfg.Logger.Info("provider retried", "request_id", w.job.Record.ID, "trace_id", w.job.Record.TraceID,
		"provider", r.Provider, "code", r.Code, "upstream_status", r.UpstreamStatus, "next", r.Next, "wait", r.Wait)
	w.event("provider_retry", object(nil).str("provider", r.Provider).str("code", string(r.Code)).
		int("upstream_status", r.UpstreamStatus).str("next", r.Next).int("wait_ms", ms(r.Wait)).int("call", r.Call).end())
}

// retried records an answer that broke off and was begun anew.
func (w *turn) retried(f *fault.Error) {
	w.event("provider_retry", object(nil).str("provider", w.last).str("code", string(f.Code)).
		int("upstream_status", f.UpstreamStatus).int("attempt", w.job.Record.Attempt).end())
}
