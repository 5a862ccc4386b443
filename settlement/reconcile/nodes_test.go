package reconcile

import (
	"errors"
	"iter"
	"testing"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Two nodes load two different files of one source and day: one of them counts,
// whole, and the other is refused; never lines of both.
func TestTwoFilesAtOnce(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.sale(alice, wednesday, 100_00)
		w.sale(alice, wednesday, 200_00)
		w.sale(alice, wednesday, 500_00)
		first := w.file("north", wednesday)
		w.sale(alice, wednesday, 300_00)
		w.sale(alice, wednesday, 400_00)
		second := w.file("north", wednesday)
		second.Name = "north-again"
		inner := first.Records
		reads := 0
		first.Records = func() iter.Seq2[clearing.Record, error] {
			if reads++; reads == 2 { // its row is made, its lines are not written
				if _, err := w.e.Load(t.Context(), second, at(wednesday, 24)); err != nil {
					t.Errorf("the second file: %v", err)
				}
			}
			return inner()
		}
		if _, err := w.e.Load(t.Context(), first, at(wednesday, 24)); !errors.Is(err, ErrAnother) {
			t.Errorf("the first file, behind the second: %v", err)
		}
		var lines int
		var sum, named money.Amount
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select count(*), cast(sum(l.amount) as BIGINT), max(f.amount) from recon_line l join recon_file f on f.id = l.file").Scan(&lines, &sum, &named)
		}); err != nil {
			t.Fatal(err)
		}
		if lines != 2 || sum != 700_00 || named != 700_00 {
			t.Errorf("%d lines of %s under a file of %s, want 2 of 700.00", lines, sum, named)
		}
	})
}

// A sale that was reversed here and that their file has twice is one sale too late
// and one number twice: the second waits for people at once.
func TestReversedHereAndTwiceThere(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, r := w.sale(alice, wednesday, 100_00)
		f.Taken, f.At, f.On = true, at(wednesday, 13), wednesday
		w.fact(f)
		w.seen[f.RRN] = WasReversed
		w.tell("north", *r)
		w.sale(alice, wednesday, 500_00)
		w.night(wednesday)
		all, err := w.e.Breaks(t.Context(), Query{})
		if err != nil || len(all) != 2 || all[0].Kind != LateReversal || all[0].State != Waiting || all[1].Kind != Duplicate || all[1].State != Open {
			t.Errorf("breaks %+v, %v", all, err)
		}
	})
}

// A day whose file is compared behind the next one's finds its late sale matched:
// the network pays it with the day of the file that has it.
func TestDaysComparedInTheWrongOrder(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, _ := w.sale(alice, wednesday, 100_00)
		late := w.drop("north", f.RRN)
		w.sale(alice, wednesday, 500_00)
		if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 26), true); err != nil {
			t.Fatal(err)
		}
		w.load(w.file("north", wednesday))
		w.load(w.file("alipay", wednesday))
		w.sale(alice, thursday, 300_00)
		w.tell("north", late)
		w.load(w.file("north", thursday))
		w.load(w.file("alipay", thursday))
		for _, d := range []calendar.Date{thursday, wednesday} {
			if day, err := w.e.Compare(t.Context(), d, at(thursday, 25)); err != nil || day.Breaks != 0 {
				t.Errorf("%s: %+v, %v", d, day, err)
			}
		}
		if _, err := w.books.CloseDay(t.Context(), thursday, at(thursday, 26), false); err != nil {
			t.Fatal(err)
		}
		for _, d := range []calendar.Date{wednesday, thursday} {
			if sum, err := w.books.Expected(t.Context(), d, ""); err != nil || sum != w.paid[d.String()] {
				t.Errorf("%s expects %s, %v; its file comes to %s", d, sum, err, w.paid[d.String()])
			}
		}
		w.sound()
	})
}

// A sale that no file had until it was with people, and in suspense, comes after
// all: it leaves suspense, settles with its file's day, and nobody has to decide.
func TestShortComesWhenItIsWithPeople(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, _ := w.sale(alice, wednesday, 100_00)
		late := w.drop("north", f.RRN)
		for _, d := range []calendar.Date{wednesday, thursday, friday} {
			w.sale(alice, d, 500_00)
			w.night(d)
		}
		if b := w.only(Query{}); b.State != Open || !b.Held {
			t.Fatalf("on Friday %+v", b)
		}
		w.wants("1901=99.52")
		w.sale(alice, saturday, 500_00)
		w.tell("north", late)
		w.night(saturday)
		if b := w.only(Query{}); b.State != Resolved || b.Action != ByFile {
			t.Errorf("on Saturday %+v", b)
		}
		w.wants("1901=0.00 1101=0.00")
	})
}

