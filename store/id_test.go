package store_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"acquirer/store"
	"acquirer/store/storetest"
)

func TestNewIDIsOrderedAndUnique(t *testing.T) {
	before := store.IDAt(time.Now())
	lists := make([][]int64, 8)
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() {
			for range 20_000 {
				lists[i] = append(lists[i], store.NewID())
			}
		})
	}
	wg.Wait()
	var all []int64
	for i, l := range lists {
		if !slices.IsSorted(l) {
			t.Errorf("goroutine %d saw ids go back", i)
		}
		all = append(all, l...)
	}
	slices.Sort(all)
	if n := len(all); len(slices.Compact(all)) != n {
		t.Error("an id was given twice")
	}
	if all[0] < before {
		t.Errorf("id %d sorts before the time it was made at, %d", all[0], before)
	}
	if at := store.IDTime(store.IDAt(time.UnixMilli(1_770_000_000_123))); at.UnixMilli() != 1_770_000_000_123 {
		t.Errorf("IDTime of IDAt is %v", at)
	}
	if store.SetNode(-1) == nil || store.SetNode(store.MaxNode+1) == nil {
		t.Error("a node number out of range was taken")
	}
}

// A process that starts on a clock set back goes on with ids behind those of
// its predecessor.
func TestIDsGoOnAfterARestartOnAnEarlierClock(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + t.TempDir() + "/a.db" },
		"postgres": storetest.PostgresURL,
	} {
		t.Run(name, func(t *testing.T) {
			url := url(t)
			db, err := store.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			ahead := store.IDTime(store.NewID()).Add(3 * time.Second)
			// What a predecessor with a clock three seconds ahead has left.
			err = db.Write(t.Context(), func(tx store.Tx) error {
				tick := store.IDAt(ahead) >> 22 << 14
				_, err := tx.Exec("insert into store_mark (node, tick) values ($1, $2) on conflict (node) do update set tick = $2", store.Node(), tick)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if db, err = store.Open(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if id := store.NewID(); id <= store.IDAt(ahead) {
				t.Errorf("the first id is of %v, want behind %v", store.IDTime(id), ahead)
			}
		})
	}
}

func TestOneProcessPerNode(t *testing.T) {
	base := storetest.PostgresURL(t)
	other, err := pgx.Connect(t.Context(), base+"&application_name="+url.PathEscape("acquirer node 0 another process"))
	if err != nil {
		t.Fatal(err)
	}
	var db *store.DB
	for wait := 500 * time.Millisecond; ; wait *= 2 { // until there is time enough to be connected and to look
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		db, err = store.Open(ctx, base)
		cancel()
		if err == nil {
			db.Close()
			t.Fatal("two processes are node 0")
		}
		if strings.Contains(err.Error(), "node number") {
			break
		}
		if wait > 30*time.Second {
			t.Fatalf("%v, want an error that says what to do", err)
		}
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), base); err != nil {
		t.Fatalf("when the other has gone: %v", err)
	}
	db.Close()
}
