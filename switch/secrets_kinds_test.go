package switching_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"acquirer/merchant"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	"acquirer/spec"
	"acquirer/spec/jbig"
	switching "acquirer/switch"
)

// TestSecretsOfEveryKind does everything that follows a sale, pays by code,
// signs, settles, uploads and downloads the black list, good and bad, and then
// looks for card numbers, payment codes and signatures (I15).
func TestSecretsOfEveryKind(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := newCanaries()
	s := newStreet(t, withAll, withTimeout(100*time.Millisecond), withLine(c.tap), withConfig(func(c *switching.Config) { c.Owed.MaxAttempts = 1000 }), func(p *streetPlan) {
		p.profile = func(_ int, t *merchant.Terminal) { t.Profile.Signature, t.Profile.Unlinked = true, money.Yuan(500) }
	})
	is, _ := simcard.IssuerNamed("north")
	card := func(n int) *simcard.Card {
		for !simcard.HasChip(is.PAN(n).Reveal()) {
			n++
		}
		x, err := simcard.New(is.PAN(n))
		must(t, err)
		c.addCard(t, x)
		return x
	}
	held := card(654_000_000)
	code := func(wallet string, n int) string {
		digits := terminal.PayCode(wallet, n)
		c.addDigits("payment code", digits)
		return digits
	}
	blocked := card(456_000_000)
	must(t, s.download.Block(ctx, blocked.Number))

	w := &worker{t: t, s: s, i: 4}
	w.term = s.terminal(4, func(cfg *terminal.Config) {
		cfg.KeepSlips, cfg.Profile.Tries, cfg.Profile.GiveUp = true, 3, true
		c.watch(cfg)
	})
	must(t, w.term.SignIn(ctx))
	if list, err := w.term.DownloadBlackList(ctx); err != nil || len(list) != 1 {
		t.Errorf("a black list of %d, %v", len(list), err)
	}
	entries := []terminal.Entry{terminal.Chip, terminal.Stripe, terminal.Keyed}
	n := 0
	do := func(x terminal.Transaction) *terminal.Slip {
		t.Helper()
		n++
		if x.Card != nil && x.Kind.TakesPIN() && x.Entry != terminal.Keyed {
			x.PIN = x.Card.PIN
		}
		_, _ = w.term.Transact(ctx, x)
		w.calm()
		s.delivered()
		if slip, ok := w.term.LastSlip(); ok {
			return &slip
		}
		return nil
	}
	start := func(kind terminal.Kind, entry terminal.Entry) terminal.Transaction {
		x := terminal.Transaction{Kind: kind, Amount: money.Yuan(int64(100 + n)), Card: held, Entry: entry}
		switch kind {
		case terminal.KindQRSale:
			x.Card, x.PayCode = nil, code([]string{"wechat", "alipay", "unionpay-qr"}[n%3], 987_654_000+n)
		case terminal.KindOfflineSale:
			x.AuthCode = "A12345"
		case terminal.KindChipOfflineSale:
			x.Entry, x.Amount = terminal.Chip, money.Yuan(10)
		}
		return x
	}
	// Card data and payment codes where they do not belong.
	misplaced := []func(*spec.Message){
		nil,
		func(m *spec.Message) { m.Set(37, held.Number[:12]) },
		func(m *spec.Message) { m.Set(38, held.Number[:6]) },
		func(m *spec.Message) { m.Set(61, held.Number[:16]) },
		func(m *spec.Message) { m.Set(48, held.Number[:12]) },
		func(m *spec.Message) { m.Set(63, held.Number) },
		func(m *spec.Message) { m.SetBytes(62, []byte(held.Track2)) },
		func(m *spec.Message) { m.SetBytes(59, []byte("A3999"+held.Number)) },
		func(m *spec.Message) { m.SetBytes(59, []byte("A3016"+held.Number[:16])) },
		func(m *spec.Message) { m.Unset(25) },
		func(m *spec.Message) { m.Set(60, "99000001"+held.Number[:9]) },
	}
	for i, d := range deeds {
		for k, change := range misplaced {
			x := start(d.kind, entries[k%3])
			if d.of != 0 {
				first := start(d.of, entries[k%3])
				if d.of == terminal.KindCompletion {
					if first.Original = do(start(terminal.KindPreauth, entries[k%3])); first.Original != nil {
						first.Amount = first.Original.Amount
					}
				}
				if x.Original = do(first); x.Original == nil {
					continue
				}
				x.Amount = x.Original.Amount
				if d.kind == terminal.KindTip {
					x.Amount, x.Tip = 0, money.Yuan(3)
				}
				if x.Original.PAN.IsZero() {
					x.Card = nil
				}
			}
			if change != nil {
				x.Fault = &terminal.Fault{Change: change}
			} else if d.at != "" {
				must(t, s.issuers["north"].Next(issuer.Order{Kind: d.at, Storm: []issuer.Storm{issuer.Lost, issuer.WrongMAC, issuer.Silent}[i%3]}))
			} else {
				must(t, s.wallets.SetWeather(simwallet.Weather{Closed: true}))
			}
			_, _ = w.term.Transact(ctx, x)
			must(t, s.wallets.SetWeather(simwallet.Weather{}))
			must(t, s.legs["north"].Issuer.AwaitUp(ctx))
			w.calm()
		}
	}
	do(terminal.Transaction{Kind: terminal.KindRefund, Amount: money.Yuan(7), Card: held, Entry: terminal.Stripe})
	do(terminal.Transaction{Kind: terminal.KindSale, Amount: money.Yuan(7), Card: blocked, Entry: terminal.Keyed})

	picture := jbig.Encode(autograph(), jbig.Options{TwoLine: true, Typical: true, Lines: 128})
	c.add("signature", picture)
	signed := do(start(terminal.KindSale, terminal.Chip))
	if signed == nil {
		t.Fatal("no sale to sign")
	}
	if _, err := w.term.Sign(ctx, *signed, picture); err != nil {
		t.Error(err)
	}
	if _, err := w.term.Sign(ctx, *signed, append([]byte(held.Number), picture...)); err == nil {
		t.Error("a picture behind an account number was taken")
	}
	if _, err := w.term.Sign(ctx, *signed, picture); err != nil {
		t.Error(err)
	}

	// A batch that does not balance is uploaded whole, with the numbers in DE 48.
	state := w.term.State()
	for i := range state.Slips {
		state.Slips[i].Amount += 1
	}
	must(t, w.term.Close())
	w.term = s.terminal(4, func(cfg *terminal.Config) {
		cfg.KeepSlips, cfg.State = true, state
		c.watch(cfg)
	})
	must(t, w.term.SignIn(ctx))
	for range 2 { // the first may be told that signatures are missing
		if r, err := w.term.Settle(ctx); err == nil && r.Uploaded == 0 {
			t.Error("nothing was uploaded")
		} else if err != nil {
			t.Log(err)
		}
	}
	d := s.device(t, 5)
	wire := s.wire(t)
	for _, de48 := range []string{"01" + "00" + "000001" + fmt.Sprintf("%020s", held.Number) + "000000001000", "02" + "00" + "000001" + fmt.Sprintf("%020s", held.Number) + "000000001000", held.Number, "99"} {
		wire.ask(d.frame(t, d.management(t, 0x0320, "00000001201", map[int]string{48: de48})))
		wire.ask(d.frame(t, d.management(t, 0x0500, "00000001201", map[int]string{48: de48})))
	}
	s.quiet()
	for _, kind := range []string{"account number", "payment code", "signature", "PIN block", "working key"} {
		if c.count[kind] == 0 {
			t.Errorf("no %s to look for", kind)
		}
	}
	t.Log(c.count, "rows:", len(s.journalOf(w.term.TID())))
	s.keepsSecrets(c)
	s.lawful()
}
