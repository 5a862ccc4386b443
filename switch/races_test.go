package switching_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/spec"
	"acquirer/store/storetest"
)

// What two messages do to the same money at the same moment.

// onBothEngines runs f against a house on SQLite and on PostgreSQL.
func onBothEngines(t *testing.T, f func(t *testing.T, s *street)) {
	patient := withTimeout(10 * time.Second) // a busy machine is no outcome of a race
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, newStreet(t, withAll, patient)) })
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, newStreet(t, withAll, patient, withStore(storetest.PostgresURL(t))))
	})
}

// atOnce sends a message of each device at the same moment, each on its wire, and
// returns the answers' DE 39.
func atOnce(t *testing.T, devices []*device, wires []*wire, messages ...*spec.Message) []string {
	t.Helper()
	frames := make([][]byte, len(messages))
	for i, m := range messages {
		frames[i] = devices[i].frame(t, m)
	}
	codes := make([]string, len(messages))
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range messages {
		wg.Go(func() {
			<-start
			codes[i] = wires[i].ask(frames[i]).Text(39)
		})
	}
	close(start)
	wg.Wait()
	return codes
}

// only fails when an outcome was heard that is not among those wanted.
func only(t *testing.T, heard map[string]int, wanted ...string) {
	t.Helper()
	t.Log(heard)
	for how, n := range heard {
		if !strings.Contains("|"+strings.Join(wanted, "|")+"|", "|"+how+"|") {
			t.Errorf("%d times %s, want one of %v", n, how, wanted)
		}
	}
}

// Two terminals of a merchant refund the same sale at once: never more than it
// was, here and at the issuer.
func TestTwoTerminalsRefundAtOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *street) {
		devices := []*device{s.device(t, 4), s.device(t, 5), s.device(t, 6)}
		wires := []*wire{s.wire(t), s.wire(t), s.wire(t)}
		heard := map[string]int{}
		for i := range 25 {
			sale := devices[0].sale(money.Yuan(100), pan(t, "north", 3000+i))
			sold := wires[0].ask(devices[0].frame(t, sale))
			var refunds []*spec.Message
			for _, d := range devices {
				m := d.follow(sale, sold, 0x0220, "200000", "25", money.Yuan(60))
				m.Set(41, d.tid)
				refunds = append(refunds, m)
			}
			codes := atOnce(t, devices, wires, refunds...)
			n := strings.Count(strings.Join(codes, " "), "00")
			heard[fmt.Sprintf("%d approved", n)]++
			if n != 1 {
				t.Errorf("answered %v", codes)
			}
		}
		only(t, heard, "1 approved")
		s.agree()
	})
}

// The void of a sale and one more thing about it, at once.
func TestVoidAndAnotherAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		other  func(d *device, sale, sold *spec.Message) *spec.Message
		wanted []string
	}{
		"refund": {func(d *device, sale, sold *spec.Message) *spec.Message {
			return d.follow(sale, sold, 0x0220, "200000", "25", money.Yuan(100))
		}, []string{"00 12", "00 22", "12 00", "22 00"}},
		"void": {func(d *device, sale, sold *spec.Message) *spec.Message {
			return d.follow(sale, sold, 0x0200, "200000", "23", money.Yuan(100))
		}, []string{"00 12", "00 22", "12 00", "22 00"}},
		"reversal": {func(d *device, sale, sold *spec.Message) *spec.Message { return d.reversal(sale, "98") },
			[]string{"00 22", "25 00", "00 00"}}, // 22: the void is under way; 00 behind a void: it is undone
		"adjustment": {func(d *device, sale, sold *spec.Message) *spec.Message {
			return d.follow(sale, sold, 0x0220, "000000", "32", money.Yuan(101))
		}, []string{"00 12", "00 22", "64 00", "22 00"}},
	} {
		t.Run(name, func(t *testing.T) {
			onBothEngines(t, func(t *testing.T, s *street) {
				s.weather("north", issuer.Weather{Jitter: 3 * time.Millisecond})
				d := s.device(t, 4)
				devices, wires := []*device{d, d}, []*wire{s.wire(t), s.wire(t)}
				heard := map[string]int{}
				for i := range 25 {
					sale := d.sale(money.Yuan(100), pan(t, "north", 3100+i))
					sold := wires[0].ask(d.frame(t, sale))
					void := d.follow(sale, sold, 0x0200, "200000", "23", money.Yuan(100))
					codes := atOnce(t, devices, wires, void, c.other(d, sale, sold))
					heard[strings.Join(codes, " ")]++
				}
				only(t, heard, c.wanted...)
				s.agree()
			})
		})
	}
}

