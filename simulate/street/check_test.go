package street

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
)

// evidence is what parties that do not read each other's notes say of the same
// transactions when everything has come to rest.
type evidence struct {
	told    []terminal.Record
	journal []*journal.Entry
	issuers map[string][]issuer.Entry // by name
	orders  []simwallet.Order
	forged  map[terminal.Key]bool // sent with a wrong MAC, or none
	cleared map[terminal.Key]bool // taken out of a terminal by hand: it does not know
	rules   []limits.Rule
}

// violations are the invariants of reliability that do not hold, in words.
func (e *evidence) violations() (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	byRRN := map[string]*journal.Entry{}
	byKey := map[terminal.Key][]*journal.Entry{}
	for _, j := range e.journal {
		k := terminal.Key{TID: j.Terminal, Batch: int(j.Batch), STAN: int(j.STAN)}
		if byRRN[j.RRN] != nil {
			bad("I4: two transactions have the RRN %s", j.RRN)
		}
		for _, other := range byKey[k] {
			if other.Kind == j.Kind {
				bad("I4: %v, a %v, is in the journal twice", k, j.Kind)
			}
		}
		byKey[k], byRRN[j.RRN] = append(byKey[k], j), j
		cut := cutOff
		if j.Channel == journal.QR {
			cut = walletCutOff
		}
		if want := calendar.BusinessDate(j.Opened, cut); j.Day != want && !(j.Outcome != nil && j.Outcome.Reason == journal.Tombstoned) {
			bad("I10: %s was opened on the business date %v and stands on %v", j.RRN, want, j.Day)
		}
	}
	e.atTerminals(bad, byKey)
	e.atIssuers(bad, byRRN)
	e.atWallets(bad, byRRN)
	e.withinLimits(bad)
	slices.Sort(found)
	return found
}

// counts reports a transaction that moves money or holds it.
func counts(j *journal.Entry) bool {
	return j.Kind != journal.Inquiry && j.Kind != journal.ScriptResult
}

// atTerminals: what a terminal was told and keeps is so in the journal (I1), and
// what the journal approved a terminal keeps (I3).
func (e *evidence) atTerminals(bad func(string, ...any), byKey map[terminal.Key][]*journal.Entry) {
	told := map[terminal.Key]terminal.Record{}
	for _, r := range e.told {
		if e.cleared[r.Key] {
			r.Status = terminal.Abandoned
		}
		told[r.Key] = r
		var approved *journal.Entry
		for _, j := range byKey[r.Key] {
			if counts(j) && j.State() == journal.StateApproved {
				approved = j
			}
		}
		switch r.Status {
		case terminal.Approved:
			switch j := approved; {
			case j == nil:
				bad("I1: %v, %v, was told approved and is not in the journal", r.Key, r.Kind)
			case j.RRN != r.RRN || r.AuthCode != "" && j.Outcome.Approval != "" && j.Outcome.Approval != r.AuthCode || j.Kind != journal.Adjustment && j.Sum() != r.Amount:
				bad("I1: %v, %v, was told RRN %s, approval code %s, %s; the journal has %s, %s, %s", r.Key, r.Kind, r.RRN, r.AuthCode, r.Amount, j.RRN, j.Outcome.Approval, j.Sum())
			}
		case terminal.Declined, terminal.Reversed:
			if approved != nil {
				bad("I3: %v, %v, was told %s and is approved in the journal as %s", r.Key, r.Kind, r.Status, approved.RRN)
			}
		case terminal.Abandoned: // a refund without an answer: whatever the house did
		default:
			bad("I5: %v, %v, has not come to rest at the terminal: %s", r.Key, r.Kind, r.Status)
		}
		if e.forged[r.Key] && approved != nil {
			bad("I12: %v was sent without a right MAC and is approved", r.Key)
		}
	}
	for k, entries := range byKey {
		for _, j := range entries {
			if !counts(j) {
				continue
			}
			switch j.State() {
			case journal.Open, journal.Owed:
				bad("I5: %v, a %v, has not come to rest in the journal: %s", k, j.Kind, j.State())
			case journal.Manual:
				bad("I5: %v, a %v, was given to a person: %s", k, j.Kind, j.Debt.Note)
			case journal.StateApproved:
				if r, ok := told[k]; !ok || r.Status != terminal.Approved && r.Status != terminal.Abandoned {
					bad("I3: %v, a %v, is approved in the journal and no terminal keeps it", k, j.Kind)
				}
				if j.Debt != nil && j.Debt.State == journal.Owed {
					bad("I5: the advice %v, a %v, was not delivered: %s", k, j.Kind, j.Debt.Note)
				}
			}
		}
	}
}

