package switching

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/routing"
	"acquirer/spec"
	"acquirer/store"
)

func itoa(n int) string { return strconv.Itoa(n) }

// purchase is a sale (0200): the ladder, then open, send, close
// (docs/life-of-a-purchase.md).
func (s *Switch) purchase(ctx context.Context, w *work) {
	q, reason, note := s.climb(ctx, w)
	defer func() { clear(q.track2) }()
	w.step(stepCheck)
	if q.stan == 0 || w.de60.Batch == 0 {
		w.reason = reason // without a key there is nothing to journal it under
		s.log.Warn("sale refused and not journaled", "terminal", w.terminal.TID, "why", note)
		s.refuse(w, codeOf(reason, ""))
		return
	}
	txn, err := s.transaction(ctx, w, &q)
	if err != nil {
		s.log.Error("the HSM failed; answered 96", "error", err.Error())
		w.reason = journal.HSMTrouble
		s.refuse(w, RCMalfunction)
		return
	}
	var options []journal.OpenOption
	if reason != journal.Undecided {
		txn.SpentOn = 0
		options = append(options, journal.ClosedWith(journal.Outcome{Reason: reason, Note: note, Closed: time.Now()}))
	}
	if s.open(ctx, w, txn, options) {
		s.send(ctx, w, txn, &q)
	}
}

// transaction is the row that open will make durable.
func (s *Switch) transaction(ctx context.Context, w *work, q *sale) (*journal.Transaction, error) {
	m := &w.req
	now := w.started
	t := &journal.Transaction{
		ID: w.id(),
		Key: journal.Key{Day: calendar.BusinessDate(now, s.cfg.CutOff), Terminal: w.terminal.TID,
			Batch: int32(w.de60.Batch), STAN: int32(q.stan), Kind: journal.Sale},
		Merchant: w.terminal.MID, MTI: uint16(m.MTI()), Amount: w.amount, Channel: q.channel, Issuer: w.issuer,
		RRN: rrnOf(w.id()), Trace: int32(s.nextTrace()), Transmitted: now.Truncate(time.Second),
		Opened: now, Deadline: now, Node: int32(store.Node()), SpentOn: calendar.DateOf(now),
	}
	t.ProcessingCode = int32Of(m, 3)
	t.EntryMode = int32Of(m, 22)
	t.Currency = int32Of(m, 49)
	if q.leg.Issuer != nil {
		t.Deadline = now.Add(q.leg.Issuer.Timeout() + s.cfg.StoreTimeout)
	}
	if w.pan.IsZero() {
		t.Fingerprint = fingerprint(w, t)
		return t, nil
	}
	t.PANMasked = w.pan.Masked()
	token, err := s.hsm.Token(ctx, s.tokenKey, []byte(w.pan.Reveal()))
	if err != nil {
		return nil, err
	}
	t.PANToken = token
	t.Fingerprint = fingerprint(w, t)
	t.PANSealed, err = s.sealCard(ctx, t.ID, w.pan.Reveal(), string(q.expiry))
	return t, err
}

func int32Of(m *spec.Message, n int) int32 {
	v, _ := m.Int(n) // absent is 0; the ladder says what must be there
	return int32(v)
}

