package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/agentedge/agentedge/api"
	"github.com/agentedge/agentedge/client"
)

type chatCommand struct {
	Content string `arg:"" help:"What to say; - reads it from standard input."`
	URL     string `help:"The edge." default:"http://127.0.0.1:8787" env:"AGENTEDGE_URL"`
	Token   string `help:"A user's JWT or an API key." env:"AGENTEDGE_TOKEN"`
	Session string `help:"Go on with this session."`
	Model   string `help:"Ask for this model."`
	System  string `help:"System message (service role only)."`
	Key     string `help:"Idempotency key; made for this call if not given."`
	JSON    bool   `help:"Print one JSON object at the end instead of the text."`

	Patience time.Duration `help:"How long a broken or refused connection is tried again." default:"60s"`
}

func (chatCommand) Help() string {
	return `The connection is resumed by itself when it breaks: the answer printed is the one the
edge has stored, checked by length and digest. An interrupt cancels the run. When an
answer has to begin anew, standard error says so and the text follows from its start;
scripts are better served by --json.

Example:
  agentedge chat "What is a lease?" --session 0198c7a0-6d2e-7b64-9d3f-2f4f2f6f9b01`
}

// chatResult is what --json prints.
type chatResult struct {
	api.Done
	Resumes int `json:"resumes"`
}

func (c *chatCommand) Run(ctx context.Context, p Process) error {
	content := c.Content
	if content == "-" {
		data, err := io.ReadAll(p.Stdin)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		content = string(data)
	}
	key := c.Key
	if key == "" {
		key = uuid.Must(uuid.NewV7()).String()
	}
	edge := client.New(client.Config{BaseURL: c.URL, Token: c.Token, Patience: c.Patience, Retrying: c.retrying(p)})
	stream, err := edge.StreamChat(api.ChatRequest{
		SessionID: c.Session, Content: content, Model: c.Model, System: c.System, IdempotencyKey: key,
	})
	if err != nil {
		return &failure{exitUsage, err}
	}
	if err := c.print(ctx, p, stream); err != nil {
		return c.failed(ctx, p, edge, stream, err)
	}
	if c.JSON {
		text := stream.Text()
		result := chatResult{Done: *stream.Done(), Resumes: stream.Resumes()}
		result.Content = &text
		return printJSON(p.Stdout, result)
	}
	fmt.Fprintf(p.Stderr, "session %s\n", stream.Ready().SessionID)
	return nil
}

// retrying says once that an edge is waited for, so that nobody wonders.
func (c *chatCommand) retrying(p Process) func(error, time.Duration) {
	said := false
	return func(err error, pause time.Duration) {
		if said || pause < time.Second {
			return
		}
		said = true
		fmt.Fprintf(p.Stderr, "[%v; trying again for up to %v]\n", err, c.Patience)
	}
}

// print streams the deltas to the terminal. What a reset voids cannot be taken
// back there, so it says so.
func (c *chatCommand) print(ctx context.Context, p Process, stream *client.ChatStream) error {
	var last string
	for d, err := range stream.Deltas(ctx) {
		if err != nil {
			return err
		}
		if c.JSON {
			continue
		}
		if d.Reset && last != "" {
			fmt.Fprintf(p.Stderr, "\n[the answer broke off and begins anew: attempt %d]\n", d.Attempt)
		}
		if _, err := io.WriteString(p.Stdout, d.Delta); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
		if d.Delta != "" {
			last = d.Delta
		}
	}
	if !c.JSON && !strings.HasSuffix(last, "\n") {
		fmt.Fprintln(p.Stdout)
	}
	return nil
}

// failed cancels the run of an interrupted command and sorts errors by what a
// script can do about them.
func (c *chatCommand) failed(ctx context.Context, p Process, edge *client.Client, stream *client.ChatStream, err error) error {
	id := stream.Ready().RequestID
	if ctx.Err() != nil {
		if id != "" {
			stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			defer done()
			if cerr := edge.CancelChat(stopCtx, id); cerr != nil {
				fmt.Fprintln(p.Stderr, "agentedge: the run could not be cancelled:", cerr)
			}
		}
		return &failure{exitInterrupted, errors.New("interrupted")}
	}
	if id != "" {
		err = fmt.Errorf("%w\nhint: the run is %s", err, id)
	}
	var named *client.Error
	switch {
	case errors.Is(err, client.ErrTruncated) || errors.Is(err, client.ErrCorrupt):
		return &failure{exitUnreachable, err}
	case errors.As(err, &named):
		return &failure{exitFailed, err}
	}
	return &failure{exitUnreachable, fmt.Errorf("%w\nhint: is an edge running at %s?", err, c.URL)}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}
