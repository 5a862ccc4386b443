package reconcile

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

// many is a journal of n equal sales, made while it is read.
type many struct{ n int }

func (m many) sale(i int) settlement.Fact {
	return settlement.Fact{Cursor: int64(i), At: at(wednesday, 12), On: wednesday, Txn: int64(i), Date: wednesday, RRN: fmt.Sprintf("%012d", i), Merchant: alice, Terminal: "10000001",
		Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: 100_00}
}

func (m many) Facts(_ context.Context, after int64, limit int) (out []settlement.Fact, err error) {
	for i := int(after) + 1; i <= min(m.n, int(after)+limit); i++ {
		out = append(out, m.sale(i))
	}
	return out, nil
}
func (m many) From(cursor int64) int64                                     { return cursor }
func (m many) Undecided(context.Context, calendar.Date) (n int, err error) { return 0, nil }
func (m many) CutOver(context.Context, calendar.Date) error                { return nil }

// A long file is loaded and compared in bounded memory, and its one fault in a
// thousand lines is found. ACQUIRER_RECONCILE_LINES=1000000 is the campaign
// (make reconcile-million).
func TestManyLines(t *testing.T) {
	n := 4_000
	if text := os.Getenv("ACQUIRER_RECONCILE_LINES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	db := storetest.SQLite(t, schemas...)
	w := newTown(t, db)
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	books, err := settlement.New(settlement.Config{DB: db, Source: many{n}, Merchants: reg})
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.e.cfg
	cfg.Books, cfg.Sources = books, []Source{{Name: "north"}}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// The file is on disk, as files are.
	path := filepath.Join(t.TempDir(), "north.txt")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := clearing.NewWriter(out, clearing.Header{Source: "north", Acquirer: "1", Date: wednesday})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= n; i++ {
		r := clearing.Record{Kind: clearing.Sale, RRN: fmt.Sprintf("%012d", i), Sent: "1118120000", PAN: "621000******0002", Terminal: "10000001", Merchant: alice, Amount: 100_00, IssuerFee: 45, NetworkFee: 3}
		if i%1000 == 0 {
			r.Amount += 100
		}
		if err := file.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	step := func(what string) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%-10s %8s, heap %d MB, from the system %d MB", what, time.Since(began).Round(time.Millisecond), m.HeapAlloc>>20, m.Sys>>20)
		began = time.Now()
		if limit := uint64(400 << 20); m.Sys > limit {
			t.Errorf("%s: %d MB from the system, more than %d", what, m.Sys>>20, limit>>20)
		}
	}
	if _, err := books.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	step("booked")
	f, end, err := e.OpenFile(path, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	totals, err := e.Load(t.Context(), f, at(wednesday, 24))
	if err != nil || totals.Count != n {
		t.Fatalf("%d lines, %v", totals.Count, err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	step("loaded")
	day, err := e.Compare(t.Context(), wednesday, at(wednesday, 25))
	if err != nil {
		t.Fatal(err)
	}
	step("compared")
	if day.Ours != int64(n) || day.Matched != int64(n-n/1000) || day.Breaks != n/1000 || day.Kinds[Amount] != n/1000 {
		t.Errorf("%d lines: ours %d, matched %d, breaks %v", n, day.Ours, day.Matched, day.Kinds)
	}
}

// A bank's statement: paid and returned as booked, paid twice, paid and not
// ordered, not paid at all, and found a day later.
func TestStatement(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newTown(t, db)
		statement := func(d calendar.Date, records ...clearing.Record) {
			t.Helper()
			f := File{Source: Bank, Date: d, Name: "statement-" + d.String(), SHA: "statement" + d.String(), Records: func() iter.Seq2[clearing.Record, error] {
				return func(yield func(clearing.Record, error) bool) {
					for i, r := range records {
						if r.Line, r.Net = i+1, r.Amount; !yield(r, nil) {
							return
						}
					}
				}
			}}
			w.load(f)
		}
		w.sale(alice, wednesday, 100_00)
		w.sale(alice, thursday, 200_00)
		w.night(wednesday)
		// What settlement would have paid on Thursday, as its table has it.
		var ref string
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			if err := tx.QueryRow("select ref from settlement_payout").Scan(&ref); err != nil {
				return err
			}
			_, err := tx.Exec("update settlement_payout set state = $1, finished = $2", int(settlement.Paid), at(thursday, 10).UnixMicro())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		var paid settlement.Sent
		if err := db.Read(t.Context(), func(tx store.Tx) (err error) {
			all, err := settlement.PaidOnTx(tx, thursday, "", 10)
			paid = all[0]
			return err
		}); err != nil {
			t.Fatal(err)
		}
		compare := func(d calendar.Date) map[string]State {
			t.Helper()
			w.load(w.file("north", d))
			w.load(w.file("alipay", d))
			if _, err := w.e.Compare(t.Context(), d, at(d, 25)); err != nil {
				t.Fatal(err)
			}
			all, err := w.e.Breaks(t.Context(), Query{})
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]State{}
			for _, b := range all {
				out[string(b.Kind)+" "+b.RRN] = b.State
			}
			return out
		}
		statement(thursday, clearing.Record{Kind: kindPayout, RRN: "nobody's", Amount: 5_00}, clearing.Record{Kind: kindReceipt, RRN: "unknown", Amount: 7_00})
		stumble(t, db, "recon_break", "new.kind = 'payout_short'")
		got := compare(thursday)
		if len(got) != 3 || got["payout_long nobody's"] != Open || got["receipt_long unknown"] != Waiting || got["payout_short "+ref] != Waiting {
			t.Errorf("after Thursday: %v", got)
		}
		statement(friday, clearing.Record{Kind: kindPayout, RRN: ref, Amount: paid.Amount}, clearing.Record{Kind: kindPayout, RRN: ref, Amount: paid.Amount},
			clearing.Record{Kind: kindReturn, RRN: ref, Amount: paid.Amount})
		got = compare(friday)
		if got["payout_short "+ref] != Resolved || got["payout_long "+ref] != Open || got["receipt_long "+ref] != Waiting {
			t.Errorf("after Friday: %v", got)
		}
		// It comes back here too: then the return is as booked.
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update settlement_payout set state = $1", int(settlement.CameBack))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got = compare(saturday); got["receipt_long "+ref] != Resolved {
			t.Errorf("after Saturday: %v", got)
		}
	})
}

// stumble lets PostgreSQL refuse every other row of a kind with a serialization
// failure, so that whole writes are done again; a write of one such row succeeds
// the second time.
func stumble(t *testing.T, db *store.DB, table, when string) {
	t.Helper()
	if !db.Postgres() {
		return
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		for _, sql := range []string{"create sequence stumbles", `create function stumble() returns trigger language plpgsql as $$ begin
			if nextval('stumbles') % 2 = 1 then raise exception using errcode = '40001'; end if; return new; end $$`,
			"create trigger stumble before insert on " + table + " for each row when (" + when + ") execute function stumble()"} {
			if _, err := tx.Exec(sql); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
