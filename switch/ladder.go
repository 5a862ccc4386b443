package switching

import (
	"context"
	"errors"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/spec"
)

// sale is what a financial request asks for, as the ladder found it.
type sale struct {
	stan     int
	pin      bool
	pinBlock hsm.PINBlock // under the issuer's ZPK
	expiry   card.Expiry
	track2   []byte // clear, for the issuer; wiped when the message is done
	channel  journal.Channel
	leg      Leg
}

// climb is the ladder of a purchase: one-line refusals in a fixed order, the
// first that holds wins. The rows of TestLadder stand in the same order. The
// note says for people what was wrong, without card data.
func (s *Switch) climb(ctx context.Context, w *work) (sale, journal.Reason, string) {
	var q sale
	m := &w.req

	// Format.
	stan, ok := m.Int(11)
	if !ok || stan == 0 {
		return q, journal.FormatError, "DE 11 is no trace number"
	}
	q.stan = int(stan)
	amount, whole := m.Int(4)
	w.amount = money.Amount(amount)
	for _, n := range [...]int{4, 22, 25, 41, 42, 49} {
		if !m.Has(n) {
			return q, journal.FormatError, "DE " + itoa(n) + " is missing"
		}
	}
	if w.de60.Batch == 0 {
		return q, journal.FormatError, "DE 60.2 is no batch number"
	}
	entry, ok := m.Int(22)
	if !ok {
		return q, journal.FormatError, "DE 22"
	}
	w.entry = int(entry) / 10
	q.pin = entry%10 == 1
	if q.pin != m.Has(52) {
		return q, journal.FormatError, "DE 22 and DE 52 disagree about a PIN"
	}

	// Terminal and merchant.
	switch s.mayWork(w) {
	case RCApproved:
	case RCNotPermittedHere:
		return q, journal.TerminalNotActive, string(w.terminal.Status)
	default:
		return q, journal.MerchantNotActive, "DE 42 names " + m.Text(42)
	}

	// Card.
	if reason, note := s.readCard(ctx, w, &q); reason != journal.Undecided {
		return q, reason, note
	}
	if q.expiry != "" && q.expiry.Before(yymm(w.started)) {
		return q, journal.CardExpired, ""
	}

	// Entry mode.
	if reason, note := entryMode(w, &q); reason != journal.Undecided {
		return q, reason, note
	}

	// Amount.
	if !whole || amount <= 0 {
		return q, journal.AmountInvalid, "DE 4"
	}
	if m.Text(49) != money.CurrencyNumeric {
		return q, journal.CurrencyInvalid, "DE 49"
	}

	// Route.
	route, ok := s.bins.Route(w.pan)
	if !ok {
		return q, journal.UnknownCard, ""
	}
	if err := route.Check(w.pan); err != nil {
		return q, journal.CardInvalid, err.Error()
	}
	w.route, w.issuer, q.leg = route, route.Issuer, s.legs[route.Issuer]
	q.channel = channelOf(route.Kind)

	// Price: a merchant does not pay to sell.
	if reason, note := s.priced(w, &q); reason != journal.Undecided {
		return q, reason, note
	}

	// PIN, last: it costs the HSM most.
	if q.pin {
		return s.translatePIN(ctx, w, q)
	}
	return q, journal.Undecided, ""
}

// readCard finds the account number in DE 2 or in the track, which must agree,
// and the expiry date.
func (s *Switch) readCard(ctx context.Context, w *work, q *sale) (journal.Reason, string) {
	m := &w.req
	if m.Has(14) {
		exp, err := card.ParseExpiry(m.Text(14))
		if err != nil {
			return journal.CardInvalid, "DE 14"
		}
		q.expiry = exp
	}
	if m.Has(2) {
		pan, err := card.ParsePAN(m.Text(2))
		if err != nil {
			return journal.CardInvalid, "DE 2"
		}
		w.pan = pan
	}
	if !m.Has(35) {
		if w.pan.IsZero() {
			return journal.FormatError, "neither DE 2 nor DE 35"
		}
		return journal.Undecided, ""
	}
	q.track2 = m.AppendText(nil, 35)
	if de53, ok := spec.ParseDE53(m); ok && de53.Track == 1 {
		clear, err := s.hsm.DecryptTrack(ctx, w.tdk, hsm.TrackTDB, q.track2)
		if err != nil && !errors.Is(err, hsm.ErrTrack) && w.tdk != "" {
			return journal.HSMTrouble, err.Error()
		}
		if err != nil {
			return journal.CardInvalid, "DE 35 does not decrypt under the terminal's track key"
		}
		q.track2 = clear
	}
	track, err := card.ParseTrack2(q.track2)
	if err != nil {
		return journal.CardInvalid, "DE 35"
	}
	if !w.pan.IsZero() && !w.pan.Equal(track.PAN) {
		return journal.CardInvalid, "DE 2 and DE 35 name different cards"
	}
	w.pan, w.track = track.PAN, track
	if q.expiry == "" {
		q.expiry = track.Expiry
	}
	return journal.Undecided, ""
}

