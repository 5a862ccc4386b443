package issuer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// opening is what every account of a town starts with.
var opening = money.Yuan(1e9)

// stands checks one request's line in the books, and what its card may spend
// less than at the beginning.
func (tw *town) stands(r *routing.Request, state State, gone money.Amount) {
	tw.t.Helper()
	e, ok := tw.entry(r)
	if !ok || e.State != state {
		tw.t.Errorf("%s of %s is %q in the books, want %q", e.Kind, r.Amount, e.State, state)
	}
	if got := opening - tw.host.Balance(r.PAN); got != gone {
		tw.t.Errorf("after the %s: %s gone, want %s", e.Kind, got, gone)
	}
}

func (tw *town) wantReversed(r *routing.Request, code string) {
	tw.t.Helper()
	if got, err := tw.reverse(r, false); err != nil || got != code {
		tw.t.Errorf("reversal answered %q, %v; want %s", got, err, code)
	}
}

func TestBalance(t *testing.T) {
	tw := newTown(t, nil)
	sale := tw.purchase(5, money.Yuan(30))
	tw.want(sale, "00")
	tw.want(tw.kind(Preauth, sale.PAN, money.Yuan(50)), "00")
	ask := tw.kind(Balance, sale.PAN, 0)
	for range 2 { // a repeat is answered alike
		ans := tw.want(ask, "00")
		if ans.Text(54) != "3001156C099999997000"+"3002156C099999992000" || ans.Has(38) || ans.Has(4) {
			t.Errorf("DE 54 %q, DE 38 %q, DE 4 %q", ans.Text(54), ans.Text(38), ans.Text(4))
		}
	}
	tw.stands(ask, Approved, money.Yuan(80))
	tw.want(tw.kind(OfflineSale, sale.PAN, money.Yuan(1e9)), "00")
	if ans := tw.want(tw.kind(Balance, sale.PAN, 0), "00"); ans.Text(54) != "3001156D000000003000"+"3002156D000000008000" {
		t.Errorf("DE 54 %q", ans.Text(54))
	}
}

func TestVoid(t *testing.T) {
	tw := newTown(t, nil)
	sale := tw.purchase(5, money.Yuan(30))
	approval := tw.want(sale, "00").Text(38)
	other := tw.purchase(6, money.Yuan(30))
	tw.want(other, "00")
	declined := tw.purchase(5, money.Yuan(30)+51)
	tw.want(declined, "51")
	auth := tw.kind(Preauth, sale.PAN, money.Yuan(30))
	tw.want(auth, "00")

	refused := func(what, code string, change func(v *routing.Request)) {
		t.Helper()
		v := tw.follow(Void, sale, money.Yuan(30))
		change(v)
		if got, _, err := tw.send(v); err != nil || got != code {
			t.Errorf("void of %s: %s %v, want %s", what, got, err, code)
		}
	}
	refused("nothing", "30", func(v *routing.Request) { v.Original = nil })
	refused("what nobody knows", "25", func(v *routing.Request) { v.Original.STAN = 999 })
	refused("another card's", "25", func(v *routing.Request) { *v.Original = other.AsOriginal() })
	refused("another approval", "25", func(v *routing.Request) { v.Approval = "999999" })
	refused("another amount", "64", func(v *routing.Request) { v.Amount++ })
	refused("a declined one", "12", func(v *routing.Request) { *v.Original = declined.AsOriginal(); v.Amount = declined.Amount })
	refused("a pre-authorisation", "12", func(v *routing.Request) { *v.Original = auth.AsOriginal() })
	tw.stands(sale, Approved, money.Yuan(60))

	void := tw.follow(Void, sale, money.Yuan(30))
	void.Approval = approval
	first := tw.want(void, "00").Text(38)
	tw.stands(sale, Voided, money.Yuan(30))
	if again := tw.want(void, "00").Text(38); again != first || first == "" {
		t.Errorf("the void was approved as %s, its repeat as %s", first, again)
	}
	refused("a voided one", "12", func(v *routing.Request) {})
	tw.wantReversed(void, "00")
	tw.wantReversed(void, "00")
	tw.stands(void, Reversed, money.Yuan(60))
	tw.stands(sale, Approved, money.Yuan(60)) // stands again
	void = tw.follow(Void, sale, money.Yuan(30))
	tw.want(void, "00")
	tw.wantReversed(sale, "00") // nobody heard of it, and somebody voided it
	tw.wantReversed(void, "00")
	tw.stands(sale, Reversed, money.Yuan(30)) // and so it does not come back

	late := tw.follow(Void, other, money.Yuan(30))
	tw.wantReversed(late, "25")
	tw.want(late, "22")
	tw.stands(other, Approved, money.Yuan(30))
	tw.wantReversed(tw.with(other.PAN, 1), "25")
	stranger := *other
	stranger.PAN = sale.PAN
	tw.wantReversed(&stranger, "25")
	tw.stands(other, Approved, money.Yuan(30))
}

