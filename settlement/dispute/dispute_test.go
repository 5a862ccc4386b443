package dispute

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var schemas = []store.Schema{merchant.Schema, journal.Schema, ledger.Schema, settlement.Schema, Schema, audit.Schema}

const (
	monday calendar.Date = 20261116
	alice                = "898110054110001"
)

// court is a merchant who sold for 100.00 and 500.00, and the cases about it.
type court struct {
	t     *testing.T
	db    *store.DB
	books *settlement.Engine
	e     *Engine
	facts []settlement.Fact
}

func (w *court) Facts(_ context.Context, after int64, limit int) ([]settlement.Fact, error) {
	from := min(int(after), len(w.facts))
	return slices.Clone(w.facts[from:min(from+limit, len(w.facts))]), nil
}
func (w *court) From(cursor int64) int64                                     { return cursor }
func (w *court) Undecided(context.Context, calendar.Date) (n int, err error) { return 0, nil }
func (w *court) CutOver(context.Context, calendar.Date) error                { return nil }

func at(d calendar.Date) time.Time { return d.Time().Add(12 * time.Hour) }

func newCourt(t *testing.T, db *store.DB, terms Terms) *court {
	t.Helper()
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Put(t.Context(), []merchant.Merchant{{MID: alice, Name: "shop", MCC: "5999", Status: merchant.Active, Plan: "ESIGN-STD", Speed: merchant.T1, Tier: merchant.Assessed,
		Account: merchant.Account{Sealed: []byte("6228480400000000"), Name: "owner", Bank: "ABC", Class: 1}}}, nil); err != nil {
		t.Fatal(err)
	}
	w := sitting(t, db, reg, terms)
	if _, err := w.books.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// sitting is a court over a database whose merchants are known.
func sitting(t *testing.T, db *store.DB, reg *merchant.Registry, terms Terms) *court {
	t.Helper()
	w := &court{t: t, db: db}
	var err error
	if w.books, err = settlement.New(settlement.Config{DB: db, Source: w, Merchants: reg}); err != nil {
		t.Fatal(err)
	}
	if w.e, err = New(Config{DB: db, Books: w.books, Terms: map[string]Terms{"north": terms}}); err != nil {
		t.Fatal(err)
	}
	for i, amount := range []int64{100_00, 500_00} {
		w.facts = append(w.facts, settlement.Fact{Cursor: int64(i + 1), At: at(monday), On: monday, Txn: int64(i + 1), Date: monday, RRN: fmt.Sprintf("%012d", i+1), Merchant: alice,
			Terminal: "10000001", Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: money.Amount(amount)})
	}
	return w
}

var (
	ann = Who{Name: "ann", From: "test"}
	bob = Who{Name: "bob", From: "test"}

	north = Who{Name: "north", From: "file"}
)

// do plays steps, one a line: a day after Monday, what, and words. What comes
// from the network is taken twice, as a file that is imported again.
func (w *court) do(script string) {
	w.t.Helper()
	for line := range strings.Lines(script) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		day, err := strconv.Atoi(f[0])
		if err != nil {
			w.t.Fatal(err)
		}
		now := at(monday.AddDays(day))
		switch what := f[1]; what {
		case "retrieval", "chargeback", "second_chargeback", "pre_arbitration", "ruling-won", "ruling-lost":
			it := Item{Key: strings.TrimSpace(line), Source: "north", Stage: Stage(what), Amount: money.Amount(100_00), Reason: "4853", Date: calendar.DateOf(now),
				Payment: Payment{Txn: 1, RRN: "000000000001", Merchant: alice, Amount: money.Amount(100_00)}}
			if strings.HasPrefix(what, "ruling") {
				it.Stage, it.Won = Arbitration, what == "ruling-won"
			}
			if what == "chargeback" {
				it.Fee = 5_00
			}
			for _, x := range f[2:] {
				switch x {
				case "again":
					continue
				case "debit":
					it.Payment.Debit = true
					continue
				case "wallet":
					it.Payment.Wallet = "alipay"
					continue
				}
				to := &it.Amount
				if rest, ok := strings.CutPrefix(x, "fee="); ok {
					to, x = &it.Fee, rest
				}
				if *to, err = money.Parse(x); err != nil {
					w.t.Fatal(err)
				}
			}
			var first Case
			for i := range 2 {
				c, err := w.e.Take(w.t.Context(), it, north, now)
				if err != nil {
					w.t.Fatalf("%s: %v", line, err)
				}
				if i == 1 && (c.ID != first.ID || c.State != first.State || c.Stage != first.Stage) {
					w.t.Fatalf("%s: the second time %+v, first %+v", line, c, first)
				}
				first = c
			}
		case "evidence":
			if _, err := w.e.Export(w.t.Context(), io.Discard, w.one().ID, nil, nil, ann, now); err != nil {
				w.t.Fatalf("%s: %v", line, err)
			}
		case "fulfil", "represent", "arbitrate", "accept":
			c, err := w.e.Answer(w.t.Context(), w.one().ID, Action(what), ann, now)
			if err == nil && c.Asked != "" {
				_, err = w.e.Answer(w.t.Context(), c.ID, Action(what), bob, now)
			}
			if err != nil {
				w.t.Fatalf("%s: %v", line, err)
			}
		case "close":
			for _, who := range []Who{ann, bob} {
				if _, done, err := w.e.Close(w.t.Context(), w.one().ID, State(f[2]), "by letter", who, now); err != nil || done != (who == bob) {
					w.t.Fatalf("%s: %v, %v", line, done, err)
				}
			}
		case "settle":
			if _, err := w.books.CloseDay(w.t.Context(), calendar.DateOf(now), now.Add(12*time.Hour+5*time.Minute), false); err != nil {
				w.t.Fatal(err)
			}
		case "hold": // by two people, for another reason
			amount, err := money.Parse(f[2])
			if err == nil {
				err = w.books.AskHold(w.t.Context(), settlement.Hold{Key: "other", Merchant: alice, Amount: amount, Reason: "cash-out", AskedBy: "ann"}, now)
			}
			if err == nil {
				err = w.books.ConfirmHold(w.t.Context(), "other", "bob", now)
			}
			if err != nil {
				w.t.Fatal(err)
			}
		case "shut":
			if err := w.db.Write(w.t.Context(), func(tx store.Tx) error {
				_, err := tx.Exec("update merchant set status = 'closed'")
				return err
			}); err != nil {
				w.t.Fatal(err)
			}
		case "unsent":
			payouts, err := w.books.PayoutsOpen(w.t.Context(), 100)
			got := []string{}
			for _, p := range payouts {
				if p.State == settlement.Created {
					got = append(got, p.Amount.String())
				}
			}
			if slices.Sort(got); err != nil || !slices.Equal(got, f[2:]) {
				w.t.Errorf("%s: unsent are %v, %v", strings.TrimSpace(line), got, err)
			}
		case "tick":
			if _, err := w.e.Tick(w.t.Context(), now); err != nil {
				w.t.Fatal(err)
			}
		case "is":
			c := w.one()
			got := fmt.Sprintf("%s %s", c.Stage, c.State)
			if c.Late {
				got += " late"
			}
			if want := strings.Join(f[2:], " "); got != want {
				w.t.Fatalf("%s is %s", strings.TrimSpace(line), got)
			}
			if kept, err := w.e.Disputed(w.t.Context()); err != nil || slices.Contains(kept, c.Txn) == c.State.over() {
				w.t.Fatalf("%s: in dispute are %v, %v", strings.TrimSpace(line), kept, err)
			}
		case "has":
			for _, x := range f[2:] {
				code, amount, _ := strings.Cut(x, "=")
				n, err := strconv.Atoi(code)
				if err != nil {
					w.t.Fatal(err)
				}
				b, err := w.books.Ledger().Balance(w.t.Context(), ledger.Account(n), "")
				if err != nil {
					w.t.Fatal(err)
				}
				if got := b.Net(ledger.Account(n)).String(); got != amount {
					w.t.Errorf("%s: account %s is %s", strings.TrimSpace(line), code, got)
				}
			}
		default:
			w.t.Fatalf("step %q", line)
		}
	}
	problems, err := w.books.CheckAll(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := w.books.Ledger().Verify(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	j, err := w.books.VerifyJournal(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if problems = append(append(problems, r.Problems...), j.Problems...); len(problems) > 0 {
		w.t.Fatalf("the books are wrong:\n%s", strings.Join(problems, "\n"))
	}
}

func (w *court) one() Case {
	w.t.Helper()
	all, err := w.e.Cases(w.t.Context(), Query{})
	if err != nil || len(all) != 1 {
		w.t.Fatalf("%d cases, %v", len(all), err)
	}
	return all[0]
}

// Every way through the stages, with the merchant's money: 2101 is what it is
// owed, 2104 what is held, 1101 what the network owes, 5105 the network's fees.
// The sales are 600.00 less a fee of 3.60, costs 2.90: 596.40 and 597.11 at first.
func TestWaysThroughACase(t *testing.T) {
	ways := map[string]string{
		"retrieval that nothing follows": `
			1 retrieval
			1 has 2101=496.40 2104=100.00
			2 evidence
			2 fulfil
			2 is retrieval answered
			32 tick
			32 is retrieval answered
			33 tick
			33 is retrieval closed
			33 has 2101=596.40 2104=0.00`,
		"retrieval, chargeback, represented, won": `
			1 retrieval
			2 evidence
			2 fulfil
			10 chargeback
			10 is chargeback open
			10 has 2101=496.40 2104=0.00 5105=5.00 1101=492.11
			12 represent
			12 is chargeback answered
			12 has 2101=496.40 2104=100.00 1101=592.11
			43 tick
			43 is chargeback won
			43 has 2101=596.40 2104=0.00 1101=592.11 5105=5.00`,
		"chargeback, second chargeback, arbitration won": `
			1 chargeback
			2 evidence
			2 represent
			5 second_chargeback
			5 is second_chargeback open
			5 has 2101=496.40 2104=0.00 1101=492.11
			6 arbitrate
			20 ruling-won
			20 is second_chargeback won
			20 has 2101=596.40 2104=0.00 1101=592.11`,
		"second chargeback, arbitration lost": `
			1 chargeback
			2 evidence
			2 represent
			5 second_chargeback
			6 arbitrate
			20 ruling-lost
			20 is second_chargeback lost
			20 has 2101=496.40 2104=0.00 1101=492.11`,
		"pre-arbitration without a second chargeback, given in": `
			1 chargeback
			2 evidence
			2 represent
			5 pre_arbitration
			5 has 2101=496.40 2104=100.00 1101=592.11
			6 accept
			6 is pre_arbitration lost
			6 has 2101=496.40 2104=0.00 1101=492.11`,
		"pre-arbitration, ruled for us": `
			1 chargeback
			2 evidence
			2 represent
			5 pre_arbitration
			6 arbitrate
			20 ruling-won
			20 has 2101=596.40 2104=0.00 1101=592.11`,
		"accepted at once": `
			1 chargeback
			1 accept
			1 is chargeback lost
			1 has 2101=496.40 1101=492.11`,
		"not answered in time": `
			1 chargeback
			31 tick
			31 is chargeback open
			32 tick
			32 is chargeback lost
			32 has 2101=496.40`,
		"a retrieval not answered in time forfeits the representment": `
			1 retrieval
			22 tick
			22 is retrieval answered late
			25 chargeback
			25 is chargeback open late
			26 accept
			26 is chargeback lost late
			26 has 2101=496.40 2104=0.00`,
		"the issuer gives in by letter": `
			1 chargeback
			3 close won
			3 is chargeback won
			3 has 2101=596.40 1101=592.11`,
		"a retrieval a second time": `
			1 retrieval
			2 evidence
			2 fulfil
			33 tick
			33 is retrieval closed
			40 retrieval
			40 is retrieval open
			40 has 2101=496.40 2104=100.00
			41 chargeback
			41 has 2101=496.40 2104=0.00`,
		"less is charged back than was asked about": `
			1 retrieval
			1 has 2101=496.40 2104=100.00
			2 chargeback 40.00 fee=3.00
			2 has 2101=556.40 2104=0.00 5105=3.00 1101=554.11
			3 evidence
			3 represent
			3 has 2101=556.40 2104=40.00 1101=594.11
			40 tick
			40 is chargeback won
			40 has 2101=596.40 2104=0.00 1101=594.11`,
		"a part of it a second time": `
			1 chargeback
			2 evidence
			2 represent
			2 has 2101=496.40 2104=100.00
			5 second_chargeback 40.00
			5 has 2101=556.40 2104=0.00 1101=552.11
			6 arbitrate
			20 ruling-won 40.00
			20 is second_chargeback won
			20 has 2101=596.40 2104=0.00 1101=592.11 5105=5.00`,
		"asked twice before it is charged back": `
			1 retrieval
			2 evidence
			2 fulfil
			3 retrieval again
			3 is retrieval open
			3 has 2101=496.40 2104=100.00
			4 fulfil
			4 is retrieval answered
			6 chargeback
			7 represent
			8 pre_arbitration
			9 arbitrate
			20 ruling-lost
			20 is pre_arbitration lost
			20 has 2101=496.40 2104=0.00 1101=492.11`,
		"asked twice, and the network goes straight to arbitration": `
			1 retrieval
			2 evidence
			2 fulfil
			3 retrieval again
			4 chargeback
			5 represent
			6 pre_arbitration
			7 arbitrate
			20 ruling-won
			20 has 2101=596.40 2104=0.00 1101=592.11`,
		"every word of the network has its fee": `
			1 retrieval fee=1.00
			1 has 5105=1.00 1101=596.11
			2 evidence
			2 fulfil
			3 chargeback fee=2.00
			4 represent
			5 second_chargeback fee=4.00
			6 arbitrate
			7 pre_arbitration fee=8.00
			8 arbitrate
			20 ruling-won fee=16.00
			20 has 2101=596.40 2104=0.00 5105=31.00 1101=566.11`,
		"a payout that has not left is cut": `
			0 settle
			0 unsent 596.40
			1 chargeback
			1 unsent 496.40
			1 has 2101=496.40 2104=0.00 1101=492.11 1301=0.00
			2 evidence
			2 represent
			2 has 2101=496.40 2104=100.00
			40 tick
			40 is chargeback won
			40 has 2101=596.40 2104=0.00
			40 settle
			40 unsent 100.00 496.40`,
		"less is there than is asked about": `
			0 hold 550.00
			1 retrieval
			1 has 2101=0.00 2104=596.40
			2 chargeback
			2 has 2101=-53.60 2104=550.00 1101=492.11
			3 evidence
			3 represent
			3 has 2101=0.00 2104=596.40
			4 second_chargeback
			4 has 2101=-53.60 2104=550.00
			5 close won
			5 has 2101=46.40 2104=550.00 1101=592.11`,
		"of a wallet": `
			1 retrieval wallet
			2 chargeback wallet
			2 has 2101=496.40 1101=597.11 1102=-105.00
			3 evidence
			3 represent
			3 has 2101=496.40 2104=100.00 1102=-5.00
			4 second_chargeback wallet fee=2.00
			4 has 2101=496.40 2104=0.00 1101=597.11 1102=-107.00
			5 arbitrate
			9 ruling-won wallet
			9 has 2101=596.40 1102=-7.00 5105=7.00`,
		"won after the merchant was closed": `
			0 settle
			1 chargeback
			1 shut
			2 evidence
			2 represent
			40 tick
			40 is chargeback won
			40 settle
			40 unsent 100.00 496.40`,
		"closed by two people": `
			1 retrieval
			3 close closed
			3 has 2101=596.40 2104=0.00`,
	}
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		for name, script := range ways {
			t.Run(name, func(t *testing.T) {
				if db.Postgres() {
					if !strings.Contains(name, "arbitration") {
						t.Skip("SQLite tells it")
					}
					db = storetest.Postgres(t, schemas...)
				} else {
					db = storetest.SQLite(t, schemas...)
				}
				newCourt(t, db, Terms{}).do(script)
			})
		}
	})
}

// What a case cannot do is refused, and moves nothing.
func TestRefused(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("1 chargeback")
		id := w.one().ID
		now := at(monday.AddDays(2))
		if _, err := w.e.Answer(t.Context(), id, Represent, ann, now); !errors.Is(err, ErrEvidence) {
			t.Errorf("without evidence: %v", err)
		}
		if _, err := w.e.Answer(t.Context(), id, Fulfil, ann, now); !errors.Is(err, ErrAction) {
			t.Errorf("a chargeback was fulfilled: %v", err)
		}
		if _, err := w.e.Answer(t.Context(), id, GiveIn, ann, at(monday.AddDays(40))); !errors.Is(err, ErrAction) {
			t.Errorf("after the last day: %v", err)
		}
		for _, it := range []Item{
			{Key: "a", Source: "north", Stage: Second, Payment: Payment{Txn: 1, RRN: "1", Merchant: alice, Amount: money.Amount(100_00)}, Date: monday},
			{Key: "b", Source: "north", Stage: Arbitration, Payment: Payment{Txn: 2, RRN: "2", Merchant: alice, Amount: money.Amount(500_00)}, Date: monday},
			{Key: "c", Source: "north", Stage: Chargeback, Payment: Payment{Txn: 2, RRN: "2", Merchant: alice, Amount: money.Amount(500_00)}, Amount: money.Amount(500_01), Date: monday},
		} {
			if _, err := w.e.Take(t.Context(), it, north, now); !errors.Is(err, ErrAction) {
				t.Errorf("%s of %d: %v", it.Stage, it.Payment.Txn, err)
			}
		}
		if _, _, err := w.e.Close(t.Context(), id, Lost, "", ann, now); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.e.Close(t.Context(), id, Lost, "", ann, now); !errors.Is(err, audit.ErrTwoPeople) {
			t.Errorf("one person closed it: %v", err)
		}
		const instead = "lost, which ann had asked for"
		if c, done, err := w.e.Close(t.Context(), id, Won, "letter 7", bob, now); err != nil || done || c.Instead != instead {
			t.Errorf("another outcome: %+v, %v, %v", c, done, err)
		}
		if events, err := w.e.Events(t.Context(), id); err != nil || !strings.Contains(events[len(events)-1].What, "as won instead of "+instead+": letter 7") {
			t.Errorf("the events: %+v, %v", events, err)
		}
		if err := w.e.Attach(t.Context(), id, "../x", []byte("x"), ann, now); !errors.Is(err, ErrAction) {
			t.Errorf("a strange name: %v", err)
		}
		w.do("2 has 2101=496.40 1101=492.11")
	})
}

