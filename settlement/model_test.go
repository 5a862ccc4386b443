package settlement

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	simbank "acquirer/simulate/bank"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Random days on a street of five merchants: sales, takings-back, closes,
// payouts through every weather, receipts, new cards, all of them interrupted
// anywhere and sometimes by two schedulers at once. At the end everything is
// brought to rest, and then a model that knows nothing of settlement says what
// every merchant must have.
func TestRandomDays(t *testing.T) {
	run := func(t *testing.T, checks string, open func() *store.DB) {
		given := flag.Lookup("rapid.checks")
		old := given.Value.String()
		if old != given.DefValue { // go test -rapid.checks=5000 asks for more
			checks = old
		}
		if err := flag.Set("rapid.checks", checks); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := flag.Set("rapid.checks", old); err != nil {
				t.Error(err)
			}
		}()
		rapid.Check(t, func(rt *rapid.T) {
			db := open()
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			m := newModel(rt, newWorld(rt, db))
			m.play()
			m.rest()
			m.judge()
		})
	}
	dir, n := t.TempDir(), 0
	t.Run("sqlite", func(t *testing.T) {
		run(t, "150", func() *store.DB {
			n++
			db, err := store.Open(context.Background(), "sqlite:"+filepath.Join(dir, fmt.Sprint(n, ".db")), schemas...)
			if err != nil {
				t.Fatal(err)
			}
			return db
		})
	})
	t.Run("postgres", func(t *testing.T) {
		run(t, "6", func() *store.DB { return storetest.Postgres(t, schemas...) })
	})
}

// model knows the sales and nothing else.
type model struct {
	*world
	rt       *rapid.T
	e        *Engine
	mids     []string
	sales    []*soldItem
	now      time.Time
	first    calendar.Date
	received money.Amount
	funds    money.Amount
}

type soldItem struct {
	fact  Fact
	net   money.Amount // after the fee of its plan, computed here
	taken bool
}

var weathers = []string{"00", "00", "91", "92", "93", "94", "95", "96", "97", "98", "99"}

func newModel(rt *rapid.T, w *world) *model {
	m := &model{world: w, rt: rt, first: calendar.Date(rapid.SampledFrom([]int32{20260212, 20260429, 20260923, 20261119, 20251230}).Draw(rt, "first day"))}
	w.cfg.SubmitTimeout, w.cfg.NotFoundAfter, w.cfg.Workers = time.Minute, 30*time.Minute, 2
	m.e = w.engine()
	m.funds = money.Amount(rapid.SampledFrom([]int64{0, 500_00, 1_000_000_00}).Draw(rt, "own funds"))
	if m.funds > 0 {
		w.fund(m.e, m.funds)
	}
	for i := range 5 {
		speed := rapid.SampledFrom([]merchant.Speed{merchant.T1, merchant.D0}).Draw(rt, "speed")
		plan := rapid.SampledFrom([]string{"MICRO-2025", "ESIGN-STD"}).Draw(rt, "plan")
		m.mids = append(m.mids, w.merchant(i, plan, speed, rapid.SampledFrom(weathers).Draw(rt, "weather")))
	}
	m.now = clock(m.first, 9, 0)
	return m
}

// sell makes a sale and prices it from the plans' published rates, in whole fen.
func (m *model) sell() {
	mid := rapid.SampledFrom(m.mids).Draw(m.rt, "merchant")
	amount := money.Amount(rapid.IntRange(4_00, 3_000_00).Draw(m.rt, "amount"))
	f := m.sale(mid, calendar.BusinessDate(m.now, calendar.CardCutoff), amount)
	shop, _ := m.reg.Merchant([]byte(mid))
	fee := (int64(amount)*6000 + 500_000) / 1_000_000
	if shop.Plan == "MICRO-2025" {
		fee += 300
	}
	m.sales = append(m.sales, &soldItem{fact: f, net: amount - money.Amount(fee)})
}

// act runs something that may end in the middle, like a process does.
func (m *model) act(what string, do func(ctx context.Context, e *Engine) error) {
	engines := 1
	if rapid.IntRange(0, 5).Draw(m.rt, what+" by two") == 0 {
		engines = 2
	}
	var wg sync.WaitGroup
	errs := make([]error, engines)
	for i := range engines {
		ctx, e := m.t.Context(), m.engine()
		if rapid.IntRange(0, 2).Draw(m.rt, what+" interrupted") == 0 {
			ctx, _ = crashAt(ctx, e, rapid.IntRange(1, 9).Draw(m.rt, "at step"))
		}
		wg.Go(func() { errs[i] = do(ctx, e) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errCrash) && !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrInDoubt) {
			m.rt.Fatalf("%s: %v", what, err)
		}
	}
}

