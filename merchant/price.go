// Package merchant knows who may sell: merchants, their terminals, the fee
// plan each signed and how each is paid. Keys and sealed bytes pass through it
// unread.
package merchant

import (
	"acquirer/fault"
	"acquirer/money"
)

// Channel is the way a payment came in.
type Channel string

// The channels a rule may name; AnyChannel matches all.
const (
	Card       Channel = "card"
	QR         Channel = "qr"
	AnyChannel Channel = ""
)

// CardType is what the BIN table says of a card. The zero value is unknown; it
// pays the price of rules that name no card type.
type CardType string

// The card types a rule may name; "any" in data reads as AnyCardType.
const (
	Credit      CardType = "credit"
	Debit       CardType = "debit"
	QuasiCredit CardType = "quasi_credit"
	AnyCardType CardType = ""
)

// Speed says when a merchant is paid.
type Speed string

// T1 is the next working day, D1 the next calendar day, D0 the business date
// itself, S0 within two minutes of the answer.
const (
	T1 Speed = "T1"
	D1 Speed = "D1"
	D0 Speed = "D0"
	S0 Speed = "S0"
)

// Entry is how the card was read, as far as a price depends on it.
type Entry string

// ContactlessNoPIN is a tap within the limit for which neither PIN nor
// signature is asked (小额双免).
const (
	AnyEntry         Entry = ""
	ContactlessNoPIN Entry = "contactless_no_pin"
)

// Sale is what a price depends on.
type Sale struct {
	Channel  Channel
	CardType CardType
	Wallet   string // a QR wallet's name, "" for cards
	Entry    Entry
	MCCClass string // standard, discount or exempt: Plans.MCCClass
	Amount   money.Amount
}

// Refusal says why a sale has no price; NotRefused is the only good value.
type Refusal string

// The reasons for which a plan refuses a sale.
const (
	NotRefused        Refusal = ""
	NoRule            Refusal = "no_rule"              // the plan has no rule for such a sale
	BelowMinimum      Refusal = "below_minimum"        // less than the rule's smallest sale
	FeeNotBelowAmount Refusal = "fee_not_below_amount" // the merchant would get nothing
	SpeedNotOffered   Refusal = "speed_not_offered"    // the plan does not settle that fast
	OutOfRange        Refusal = "amount_out_of_range"  // not positive, or does not fit
)

// Price is the merchant's fee for one sale. Fee is also filled where the sale
// is refused with FeeNotBelowAmount.
type Price struct {
	Fee     money.Amount // Percent + Fixed
	Percent money.Amount // the part by rate, after minimum and cap
	Fixed   money.Amount // the fixed part per transaction
	Rule    *Rule        // the rule that matched, nil with NoRule
	Refusal Refusal
}

// Price computes the merchant discount fee of one sale by the first rule that
// matches: min(cap, max(min, amount x ppm + fixed)), rounded half up to the fen
// once. It does not allocate.
func (p *FeePlan) Price(s Sale) Price {
	if s.Amount <= 0 {
		return Price{Refusal: OutOfRange}
	}
	for i := range p.Rules {
		if r := &p.Rules[i]; r.matches(&s) {
			return r.price(s.Amount)
		}
	}
	return Price{Refusal: NoRule}
}

func (r *Rule) matches(s *Sale) bool {
	return (r.Channel == AnyChannel || r.Channel == s.Channel) &&
		(r.CardType == AnyCardType || r.CardType == s.CardType) &&
		(r.Wallet == "" || r.Wallet == s.Wallet) &&
		(r.Entry == AnyEntry || r.Entry == s.Entry) &&
		(r.MCCClass == "" || r.MCCClass == s.MCCClass) &&
		s.Amount >= r.From && (r.To == 0 || s.Amount < r.To)
}

func (r *Rule) price(amount money.Amount) Price {
	rate, err := amount.MulPPM(r.PPM)
	if err != nil {
		return Price{Rule: r, Refusal: OutOfRange}
	}
	if fault.Planted("fee-rounded-twice") {
		rate = (rate + 5) / 10 * 10
	}
	// The fixed part is whole fen, so adding it after rounding is the one rounding.
	fee, err := rate.Add(r.Fixed)
	if err != nil {
		return Price{Rule: r, Refusal: OutOfRange}
	}
	fee = max(fee, r.Min)
	if r.Cap > 0 {
		fee = min(fee, r.Cap)
	}
	out := Price{Rule: r}
	if fee >= amount {
		switch r.OnFeeGEAmount {
		case CapAtAmount:
			fee = amount
		case AllowNegative:
		default:
			out.Refusal = FeeNotBelowAmount
		}
	}
	if amount < r.MinAmount {
		out.Refusal = BelowMinimum
	}
	out.Fee, out.Fixed = fee, min(r.Fixed, fee)
	out.Percent = fee - out.Fixed
	return out
}

// SpeedFee is what the plan takes for paying at a speed: rate of the base
// (amount less its fee, or the amount) plus a fixed part, half up, capped, and
// never more than the fee has left of the amount. False when the plan does not
// offer the speed.
func (p *FeePlan) SpeedFee(speed Speed, amount, fee money.Amount) (money.Amount, bool) {
	for i := range p.SettleFees {
		s := &p.SettleFees[i]
		if s.Speed != speed {
			continue
		}
		left := max(0, amount-fee)
		base := amount
		if s.Base == BaseNet {
			base = left
		}
		if base <= 0 {
			return 0, true
		}
		f, err := base.MulPPM(s.PPM)
		if err == nil {
			f, err = f.Add(s.Fixed)
		}
		if err != nil {
			return 0, false
		}
		if s.Cap > 0 {
			f = min(f, s.Cap)
		}
		return min(f, left), true
	}
	return 0, false
}
