package reconcile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

const feeOf100 money.Amount = 48 // issuer 45, network 3

// A week in which nothing goes wrong has no breaks.
func TestNothingWrong(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		for _, d := range []calendar.Date{wednesday, thursday, friday} {
			for range 5 {
				w.sale(alice, d, 100_00)
				w.scan(alice, d, 20_00)
			}
			if day := w.night(d); day.Breaks != 0 || day.Ours != 10 || day.Theirs != 10 || day.Matched != 10 || len(day.Missing) != 0 {
				t.Errorf("%s: %+v", d, day)
			}
			if signed, err := w.e.SignOff(t.Context(), d, Who{Name: "maker"}, at(d, 30)); err != nil || signed {
				t.Errorf("maker: %v, %v", signed, err)
			}
			if _, err := w.e.SignOff(t.Context(), d, Who{Name: "Maker"}, at(d, 30)); !errors.Is(err, audit.ErrTwoPeople) {
				t.Errorf("the maker twice: %v", err)
			}
			if signed, err := w.e.SignOff(t.Context(), d, Who{Name: "checker"}, at(d, 31)); err != nil || !signed {
				t.Errorf("checker: %v, %v", signed, err)
			}
			if _, err := w.e.SignOff(t.Context(), d, Who{Name: "third"}, at(d, 32)); !errors.Is(err, ErrAction) || !strings.Contains(err.Error(), "maker and checker have signed it") {
				t.Errorf("a third one: %v", err)
			}
		}
		w.wants("1101=0.00 1102=0.00 1901=0.00 2301=0.00 4101=0.00 5101=0.00 5102=0.00 2501=0.00 4901=" + (3 * (5*(60-feeOf100) + 5*8)).String())
		if day, err := w.e.Day(t.Context(), friday); err != nil || day.Earned == nil || day.Earned.State != settlement.EarnedSwept {
			t.Errorf("what Friday earned: %+v, %v", day.Earned, err)
		}
		w.sound()
	})
}

// A day says what its breaks that are not resolved come to, fees apart.
func TestOpenSum(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		f, _ := w.sale(alice, wednesday, 100_00)
		w.drop("north", f.RRN)
		_, r := w.sale(alice, wednesday, 100_00)
		r.Amount -= 10_00
		w.sale(alice, wednesday, 500_00)
		w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 7_00, IssuerFee: 3, Merchant: alice, Terminal: "10000001"})
		sum := func() money.Amount {
			day, err := w.e.Day(t.Context(), wednesday)
			if err != nil {
				t.Fatal(err)
			}
			return day.OpenSum
		}
		w.night(wednesday)
		all := (100_00 - feeOf100) + 10_00 + (7_00 - 3)
		if got := sum(); got != all {
			t.Errorf("%s open, want %s", got, all)
		}
		w.resolve(w.only(Query{Kind: Long}), ToPayer, thursday)
		if got := sum(); got != all-6_97 {
			t.Errorf("%s open, want %s", got, all-6_97)
		}
	})
}

// What a comparison finds after its date was closed by force is booked on the
// open date: closed ones do not change, and what they earned does not either.
func TestComparedAfterItsClose(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		_, r := w.sale(alice, wednesday, 100_00)
		r.IssuerFee += 7
		if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 26), true); err != nil {
			t.Fatal(err)
		}
		before, err := w.books.Ledger().TrialBalance(t.Context(), wednesday)
		if err != nil {
			t.Fatal(err)
		}
		w.load(w.file("north", wednesday))
		w.load(w.file("alipay", wednesday))
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 27)); err != nil {
			t.Fatal(err)
		}
		after, err := w.books.Ledger().TrialBalance(t.Context(), wednesday)
		if err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("the closed date was %v and is %v, %v", before, after, err)
		}
		w.wants("5101=0.52")
		w.sound()
	})
}

// story is what goes wrong with one sale, and how it ends.
type story struct {
	name   string
	begin  func(w *town) // before the files of Wednesday
	kind   Kind
	held   bool
	open   State         // after Wednesday
	later  func(w *town) // before the files of Thursday
	then   State         // after Thursday
	action Action        // of two people on Friday, when it is not resolved
	loses  money.Amount  // written off in the end
	pays   money.Amount  // what the merchants are paid in the end, before fees of 0.60 a sale of 100.00
	extra  func(w *town) // looks
}