// What is attached after the evidence was exported is in no package that is
// sent: it is exported again before the case is answered.
func TestEvidenceIsWhole(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		for i, a := range []Action{Fulfil, Represent} {
			w := newCourt(t, db, Terms{})
			w.do("1 " + map[Action]string{Fulfil: "retrieval", Represent: "chargeback"}[a])
			id, now := w.one().ID, at(monday.AddDays(2))
			export := func() {
				t.Helper()
				if _, err := w.e.Export(t.Context(), io.Discard, id, nil, nil, ann, now); err != nil {
					t.Fatal(err)
				}
			}
			attach := func(name string) {
				t.Helper()
				if err := w.e.Attach(t.Context(), id, name, []byte(name), ann, now); err != nil {
					t.Fatal(err)
				}
			}
			attach("letter.txt")
			export()
			attach("letter.txt") // the same again is in it
			attach("delivery.txt")
			if c, err := w.e.Answer(t.Context(), id, a, ann, now); !errors.Is(err, ErrEvidence) || !strings.Contains(err.Error(), "(files: 1) is not in that package") || c.State != Open {
				t.Errorf("%d: %s without a file: %s, %v", i, a, c.State, err)
			}
			now = now.Add(time.Second)
			export()
			if c, err := w.e.Answer(t.Context(), id, a, ann, now); err != nil || c.State != Answered {
				t.Errorf("%s: %s, %v", a, c.State, err)
			}
			if db.Postgres() {
				db = storetest.Postgres(t, schemas...)
			} else {
				db = storetest.SQLite(t, schemas...)
			}
		}
	})
}