func TestRefund(t *testing.T) {
	tw := newTown(t, nil)
	sale := tw.purchase(5, money.Yuan(30))
	tw.want(sale, "00")
	part := tw.follow(Refund, sale, money.Yuan(20))
	tw.want(part, "00")
	tw.stands(part, Approved, money.Yuan(10))
	tw.want(tw.follow(Refund, sale, money.Yuan(10)+1), "61")
	tw.want(tw.follow(Void, sale, money.Yuan(30)), "12") // refunds stand on it
	tw.wantReversed(sale, "12")
	tw.wantReversed(part, "12") // an advice is not reversed
	part.Repeat = true
	tw.want(part, "00")
	tw.want(tw.follow(Refund, sale, money.Yuan(10)), "00")
	tw.stands(sale, Approved, 0)
	tw.want(tw.follow(Refund, sale, 1), "61")
	tw.want(tw.kind(Refund, sale.PAN, money.Yuan(7)), "00") // of a sale that is not known any more
	tw.stands(sale, Approved, -money.Yuan(7))
	if e, _ := tw.entry(part); e.Repeats != 1 || e.Original != sale.RRN {
		t.Errorf("books %+v", e)
	}
	unknown := tw.follow(Refund, sale, 1)
	unknown.Original.STAN = 999
	tw.want(unknown, "25")
	voided := tw.purchase(6, money.Yuan(3))
	tw.want(voided, "00")
	tw.want(tw.follow(Void, voided, money.Yuan(3)), "00")
	tw.want(tw.follow(Refund, voided, 1), "12")
}

