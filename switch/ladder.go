package switching

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/spec"
)

// asked is what a financial request asks for, as the ladder found it.
type asked struct {
	stan     int
	token    [16]byte // of the card or the payment code
	pin      bool
	pinBlock hsm.PINBlock // under the issuer's ZPK
	ksn      []byte       // of the key that it came under, at a DUKPT terminal
	expiry   card.Expiry
	track2   []byte // clear, for the issuer; wiped when the message is done
	channel  journal.Channel
	scheme   string // of a foreign card
	leg      Leg
	plan     *routing.Plan // the routing that it began with
	query    routing.Query // what was asked of it
	ways     routing.Choice
	wallet   *wallet.Wallet
	follows  *journal.Following // the original, where the row names one
	standing money.Amount       // what the original comes to, for an adjustment
}

// climb is the ladder of a card transaction: one-line refusals in a fixed
// order, the first that holds wins. The rows of TestLadder stand in the same
// order. The note says for people what was wrong, without card data.
func (s *Switch) climb(ctx context.Context, w *work) (asked, journal.Reason, string) {
	var q asked
	m := &w.req

	// Format.
	if reason, note := s.format(w, &q); reason != journal.Undecided {
		return q, reason, note
	}

	// Terminal and merchant.
	if reason, note := s.mayTrade(w); reason != journal.Undecided {
		return q, reason, note
	}

	// Presence, as the dialect declares it.
	if e := w.dialect.Check(m); e != nil {
		return q, journal.FormatError, e.Note()
	}

	// Card.
	if reason, note := s.readCard(ctx, w, &q); reason != journal.Undecided {
		return q, reason, note
	}
	if reason, note := s.known(ctx, w, &q); reason != journal.Undecided {
		return q, reason, note
	}
	// What was sold is given back and recorded whatever the date.
	if w.row.after == nil && w.row.does != journal.OfflineSale && q.expiry != "" && q.expiry.Before(yymm(w.started)) {
		return q, journal.CardExpired, ""
	}

	// Entry mode.
	if reason, note := s.entryMode(w, &q); reason != journal.Undecided {
		return q, reason, note
	}

	// Amount.
	if reason, note := s.amountOf(w); reason != journal.Undecided {
		return q, reason, note
	}
	if reason, note := s.chipAgrees(w); reason != journal.Undecided {
		return q, reason, note
	}
	if reason, note := s.pinAsked(w, &q); reason != journal.Undecided {
		return q, reason, note
	}

	// Route.
	q.plan = s.plan.Load()
	route, ok := q.plan.BINs.Route(w.pan)
	if !ok {
		return q, journal.UnknownCard, ""
	}
	if err := route.Check(w.pan); err != nil {
		return q, journal.CardInvalid, err.Error()
	}
	w.route, w.issuer, q.leg = route, route.Issuer, s.legs[route.Issuer]
	if q.channel = channelOf(route.Kind); route.Scheme() != domestic {
		q.scheme = route.Scheme()
	}
	if reason, note := s.way(w, &q); reason != journal.Undecided {
		return q, reason, note
	}

	// The original. What follows it goes where it went.
	if w.row.after != nil {
		if reason, note := s.findOriginal(ctx, w, &q); reason != journal.Undecided {
			return q, reason, note
		}
		if reason, note := s.way(w, &q); reason != journal.Undecided {
			return q, reason, note
		}
	}

	// Price: a merchant does not pay to sell.
	if w.row.does == journal.Sale || w.row.does == journal.Completion {
		if reason, note := s.priced(w, merchant.Sale{Channel: merchant.Card, CardType: cardTypeOf(q.channel), Entry: EntryOf(int32Of(m, 22)), Amount: w.amount}); reason != journal.Undecided && !w.row.recorded() {
			return q, reason, note
		}
	}

	// A breaker that is open answers for its issuer: one write instead of two,
	// and no PIN translated, while an issuer that is down is asked for thousands
	// of times a second.
	if s.barredAll(w, &q) {
		return q, journal.Unreachable, string(routing.Barred)
	}

	// PIN, last: it costs the HSM most.
	if q.pin {
		return s.translatePIN(ctx, w, q)
	}
	return q, journal.Undecided, ""
}