// The package holds every file with its SHA-256, and the case knows the
// package's.
func TestEvidence(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("1 chargeback")
		c := w.one()
		now := at(monday.AddDays(2))
		for range 2 {
			if err := w.e.Attach(t.Context(), c.ID, "delivery.jpg", []byte("photo"), ann, now); err != nil {
				t.Fatal(err)
			}
		}
		var b bytes.Buffer
		sha, err := w.e.Export(t.Context(), &b, c.ID, []File{{Name: "slip.html", Content: []byte("<p>slip"), From: "receipt"}}, []string{"signature: none was taken"}, bob, now)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b.Bytes()); hex.EncodeToString(sum[:]) != sha || w.one().Proof != sha {
			t.Errorf("the package's SHA-256 is %x, said %s, kept %s", sum, sha, w.one().Proof)
		}
		z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		content := map[string][]byte{}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			if content[f.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		var m Manifest
		if err := json.Unmarshal(content["manifest.json"], &m); err != nil {
			t.Fatal(err)
		}
		if m.Case.ID != c.ID || len(m.Files) != 2 || len(m.Missing) != 1 || len(m.Events) == 0 {
			t.Errorf("%+v", m)
		}
		for _, f := range m.Files {
			if sum := sha256.Sum256(content[f.Name]); hex.EncodeToString(sum[:]) != f.SHA || len(content[f.Name]) != f.Size {
				t.Errorf("%s: %+v", f.Name, f)
			}
		}
	})
}