func TestPreauth(t *testing.T) {
	tw := newTown(t, nil)
	pan := tw.is.PAN(5)
	hold := func() *routing.Request {
		t.Helper()
		a := tw.kind(Preauth, pan, money.Yuan(100))
		tw.want(a, "00")
		tw.stands(a, Approved, money.Yuan(100))
		return a
	}
	auth := hold()
	tw.want(tw.follow(PreauthVoid, auth, money.Yuan(99)), "64")
	tw.want(tw.follow(Void, auth, money.Yuan(100)), "12")
	free := tw.follow(PreauthVoid, auth, money.Yuan(100))
	tw.want(free, "00")
	tw.stands(auth, Voided, 0)
	tw.want(tw.follow(Completion, auth, money.Yuan(100)), "12")
	tw.wantReversed(free, "00")
	tw.stands(auth, Approved, money.Yuan(100))
	tw.wantReversed(auth, "00")
	tw.stands(auth, Reversed, 0)

	auth = hold()
	tw.want(tw.follow(Completion, auth, money.Yuan(115)+1), "61")
	done := tw.follow(Completion, auth, money.Yuan(115))
	tw.want(done, "00")
	tw.stands(auth, Completed, money.Yuan(115))
	tw.want(tw.follow(Completion, auth, 1), "12")
	tw.want(tw.follow(PreauthVoid, auth, money.Yuan(100)), "12")
	tw.wantReversed(auth, "12") // a completion stands on it
	tw.wantReversed(done, "00")
	tw.stands(auth, Approved, money.Yuan(100)) // holds again

	done = tw.follow(Completion, auth, money.Yuan(60))
	tw.want(done, "00")
	tw.stands(auth, Completed, money.Yuan(60)) // the rest is released
	tw.want(tw.follow(CompletionVoid, auth, money.Yuan(60)), "12")
	tw.want(tw.follow(CompletionVoid, done, money.Yuan(100)), "64")
	undone := tw.follow(CompletionVoid, done, money.Yuan(60))
	tw.want(undone, "00")
	tw.stands(done, Voided, 0)
	tw.stands(auth, Completed, 0) // used up: the hold does not come back
	tw.want(tw.follow(Completion, auth, money.Yuan(60)), "12")
	tw.wantReversed(undone, "00")
	tw.stands(done, Approved, money.Yuan(60))
	tw.want(tw.follow(Refund, done, money.Yuan(60)), "00")
	tw.stands(done, Approved, 0)

	auth = hold()
	tw.host.Deposit(pan, 0) // all that is left is what is held
	notice := tw.follow(CompletionNotice, auth, money.Yuan(110))
	tw.want(tw.follow(Completion, auth, money.Yuan(110)), "51")
	tw.want(notice, "00") // an advice of what was done already
	if got := tw.host.Balance(pan); got != -money.Yuan(10) {
		t.Errorf("balance after the notice %s", got)
	}
	tw.want(tw.follow(CompletionNotice, auth, money.Yuan(1)), "12")
	tw.want(tw.follow(CompletionVoid, notice, money.Yuan(110)), "12") // a notice cannot be voided, only refunded
	tw.host.Deposit(pan, money.Yuan(100))
	auth = tw.kind(Preauth, pan, money.Yuan(100))
	tw.want(auth, "00")
	tw.want(tw.kind(Sale, pan, 1), "51") // what is held cannot be spent
	tw.host.Deposit(pan, -money.Yuan(5))
	tw.want(tw.follow(Completion, auth, money.Yuan(100)), "00") // what is held is there
}

func TestAdvices(t *testing.T) {
	tw := newTown(t, nil)
	pan := tw.is.PAN(5)
	tw.host.Deposit(pan, money.Yuan(10))
	spent := tw.kind(OfflineSale, pan, money.Yuan(30))
	spent.Approval = "T12345"
	ans := tw.want(spent, "00")
	if ans.MTI() != 0x0230 || ans.Text(38) != "T12345" {
		t.Errorf("answered by %v with DE 38 %q", ans.MTI(), ans.Text(38))
	}
	balance := func(want money.Amount) {
		t.Helper()
		if got := tw.host.Balance(pan); got != want {
			t.Errorf("balance %s, want %s", got, want)
		}
	}
	balance(-money.Yuan(20))
	repeat := *spent
	repeat.Repeat = true
	if again := tw.want(&repeat, "00"); again.Text(38) != ans.Text(38) {
		t.Errorf("approved as %s, the repeat as %s", ans.Text(38), again.Text(38))
	}
	other := repeat
	other.Amount++
	tw.want(&other, "94")
	balance(-money.Yuan(20))
	tw.wantReversed(spent, "12")

	tip := tw.follow(Adjust, spent, money.Yuan(5))
	tw.want(tip, "00")
	balance(-money.Yuan(25))
	less := tw.follow(Adjust, spent, money.Yuan(35)+1)
	less.Processing = "220000"
	tw.want(less, "61")
	less = tw.follow(Adjust, spent, money.Yuan(15))
	less.Processing = "220000"
	tw.want(less, "00")
	balance(-money.Yuan(10))
	tw.want(tw.follow(Refund, spent, money.Yuan(20)+1), "61") // of what the adjustments left
	alone := tw.kind(Adjust, pan, 1)
	tw.want(alone, "30")

	tw.host.Deposit(pan, money.Yuan(100))
	sale := tw.kind(Sale, pan, money.Yuan(50))
	tw.want(sale, "00")
	tip = tw.follow(Adjust, sale, money.Yuan(8))
	tw.want(tip, "00")
	balance(money.Yuan(42))
	tw.wantReversed(sale, "12")
	tw.want(tw.follow(Void, sale, money.Yuan(50)), "64") // the receipt says 58
	void := tw.follow(Void, sale, money.Yuan(58))
	tw.want(void, "00")
	balance(money.Yuan(100))
	if e, _ := tw.entry(tip); e.State != Voided || e.Takes != 0 {
		t.Errorf("the tip of a voided sale: %+v", e)
	}
	tw.want(tw.follow(Adjust, sale, 1), "12")
	tw.wantReversed(void, "00")
	balance(money.Yuan(42))
}

