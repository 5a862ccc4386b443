package settlement

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// sign is the second signature under a date.
func (w *world) sign(d calendar.Date, now time.Time) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), func(tx store.Tx) error { return SignedTx(tx, d, now) }); err != nil {
		w.t.Fatal(err)
	}
}

// earned says where a date's income stands.
func (w *world) earned(d calendar.Date, want EarnedState, net money.Amount) {
	w.t.Helper()
	var got Earned
	if err := w.db.Read(w.t.Context(), func(tx store.Tx) (err error) {
		got, err = EarnedTx(tx, d)
		return err
	}); err != nil || got.State != want || got.Net != net {
		w.t.Fatalf("%s: %s of %s, %v; want %s of %s", d, got.State, got.Net, err, want, net)
	}
}

// Income is carried when two people have signed and the date is closed, in
// either order, and swept when its money has come; each once, and the closed
// date stays as it is.
func TestEarned(t *testing.T) {
	for _, order := range []string{"close sign receive", "sign close receive", "close receive sign"} {
		t.Run(order, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				e := w.engine()
				w.fund(e, money.Yuan(10_000))
				late, fast := w.merchant(1, "ESIGN-STD", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.D0, "00")
				w.sale(late, friday, 100_00)  // earns 0.60, costs 0.48
				w.sale(fast, friday, 1000_00) // 6.00, costs 4.83, and 0.05 % of the net for speed, 0.50
				const net = 12 + 117 + 50
				for _, step := range strings.Fields(order) {
					switch step {
					case "close":
						if _, err := e.PayEarly(t.Context(), friday, 1600, clock(friday, 16, 0)); err != nil {
							t.Fatal(err)
						}
						w.close(e, friday)
					case "sign":
						w.sign(friday, clock(saturday, 9, 0))
						w.sign(friday, clock(saturday, 9, 1))
					case "receive":
						w.receive(e, friday, clock(saturday, 10, 0))
					}
					w.sound(e)
					if order == "close sign receive" && step == "sign" {
						w.earned(friday, EarnedCarried, net) // its money has not come
						if got := w.balance(e, ledger.DueToOwnIncome, ""); got != net {
							t.Errorf("carried %s", got)
						}
					}
					if order == "sign close receive" && step == "sign" {
						w.earned(friday, EarnedSigned, 0) // fees for speed may come
					}
				}
				w.earned(friday, EarnedSwept, net)
				once := w.tables()
				for range 2 {
					must(t, e.Earn(t.Context(), clock(monday, 9, 0)))
				}
				w.sign(friday, clock(monday, 9, 0))
				if again := w.tables(); again != once {
					t.Errorf("again:\n%s", difference(once, again))
				}
				for _, a := range []ledger.Account{ledger.IncomeRate, ledger.IncomeD0, ledger.CostIssuer, ledger.CostNetwork, ledger.DueToOwnIncome} {
					if got := w.balance(e, a, ""); got != 0 {
						t.Errorf("%s holds %s", a, got)
					}
				}
				if got := w.balance(e, ledger.IncomeOwn, ""); got != net {
					t.Errorf("swept %s", got)
				}
				// The day's figures are still the day's, also after the close took them away.
				for d, want := range map[calendar.Date]money.Amount{friday: net, saturday: 0} {
					if i, err := e.ledger.DayIncome(t.Context(), d); err != nil || i.Net() != want {
						t.Errorf("%s earned %s, %v; want %s", d, i.Net(), err, want)
					}
				}
				lines, err := e.ledger.TrialBalance(t.Context(), friday)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range lines {
					if l.Account == ledger.IncomeRate && l.Balance.Net(l.Account) != 6_60 {
						t.Errorf("at the end of Friday the fees by rate were %s", l.Balance.Net(l.Account))
					}
				}
			})
		})
	}
}

// A close that loses is carried and not swept; the next sweep is smaller by it.
func TestEarnedLoss(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		days := []calendar.Date{friday, saturday}
		w.sale(mid, friday, 100_00)
		w.sale(mid, saturday, 1000_00)
		for i, d := range days {
			catchUp(t, e)
			if i == 0 { // a network's file had a higher fee
				must(t, e.ledger.Post(t.Context(), ledger.FeeDifference("north", friday, "", 50, 0, 0)))
			}
			w.close(e, d)
			w.receive(e, d, clock(d.AddDays(1), 9, 0))
			w.sign(d, clock(d.AddDays(1), 10, 0))
		}
		w.sound(e)
		w.earned(friday, EarnedSwept, -38)
		w.earned(saturday, EarnedSwept, 117)
		if swept, due := w.balance(e, ledger.IncomeOwn, ""), w.balance(e, ledger.DueToOwnIncome, ""); swept != 117-38 || due != 0 {
			t.Errorf("swept %s, %s left", swept, due)
		}
	})
}