// A network's error file opens and moves cases; again it changes nothing; a
// damaged one nothing at all.
func TestImport(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		var b bytes.Buffer
		z := clearing.NewZME(&b, "01020000")
		item := func(kind clearing.ErrorKind, stan uint32, rrn string) clearing.ErrorItem {
			return clearing.ErrorItem{Kind: kind, STAN: stan, Sent: "1117120000", Amount: money.Amount(100_00), OriginalSTAN: 1, OriginalSent: "1116120000", OriginalRRN: rrn, Reason: "4853", Merchant: alice}
		}
		absurd := item(clearing.Retrieval, 5, "000000000002") // a fee that nobody takes
		absurd.Fee = absurdFee + 1
		for _, x := range []clearing.ErrorItem{item(clearing.Chargeback, 1, "000000000001"), item(clearing.Chargeback, 2, "000000009999"), item(clearing.SecondChargeback, 3, "000000000002"), item(clearing.Claim, 4, "000000000001"), absurd} {
			if err := z.Write(x); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		find := func(_ context.Context, x clearing.ErrorItem) (Payment, error) {
			n, err := strconv.Atoi(x.OriginalRRN)
			if err != nil || n > 2 {
				return Payment{}, ErrUnknown
			}
			return Payment{Txn: int64(n), RRN: x.OriginalRRN, Merchant: alice, Amount: money.Amount(100_00)}, nil
		}
		from := func(text []byte) func() iter.Seq2[clearing.ErrorItem, error] {
			return func() iter.Seq2[clearing.ErrorItem, error] { return clearing.ReadZME(bytes.NewReader(text)) }
		}
		// Up to 1,000 yuan, or up to what is in dispute, it is believed.
		high := clearing.ErrorItem{Kind: clearing.Retrieval, STAN: 6, Sent: "1117120000", Amount: 100_00, Fee: 1_000_00, OriginalRRN: "000000000002"}
		higher := clearing.ErrorItem{Kind: clearing.Chargeback, STAN: 7, Sent: "1117120000", Amount: 1_500_00, Fee: 1_500_00, OriginalRRN: "000000000002"}
		now := at(monday.AddDays(1))
		var where *clearing.Error
		if _, err := w.e.Import(t.Context(), "north", monday.AddDays(1), from(b.Bytes()[:b.Len()-10]), find, ann, now); !errors.As(err, &where) {
			t.Errorf("a damaged file: %v", err)
		}
		if all, err := w.e.Cases(t.Context(), Query{}); err != nil || len(all) != 0 {
			t.Errorf("it opened %+v, %v", all, err)
		}
		for range 2 {
			got, err := w.e.Import(t.Context(), "north", monday.AddDays(1), from(b.Bytes()), find, ann, now)
			if want := (Imported{Items: 5, Taken: 1, Ours: 1, Unknown: 1, Unfit: 2}); err != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		}
		w.do("1 is chargeback open\n1 has 2101=496.40 1101=497.11")
		big := func(ctx context.Context, x clearing.ErrorItem) (Payment, error) {
			p, err := find(ctx, x)
			p.Amount = 2_000_00
			return p, err
		}
		items := func() iter.Seq2[clearing.ErrorItem, error] {
			return func(yield func(clearing.ErrorItem, error) bool) { _ = yield(high, nil) && yield(higher, nil) }
		}
		if got, err := w.e.Import(t.Context(), "north", monday.AddDays(1), items, big, ann, now); err != nil || got != (Imported{Items: 2, Taken: 2}) {
			t.Errorf("fees that may be: %+v, %v", got, err)
		}
	})
}

