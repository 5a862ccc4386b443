package settlement

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// A void, a refund or an adjustment is a line of its own, with amounts below
// zero where money goes back. Its price follows from the lines of its sale, so
// that a sale that was taken back in parts never gives back more than it took.

// follow books the line of a fact that follows a sale. l is that line without
// a price. When may is set it waits instead of being without one: what it follows
// may be on its way.
func (e *Engine) follow(tx store.Tx, transfers []ledger.Transfer, l line, f *Fact, open calendar.Date, may bool) (_ []ledger.Transfer, waits bool, _ error) {
	l.parent, l.date = f.Original, max(l.date, open)
	var err error
	switch f.Does {
	case Voids:
		l.effect, l.amount = effectVoid, -f.Amount
	case Refunds:
		l.effect, l.amount = effectRefund, -f.Amount
	default:
		l.effect = effectAdjust
	}
	if f.Original != 0 && l.unpriced == "" {
		if err = e.priceFollower(tx, &l); err != nil {
			return transfers, false, err
		}
		if l.unpriced != "" && may { // unless it was booked before
			var known int
			err := tx.QueryRow("select count(*) from settlement_line where id = $1", l.id()).Scan(&known)
			return transfers, known == 0, err
		}
	}
	if l.unpriced != "" {
		l.run = lineUnpriced
	}
	fresh, err := insertLines(tx, []line{l})
	if err != nil || !fresh[0] {
		return transfers, false, err
	}
	if l.run == lineUnpriced {
		transfers, err = suspend(tx, transfers, &l)
		return transfers, false, err
	}
	t, any := ledger.Transfer{}, false
	switch c := l.clearing(); l.effect {
	case effectVoid:
		t, any = c.Void()
	case effectRefund:
		t, any = c.Refund()
	default:
		t, any = c.Adjustment()
	}
	if any {
		transfers = append(transfers, t)
	}
	return transfers, false, nil
}

// sums are the lines of a sale that count, by what they do.
type sums struct {
	lines                                                 int
	speed                                                 merchant.Speed
	plan, wallet                                          string
	planVersion                                           int
	unpriced                                              bool
	sold, soldRate, soldFixed                             money.Amount // the sale and its adjustments
	back, backRate, backFixed                             money.Amount // its refunds, above zero
	amount, rate, fixed, speedFee, issuerFee, networkFee  money.Amount // everything
	firstAmount, firstRate, firstSpeed, firstIss, firstNt money.Amount // the sale alone
	firstT1                                               money.Amount
	events                                                []event
}

// event is a refund or an adjustment of a sale, or its taking back, in the order
// in which they were booked.
type event struct {
	place int64
	takes bool
	line  line
}

// sumOf reads the lines of a sale. What was taken back counts no more, whether it
// was settled before or not: the price of what follows is the same.
func sumOf(tx store.Tx, sale int64) (s sums, err error) {
	rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1 or parent = $1 and parent <> 0 order by effect", sale)
	all, err := store.All(rows, err, scanLine)
	taken := map[int64]bool{} // after it was settled
	for _, l := range all {
		if l.effect == effectTaken {
			taken[l.txn] = true
		}
	}
	for _, l := range all {
		if l.effect == effectAdjust || l.effect == effectRefund {
			s.events = append(s.events, event{place: l.place, line: l})
		}
		if l.run == lineTaken {
			if l.effect != effectSale {
				s.events = append(s.events, event{place: l.gone, takes: true, line: l})
			}
			continue
		}
		s.lines++
		s.unpriced = s.unpriced || l.run == lineUnpriced
		switch {
		case l.effect == effectSale:
			s.speed, s.plan, s.planVersion, s.wallet = l.speed, l.plan, l.planVersion, l.wallet
			s.firstAmount, s.firstRate, s.firstSpeed, s.firstIss, s.firstNt = l.amount, l.feeRate, l.speedFee, l.issuerFee, l.networkFee
			s.firstT1 = l.t1Fee
			s.sold, s.soldRate, s.soldFixed = s.sold+l.amount, s.soldRate+l.feeRate, s.soldFixed+l.feeFixed
		case l.effect == effectTaken:
			s.events = append(s.events, event{place: l.place, takes: true, line: l})
		case l.effect == effectAdjust && !taken[l.txn]:
			s.sold, s.soldRate, s.soldFixed = s.sold+l.amount, s.soldRate+l.feeRate, s.soldFixed+l.feeFixed
		case l.effect == effectRefund && !taken[l.txn]:
			s.back, s.backRate, s.backFixed = s.back-l.amount, s.backRate-l.feeRate, s.backFixed-l.feeFixed
		}
		s.amount, s.rate, s.fixed, s.speedFee = s.amount+l.amount, s.rate+l.feeRate, s.fixed+l.feeFixed, s.speedFee+l.speedFee
		s.issuerFee, s.networkFee = s.issuerFee+l.issuerFee, s.networkFee+l.networkFee
	}
	slices.SortStableFunc(s.events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.line.at, b.line.at))
	})
	return s, err
}

