package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// item is what changes what a merchant is owed and is no transaction: a
// chargeback, a fee, a hold. It is booked when it happens and nets with the
// next run.
type item struct {
	key      string
	merchant string
	date     calendar.Date
	amount   money.Amount // the merchant is owed so much more, below zero less
	network  money.Amount // the network (or wallet) owes us so much more, below zero less
	fee      money.Amount // of it, the network's fee
	wallet   string
	txn      int64
	text     string
	run      int64
}

// itemCut marks an item whose money was taken from a payout directly.
const itemCut = -1

// addItem writes an item once. False when it was there before; one of other
// content under its key is ledger.ErrConflict.
func addItem(tx store.Tx, it *item, now time.Time) (fresh bool, err error) {
	n, err := tx.Exec(`insert into settlement_item (key, merchant, date, amount, network, fee, wallet, txn, text, created, run)
		values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11) on conflict (key) do nothing`,
		it.key, it.merchant, it.date, it.amount, it.network, it.fee, it.wallet, it.txn, it.text, now.UnixMicro(), it.run)
	if err != nil || n == 1 {
		return n == 1, err
	}
	was, err := findItem(tx, it.key)
	if err == nil && (was.merchant != it.merchant || was.amount != it.amount || was.network != it.network || was.fee != it.fee || was.wallet != it.wallet) {
		err = fmt.Errorf("%w: %s is %s for merchant %s already, now asked for with %s for %s", ledger.ErrConflict, it.key, was.amount, was.merchant, it.amount, it.merchant)
	}
	return false, err
}

func findItem(tx store.Tx, key string) (it item, err error) {
	err = tx.QueryRow("select key, merchant, date, amount, network, fee, wallet, txn, text, run from settlement_item where key = $1", key).
		Scan(&it.key, &it.merchant, &it.date, &it.amount, &it.network, &it.fee, &it.wallet, &it.txn, &it.text, &it.run)
	return it, err
}

// lockBooks takes the row that closing and booking meet at and returns the
// business date to book on: today's, or the open one when today's is closed.
func (e *Engine) lockBooks(tx store.Tx, now time.Time) (calendar.Date, error) {
	open, err := openDateTx(tx)
	return max(calendar.BusinessDate(now, e.cfg.CutOff), open), err
}

// bookOn is the business date to book on: today's, or the open one when today's
// is closed. It stays open until the transaction ends.
func (e *Engine) bookOn(tx store.Tx, now time.Time) (calendar.Date, error) {
	sql := "select open_date from settlement_state where id = 1"
	if tx.Postgres() {
		sql += " for share"
	}
	var open calendar.Date
	err := tx.QueryRow(sql).Scan(&open)
	return max(calendar.BusinessDate(now, e.cfg.CutOff), open), err
}

// Chargeback is an issuer's, or a wallet's, word that it takes a payment back.
type Chargeback struct {
	Key      string // names it for ever; a second chargeback of the same case has another
	Merchant string
	Txn      int64        // the journal's id of the transaction; 0 when it is not known
	Wallet   string       // "" for cards
	Amount   money.Amount // what the payer gets back
	Fee      money.Amount // what the network takes for it, our cost
	Hold     string       // key of a hold whose money it uses first; "" for none
	Text     string       // reason, for people
}

// ErrChargeback says that a chargeback does not exist, or that it makes no sense.
var ErrChargeback = errors.New("settlement: not a chargeback")

// Chargeback takes a payment back from the merchant: out of the hold first,
// then out of what it is owed, which may go below zero and is collected from
// what it sells later. The network deducts amount and fee from what it owes; an
// amount of 0 is a fee alone.
// The same chargeback again has no effect; another one under its key is
// ledger.ErrConflict.
func (e *Engine) Chargeback(ctx context.Context, c Chargeback, now time.Time) error {
	return e.db.Write(ctx, func(tx store.Tx) error { return e.ChargebackTx(tx, c, now) })
}

// ChargebackTx is Chargeback in the caller's write.
func (e *Engine) ChargebackTx(tx store.Tx, c Chargeback, now time.Time) error {
	if err := e.chargeback(tx, c, now); err != nil {
		return fmt.Errorf("settlement: chargeback %s: %w", c.Key, err)
	}
	return nil
}

