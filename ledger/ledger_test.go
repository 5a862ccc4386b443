package ledger

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func each(t *testing.T, f func(t *testing.T, l *Ledger)) {
	t.Helper()
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) { f(t, New(db)) })
}

func post(t *testing.T, l *Ledger, transfers ...Transfer) {
	t.Helper()
	if err := l.Post(t.Context(), transfers...); err != nil {
		t.Fatal(err)
	}
}

// wants reads "2101:898110054110001=96.40 1101=99.52"; an available balance is
// written with ~.
func wants(t *testing.T, l *Ledger, balances string) {
	t.Helper()
	for _, w := range strings.Fields(balances) {
		available := false
		place, amount, found := strings.Cut(w, "=")
		if !found {
			place, amount, _ = strings.Cut(w, "~")
			available = true
		}
		var a Account
		code, sub, _ := strings.Cut(place, ":")
		if _, err := fmt.Sscan(code, (*int16)(&a)); err != nil {
			t.Fatal(err)
		}
		b, err := l.Balance(t.Context(), a, sub)
		if err != nil {
			t.Fatal(err)
		}
		got := b.Net(a)
		if available {
			got = b.Available(a)
		}
		if got.String() != amount {
			t.Errorf("%s %s is %s, want %s", a, sub, got, amount)
		}
	}
}

func sound(t *testing.T, l *Ledger) *Report {
	t.Helper()
	for _, check := range []func() (*Report, error){
		func() (*Report, error) { return l.SelfCheck(t.Context()) },
		func() (*Report, error) { return l.Verify(t.Context()) },
	} {
		r, err := check()
		if err != nil {
			t.Fatal(err)
		}
		if !r.OK() {
			t.Fatalf("the ledger is wrong:\n%s", strings.Join(r.Problems, "\n"))
		}
		if r.Transfers > 0 {
			return r
		}
	}
	return nil
}

// One sale's whole life.
func TestLifeOfASale(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		sale := microSale(7, alice)
		for range 3 { // a repetition has no effect
			booked, err := l.PostSales(t.Context(), []Clearing{sale, sale})
			if err != nil {
				t.Fatal(err)
			}
			_ = booked
		}
		wants(t, l, "1101=99.52 2101=96.40 2101:"+alice+"=96.40 4101=0.60 4102=3.00 5101=0.45 5102=0.03")

		pay := Payout{Ref: "p1", Date: later, Merchant: alice, Amount: 9640}
		post(t, l, pay.Reserve()...)
		post(t, l, pay.Reserve()...)
		wants(t, l, "2101:"+alice+"=96.40 2101:"+alice+"~0.00 2102=0.00")
		receipt, _ := NetworkReceipt("up/1", later, "", 9952, 9952)
		post(t, l, receipt)
		post(t, l, pay.Success()...)
		post(t, l, pay.Success()...)
		wants(t, l, "2101:"+alice+"=0.00 2102=0.00 1001=3.12 1101=0.00")
		if err := l.Post(t.Context(), pay.Failed()...); !errors.Is(err, ErrResolved) {
			t.Errorf("failing a paid payout: %v", err)
		}

		post(t, l, pay.Returned(false)...)
		wants(t, l, "1001=99.52 2103:"+alice+"=96.40")
		again := Payout{Ref: "p1-R1", Date: later, Merchant: alice, Amount: 9640, Reissue: true}
		post(t, l, again.Reserve()...)
		wants(t, l, "2103:"+alice+"~0.00")
		post(t, l, again.Failed()...)
		wants(t, l, "2103:"+alice+"~96.40 2102=0.00")
		income, err := l.DayIncome(t.Context(), day)
		if err != nil || income.Net() != 3_12 {
			t.Errorf("the day earned %s, %v, want 3.12", income.Net(), err)
		}
		closing, _ := DailyClose(day, later, &income)
		post(t, l, closing, Sweep(day, later, income.Net()))
		for date, want := range map[calendar.Date]money.Amount{day: income.Net(), later: 0} { // what is carried away is no cost of any day
			if again, err := l.DayIncome(t.Context(), date); err != nil || again.Net() != want {
				t.Errorf("after the close %s earned %s, %v, want %s", date, again.Net(), err, want)
			}
		}
		wants(t, l, "4101=0.00 4102=0.00 5101=0.00 2501=0.00 1001=96.40 1002=3.12 4901=3.12")
		if r := sound(t, l); r.Transfers != 10 || r.Safeguarded != r.Owed {
			t.Errorf("report %+v", r)
		}
		trial, err := l.TrialBalance(t.Context(), day)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range trial {
			if line.Account == MerchantPayable && line.Balance.Net(MerchantPayable) != 96_40 {
				t.Errorf("at the end of %d the merchant was owed %s", day, line.Balance.Net(MerchantPayable))
			}
		}
		if now, err := l.TrialBalance(t.Context(), 0); err != nil || len(now) < len(trial) {
			t.Errorf("trial balance of now: %d lines, %v", len(now), err)
		}
	})
}

