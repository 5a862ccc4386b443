package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNoPageCheck says that this database cannot be asked whether its pages are
// whole, and what is missing for it.
var ErrNoPageCheck = errors.New("store: the database cannot check its own pages")

// CheckPages asks the engine whether tables and indexes are whole and agree, and
// returns what is not, in its words. SQLite reads the whole file; PostgreSQL
// does it with its extension amcheck, one index and one table after the other,
// and locks out nobody. What is well formed and wrong neither sees: CheckRows.
func (db *DB) CheckPages(ctx context.Context) (problems []string, err error) {
	if db.Postgres() {
		return db.checkPostgresPages(ctx)
	}
	err = db.Read(ctx, func(tx Tx) error {
		rows, err := tx.Query("pragma integrity_check(100)")
		problems, err = All(rows, err, func(r *Rows, s *string) error { return r.Scan(s) })
		return err
	})
	var said *sqliteError
	switch {
	case errors.As(err, &said) && (said.code&0xff == sqlite3.SQLITE_CORRUPT || said.code&0xff == sqlite3.SQLITE_NOTADB):
		return append(problems, said.Error()), nil // too broken for the check itself
	case err != nil:
		return nil, fmt.Errorf("store: checking the pages: %w", err)
	case len(problems) == 1 && problems[0] == "ok":
		return nil, nil
	}
	return problems, nil
}

// relation is an index or a table of this database's schema.
type relation struct {
	oid   int64
	name  string
	index bool
}

func (db *DB) checkPostgresPages(ctx context.Context) (problems []string, err error) {
	var all []relation
	var there bool
	err = db.Read(ctx, func(tx Tx) error {
		if err := tx.QueryRow("select to_regprocedure('bt_index_check(regclass)') is not null and to_regproc('verify_heapam') is not null").Scan(&there); err != nil || !there {
			return err
		}
		rows, err := tx.Query(`select cast(c.oid as BIGINT), c.relname, c.relkind = 'i' from pg_class c left join pg_index i on i.indexrelid = c.oid left join pg_am a on a.oid = c.relam
			where c.relnamespace = (select oid from pg_namespace where nspname = current_schema()) and c.relpersistence = 'p'
			and (c.relkind = 'r' or c.relkind = 'i' and a.amname = 'btree' and i.indisvalid and i.indisready) order by c.relname`)
		all, err = All(rows, err, func(r *Rows, x *relation) error { return r.Scan(&x.oid, &x.name, &x.index) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: listing what to check: %w", err)
	}
	if !there {
		return nil, fmt.Errorf("%w: amcheck is not there; let an administrator run: create extension amcheck", ErrNoPageCheck)
	}
	for _, x := range all {
		found, err := db.checkRelation(ctx, x)
		var said *pgconn.PgError
		switch {
		case errors.As(err, &said) && (said.Code == "XX001" || said.Code == "XX002"): // data_corrupted, index_corrupted
			found = append(found, x.name+": "+said.Message)
		case errors.As(err, &said) && said.Code == "42501":
			return nil, fmt.Errorf("%w: %s; let an administrator run: grant execute on function bt_index_check(regclass), verify_heapam to the acquirer's role", ErrNoPageCheck, said.Message)
		case errors.As(err, &said) && said.Code == "42P01", errors.As(err, &said) && said.Code == "42704":
			continue // dropped since
		case err != nil:
			return nil, fmt.Errorf("store: checking %s: %w", x.name, err)
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// checkRelation may take as long as the relation is large: the statement timeout
// of the others is not for it.
func (db *DB) checkRelation(ctx context.Context, x relation) (found []string, err error) {
	err = db.ReadLong(ctx, func(tx Tx) error {
		found = nil
		if x.index {
			_, err := tx.Exec(fmt.Sprintf("select bt_index_check('%d'::regclass)", x.oid))
			return err
		}
		rows, err := tx.Query(fmt.Sprintf("select msg from verify_heapam('%d'::regclass) limit 100", x.oid))
		found, err = All(rows, err, func(r *Rows, s *string) error {
			err := r.Scan(s)
			*s = x.name + ": " + *s
			return err
		})
		return err
	})
	return found, err
}
