package main

import (
	"context"

	"acquirer/console"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/settlement/dispute"
	"acquirer/settlement/reconcile"
)

// comparedDays is how many business dates the console shows.
const comparedDays = 14

// Compared implements console.House.
func (h consoleHouse) Compared(ctx context.Context, n int) (c console.Compared, err error) {
	days, err := h.v.recon.Days(ctx, comparedDays)
	if err != nil {
		return c, err
	}
	for _, d := range days {
		c.Days = append(c.Days, console.ComparedDay{Date: d.Date, Missing: d.Missing, Files: len(d.Files), Ours: d.Ours, Matched: d.Matched, Waiting: d.Waiting, Open: d.Open,
			OpenSum: d.OpenSum, Maker: d.Maker, Checker: d.Checker})
	}
	open, err := h.v.recon.Breaks(ctx, reconcile.Query{State: reconcile.Open, Limit: n})
	if err != nil {
		return c, err
	}
	for _, b := range open {
		x := console.OtherBooks{ID: b.ID, Date: b.Date, Kind: string(b.Kind), Source: b.Source, RRN: b.RRN, Asked: string(b.Action)}
		x.Ours, x.Theirs = sides(b)
		if b.Merchant != "" {
			x.Merchant = h.v.merchantName(b.Merchant)
		}
		x.Txn = txnOf(b)
		c.Open = append(c.Open, x)
	}
	cases, err := h.v.disputes.Cases(ctx, dispute.Query{Running: true, ByDue: true, Limit: n})
	if err != nil {
		return c, err
	}
	for _, x := range cases {
		c.Cases = append(c.Cases, console.DisputeCase{ID: x.ID, Stage: string(x.Stage), Ours: x.State == dispute.Open, Source: x.Source, RRN: x.RRN, Txn: x.Txn,
			Merchant: h.v.merchantName(x.Merchant), Amount: x.Amount, Reason: x.Reason, Due: x.Due})
	}
	return c, nil
}

// txnOf is the transaction of ours that a break is about, 0 when its number is
// nobody's here.
func txnOf(b reconcile.Break) int64 {
	if b.Ours == 0 || b.Source == reconcile.Bank {
		return 0
	}
	id, _ := journal.IDOf(b.RRN)
	return id
}

// sides are what differs in a break: the amounts, or the fees where the amounts
// agree.
func sides(b reconcile.Break) (ours, theirs money.Amount) {
	if b.Kind == reconcile.Fee {
		return b.OurFee, b.TheirFee
	}
	return b.Ours, b.Theirs
}
