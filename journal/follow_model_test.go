package journal_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/store/storetest"
)

// Whatever follows a sale or a pre-authorisation in whatever order, answered or
// not, reversed or not: money never goes back twice, and once it was voided
// nothing of it is left.
func TestWhatFollowsNeverGivesTooMuch(t *testing.T) {
	db := storetest.SQLite(t, schemas...)
	j := newJournal(t, db, limits.Defaults())
	rapid.Check(t, func(r *rapid.T) {
		const whole = 1000
		s := sale(whole)
		s.Kind = rapid.SampledFrom([]journal.Kind{journal.Sale, journal.PreAuth, journal.Completion}).Draw(r, "original")
		s.MTI = 0x0200
		must := func(err error) {
			if err != nil {
				r.Fatal(err)
			}
		}
		_, err := j.Open(t.Context(), s)
		must(err)
		_, err = j.Close(t.Context(), s, approved(s))
		must(err)
		var open, done []*journal.Transaction
		taken := map[int64]bool{}
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			switch rapid.IntRange(0, 3).Draw(r, "what") {
			case 0, 1:
				kind := rapid.SampledFrom([]journal.Kind{journal.Void, journal.Refund, journal.PreAuthVoid, journal.Completion, journal.CompletionVoid, journal.Adjustment}).Draw(r, "kind")
				f := follower(s, kind, money.Amount(rapid.SampledFrom([]int{whole, whole / 2, 300, 1}).Draw(r, "amount")))
				if kind == journal.Adjustment && rapid.Bool().Draw(r, "less") {
					f.Amount = -f.Amount / 2
				}
				opened, err := j.Open(t.Context(), f)
				must(err)
				if opened.Verdict == journal.Fresh {
					open = append(open, f)
				}
			case 2:
				if len(open) == 0 {
					continue
				}
				f := open[0]
				open = open[1:]
				reason := rapid.SampledFrom([]journal.Reason{journal.Approved, journal.Approved, journal.Declined, journal.Unanswered, journal.Unreachable, journal.Interrupted}).Draw(r, "reason")
				closed, err := j.Close(t.Context(), f, journal.Outcome{Reason: reason, Closed: time.Now()})
				must(err)
				if closed.Winner.Reason == journal.Approved {
					done = append(done, f)
				}
			case 3:
				if len(done) == 0 {
					continue
				}
				f := rapid.SampledFrom(done).Draw(r, "back")
				back, err := j.ReverseByID(t.Context(), f.ID, journal.WhyUndelivered, time.Now())
				must(err)
				if f.Advice() && back.Effect != journal.Followed {
					r.Fatalf("an advice was taken back: %v", back.Effect)
				}
				taken[f.ID] = taken[f.ID] || back.Effect == journal.Reversing
			}
			left, voids := money.Amount(whole), 0
			completions := 0
			for _, f := range done {
				switch {
				case taken[f.ID]:
				case f.Kind.Undoes():
					left, voids = left-f.Amount, voids+1
				case f.Kind == journal.Refund:
					left -= f.Amount
				case f.Kind == journal.Adjustment:
					left += f.Amount
				case f.Kind == journal.Completion:
					completions++
				}
			}
			if left < 0 || voids > 1 || voids == 1 && (left != 0 || completions > 0) || completions > 1 {
				r.Fatalf("%v are left of %d, with %d voids and %d completions", left, whole, voids, completions)
			}
		}
		for _, f := range open { // the next finds nothing half done
			_, err := j.Close(t.Context(), f, journal.Outcome{Reason: journal.Declined, IssuerCode: "05", Closed: time.Now()})
			must(err)
		}
		if v, err := j.Check(t.Context(), time.Time{}); err != nil || len(v) > 0 {
			r.Fatalf("invariants: %v %v", v, err)
		}
	})
}
