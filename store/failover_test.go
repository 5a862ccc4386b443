package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"acquirer/store"
	"acquirer/store/storetest"
)

// waiting divides by zero while no commit waits for the standby.
const waiting = "select 1 / count(*) from pg_stat_activity where wait_event = 'SyncRep'"

// Fault 42: a primary whose synchronous standby is gone promises nothing. A write
// is in doubt, is not seen by anybody, and is not given up to have an answer; it
// ends when the standby is back. What an administrator's cancel makes of it, a
// commit that the standby may lack, is in doubt too and no yes.
func TestFault42_NoStandby(t *testing.T) {
	pair := storetest.StartPair(t)
	db, err := store.Open(t.Context(), pair.URL, things...)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	write := func(ctx context.Context, n int64) error {
		return db.Write(ctx, func(tx store.Tx) error { return insert(tx, n) })
	}
	if err := write(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	pair.KillStandby(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fate := make(chan error, 1)
	go func() { fate <- write(ctx, 2) }()
	pair.AwaitPrimary(t, waiting)
	cancel() // the caller gives up; the commit must not
	if err := <-fate; !errors.Is(err, store.ErrInDoubt) {
		t.Errorf("a commit that nobody promised: %v, want ErrInDoubt", err)
	}
	for range 20 { // time enough for a cancel to arrive
		pair.AsPrimary(t, waiting)
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows are seen, want 1: the standby has no more", n)
	}

	pair.StartStandby(t)
	pair.AwaitPrimary(t, "select 1 / (count(*) - 1) from thing")
	if n := count(t, db); n != 2 {
		t.Errorf("%d rows with the standby back, want 2", n)
	}

	pair.KillStandby(t)
	go func() { fate <- write(t.Context(), 3) }()
	pair.AwaitPrimary(t, waiting)
	pair.AsPrimary(t, "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
	select {
	case err := <-fate:
		if !errors.Is(err, store.ErrInDoubt) {
			t.Errorf("a wait that an administrator cancelled: %v, want ErrInDoubt", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the cancelled wait does not end")
	}

	// Somebody decides that it goes on alone.
	pair.AsPrimary(t, "alter system set synchronous_standby_names = ''")
	pair.AsPrimary(t, "select pg_reload_conf()")
	if err := write(t.Context(), 4); err != nil {
		t.Errorf("alone by decision: %v", err)
	}
}
