package journal_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/store"
)

// follower is a new transaction of kind k that follows t.
func follower(t *journal.Transaction, k journal.Kind, amount money.Amount) *journal.Transaction {
	f := sale(amount)
	f.Kind, f.Original, f.Terminal, f.Merchant, f.PANToken, f.Channel, f.SpentOn = k, t.ID, t.Terminal, t.Merchant, t.PANToken, t.Channel, 0
	if k == journal.Refund || k == journal.Adjustment {
		f.MTI = 0x0220
	}
	return f
}

// sold is an approved transaction of kind k.
func sold(t *testing.T, j *journal.Journal, k journal.Kind, amount money.Amount) *journal.Transaction {
	t.Helper()
	s := sale(amount)
	s.Kind = k
	mustOpen(t, j, s, journal.Fresh)
	mustClose(t, j, s, approved(s), true)
	return s
}

func approve(t *testing.T, j *journal.Journal, f *journal.Transaction) {
	t.Helper()
	mustOpen(t, j, f, journal.Fresh)
	mustClose(t, j, f, approved(f), true)
}

func refusedFor(t *testing.T, j *journal.Journal, f *journal.Transaction, want journal.Reason, options ...journal.OpenOption) {
	t.Helper()
	e := mustOpen(t, j, f, journal.Refused, options...)
	if e.Outcome.Reason != want {
		t.Fatalf("%v of %v: refused for %v (%s), want %v", f.Kind, f.Amount, e.Outcome.Reason, e.Outcome.Note, want)
	}
}

