package postgres_test

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agentedge/agentedge/internal/pgtest"
	"github.com/agentedge/agentedge/internal/postgres"
	"github.com/agentedge/agentedge/supabase"
)

var update = flag.Bool("update", false, "write schema.snapshot anew")

// TestSnapshot keeps the embedded snapshot what the migrations make.
func TestSnapshot(t *testing.T) {
	got, err := postgres.Snapshot(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.snapshot", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("schema.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("schema.snapshot is not what the migrations make: go test ./internal/postgres -run TestSnapshot -update")
	}
}

// TestMigrate lets five nodes start at once on an empty server, in two databases
// whose migrations want the same roles.
func TestMigrate(t *testing.T) {
	server := pgtest.Cluster(t)
	execute(t, server.URL, "create database other")
	urls := []string{server.URL, strings.Replace(server.URL, "/postgres?", "/other?", 1)}
	const nodes = 5
	applied, errs := make([][]string, 2*nodes), make([]error, 2*nodes)
	var wg sync.WaitGroup
	for i := range 2 * nodes {
		wg.Go(func() { applied[i], errs[i] = postgres.Migrate(t.Context(), urls[i%2]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i, url := range urls {
		var all []string
		for n := i; n < 2*nodes; n += 2 {
			all = append(all, applied[n]...)
		}
		slices.Sort(all)
		history := query[string](t, url, "select version from supabase_migrations.schema_migrations order by version")
		if len(history) == 0 || !slices.Equal(all, history) {
			t.Errorf("applied %v, want each of %v once", all, history)
		}
		if err := postgres.Verify(t.Context(), url); err != nil {
			t.Error(err)
		}
	}
	if again, err := postgres.Migrate(t.Context(), urls[0]); err != nil || len(again) > 0 {
		t.Errorf("migrating again: %v, %v", again, err)
	}
}

// TestHistory: the history reads as Supabase's CLI writes it.
func TestHistory(t *testing.T) {
	url := pgtest.Database(t)
	got := query[string](t, url, "select version || '_' || name || '.sql' from supabase_migrations.schema_migrations order by version")
	files, err := supabase.Migrations.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range files {
		want = append(want, f.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("history %v, want %v", got, want)
	}
	first, err := supabase.Migrations.ReadFile("migrations/" + want[0])
	if err != nil {
		t.Fatal(err)
	}
	statements := query[string](t, url, "select array_to_string(statements, ';') from supabase_migrations.schema_migrations order by version limit 1")
	if statements[0] != string(first) {
		t.Error("the history does not hold the file")
	}
}

// TestStub runs the stub where everything is there already.
func TestStub(t *testing.T) {
	url := pgtest.Database(t)
	execute(t, url, "alter function auth.jwt() rename to kept")
	execute(t, url, "create function auth.jwt() returns jsonb language sql as $$ select '{\"sub\":\"mine\"}'::jsonb $$")
	execute(t, url, supabase.Stub)
	if got := query[string](t, url, "select auth.jwt() ->> 'sub'"); got[0] != "mine" {
		t.Errorf("the stub replaced auth.jwt(): %q", got[0])
	}
	if err := postgres.Verify(t.Context(), url); err != nil {
		t.Error(err)
	}
}

func TestStubRefusesSupabase(t *testing.T) {
	server := pgtest.Cluster(t)
	execute(t, server.URL, "create role supabase_admin")
	beside(t, server.URL, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(t.Context(), supabase.Stub); err == nil || !strings.Contains(err.Error(), "Supabase") {
			t.Errorf("the stub on Supabase: %v", err)
		}
		return nil
	})
	// The migrations do not run it there, and find what Supabase brings missing.
	if _, err := postgres.Migrate(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "service_role") {
		t.Errorf("migrating a Supabase without its roles: %v", err)
	}
	if versions := query[string](t, server.URL, "select version from supabase_migrations.schema_migrations"); len(versions) > 0 {
		t.Errorf("a migration that failed is in the history: %v", versions)
	}
}

func TestVerifyNamesDrift(t *testing.T) {
	url := pgtest.Database(t)
	changes := []struct{ change, object string }{
		{"alter table runs alter column tries drop not null", "column runs.tries is"},
		{"alter table runs alter column attempt set default 2", "column runs.attempt is"},
		{"alter table runs alter column last_seq type bigint", "column runs.last_seq is"},
		{"alter table messages drop column provider", "column messages.provider is missing"},
		{"alter table sessions add column colour text", "column sessions.colour should not"},
		{"drop index runs_key_idx", "index runs_key_idx is missing"},
		{"alter table run_segments drop constraint run_segments_pkey", "constraint run_segments.run_segments_pkey is missing"},
		{"drop policy messages_read on messages", "policy messages.messages_read is missing"},
		{"alter policy sessions_read on sessions using (true)", "policy sessions.sessions_read is"},
		{"create policy open on runs for select to anon using (true)", "policy runs.open should not"},
		{"alter table messages disable row level security", "table messages is"},
		{"grant select on run_segments to authenticated", "grant run_segments to authenticated should not"},
		{"grant select (request) on runs to authenticated", "grant runs.request to authenticated should not"},
		{"revoke insert on runs from service_role", "grant runs to service_role is"},
		{"grant usage on schema agentedge to anon", "grant schema agentedge to anon should not"},
		{"grant execute on function agentedge.session_turns_v1 to anon", "grant function agentedge.session_turns_v1(session uuid, max_bytes integer) to anon should not"},
		{"drop trigger runs_delete_log on runs", "trigger runs.runs_delete_log is missing"},
		{"alter table sessions disable trigger user", "trigger sessions.sessions_delete_turns is"},
		{"drop function agentedge.renew_runs_v1", "function agentedge.renew_runs_v1"},
		{"alter function agentedge.read_logs_v1 security definer", "function agentedge.read_logs_v1"},
		{"alter function agentedge.append_segments_v1 stable", "function agentedge.append_segments_v1"},
		{"drop table api_keys", "table api_keys is missing"},
	}
	for _, c := range changes {
		execute(t, url, c.change)
	}
	err := postgres.Verify(t.Context(), url)
	var drift *postgres.DriftError
	if !errors.As(err, &drift) {
		t.Fatalf("verify: %v", err)
	}
	for _, c := range changes {
		if !slices.ContainsFunc(drift.Drift, func(line string) bool { return strings.HasPrefix(line, c.object) }) {
			t.Errorf("after %q no line begins with %q:\n%v", c.change, c.object, err)
		}
	}
}

// TestVerifyLeavesTheirs: tables, indexes and roles of the user's own are no
// drift, and neither is what a newer binary added.
func TestVerifyLeavesTheirs(t *testing.T) {
	url := pgtest.Database(t)
	execute(t, url, "create table todos (id int)")
	execute(t, url, "create index runs_mine on runs (trace_id)")
	if err := postgres.Verify(t.Context(), url); err != nil {
		t.Error(err)
	}
	execute(t, url, "alter table runs add column colour text")
	execute(t, url, "insert into supabase_migrations.schema_migrations (version) values ('20200101000000')")
	if err := postgres.Verify(t.Context(), url); err == nil {
		t.Error("an older migration of the user's excuses drift")
	}
	execute(t, url, "insert into supabase_migrations.schema_migrations (version) values ('99990101000000')")
	if err := postgres.Verify(t.Context(), url); err != nil {
		t.Errorf("with a newer binary's migration: %v", err)
	}
	if _, unknown, err := postgres.Status(t.Context(), url); err != nil || !slices.Equal(unknown, []string{"20200101000000", "99990101000000"}) {
		t.Errorf("unknown %v, %v", unknown, err)
	}
	if err := open(t, url).CheckSchema(t.Context()); err != nil {
		t.Errorf("a newer schema is refused: %v", err)
	}
}

func TestSchemaBehind(t *testing.T) {
	url := pgtest.Empty(t)
	s := open(t, url)
	behind := func() {
		t.Helper()
		for _, err := range []error{s.CheckSchema(t.Context()), postgres.Verify(t.Context(), url)} {
			if err == nil || !strings.Contains(err.Error(), "agentedge migrate up") {
				t.Errorf("an old schema: %v; want the command named", err)
			}
		}
	}
	behind()
	known, _, err := postgres.Status(t.Context(), url)
	if err != nil || len(known) == 0 || slices.ContainsFunc(known, func(m postgres.Migration) bool { return m.Applied }) {
		t.Errorf("status of an empty database: %v, %v", known, err)
	}
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	execute(t, url, "delete from supabase_migrations.schema_migrations where version = $1", known[len(known)-1].Version)
	behind()
}

// TestRealtime: where realtime.send is real, events are broadcast, and only then.
func TestRealtime(t *testing.T) {
	plain := pgtest.Database(t)
	if n := query[int](t, plain, "select count(*) from pg_trigger where tgname = 'bus_events_broadcast'"); n[0] != 0 {
		t.Error("plain PostgreSQL broadcasts to nobody")
	}
	url := pgtest.Empty(t)
	execute(t, url, `create schema realtime`)
	execute(t, url, `create table realtime.messages (topic text, extension text, payload jsonb, event text, private boolean)`)
	execute(t, url, `create function realtime.topic() returns text language sql as $$ select current_setting('realtime.topic', true) $$`)
	execute(t, url, `create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
		language sql as $$ insert into realtime.messages values (topic, 'broadcast', payload, event, private) $$`)
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Verify(t.Context(), url); err != nil {
		t.Error(err)
	}
	s := open(t, url)
	c := chat(userA)
	if _, err := s.ClaimMany(t.Context(), batchOf(c)); err != nil {
		t.Fatal(err)
	}
	sent := query[string](t, url, "select topic || ' ' || event || ' ' || private || ' ' || (payload ->> 'request_id') from realtime.messages")
	if want := "trace:" + c.TraceID + " chat_started true " + c.ID.String(); len(sent) != 1 || sent[0] != want {
		t.Errorf("sent %q, want %q", sent, want)
	}
	if n := query[int](t, url, "select count(*) from pg_policies where schemaname = 'realtime' and policyname = 'agentedge_traces'"); n[0] != 1 {
		t.Error("users may not listen to their traces")
	}
	if n := query[int](t, url, "select count(*) from pg_publication_tables where pubname = 'supabase_realtime' and tablename = 'bus_events'"); n[0] != 1 {
		t.Error("bus_events is not published")
	}
}

func TestDurability(t *testing.T) {
	server := pgtest.Cluster(t)
	s := open(t, server.URL)
	if err := s.CheckDurability(t.Context()); err != nil {
		t.Error(err)
	}
	// The store's own connections wait for the disk whatever the server's default.
	execute(t, server.URL, "alter system set synchronous_commit = off")
	for _, name := range []string{"fsync", "full_page_writes"} {
		execute(t, server.URL, "alter system set "+name+" = off")
		server.Stop(t, "fast")
		server.Start(t)
		if err := open(t, server.URL).CheckDurability(t.Context()); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "synchronous") {
			t.Errorf("%s off: %v", name, err)
		}
	}
	if err := open(t, server.URL+pooled).CheckDurability(t.Context()); err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("a pooler's connections: %v", err)
	}
}
