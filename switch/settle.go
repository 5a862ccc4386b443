package switching

import (
	"context"
	"errors"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/spec"
	"acquirer/store"
)

// The end of the day at a terminal: its totals (0500), what it uploads when
// they do not balance (0320), and the end of its batch. Nothing of it moves
// money. What the terminal shows and the journal has not, or the other way
// round, is a break for reconciliation.

// settlement compares the totals of a terminal's batch (DE 48) with the
// journal's. The answer carries the result in two flags and, as other hosts'
// do, no DE 39. A terminal whose sales are to be signed is told once which
// signatures are missing (flags 3, and their trace numbers in DE 62).
func (s *Switch) settlement(ctx context.Context, w *work) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	if rc := s.mayWork(w); rc != RCApproved {
		s.refuse(w, rc)
		return
	}
	claimed, err := spec.ParseTotals(w.req.AppendText(nil, 48))
	if err != nil {
		s.malformed(w, errTotals)
		return
	}
	today := s.today(journal.CardDates, w.started)
	entries, missing, last, err := s.ofBatch(step, w, today)
	if err != nil {
		s.storeFailed(w, "a settlement could not be compared", err)
		return
	}
	ours := totalsOf(entries)
	ours.Domestic.Balance, ours.Foreign.Balance = balance(claimed.Domestic, ours.Domestic), balance(claimed.Foreign, ours.Foreign)
	remind := len(missing) > 0 && !last.Reminded
	if remind {
		ours.Domestic.Balance, ours.Foreign.Balance = spec.BalanceError, spec.BalanceError
	}
	digits, err := spec.AppendTotals(nil, ours)
	if err != nil { // more than a terminal can count
		s.log.Error("the totals of a batch do not fit DE 48", "terminal", w.terminal.TID, "batch", w.de60.Batch, "error", err.Error())
		s.refuse(w, RCMalfunction)
		return
	}
	err = s.journal.Settle(step, &journal.Settling{Day: today, Terminal: w.terminal.TID, Merchant: w.terminal.MID, Batch: int32(w.de60.Batch),
		Claimed: w.req.Text(48), Ours: string(digits), At: w.started, Reminded: remind || last.Reminded})
	if err != nil {
		s.storeFailed(w, "a settlement could not be recorded", err)
		return
	}
	s.startAnswer(w, w.started)
	w.rep.SetInt(15, int64(today)%10000)
	w.rep.Set(37, rrnOf(w.id()))
	w.rep.SetText(48, digits)
	if remind {
		s.log.Warn("a terminal is to send signatures before it settles", "terminal", w.terminal.TID, "batch", w.de60.Batch, "missing", len(missing))
		if de62, err := spec.AppendMissingSignatures(nil, missing[:min(len(missing), maxMissing)]); err == nil {
			w.rep.SetBytes(62, de62)
		}
	}
	s.pack(w)
}

// maxMissing is how many trace numbers DE 62 may ask for at once: two digits
// count them.
const maxMissing = 99

var errTotals = errors.New("DE 48 is no totals of 62 digits")

// storeFailed answers 96.
func (s *Switch) storeFailed(w *work, what string, err error) {
	s.log.Error(what+"; answered 96", "terminal", w.terminal.TID, "batch", w.de60.Batch, "error", err.Error())
	w.reason = journal.StoreTrouble
	s.refuse(w, RCMalfunction)
}

