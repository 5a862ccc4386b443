package ledger

import (
	"strconv"

	"acquirer/calendar"
	"acquirer/money"
)

// The posting templates. Each returns transfers whose keys follow from what
// they stand for, so that booking the same thing twice has one effect.

func d(a Account, sub string, amount money.Amount) Leg { return Leg{Debit, a, sub, amount} }
func c(a Account, sub string, amount money.Amount) Leg { return Leg{Credit, a, sub, amount} }

// legs leaves out those of zero and turns those below zero to the other side.
func legs(all ...Leg) []Leg {
	out := all[:0]
	for _, l := range all {
		if l.Amount == 0 {
			continue
		}
		if l.Amount < 0 {
			l.Side, l.Amount = Debit+Credit-l.Side, -l.Amount
		}
		out = append(out, l)
	}
	return out
}

// Clearing is an approved sale with its prices: what the ledger books of it.
type Clearing struct {
	Txn        int64         // the journal's id
	Date       calendar.Date // business date
	Merchant   string        // MID
	Wallet     string        // a QR wallet's name, "" for cards
	Amount     money.Amount
	FeeRate    money.Amount // the merchant's fee by rate
	FeeFixed   money.Amount // and its fixed part
	IssuerFee  money.Amount
	NetworkFee money.Amount
	BrandFee   money.Amount
}

// SaleKey is the key under which a transaction's sale is booked.
func SaleKey(txn int64) string { return "sale/" + strconv.FormatInt(txn, 10) }

// Sale books what the network owes us, what it costs, what we owe the
// merchant and what we earn. False when nothing of the sale is left to book.
func (s *Clearing) Sale() (Transfer, bool) {
	l := s.legs()
	return Transfer{Key: SaleKey(s.Txn), Event: EventSale, Date: s.Date, Ref: strconv.FormatInt(s.Txn, 10), Kind: Posted, Legs: l}, len(l) > 0
}

// Reversal books the exact mirror of the sale, on the business date of the
// reversal, with the sale's Ref.
func (s *Clearing) Reversal(date calendar.Date) (Transfer, bool) {
	l := s.legs()
	for i := range l {
		l[i].Side = Debit + Credit - l[i].Side
	}
	return Transfer{Key: "reversal/" + strconv.FormatInt(s.Txn, 10), Event: EventReversal, Date: date,
		Ref: strconv.FormatInt(s.Txn, 10), Kind: Posted, Legs: l}, len(l) > 0
}

// Void, Refund and Adjustment book what follows a sale: with amounts below
// zero where money goes back, under the follower's own number.
func (s *Clearing) Void() (Transfer, bool)       { return s.follower("void/", EventReversal) }
func (s *Clearing) Refund() (Transfer, bool)     { return s.follower("refund/", EventRefund) }
func (s *Clearing) Adjustment() (Transfer, bool) { return s.follower("adjust/", EventAdjustment) }

func (s *Clearing) follower(key string, e Event) (Transfer, bool) {
	l, id := s.legs(), strconv.FormatInt(s.Txn, 10)
	return Transfer{Key: key + id, Event: e, Date: s.Date, Ref: id, Kind: Posted, Legs: l}, len(l) > 0
}

func (s *Clearing) legs() []Leg {
	cost := s.IssuerFee + s.NetworkFee + s.BrandFee
	account, sub := receivable(s.Wallet)
	return legs(d(account, sub, s.Amount-cost), d(CostIssuer, "", s.IssuerFee), d(CostNetwork, "", s.NetworkFee), d(CostBrand, "", s.BrandFee),
		c(MerchantPayable, s.Merchant, s.Amount-s.FeeRate-s.FeeFixed), c(IncomeRate, "", s.FeeRate), c(IncomeFixed, "", s.FeeFixed))
}

func receivable(wallet string) (Account, string) {
	if wallet != "" {
		return QRReceivable, wallet
	}
	return NetworkReceivable, ""
}