// What came by word is taken when two people say it. What cannot be is refused
// before the second comes, the same number for another payment too.
func TestTold(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		now := at(monday.AddDays(1))
		it := Item{Key: "hand/north/1", Source: "north", Stage: Chargeback, Reason: "4853", Fee: 5_00, Date: monday.AddDays(1), Payment: Payment{Txn: 1, RRN: "000000000001", Merchant: alice, Amount: 100_00}}
		for range 2 {
			if told, err := w.e.Tell(t.Context(), it, ann, now); err != nil || told.AskedBy != "ann" || told.Instead != "" {
				t.Fatalf("%+v, %v", told, err)
			}
		}
		if _, err := w.e.Confirm(t.Context(), it.Key, false, ann, now); !errors.Is(err, audit.ErrTwoPeople) {
			t.Errorf("one person: %v", err)
		}
		w.do("1 has 2101=596.40 1101=597.11 5105=0.00")
		less := it
		less.Amount = 40_00
		if told, err := w.e.Tell(t.Context(), less, bob, now); err != nil || !strings.Contains(told.Instead, "ann had asked for") {
			t.Errorf("otherwise: %+v, %v", told, err)
		}
		if _, err := w.e.Confirm(t.Context(), it.Key, false, bob, now); !errors.Is(err, audit.ErrTwoPeople) {
			t.Errorf("who said otherwise: %v", err)
		}
		for _, bad := range []func(*Item){func(x *Item) { x.Stage = Second }, func(x *Item) { x.Amount = 100_01 }, func(x *Item) { x.Date = monday.AddDays(9) },
			func(x *Item) { x.Payment.Date = monday.AddDays(3) }, func(x *Item) { x.Stage = "odd" }, func(x *Item) { x.Fee = -1 }, func(x *Item) { x.Amount = -1 }, func(x *Item) { x.Fee = 1<<63 - 1 }} {
			x := it
			x.Key = "hand/north/2"
			bad(&x)
			if _, err := w.e.Tell(t.Context(), x, ann, now); err == nil {
				t.Errorf("%+v was taken", x)
			}
		}
		if asked, err := w.e.Asked(t.Context()); err != nil || len(asked) != 1 || asked[0].Item != less {
			t.Errorf("waiting: %+v, %v", asked, err)
		}
		if c, err := w.e.Confirm(t.Context(), it.Key, false, ann, now); err != nil || c.Amount != 40_00 || c.State != Open {
			t.Errorf("%+v, %v", c, err)
		}
		w.do("1 has 2101=556.40 1101=552.11 5105=5.00")
		if _, err := w.e.Confirm(t.Context(), it.Key, false, ann, now); !errors.Is(err, ErrAction) {
			t.Errorf("a second time: %v", err)
		}
		other := it
		other.Payment.Txn, other.Payment.RRN = 2, "000000000002"
		if _, err := w.e.Take(t.Context(), other, north, now); !errors.Is(err, ErrAction) {
			t.Errorf("its number for another payment: %v", err)
		}
		if events, err := w.e.Events(t.Context(), w.one().ID); err != nil || !strings.Contains(events[0].What, "bob asked for it") || events[0].Who != "ann" {
			t.Errorf("%+v, %v", events, err)
		}
	})
}