// ofBatch reads the terminal's batch, the trace numbers of its unsigned sales
// and what was settled of it before.
func (s *Switch) ofBatch(ctx context.Context, w *work, today calendar.Date) (entries []*journal.Entry, missing []int, last *journal.Settling, err error) {
	if entries, err = s.journal.OfBatch(ctx, w.terminal.TID, int32(w.de60.Batch), daysOf(s.today(journal.CardDates, w.started), 0)); err != nil {
		return nil, nil, nil, err
	}
	last, err = s.journal.LastSettling(ctx, w.terminal.TID, int32(w.de60.Batch), today.AddDays(-memory))
	if errors.Is(err, store.ErrNotFound) {
		last, err = &journal.Settling{}, nil
	}
	if err != nil || !w.terminal.Profile.Signature {
		return entries, nil, last, err
	}
	var sales []*journal.Entry
	var ids []int64
	undone := map[int64]bool{}
	for _, e := range entries {
		if e.Kind.Undoes() && counts(e) {
			undone[e.Original] = true
		}
	}
	for _, e := range entries {
		if s.signs(w, e) && !undone[e.ID] {
			sales, ids = append(sales, e), append(ids, e.ID)
		}
	}
	signed, err := s.journal.Signed(ctx, ids)
	for _, e := range sales {
		if err == nil && !signed[e.ID] {
			missing = append(missing, int(e.STAN))
		}
	}
	return entries, missing, last, err
}

// signs reports that a transaction is to be signed: money taken from a card,
// but contactless within what goes without a signature.
func (s *Switch) signs(w *work, e *journal.Entry) bool {
	if !counts(e) || e.Channel == journal.QR || e.Kind != journal.Sale && e.Kind != journal.Completion {
		return false
	}
	return EntryOf(e.EntryMode) == "" || e.Sum() > s.noPIN(w)
}

// counts reports that a transaction stands.
func counts(e *journal.Entry) bool { return e.State() == journal.StateApproved }

// totalsOf sums a batch as terminals do: a voided sale stays a debit and its
// void is a credit; a tip raises a sum and no count.
func totalsOf(entries []*journal.Entry) (t spec.Totals) {
	for _, e := range entries {
		if !counts(e) || undoesLoad(e) {
			continue
		}
		side := &t.Domestic
		if e.Abroad() {
			side = &t.Foreign
		}
		switch e.Kind {
		case journal.Sale, journal.Completion, journal.OfflineSale:
			side.Debit.Fen += e.Sum().Fen()
			side.Debit.Count++
		case journal.Adjustment:
			side.Debit.Fen += e.Sum().Fen()
		case journal.Void, journal.CompletionVoid, journal.Refund:
			side.Credit.Fen += e.Sum().Fen()
			side.Credit.Count++
		}
	}
	return t
}

// undoesLoad reports the void of a load, which is in no total, as loads are not.
func undoesLoad(e *journal.Entry) bool { return e.Kind == journal.Void && e.ProcessingCode == 170000 }

func balance(theirs, ours spec.SideTotals) spec.Balance {
	if theirs.Debit == ours.Debit && theirs.Credit == ours.Credit {
		return spec.Balanced
	}
	return spec.NotBalanced
}

// batchUpload takes the stripe transactions of a batch that did not balance
// (0320, DE 60.3 201, DE 48).
func (s *Switch) batchUpload(ctx context.Context, w *work) {
	details, err := spec.ParseDetails(w.req.AppendText(nil, 48))
	if err != nil {
		s.malformed(w, err)
		return
	}
	records := make([]journal.Uploaded, len(details))
	for i, d := range details {
		records[i] = journal.Uploaded{STAN: int32(d.STAN), Form: "201", Amount: money.Amount(d.Fen), Masked: string(card.AppendMasked(nil, d.PAN))}
	}
	s.uploaded(ctx, w, records, func(i int) string { return details[i].PAN })
}

// chipUpload takes one chip transaction (0320, DE 60.3 203 to 206, DE 62): its
// certificate, or that it failed at the terminal.
func (s *Switch) chipUpload(ctx context.Context, w *work) {
	detail, err := spec.ParseChipDetail(w.req.Bytes(62))
	stan, ok := w.req.Int(11)
	if err != nil || !ok {
		s.malformed(w, errors.New("DE 62 is no chip detail, or DE 11 is missing"))
		return
	}
	for _, err := range spec.WalkTLV(w.req.Bytes(55)) {
		if err != nil {
			s.malformed(w, errors.New("DE 55 cannot be read"))
			return
		}
	}
	pan := w.req.Text(2)
	u := journal.Uploaded{STAN: int32(stan), Form: itoa(w.de60.NetworkCode), Amount: money.Amount(detail.Fen), Masked: string(card.AppendMasked(nil, pan))}
	if detail.Failure != spec.ChipGood {
		u.What = journal.FailedThere
	}
	s.uploaded(ctx, w, []journal.Uploaded{u}, func(int) string { return pan })
}

