package switching

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/spec"
	"acquirer/store"
)

// findOriginal finds the transaction that a void, refund, completion or
// adjustment names, and holds against it what cannot change any more: kind,
// terminal, card, batch, age and the bounds of the amount. Whether it still
// stands is decided in the write that opens (journal/follow.go).
func (s *Switch) findOriginal(ctx context.Context, w *work, q *asked) (journal.Reason, string) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	e, err := s.named(step, w)
	switch {
	case errors.Is(err, errNothingNamed):
		return s.unlinked(w)
	case errors.Is(err, store.ErrNotFound):
		return journal.OriginalNotFound, ""
	case err != nil:
		return journal.StoreTrouble, err.Error()
	}
	if reason, note := s.belongs(w, q, e); reason != journal.Undecided {
		return reason, note
	}
	if q.follows, err = s.journal.Following(step, e.ID); err != nil {
		return journal.StoreTrouble, err.Error()
	}
	return s.bounds(w, q)
}

// errNothingNamed says that a message names no original at all.
var errNothingNamed = errors.New("neither DE 37 nor DE 61 names an original")

// named reads the original by the reference number (DE 37, or the voucher in
// DE 59 A4, which is one), else by batch, trace number and date (DE 61, DE 90).
// The DE 37 of other dialects may be a number of the terminal's own, and then
// says nothing.
func (s *Switch) named(ctx context.Context, w *work) (*journal.Entry, error) {
	m := &w.req
	o, ok := spec.FindOriginal(m)
	if !w.dialect.UnionPay() {
		o.Batch = noBatch
	}
	if id := idOf(reference(m)); id != 0 {
		e, err := s.journal.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) && ok && !w.dialect.UnionPay() {
			return s.traced(ctx, w, o)
		}
		if err != nil {
			return nil, err
		}
		if ok && (int32(o.STAN) != e.STAN || o.Batch != 0 && int32(o.Batch) != e.Batch) {
			return nil, store.ErrNotFound // DE 37 and DE 61 or 90 name different transactions
		}
		return e, nil
	}
	if !ok {
		return nil, errNothingNamed
	}
	return s.traced(ctx, w, o)
}

