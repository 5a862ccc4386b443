package dispute

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
	"acquirer/store/storetest"
)

// before is what a binary did that knew three steps of the schema: it inferred
// from the stage where the money was.
type before struct {
	w   *court
	now calendar.Date
}

func (b before) hold(key string, amount money.Amount) {
	b.w.t.Helper()
	b.write(func(tx store.Tx) error {
		_, err := b.w.books.HoldForCaseTx(tx, settlement.Hold{Key: "dispute/7/" + key, Merchant: alice, Amount: amount, Reason: "case", AskedBy: "dispute case 7"}, at(b.now))
		return err
	})
}

func (b before) free(key string) {
	b.w.t.Helper()
	b.write(func(tx store.Tx) error {
		return b.w.books.ReleaseForCaseTx(tx, "dispute/7/"+key, "dispute case 7", at(b.now))
	})
}

func (b before) took(key, held string, amount, fee money.Amount) {
	b.w.t.Helper()
	if held != "" {
		held = "dispute/7/" + held
	}
	if err := b.w.books.Chargeback(b.w.t.Context(), settlement.Chargeback{Key: "dispute/7/" + key, Merchant: alice, Txn: 1, Amount: amount, Fee: fee, Hold: held, Text: "chargeback 4853"}, at(b.now)); err != nil {
		b.w.t.Fatal(err)
	}
}

func (b before) won(key string) {
	b.w.t.Helper()
	if err := b.w.books.ChargebackWon(b.w.t.Context(), "dispute/7/"+key, 100_00, at(b.now)); err != nil {
		b.w.t.Fatal(err)
	}
}

func (b before) came(stage string, amount money.Amount) {
	b.w.t.Helper()
	b.write(func(tx store.Tx) error {
		id := store.NewID()
		_, err := tx.Exec("insert into dispute_event (id, case_id, key, at, what, who, note, amount) values ($1,7,$2,$3,$4,'north','',$5)",
			id, fmt.Sprintf("zme/%d", id), at(b.now).UnixMicro(), "the "+stage+" came, reason 4853", amount)
		return err
	})
}

func (b before) row(stage, state string, round int, amount money.Amount, due calendar.Date) {
	b.w.t.Helper()
	b.write(func(tx store.Tx) error {
		_, err := tx.Exec(`insert into dispute_case (id, source, txn, rrn, merchant, terminal, wallet, pan, amount, fee, reason, stage, state, round, late, began, due, reminded, proof, asked, asked_by,
			opened, changed, packed) values (7,'north',1,'000000000001',$1,'10000001','','',$2,0,'4853',$3,$4,$5,0,$6,$7,0,'','','',$8,$8,0)`,
			alice, amount, stage, state, round, b.now, due, at(b.now).UnixMicro())
		return err
	})
}

func (b before) write(do func(tx store.Tx) error) {
	b.w.t.Helper()
	if err := b.w.db.Write(context.WithoutCancel(b.w.t.Context()), do); err != nil {
		b.w.t.Fatal(err)
	}
}

