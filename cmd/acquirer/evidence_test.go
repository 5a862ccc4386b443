package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/simulate/wallet"
)

// evidence is what three parties, none of which reads the others' notes, say
// of the same transactions when everything has come to rest.
type evidence struct {
	told    []terminal.Record         // the terminals
	journal []*journal.Entry          // the house
	issuers map[string][]issuer.Entry // the issuers, by name
}

// violations holds the three against each other: no approval that a terminal
// was told and kept is lost or differs (I1), and no issuer's approval is
// neither told nor reversed, or both (I3).
func (e evidence) violations() (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	entries := map[terminal.Key]*journal.Entry{}
	byRRN := map[string]*journal.Entry{}
	for _, j := range e.journal {
		k := terminal.Key{TID: j.Terminal, Batch: int(j.Batch), STAN: int(j.STAN)}
		if entries[k] != nil {
			bad("%v is in the journal twice", k)
		}
		entries[k], byRRN[j.RRN] = j, j
	}
	holds := map[string][]issuer.Entry{} // approvals that stand at an issuer, by RRN
	for name, books := range e.issuers {
		for _, b := range books {
			if b.State == issuer.Approved {
				holds[b.RRN] = append(holds[b.RRN], b)
				if j := byRRN[b.RRN]; j == nil {
					bad("issuer %s holds %s for %s, which is not in the journal", name, b.Amount, b.RRN)
				} else if j.Issuer != name {
					bad("issuer %s holds %s, which went to %s", name, b.RRN, j.Issuer)
				}
			}
		}
	}

	told := map[terminal.Key]terminal.Record{}
	for _, r := range e.told {
		told[r.Key] = r
		j := entries[r.Key]
		switch r.Status {
		case terminal.Approved:
			switch {
			case j == nil:
				bad("I1: %v was told approved and is not in the journal", r.Key)
			case j.State() != journal.StateApproved:
				bad("I1: %v was told approved and is %s in the journal", r.Key, j.State())
			case j.RRN != r.RRN || r.Kind != terminal.KindQRSale && (j.Outcome.Approval != r.AuthCode || j.PANMasked != r.PAN.Masked()) || j.Amount != r.Amount:
				bad("I1: %v was told RRN %s, approval code %s, %s, %s; the journal has %s, %s, %s, %s", r.Key, r.RRN, r.AuthCode, r.Amount, r.PAN,
					j.RRN, j.Outcome.Approval, j.Amount, j.PANMasked)
			}
			switch h := holds[r.RRN]; {
			case len(h) != 1:
				bad("I3: %v was told approved as %s, which %d entries of the issuers approve and have not reversed", r.Key, r.RRN, len(h))
			case h[0].Amount != r.Amount || r.Kind != terminal.KindQRSale && (h[0].Approval != r.AuthCode || !h[0].PAN.Equal(r.PAN)):
				bad("I1: %v was told %s, %s; the issuer has %s, %s, or another card", r.Key, r.Amount, r.AuthCode, h[0].Amount, h[0].Approval)
			}
		case terminal.Declined, terminal.Reversed:
			if j != nil && j.State() == journal.StateApproved {
				bad("I3: %v was told %s and is approved in the journal", r.Key, r.Status)
			}
			if j != nil && len(holds[j.RRN]) != 0 {
				bad("I3: %v was told %s and issuer %s still holds %s", r.Key, r.Status, j.Issuer, holds[j.RRN][0].Amount)
			}
		default:
			bad("%v has not come to rest at the terminal: %s", r.Key, r.Status)
		}
	}
	for k, j := range entries {
		switch s := j.State(); s {
		case journal.Open, journal.Owed, journal.Manual:
			bad("I3: %v has not come to rest in the journal: %s", k, s)
		case journal.StateApproved:
			if r, ok := told[k]; !ok || r.Status != terminal.Approved {
				bad("I3: %v is approved in the journal and no terminal keeps the approval", k)
			}
		default:
			if len(holds[j.RRN]) != 0 {
				bad("I3: %v is %s in the journal and issuer %s still holds %s", k, s, j.Issuer, holds[j.RRN][0].Amount)
			}
		}
	}
	slices.Sort(found)
	return found
}

