package switching_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
)

// quiet waits until nothing is on its way any more: every request is answered
// and every reversal has ended, but for those that the issuer answers with 25
// and which stay on the list until their original's time is over (fault 28).
func (s *street) quiet() {
	s.t.Helper()
	await(s.t, "all requests are answered", func() bool { return s.sw.InFlight() == 0 })
	var waiting *journal.Entry
	defer func() {
		if s.t.Failed() && waiting != nil {
			s.t.Logf("%s is owed to %s: %d tries, due %v, %q; now %v, its lines %+v", waiting.RRN, waiting.Issuer, waiting.Debt.Tries, waiting.Debt.Due, waiting.Debt.Note, time.Now(), s.legs[waiting.Issuer].Issuer.State())
		}
	}()
	await(s.t, "all reversals have ended", func() bool {
		list, err := s.journal.DebtList(context.Background(), journal.Owed, 1_000_000)
		must(s.t, err)
		waiting = nil
		for _, e := range list {
			if !strings.HasPrefix(e.Debt.Note, "answered 25") {
				waiting = e
			}
		}
		return waiting == nil
	})
}

// claim is what one side says of a transaction that stands.
type claim struct {
	amount   int64
	approval string
}

// balanced holds three books against each other once all is quiet (I1, I3):
// every purchase that an issuer approved and did not reverse is approved in
// the journal and was told to a terminal as such, and the other way round.
func (s *street) balanced() {
	s.t.Helper()
	s.quiet()
	issuers, journaled, heard := map[string]claim{}, map[string]claim{}, map[string]claim{}
	for name, host := range s.issuers {
		for _, e := range host.Books() {
			if e.State != issuer.Approved {
				continue
			}
			if was, twice := issuers[e.RRN]; twice && e.Kind == issuer.Refund && was.amount == e.Amount.Fen() {
				delete(issuers, e.RRN) // a sale of stand-in that it was told of and that was taken back
				continue
			} else if twice {
				s.t.Errorf("issuer %s approved %s twice", name, e.RRN)
			}
			issuers[e.RRN] = claim{e.Amount.Fen(), e.Approval}
		}
	}
	entries, err := s.journal.Last(context.Background(), 1_000_000)
	must(s.t, err)
	for _, e := range entries {
		switch e.State() {
		case journal.StateApproved:
			journaled[e.RRN] = claim{e.Amount.Fen(), e.Outcome.Approval}
		case journal.Open:
			s.t.Errorf("the journal has %s of terminal %s still open", e.RRN, e.Terminal)
		}
	}
	for _, r := range s.book.Records() {
		switch r.Status {
		case terminal.Approved:
			heard[r.RRN] = claim{r.Amount.Fen(), r.AuthCode}
		case terminal.Unknown, terminal.Abandoned:
			s.t.Errorf("terminal %s does not know what became of %06d", r.TID, r.STAN)
		}
	}
	s.told.mu.Lock()
	maps.Copy(heard, s.told.by)
	s.told.mu.Unlock()
	compare(s.t, "the issuers' books", issuers, "the journal", journaled)
	compare(s.t, "the journal", journaled, "the issuers' books", issuers)
	compare(s.t, "the journal", journaled, "the terminals", heard)
	compare(s.t, "the terminals", heard, "the journal", journaled)
	s.lawful()
}

func compare(t testing.TB, this string, a map[string]claim, other string, b map[string]claim) {
	t.Helper()
	for rrn, x := range a {
		if y, ok := b[rrn]; !ok {
			t.Errorf("%s: %s stands with %v, and not for %s", rrn, this, x, other)
		} else if x != y {
			t.Errorf("%s: %s: %v, %s: %v", rrn, this, x, other, y)
		}
	}
}

// lawful asks the journal for violations of its invariants.
func (s *street) lawful() {
	s.t.Helper()
	found, err := s.journal.Check(context.Background(), time.Now().Add(-24*time.Hour))
	must(s.t, err)
	for _, v := range found {
		s.t.Error(v)
	}
}

func (e claim) String() string { return fmt.Sprintf("%d fen, approval %s", e.amount, e.approval) }