// Cases that ran under the schema before, with their money as it was booked
// then, go on: the columns that the steps fill say where it is.
func TestRunningCasesAreCarriedOver(t *testing.T) {
	const due = monday + 10        // of November
	chargeback := func(b before) { // after a retrieval
		b.hold("0/retrieval", 100_00)
		b.came("retrieval", 100_00)
		b.took("1/chargeback", "0/retrieval", 100_00, 5_00)
		b.came("chargeback", 100_00)
	}
	represented := func(b before) {
		chargeback(b)
		b.won("1/chargeback")
		b.hold("1/represented", 100_00)
	}
	second := func(b before) {
		represented(b)
		b.took("2/chargeback", "1/represented", 100_00, 0)
		b.came("second_chargeback", 100_00)
	}
	retrievedTwice := func(b before) {
		b.hold("0/retrieval", 100_00)
		b.free("0/retrieval")
		b.hold("1/retrieval", 100_00)
		b.took("2/chargeback", "1/retrieval", 100_00, 5_00)
		b.came("chargeback", 100_00)
		b.won("2/chargeback")
		b.hold("2/represented", 100_00)
		b.came("pre_arbitration", 100_00)
		b.row("pre_arbitration", "answered", 2, 100_00, due)
	}
	for name, x := range map[string]struct {
		was  func(b before)
		then string
	}{
		"a retrieval": {func(b before) {
			b.hold("0/retrieval", 100_00)
			b.row("retrieval", "open", 0, 100_00, due)
		}, `
			1 has 2101=496.40 2104=100.00
			2 evidence
			2 fulfil
			33 tick
			33 is retrieval closed
			33 has 2101=596.40 2104=0.00`},
		"a retrieval for which nothing was held": {func(b before) { b.row("retrieval", "answered", 0, 100_00, due) }, `
			2 chargeback
			2 has 2101=496.40 2104=0.00 1101=492.11`},
		"a chargeback": {func(b before) {
			chargeback(b)
			b.row("chargeback", "open", 1, 100_00, due)
		}, `
			2 evidence
			2 represent
			2 has 2101=496.40 2104=100.00 1101=592.11
			40 tick
			40 is chargeback won
			40 has 2101=596.40 2104=0.00`},
		"a chargeback that is accepted": {func(b before) {
			chargeback(b)
			b.row("chargeback", "open", 1, 100_00, due)
		}, `
			2 accept
			2 is chargeback lost
			2 has 2101=496.40 2104=0.00 1101=492.11`},
		"a part that was charged back": {func(b before) { // its row still said the whole, and the rest stayed held
			b.hold("0/retrieval", 100_00)
			b.came("retrieval", 100_00)
			b.took("1/chargeback", "0/retrieval", 40_00, 5_00)
			b.came("chargeback", 40_00)
			b.row("chargeback", "open", 1, 100_00, due)
		}, `
			2 has 2101=496.40 2104=60.00 1101=552.11
			2 evidence
			2 represent
			2 has 2101=556.40 2104=40.00 1101=592.11
			40 tick
			40 has 2101=596.40 2104=0.00`},
		"represented": {func(b before) {
			represented(b)
			b.row("chargeback", "answered", 1, 100_00, due)
		}, `
			5 second_chargeback
			5 has 2101=496.40 2104=0.00 1101=492.11`},
		"represented, and nothing followed": {func(b before) {
			represented(b)
			b.row("chargeback", "answered", 1, 100_00, due)
		}, `
			20 tick
			20 is chargeback won
			20 has 2101=596.40 2104=0.00 1101=592.11`},
		"a second chargeback": {func(b before) {
			second(b)
			b.row("second_chargeback", "open", 2, 100_00, due)
		}, `
			6 arbitrate
			20 ruling-won
			20 is second_chargeback won
			20 has 2101=596.40 2104=0.00 1101=592.11`},
		"a second chargeback of a part": {func(b before) {
			represented(b)
			b.took("2/chargeback", "1/represented", 40_00, 0)
			b.came("second_chargeback", 40_00)
			b.row("second_chargeback", "answered", 2, 40_00, due)
		}, `
			6 has 2101=496.40 2104=60.00
			20 ruling-lost 40.00
			20 has 2101=556.40 2104=0.00 1101=552.11`},
		"a pre-arbitration of what was represented": {func(b before) {
			represented(b)
			b.came("pre_arbitration", 100_00)
			b.row("pre_arbitration", "open", 1, 100_00, due)
		}, `
			6 arbitrate
			20 ruling-lost
			20 is pre_arbitration lost
			20 has 2101=496.40 2104=0.00 1101=492.11`},
		"a pre-arbitration after a second chargeback": {func(b before) {
			second(b)
			b.came("pre_arbitration", 100_00)
			b.row("pre_arbitration", "answered", 2, 100_00, due)
		}, `
			20 ruling-won
			20 has 2101=596.40 2104=0.00 1101=592.11`},
		"asked for twice, ruled against us": {retrievedTwice, `
			20 ruling-lost
			20 is pre_arbitration lost
			20 has 2101=496.40 2104=0.00 1101=492.11`},
		"asked for twice, ruled for us": {retrievedTwice, `
			20 ruling-won
			20 is pre_arbitration won
			20 has 2101=596.40 2104=0.00 1101=592.11`},
		"lost long ago": {func(b before) {
			chargeback(b)
			b.row("chargeback", "lost", 1, 100_00, 0)
		}, `
			20 tick
			20 is chargeback lost
			20 has 2101=496.40 2104=0.00 1101=492.11`},
	} {
		t.Run(name, func(t *testing.T) {
			for engine, url := range map[string]func() string{
				"sqlite":   func() string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") },
				"postgres": func() string { return storetest.PostgresURL(t) },
			} {
				t.Run(engine, func(t *testing.T) {
					if engine == "postgres" && !strings.Contains(name, "part") && !strings.Contains(name, "ruled") {
						t.Skip("SQLite tells it")
					}
					at, old := url(), []store.Schema{}
					for _, s := range schemas {
						if s.Name == Schema.Name {
							s.Steps = s.Steps[:3]
						}
						old = append(old, s)
					}
					db, err := store.Open(t.Context(), at, old...)
					if err != nil {
						t.Fatal(err)
					}
					x.was(before{newCourt(t, db, Terms{}), monday.AddDays(1)})
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
					if db, err = store.Open(t.Context(), at, schemas...); err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := db.Close(); err != nil {
							t.Error(err)
						}
					}()
					reg, err := merchant.OpenRegistry(t.Context(), db)
					if err != nil {
						t.Fatal(err)
					}
					sitting(t, db, reg, Terms{}).do(x.then)
				})
			}
		})
	}
}
