package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/simulate/card"
	"acquirer/store"
	"acquirer/store/storetest"
)

// What was given up, a reversal or an advice, is listed, sent again by retry,
// and ended by close; nothing else is touched.
func TestOwed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "owed.db")
	database := "sqlite:" + file
	call := func(args ...string) (status int, stdout, stderr string) {
		return runs(t, append(append([]string{"owed"}, args...), "--database", database)...)
	}
	if status, _, stderr := call("list"); status != 1 || !strings.Contains(stderr, file) {
		t.Errorf("a database that is not there: status %d: %s", status, stderr)
	}

	var rrns []string
	at := func(f func(j *journal.Journal)) {
		t.Helper()
		db, err := store.Open(t.Context(), database, schemas()...)
		if err != nil {
			t.Fatal(err)
		}
		f(journal.New(db, nil))
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	at(func(j *journal.Journal) {
		now := time.Now()
		for i, reason := range []journal.Reason{journal.Unanswered, journal.Unanswered, journal.Approved} {
			id := store.NewID()
			txn := journal.Transaction{ID: id, Key: journal.Key{Day: calendar.DateOf(now), Terminal: "10000001", Batch: 1, STAN: int32(i + 1), Kind: journal.Sale},
				Merchant: "898110054110001", MTI: 0x0200, Amount: 1234, Currency: 156, PANMasked: "621000******0002", Channel: journal.Credit, Issuer: "north",
				RRN: strings.ToUpper(strconv.FormatInt(id, 36)), Trace: int32(77 + i), Transmitted: now.Truncate(time.Second), Opened: now, Deadline: now}
			rrns = append(rrns, txn.RRN)
			if _, err := j.Open(t.Context(), &txn); err != nil {
				t.Fatal(err)
			}
			closed, err := j.Close(t.Context(), &txn, journal.Outcome{Reason: reason, Closed: now})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if err := j.GiveUpOn(t.Context(), closed.DebtID, "20 tries, the last: timeout"); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	states := func() (s []string) {
		t.Helper()
		status, stdout, stderr := call("list", "--json")
		var rows []owedRow
		if err := json.Unmarshal([]byte(stdout), &rows); err != nil || status != 0 {
			t.Fatalf("status %d, %v: %s%s", status, err, stdout, stderr)
		}
		for _, r := range rows {
			s = append(s, r.RRN+" "+r.State)
		}
		return s
	}
	want := func(when string, rows ...string) {
		t.Helper()
		if got := states(); strings.Join(got, ", ") != strings.Join(rows, ", ") {
			t.Errorf("%s: %v, want %v", when, got, rows)
		}
	}
	want("at first", rrns[0]+" manual", rrns[1]+" owed")
	if status, stdout, _ := call("list"); status != 0 || !strings.Contains(stdout, "trace 000077 of ") || !strings.Contains(stdout, "20 tries, the last: timeout") || !strings.Contains(stdout, "621000******0002") {
		t.Errorf("status %d: %s", status, stdout)
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"retry", rrns[1]}, 1, "is owed"},
		{[]string{"retry", rrns[2]}, 1, "nothing is owed"},
		{[]string{"retry", "000000000001"}, 1, "no transaction"},
		{[]string{"retry", "not an RRN"}, 2, "not an RRN"},
		{[]string{"retry"}, 2, "accepts 1 arg"},
		{[]string{"resolve", rrns[0]}, 2, "note"},
		{[]string{"resolve", rrns[0], "--note", " "}, 2, "note"},
	} {
		if status, stdout, stderr := call(c.args...); status != c.status || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: status %d, want %d: %q, %s", c.args, status, c.status, stdout, stderr)
		}
	}
	if status, _, stderr := call("retry", strings.ToLower(rrns[0])); status != 0 {
		t.Errorf("retry: status %d: %s", status, stderr)
	}
	want("after retry", rrns[0]+" owed", rrns[1]+" owed")
	at(func(j *journal.Journal) {
		due, err := j.ClaimFor(t.Context(), "north", 10, time.Millisecond)
		if err != nil || len(due) != 2 {
			t.Errorf("%d reversals are due after retry, want 2: %v", len(due), err)
		}
	})
	if status, _, stderr := call("resolve", rrns[0], "--note", "north operations, ticket 4711"); status != 0 {
		t.Errorf("close: status %d: %s", status, stderr)
	}
	want("after close", rrns[1]+" owed")
	if status, _, stderr := call("resolve", rrns[0], "--note", "again"); status != 1 || !strings.Contains(stderr, "reversed already") {
		t.Errorf("closing it again: status %d: %s", status, stderr)
	}
	at(func(j *journal.Journal) {
		id, err := strconv.ParseInt(rrns[0], 36, 64)
		if err != nil {
			t.Fatal(err)
		}
		e, err := j.Get(t.Context(), id)
		if err != nil || e.State() != journal.Reversed || e.Debt.Note != "by hand: north operations, ticket 4711" {
			t.Errorf("the journal says %+v, %v", e, err)
		}
	})
	openForReading(t, database)
	if status, _, stderr := call("list"); status != 1 || !strings.Contains(stderr, "process") {
		t.Errorf("while another process has it: status %d: %s", status, stderr)
	}
}

