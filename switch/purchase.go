package switching

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/spec"
	"acquirer/store"
)

func itoa(n int) string { return strconv.Itoa(n) }

// purchase is every transaction that asks an issuer, the sale first among them:
// the ladder, then open, send, close (docs/life-of-a-purchase.md).
func (s *Switch) purchase(ctx context.Context, w *work) {
	q, reason, note := s.climb(ctx, w)
	if fault.Planted("pan-in-log") {
		s.log.Debug("purchase", "card", w.pan.Reveal())
	}
	defer func() { clear(q.track2) }()
	w.step(stepCheck)
	if txn := s.begin(ctx, w, &q, reason, note); txn != nil {
		s.send(ctx, w, txn, &q)
	}
}

// begin journals what was asked for and returns it when it is to be sent; if
// not, the answer stands in w. What the ladder refused is recorded as refused.
func (s *Switch) begin(ctx context.Context, w *work, q *asked, reason journal.Reason, note string, options ...journal.OpenOption) *journal.Transaction {
	if reason == journal.BatchOutOfStep || q.stan == 0 {
		w.reason = reason // without a key there is nothing to journal it under
		s.log.Warn("refused and not journaled", "type", w.kind, "terminal", w.terminal.TID, "why", note)
		s.refuse(w, s.codeFor(reason))
		return nil
	}
	txn, err := s.transaction(ctx, w, q)
	if err != nil {
		s.log.Error("the HSM failed; answered 96", "error", err.Error())
		w.reason = journal.HSMTrouble
		s.refuse(w, RCMalfunction)
		return nil
	}
	if reason == journal.HSMTrouble {
		s.log.Error("the HSM failed; answered 96", "terminal", w.terminal.TID, "error", note)
	}
	if reason != journal.Undecided {
		txn.SpentOn, txn.Original = 0, 0
		options = []journal.OpenOption{journal.ClosedWith(journal.Outcome{Reason: reason, Note: note, Closed: time.Now()})}
	} else if q.standing != 0 {
		options = append(options, journal.Standing(q.standing))
	}
	if !s.open(ctx, w, txn, options) {
		return nil
	}
	return txn
}

// transaction is the row that open will make durable.
func (s *Switch) transaction(ctx context.Context, w *work, q *asked) (*journal.Transaction, error) {
	m := &w.req
	now := w.started
	t := &journal.Transaction{
		ID: w.id(),
		Key: journal.Key{Day: s.today(journal.DatesOf(q.channel), now), Terminal: w.terminal.TID,
			Batch: int32(w.de60.Batch), STAN: int32(q.stan), Kind: w.row.does},
		Merchant: w.terminal.MID, MTI: uint16(w.row.mti), Amount: w.amount, Channel: q.channel, Issuer: w.issuer, Scheme: q.scheme,
		RRN: rrnOf(w.id()), Trace: int32(s.nextTrace()), Transmitted: now.Truncate(time.Second),
		Opened: now, Deadline: now, Node: int32(store.Node()),
	}
	t.ProcessingCode = number(w.processing())
	t.EntryMode = w.entryMode()
	t.Condition = number(w.condition())
	t.Currency = int32Of(m, 49)
	t.Place, t.Device = w.told()
	if w.row.does == journal.Sale || w.row.does == journal.PreAuth {
		t.SpentOn = calendar.DateOf(now)
	}
	if q.follows != nil {
		t.Original = q.follows.Original.ID
		if w.row.does == journal.Adjustment {
			t.Amount -= q.standing
		}
	}
	switch {
	case q.leg.Issuer != nil:
		t.Deadline = now.Add(q.leg.Issuer.Timeout() + s.cfg.StoreTimeout)
	case q.wallet != nil:
		t.Deadline = now.Add(s.cfg.WalletPatience + q.wallet.Timeout() + s.cfg.StoreTimeout)
	}
	var err error
	if !w.pan.IsZero() && q.token == [16]byte{} { // refused before it was asked for
		if q.token, err = s.hsm.Token(ctx, s.tokenKey, []byte(w.pan.Reveal())); err != nil {
			return nil, err
		}
	}
	t.PANToken = q.token
	t.Fingerprint = fingerprint(w, t)
	switch {
	case !w.code.IsZero():
		t.PANMasked = w.code.Masked()
		return t, nil
	case w.pan.IsZero():
		return t, nil
	}
	t.PANMasked = w.pan.Masked()
	// What the chip said may have to be told later, or proved.
	t.PANSealed, err = s.sealCard(ctx, t.ID, &sealedCard{PAN: w.pan, Expiry: q.expiry, Sequence: m.Text(23), Chip: spec.WithoutCard(m.Bytes(55))})
	return t, err
}