// The completion of a pre-authorisation and its void, at once.
func TestCompletionAndVoidAtOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *street) {
		s.weather("north", issuer.Weather{Jitter: 3 * time.Millisecond})
		d := s.device(t, 4)
		devices, wires := []*device{d, d, d}, []*wire{s.wire(t), s.wire(t), s.wire(t)}
		heard := map[string]int{}
		for i := range 25 {
			hold := d.sale(money.Yuan(100), pan(t, "north", 3200+i))
			hold.SetMTI(0x0100)
			hold.Set(3, "030000")
			hold.Set(25, "06")
			hold.Set(60, "10000001000600")
			held := wires[0].ask(d.frame(t, hold))
			codes := atOnce(t, devices, wires,
				d.follow(hold, held, 0x0200, "000000", "20", money.Yuan(90)),
				d.follow(hold, held, 0x0100, "200000", "11", money.Yuan(100)),
				d.follow(hold, held, 0x0220, "000000", "24", money.Yuan(95)))
			n := strings.Count(strings.Join(codes, " "), "00")
			heard[fmt.Sprintf("%d approved", n)]++
			if n != 1 {
				t.Errorf("answered %v", codes)
			}
		}
		only(t, heard, "1 approved")
		s.agree()
	})
}

// The void and the refund of a payment by code, at once; and the terminal's
// reversal while the buyer types.
func TestPaymentCodesAtOnce(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *street) {
		d := s.device(t, 4)
		devices, wires := []*device{d, d}, []*wire{s.wire(t), s.wire(t)}
		heard := map[string]int{}
		pay := func(i int) *spec.Message {
			m := d.sale(money.Yuan(30), pan(t, "north", 1))
			for _, n := range []int{2, 14} {
				m.Unset(n)
			}
			m.Set(22, "032")
			b, err := spec.AppendDE59(nil, "A3", []byte(terminal.PayCode("wechat", 5000+i)))
			must(t, err)
			m.SetBytes(59, b)
			return m
		}
		for i := range 20 {
			sale := pay(i)
			sold := wires[0].ask(d.frame(t, sale))
			void, refund := d.follow(sale, sold, 0x0200, "200000", "23", money.Yuan(30)), d.follow(sale, sold, 0x0220, "200000", "25", money.Yuan(20))
			for _, m := range []*spec.Message{void, refund} {
				m.Copy(sold, 59)
			}
			heard[strings.Join(atOnce(t, devices, wires, void, refund), " ")]++
		}
		only(t, heard, "00 12", "00 22", "12 00", "22 00")
		for i := range 5 {
			s.wallets.Next(simwallet.TypesForever)
			sale := pay(100 + i)
			orders := len(s.wallets.Orders())
			wires[0].send(d.frame(t, sale))
			await(t, "the buyer types", func() bool { return len(s.wallets.Orders()) > orders })
			if rc := wires[1].ask(d.frame(t, d.reversal(sale, "98"))).Text(39); rc != "00" {
				t.Errorf("0400 while the buyer types: %s", rc)
			}
			if rc := wires[0].answer().Text(39); rc != "98" {
				t.Errorf("the sale reversed while the buyer types: %s", rc)
			}
		}
		s.agree()
	})
}