// format holds the message against what every financial one and its row need,
// and reads trace number, amount and entry mode.
func (s *Switch) format(w *work, q *asked) (journal.Reason, string) {
	m := &w.req
	stan, ok := m.Int(11)
	if !ok || stan == 0 {
		return journal.FormatError, "DE 11 is no trace number"
	}
	q.stan = int(stan)
	amount, _ := m.Int(4)
	w.amount = money.Amount(amount)
	for _, n := range w.row.needs {
		if !m.Has(n) {
			return journal.FormatError, "DE " + itoa(n) + " is missing"
		}
	}
	if !w.dialect.UnionPay() { // whose presence rules say what else there must be
		w.entry = int(w.entryMode()) / 10
		q.pin = m.Has(52) && !w.row.recorded()
		return journal.Undecided, ""
	}
	if w.row.recorded() && !m.Has(22) { // the rules say what else there must be
		if w.entry = entryKeyed; m.Has(55) {
			w.entry = entryChip
		}
		return journal.Undecided, ""
	}
	for _, n := range [...]int{22, 25, 41, 42, 49} {
		if !m.Has(n) && !(w.row.recorded() && (n == 25 || n == 49)) {
			return journal.FormatError, "DE " + itoa(n) + " is missing"
		}
	}
	entry, ok := m.Int(22)
	if !ok {
		return journal.FormatError, "DE 22"
	}
	w.entry = int(entry) / 10
	q.pin = entry%10 == 1 && !w.row.recorded() // a PIN stays behind when it is told
	if !w.row.recorded() && q.pin != (m.Has(52) || m.Has(63) && sm4Block(m) != nil) {
		return journal.FormatError, "DE 22 and DE 52 disagree about a PIN"
	}
	return journal.Undecided, ""
}

// mayTrade is the state of terminal and merchant, and their step.
func (s *Switch) mayTrade(w *work) (journal.Reason, string) {
	switch s.mayWork(w) {
	case RCApproved:
	case RCNotPermittedHere:
		return journal.TerminalNotActive, string(w.terminal.Status)
	default:
		return journal.MerchantNotActive, "DE 42 names " + w.req.Text(42)
	}
	if w.dialect.UnionPay() && w.terminal.Profile.Batch != merchant.BatchFollows && w.de60.Batch != w.terminal.Batch {
		return journal.BatchOutOfStep, "DE 60.2 is " + itoa(w.de60.Batch) + ", want " + itoa(w.terminal.Batch)
	}
	return journal.Undecided, ""
}

// amountOf holds DE 4 and DE 49 against the row.
func (s *Switch) amountOf(w *work) (journal.Reason, string) {
	m := &w.req
	if w.row.needs != nil && slices.Contains(w.row.needs, 4) && w.amount <= 0 {
		return journal.AmountInvalid, "DE 4"
	}
	if m.Has(49) && m.Text(49) != money.CurrencyNumeric {
		return journal.CurrencyInvalid, "DE 49"
	}
	return journal.Undecided, ""
}

