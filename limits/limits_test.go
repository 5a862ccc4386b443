package limits

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

const today = calendar.Date(20260213)

func ask(channel Channel, yuan int64) Spend {
	return Spend{Day: today, Channel: channel, Amount: money.Yuan(yuan), Card: [16]byte{1}, Terminal: "00000001", Merchant: "898310000000001"}
}

func TestDefaultsAndTheirWords(t *testing.T) {
	unassessed := ask(Credit, 5_001)
	unassessed.Unassessed = true
	small := unassessed
	small.Amount = money.Yuan(5_000)
	for _, c := range []struct {
		name string
		ask  Spend
		used money.Amount
		want string
	}{
		{"credit at the single limit", ask(Credit, 50_000), 0, "within limits"},
		{"credit above it", ask(Credit, 50_001), 0, "merchant single amount 50000.00 (credit): asked 50001.00"},
		{"credit up to the day's limit", ask(Credit, 20), money.Yuan(299_980), "within limits"},
		{"credit above it by a fen", ask(Credit, 20), money.Yuan(299_980) + 1, "merchant day amount 300000.00 (credit): used 299980.01, asked 20.00"},
		{"debit above its single limit", ask(Debit, 50_001), 0, "merchant single amount 50000.00 (debit): asked 50001.00"},
		{"qr at the single limit", ask(QR, 5_000), 0, "within limits"},
		{"qr above it", ask(QR, 5_001), 0, "merchant single amount 5000.00 (qr): asked 5001.00"},
		{"qr above the day's limit", ask(QR, 1), money.Yuan(50_000), "merchant day amount 50000.00 (qr): used 50000.00, asked 1.00"},
		{"unassessed at its single limit", small, 0, "within limits"},
		{"unassessed above it", unassessed, 0, "unassessed terminal single amount 5000.00: asked 5001.00"},
	} {
		d := decide(Defaults(), &c.ask, func(key) used { return used{1, c.used.Fen()} })
		if d.String() != c.want || d.OK != (c.want == "within limits") {
			t.Errorf("%s: %q, want %q", c.name, d, c.want)
		}
	}
	counted := []Rule{{Scope: Card, DayCount: 3}}
	a := ask(Debit, 1)
	d := decide(counted, &a, func(key) used { return used{count: 3} })
	if d.OK || d.Kind != Count || d.String() != "card day count 3: used 3" {
		t.Errorf("the fourth: %+v %q", d, d)
	}
	huge := ask(Credit, 0)
	huge.Amount = 1<<63 - 1
	if d := decide([]Rule{{Scope: Merchant, DayAmount: 100}}, &huge, func(key) used { return used{amount: 50} }); d.OK {
		t.Error("an amount that overflows the sum passed")
	}
	huge.Amount = -1
	if d := decide(nil, &huge, nil); d.OK {
		t.Error("a negative amount passed")
	}
}