// traced reads an original by date, batch and trace number.
func (s *Switch) traced(ctx context.Context, w *work, o spec.Original) (*journal.Entry, error) {
	for _, day := range daysOf(s.today(datesOf(w.row), w.started), o.Date) {
		found, err := s.journal.ByTrace(ctx, day, w.terminal.TID, int32(o.Batch), int32(o.STAN))
		if err != nil {
			return nil, err
		}
		// One trace number may have served several kinds; what the row follows
		// comes first.
		slices.SortStableFunc(found, func(a, b *journal.Entry) int {
			return bit(!slices.Contains(w.row.after, a.Kind)) - bit(!slices.Contains(w.row.after, b.Kind))
		})
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return nil, store.ErrNotFound
}

// reference is the reference number by which m names its original, if it does.
func reference(m *spec.Message) string {
	rrn := m.Text(37)
	if voucher, ok := spec.FindDE59(m.Bytes(59), "A4"); ok && idOf(rrn) == 0 {
		return string(voucher)
	}
	return rrn
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// idOf is the journal's id that a reference number writes; 0 when it is none.
func idOf(rrn string) int64 {
	if len(rrn) != 12 {
		return 0
	}
	id, err := strconv.ParseInt(rrn, 36, 64)
	if err != nil || id <= 0 || rrnOf(id) != rrn {
		return 0
	}
	return id
}

// memory is how many days back a transaction is looked for whose date nobody
// tells; longer than a street is closed at the Spring Festival.
const memory = 10

// datesOf is the business date that a row's transactions are opened on.
func datesOf(row *row) journal.Dates {
	if row.qr {
		return journal.WalletDates
	}
	return journal.CardDates
}

// daysOf are the business dates on which a transaction of the date mmdd (as
// DE 13 had it when it was answered) can have been opened, the likeliest first:
// that day, the next when it was after the cut-off, or the one before when it
// was answered behind midnight. Without a date it is the last days.
func daysOf(today calendar.Date, mmdd int) []calendar.Date {
	if mmdd == 0 {
		days := make([]calendar.Date, memory)
		for i := range days {
			days[i] = today.AddDays(-i)
		}
		return days
	}
	day := calendar.Date(today.Year()*10000 + mmdd)
	if !day.Valid() || day > today.AddDays(1) { // of last year
		day = calendar.Date((today.Year()-1)*10000 + mmdd)
	}
	if !day.Valid() {
		return nil
	}
	return []calendar.Date{day, day.AddDays(1), day.AddDays(-1)}
}

// unlinked is a message that names no original: a refund may do so when the
// terminal's profile has an amount for it.
func (s *Switch) unlinked(w *work) (journal.Reason, string) {
	most := w.terminal.Profile.Unlinked
	switch {
	case w.row.does != journal.Refund || w.row.qr || most == 0:
		if !w.dialect.UnionPay() {
			return journal.OriginalNotFound, "neither DE 37 nor DE 90 names an original"
		}
		return journal.OriginalNotFound, errNothingNamed.Error()
	case w.amount > most:
		return journal.LimitAmount, "refund without its sale above " + most.String()
	}
	return journal.Undecided, ""
}

// belongs holds an original against the message that names it.
func (s *Switch) belongs(w *work, q *asked, e *journal.Entry) (journal.Reason, string) {
	m := &w.req
	switch {
	case e.Merchant != w.terminal.MID, e.Terminal != w.terminal.TID && w.row.does != journal.Refund && w.row.does != journal.Completion:
		return journal.OriginalNotFound, "it is another's"
	case (e.Channel == journal.QR) != w.row.qr:
		return journal.OriginalDiffers, "a card and a payment code"
	case !slices.Contains(w.row.after, e.Kind):
		if e.Kind.Undoes() || e.Kind == journal.Refund {
			return journal.OriginalUndone, "a " + e.Kind.String() + " cannot be followed by a " + w.row.name
		}
		return journal.OriginalDiffers, "it is a " + e.Kind.String()
	case m.Has(38) && e.Outcome != nil && e.Outcome.Approval != "" && m.Text(38) != e.Outcome.Approval && w.row.does != journal.ScriptResult:
		return journal.OriginalDiffers, "DE 38 is another"
	}
	if !w.pan.IsZero() && q.token != e.PANToken {
		return journal.OriginalDiffers, "another card"
	}
	today := s.today(journal.DatesOf(e.Channel), w.started)
	switch w.row.does {
	case journal.Void, journal.CompletionVoid, journal.Adjustment:
		if e.Day != today {
			return journal.OriginalClosed, "its business date is closed"
		}
		if e.Batch != int32(w.de60.Batch) {
			return journal.OriginalClosed, "its batch is closed"
		}
	case journal.Refund:
		if e.Day < today.AddDays(-s.cfg.RefundDays) {
			return journal.OriginalClosed, "older than " + itoa(s.cfg.RefundDays) + " days"
		}
	case journal.PreAuthVoid, journal.Completion:
		if e.Day < today.AddDays(-s.cfg.PreAuthDays) {
			return journal.OriginalClosed, "older than " + itoa(s.cfg.PreAuthDays) + " days"
		}
	}
	return journal.Undecided, ""
}

// bounds holds the amount against the original's.
func (s *Switch) bounds(w *work, q *asked) (journal.Reason, string) {
	if untold(q.follows) && !w.row.recorded() {
		// It would overtake what the issuer has to hear before, and be refused
		// for an amount or an original that is not known there.
		return journal.OriginalBusy, "the issuer has not heard of all of it yet"
	}
	switch w.row.does {
	case journal.Completion:
		most, err := q.follows.Original.Sum().MulPPM(s.cfg.CompletionPPM)
		if err != nil || w.amount > most {
			return journal.AmountOver, "a completion may be up to " + most.String()
		}
	case journal.Adjustment:
		return s.adjusts(w, q)
	}
	return journal.Undecided, ""
}

// untold reports whether the issuer is still owed the original, or something
// that follows it, which the terminal did by itself.
func untold(f *journal.Following) bool {
	owed := func(e *journal.Entry) bool {
		return e.Debt != nil && e.Debt.Delivery() && e.Debt.State == journal.Owed
	}
	return owed(f.Original) || slices.ContainsFunc(f.Followers, owed)
}

// adjusts reads a tip or an adjustment: DE 4 is what the sale comes to now; a
// tip tells itself in DE 48 too. In other dialects DE 4 is the difference, and
// DE 3 says which way: 02 more, 22 less.
func (s *Switch) adjusts(w *work, q *asked) (journal.Reason, string) {
	q.standing = q.follows.Standing()
	if !w.dialect.UnionPay() {
		if change := w.amount; strings.HasPrefix(w.req.Text(3), "22") {
			w.amount = q.standing - change
		} else {
			w.amount = q.standing + change
		}
		if w.amount < 0 {
			return journal.AmountOver, "a credit of more than the sale's " + q.standing.String()
		}
		return journal.Undecided, ""
	}
	change := w.amount - q.standing
	if change == 0 {
		return journal.AmountInvalid, "it changes nothing"
	}
	if w.row.name != "tip" {
		return journal.Undecided, ""
	}
	if tip, ok := w.req.Int(48); ok && money.Amount(tip) != change {
		return journal.AmountDiffers, "DE 4 is not the sale's " + q.standing.String() + " and the tip of DE 48"
	}
	most, err := q.follows.Original.Sum().MulPPM(s.cfg.TipPPM)
	if err != nil || change < 0 || w.amount-q.follows.Original.Sum() > most {
		return journal.AmountOver, "a tip may be up to " + most.String()
	}
	return journal.Undecided, ""
}
