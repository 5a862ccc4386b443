package reconcile

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/store"
)

// until is a schema as it was before the step that makes a table.
func until(s store.Schema, table string) store.Schema {
	n := slices.IndexFunc(s.Steps, func(step string) bool { return strings.Contains(step, table) })
	return store.Schema{Name: s.Name, Steps: s.Steps[:n]}
}

// Days that were signed before income was carried are carried after the upgrade,
// and what merchants had sold before counts.
func TestUpgradeOfSignedDays(t *testing.T) {
	path := "sqlite:" + filepath.Join(t.TempDir(), "a.db")
	db, err := store.Open(t.Context(), path, merchant.Schema, ledger.Schema, until(settlement.Schema, "settlement_earned"), settlement.FileSchema, until(Schema, "settlement_earned"), audit.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		for _, sql := range []string{
			"insert into recon_day (date, compared, ours, theirs, matched, maker, made, checker, checked) values (20261118, 1, 0, 0, 0, 'ann', 1, 'bob', 2), (20261119, 1, 0, 0, 0, 'ann', 1, '', 0)",
			"insert into settlement_run (id, date, seq, state, upto, touched, started, ended) values (1, 20261118, 0, 3, '', 0, 0, 0)",
			`insert into settlement_line (id, effect, date, txn_date, merchant, terminal, rrn, issuer, wallet, speed, plan, plan_version, amount, fee_rate, fee_fixed, speed_fee, issuer_fee, network_fee, run, parent)
				values (1, 1, 20261118, 20261118, 'M', 'T', '1', 'north', '', 'T1', 'P', 1, 10000, 60, 0, 0, 45, 3, 1, 0), (2, 4, 20261118, 20261118, 'M', 'T', '2', 'north', '', 'T1', 'P', 1, -4000, -24, 0, 0, -18, -1, 1, 1),
				(-1, 2, 20261118, 20261118, 'M', 'T', '1', 'north', '', 'T1', 'P', 1, -6000, 0, 0, 0, 0, 0, 1, 0)`,
		} {
			if _, err := tx.Exec(sql); err != nil {
				return err
			}
		}
		sale := ledger.Clearing{Txn: 1, Date: wednesday, Merchant: "M", Amount: 100_00, FeeRate: 60, IssuerFee: 45, NetworkFee: 3}
		posted, _ := sale.Sale()
		_, err := ledger.PostTx(tx, []ledger.Transfer{posted})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), path, schemas...); err != nil {
		t.Fatal(err)
	}
	w := newTown(t, db)
	if err := w.books.Earn(t.Context(), at(thursday, 10)); err != nil {
		t.Fatal(err)
	}
	for day, want := range map[string]*settlement.Earned{"signed": {Day: wednesday, State: settlement.EarnedCarried, Net: 12}, "half signed": nil} {
		date := wednesday
		if want == nil {
			date = thursday
		}
		got, err := w.e.Day(t.Context(), date)
		if err != nil || (got.Earned == nil) != (want == nil) || want != nil && *got.Earned != *want {
			t.Errorf("%s: %+v, %v", day, got.Earned, err)
		}
	}
	var sales, sold, back int64
	if err := db.Read(t.Context(), func(tx store.Tx) error {
		return tx.QueryRow("select sales, sold, back from settlement_conduct where merchant = 'M' and date = 20261118").Scan(&sales, &sold, &back)
	}); err != nil || sales != 0 || sold != 4000 || back != 4000 {
		t.Errorf("conduct: %d sales of %d, %d back, %v", sales, sold, back, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// Files that came when a source had one a day are what they were: the same again
// is refused, and a ZM of another merchant is taken.
func TestUpgradeOfFiles(t *testing.T) {
	path := "sqlite:" + filepath.Join(t.TempDir(), "a.db")
	db, err := store.Open(t.Context(), path, merchant.Schema, ledger.Schema, settlement.Schema, settlement.FileSchema, until(Schema, "recon_file2"), audit.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`insert into recon_file (id, source, date, name, sha, lines, amount, fees, net, state, loaded)
			values (1, 'north', 20261118, 'INN26111801ZM_1', 'a', 0, 0, 0, 0, 3, 5), (2, 'north', 20261119, 'north-20261119.txt', 'b', 0, 0, 0, 0, 3, 6)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), path, schemas...); err != nil {
		t.Fatal(err)
	}
	w := newTown(t, db)
	for name, want := range map[string]error{"INN26111801ZM_1": ErrAnother, "INN26111801ZM_2": nil, "INN26111901ZM_1": ErrAnother} {
		if err := w.zm(name, friday); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