// D0: paid from own funds, repaid when the network pays.
func TestAdvance(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		s1, s2 := microSale(1, alice), microSale(2, alice)
		if _, err := l.PostSales(t.Context(), []Clearing{s1, s2}); err != nil {
			t.Fatal(err)
		}
		p := Payout{Ref: "d0", Date: day, Merchant: alice, Amount: 9640, Advance: true, Cost: 10}
		if err := l.Post(t.Context(), p.Reserve()...); !errors.Is(err, ErrInsufficient) {
			t.Fatalf("an advance without own funds: %v", err)
		}
		wants(t, l, "2101:"+alice+"~192.80") // nothing of the refused pair was booked
		post(t, l, OwnFunds("start", day, 100_00))
		post(t, l, p.Reserve()...)
		wants(t, l, "1002~3.60")
		post(t, l, p.Success()...)
		wants(t, l, "1002=3.50 1201:"+alice+"=96.40 2201=96.40 2102=0.00 5104=0.10")
		// Returned before the network paid: the own account gets it back.
		back := p
		post(t, l, back.Returned(false)...)
		wants(t, l, "1002=99.90 1201=0.00 2201=0.00 2103:"+alice+"=96.40")
		sound(t, l)

		q := Payout{Ref: "d0-2", Date: day, Merchant: alice, Amount: 9640, Advance: true}
		post(t, l, q.Reserve()...)
		post(t, l, q.Success()...)
		receipt, _ := NetworkReceipt("up/1", later, "", 2*9952, 2*9952)
		post(t, l, receipt)
		post(t, l, q.Repaid()...)
		wants(t, l, "1002=99.90 1201=0.00 2201=0.00 1001=102.64")
		sound(t, l)
	})
}

func TestGuards(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		sale := microSale(1, alice)
		if _, err := l.PostSales(t.Context(), []Clearing{sale, microSale(2, bob)}); err != nil {
			t.Fatal(err)
		}
		much := Payout{Ref: "much", Date: later, Merchant: alice, Amount: 9641}
		if err := l.Post(t.Context(), much.Reserve()...); !errors.Is(err, ErrInsufficient) {
			t.Errorf("one fen too much: %v", err)
		}
		exact := Payout{Ref: "exact", Date: later, Merchant: alice, Amount: 9640}
		post(t, l, exact.Reserve()...)
		if err := l.Post(t.Context(), (&Hold{"f", later, alice, 1}).Ask()); !errors.Is(err, ErrInsufficient) {
			t.Errorf("freezing what is reserved: %v", err)
		}
		// A reversal takes what is already promised: the merchant goes below zero.
		reversal, _ := sale.Reversal(later)
		post(t, l, reversal)
		wants(t, l, "2101:"+alice+"=0.00 2101:"+alice+"~-96.40 2101:"+bob+"=96.40")
		post(t, l, ToArrears("a", later, alice, 96_40))
		wants(t, l, "1301:"+alice+"=96.40 2101:"+alice+"~0.00")
		// All or none: the second of a pair fails, the first is not booked.
		if err := l.Post(t.Context(), (&Hold{"f1", later, bob, 50_00}).Ask(), (&Hold{"f2", later, bob, 50_00}).Ask()); !errors.Is(err, ErrInsufficient) {
			t.Errorf("two freezes of 50.00 on 96.40: %v", err)
		}
		wants(t, l, "2104=0.00 2101:"+bob+"~96.40")
		sound(t, l)
	})
}

