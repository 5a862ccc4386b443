package reconcile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/settlement/clearing"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var schemas = []store.Schema{merchant.Schema, ledger.Schema, settlement.Schema, settlement.FileSchema, Schema, audit.Schema}

// Wednesday to Saturday of an ordinary week.
const (
	wednesday calendar.Date = 20261118
	thursday  calendar.Date = 20261119
	friday    calendar.Date = 20261120
	saturday  calendar.Date = 20261121
)

const (
	alice = "898110054110001"
	early = "898110054110002" // is paid during the day
)

// town is merchants whose sales a network and a wallet have on their books too.
type town struct {
	t     *testing.T
	db    *store.DB
	books *settlement.Engine
	e     *Engine
	facts []settlement.Fact
	txn   int64
	seen  map[string]Seen
	files map[string][]clearing.Record // by source: what it has not told yet
	back  money.Amount                 // what the network takes from its next payment
	paid  map[string]money.Amount      // net of the files of a day, by day and wallet

	undecided int // sales under way
}

func (w *town) Facts(_ context.Context, after int64, limit int) ([]settlement.Fact, error) {
	from := min(int(after), len(w.facts))
	return slices.Clone(w.facts[from:min(from+limit, len(w.facts))]), nil
}
func (w *town) From(cursor int64) int64                                     { return cursor }
func (w *town) Undecided(context.Context, calendar.Date) (n int, err error) { return w.undecided, nil }
func (w *town) CutOver(context.Context, calendar.Date) error                { return nil }

func newTown(t *testing.T, db *store.DB, change ...func(*Config)) *town {
	t.Helper()
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	shop := func(mid string, speed merchant.Speed) merchant.Merchant {
		return merchant.Merchant{MID: mid, Name: "shop " + mid, MCC: "5999", Status: merchant.Active, Plan: "ESIGN-STD", Speed: speed, Tier: merchant.Assessed,
			Account: merchant.Account{Sealed: []byte("6228480400000000"), Name: "owner", Bank: "ABC", Class: 1}}
	}
	if err := reg.Put(t.Context(), []merchant.Merchant{shop(alice, merchant.T1), shop(early, merchant.D0)}, nil); err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, db: db, seen: map[string]Seen{}, files: map[string][]clearing.Record{}, paid: map[string]money.Amount{}}
	// The gate is the comparison's, which needs the books first.
	if w.books, err = settlement.New(settlement.Config{DB: db, Source: w, Merchants: reg, WalletCutOff: calendar.CardCutoff,
		Payers: []settlement.Payer{{Reference: "CUPS{date}"}},
		Gate:   func(ctx context.Context, d calendar.Date) error { return w.e.Gate(ctx, d) }}); err != nil {
		t.Fatal(err)
	}
	if err := w.books.AllowFast(t.Context(), early, "wang", time.Now()); err != nil {
		t.Fatal(err)
	}
	cfg := Config{DB: db, Books: w.books, Sources: []Source{{Name: "north"}, {Name: "alipay", Wallet: true}}, Age: 1,
		Journal: func(_ context.Context, rrn string) (Seen, error) {
			if s, ok := w.seen[rrn]; ok {
				return s, nil
			}
			return Nothing, nil
		},
		ID: func(rrn string) (int64, bool) {
			id, err := strconv.ParseInt(rrn, 10, 64)
			return id, err == nil && id > 0
		}}
	for _, f := range change {
		f(&cfg)
	}
	if w.e, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := w.books.Ledger().Post(t.Context(), ledger.OwnFunds("start", wednesday, money.Yuan(100_000))); err != nil {
		t.Fatal(err)
	}
	return w
}

func at(d calendar.Date, hour int) time.Time { return d.Time().Add(time.Duration(hour) * time.Hour) }

func (w *town) fact(f settlement.Fact) settlement.Fact {
	f.Cursor = int64(len(w.facts) + 1)
	w.facts = append(w.facts, f)
	return f
}

// sale is on both sides' books: the network will have the record in its next
// file.
func (w *town) sale(mid string, d calendar.Date, amount money.Amount) (settlement.Fact, *clearing.Record) {
	w.txn++
	f := w.fact(settlement.Fact{At: at(d, 12), Txn: w.txn, Date: d, RRN: fmt.Sprintf("%012d", w.txn), Merchant: mid, Terminal: "10000001",
		Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: amount})
	cost, err := ledger.UnionPay2016.Cost(false, false, amount)
	if err != nil {
		w.t.Fatal(err)
	}
	return f, w.tell("north", clearing.Record{Kind: clearing.Sale, RRN: f.RRN, Amount: amount, IssuerFee: cost.Issuer, NetworkFee: cost.Network, Merchant: mid, Terminal: "10000001"})
}

// sold is alice's sale of Wednesday, as the network will have it.
func (w *town) sold() *clearing.Record {
	_, r := w.sale(alice, wednesday, 100_00)
	return r
}

// reversed is a record that takes another one back.
func reversed(r clearing.Record) clearing.Record {
	r.Kind, r.Amount, r.IssuerFee, r.NetworkFee = clearing.Reversal, -r.Amount, -r.IssuerFee, -r.NetworkFee
	return r
}

// reverse takes a sale back here.
func (w *town) reverse(rrn string, d calendar.Date) {
	w.t.Helper()
	i := slices.IndexFunc(w.facts, func(f settlement.Fact) bool { return f.RRN == rrn })
	f := w.facts[i]
	f.Taken, f.At, f.On = true, at(d, 9), d
	w.fact(f)
	w.seen[rrn] = WasReversed
}

