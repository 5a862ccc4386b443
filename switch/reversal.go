package switching

import (
	"context"
	"errors"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/spec"
	"acquirer/store"
)

// reversal is the terminal's 0400: it got no answer (98), could not believe it
// (A0) or could not finish (06, 96). It is answered as soon as it is durable
// that the issuer is owed the reversal; the issuer itself may take its time.
func (s *Switch) reversal(ctx context.Context, w *work) {
	t, why, reason, note := s.describedOriginal(ctx, w)
	w.step(stepCheck)
	if reason != journal.Undecided {
		s.log.Warn("reversal refused", "why", note)
		w.reason = reason
		s.refuse(w, s.codeFor(reason))
		return
	}
	step, cancel := s.storeContext(ctx)
	defer cancel()
	day, err := s.originalDay(step, w, t)
	if err != nil {
		s.log.Error("the original of a terminal's reversal could not be looked for", "terminal", t.Terminal, "stan", t.STAN, "error", err.Error())
		w.reason = journal.StoreTrouble
		s.refuse(w, RCMalfunction)
		return
	}
	options := []journal.ReverseOption{journal.OriginalAlsoOn(day)}
	if o, ok := spec.FindOriginal(&w.req); ok && o.Date != 0 && !w.dialect.UnionPay() {
		options = append(options, journal.DateTold())
	}
	if icc := reducedChip(w.req.Bytes(55)); icc != nil {
		options = append(options, journal.ChipSaid(icc))
	}
	r, err := s.journal.Reverse(step, t, why, time.Now(), options...)
	if errors.Is(err, store.ErrInDoubt) { // repeating it changes nothing and tells
		again, cancel := s.storeContext(ctx)
		defer cancel()
		r, err = s.journal.Reverse(again, t, why, time.Now(), options...)
	}
	w.step(stepClose)
	if err != nil {
		s.log.Error("a terminal's reversal could not be recorded", "terminal", t.Terminal, "stan", t.STAN, "error", err.Error())
		w.reason = journal.StoreTrouble
		if w.silent = errors.Is(err, store.ErrInDoubt); !w.silent {
			s.refuse(w, RCMalfunction)
		}
		return
	}
	s.answerReversal(w, r)
}

// originalDay is the business date of the transaction that t describes: today's
// when there is none. A terminal that was switched off in the middle of a sale
// sends its reversal before the next one, which may be days later.
func (s *Switch) originalDay(ctx context.Context, w *work, t *journal.Transaction) (calendar.Date, error) {
	if !w.dialect.UnionPay() {
		return s.otherDay(ctx, w, t)
	}
	k := t.Key
	today := k.Day
	for range memory {
		_, err := s.journal.Find(ctx, k)
		if err == nil {
			return k.Day, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return 0, err
		}
		k.Day = k.Day.AddDays(-1)
	}
	return today, nil
}