// What belongs to a held line is carried with the day by which it is free.
func TestEarnedLeavesWhatIsHeld(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 1000_00)
		held := w.sale(mid, friday, 100_00)
		w.sale(mid, saturday, 1000_00)
		catchUp(t, e)
		must(t, w.db.Write(t.Context(), func(tx store.Tx) error {
			ok, err := HoldTx(tx, held.Txn)
			if err == nil && !ok {
				err = errors.New("not held")
			}
			return err
		}))
		w.close(e, friday)
		w.receive(e, friday, clock(saturday, 9, 0))
		w.sign(friday, clock(saturday, 10, 0))
		w.earned(friday, EarnedSwept, 117)
		w.sound(e)
		must(t, w.db.Write(t.Context(), func(tx store.Tx) error {
			_, err := ReleaseTx(tx, held.Txn, saturday)
			return err
		}))
		w.close(e, saturday)
		w.receive(e, saturday, clock(monday, 9, 0))
		w.sign(saturday, clock(monday, 10, 0))
		w.earned(saturday, EarnedSwept, 117+12)
		w.sound(e)
		if left := w.balance(e, ledger.IncomeRate, ""); left != 0 {
			t.Errorf("%s of fees was never carried", left)
		}
	})
}

// Merchants' money is never swept: the sweep waits until there is enough beside it.
func TestSweepWaitsForCover(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 1000_00)
		w.close(e, friday)
		must(t, e.Receive(t.Context(), Receipt{Date: friday, Received: 995_17 - 1_00, Reference: "UP1"}, clock(saturday, 9, 0))) // 1.00 is short
		w.sign(friday, clock(saturday, 10, 0))
		w.earned(friday, EarnedCarried, 117)
		must(t, e.ledger.Post(t.Context(), ledger.LongItem("gift", saturday, "", 1_00)))
		must(t, e.Earn(t.Context(), clock(saturday, 11, 0)))
		w.earned(friday, EarnedSwept, 117)
		w.sound(e)
	})
}

// What was earned is not paid out of an account that other days' payouts have
// emptied, although networks owe enough.
func TestSweepWaitsForTheBankAccount(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		w.sale(mid, friday, 1_000_00)
		w.sale(mid, saturday, 5_000_00)
		w.close(e, friday)
		w.close(e, saturday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0)) // both days
		w.sign(friday, clock(monday, 11, 0))
		if got := w.balance(e, ledger.ClientBank, ""); got >= 0 {
			t.Fatalf("the account holds %s", got)
		}
		w.earned(friday, EarnedCarried, 6_00-4_50-33)
		w.receive(e, saturday, clock(monday, 15, 0))
		w.earned(friday, EarnedSwept, 6_00-4_50-33)
		w.sound(e)
	})
}

// However the process ends between two writes, and however many run at once, a
// day is carried and swept once.
func TestEarnedInterrupted(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := w.engine()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
		days := []calendar.Date{friday, saturday}
		for _, d := range days {
			w.sale(mid, d, 1000_00)
			w.sign(d, clock(friday, 9, 0))
		}
		for n := 1; ; n++ {
			dying := w.engine()
			ctx, names := crashAt(t.Context(), dying, n)
			var err error
			for _, d := range days {
				if _, err = dying.CloseDay(ctx, d, clock(d, 23, 5), false); err != nil {
					break
				}
				if err = dying.Receive(ctx, Receipt{Date: d, Received: 995_17, Reference: "UP-" + d.String()}, clock(d.AddDays(1), 9, 0)); err != nil {
					break
				}
			}
			if err == nil {
				if n < 3 {
					t.Fatalf("it never ended: %v", *names)
				}
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
		}
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				if err := e.Earn(t.Context(), clock(monday, 9, 0)); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		for _, d := range days {
			w.earned(d, EarnedSwept, 117)
		}
		w.sound(e)
		if got := w.balance(e, ledger.IncomeOwn, ""); got != 2*117 {
			t.Errorf("swept %s", got)
		}
	})
}

// The check of the books finds a close or a sweep that should not be.
func TestCheckFindsWrongIncome(t *testing.T) {
	for name, spoil := range map[string]struct {
		with ledger.Transfer
		want string
	}{
		"a close of a day nobody signed":  {one(ledger.DailyClose(saturday, monday, &ledger.Income{Rate: 5})), "account for"},
		"a sweep of what was not carried": {ledger.Sweep(friday, monday, 500), "was swept"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				e := w.engine()
				mid := w.merchant(1, "ESIGN-STD", merchant.T1, "00")
				w.sale(mid, friday, 1000_00)
				w.close(e, friday)
				w.sign(friday, clock(saturday, 9, 0))
				w.sound(e)
				must(t, e.ledger.Post(t.Context(), spoil.with))
				problems, err := e.CheckAll(t.Context())
				if err != nil || !strings.Contains(strings.Join(problems, "\n"), spoil.want) {
					t.Errorf("%v, %v", problems, err)
				}
			})
		})
	}
}

// catchUp books what the journal has.
func catchUp(t *testing.T, e *Engine) {
	t.Helper()
	if _, err := e.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func one(t ledger.Transfer, _ bool) ledger.Transfer { return t }
