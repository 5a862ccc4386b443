package journal_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var schemas = []store.Schema{journal.Schema, limits.Schema}

// wired introduces limits to the journal, as cmd does.
type wired struct{ *limits.Limits }

func (w wired) Move(tx store.Tx, back, again, spend []*journal.Transaction, refuse func(int, journal.Reason, string)) error {
	answers, err := w.Limits.Move(tx, spends(back), spends(again), spends(spend))
	if err != nil {
		return err
	}
	for i, d := range answers {
		switch {
		case d.OK:
		case d.Kind == limits.Count:
			refuse(i, journal.LimitCount, d.String())
		default:
			refuse(i, journal.LimitAmount, d.String())
		}
	}
	return nil
}

func spends(ts []*journal.Transaction) []*limits.Spend {
	out := make([]*limits.Spend, len(ts))
	for i, t := range ts {
		out[i] = spend(t)
	}
	return out
}

func spend(t *journal.Transaction) *limits.Spend {
	return &limits.Spend{Day: t.SpentOn, Channel: limits.Channel(t.Channel), Amount: t.Amount, Card: t.PANToken,
		Terminal: t.Terminal, Merchant: t.Merchant}
}

// newJournal makes a journal with limits; db's rules may be nil.
func newJournal(t testing.TB, db *store.DB, rules []limits.Rule) *journal.Journal {
	t.Helper()
	var j *journal.Journal
	l, err := limits.New(db, rules, func(tx store.Tx, day calendar.Date, each func(*limits.Spend)) error {
		return j.SpentOn(tx, day, func(t *journal.Transaction) { each(spend(t)) })
	})
	if err != nil {
		t.Fatal(err)
	}
	j = journal.New(db, wired{l})
	return j
}

var stan atomic.Int32

const businessDay = calendar.Date(20260213)

// sale is a new transaction with a trace number of its own.
func sale(amount money.Amount) *journal.Transaction {
	n := stan.Add(1)
	now := time.Now()
	t := &journal.Transaction{
		Key:      journal.Key{Day: businessDay, Terminal: fmt.Sprintf("%08d", n%64), Batch: 1, STAN: n, Kind: journal.Sale},
		Merchant: "898310000000001", MTI: 0x0200, ProcessingCode: 0, EntryMode: 51, Amount: amount, Currency: 156,
		PANToken: [16]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}, PANMasked: "622848******0002", PANSealed: make([]byte, 220), // with what a chip says
		Place: "+31.23037/+121.47370", Device: "A2025010020402008N91W0012",
		Channel: journal.Credit, Issuer: "icbc", RRN: fmt.Sprintf("%012d", n), Trace: n % 1000000, Transmitted: now,
		Opened: now, Deadline: now.Add(45 * time.Second), Node: int32(store.Node()), SpentOn: calendar.DateOf(now),
	}
	h := sha256.Sum256(fmt.Append(nil, n, amount))
	copy(t.Fingerprint[:], h[:])
	return t
}

func approved(t *journal.Transaction) journal.Outcome {
	return journal.Outcome{Reason: journal.Approved, Approval: "123456", IssuerCode: "00", Additional: "01020000   03080000   ",
		Chip: []byte{0x91, 0x02, 0x30, 0x30}, Settles: 213, Closed: t.Opened.Add(50 * time.Millisecond)}
}

func TestOpenCloseReadBack(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		j := newJournal(t, db, limits.Defaults())
		ctx := t.Context()
		s := sale(money.Yuan(100))
		got, err := j.Open(ctx, s)
		if err != nil || got.Verdict != journal.Fresh {
			t.Fatalf("open: %v %v", got.Verdict, err)
		}
		again := *s
		again.ID = 0
		if got, err = j.Open(ctx, &again); err != nil || got.Verdict != journal.InFlight || got.First.ID != s.ID {
			t.Fatalf("repeat while open: %v %v", got, err)
		}
		c, err := j.Close(ctx, s, approved(s))
		if err != nil || !c.Won {
			t.Fatalf("close: %+v %v", c, err)
		}
		c, err = j.Close(ctx, s, journal.Outcome{Reason: journal.Unanswered, Closed: time.Now()})
		if err != nil || c.Won || c.Winner.Reason != journal.Approved {
			t.Fatalf("second close: %+v %v", c, err)
		}
		e, err := j.Get(ctx, s.ID)
		if err != nil || e.State() != journal.StateApproved {
			t.Fatalf("get: %+v %v", e, err)
		}
		r, err := j.Reverse(ctx, s, "98", time.Now())
		if err != nil || r.Effect != journal.Reversing {
			t.Fatalf("reverse: %+v %v", r, err)
		}
		due, err := j.ClaimFor(ctx, "icbc", 10, time.Minute)
		if err != nil || len(due) != 1 || due[0].ID != s.ID || due[0].Debt.Tries != 1 {
			t.Fatalf("claim: %v %v", due, err)
		}
		if err := j.Acknowledge(ctx, due[0].Debt.ID, "00"); err != nil {
			t.Fatal(err)
		}
		facts, err := j.ClearingSince(ctx, 0, 10)
		if err != nil || len(facts) != 2 || facts[0].Taken || !facts[1].Taken {
			t.Fatalf("clearing: %+v %v", facts, err)
		}
		totals, err := j.TotalsByIssuer(ctx, businessDay)
		if err != nil || len(totals) != 1 || totals[0].State != journal.Reversed || totals[0].Sum != money.Yuan(100) {
			t.Fatalf("totals: %+v %v", totals, err)
		}
		if v, err := j.Check(ctx, time.Time{}); err != nil || len(v) > 0 {
			t.Fatalf("check: %v %v", v, err)
		}
		n, err := j.OweOpenAtStart(ctx)
		if err != nil || n != 0 {
			t.Fatalf("owed at start: %d %v", n, err)
		}
	})
}
