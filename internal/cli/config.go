package cli

import (
	"github.com/agentedge/agentedge/internal/config"
)

type configCommand struct {
	JSON bool `help:"Print JSON."`
}

func (configCommand) Help() string {
	return `Secrets are redacted. With a faulty configuration every fault is named, and the exit code is 2.

Example:
  agentedge config --json`
}

func (c *configCommand) Run(p Process) error {
	cfg, err := load(p)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(p.Stdout, cfg.Entries()); err != nil {
			return err
		}
	} else if err := config.WriteTable(p.Stdout, cfg.Entries()); err != nil {
		return err
	}
	if err := cfg.Check(); err != nil {
		return &failure{exitUsage, err}
	}
	return nil
}