// Every kind of break: found, rightly named, its money kept out of payouts,
// the network's payment expected as its file says, and in the end nothing is
// left in suspense or owed by the network.
func TestStories(t *testing.T) {
	stories := []story{
		{name: "long, given back", kind: Long, open: Waiting, then: Waiting, action: ToPayer,
			begin: func(w *town) {
				w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 100_00, IssuerFee: 45, NetworkFee: 3, Merchant: alice})
			}},
		{name: "long, delivered", kind: Long, open: Waiting, then: Waiting, action: ToMerchant, pays: 100_00 - feeOf100,
			begin: func(w *town) {
				w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 100_00, IssuerFee: 45, NetworkFee: 3, Merchant: alice})
			}},
		{name: "long, declined here", kind: Long, open: Waiting, then: Waiting, action: ToPayer,
			begin: func(w *town) {
				w.seen["000000009999"] = WasDeclined
				w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 100_00, Merchant: alice})
			},
			extra: func(w *town) {
				if b := w.only(Query{}); !strings.Contains(b.Detail, "declined") {
					w.t.Errorf("detail %q", b.Detail)
				}
			}},
		{name: "the file is before us", kind: Long, open: Waiting, then: Resolved, pays: 100_00,
			begin: func(w *town) {
				w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "000000000077", Amount: 100_00, IssuerFee: 45, NetworkFee: 3, Merchant: alice})
			},
			later: func(w *town) {
				w.txn = 76
				f, _ := w.sale(alice, thursday, 100_00)
				w.drop("north", f.RRN)
			}},
		{name: "short, never comes, written off", kind: Short, held: true, open: Waiting, then: Waiting, action: ToLoss, loses: 100_00 - feeOf100, pays: 100_00,
			begin: func(w *town) { f, _ := w.sale(alice, wednesday, 100_00); w.drop("north", f.RRN) }},
		{name: "short, the merchant bears it", kind: Short, held: true, open: Waiting, then: Waiting, action: ToMerchant,
			begin: func(w *town) { f, _ := w.sale(alice, wednesday, 100_00); w.drop("north", f.RRN) }},
		{name: "short, comes a day late", kind: Short, held: true, open: Waiting, then: Resolved, pays: 100_00,
			begin: func(w *town) {
				f, _ := w.sale(alice, wednesday, 100_00)
				r := w.drop("north", f.RRN)
				w.files["late"] = append(w.files["late"], r)
			},
			later: func(w *town) { w.tell("north", w.files["late"][0]) }},
		{name: "short, paid already, comes a day late", kind: Short, open: Waiting, then: Resolved, pays: 100_00,
			begin: func(w *town) {
				f, _ := w.sale(early, wednesday, 100_00)
				w.files["late"] = append(w.files["late"], w.drop("north", f.RRN))
				if _, err := w.books.CatchUp(w.t.Context()); err != nil {
					w.t.Fatal(err)
				}
				if _, err := w.books.PayEarly(w.t.Context(), wednesday, 1600, at(wednesday, 16)); err != nil {
					w.t.Fatal(err)
				}
			},
			later: func(w *town) { w.tell("north", w.files["late"][0]) }},
		{name: "short, comes late with another amount", kind: Short, held: true, open: Waiting, then: Resolved, action: ToMerchant, pays: 90_00 + 5,
			begin: func(w *town) {
				f, _ := w.sale(alice, wednesday, 100_00)
				w.files["late"] = append(w.files["late"], w.drop("north", f.RRN))
			},
			later: func(w *town) {
				r := w.files["late"][0]
				r.Amount, r.IssuerFee = 90_00, 40
				w.tell("north", r)
			}},
		{name: "amount higher there", kind: Amount, held: true, open: Open, then: Open, action: ToPayer, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); r.Amount = 110_00 }},
		{name: "amount lower there, the merchant bears it", kind: Amount, held: true, open: Open, then: Open, action: ToMerchant, pays: 90_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); r.Amount = 90_00 }},
		{name: "amount lower there, the house bears it", kind: Amount, held: true, open: Open, then: Open, action: ToLoss, loses: 10_00, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); r.Amount = 90_00 }},
		{name: "a small difference of fees", kind: Fee, open: Resolved, then: Resolved, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); r.IssuerFee = 46 }},
		{name: "fees differ", kind: Fee, open: Open, then: Open, action: Accept, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); r.IssuerFee, r.BrandFee = 60, 5 }},
		{name: "fees lower there", kind: Fee, open: Open, then: Open, action: Accept, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); r.IssuerFee = 42 }},
		{name: "a wallet's fee", kind: Fee, open: Open, then: Open, action: Accept, pays: 100_00,
			begin: func(w *town) { _, r := w.scan(alice, wednesday, 100_00); r.IssuerFee = 20 }},
		{name: "twice in the file", kind: Duplicate, open: Open, then: Open, action: ToPayer, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); w.tell("north", *r) }},
		{name: "a day after day twice", kind: Duplicate, open: 0, then: Open, action: ToPayer, pays: 100_00,
			begin: func(w *town) { _, r := w.sale(alice, wednesday, 100_00); w.files["late"] = []clearing.Record{*r} },
			later: func(w *town) { w.tell("north", w.files["late"][0]) }},
		{name: "reversed here, their reversal comes", kind: LateReversal, open: Waiting, then: Resolved,
			begin: func(w *town) {
				f, r := w.sale(alice, wednesday, 100_00)
				f.Taken, f.At, f.On = true, at(wednesday, 13), wednesday
				w.fact(f)
				w.seen[f.RRN] = WasReversed
				back := *r
				back.Kind, back.Amount, back.IssuerFee, back.NetworkFee = clearing.Reversal, -r.Amount, -r.IssuerFee, -r.NetworkFee
				w.files["late"] = append(w.files["late"], back)
			},
			later: func(w *town) { w.tell("north", w.files["late"][0]) }},
		{name: "reversed here, their reversal keeps the fee", kind: LateReversal, open: Waiting, then: Resolved,
			begin: func(w *town) {
				f, r := w.sale(alice, wednesday, 100_00)
				f.Taken, f.At, f.On = true, at(wednesday, 13), wednesday
				w.fact(f)
				w.seen[f.RRN] = WasReversed
				back := *r
				back.Kind, back.Amount, back.IssuerFee, back.NetworkFee = clearing.Reversal, -r.Amount, 0, 0
				w.files["late"] = append(w.files["late"], back)
			},
			later: func(w *town) { w.tell("north", w.files["late"][0]) }},
		{name: "reversed there, not here", kind: LateReversal, open: 0, then: Open, action: ToMerchant, pays: feeOf100,
			begin: func(w *town) { w.sale(alice, wednesday, 100_00) },
			later: func(w *town) {
				w.tell("north", clearing.Record{Kind: clearing.Reversal, RRN: "000000000001", Amount: -100_00, IssuerFee: -45, NetworkFee: -3, Merchant: alice})
			}},
		{name: "reversed there before it is paid, the merchant bears it", kind: LateReversal, held: true, open: Open, then: Open, action: ToMerchant,
			begin: func(w *town) { w.tell("north", reversed(*w.sold())) }},
		{name: "reversed there before it is paid, the house bears it", kind: LateReversal, held: true, open: Open, then: Open, action: ToLoss, loses: 100_00 - feeOf100, pays: 100_00,
			begin: func(w *town) { w.tell("north", reversed(*w.sold())) }},
		{name: "reversed there before it is paid, and then here", kind: LateReversal, held: true, open: Open, then: Resolved,
			begin: func(w *town) { w.tell("north", reversed(*w.sold())) },
			later: func(w *town) { w.reverse("000000000001", thursday) }},
		{name: "reversed there after it was paid, and then here", kind: LateReversal, open: Open, then: Resolved,
			begin: func(w *town) {
				f, r := w.sale(early, wednesday, 100_00)
				w.tell("north", reversed(*r))
				if _, err := w.books.CatchUp(w.t.Context()); err != nil {
					w.t.Fatal(err)
				}
				if _, err := w.books.PayEarly(w.t.Context(), wednesday, 1600, at(wednesday, 16)); err != nil {
					w.t.Fatal(err)
				}
				w.seen[f.RRN] = WasReversed
			},
			later: func(w *town) { w.reverse("000000000001", thursday) }},
		{name: "short, and reversed here the next day", kind: Short, held: true, open: Waiting, then: Resolved,
			begin: func(w *town) { f, _ := w.sale(alice, wednesday, 100_00); w.drop("north", f.RRN) },
			later: func(w *town) { w.reverse("000000000001", thursday) }},
		{name: "amount differs, and both reverse it the next day", kind: Amount, held: true, open: Open, then: Resolved,
			begin: func(w *town) {
				r := w.sold()
				r.Amount, r.IssuerFee = 110_00, 50
				w.files["late"] = append(w.files["late"], reversed(*r))
			},
			later: func(w *town) { w.reverse("000000000001", thursday); w.tell("north", w.files["late"][0]) }},
		{name: "less there, and both reverse it the next day", kind: Amount, held: true, open: Open, then: Resolved,
			begin: func(w *town) {
				r := w.sold()
				r.Amount = 90_00
				w.files["late"] = append(w.files["late"], reversed(*r))
			},
			later: func(w *town) { w.reverse("000000000001", thursday); w.tell("north", w.files["late"][0]) }},
		{name: "paid and cancelled at the wallet on the same day", open: 0, then: 0,
			begin: func(w *town) {
				w.tell("alipay", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 100_00, IssuerFee: 20})
				w.tell("alipay", clearing.Record{Kind: clearing.Reversal, RRN: "000000009999", Original: "000000009999", Amount: -100_00, IssuerFee: -20})
			}},
		{name: "paid and cancelled at the wallet, which keeps its fee", open: 0, then: 0, pays: 50_00,
			begin: func(w *town) {
				w.scan(alice, wednesday, 50_00)
				w.tell("alipay", clearing.Record{Kind: clearing.Sale, RRN: "000000009999", Amount: 100_00, IssuerFee: 20})
				w.tell("alipay", clearing.Record{Kind: clearing.Reversal, RRN: "000000009999", Original: "000000009999", Amount: -100_00})
			}},
		{name: "a void is the wallet's cancel", open: 0, then: 0,
			begin: func(w *town) {
				f, _ := w.scan(alice, wednesday, 100_00)
				void := f
				w.txn++
				void.Txn, void.RRN, void.Does, void.Original = w.txn, "000000000002", settlement.Voids, f.Txn
				w.fact(void)
				w.tell("alipay", clearing.Record{Kind: clearing.Reversal, RRN: f.RRN, Original: f.RRN, Amount: -100_00})
			}},
		{name: "taken back after it was settled, and there too", open: 0, then: 0, pays: 0,
			begin: func(w *town) { w.sale(alice, wednesday, 100_00) },
			later: func(w *town) {
				f := w.facts[len(w.facts)-1]
				for i := range w.facts {
					if w.facts[i].RRN == "000000000001" {
						f = w.facts[i]
					}
				}
				f.Taken, f.At, f.On = true, at(thursday, 13), thursday
				w.fact(f)
				w.tell("north", clearing.Record{Kind: clearing.Reversal, RRN: f.RRN, Amount: -100_00, IssuerFee: -45, NetworkFee: -3, Merchant: alice})
			}},
	}
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		if db.Postgres() {
			stories = append(stories[:0:0], stories[0], stories[4], stories[6], stories[8], stories[11], stories[15], stories[17], stories[20])
		}
		for i, s := range stories {
			t.Run(s.name, func(t *testing.T) {
				if db.Postgres() {
					if i > 0 {
						db = storetest.Postgres(t, schemas...)
					}
				} else {
					db = storetest.SQLite(t, schemas...)
				}
				tell(t, newTown(t, db), s)
			})
		}
	})
}

