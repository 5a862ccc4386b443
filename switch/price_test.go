package switching_test

import (
	"context"
	"strings"
	"testing"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/settlement"
	"acquirer/simulate/terminal"
	switching "acquirer/switch"
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

// A quasi-credit card (准贷记卡) has the price of its own rule, at the terminal and
// in the books, and the limits of credit cards.
func TestQuasiCredit(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withRules([]limits.Rule{{Scope: limits.Merchant, Channel: limits.Channel(journal.Credit), Single: money.Yuan(20)}}))
	ctx := context.Background()
	rows := s.house.BINs.Routes()
	for i := range rows {
		if rows[i].Issuer == "north" {
			rows[i].Kind = routing.SemiCredit
		}
	}
	bins, err := routing.NewTable(rows)
	must(t, err)
	_, err = s.sw.Reroute(bins, nil, nil)
	must(t, err)
	must(t, s.registry.ImportPlans(ctx, strings.NewReader(`{"plans":[{"code":"QUASI","version":1,"effective_from":"2020-01-01","rules":[
		{"channel":"card","card_type":"quasi_credit","ppm":6000,"fixed":"3.00","on_fee_ge_amount":"reject"},{"channel":"any","ppm":6000,"on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"}]}]}`)))
	term := s.terminal(4)
	tid, _ := s.registry.Terminal([]byte(term.TID()))
	m, _ := s.registry.Merchant([]byte(tid.MID))
	moved := *m
	moved.Plan = "QUASI"
	must(t, s.registry.Put(ctx, []merchant.Merchant{moved}, nil))
	must(t, term.SignIn(ctx))
	card := chipCard(t, "north", 420)
	for amount, code := range map[money.Amount]string{2_00: "13", 10_00: "00", 20_01: "61"} {
		res, err := term.Sale(ctx, terminal.Sale{Amount: amount, Card: card, PIN: card.PIN})
		if err != nil || res.Code != code {
			t.Errorf("%s: %q, %v; want %s", amount, res.Code, err, code)
		}
	}
	facts, err := settlement.FromJournal(s.journal, switching.EntryOf).Facts(ctx, 0, 10)
	if err != nil || len(facts) != 1 || facts[0].Channel != merchant.Card || facts[0].CardType != merchant.QuasiCredit {
		t.Errorf("the books read %+v, %v", facts, err)
	}
}