func (m *model) play() {
	days := rapid.IntRange(1, 4).Draw(m.rt, "days")
	for day := range days {
		date := m.first.AddDays(day)
		m.now = clock(date, 9, 0)
		for range rapid.IntRange(0, 14).Draw(m.rt, "actions") {
			m.now = m.now.Add(time.Duration(rapid.IntRange(1, 50).Draw(m.rt, "minutes")) * time.Minute)
			switch rapid.SampledFrom([]string{"sell", "sell", "sell", "take back", "post", "pay", "early", "new card", "bank's day"}).Draw(m.rt, "what") {
			case "sell":
				m.sell()
			case "take back":
				if len(m.sales) > 0 {
					s := rapid.SampledFrom(m.sales).Draw(m.rt, "sale")
					if !s.taken {
						s.taken = true
						m.takeBack(s.fact, m.now)
					}
				}
			case "post":
				m.act("post", func(ctx context.Context, e *Engine) error { _, err := e.CatchUp(ctx); return err })
			case "pay":
				m.pays()
			case "early":
				m.act("early", func(ctx context.Context, e *Engine) error {
					_, err := e.PayEarly(ctx, date, m.now.Hour()*100+m.now.Minute(), m.now)
					return err
				})
			case "new card":
				m.newCards(rapid.SampledFrom(weathers).Draw(m.rt, "weather"))
			case "bank's day":
				m.bank.Advance(1)
			}
		}
		if rapid.Bool().Draw(m.rt, "closed in time") {
			m.now = clock(date, 23, 1)
			m.act("close", func(ctx context.Context, e *Engine) error { _, err := e.CloseDay(ctx, date, m.now, false); return err })
			m.pays()
		}
	}
}

func (m *model) pays() {
	m.act("pay", func(ctx context.Context, e *Engine) error { _, err := e.Pay(ctx, m.now); return err })
}

// newCards gives every merchant whose payout failed another account and issues
// it again.
func (m *model) newCards(weather string) {
	tasks, err := m.e.Tasks(m.t.Context(), 1000)
	if err != nil {
		m.rt.Fatal(err)
	}
	for _, task := range tasks {
		if task.Kind != "payout_failed" && task.Kind != "payout_returned" {
			continue
		}
		shop, _ := m.reg.Merchant([]byte(task.Merchant))
		fresh := m.shop(task.Merchant, shop.Plan, shop.Speed, weather)
		if err := m.reg.Put(m.t.Context(), []merchant.Merchant{fresh}, nil); err != nil {
			m.rt.Fatal(err)
		}
		m.act("reissue", func(ctx context.Context, e *Engine) error {
			_, err := e.Reissue(ctx, task.Ref, m.now)
			if errors.Is(err, ledger.ErrInsufficient) { // the merchant owes us meanwhile
				return nil
			}
			return err
		})
	}
}

// rest closes every day, pays and receives everything, and gives good accounts
// until nothing is under way.
func (m *model) rest() {
	ctx := m.t.Context()
	last := calendar.BusinessDate(m.now, calendar.CardCutoff)
	m.now = clock(last, 23, 30)
	m.close(m.e, last)
	for i := 0; ; i++ {
		if i > 200 {
			m.rt.Fatalf("payouts do not come to rest: %s", m.tables())
		}
		m.now = m.now.Add(2 * time.Hour)
		m.bank.Advance(1)
		if i == 20 {
			for d := m.first.AddDays(-1); d <= last; d = d.AddDays(1) {
				sum, err := m.e.Expected(ctx, d, "")
				if err != nil {
					m.rt.Fatal(err)
				}
				sum = max(sum, 0)
				if err := m.e.Receive(ctx, Receipt{Date: d, Received: sum, Reference: "UP" + d.String()}, m.now); err != nil {
					m.rt.Fatal(err)
				}
				m.received += sum
			}
		}
		m.pay(m.e, m.now)
		open, err := m.e.openPayouts(ctx, "1 = 1")
		if err != nil {
			m.rt.Fatal(err)
		}
		tasks, err := m.e.Tasks(ctx, 1000)
		if err != nil {
			m.rt.Fatal(err)
		}
		waiting := 0
		for _, task := range tasks {
			if task.Kind != "payout_failed" && task.Kind != "payout_returned" {
				continue
			}
			shop, _ := m.reg.Merchant([]byte(task.Merchant))
			if err := m.reg.Put(ctx, []merchant.Merchant{m.shop(task.Merchant, shop.Plan, shop.Speed, "00")}, nil); err != nil {
				m.rt.Fatal(err)
			}
			switch _, err := m.e.Reissue(ctx, task.Ref, m.now); {
			case errors.Is(err, ledger.ErrInsufficient):
			case err != nil:
				m.rt.Fatal(err)
			default:
				waiting++
			}
		}
		if i > 20 && len(open) == 0 && waiting == 0 && m.now.After(clock(last.AddDays(12), 0, 0)) {
			return
		}
	}
}