func tell(t *testing.T, w *town, s story) {
	s.begin(w)
	state := func() (State, Break) {
		all, err := w.e.Breaks(t.Context(), Query{})
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			return 0, Break{}
		}
		return all[0].State, all[0]
	}
	w.sale(alice, wednesday, 500_00) // so that something is left of the day's net
	w.night(wednesday)
	got, b := state()
	if got != s.open || got != 0 && (b.Kind != s.kind || got != Resolved && b.Held != s.held) {
		t.Fatalf("after Wednesday: %s %s, held %v; want %s %s, %v: %+v", got, b.Kind, b.Held, s.open, s.kind, s.held, b)
	}
	if s.extra != nil {
		s.extra(w)
	}
	if s.later != nil {
		s.later(w)
	}
	w.sale(alice, thursday, 500_00)
	w.night(thursday)
	if got, b = state(); got != s.then || got != 0 && b.Kind != s.kind {
		t.Fatalf("after Thursday: %s %s, want %s %s: %+v", got, b.Kind, s.then, s.kind, b)
	}
	w.sale(alice, friday, 500_00)
	w.night(friday)
	if s.action != "" {
		all, err := w.e.Breaks(t.Context(), Query{State: Open})
		if err != nil || len(all) != 1 {
			t.Fatalf("open on Friday: %+v, %v", all, err)
		}
		w.resolve(all[0], s.action, saturday)
		if s.action == ToPayer { // the network takes it back with what it pays next
			w.back = all[0].net()
		}
	}
	w.sale(alice, saturday, 500_00)
	w.night(saturday)
	if all, err := w.e.Breaks(t.Context(), Query{}); err != nil || len(all) > 0 && all[len(all)-1].State != Resolved {
		t.Errorf("in the end: %+v, %v", all, err)
	}
	w.wants("1101=0.00 1102=0.00 1901=0.00 2301=0.00 5901=" + s.loses.String())
	var paid money.Amount
	for _, d := range []calendar.Date{wednesday, thursday, friday, saturday} {
		days, _, err := w.books.Merchants(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range days {
			paid += x.Gross - x.Taken
		}
	}
	var others money.Amount
	if err := w.db.Read(t.Context(), func(tx store.Tx) error {
		return tx.QueryRow("select cast(coalesce(sum(amount), 0) as BIGINT) from settlement_item").Scan(&others)
	}); err != nil {
		t.Fatal(err)
	}
	if got := paid + others - 2000_00; got != s.pays {
		t.Errorf("the merchants got %s of it (%s by lines, %s besides), want %s", got, paid-2000_00, others, s.pays)
	}
}