// addWallets takes the wallets' orders in among the issuers' books: paid is
// approved, and what was given back as a whole is reversed.
func (e evidence) addWallets(orders []simwallet.Order) {
	for _, o := range orders {
		b := issuer.Entry{Type: "0200", RRN: o.Number, Terminal: o.Terminal, Merchant: o.Merchant, Kind: issuer.Sale, Amount: o.Amount, State: issuer.Declined, At: o.At}
		switch {
		case o.Standing() > 0:
			b.State, b.Amount = issuer.Approved, o.Standing()
		case !o.PaidAt.IsZero():
			b.State = issuer.Reversed
		case o.Amount == 0: // its cancel came first
			b.Kind = issuer.Reversal
		}
		e.issuers[o.Wallet] = append(e.issuers[o.Wallet], b)
	}
}

// copied is deep enough to be tampered with.
func (e evidence) copied() evidence {
	c := evidence{told: slices.Clone(e.told), issuers: maps.Clone(e.issuers)}
	for name := range c.issuers {
		c.issuers[name] = slices.Clone(c.issuers[name])
	}
	for _, j := range e.journal {
		k := *j
		if j.Outcome != nil {
			o := *j.Outcome
			k.Outcome = &o
		}
		c.journal = append(c.journal, &k)
	}
	return c
}

// anApproval finds a transaction that all three say is approved.
func (e evidence) anApproval(t *testing.T) (told, entry, book int, issuerName string) {
	t.Helper()
	for i, r := range e.told {
		if r.Status != terminal.Approved || r.Kind == terminal.KindQRSale {
			continue
		}
		j := slices.IndexFunc(e.journal, func(j *journal.Entry) bool { return j.RRN == r.RRN })
		if j < 0 {
			continue
		}
		name := e.journal[j].Issuer
		b := slices.IndexFunc(e.issuers[name], func(b issuer.Entry) bool { return b.RRN == r.RRN && b.State == issuer.Approved })
		if b >= 0 {
			return i, j, b, name
		}
	}
	t.Fatal("nothing was approved")
	return 0, 0, 0, ""
}

// plants are lies that violations must see, each told of one transaction that
// all three agree on.
var plants = []struct {
	name string
	lie  func(e *evidence, told, entry, book int, name string)
	says string
}{
	{"the journal lost it", func(e *evidence, _, j, _ int, _ string) { e.journal = slices.Delete(e.journal, j, j+1) }, "I1"},
	{"the journal lost its outcome", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Outcome = nil }, "I1"},
	{"the journal has another approval code", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Outcome.Approval = "000000" }, "I1"},
	{"the journal has another amount", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Amount++ }, "I1"},
	{"the journal reversed it", func(e *evidence, _, j, _ int, _ string) {
		e.journal[j].Debt = &journal.Debt{State: journal.Reversed}
	}, "I1"},
	{"the journal still owes it", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Debt = &journal.Debt{State: journal.Owed} }, "I3"},
	{"it is with a person", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Debt = &journal.Debt{State: journal.Manual} }, "I3"},
	{"the issuer reversed what was told", func(e *evidence, _, _, b int, n string) { e.issuers[n][b].State = issuer.Reversed }, "I3"},
	{"the issuer has another amount", func(e *evidence, _, _, b int, n string) { e.issuers[n][b].Amount++ }, "I1"},
	{"the issuer never heard of it", func(e *evidence, _, _, b int, n string) { e.issuers[n] = slices.Delete(e.issuers[n], b, b+1) }, "I3"},
	{"the issuer booked it twice", func(e *evidence, _, _, b int, n string) { e.issuers[n] = append(e.issuers[n], e.issuers[n][b]) }, "I3"},
	{"the terminal reversed it", func(e *evidence, r, _, _ int, _ string) { e.told[r].Status = terminal.Reversed }, "I3"},
	{"the terminal was told no", func(e *evidence, r, _, _ int, _ string) { e.told[r].Status = terminal.Declined }, "I3"},
	{"the terminal never heard", func(e *evidence, r, _, _ int, _ string) { e.told = slices.Delete(e.told, r, r+1) }, "I3"},
	{"the terminal is still waiting", func(e *evidence, r, _, _ int, _ string) { e.told[r].Status = terminal.Unknown }, "rest"},
	{"an issuer holds what nobody asked for", func(e *evidence, _, _, b int, n string) {
		more := e.issuers[n][b]
		more.RRN = "000000000000"
		e.issuers[n] = append(e.issuers[n], more)
	}, "not in the journal"},
}