// priceFollower gives l its price from the lines of its sale.
func (e *Engine) priceFollower(tx store.Tx, l *line) error {
	s, err := sumOf(tx, l.parent)
	if err != nil {
		return err
	}
	switch {
	case s.firstAmount == 0:
		l.unpriced = "what it follows is not booked"
		return nil
	case s.unpriced:
		l.unpriced = "what it follows has no price"
		return nil
	}
	l.speed, l.plan, l.planVersion, l.wallet = s.speed, s.plan, s.planVersion, s.wallet
	switch l.effect {
	case effectVoid:
		if s.amount != -l.amount {
			l.unpriced = fmt.Sprintf("it voids %s and its sale comes to %s", -l.amount, s.amount)
			return nil
		}
		l.feeRate, l.feeFixed, l.speedFee, l.issuerFee, l.networkFee = -s.rate, -s.fixed, -s.speedFee, -s.issuerFee, -s.networkFee
	case effectRefund:
		if s.wallet != "" { // what the wallet keeps follows what is left
			before, err := s.amount.MulPPM(e.cfg.WalletPPM)
			if err != nil {
				return fmt.Errorf("settlement: the wallet's fee of refund %d: %w", l.txn, err)
			}
			after, err := (s.amount + l.amount).MulPPM(e.cfg.WalletPPM)
			if err != nil {
				return fmt.Errorf("settlement: the wallet's fee of refund %d: %w", l.txn, err)
			}
			l.issuerFee = after - before
		}
		x, err := e.givenBack(&part{amount: s.sold, rate: s.soldRate, fixed: s.soldFixed}, &part{amount: s.back, rate: s.backRate, fixed: s.backFixed}, -l.amount)
		if err != nil {
			return fmt.Errorf("settlement: the fee that comes back with refund %d: %w", l.txn, err)
		}
		l.feeRate, l.feeFixed = -x.rate, -x.fixed
	case effectAdjust:
		for _, p := range []struct {
			of money.Amount
			to *money.Amount
		}{{s.firstRate, &l.feeRate}, {s.firstSpeed, &l.speedFee}, {s.firstT1, &l.t1Fee}, {s.firstIss, &l.issuerFee}, {s.firstNt, &l.networkFee}} {
			if *p.to, err = p.of.Share(l.amount, s.firstAmount); err != nil {
				return fmt.Errorf("settlement: the price of adjustment %d: %w", l.txn, err)
			}
		}
	}
	return nil
}

// suspend books what has no price into suspense and asks a person.
func suspend(tx store.Tx, transfers []ledger.Transfer, l *line) ([]ledger.Transfer, error) {
	id := strconv.FormatInt(l.txn, 10)
	what := map[int]string{effectSale: "sale", effectVoid: "void", effectRefund: "refund", effectAdjust: "adjustment"}[l.effect]
	if l.amount != 0 {
		transfers = append(transfers, ledger.LongItem("unpriced-"+id, l.date, l.wallet, l.amount))
	}
	return transfers, addTask(tx, Task{Key: "unpriced/" + id, Kind: "unpriced", Merchant: l.merchant, Ref: id, Created: time.Now(),
		Text: fmt.Sprintf("%s %s of %s at merchant %s cannot be booked: %s", what, id, l.amount, l.merchant, l.unpriced)})
}