// What is wrong with a file is said, and nothing of it is there.
func TestFilesRefused(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.sale(alice, wednesday, 100_00)
		var b bytes.Buffer
		out, err := clearing.NewWriter(&b, clearing.Header{Source: "north", Acquirer: "1", Date: wednesday})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 * loadBatch {
			if err := out.Write(w.files["north"][0]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := out.Close(); err != nil {
			t.Fatal(err)
		}
		text := b.Bytes()
		for name, damaged := range map[string][]byte{
			"truncated":     text[:len(text)-200],
			"wrong trailer": bytes.Replace(text, []byte("\nT|600|"), []byte("\nT|601|"), 1),
			"encoding":      bytes.Replace(text, []byte("10000001"), []byte("1000000\xb5"), 1),
		} {
			_, err := w.e.Load(t.Context(), inMemory("north", wednesday, damaged), at(wednesday, 24))
			var where *clearing.Error
			if !errors.As(err, &where) || where.Line == 0 || where.Column == 0 {
				t.Errorf("%s: %v", name, err)
			}
		}
		var rows int
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select (select count(*) from recon_line) + (select count(*) from recon_file)").Scan(&rows)
		}); err != nil || rows != 0 {
			t.Errorf("%d rows are there, %v", rows, err)
		}
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25)); !errors.Is(err, ErrIncomplete) {
			t.Errorf("compared without files: %v", err)
		}
		if err := w.e.Gate(t.Context(), wednesday); !errors.Is(err, ErrIncomplete) {
			t.Errorf("the gate: %v", err)
		}
		if _, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 26), false); !errors.Is(err, settlement.ErrGate) {
			t.Errorf("closed: %v", err)
		}
		good := w.file("north", wednesday)
		w.load(good)
		if _, err := w.e.Load(t.Context(), good, at(wednesday, 24)); !errors.Is(err, ErrRepeated) {
			t.Errorf("the same file again: %v", err)
		}
		w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: "1", Amount: 1})
		if _, err := w.e.Load(t.Context(), w.file("north", wednesday), at(wednesday, 24)); !errors.Is(err, ErrAnother) {
			t.Errorf("another file of the day: %v", err)
		}
		if _, err := w.e.Load(t.Context(), w.file("south", wednesday), at(wednesday, 24)); err == nil {
			t.Error("a stranger's file was loaded")
		}
		// A comparison that ends between its files and its day is due again.
		w.load(w.file("alipay", wednesday))
		c := &comparison{e: w.e, date: wednesday, due: wednesday, now: at(wednesday, 25)}
		if err := c.files(t.Context()); err != nil {
			t.Fatal(err)
		}
		if due, err := w.e.Due(t.Context(), at(wednesday, 25)); err != nil || len(due) != 1 || due[0] != wednesday {
			t.Errorf("due %v, %v", due, err)
		}
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25)); err != nil {
			t.Error(err)
		}
		if due, err := w.e.Due(t.Context(), at(wednesday, 25)); err != nil || len(due) != 0 {
			t.Errorf("compared, and due %v, %v", due, err)
		}
	})
}