func int32Of(m *spec.Message, n int) int32 {
	v, _ := m.Int(n) // absent is 0; the ladder says what must be there
	return int32(v)
}

// fingerprint covers what a repeat must have in common with the first: type,
// processing code, amount, card, entry mode, conditions and the original that
// is named. The PIN block and
// the chip's cryptogram stay out, since a terminal that signed in again
// encrypts them anew; so does the MAC.
func fingerprint(w *work, t *journal.Transaction) [16]byte {
	var room [128]byte
	b := binary.BigEndian.AppendUint16(room[:0], uint16(w.row.mti))
	b = append(b, t.PANToken[:]...)
	for _, n := range [...]int{3, 4, 22, 25, 38, 42, 49, 61} {
		b = w.req.AppendText(append(b, byte(n)), n)
	}
	if w.row.after != nil {
		b = append(append(b, 37), reference(&w.req)...)
	}
	if !w.dialect.UnionPay() { // the original
		b = w.req.AppendText(append(b, 90), 90)
	}
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// open makes the intention durable (W1) and reports whether it may be sent;
// if not, the answer stands in w.
func (s *Switch) open(ctx context.Context, w *work, t *journal.Transaction, options []journal.OpenOption) bool {
	options = append(options, journal.OnOpenDate())
	if yesterday, may := s.mayBeYesterdays(w, t); may {
		options = append(options, journal.AlsoOn(yesterday))
	}
	step, cancel := s.storeContext(ctx)
	defer cancel()
	opened, err := s.journal.Open(step, t, options...)
	w.step(stepOpen)
	if err != nil {
		// Nothing was sent. If the row is there after all, the sweep owes a
		// reversal that the issuer will not know: harmless (W5). What is not
		// reversed it would do.
		w.reason = journal.StoreTrouble
		if w.silent = errors.Is(err, store.ErrInDoubt) && w.row.stands(); w.silent {
			s.log.Error("open failed, and may stand; not answered", "error", err.Error())
			return false
		}
		s.log.Error("open failed; answered 96", "error", err.Error())
		s.refuse(w, RCMalfunction)
		return false
	}
	w.journaled = true
	switch opened.Verdict {
	case journal.Fresh:
		return true
	case journal.Refused:
		s.answerEntry(w, opened.First)
	case journal.TakenOver:
		s.ringOwed()
		s.answerEntry(w, opened.First)
	case journal.Repeat:
		s.answerRepeat(ctx, w, opened.First)
	case journal.InFlight:
		if fault.Planted("repeat-sent-twice") {
			return true
		}
		s.answerUndecided(ctx, w, opened.First.ID)
	case journal.Conflict:
		w.journaled = false
		w.reason = journal.Duplicate
		s.refuse(w, s.codeFor(journal.Duplicate))
	default: // Buried
		w.journaled = false
		w.reason = journal.Tombstoned
		s.refuse(w, s.codeFor(journal.Tombstoned))
	}
	return false
}

// today is the business date that is open: the clock's, unless the journal is
// past it.
func (s *Switch) today(d journal.Dates, now time.Time) calendar.Date {
	return max(calendar.BusinessDate(now.Add(-s.cfg.Behind), s.cutOff(d)), s.journal.OpenDate(d))
}

func (s *Switch) cutOff(d journal.Dates) time.Duration {
	if d == journal.WalletDates {
		return s.cfg.WalletCutOff
	}
	return s.cfg.CutOff
}

// mayBeYesterdays reports that the message may be a repeat of one that came on
// the business date before t's, and which that is: the cut-off is only just
// past, or the keys it is signed with were in force before it, so that a
// recorded message still has a right MAC (fault 12). Without a batch number
// trace numbers come again every day: there the message's own time tells that
// it is no recording.
func (s *Switch) mayBeYesterdays(w *work, t *journal.Transaction) (calendar.Date, bool) {
	const memory = 30 * time.Minute
	yesterday := t.Day.AddDays(-1)
	cut := calendar.Closes(yesterday, s.cutOff(journal.DatesOf(t.Channel)))
	return yesterday, w.started.Sub(cut) < memory || w.keysSince < cut.UnixMicro() && (w.dialect.UnionPay() || !w.fresh())
}

// send asks the issuer and closes with what came of it (W2). Bytes that left
// and were not answered owe a reversal; if nothing left, nothing is owed.
func (s *Switch) send(ctx context.Context, w *work, t *journal.Transaction, q *asked) {
	w.flight = s.undecide.begin(t.ID)
	defer close(w.flight.decided)
	if s.replayed(w, t) {
		s.close(ctx, w, t, journal.Outcome{Reason: journal.ChipReplayed, Closed: time.Now()})
		return
	}
	if q.ksn != nil && s.usedUp(q.ksn) {
		s.log.Warn("a DUKPT key was used before", "rrn", t.RRN, "terminal", t.Terminal)
		s.close(ctx, w, t, journal.Outcome{Reason: journal.BadPIN, Note: "its key was used before", Closed: time.Now()})
		return
	}
	out := s.askAll(ctx, w, t, q)
	w.step(stepIssuer)
	var options []journal.CloseOption
	if s.standIn(ctx, w, t, q, &out) {
		options = append(options, journal.Because(journal.WhyDelivery))
	}
	out.Closed = time.Now()
	s.close(ctx, w, t, out, options...)
}

func whyOf(err error) string {
	var se *routing.SendError
	if errors.As(err, &se) {
		return string(se.Why)
	}
	return ""
}

// legRequest is the request in the issuer's words.
func (s *Switch) legRequest(w *work, t *journal.Transaction, q *asked) routing.Request {
	m := &w.req
	p := routing.Request{
		MTI: w.row.mti, Processing: w.processing(), Amount: t.Amount, Sent: t.Transmitted, STAN: uint32(t.Trace), RRN: t.RRN,
		PAN: w.pan, Expiry: q.expiry, Track2: q.track2, Sequence: m.Text(23), ICData: m.Bytes(55),
		EntryMode: w.entryText(), Condition: condition(t), Partial: w.mayPart(),
		Acquirer: s.cfg.Acquirer, Forwarder: s.cfg.Acquirer, Receiver: q.leg.Issuer.Institution(),
		Terminal: t.Terminal, Merchant: t.Merchant, Name: gbk(w.merchant.Name), Category: w.merchant.MCC,
		Capability: digit(w.de60.Capability), ICCondition: digit(w.de60.ICCondition),
	}
	if usage := usages[w.row.needy]; usage != "" && m.Has(62) {
		p.Usage = append([]byte(usage), m.Bytes(62)...)
	}
	if q.follows != nil {
		p.Original, p.Approval = s.legOriginal(q.follows.Original)
	}
	if q.pin {
		p.PINBlock = q.pinBlock.Bytes()
	}
	return p
}

// usages are the two characters of DE 48 towards the issuer under which the
// terminal's DE 62 goes on, by what the issuer's line carries
// (docs/divergences.md).
var usages = map[string]string{"instalment": "IP", "points": "PB", "reservation": "AO", "ecash": "AO", "purse": "AO", "topup": "AO"}

// legOriginal names an earlier transaction of ours to its issuer.
func (s *Switch) legOriginal(e *journal.Entry) (o *routing.Original, approval string) {
	if e.Outcome != nil {
		approval = e.Outcome.Approval
	}
	return &routing.Original{MTI: toldAs(e), STAN: uint32(e.Trace), Sent: e.Transmitted, Acquirer: s.cfg.Acquirer, Forwarder: s.cfg.Acquirer}, approval
}

// legMTI is the message type that a transaction has towards its issuer.
func legMTI(t *journal.Transaction) spec.MTI {
	if t.Kind == journal.OfflineSale {
		return 0x0220 // an offline chip sale comes as an 0200
	}
	return spec.MTI(t.MTI)
}

// mayPart reports that the terminal takes an approval of less than it asked
// for (DE 60.6).
func (w *work) mayPart() bool { return w.row.does == journal.Sale && w.de60.PartialApproval == 1 }

func digit(v int) byte { return '0' + byte(v%10) }

// issuerSaid turns the issuer's answer into an outcome. A code that a terminal
// takes for success is an approval; 10 (in part) is one only for a terminal
// that asked for it, and else is taken back: the issuer holds another amount
// than the terminal.
func (s *Switch) issuerSaid(w *work, t *journal.Transaction, q *asked) journal.Outcome {
	a := &w.legRep
	code := ResponseCode(a.Text(39))
	out := journal.Outcome{IssuerCode: string(code), Additional: institutions(q.leg.Issuer.Institution(), s.cfg.Acquirer)}
	if icc := a.Bytes(55); len(icc) > 0 {
		out.Chip = append([]byte(nil), icc...)
	}
	if balance := a.Text(54); balance != "" && (code.Approves() || code == RCFunds) {
		out.Extra = appendExtra(out.Extra, 54, balance)
	}
	if mmdd, ok := a.Int(15); ok {
		out.Settles = int32(mmdd)
	} else {
		out.Settles = int32(t.Day) % 10000
	}
	switch {
	case code == RCPartial:
		part, ok := a.Int(4)
		if out.Part = money.Amount(part); !ok || !w.mayPart() || out.Part <= 0 || out.Part >= t.Amount {
			out.Part, out.Reason, out.Note = 0, journal.AnswerWrong, "approved in part, which nobody asked for"
			break
		}
		out.Reason, out.Approval = journal.Approved, a.Text(38)
	case code.Approves():
		out.Reason, out.Approval = journal.Approved, a.Text(38)
	default:
		out.Reason = journal.Declined
	}
	return out
}

// institutions is DE 44: issuer and acquirer, 11 characters each, left aligned.
func institutions(issuer, acquirer string) string {
	var b [22]byte
	for i := range b {
		b[i] = ' '
	}
	copy(b[:11], issuer)
	copy(b[11:], acquirer)
	return string(b[:])
}

// close makes the outcome durable and answers with the one that stands, which
// is another when a reversal or the sweep was first (W3). When the store does
// not know what it wrote, no answer leaves (W4).
func (s *Switch) close(ctx context.Context, w *work, t *journal.Transaction, out journal.Outcome, options ...journal.CloseOption) {
	closed, err := s.tryClose(ctx, t, out, options...)
	doubt := errors.Is(err, store.ErrInDoubt) && !fault.Planted("doubt-is-a-no")
	if doubt {
		closed, err = s.tryClose(ctx, t, out, options...) // tells whether it stands
	}
	w.step(stepClose)
	if err != nil {
		w.reason = journal.StoreTrouble
		s.log.Error("close failed; the transaction stays open and will be owed", "rrn", t.RRN, "error", err.Error())
		if doubt || w.row.stands() { // however the second try failed, the first may stand; or the sweep will do it after all
			w.silent, w.approved = true, out.Reason == journal.Approved
			return
		}
		s.refuse(w, RCMalfunction) // surely not written: the sweep reverses it
		return
	}
	if !closed.Won {
		s.metrics.late.WithLabelValues(out.Reason.String()).Inc()
		s.log.Warn("an outcome came after another had closed the transaction", "rrn", t.RRN, "said", out.Reason.String(), "stands", closed.Winner.Reason.String())
	}
	if closed.DebtID != 0 {
		s.ringOwed()
	}
	if fault.Planted("late-approval-revives") {
		closed.Winner = out
	}
	s.answerEntry(w, &journal.Entry{Transaction: *t, Outcome: &closed.Winner})
}

func (s *Switch) tryClose(ctx context.Context, t *journal.Transaction, out journal.Outcome, options ...journal.CloseOption) (journal.Closed, error) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	return s.journal.Close(step, t, out, options...)
}