// The first two digits of DE 22.
const (
	entryKeyed       = 1
	entryStripe      = 2
	entryChip        = 5
	entryContactless = 7
	entryFallback    = 80
	entryMSD         = 91
	entryMobile      = 98
)

// entryMode holds the way the card was read against what came along.
func entryMode(w *work, q *sale) (journal.Reason, string) {
	m := &w.req
	switch w.entry {
	case entryKeyed:
		if q.track2 != nil || m.Has(55) {
			return journal.FormatError, "keyed entry with a track or chip data"
		}
		if q.expiry == "" {
			return journal.FormatError, "keyed entry without DE 14"
		}
	case entryStripe, entryFallback, entryMSD:
		if q.track2 == nil {
			return journal.FormatError, "DE 35 is missing"
		}
	case entryChip, entryContactless, entryMobile:
		if !m.Has(55) {
			return journal.FormatError, "DE 55 is missing"
		}
		for _, err := range spec.WalkTLV(m.Bytes(55)) {
			if err != nil {
				return journal.FormatError, "DE 55 cannot be read"
			}
		}
	default:
		return journal.EntryNotAllowed, "DE 22"
	}
	return journal.Undecided, ""
}

// priced refuses a sale whose fee is not below its amount, as the merchant's
// plan has it.
func (s *Switch) priced(w *work, q *sale) (journal.Reason, string) {
	plan, err := s.plans.InForce(w.merchant.Plan, calendar.DateOf(w.started))
	if err != nil {
		s.log.Error("merchant without a fee plan in force", "merchant", w.merchant.MID, "error", err.Error())
		return journal.MerchantNotActive, "no fee plan in force"
	}
	price := plan.Price(merchant.Sale{Channel: merchant.Card, CardType: cardTypeOf(q.channel), Amount: w.amount})
	if price.Refusal != merchant.NotRefused {
		return journal.FeeExceeds, string(price.Refusal)
	}
	return journal.Undecided, ""
}

// translatePIN takes the PIN block from the terminal's key to the issuer's,
// for the same account number (ISO 9564-1 format 0: DE 53 digit 1 is 2).
func (s *Switch) translatePIN(ctx context.Context, w *work, q sale) (sale, journal.Reason, string) {
	m := &w.req
	if de53, ok := spec.ParseDE53(m); !ok || de53.PINFormat != 2 {
		return q, journal.BadPIN, "DE 53 does not say a PIN block with account number"
	}
	zpk := q.leg.Keys.ZPK()
	if zpk == "" {
		return q, journal.Unreachable, "no PIN key has come from the issuer yet"
	}
	block, err := s.hsm.TranslatePIN(ctx, w.tpk, hsm.ISO0, hsm.PINBlockOf(m.Bytes(52)), w.pan, zpk, hsm.ISO0)
	if err != nil && !errors.Is(err, hsm.ErrPIN) {
		return q, journal.HSMTrouble, err.Error()
	}
	if err != nil {
		return q, journal.BadPIN, "" // which of the ways it was wrong is nobody's business
	}
	q.pinBlock = block
	return q, journal.Undecided, ""
}

func channelOf(k routing.Kind) journal.Channel {
	if k == routing.Credit || k == routing.SemiCredit {
		return journal.Credit
	}
	return journal.Debit // prepaid is priced and limited as debit
}

func cardTypeOf(c journal.Channel) merchant.CardType {
	if c == journal.Credit {
		return merchant.Credit
	}
	return merchant.Debit
}

// yymm is the month of t in Beijing as a card writes it.
func yymm(t time.Time) string { return t.In(calendar.Beijing).Format("0601") }