func TestKeysAndResolutions(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		ctx := t.Context()
		sale := microSale(1, alice)
		if _, err := l.PostSales(ctx, []Clearing{sale}); err != nil {
			t.Fatal(err)
		}
		other := sale
		other.Amount = 200_00
		if _, err := l.PostSales(ctx, []Clearing{other}); !errors.Is(err, ErrConflict) {
			t.Errorf("another sale under the same key: %v", err)
		}
		// A repetition on another date is the same booking.
		sale.Date = later
		if n, err := l.PostSales(ctx, []Clearing{sale}); err != nil || n != 0 {
			t.Errorf("the sale again a day later: %d, %v", n, err)
		}
		p := Payout{Ref: "x", Date: later, Merchant: alice, Amount: 1_00}
		for _, early := range [][]Transfer{p.Success(), p.Failed()} {
			if err := l.Post(ctx, early...); !errors.Is(err, ErrResolved) {
				t.Errorf("ending what was never reserved: %v", err)
			}
		}
		wrong := Transfer{Key: "w", Event: EventPayoutFailed, Date: later, Kind: Voiding, Resolves: SaleKey(1)}
		if err := l.Post(ctx, wrong); !errors.Is(err, ErrResolved) {
			t.Errorf("voiding a sale: %v", err)
		}
		expiry := p.transfer("expired", EventPayoutFailed, Expiry)
		expiry.Resolves = "payout/x/reserve"
		post(t, l, append(p.Reserve(), expiry)...) // in one call
		wants(t, l, "2101:"+alice+"~96.40 2102=0.00")
		if err := l.Post(ctx, p.Failed()...); !errors.Is(err, ErrResolved) {
			t.Errorf("voiding what has expired: %v", err)
		}
		if r := sound(t, l); r.Transfers != 3 {
			t.Errorf("%d transfers, want 3", r.Transfers)
		}
	})
}

// A transfer that does not balance panics and leaves nothing of what was booked
// with it.
func TestUnbalancedPanicsInsideItsTransaction(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		good := OwnFunds("good", day, 5)
		bad := OwnFunds("bad", day, 5)
		bad.Legs[0].Amount = 6
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "debits less credits of book OWN are 0.01") {
					t.Errorf("recovered %v", v)
				}
			}()
			t.Errorf("posted: %v", l.Post(t.Context(), good, bad))
		}()
		wants(t, l, "1002=0.00")
		post(t, l, good) // the store still works
		wants(t, l, "1002=0.05")
	})
}