// judge says what must be so, whatever happened.
func (m *model) judge() {
	m.sound(m.e)
	ctx := m.t.Context()
	owed := map[string]money.Amount{}
	for _, s := range m.sales {
		m.settledOnce(s)
		if !s.taken {
			owed[s.fact.Merchant] += s.net
		}
	}
	paid := map[string]money.Amount{}
	var total money.Amount
	for _, p := range m.bank.Payouts() {
		if p.Status == simbank.Succeeded {
			paid[strings.SplitN(p.Reference, "-", 3)[1]] += p.Amount
			total += p.Amount
		}
		if p.Ordered() != 1 {
			m.rt.Fatalf("%s was ordered %d times", p.Reference, p.Ordered())
		}
		if p.Status == simbank.Processing {
			m.rt.Fatalf("the bank still works on %s", p.Reference)
		}
	}
	speedFees := map[string]money.Amount{}
	twice := ""
	if err := m.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select merchant, cast(sum(speed_fee) as BIGINT) from settlement_batch group by merchant")
		if _, err := store.All(rows, err, func(r *store.Rows, _ *int) error {
			var mid string
			var fee money.Amount
			err := r.Scan(&mid, &fee)
			speedFees[mid] = fee
			return err
		}); err != nil {
			return err
		}
		rows, err = tx.Query("select min(ref) from settlement_payout where state = 5 group by batch having count(*) > 1")
		_, err = store.All(rows, err, func(r *store.Rows, _ *int) error { return r.Scan(&twice) })
		return err
	}); err != nil {
		m.rt.Fatal(err)
	}
	if twice != "" {
		m.rt.Fatalf("a batch was paid twice: %s", twice)
	}
	for _, mid := range m.mids {
		left := m.balance(m.e, ledger.MerchantPayable, mid) + m.balance(m.e, ledger.PayoutReturned, mid)
		if owed[mid]-speedFees[mid] != paid[mid]+left {
			m.rt.Fatalf("%s sold for %s less %s for speed, was paid %s, and %s is left", mid, owed[mid], speedFees[mid], paid[mid], left)
		}
		// What is left is too small, or is a debt; or waits behind a debt.
		if left >= m.cfg.MinPayout && !m.behindDebt(mid) {
			m.rt.Fatalf("%s of %s was never paid", left, mid)
		}
	}
	if got := m.balance(m.e, ledger.ClientBank, "") + m.balance(m.e, ledger.OwnBank, ""); got != m.funds+m.received-total {
		m.rt.Fatalf("our bank accounts hold %s: %s of funds, %s received, %s paid", got, m.funds, m.received, total)
	}
	for _, a := range []ledger.Account{ledger.NetworkReceivable, ledger.PayoutInTransit, ledger.AdvanceD0, ledger.DueToOwnAdvance} {
		if got := m.balance(m.e, a, ""); got != 0 {
			m.rt.Fatalf("%s holds %s at rest", a, got)
		}
	}
}

// behindDebt says that a failed payout could not be issued again because the
// merchant owes more than it is.
func (m *model) behindDebt(mid string) bool {
	b, err := m.e.ledger.Balance(m.t.Context(), ledger.MerchantPayable, mid)
	if err != nil {
		m.rt.Fatal(err)
	}
	tasks, err := m.e.Tasks(m.t.Context(), 1000)
	if err != nil {
		m.rt.Fatal(err)
	}
	for _, task := range tasks {
		if task.Merchant == mid && task.Kind == "payout_failed" {
			return m.payout(m.e, task.Ref).amount > b.Available(ledger.MerchantPayable)
		}
	}
	return false
}

// settledOnce looks at a sale's lines: sold and standing, exactly one; taken
// back, none that counts, or one and its opposite.
func (m *model) settledOnce(s *soldItem) {
	var lines []line
	if err := m.db.Read(m.t.Context(), func(tx store.Tx) (err error) {
		rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1 or id = -$1 order by effect", s.fact.Txn)
		lines, err = store.All(rows, err, scanLine)
		return err
	}); err != nil {
		m.rt.Fatal(err)
	}
	switch {
	case len(lines) == 1 && !s.taken && lines[0].run > 0 && lines[0].amount == s.fact.Amount && lines[0].date >= s.fact.Date:
	case len(lines) == 1 && s.taken && lines[0].run == lineTaken:
	case len(lines) == 2 && s.taken && lines[0].run > 0 && lines[1].run > 0 && lines[0].amount+lines[1].amount == 0 &&
		lines[0].speedFee+lines[1].speedFee == 0 && lines[0].feeRate+lines[1].feeRate == 0 && lines[0].feeFixed+lines[1].feeFixed == 0 && lines[1].date >= lines[0].date:
	default:
		m.rt.Fatalf("sale %d (taken back: %v) has lines %+v", s.fact.Txn, s.taken, lines)
	}
}
