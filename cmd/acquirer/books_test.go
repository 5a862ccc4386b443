package main

import (
	"context"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/store"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

// What the journal approved, in settlement's words: a tap without a PIN has its
// own price, a load and its void are nobody's sale, and the business date is the one
// on which it was opened.
func TestFactsOfTheJournal(t *testing.T) {
	j := journal.New(storetest.SQLite(t, journal.Schema), nil)
	ctx := context.Background()
	day := calendar.DateOf(time.Now()).AddDays(-1) // on which they were opened: their answers came behind the cut-off
	approve := func(kind journal.Kind, stan, entry int32, original int64) int64 {
		t.Helper()
		now := time.Now()
		x := &journal.Transaction{ID: store.NewID(), Key: journal.Key{Day: day, Terminal: "10000001", Batch: 1, STAN: stan, Kind: kind}, MTI: 0x0200,
			Amount: 100_00, EntryMode: entry, Original: original, Channel: journal.Debit, Issuer: "north", Opened: now, Deadline: now.Add(time.Minute)}
		if opened, err := j.Open(ctx, x); err != nil || opened.Verdict != journal.Fresh {
			t.Fatalf("%v %v", opened.Verdict, err)
		}
		if _, err := j.Close(ctx, x, journal.Outcome{Reason: journal.Approved, Closed: now}); err != nil {
			t.Fatal(err)
		}
		return x.ID
	}
	approve(journal.Sale, 1, 72, 0)
	sale := approve(journal.Sale, 2, 71, 0)
	approve(journal.Void, 3, 51, sale)
	load := approve(journal.Load, 4, 51, 0)
	approve(journal.Void, 5, 51, load)
	approve(journal.Inquiry, 6, 51, 0)
	want := []struct {
		does  settlement.Does
		entry merchant.Entry
	}{{settlement.Sells, merchant.ContactlessNoPIN}, {settlement.Sells, ""}, {settlement.Voids, ""}, {settlement.Nothing, ""}, {settlement.Nothing, ""}, {settlement.Nothing, ""}}
	facts, err := settlement.FromJournal(j, switching.EntryOf).Facts(ctx, 0, 100)
	if err != nil || len(facts) != len(want) {
		t.Fatalf("%d facts, %v", len(facts), err)
	}
	for i, w := range want {
		if f := facts[i]; f.Does != w.does || f.Entry != w.entry || f.Date != day {
			t.Errorf("transaction %d: does %v, read %q, on %v; want %v and %q on %v", i+1, f.Does, f.Entry, f.Date, w.does, w.entry, day)
		}
	}
}
