package switching

import (
	"context"
	"errors"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/spec"
	"acquirer/store"
)

// The DE of an ISO 8583:1987 reconciliation request: how many credits and
// debits, how much, and how much of each was reversed.
var reconciled = [2]struct{ count, countBack, sum, sumBack int }{
	{76, 77, 88, 89}, // debits, what the cardholders paid
	{74, 75, 86, 87}, // credits
}

// The settlement codes of DE 66.
const (
	inBalance    = "1"
	outOfBalance = "2"
)

// reconciliation is the end of the day at a terminal without batches (0500 of
// other dialects): its totals, reversals taken off, against what the journal
// has since the one before. The house counts the periods itself, under the
// batch number that the terminal is registered with. A period ends with its
// first reconciliation, balanced or not; one that did not balance is a break
// for a person. The same totals again, with nothing sold in between, are a
// repeat and get the same answer.
func (s *Switch) reconciliation(ctx context.Context, w *work) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	if rc := s.mayWork(w); rc != RCApproved {
		s.refuse(w, rc)
		return
	}
	claimed := spec.Totals{Domestic: otherTotals(&w.req)}
	today := s.today(journal.CardDates, w.started)
	period := int32(w.terminal.Batch)
	last, err := s.journal.LastSettling(step, w.terminal.TID, previous(period), today.AddDays(-memory))
	if errors.Is(err, store.ErrNotFound) {
		last, err = &journal.Settling{}, nil
	}
	if err != nil {
		s.storeFailed(w, "a reconciliation could not be compared", err)
		return
	}
	entries, err := s.ofPeriod(step, w, last)
	if err != nil {
		s.storeFailed(w, "a reconciliation could not be compared", err)
		return
	}
	both := totalsOf(entries)
	ours := spec.Totals{Domestic: spec.SideTotals{Debit: added(both.Domestic.Debit, both.Foreign.Debit), Credit: added(both.Domestic.Credit, both.Foreign.Credit)}}
	ours.Domestic.Balance = balance(claimed.Domestic, ours.Domestic)
	said, err := spec.AppendTotals(nil, claimed)
	if err != nil {
		s.malformed(w, errors.New("the totals of DE 74 to 89 are more than a terminal can count"))
		return
	}
	if len(entries) == 0 && last.Claimed == string(said) {
		s.endReconciliation(w, today, last.Ours)
		return
	}
	digits, err := spec.AppendTotals(nil, ours)
	if err == nil {
		err = s.endPeriod(step, w, &journal.Settling{Day: today, Terminal: w.terminal.TID, Merchant: w.terminal.MID, Batch: period,
			Claimed: string(said), Ours: string(digits), At: w.started}, ours.Domestic.Balance)
	}
	if err != nil {
		s.storeFailed(w, "a reconciliation could not be recorded", err)
		return
	}
	s.endReconciliation(w, today, string(digits))
}

// otherTotals reads DE 74 to 89; what is not there is 0.
func otherTotals(m *spec.Message) (t spec.SideTotals) {
	for i, side := range [...]*spec.Tally{&t.Debit, &t.Credit} {
		of := func(n int) int64 {
			v, _ := m.Int(n)
			return v
		}
		f := reconciled[i]
		side.Count, side.Fen = int(of(f.count)-of(f.countBack)), of(f.sum)-of(f.sumBack)
	}
	return t
}

func added(a, b spec.Tally) spec.Tally {
	return spec.Tally{Fen: a.Fen + b.Fen, Count: a.Count + b.Count}
}

// previous is the number of the period before.
func previous(period int32) int32 {
	if period == 1 {
		return 999999
	}
	return period - 1
}

// ofPeriod reads what the terminal did since its last reconciliation.
func (s *Switch) ofPeriod(ctx context.Context, w *work, last *journal.Settling) ([]*journal.Entry, error) {
	all, err := s.journal.OfBatch(ctx, w.terminal.TID, noBatch, daysOf(s.today(journal.CardDates, w.started), 0))
	var since []*journal.Entry
	for _, e := range all {
		if e.Opened.After(last.At) {
			since = append(since, e)
		}
	}
	return since, err
}

// endPeriod records a reconciliation and begins the next period.
func (s *Switch) endPeriod(ctx context.Context, w *work, st *journal.Settling, b spec.Balance) error {
	if err := s.journal.Settle(ctx, st); err != nil {
		return err
	}
	if b != spec.Balanced {
		fresh, err := s.journal.Upload(ctx, []journal.Uploaded{{Day: st.Day, Terminal: st.Terminal, Merchant: st.Merchant, Batch: st.Batch,
			Amount: money.Amount(0), What: journal.OtherTotals, At: st.At}})
		if err != nil {
			return err
		}
		s.tellBreaks(fresh)
	}
	if _, err := s.journal.EndBatch(ctx, st.Terminal, st.Batch, st.Day, st.At); err != nil {
		return err
	}
	_, err := s.terminals.SetBatch(ctx, st.Terminal, int(st.Batch)%999999+1)
	return err
}

// endReconciliation answers with our totals, as ours has them, in DE 74 to 89,
// and whether they are the terminal's in DE 66.
func (s *Switch) endReconciliation(w *work, today calendar.Date, ours string) {
	t, err := spec.ParseTotals([]byte(ours))
	if err != nil {
		s.log.Error("a reconciliation that was recorded cannot be read; answered 96", "terminal", w.terminal.TID, "error", err.Error())
		s.refuse(w, RCMalfunction)
		return
	}
	s.answerManagement(w, RCApproved)
	if w.dialect.Declares(15) {
		w.rep.SetInt(15, int64(today)%10000)
	}
	w.say(37, rrnOf(w.id()))
	code := inBalance
	if t.Domestic.Balance != spec.Balanced {
		code = outOfBalance
	}
	w.say(66, code)
	for i, side := range [...]spec.Tally{t.Domestic.Debit, t.Domestic.Credit} {
		for n, v := range map[int]int64{reconciled[i].count: int64(side.Count), reconciled[i].sum: side.Fen} {
			if w.dialect.Declares(n) {
				w.rep.SetInt(n, v)
			}
		}
	}
	s.pack(w)
}