// What may follow what: each row does something to an original and then asks.
func TestWhatMayFollow(t *testing.T) {
	const whole = 10000
	type j = *journal.Journal
	done := func(k journal.Kind, amount money.Amount) func(*testing.T, j, *journal.Transaction) {
		return func(t *testing.T, j j, s *journal.Transaction) { approve(t, j, follower(s, k, amount)) }
	}
	open := func(k journal.Kind, amount money.Amount) func(*testing.T, j, *journal.Transaction) {
		return func(t *testing.T, j j, s *journal.Transaction) {
			mustOpen(t, j, follower(s, k, amount), journal.Fresh)
		}
	}
	var on *store.DB
	charged := func(said ...money.Amount) func(*testing.T, j, *journal.Transaction) { // what is said last counts
		return func(t *testing.T, _ j, s *journal.Transaction) {
			for _, amount := range said {
				if err := on.Write(t.Context(), func(tx store.Tx) error { return journal.Charged(tx, s.ID, amount) }); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	rows := []struct {
		name   string
		of     journal.Kind
		before func(*testing.T, j, *journal.Transaction)
		ask    journal.Kind
		amount money.Amount
		want   journal.Reason // Undecided: it may
	}{
		{"void of a sale", journal.Sale, nil, journal.Void, whole, journal.Undecided},
		{"void of another amount", journal.Sale, nil, journal.Void, whole - 1, journal.AmountDiffers},
		{"second void", journal.Sale, done(journal.Void, whole), journal.Void, whole, journal.OriginalUndone},
		{"void beside a void", journal.Sale, open(journal.Void, whole), journal.Void, whole, journal.OriginalBusy},
		{"void after a refund", journal.Sale, done(journal.Refund, 1), journal.Void, whole, journal.OriginalUndone},
		{"refund of all", journal.Sale, nil, journal.Refund, whole, journal.Undecided},
		{"refund of too much", journal.Sale, nil, journal.Refund, whole + 1, journal.AmountOver},
		{"refund of the rest", journal.Sale, done(journal.Refund, 4000), journal.Refund, 6000, journal.Undecided},
		{"refund of more than the rest", journal.Sale, done(journal.Refund, 4000), journal.Refund, 6001, journal.AmountOver},
		{"refund beside a refund", journal.Sale, open(journal.Refund, 4000), journal.Refund, 6001, journal.AmountOver},
		{"refund of what was charged back", journal.Sale, charged(whole), journal.Refund, 1, journal.OriginalUndone},
		{"refund of the rest of a part charged back", journal.Sale, charged(4000), journal.Refund, 6000, journal.Undecided},
		{"refund of more than that rest", journal.Sale, charged(4000), journal.Refund, 6001, journal.AmountOver},
		{"refund when the chargeback was won", journal.Sale, charged(whole, 0), journal.Refund, whole, journal.Undecided},
		{"refund beside a refund and a chargeback", journal.Sale, func(t *testing.T, j j, s *journal.Transaction) {
			approve(t, j, follower(s, journal.Refund, 4000))
			charged(6000)(t, j, s)
		}, journal.Refund, 1, journal.OriginalUndone},
		{"void of what was charged back in part", journal.Sale, charged(1), journal.Void, whole, journal.OriginalUndone},
		{"refund of a voided sale", journal.Sale, done(journal.Void, whole), journal.Refund, 1, journal.OriginalUndone},
		{"completion", journal.PreAuth, nil, journal.Completion, whole + 1500, journal.Undecided},
		{"second completion", journal.PreAuth, done(journal.Completion, 1), journal.Completion, 1, journal.OriginalUndone},
		{"completion after its void", journal.PreAuth, done(journal.PreAuthVoid, whole), journal.Completion, 1, journal.OriginalUndone},
		{"void of a pre-authorisation", journal.PreAuth, nil, journal.PreAuthVoid, whole, journal.Undecided},
		{"void of a completed one", journal.PreAuth, done(journal.Completion, whole), journal.PreAuthVoid, whole, journal.OriginalUndone},
		{"void of a completion", journal.Completion, nil, journal.CompletionVoid, whole, journal.Undecided},
		{"tip", journal.Sale, nil, journal.Adjustment, 500, journal.Undecided},
		{"void of the sum with its tip", journal.Sale, done(journal.Adjustment, 500), journal.Void, whole + 500, journal.Undecided},
		{"void of the sum without its tip", journal.Sale, done(journal.Adjustment, 500), journal.Void, whole, journal.AmountDiffers},
		{"refund of the sum with its tip", journal.Sale, done(journal.Adjustment, 500), journal.Refund, whole + 500, journal.Undecided},
		{"tip after a refund", journal.Sale, done(journal.Refund, 1), journal.Adjustment, 500, journal.OriginalUndone},
		{"tip after a void", journal.Sale, done(journal.Void, whole), journal.Adjustment, 500, journal.OriginalUndone},
	}
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		on = db
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				s := sold(t, j, r.of, whole)
				if r.before != nil {
					r.before(t, j, s)
				}
				f := follower(s, r.ask, r.amount)
				if r.want == journal.Undecided {
					mustOpen(t, j, f, journal.Fresh)
					return
				}
				refusedFor(t, j, f, r.want)
				again := *f // the same question gets the same answer
				again.ID = 0
				if e := mustOpen(t, j, &again, journal.Repeat); e.Outcome.Reason != r.want {
					t.Errorf("repeated: %v", e.Outcome.Reason)
				}
			})
		}
	})
}

func TestOriginalsThatCannotBeFollowed(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		open := sale(100)
		mustOpen(t, j, open, journal.Fresh)
		refusedFor(t, j, follower(open, journal.Void, 100), journal.OriginalBusy)
		no := sale(100)
		mustOpen(t, j, no, journal.Fresh)
		mustClose(t, j, no, declined("51"), true)
		refusedFor(t, j, follower(no, journal.Void, 100), journal.OriginalNotFound)
		back := sold(t, j, journal.Sale, 100)
		mustReverse(t, j, back, journal.Reversing)
		refusedFor(t, j, follower(back, journal.Refund, 100), journal.OriginalNotFound)

		s := sold(t, j, journal.Sale, 1000)
		refusedFor(t, j, follower(s, journal.Adjustment, 50), journal.OriginalBusy, journal.Standing(999))
		mustOpen(t, j, follower(s, journal.Adjustment, 50), journal.Fresh, journal.Standing(1000))
	})
}