// NetworkReceipt books what the network (or a wallet) paid for a day against
// what it owed; the difference waits in suspense.
func NetworkReceipt(ref string, date calendar.Date, wallet string, expected, received money.Amount) (Transfer, bool) {
	account, sub := receivable(wallet)
	l := legs(d(ClientBank, "", received), c(account, sub, expected))
	if diff := received - expected; diff > 0 {
		l = append(l, c(SuspenseLong, "", diff))
	} else if diff < 0 {
		l = append(l, d(SuspenseShort, "", -diff))
	}
	return Transfer{Key: "receipt/" + ref, Event: EventNetworkReceipt, Date: date, Ref: ref, Kind: Posted, Legs: l}, len(l) > 0
}

// CreditIn books money that came in on the merchants' bank account and pays for
// nothing that is known yet (已入未登账); entry is the bank's reference of it.
func CreditIn(entry string, date calendar.Date, amount money.Amount) Transfer {
	return Transfer{Key: "credit/" + entry, Event: EventCredit, Date: date, Ref: entry, Kind: Posted, Legs: legs(d(ClientBank, "", amount), c(SuspenseLong, "", amount))}
}

// CreditReceipt is NetworkReceipt of money that CreditIn has booked; False when all
// of it stays in suspense.
func CreditReceipt(entry string, date calendar.Date, wallet string, expected, received money.Amount) (Transfer, bool) {
	account, sub := receivable(wallet)
	diff := received - expected
	l := legs(d(SuspenseLong, "", received-max(0, diff)), d(SuspenseShort, "", -min(0, diff)), c(account, sub, expected))
	return Transfer{Key: "receipt/" + entry, Event: EventNetworkReceipt, Date: date, Ref: entry, Kind: Posted, Legs: l}, len(l) > 0
}

// CreditMore lets money that CreditIn has booked pay what an earlier receipt lacked.
func CreditMore(entry string, date calendar.Date, amount money.Amount) Transfer {
	return Transfer{Key: "receipt-more/" + entry, Event: EventNetworkReceipt, Date: date, Ref: entry, Kind: Posted, Legs: legs(d(SuspenseLong, "", amount), c(SuspenseShort, "", amount))}
}

// CreditBack books that money which CreditIn has booked went back to whoever paid it.
func CreditBack(entry string, date calendar.Date, amount money.Amount) Transfer {
	return Transfer{Key: "credit-back/" + entry, Event: EventCreditBack, Date: date, Ref: entry, Kind: Posted, Legs: legs(d(SuspenseLong, "", amount), c(ClientBank, "", amount))}
}

// Payout is what the templates of a payout need to know of it.
type Payout struct {
	Ref      string // the reference the bank knows it by
	Date     calendar.Date
	Merchant string
	Amount   money.Amount
	Advance  bool // paid from OWN before the network paid (D0, S0)
	Reissue  bool // pays what came back from an earlier payout
	Cost     money.Amount
}

func (p *Payout) transfer(step string, e Event, k Kind, l ...Leg) Transfer {
	return Transfer{Key: "payout/" + p.Ref + "/" + step, Event: e, Date: p.Date, Ref: p.Ref, Kind: k, Legs: legs(l...)}
}

func (p *Payout) resolve(step string, e Event, k Kind) Transfer {
	t := p.transfer(step+"-"+k.String(), e, k)
	t.Resolves = "payout/" + p.Ref + "/" + step
	return t
}

// Reserve takes the money out of reach before the bank hears of the payout,
// and for an advance the own funds too. ErrInsufficient when there is not
// enough.
func (p *Payout) Reserve() []Transfer {
	from, event := MerchantPayable, EventPayoutReserve
	if p.Reissue {
		from, event = PayoutReturned, EventPayoutReissue
	}
	out := []Transfer{p.transfer("reserve", event, Pending, d(from, p.Merchant, p.Amount), c(PayoutInTransit, p.Merchant, p.Amount))}
	if p.Advance {
		out = append(out, p.transfer("advance", EventAdvance, Pending, d(AdvanceD0, p.Merchant, p.Amount), c(OwnBank, "", p.Amount)))
	}
	return out
}