// An advice that an issuer refused is one too: approved for the terminal, and
// still with a person.
func TestOwedAdvice(t *testing.T) {
	database := "sqlite:" + filepath.Join(t.TempDir(), "owed.db")
	db, err := store.Open(t.Context(), database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	j, now, id := journal.New(db, nil), time.Now(), store.NewID()
	txn := journal.Transaction{ID: id, Key: journal.Key{Day: calendar.DateOf(now), Terminal: "10000001", Batch: 1, STAN: 1, Kind: journal.OfflineSale},
		Merchant: "898110054110001", MTI: 0x0220, Amount: 4500, Currency: 156, PANMasked: "621000******0002", Channel: journal.Credit, Issuer: "north",
		RRN: strings.ToUpper(strconv.FormatInt(id, 36)), Trace: 77, Transmitted: now.Truncate(time.Second), Opened: now, Deadline: now}
	opened, err := j.Open(t.Context(), &txn, journal.TakeOver(journal.Outcome{Reason: journal.Approved, Closed: now}))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.GiveUpOn(t.Context(), opened.First.Debt.ID, "the issuer refused the advice with 14"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"list"}, 0, txn.RRN + "  advice    manual  north"},
		{[]string{"retry", txn.RRN}, 0, "the advice of " + txn.RRN + " is owed again"},
		{[]string{"list", "--json"}, 0, `"what":"advice","state":"owed"`},
		{[]string{"retry", txn.RRN}, 1, "the advice of " + txn.RRN + " is owed:"},
		{[]string{"resolve", txn.RRN, "--note", "booked by hand, ticket 4712"}, 0, "is settled"},
		{[]string{"resolve", txn.RRN, "--note", "again"}, 1, "the advice of " + txn.RRN + " is delivered already"},
		{[]string{"list"}, 0, "nothing is owed"},
	} {
		status, stdout, stderr := runs(t, append(append([]string{"owed"}, c.args...), "--database", database)...)
		if status != c.status || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%v: status %d, want %d and %q: %s%s", c.args, status, c.status, c.says, stdout, stderr)
		}
	}
}