// Writers on the same accounts at once: nothing is lost, no guard is passed,
// one of two endings wins.
func TestManyWriters(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		ctx := t.Context()
		const writers, each = 8, 12
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					mine, shared := microSale(int64(1000+w*each+i), alice), microSale(int64(i), bob)
					batch := []Clearing{mine, shared}
					if w%2 == 0 {
						batch[0], batch[1] = batch[1], batch[0]
					}
					if _, err := l.PostSales(ctx, batch); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		wants(t, l, fmt.Sprintf("2101:%s=%s 2101:%s=%s", alice, money.Amount(9640*writers*each), bob, money.Amount(9640*each)))

		var reserved, ended sync.Map
		for w := range writers {
			wg.Go(func() {
				p := Payout{Ref: fmt.Sprint("r", w), Date: later, Merchant: bob, Amount: 9640 * each / 3}
				switch err := l.Post(ctx, p.Reserve()...); {
				case err == nil:
					reserved.Store(w, true)
				case !errors.Is(err, ErrInsufficient):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		count := func(m *sync.Map) (n int) { m.Range(func(any, any) bool { n++; return true }); return n }
		if n := count(&reserved); n != 3 {
			t.Errorf("%d payouts of a third each were reserved", n)
		}
		reserved.Range(func(w, _ any) bool {
			p := Payout{Ref: fmt.Sprint("r", w), Date: later, Merchant: bob, Amount: 9640 * each / 3}
			for i, end := range [][]Transfer{p.Success(), p.Failed()} {
				wg.Go(func() {
					switch err := l.Post(ctx, end...); {
					case err == nil:
						ended.Store(fmt.Sprint(w, "/", i), true)
					case !errors.Is(err, ErrResolved):
						t.Error(err)
					}
				})
			}
			return true
		})
		wg.Wait()
		if n := count(&ended); n != 3 {
			t.Errorf("%d endings of 3 payouts", n)
		}
		sound(t, l)
	})
}

// Whatever is changed behind the ledger's back is found.
func TestVerifyFinds(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		p := Payout{Ref: "x", Date: later, Merchant: alice, Amount: 1_00}
		if _, err := l.PostSales(t.Context(), []Clearing{microSale(1, alice)}); err != nil {
			t.Fatal(err)
		}
		post(t, l, p.Reserve()...)
		post(t, l, p.Failed()...)
		for _, c := range []struct{ do, undo, says string }{
			{"update ledger_balance set credit = credit + 1 where account = 2101 and sub <> ''", "update ledger_balance set credit = credit - 1 where account = 2101 and sub <> ''", "sub-accounts sum up"},
			{"update ledger_balance set debit = debit + 1 where account = 1101", "update ledger_balance set debit = debit - 1 where account = 1101", "book CLIENT: debits"},
			{"update ledger_balance set pending_debit = -1 where account = 2101 and sub = ''", "update ledger_balance set pending_debit = 0 where account = 2101 and sub = ''", "below zero"},
			{"update ledger_day set debit = debit + 1 where account = 1101", "update ledger_day set debit = debit - 1 where account = 1101", "the day has debit 99.53"},
			{"update ledger_day set date = 20261121 where account = 5101", "update ledger_day set date = 20261120 where account = 5101", "the day has nothing"},
			{"update ledger_balance set sub = 'x' where account = 2101 and sub <> ''", "update ledger_balance set sub = '" + alice + "' where sub = 'x'", "there is no balance"},
			{"update ledger_transfer set legs = 'D1101 9952,C2101 9951' where key = 'sale/1'", "", "debits less credits"},
			{"update ledger_transfer set legs = 'D1101' where key = 'sale/1'", "", "not a leg"},
			{"update ledger_transfer set resolves = 'payout/y/reserve' where resolves is not null", "", "not pending"},
		} {
			change := func(sql string) {
				t.Helper()
				if err := l.db.Write(t.Context(), func(tx store.Tx) error {
					n, err := tx.Exec(sql)
					if err == nil && n != 1 {
						t.Errorf("%s changed %d rows", sql, n)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			change(c.do)
			r, err := l.Verify(t.Context())
			if err != nil || r.OK() || !strings.Contains(strings.Join(r.Problems, "\n"), c.says) {
				t.Errorf("%s: %+v, %v; want %q", c.do, r, err, c.says)
			}
			if c.undo != "" {
				change(c.undo)
				sound(t, l)
			}
		}
	})
}

// One byte of one column of a transfer is not what was written: it is named,
// also where all sums are right (fault 38).
func TestFault38_ChangedTransfer(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		if _, err := l.PostSales(t.Context(), []Clearing{microSale(1, alice), microSale(2, alice)}); err != nil {
			t.Fatal(err)
		}
		p := Payout{Ref: "x", Date: later, Merchant: alice, Amount: 1_00}
		post(t, l, p.Reserve()...)
		post(t, l, p.Failed()...)
		storetest.EveryChangeIsFound(t, l.db, Summed)
	})
}

// Random transfers against a map of balances.
func TestAgainstAModel(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		ctx := t.Context()
		next := 0
		rapid.Check(t, func(rt *rapid.T) {
			next++
			world := next
			name := func(s string) string { return fmt.Sprintf("%s-%d", s, world) }
			mids := []string{name("A"), name("B"), name("C")}
			available := map[string]money.Amount{}
			before, err := l.Balance(ctx, MerchantPayable, "")
			if err != nil {
				rt.Fatal(err)
			}
			type payout struct {
				Payout
				ended bool
			}
			var payouts []*payout
			var sales []Clearing
			for step := range rapid.IntRange(1, 25).Draw(rt, "steps") {
				mid := rapid.SampledFrom(mids).Draw(rt, "merchant")
				date := calendar.Date(day + rapid.IntRange(0, 3).Draw(rt, "day"))
				switch rapid.SampledFrom([]string{"sale", "sale", "repeat", "reverse", "reserve", "success", "fail"}).Draw(rt, "what") {
				case "sale":
					s := microSale(int64(world)<<20|int64(step), mid)
					s.Date, s.Amount = date, money.Amount(rapid.IntRange(400, 100_000).Draw(rt, "amount"))
					if _, err := l.PostSales(ctx, []Clearing{s}); err != nil {
						rt.Fatal(err)
					}
					sales = append(sales, s)
					available[mid] += s.Amount - 3_60
				case "repeat":
					if _, err := l.PostSales(ctx, sales); err != nil {
						rt.Fatal(err)
					}
				case "reverse":
					if len(sales) == 0 {
						continue
					}
					s := sales[len(sales)-1]
					sales = sales[:len(sales)-1]
					reversal, _ := s.Reversal(date)
					for range 2 {
						if err := l.Post(ctx, reversal); err != nil {
							rt.Fatal(err)
						}
					}
					available[s.Merchant] -= s.Amount - 3_60
				case "reserve":
					p := &payout{Payout: Payout{Ref: fmt.Sprintf("%s/%d", name("p"), step), Date: date, Merchant: mid, Amount: money.Amount(rapid.IntRange(1, 50_000).Draw(rt, "payout"))}}
					err := l.Post(ctx, p.Reserve()...)
					if enough := p.Amount <= available[mid]; enough != (err == nil) || err != nil && !errors.Is(err, ErrInsufficient) {
						rt.Fatalf("reserving %s of %s: %v", p.Amount, available[mid], err)
					}
					if err == nil {
						available[mid] -= p.Amount
						payouts = append(payouts, p)
					}
				default:
					if len(payouts) == 0 {
						continue
					}
					p := rapid.SampledFrom(payouts).Draw(rt, "payout")
					end := p.Failed()
					fails := rapid.Bool().Draw(rt, "fails")
					if !fails {
						end = p.Success()
					}
					err := l.Post(ctx, end...)
					if p.ended && err != nil && !errors.Is(err, ErrResolved) {
						rt.Fatal(err)
					}
					if !p.ended {
						if err != nil {
							rt.Fatal(err)
						}
						if p.ended = true; fails {
							available[p.Merchant] += p.Amount
						}
					}
				}
			}
			total := before.Available(MerchantPayable)
			for _, mid := range mids {
				b, err := l.Balance(ctx, MerchantPayable, mid)
				if err != nil || b.Available(MerchantPayable) != available[mid] {
					rt.Fatalf("%s has %s, %v; the model says %s", mid, b.Available(MerchantPayable), err, available[mid])
				}
				total += available[mid]
			}
			if b, err := l.Balance(ctx, MerchantPayable, ""); err != nil || b.Available(MerchantPayable) != total {
				rt.Fatalf("the control account is %s, %v; want %s", b.Available(MerchantPayable), err, total)
			}
		})
		sound(t, l)
	})
}

