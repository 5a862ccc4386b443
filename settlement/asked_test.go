package settlement

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What is asked is what is done: a hold takes a part of the replacement after one
// person asked that it is given up, so that the next one asks anew. So does who
// comes too late.
func TestRecoverAsAsked(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid, ref := w.failed(e, merchant.T1)
		w.reissue(e, ref, clock(monday, 13, 0))
		w.says(e, ref, Succeeded, clock(monday, 14, 0))
		ask := func(by string, now time.Time, want bool) {
			t.Helper()
			if done, err := e.Recover(ctx, ref, false, by, now); done != want || err != nil {
				t.Fatalf("%s at %s: done %v, %v; want %v", by, now, done, err, want)
			}
		}
		ask("li", clock(monday, 15, 0), false)
		must(t, e.AskHold(ctx, Hold{Key: "H", Merchant: mid, Amount: 40_00, Reason: "risk", AskedBy: "li"}, clock(monday, 15, 10)))
		must(t, e.ConfirmHold(ctx, "H", "wang", clock(monday, 15, 20)))
		ask("wang", clock(monday, 15, 30), false) // another one is given up, of 59.40
		w.stands(e, mid, 59_40, 0, 99_40, 0)
		late := clock(monday, 15, 30).Add(audit.Lapses)
		ask("li", late, false)
		ask("wang", late.Add(audit.Lapses-time.Second), true)
		w.stands(e, mid, -40_00, 0, 0, 0)
		w.sound(e)
		w.derived(e)
	})
}

// The other requests lapse, too, and one for the release of a hold ends when a
// chargeback uses a part of it.
func TestAsksLapse(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx, now := w.engine(), t.Context(), clock(friday, 12, 0)
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "99")
		must(t, e.Watch(ctx, Watch{Merchant: mid, Reason: "ticket", SetBy: "li"}, now))
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		w.pay(e, clock(monday, 10, 0))
		ref := "20261120-" + mid + "-T1-0"
		w.sale(mid, monday, 100_00)
		catchUp(t, e)
		now = clock(monday, 12, 0)
		must(t, e.AskHold(ctx, Hold{Key: "H", Merchant: mid, Amount: 60_00, Reason: "case", AskedBy: "li"}, now))
		must(t, e.ConfirmHold(ctx, "H", "wang", now))
		for what, ask := range map[string]func(by string, now time.Time) (bool, error){
			"unwatch": func(by string, now time.Time) (bool, error) { return e.Unwatch(ctx, mid, by, now) },
			"decide":  func(by string, now time.Time) (bool, error) { return e.Decide(ctx, ref, true, by, now) },
			"release": func(by string, now time.Time) (bool, error) {
				err := e.Release(ctx, "H", by, now)
				if errors.Is(err, ErrHold) {
					return false, e.AskRelease(ctx, "H", by, now)
				}
				return err == nil, err
			},
		} {
			late := now.Add(audit.Lapses)
			for _, c := range []struct {
				by   string
				at   time.Time
				done bool
			}{{"li", now, false}, {"wang", late, false}, {"li", late.Add(time.Second), what != "release"}} {
				if done, err := ask(c.by, c.at); done != c.done || err != nil {
					t.Errorf("%s by %s at %s: done %v, %v; want %v", what, c.by, c.at, done, err, c.done)
				}
				if what == "release" && c.by == "wang" {
					must(t, e.Chargeback(ctx, Chargeback{Key: "C", Merchant: mid, Amount: 10_00, Hold: "H"}, c.at))
				}
			}
		}
		must(t, e.Release(ctx, "H", "wang", now.Add(2*audit.Lapses))) // of the 50.00 that li asked for
		if got := w.balance(e, ledger.MerchantFrozen, mid); got != 0 {
			t.Errorf("held %s", got)
		}
		w.sound(e)
	})
}

// What was asked for before it was kept when stands, and another person does it.
func TestUpgradeOfAsks(t *testing.T) {
	n := slices.IndexFunc(Schema.Steps, func(step string) bool { return strings.Contains(step, "alter table settlement_long add column asked") })
	old := []store.Schema{merchant.Schema, ledger.Schema, {Name: Schema.Name, Steps: Schema.Steps[:n]}, FileSchema}
	for engine, url := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + t.TempDir() + "/a.db" },
		"postgres": func() string { return storetest.PostgresURL(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			at := url()
			db, err := store.Open(t.Context(), at, old...)
			must(t, err)
			must(t, errors.Join(db.Write(t.Context(), func(tx store.Tx) error {
				for _, sql := range []string{
					"insert into settlement_watch (merchant, reason, set_by, since, until, asked_by, lifted_by, lifted) values ('898110054110001', 'ticket', 'zhao', 1, 0, 'li', '', 0)",
					"insert into settlement_decided (ref, word, asked_by, done_by, done) values ('20261120-898110054110001-T1-0', 'failed', 'li', '', 0)",
				} {
					if _, err := tx.Exec(sql); err != nil {
						return err
					}
				}
				return nil
			}), db.Close()))
			db, err = store.Open(t.Context(), at, schemas...)
			must(t, err)
			defer func() { must(t, db.Close()) }()
			w := newWorld(t, db)
			e := w.engine()
			mid := w.merchant(1, "ESIGN-STD", merchant.T1, "99")
			w.sale(mid, friday, 100_00)
			w.close(e, friday)
			w.pay(e, clock(monday, 10, 0))
			if done, err := e.Decide(t.Context(), "20261120-"+mid+"-T1-0", false, "wang", clock(monday, 12, 0)); !done || err != nil {
				t.Errorf("decided: %v, %v", done, err)
			}
			if lifted, err := e.Unwatch(t.Context(), mid, "wang", clock(monday, 12, 0)); !lifted || err != nil {
				t.Errorf("lifted: %v, %v", lifted, err)
			}
			// It failed, was issued again and paid after all; an older binary then wrote
			// of whoever asked no more than this.
			ref := "20261120-" + mid + "-T1-0"
			w.reissue(e, ref, clock(monday, 13, 0))
			w.says(e, ref, Succeeded, clock(monday, 14, 0))
			must(t, db.Write(t.Context(), func(tx store.Tx) error {
				_, err := tx.Exec("update settlement_long set way = 'merchant', asked_by = 'li' where ref = $1", ref)
				return err
			}))
			if done, err := e.Recover(t.Context(), ref, false, "wang", clock(monday, 15, 0)); !done || err != nil {
				t.Errorf("recovered: %v, %v", done, err)
			}
			w.sound(e)
		})
	}
}