// A file that is nobody's, somebody else's or of another day is refused before
// anything of it counts, and says at which place or what to do.
func TestFilesOfOthers(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.Acquirer, c.Account = "01020000", "9999000000000001" })
		network := func(source, acquirer string, d calendar.Date) string {
			var b bytes.Buffer
			out, err := clearing.NewWriter(&b, clearing.Header{Source: source, Acquirer: acquirer, Date: d})
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Write(clearing.Record{Kind: clearing.Sale, RRN: "000000000001", Sent: "1118120000", Amount: 1_00}); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Close(); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		good := network("north", "01020000", wednesday)
		folder := t.TempDir()
		for _, c := range []struct {
			name, content, source string
			date                  calendar.Date
			says                  []string
		}{
			{name: "empty.txt", says: []string{"is empty"}},
			{name: "bom.txt", content: "\xef\xbb\xbf" + good, says: []string{"line 1, column 1", "byte order mark"}},
			{name: "utf16.txt", content: "\xff\xfeH\x00|\x00", says: []string{"line 1, column 1", "byte order mark"}},
			{name: "crlf.txt", content: strings.ReplaceAll(good, "\n", "\r\n"), says: []string{"line 1, column 44", "carriage return"}},
			{name: "lower.txt", content: strings.ToLower(good), says: []string{"line 1, column 1", "H|NETWORK-CLEAR|"}},
			{name: "other.txt", content: network("north", "48020000", wednesday), says: []string{"line 1, column 25", "48020000", "switch.acquirer"}},
			{name: "stranger.txt", content: network("icbc", "01020000", wednesday), says: []string{"icbc", "clearing.sources"}},
			{name: "future.txt", content: network("north", "01020000", saturday), says: []string{"2026-11-21", "has not begun"}},
			{name: "north-20261119.txt", content: good, date: thursday, says: []string{"2026-11-18", "2026-11-19"}},
			{name: "south.txt", content: good, source: "south", says: []string{"north's", "south's"}},
			{name: "INN26111801ZME_1", content: "x", says: []string{"acquirer dispute import"}},
			{name: "INN26111801ZM_1", content: "x", source: "north", date: thursday, says: []string{"261118", "2026-11-19"}},
			{name: "st.csv", content: "H,STATEMENT,1,ST1,8888000000000002,2026-11-18\n", says: []string{"ends in 0002", "ends in 0001", "settlement.account"}},
		} {
			path := filepath.Join(folder, c.name)
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			f, end, err := w.e.OpenFile(path, c.source, c.date)
			if err == nil {
				_, err = w.e.Load(t.Context(), f, at(wednesday, 24))
				if !errors.Is(err, ErrFile) {
					t.Errorf("%s: %v is not the file's fault", c.name, err)
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			}
			for _, says := range c.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v, want %q", c.name, err, says)
				}
			}
		}
		var rows int
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select (select count(*) from recon_line) + (select count(*) from recon_file)").Scan(&rows)
		}); err != nil || rows != 0 {
			t.Errorf("%d rows are there, %v", rows, err)
		}
	})
}