// readCard finds the account number in DE 2 or in the track, which must agree,
// and the expiry date.
func (s *Switch) readCard(ctx context.Context, w *work, q *asked) (journal.Reason, string) {
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
		if w.pan.IsZero() && !w.dialect.UnionPay() && w.row.after != nil {
			return s.usedCard(ctx, w, q)
		}
		if w.pan.IsZero() {
			return journal.FormatError, "neither DE 2 nor DE 35"
		}
		return journal.Undecided, ""
	}
	q.track2 = m.AppendText(nil, 35)
	if de53, ok := spec.ParseDE53(m); ok && de53.Track == 1 && w.dialect.UnionPay() {
		clear, err := s.hsm.DecryptTrack(ctx, w.tdk, trackScheme(w.terminal), q.track2)
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

// trackScheme is what of a track the terminal's profile encrypts.
func trackScheme(t *merchant.Terminal) hsm.TrackScheme {
	switch t.Profile.Track {
	case merchant.TrackWhole:
		return hsm.TrackWhole
	case merchant.TrackLength:
		return hsm.TrackLength
	}
	return hsm.TrackTDB
}

// known makes the card's token, by which it is looked up, and looks on the
// black list. What was sold is given back to a card that is on it by now.
func (s *Switch) known(ctx context.Context, w *work, q *asked) (journal.Reason, string) {
	var err error
	if q.token, err = s.hsm.Token(ctx, s.tokenKey, []byte(w.pan.Reveal())); err != nil {
		return journal.HSMTrouble, err.Error()
	}
	if w.row.after == nil && !w.row.recorded() && s.downloads.Blocked(w.pan, q.token) {
		return journal.CardBlocked, ""
	}
	return journal.Undecided, ""
}

// The first two digits of DE 22.
const (
	entryKeyed       = 1
	entryStripe      = 2
	entryCode        = 3 // a payment code
	entryCodeOnPaper = 4 // the same, as the specification has it
	entryChip        = 5
	entryContactless = 7
	entryFallback    = 80
	entryMSD         = 91
	entryReserved    = 92
	entryMobile      = 96
	entryContactFull = 98
)

// entryMode holds the way the card was read against what came along.
func (s *Switch) entryMode(w *work, q *asked) (journal.Reason, string) {
	m := &w.req
	if !m.Has(22) && w.row.after != nil { // other dialects say it of the original alone
		return journal.Undecided, ""
	}
	switch w.entry {
	case entryKeyed, entryReserved:
		if q.track2 != nil || m.Has(55) {
			return journal.FormatError, "keyed entry with a track or chip data"
		}
		if q.expiry == "" && w.row.after == nil && !w.row.recorded() {
			return journal.FormatError, "keyed entry without DE 14"
		}
	case entryStripe, entryFallback, entryMSD:
		if q.track2 == nil && w.row.after == nil && w.row.does != journal.OfflineSale {
			return journal.FormatError, "DE 35 is missing"
		}
		return s.fallback(w, q)
	case entryChip, entryContactless, entryMobile, entryContactFull:
		if !m.Has(55) && w.row.after == nil {
			return journal.FormatError, "DE 55 is missing"
		}
		missing, ok := chipTags(m.Bytes(55))
		switch {
		case !ok:
			return journal.FormatError, "DE 55 cannot be read"
		case missing != 0 && w.row.after == nil && !w.row.recorded():
			return journal.FormatError, fmt.Sprintf("DE 55 lacks %X", missing)
		}
	default:
		return journal.EntryNotAllowed, "DE 22"
	}
	return journal.Undecided, ""
}

// wantedTags are what a chip transaction must carry for its issuer to judge
// the cryptogram (protocol.md 2.4).
var wantedTags = [...]uint32{0x9F26, 0x9F27, 0x9F10, 0x9F37, 0x9F36, 0x95, 0x9A, 0x9C, 0x9F02, 0x5F2A, 0x82, 0x9F1A, 0x9F03, 0x9F33}

// chipTags reads all of DE 55 and gives the first wanted tag that is not in it,
// 0 when all are.
func chipTags(icc []byte) (missing uint32, readable bool) {
	var seen uint32
	for t, err := range spec.WalkTLV(icc) {
		if err != nil {
			return 0, false
		}
		for i, tag := range wantedTags {
			if t.Tag == tag {
				seen |= 1 << i
				break
			}
		}
	}
	for i, tag := range wantedTags {
		if seen&(1<<i) == 0 {
			return tag, true
		}
	}
	return 0, true
}

// fallback refuses the stripe of a card whose service code says that it has a
// chip (first digit 2 or 6), at a terminal that reads chips. With
// Config.Fallback a terminal may declare that the chip failed (DE 22 80, or DE
// 60.5 = 2) and use the stripe after all.
func (s *Switch) fallback(w *work, q *asked) (journal.Reason, string) {
	if q.track2 == nil || w.row.after != nil || w.entry == entryMSD || w.de60.Capability < 5 || !w.track.HasChip() {
		return journal.Undecided, ""
	}
	declared := w.entry == entryFallback || w.de60.ICCondition == 2
	switch {
	case !declared:
		return journal.UseChip, "the service code says chip"
	case !s.cfg.Fallback:
		return journal.UseChip, "fallback is not allowed"
	}
	return journal.Undecided, ""
}

// chipAgrees compares what the chip signed with what the message says: amount
// (9F02) and currency (5F2A). The counter is held against others in chip.go.
func (s *Switch) chipAgrees(w *work) (journal.Reason, string) {
	icc := w.req.Bytes(55)
	if icc == nil || w.row.after != nil || fault.Planted("chip-unread") {
		return journal.Undecided, ""
	}
	if v, ok := spec.FindTLV(icc, 0x9F02); ok && w.row.does != journal.Inquiry {
		if n, ok := bcd(v); !ok || money.Amount(n) != w.amount {
			return journal.ChipDiffers, "DE 4 and the chip's amount (9F02)"
		}
	}
	if v, ok := spec.FindTLV(icc, 0x5F2A); ok {
		if n, ok := bcd(v); !ok || n != currencyNumber {
			return journal.ChipDiffers, "DE 49 and the chip's currency (5F2A)"
		}
	}
	return journal.Undecided, ""
}

const (
	currencyNumber = 156   // yuan, ISO 4217
	domestic       = "CUP" // DE 63 of UnionPay's own cards
)

// bcd is the number that the nibbles of at most nine bytes write.
func bcd(b []byte) (n int64, ok bool) {
	if len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if c>>4 > 9 || c&15 > 9 {
			return 0, false
		}
		n = n*100 + int64(c>>4)*10 + int64(c&15)
	}
	return n, true
}