// A sale that no file has and that is in suspense already is reversed here: nobody has
// lost anything. People who look at it before the next comparison cannot write it off.
func TestShortIsReversedWhenItIsWithPeople(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, _ := w.sale(alice, wednesday, 100_00)
		w.drop("north", f.RRN)
		for _, d := range []calendar.Date{wednesday, thursday, friday} {
			w.sale(alice, d, 500_00)
			w.night(d)
		}
		w.wants("1901=99.52")
		w.reverse(f.RRN, saturday)
		if _, err := w.books.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, a := range []Action{ToLoss, ToMerchant} {
			for _, who := range []string{"maker", "checker"} {
				_, done, err := w.e.Resolve(t.Context(), w.only(Query{}).ID, a, "", Who{Name: who}, at(saturday, 10))
				if done || who == "checker" && !errors.Is(err, ErrAction) {
					t.Errorf("%s by %s: %v, %v", a, who, done, err)
				}
			}
		}
		w.sale(alice, saturday, 500_00)
		w.night(saturday)
		if b := w.only(Query{}); b.State != Resolved || b.Action != Accept || b.Held || b.DoneBy != "rule" {
			t.Errorf("on Saturday %+v", b)
		}
		w.wants("1901=0.00 1101=0.00 5901=0.00")
	})
}

// Money whose file names no merchant can be given back, not to nobody.
func TestLongOfNobody(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 100_00, IssuerFee: 45, NetworkFee: 3})
		w.sale(alice, wednesday, 500_00)
		w.night(wednesday)
		b := w.only(Query{})
		if _, done, err := w.e.Resolve(t.Context(), b.ID, ToMerchant, "", Who{Name: "maker", From: "test"}, at(saturday, 20)); !errors.Is(err, ErrAction) || done {
			t.Errorf("given to a merchant without a name: %v, %v", done, err)
		}
		if s := w.e.Suggest(&b); len(s) != 1 || s[0].Action != ToPayer {
			t.Errorf("suggested are %+v", s)
		}
		w.wants("2301=99.52")
		w.resolve(b, ToPayer, saturday)
		w.wants("2301=0.00")
		w.sound()
	})
}

// A day whose breaks come to too much waits until two people have signed it.
func TestSignedDayIsNotStopped(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.StopAbove = 50_00 })
		f, _ := w.sale(alice, wednesday, 100_00)
		w.drop("north", f.RRN)
		w.sale(alice, wednesday, 500_00)
		w.load(w.file("north", wednesday))
		w.load(w.file("alipay", wednesday))
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25)); err != nil {
			t.Fatal(err)
		}
		for _, who := range []string{"maker", "checker"} {
			if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 26), false); !errors.Is(err, settlement.ErrGate) {
				t.Errorf("before %s has signed: %v", who, err)
			}
			if _, err := w.e.SignOff(t.Context(), wednesday, Who{Name: who, From: "test"}, at(wednesday, 26)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 27), false); err != nil {
			t.Errorf("signed by two: %v", err)
		}
		w.sound()
	})
}

// A payout that was booked as paid on a day without a statement is looked for in
// the next one, however late that comes: a bank may be silent over a holiday.
func TestPayoutOfADayWithoutAStatement(t *testing.T) {
	for _, c := range []struct {
		name  string
		paid  calendar.Date
		dates []calendar.Date // with a statement: those that are compared
		short bool
	}{
		{"the next day", thursday, []calendar.Date{friday}, true},
		{"after eight days", thursday, []calendar.Date{wednesday, 20261127}, true},
		{"stated", thursday, []calendar.Date{wednesday, thursday, 20261127}, false},
		{"before the first statement", wednesday, []calendar.Date{20261127}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
				w := newTown(t, db)
				w.sale(alice, wednesday, 100_00)
				w.night(wednesday)
				var ref string
				if err := db.Write(t.Context(), func(tx store.Tx) error {
					return tx.QueryRow("update settlement_payout set state = $1, finished = $2 returning ref", int(settlement.Paid), at(c.paid, 22).UnixMicro()).Scan(&ref)
				}); err != nil {
					t.Fatal(err)
				}
				for _, d := range c.dates {
					entries := "single nobody" + d.String() + " 5.00"
					if d == c.paid {
						entries = "single " + ref + " 99.40"
					}
					w.statement(d, entries)
					if d > wednesday {
						w.load(w.file("north", d))
						w.load(w.file("alipay", d))
					}
					if _, err := w.e.Compare(t.Context(), d, at(d, 25)); err != nil {
						t.Fatal(err)
					}
				}
				short, err := w.e.Breaks(t.Context(), Query{Kind: PayoutShort})
				if err != nil || len(short) > 1 || (len(short) == 1) != c.short {
					t.Fatalf("%+v, %v", short, err)
				}
				if c.short && (short[0].State != Waiting || short[0].Ours != 99_40 || short[0].RRN != ref) {
					t.Errorf("%+v", short[0])
				}
			})
		})
	}
}