// scan is a payment by code at a wallet.
func (w *town) scan(mid string, d calendar.Date, amount money.Amount) (settlement.Fact, *clearing.Record) {
	w.txn++
	f := w.fact(settlement.Fact{At: at(d, 12), Txn: w.txn, Date: d, RRN: fmt.Sprintf("%012d", w.txn), Merchant: mid, Terminal: "10000001",
		Issuer: "alipay", Wallet: "alipay", Channel: merchant.QR, Amount: amount})
	return f, w.tell("alipay", clearing.Record{Kind: clearing.Sale, RRN: f.RRN, Amount: amount, Merchant: mid})
}

// tell adds a record to a source's next file.
func (w *town) tell(source string, r clearing.Record) *clearing.Record {
	r.Sent = "1120120000"
	w.files[source] = append(w.files[source], r)
	return &w.files[source][len(w.files[source])-1]
}

// drop takes a record out of the next file.
func (w *town) drop(source, rrn string) clearing.Record {
	i := slices.IndexFunc(w.files[source], func(r clearing.Record) bool { return r.RRN == rrn })
	r := w.files[source][i]
	w.files[source] = slices.Delete(w.files[source], i, i+1)
	return r
}

// file is a source's file of what it has not told yet.
func (w *town) file(source string, d calendar.Date) File {
	w.t.Helper()
	var b bytes.Buffer
	out, err := clearing.NewWriter(&b, clearing.Header{Source: source, Acquirer: "01020000", Date: d})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range w.files[source] {
		if err := out.Write(r); err != nil {
			w.t.Fatal(err)
		}
	}
	totals, err := out.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	w.files[source] = nil
	wallet := ""
	if source == "alipay" {
		wallet = source
	}
	w.paid[d.String()+wallet] = totals.Net
	if source == "north" {
		w.paid[d.String()] -= w.back
		w.back = 0
	}
	return inMemory(source, d, b.Bytes())
}

func inMemory(source string, d calendar.Date, text []byte) File {
	sum := sha256.Sum256(text)
	return File{Source: source, Date: d, Name: source + "-" + d.String(), SHA: hex.EncodeToString(sum[:]),
		Records: func() iter.Seq2[clearing.Record, error] { return networkRecords(bytes.NewReader(text)) }}
}

func (w *town) load(f File) {
	w.t.Helper()
	if _, err := w.e.Load(w.t.Context(), f, at(f.Date, 24)); err != nil {
		w.t.Fatal(err)
	}
}

// night is what happens to a business date once its files have come: they are
// compared, the date closes, and what the files come to is received.
func (w *town) night(d calendar.Date) Day {
	w.t.Helper()
	w.load(w.file("north", d))
	w.load(w.file("alipay", d))
	day, err := w.e.Compare(w.t.Context(), d, at(d, 25))
	if err != nil {
		w.t.Fatal(err)
	}
	again, err := w.e.Compare(w.t.Context(), d, at(d, 25))
	if err != nil {
		w.t.Fatal(err)
	}
	if again.Breaks != day.Breaks || again.Waiting != day.Waiting || again.Open != day.Open {
		w.t.Errorf("%s compared again: %+v, then %+v", d, day, again)
	}
	if _, err := w.books.CloseDay(w.t.Context(), d, at(d, 26), false); err != nil {
		w.t.Fatal(err)
	}
	for _, wallet := range []string{"", "alipay"} {
		sum, err := w.books.Expected(w.t.Context(), d, wallet)
		if err != nil {
			w.t.Fatal(err)
		}
		if paid := w.paid[d.String()+wallet]; sum != paid {
			w.t.Errorf("%s expects %s of %q, its files come to %s", d, sum, wallet, paid)
		}
		if sum < 0 {
			w.t.Fatalf("%s: %s to be received", d, sum)
		}
		if err := w.books.Receive(w.t.Context(), settlement.Receipt{Date: d, Wallet: wallet, Received: sum, Reference: "NET" + wallet + d.String()}, at(d, 34)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.sound()
	return day
}

// sound runs the checks of settlement and ledger.
func (w *town) sound() {
	w.t.Helper()
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
	mine, err := Verify(w.t.Context(), w.db)
	if err != nil {
		w.t.Fatal(err)
	}
	if problems = slices.Concat(problems, r.Problems, j.Problems, mine); len(problems) > 0 {
		w.t.Fatalf("the books are wrong:\n%s", strings.Join(problems, "\n"))
	}
}

// wants reads balances like "1101=0.00 1901=12.34".
func (w *town) wants(balances string) {
	w.t.Helper()
	for _, f := range strings.Fields(balances) {
		place, amount, _ := strings.Cut(f, "=")
		code, sub, _ := strings.Cut(place, ":")
		n, err := strconv.Atoi(code)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := w.books.Ledger().Balance(w.t.Context(), ledger.Account(n), sub)
		if err != nil {
			w.t.Fatal(err)
		}
		if got := b.Net(ledger.Account(n)).String(); got != amount {
			w.t.Errorf("account %s is %s, want %s", place, got, amount)
		}
	}
}

// resolve has two people do an action.
func (w *town) resolve(b Break, a Action, d calendar.Date) {
	w.t.Helper()
	for i, who := range []string{"maker", "checker"} {
		got, done, err := w.e.Resolve(w.t.Context(), b.ID, a, "", Who{Name: who, From: "test"}, at(d, 20))
		if err != nil || done != (i == 1) {
			w.t.Fatalf("%s %s by %s: %+v, %v, %v", b.Key, a, who, got, done, err)
		}
	}
}

// only is the one break there is with a state; 0 for any.
func (w *town) only(q Query) Break {
	w.t.Helper()
	all, err := w.e.Breaks(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(all) != 1 {
		w.t.Fatalf("%d breaks: %+v", len(all), all)
	}
	return all[0]
}
