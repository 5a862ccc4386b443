package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// zm loads records as north's ZM file of a name.
func (w *town) zm(name string, d calendar.Date, records ...clearing.Record) error {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), name)
	out, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	z := clearing.NewZM(out, "01020000")
	for _, r := range records {
		if err := z.Write(r, "5999"); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), out.Close()); err != nil {
		w.t.Fatal(err)
	}
	f, end, err := w.e.OpenFile(path, "north", 0)
	if err != nil {
		return err
	}
	_, err = w.e.Load(w.t.Context(), f, at(d, 24))
	return errors.Join(err, end())
}

// expects makes sure that what the network owes for a date is what its files come
// to.
func (w *town) expects(d calendar.Date) {
	w.t.Helper()
	sum, err := w.books.Expected(w.t.Context(), d, "")
	if err != nil {
		w.t.Fatal(err)
	}
	day, err := w.e.Day(w.t.Context(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range day.Files {
		if f.Source == "north" {
			sum -= f.Net
		}
	}
	if sum != 0 {
		w.t.Errorf("%s expects %s more than its files come to", d, sum)
	}
	w.sound()
}

// UnionPay's ZM comes one per merchant: the day is compared when all who sold are
// in one, each counts once, and what comes later is compared with what waits.
func TestOneFilePerMerchant(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.Acquirer = "01020000" })
		ours := func(mid string, d calendar.Date) clearing.Record {
			f, _ := w.sale(mid, d, 100_00)
			return w.drop("north", f.RRN)
		}
		strange := func(rrn, mid string) clearing.Record {
			return clearing.Record{Kind: clearing.Sale, RRN: rrn, Sent: "1118120000", Amount: 7_00, Merchant: mid, Terminal: "10000001"}
		}
		incomplete := func(d calendar.Date, says string) {
			t.Helper()
			if _, err := w.e.Compare(t.Context(), d, at(d, 25)); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), says) {
				t.Errorf("compared with %v, want %q missing", err, says)
			}
			if err := w.e.Gate(t.Context(), d); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), says) {
				t.Errorf("the gate says %v, want %q missing", err, says)
			}
			if due, err := w.e.Due(t.Context(), at(d, 25)); err != nil || len(due) != 0 {
				t.Errorf("due %v, %v", due, err)
			}
		}
		compared := func(d calendar.Date) Day {
			t.Helper()
			day, err := w.e.Compare(t.Context(), d, at(d, 25))
			if err != nil {
				t.Fatal(err)
			}
			return day
		}

		a, b, second := ours(alice, wednesday), ours(early, wednesday), ours(alice, wednesday)
		w.load(w.file("alipay", wednesday))
		first := "INN26111801ZM_" + alice
		if err := w.zm(first, wednesday, a, strange("000000009991", alice)); err != nil {
			t.Fatal(err)
		}
		incomplete(wednesday, "north (ZM of "+early+")")
		if err := w.zm(first, wednesday, a, strange("000000009991", alice)); !errors.Is(err, ErrUnmoved) {
			t.Errorf("the same file again: %v", err)
		}
		if err := w.zm(first+".txt", wednesday, a); !errors.Is(err, ErrAnother) {
			t.Errorf("another content under the same name: %v", err)
		}
		if err := w.zm("INN26111801ZM_"+early, wednesday, a, strange("000000009991", alice)); !errors.Is(err, ErrRepeated) || errors.Is(err, ErrUnmoved) {
			t.Errorf("one merchant's file as another's: %v", err)
		}
		if err := w.zm("north-ZM_1", wednesday, b); err == nil || !strings.Contains(err.Error(), "INNyymmddnnZM_merchant") {
			t.Errorf("a ZM file of no name: %v", err)
		}
		if err := w.zm("INN26139901ZM_1", wednesday, b); err == nil || !strings.Contains(err.Error(), "the day in its name") {
			t.Errorf("a ZM file of no day: %v", err)
		}
		if _, err := w.e.Load(t.Context(), w.file("north", wednesday), at(wednesday, 24)); !errors.Is(err, ErrAnother) {
			t.Errorf("the whole day beside its parts: %v", err)
		}
		if err := w.zm("INN26111801ZM_"+early, wednesday, b, strange("000000009992", early)); err != nil {
			t.Fatal(err)
		}
		day := compared(wednesday)
		if day.Kinds[Long] != 2 || day.Kinds[Short] != 1 || day.Breaks != 3 || day.Ours != 3 || day.Matched != 2 || day.Theirs != 4 || len(day.Files) != 3 {
			t.Errorf("%+v", day)
		}
		if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 26), false); err != nil {
			t.Fatal(err)
		}
		w.expects(wednesday)

		// A second batch of the merchant, after the close: what waited is found.
		if err := w.zm("INN26111802ZM_"+alice, wednesday, second); err != nil {
			t.Fatal(err)
		}
		if due, err := w.e.Due(t.Context(), at(wednesday, 27)); err != nil || len(due) != 1 || due[0] != wednesday {
			t.Errorf("due with a late file: %v, %v", due, err)
		}
		if day := compared(wednesday); day.Waiting != 2 || day.Kinds[Short] != 1 || day.Breaks != 3 {
			t.Errorf("with the late file: %+v", day)
		}
		w.expects(wednesday)

		// One that never comes: somebody says so, and it is short until it does come.
		a, b = ours(alice, thursday), ours(early, thursday)
		who := Who{Name: "ann", From: "test"}
		w.load(w.file("alipay", thursday))
		for _, source := range []string{"north", "south"} {
			if err := w.e.Complete(t.Context(), thursday, source, who, at(thursday, 25)); !errors.Is(err, ErrAction) {
				t.Errorf("%s is complete without a file: %v", source, err)
			}
		}
		if err := w.zm("INN26111901ZM_"+alice, thursday, a); err != nil {
			t.Fatal(err)
		}
		incomplete(thursday, early)
		if err := w.e.Complete(t.Context(), thursday, "north", Who{}, at(thursday, 25)); !errors.Is(err, ErrAction) {
			t.Errorf("nobody said it: %v", err)
		}
		for range 2 {
			if err := w.e.Complete(t.Context(), thursday, "north", who, at(thursday, 25)); err != nil {
				t.Fatal(err)
			}
		}
		if day := compared(thursday); day.Kinds[Short] != 1 || day.Breaks != 1 {
			t.Errorf("%+v", day)
		}
		if _, err := w.books.CloseDay(t.Context(), thursday, at(thursday, 26), false); err != nil {
			t.Fatal(err)
		}
		w.expects(thursday)
		if err := w.zm("INN26111901ZM_"+early, thursday, b); err != nil {
			t.Fatal(err)
		}
		if day := compared(thursday); day.Kinds[Short] != 1 || day.Breaks != 1 || day.Waiting+day.Open != 0 {
			t.Errorf("with the late file: %+v", day)
		}
		w.expects(thursday)

		// A group's file has all its merchants.
		a, b = ours(alice, friday), ours(early, friday)
		w.load(w.file("alipay", friday))
		if err := w.zm("INN26112001ZM_898110054119999", friday, a, b); err != nil {
			t.Fatal(err)
		}
		if day := compared(friday); day.Breaks != 0 || day.Matched != 3 { // and the late one, which settles today
			t.Errorf("%+v", day)
		}
		if _, err := w.books.CloseDay(t.Context(), friday, at(friday, 26), false); err != nil {
			t.Fatal(err)
		}
		w.expects(friday)
	})
}