// noticeUpload takes what the terminal keeps of a transaction that was
// recorded (a refund, a notice, an offline sale, a tip), sent again with its
// own fields as 0320.
func (s *Switch) noticeUpload(ctx context.Context, w *work) {
	stan, ok := w.req.Int(11)
	amount, whole := w.req.Int(4)
	if !ok || !whole {
		s.malformed(w, errors.New("a notice without DE 4 or DE 11"))
		return
	}
	pan := w.req.Text(2)
	form := itoa(w.de60.MessageType)
	if len(form) < 2 {
		form = "0" + form
	}
	u := journal.Uploaded{STAN: int32(stan), Form: form, Amount: money.Amount(amount), Masked: string(card.AppendMasked(nil, pan))}
	s.uploaded(ctx, w, []journal.Uploaded{u}, func(int) string { return pan })
}

// uploaded holds records against the journal, keeps them and answers.
func (s *Switch) uploaded(ctx context.Context, w *work, records []journal.Uploaded, pan func(i int) string) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	if rc := s.mayWork(w); rc != RCApproved {
		s.refuse(w, rc)
		return
	}
	today := s.today(journal.CardDates, w.started)
	entries, err := s.journal.OfBatch(step, w.terminal.TID, int32(w.de60.Batch), daysOf(s.today(journal.CardDates, w.started), 0))
	if err != nil {
		s.storeFailed(w, "an upload could not be compared", err)
		return
	}
	for i := range records {
		u := &records[i]
		u.Day, u.Terminal, u.Merchant, u.Batch, u.At = today, w.terminal.TID, w.terminal.MID, int32(w.de60.Batch), w.started
		var token [16]byte
		if digits := pan(i); digits != "" {
			if token, err = s.hsm.Token(step, s.tokenKey, []byte(digits)); err != nil {
				s.storeFailed(w, "an upload could not be compared: the HSM failed", err)
				return
			}
		}
		compare(u, entries, token)
	}
	fresh, err := s.journal.Upload(step, records)
	if err != nil {
		s.storeFailed(w, "an upload could not be recorded", err)
		return
	}
	s.tellBreaks(fresh)
	s.answerManagement(w, RCApproved)
	s.pack(w)
}

// compare finds the transaction that a record speaks of, and how they differ.
func compare(u *journal.Uploaded, entries []*journal.Entry, token [16]byte) {
	failed := u.What == journal.FailedThere
	u.What = journal.NotHere
	for _, e := range entries {
		if e.STAN != u.STAN || e.Kind == journal.Inquiry || e.Kind == journal.ScriptResult {
			continue
		}
		u.Txn = e.ID
		sum := e.Sum()
		if e.Kind == journal.Adjustment {
			sum = u.Amount // the notice has the new total, the journal the difference
		}
		switch {
		case !counts(e):
			u.What = journal.NotApproved
		case sum != u.Amount || token != [16]byte{} && token != e.PANToken:
			u.What = journal.OtherAmount
		default:
			u.What = journal.NoDifference
		}
		if u.What == journal.NoDifference {
			break
		}
	}
	if failed { // as it should be, unless it stands here
		if u.What == journal.NoDifference || u.What == journal.OtherAmount {
			u.What = journal.FailedThere
		} else {
			u.What = journal.NoDifference
		}
	}
}

func (s *Switch) tellBreaks(fresh []journal.Uploaded) {
	for _, u := range fresh {
		if u.What == journal.NoDifference {
			continue
		}
		s.metrics.breaks.WithLabelValues(string(u.What)).Inc()
		s.log.Warn("a terminal's batch and the journal differ", "terminal", u.Terminal, "batch", u.Batch, "stan", u.STAN, "what", string(u.What),
			"amount", u.Amount.String(), "card", u.Masked)
	}
}

