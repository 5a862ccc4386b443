package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

func entry(n int) Entry {
	return Entry{Who: "uid 7 (ann)", From: "command line", Op: "owed resolve", Subject: fmt.Sprint("RRN ", n), Detail: "ticket 4711", Result: Done}
}

func add(t *testing.T, db *store.DB, e Entry) Entry {
	t.Helper()
	got, err := Append(t.Context(), db, e)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNumbersHaveNoGapsWhateverFails(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		if head, err := Verify(t.Context(), db, Head{}); err != nil || head != (Head{}) {
			t.Fatalf("an empty log: %v %v", head, err)
		}
		var wg sync.WaitGroup
		no := errors.New("the action failed")
		for n := range 40 {
			wg.Go(func() {
				err := db.Write(context.Background(), func(tx store.Tx) error {
					if _, err := Record(tx, entry(n)); err != nil {
						return err
					}
					if n%4 == 3 { // what it tells did not happen, so neither did the entry
						return no
					}
					return nil
				})
				if err != nil && !errors.Is(err, no) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		head, err := Verify(t.Context(), db, Head{})
		if err != nil || head.Seq != 30 {
			t.Fatalf("%v %v, want 30 entries", head, err)
		}
		add(t, db, Entry{Who: "a\x00b", Op: "route reload", Detail: "bad \xff text\nof two lines", Result: "refused: line 3"})
		if _, err := Verify(t.Context(), db, head); err != nil {
			t.Errorf("the head that was noted: %v", err)
		}
		if again, err := ParseHead(head.String()); err != nil || again != head {
			t.Errorf("%v read back as %v: %v", head, again, err)
		}
		list, err := List(t.Context(), db, "", 0, 3)
		if err != nil || len(list) != 3 || list[0].Seq != 31 || list[2].Seq != 29 || list[0].Who != "a\uFFFDb" || list[0].Result != "refused: line 3" {
			t.Errorf("%+v %v", list, err)
		}
		if list, err := List(t.Context(), db, "", 29, 100); err != nil || len(list) != 28 || list[0].Seq != 28 {
			t.Errorf("going on before 29 gives %d: %v", len(list), err)
		}
		if list, err := List(t.Context(), db, "route reload", 0, 100); err != nil || len(list) != 1 {
			t.Errorf("one kind gives %+v %v", list, err)
		}
	})
}

func TestBadEntriesAndHeads(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	for _, e := range []Entry{{}, {Who: "a", Op: "b"}, {Who: "a", Result: Done}, {Op: "b", Result: Done}, {Who: "a", Op: "b", Result: strings.Repeat("x", MaxText+1)}} {
		if _, err := Append(t.Context(), db, e); err == nil {
			t.Errorf("%.60v was recorded", e)
		}
	}
	if head, err := Verify(t.Context(), db, Head{}); err != nil || head.Seq != 0 {
		t.Errorf("refused entries left %v %v", head, err)
	}
	for _, s := range []string{"", "1", "1:", "1:abc", "x:" + strings.Repeat("0", 64), "1:" + strings.Repeat("g", 64), "1:" + strings.Repeat("0", 65), "01:" + strings.Repeat("0", 64)} {
		if h, err := ParseHead(s); err == nil {
			t.Errorf("%q was read as %v", s, h)
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		for n := range 6 {
			add(t, db, entry(n))
		}
		noted, err := Verify(t.Context(), db, Head{})
		if err != nil {
			t.Fatal(err)
		}
		undo := errors.New("undo")
		for _, c := range []struct {
			name string
			sql  string
			seq  int64
		}{
			{"a text changed", "update audit set detail = 'ticket 1' where seq = 3", 3},
			{"a text moved to its neighbour", "update audit set subject = subject || detail, detail = '' where seq = 3", 3},
			{"another time", "update audit set at = at + 1 where seq = 2", 2},
			{"another hash", "update audit set hash = prev where seq = 2", 2},
			{"taken out", "delete from audit where seq = 4", 4},
			{"taken out at the front", "delete from audit where seq = 1", 1},
			{"cut off", "delete from audit where seq = 6", 6},
			{"cut off with its head", "delete from audit where seq = 6; update audit_head set seq = 5, hash = (select hash from audit where seq = 5)", 6},
			{"put in", "insert into audit select 7, at, who, origin, op, subject, detail, result, prev, hash from audit where seq = 6", 7},
			{"renumbered", "update audit set seq = 40 where seq = 4; update audit set seq = 4 where seq = 5; update audit set seq = 5 where seq = 40", 4},
			{"a head that was set back", "update audit_head set seq = 5", 6},
			{"no head", "delete from audit_head", 6},
			{"nothing left", "delete from audit; update audit_head set seq = 0, hash = NULL", 1},
		} {
			err := db.Write(t.Context(), func(tx store.Tx) error {
				for sql := range strings.SplitSeq(c.sql, "; ") {
					if _, err := tx.Exec(sql); err != nil {
						t.Errorf("%s: %v", c.name, err)
						return undo
					}
				}
				_, err := verify(tx, noted)
				var broken *Broken
				if !errors.As(err, &broken) || broken.Seq != c.seq {
					t.Errorf("%s: %v, want entry %d", c.name, err, c.seq)
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if head, err := Verify(t.Context(), db, noted); err != nil || head != noted {
			t.Errorf("after all that was undone: %v %v", head, err)
		}
	})
}
