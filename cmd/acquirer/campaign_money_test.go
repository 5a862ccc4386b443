//go:build fault

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/simulate/bank"
	"acquirer/simulate/card"
	"acquirer/store"
	"acquirer/store/storetest"
)

// killSettle settles the street's day on copies of its database, each copy with
// kills on the way, until the bank has paid or a person has the payout. What
// the day came to must be what it comes to without kills, and the bank must
// have had every order once (I9, I10).
func killSettle(t *testing.T, p *plan, s *crashStreet, kills int) {
	calm := settleDay(t, nil, s, copyDatabase(t, s.database))
	if len(calm) < 10 {
		t.Fatalf("the day came to %d rows: nothing is proved by settling it\n%s", len(calm), strings.Join(calm, "\n"))
	}
	for before := p.fired(); p.fired()-before < kills; {
		came := settleDay(t, p, s, copyDatabase(t, s.database))
		if got, want := strings.Join(came, "\n"), strings.Join(calm, "\n"); got != want {
			t.Fatalf("I10: with kills the day came to\n%s\nwithout to\n%s", got, want)
		}
	}
}

// settleDay settles the open business date of a database and pays it, through
// the command, which dies where the plan says and is called again. It returns
// the rows that the day came to.
func settleDay(t *testing.T, p *plan, s *crashStreet, database string) (rows []string) {
	t.Helper()
	addr := freeAddr(t)
	v := openForReading(t, database)
	date, err := v.books.OpenDate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.db.Close(); err != nil {
		t.Fatal(err)
	}
	due, err := calendar.SettleDate(date)
	if err != nil {
		t.Fatal(err)
	}
	key := s.args[5:9] // --hsm-file and --hsm-passphrase-file
	at := func(day calendar.Date) []string {
		when := day.Time().Add(10 * time.Hour)
		return append([]string{"settle", "--database", database, "--settlement-bank", "http://" + addr, "--date", date.String(), "--force", "--received", "expected", "--as-of", when.Format(time.RFC3339), "--json"}, key...)
	}
	var bank *simbank.Bank // nobody is there the first time
	for i, args := range [][]string{at(due), at(due), at(due), at(due.AddDays(1)), at(due.AddDays(2)), at(due.AddDays(3))} {
		mayFail := ""
		switch i {
		case 0:
			mayFail = "connection refused"
		case 1:
			if bank, err = simbank.Start(addr, simbank.Config{Opening: money.Yuan(100_000_000), Slow: time.Millisecond, Silence: time.Second}); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := bank.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
		}
		for p != nil && killed(t, p, "settle", mayFail, args...) && p.rng.IntN(2) == 0 {
		}
		status, stdout, stderr := runs(t, args...)
		if status != 0 && (mayFail == "" || !strings.Contains(stderr, mayFail)) {
			t.Fatalf("%s: status %d: %s%s", strings.Join(args, " "), status, stdout, stderr)
		}
	}
	v = openForReading(t, database)
	defer v.db.Close()
	payouts(t, v, bank)
	r, err := verifyLedger(t.Context(), v.db, v.books, store.Head{})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range r.Problems {
		t.Errorf("I8, I9: after settling %s: %s", date, what)
	}
	return cameTo(t, v)
}