func TestRulesThatMakeNoSense(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	for _, r := range []Rule{{}, {Scope: Merchant}, {Scope: 9, Single: 1}, {Scope: Card, Single: -1}, {Scope: Card, Channel: 7, Single: 1}, {Scope: Card, Subject: "x", Single: 1}} {
		if _, err := New(db, []Rule{r}, nil); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
	if _, err := New(db, Defaults(), nil); err != nil {
		t.Error(err)
	}
}

// live is the obvious model: the spends that hold quota, in a list.
type live []Spend

func (l live) used(k key) (u used) {
	for i := range l {
		s := &l[i]
		if s.Day == k.day && (k.channel == Any || k.channel == s.Channel) && s.subject(k.scope) == k.subject {
			u.count++
			u.amount += s.Amount.Fen()
		}
	}
	return u
}

var modelRules = []Rule{
	{Scope: Merchant, Channel: Credit, Single: 900, DayAmount: 3000},
	{Scope: Merchant, Subject: "m1", DayCount: 6},
	{Scope: Terminal, DayAmount: 2500, DayCount: 9},
	{Scope: Card, DayCount: 4},
	{Scope: Card, Channel: QR, DayAmount: 700},
	{Scope: Terminal, Unassessed: true, Single: 300},
}

func drawSpend(t *rapid.T) Spend {
	return Spend{
		Day:     today.AddDays(rapid.IntRange(0, 1).Draw(t, "day")),
		Channel: Channel(rapid.IntRange(1, 3).Draw(t, "channel")),
		Amount:  money.Amount(rapid.Int64Range(1, 1000).Draw(t, "amount")),
		Card:    [16]byte{byte(rapid.IntRange(0, 3).Draw(t, "card"))}, Terminal: fmt.Sprint("t", rapid.IntRange(0, 2).Draw(t, "terminal")),
		Merchant: fmt.Sprint("m", rapid.IntRange(0, 1).Draw(t, "merchant")), Unassessed: rapid.Bool().Draw(t, "unassessed"),
	}
}

var errUndone = errors.New("undone")

// Batches of spends and returns, some of them rolled back, decide as the
// list does.
func TestAgreesWithTheObviousModel(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		rapid.Check(t, func(t *rapid.T) {
			if err := db.Write(t.Context(), func(tx store.Tx) error {
				_, err := tx.Exec("delete from limit_used")
				return err
			}); err != nil {
				t.Fatal(err)
			}
			var model live
			l, err := New(db, modelRules, func(_ store.Tx, day calendar.Date, each func(*Spend)) error {
				for i := range model {
					if model[i].Day == day {
						each(&model[i])
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for range rapid.IntRange(1, 12).Draw(t, "batches") {
				next := slices.Clone(model)
				var back, asks []*Spend
				for range rapid.IntRange(0, min(2, len(next))).Draw(t, "returns") {
					i := rapid.IntRange(0, len(next)-1).Draw(t, "which")
					s := next[i]
					back = append(back, &s)
					next = slices.Delete(next, i, i+1)
				}
				var want []Decision
				for range rapid.IntRange(0, 5).Draw(t, "asks") {
					s := drawSpend(t)
					asks = append(asks, &s)
					d := decide(modelRules, &s, next.used)
					want = append(want, d)
					if d.OK {
						next = append(next, s)
					}
				}
				undone := rapid.Bool().Draw(t, "undone")
				err := db.Write(t.Context(), func(tx store.Tx) error {
					if err := l.Begin(tx, []calendar.Date{today, today + 1}); err != nil {
						return err
					}
					got, err := l.Move(tx, back, nil, asks)
					if err != nil {
						return err
					}
					if !slices.Equal(got, want) && len(want) > 0 {
						t.Fatalf("decided\n%v\nwant\n%v", got, want)
					}
					if undone {
						return errUndone
					}
					return nil
				})
				if undone != errors.Is(err, errUndone) || !undone && err != nil {
					t.Fatal(err)
				}
				if !undone {
					model = next
				}
			}
		})
	})
}

// doubtful is a transaction whose end the test decides.
type doubtful struct {
	store.Tx
	after []func(error)
}

func (d *doubtful) After(f func(error)) { d.after = append(d.after, f) }
func (d *doubtful) end(fate error) {
	for _, f := range d.after {
		f(fate)
	}
	d.after = nil
}

// After a commit in doubt the counters are what the journal says.
func TestMemoryCountsAgainAfterADoubt(t *testing.T) {
	s := ask(Credit, 100)
	for _, durable := range []bool{true, false} {
		var journal live
		l := &Limits{rules: Defaults(), counters: counters(Defaults())}
		l.memory = &memory{counters: l.counters, days: map[calendar.Date]map[key]used{}, source: func(_ store.Tx, _ calendar.Date, each func(*Spend)) error {
			for i := range journal {
				each(&journal[i])
			}
			return nil
		}}
		move := func(fate error) {
			tx := &doubtful{}
			if err := l.Begin(tx, []calendar.Date{today}); err != nil {
				t.Fatal(err)
			}
			if d, err := l.Move(tx, nil, nil, []*Spend{&s}); err != nil || !d[0].OK {
				t.Fatal(d, err)
			}
			tx.end(fate)
		}
		move(nil)
		journal = append(journal, s)
		move(store.ErrInDoubt)
		if durable {
			journal = append(journal, s)
		}
		move(errUndone)
		move(nil)
		want := used{int64(len(journal)) + 1, (int64(len(journal)) + 1) * s.Amount.Fen()}
		if got := l.memory.days[today][key{today, Merchant, Credit, s.Merchant}]; got != want {
			t.Errorf("durable %v: counted %v, want %v", durable, got, want)
		}
	}
}

func TestYesterdayIsForgotten(t *testing.T) {
	l := &Limits{rules: Defaults(), counters: counters(Defaults())}
	l.memory = &memory{counters: l.counters, days: map[calendar.Date]map[key]used{}, source: func(store.Tx, calendar.Date, func(*Spend)) error { return nil }}
	for n := range 5 {
		if err := l.Begin(&doubtful{}, []calendar.Date{today.AddDays(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.memory.days); n != 2 {
		t.Errorf("counters of %d days are kept, want 2", n)
	}
}

func TestOldCountersAreForgotten(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		const old, kept = forgetPage + 10, 3
		err := db.Write(t.Context(), func(tx store.Tx) error {
			for i := range old + kept {
				day := today.AddDays(-2)
				if i < kept {
					day = today
				}
				if _, err := tx.Exec("insert into limit_used (day, scope, channel, subject, count, amount) values ($1, 3, 0, $2, 1, 1)", day, fmt.Append(nil, i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		l, err := New(db, Defaults(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := l.Forget(t.Context(), db, today.AddDays(-1)); err != nil || n != old {
			t.Errorf("forgot %d, %v, want %d", n, err, old)
		}
		var left int
		if err := db.Read(t.Context(), func(tx store.Tx) error { return tx.QueryRow("select count(*) from limit_used").Scan(&left) }); err != nil || left != kept {
			t.Errorf("%d left, %v, want %d", left, err, kept)
		}
		// A reversal of a forgotten day gives back to nobody.
		s := ask(Credit, 1)
		s.Day = today.AddDays(-2)
		if err := db.Write(t.Context(), func(tx store.Tx) error { _, err := l.Move(tx, []*Spend{&s}, nil, nil); return err }); err != nil {
			t.Error(err)
		}
	})
}
