package settlement

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"acquirer/money"
	"acquirer/store"
)

// A payout is asked for at the bank that it was ordered from: another one does
// not know it, and it would be taken for failed and paid twice. So the house has
// one bank at a time, whose name stands in the store, and changes it only while
// nothing is on its way.

// ErrOtherBank says that the house pays through another bank.
var ErrOtherBank = errors.New("settlement: the house pays through another bank")

// oneBank is a rail that says nothing while the house's bank is another one.
type oneBank struct {
	Rail
	db   *store.DB
	bank string
}

// The rows of settlement_feed: whom payouts go through, and how far its changes
// and credits are read; behind the feed's name and a blank, how far those of
// earlier banks were.
const (
	bankName   = "bank at"
	bankFeed   = "bank"
	creditFeed = "credits"
)

// OneBank binds a rail to a bank's name, which must be the same on all nodes and
// in every run. Another name than before is another bank: that is ErrOtherBank while
// payouts are on their way at the one before, and a task otherwise, since what
// that one paid may still come back.
func OneBank(ctx context.Context, db *store.DB, rail Rail, bank string, now time.Time) (Rail, error) {
	err := db.Write(ctx, func(tx store.Tx) error {
		was, err := lockBank(tx, bank)
		if err != nil || was == bank {
			return err
		}
		orders, sum, err := onTheirWay(tx)
		if err != nil {
			return err
		}
		if orders > 0 {
			return fmt.Errorf("%w: %s, where %d payouts of %s are on their way; %s does not know them, and they would be taken for failed and paid twice. Name the first one in settlement.bank until acquirer payout list shows none as submitted, processing or unknown. If it is the same bank at another address, say so: acquirer payout moved",
				ErrOtherBank, was, orders, sum, bank)
		}
		if err := changeFeed(tx, was, bank); err != nil {
			return err
		}
		return addTask(tx, Task{Key: fmt.Sprintf("bank_changed/%d", now.UnixMicro()), Kind: "bank_changed", Ref: fmt.Sprintf("%.64s", bank), Created: now,
			Text: fmt.Sprintf("payouts go through %s now, and went through %s before, which is not read any more: what it paid may still come back for some days; watch its statements", bank, was)})
	})
	if err != nil {
		return nil, err
	}
	return &oneBank{rail, db, bank}, nil
}

// SameBank says that the bank which payouts went through so far has another name
// now: it is asked there for what is on its way, and its changes are read on.
// Orders that stand in files are not known over HTTP, nor the other way: between
// the two it is another bank. Whatever also writes is written with it.
func SameBank(ctx context.Context, db *store.DB, bank string, also ...func(tx store.Tx) error) (was string, err error) {
	err = db.Write(ctx, func(tx store.Tx) error {
		if was, err = lockBank(tx, bank); err != nil || was == bank {
			return err
		}
		if strings.HasPrefix(was, "http") != strings.HasPrefix(bank, "http") {
			return fmt.Errorf("%w: %s; what was ordered in files cannot be asked for over HTTP, nor the other way, so %s is another one", ErrOtherBank, was, bank)
		}
		if err := setFeed(tx, bankName, bank); err != nil {
			return err
		}
		return all(tx, also)
	})
	if err != nil {
		return "", err
	}
	return was, nil
}

// ForgetBank forgets which bank the house pays through, for one whose books are
// gone, like the demo's.
func ForgetBank(ctx context.Context, db *store.DB) error {
	return db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("delete from settlement_feed where name in ($1, $2, $3)", bankName, bankFeed, creditFeed)
		return err
	})
}

// lockBank reads whom payouts go through and keeps others from changing it; bank
// when they went through nobody yet.
func lockBank(tx store.Tx, bank string) (is string, err error) {
	if _, err := tx.Exec("insert into settlement_feed (name, cursor) values ($1, $2) on conflict (name) do nothing", bankName, bank); err != nil {
		return "", err
	}
	err = tx.QueryRow("select cursor from settlement_feed where name = $1 for update", bankName).Scan(&is)
	return is, err
}

func onTheirWay(tx store.Tx) (orders int64, sum money.Amount, err error) {
	err = tx.QueryRow("select count(*), cast(coalesce(sum(amount), 0) as BIGINT) from settlement_payout where state in ($1, $2, $3)", Submitted, InProcess, Unknown).Scan(&orders, &sum)
	return orders, sum, err
}

// changeFeed puts another bank's places into the feeds of the one before: where
// they were left, or the beginning.
func changeFeed(tx store.Tx, was, bank string) error {
	for _, feed := range []string{bankFeed, creditFeed} {
		cursor, err := feedAt(tx, feed)
		if err == nil && cursor != "" {
			err = setFeed(tx, feed+" "+was, cursor)
		}
		if err == nil {
			cursor, err = feedAt(tx, feed+" "+bank)
		}
		if err = errors.Join(err, setFeed(tx, feed, cursor)); err != nil {
			return err
		}
	}
	return setFeed(tx, bankName, bank)
}

// feedAt is how far a feed is read; "" is its beginning.
func feedAt(tx store.Tx, name string) (cursor string, err error) {
	err = tx.QueryRow("select cursor from settlement_feed where name = $1", name).Scan(&cursor)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return cursor, err
}

func setFeed(tx store.Tx, name, cursor string) error {
	_, err := tx.Exec("insert into settlement_feed (name, cursor) values ($1, $2) on conflict (name) do update set cursor = excluded.cursor", name, cursor)
	return err
}

// check says whether this is still the house's bank.
func (o *oneBank) check(tx store.Tx, lock string) error {
	var is string
	err := tx.QueryRow("select cursor from settlement_feed where name = $1"+lock, bankName).Scan(&is)
	switch {
	case err != nil:
		return fmt.Errorf("settlement: reading which bank the house pays through: %w", err)
	case is != o.bank:
		return fmt.Errorf("%w: %s; another node or command was started with it in settlement.bank, here it is %s. Set both alike and restart", ErrOtherBank, is, o.bank)
	}
	return nil
}

func (o *oneBank) ours(ctx context.Context) error {
	return o.db.Read(ctx, func(tx store.Tx) error { return o.check(tx, "") })
}

// Send implements Rail.
func (o *oneBank) Send(ctx context.Context, i Instruction) (Answer, error) {
	// Its lock lets a change of the bank see this payout on its way, or this see
	// the change.
	err := o.db.Write(ctx, func(tx store.Tx) error { return o.check(tx, " for update") })
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return o.Rail.Send(ctx, i)
}

// Query implements Rail.
func (o *oneBank) Query(ctx context.Context, reference string) (Answer, error) {
	if err := o.ours(ctx); err != nil {
		return Answer{}, err
	}
	return o.Rail.Query(ctx, reference)
}

// Changes implements Rail.
func (o *oneBank) Changes(ctx context.Context, after string) ([]Answer, string, error) {
	if err := o.ours(ctx); err != nil {
		return nil, after, err
	}
	return o.Rail.Changes(ctx, after)
}

// Credits implements Rail.
func (o *oneBank) Credits(ctx context.Context, after string) ([]Credit, string, error) {
	if err := o.ours(ctx); err != nil {
		return nil, after, err
	}
	return o.Rail.Credits(ctx, after)
}
