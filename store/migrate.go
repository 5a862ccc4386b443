package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"acquirer/fault"
)

// own is the store's bookkeeping, made before anything else.
const own = `create table if not exists store_schema (
	name TEXT not null,
	step INTEGER not null,
	sum TEXT not null,
	applied BIGINT not null,
	primary key (name, step)
);
create table if not exists store_mark (
	node BIGINT primary key,
	tick BIGINT not null
);
create table if not exists store_tally (
	seq BIGINT primary key,  -- from 1, without gaps
	name TEXT not null,      -- the table whose rows it counts
	after BIGINT not null,   -- their keys are behind this one
	upto BIGINT not null,    -- the last of them
	n BIGINT not null,       -- how many
	keys BYTEA not null,     -- each as what it is more than the one before, uvarint
	prev BYTEA not null,     -- hash of the tally before; 32 zero bytes in the first
	hash BYTEA not null,     -- SHA-256 of all the above and of the rows
	unique (name, after)
)`

// ownLock is the advisory lock of whoever makes the bookkeeping: "acquirer".
const ownLock int64 = 0x6163717569726572

// migrate applies the steps that are missing, oldest first, each in its own
// transaction, so that an interrupted migration goes on where it stopped.
func (db *DB) migrate(ctx context.Context, schemas []Schema) error {
	fault.Hit("store.tables.before")
	err := db.Write(ctx, func(tx Tx) error {
		if tx.Postgres() { // nodes that start at once would make a table twice: "if not exists" looks and then makes
			if _, err := tx.Exec("select pg_advisory_xact_lock($1)", ownLock); err != nil {
				return err
			}
		}
		return script(tx, own)
	})
	fault.Hit("store.tables.after")
	if err != nil {
		return fmt.Errorf("store: making the bookkeeping tables: %w", err)
	}
	for _, s := range schemas {
		for {
			more, err := db.step(ctx, s)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// step checks what is applied of s and applies the next step, if any.
func (db *DB) step(ctx context.Context, s Schema) (more bool, err error) {
	fault.Hit("store.migrate.before")
	err = db.Write(ctx, func(tx Tx) error {
		more = false
		if tx.Postgres() { // two nodes may start at once
			if _, err := tx.Exec("lock table store_schema in exclusive mode"); err != nil {
				return err
			}
		}
		rows, err := tx.Query("select step, sum from store_schema where name = $1 order by step", s.Name)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			var step int
			var sum string
			if err := rows.Scan(&step, &sum); err != nil {
				return err
			}
			if n >= len(s.Steps) {
				return fmt.Errorf("store: schema %s: the database has step %d and this binary knows %d: use a newer binary", s.Name, step, len(s.Steps))
			}
			if step != n+1 || sum != checksum(s.Steps[n]) {
				return fmt.Errorf("store: schema %s: step %d of this binary is not the one that was applied: released steps are never edited", s.Name, n+1)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if n == len(s.Steps) {
			return nil
		}
		if err := script(tx, s.Steps[n]); err != nil {
			return fmt.Errorf("store: schema %s step %d: %w", s.Name, n+1, err)
		}
		_, err = tx.Exec("insert into store_schema (name, step, sum, applied) values ($1, $2, $3, $4)",
			s.Name, n+1, checksum(s.Steps[n]), time.Now().UnixMicro())
		more = true
		return err
	})
	fault.Hit("store.migrate.after")
	return more, err
}

func checksum(step string) string {
	h := sha256.Sum256([]byte(step))
	return hex.EncodeToString(h[:])
}

// script runs the statements of one step.
func script(tx Tx, sql string) error {
	for _, statement := range statements(sql) {
		if _, err := tx.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

// statements cuts sql at its semicolons, leaving out comments and minding
// quotes.
func statements(sql string) []string {
	var all []string
	var now strings.Builder
	end := func() {
		if s := strings.TrimSpace(now.String()); s != "" {
			all = append(all, s)
		}
		now.Reset()
	}
	for i := 0; i < len(sql); i++ {
		switch c := sql[i]; {
		case c == '-' && strings.HasPrefix(sql[i:], "--"):
			for i < len(sql) && sql[i] != '\n' {
				i++
			}
			now.WriteByte('\n')
		case c == '\'' || c == '"':
			j := i + 1
			for j < len(sql) && sql[j] != c {
				j++
			}
			now.WriteString(sql[i:min(j+1, len(sql))])
			i = j
		case c == ';':
			end()
		default:
			now.WriteByte(c)
		}
	}
	end()
	return all
}