func (e *Engine) chargeback(tx store.Tx, c Chargeback, now time.Time) error {
	if c.Key == "" || c.Merchant == "" || c.Amount < 0 || c.Fee < 0 || c.Amount == 0 && c.Fee == 0 {
		return fmt.Errorf("%w: of merchant %q over %s, fee %s: want a key, a merchant and an amount above zero", ErrChargeback, c.Merchant, c.Amount, c.Fee)
	}
	date, err := e.lockBooks(tx, now)
	if err != nil {
		return err
	}
	it := item{key: "chargeback/" + c.Key, merchant: c.Merchant, date: date, fee: -c.Fee, wallet: c.Wallet, txn: c.Txn, text: c.Text}
	if it.network, err = money.Sum(-c.Amount, -c.Fee); err != nil {
		return err
	}
	switch was, err := findItem(tx, it.key); {
	case err == nil && was.merchant == c.Merchant && was.network == it.network && was.fee == it.fee && was.wallet == c.Wallet:
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s took %s from merchant %s, now asked for with %s for %s", ledger.ErrConflict, it.key, -was.network, was.merchant, -it.network, c.Merchant)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	held, err := useHold(tx, c.Hold, c.Merchant, c.Amount, now)
	if err != nil {
		return err
	}
	it.amount = held - c.Amount
	if _, err := addItem(tx, &it, now); err != nil {
		return err
	}
	if err := conduct(tx, c.Merchant, date, 0, 0, c.Amount); err != nil {
		return err
	}
	book := ledger.Chargeback{Key: c.Key, Date: date, Merchant: c.Merchant, Wallet: c.Wallet, Amount: c.Amount, Held: held, Fee: c.Fee}
	_, err = ledger.PostTx(tx, []ledger.Transfer{book.Book()})
	return err
}

// ChargebackWon gives a chargeback's amount back to the merchant, once: the
// issuer has accepted the representment and the network owes it again. What it
// took as its fee stays taken. A chargeback that is lost needs no booking: it
// stays as it is; release what is left of its hold.
func (e *Engine) ChargebackWon(ctx context.Context, key string, amount money.Amount, now time.Time) error {
	return e.db.Write(ctx, func(tx store.Tx) error { return e.ChargebackWonTx(tx, key, amount, now) })
}

// ChargebackWonTx is ChargebackWon in the caller's write.
func (e *Engine) ChargebackWonTx(tx store.Tx, key string, amount money.Amount, now time.Time) error {
	if err := e.chargebackWon(tx, key, amount, now); err != nil {
		return fmt.Errorf("settlement: chargeback %s won: %w", key, err)
	}
	return nil
}

func (e *Engine) chargebackWon(tx store.Tx, key string, amount money.Amount, now time.Time) error {
	date, err := e.lockBooks(tx, now)
	if err != nil {
		return err
	}
	lost, err := findItem(tx, "chargeback/"+key)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: nobody booked it; book the chargeback first", ErrChargeback)
	}
	if err != nil {
		return err
	}
	if took := lost.fee - lost.network; amount <= 0 || amount > took {
		return fmt.Errorf("%w: won %s of a chargeback over %s", ErrChargeback, amount, took)
	}
	it := item{key: "chargeback-won/" + key, merchant: lost.merchant, date: date, amount: amount, network: amount, wallet: lost.wallet, txn: lost.txn, text: "won"}
	if fresh, err := addItem(tx, &it, now); err != nil || !fresh {
		return err
	}
	if err := conduct(tx, lost.merchant, date, 0, 0, -amount); err != nil {
		return err
	}
	book := ledger.Chargeback{Key: key, Date: date, Merchant: lost.merchant, Wallet: lost.wallet, Amount: amount}
	_, err = ledger.PostTx(tx, []ledger.Transfer{book.Won()})
	return err
}

// ExtraFee takes a fee that no sale causes, a SIM year or a repair, from what
// the merchant is owed, once per key.
func (e *Engine) ExtraFee(ctx context.Context, key, mid string, fee money.Amount, text string, now time.Time) error {
	if key == "" || mid == "" || fee <= 0 {
		return fmt.Errorf("settlement: fee %q of merchant %q over %s: want a key, a merchant and an amount above zero", key, mid, fee)
	}
	fault.Hit("settlement.extra_fee.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		date, err := e.lockBooks(tx, now)
		if err != nil {
			return err
		}
		it := item{key: "fee/" + key, merchant: mid, date: date, amount: -fee, text: text}
		if fresh, err := addItem(tx, &it, now); err != nil || !fresh {
			return err
		}
		_, err = ledger.PostTx(tx, []ledger.Transfer{ledger.ExtraFee(key, date, mid, fee)})
		return err
	})
	fault.Hit("settlement.extra_fee.after")
	if err != nil {
		return fmt.Errorf("settlement: fee %s: %w", key, err)
	}
	return nil
}

// ExtraFeeBack gives back, once and whole, what ExtraFee took under a key from a
// merchant, and returns how much that is. ErrNoFee when nothing was.
func (e *Engine) ExtraFeeBack(ctx context.Context, key, mid, text string, now time.Time) (fee money.Amount, err error) {
	fault.Hit("settlement.extra_fee.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		date, err := e.lockBooks(tx, now)
		if err != nil {
			return err
		}
		taken, err := findItem(tx, "fee/"+key)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && (taken.merchant != mid || taken.amount >= 0):
			return fmt.Errorf("%w: of merchant %s", ErrNoFee, mid)
		case err != nil:
			return err
		}
		fee = -taken.amount
		it := item{key: taken.key + "/back", merchant: mid, date: date, amount: fee, text: text}
		if fresh, err := addItem(tx, &it, now); err != nil || !fresh {
			return err
		}
		_, err = ledger.PostTx(tx, []ledger.Transfer{ledger.ExtraFee(key+"/back", date, mid, -fee)})
		return err
	})
	fault.Hit("settlement.extra_fee.after")
	if err != nil {
		return 0, fmt.Errorf("settlement: giving fee %s back: %w", key, err)
	}
	return fee, nil
}

// ErrNoFee says that no such fee was taken.
var ErrNoFee = errors.New("settlement: no such fee was charged")
