package merchant

import (
	"context"
	"fmt"
	"slices"

	"acquirer/fault"
	"acquirer/store"
)

// KeyBlock is one key of a terminal as it is stored.
type KeyBlock struct {
	TID   string
	Slot  string // which of its keys: tmk, ttk, tpk, tak, tdk, old_tpk, old_tak, old_tdk
	Block string
	Since int64 // microseconds since 1970 of the sign-in that brought it; 0 for the keys above those
}

// keySlots are the columns that hold key blocks, and the column that says when
// it came.
var keySlots = [...]struct{ column, since string }{
	{"tmk", "0"}, {"ttk", "0"}, {"tpk", "signed_in"}, {"tak", "signed_in"}, {"tdk", "signed_in"},
	{"old_tpk", "old_signed_in"}, {"old_tak", "old_signed_in"}, {"old_tdk", "old_signed_in"},
}

// KeyBlocks lists the keys of up to n terminals behind a TID, in their order,
// of those that changed after a version (0: all). last is the TID to go on
// from, empty at the end; newest the highest version that was seen.
func KeyBlocks(ctx context.Context, db *store.DB, after string, n int, version int64) (all []KeyBlock, last string, newest int64, err error) {
	err = db.Read(ctx, func(tx store.Tx) error {
		all, last, newest = nil, "", 0
		rows, err := tx.Query(`select tid, version, signed_in, old_signed_in, tmk, ttk, tpk, tak, tdk, old_tpk, old_tak, old_tdk
			from merchant_terminal where tid > $1 and version > $2 order by tid limit $3`, after, version, n)
		if err != nil {
			return err
		}
		defer rows.Close()
		read := 0
		for ; rows.Next(); read++ {
			var tid string
			var v, signedIn, oldSignedIn int64
			var blocks [len(keySlots)]string
			if err := rows.Scan(&tid, &v, &signedIn, &oldSignedIn, &blocks[0], &blocks[1], &blocks[2], &blocks[3], &blocks[4], &blocks[5], &blocks[6], &blocks[7]); err != nil {
				return err
			}
			for i, b := range blocks {
				if b == "" {
					continue
				}
				k := KeyBlock{TID: tid, Slot: keySlots[i].column, Block: b}
				switch keySlots[i].since {
				case "signed_in":
					k.Since = signedIn
				case "old_signed_in":
					k.Since = oldSignedIn
				}
				all = append(all, k)
			}
			last, newest = tid, max(newest, v)
		}
		if read < n {
			last = ""
		}
		return rows.Err()
	})
	if err != nil {
		return nil, "", 0, fmt.Errorf("merchant: reading key blocks: %w", err)
	}
	return all, last, newest, nil
}

// NewKeyBlock is the same key wrapped anew.
type NewKeyBlock struct {
	KeyBlock
	Under string // the block that takes its place
}

// ReplaceKeyBlocks puts blocks in the place of others, all in one write, with
// whatever else belongs in it. A key that was changed meanwhile stays as it is
// now. It returns how many were replaced; the nodes that know these terminals
// hear of it as of any change.
func ReplaceKeyBlocks(ctx context.Context, db *store.DB, changes []NewKeyBlock, also func(tx store.Tx, replaced int64) error) (replaced int64, err error) {
	fault.Hit("registry.rewrap.before")
	err = db.Write(ctx, func(tx store.Tx) error {
		replaced = 0
		if len(changes) > 0 {
			version, err := nextVersion(tx)
			if err != nil {
				return err
			}
			for _, c := range changes {
				if !slices.ContainsFunc(keySlots[:], func(s struct{ column, since string }) bool { return s.column == c.Slot }) {
					return fmt.Errorf("merchant: a terminal has no key %q", c.Slot)
				}
				n, err := tx.Exec("update merchant_terminal set "+c.Slot+" = $1, version = $2 where tid = $3 and "+c.Slot+" = $4", c.Under, version, c.TID, c.Block)
				if err != nil {
					return err
				}
				replaced += n
			}
		}
		if also != nil {
			return also(tx, replaced)
		}
		return nil
	})
	fault.Hit("registry.rewrap.after")
	return replaced, err
}

// SetTMKs stores the master keys of several terminals, all or none, and
// forgets the working keys that were sent under those before. A terminal that
// is not registered refuses all of them.
func (r *Registry) SetTMKs(ctx context.Context, tmks map[string]string) error {
	var changed []Terminal
	fault.Hit("registry.inject.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		changed = nil
		version, err := nextVersion(tx)
		if err != nil {
			return err
		}
		for tid, tmk := range tmks {
			t, err := lockTerminal(tx, tid)
			if err != nil {
				return err
			}
			t.TMK, t.Keys, t.Previous, t.Version = tmk, Keys{Generation: t.Keys.Generation}, Keys{}, version
			if err := saveTerminal(tx, t); err != nil {
				return err
			}
			changed = append(changed, *t)
		}
		return nil
	})
	fault.Hit("registry.inject.after")
	if err != nil {
		return err
	}
	r.adopt(nil, changed)
	return nil
}