// A follower that failed, or was taken back, is as if it had not been.
func TestFollowersThatDoNotCount(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		s := sold(t, j, journal.Sale, 1000)
		no := follower(s, journal.Void, 1000)
		mustOpen(t, j, no, journal.Fresh)
		mustClose(t, j, no, declined("12"), true)
		lost := follower(s, journal.Void, 1000)
		mustOpen(t, j, lost, journal.Fresh)
		mustClose(t, j, lost, journal.Outcome{Reason: journal.Unanswered, Closed: time.Now()}, true)
		state(t, j, lost, journal.Owed)
		void := follower(s, journal.Void, 1000)
		approve(t, j, void)
		mustReverse(t, j, void, journal.Reversing)
		approve(t, j, follower(s, journal.Void, 1000))
	})
}

// Many refunds at once, on both engines and as two journals would: never more
// than the sale.
func TestRefundsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, db *store.DB, j *journal.Journal) {
		second := newJournal(t, db, limits.Defaults())
		for range 5 {
			s := sold(t, j, journal.Sale, 1000)
			var wg sync.WaitGroup
			var mu sync.Mutex
			passed, failed := 0, []error(nil)
			for i := range 16 {
				f, at := follower(s, journal.Refund, 300), j
				if i%2 == 1 {
					at = second
				}
				wg.Go(func() {
					got, err := at.Open(t.Context(), f)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil:
						failed = append(failed, err)
					case got.Verdict == journal.Fresh:
						passed++
					case got.First.Outcome.Reason != journal.AmountOver:
						failed = append(failed, fmt.Errorf("refused for %v", got.First.Outcome.Reason))
					}
				})
			}
			wg.Wait()
			if passed != 3 || failed != nil {
				t.Fatalf("%d of 16 refunds of 300 from 1000 passed; %v", passed, failed)
			}
		}
	})
}

// An advice is never taken back: unanswered, interrupted or undelivered, it is
// approved and its delivery is owed.
func TestAdvicesAreDelivered(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		s := sold(t, j, journal.Sale, 1000)
		r := follower(s, journal.Refund, 400)
		mustOpen(t, j, r, journal.Fresh)
		c := mustClose(t, j, r, journal.Outcome{Reason: journal.Unanswered, Closed: time.Now()}, true)
		if c.Winner.Reason != journal.Approved || c.DebtID == 0 {
			t.Fatalf("an unanswered refund closed as %+v", c)
		}
		e := state(t, j, r, journal.StateApproved)
		if e.TakenBack() || e.Debt == nil || !e.Debt.Delivery() {
			t.Fatalf("what is owed for it is %+v", e.Debt)
		}
		refusedFor(t, j, follower(s, journal.Refund, 601), journal.AmountOver)
		back, err := j.ReverseByID(t.Context(), r.ID, journal.WhyUndelivered, time.Now())
		if err != nil || back.Effect != journal.Followed {
			t.Fatalf("taking back a refund: %v %v", back.Effect, err)
		}

		o := sale(700)
		o.Kind, o.MTI, o.SpentOn = journal.OfflineSale, 0x0220, 0
		taken := mustOpen(t, j, o, journal.TakenOver, journal.TakeOver(journal.Outcome{Reason: journal.Approved, Closed: time.Now()}))
		if taken.State() != journal.StateApproved || !taken.Debt.Delivery() {
			t.Fatalf("an offline sale is %v and owes %+v", taken.State(), taken.Debt)
		}
		again := *o
		again.ID = 0
		mustOpen(t, j, &again, journal.Repeat, journal.TakeOver(journal.Outcome{Reason: journal.Approved}))

		list, err := j.ClaimFor(t.Context(), o.Issuer, 10, time.Minute)
		if err != nil || len(list) != 2 {
			t.Fatalf("to be delivered: %d %v", len(list), err)
		}
		for _, e := range list {
			if err := j.Acknowledge(t.Context(), e.Debt.ID, "taken"); err != nil {
				t.Fatal(err)
			}
			if e, err = j.Get(t.Context(), e.ID); err != nil || e.State() != journal.StateApproved {
				t.Fatalf("delivered, it is %v %v", e.State(), err)
			}
		}
		facts, err := j.ClearingSince(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, f := range facts {
			kinds = append(kinds, fmt.Sprintf("%v %v taken %v of %v %v", f.Kind, f.Amount, f.Taken, f.OriginalKind, f.OriginalSum))
		}
		want := "[sale 10.00 taken false of none 0.00 refund 4.00 taken false of sale 10.00 offline sale 7.00 taken false of none 0.00]"
		if fmt.Sprint(kinds) != want {
			t.Errorf("facts\n got %v\nwant %s", kinds, want)
		}
	})
}