// A number that the network has at two terminals is two sales, in whichever order
// they stand in its file: ours is matched, and the other one is not its double.
func TestNumberAtTwoTerminals(t *testing.T) {
	for _, first := range []bool{true, false} {
		storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
			w := newTown(t, db)
			f, r := w.sale(alice, wednesday, 100_00)
			stranger := *r
			stranger.Terminal, stranger.Merchant = "20000002", early
			if w.tell("north", stranger); first {
				w.files["north"][0], w.files["north"][1] = w.files["north"][1], w.files["north"][0]
			}
			day := w.night(wednesday)
			b := w.only(Query{})
			if b.Kind != Long || b.Terminal != "20000002" || b.Merchant != early || b.RRN != f.RRN || day.Matched != 1 || !strings.Contains(b.Detail, "another terminal") {
				t.Errorf("stranger first %v: %+v, %d matched", first, b, day.Matched)
			}
		})
	}
}

// A file that was half loaded as of a wrong day has never counted: it is loaded
// as of the right one.
func TestHalfLoadedAsAnother(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.sale(alice, wednesday, 100_00)
		half := w.file("north", wednesday)
		wrong := half
		wrong.Date = thursday
		totals := clearing.Totals{Count: 1}
		id, err := w.e.openFile(t.Context(), &wrong, totals, at(thursday, 24))
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range wrong.Records() {
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Write(t.Context(), func(tx store.Tx) error { return w.e.insert(tx, id, &wrong, []clearing.Record{r}) }); err != nil {
				t.Fatal(err)
			}
		}
		w.load(half)
		var files, lines int
		if err := db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select (select count(*) from recon_file), (select count(*) from recon_line where date = $1)", wednesday).Scan(&files, &lines)
		}); err != nil || files != 1 || lines != 1 {
			t.Errorf("%d files, %d lines of Wednesday, %v", files, lines, err)
		}
	})
}