// pinAsked refuses a contactless sale without a PIN above what the terminal's
// parameters let go without one (小额免密).
func (s *Switch) pinAsked(w *work, q *asked) (journal.Reason, string) {
	if q.pin || w.entry != entryContactless && w.entry != entryMSD && w.entry != entryMobile && w.entry != entryContactFull ||
		w.row.does != journal.Sale && w.row.does != journal.PreAuth {
		return journal.Undecided, ""
	}
	if most := s.noPIN(w); w.amount > most {
		return journal.PINRequired, "contactless above " + most.String()
	}
	return journal.Undecided, ""
}

// noPIN is what the terminal may sell contactless without a PIN.
func (s *Switch) noPIN(w *work) money.Amount {
	most, _ := s.downloads.Limits(w.terminal.TID, w.terminal.MID)
	return most
}

// priced refuses a sale whose fee is not below its amount, as the merchant's
// plan has it.
func (s *Switch) priced(w *work, of merchant.Sale) (journal.Reason, string) {
	dates := journal.CardDates
	if of.Channel == merchant.QR {
		dates = journal.WalletDates
	}
	date := s.today(dates, w.started)
	plan, err := s.terminals.PlanOf(w.merchant, date)
	if err != nil {
		s.log.Error("merchant without a fee plan in force", "merchant", w.merchant.MID, "error", err.Error())
		return journal.MerchantNotActive, "no fee plan in force"
	}
	of.MCCClass = s.terminals.MCCClass(w.merchant, date)
	price := plan.Price(of)
	if price.Refusal != merchant.NotRefused {
		return journal.FeeExceeds, string(price.Refusal)
	}
	return journal.Undecided, ""
}

