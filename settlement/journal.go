package settlement

import (
	"context"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/journal"
	"acquirer/merchant"
)

// FromJournal is the journal as a Source. entryOf says how a card was read as
// far as its price depends on it, from DE 22: the switch knows.
func FromJournal(j *journal.Journal, entryOf func(de22 int32) merchant.Entry) Source {
	return journalSource{j, entryOf}
}

type journalSource struct {
	j       *journal.Journal
	entryOf func(de22 int32) merchant.Entry
}

// Facts implements Source.
func (s journalSource) Facts(ctx context.Context, after int64, limit int) ([]Fact, error) {
	cleared, err := s.j.ClearingSince(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	facts := make([]Fact, len(cleared))
	for i, c := range cleared {
		facts[i] = Fact{Cursor: c.ID, Taken: c.Taken, At: c.At, On: c.On, Txn: c.Txn, Date: c.Day, RRN: c.RRN, Merchant: c.Merchant, Terminal: c.Terminal,
			Issuer: c.Issuer, Entry: s.entryOf(c.Entry), Amount: c.Amount, Does: doesOf(&c), Original: c.Original}
		if fault.Planted("date-at-close") {
			facts[i].Date = calendar.BusinessDate(c.At, calendar.CardCutoff)
		}
		if facts[i].Channel, facts[i].CardType = WayOf(c.Channel); c.Channel == journal.QR {
			facts[i].Wallet = c.Issuer
		}
	}
	return facts, nil
}

// WayOf is a way of paying as prices have it.
func WayOf(c journal.Channel) (merchant.Channel, merchant.CardType) {
	switch c {
	case journal.QR:
		return merchant.QR, ""
	case journal.Debit:
		return merchant.Card, merchant.Debit
	case journal.QuasiCredit:
		return merchant.Card, merchant.QuasiCredit
	}
	return merchant.Card, merchant.Credit
}

// doesOf is what a transaction does to the merchant's money. What undoes a load
// moves as little of it as the load did.
func doesOf(c *journal.Clearing) Does {
	if c.OriginalKind == journal.Load || c.Kind == journal.Void && fault.Planted("void-settles") {
		return Nothing
	}
	switch c.Kind {
	case journal.Sale, journal.Completion, journal.OfflineSale:
		return Sells
	case journal.Void, journal.CompletionVoid:
		return Voids
	case journal.Refund:
		return Refunds
	case journal.Adjustment:
		return Adjusts
	}
	return Nothing
}

// From implements Source.
func (s journalSource) From(cursor int64) int64 { return s.j.ClearingFrom(cursor) }

// CutOver implements Source.
func (s journalSource) CutOver(ctx context.Context, date calendar.Date) error {
	return s.j.CutOver(ctx, date)
}

// Undecided implements Source.
func (s journalSource) Undecided(ctx context.Context, date calendar.Date) (int, error) {
	return s.j.Undecided(ctx, date)
}
