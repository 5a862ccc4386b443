package switching_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/settlement"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	switching "acquirer/switch"
)

// shop opens a terminal at a merchant of its own, which has just signed a plan.
func (s *street) shop(i int, plan, mcc string) *terminal.Terminal {
	s.t.Helper()
	tid, mid := simcard.SeedTerminal(i)
	t, _ := s.registry.Terminal([]byte(tid))
	m, _ := s.registry.Merchant([]byte(mid))
	term, shop := *t, *m
	shop.MID, shop.Plan, shop.MCC = fmt.Sprintf("8981100541190%02d", i), plan, mcc
	term.MID = shop.MID
	must(s.t, s.registry.Put(s.t.Context(), []merchant.Merchant{shop}, []merchant.Terminal{term}))
	return s.terminal(i, func(c *terminal.Config) { c.MID = shop.MID })
}

// A merchant that gets another plan sells by the old one until the next business
// date: what the terminal is refused by is what is booked.
func TestPriceBeforeAMoveCounts(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	ctx := context.Background()
	term := s.shop(4, "ESIGN-STD", "5812")
	mid := "898110054119004"
	_, err := s.registry.Move(ctx, mid, "MICRO-2025", calendar.BusinessDate(time.Now(), calendar.CardCutoff))
	must(t, err)
	must(t, term.SignIn(ctx))
	card := chipCard(t, "north", 440)
	res, err := term.Sale(ctx, terminal.Sale{Amount: 2_00, Card: card, PIN: card.PIN}) // MICRO-2025 takes 3.01
	if err != nil || res.Code != "00" {
		t.Errorf("a sale of 2.00 on the day of the move: %q, %v", res.Code, err)
	}
	facts, err := settlement.FromJournal(s.journal, switching.EntryOf).Facts(ctx, 0, 10)
	must(t, err)
	m, _ := s.registry.Merchant([]byte(mid))
	if len(facts) != 1 || m.Plan != "MICRO-2025" {
		t.Fatalf("the books read %+v of merchant %+v", facts, m)
	}
	if p, err := s.registry.PlanOf(m, facts[0].Date); err != nil || p.Code != "ESIGN-STD" {
		t.Errorf("it is booked by %+v, %v", p, err)
	}
	if p, err := s.registry.PlanOf(m, facts[0].Date.AddDays(1)); err != nil || p.Code != "MICRO-2025" {
		t.Errorf("the next date is booked by %+v, %v", p, err)
	}
}

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
		term := s.shop(4*i, "TRADES", c.mcc)
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
	term := s.shop(4, "QUASI", "5812")
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