// A balance inquiry moves nothing, so nothing is owed for it.
func TestInquiriesOweNothing(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		q := sale(0)
		q.Kind, q.SpentOn = journal.Inquiry, 0
		mustOpen(t, j, q, journal.Fresh)
		c := mustClose(t, j, q, journal.Outcome{Reason: journal.Unanswered, Closed: time.Now()}, true)
		if c.DebtID != 0 {
			t.Error("a reversal is owed for an inquiry")
		}
		state(t, j, q, journal.StateDeclined)
	})
}

// A reversal meets what followed its original.
func TestReversalOfWhatWasFollowed(t *testing.T) {
	each(t, func(t *testing.T, _ *store.DB, j *journal.Journal) {
		s := sold(t, j, journal.Sale, 1000)
		void := follower(s, journal.Void, 1000)
		mustOpen(t, j, void, journal.Fresh)
		mustReverse(t, j, s, journal.Followed)
		mustClose(t, j, void, approved(void), true)
		mustReverse(t, j, s, journal.AlreadyReversed)
		state(t, j, s, journal.StateApproved)
		mustReverse(t, j, void, journal.Reversing)
		mustReverse(t, j, s, journal.Reversing)

		r := sold(t, j, journal.Sale, 1000)
		approve(t, j, follower(r, journal.Refund, 1))
		mustReverse(t, j, r, journal.Followed)
	})
}

// A voided sale holds no quota, and holds it again when its void was reversed;
// what is counted as it happens is what a restart counts.
func TestVoidsAndQuota(t *testing.T) {
	rules := []limits.Rule{{Scope: limits.Merchant, DayAmount: 1000}}
	eachWith(t, rules, func(t *testing.T, db *store.DB, j *journal.Journal) {
		free := func(j *journal.Journal, want journal.Verdict, amount money.Amount) {
			t.Helper()
			s := sale(amount)
			got, err := j.Open(t.Context(), s)
			if err != nil || got.Verdict != want {
				t.Fatalf("a sale of %v: %v %v, want %v", amount, got.Verdict, err, want)
			}
			if want == journal.Fresh { // only a question
				mustClose(t, j, s, declined("51"), true)
			}
		}
		s := sold(t, j, journal.Sale, 900)
		free(j, journal.Refused, 101)
		void := follower(s, journal.Void, 900)
		approve(t, j, void)
		free(j, journal.Fresh, 1000)
		free(newJournal(t, db, rules), journal.Fresh, 1000)
		mustReverse(t, j, void, journal.Reversing)
		free(j, journal.Refused, 101)
		free(j, journal.Fresh, 100)
		free(newJournal(t, db, rules), journal.Refused, 101)
		free(newJournal(t, db, rules), journal.Fresh, 100)
	})
}

// The void of a payment by code is told to its wallet until it is done; the
// sale has lost its quota all the while, and after, also for the next process.
func TestAVoidThatIsOwedAndQuota(t *testing.T) {
	rules := []limits.Rule{{Scope: limits.Merchant, DayAmount: 1000}}
	eachWith(t, rules, func(t *testing.T, db *store.DB, j *journal.Journal) {
		s := sale(900)
		s.Channel = journal.QR
		mustOpen(t, j, s, journal.Fresh)
		mustClose(t, j, s, approved(s), true)
		void := follower(s, journal.Void, 900)
		mustOpen(t, j, void, journal.Fresh)
		c := mustClose(t, j, void, journal.Outcome{Reason: journal.Unanswered, Closed: time.Now()}, true)
		if used := usedToday(t, db, j); used != 0 {
			t.Errorf("while its void is owed, %v are used", used)
		}
		if err := j.Acknowledge(t.Context(), c.DebtID, "refunded"); err != nil {
			t.Fatal(err)
		}
		if used := usedToday(t, db, j); used != 0 {
			t.Errorf("voided, %v are used", used)
		}
		mustOpen(t, newJournal(t, db, rules), sale(1000), journal.Fresh)
	})
}