// Two who answer at once, or a clock that ends what somebody is answering: one of
// them comes first, and the money is where the case says.
func TestAtOnce(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newCourt(t, db, Terms{})
		w.do("1 chargeback\n2 evidence")
		id := w.one().ID
		errs := make(chan error, 3)
		go func() {
			_, err := w.e.Answer(context.WithoutCancel(t.Context()), id, Represent, ann, at(monday.AddDays(31)))
			errs <- err
		}()
		go func() {
			_, err := w.e.Answer(context.WithoutCancel(t.Context()), id, GiveIn, bob, at(monday.AddDays(31)))
			errs <- err
		}()
		go func() { _, err := w.e.Tick(context.WithoutCancel(t.Context()), at(monday.AddDays(32))); errs <- err }()
		refused := 0
		for range 3 {
			if err := <-errs; errors.Is(err, ErrAction) {
				refused++
			} else if err != nil {
				t.Error(err)
			}
		}
		if c := w.one(); c.State == Answered && refused != 1 || c.State == Lost && refused < 1 {
			t.Errorf("%d were refused and it is %s", refused, c.State)
		}
		if w.one().State == Answered {
			w.do("32 has 2101=496.40 2104=100.00 1101=592.11")
		} else {
			w.do("32 is chargeback lost\n32 has 2101=496.40 2104=0.00 1101=492.11")
		}
	})
}
