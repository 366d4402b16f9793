package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// object is one table, index, trigger or view of a schema.
type object struct {
	kind, name, table, sql string
	columns                []string // of a table: name and type
}

// Verify compares the schema of the file with what the migrations make of an
// empty one, and returns an error that names every difference. Tables that the
// migrations do not know are somebody's own and none of its business.
func (s *Store) Verify(ctx context.Context) error {
	list, err := s.Status(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range list {
		if !m.Applied {
			errs = append(errs, fmt.Errorf("migration %s_%s is not applied", m.Version, m.Name))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("sqlite: verify: %w", errors.Join(errs...))
	}
	want, err := wantedSchema()
	if err != nil {
		return fmt.Errorf("sqlite: verify: %w", err)
	}
	var got map[string]object
	err = s.snapshot(ctx, func(c *conn) (err error) {
		got, err = schema(c)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlite: verify: %w", err)
	}
	if errs := drift(got, want); len(errs) > 0 {
		return fmt.Errorf("sqlite: verify: the schema has drifted: %w", errors.Join(errs...))
	}
	return nil
}

// wantedSchema is the schema of a database that only the migrations made.
func wantedSchema() (map[string]object, error) {
	all, err := steps()
	if err != nil {
		return nil, err
	}
	c := &conn{dsn: ":memory:"}
	if err := c.open(); err != nil {
		return nil, err
	}
	for _, st := range all {
		if _, err := apply(c, st); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	want, err := schema(c)
	return want, errors.Join(err, c.close())
}

// schema reads all objects by kind and name.
func schema(c *conn) (map[string]object, error) {
	all := map[string]object{}
	err := c.query(func(r *row) error {
		o := object{kind: r.text(0), name: r.text(1), table: r.text(2), sql: strings.Join(strings.Fields(r.text(3)), " ")}
		all[o.kind+" "+o.name] = o
		return nil
	}, `select type, name, tbl_name, sql from sqlite_schema where name not like 'sqlite\_%' escape '\'`)
	if err != nil {
		return nil, err
	}
	for key, o := range all {
		if o.kind != "table" {
			continue
		}
		err := c.query(func(r *row) error {
			o.columns = append(o.columns, strings.ToLower(r.text(0)+" "+r.text(1)))
			return nil
		}, `select name, type from pragma_table_info(?) order by cid`, o.name)
		if err != nil {
			return nil, err
		}
		all[key] = o
	}
	return all, nil
}

// drift says what is different, in a fixed order.
func drift(got, want map[string]object) (errs []error) {
	for _, key := range sorted(want) {
		w := want[key]
		g, ok := got[key]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s is missing", key))
		case g.table != w.table:
			errs = append(errs, fmt.Errorf("%s is on table %s, not %s", key, g.table, w.table))
		case g.sql != w.sql:
			errs = append(errs, changed(key, g, w))
		}
	}
	for _, key := range sorted(got) {
		_, known := want[key]
		if _, ours := want["table "+got[key].table]; !known && ours {
			errs = append(errs, fmt.Errorf("%s on table %s is not ours", key, got[key].table))
		}
	}
	return errs
}

// changed names the columns that make the difference, if columns do.
func changed(key string, got, want object) error {
	var parts []string
	for _, col := range want.columns {
		if !slices.Contains(got.columns, col) {
			parts = append(parts, "lacks column "+col)
		}
	}
	for _, col := range got.columns {
		if !slices.Contains(want.columns, col) {
			parts = append(parts, "has column "+col)
		}
	}
	if len(parts) == 0 {
		parts = []string{"is defined otherwise"}
	}
	return fmt.Errorf("%s %s", key, strings.Join(parts, ", "))
}

func sorted(m map[string]object) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