// A merchant whose own file came is not waited for, though no line of it is in
// any: what it sold is short. That no more files come is said once.
func TestEmptyFileOfWhoSold(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.Acquirer = "01020000" })
		a, _ := w.sale(alice, wednesday, 100_00)
		b, _ := w.sale(early, wednesday, 100_00)
		w.drop("north", b.RRN)
		w.load(w.file("alipay", wednesday))
		if err := errors.Join(w.zm("INN26111801ZM_"+alice, wednesday, w.drop("north", a.RRN)), w.zm("INN26111801ZM_"+early, wednesday)); err != nil {
			t.Fatal(err)
		}
		if day, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25)); err != nil || day.Matched != 1 || day.Kinds[Short] != 1 || day.Breaks != 1 {
			t.Errorf("%+v, %v", day, err)
		}
		for _, who := range []string{"ann", "bob"} {
			if err := w.e.Complete(t.Context(), wednesday, "north", Who{Name: who, From: "test"}, at(wednesday, 25)); err != nil {
				t.Fatal(err)
			}
		}
		said, err := audit.List(t.Context(), db, "", 0, 10)
		if err != nil || len(said) != 1 || said[0].Who != "ann" || said[0].Op != "reconcile complete" {
			t.Errorf("%+v, %v", said, err)
		}
	})
}

