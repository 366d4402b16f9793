package openai

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/internal/chat"
	"github.com/agentedge/agentedge/internal/fault"
	"github.com/agentedge/agentedge/internal/record"
)

const (
	maxAnswer = 32 << 20
	maxName   = 256 // of a model's name, in bytes
	maxFinish = 64
	// After its finish_reason a provider owes only its usage and [DONE].
	tailTimeout = 5 * time.Second
	// After [DONE] only the body's end is left. A connection whose end comes so
	// late is not worth waiting for, and is closed.
	endTimeout = 50 * time.Millisecond
	maxTail    = 64 << 10
)

// answering is one answer as it comes in.
type answering struct {
	stream bool   // asked for
	asked  string // the model
	emit   func(chat.Delta) error
	key    string
	watch  *watch

	emitFailed bool
	chose      bool // a choice was seen
	tools      bool // a tool call was seen
	model      string
	finish     string
	usage      *record.Usage
	like       pattern
}

// read reads the answer in whichever form it comes: some servers answer a request
// for a stream with plain JSON, some send a stream under the name of JSON.
func (c *Client) read(a *answering, resp *http.Response) (chat.Answer, error) {
	r := c.readers.Get().(*reader)
	r.reset(watched{resp.Body, a.watch})
	defer func() {
		if cap(r.buf) <= keepBuffer && cap(r.joined) <= keepBuffer {
			r.reset(nil)
			c.readers.Put(r)
		}
	}()
	read, err := a.form(r)
	if err == nil {
		err = read(r)
	}
	if err != nil {
		return chat.Answer{}, a.mark(err, resp.StatusCode)
	}
	return a.answer(), nil
}

// form looks at an answer's first byte and returns how to read it.
func (a *answering) form(r *reader) (read func(*reader) error, err error) {
	first, err := r.first()
	switch {
	case err == io.EOF:
		return nil, fault.New(api.UpstreamBadResponse, "the provider's answer is empty")
	case err != nil:
		return nil, broken(err)
	case first == '{' || first == '[':
		return a.plain, nil
	case first == '<':
		return nil, fault.New(api.UpstreamBadResponse, "the provider answered with a web page")
	case !a.stream:
		return nil, fault.New(api.UpstreamBadResponse, "the provider's answer is not JSON")
	}
	return a.events, nil
}

// mark notes the status under which a failure came.
func (a *answering) mark(err error, status int) error {
	var f *fault.Error
	if !a.emitFailed && errors.As(err, &f) {
		f.UpstreamStatus = status
	}
	return err
}

// events reads events until the answer's end.
func (a *answering) events(r *reader) error {
	for events := 0; ; events++ {
		a.watch.useful.Store(a.watch.now())
		e, err := r.next()
		switch {
		case err != nil:
			return a.ended(r, events, err)
		case e.done && !a.chose:
			return fault.New(api.UpstreamBadResponse, "the provider's stream held no answer")
		case e.done:
			a.drain(r)
			return nil
		case e.failed:
			return reported(e.data, a.key)
		}
		if err := a.chunk(e); err != nil {
			return err
		}
	}
}

func (a *answering) chunk(e event) error {
	if content, ok := a.like.match(e.data); ok && !e.last {
		return a.tell(chat.Delta{Text: string(content)})
	}
	c, err := decodeChunk(e.data, deltaMember)
	switch {
	case err != nil && e.last && a.finish != "":
		return nil // whatever it was, the answer is whole
	case err != nil && e.last:
		return fault.Wrap(err, api.UpstreamTruncated, "the provider's stream ended in the middle of a chunk")
	case err != nil:
		return fault.Wrap(err, api.UpstreamBadResponse, "the provider sent a chunk that is not valid")
	case len(c.failed) > 0:
		return reported(c.failed, a.key)
	case !c.choice.present && string(c.object.raw) == "error":
		return reported(e.data, a.key)
	}
	a.like.learn(e.data, &c)
	if err := a.take(c); err != nil {
		return err
	}
	if a.finish != "" {
		a.watch.hurry(tailTimeout)
	}
	return nil
}

// take notes what a chunk says and emits what it adds.
func (a *answering) take(c chunk) error {
	if a.model == "" && len(c.model.raw) <= maxName {
		a.model = c.model.text()
	}
	if c.usage != nil {
		a.usage = c.usage
	}
	if len(c.choice.finish) > maxFinish {
		return fault.New(api.UpstreamBadResponse, "the provider's finish_reason is too long")
	}
	if c.choice.finish != "" {
		a.finish = c.choice.finish
	}
	a.chose = a.chose || c.choice.present
	d := c.choice.delta
	a.tools = a.tools || d.ToolCalls != nil
	if d.Text == "" && d.Reasoning == "" && d.ToolCalls == nil {
		return nil
	}
	return a.tell(d)
}

func (a *answering) tell(d chat.Delta) error {
	if err := a.emit(d); err != nil {
		a.emitFailed = true
		return err
	}
	return nil
}

// ended judges a stream that stopped without [DONE].
func (a *answering) ended(r *reader, events int, err error) error {
	switch {
	case errors.Is(err, errLineTooLong):
		return fault.Wrap(err, api.UpstreamBadResponse, "the provider sent a line that is too long")
	case a.finish != "":
		return nil
	case err != io.EOF:
		return broken(err)
	case events == 0 && !r.stream:
		return fault.New(api.UpstreamBadResponse, "the provider's answer is not an event stream")
	default:
		return fault.New(api.UpstreamTruncated, "the provider's stream ended before its answer did")
	}
}

// drain reads up to the body's end, so that the connection can serve another call.
func (a *answering) drain(r *reader) {
	a.watch.within(endTimeout)
	_, _ = io.Copy(io.Discard, io.LimitReader(r.rest(), maxTail))
}

// plain reads one whole chat.completion.
func (a *answering) plain(r *reader) error {
	body, err := io.ReadAll(io.LimitReader(r.rest(), maxAnswer+1))
	switch {
	case err != nil:
		return broken(err)
	case len(body) > maxAnswer:
		return fault.New(api.UpstreamBadResponse, "the provider's answer is too large")
	}
	c, err := decodeChunk(body, messageMember)
	switch {
	case err == errCut:
		return fault.Wrap(err, api.UpstreamTruncated, "the provider's answer ends too early")
	case err != nil:
		return fault.Wrap(err, api.UpstreamBadResponse, "the provider's answer is not a chat completion")
	case len(c.failed) > 0:
		return reported(c.failed, a.key)
	case !c.choice.answer && string(c.object.raw) == "error":
		return reported(body, a.key)
	case !c.choice.answer:
		return fault.New(api.UpstreamBadResponse, "the provider's answer is not a chat completion")
	}
	return a.take(c)
}

// answer fills in what a provider may leave out: it ended its answer properly.
func (a *answering) answer() chat.Answer {
	finish, model := a.finish, a.model
	switch {
	case finish == "" && a.tools:
		finish = "tool_calls"
	case finish == "":
		finish = "stop"
	}
	if model == "" {
		model = a.asked
	}
	return chat.Answer{Model: model, FinishReason: finish, Usage: a.usage}
}

// watched is a body whose reader is the one that waits for the provider.
type watched struct {
	body  io.Reader
	watch *watch
}

func (b watched) Read(p []byte) (int, error) {
	b.watch.wait()
	n, err := b.body.Read(p)
	b.watch.got()
	return n, err
}

// cause returns why a call failed: because its caller gave up, because the watch
// ended it, or else err.
func cause(ctx, request context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case request != nil && context.Cause(request) == errSilent:
		return silence(err)
	default:
		return err
	}
}
