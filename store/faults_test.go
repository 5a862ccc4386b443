package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"acquirer/store"
	"acquirer/store/storetest"
)

func insert(tx store.Tx, n int64) error {
	_, err := tx.Exec("insert into thing (id, n) values ($1, $2)", store.NewID(), n)
	return err
}

func count(t *testing.T, db *store.DB) (n int64) {
	t.Helper()
	if err := db.Read(t.Context(), func(tx store.Tx) error { return tx.QueryRow("select count(*) from thing").Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// stuck is a queue whose writers wait inside apply until they are let go.
type stuck struct {
	*store.Queue[int64]
	inside chan struct{} // one for each writer that has arrived
	free   chan struct{}
}

func newStuck(db *store.DB) *stuck {
	s := &stuck{inside: make(chan struct{}, 16), free: make(chan struct{})}
	s.Queue = store.Gather(db, "stuck", func(tx store.Tx, batch []int64) error {
		for _, n := range batch {
			if err := insert(tx, n); err != nil {
				return err
			}
		}
		s.inside <- struct{}{}
		<-s.free
		return nil
	})
	return s
}

// occupy makes every writer of the queue wait.
func (s *stuck) occupy(t *testing.T, db *store.DB, wg *sync.WaitGroup) {
	writers := 1
	if db.Postgres() {
		writers = 2
	}
	for i := range writers {
		wg.Go(func() {
			if err := s.Do(context.Background(), int64(1000+i)); err != nil {
				t.Errorf("the value that occupied a writer: %v", err)
			}
		})
		<-s.inside
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		q := newStuck(db)
		var wg sync.WaitGroup
		q.occupy(t, db, &wg)
		ctx, cancel := context.WithCancel(t.Context())
		cause := make(chan error)
		go func() { cause <- q.Do(ctx, 1) }()
		cancel()
		if err := <-cause; !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrInDoubt) {
			t.Errorf("withdrawn in time: %v, want context.Canceled and no doubt", err)
		}
		close(q.free)
		wg.Wait()
		if n := count(t, db); n != map[bool]int64{false: 1, true: 2}[db.Postgres()] {
			t.Errorf("%d rows: the withdrawn value was written", n)
		}
	})
}

func TestContextEndsInsideTheWriter(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		q := newStuck(db)
		ctx, cancel := context.WithCancel(t.Context())
		answer := make(chan error)
		go func() { answer <- q.Do(ctx, 1) }()
		<-q.inside
		cancel()
		if err := <-answer; !errors.Is(err, store.ErrInDoubt) {
			t.Errorf("left while its value was being written: %v, want ErrInDoubt", err)
		}
		close(q.free)
		if err := q.Do(t.Context(), 2); err != nil { // behind the first on SQLite, beside it on PostgreSQL
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A function writes into its caller's variables, so its caller stays until it
// has ended, and hears what became of it.
func TestFunctionIsWaitedFor(t *testing.T) {
	db := storetest.SQLite(t, things...)
	ctx, cancel := context.WithCancel(t.Context())
	ran := 0
	err := db.Write(ctx, func(tx store.Tx) error {
		cancel()
		ran++
		return insert(tx, 1)
	})
	if err != nil || ran != 1 || count(t, db) != 1 {
		t.Errorf("%v, ran %d times", err, ran)
	}
}

func TestFullQueueRefuses(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		q := newStuck(db)
		var wg sync.WaitGroup
		q.occupy(t, db, &wg)
		ctx, cancel := context.WithCancel(t.Context())
		var busy, withdrawn atomic.Int64
		refused := make(chan struct{}, 100)
		var waiting sync.WaitGroup
		for i := range store.QueueLimit + 100 {
			waiting.Go(func() {
				switch err := q.Do(ctx, int64(i)); {
				case errors.Is(err, store.ErrBusy):
					busy.Add(1)
					refused <- struct{}{}
				case errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrInDoubt):
					withdrawn.Add(1)
				default:
					t.Errorf("value %d: %v", i, err)
				}
			})
		}
		for range 100 {
			<-refused
		}
		cancel()
		waiting.Wait()
		if busy.Load() != 100 || withdrawn.Load() != store.QueueLimit {
			t.Errorf("%d refused and %d withdrawn, want 100 and %d", busy.Load(), withdrawn.Load(), store.QueueLimit)
		}
		close(q.free)
		wg.Wait()
	})
}