// answerEntry answers from the journal's record alone, so that a repeat gets
// the same bytes as the first, apart from the MAC.
func (s *Switch) answerEntry(w *work, e *journal.Entry) {
	out := e.Outcome
	if out == nil { // a bug: only closed entries come here
		s.refuse(w, RCMalfunction)
		return
	}
	w.journalID, w.reason, w.issuer = e.ID, out.Reason, e.Issuer
	if w.rc = s.codeOf(out.Reason, out.IssuerCode); !w.dialect.UnionPay() {
		w.rc = w.rc.plain()
	}
	switch {
	case out.Reason == journal.Unanswered && e.Kind == journal.Inquiry:
		w.rc = RCTimeout // nothing is reversed that the terminal should know of
	case out.Reason == journal.Unanswered, e.TakenBack(): // or approved once and taken back since
		w.rc = s.cfg.TimeoutCode
	}
	w.approved = w.rc.Approves()
	s.startAnswer(w, out.Closed)
	w.say(37, e.RRN)
	w.rep.Set(39, string(w.rc))
	if out.Settles != 0 && w.dialect.Declares(15) {
		w.rep.SetInt(15, int64(out.Settles))
	}
	if w.approved {
		w.say(38, out.Approval)
	}
	if len(out.Chip) > 0 && w.dialect.Declares(55) {
		w.rep.SetBytes(55, out.Chip)
	}
	if out.Part != 0 {
		w.rep.SetInt(4, out.Part.Fen())
	}
	setExtra(&w.rep, out.Extra)
	if w.dialect.UnionPay() {
		set(&w.rep, 44, out.Additional)
		w.rep.Set(63, cmp.Or(e.Scheme, domestic))
	}
	s.pack(w)
}

