package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
)

// always holds at any moment, also between a crash and the next start: what a
// terminal was told is durable (I1), and what an issuer has heard of was
// intended (I2).
func (e evidence) always() (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	entries := map[terminal.Key]*journal.Entry{}
	byRRN := map[string]*journal.Entry{}
	for _, j := range e.journal {
		entries[terminal.Key{TID: j.Terminal, Batch: int(j.Batch), STAN: int(j.STAN)}], byRRN[j.RRN] = j, j
	}
	for _, r := range e.told {
		if r.Status != terminal.Approved {
			continue
		}
		j := entries[r.Key]
		switch {
		case j == nil:
			bad("I1: %v was told approved and is not in the journal", r.Key)
		case j.Outcome == nil || j.Outcome.Reason != journal.Approved:
			bad("I1: %v was told approved and is %s in the journal", r.Key, j.State())
		}
	}
	for name, books := range e.issuers {
		for _, b := range books {
			j := byRRN[b.RRN]
			switch {
			case j == nil:
				bad("I2: %s has heard of %s, which is not in the journal", name, b.RRN)
			case b.Kind != issuer.Reversal && b.Amount != j.Amount && b.Amount != j.Sum():
				bad("I2: %s was asked for %s of %s, the journal has %s", name, b.Amount, b.RRN, j.Amount)
			}
		}
	}
	return found
}

// atRest holds when everything has come to rest, besides violations.
func (e evidence) atRest(terminals *merchant.Registry) (found []string) {
	bad := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	rrns := map[string]bool{}
	entries := map[terminal.Key]*journal.Entry{}
	for _, j := range e.journal {
		k := terminal.Key{TID: j.Terminal, Batch: int(j.Batch), STAN: int(j.STAN)}
		entries[k] = j
		if rrns[j.RRN] {
			bad("I4: two transactions have the RRN %s", j.RRN)
		}
		rrns[j.RRN] = true
		if j.Outcome == nil {
			continue // violations says so
		}
		owes := j.Outcome.Reason == journal.Unanswered || j.Outcome.Reason == journal.Interrupted || j.Outcome.Reason == journal.TerminalReversed || j.Outcome.Reason == journal.AnswerWrong
		switch {
		case owes && j.Debt == nil && j.Kind != journal.Inquiry:
			bad("I5: %v ended as %s and no reversal was ever owed", k, j.Outcome.Reason)
		case j.Debt != nil && j.Debt.State == journal.Reversed && j.Debt.Ended.IsZero():
			bad("I5: the reversal of %v is over at no time", k)
		}
		if j.Debt != nil && j.Debt.Why == "A0" {
			bad("I12: the terminal of %v did not believe the MAC of its answer", k)
		}
		// The cut-off is 23:00; Beijing has no summer time.
		if day := calendar.BusinessDate(j.Opened, 23*time.Hour); j.Day != day {
			bad("I10: %v was opened on business date %s and stands on %s", k, day, j.Day)
		}
	}
	legs := map[string]int{}
	for name, books := range e.issuers {
		for _, b := range books {
			if b.Kind == issuer.Reversal {
				continue
			}
			if legs[b.RRN]++; legs[b.RRN] > 1 || b.Repeats > 0 {
				bad("I4: %s was sent to %s %d times, and repeated %d times", b.RRN, name, legs[b.RRN], b.Repeats)
			}
			if b.Code == "A0" {
				bad("I12: %s refused the MAC of %s", name, b.RRN)
			}
		}
	}
	for _, r := range e.told {
		if r.Code == "A0" && entries[r.Key] != nil {
			bad("I12: the MAC of %v was refused and it is in the journal", r.Key)
		}
	}
	return append(found, e.overLimits(terminals)...)
}

// overLimits adds up what stands against every day limit (I7).
func (e evidence) overLimits(terminals *merchant.Registry) (found []string) {
	type quota struct {
		rule    limits.Rule
		day     calendar.Date
		subject string
	}
	type used struct {
		amount money.Amount
		count  int64
	}
	sum := map[quota]used{}
	for _, j := range e.journal {
		if j.State() != journal.StateApproved || j.SpentOn == 0 {
			continue
		}
		m, _ := terminals.Merchant([]byte(j.Merchant))
		for _, r := range limits.Defaults() {
			if r.Channel != limits.Any && r.Channel != limits.Channel(j.Channel) || r.Unassessed && m.Tier == merchant.Assessed {
				continue
			}
			q := quota{rule: r, day: j.SpentOn, subject: map[limits.Scope]string{limits.Card: fmt.Sprintf("%x", j.PANToken), limits.Terminal: j.Terminal, limits.Merchant: j.Merchant}[r.Scope]}
			if r.Subject != "" && r.Subject != q.subject {
				continue
			}
			u := sum[q]
			sum[q] = used{u.amount + j.Amount, u.count + 1}
			if r.Single > 0 && j.Amount > r.Single {
				found = append(found, fmt.Sprintf("I7: %s of %s is above %s", j.RRN, j.Amount, r.Single))
			}
		}
	}
	for q, u := range sum {
		if q.rule.DayAmount > 0 && u.amount > q.rule.DayAmount || q.rule.DayCount > 0 && u.count > q.rule.DayCount {
			found = append(found, fmt.Sprintf("I7: %s %s sold %s in %d on %s, above %+v", q.rule.Scope, q.subject, u.amount, u.count, q.day, q.rule))
		}
	}
	return found
}

