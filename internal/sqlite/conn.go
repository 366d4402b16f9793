package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/google/uuid"
	"modernc.org/sqlite"
)

// conn is one connection to the file with the statements it has prepared. One
// goroutine uses it at a time. It speaks to the driver itself: database/sql
// would add its locks and conversions to every one of the dozen statements of a
// chat, and a pool where exactly one writer is wanted. A connection that broke
// has no raw and is opened again by the next who needs it.
//
// Statements run without the caller's context: they are short, and the driver
// would start a goroutine for each to watch it.
type conn struct {
	dsn   string
	raw   driver.Conn
	stmts map[string]driver.Stmt
	args  []driver.NamedValue
	row   row
}

// dsn addresses a file with pragmas.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": pragmas}
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// open connects unless the connection is there already.
func (c *conn) open() error {
	if c.raw != nil {
		return nil
	}
	raw, err := (&sqlite.Driver{}).Open(c.dsn)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	c.raw, c.stmts = raw, map[string]driver.Stmt{}
	return nil
}

func (c *conn) close() error {
	if c.raw == nil {
		return nil
	}
	errs := make([]error, 0, 1)
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	errs = append(errs, c.raw.Close())
	c.raw, c.stmts = nil, nil
	return errors.Join(errs...)
}

// prepared returns the statement of a query, which must be a constant: it is
// kept for as long as the connection.
func (c *conn) prepared(query string) (driver.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := c.raw.Prepare(query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s
	return s, nil
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(query string, args ...any) (int, error) {
	s, err := c.prepared(query)
	if err != nil {
		return 0, err
	}
	if err := c.bind(args); err != nil {
		return 0, err
	}
	res, err := s.(driver.StmtExecContext).ExecContext(context.Background(), c.args)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// errStop ends a query early.
var errStop = errors.New("enough rows")

// query calls each for every row. The row is valid until each returns; each may
// return errStop and must not use the connection.
func (c *conn) query(each func(*row) error, query string, args ...any) (err error) {
	s, err := c.prepared(query)
	if err != nil {
		return err
	}
	if err := c.bind(args); err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), c.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	n := len(rows.Columns())
	for {
		c.row.reset(n)
		if err := rows.Next(c.row.values); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := errors.Join(each(&c.row), c.row.err); errors.Is(err, errStop) {
			return c.row.err
		} else if err != nil {
			return err
		}
	}
}

// one is query for at most one row; found tells whether there was one.
func (c *conn) one(each func(*row), query string, args ...any) (found bool, err error) {
	err = c.query(func(r *row) error {
		found = true
		each(r)
		return errStop
	}, query, args...)
	return found, err
}

// script runs statements that are not kept.
func (c *conn) script(sql string) error {
	_, err := c.raw.(driver.ExecerContext).ExecContext(context.Background(), sql, nil)
	return err
}

// tx runs fn in a transaction. One that cannot even be rolled back leaves a
// connection that nobody may use again.
func (c *conn) tx(begin string, fn func() error) error {
	if _, err := c.exec(begin); err != nil {
		return errors.Join(err, c.rollback())
	}
	err := fn()
	if err == nil {
		_, err = c.exec("commit")
	}
	if err != nil {
		return errors.Join(err, c.rollback())
	}
	return nil
}

func (c *conn) rollback() error {
	if _, err := c.exec("rollback"); err != nil {
		// SQLite rolls back by itself after a failure of the disk. Whether it
		// did is not worth finding out: the next use gets a new connection.
		return c.close()
	}
	return nil
}

// bind makes driver values of args: an id or JSON that is not there is null.
func (c *conn) bind(args []any) error {
	c.args = c.args[:0]
	for i, a := range args {
		v := driver.NamedValue{Ordinal: i + 1}
		switch a := a.(type) {
		case nil:
		case string:
			v.Value = a
		case int:
			v.Value = int64(a)
		case int64:
			v.Value = a
		case bool:
			v.Value = int64(0)
			if a {
				v.Value = int64(1)
			}
		case []byte:
			if v.Value = a; a == nil {
				v.Value = []byte{}
			}
		case uuid.UUID:
			if a != uuid.Nil {
				v.Value = a.String()
			}
		case json.RawMessage:
			if len(a) > 0 {
				v.Value = string(a)
			}
		case time.Time:
			v.Value = a.UnixMicro()
		default:
			return fmt.Errorf("argument %d is a %T", i+1, a)
		}
		c.args = append(c.args, v)
	}
	return nil
}

// row reads the columns of one row by position. The first value that is not
// what it should be is kept as err: the file holds what this package never wrote.
type row struct {
	values []driver.Value
	err    error
}

func (r *row) reset(n int) {
	if cap(r.values) < n {
		r.values = make([]driver.Value, n)
	}
	r.values, r.err = r.values[:n], nil
}

func (r *row) wrong(i int) {
	if r.err == nil {
		r.err = fmt.Errorf("column %d holds a %T that is not expected", i+1, r.values[i])
	}
}

func (r *row) null(i int) bool { return r.values[i] == nil }

// text is empty for null.
func (r *row) text(i int) string {
	v, ok := r.values[i].(string)
	if !ok && !r.null(i) {
		r.wrong(i)
	}
	return v
}

func (r *row) int64(i int) int64 {
	v, ok := r.values[i].(int64)
	if !ok && !r.null(i) {
		r.wrong(i)
	}
	return v
}

func (r *row) int(i int) int { return int(r.int64(i)) }

func (r *row) bool(i int) bool { return r.int64(i) != 0 }

func (r *row) blob(i int) []byte {
	v, ok := r.values[i].([]byte)
	if !ok && !r.null(i) {
		r.wrong(i)
	}
	return v
}

func (r *row) json(i int) json.RawMessage {
	if r.null(i) {
		return nil
	}
	return json.RawMessage(r.text(i))
}

// id is uuid.Nil for null.
func (r *row) id(i int) uuid.UUID {
	if r.null(i) {
		return uuid.Nil
	}
	id, err := uuid.Parse(r.text(i))
	if err != nil {
		r.wrong(i)
	}
	return id
}

// time is zero for null.
func (r *row) time(i int) time.Time {
	if r.null(i) {
		return time.Time{}
	}
	return time.UnixMicro(r.int64(i)).UTC()
}