func TestCloseUnderLoad(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		q := store.Gather(db, "load", func(tx store.Tx, batch []int64) error {
			for _, n := range batch {
				if err := insert(tx, n); err != nil {
					return err
				}
			}
			return nil
		})
		var next, done atomic.Int64
		var wg sync.WaitGroup
		enough := make(chan struct{})
		for range 16 {
			wg.Go(func() {
				for {
					n := next.Add(1)
					var err error
					if n%5 == 0 {
						err = db.Write(context.Background(), func(tx store.Tx) error { return insert(tx, n) })
					} else {
						err = q.Do(context.Background(), n)
					}
					if errors.Is(err, store.ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("value %d: %v, want success or ErrClosed", n, err)
						return
					}
					if done.Add(1) == 200 {
						close(enough)
					}
				}
			})
		}
		<-enough
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := db.Write(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a write after Close: %v", err)
		}
		if err := db.Read(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a read after Close: %v", err)
		}
	})
}

// What was answered with success is there when the database is opened again.
func TestAnsweredIsThereAfterReopening(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":   func(t testing.TB) string { return "sqlite:" + t.TempDir() + "/a.db" },
		"postgres": storetest.PostgresURL,
	} {
		t.Run(name, func(t *testing.T) {
			url := url(t)
			var want int64
			for round := range 3 {
				db, err := store.Open(t.Context(), url, things...)
				if err != nil {
					t.Fatal(err)
				}
				if n := count(t, db); n != want {
					t.Errorf("round %d: %d rows, want %d", round, n, want)
				}
				for i := range 10 {
					if err := db.Write(t.Context(), func(tx store.Tx) error { return insert(tx, int64(100*round+i)) }); err != nil {
						t.Fatal(err)
					}
					want++
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestPanicComesHome(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		func() {
			defer func() {
				if v := recover(); v != "debits differ from credits" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = db.Write(t.Context(), func(tx store.Tx) error {
				if err := insert(tx, 1); err != nil {
					return err
				}
				panic("debits differ from credits")
			})
			t.Error("Write returned")
		}()
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows after a panic, want 0", n)
		}
		if err := db.Write(t.Context(), func(tx store.Tx) error { return insert(tx, 2) }); err != nil {
			t.Errorf("the next write: %v", err)
		}
	})
}

func TestFailedStatementFailsTheTransaction(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		err := db.Write(t.Context(), func(tx store.Tx) error {
			if err := insert(tx, 1); err != nil {
				return err
			}
			_ = insert(tx, 1) // a duplicate, and nobody looks
			if err := insert(tx, 2); err == nil {
				t.Error("a statement ran after a failed one")
			}
			return nil
		})
		if !errors.Is(err, store.ErrDuplicate) {
			t.Errorf("%v, want ErrDuplicate", err)
		}
		err = db.Write(t.Context(), func(tx store.Tx) error {
			rows, err := tx.Query("select 1 union all select 2")
			if err != nil {
				return err
			}
			rows.Next()
			return insert(tx, 3)
		})
		if err == nil {
			t.Error("a statement ran beside open rows")
		}
		for _, arg := range []any{1.5, time.Now(), struct{}{}, map[string]int{}} {
			if err := db.Write(t.Context(), func(tx store.Tx) error {
				_, err := tx.Exec("insert into thing (id, n) values ($1, 1)", arg)
				return err
			}); err == nil {
				t.Errorf("an argument of type %T was taken", arg)
			}
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows, want 0", n)
		}
	})
}

func TestAfterTellsTheFate(t *testing.T) {
	storetest.Each(t, things, func(t *testing.T, db *store.DB) {
		var mu sync.Mutex
		fates := map[string][]error{}
		tell := func(tx store.Tx, who string) {
			tx.After(func(fate error) {
				mu.Lock()
				defer mu.Unlock()
				fates[who] = append(fates[who], fate)
			})
		}
		q := store.Gather(db, "fates", func(tx store.Tx, batch []int64) error {
			for _, n := range batch {
				tell(tx, fmt.Sprint(n))
				if err := insert(tx, n%10); err != nil {
					return err
				}
			}
			return nil
		})
		errs := make([]error, 20)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = q.Do(context.Background(), int64(i)) })
		}
		wg.Wait()
		for i, err := range errs {
			told := fates[fmt.Sprint(i)]
			if len(told) == 0 {
				t.Fatalf("value %d: never told", i)
			}
			for j, fate := range told {
				last := j == len(told)-1
				if last && (fate == nil) != (err == nil) {
					t.Errorf("value %d: last told %v, answered %v", i, fate, err)
				}
				if !last && fate == nil {
					t.Errorf("value %d: told that it was durable before it ended as %v", i, told)
				}
			}
		}
	})
}

