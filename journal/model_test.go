package journal

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// quota is the simplest limit: one sum for everybody.
type quota struct{ used, most money.Amount }

func (q *quota) Begin(store.Tx, []calendar.Date) error { return nil }

func (q *quota) Move(_ store.Tx, back, again, spend []*Transaction, refuse func(int, Reason, string)) error {
	for _, t := range back {
		q.used -= t.Amount
	}
	for _, t := range again {
		q.used += t.Amount
	}
	for i, t := range spend {
		if q.used+t.Amount > q.most {
			refuse(i, LimitAmount, "quota")
			continue
		}
		q.used += t.Amount
	}
	return nil
}

// known is what the model remembers of a transaction: its rows, no more.
type known struct {
	id     int64
	print  byte
	amount money.Amount
	token  byte
	spends bool // asks for quota
	holds  bool // has it
	state  State
	reason Reason
}

// model is the journal in forty lines: transactions by key, in memory.
type model struct {
	byKey map[Key]*known
	byID  map[int64]*known
	used  money.Amount
	most  money.Amount
}

func (m *model) add(k Key, n *known) { m.byKey[k], m.byID[n.id] = n, n }

func (m *model) open(o *op) (Verdict, *known) {
	days := []calendar.Date{o.txn.Day}
	if o.also != 0 {
		days = []calendar.Date{o.also, o.txn.Day}
	}
	for _, d := range days {
		k := o.txn.Key
		k.Day = d
		n := m.byKey[k]
		switch {
		case n == nil:
			continue
		case n.reason == Tombstoned:
			return Buried, n
		case n.print != o.txn.Fingerprint[0]:
			return Conflict, n
		case n.state == Open:
			return InFlight, n
		default:
			return Repeat, n
		}
	}
	n := &known{id: o.txn.ID, print: o.txn.Fingerprint[0], amount: o.txn.Amount, token: o.txn.PANToken[0], spends: o.txn.SpentOn != 0, state: Open}
	m.add(o.txn.Key, n)
	if o.shut {
		n.state, n.reason, n.spends = StateDeclined, o.out.Reason, false
		return Refused, n
	}
	return Fresh, n
}

// spend is the limits' turn, at the end of a batch.
func (m *model) spend(n *known) bool {
	if !n.spends || m.used+n.amount <= m.most {
		if n.spends {
			m.used += n.amount
			n.holds = true
		}
		return true
	}
	n.state, n.reason, n.spends = StateDeclined, LimitAmount, false
	return false
}

func (m *model) giveBack(n *known) {
	if n.holds {
		m.used -= n.amount
	}
	n.spends, n.holds = false, false
}

func (m *model) close(n *known, r Reason) bool {
	next, err := n.state.Next(r.event())
	if n.state != Open || err != nil {
		return false
	}
	n.state, n.reason = next, r
	if r != Approved {
		m.giveBack(n)
	}
	return true
}

func (m *model) reverse(o *op) (Effect, *known) {
	n := m.byKey[o.txn.Key]
	if n == nil && o.also != 0 {
		k := o.txn.Key
		k.Day = o.also
		n = m.byKey[k]
	}
	switch {
	case n == nil:
		n = &known{id: o.txn.ID, state: StateDeclined, reason: Tombstoned}
		m.add(o.txn.Key, n)
		return NotFound, n
	case n.reason == Tombstoned:
		return NotFound, n
	case n.amount != o.txn.Amount || o.txn.PANToken[0] != 0 && n.token != o.txn.PANToken[0]:
		return Mismatch, n
	case n.state == Open:
		n.state, n.reason = Owed, TerminalReversed
		m.giveBack(n)
		return WasInFlight, n
	case n.state == StateApproved:
		n.state = Owed
		m.giveBack(n)
		return Reversing, n
	case n.state == StateDeclined:
		return NothingToDo, n
	default:
		return AlreadyReversed, n
	}
}

func drawTxn(t *rapid.T) Transaction {
	return Transaction{
		ID: store.NewID(),
		Key: Key{Day: calendar.Date(20260213 + rapid.IntRange(0, 1).Draw(t, "day")), Terminal: "00000001", Batch: 1,
			STAN: int32(rapid.IntRange(1, 6).Draw(t, "stan")), Kind: Kind(rapid.IntRange(1, 2).Draw(t, "kind"))},
		Merchant: "898310000000001", Issuer: "icbc", Amount: money.Amount(rapid.IntRange(1, 3).Draw(t, "amount") * 100), Channel: Credit,
		PANToken: [16]byte{byte(rapid.IntRange(1, 2).Draw(t, "card"))}, Fingerprint: [16]byte{byte(rapid.IntRange(1, 2).Draw(t, "fingerprint"))},
		Opened: time.Now(), Deadline: time.Now().Add(time.Minute), SpentOn: 20260213,
	}
}

