package settlement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// Comparison is what a merchant paid for its sales of a period under one version
// of a plan, and what it would have paid under another.
type Comparison struct {
	Merchant   string       `json:"merchant"`
	Plan       string       `json:"plan"`
	Version    int          `json:"plan_version"`
	Sales      int64        `json:"sales"`
	Amount     money.Amount `json:"amount"`
	Was        money.Amount `json:"fee"`
	Would      money.Amount `json:"fee_would_be"`
	Difference money.Amount `json:"difference"` // above zero: the merchant would have paid more
	// Sales that the other plan would not have let happen, which are not among
	// Sales, and what was taken for them: Was and RefusedFee are all that was taken.
	Refused       int64        `json:"refused"`
	RefusedAmount money.Amount `json:"refused_amount"`
	RefusedFee    money.Amount `json:"refused_fee"`
}

// Simulate prices the booked sales of business dates from to to again, by
// another plan, for each merchant and version that it had in them, the greatest
// difference first. of restricts it to sales under one plan, "" takes all. Voided
// sales are left out; refunds give back what the refund policy says of either fee.
func (e *Engine) Simulate(ctx context.Context, plan *merchant.FeePlan, of string, from, to calendar.Date) ([]Comparison, error) {
	type key struct {
		merchant, plan string
		version        int
	}
	by := map[key]*Comparison{}
	err := e.eachSale(ctx, from, to, func(f *Fact, l *line, s *sums) error {
		if of != "" && l.plan != of || s.amount == 0 && s.sold != 0 && s.back == 0 {
			return nil
		}
		k := key{l.merchant, l.plan, l.planVersion}
		c := by[k]
		if c == nil {
			c = &Comparison{Merchant: l.merchant, Plan: l.plan, Version: l.planVersion}
			by[k] = c
		}
		was := s.rate + s.fixed + s.speedFee
		p := plan.Price(e.saleOf(f))
		if p.Refusal != merchant.NotRefused {
			c.Refused++
			c.RefusedAmount += s.amount
			c.RefusedFee += was
			return nil
		}
		would, err := e.whole(plan, l, &p, s)
		if err != nil {
			return fmt.Errorf("settlement: transaction %d under plan %s: %w", f.Txn, plan.Code, err)
		}
		c.Sales++
		c.Amount += s.amount
		c.Was += was
		c.Would += would
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]Comparison, 0, len(by))
	for _, c := range by {
		c.Difference = c.Would - c.Was
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Comparison) int {
		return cmp.Or(cmp.Compare(b.Difference, a.Difference), cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.Plan, b.Plan), a.Version-b.Version)
	})
	return out, nil
}

// whole is the whole fee of a sale at a price, with its tips and refunds and what
// of them was taken back, each rounded in the order and in the way in which it is
// booked (priceFollower).
func (e *Engine) whole(plan *merchant.FeePlan, l *line, p *merchant.Price, s *sums) (money.Amount, error) {
	t1, _ := plan.SpeedFee(merchant.T1, l.amount, p.Fee)
	speed, offered := plan.SpeedFee(l.speed, l.amount, p.Fee)
	if !offered {
		speed = t1
	}
	took := speed
	if l.note != "" { // it was paid later than its merchant's speed says
		took = t1
	}
	sold, back := part{amount: l.amount, rate: p.Percent, fixed: p.Fixed, speed: took}, part{}
	tips, refunds := map[int64]part{}, map[int64]part{} // that stand
	for i := range s.events {
		f := &s.events[i].line
		switch {
		case s.events[i].takes: // what is in neither was a void
			sold.add(tips[f.txn], -1)
			back.add(refunds[f.txn], -1)
			delete(tips, f.txn)
			delete(refunds, f.txn)
		case f.run == lineUnpriced:
		case f.effect == effectRefund:
			x, err := e.givenBack(&sold, &back, -f.amount)
			if err != nil {
				return 0, err
			}
			back.add(x, 1)
			refunds[f.txn] = x
		default:
			fast := took
			switch {
			case f.note != "":
				fast = t1
			case f.speedFee != f.t1Fee: // booked, and paid, before the sale was slowed down
				fast = speed
			}
			x, err := tipOf(p.Percent, fast, f.amount, l.amount)
			if err != nil {
				return 0, err
			}
			sold.add(x, 1)
			tips[f.txn] = x
		}
	}
	return money.Sum(sold.rate, sold.fixed, sold.speed, -back.rate, -back.fixed)
}

