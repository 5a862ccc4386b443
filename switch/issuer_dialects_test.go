package switching_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

// dayAtTheIssuers does a day of every kind against issuers that speak one
// dialect, with keys that are rolled by both sides in between, and gives the
// books of both issuers and of the journal in words that name no time, no RRN
// and no approval code.
func dayAtTheIssuers(t *testing.T, d *spec.Dialect) (books, journaled []string) {
	t.Helper()
	ctx := context.Background()
	s := newStreet(t, withLineDialect(d), withTimeout(slower*800*time.Millisecond), withTerminals(5))
	rolls := func() {
		t.Helper()
		for _, use := range []routing.KeyUse{routing.ZAK, routing.ZPK} {
			soon, cancel := context.WithTimeout(ctx, 10*time.Second)
			must(t, s.issuers["north"].RollKey(soon, use))         // the issuer sends one
			must(t, s.legs["north"].Issuer.RequestKeys(soon, use)) // we ask for one
			must(t, s.legs["east"].Issuer.RequestKeys(soon, use))
			cancel()
		}
	}
	stripe, err := simcard.New(pan(t, "east", 700))
	must(t, err)
	chip := chipCard(t, "north", 700)
	pos := s.terminal(4, func(c *terminal.Config) { c.KeepSlips = true })
	must(t, pos.SignIn(ctx))
	do := func(x terminal.Transaction) *terminal.Slip {
		t.Helper()
		res, err := pos.Transact(ctx, x)
		must(t, err)
		if !res.Approved() {
			t.Errorf("%s: %v answered %s", d.Name(), x.Kind, res.Code)
		}
		slip, _ := pos.Slip(res.STAN)
		return &slip
	}
	keyed := func(k terminal.Kind, amount money.Amount, of *terminal.Slip) *terminal.Slip {
		t.Helper()
		return do(terminal.Transaction{Kind: k, Amount: amount, Card: stripe, Entry: terminal.Keyed, Original: of, AuthCode: map[bool]string{true: "123456"}[k == terminal.KindOfflineSale]})
	}
	withPIN := func(k terminal.Kind, amount money.Amount, of *terminal.Slip) *terminal.Slip {
		t.Helper()
		x := terminal.Transaction{Kind: k, Amount: amount, Original: of}
		if of == nil {
			x.Card, x.PIN = chip, chip.PIN
		}
		return do(x)
	}
	withPIN(terminal.KindVoid, 8800, withPIN(terminal.KindSale, 8800, nil))
	rolls()
	sale := keyed(terminal.KindSale, 1250, nil)
	keyed(terminal.KindRefund, 400, sale)
	do(terminal.Transaction{Kind: terminal.KindTip, Tip: 100, Card: stripe, Entry: terminal.Keyed, Original: keyed(terminal.KindSale, 1200, nil)})
	withPIN(terminal.KindBalance, 0, nil)
	hold := withPIN(terminal.KindPreauth, 50000, nil)
	withPIN(terminal.KindCompletionVoid, 43210, withPIN(terminal.KindCompletion, 43210, hold))
	withPIN(terminal.KindPreauthVoid, 600, withPIN(terminal.KindPreauth, 600, nil))
	withPIN(terminal.KindCompletionNotice, 700, withPIN(terminal.KindPreauth, 700, nil))
	keyed(terminal.KindOfflineSale, 3000, nil)
	rolls()
	withPIN(terminal.KindSale, 700, nil)
	if _, err := pos.Reverse(ctx, terminal.Reversal{Reason: terminal.ReasonTimeout}); err != nil {
		t.Error(err)
	}
	// The issuer says no, does not answer at all, and answers in a way that
	// must not be believed.
	for fen, want := range map[money.Amount]string{51: "51", 98: "98", 90: "98", 94: "98"} {
		res, err := pos.Transact(ctx, terminal.Transaction{Kind: terminal.KindSale, Amount: 20000 + fen, Card: stripe, Entry: terminal.Keyed})
		if err != nil || res.Code != want {
			t.Errorf("%s: a sale over %v answered %s, %v, want %s", d.Name(), 20000+fen, res.Code, err, want)
		}
	}
	s.settled()
	await(t, "the issuers have the reversals", func() bool {
		n := 0
		for _, e := range s.issuers["east"].Books() {
			if e.State == issuer.Reversed {
				n++
			}
		}
		return n == 3
	})
	for name, host := range s.issuers {
		for _, e := range host.Books() {
			books = append(books, fmt.Sprintf("%s: %s %s of %v, part %v: %s, %s, takes %v, holds %v", name, e.Type, e.Kind, e.Amount, e.Part, e.Code, e.State, e.Takes, e.Holds))
		}
	}
	entries, err := s.journal.Last(ctx, 1000)
	must(t, err)
	for _, e := range entries {
		approved := e.Outcome != nil && e.Outcome.Reason == journal.Approved
		journaled = append(journaled, fmt.Sprintf("%v of %v for %s: %s, approved %v", e.Kind, e.Amount, e.Issuer, e.State(), approved))
	}
	slices.Sort(books) // as the storms end in any order
	slices.Sort(journaled)
	s.quiet()
	s.lawful()
	return books, journaled
}

// The same day over each dialect that lines to issuers can speak: with every
// issuer the same is booked, and the journal cannot tell them apart.
func TestIssuerDialectsKeepTheSameBooks(t *testing.T) {
	t.Parallel()
	harbour, err := another(t)
	must(t, err)
	wantBooks, wantJournal := dayAtTheIssuers(t, spec.CUPS)
	if len(wantBooks) < 20 {
		t.Fatalf("the day is short: %v", wantBooks)
	}
	for _, d := range []*spec.Dialect{dialect(t, "iso87-ascii"), dialect(t, "iso87-bcd"), harbour} {
		t.Run(d.Name(), func(t *testing.T) {
			books, journaled := dayAtTheIssuers(t, d)
			if !slices.Equal(books, wantBooks) {
				t.Errorf("the issuers have\n%s\nand over CUPS\n%s", strings.Join(books, "\n"), strings.Join(wantBooks, "\n"))
			}
			if !slices.Equal(journaled, wantJournal) {
				t.Errorf("the journal has\n%s\nand over CUPS\n%s", strings.Join(journaled, "\n"), strings.Join(wantJournal, "\n"))
			}
		})
	}
}

// What only CUPS has a field for is refused at the start, not in the evening.
func TestPlainDialectCarriesNoExtras(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withLineDialect(dialect(t, "iso87-ascii")))
	leg := s.house.Legs["north"]
	leg.Carries = []string{"instalment"}
	house := s.house
	house.Legs = map[string]switching.Leg{}
	for name, l := range s.house.Legs {
		house.Legs[name] = l
	}
	house.Legs["north"] = leg
	_, err := switching.New(s.config, house)
	if err == nil || !strings.Contains(err.Error(), `cannot carry "instalment"`) || !strings.Contains(err.Error(), "iso87-ascii") {
		t.Errorf("%v", err)
	}
}
