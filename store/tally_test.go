package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/store"
	"acquirer/store/storetest"
)

var (
	countedSchema = store.Schema{Name: "counted", Steps: []string{"create table a (id BIGINT primary key, v TEXT, w BYTEA); create table b (id BIGINT primary key, v INTEGER)"}}
	countedTables = []store.Tallied{{Table: "a", Columns: "id, v, w"}, {Table: "b", Columns: "id, v"}}
)

// Rows that were counted are missed when they go, whoever else agrees that they
// never were; so is a changed one, a tally that goes or is changed, and a chain
// that was written anew, where its end was noted.
func TestTally(t *testing.T) {
	storetest.Each(t, []store.Schema{countedSchema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		exec := func(all ...string) {
			t.Helper()
			if err := db.Write(ctx, func(tx store.Tx) error {
				for _, sql := range all {
					if n, err := tx.Exec(sql); err != nil || n == 0 {
						return fmt.Errorf("%s: %d rows, %w", sql, n, err)
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		fill := func(n int) (ids []int64) {
			t.Helper()
			if err := db.Write(ctx, func(tx store.Tx) error {
				ids = nil
				for i := range n {
					ids = append(ids, store.NewID())
					if _, err := tx.Exec("insert into a (id, v, w) values ($1, $2, $3)", ids[i], fmt.Sprint("row ", i), []byte{byte(i)}); err != nil {
						return err
					}
					if _, err := tx.Exec("insert into b (id, v) values ($1, $2)", store.NewID(), i); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			return ids
		}
		soon := func() time.Time { return time.Now().Add(time.Hour) } // past every id there is
		tally := func(want int) {
			t.Helper()
			if n, err := db.Tally(ctx, countedTables, soon(), nil); err != nil || n != want {
				t.Fatalf("counted %d, %v; want %d", n, err, want)
			}
		}
		check := func(noted store.Head) *store.TallyReport {
			t.Helper()
			r, err := db.CheckTallies(ctx, countedTables, noted, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := check(store.Head{}); r.Found != 0 || r.Head != (store.Head{}) {
			t.Errorf("before the first: %+v", r)
		}
		tally(0)
		first := fill(2500) // more than a page
		if n, err := db.Tally(ctx, countedTables, store.IDTime(first[0]), nil); err != nil || n != 0 {
			t.Errorf("what is too young was counted: %d, %v", n, err)
		}
		tally(5000)
		tally(0)
		noted := check(store.Head{})
		if noted.Found != 0 || noted.Rows != 5000 || noted.Late != 0 || noted.Head.Seq != 4 {
			t.Fatalf("%+v", noted)
		}
		second := fill(3)
		if r := check(noted.Head); r.Found != 0 || r.Rows != 5000 || r.Late != 0 {
			t.Errorf("what waits to be counted: %+v", r)
		}
		tally(6)
		if head, err := store.ParseHead(noted.Head.String()); err != nil || head != noted.Head {
			t.Errorf("%v, %v", head, err)
		}
		if r := check(noted.Head); r.Found != 0 || r.Rows != 5006 || r.Head.Seq != 6 {
			t.Errorf("%+v", r)
		}
		late := first[0] + 1
		exec(fmt.Sprintf("insert into a (id, v) values (%d, 'late')", late))
		if r := check(noted.Head); r.Found != 0 || r.Late != 1 {
			t.Errorf("what became visible late: %+v", r)
		}
		exec(fmt.Sprintf("delete from a where id = %d", late))

		exec("create table was_a as select * from a", "create table was_b as select * from b", "create table was_t as select * from store_tally")
		restore := func() {
			t.Helper()
			if err := db.Write(ctx, func(tx store.Tx) error {
				for _, sql := range []string{"delete from a", "delete from b", "delete from store_tally", "insert into a select * from was_a", "insert into b select * from was_b", "insert into store_tally select * from was_t"} {
					if _, err := tx.Exec(sql); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		gone := fmt.Sprintf("a %d, written %s: it was counted (tally 2) and is gone", first[2400], store.IDTime(first[2400]).UTC().Format(time.RFC3339))
		for _, c := range []struct{ sql, want string }{
			{fmt.Sprintf("delete from a where id = %d", first[2400]), gone},
			{fmt.Sprintf("delete from a where id = %d; delete from b", second[2]), "is gone"},
			{"delete from a", "is gone"},
			{fmt.Sprintf("update a set id = id + 1 where id = %d", second[2]), "is gone"},
			{fmt.Sprintf("update a set v = 'x' where id = %d", first[7]), "a row is not what it was"},
			{fmt.Sprintf("update a set v = null where id = %d", second[2]), "a row is not what it was"},
			{"update b set v = v + 1 where v = 2499", "a row is not what it was"},
			{"delete from store_tally where seq = 3", "does not follow the one before it"},
			{"delete from store_tally where seq = 1", "does not follow the one before it"},
			{"update store_tally set hash = prev where seq = 2", "a row is not what it was"},
			{"update store_tally set n = n + 1 where seq = 2", "keys and says"},
			{"update store_tally set name = 'b' where seq = 5", "does not follow"},
			{"update store_tally set name = 'c' where seq = 6", "of which this binary counts none"},
			{"delete from store_tally where seq > 3", "do not have " + noted.Head.String()}, // cut off
		} {
			exec(strings.Split(c.sql, "; ")...)
			if r := check(noted.Head); r.Found == 0 || !strings.Contains(strings.Join(r.Problems, "\n"), c.want) {
				t.Errorf("%s: %+v, want %q", c.sql, r.Problems, c.want)
			}
			restore()
		}
		// One who takes the tallies out and counts anew is caught by what was noted.
		exec(fmt.Sprintf("delete from a where id = %d", first[9]), "delete from store_tally")
		tally(5005)
		if r := check(store.Head{}); r.Found != 0 {
			t.Errorf("a chain that was written anew is whole: %+v", r)
		}
		if r := check(noted.Head); r.Found != 1 || !strings.Contains(r.Problems[0], "written anew") {
			t.Errorf("%+v", r)
		}
	})
}

// Several nodes that count at once count every row once.
func TestTallyByTwo(t *testing.T) {
	storetest.Each(t, []store.Schema{countedSchema}, func(t *testing.T, db *store.DB) {
		const rows = 300
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for i := range rows {
					if err := db.Write(t.Context(), func(tx store.Tx) error {
						_, err := tx.Exec("insert into b (id, v) values ($1, $2)", store.NewID(), i)
						return err
					}); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				for range 20 {
					if _, err := db.Tally(t.Context(), countedTables, time.Now().Add(-time.Second), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if _, err := db.Tally(t.Context(), countedTables, time.Now().Add(time.Hour), nil); err != nil {
			t.Fatal(err)
		}
		r, err := db.CheckTallies(t.Context(), countedTables, store.Head{}, nil)
		if err != nil || r.Found != 0 || r.Rows+r.Late != 3*rows {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
