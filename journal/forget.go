package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"acquirer/store"
)

// forgetStep is how many transactions one write of Forget passes.
const forgetStep = 200

// Forget takes the sealed card and chip data and the signatures out of every
// transaction that was opened before a time, but for those that are not at
// rest: open, owed, with a person, or in keep, the ones that are in dispute.
// These are forgotten by a later call that finds them at rest. It returns how
// many transactions it passed for good; calling it again, or on another node at
// the same time, changes nothing more.
func (j *Journal) Forget(ctx context.Context, before time.Time, keep []int64) (n int, err error) {
	n, err = j.forgetRetained(ctx, keep)
	for more := true; more && err == nil; {
		var step int
		step, more, err = j.forgetNext(ctx, store.IDAt(before), keep)
		n += step
	}
	if err != nil {
		return n, fmt.Errorf("journal: forgetting what was opened before %s: %w", before.Format(time.DateOnly), err)
	}
	return n, nil
}

// walk reads transactions that Forget may be done with.
func walk(tx store.Tx, which string, args ...any) ([]*Entry, error) {
	rows, err := tx.Query(entries+which, args...)
	if err != nil {
		return nil, err
	}
	return scanEntries(rows)
}

// atRest reports that nothing will need the transaction's card any more, but
// for a dispute.
func (e *Entry) atRest() bool {
	return e.Outcome != nil && (e.Debt == nil || e.Debt.State == Reversed)
}

// forgetNext passes the transactions that follow the mark.
func (j *Journal) forgetNext(ctx context.Context, end int64, keep []int64) (n int, more bool, err error) {
	err = j.db.Write(ctx, func(tx store.Tx) error {
		n, more = 0, false
		var mark int64
		err := tx.QueryRow("select id from journal_mark where name = 'forgotten'").Scan(&mark)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		all, err := walk(tx, "where t.id > $1 and t.id < $2 order by t.id limit $3", mark, end, forgetStep)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, e := range all {
			if e.atRest() && !slices.Contains(keep, e.ID) {
				n++
				err = e.forget(tx)
			} else {
				_, err = tx.Exec("insert into retained (txn) values ($1) on conflict (txn) do nothing", e.ID)
			}
			if err != nil {
				return err
			}
		}
		more = len(all) == forgetStep
		_, err = tx.Exec("insert into journal_mark (name, id) values ('forgotten', $1) on conflict (name) do update set id = $1 where journal_mark.id < $1", all[len(all)-1].ID)
		return err
	})
	return n, more, err
}

// forgetRetained passes those that were left alone before and are at rest now.
func (j *Journal) forgetRetained(ctx context.Context, keep []int64) (n int, err error) {
	err = j.db.Write(ctx, func(tx store.Tx) error {
		n = 0
		all, err := walk(tx, "where t.id in (select txn from retained) order by t.id")
		if err != nil {
			return err
		}
		for _, e := range all {
			if !e.atRest() || slices.Contains(keep, e.ID) {
				continue
			}
			if err := e.forget(tx); err != nil {
				return err
			}
			if _, err := tx.Exec("delete from retained where txn = $1", e.ID); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// forget takes away what is sealed of a transaction. A row that is not what was
// written keeps its checksum, and so is still found.
func (e *Entry) forget(tx store.Tx) error {
	var a store.Args
	if _, err := tx.Exec("delete from signature where txn = $1", e.ID); err != nil || e.PANSealed == nil {
		return err
	}
	t := e.Transaction
	was := t.args(&a).Checksum()
	t.PANSealed = nil
	_, err := tx.Exec("update txn set sealed = null, checksum = case when checksum = $2 then $3 else checksum end where id = $1", t.ID, was, t.args(&a).Checksum())
	return err
}