// atIssuers: an issuer holds exactly what the journal approved (I3), once (I4),
// and has heard of nothing that the journal did not intend before (I2).
func (e *evidence) atIssuers(bad func(string, ...any), byRRN map[string]*journal.Entry) {
	holds := map[string][]issuer.Entry{}
	for name, books := range e.issuers {
		for _, b := range books {
			j := byRRN[b.RRN]
			switch {
			case j == nil:
				bad("I2: issuer %s heard of %s, a %s, which is not in the journal", name, b.RRN, b.Kind)
			case j.Issuer != name:
				bad("I2: issuer %s heard of %s, which went to %s", name, b.RRN, j.Issuer)
			case b.At.Before(j.Opened.Truncate(time.Microsecond)):
				bad("I2: issuer %s heard of %s at %v, before it was opened at %v", name, b.RRN, b.At, j.Opened)
			}
			switch b.State {
			case issuer.Approved, issuer.Voided, issuer.Completed:
				holds[b.RRN] = append(holds[b.RRN], b)
			}
		}
	}
	for _, j := range e.journal {
		if !counts(j) || j.Channel == journal.QR {
			continue
		}
		h := holds[j.RRN]
		handed := j.Debt != nil && j.Debt.State == journal.Manual
		switch {
		case j.State() != journal.StateApproved || handed:
			if len(h) > 0 {
				bad("I3: %s, a %v, is %s in the journal and issuer %s holds %s", j.RRN, j.Kind, j.State(), j.Issuer, h[0].Amount)
			}
		case len(h) != 1:
			bad("I3: %s, a %v, is approved in the journal, and %d entries of the issuers are", j.RRN, j.Kind, len(h))
		default:
			amount := h[0].Amount
			if h[0].Part != 0 {
				amount = h[0].Part
			}
			if sum := j.Sum(); amount != max(sum, -sum) || h[0].PAN.Masked() != j.PANMasked || !j.Advice() && j.Kind != journal.Refund && h[0].Approval != j.Outcome.Approval {
				bad("I3: %s, a %v, is %s, %s, %s in the journal and %s, %s, %s at issuer %s", j.RRN, j.Kind, sum, j.Outcome.Approval, j.PANMasked,
					amount, h[0].Approval, h[0].PAN.Masked(), j.Issuer)
			}
		}
	}
}

// atWallets: what buyers have paid and not got back is what the journal says.
func (e *evidence) atWallets(bad func(string, ...any), byRRN map[string]*journal.Entry) {
	back := map[int64]money.Amount{} // by original
	for _, j := range e.journal {
		if j.Channel == journal.QR && j.Original != 0 && j.State() == journal.StateApproved {
			back[j.Original] += j.Sum()
		}
	}
	orders := map[string]simwallet.Order{}
	for _, o := range e.orders {
		orders[o.Number] = o
		if byRRN[o.Number] == nil {
			bad("I2: wallet %s heard of %s, which is not in the journal", o.Wallet, o.Number)
		}
	}
	for _, j := range e.journal {
		if j.Channel != journal.QR || j.Kind != journal.Sale || j.Issuer == "" {
			continue
		}
		want := money.Amount(0)
		if j.State() == journal.StateApproved {
			want = j.Sum() - back[j.ID]
		}
		if o := orders[j.RRN]; o.Standing() != want {
			bad("I3: %s is %s and comes to %s in the journal; the buyer has paid %s (%s)", j.RRN, j.State(), want, o.Standing(), o.State)
		}
	}
}