func TestRetriesTheWholeFunction(t *testing.T) {
	db := storetest.Postgres(t, things...)
	tries := 0
	err := db.Write(t.Context(), func(tx store.Tx) error {
		tries++
		if err := insert(tx, 1); err != nil {
			return err
		}
		if tries < 4 {
			_, err := tx.Exec("do $$ begin raise exception using errcode = '40001'; end $$")
			return err
		}
		return nil
	})
	if err != nil || tries != 4 || count(t, db) != 1 {
		t.Errorf("%d tries, %v, %d rows", tries, err, count(t, db))
	}
	tries = 0
	err = db.Write(t.Context(), func(tx store.Tx) error {
		tries++
		_, err := tx.Exec("do $$ begin raise exception using errcode = '40P01'; end $$")
		return err
	})
	if err == nil || tries != 5 {
		t.Errorf("a deadlock without end: %d tries, %v, want 5 and the error", tries, err)
	}
}

// Nodes that start at the same moment on an empty database all start.
func TestNodesStartAtOnce(t *testing.T) {
	for range 3 {
		url := storetest.PostgresURL(t)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 6 {
			wg.Go(func() {
				<-start
				db, err := store.Open(t.Context(), url, things...)
				if err == nil {
					err = db.Close()
				}
				if err != nil {
					t.Errorf("one of six: %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
	}
}

// Two nodes look for a row, find none and write it: the second finds it when it
// looks again, and hears of no duplicate key.
func TestDuplicateIsLookedAtOnceMore(t *testing.T) {
	db := storetest.Postgres(t, things...)
	var meet, wg sync.WaitGroup // both have looked before either writes
	meet.Add(2)
	var wrote, found atomic.Int32
	for range 2 {
		wg.Go(func() {
			first := true
			there := 0
			err := db.Write(t.Context(), func(tx store.Tx) error {
				if err := tx.QueryRow("select count(*) from thing where n = 7").Scan(&there); err != nil {
					return err
				}
				if first {
					first = false
					meet.Done()
					meet.Wait()
				}
				if there > 0 {
					return nil
				}
				return insert(tx, 7)
			})
			switch {
			case err != nil:
				t.Errorf("one of two heard %v", err)
			case there > 0:
				found.Add(1)
			default:
				wrote.Add(1)
			}
		})
	}
	wg.Wait()
	if wrote.Load() != 1 || found.Load() != 1 {
		t.Errorf("%d wrote and %d found it, want one each", wrote.Load(), found.Load())
	}
	tries := 0
	if err := db.Write(t.Context(), func(tx store.Tx) error { tries++; return insert(tx, 7) }); !errors.Is(err, store.ErrDuplicate) || tries != 2 {
		t.Errorf("a key that is there: %d tries, %v, want 2 and a duplicate", tries, err)
	}
}

func TestRealDeadlockIsRetried(t *testing.T) {
	db := storetest.Postgres(t, things...)
	for n := range int64(2) {
		if err := db.Write(t.Context(), func(tx store.Tx) error { return insert(tx, n) }); err != nil {
			t.Fatal(err)
		}
	}
	var meet sync.WaitGroup // both hold their first row before they ask for the second
	meet.Add(2)
	var wg sync.WaitGroup
	for i := range int64(2) {
		wg.Go(func() {
			first := true
			err := db.Write(context.Background(), func(tx store.Tx) error {
				for _, n := range []int64{i, 1 - i} {
					if _, err := tx.Exec("update thing set name = 'x' where n = $1", n); err != nil {
						return err
					}
					if first {
						first = false
						meet.Done()
						meet.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// Another node's migration changes a table under statements that are prepared.
func TestMigrationUnderPreparedStatements(t *testing.T) {
	db := storetest.Postgres(t, things...)
	read := func() error {
		return db.Write(t.Context(), func(tx store.Tx) error {
			rows, err := tx.Query("select * from thing where n = $1", 1)
			if err != nil {
				return err
			}
			return rows.Close()
		})
	}
	for range 40 { // every connection of the pool may have prepared it
		if err := read(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec("alter table thing add column more TEXT")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if err := read(); err != nil {
			t.Fatalf("after the migration: %v", err)
		}
	}
}