// translatePIN takes the PIN block from the terminal's key to the issuer's,
// for the same account number. DE 53 says how a UnionPay terminal made it.
func (s *Switch) translatePIN(ctx context.Context, w *work, q asked) (asked, journal.Reason, string) {
	m := &w.req
	if q.ksn = w.dialect.KSN(m); q.ksn != nil || w.terminal.Profile.PIN == merchant.PINDUKPT {
		return s.translateDUKPT(ctx, w, q)
	}
	block, format := hsm.PINBlockOf(m.Bytes(52)), hsm.ISO0
	de53, ok := spec.ParseDE53(m)
	if !w.dialect.UnionPay() { // ISO 9564 format 0; what DE 53 says is between other ends
		de53, ok = spec.DE53{PINFormat: 2}, true
	}
	sm4 := de53.Algorithm == 4 || de53.Algorithm == 3
	if sm4 {
		block = hsm.PINBlockOf(sm4Block(m))
	}
	switch {
	case !ok || de53.PINFormat != 1 && de53.PINFormat != 2:
		return q, journal.BadPIN, "DE 53 does not say how the PIN block was made"
	case sm4 && de53.PINFormat == 2:
		format = hsm.SM4WithPAN
	case sm4:
		format = hsm.SM4NoPAN
	case de53.PINFormat == 1:
		format = hsm.UnionPayNoPAN
	}
	zpk := q.leg.Keys.ZPK()
	if zpk == "" {
		return q, journal.Unreachable, "no PIN key has come from the issuer yet"
	}
	block, err := s.hsm.TranslatePIN(hsm.ForTerminal(ctx, string(w.terminal.TID)), w.tpk, format, block, w.pan, zpk, hsm.ISO0)
	return pinTranslated(q, block, err)
}

// pinTranslated is what comes of a translation.
func pinTranslated(q asked, block hsm.PINBlock, err error) (asked, journal.Reason, string) {
	switch {
	case err == nil:
		q.pinBlock = block
		return q, journal.Undecided, ""
	case errors.Is(err, hsm.ErrPIN), errors.Is(err, hsm.ErrKeyUse), errors.Is(err, hsm.ErrKSN):
		return q, journal.BadPIN, "" // which of the ways it was wrong is nobody's business
	}
	return q, journal.HSMTrouble, err.Error()
}

// translateDUKPT takes the PIN block from the key that the terminal used once:
// what DE 52 is under follows from the key serial number and the base key that
// its first digits name.
func (s *Switch) translateDUKPT(ctx context.Context, w *work, q asked) (asked, journal.Reason, string) {
	bdk := s.baseKey(q.ksn)
	switch {
	case len(q.ksn) == 0:
		return q, journal.EntryNotAllowed, "no key serial number goes with the PIN"
	case bdk == "":
		s.log.Warn("a PIN under a DUKPT key was refused: no base key of the seed has its key set identifier", "terminal", w.terminal.TID, "ksn", hex.EncodeToString(q.ksn[:5]))
		return q, journal.EntryNotAllowed, "no base key for its key serial number"
	}
	zpk := q.leg.Keys.ZPK()
	if zpk == "" {
		return q, journal.Unreachable, "no PIN key has come from the issuer yet"
	}
	block, err := s.hsm.TranslateDUKPT(hsm.ForTerminal(ctx, string(w.terminal.TID)), bdk, q.ksn, hsm.ISO0, hsm.PINBlockOf(w.req.Bytes(52)), w.pan, zpk, hsm.ISO0)
	return pinTranslated(q, block, err)
}

// sm4Block is the PIN block of an SM4 terminal: 16 bytes in DE 63 under SM. Nil
// when there is none.
func sm4Block(m *spec.Message) []byte {
	if b, ok := spec.FindDE59(m.Bytes(63), "SM"); ok && len(b) == 16 {
		return b
	}
	return nil
}

// EntryOf is how a card was read as far as its price depends on it, from DE 22:
// contactless (07) without a PIN.
func EntryOf(de22 int32) merchant.Entry {
	if de22/10 == entryContactless && de22%10 != 1 {
		return merchant.ContactlessNoPIN
	}
	return merchant.AnyEntry
}

func channelOf(k routing.Kind) journal.Channel {
	switch k {
	case routing.Credit:
		return journal.Credit
	case routing.SemiCredit:
		return journal.QuasiCredit
	}
	return journal.Debit // prepaid is priced and limited as debit
}

func cardTypeOf(c journal.Channel) merchant.CardType {
	switch c {
	case journal.Credit:
		return merchant.Credit
	case journal.QuasiCredit:
		return merchant.QuasiCredit
	}
	return merchant.Debit
}

// yymm is the month of t in Beijing as a card writes it.
func yymm(t time.Time) string { return t.In(calendar.Beijing).Format("0601") }