func TestPartialApproval(t *testing.T) {
	tw := newTown(t, nil)
	pan := tw.is.PAN(5)
	tw.host.Deposit(pan, money.Yuan(40))
	poor := func(kind Kind, amount money.Amount, partial bool) *routing.Request {
		r := tw.kind(kind, pan, amount)
		r.Partial = partial
		return r
	}
	tw.want(poor(Sale, money.Yuan(50), false), "51")
	tw.want(poor(Preauth, money.Yuan(50), true), "51") // only of a sale
	sale := poor(Sale, money.Yuan(50), true)
	for range 2 {
		if ans := tw.want(sale, "10"); ans.Text(4) != "000000004000" || ans.Text(54) != "3001156C000000000000"+"3002156C000000000000" || ans.Text(38) == "" {
			t.Errorf("DE 4 %s, DE 54 %q, DE 38 %q", ans.Text(4), ans.Text(54), ans.Text(38))
		}
	}
	if e, _ := tw.entry(sale); e.State != Approved || e.Amount != money.Yuan(50) || e.Part != money.Yuan(40) || e.Takes != money.Yuan(40) {
		t.Errorf("books %+v", e)
	}
	tw.want(poor(Sale, money.Yuan(50), true), "51") // nothing is left
	tw.want(tw.follow(Void, sale, money.Yuan(50)), "64")
	void := tw.follow(Void, sale, money.Yuan(40))
	tw.want(void, "00")
	tw.wantReversed(void, "00")
	tw.wantReversed(sale, "00") // by what was asked
	if got := tw.host.Balance(pan); got != money.Yuan(40) {
		t.Errorf("balance %s", got)
	}
	sale = poor(Sale, money.Yuan(60), true)
	tw.want(sale, "10")
	sale.Amount = money.Yuan(40)
	tw.wantReversed(sale, "00") // or by what was given
	whole := poor(Sale, money.Yuan(30), true)
	if ans := tw.want(whole, "00"); ans.Text(54) != "3001156C000000001000"+"3002156C000000001000" {
		t.Errorf("DE 54 %q", ans.Text(54))
	}
	half := poor(Sale, 10*100+10, true)
	tw.host.Deposit(pan, money.Yuan(100))
	if ans := tw.want(half, "10"); ans.Text(4) != "000000000505" {
		t.Errorf("half of 10.10 is %s", ans.Text(4))
	}
	if got := tw.host.Balance(pan); got != money.Yuan(100)-505 {
		t.Errorf("balance %s", got)
	}
	tw.host.Deposit(pan, 504)
	tw.want(poor(Sale, 10*100+10, true), "51") // not even half is there
}

