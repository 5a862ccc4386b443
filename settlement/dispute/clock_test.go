package dispute

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/settlement"
	"acquirer/store"
	"acquirer/store/storetest"
)

// The clock reminds at half, four fifths and the end of it, once each; working
// days count as the calendar has them.
func TestReminders(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{Represent: 10, WorkingDays: true})
		w.do("0 chargeback") // Monday; ten working days later is Monday the 30th
		if c := w.one(); c.Due != 20261130 {
			t.Fatalf("due %s", c.Due)
		}
		levels := map[int]int{}
		for day := range 15 {
			for range 2 {
				w.do(fmt.Sprintf("%d tick", day))
			}
			levels[day] = w.one().Reminded
		}
		for day, want := range map[int]int{6: 0, 7: 50, 10: 80, 13: 80, 14: 100} {
			if levels[day] != want {
				t.Errorf("%d days on, it was reminded at %d %%, want %d", day, levels[day], want)
			}
		}
		tasks, err := w.books.Tasks(t.Context(), 100)
		if err != nil || len(tasks) != 1 || !strings.HasPrefix(tasks[0].Text, "100 %") { // the newest word
			t.Errorf("%d tasks, %v", len(tasks), err)
		}
		if counts, next, err := w.e.Standing(t.Context()); err != nil || counts[Chargeback][Open] != 1 || next != 20261130 {
			t.Errorf("standing %v, next %s, %v", counts, next, err)
		}
	})
}

// A clock of working days that runs into a year whose holidays are not known is
// provisional: it ends nothing, and is counted anew when they are.
func TestBeyondTheCalendar(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{Represent: 40, WorkingDays: true})
		w.do("0 chargeback") // of 2026 are 33 working days left
		if c := w.one(); c.Due != 20270111 || c.Provisional != 40 {
			t.Fatalf("due %s, provisional %d", c.Due, c.Provisional)
		}
		w.do("60 tick\n60 is chargeback open") // 2027-01-15
		if tasks, err := w.books.Tasks(t.Context(), 10); err != nil || len(tasks) != 1 || !strings.Contains(tasks[0].Text, "provisional") {
			t.Errorf("%+v, %v", tasks, err)
		}
		known, err := calendar.Chinese().With(strings.NewReader(`{"year": 2027, "days": [{"date":"2027-01-01","isOffDay":true},{"date":"2027-01-16","isOffDay":true}]}`))
		if err != nil {
			t.Fatal(err)
		}
		w.e.calendar = func() *calendar.Calendar { return known }
		w.do("57 tick")
		if c := w.one(); c.Due != 20270112 || c.Provisional != 0 || c.State != Open {
			t.Errorf("with 2027 it is %s, provisional %d, %s", c.Due, c.Provisional, c.State)
		}
		w.do("58 tick\n58 is chargeback lost")
		if tasks, err := w.books.Tasks(t.Context(), 10); err != nil || len(tasks) != 1 || !strings.Contains(tasks[0].Text, "nobody answered the chargeback of 100.00") {
			t.Errorf("%+v, %v", tasks, err)
		}
	})
}

// Deadlines count working days over the long holidays, with their make-up days.
func TestDeadlinesOverHolidays(t *testing.T) {
	for _, x := range []struct {
		began calendar.Date
		days  int
		due   calendar.Date
	}{
		{20260930, 1, 20261008}, // National Day: 1 to 7 October
		{20260930, 3, 20261010}, // a Saturday that is worked
		{20260930, 20, 20261103},
		{20260213, 1, 20260214}, // the Saturday before Spring Festival is worked
		{20260213, 2, 20260224},
		{20260213, 10, 20260305}, // with the Saturday the 28th
	} {
		if due, sure := (Terms{WorkingDays: true}).until(calendar.Chinese(), x.began, x.days); due != x.due || !sure {
			t.Errorf("%d working days after %s are %s, %v; want %s", x.days, x.began, due, sure, x.due)
		}
		if due, _ := (Terms{}).until(calendar.Chinese(), x.began, x.days); due != x.began.AddDays(x.days) {
			t.Errorf("%d days after %s are %s", x.days, x.began, due)
		}
	}
	for _, bad := range []Terms{{Retrieval: -1}, {Ruling: maxDays + 1}} {
		if bad.check() == nil {
			t.Errorf("%+v are terms", bad)
		}
	}
}

// A case that cannot be ended holds up no other.
func TestPoison(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		for i := range 2 {
			it := Item{Key: fmt.Sprint(i), Source: "north", Stage: Chargeback, Date: monday, Payment: Payment{Txn: int64(i + 1), RRN: fmt.Sprintf("%012d", i+1), Merchant: alice, Amount: 100_00}}
			if _, err := w.e.Take(t.Context(), it, north, at(monday)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update dispute_case set took = '', amount = -1 where txn = 1")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		did, err := w.e.Tick(t.Context(), at(monday.AddDays(40)))
		if !errors.Is(err, settlement.ErrChargeback) || did != (Ticked{Changed: 1, Missed: 1}) {
			t.Errorf("%+v, %v", did, err)
		}
		all, err := w.e.Cases(t.Context(), Query{})
		if err != nil || len(all) != 2 || all[0].State != Open || all[1].State != Lost {
			t.Errorf("%+v, %v", all, err)
		}
		if all, err := w.e.Cases(t.Context(), Query{ByDue: true, Limit: 1}); err != nil || all[0].State != Open { // what is over comes last
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// What an issuer sends when its time is over is taken, since the network took the
// money, and the case says that this is the answer.
func TestTooLate(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		for days, late := range map[int]bool{90: false, 91: true} {
			w := newCourt(t, db, Terms{Window: 90})
			it := Item{Key: fmt.Sprint(days), Source: "north", Stage: Chargeback, Date: monday, Payment: Payment{Txn: int64(days), RRN: fmt.Sprint(days), Merchant: alice, Amount: 10_00, Date: monday.AddDays(-days)}}
			c, err := w.e.Take(t.Context(), it, north, at(monday))
			if err != nil {
				t.Fatal(err)
			}
			if events, err := w.e.Events(t.Context(), c.ID); err != nil || strings.Contains(events[0].What, "too late") != late {
				t.Errorf("%d days after its sale: %+v, %v", days, events, err)
			}
			w.facts = nil
		}
	})
}
