package settlement

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// JournalReport is what a comparison of the ledger with the journal found.
type JournalReport struct {
	Facts    int      `json:"facts"`    // approvals and takings-back that were compared
	Behind   int      `json:"behind"`   // facts that the ledger has not come to yet
	Booked   int      `json:"booked"`   // transfers of transactions
	Problems []string `json:"problems"` // the first hundred
}

func (r *JournalReport) problem(format string, args ...any) {
	if len(r.Problems) < 100 {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// bookedAs is what the key of a transaction's transfer begins with. What moves no
// money would be wrong as a sale.
func (d Does) bookedAs() string {
	return map[Does]string{Sells: "sale/", Voids: "void/", Refunds: "refund/", Adjusts: "adjust/", Nothing: "sale/"}[d]
}

// VerifyJournal reads the journal from its first fact and holds every one
// against the ledger: what was approved has exactly its transfer, over its
// amount, or waits in suspense because it has no price; what was taken back has
// that transfer's reversal, or neither; and no transfer is of a transaction that
// the journal does not have. It reads in pages and holds one of them in memory.
func (e *Engine) VerifyJournal(ctx context.Context) (*JournalReport, error) {
	r := &JournalReport{}
	var cursor int64
	if err := e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select cursor from settlement_state where id = 1").Scan(&cursor)
	}); err != nil {
		return nil, fmt.Errorf("settlement: reading the cursor: %w", err)
	}
	for after := int64(0); ; {
		facts, err := e.cfg.Source.Facts(ctx, after, linePage)
		if err != nil {
			return nil, fmt.Errorf("settlement: reading the journal: %w", err)
		}
		if len(facts) == 0 {
			break
		}
		if err := e.db.Read(ctx, func(tx store.Tx) error {
			page := *r
			for i := range facts {
				if facts[i].Cursor > cursor {
					page.Behind++
					continue
				}
				if err := page.compare(tx, &facts[i]); err != nil {
					return err
				}
			}
			*r = page
			return nil
		}); err != nil {
			return nil, fmt.Errorf("settlement: comparing the ledger with the journal: %w", err)
		}
		after = facts[len(facts)-1].Cursor
	}
	var booked int
	if err := e.db.ReadLong(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select count(*) from ledger_transfer where key like 'sale/%' or key like 'void/%' or key like 'refund/%' or key like 'adjust/%' or key like 'reversal/%'`).Scan(&booked)
	}); err != nil {
		return nil, fmt.Errorf("settlement: counting transfers: %w", err)
	}
	if booked != r.Booked && r.Behind == 0 {
		r.problem("the ledger has %d transfers of transactions and the journal accounts for %d", booked, r.Booked)
	}
	return r, nil
}

// compare holds one fact against the ledger.
func (r *JournalReport) compare(tx store.Tx, f *Fact) error {
	r.Facts++
	id := strconv.FormatInt(f.Txn, 10)
	sum, booked, err := transferOf(tx, f.Does.bookedAs()+id)
	if err != nil {
		return err
	}
	_, suspended, err := transferOf(tx, "long/unpriced-"+id)
	if err != nil {
		return err
	}
	_, reversed, err := transferOf(tx, "reversal/"+id)
	if err != nil {
		return err
	}
	_, resolved, err := transferOf(tx, "long-resolved/unpriced-"+id)
	if err != nil {
		return err
	}
	var run int64
	err = tx.QueryRow("select run from settlement_line where id = $1", f.Txn).Scan(&run)
	if errors.Is(err, store.ErrNotFound) {
		run, err = lineOpen, nil
	}
	if err != nil {
		return err
	}
	if f.Taken {
		switch {
		case booked != reversed:
			r.problem("transaction %d was taken back; booked %v, reversed %v", f.Txn, booked, reversed)
		case suspended != resolved:
			r.problem("transaction %d has no price and was taken back; in suspense %v, resolved %v", f.Txn, suspended, resolved)
		}
		return nil
	}
	for _, has := range []bool{booked, reversed} {
		if has {
			r.Booked++
		}
	}
	amount := max(f.Amount, -f.Amount)
	switch {
	case f.Does == Nothing && (booked || suspended):
		r.problem("transaction %d moves no money and is booked", f.Txn)
	case booked && suspended:
		r.problem("transaction %d is booked and in suspense", f.Txn)
	case booked && sum != amount:
		r.problem("transaction %d of %s is booked with %s", f.Txn, amount, sum)
	case !booked && !suspended && f.Does != Nothing && amount != 0 && run != lineTaken:
		r.problem("transaction %d of %s was approved and is not booked", f.Txn, amount)
	case reversed && run == lineOpen:
		r.problem("transaction %d is reversed in the ledger and waits to be settled", f.Txn)
	}
	return nil
}

// transferOf reads the sum of a transfer's debits.
func transferOf(tx store.Tx, key string) (sum money.Amount, found bool, err error) {
	legs, err := ledger.LegsTx(tx, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, false, nil
	}
	for _, l := range legs {
		if l.Side == ledger.Debit {
			sum += l.Amount
		}
	}
	return sum, err == nil, err
}