// Files of quiet days say nothing: two sources may have the same one, on several
// days, and each counts once.
func TestQuietDays(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		folder := t.TempDir()
		for _, d := range []calendar.Date{wednesday, thursday} {
			for source, name := range map[string]string{"north": "INN" + strings.ReplaceAll(d.String(), "-", "")[2:] + "00ZM_1", "alipay": "quiet" + NoBill} {
				path := filepath.Join(folder, name)
				content := []byte("nothing\n")
				if source == "north" {
					content = nil
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, want := range []error{nil, ErrRepeated} {
					f, end, err := w.e.OpenFile(path, source, d)
					if err != nil {
						t.Fatal(err)
					}
					f.SHA = "of nothing" // as that of two wallets is
					if _, err := w.e.Load(t.Context(), f, at(d, 24)); !errors.Is(err, want) {
						t.Errorf("%s of %s: %v, want %v", source, d, err, want)
					}
					if err := end(); err != nil {
						t.Error(err)
					}
				}
			}
			if day, err := w.e.Compare(t.Context(), d, at(d, 25)); err != nil || day.Breaks != 0 || len(day.Files) != 2 {
				t.Errorf("%+v, %v", day, err)
			}
		}
	})
}

// Files that come before their date is over are kept, and compared behind it:
// what is sold meanwhile and is in no file is not paid.
func TestFileBeforeTheEnd(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		w.sale(alice, wednesday, 100_00)
		for _, source := range []string{"north", "alipay"} {
			if _, err := w.e.Load(t.Context(), w.file(source, wednesday), at(wednesday, 13)); err != nil {
				t.Fatal(err)
			}
		}
		if due, err := w.e.Due(t.Context(), at(wednesday, 13)); err != nil || len(due) != 0 {
			t.Errorf("due at noon: %v, %v", due, err)
		}
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 13)); !errors.Is(err, settlement.ErrEarly) {
			t.Errorf("compared at noon: %v", err)
		}
		if err := w.e.Gate(t.Context(), wednesday); !errors.Is(err, ErrIncomplete) {
			t.Errorf("the gate at noon: %v", err)
		}
		late, _ := w.sale(alice, wednesday, 70_00)
		w.drop("north", late.RRN)
		w.undecided = 1
		if due, err := w.e.Due(t.Context(), at(wednesday, 24)); err != nil || len(due) != 0 {
			t.Errorf("due while a sale is under way: %v, %v", due, err)
		}
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 24)); !errors.Is(err, settlement.ErrUndecided) {
			t.Errorf("compared while a sale is under way: %v", err)
		}
		w.undecided = 0
		if due, err := w.e.Due(t.Context(), at(wednesday, 24)); err != nil || len(due) != 1 {
			t.Errorf("due behind the end: %v, %v", due, err)
		}
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 24)); err != nil {
			t.Fatal(err)
		}
		if b := w.only(Query{}); b.Kind != Short || b.RRN != late.RRN || !b.Held {
			t.Errorf("%+v", b)
		}
		if day, err := w.books.CloseDay(t.Context(), wednesday, at(wednesday, 25), false); err != nil || day.Gross != 100_00 {
			t.Errorf("%+v, %v: the late sale is in no file and must not be paid", day, err)
		}
	})
}

