package settlement

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

var schemas = []store.Schema{merchant.Schema, ledger.Schema, Schema, FileSchema}

// Friday, an ordinary one; the next working day is Monday.
const (
	friday   calendar.Date = 20261120
	saturday calendar.Date = 20261121
	monday   calendar.Date = 20261123
)

// clock is a moment of a day, Beijing.
func clock(d calendar.Date, hour, minute int) time.Time {
	return d.Time().Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
}

// book is a Source in memory.
type book struct {
	mu        sync.Mutex
	facts     []Fact
	undecided int
}

func (b *book) Facts(_ context.Context, after int64, limit int) ([]Fact, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := min(int(after), len(b.facts))
	return slices.Clone(b.facts[from:min(from+limit, len(b.facts))]), nil
}

func (b *book) From(cursor int64) int64 { return cursor }

func (b *book) Undecided(context.Context, calendar.Date) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.undecided, nil
}

// CutOver moves nothing: the facts of this book have their dates.
func (b *book) CutOver(context.Context, calendar.Date) error { return nil }

func (b *book) add(f Fact) Fact {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.Cursor = int64(len(b.facts) + 1)
	b.facts = append(b.facts, f)
	return f
}

// failer is what testing.T and rapid.T have in common.
type failer interface {
	Helper()
	Error(...any)
	Fatal(...any)
	Fatalf(string, ...any)
	Context() context.Context
	Cleanup(func())
}

// world is a street with a bank.
type world struct {
	t       failer
	db      *store.DB
	book    *book
	reg     *merchant.Registry
	bank    *simbank.Bank
	rail    *HTTPRail
	carrier *carrier
	folder  string // of the bank's files; empty over HTTP
	txn     int64
	cfg     Config
}

func newWorld(t failer, db *store.DB) *world {
	t.Helper()
	reg, err := merchant.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, book: &book{}, reg: reg}
	w.newBank(simbank.Config{Opening: money.Yuan(1_000_000), Silence: 10 * time.Millisecond, Slow: time.Millisecond})
	w.cfg = Config{DB: db, Source: w.book, Merchants: reg, Rail: w.rail, WalletCutOff: calendar.CardCutoff, MinPayout: 1_00, NotFoundAfter: time.Hour,
		Seal:   func(_ context.Context, number string) ([]byte, error) { return []byte(number), nil },
		Unseal: func(_ context.Context, sealed []byte) (string, error) { return string(sealed), nil }}
	return w
}