// TestChipKinds is what an issuer asks of a chip beside a sale's cryptogram.
func TestChipKinds(t *testing.T) {
	tw := newTown(t, nil)
	c, r := tw.chip(simcard.Good)
	pan := r.PAN
	chip := func(kind Kind, amount money.Amount, cid byte) *routing.Request {
		t.Helper()
		r := tw.kind(kind, pan, amount)
		r.Track2, r.EntryMode, r.Sequence = nil, "052", "001"
		r.ICData = tw.de55(c, cid, amount)
		return r
	}
	tw.want(chip(Balance, 0, simcard.ARQC), "00")
	sold := chip(ChipOfflineSale, money.Yuan(20), simcard.TC)
	if ans := tw.want(sold, "00"); ans.Has(55) {
		t.Error("a chip that has gone home was answered")
	}
	tw.stands(sold, Approved, money.Yuan(20))
	if e, _ := tw.entry(sold); e.Kind != ChipOfflineSale {
		t.Errorf("books %+v", e)
	}
	for what, bad := range map[string]*routing.Request{
		"an offline sale that the chip declined": chip(ChipOfflineSale, money.Yuan(20), simcard.AAC),
		"a sale that the chip approved offline":  chip(Sale, money.Yuan(20), simcard.TC),
		"a sale that the chip declined":          chip(Sale, money.Yuan(20), simcard.AAC),
	} {
		if got, _, err := tw.send(bad); err != nil || got != "05" {
			t.Errorf("%s: %s %v", what, got, err)
		}
	}
	without := chip(ChipOfflineSale, money.Yuan(20), simcard.TC)
	without.ICData = []byte{0x82, 2, 0x7C, 0}
	tw.want(without, "05")
	tw.stands(sold, Approved, money.Yuan(20))
}

func TestOldATC(t *testing.T) {
	for _, strict := range []bool{false, true} {
		tw := newTown(t, func(c *Config, _ *routing.Config) { c.StrictATC = strict })
		c, r := tw.chip(simcard.Good)
		buy := func() (string, Entry) {
			t.Helper()
			r := tw.with(r.PAN, money.Yuan(12))
			r.Track2, r.EntryMode, r.Sequence, r.ICData = nil, "052", "001", tw.de55(c, simcard.ARQC, money.Yuan(12))
			code, _, err := tw.send(r)
			if err != nil {
				t.Fatal(err)
			}
			e, _ := tw.entry(r)
			return code, e
		}
		c.SetATC(7)
		if code, e := buy(); code != "00" || e.OldATC {
			t.Errorf("strict %v, a first time: %s, %+v", strict, code, e)
		}
		c.SetATC(7) // a clone, or a recording
		want := map[bool]string{false: "00", true: "05"}[strict]
		if code, e := buy(); code != want || !e.OldATC {
			t.Errorf("strict %v, the same counter again: %s, %+v", strict, code, e)
		}
		if code, e := buy(); code != "00" || e.OldATC {
			t.Errorf("strict %v, the next one: %s, %+v", strict, code, e)
		}
		if n := tw.host.Totals().OldATCs; n != 1 {
			t.Errorf("%d old counters in the totals", n)
		}
	}
}

func TestScriptsAndTheirResults(t *testing.T) {
	tw := newTown(t, nil)
	c, r := tw.chip(simcard.Good)
	for _, s := range []struct {
		fen     byte
		results string
		tvr     byte
	}{{0x71, "2000000071", 0}, {0x72, "2000000072", 0}, {0x73, "1100000073", 0x10}} {
		amount := money.Yuan(12) + money.Amount(s.fen>>4*10+s.fen&15)
		sale := tw.with(r.PAN, amount)
		sale.Track2, sale.EntryMode, sale.Sequence, sale.ICData = nil, "052", "001", tw.de55(c, simcard.ARQC, amount)
		ans := tw.want(sale, "00")
		if tag91, _ := spec.FindTLV(ans.Bytes(55), 0x91); c.CheckARPC(tag91) != nil {
			t.Errorf("DE 55 %X", ans.Bytes(55))
		}
		results, tvr := c.ApplyScripts(ans.Bytes(55))
		if fmt.Sprintf("%X", results) != s.results || tvr != s.tvr {
			t.Errorf("results %X, TVR byte %02X; want %s, %02X", results, tvr, s.results, s.tvr)
		}
		told := tw.follow(ScriptResult, sale, amount)
		told.ICData = spec.AppendTLV(nil, 0xDF31, results)
		for range 2 {
			if ans := tw.want(told, "00"); ans.MTI() != 0x0630 {
				t.Errorf("answered by %v", ans.MTI())
			}
			told.Repeat = true
		}
		if e, _ := tw.entry(told); e.Scripts != s.results || e.Takes != 0 || e.Repeats != 1 || e.Original != sale.RRN {
			t.Errorf("books %+v", e)
		}
		void := tw.follow(Void, sale, amount) // a script's result is in nobody's way
		tw.want(void, "00")
	}
	if c.Blocked() || c.Stored(0x9F54) == nil {
		t.Error("the card obeyed the wrong scripts")
	}
	unknown := tw.follow(ScriptResult, r, 1)
	tw.want(unknown, "25")
	unknown = tw.kind(ScriptResult, r.PAN, 1)
	tw.want(unknown, "30")
}