// part is what stands of a sale, or of its refunds, and what that costs.
type part struct{ amount, rate, fixed, speed money.Amount }

func (p *part) add(x part, sign money.Amount) {
	p.amount, p.rate, p.fixed, p.speed = p.amount+sign*x.amount, p.rate+sign*x.rate, p.fixed+sign*x.fixed, p.speed+sign*x.speed
}

// tipOf is what an adjustment adds to the price of its sale.
func tipOf(rate, speed, tip, sale money.Amount) (x part, err error) {
	x.amount = tip
	if x.rate, err = rate.Share(tip, sale); err == nil {
		x.speed, err = speed.Share(tip, sale)
	}
	return x, err
}

// givenBack is what comes back with a refund: the share of all refunds that stand
// less what came back with them, so that parts never add up to more than the whole.
func (e *Engine) givenBack(sold, back *part, refund money.Amount) (x part, err error) {
	x.amount = refund
	if e.cfg.RefundFee == KeepFee {
		return x, nil
	}
	if x.rate, err = sold.rate.Share(back.amount+refund, sold.amount); err != nil {
		return x, err
	}
	x.rate -= back.rate
	if e.cfg.RefundFee == ReturnAll {
		if x.fixed, err = sold.fixed.Share(back.amount+refund, sold.amount); err != nil {
			return x, err
		}
		x.fixed -= back.fixed
	}
	return x, nil
}

// Repriced is what VerifyPrices found.
type Repriced struct {
	Sales int64    `json:"sales"`
	Wrong []string `json:"wrong"` // the first of them, in words
	Count int64    `json:"wrong_count"`
}

// VerifyPrices computes the fee of every booked sale of business dates from to
// to again, by the plan version that its line names, and says which differ.
func (e *Engine) VerifyPrices(ctx context.Context, from, to calendar.Date) (out Repriced, err error) {
	out.Wrong = []string{}
	plans := e.cfg.Merchants.Plans()
	err = e.eachSale(ctx, from, to, func(f *Fact, l *line, _ *sums) error {
		out.Sales++
		if what := e.mispriced(plans, f, l); what != "" {
			if out.Count++; len(out.Wrong) < 20 {
				out.Wrong = append(out.Wrong, fmt.Sprintf("transaction %d (RRN %s) of merchant %s: %s", f.Txn, f.RRN, f.Merchant, what))
			}
		}
		return nil
	})
	return out, err
}

// mispriced computes the fee of a sale again, by the plan version that its line
// names, and says in words how the line differs, "" when it does not.
func (e *Engine) mispriced(plans *merchant.Plans, f *Fact, l *line) string {
	plan, err := plans.Version(l.plan, l.planVersion)
	if err != nil {
		return err.Error()
	}
	p := plan.Price(e.saleOf(f))
	rate, fixed := taken(&p, f.Amount)
	speed, _ := plan.SpeedFee(l.speed, f.Amount, rate+fixed)
	t1, _ := plan.SpeedFee(merchant.T1, f.Amount, rate+fixed)
	got := l.speed
	if l.note != "" {
		got, speed = merchant.T1, t1
	}
	old := l.speedFee == 0 && l.t1Fee == 0 // booked before T+1 had a price for what was slowed down
	switch {
	case rate != l.feeRate || fixed != l.feeFixed || f.Amount != l.amount:
		return fmt.Sprintf("booked %s + %s of %s, %s version %d takes %s + %s of %s", l.feeRate, l.feeFixed, l.amount, l.plan, l.planVersion, rate, fixed, f.Amount)
	case l.speedFee != speed && !old:
		return fmt.Sprintf("booked %s for %s, %s version %d takes %s", l.speedFee, got, l.plan, l.planVersion, speed)
	case l.t1Fee != t1 && l.t1Fee != 0:
		return fmt.Sprintf("booked %s for T1 if it came to that, %s version %d takes %s", l.t1Fee, l.plan, l.planVersion, t1)
	}
	return ""
}

