package store_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var things = []store.Schema{{Name: "things", Steps: []string{
	`create table thing (id BIGINT primary key, n INTEGER not null, name TEXT, body BYTEA);
	 create unique index thing_n on thing (n) -- one; of each`,
}}}

func TestWriteAndRead(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		type fen int64
		id := store.NewID()
		err := db.Write(ctx, func(tx store.Tx) error {
			n, err := tx.Exec("insert into thing (id, n, name, body) values ($1, $2, $3, $4)", id, fen(7), "收单", [3]byte{1, 0, 2})
			if n != 1 {
				t.Errorf("changed %d rows, want 1", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var gotID int64
		var n fen
		var name string
		var body [3]byte
		var null *string
		err = db.Read(ctx, func(tx store.Tx) error {
			return tx.QueryRow("select id, n, name, body, null from thing where n = $2 and id = $1", id, 7).Scan(&gotID, &n, &name, &body, &null)
		})
		if err != nil || gotID != id || n != 7 || name != "收单" || body != [3]byte{1, 0, 2} || null != nil {
			t.Errorf("read %d %d %q %v %v, %v", gotID, n, name, body, null, err)
		}
		err = db.Read(ctx, func(tx store.Tx) error {
			return tx.QueryRow("select id from thing where n = 8").Scan(&gotID)
		})
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("no row: %v, want ErrNotFound", err)
		}
		err = db.Write(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("insert into thing (id, n) values ($1, $2)", store.NewID(), 7)
			return err
		})
		if !errors.Is(err, store.ErrDuplicate) {
			t.Errorf("a second n = 7: %v, want ErrDuplicate", err)
		}
		if err := db.Read(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("delete from thing")
			return err
		}); err == nil {
			t.Error("Read let something be deleted")
		}
	})
}

func TestGatherKeepsNeighboursFromHarm(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		type value struct{ id, n int64 }
		q := store.Gather(db, "test", func(tx store.Tx, batch []*value) error {
			for _, v := range batch {
				v.id = store.NewID()
				if v.n%10 == 3 {
					panic("three")
				}
				if _, err := tx.Exec("insert into thing (id, n) values ($1, $2)", v.id, v.n%100); err != nil {
					return err
				}
			}
			return nil
		})
		const callers = 200 // every n below 100 twice
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() { errs[i] = q.Do(context.Background(), &value{n: int64(i)}) })
		}
		wg.Wait()
		for n := range 100 {
			a, b := errs[n], errs[n+100]
			if n%10 == 3 {
				if a == nil || b == nil {
					t.Fatalf("%d: %v, %v, want the panic", n, a, b)
				}
				continue
			}
			if (a == nil) == (b == nil) {
				t.Fatalf("%d: %v, %v, want one to win", n, a, b)
			}
			if err := errors.Join(a, b); !errors.Is(err, store.ErrDuplicate) {
				t.Fatalf("%d: %v, want ErrDuplicate", n, err)
			}
		}
		var count int
		err := db.Read(t.Context(), func(tx store.Tx) error { return tx.QueryRow("select count(*) from thing").Scan(&count) })
		if err != nil || count != 90 {
			t.Errorf("%d rows, %v, want 90", count, err)
		}
	})
}

func TestMigrationRefusals(t *testing.T) {
	urls := map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + t.TempDir() + "/a.db" },
		"postgres": storetest.PostgresURL,
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			url := url(t)
			one := store.Schema{Name: "s", Steps: []string{"create table a (id BIGINT primary key)"}}
			two := store.Schema{Name: "s", Steps: []string{one.Steps[0], "create table b (id BIGINT primary key)"}}
			edited := store.Schema{Name: "s", Steps: []string{"create table a (id BIGINT primary key, x TEXT)"}}
			broken := store.Schema{Name: "s", Steps: []string{one.Steps[0], two.Steps[1], "create table c (id BIGINT primary key); nonsense"}}
			for _, step := range []struct {
				schema store.Schema
				ok     bool
			}{{one, true}, {one, true}, {two, true}, {one, false}, {edited, false}, {broken, false}, {broken, false}, {two, true}} {
				db, err := store.Open(t.Context(), url, step.schema)
				if (err == nil) != step.ok {
					t.Fatalf("%d steps: %v", len(step.schema.Steps), err)
				}
				if err == nil {
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}