// TestNext orders weather for what follows a sale, whose amount asks for none.
func TestNext(t *testing.T) {
	inFakeTime(t, impatient, func(t *testing.T, tw *town) {
		sale := tw.purchase(5, money.Yuan(30))
		tw.want(sale, "00")
		order := func(o ...Order) {
			t.Helper()
			if err := tw.host.Next(o...); err != nil {
				t.Fatal(err)
			}
		}
		silence := func(r *routing.Request) {
			t.Helper()
			if code, _, err := tw.send(r); !errors.Is(err, routing.ErrUnanswered) {
				t.Errorf("heard %q, %v; want no answer", code, err)
			}
		}
		order(Order{Kind: Void, Storm: Silent}, Order{Kind: Void, Storm: Decline}, Order{Kind: Void, Storm: Decline, Code: "91"},
			Order{Kind: Reversal, Count: 2, Storm: Lost})
		void := tw.follow(Void, sale, money.Yuan(30))
		silence(void)
		tw.stands(sale, Voided, 0)
		for range 2 {
			if _, err := tw.reverse(void, false); !errors.Is(err, routing.ErrUnanswered) {
				t.Error(err)
			}
		}
		tw.stands(sale, Voided, 0)
		tw.wantReversed(void, "00")
		tw.stands(sale, Approved, money.Yuan(30))
		tw.want(tw.follow(Void, sale, money.Yuan(30)), "05")
		tw.want(tw.follow(Void, sale, money.Yuan(30)), "91")
		void = tw.follow(Void, sale, money.Yuan(30))
		tw.want(void, "00")
		order(Order{Kind: Reversal, Storm: Decline, Code: "96"}, Order{Kind: Reversal, Storm: Silent})
		tw.wantReversed(void, "96")
		tw.stands(sale, Voided, 0)
		if _, err := tw.reverse(void, true); !errors.Is(err, routing.ErrUnanswered) {
			t.Error(err)
		}
		tw.stands(sale, Approved, money.Yuan(30))

		advice := tw.kind(OfflineSale, sale.PAN, money.Yuan(9))
		order(Order{Kind: OfflineSale, Count: 2, Storm: Silent}) // its first sending and its first repeat
		silence(advice)
		advice.Repeat = true
		silence(advice)
		tw.want(advice, "00")
		tw.stands(advice, Approved, money.Yuan(39))

		order(Order{Kind: Sale, Storm: Calm})
		tw.want(tw.purchase(6, 98), "00") // an order goes before the amount
		silence(tw.purchase(6, 98))
		calm := tw.kind(Preauth, sale.PAN, money.Yuan(1))
		tw.want(calm, "00")
		tw.want(tw.follow(Completion, calm, 98), "00") // only amounts that were chosen ask for weather

		for _, bad := range []Order{{}, {Kind: "tea"}, {Kind: Void, Count: -1}, {Kind: Void, Storm: Silent, Code: "05"}, {Kind: Void, Storm: Decline, Code: "5"}, {Kind: Void, Storm: 200}} {
			if tw.host.Next(Order{Kind: Void, Storm: Lost}, bad) == nil {
				t.Errorf("%+v passed", bad)
			}
		}
		tw.want(tw.follow(Void, sale, money.Yuan(30)), "00") // nothing was ordered along with a wrong order
	})
}