// Success books that the bank paid.
func (p *Payout) Success() []Transfer {
	out := []Transfer{p.resolve("reserve", EventPayoutSuccess, Posting)}
	if p.Advance {
		out = append(out, p.resolve("advance", EventAdvance, Posting),
			p.transfer("paid", EventPayoutSuccess, Posted, d(PayoutInTransit, p.Merchant, p.Amount), c(DueToOwnAdvance, p.Merchant, p.Amount)))
	} else {
		out = append(out, p.transfer("paid", EventPayoutSuccess, Posted, d(PayoutInTransit, p.Merchant, p.Amount), c(ClientBank, "", p.Amount)))
	}
	return append(out, p.cost()...)
}

// cost is what the bank takes for a payout.
func (p *Payout) cost() []Transfer {
	if p.Cost == 0 {
		return nil
	}
	return []Transfer{p.transfer("cost", EventPayoutCost, Posted, d(CostPayout, "", p.Cost), c(OwnBank, "", p.Cost))}
}

// Failed gives everything that was reserved back.
func (p *Payout) Failed() []Transfer {
	out := []Transfer{p.resolve("reserve", EventPayoutFailed, Voiding)}
	if p.Advance {
		out = append(out, p.resolve("advance", EventPayoutFailed, Voiding))
	}
	return out
}

// Returned books money that came back from the merchant's bank days later. An
// advance that the network's money has not repaid yet comes back to OWN.
func (p *Payout) Returned(repaid bool) []Transfer {
	if p.Advance && !repaid {
		return []Transfer{p.transfer("returned", EventPayoutReturned, Posted,
			d(OwnBank, "", p.Amount), c(AdvanceD0, p.Merchant, p.Amount),
			d(DueToOwnAdvance, p.Merchant, p.Amount), c(PayoutReturned, p.Merchant, p.Amount))}
	}
	return []Transfer{p.transfer("returned", EventPayoutReturned, Posted, d(ClientBank, "", p.Amount), c(PayoutReturned, p.Merchant, p.Amount))}
}

// Repaid books that the network's money repaid an advance.
func (p *Payout) Repaid() []Transfer {
	return []Transfer{p.transfer("repaid", EventAdvanceRepaid, Posted,
		d(DueToOwnAdvance, p.Merchant, p.Amount), c(ClientBank, "", p.Amount),
		d(OwnBank, "", p.Amount), c(AdvanceD0, p.Merchant, p.Amount))}
}

// Late books that the bank paid after all what was booked as failed, is still
// owed and was not replaced: together with Failed it is what Success would have
// been.
func (p *Payout) Late() []Transfer {
	from := MerchantPayable
	if p.Reissue {
		from = PayoutReturned
	}
	var out []Transfer
	if p.Advance { // our money is gone, whether there was enough or not
		out = []Transfer{p.transfer("late-advance", EventPayoutLong, Posted, d(AdvanceD0, p.Merchant, p.Amount), c(OwnBank, "", p.Amount)),
			p.transfer("late", EventPayoutSuccess, Posted, d(from, p.Merchant, p.Amount), c(DueToOwnAdvance, p.Merchant, p.Amount))}
	} else {
		out = []Transfer{p.transfer("late", EventPayoutSuccess, Posted, d(from, p.Merchant, p.Amount), c(ClientBank, "", p.Amount))}
	}
	return append(out, p.cost()...)
}

// Long books that the bank paid a payout that was booked as failed and that
// nobody is owed any more: it waits in suspense, an advance with what we lost.
func (p *Payout) Long() []Transfer {
	return append([]Transfer{p.transfer("long", EventPayoutLong, Posted, p.long(p.Amount)...)}, p.cost()...)
}

func (p *Payout) long(amount money.Amount) []Leg {
	if p.Advance {
		return []Leg{d(AdvanceRisk, "", amount), c(OwnBank, "", amount)}
	}
	return []Leg{d(SuspenseShort, "", amount), c(ClientBank, "", amount)}
}