func BenchmarkPostSales(b *testing.B) {
	for name, open := range map[string]func(testing.TB, ...store.Schema) *store.DB{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			l := New(open(b, Schema))
			sales := make([]Clearing, b.N)
			for i := range sales {
				sales[i] = microSale(store.NewID(), fmt.Sprintf("8981100541%05d", i%500))
			}
			b.ReportAllocs()
			b.ResetTimer()
			if n, err := l.PostSales(b.Context(), sales); err != nil || n != b.N {
				b.Fatal(n, err)
			}
		})
	}
}

// Ids of two nodes may be out of order by as much as their clocks differ; an end
// that was written long before what it ends was put there by hand.
func TestVerifyTheOrderOfEnds(t *testing.T) {
	each(t, func(t *testing.T, l *Ledger) {
		post(t, l, OwnFunds("start", day, 100_00))
		h := Hold{Key: "H", Date: day, Merchant: "M", Amount: 5_00}
		sale := Clearing{Txn: 1, Date: day, Merchant: "M", Amount: 100_00}
		s, _ := sale.Sale()
		post(t, l, s, h.Ask())
		post(t, l, h.Confirm())
		for _, c := range []struct {
			before time.Duration
			found  int
		}{{time.Second, 0}, {2 * time.Minute, 1}} {
			if err := l.db.Write(t.Context(), func(tx store.Tx) error {
				_, err := tx.Exec("update ledger_transfer set id = $1 where kind = 3", store.IDAt(time.Now().Add(-c.before)))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			r, err := l.Verify(t.Context())
			if err != nil || len(r.Problems) != c.found || c.found > 0 && !strings.Contains(r.Problems[0], `ends "hold/H", which was written 2m`) {
				t.Errorf("%s before: %+v, %v", c.before, r, err)
			}
		}
	})
}
