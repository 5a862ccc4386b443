package settlement

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"acquirer/merchant"
	"acquirer/money"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
)

// oneBank binds the street's rail to a bank's name.
func (w *world) oneBank(rail Rail, name string, now time.Time) error {
	w.t.Helper()
	bound, err := OneBank(w.t.Context(), w.db, rail, name, now)
	if err == nil {
		w.cfg.Rail = bound
	}
	return err
}

// Another bank than before, while payouts are on their way at the one before:
// nothing is asked of it, nothing fails, and nothing is paid twice. When nothing is
// on its way any more it takes over, and each bank's changes are read from where
// they were left.
func TestAnotherBank(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		first, old := w.rail, w.bank
		if err := w.oneBank(first, "http://first", clock(monday, 8, 0)); err != nil {
			t.Fatal(err)
		}
		e := w.engine()
		ref := paidFriday(w, e, "93") // processing, paid the next day
		at := "20261120-" + w.merchant(2, "ESIGN-STD", merchant.T1, "95") + "-T1-0"
		w.newBank(simbank.Config{Opening: money.Yuan(1_000_000)})
		files := w.byFile(t.TempDir(), false)
		for _, other := range []struct {
			name string
			rail Rail
		}{{"http://second", w.rail}, {"files for account 999900******0001 at 演示银行", files}} {
			err := w.oneBank(other.rail, other.name, clock(monday, 11, 0))
			if !errors.Is(err, ErrOtherBank) || !strings.Contains(err.Error(), "http://first, where 1 payouts of 994.00") || !strings.Contains(err.Error(), "payout moved") {
				t.Errorf("%s takes over while a payout is on its way: %v", other.name, err)
			}
		}
		if _, err := SameBank(t.Context(), w.db, "files for account 999900******0001 at 演示银行"); !errors.Is(err, ErrOtherBank) {
			t.Errorf("what was ordered over HTTP is asked for in files: %v", err)
		}
		old.Advance(1)
		w.pay(e, clock(monday, 12, 0))
		if p := w.payout(e, ref); p.state != Paid {
			t.Fatalf("it is %s", p.state)
		}
		e1 := e
		if err := w.oneBank(w.rail, "http://second", clock(monday, 13, 0)); err != nil {
			t.Fatal(err)
		}
		tasks, err := e.Tasks(t.Context(), 10)
		if err != nil || len(tasks) != 1 || tasks[0].Kind != "bank_changed" || !strings.Contains(tasks[0].Text, "through http://first before") {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		// A node that still has the first one pays and asks nobody.
		w.sale(strings.Split(at, "-")[1], friday+1, 500_00)
		e = w.engine()
		w.close(e, friday+1)
		w.receive(e, friday+1, clock(monday, 13, 30))
		if _, err := e1.Pay(t.Context(), clock(monday, 14, 0)); !errors.Is(err, ErrOtherBank) || !strings.Contains(err.Error(), "restart") {
			t.Errorf("the node with the first bank: %v", err)
		}
		at = strings.Replace(at, "20261120", "20261121", 1)
		if p := w.payout(e, at); p.state != Created {
			t.Errorf("it sent the payout, which is %s", p.state)
		}
		if _, err := w.cfg.Rail.Query(t.Context(), at); err != nil {
			t.Error(err)
		}
		for range 2 { // the second reads what the first has made
			w.pay(e, clock(monday, 15, 0))
		}
		if p := w.payout(e, at); p.state != Paid || len(w.bank.Payouts()) != 1 || len(old.Payouts()) != 1 {
			t.Errorf("it is %s; the banks have %d and %d", p.state, len(old.Payouts()), len(w.bank.Payouts()))
		}
		cursors := func() string {
			t.Helper()
			var all []string
			w.write(func(tx store.Tx) error {
				rows, err := tx.Query("select name, cursor from settlement_feed where name like 'bank%' order by name")
				_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
					var name, cursor string
					err := r.Scan(&name, &cursor)
					all = append(all, name+"="+cursor)
					return err
				})
				return err
			})
			return strings.Join(all, " ")
		}
		if got, want := cursors(), "bank=1 bank at=http://second bank http://first=2"; got != want {
			t.Errorf("%s; want %s", got, want)
		}
		// And back: what came back there meanwhile is taken in, and the first is read on.
		if err := w.oneBank(first, "http://first", clock(monday, 16, 0)); err != nil {
			t.Fatal(err)
		}
		if got, want := cursors(), "bank=2 bank at=http://first bank http://first=2 bank http://second=1"; got != want {
			t.Errorf("%s; want %s", got, want)
		}
		w.pay(w.engine(), clock(monday, 16, 0))
		w.sound(e)
	})
}

// The same bank at another address is asked there for what is on its way.
func TestBankMoved(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if err := w.oneBank(w.rail, "http://here", clock(monday, 8, 0)); err != nil {
			t.Fatal(err)
		}
		ref := paidFriday(w, w.engine(), "93")
		noted := 0
		note := func(store.Tx) error { noted++; return nil }
		for i := range 2 { // again it says nothing
			was, err := SameBank(t.Context(), w.db, "http://there", note)
			if want := []string{"http://here", "http://there"}[i]; err != nil || was != want {
				t.Errorf("moved from %q, %v; want %q", was, err, want)
			}
		}
		if noted != 1 {
			t.Errorf("noted %d times", noted)
		}
		if err := w.oneBank(w.rail, "http://here", clock(monday, 8, 0)); !errors.Is(err, ErrOtherBank) {
			t.Errorf("the old address is taken: %v", err)
		}
		if err := w.oneBank(w.rail, "http://there", clock(monday, 8, 0)); err != nil {
			t.Fatal(err)
		}
		e := w.engine()
		w.bank.Advance(1)
		w.pay(e, clock(monday, 12, 0))
		if p := w.payout(e, ref); p.state != Paid {
			t.Errorf("it is %s", p.state)
		}
		if err := ForgetBank(t.Context(), w.db); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if err := w.oneBank(w.rail, fmt.Sprintf("http://%d", i), clock(monday, 8, 0)); err != nil {
				t.Errorf("after it was forgotten: %v", err)
			}
		}
		w.sound(e)
	})
}