// saleOf is what the price of a fact depends on. The class is that of the
// trade the merchant had signed by then.
func (e *Engine) saleOf(f *Fact) merchant.Sale {
	sale := merchant.Sale{Channel: f.Channel, CardType: f.CardType, Wallet: f.Wallet, Entry: f.Entry, Amount: f.Amount}
	if m, known := e.cfg.Merchants.Merchant([]byte(f.Merchant)); known {
		sale.MCCClass = e.cfg.Merchants.MCCClass(m, f.Date)
	}
	return sale
}

// eachSale walks the sales of business dates from to to that are booked with a
// price and were not taken back, in the order of the journal. The journal says
// how they were made, the line what they cost.
func (e *Engine) eachSale(ctx context.Context, from, to calendar.Date, do func(*Fact, *line, *sums) error) error {
	if !from.Valid() || !to.Valid() || to < from {
		return fmt.Errorf("settlement: the dates from %s to %s are no period", from, to)
	}
	// Business dates begin before midnight; a sale is approved within minutes of being opened.
	after, end := store.IDAt(from.Time().AddDate(0, 0, -1)), to.Time().AddDate(0, 0, 2)
	for {
		facts, err := e.cfg.Source.Facts(ctx, after, postBatch)
		if err != nil {
			return fmt.Errorf("settlement: reading the journal: %w", err)
		}
		if len(facts) == 0 {
			return nil
		}
		lines, follow, err := e.booked(ctx, facts, from, to)
		if err != nil {
			return err
		}
		for i := range facts {
			if lines[i].txn == 0 {
				continue
			}
			if err := do(&facts[i], &lines[i], &follow[i]); err != nil {
				return err
			}
		}
		last := &facts[len(facts)-1]
		if after = last.Cursor; last.At.After(end) {
			return nil
		}
	}
}

// booked finds the lines of facts that are sales of the period.
func (e *Engine) booked(ctx context.Context, facts []Fact, from, to calendar.Date) (lines []line, follow []sums, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		lines, follow = make([]line, len(facts)), make([]sums, len(facts))
		for i := range facts {
			f := &facts[i]
			if f.Taken || f.Does != Sells || f.Date < from || f.Date > to {
				continue
			}
			rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1 and (run >= 0 or run = -3)", f.Txn)
			found, err := store.All(rows, err, scanLine)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				continue // taken back, without a price, or not booked yet
			}
			taken := 0
			if err := tx.QueryRow("select count(*) from settlement_line where id = $1", -f.Txn).Scan(&taken); err != nil {
				return err
			}
			if taken > 0 {
				continue // taken back after it was settled
			}
			if follow[i], err = sumOf(tx, f.Txn); err != nil {
				return err
			}
			lines[i] = found[0]
		}
		return nil
	})
	if err != nil {
		return nil, nil, errors.Join(errors.New("settlement: reading booked sales"), err)
	}
	return lines, follow, nil
}

// Fee is what a booked transaction costs its merchant, below zero what comes
// back with it.
type Fee struct {
	Plan    string
	Version int
	Total   money.Amount // with the fee for speed
	Speed   money.Amount // of it, the fee for speed
	Net     money.Amount
	Formula string // of a sale's fee, by the version it was booked with
}

// FeeOf is the fee of a transaction; false while it is not booked, and when it
// has no price or was taken back before it was settled. how is how the card or
// code was taken: its amount and class are filled in.
func (e *Engine) FeeOf(ctx context.Context, txn int64, how merchant.Sale) (f Fee, booked bool, err error) {
	var found []line
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1 and (run >= 0 or run = $2)", txn, lineHeld)
		found, err = store.All(rows, err, scanLine)
		return err
	})
	if err != nil || len(found) == 0 {
		return f, false, err
	}
	l := &found[0]
	f = Fee{Plan: l.plan, Version: l.planVersion, Speed: l.speedFee, Total: l.feeRate + l.feeFixed + l.speedFee}
	f.Net = l.amount - f.Total
	if l.effect == effectSale {
		sale := e.saleOf(&Fact{Merchant: l.merchant, Date: l.txnDate, Channel: how.Channel, CardType: how.CardType, Wallet: l.wallet, Entry: how.Entry, Amount: l.amount})
		if plan, err := e.cfg.Merchants.Plans().Version(l.plan, l.planVersion); err == nil {
			f.Formula = plan.Explain(sale)
		}
	}
	return f, true, nil
}