// fingerprint covers what a repeat must have in common with the first: type,
// processing code, amount, card, entry mode and conditions. The PIN block and
// the chip's cryptogram stay out, since a terminal that signed in again
// encrypts them anew; so does the MAC.
func fingerprint(w *work, t *journal.Transaction) [16]byte {
	var room [128]byte
	b := binary.BigEndian.AppendUint16(room[:0], uint16(w.req.MTI()))
	b = append(b, t.PANToken[:]...)
	for _, n := range [...]int{3, 4, 22, 25, 42, 49} {
		b = w.req.AppendText(append(b, byte(n)), n)
	}
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// open makes the intention durable (W1) and reports whether it may be sent;
// if not, the answer stands in w.
func (s *Switch) open(ctx context.Context, w *work, t *journal.Transaction, options []journal.OpenOption) bool {
	if yesterday, may := s.mayBeYesterdays(w, t.Day); may {
		options = append(options, journal.AlsoOn(yesterday))
	}
	step, cancel := s.storeContext(ctx)
	defer cancel()
	opened, err := s.journal.Open(step, t, options...)
	w.step(stepOpen)
	if err != nil {
		// Nothing was sent. If the row is there after all, the sweep owes a
		// reversal that the issuer will not know: harmless (W5).
		s.log.Error("open failed; answered 96", "error", err.Error())
		w.reason = journal.StoreTrouble
		s.refuse(w, RCMalfunction)
		return false
	}
	w.journaled = true
	switch opened.Verdict {
	case journal.Fresh:
		return true
	case journal.Refused:
		s.answerEntry(w, opened.First)
	case journal.Repeat:
		s.answerRepeat(ctx, w, opened.First)
	case journal.InFlight:
		s.answerUndecided(ctx, w, opened.First.ID)
	case journal.Conflict:
		w.journaled = false
		w.reason = journal.Duplicate
		s.refuse(w, codeOf(journal.Duplicate, ""))
	default: // Buried
		w.journaled = false
		w.reason = journal.Tombstoned
		s.refuse(w, codeOf(journal.Tombstoned, ""))
	}
	return false
}

// mayBeYesterdays reports that the message may be a repeat of one that came on
// the business date before day, and which that is: the cut-off is only just
// past, or the keys it is signed with were in force before it, so that a
// recorded message still has a right MAC (fault 12).
func (s *Switch) mayBeYesterdays(w *work, day calendar.Date) (calendar.Date, bool) {
	const memory = 30 * time.Minute
	yesterday := day.AddDays(-1)
	cut := calendar.Closes(yesterday, s.cfg.CutOff)
	return yesterday, w.started.Sub(cut) < memory || w.keysSince < cut.UnixMicro()
}

// send asks the issuer and closes with what came of it (W2). Bytes that left
// and were not answered owe a reversal; if nothing left, nothing is owed.
func (s *Switch) send(ctx context.Context, w *work, t *journal.Transaction, q *sale) {
	w.flight = s.undecide.begin(t.ID)
	defer close(w.flight.decided)
	p := s.legPurchase(w, t, q)
	routing.BuildRequest(&w.leg, &p)
	err := q.leg.Issuer.Send(context.WithoutCancel(ctx), &w.leg, &w.legRep)
	w.step(stepIssuer)
	var out journal.Outcome
	switch {
	case err == nil:
		out = s.issuerSaid(w, t, q)
	case errors.Is(err, routing.ErrUnanswered):
		out = journal.Outcome{Reason: journal.Unanswered, Note: whyOf(err)}
	default:
		out = journal.Outcome{Reason: journal.Unreachable, Note: whyOf(err)}
		if out.Note == string(routing.Busy) {
			out.Reason = journal.IssuerBusy
		}
	}
	out.Closed = time.Now()
	s.close(ctx, w, t, out)
}

func whyOf(err error) string {
	var se *routing.SendError
	if errors.As(err, &se) {
		return string(se.Why)
	}
	return ""
}

// legPurchase is the request in the issuer's words.
func (s *Switch) legPurchase(w *work, t *journal.Transaction, q *sale) routing.Request {
	m := &w.req
	p := routing.Request{
		MTI: m.MTI(), Processing: m.Text(3), Amount: t.Amount, Sent: t.Transmitted, STAN: uint32(t.Trace), RRN: t.RRN,
		PAN: w.pan, Expiry: q.expiry, Track2: q.track2, Sequence: m.Text(23), ICData: m.Bytes(55),
		EntryMode: m.Text(22), Condition: m.Text(25),
		Acquirer: s.cfg.Acquirer, Forwarder: s.cfg.Acquirer, Receiver: q.leg.Issuer.Institution(),
		Terminal: t.Terminal, Merchant: t.Merchant, Name: gbk(w.merchant.Name), Category: w.merchant.MCC,
		Capability: digit(w.de60.Capability), ICCondition: digit(w.de60.ICCondition),
	}
	if q.pin {
		p.PINBlock = q.pinBlock.Bytes()
	}
	return p
}

func digit(v int) byte { return '0' + byte(v%10) }

// issuerSaid turns the issuer's answer into an outcome. A code that a terminal
// takes for success is an approval; 10 (in part) is not, since nothing asked
// for it: the issuer holds another amount than the terminal, so it is taken back.
func (s *Switch) issuerSaid(w *work, t *journal.Transaction, q *sale) journal.Outcome {
	a := &w.legRep
	code := ResponseCode(a.Text(39))
	out := journal.Outcome{IssuerCode: string(code), Additional: institutions(q.leg.Issuer.Institution(), s.cfg.Acquirer)}
	if icc := a.Bytes(55); len(icc) > 0 {
		out.Chip = append([]byte(nil), icc...)
	}
	if mmdd, ok := a.Int(15); ok {
		out.Settles = int32(mmdd)
	} else {
		out.Settles = int32(t.Day) % 10000
	}
	switch {
	case code == RCPartial:
		out.Reason, out.Note = journal.AnswerWrong, "approved in part, which nobody asked for"
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
func (s *Switch) close(ctx context.Context, w *work, t *journal.Transaction, out journal.Outcome) {
	closed, err := s.tryClose(ctx, t, out)
	doubt := errors.Is(err, store.ErrInDoubt)
	if doubt {
		closed, err = s.tryClose(ctx, t, out) // tells whether it stands
	}
	w.step(stepClose)
	if err != nil {
		w.reason = journal.StoreTrouble
		s.log.Error("close failed; the transaction stays open and will be owed", "rrn", t.RRN, "error", err.Error())
		if doubt { // however the second try failed, the first may stand
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
	s.answerEntry(w, &journal.Entry{Transaction: *t, Outcome: &closed.Winner})
}

func (s *Switch) tryClose(ctx context.Context, t *journal.Transaction, out journal.Outcome) (journal.Closed, error) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	return s.journal.Close(step, t, out)
}

// answerEntry answers from the journal's record alone, so that a repeat gets
// the same bytes as the first, apart from the MAC.
func (s *Switch) answerEntry(w *work, e *journal.Entry) {
	out := e.Outcome
	if out == nil { // a bug: only closed entries come here
		s.refuse(w, RCMalfunction)
		return
	}
	w.journalID, w.reason, w.issuer, w.amount = e.ID, out.Reason, e.Issuer, e.Amount
	w.rc = codeOf(out.Reason, out.IssuerCode)
	if out.Reason == journal.Unanswered {
		w.rc = s.cfg.TimeoutCode
	}
	if e.Debt != nil { // approved once and taken back since
		w.rc = s.cfg.TimeoutCode
	}
	w.approved = w.rc.Approves()
	s.startAnswer(w, out.Closed)
	w.rep.Set(37, e.RRN)
	w.rep.Set(39, string(w.rc))
	if out.Settles != 0 {
		w.rep.SetInt(15, int64(out.Settles))
	}
	set(&w.rep, 44, out.Additional)
	if w.approved {
		set(&w.rep, 38, out.Approval)
	}
	if len(out.Chip) > 0 {
		w.rep.SetBytes(55, out.Chip)
	}
	w.rep.Set(63, "CUP")
	s.pack(w)
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

// sealCard seals account number and expiry for the row id: the reversal must
// be able to name the card.
func (s *Switch) sealCard(ctx context.Context, id int64, pan, expiry string) ([]byte, error) {
	var aad [8]byte
	binary.BigEndian.PutUint64(aad[:], uint64(id))
	return s.hsm.Encrypt(ctx, s.dataKey, aad[:], []byte(pan+"="+expiry))
}
