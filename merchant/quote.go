package merchant

import (
	"fmt"
	"strings"

	"acquirer/money"
)

// Quote is the whole price of a sale, part by part, with the formula that a
// merchant can follow, and what its plan takes apart from sales. Net is what
// reaches the merchant's account.
type Quote struct {
	Plan      string       `json:"plan"`
	Version   int          `json:"plan_version"`
	Channel   string       `json:"channel"`
	Speed     Speed        `json:"speed"`
	Amount    money.Amount `json:"amount"`
	Fee       money.Amount `json:"fee"`
	SettleFee money.Amount `json:"settle_fee"`
	Net       money.Amount `json:"net"`
	IfT1      *IfT1        `json:"if_t1,omitempty"` // nil where the speed is T1
	Items     []QuoteItem  `json:"items"`
	Formula   string       `json:"formula"`
	Extras    []Extra      `json:"extras"` // device, SIM card, repair, deposit: not of this sale
	Refused   Refusal      `json:"refused,omitempty"`
	Reason    string       `json:"reason,omitempty"` // Refused in words
}

// IfT1 is what a sale that was to be paid early costs when it is paid no earlier
// than T+1.
type IfT1 struct {
	SettleFee money.Amount `json:"settle_fee"`
	Net       money.Amount `json:"net"`
}

// QuoteItem is one part of the price.
type QuoteItem struct {
	Kind   string       `json:"kind"` // percent, fixed or settle
	Amount money.Amount `json:"amount"`
}

// ParseChannel reads the channel of a quote: credit, debit, quasi_credit or qr.
func ParseChannel(s string) (Sale, error) {
	switch s {
	case "credit":
		return Sale{Channel: Card, CardType: Credit}, nil
	case "debit":
		return Sale{Channel: Card, CardType: Debit}, nil
	case "quasi_credit":
		return Sale{Channel: Card, CardType: QuasiCredit}, nil
	case "qr":
		return Sale{Channel: QR}, nil
	}
	return Sale{}, fmt.Errorf("merchant: channel %q is not credit, debit, quasi_credit or qr", s)
}

// ParseSpeed reads a settlement speed: T1, D1, D0 or S0.
func ParseSpeed(s string) (Speed, error) {
	switch v := Speed(s); v {
	case T1, D1, D0, S0:
		return v, nil
	}
	return "", fmt.Errorf("merchant: speed %q is not T1, D1, D0 or S0", s)
}

// Quote prices a sale on a channel (ParseChannel) at a standard merchant with
// everything that is taken from it. A refused sale comes back with its reason and
// no error; its fee is the one that would have been.
func (p *FeePlan) Quote(channel string, speed Speed, amount money.Amount) (Quote, error) {
	sale, err := ParseChannel(channel)
	if err != nil {
		return Quote{}, err
	}
	sale.Amount, sale.MCCClass = amount, "standard"
	return p.QuoteSale(channel, sale, speed), nil
}

// QuoteSale is Quote of a sale whose wallet, entry and class are known too.
func (p *FeePlan) QuoteSale(channel string, sale Sale, speed Speed) Quote {
	amount, price := sale.Amount, p.Price(sale)
	q := Quote{Plan: p.Code, Version: p.Version, Channel: channel, Speed: speed, Amount: amount,
		Fee: price.Fee, Net: amount - price.Fee, Extras: append([]Extra{}, p.Extras...), Refused: price.Refusal}
	if price.Rule != nil && price.Refusal != OutOfRange {
		q.Items = append(q.Items, QuoteItem{"percent", price.Percent})
		if price.Rule.Fixed > 0 {
			q.Items = append(q.Items, QuoteItem{"fixed", price.Fixed})
		}
		q.Formula = price.Rule.formula(amount) + " = " + price.Fee.String()
	}
	switch fee, offered := p.SpeedFee(speed, amount, price.Fee); {
	case !offered && q.Refused == NotRefused:
		q.Refused = SpeedNotOffered
	case offered && q.Refused == NotRefused:
		q.SettleFee, q.Net = fee, q.Net-fee
		q.Items = append(q.Items, QuoteItem{"settle", fee})
		if fee > 0 {
			q.Formula += "; " + p.speedFormula(speed, amount, price.Fee) + " = " + fee.String()
		}
		if speed != T1 {
			late, _ := p.SpeedFee(T1, amount, price.Fee)
			q.IfT1 = &IfT1{SettleFee: late, Net: amount - price.Fee - late}
		}
	}
	q.Reason = q.explain(price)
	return q
}

func (q *Quote) explain(price Price) string {
	switch q.Refused {
	case NoRule:
		return fmt.Sprintf("plan %s has no price for %s sales", q.Plan, q.Channel)
	case BelowMinimum:
		return fmt.Sprintf("%s is below the smallest sale of %s", q.Amount, price.Rule.MinAmount)
	case FeeNotBelowAmount:
		return fmt.Sprintf("the fee of %s is not below the amount of %s: the merchant would get nothing", q.Fee, q.Amount)
	case SpeedNotOffered:
		return fmt.Sprintf("plan %s does not settle at %s", q.Plan, q.Speed)
	case OutOfRange:
		return fmt.Sprintf("%s is not an amount that can be sold", q.Amount)
	}
	return ""
}

// Explain is the formula of a sale's fee with its numbers and its result:
// "100.00 x 0.60% + 3.00 = 3.60"; "" for a sale that the plan has no price for.
func (p *FeePlan) Explain(s Sale) string {
	price := p.Price(s)
	if price.Rule == nil || price.Refusal == OutOfRange {
		return ""
	}
	return price.Rule.formula(s.Amount) + " = " + price.Fee.String()
}

// formula writes the rule with its numbers: "min(20.00, 50000.00 x 0.50%)".
func (r *Rule) formula(amount money.Amount) string {
	s := amount.String() + " x " + Percent(r.PPM)
	if r.Fixed > 0 {
		s += " + " + r.Fixed.String()
	}
	if r.Min > 0 {
		s = "max(" + r.Min.String() + ", " + s + ")"
	}
	if r.Cap > 0 {
		s = "min(" + r.Cap.String() + ", " + s + ")"
	}
	if r.OnFeeGEAmount == CapAtAmount {
		s += ", at most the amount"
	}
	return s
}

func (p *FeePlan) speedFormula(speed Speed, amount, fee money.Amount) string {
	for i := range p.SettleFees {
		f := &p.SettleFees[i]
		if f.Speed != speed {
			continue
		}
		s := amount.String()
		if f.Base == BaseNet {
			s = (amount - fee).String()
		}
		s = string(speed) + " " + s + " x " + Percent(f.PPM)
		if f.Fixed > 0 {
			s += " + " + f.Fixed.String()
		}
		if f.Cap > 0 {
			s += ", at most " + f.Cap.String()
		}
		return s
	}
	return ""
}

// Percent writes a rate in ppm as percent with at least two decimals: 6000 is
// "0.60%", 325 is "0.0325%".
func Percent(ppm int64) string {
	frac := strings.TrimRight(fmt.Sprintf("%04d", ppm%10000), "0")
	for len(frac) < 2 {
		frac += "0"
	}
	return fmt.Sprintf("%d.%s%%", ppm/10000, frac)
}