// Random batches of opens, closes and reversals over a few keys, and what is
// done to the debts they leave, end as in the model, on both engines.
func TestJournalAgreesWithTheModel(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		rapid.Check(t, func(t *rapid.T) {
			if err := db.Write(t.Context(), func(tx store.Tx) error {
				for _, table := range []string{"txn", "outcome", "owed"} {
					if _, err := tx.Exec("delete from " + table); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			q := &quota{most: 1000}
			j := &Journal{db: db, limits: q}
			m := &model{byKey: map[Key]*known{}, byID: map[int64]*known{}, most: q.most}
			for range rapid.IntRange(1, 8).Draw(t, "batches") {
				batch := drawBatch(t, m)
				if err := db.Write(t.Context(), func(tx store.Tx) error { return j.apply(tx, batch) }); err != nil {
					t.Fatal(err)
				}
				compare(t, m, batch)
				workDebts(t, j, m)
			}
			for id, n := range m.byID {
				e, err := j.Get(t.Context(), id)
				if err != nil || e.State() != n.state || e.Outcome != nil && e.Outcome.Reason != n.reason {
					t.Fatalf("%d: %+v %v, want %v for %v", id, e, err, n.state, n.reason)
				}
			}
			if q.used != m.used {
				t.Fatalf("%v used, want %v", q.used, m.used)
			}
			if v, err := j.Check(t.Context(), time.Time{}); err != nil || len(v) > 0 {
				t.Fatalf("invariants: %v %v", v, err)
			}
		})
	})
}

func drawBatch(t *rapid.T, m *model) []*op {
	var ids []int64
	var keys []Key
	for k := range m.byKey {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int { // rapid repeats what it drew
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.STAN, b.STAN), cmp.Compare(a.Kind, b.Kind))
	})
	for _, k := range keys {
		ids = append(ids, m.byKey[k].id)
	}
	var batch []*op
	for range rapid.IntRange(1, 6).Draw(t, "ops") {
		o := &op{what: uint8(rapid.IntRange(0, 2).Draw(t, "op")), txn: drawTxn(t)}
		if rapid.IntRange(0, 3).Draw(t, "also") == 0 {
			o.also = 20260213
		}
		switch o.what {
		case opOpen:
			if rapid.IntRange(0, 4).Draw(t, "refused") == 0 {
				o.shut, o.out = true, Outcome{Reason: CardExpired}
			}
		case opClose:
			if len(ids) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(ids)-1).Draw(t, "which")
			n := m.byID[ids[i]]
			o.txn.ID, o.txn.Key, o.txn.Amount = n.id, keys[i], n.amount
			o.shut, o.out = true, Outcome{Reason: rapid.SampledFrom([]Reason{Approved, Declined, Unanswered, Unreachable, Interrupted}).Draw(t, "reason"), Closed: time.Now()}
		case opReverse:
			o.owe = Debt{Why: "98", Due: time.Now()}
			if rapid.Bool().Draw(t, "nocard") {
				o.txn.PANToken = [16]byte{}
			}
		}
		batch = append(batch, o)
	}
	return batch
}

// compare lets the model do what the batch did, in the same order, and holds
// the answers together.
func compare(t *rapid.T, m *model, batch []*op) {
	var fresh []*op
	want := map[*op]Verdict{}
	for _, o := range batch {
		if o.what != opOpen {
			continue
		}
		v, n := m.open(o)
		want[o] = v
		if v == Fresh {
			fresh = append(fresh, o)
		} else if o.opened.First == nil || o.opened.First.ID != n.id {
			t.Fatalf("open: %v speaks of %v, want %d", o.opened.Verdict, o.opened.First, n.id)
		}
	}
	for _, o := range batch {
		if o.what == opClose {
			if won := m.close(m.byID[o.txn.ID], o.out.Reason); won != o.closed.Won {
				t.Fatalf("close with %v: won %v, want %v", o.out.Reason, o.closed.Won, won)
			}
			if n := m.byID[o.txn.ID]; o.closed.Winner.Reason != n.reason {
				t.Fatalf("close: %v stands, want %v", o.closed.Winner.Reason, n.reason)
			}
		}
	}
	for _, o := range batch {
		if o.what == opReverse {
			effect, n := m.reverse(o)
			if effect != o.reverse.Effect || o.reverse.Original.ID != n.id {
				t.Fatalf("reverse: %v of %d, want %v of %d", o.reverse.Effect, o.reverse.Original.ID, effect, n.id)
			}
		}
	}
	for _, o := range fresh {
		if !m.spend(m.byID[o.txn.ID]) {
			want[o] = Refused
		}
	}
	for o, v := range want {
		if o.opened.Verdict != v {
			t.Fatalf("open: %v, want %v", o.opened.Verdict, v)
		}
	}
}

// workDebts sends what is owed and lets chance answer.
func workDebts(t *rapid.T, j *Journal, m *model) {
	claimed, err := j.ClaimFor(t.Context(), "icbc", 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range claimed {
		n := m.byID[e.ID]
		if n.state != Owed {
			t.Fatalf("claimed %d, which is %v", e.ID, n.state)
		}
		switch rapid.IntRange(0, 2).Draw(t, "answer") {
		case 0:
			err = j.Acknowledge(t.Context(), e.Debt.ID, "00")
			n.state = Reversed
		case 1:
			err = j.GiveUpOn(t.Context(), e.Debt.ID, "12")
			n.state = Manual
		case 2:
			err = j.RetryAt(t.Context(), e.Debt.ID, time.Now(), "")
		}
		if err != nil {
			t.Fatal(fmt.Errorf("debt %d: %w", e.Debt.ID, err))
		}
	}
}
