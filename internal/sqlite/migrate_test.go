package sqlite

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestMigrate(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "edge.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	all, err := steps()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d migrations, %v", len(all), err)
	}
	status := func(want bool) {
		t.Helper()
		list, err := s.Status(t.Context())
		if err != nil || len(list) != len(all) {
			t.Fatalf("status %+v, %v", list, err)
		}
		for i, m := range list {
			if m.Applied != want || m.Version != all[i].version || m.Name != all[i].name {
				t.Errorf("status %+v, want applied %v", m, want)
			}
		}
	}
	status(false)
	if err := s.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), all[0].version) {
		t.Errorf("verify of an empty file: %v, want the missing migration", err)
	}
	applied, err := s.Migrate(t.Context())
	if err != nil || len(applied) != len(all) {
		t.Fatalf("applied %+v, %v", applied, err)
	}
	status(true)
	if err := s.Verify(t.Context()); err != nil {
		t.Errorf("verify: %v", err)
	}
	if applied, err = s.Migrate(t.Context()); err != nil || len(applied) != 0 {
		t.Errorf("applied again: %+v, %v", applied, err)
	}
}

func TestMigrationNames(t *testing.T) {
	all, err := steps()
	if err != nil {
		t.Fatal(err)
	}
	for i, st := range all {
		if !regexp.MustCompile(`^\d{14}$`).MatchString(st.version) || !regexp.MustCompile(`^[a-z_]+$`).MatchString(st.name) {
			t.Errorf("migration %s_%s", st.version, st.name)
		}
		if i > 0 && st.version <= all[i-1].version {
			t.Errorf("migration %s after %s", st.version, all[i-1].version)
		}
	}
}

func TestNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.db")
	s := opened(t, path)
	s.sql(t, `insert into schema_migrations (version, name, applied_at) values ('29990101000000', 'from_the_future', 0)`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Path: path})
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "29990101000000_from_the_future") {
		t.Errorf("a newer file: %v", err)
	}
}

func TestVerifyNamesDrift(t *testing.T) {
	for _, tt := range []struct{ sql, want string }{
		{`drop table api_keys`, "table api_keys is missing"},
		{`drop index runs_key_idx`, "index runs_key_idx is missing"},
		{`alter table sessions drop column title`, "table sessions lacks column title text"},
		{`alter table runs rename column lease_node to host`, "table runs lacks column lease_node text, has column host text"},
		{`alter table runs add column extra text`, "table runs has column extra text"},
		{`drop index runs_lease_idx; create index runs_lease_idx on runs (lease_node)`, "index runs_lease_idx is defined otherwise"},
		{`drop index runs_lease_idx; create index runs_lease_idx on messages (seq)`, "index runs_lease_idx is on table messages, not runs"},
		{`create index mine on runs (lease_node)`, "index mine on table runs is not ours"},
		{`create trigger t after insert on runs begin delete from runs; end`, "trigger t on table runs is not ours"},
		{`drop table hmac_nonces; create table hmac_nonces (key_id text not null, nonce text not null, expires_at integer not null) strict`,
			"table hmac_nonces is defined otherwise"},
	} {
		s := fresh(t)
		s.sql(t, tt.sql)
		if err := s.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.sql, err, tt.want)
		}
	}
	s := fresh(t)
	s.sql(t, `create table users_own (a); create index users_index on users_own (a)`)
	if err := s.Verify(t.Context()); err != nil {
		t.Errorf("a table of the user's own: %v", err)
	}
}