// LongReturned books that the bank brought such money back.
func (p *Payout) LongReturned() []Transfer {
	return []Transfer{p.transfer("long-returned", EventPayoutLong, Posted, p.long(-p.Amount)...)}
}

// Recovered books that such money was taken from the merchant: of what is
// payable to it, which may go below zero, and of what came back for it.
func (p *Payout) Recovered(payable, returned money.Amount) Transfer {
	l := []Leg{d(MerchantPayable, p.Merchant, payable), d(PayoutReturned, p.Merchant, returned)}
	if p.Advance {
		l = append(l, c(ClientBank, "", p.Amount), d(OwnBank, "", p.Amount), c(AdvanceRisk, "", p.Amount))
	} else {
		l = append(l, c(SuspenseShort, "", p.Amount))
	}
	return p.transfer("recovered", EventShortResolved, Posted, l...)
}

// RecoveredTwice books that the bank brought back what was recovered already:
// it is the merchant's.
func (p *Payout) RecoveredTwice() Transfer {
	return p.transfer("long-returned", EventPayoutLong, Posted, d(ClientBank, "", p.Amount), c(MerchantPayable, p.Merchant, p.Amount))
}

// Lost gives such money up. An advance stands among our losses already.
func (p *Payout) Lost() []Transfer {
	if p.Advance {
		return nil
	}
	return []Transfer{p.transfer("lost", EventShortResolved, Posted, d(WriteOff, "", p.Amount), c(SuspenseShort, "", p.Amount))}
}

// FoundAgain books that the bank brought back what was given up.
func (p *Payout) FoundAgain() []Transfer {
	if p.Advance {
		return p.LongReturned()
	}
	return []Transfer{p.transfer("long-returned", EventPayoutLong, Posted, d(ClientBank, "", p.Amount), c(WriteOff, "", p.Amount))}
}

// D0Fee takes the fee for being paid early from a merchant's batch.
func D0Fee(batch string, date calendar.Date, merchant string, fee money.Amount) Transfer {
	return Transfer{Key: "d0fee/" + batch, Event: EventD0Fee, Date: date, Ref: batch, Kind: Posted,
		Legs: legs(d(MerchantPayable, merchant, fee), c(IncomeD0, "", fee))}
}

// ExtraFee takes a fee that no sale causes: a SIM year, a repair. What is given
// back of one has an amount below zero and another key.
func ExtraFee(key string, date calendar.Date, merchant string, fee money.Amount) Transfer {
	return Transfer{Key: "extra/" + key, Event: EventExtraFee, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(MerchantPayable, merchant, fee), c(IncomeDevice, "", fee))}
}

// Hold is a merchant's money kept out of payouts.
type Hold struct {
	Key      string // names the case
	Date     calendar.Date
	Merchant string
	Amount   money.Amount
}

// Ask reserves the money until somebody says whether it is held.
// ErrInsufficient when the merchant is not owed so much.
func (h *Hold) Ask() Transfer {
	return Transfer{Key: "hold/" + h.Key, Event: EventHold, Date: h.Date, Ref: h.Key, Kind: Pending,
		Legs: legs(d(MerchantPayable, h.Merchant, h.Amount), c(MerchantFrozen, h.Merchant, h.Amount))}
}

// Confirm holds what was asked for; Refuse gives it back because somebody said
// no, Lapse because nobody said anything in time.
func (h *Hold) Confirm() Transfer { return h.end(Posting) }
func (h *Hold) Refuse() Transfer  { return h.end(Voiding) }
func (h *Hold) Lapse() Transfer   { return h.end(Expiry) }

func (h *Hold) end(k Kind) Transfer {
	return Transfer{Key: "hold/" + h.Key + "-" + k.String(), Event: EventHold, Date: h.Date, Ref: h.Key, Kind: k, Resolves: "hold/" + h.Key}
}