// provesItself plants each lie into a copy of the evidence: a check that finds
// nothing must be able to find something.
func (e evidence) provesItself(t *testing.T) {
	t.Helper()
	for _, p := range plants {
		c := e.copied()
		told, entry, book, name := c.anApproval(t)
		p.lie(&c, told, entry, book, name)
		if found := strings.Join(c.violations(), "\n"); !strings.Contains(found, p.says) {
			t.Errorf("planted that %s: found %q, want %q in it", p.name, found, p.says)
		}
	}
}

// The check alone, on three lines that agree.
func TestEvidence(t *testing.T) {
	pan := simcard.Issuers[0].PAN(1)
	key := journal.Key{Day: 20260213, Terminal: "10000001", Batch: 1, STAN: 7, Kind: journal.Sale}
	e := evidence{
		told: []terminal.Record{{Key: terminal.Key{TID: "10000001", Batch: 1, STAN: 7}, Amount: 1234, PAN: pan, Status: terminal.Approved, Code: "00", RRN: "523456789012", AuthCode: "000042"}},
		journal: []*journal.Entry{{Transaction: journal.Transaction{Key: key, Amount: 1234, PANMasked: pan.Masked(), Issuer: "north", RRN: "523456789012"},
			Outcome: &journal.Outcome{Reason: journal.Approved, Approval: "000042"}}},
		issuers: map[string][]issuer.Entry{"north": {{RRN: "523456789012", PAN: pan, Amount: 1234, Approval: "000042", State: issuer.Approved}}},
	}
	if found := e.violations(); len(found) > 0 {
		t.Errorf("three that agree: %v", found)
	}
	e.provesItself(t)
}

// readJournal reads every transaction there is, the newest first.
func readJournal(ctx context.Context, j *journal.Journal) (all []*journal.Entry, err error) {
	page, err := j.Last(ctx, 1000)
	for err == nil && len(page) > 0 {
		all = append(all, page...)
		page, err = j.LastBefore(ctx, page[len(page)-1].ID, 1000)
	}
	return all, err
}

// soldBy sums what each merchant sold by the journal's approvals, less what
// was given back.
func soldBy(entries []*journal.Entry) map[string]money.Amount {
	sold := map[string]money.Amount{}
	for _, e := range entries {
		if e.State() == journal.StateApproved {
			switch e.Kind {
			case journal.Sale, journal.Completion, journal.OfflineSale, journal.Adjustment:
				sold[e.Merchant] += e.Sum()
			case journal.Void, journal.CompletionVoid, journal.Refund:
				sold[e.Merchant] -= e.Sum()
			}
		}
	}
	maps.DeleteFunc(sold, func(_ string, a money.Amount) bool { return a == 0 })
	return sold
}

// booksAgree posts what is not posted yet and holds the ledger and the open
// business dates against the journal.
func booksAgree(t *testing.T, v *house, entries []*journal.Entry) {
	t.Helper()
	ctx := t.Context()
	if _, err := v.books.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	report, err := v.ledger.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("ledger: %s", p)
	}
	rows, err := v.db.CheckRows(ctx, summedTables, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rows.Without > 0 || rows.Rows < len(entries) {
		t.Errorf("%d rows have a checksum and %d none; the journal has %d transactions", rows.Rows, rows.Without, len(entries))
	}
	for _, p := range rows.Problems {
		t.Errorf("damaged: %s", p)
	}
	problems, err := v.books.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("settlement: %s", p)
	}
	// Late sales stand on the date that was open when they came; behind the
	// cut-off of cards, wallets sell on the date before.
	first, last := entries[0].Day, entries[0].Day
	for _, e := range entries {
		first, last = min(first, e.Day), max(last, e.Day)
	}
	open, err := v.books.OpenDate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	posted := map[string]money.Amount{}
	for date := first; date <= max(last, open); date = date.AddDays(1) {
		days, _, err := v.books.Merchants(ctx, date)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range days {
			posted[d.Merchant] += d.Gross - d.Taken
		}
	}
	sold := soldBy(entries)
	maps.DeleteFunc(posted, func(_ string, a money.Amount) bool { return a == 0 })
	if !maps.Equal(sold, posted) {
		t.Errorf("merchants sold %v, the ledger has %v", sold, posted)
	}
	found, err := v.journal.Check(ctx, time.UnixMilli(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range found {
		t.Errorf("journal: %s", x)
	}
}
