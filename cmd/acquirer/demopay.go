package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/settlement"
	"acquirer/simulate/card"
)

// The demo's network and wallets pay the house as real ones do: into its account at
// the bank, whose statement it reads.

// streetPayers is how the house knows them there.
func streetPayers() []settlement.Payer {
	out := []settlement.Payer{{Account: payingAccount(settlement.Network), Reference: payingReference(settlement.Network, "{date}")}}
	for _, name := range routing.Wallets {
		out = append(out, settlement.Payer{Wallet: name, Account: payingAccount(name), Reference: payingReference(name, "{date}")})
	}
	return out
}

// payingAccount is the account that one of them pays from.
func payingAccount(payer string) string {
	return fmt.Sprintf("99990000000002%02d", 1+slices.Index(append([]string{settlement.Network}, routing.Wallets...), payer))
}

// payingReference is what it writes.
func payingReference(payer, date string) string { return "NET-" + payer + "-" + date }

// payHouse lets the network, or a wallet, pay for a business date, and returns the
// bank's entry.
func (w *world) payHouse(ctx context.Context, payer string, date calendar.Date, amount money.Amount) (entry string, err error) {
	body, err := json.Marshal(map[string]string{"reference": payingReference(payer, date.String()), "account": payingAccount(payer), "amount": amount.String()})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.bank.URL()+"/v1/receipts", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("%s pays: %w", payer, err)
	}
	defer resp.Body.Close() // it was only read
	var said struct {
		Entry string `json:"entry"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || said.Entry == "" {
		return "", fmt.Errorf("%s pays: the bank answered HTTP %d, %w", payer, resp.StatusCode, err)
	}
	return said.Entry, nil
}

// owes is what one of them owes for a date by its own books: of cards what was sent
// before the cut-off, of a wallet its bill of the day.
func (w *world) owes(payer string, date calendar.Date, cutOff time.Duration) (sum money.Amount, err error) {
	if payer == settlement.Network {
		for _, is := range simcard.Issuers {
			sum += w.issuers[is.Name].Owes(date, date.Time().Add(cutOff))
		}
		return sum, nil
	}
	bill, _ := w.wallets.Bill(payer, date)
	for b, err := range wallet.ReadBill(payer, date, bytes.NewReader(bill), int64(len(bill))) {
		if err != nil {
			return 0, err
		}
		if b.Kind == wallet.BillPay {
			sum += b.Amount - b.Fee
		} else {
			sum -= b.Amount + b.Fee // its fee is below zero
		}
	}
	return sum, nil
}

// payAll pays for business dates at once; see payDues.
func (w *world) payAll(ctx context.Context, r running, from, to calendar.Date) error {
	dues, err := r.house.books.Dues(ctx, from, to)
	if err != nil {
		return err
	}
	for _, d := range dues {
		if err := w.pays(ctx, r, d); err != nil {
			return err
		}
	}
	return nil
}

// pays lets a payer pay what its books come to. Of dates that began before this
// process did, in a folder that was kept, they are gone: it pays what the house
// expects.
func (w *world) pays(ctx context.Context, r running, d settlement.Due) (err error) {
	reference := payingReference(d.Payer, d.Date.String())
	if d.Came || w.paid[reference] {
		return nil
	}
	sum := d.Expected
	if d.Date > w.before {
		if sum, err = w.owes(d.Payer, d.Date, r.house.cfg.Switch.CutOff); err != nil {
			return err
		}
	}
	if sum > 0 {
		if _, err := w.payHouse(ctx, d.Payer, d.Date, sum); err != nil {
			return err
		}
	}
	w.paid[reference] = true
	return nil
}

// payers pays the house on the mornings on which it is due, while the street is open.
func (w *world) payers(ctx context.Context, r running) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if err := w.payDues(ctx, r, time.Now()); err != nil && ctx.Err() == nil {
			r.house.log.Error("the demo's network and wallets could not pay; they try again", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// paysFrom is the time of day at which they begin to pay.
const paysFrom = 9 * time.Hour

// payDues pays what is due at a moment and was not paid.
func (w *world) payDues(ctx context.Context, r running, now time.Time) error {
	today := calendar.DateOf(now)
	if now.Before(today.Time().Add(paysFrom)) {
		return nil
	}
	dues, err := r.house.books.Dues(ctx, today.AddDays(-settlement.DueDays), today.AddDays(-1))
	if err != nil {
		return err
	}
	for _, d := range dues {
		if d.Due > today {
			continue
		}
		if err := w.pays(ctx, r, d); err != nil {
			return err
		}
	}
	return nil
}
