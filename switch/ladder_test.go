package switching_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"acquirer/hsm/algo"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/simulate/issuer"
	"acquirer/spec"
)

// TestLadder climbs the ladder of a purchase rung by rung. The message begins
// wrong in everything at once; each row is what it hears, and then repairs
// that one thing. So every row breaks its own rung and all behind it, and the
// rows stand in the order of handle (handlers.go), climb (ladder.go), the
// limits and the issuer.
func TestLadder(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withRules([]limits.Rule{{Scope: limits.Card, DayAmount: money.Yuan(104), DayCount: 1}, {Scope: limits.Terminal, Single: money.Yuan(500)}}))
	ctx := context.Background()
	d := s.device(t, 0) // MICRO-2025, which has a smallest sale
	d.set = "004"
	d.signIn(t, s.wire(t)) // with a track key
	w := s.wire(t)
	card := chipCard(t, "north", 300)

	status := func(what merchant.Status, who string) {
		t.Helper()
		term, ok := s.registry.Terminal([]byte(d.tid))
		m, known := s.registry.Merchant([]byte(d.mid))
		if !ok || !known {
			t.Fatal("the terminal is gone")
		}
		mt, mm := *term, *m
		if who == "terminal" {
			mt.Status = what
		} else {
			mm.Status = what
		}
		must(t, s.registry.Put(ctx, []merchant.Merchant{mm}, []merchant.Terminal{mt}))
	}
	// What a message may be wrong in beyond its fields.
	wrongMAC, stan := true, false

	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, 0x0200)
	m.Set(3, "990000")
	m.Set(41, "ZZZZZZZZ")
	m.SetBytes(64, make([]byte, 8))
	status(merchant.Suspended, "terminal")
	status(merchant.Closed, "merchant")

	pinBlock := func(pin string) []byte {
		p, err := algo.ParsePIN(pin)
		must(t, err)
		clear, err := algo.EncodePIN(algo.ISO0, p, card.Number)
		must(t, err)
		block := d.keys.PIK.Encrypt8(clear)
		return block[:]
	}
	set := func(field int, v string) func() { return func() { m.Set(field, v) } }
	all := func(steps ...func()) func() {
		return func() {
			for _, f := range steps {
				f()
			}
		}
	}
	unset := func(field int) func() { return func() { m.Unset(field) } }
	const (
		batch    = "000001"
		nobodys  = "4000000000000002" // no BIN of the table; the check digit is right
		badCheck = "6210000000000001"
	)
	expired := func(number string) string { return number + "=2001101" + strings.Repeat("0", 13) }

	for _, rung := range []struct {
		rc, why string // DE 39, and what the journal or the log notes
		repair  func() // of this rung
	}{
		{"97", "", set(41, d.tid)},
		{"A0", "", func() { wrongMAC = false }},
		{"30", "DE 60 is missing", set(60, "99000000000600")},
		{"12", "", set(60, "22"+batch+"000600")}, // 60.1 names no message
		{"12", "", set(3, "000000")},

		// Format.
		{"30", "DE 11 is no trace number", func() { stan = true }},
		{"30", "DE 4 is missing", set(4, "000000000000")},
		{"30", "DE 22 is missing", set(22, "991")},
		{"30", "DE 25 is missing", set(25, "00")},
		{"30", "DE 42 is missing", set(42, "898110054119999")},
		{"30", "DE 49 is missing", set(49, "840")},
		{"30", "DE 22 and DE 52 disagree about a PIN", func() { m.SetBytes(52, []byte("garbage!")) }},

		// Terminal and merchant.
		{"58", "suspended", func() { status(merchant.Active, "terminal") }},
		{"03", "DE 42 names 898110054119999", func() { status(merchant.Active, "merchant") }},
		{"03", "DE 42 names 898110054119999", set(42, d.mid)},

		// Card: the fields, alone and against each other.
		{"30", "DE 2 is missing when DE 35 absent", all(set(14, "2013"), set(2, "1234"), set(53, "0010000000000000"), set(35, "1234"))},
		{"14", "DE 14", set(14, "2001")},
		{"14", "DE 2", set(2, card.Number)},
		{"14", "DE 35 does not decrypt under the terminal's track key", set(53, "0000000000000000")},
		{"14", "DE 35", set(35, expired(nobodys))},
		{"14", "DE 2 and DE 35 name different cards", set(2, nobodys)},
		{"54", "", set(14, "4912")},

		// Entry mode.
		{"57", "DE 22", set(22, "011")},
		{"30", "DE 35 is not allowed when DE 22 digits 1-2 = 01", all(unset(35), unset(14))},
		{"30", "DE 14 is missing when DE 22 digits 1-2 = 01", set(22, "021")},
		{"30", "DE 35 is missing", set(22, "051")},
		{"30", "DE 55 is missing", set(55, "9F26FF00")},
		{"30", "DE 55 cannot be read", set(55, "9F2608"+"0102030405060708")},
		{"30", "DE 55 lacks 9F27", set(55, chipData("000000000999", "0840"))},

		// Amount.
		{"13", "DE 4", set(4, "000000000302")},
		{"13", "DE 49", set(49, "156")},
		{"13", "DE 4 and the chip's amount (9F02)", set(55, chipData("000000000302", "0840"))},
		{"13", "DE 49 and the chip's currency (5F2A)", set(55, chipData("000000000302", "0156"))},

		// Route.
		{"15", "", set(2, badCheck)},
		{"14", "check digit", set(2, card.Number)},

		// Price.
		{"13", "fee_not_below_amount", all(set(4, "000000050001"), set(55, chipData("000000050001", "0156")))},

		// PIN.
		{"99", "DE 53 does not say how the PIN block was made", set(53, "2600000000000000")},
		{"99", "", func() { m.SetBytes(52, pinBlock("000000")) }},

		// Limits, then the issuer: the chip's cryptogram, the PIN, the money.
		{"61", "terminal single amount", all(set(4, "000000010401"), set(55, chipData("000000010401", "0156")))},
		{"61", "card day amount", all(set(4, "000000010000"), set(55, chipData("000000010000", "0156")))},
		{"05", "", all(unset(55), set(22, "021"), set(35, card.Track2))},
		{"45", "the service code says chip", set(60, "22"+batch+"000200")}, // a terminal that reads stripes only
		{"55", "", func() { m.SetBytes(52, pinBlock(card.PIN)) }},
		{"00", "", set(4, "000000000401")},
		{"61", "card day amount", set(4, "000000000400")},
		{"65", "card day count", func() {}},
	} {
		if m.Unset(11); stan {
			m.SetInt(11, int64(d.next()))
		}
		must(t, m.Err())
		frame := d.frame(t, m)
		if wrongMAC {
			frame[len(frame)-1] ^= 1
		}
		logged, rows := len(s.log.String()), len(s.journalOf(d.tid))
		a := w.ask(frame)
		noted := ""
		if now := s.journalOf(d.tid); len(now) > rows {
			noted = now[len(now)-1].Outcome.Note
			if rc := now[len(now)-1].Outcome; (rc.Reason == journal.Approved) != (a.Text(39) == "00") {
				t.Errorf("%s: the journal says %s", a.Text(39), rc.Reason)
			}
		} else {
			noted = s.log.String()[logged:]
		}
		if a.Text(39) != rung.rc || !strings.Contains(noted, rung.why) {
			t.Fatalf("answered %s (%s), want %s (%s)", a.Text(39), noted, rung.rc, rung.why)
		}
		rung.repair()
	}
	s.balanced()
	if got := fmt.Sprint(s.states("north")); got != fmt.Sprint(map[issuer.State]int{issuer.Approved: 1, issuer.Declined: 2}) {
		t.Errorf("the issuer has %s", got)
	}
}

// chipData is a complete DE 55 for an amount and a currency, with a cryptogram
// that no card made.
func chipData(amount, currency string) string {
	return "9F26080102030405060708" + "9F270180" + "9F100807010103A0000001" + "9F370412345678" + "9F36020001" + "95050000000000" +
		"9A03261125" + "9C0100" + "9F0206" + amount + "5F2A02" + currency + "82027C00" + "9F1A020156" + "9F0306000000000000" + "9F3303E0F0C8"
}