// Release gives held money back to the merchant; part numbers the releases of
// one hold.
func (h *Hold) Release(part string, amount money.Amount) Transfer {
	return Transfer{Key: "release/" + h.Key + part, Event: EventRelease, Date: h.Date, Ref: h.Key, Kind: Posted,
		Legs: legs(d(MerchantFrozen, h.Merchant, amount), c(MerchantPayable, h.Merchant, amount))}
}

// Chargeback is an issuer's (or a wallet's) chargeback as the ledger books it.
type Chargeback struct {
	Key      string // names the chargeback; a second one has a key of its own
	Date     calendar.Date
	Merchant string
	Wallet   string       // "" for cards
	Amount   money.Amount // what the payer gets back
	Held     money.Amount // the part of it that was held before
	Fee      money.Amount // what the network takes for it: our cost
}

// Book takes the amount from the merchant, what was held of it first, and from
// what the network owes us.
func (b *Chargeback) Book() Transfer {
	account, sub := receivable(b.Wallet)
	return Transfer{Key: "chargeback/" + b.Key, Event: EventChargeback, Date: b.Date, Ref: b.Key, Kind: Posted,
		Legs: legs(d(MerchantFrozen, b.Merchant, b.Held), d(MerchantPayable, b.Merchant, b.Amount-b.Held), d(CostErrors, "", b.Fee), c(account, sub, b.Amount+b.Fee))}
}

// Won gives the amount back to the merchant; the network keeps its fee.
func (b *Chargeback) Won() Transfer {
	account, sub := receivable(b.Wallet)
	return Transfer{Key: "chargeback-won/" + b.Key, Event: EventChargebackWon, Date: b.Date, Ref: b.Key, Kind: Posted,
		Legs: legs(d(account, sub, b.Amount), c(MerchantPayable, b.Merchant, b.Amount))}
}

// ToArrears moves a merchant's negative balance out of the payable; what is
// collected later comes back with a negative amount and another key.
func ToArrears(key string, date calendar.Date, merchant string, amount money.Amount) Transfer {
	return Transfer{Key: "arrears/" + key, Event: EventArrears, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(Arrears, merchant, amount), c(MerchantPayable, merchant, amount))}
}

// LongItem books money the network, or a wallet, has and we have not; it is
// resolved to the merchant who delivered, or given back to the payer (贷记调整).
func LongItem(key string, date calendar.Date, wallet string, amount money.Amount) Transfer {
	account, sub := receivable(wallet)
	return Transfer{Key: "long/" + key, Event: EventLongItem, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(account, sub, amount), c(SuspenseLong, "", amount))}
}

// LongResolved ends a long item: to a merchant, or to the payer when merchant
// is "".
func LongResolved(key string, date calendar.Date, wallet, merchant string, amount money.Amount) Transfer {
	account, sub := receivable(wallet)
	to := c(account, sub, amount)
	if merchant != "" {
		to = c(MerchantPayable, merchant, amount)
	}
	return Transfer{Key: "long-resolved/" + key, Event: EventLongResolved, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(SuspenseLong, "", amount), to)}
}

// ShortItem books money we counted on and the network, or a wallet, does not
// have.
func ShortItem(key string, date calendar.Date, wallet string, amount money.Amount) Transfer {
	account, sub := receivable(wallet)
	return Transfer{Key: "short/" + key, Event: EventShortItem, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(SuspenseShort, "", amount), c(account, sub, amount))}
}

// ShortResolved ends a short item: the merchant bears it, or it is written off
// when merchant is "".
func ShortResolved(key string, date calendar.Date, merchant string, amount money.Amount) Transfer {
	from := d(WriteOff, "", amount)
	if merchant != "" {
		from = d(MerchantPayable, merchant, amount)
	}
	return Transfer{Key: "short-resolved/" + key, Event: EventShortResolved, Date: date, Ref: key, Kind: Posted,
		Legs: legs(from, c(SuspenseShort, "", amount))}
}

