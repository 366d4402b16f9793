package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// cluster is the PostgreSQL server that the driver measures against, and the
// database it made there.
type cluster struct {
	admin      string // DSN of the server
	dsn        string // DSN of the benchmark's own database
	name       string
	postmaster int
	dir        string // of a server that the driver started; empty: somebody else's
}

// openCluster takes the server of TEST_DATABASE_URL, or starts one by the script.
func openCluster(ctx context.Context, url, dir string) (*cluster, error) {
	c := &cluster{admin: url, name: fmt.Sprintf("agentedge_bench_%d", os.Getpid())}
	if url == "" {
		c.dir = filepath.Join(dir, "postgres")
		out, err := runScript(ctx, "start", c.dir)
		if err != nil {
			return nil, err
		}
		c.admin = out
	}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func runScript(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "scripts/postgres.sh", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/postgres.sh %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1]), nil
}

// create makes the database and finds the server's main process, whose children
// are what PostgreSQL's CPU time is summed over.
func (c *cluster) create(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.admin)
	if err != nil {
		return fmt.Errorf("connect to postgresql: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create database "+c.name); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	var backend int
	if err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&backend); err != nil {
		return fmt.Errorf("backend pid: %w", err)
	}
	stat, err := readStat(backend)
	if err != nil {
		return fmt.Errorf("postgresql is not on this machine: %w", err)
	}
	c.postmaster = stat.Parent
	c.dsn, err = withDatabase(c.admin, c.name)
	return err
}

// withDatabase names another database in a DSN of either form.
func withDatabase(dsn, name string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " dbname=" + name, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("parse dsn: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}

// close drops the database, and stops a server that the driver started.
func (c *cluster) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if c.dir != "" {
		_, err := runScript(ctx, "stop", c.dir)
		return err
	}
	conn, err := pgx.Connect(ctx, c.admin)
	if err != nil {
		return fmt.Errorf("connect to drop the database: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "drop database if exists "+c.name+" with (force)"); err != nil {
		return fmt.Errorf("drop database: %w", err)
	}
	return nil
}

// claimRows is about what one claim writes: four rows of a few hundred bytes in
// one transaction.
const claimRows = 4

// probeCommit times what one claim's commit costs on a store without anything of
// agentedge: a transaction of a few rows in a table of the probe's own, at an
// easy rate, in milliseconds.
func probeCommit(ctx context.Context, driver, dsn string, n int) ([]float64, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("commit probe: %w", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "create table if not exists bench_probe (id text primary key, body text)"); err != nil {
		return nil, fmt.Errorf("commit probe: %w", err)
	}
	insert, err := db.PrepareContext(ctx, "insert into bench_probe values "+placeholders(driver))
	if err != nil {
		return nil, fmt.Errorf("commit probe: %w", err)
	}
	defer insert.Close()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	times := make([]float64, 0, n)
	run := time.Now().UnixNano()
	for i := range n {
		args := make([]any, 0, 2*claimRows)
		for row := range claimRows {
			args = append(args, fmt.Sprintf("%d-%d-%d", run, i, row), filler[:300])
		}
		began := time.Now()
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return nil, fmt.Errorf("commit probe: %w", err)
		}
		times = append(times, millis(time.Since(began)))
		<-ticker.C
	}
	return times, nil
}

// placeholders of claimRows rows with two columns.
func placeholders(driver string) string {
	var rows []string
	for row := range claimRows {
		if driver == "pgx" {
			rows = append(rows, fmt.Sprintf("($%d, $%d)", 2*row+1, 2*row+2))
		} else {
			rows = append(rows, "(?, ?)")
		}
	}
	return strings.Join(rows, ", ")
}

// sqliteDSN opens a file the way a store must that promises durable commits.
func sqliteDSN(path string) string {
	return "file:" + path + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}