func (w *world) newBank(cfg simbank.Config) {
	w.t.Helper()
	bank, err := simbank.Start("127.0.0.1:0", cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	rail, err := NewHTTPRail(bank.URL(), 30*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	w.carrier = &carrier{road: rail.client.Transport.(*http.Transport)}
	rail.client.Transport = w.carrier
	w.bank, w.rail = bank, rail
	w.cfg.Rail = rail
	w.t.Cleanup(func() {
		w.carrier.arrived()
		rail.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bank.Close(ctx); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) engine() *Engine {
	w.t.Helper()
	e, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// merchant registers one; the last two digits of its account choose the
// bank's weather.
func (w *world) merchant(n int, plan string, speed merchant.Speed, weather string) string {
	w.t.Helper()
	mid := fmt.Sprintf("89811005411%04d", n)
	if err := w.reg.Put(w.t.Context(), []merchant.Merchant{w.shop(mid, plan, speed, weather)}, nil); err != nil {
		w.t.Fatal(err)
	}
	if err := w.engine().AllowFast(w.t.Context(), mid, "wang", clock(friday, 8, 0)); err != nil {
		w.t.Fatal(err)
	}
	return mid
}

func (w *world) shop(mid, plan string, speed merchant.Speed, weather string) merchant.Merchant {
	return merchant.Merchant{MID: mid, Name: "shop " + mid, MCC: "5999", Status: merchant.Active, Plan: plan, Speed: speed, Tier: merchant.Assessed,
		Account: merchant.Account{Sealed: []byte("62284804" + mid[9:] + weather), Name: "owner", Bank: "ABC", Class: 1}}
}

// sale approves one of a credit card in the journal.
func (w *world) sale(mid string, date calendar.Date, amount money.Amount) Fact {
	w.txn++
	return w.book.add(Fact{At: clock(date, 12, 0), Txn: w.txn, Date: date, RRN: fmt.Sprintf("%012d", w.txn), Merchant: mid, Terminal: "10000001",
		Issuer: "north", Channel: merchant.Card, CardType: merchant.Credit, Amount: amount})
}

// takeBack reverses it.
func (w *world) takeBack(f Fact, at time.Time) {
	f.Taken, f.At, f.On = true, at, calendar.BusinessDate(at, calendar.CardCutoff)
	w.book.add(f)
}

func (w *world) close(e *Engine, date calendar.Date) Day {
	w.t.Helper()
	d, err := e.CloseDay(w.t.Context(), date, clock(date, 23, 5), false)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) pay(e *Engine, now time.Time) Payment {
	w.t.Helper()
	p, err := e.Pay(w.t.Context(), now)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// receive books that the network paid a day in full.
func (w *world) receive(e *Engine, date calendar.Date, now time.Time) {
	w.t.Helper()
	sum, err := e.Expected(w.t.Context(), date, "")
	if err != nil {
		w.t.Fatal(err)
	}
	if sum < 0 {
		sum = 0
	}
	if err := e.Receive(w.t.Context(), Receipt{Date: date, Received: sum, Reference: "UP-" + date.String()}, now); err != nil {
		w.t.Fatal(err)
	}
}

// sound runs every check there is.
func (w *world) sound(e *Engine) {
	w.t.Helper()
	problems, err := e.CheckAll(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := e.ledger.Verify(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if problems = append(problems, r.Problems...); len(problems) > 0 {
		w.t.Fatalf("the books are wrong:\n%s", strings.Join(problems, "\n"))
	}
}

func (w *world) balance(e *Engine, a ledger.Account, sub string) money.Amount {
	w.t.Helper()
	b, err := e.ledger.Balance(w.t.Context(), a, sub)
	if err != nil {
		w.t.Fatal(err)
	}
	return b.Net(a)
}

func (w *world) fund(e *Engine, amount money.Amount) {
	w.t.Helper()
	if err := e.ledger.Post(w.t.Context(), ledger.OwnFunds("start", friday, amount)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) payout(e *Engine, ref string) *payout {
	w.t.Helper()
	var p *payout
	if err := w.db.Write(w.t.Context(), func(tx store.Tx) (err error) {
		p, err = lockPayout(tx, ref)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// tables is everything that is on disk, but for ids and times: what must be
// the same however often and with whatever interruptions a day was settled.
func (w *world) tables() string {
	w.t.Helper()
	var out strings.Builder
	if err := w.db.Read(w.t.Context(), func(tx store.Tx) error {
		out.Reset()
		for _, sql := range []string{
			"select 'state ' || open_date || ' ' || cursor from settlement_state",
			`select 'line ' || abs(l.id) || ' ' || l.effect || ' ' || l.date || ' ' || l.merchant || ' ' || l.amount || ' ' || l.fee_rate || ' ' || l.fee_fixed || ' ' ||
				l.speed_fee || ' ' || coalesce(r.date, l.run) || ' ' || l.speed || ' ' || l.note from settlement_line l left join settlement_run r on r.id = l.run order by abs(l.id), l.effect`,
			`select 'item ' || i.key || ' ' || i.date || ' ' || i.amount || ' ' || i.network || ' ' || coalesce(r.date, i.run) from settlement_item i
				left join settlement_run r on r.id = i.run order by i.key`,
			"select 'hold ' || key || ' ' || remains || ' ' || state from settlement_hold order by key",
			"select 'run ' || date || ' ' || seq || ' ' || state from settlement_run order by date, seq",
			`select 'batch ' || date || ' ' || merchant || ' ' || speed || ' ' || lines || ' ' || gross || ' ' || fee || ' ' || speed_fee || ' ' || carry_in || ' ' ||
				carry_out || ' ' || paid || ' ' || payout from settlement_batch order by date, merchant, speed`,
			"select 'carry ' || merchant || ' ' || amount from settlement_carry order by merchant",
			`select 'payout ' || ref || ' ' || amount || ' ' || due || ' ' || state || ' ' || repaid || ' ' || long || ' ' || child from settlement_payout order by ref`,
			"select 'receipt ' || ref || ' ' || expected || ' ' || received from settlement_receipt order by ref",
			"select 'task ' || key from settlement_task order by key",
			"select 'transfer ' || key || ' ' || event || ' ' || date || ' ' || kind || ' ' || legs from ledger_transfer order by key",
			"select 'balance ' || account || ' ' || sub || ' ' || debit || ' ' || credit || ' ' || pending_debit || ' ' || pending_credit from ledger_balance order by account, sub",
		} {
			rows, err := tx.Query(sql)
			all, err := store.All(rows, err, func(r *store.Rows, s *string) error { return r.Scan(s) })
			if err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			for _, s := range all {
				out.WriteString(s + "\n")
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return out.String()
}

// errCrash is what a step fails with when the process "ends" there.
var errCrash = errors.New("crash")

// crashAt lets the n-th step from now fail and ends the context: nothing
// happens any more in a process that is gone.
func crashAt(ctx context.Context, e *Engine, n int) (_ context.Context, names *[]string) {
	ctx, end := context.WithCancel(ctx)
	var mu sync.Mutex
	names = &[]string{}
	e.step = func(name string) error {
		mu.Lock()
		defer mu.Unlock()
		*names = append(*names, name)
		if len(*names) >= n {
			end()
			return fmt.Errorf("%w at %s", errCrash, name)
		}
		return nil
	}
	return ctx, names
}

// difference shows the first lines in which two dumps differ.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for i := range max(len(x), len(y)) {
		l, r := "", ""
		if i < len(x) {
			l = x[i]
		}
		if i < len(y) {
			r = y[i]
		}
		if l != r {
			out = append(out, "- "+l, "+ "+r)
		}
		if len(out) > 12 {
			break
		}
	}
	return strings.Join(out, "\n")
}

// carrier brings to the bank every request that has begun, also when the process
// that made it ends meanwhile: what is written to a socket arrives. arrived waits
// until all of them were answered. A model's clock jumps an hour in a
// millisecond, and what left before a jump must not arrive after it: the bank
// would take an order that it had not known for an hour, which is another story
// (TestPaidAfterFailed).
type carrier struct {
	road  *http.Transport
	under sync.WaitGroup
}

func (c *carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	type answer struct {
		resp *http.Response
		err  error
	}
	got, gone := make(chan answer), r.Context().Done()
	c.under.Go(func() {
		resp, err := c.road.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		select {
		case got <- answer{resp, err}:
		case <-gone:
			if err == nil {
				_ = resp.Body.Close() // nobody is left to read it
			}
		}
	})
	select {
	case a := <-got:
		return a.resp, a.err
	case <-gone:
		return nil, r.Context().Err()
	}
}

// CloseIdleConnections is for http.Client.
func (c *carrier) CloseIdleConnections() { c.road.CloseIdleConnections() }

func (c *carrier) arrived() { c.under.Wait() }