// ShortFound ends a short item that a later file brought, or whose sale was
// taken back: it is the network's to pay again, or never was.
func ShortFound(key string, date calendar.Date, wallet string, amount money.Amount) Transfer {
	account, sub := receivable(wallet)
	return Transfer{Key: "short-found/" + key, Event: EventShortResolved, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(account, sub, amount), c(SuspenseShort, "", amount))}
}

// ShortRecovered takes back that a short item was written off: a later file
// brought it after all.
func ShortRecovered(key string, date calendar.Date, wallet string, amount money.Amount) Transfer {
	account, sub := receivable(wallet)
	return Transfer{Key: "short-recovered/" + key, Event: EventShortResolved, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(account, sub, amount), c(WriteOff, "", amount))}
}

// FeeDifference books by how much the fees of the network's file are higher
// than ours; below zero where they are lower. The file's own fees count.
func FeeDifference(key string, date calendar.Date, wallet string, issuer, network, brand money.Amount) Transfer {
	account, sub := receivable(wallet)
	return Transfer{Key: "fee-difference/" + key, Event: EventFeeDifference, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(CostIssuer, "", issuer), d(CostNetwork, "", network), d(CostBrand, "", brand), c(account, sub, issuer+network+brand))}
}

// Income is what a day earned and what it cost.
type Income struct {
	Rate, Fixed, D0, Device        money.Amount
	Issuer, Network, Brand, Errors money.Amount
}

// Net is earnings less costs.
func (i *Income) Net() money.Amount {
	return i.Rate + i.Fixed + i.D0 + i.Device - i.Issuer - i.Network - i.Brand - i.Errors
}

// of is the sum of an account of income or costs; nil for any other.
func (i *Income) of(a Account) *money.Amount {
	switch a {
	case IncomeRate:
		return &i.Rate
	case IncomeFixed:
		return &i.Fixed
	case IncomeD0:
		return &i.D0
	case IncomeDevice:
		return &i.Device
	case CostIssuer:
		return &i.Issuer
	case CostNetwork:
		return &i.Network
	case CostBrand:
		return &i.Brand
	case CostErrors:
		return &i.Errors
	}
	return nil
}

// DailyClose moves a day's matched income and costs to what CLIENT owes OWN. The
// day is closed; it is booked on a date that is open.
func DailyClose(day, date calendar.Date, i *Income) (Transfer, bool) {
	l := legs(d(IncomeRate, "", i.Rate), d(IncomeFixed, "", i.Fixed), d(IncomeD0, "", i.D0), d(IncomeDevice, "", i.Device),
		c(CostIssuer, "", i.Issuer), c(CostNetwork, "", i.Network), c(CostBrand, "", i.Brand), c(CostErrors, "", i.Errors),
		c(DueToOwnIncome, "", i.Net()))
	return Transfer{Key: CloseKey(day), Event: EventClose, Date: date, Ref: day.String(), Kind: Posted, Legs: l}, len(l) > 0
}

// CloseKey and SweepKey are the keys under which a day's income is booked.
func CloseKey(day calendar.Date) string { return "close/" + day.String() }
func SweepKey(day calendar.Date) string { return "sweep/" + day.String() }

// Sweep pays a day's income from the client bank account to our own.
func Sweep(day, date calendar.Date, amount money.Amount) Transfer {
	return Transfer{Key: SweepKey(day), Event: EventSweep, Date: date, Ref: day.String(), Kind: Posted,
		Legs: legs(d(DueToOwnIncome, "", amount), c(ClientBank, "", amount), d(OwnBank, "", amount), c(IncomeOwn, "", amount))}
}

// OwnFunds books money the acquirer puts into its own bank account, from which
// early payouts are advanced.
func OwnFunds(key string, date calendar.Date, amount money.Amount) Transfer {
	return Transfer{Key: "funds/" + key, Event: EventOwnFunds, Date: date, Ref: key, Kind: Posted,
		Legs: legs(d(OwnBank, "", amount), c(OwnCapital, "", amount))}
}