// Whose file is missing is named, five at most, with how many more there are.
func TestMissingFilesAreNamed(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.Acquirer = "01020000" })
		f, _ := w.sale(alice, wednesday, 100_00)
		var others []int64
		for range 7 {
			f, _ := w.sale(alice, wednesday, 100_00)
			others = append(others, f.Txn)
		}
		if _, err := w.books.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.zm("INN26111801ZM_"+alice, wednesday, w.drop("north", f.RRN)); err != nil {
			t.Fatal(err)
		}
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			for i, id := range others { // seven others sold, the last by another network
				source := "north"
				if i == 6 {
					source = "south"
				}
				if _, err := tx.Exec("update settlement_line set merchant = $1, issuer = $2 where id = $3", fmt.Sprintf("89811005411900%d", i), source, id); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		_, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25))
		const says = "north (ZM of 898110054119000, 898110054119001, 898110054119002, 898110054119003, 898110054119004, 1 more)"
		if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %s", err, says)
		}
	})
}

// A file of a day before the house began has nothing of ours and is refused; one
// without a line may be what the first date waits for.
func TestFileOfBeforeTheHouse(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		var began calendar.Date
		w := newTown(t, db, func(c *Config) {
			c.Began = func(context.Context) (calendar.Date, error) { return began, nil }
		})
		for _, c := range []struct {
			began, date calendar.Date
			lines       int
			want        error
		}{{0, wednesday, 1, ErrFile}, {thursday, wednesday, 1, ErrFile}, {thursday, wednesday, 0, nil}, {thursday, thursday, 1, nil}, {0, friday, 1, nil}} {
			began = c.began
			for range c.lines {
				w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 1_00, Merchant: alice})
			}
			_, err := w.e.Load(t.Context(), w.file("north", c.date), at(friday, 12))
			if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), "before this house began") {
				t.Errorf("%d lines of %s in a house that began on %s: %v", c.lines, c.date, c.began, err)
			}
		}
	})
}

// The second person signs for what the first one saw: what changes between the two
// takes the first signature away.
func TestBetweenTheSignatures(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, _ := w.sale(alice, wednesday, 100_00)
		late := w.drop("north", f.RRN)
		sign := func(who string, want bool) {
			t.Helper()
			if signed, err := w.e.SignOff(t.Context(), wednesday, Who{Name: who, From: "test"}, at(wednesday, 35)); err != nil || signed != want {
				t.Errorf("%s: signed by both %t, %v; want %t", who, signed, err, want)
			}
		}
		has := func(when, maker string) {
			t.Helper()
			if day, err := w.e.Day(t.Context(), wednesday); err != nil || day.Maker != maker {
				t.Errorf("%s it has the signature of %q, %v; want %q", when, day.Maker, err, maker)
			}
		}
		w.night(wednesday)
		sign("maker", false)
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 36)); err != nil {
			t.Fatal(err)
		}
		has("compared again, with nothing new,", "maker")
		for _, d := range []calendar.Date{thursday, friday} {
			w.sale(alice, d, 500_00)
			w.night(d)
		}
		has("when what waited is open", "")
		w.files["north"] = append(w.files["north"], late)
		w.night(saturday)
		sign("checker", false)
		sign("maker", true)
		w.sound()
	})
}

// What waits on a signed day may become people's, which the day points out; a
// file that comes days after the signatures ends it. A sale that is in two days'
// files is a duplicate of the second.
func TestAfterTheSignatures(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, _ := w.sale(alice, wednesday, 100_00)
		late := w.drop("north", f.RRN)
		_, r := w.sale(alice, wednesday, 50_00)
		twice := *r
		is := func(when string, waiting, open, reopened int) {
			t.Helper()
			day, err := w.e.Day(t.Context(), wednesday)
			if err != nil || day.Waiting != waiting || day.Open != open || day.Reopened != reopened {
				t.Errorf("%s: %d waiting, %d open, %d of them since it was signed, %v", when, day.Waiting, day.Open, day.Reopened, err)
			}
		}
		w.night(wednesday)
		for _, who := range []string{"maker", "checker"} {
			if _, err := w.e.SignOff(t.Context(), wednesday, Who{Name: who, From: "test"}, at(wednesday, 35)); err != nil {
				t.Fatal(err)
			}
		}
		is("signed", 1, 0, 0)
		for _, d := range []calendar.Date{thursday, friday} {
			w.sale(alice, d, 500_00)
			w.night(d)
		}
		is("two days later", 0, 1, 1)
		w.files["north"] = append(w.files["north"], late, twice)
		day := w.night(saturday)
		is("it came", 0, 0, 0)
		if day.Kinds[Duplicate] != 1 || day.Breaks != 1 {
			t.Errorf("a sale of Wednesday again: %+v", day)
		}
		w.resolve(w.only(Query{Date: saturday}), ToPayer, saturday)
		w.wants("1901=0.00 2301=0.00")
		w.sound()
	})
}