// batchEnd ends the upload (0320, DE 60.3 202 or 207, DE 48 the number of
// records): what the upload should have shown and did not becomes a break, and
// the batch number advances. Repeated, it changes nothing.
func (s *Switch) batchEnd(ctx context.Context, w *work) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	count, err := spec.ParseDetailCount(w.req.AppendText(nil, 48))
	if rc := s.mayWork(w); rc != RCApproved || err != nil {
		if rc == RCApproved {
			rc = RCFormat
		}
		s.refuse(w, rc)
		return
	}
	today := s.today(journal.CardDates, w.started)
	since := today.AddDays(-memory)
	entries, missing, last, err := s.ofBatch(step, w, today)
	if err != nil {
		s.storeFailed(w, "a batch could not be ended", err)
		return
	}
	records, err := s.journal.OfUpload(step, w.terminal.TID, int32(w.de60.Batch), since)
	if err != nil {
		s.storeFailed(w, "a batch could not be ended", err)
		return
	}
	if last.Ended.IsZero() {
		fresh, err := s.journal.Upload(step, s.unshown(w, today, entries, missing, last, records, count))
		if err != nil {
			s.storeFailed(w, "a batch could not be ended", err)
			return
		}
		s.tellBreaks(fresh)
	}
	if _, err := s.journal.EndBatch(step, w.terminal.TID, int32(w.de60.Batch), since, time.Now()); err != nil {
		s.storeFailed(w, "a batch could not be ended", err)
		return
	}
	if t := w.terminal; t.Batch == w.de60.Batch || t.Profile.Batch == merchant.BatchFollows {
		if _, err := s.terminals.SetBatch(step, t.TID, w.de60.Batch%999999+1); err != nil {
			s.storeFailed(w, "a batch number could not be advanced", err)
			return
		}
	}
	s.answerManagement(w, RCApproved)
	w.rep.Set(37, rrnOf(w.id()))
	w.rep.Copy(&w.req, 48)
	s.pack(w)
}

// unshown are the differences that the end of a batch brings out.
func (s *Switch) unshown(w *work, today calendar.Date, entries []*journal.Entry, missing []int, last *journal.Settling, records []journal.Uploaded, count int) []journal.Uploaded {
	var out []journal.Uploaded
	add := func(stan int32, txn int64, amount money.Amount, masked string, what journal.Difference) {
		out = append(out, journal.Uploaded{Day: today, Terminal: w.terminal.TID, Merchant: w.terminal.MID, Batch: int32(w.de60.Batch),
			STAN: stan, Amount: amount, Masked: masked, Txn: txn, What: what, At: w.started})
	}
	shown := map[int64]bool{}
	came, explained := 0, false
	for _, u := range records {
		if u.Form != "" {
			came++
			shown[u.Txn] = true
		}
		explained = explained || u.What != journal.NoDifference
	}
	byStan := map[int]*journal.Entry{}
	unbalanced := w.de60.NetworkCode == 202
	for _, e := range entries {
		byStan[int(e.STAN)] = e
		// A balanced terminal uploads certificates only; one that is not
		// uploads everything that is in its totals.
		if unbalanced && came > 0 && counts(e) && inTotals(e.Kind) && !undoesLoad(e) && !shown[e.ID] {
			add(e.STAN, e.ID, e.Sum(), e.PANMasked, journal.NotThere)
			explained = true
		}
	}
	for _, stan := range missing {
		if e := byStan[stan]; e != nil {
			add(e.STAN, e.ID, e.Sum(), e.PANMasked, journal.NoSignature)
		}
	}
	if unbalanced && !explained && last.Claimed != "" {
		add(0, 0, 0, "", journal.OtherTotals)
	}
	if count != came {
		add(0, 0, money.Amount(count-came), "", journal.OtherCount)
	}
	return out
}

func inTotals(k journal.Kind) bool {
	switch k {
	case journal.Sale, journal.Completion, journal.OfflineSale, journal.Void, journal.CompletionVoid, journal.Refund:
		return true
	}
	return false
}