// extraNumber is the other side's own number of a transaction, kept and not
// told.
const extraNumber = 0

// Extra is what an answer carried besides the fields that have a column: DE
// number, length of two bytes, text.
func appendExtra(b []byte, n int, text string) []byte {
	b = append(b, byte(n), byte(len(text)>>8), byte(len(text)))
	return append(b, text...)
}

func setExtra(m *spec.Message, b []byte) {
	for len(b) >= 3 {
		n, length := int(b[0]), int(b[1])<<8|int(b[2])
		if length > len(b)-3 {
			return
		}
		if n != extraNumber && m.Dialect().Declares(n) {
			m.SetText(n, b[3:3+length])
		}
		b = b[3+length:]
	}
}

func set(m *spec.Message, n int, v string) {
	if v != "" {
		m.Set(n, v)
	}
}

// landed ends w's part in the transaction it sent or shared. An approval that
// reached no terminal, because its answer could not be written or not even be
// made, does not count as told and is taken back (fault 2).
func (s *Switch) landed(ctx context.Context, w *work, cause error) {
	f := w.flight
	if f == nil || !s.undecide.land(f, w.approved, cause == nil && !w.silent && w.rc.Approves()) {
		return
	}
	defer s.undecide.gone(f)
	if fault.Planted("undelivered-forgotten") {
		return
	}
	s.metrics.undelivered.Inc()
	step, cancel := s.storeContext(ctx)
	defer cancel()
	r, err := s.journal.ReverseByID(step, f.id, journal.WhyUndelivered, time.Now())
	if err != nil {
		s.log.Error("an approval that did not reach the terminal could not be put on the list of reversals; the terminal's own will", "rrn", rrnOf(f.id), "error", err.Error())
		return
	}
	why := "the answer could not be made"
	if cause != nil {
		why = cause.Error()
	}
	s.log.Warn("approval not delivered, reversed", "rrn", rrnOf(f.id), "effect", r.Effect.String(), "cause", why)
	s.ringOwed()
}