// lies are those that always and atRest must see, told of an approval that all
// agree on; as plants are for violations.
var lies = []struct {
	name string
	lie  func(e *evidence, told, entry, book int, name string)
	says string
}{
	{"the journal lost what an issuer heard", func(e *evidence, _, j, _ int, _ string) { e.journal = append(e.journal[:j:j], e.journal[j+1:]...) }, "I2"},
	{"the issuer was asked for another amount", func(e *evidence, _, _, b int, n string) { e.issuers[n][b].Amount++ }, "I2"},
	{"the journal lost an outcome", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Outcome = nil }, "I1"},
	{"two have one RRN", func(e *evidence, _, j, _ int, _ string) {
		other := *e.journal[j]
		other.STAN++
		e.journal = append(e.journal, &other)
	}, "I4"},
	{"the issuer was sent it twice", func(e *evidence, _, _, b int, n string) { e.issuers[n][b].Repeats = 1 }, "I4"},
	{"a reversal disappeared", func(e *evidence, _, j, _ int, _ string) {
		e.journal[j].Outcome.Reason, e.journal[j].Debt = journal.Interrupted, nil
	}, "I5"},
	{"the limits were passed", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Amount = money.Yuan(400_000) }, "I7"},
	{"it moved to another day", func(e *evidence, _, j, _ int, _ string) { e.journal[j].Day = e.journal[j].Day.AddDays(1) }, "I10"},
	{"its MAC was wrong", func(e *evidence, r, _, _ int, _ string) { e.told[r].Code = "A0" }, "I12"},
	{"the issuer did not believe its MAC", func(e *evidence, _, _, b int, n string) { e.issuers[n][b].Code = "A0" }, "I12"},
}

// provesTheRest plants each lie into a copy of the evidence.
func (e evidence) provesTheRest(t *testing.T, terminals *merchant.Registry) {
	t.Helper()
	for _, p := range lies {
		c := e.copied()
		told, entry, book, name := c.anApproval(t)
		p.lie(&c, told, entry, book, name)
		if found := strings.Join(append(c.always(), c.atRest(terminals)...), "\n"); !strings.Contains(found, p.says) {
			t.Errorf("planted that %s: found %q, want %q in it", p.name, found, p.says)
		}
	}
}

// nothingSensitive looks for account numbers, tracks and PIN blocks in all
// that the database keeps on disk (I16).
func (e evidence) nothingSensitive(t *testing.T, database string) {
	t.Helper()
	var kept [][]byte
	if path, ok := strings.CutPrefix(database, "sqlite:"); ok {
		for _, name := range []string{path, path + "-wal"} {
			text, err := os.ReadFile(name)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			kept = append(kept, text)
		}
	} else {
		dump, err := exec.Command("pg_dump", "--data-only", database).Output()
		if err != nil {
			t.Errorf("SKIPPED: no pg_dump, so the database is not looked through for account numbers: %v", err)
			return
		}
		kept = append(kept, dump)
	}
	secret := secrets(t, e.told)
	if len(secret) == 0 {
		t.Fatal("no secrets to look for")
	}
	for name, forms := range secret {
		for _, form := range forms {
			for _, text := range kept {
				if bytes.Contains(text, form) {
					t.Errorf("I16: %s stands in the database as %q", name, form)
				}
			}
		}
	}
	t.Logf("%d secrets looked for in %d bytes", len(secret), len(bytes.Join(kept, nil)))
}

// secrets are what must not be kept of the cards that were used: digits in
// ASCII, in BCD from both nibbles and in the hexadecimal of that ASCII.
func secrets(t *testing.T, told []terminal.Record) map[string][][]byte {
	t.Helper()
	out := map[string][][]byte{}
	note := func(name, digits string) {
		forms := [][]byte{[]byte(digits), []byte(hex.EncodeToString([]byte(digits)))}
		for odd := range 2 {
			d := digits[odd:]
			// A few bytes, and what is mostly zeros, are found in every database.
			if b, err := hex.DecodeString(d[:len(d)/2*2]); err == nil && len(b) >= 6 && bytes.Count(b, []byte{0}) < len(b)/2 {
				forms = append(forms, b)
			}
		}
		out[name] = forms
	}
	for _, r := range told {
		if r.PAN.IsZero() || out["account number "+r.PAN.Masked()] != nil {
			continue
		}
		c, err := simcard.New(r.PAN)
		if err != nil {
			t.Fatal(err)
		}
		note("account number "+r.PAN.Masked(), c.Number)
		_, rest, _ := strings.Cut(c.Track2, "=")
		note("discretionary data of "+r.PAN.Masked(), rest[7:])
	}
	return out
}

// An account number is found in each of its forms.
func TestNothingSensitiveFinds(t *testing.T) {
	c, err := simcard.New(simcard.Issuers[0].PAN(12345678))
	if err != nil {
		t.Fatal(err)
	}
	forms := secrets(t, []terminal.Record{{PAN: c.PAN}})
	if len(forms) != 2 {
		t.Fatalf("%d secrets of one card", len(forms))
	}
	bcd, err := hex.DecodeString("0" + c.Number + "0"[:(len(c.Number)+1)%2])
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"x" + c.Number + "y", string(bcd), hex.EncodeToString([]byte(c.Number))} {
		found := false
		for _, form := range forms["account number "+c.PAN.Masked()] {
			found = found || bytes.Contains([]byte(text), form)
		}
		if !found {
			t.Errorf("%q is not found", text)
		}
	}
}