// A repeat of what is not decided: the issuer is asked once, and both hear the
// same.
func TestRepeatsOfFollowersInFlight(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *street) {
		d := s.device(t, 4)
		first, second := s.wire(t), s.wire(t)
		sell := func(i int, mti spec.MTI, processing, condition, kind string) (*spec.Message, *spec.Message) {
			sale := d.sale(money.Yuan(100), pan(t, "north", 3300+i))
			sale.SetMTI(mti)
			sale.Set(3, processing)
			sale.Set(25, condition)
			sale.Set(60, kind+"000001000600")
			return sale, first.ask(d.frame(t, sale))
		}
		sale, sold := sell(1, 0x0200, "000000", "00", "22")
		refund := d.follow(sale, sold, 0x0220, "200000", "25", money.Yuan(40))
		sale2, sold2 := sell(2, 0x0200, "000000", "00", "22")
		void := d.follow(sale2, sold2, 0x0200, "200000", "23", money.Yuan(100))
		hold, held := sell(3, 0x0100, "030000", "06", "10")
		completion := d.follow(hold, held, 0x0200, "000000", "20", money.Yuan(110))
		s.weather("north", issuer.Weather{Delay: 150 * time.Millisecond})
		for what, m := range map[string]*spec.Message{"refund": refund, "void": void, "completion": completion} {
			frame := d.frame(t, m)
			n := len(s.issuers["north"].Books())
			first.send(frame)
			s.booked(t, "north", n+1)
			second.send(frame)
			a := first.answer()
			body := bytes.Clone(first.body)
			if b := second.answer(); a.Text(39) != "00" || b.Text(39) != "00" || !bytes.Equal(body, second.body) {
				t.Errorf("%s: answered %s and %s:\n%X\n%X", what, a.Text(39), b.Text(39), body, second.body)
			}
		}
		for _, e := range s.issuers["north"].Books() {
			if e.Repeats != 0 {
				t.Errorf("the issuer was asked for the %s %d times more", e.Kind, e.Repeats)
			}
		}
		s.agree()
	})
}

// The same trace number for the refund of another sale is another refund, and
// is not answered with what became of the first.
func TestSameTraceNumberForAnotherOriginal(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withAll)
	d := s.device(t, 4)
	w := s.wire(t)
	north := pan(t, "north", 3400)
	var originals, answers []*spec.Message
	for range 2 {
		sale := d.sale(money.Yuan(10), north)
		originals, answers = append(originals, sale), append(answers, w.ask(d.frame(t, sale)))
	}
	one := d.follow(originals[0], answers[0], 0x0220, "200000", "25", money.Yuan(10))
	other := clone(one)
	for _, m := range []*spec.Message{one, other} {
		m.Set(61, "0000000000000000")
	}
	other.Copy(answers[1], 37, 38)
	other.Unset(38)
	one.Unset(38)
	if rc := w.ask(d.frame(t, one)).Text(39); rc != "00" {
		t.Errorf("the first: %s", rc)
	}
	if rc := w.ask(d.frame(t, other)).Text(39); rc != "94" {
		t.Errorf("the second, of another sale under the same trace number: answered %s, want 94", rc)
	}
	s.agree()
}

// An adjustment to what the sale comes to anyhow changes nothing: it is refused,
// since an issuer does not take a difference of nothing.
func TestAdjustmentOfNothing(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withAll)
	d := s.device(t, 4)
	w := s.wire(t)
	sale := d.sale(money.Yuan(10), pan(t, "north", 3401))
	sold := w.ask(d.frame(t, sale))
	for _, c := range []struct {
		yuan int64
		rc   string
	}{{10, "13"}, {11, "00"}, {11, "13"}, {10, "00"}, {10, "13"}} {
		frame := d.frame(t, d.follow(sale, sold, 0x0220, "000000", "32", money.Yuan(c.yuan)))
		for range 2 { // a repeat hears the same
			if rc := w.ask(frame).Text(39); rc != c.rc {
				t.Errorf("adjusted to %d: answered %s, want %s", c.yuan, rc, c.rc)
			}
		}
		s.delivered()
	}
	s.agree()
}
