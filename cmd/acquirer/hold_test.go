package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/store"
)

// Money is held and released by two people, and their log says so.
func TestSettleHold(t *testing.T) {
	cfg := configOf(t, []string{"--database", "sqlite:" + filepath.Join(t.TempDir(), "acquirer.db")})
	const mid = "898110058120001"
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	sale := ledger.Clearing{Txn: 1, Date: 20261120, Merchant: mid, Amount: 100_00}
	transfer, _ := sale.Sale()
	if err := ledger.New(db).Post(t.Context(), transfer); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(code int, says string, args ...string) string {
		t.Helper()
		out, problem, got := call(t, newSettleCmd(), append(args, "--database", cfg.Database)...)
		if got != code || !strings.Contains(out+problem, says) {
			t.Errorf("%s: exit %d, %q %q; want %d and %q", strings.Join(args, " "), got, out, problem, code, says)
		}
		return out
	}
	run(0, "nothing is held", "hold", "list")
	run(2, "--merchant", "hold", "ask", "K1", "--amount", "60.00", "--reason", "x")
	run(2, "500.00", "hold", "ask", "K1", "--merchant", mid, "--amount", "-60.00", "--reason", "x")
	run(1, "is owed 100.00 that was not sent to the bank; hold no more", "hold", "ask", "K1", "--merchant", mid, "--amount", "100.01", "--reason", "cash-out")
	run(0, "somebody else confirms", "hold", "ask", "K1", "--merchant", mid, "--amount", "60.00", "--reason", "cash-out")
	run(1, "second person", "hold", "confirm", "K1")
	run(1, "no such hold", "hold", "confirm", "K2")
	run(1, "no such hold", "release", "ask", "K1")
	run(2, "15 characters", "fast", "M1")
	run(1, "not registered", "fast", mid)

	// The other person sits at another keyboard.
	db, err = store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{"confirm", "ask-release"} {
		if _, err := (&termsCall{Do: do, Key: "K1"}).run(t.Context(), db, cfg, "wang"); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	run(0, "held", "hold", "list")
	run(0, "paid with the next run", "release", "confirm", "K1")
	run(0, "nothing is held", "hold", "list", "--merchant", mid)
	var a termsAnswer
	if err := json.Unmarshal([]byte(run(0, "released", "hold", "list", "--all", "--json")), &a); err != nil || len(a.Holds) != 1 || a.Holds[0].SureBy != "wang" || time.Since(a.Holds[0].Freed) > time.Hour {
		t.Errorf("holds %+v, %v", a.Holds, err)
	}
	v := openForReading(t, cfg.Database)
	entries, err := audit.List(t.Context(), v.db, "", 0, 100)
	var ops []string
	for _, e := range entries {
		ops = append(ops, e.Op)
	}
	if got := strings.Join(ops, ","); err != nil || !strings.Contains(got, "settle release") || !strings.Contains(got, "settle ask-release,settle confirm,settle hold") {
		t.Errorf("log %s, %v", got, err)
	}
}

// A merchant gets another speed, is watched by one person and freed by two, and
// their log says so.
func TestSettleWatch(t *testing.T) {
	cfg := configOf(t, []string{"--database", "sqlite:" + filepath.Join(t.TempDir(), "acquirer.db")})
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	const mid = "898110058120001"
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(reg.Put(t.Context(), []merchant.Merchant{{MID: mid, Name: "stall", MCC: "5812", Status: merchant.Active, Plan: "MICRO-2025", Speed: merchant.S0, Tier: merchant.Assessed,
		Account: merchant.Account{Sealed: []byte("x"), Name: "owner", Bank: "ABC", Class: 1}}}, nil), db.Close()); err != nil {
		t.Fatal(err)
	}
	run := func(code int, says string, args ...string) string {
		t.Helper()
		out, problem, got := call(t, newSettleCmd(), append(args, "--database", cfg.Database)...)
		if got != code || !strings.Contains(out+problem, says) {
			t.Errorf("%s: exit %d, %q %q; want %d and %q", strings.Join(args, " "), got, out, problem, code, says)
		}
		return out
	}
	run(2, "--why", "speed", mid, "T1")
	run(2, "T1, D1, D0 or S0", "speed", mid, "t1", "--why", "x")
	run(1, "not registered", "speed", "898110058120009", "T1", "--why", "x")
	run(1, "does not settle at D1", "speed", mid, "D1", "--why", "x")
	run(0, "is paid D0 for what is booked from now on: 借记卡0.50%封顶20.00元", "speed", mid, "D0", "--why", "hotline, ticket 4711")
	run(0, "nobody is watched", "watches")
	run(2, "--why", "watch", mid)
	run(2, "--until", "watch", mid, "--why", "x", "--until", "soon")
	run(2, "15 characters", "unwatch", "M1")
	run(1, "not registered", "watch", "898110058120009", "--why", "x")
	run(1, "no such watch", "unwatch", mid)
	run(0, "two people", "watch", mid, "--why", "ticket 4711", "--until", "2999-12-31")
	run(0, "somebody else", "unwatch", mid)
	run(1, "second person", "unwatch", mid)
	run(0, "asks that it is lifted: ticket 4711", "watches", "--merchant", mid)
	db, err = store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&termsCall{Do: "unwatch", Merchant: mid}).run(t.Context(), db, cfg, "wang"); err != nil {
		t.Fatal(err)
	}
	var entries int
	var speed string
	if err := errors.Join(db.Read(t.Context(), func(tx store.Tx) error {
		if err := tx.QueryRow("select speed from merchant where mid = $1", mid).Scan(&speed); err != nil {
			return err
		}
		return tx.QueryRow("select count(*) from audit where op in ('settle watch', 'settle unwatch') and subject = $1 or op = 'settle speed' and detail = 'D0: hotline, ticket 4711'", "merchant "+mid).Scan(&entries)
	}), db.Close()); err != nil || entries != 4 || speed != "D0" {
		t.Errorf("%d entries in the log, paid %s, %v", entries, speed, err)
	}
	run(0, "nobody is watched", "watches")
	var a termsAnswer
	if err := json.Unmarshal([]byte(run(0, "wang", "watches", "--all", "--json")), &a); err != nil || len(a.Watches) != 1 || a.Watches[0].LiftedBy != "wang" || a.Watches[0].Until.IsZero() {
		t.Errorf("watches %+v, %v", a.Watches, err)
	}
}