// withinLimits replays what every merchant and card held at every moment: no
// sale was let in that passed a day's limit (I7).
func (e *evidence) withinLimits(bad func(string, ...any)) {
	type subject struct {
		day  calendar.Date
		rule int
		who  string
	}
	type step struct {
		at     time.Time
		opens  bool
		id     int64
		count  int64
		amount money.Amount
		of     []subject
	}
	undone := map[int64][]*journal.Entry{}
	for _, j := range e.journal {
		if j.Kind.Undoes() && j.Original != 0 {
			undone[j.Original] = append(undone[j.Original], j)
		}
	}
	end := func(j *journal.Entry) time.Time { // when it gave its quota back
		switch {
		case j.TakenBack():
			return j.Debt.Created
		case j.Outcome != nil && j.Outcome.Reason != journal.Approved:
			return j.Outcome.Closed
		}
		return time.Time{}
	}
	var steps []step
	for _, j := range e.journal {
		if j.SpentOn == 0 {
			continue
		}
		var of []subject
		for i, r := range e.rules {
			if r.DayAmount == 0 && r.DayCount == 0 || r.Channel != limits.Any && r.Channel != limits.Channel(j.Channel) {
				continue
			}
			switch r.Scope {
			case limits.Card:
				of = append(of, subject{j.SpentOn, i, string(j.PANToken[:])})
			case limits.Merchant:
				of = append(of, subject{j.SpentOn, i, j.Merchant})
			}
		}
		ended := end(j)
		if !ended.IsZero() && !ended.After(j.Opened) {
			continue // it was refused
		}
		steps = append(steps, step{j.Opened, true, j.ID, 1, j.Amount, of})
		if !ended.IsZero() {
			steps = append(steps, step{ended, false, j.ID, -1, -j.Amount, of})
			continue
		}
		for _, v := range undone[j.ID] {
			if v.Outcome == nil || v.Outcome.Reason != journal.Approved {
				continue
			}
			steps = append(steps, step{v.Outcome.Closed, false, j.ID, -1, -j.Amount, of})
			if v.TakenBack() { // sold again, whatever the rules say now
				steps = append(steps, step{v.Debt.Created, false, j.ID, 1, j.Amount, of})
			}
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		return cmp.Or(a.at.Compare(b.at), map[bool]int{true: 1}[a.opens]-map[bool]int{true: 1}[b.opens], cmp.Compare(a.id, b.id))
	})
	type held struct {
		count  int64
		amount money.Amount
	}
	now := map[subject]held{}
	for _, s := range steps {
		for _, k := range s.of {
			h := now[k]
			h.count += s.count
			h.amount += s.amount
			now[k] = h
			r := e.rules[k.rule]
			if s.opens && (r.DayAmount > 0 && h.amount > r.DayAmount || r.DayCount > 0 && h.count > r.DayCount) {
				bad("I7: transaction %d brought the day %v of one %v to %d transactions and %s; the limit is %d and %s", s.id, k.day, r.Scope, h.count, h.amount, r.DayCount, r.DayAmount)
			}
		}
	}
}

// gather asks everybody.
func (w *world) gather(h *house) *evidence {
	e := &evidence{told: w.book.Records(), issuers: map[string][]issuer.Entry{}, orders: w.wallets.Orders(), forged: w.forged, cleared: w.cleared, rules: rules()}
	for name, host := range w.issuers {
		e.issuers[name] = host.Books()
	}
	var err error
	e.journal, err = h.journal.Last(context.Background(), 1_000_000)
	w.must(err)
	return e
}

