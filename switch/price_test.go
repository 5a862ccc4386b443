package switching_test

import (
	"context"
	"strings"
	"testing"

	"acquirer/merchant"
	"acquirer/money"
	"acquirer/simulate/terminal"
)

// A plan may have a price for each class of trade; the terminal is refused by
// the price that is booked.
func TestPriceByTrade(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	ctx := context.Background()
	must(t, s.registry.ImportPlans(ctx, strings.NewReader(`{"plans":[{"code":"TRADES","version":1,"effective_from":"2020-01-01","rules":[
		{"channel":"any","mcc_class":"exempt","ppm":0,"on_fee_ge_amount":"reject"},
		{"channel":"any","mcc_class":"standard","ppm":6000,"fixed":"3.00","on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"}]}]}`)))
	for i, c := range []struct{ mcc, code string }{{"8062", "00"}, {"5812", "13"}} {
		term := s.terminal(4 * i)
		tid, _ := s.registry.Terminal([]byte(term.TID()))
		m, _ := s.registry.Merchant([]byte(tid.MID))
		moved := *m
		moved.Plan, moved.MCC = "TRADES", c.mcc
		must(t, s.registry.Put(ctx, []merchant.Merchant{moved}, nil))
		must(t, term.SignIn(ctx))
		card := chipCard(t, "north", 400+i)
		res, err := term.Sale(ctx, terminal.Sale{Amount: money.Amount(2_00), Card: card, PIN: card.PIN})
		if err != nil || res.Code != c.code {
			t.Errorf("a sale of 2.00 of category %s: %q, %v; want %s", c.mcc, res.Code, err, c.code)
		}
	}
}