// houseOn opens a new database of an engine, for a serve to open too.
func houseOn(t *testing.T, engine string) (database string, db *store.DB) {
	t.Helper()
	database = "sqlite:" + filepath.Join(t.TempDir(), "house.db")
	if engine == "postgres" {
		database = storetest.PostgresURL(t)
	}
	db, err := store.Open(t.Context(), database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	return database, db
}

// The three commands work while the switch runs: beside it on PostgreSQL, and
// through it on SQLite, whose file it owns.
func TestOwedBesideServe(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			database, db := houseOn(t, engine)
			j, now := journal.New(db, nil), time.Now()
			var rrns []string
			for i := range 2 {
				id := store.NewID()
				txn := journal.Transaction{ID: id, Key: journal.Key{Day: calendar.DateOf(now), Terminal: "10000001", Batch: 1, STAN: int32(i + 1), Kind: journal.Sale},
					Merchant: "898110054110001", MTI: 0x0200, Amount: 1234, Currency: 156, PANMasked: "621000******0002", Channel: journal.Credit, Issuer: "north",
					RRN: strings.ToUpper(strconv.FormatInt(id, 36)), Trace: int32(77 + i), Transmitted: now.Truncate(time.Second), Opened: now, Deadline: now}
				rrns = append(rrns, txn.RRN)
				if _, err := j.Open(t.Context(), &txn); err != nil {
					t.Fatal(err)
				}
				closed, err := j.Close(t.Context(), &txn, journal.Outcome{Reason: journal.Unanswered, Closed: now})
				if err != nil {
					t.Fatal(err)
				}
				if err := j.GiveUpOn(t.Context(), closed.DebtID, "20 tries, the last: timeout"); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}

			key, pass := masterKey(t)
			admin := freeAddr(t)
			args := []string{"serve", "--seed", "demo", "--database", database, "--hsm-file", key, "--hsm-passphrase-file", pass,
				"--terminals-listen", "127.0.0.1:0", "--admin-listen", admin, "--console-listen", "", "--node", "7"}
			for _, is := range simcard.Issuers { // nobody listens there: what is owed waits
				args = append(args, "--issuer", is.Name+"="+freeAddr(t))
			}
			p := spawn(t, nil, args...)
			if _, ok := p.stderr.await(t.Context(), `"msg":"listening"`); !ok {
				t.Fatalf("it does not listen:\n%s", p.stderr.tail(20))
			}
			call := func(args ...string) (status int, says string) {
				status, stdout, stderr := runs(t, append(append([]string{"owed"}, args...), "--database", database, "--node", "7")...)
				return status, stdout + stderr
			}
			for _, c := range []struct {
				args   []string
				status int
				says   string
			}{
				{[]string{"list"}, 0, rrns[1] + "  reversal  manual  north"},
				{[]string{"retry", rrns[0]}, 0, "is owed again"},
				{[]string{"retry", rrns[0]}, 1, "is owed: only one"},
				{[]string{"retry", "not an RRN"}, 2, "not an RRN"},
				{[]string{"resolve", rrns[1], "--note", "north operations, ticket 4711"}, 0, "is settled"},
				{[]string{"resolve", rrns[1], "--note", "again"}, 1, "reversed already"},
				{[]string{"list", "--json"}, 0, `"rrn":"` + rrns[0] + `","what":"reversal","state":"owed"`},
			} {
				if status, says := call(c.args...); status != c.status || !strings.Contains(says, c.says) {
					t.Errorf("%v: status %d, want %d and %q: %s", c.args, status, c.status, c.says, says)
				}
			}
			for _, token := range []string{"", "Bearer ", "Bearer guess"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+admin+"/errand/owed", strings.NewReader(`{"do":"list"}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", token)
				req.Close = true
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("with %q: %s, %v", token, resp.Status, err)
				}
			}
			if status := p.stop(t); status != 0 {
				t.Errorf("it ended with %d: %s", status, p.stderr.tail(20))
			}
			if engine == "sqlite" {
				if _, err := os.Stat(strings.TrimPrefix(database, "sqlite:") + ".door"); !os.IsNotExist(err) {
					t.Errorf("the door is still there: %v", err)
				}
			}
			status, stdout, stderr := runs(t, "audit", "list", "--json", "--database", database)
			var list []audit.Entry
			if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) != 2 || list[0].Op != "owed resolve" || list[0].Subject != "RRN "+rrns[1] ||
				list[0].Detail != "north operations, ticket 4711" || list[1].Op != "owed retry" || list[0].Who != whoRuns() {
				t.Errorf("the operators' log: %d, %v: %s%s", status, err, stdout, stderr)
			}
		})
	}
}

// The door is its user's alone, unless its folder is given to a group; what a
// killed process left there is no matter.
func TestDoorOfGroup(t *testing.T) {
	folder := t.TempDir()
	cfg := Config{Database: "sqlite:" + filepath.Join(folder, "house.db")}
	for _, row := range []struct{ folder, door os.FileMode }{{0o700, 0o600}, {0o755, 0o600}, {0o750 | os.ModeSetgid, 0o640}, {0o700, 0o600}} {
		if err := os.Chmod(folder, row.folder); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openDoor(cfg, "127.0.0.1:9583"); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(doorOf(cfg)); err != nil || info.Mode().Perm() != row.door {
			t.Errorf("in a folder %v the door is %v, want %v: %v", row.folder, info.Mode(), row.door, err)
		}
	}
}