// settled closes what is still open of the street's days, twice, and holds
// journal, settlement and ledger against each other: every transaction is in
// one line, a closed date never changes, both sides are equal (I8, I9, I10).
func (w *world) settled(h *house, entries []*journal.Entry) {
	ctx := context.Background()
	if len(entries) == 0 {
		return
	}
	first, last := entries[0].Day, entries[0].Day
	for _, j := range entries {
		first, last = min(first, j.Day), max(last, j.Day)
	}
	now := calendar.Closes(last, walletCutOff).Add(time.Minute)
	for range 2 {
		_, err := h.books.CloseDay(ctx, last, now, false)
		w.check(err)
		_, err = h.books.CatchUp(ctx)
		w.check(err)
	}
	lines := map[string]money.Amount{}
	for date := first; date <= last; date = date.AddDays(1) {
		days, closed, err := h.books.Merchants(ctx, date)
		w.check(err)
		if !closed {
			w.t.Errorf("I9: %v is not closed", date)
		}
		if before, ok := w.closed[date]; ok && !sameDays(before, days) {
			w.t.Errorf("I10: %v was closed as %+v and is %+v", date, before, days)
		}
		for _, d := range days {
			lines[d.Merchant] += d.Gross - d.Taken
		}
	}
	sold := map[string]money.Amount{}
	for _, j := range entries {
		if j.State() != journal.StateApproved {
			continue
		}
		switch j.Kind {
		case journal.Sale, journal.Completion, journal.OfflineSale, journal.Adjustment:
			sold[j.Merchant] += j.Sum()
		case journal.Void, journal.CompletionVoid, journal.Refund:
			sold[j.Merchant] -= j.Sum()
		}
	}
	none := func(_ string, a money.Amount) bool { return a == 0 }
	maps.DeleteFunc(sold, none)
	maps.DeleteFunc(lines, none)
	if !maps.Equal(sold, lines) {
		w.t.Errorf("I9: merchants sold %v, and %v was settled", sold, lines)
	}
	problems, err := h.books.CheckAll(ctx)
	w.check(err)
	for _, p := range problems {
		w.t.Errorf("I9: %s", p)
	}
	report, err := h.ledger.Verify(ctx)
	w.check(err)
	for _, p := range report.Problems {
		w.t.Errorf("I8: %s", p)
	}
	found, err := h.journal.Check(ctx, time.UnixMilli(0))
	w.check(err)
	for _, v := range found {
		w.t.Error(v)
	}
}

// sameDays compares what a closed date came to; how its payouts stand may change.
func sameDays(a, b []settlement.MerchantDay) bool {
	return slices.EqualFunc(a, b, func(x, y settlement.MerchantDay) bool {
		return x.Merchant == y.Merchant && x.Speed == y.Speed && x.Sales == y.Sales && x.Gross == y.Gross && x.Taken == y.Taken && x.Fee == y.Fee
	})
}

// keepsSecrets looks for account numbers, tracks and PIN blocks in what the
// house wrote (I16).
func (w *world) keepsSecrets(clerks []*clerk) {
	files, err := filepath.Glob(w.file + "*")
	w.check(err)
	wrote := map[string]string{"log": string(w.log.bytes())}
	for _, name := range files {
		b, err := os.ReadFile(name)
		w.check(err)
		wrote[filepath.Base(name)] = string(b)
	}
	for where, text := range wrote {
		for _, pin := range w.pins {
			if hex := fmt.Sprintf("%x", pin); strings.Contains(text, pin) || strings.Contains(text, hex) || strings.Contains(text, strings.ToUpper(hex)) {
				w.t.Errorf("I16: a PIN block is in %s", where)
			}
		}
	}
	for _, c := range clerks {
		for _, card := range c.cards {
			_, rest, _ := strings.Cut(card.Track2, "=")
			for where, text := range wrote {
				if strings.Contains(text, card.Number) || strings.Contains(text, bcd(card.Number)) {
					w.t.Errorf("I16: an account number is in %s", where)
				}
				if strings.Contains(text, rest) {
					w.t.Errorf("I16: the end of a track is in %s", where)
				}
			}
		}
	}
}

// bcd packs an even number of digits.
func bcd(digits string) string {
	var b strings.Builder
	for i := 0; i+1 < len(digits); i += 2 {
		b.WriteByte((digits[i]-'0')<<4 | digits[i+1] - '0')
	}
	return b.String()
}
