package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// snapshot is the schema that the migrations make, as inventorySQL tells it: one
// object a line. The package's tests keep it up to date (go test -update).
//
//go:embed schema.snapshot
var snapshot string

// inventorySQL lists the tables $1 (null: all of public) with all that hangs on
// them, and the schema agentedge. What only a real Realtime brings about is left
// out, and so are grants to roles that are the user's own.
const inventorySQL = `
with tables as (
	select c.oid, c.relname::text as name, c.relacl, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.reloptions
	from pg_class c
	where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
		and ($1::text[] is null or c.relname = any ($1))
), roles as (
	select 0::oid as oid, 'public' as name
	union all select oid, rolname::text from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
), functions as (
	select p.*, n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name
	from pg_proc p join pg_namespace n on n.oid = p.pronamespace
	where n.nspname = 'agentedge'
), objects (kind, name, definition) as (
	select 'table', t.name, concat_ws(' ',
		case when t.relrowsecurity then 'rls' else 'no rls' end, case when t.relforcerowsecurity then 'forced' end, t.reloptions::text)
	from tables t
	union all
	select 'column', t.name || '.' || a.attname, concat_ws(' ',
		format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
		'default ' || pg_get_expr(d.adbin, d.adrelid), 'identity ' || nullif(a.attidentity::text, ''), 'storage ' || a.attstorage::text)
	from tables t
	join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
	left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
	union all
	select 'index', i.relname::text, pg_get_indexdef(x.indexrelid) || case when x.indisvalid then '' else ' invalid' end
	from tables t join pg_index x on x.indrelid = t.oid join pg_class i on i.oid = x.indexrelid
	union all
	select 'constraint', t.name || '.' || c.conname, pg_get_constraintdef(c.oid)
	from tables t join pg_constraint c on c.conrelid = t.oid and c.contype <> 'n'
	union all
	select 'policy', t.name || '.' || p.polname, concat_ws(' ',
		case when p.polpermissive then 'permissive' else 'restrictive' end, p.polcmd::text,
		'to ' || (select string_agg(r.name, ', ' order by r.name) from roles r where r.oid = any (p.polroles)),
		'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
	from tables t join pg_policy p on p.polrelid = t.oid
	union all
	select 'trigger', t.name || '.' || g.tgname, pg_get_triggerdef(g.oid) || case when g.tgenabled = 'O' then '' else ' disabled' end
	from tables t join pg_trigger g on g.tgrelid = t.oid and not g.tgisinternal and g.tgname <> 'bus_events_broadcast'
	union all
	select 'grant', t.name || ' to ' || r.name, string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)
	from tables t cross join aclexplode(t.relacl) a join roles r on r.oid = a.grantee
	where a.grantee <> t.relowner
	group by t.name, r.name
	union all
	select 'grant', t.name || '.' || c.attname || ' to ' || r.name, string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)
	from tables t join pg_attribute c on c.attrelid = t.oid cross join aclexplode(c.attacl) a join roles r on r.oid = a.grantee
	group by t.name, c.attname, r.name
	union all
	select 'function', f.name, concat_ws(' ', pg_get_function_result(f.oid), f.provolatile::text,
		case when f.prosecdef then 'security definer' end, f.proconfig::text, md5(f.prosrc))
	from functions f
	union all
	select 'grant', 'function ' || f.name || ' to ' || r.name, string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)
	from functions f cross join aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a join roles r on r.oid = a.grantee
	where a.grantee <> f.proowner
	group by f.name, r.name
	union all
	select 'grant', 'schema agentedge to ' || r.name, string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)
	from pg_namespace n cross join aclexplode(n.nspacl) a join roles r on r.oid = a.grantee
	where n.nspname = 'agentedge' and a.grantee <> n.nspowner
	group by r.name
)
select kind, name, regexp_replace(definition, '\s+', ' ', 'g') from objects order by kind collate "C", name collate "C"`

// object is one thing of a schema: "index" "runs_key_idx".
type object struct{ kind, name string }

func (o object) String() string { return o.kind + " " + o.name }

// inventory reads the schema. With no search path every name comes qualified.
func inventory(ctx context.Context, conn *pgx.Conn, tables []string) (map[object]string, error) {
	all := map[object]string{}
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local search_path = ''"); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, inventorySQL, tables)
		if err != nil {
			return err
		}
		var o object
		var definition string
		_, err = pgx.ForEachRow(rows, []any{&o.kind, &o.name, &definition}, func() error {
			all[o] = definition
			return nil
		})
		return err
	})
	return all, err
}

// parseSnapshot reads what formatSnapshot wrote.
func parseSnapshot(text string) map[object]string {
	all := map[object]string{}
	for line := range strings.Lines(text) {
		if fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3); len(fields) == 3 {
			all[object{fields[0], fields[1]}] = fields[2]
		}
	}
	return all
}

func formatSnapshot(all map[object]string) string {
	var lines []string
	for o, definition := range all {
		lines = append(lines, o.kind+"\t"+o.name+"\t"+definition+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// DriftError says how a schema differs from what its migrations made.
type DriftError struct{ Drift []string }

func (e *DriftError) Error() string {
	return fmt.Sprintf("postgres: the schema is not what its migrations made, %d differences:\n  %s", len(e.Drift), strings.Join(e.Drift, "\n  "))
}

// Verify compares the database's schema with what this binary's migrations make.
// With a newer binary's migrations in it, what it has beyond that is theirs.
func Verify(ctx context.Context, url string) (err error) {
	known, unknown, err := Status(ctx, url)
	if err != nil {
		return err
	}
	for _, m := range known {
		if !m.Applied {
			return fmt.Errorf("postgres: verify: migration %s_%s is not applied: run `agentedge migrate up`", m.Version, m.Name)
		}
	}
	want := parseSnapshot(snapshot)
	var tables []string
	for o := range want {
		if o.kind == "table" {
			tables = append(tables, o.name)
		}
	}
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	got, err := inventory(ctx, conn, tables)
	if err != nil {
		return fmt.Errorf("postgres: verify: %w", err)
	}
	newest := known[len(known)-1].Version
	newer := slices.ContainsFunc(unknown, func(v string) bool { return v > newest })
	if drift := compare(got, want, newer); len(drift) > 0 {
		return &DriftError{drift}
	}
	return nil
}

// compare names what is missing, different, or too much. An index too many is
// nobody's harm.
func compare(got, want map[object]string, newer bool) (drift []string) {
	for o, definition := range want {
		switch is, ok := got[o]; {
		case !ok:
			drift = append(drift, fmt.Sprintf("%s is missing", o))
		case is != definition:
			drift = append(drift, fmt.Sprintf("%s is %q, should be %q", o, is, definition))
		}
	}
	for o := range got {
		if _, ok := want[o]; !ok && !newer && o.kind != "index" {
			drift = append(drift, fmt.Sprintf("%s should not be there", o))
		}
	}
	slices.Sort(drift)
	return drift
}
