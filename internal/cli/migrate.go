package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/agentedge/agentedge/internal/app"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply the migrations that the store lacks."`
	Status migrateStatus `cmd:"" help:"List the migrations and whether the store has them."`
	Verify migrateVerify `cmd:"" help:"Compare the store's schema with the expected one; a difference is an error that names it."`
}

type migrateUp struct {
	JSON bool `help:"Print JSON."`
}

func (migrateUp) Help() string { return "Example:\n  DATABASE_URL=postgres://… agentedge migrate up" }

func (c *migrateUp) Run(ctx context.Context, p Process) error {
	cfg, err := load(p)
	if err != nil {
		return err
	}
	applied, err := app.MigrateUp(ctx, cfg)
	if c.JSON {
		if applied == nil {
			applied = []string{}
		}
		return errors.Join(err, printJSON(p.Stdout, map[string]any{"applied": applied}))
	}
	for _, name := range applied {
		fmt.Fprintln(p.Stdout, "applied", name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(p.Stdout, "the schema is up to date")
	}
	return err
}

type migrateStatus struct {
	JSON bool `help:"Print JSON."`
}

func (migrateStatus) Help() string { return "Example:\n  agentedge migrate status --json" }

func (c *migrateStatus) Run(ctx context.Context, p Process) error {
	cfg, err := load(p)
	if err != nil {
		return err
	}
	list, err := app.MigrateStatus(ctx, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.Stdout, list)
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	for _, m := range list {
		state := "pending"
		switch {
		case !m.Known:
			state = "applied by a newer version"
		case m.Applied:
			state = "applied"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.Version, m.Name, state)
	}
	return w.Flush()
}

type migrateVerify struct {
	JSON bool `help:"Print JSON."`
}

func (migrateVerify) Help() string { return "Example:\n  agentedge migrate verify" }

func (c *migrateVerify) Run(ctx context.Context, p Process) error {
	cfg, err := load(p)
	if err != nil {
		return err
	}
	err = app.MigrateVerify(ctx, cfg)
	if c.JSON {
		out := map[string]any{"ok": err == nil}
		if err != nil {
			out["error"] = err.Error()
		}
		return errors.Join(err, printJSON(p.Stdout, out))
	}
	if err == nil {
		fmt.Fprintln(p.Stdout, "the schema is as expected")
	}
	return err
}
