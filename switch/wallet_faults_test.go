package switching_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/routing"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/spec"
	switching "acquirer/switch"
)

// codeSale is a sale by a payment code.
func (d *device) codeSale(t *testing.T, amount money.Amount, wallet string, n int) *spec.Message {
	m := d.sale(amount, pan(t, "north", 1))
	for _, n := range []int{2, 14} {
		m.Unset(n)
	}
	m.Set(22, "032")
	b, err := spec.AppendDE59(nil, "A3", []byte(terminal.PayCode(wallet, n)))
	must(t, err)
	m.SetBytes(59, b)
	return m
}

// The faults of the issuer's side, at every wallet: whatever becomes of a
// payment, terminal, journal, ledger and wallet have the same money in the end,
// and a terminal that heard 00 keeps its sale.
func TestFaultsOfWallets(t *testing.T) {
	faults := []struct {
		number int
		storm  simwallet.Storm
		fen    money.Amount // the amount that asks for it
		hears  string
	}{
		{23, simwallet.DropBefore, 92, "98"}, {24, simwallet.DropAfter, 93, "00"}, {24, simwallet.Breaks, 95, "00"}, {24, simwallet.Silent, 98, "00"}, {24, simwallet.Lost, 97, "98"},
		{25, simwallet.Late, 96, "00"}, {25, simwallet.LateSuccess, 79, "98"}, {26, simwallet.OtherAmount, 94, "00"}, {26, simwallet.OtherOrder, 89, "00"}, {26, simwallet.WrongSign, 90, "00"},
		{28, simwallet.Delayed, 99, "98"}, {53, simwallet.ErrorAfter, 85, "00"}, {53, simwallet.ErrorBefore, 91, "98"}, {53, simwallet.Blind, 84, "00"},
	}
	s := newStreet(t, withAll)
	var wg sync.WaitGroup
	for k, name := range routing.Wallets {
		d, w := s.device(t, 4+k), s.wire(t)
		wg.Go(func() {
			for n, f := range faults {
				if simwallet.StormOf(money.Yuan(20)+f.fen) != f.storm {
					t.Errorf("fault %d: .%02d does not ask for it", f.number, f.fen)
				}
				sale := d.codeSale(t, money.Yuan(20)+f.fen, name, 100+n)
				rc := w.ask(d.frame(t, sale)).Text(39)
				if rc != f.hears {
					t.Errorf("%s, fault %d, .%02d: heard %s, want %s", name, f.number, f.fen, rc, f.hears)
				}
				// 31: the same bytes again are the same order, whatever became of it.
				if again := w.ask(d.frame(t, sale)).Text(39); again != rc {
					t.Errorf("%s, fault %d: the repeat heard %s after %s", name, f.number, again, rc)
				}
			}
		})
	}
	wg.Wait()
	if c := s.settled(); c.Manual != 0 {
		t.Errorf("%d with a person", c.Manual)
	}
	for _, o := range s.wallets.Orders() {
		if o.Pays > 1 {
			t.Errorf("%s was asked to pay %s %d times", o.Wallet, o.Number, o.Pays)
		}
	}
	late := map[string]bool{}
	for _, c := range s.raised() {
		switch c.Amount {
		case 20_79:
			late[c.Wallet] = true
		case 20_99: // it may have arrived before its cancel
		default:
			t.Errorf("raised %+v", c)
		}
	}
	if len(late) != len(routing.Wallets) {
		t.Errorf("late successes were raised for %v only", late)
	}
	s.agree()
}

// raised copies the cases.
func (s *street) raised() map[string]switching.Case {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]switching.Case{}
	for k, c := range s.cases {
		out[k] = c
	}
	return out
}

// A case that cannot be raised keeps the cancel on the list: it is done again
// until a person has been told.
func TestACaseIsNotLost(t *testing.T) {
	s := newStreet(t, withAll)
	tries := 0
	s.mu.Lock()
	s.refuseCase = func() error {
		if tries++; tries < 4 {
			return fmt.Errorf("try %d: the store is away", tries)
		}
		return nil
	}
	s.mu.Unlock()
	d := s.device(t, 4)
	if rc := s.wire(t).ask(d.frame(t, d.codeSale(t, 20_79, routing.Alipay, 1))).Text(39); rc != "98" {
		t.Errorf("heard %s", rc)
	}
	s.settled()
	for key, c := range s.raised() {
		if c.Kind != "late_success" || c.Amount != 20_79 || c.Wallet != routing.Alipay || c.Text == "" || key != "late_success:"+c.RRN {
			t.Errorf("raised %+v", c)
		}
	}
	if len(s.raised()) != 1 {
		t.Errorf("raised %v", s.raised())
	}
	s.agree()
}

// WeChat takes no cancel so soon after the payment: it is not asked before, and
// the wait is no try.
func TestCancelWaits(t *testing.T) {
	const pause = time.Second
	s := newStreet(t, withAll, func(p *streetPlan) { p.cancelAfter = pause })
	d := s.device(t, 4)
	sale := d.codeSale(t, 20_82, routing.WeChat, 1)
	opened := time.Now()
	if rc := s.wire(t).ask(d.frame(t, sale)).Text(39); rc != "98" {
		t.Errorf("heard %s", rc)
	}
	number := s.wallets.Orders()[0].Number
	must(t, s.wallets.Await(t.Context(), routing.WeChat, number, func(o *simwallet.Order) bool { return o.Cancels > 0 }))
	if waited := time.Since(opened); waited < pause {
		t.Errorf("cancelled after %s", waited)
	}
	s.settled()
	o, _ := s.wallets.Order(routing.WeChat, number)
	if o.State != simwallet.Closed || o.Cancels != 1 {
		t.Errorf("%+v", o)
	}
	s.agree()
}
