package ledger

import (
	"errors"
	"math"
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// An amount that no house ever books, of a slip of the hand or a damaged row, is an
// error and leaves the books as they were: a sum that does not fit would be a
// negative balance, and on SQLite a floating point number that nobody can read.
func TestAmountsBeyondReason(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		post(t, l, OwnFunds("start", day, 100_00))
		for _, transfers := range [][]Transfer{
			{OwnFunds("a", day, math.MaxInt64)},
			{OwnFunds("b", day, math.MaxInt64/2+1), OwnFunds("c", day, math.MaxInt64/2+1)},
			{OwnFunds("d", day, 1_000_000_000_000_001)},
		} {
			if err := l.Post(t.Context(), transfers...); !errors.Is(err, money.ErrOverflow) {
				t.Errorf("%s: %v", transfers[0].Key, err)
			}
			wants(t, l, "1002=100.00 3001=100.00")
		}
		post(t, l, OwnFunds("e", day, 1_000_000_000_000_000))
		sound(t, l)
	})
}

// Who ends a pending transfer is part of what a key stands for.
func TestKeyOfAnotherResolution(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		if _, err := l.PostSales(t.Context(), []Clearing{microSale(1, alice)}); err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{"x", "y"} {
			post(t, l, (&Payout{Ref: ref, Date: later, Merchant: alice, Amount: 1_00}).Reserve()...)
		}
		end := func(of string) Transfer {
			return Transfer{Key: "end", Event: EventPayoutFailed, Date: later, Ref: "x", Kind: Voiding, Resolves: "payout/" + of + "/reserve"}
		}
		post(t, l, end("x"))
		post(t, l, end("x"))
		if err := l.Post(t.Context(), end("y")); !errors.Is(err, ErrConflict) {
			t.Errorf("the key of another resolution: %v", err)
		}
		wants(t, l, "2101:"+alice+"~95.40")
	})
}

// The income of a date on which an earlier date's income was carried away is its
// own, whether the earlier date won or lost, or gave fees back.
func TestIncomeBesideACarriedClose(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		gain, loss := Income{Rate: 10_00, Issuer: 4_00}, Income{Rate: -1_00, Network: 3_00}
		for i, income := range []Income{gain, loss} {
			s := Clearing{Txn: int64(i + 1), Date: calendar.Date(day).AddDays(i), Merchant: alice, Amount: 1_000_00, FeeRate: income.Rate, IssuerFee: income.Issuer, NetworkFee: income.Network}
			if _, err := l.PostSales(t.Context(), []Clearing{s}); err != nil {
				t.Fatal(err)
			}
		}
		third := calendar.Date(day).AddDays(2)
		own := Clearing{Txn: 3, Date: third, Merchant: alice, Amount: 500_00, FeeRate: 2_00, IssuerFee: 1_00}
		if _, err := l.PostSales(t.Context(), []Clearing{own}); err != nil {
			t.Fatal(err)
		}
		for i, income := range []Income{gain, loss} {
			if c, any := DailyClose(calendar.Date(day).AddDays(i), third, &income); any {
				post(t, l, c)
			}
		}
		for i, want := range []Income{gain, loss, {Rate: 2_00, Issuer: 1_00}} {
			if got, err := l.DayIncome(t.Context(), calendar.Date(day).AddDays(i)); err != nil || got != want {
				t.Errorf("%s earned %+v, %v; want %+v", calendar.Date(day).AddDays(i), got, err, want)
			}
		}
	})
}

// What is safeguarded is what the merchants' account holds and is owed, less what
// merchants are owed, on every account that says so.
func TestSurplus(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		surplus := func() (s money.Amount) {
			t.Helper()
			if err := l.db.Read(t.Context(), func(tx store.Tx) (err error) {
				s, err = SurplusTx(tx)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return s
		}
		if _, err := l.PostSales(t.Context(), []Clearing{microSale(1, alice)}); err != nil { // 99.52 comes, 96.40 is owed
			t.Fatal(err)
		}
		if got := surplus(); got != 3_12 {
			t.Errorf("after a sale %s", got)
		}
		h := Hold{Key: "h", Date: later, Merchant: alice, Amount: 50_00}
		post(t, l, h.Ask(), h.Confirm())
		if got := surplus(); got != 3_12 {
			t.Errorf("what is frozen is owed: %s", got)
		}
		p := Payout{Ref: "x", Date: later, Merchant: alice, Amount: 46_40}
		post(t, l, p.Reserve()...)
		post(t, l, p.Success()...)
		if got := surplus(); got != 3_12 {
			t.Errorf("after a payout %s", got)
		}
		post(t, l, p.Returned(false)...)
		if got := surplus(); got != 3_12 {
			t.Errorf("what came back is owed: %s", got)
		}
	})
}

// Fees of a network's file: each part counts, and what is owed by the network is
// less by all of them.
func TestFeeDifferenceInEveryPart(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		post(t, l, FeeDifference("k", later, "", 1_00, -20, 3))
		wants(t, l, "5101=1.00 5102=-0.20 5103=0.03 1101=-0.83")
		sound(t, l)
	})
}

// What has happened takes a merchant below zero; what we do by ourselves does not.
func TestWhoMayOverdraw(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		back := Clearing{Txn: 7, Date: later, Merchant: alice, Amount: -10_00}
		cost := Payout{Ref: "p", Date: later, Merchant: alice, Amount: 1, Cost: 1_00}
		one := func(t Transfer, _ bool) Transfer { return t }
		for _, c := range []struct {
			t   Transfer
			may bool
		}{
			{(&Chargeback{Key: "c", Date: later, Merchant: alice, Amount: 10_00}).Book(), true},
			{ExtraFee("x", later, alice, 10_00), true},
			{D0Fee("d", later, alice, 10_00), true},
			{ShortResolved("s", later, alice, 10_00), true},
			{one(back.Refund()), true},
			{one(back.Void()), true},
			{one(back.Adjustment()), true},
			{cost.transfer("cost", EventPayoutCost, Posted, d(CostPayout, "", 1_00), c(OwnBank, "", 1_00)), true},
			{(&Hold{Key: "h", Date: later, Merchant: alice, Amount: 10_00}).Ask(), false},
			{cost.Reserve()[0], false},
			{Sweep(day, later, 10_00), true}, // of our own, from accounts without a floor: settlement looks before
			{ToArrears("a", later, alice, -10_00), false},
		} {
			switch err := l.Post(t.Context(), c.t); {
			case c.may && err != nil:
				t.Errorf("%s: %v", c.t.Key, err)
			case !c.may && !errors.Is(err, ErrInsufficient):
				t.Errorf("%s took what is not there: %v", c.t.Key, err)
			}
		}
		sound(t, l)
	})
}

// The check of every minute sees what was reserved on one side alone.
func TestSelfCheckSeesHalfAReserve(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		if _, err := l.PostSales(t.Context(), []Clearing{microSale(1, alice)}); err != nil {
			t.Fatal(err)
		}
		post(t, l, (&Payout{Ref: "x", Date: later, Merchant: alice, Amount: 1_00}).Reserve()...)
		if err := l.db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update ledger_balance set pending_debit = 0 where account = 2101")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if r, err := l.SelfCheck(t.Context()); err != nil || !strings.Contains(strings.Join(r.Problems, "\n"), "book CLIENT: reserved debits 0.00, credits 1.00") {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
