package settlement

import (
	"context"
	"errors"
	"testing"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

func (w *world) write(f func(tx store.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
}

// A line that is held is not paid with its day; released it settles with a
// later one, and dropped it is gone as if it had never been.
func TestHeldLines(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		a, b, c := w.sale(mid, friday, 100_00), w.sale(mid, friday, 200_00), w.sale(mid, friday, 400_00)
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.write(func(tx store.Tx) error {
			for _, f := range []Fact{b, c} {
				if held, err := HoldTx(tx, f.Txn); err != nil || !held {
					t.Errorf("holding %d: %v, %v", f.Txn, held, err)
				}
			}
			held, err := HoldTx(tx, b.Txn)
			if held {
				t.Error("held twice")
			}
			return err
		})
		if d := w.close(e, friday); d.Lines != 1 || d.Gross != a.Amount {
			t.Errorf("the day took %d lines of %s", d.Lines, d.Gross)
		}
		w.sound(e)
		w.write(func(tx store.Tx) error {
			l, err := LineTx(tx, b.Txn)
			if l.State != LineHeld || l.Net() != 200_00-90-7 {
				t.Errorf("held: %+v, net %s", l, l.Net())
			}
			return err
		})
		var settles calendar.Date
		w.write(func(tx store.Tx) (err error) {
			if settles, err = ReleaseTx(tx, b.Txn, friday); err != nil {
				return err
			}
			dropped, err := DropTx(tx, c.Txn, saturday)
			if !dropped {
				t.Error("not dropped")
			}
			return err
		})
		if settles != saturday {
			t.Errorf("released into %s, want %s: friday is closed", settles, saturday)
		}
		w.write(func(tx store.Tx) error {
			if d, err := ReleaseTx(tx, c.Txn, saturday); err != nil || d != 0 {
				t.Errorf("what was dropped was released into %s, %v", d, err)
			}
			return ExpectTx(tx, "k", saturday, "", -1_00)
		})
		w.write(func(tx store.Tx) error { return ExpectTx(tx, "k", saturday, "", -1_00) })
		if d := w.close(e, saturday); d.Lines != 1 || d.Gross != b.Amount {
			t.Errorf("saturday took %d lines of %s", d.Lines, d.Gross)
		}
		if sum, err := e.Expected(t.Context(), saturday, ""); err != nil || sum != 200_00-97-1_00 {
			t.Errorf("expected %s, %v", sum, err)
		}
		var seen []money.Amount
		for l, err := range e.Lines(t.Context(), saturday) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, l.Amount)
		}
		if len(seen) != 1 || seen[0] != 200_00 {
			t.Errorf("lines of saturday: %v", seen)
		}
		w.sound(e)
	})
}

// A sale that was reversed while it was held is gone.
func TestHeldLineIsTakenBack(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		f := w.sale(w.merchant(1, "ESIGN-STD", merchant.T1, "00"), friday, 100_00)
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.write(func(tx store.Tx) error { _, err := HoldTx(tx, f.Txn); return err })
		w.takeBack(f, clock(friday, 13, 0))
		if d := w.close(e, friday); d.Lines != 0 {
			t.Errorf("%d lines", d.Lines)
		}
		w.sound(e)
	})
}

// The day before the first sale needs no files, and is closed once.
func TestBegin(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.cfg.Gate = func(context.Context, calendar.Date) error { return errors.New("no file has come") }
		e := w.engine()
		begins := func(want calendar.Date) {
			t.Helper()
			if err := e.Begin(t.Context(), clock(saturday, 9, 0)); err != nil {
				t.Fatal(err)
			}
			if open, err := e.OpenDate(t.Context()); err != nil || open != want {
				t.Errorf("%s is open, %v, want %s", open, err, want)
			}
		}
		begins(saturday)
		begins(saturday)
		w.sound(e)
	})
	// Books that have a sale already are not closed without their files.
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.cfg.Gate = func(context.Context, calendar.Date) error { return errors.New("no file has come") }
		e := w.engine()
		w.sale(w.merchant(1, "ESIGN-STD", merchant.T1, "00"), friday, 100_00)
		if err := e.Begin(t.Context(), clock(saturday, 9, 0)); err != nil {
			t.Fatal(err)
		}
		if open, err := e.OpenDate(t.Context()); err != nil || open != 0 {
			t.Errorf("%s is open, %v: Friday was closed without a look", open, err)
		}
	})
}

// A date waits at the gate, with those behind it, until the gate opens or
// somebody forces it.
func TestGate(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		shut := errors.New("the network's file has not come")
		open := map[calendar.Date]bool{}
		w.cfg.Gate = func(_ context.Context, d calendar.Date) error {
			if open[d] {
				return nil
			}
			return shut
		}
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		w.sale(mid, saturday, 200_00)
		if _, err := e.CloseDay(t.Context(), friday, clock(friday, 23, 5), false); !errors.Is(err, ErrGate) || !errors.Is(err, shut) {
			t.Fatalf("closed: %v", err)
		}
		open[friday] = true
		w.close(e, friday)
		if _, err := e.CloseDay(t.Context(), saturday, clock(saturday, 23, 5), false); !errors.Is(err, ErrGate) {
			t.Fatalf("closed: %v", err)
		}
		if d, err := e.CloseDay(t.Context(), saturday, clock(saturday, 23, 5), true); err != nil || d.Lines != 1 {
			t.Fatalf("forced: %+v, %v", d, err)
		}
		if d := w.close(e, saturday); d.Lines != 1 { // closed already: nothing to ask
			t.Errorf("again: %+v", d)
		}
		w.sound(e)
	})
}

// What is owed beside the lines, and what a bank's statement is compared with.
func TestOweAndSent(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 100_00)
		if _, err := e.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			w.write(func(tx store.Tx) error {
				fresh, err := OweTx(tx, "found/1", mid, 5_00, 0, "found", clock(friday, 12, 0))
				if fresh != (i == 0) {
					t.Errorf("the %d. time it was new: %v", i+1, fresh)
				}
				if err != nil {
					return err
				}
				_, err = ledger.PostTx(tx, []ledger.Transfer{ledger.LongItem("1", friday, "", 5_00), ledger.LongResolved("1", friday, "", mid, 5_00)})
				return err
			})
		}
		if d := w.close(e, friday); d.Other != 5_00 || d.PayoutTotal != 100_00+5_00-d.Fee {
			t.Errorf("%+v", d)
		}
		w.write(func(tx store.Tx) error { return ExpectTx(tx, "found/1", friday, "", 5_00) })
		w.receive(e, friday, clock(monday, 9, 0))
		if p := w.pay(e, clock(monday, 10, 0)); p.Paid != 1 {
			t.Fatalf("%+v", p)
		}
		w.write(func(tx store.Tx) error {
			paid, err := PaidOnTx(tx, monday, "", 10)
			if err != nil || len(paid) != 1 || paid[0].Merchant != mid {
				t.Fatalf("%+v, %v", paid, err)
			}
			if s, err := SentTx(tx, paid[0].Ref); err != nil || s != paid[0] || s.State != Paid {
				t.Errorf("%+v, %v", s, err)
			}
			if _, err := SentTx(tx, "nobody's"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("nobody's: %v", err)
			}
			r, err := ReceivedTx(tx, friday)
			if len(r) != 1 || r[0].Expected != r[0].Receipt.Received {
				t.Errorf("%+v", r)
			}
			return err
		})
		w.sound(e)
	})
}