// payouts holds the payouts of the house against the bank's books: paid there
// is paid here, ordered once, and nothing is paid that was not ordered.
func payouts(t *testing.T, v *house, bank *simbank.Bank) {
	t.Helper()
	type payout struct {
		amount money.Amount
		state  settlement.PayoutState
	}
	ours := map[string]payout{}
	err := v.db.Read(t.Context(), func(tx store.Tx) error {
		rows, err := tx.Query("select ref, amount, state from settlement_payout")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var ref string
			var p payout
			if err := rows.Scan(&ref, &p.amount, &p.state); err != nil {
				return err
			}
			ours[ref] = p
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(ours) == 0 {
		t.Fatal("nobody was to be paid")
	}
	there := map[string]bool{}
	for _, b := range bank.Payouts() {
		there[b.Reference] = true
		o, ours := ours[b.Reference]
		switch {
		case !ours:
			t.Errorf("I9: the bank paid %s, which was not ordered", b.Reference)
		case b.Ordered() != 1 || b.Amount != o.amount || b.Status != simbank.Succeeded || o.state != settlement.Paid:
			t.Errorf("I9: the bank has payout %s of %s, ordered %d times, %s; we have %s, %s", b.Reference, b.Amount, b.Ordered(), b.Status, o.amount, o.state)
		}
	}
	for ref, o := range ours {
		// Claimed, and never sent: the bank did not know it for a day.
		if !there[ref] && o.state != settlement.Failed {
			t.Errorf("I9: payout %s of %s is %s, and the bank never had it", ref, o.amount, o.state)
		}
	}
}

// cameTo is what a day was settled to, without what kills may change: times,
// ids, and whether a payout was paid or is with a person.
func cameTo(t *testing.T, v *house) (rows []string) {
	t.Helper()
	for _, sql := range []string{
		"select 'batch ' || date || ' ' || merchant || ' ' || speed || ' lines ' || lines || ' gross ' || gross || ' fee ' || fee || ' ' || speed_fee || ' carried ' || carry_in || ' ' || carry_out || ' pays ' || payout || ' ' || paid from settlement_batch order by merchant, speed",
		"select 'run ' || date || ' ' || seq || ' ' || state from settlement_run order by date, seq",
		"select 'lines ' || date || ' of ' || txn_date || ' ' || effect || ': ' || count(*) || ' ' || sum(amount) || ' ' || sum(fee_rate + fee_fixed) || ' ' || sum(case when run > 0 then 1 else 0 end) from settlement_line group by date, txn_date, effect order by date, txn_date, effect",
		"select 'payout ' || ref || ' ' || amount || ' due ' || due from settlement_payout order by ref",
		"select 'received ' || ref || ' ' || date || ' ' || expected || ' ' || received from settlement_receipt order by ref",
	} {
		err := v.db.Read(t.Context(), func(tx store.Tx) error {
			found, err := tx.Query(sql)
			some, err := store.All(found, err, func(r *store.Rows, s *string) error { return r.Scan(s) })
			rows = append(rows, some...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// rowsOf counts a table.
func rowsOf(t *testing.T, v *house, table string) (n int) {
	t.Helper()
	if err := v.db.Read(t.Context(), func(tx store.Tx) error { return tx.QueryRow("select count(*) from " + table).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// copyDatabase copies one that nobody has open.
func copyDatabase(t *testing.T, database string) string {
	t.Helper()
	if path, ok := strings.CutPrefix(database, "sqlite:"); ok {
		to := filepath.Join(t.TempDir(), "copy.db")
		for _, tail := range []string{"", "-wal"} {
			text, err := os.ReadFile(path + tail)
			if tail != "" && os.IsNotExist(err) {
				continue
			}
			if err == nil {
				err = os.WriteFile(to+tail, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return "sqlite:" + to
	}
	to := storetest.PostgresURL(t)
	dump, err := exec.Command("pg_dump", database).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	load := exec.Command("psql", "--quiet", "--set", "ON_ERROR_STOP=1", to)
	load.Stdin = strings.NewReader(string(dump))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	return to
}

// killKeys changes the master key, and the terminals' keys, under kills; every
// key is at every moment one that the house can use.
func killKeys(t *testing.T, p *plan, database string) {
	const terminals = 6
	settings, seedFile := keyHouse(t, database, terminals)
	before, _ := allKeys(t, settings, seedFile)
	same := func() (under int) {
		t.Helper()
		now, masters := allKeys(t, settings, seedFile)
		for place, kcv := range before {
			if now[place] != kcv {
				t.Errorf("%s was %s and is %s", place, kcv, now[place])
			}
		}
		return len(masters)
	}
	old := firstBlocks(t, settings)
	rotate := append([]string{"hsm", "rotate", "--batch", "1", "--seed-file", seedFile, "--custodian", "alice", "--custodian", "bob"}, settings...)
	// The first dies at a key of the house, which later ones find moved. The second
	// dies when it is past the first terminal, which then is wrapped under the old
	// key again: the others find that and look once more.
	house := "rotate.house.before"
	if p.kills[house] > p.kills["rotate.house.after"] {
		house = "rotate.house.after"
	}
	for _, at := range []string{house + "@1", "registry.rewrap.after@2"} {
		c := spawn(t, []string{fault.Setting + "=" + at}, rotate...)
		<-c.ended
		if point := p.died(c.stderr.String()); point == anywhere {
			t.Fatalf("nobody died at %s: %s", at, c.stderr.tail(20))
		}
		same()
	}
	wrapAgain(t, settings, old)
	const most = 12
	died := 0
	for ; died < most && killed(t, p, "keys", "", rotate...); died++ {
		same()
		if died < 2 {
			wrapAgain(t, settings, old)
		}
	}
	if died == most {
		good(t, rotate...)
	}
	// The last may have died when all was done: then there is nothing left to retire.
	retire, done := append(rotate[:len(rotate):len(rotate)], "--retire"), ""
	for died = 0; died < most && killed(t, p, "keys", done, retire...); died++ {
		same()
		done = "there is no old master key to retire"
	}
	if died == most {
		c := spawn(t, nil, retire...)
		if <-c.ended; c.cmd.ProcessState.ExitCode() != 0 && !strings.Contains(c.stderr.String(), done) {
			t.Fatalf("retiring: %s", c.stderr.tail(20))
		}
	}
	if masters := same(); masters != 1 {
		t.Errorf("after the change keys are under %d master keys", masters)
	}
	cfg := configOf(t, settings)
	var made struct {
		Block hsm.Key `json:"block"`
	}
	text := good(t, "hsm", "form", "--file", cfg.HSM.File, "--passphrase-file", cfg.HSM.PassphraseFile, "--use", "KBPK", "--cipher", "AES",
		"--component", hexFile(t, "a", 1), "--component", hexFile(t, "b", 2), "--json")
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	dir := t.TempDir()
	for i := range 10 {
		var tids []string
		for j := range terminals {
			tid, _ := simcard.SeedTerminal(j)
			tids = append(tids, tid)
		}
		out := filepath.Join(dir, fmt.Sprintf("batch%d.json", i))
		died := killed(t, p, "keys", "", append([]string{"hsm", "inject", "--terminals", strings.Join(tids, ","), "--kek", string(made.Block), "--out", out}, settings...)...)
		injectedFits(t, settings, seedFile, out)
		if !died {
			return
		}
	}
}

// firstBlocks are the key blocks of the first terminal.
func firstBlocks(t *testing.T, settings []string) (blocks []merchant.KeyBlock) {
	t.Helper()
	onDatabase(t, settings, func(db *store.DB) (err error) {
		blocks, _, _, err = merchant.KeyBlocks(t.Context(), db, "", 1, 0)
		return err
	})
	return blocks
}

// wrapAgain puts blocks under the old master key back, as a switch does that
// was not told of the new one.
func wrapAgain(t *testing.T, settings []string, old []merchant.KeyBlock) {
	t.Helper()
	var changes []merchant.NewKeyBlock
	for i, now := range firstBlocks(t, settings) {
		if now.Block != old[i].Block {
			changes = append(changes, merchant.NewKeyBlock{KeyBlock: now, Under: old[i].Block})
		}
	}
	onDatabase(t, settings, func(db *store.DB) error {
		_, err := merchant.ReplaceKeyBlocks(t.Context(), db, changes, func(store.Tx, int64) error { return nil })
		return err
	})
}

func onDatabase(t *testing.T, settings []string, do func(*store.DB) error) {
	t.Helper()
	if err := withStore(t.Context(), configOf(t, settings), do); err != nil {
		t.Fatal(err)
	}
}

// injectedFits holds a file for a loader of devices against the registry: where
// there is a file, its keys are those that the house has.
func injectedFits(t *testing.T, settings []string, seedFile, out string) {
	t.Helper()
	text, err := os.ReadFile(out)
	if os.IsNotExist(err) {
		return
	}
	var i injection
	if err == nil {
		err = json.Unmarshal(text, &i)
	}
	if err != nil {
		t.Fatal(err)
	}
	have, _ := allKeys(t, settings, seedFile)
	for _, d := range i.Terminals {
		found := false
		for place, kcv := range have {
			found = found || strings.Contains(place, d.TID) && strings.Contains(kcv, " "+d.CheckValue)
		}
		if !found {
			t.Errorf("%s has a key %s for %s that the house does not have", out, d.CheckValue, d.TID)
		}
	}
}