// describedOriginal is the transaction that the 0400 wants taken back, as far
// as it says: its row of the matrix, its trace number and batch, which a
// UnionPay terminal uses again and others name in DE 90, amount, and mostly the
// card. A reason and a note say what is missing.
func (s *Switch) describedOriginal(ctx context.Context, w *work) (t *journal.Transaction, why journal.Why, reason journal.Reason, note string) {
	m := &w.req
	row := w.undoes
	if row == nil {
		return nil, "", journal.NotSupported, "nothing that a terminal may reverse"
	}
	o, ok := spec.FindOriginal(m)
	if !ok || o.STAN == 0 {
		return nil, "", journal.FormatError, "DE 11 or 90 is no trace number"
	}
	amount, ok := m.Int(4)
	if !ok {
		return nil, "", journal.FormatError, "DE 4 is missing"
	}
	if inPart(m) {
		return nil, "", journal.NotSupported, "DE 95: a reversal of a part"
	}
	switch code := m.Text(39); {
	case code == "98", code == "96", code == "A0", code == "06":
		why = journal.Why(code)
	case !w.dialect.UnionPay():
		why = otherWhy(code)
	case code == "": // some terminals leave the reason away
		why = "98"
	default:
		return nil, "", journal.FormatError, "DE 39 is no reason for a reversal"
	}
	w.amount = money.Amount(amount)
	now := w.started
	t = &journal.Transaction{
		ID: w.id(),
		Key: journal.Key{Day: s.today(datesOf(row), now), Terminal: w.terminal.TID,
			Batch: int32(w.de60.Batch), STAN: int32(o.STAN), Kind: row.does},
		Merchant: w.terminal.MID, MTI: uint16(row.mti), Amount: w.amount, ProcessingCode: number(row.processing(m)), EntryMode: int32Of(m, 22), Currency: int32Of(m, 49),
		RRN: rrnOf(w.id()), Opened: now, Deadline: now, Node: int32(store.Node()),
	}
	if !m.Has(2) {
		return t, why, journal.Undecided, ""
	}
	pan, err := card.ParsePAN(m.Text(2))
	if err != nil {
		return nil, "", journal.FormatError, "DE 2 is no account number"
	}
	w.pan = pan
	t.PANMasked = pan.Masked()
	if t.PANToken, err = s.hsm.Token(ctx, s.tokenKey, []byte(pan.Reveal())); err != nil {
		s.log.Error("the HSM failed; answered 96", "terminal", w.terminal.TID, "error", err.Error())
		return nil, "", journal.HSMTrouble, "the HSM failed: " + err.Error()
	}
	return t, why, journal.Undecided, ""
}

// reducedChip is what a reversal tells its issuer of the chip (protocol.md 2.4):
// verification results, device, issuer data, counter and script results. What
// else a terminal puts there stays behind, since it is stored in clear.
func reducedChip(icc []byte) (out []byte) {
	for _, tag := range [...]uint32{0x95, 0x9F1E, 0x9F10, 0x9F36, 0xDF31} {
		if v, ok := spec.FindTLV(icc, tag); ok {
			out = spec.AppendTLV(out, tag, v)
		}
	}
	return out
}

// institution is an issuer's number, or a wallet's name.
func (s *Switch) institution(name string) string {
	if leg, ok := s.legs[name]; ok {
		return leg.Issuer.Institution()
	}
	return name
}

// answerReversal is the 0410. What happened is the same for a repeat, and so
// is the time in the answer: when the reversal was recorded, or when the sale
// was refused that needs none.
func (s *Switch) answerReversal(w *work, r journal.Reversal) {
	rc := RCApproved
	switch r.Effect {
	case journal.NotFound:
		rc, w.reason = s.cfg.ReversalNotFound, journal.OriginalNotFound
	case journal.Mismatch:
		rc, w.reason = RCNoOriginal, journal.OriginalDiffers
	case journal.Followed:
		rc, w.reason = RCInProgress, journal.OriginalUndone
	case journal.WasInFlight, journal.Reversing:
		w.reason = journal.Approved
		s.ringOwed()
	default:
		w.reason = journal.Approved
	}
	at := w.started
	if o := r.Original; o != nil && r.Effect != journal.Mismatch {
		if o.Outcome != nil {
			at = o.Outcome.Closed
		}
		if o.TakenBack() {
			at = o.Debt.Created
		}
	}
	s.startAnswer(w, at)
	w.rep.Unset(14)
	w.rc = rc
	w.rep.Set(39, string(rc))
	if atc, ok := spec.FindTLV(w.req.Bytes(55), 0x9F36); ok && rc == RCApproved {
		w.rep.SetBytes(55, spec.AppendTLV(nil, 0x9F36, atc))
	}
	if o := r.Original; o != nil && r.Effect != journal.Mismatch {
		w.say(37, o.RRN)
		if rc == RCApproved && w.dialect.UnionPay() {
			set(&w.rep, 44, institutions(s.institution(o.Issuer), s.cfg.Acquirer))
		}
		if rc == RCApproved && w.dialect.Declares(15) {
			w.rep.SetInt(15, int64(o.Day)%10000)
		}
		w.issuer = o.Issuer
		w.journaled, w.journalID = true, o.ID
	}
	s.pack(w)
}