// A wallet's bill that is of another day than its name is refused whole, and the
// right one is taken then.
func TestBillOfAnotherDay(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.Sources = append(c.Sources, Source{Name: "unionpay-qr", Wallet: true}) })
		path := filepath.Join(t.TempDir(), "unionpay-qr-2026-11-18.bill")
		try := func(paid string) error {
			if err := os.WriteFile(path, []byte("BILL|unionpay-qr|20261118\nD|01|0ABC00000001||2026111812||"+paid+"120000|898110058120001|11000001|2500|5\nT|1|2500|0|5\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, end, err := w.e.OpenFile(path, "unionpay-qr", wednesday)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.e.Load(t.Context(), f, at(wednesday, 33))
			return errors.Join(err, end())
		}
		for _, other := range []string{"20261117", "20261119"} {
			if err := try(other); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "the bill of 2026-11-18 is wanted") {
				t.Errorf("a payment of %s: %v", other, err)
			}
		}
		if day, err := w.e.Day(t.Context(), wednesday); err != nil || len(day.Files) != 0 {
			t.Errorf("files %+v, %v", day.Files, err)
		}
		if err := try("20261118"); err != nil {
			t.Error(err)
		}
	})
}

// Only two different people move money, and only as the break allows.
func TestTwoPeople(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db, func(c *Config) { c.StopAbove = 50_00 })
		_, r := w.sale(alice, wednesday, 100_00)
		w.tell("north", *r)
		w.load(w.file("north", wednesday))
		w.load(w.file("alipay", wednesday))
		if _, err := w.e.Compare(t.Context(), wednesday, at(wednesday, 25)); err != nil {
			t.Fatal(err)
		}
		if err := w.e.Gate(t.Context(), wednesday); err == nil || !strings.Contains(err.Error(), "more than 50.00") {
			t.Errorf("the gate above the limit: %v", err)
		}
		b := w.only(Query{})
		if _, err := w.e.SignOff(t.Context(), wednesday, Who{Name: "ann"}, at(wednesday, 30)); !errors.Is(err, ErrAction) {
			t.Errorf("signed with an open break: %v", err)
		}
		for _, c := range []struct {
			a       Action
			who     string
			want    error
			done    bool
			instead string // what is said to be replaced
		}{{ToLoss, "ann", ErrAction, false, ""}, {ToPayer, "", ErrAction, false, ""}, {ToPayer, "ann", nil, false, ""}, {ToPayer, "ann", audit.ErrTwoPeople, false, ""},
			{ToMerchant, "bob", nil, false, "payer, which ann had asked for"}, {ToMerchant, "Bob", audit.ErrTwoPeople, false, ""},
			{ToPayer, "bob", nil, false, "merchant, which bob had asked for"}, {ToPayer, "ann", nil, true, ""}, {ToPayer, "cid", ErrAction, false, ""}} {
			got, done, err := w.e.Resolve(t.Context(), b.ID, c.a, "", Who{Name: c.who}, at(wednesday, 30))
			if !errors.Is(err, c.want) || c.want == nil && err != nil || done != c.done || got.Instead != c.instead {
				t.Errorf("%s by %s: %v, done %v, instead of %q; want %v, %v, %q", c.a, c.who, err, done, got.Instead, c.want, c.done, c.instead)
			}
		}
		if err := w.e.Gate(t.Context(), wednesday); err != nil {
			t.Errorf("the gate: %v", err)
		}
		entries, err := audit.List(t.Context(), db, "", 0, 10)
		if err != nil || len(entries) != 4 || !strings.HasPrefix(entries[2].Detail, "merchant instead of payer, which ann had asked for") {
			t.Errorf("the log: %+v, %v", entries, err)
		}
		if standing, err := w.e.Standing(t.Context()); err != nil || len(standing) != 0 {
			t.Errorf("standing %v, %v", standing, err)
		}
	})
}
