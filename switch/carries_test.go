package switching_test

import (
	"context"
	"strings"
	"testing"

	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	switching "acquirer/switch"
)

// What not every issuer takes is passed on where the issuer's line carries it:
// an instalment reaches the issuer as the sale it is, with its terms.
func TestWhatAnIssuerCarries(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t, func(p *streetPlan) { p.carries = map[string][]string{"north": {"instalment"}} })
	term := s.terminal(4)
	must(t, term.SignIn(ctx))
	for _, c := range []struct {
		bank, want string
		booked     int
	}{{"north", "00", 1}, {"south", "40", 0}} {
		card := chipCard(t, c.bank, 40)
		res, err := term.Transact(ctx, terminal.Transaction{Kind: terminal.KindInstalment, Amount: 120_000, Card: card, PIN: card.PIN, Text: "12"})
		must(t, err)
		if res.Code != c.want {
			t.Errorf("%s answered an instalment with %s, want %s", c.bank, res.Code, c.want)
		}
		books := s.issuers[c.bank].Books()
		if len(books) != c.booked || c.booked == 1 && (books[0].State != issuer.Approved || books[0].Amount != 120_000) {
			t.Errorf("%s has %+v", c.bank, books)
		}
	}
	s.quiet()
}

// An issuer that is said to carry what there is not stops the start.
func TestCarriesIsChecked(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	house := s.house
	leg := house.Legs["north"]
	leg.Carries = []string{"gold"}
	house.Legs = map[string]switching.Leg{}
	for _, is := range simcard.Issuers {
		house.Legs[is.Name] = s.legs[is.Name]
	}
	house.Legs["north"] = leg
	if _, err := switching.New(s.config, house); err == nil || !strings.Contains(err.Error(), `"gold"`) {
		t.Errorf("a house whose issuer carries gold: %v", err)
	}
}