func TestWeatherOfEveryKind(t *testing.T) {
	inFakeTime(t, impatient, func(t *testing.T, tw *town) {
		sale := tw.purchase(5, money.Yuan(30))
		tw.want(sale, "00")
		if err := tw.host.SetWeather(Weather{Declined: 1}); err != nil {
			t.Fatal(err)
		}
		tw.want(tw.follow(Void, sale, money.Yuan(30)), "05")
		tw.want(tw.follow(Refund, sale, money.Yuan(30)), "05")
		tw.want(tw.kind(OfflineSale, sale.PAN, money.Yuan(1)), "00") // was done already
		if err := tw.host.SetWeather(Weather{Silent: 1}); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*routing.Request{tw.follow(Refund, sale, money.Yuan(1)), tw.kind(Balance, sale.PAN, 0), tw.follow(ScriptResult, sale, 0)} {
			if code, _, err := tw.send(r); !errors.Is(err, routing.ErrUnanswered) {
				t.Errorf("heard %q, %v; want no answer", code, err)
			}
		}
	})
}

func TestTotalsByKind(t *testing.T) {
	tw := newTown(t, nil)
	sale := tw.purchase(5, money.Yuan(30))
	tw.want(sale, "00")
	tw.want(tw.purchase(5, money.Yuan(10)), "00")
	tw.want(tw.follow(Refund, sale, money.Yuan(5)), "00")
	tw.want(tw.kind(Preauth, sale.PAN, money.Yuan(50)), "00")
	done := tw.kind(Preauth, sale.PAN, money.Yuan(50))
	tw.want(done, "00")
	tw.want(tw.follow(Completion, done, money.Yuan(40)), "00")
	voided := tw.purchase(6, money.Yuan(1))
	tw.want(voided, "00")
	tw.want(tw.follow(Void, voided, money.Yuan(1)), "00")
	got := tw.host.Totals()
	want := map[Kind]KindTotals{
		Sale: {Requests: 3, Standing: 2, Takes: money.Yuan(40)}, Refund: {Requests: 1, Standing: 1, Takes: -money.Yuan(5)},
		Preauth: {Requests: 2, Standing: 1, Holds: money.Yuan(50)}, Completion: {Requests: 1, Standing: 1, Takes: money.Yuan(40)},
		Void: {Requests: 1, Standing: 1},
	}
	if !maps.Equal(got.Kinds, want) {
		t.Errorf("kinds %+v\nwant %+v", got.Kinds, want)
	}
	if got.ApprovedAmount != money.Yuan(75) || got.HeldAmount != money.Yuan(50) || got.Voided != 1 || got.Completed != 1 || got.Approved != 6 {
		t.Errorf("totals %+v", got)
	}
}

func TestAbroad(t *testing.T) {
	tw := newTownOf(t, simcard.Abroad, nil)
	c, sale := tw.chip(simcard.Good)
	sale.ICData = tw.de55(c, simcard.ARQC, sale.Amount)
	sale.PINBlock = tw.keys.pinBlock(t, sale.PAN, c.PIN)
	tw.want(sale, "00")
	tw.stands(sale, Approved, sale.Amount)
	h, err := New(Config{Name: simcard.Abroad.Name})
	if err != nil || h.Institution() != "01030001" || !slices.Equal(h.BINs(), []string{simcard.Abroad.BIN}) {
		t.Errorf("%v, %v", h, err)
	}
	if _, err := New(Config{Name: "north", Completion: -1}); err == nil {
		t.Error("a completion of less than nothing passed")
	}
}
