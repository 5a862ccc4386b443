package settlement

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

// Random days on a street of six merchants: sales by card and code, voids,
// refunds, reversals, chargebacks, fees, holds, closes, payouts through every
// weather, receipts, new cards, all of them interrupted anywhere and sometimes by
// two schedulers at once. At the end everything is brought to rest, and then a
// model that knows nothing of settlement says what every merchant must have (I8
// to I11b). With -model.sales, which make model sets, it plays until so many
// transactions were sold on each engine, hundreds at a time.
func TestRandomDays(t *testing.T) {
	run := func(t *testing.T, checks int, open func() *store.DB) {
		given := flag.Lookup("rapid.checks")
		old := given.Value.String()
		if old != given.DefValue { // go test -rapid.checks=5000 asks for more
			checks = 0
		}
		if checks > 0 {
			if err := flag.Set("rapid.checks", fmt.Sprint(checks)); err != nil {
				t.Fatal(err)
			}
		}
		defer func() {
			if err := flag.Set("rapid.checks", old); err != nil {
				t.Error(err)
			}
		}()
		count := counts{}
		for sold := 0; ; {
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
				sold += len(m.sales) + m.followers
				count.add(m)
			})
			if t.Failed() || sold >= *modelSales {
				break
			}
		}
		t.Logf("%+v", count)
		for what, n := range map[string]int{"voids": count.Voids, "refunds": count.Refunds, "reversals": count.Reversals, "chargebacks": count.Chargebacks, "holds": count.Holds,
			"crashes": count.Crashes, "two schedulers": count.Twice, "returned payouts": count.Returned, "failed payouts": count.Failed, "payouts paid after they failed and were replaced": count.Long, "S0": count.Instant, "dates below nothing": count.BelowNothing} {
			if n == 0 && (checks >= 80 || *modelSales > 0) {
				t.Errorf("nothing of %s in the whole run", what)
			}
		}
	}
	dir, n := t.TempDir(), 0
	t.Run("sqlite", func(t *testing.T) {
		run(t, 80, func() *store.DB {
			n++
			db, err := store.Open(context.Background(), "sqlite:"+filepath.Join(dir, fmt.Sprint(n, ".db")), schemas...)
			if err != nil {
				t.Fatal(err)
			}
			return db
		})
	})
	t.Run("postgres", func(t *testing.T) {
		run(t, 6, func() *store.DB { return storetest.Postgres(t, schemas...) })
	})
}

var modelSales = flag.Int("model.sales", 0, "TestRandomDays plays until it has sold so much on each engine, hundreds at a time")

// counts is what a run has played.
type counts struct {
	Seeds, Sales, Voids, Refunds, Reversals, Chargebacks, Won, Fees, Holds, Crashes, Twice int
	Payouts, Returned, Failed, Long, Instant, Arrears, BelowNothing, LentAtRest            int
}

func (c *counts) add(m *model) {
	c.Seeds++
	c.Sales += len(m.sales)
	for _, s := range m.sales {
		switch {
		case s.voided:
			c.Voids++
		case s.taken:
			c.Reversals++
		}
		c.Refunds += s.refunds
	}
	c.Chargebacks += len(m.backs)
	for _, b := range m.backs {
		if b.won {
			c.Won++
		}
	}
	c.Fees, c.Holds, c.Crashes, c.Twice = c.Fees+m.fees, c.Holds+m.holds, c.Crashes+int(m.crashes.Load()), c.Twice+m.twice
	c.Payouts, c.Returned, c.Failed, c.Long = c.Payouts+m.paidOut, c.Returned+m.returned, c.Failed+m.failed, c.Long+m.longs
	c.Instant, c.Arrears = c.Instant+m.instants, c.Arrears+m.inArrears
	c.BelowNothing, c.LentAtRest = c.BelowNothing+m.below, c.LentAtRest+m.unpaid
}

// model knows what was sold, given back and taken, and nothing else.
type model struct {
	*world
	rt       *rapid.T
	e        *Engine
	mids     []string
	sales    []*soldItem
	owed     map[string]money.Amount // by merchant: what all of it comes to
	backs    []*backItem
	now      time.Time
	first    calendar.Date
	received money.Amount
	funds    money.Amount
	closed   map[calendar.Date]string // trial balance when a date was closed

	followers, fees, holds, twice                  int
	paidOut, returned, failed, instants, inArrears int
	longs, below, unpaid                           int
	crashes                                        atomic.Int64
}

type soldItem struct {
	fact          Fact
	rate, fixed   money.Amount // the fee of its plan, computed here
	taken, voided bool
	refunded      money.Amount
	rateBack      money.Amount
	refunds       int
}

func (s *soldItem) net() money.Amount { return s.fact.Amount - s.rate - s.fixed }

type backItem struct {
	key    string
	mid    string
	amount money.Amount
	won    bool
}

var weathers = []string{"00", "00", "89", "91", "92", "93", "94", "95", "96", "97", "98", "99"}

func newModel(rt *rapid.T, w *world) *model {
	m := &model{world: w, rt: rt, owed: map[string]money.Amount{}, closed: map[calendar.Date]string{},
		first: calendar.Date(rapid.SampledFrom([]int32{20260212, 20260429, 20260923, 20261119, 20251230}).Draw(rt, "first day"))}
	w.cfg.SubmitTimeout, w.cfg.NotFoundAfter, w.cfg.Workers = time.Minute, 30*time.Minute, 2
	w.cfg.ArrearsOver = money.Amount(rapid.SampledFrom([]int64{0, 500_00}).Draw(rt, "arrears"))
	w.cfg.AdvanceLimit = money.Amount(rapid.SampledFrom([]int64{0, 2_000_00}).Draw(rt, "advance limit"))
	m.e = w.engine()
	m.funds = money.Amount(rapid.SampledFrom([]int64{0, 500_00, 1_000_000_00}).Draw(rt, "own funds"))
	if m.funds > 0 {
		w.fund(m.e, m.funds)
	}
	for i := range 6 {
		speed := rapid.SampledFrom([]merchant.Speed{merchant.T1, merchant.D0, merchant.S0}).Draw(rt, "speed")
		plan := rapid.SampledFrom([]string{"MICRO-2025", "ESIGN-STD"}).Draw(rt, "plan")
		weather := rapid.SampledFrom(weathers).Draw(rt, "weather")
		if i == 5 { // a class II account, and nobody has enabled early payment
			m.mids = append(m.mids, w.register(i, 2, plan, speed))
			continue
		}
		m.mids = append(m.mids, w.merchant(i, plan, speed, weather))
	}
	m.now = clock(m.first, 9, 0)
	return m
}

// ofSales is a*part/whole half up, as a receipt would be computed by hand.
func ofSales(a, part, whole money.Amount) money.Amount {
	return money.Amount((2*int64(a)*int64(part) + int64(whole)) / (2 * int64(whole)))
}

// sell makes a sale, or in a long run hundreds, and prices it from the plans'
// published rates, in whole fen.
func (m *model) sell() {
	mid := rapid.SampledFrom(m.mids).Draw(m.rt, "merchant")
	n := 1
	if *modelSales > 0 && mid != m.mids[5] {
		n = rapid.IntRange(200, 1200).Draw(m.rt, "sales")
	}
	amount := money.Amount(rapid.IntRange(4_00, 3_000_00).Draw(m.rt, "amount"))
	byCode := rapid.IntRange(0, 3).Draw(m.rt, "by code") == 0
	shop, _ := m.reg.Merchant([]byte(mid))
	for i := range n {
		s := &soldItem{}
		sum := amount + money.Amount(i*i%977)
		m.txn++
		f := Fact{At: m.now, Txn: m.txn, Date: calendar.BusinessDate(m.now, calendar.CardCutoff), RRN: fmt.Sprintf("%012d", m.txn), Merchant: mid, Terminal: "10000001", Amount: sum}
		if byCode {
			f.Issuer, f.Channel, f.Wallet = "alipay", merchant.QR, "alipay"
			s.rate = ofSales(sum, 3800, 1_000_000)
		} else {
			f.Issuer, f.Channel, f.CardType = "north", merchant.Card, merchant.Credit
			s.rate = ofSales(sum, 6000, 1_000_000)
			if shop.Plan == "MICRO-2025" {
				s.fixed = 3_00
			}
		}
		s.fact = m.book.add(f)
		m.sales = append(m.sales, s)
		m.owed[mid] += s.net()
	}
}

// someSale is one that stands whole; nil when there is none at hand.
func (m *model) someSale() *soldItem {
	if len(m.sales) == 0 {
		return nil
	}
	s := m.sales[rapid.IntRange(0, len(m.sales)-1).Draw(m.rt, "sale")]
	if s.taken || s.voided {
		return nil
	}
	return s
}

func (m *model) takesBack() {
	if s := m.someSale(); s != nil && s.refunds == 0 {
		s.taken = true
		m.owed[s.fact.Merchant] -= s.net()
		m.takeBack(s.fact, m.now)
	}
}

func (m *model) voids() {
	if s := m.someSale(); s != nil && s.refunds == 0 {
		s.voided = true
		m.owed[s.fact.Merchant] -= s.net()
		m.follow(s, Voids, s.fact.Amount)
	}
}

func (m *model) refunds() {
	s := m.someSale()
	if s == nil || s.refunded == s.fact.Amount {
		return
	}
	amount := min(money.Amount(rapid.IntRange(1, 1_000_00).Draw(m.rt, "refund")), s.fact.Amount-s.refunded)
	s.refunds, s.refunded = s.refunds+1, s.refunded+amount
	back := ofSales(s.rate, s.refunded, s.fact.Amount) // the part by rate, by the share refunded so far
	m.owed[s.fact.Merchant] -= amount - (back - s.rateBack)
	s.rateBack = back
	m.follow(s, Refunds, amount)
}

func (m *model) follow(s *soldItem, does Does, amount money.Amount) {
	m.followers++
	m.txn++
	f := s.fact
	f.Txn, f.Original, f.Does, f.Amount, f.RRN, f.At = m.txn, f.Txn, does, amount, fmt.Sprintf("%012d", m.txn), m.now
	f.Date = calendar.BusinessDate(m.now, calendar.CardCutoff)
	m.book.add(f)
}

// chargesBack takes a sale's amount by its issuer's word, or lets the merchant win.
func (m *model) chargesBack() {
	if n := len(m.backs); n > 0 && rapid.Bool().Draw(m.rt, "won") {
		if b := m.backs[rapid.IntRange(0, n-1).Draw(m.rt, "chargeback")]; !b.won {
			b.won = true
			m.owed[b.mid] += b.amount
			m.surely("chargeback won", func(ctx context.Context, e *Engine) error { return e.ChargebackWon(ctx, b.key, b.amount, m.now) })
		}
		return
	}
	s := m.someSale()
	if s == nil {
		return
	}
	b := &backItem{key: fmt.Sprint("CB", len(m.backs)), mid: s.fact.Merchant, amount: s.fact.Amount - s.refunded}
	if b.amount == 0 {
		return
	}
	c := Chargeback{Key: b.key, Merchant: b.mid, Txn: s.fact.Txn, Wallet: s.fact.Wallet, Amount: b.amount, Fee: money.Amount(rapid.IntRange(0, 20_00).Draw(m.rt, "fee"))}
	if holds, err := m.e.Holds(m.t.Context(), b.mid, false, 1); err != nil {
		m.rt.Fatal(err)
	} else if len(holds) == 1 && holds[0].State == HoldSure {
		c.Hold = holds[0].Key
	}
	m.backs = append(m.backs, b)
	m.owed[b.mid] -= b.amount
	m.surely("chargeback", func(ctx context.Context, e *Engine) error { return e.Chargeback(ctx, c, m.now) })
}

func (m *model) takesFee() {
	mid := rapid.SampledFrom(m.mids).Draw(m.rt, "merchant")
	fee := money.Amount(rapid.IntRange(1, 100_00).Draw(m.rt, "fee"))
	m.fees++
	key := fmt.Sprint("F", m.fees)
	m.owed[mid] -= fee
	m.surely("fee", func(ctx context.Context, e *Engine) error { return e.ExtraFee(ctx, key, mid, fee, "repair", m.now) })
}

// moveHolds asks for a hold, or moves one of those that stand.
func (m *model) moveHolds() {
	holds, err := m.e.Holds(m.t.Context(), "", false, 100)
	if err != nil {
		m.rt.Fatal(err)
	}
	if len(holds) == 0 || rapid.Bool().Draw(m.rt, "another hold") {
		h := Hold{Key: fmt.Sprint("H", m.holds), Merchant: rapid.SampledFrom(m.mids).Draw(m.rt, "merchant"), Amount: money.Amount(rapid.IntRange(1, 2_000_00).Draw(m.rt, "hold")), Reason: "risk", AskedBy: "li"}
		m.holds++
		m.surely("hold", func(ctx context.Context, e *Engine) error {
			if err := e.AskHold(ctx, h, m.now); !errors.Is(err, ledger.ErrInsufficient) {
				return err
			}
			return nil
		})
		return
	}
	h := holds[rapid.IntRange(0, len(holds)-1).Draw(m.rt, "which")]
	m.surely("hold moves", func(ctx context.Context, e *Engine) error {
		return endHold(ctx, e, h, m.now, rapid.Bool().Draw(m.rt, "sure"))
	})
}

// endHold confirms a hold or, when it is sure, releases it; or refuses it.
func endHold(ctx context.Context, e *Engine, h Hold, now time.Time, sure bool) error {
	switch {
	case h.State == HoldAsked && sure:
		return e.ConfirmHold(ctx, h.Key, "wang", now)
	case h.State == HoldAsked:
		return e.RefuseHold(ctx, h.Key, "wang", now)
	}
	if err := e.AskRelease(ctx, h.Key, "wang", now); err != nil {
		return err
	}
	return e.Release(ctx, h.Key, "li", now)
}

// surely does something that is one write, twice: the second time changes nothing.
func (m *model) surely(what string, do func(ctx context.Context, e *Engine) error) {
	for range 2 {
		if err := do(m.t.Context(), m.e); err != nil && !errors.Is(err, ErrHold) {
			m.rt.Fatalf("%s: %v", what, err)
		}
	}
}

// act runs something that may end in the middle, like a process does.
func (m *model) act(what string, do func(ctx context.Context, e *Engine) error) {
	engines := 1
	if rapid.IntRange(0, 5).Draw(m.rt, what+" by two") == 0 {
		engines = 2
		m.twice++
	}
	var wg sync.WaitGroup
	errs := make([]error, engines)
	for i := range engines {
		ctx, e := m.t.Context(), m.engine()
		if rapid.IntRange(0, 2).Draw(m.rt, what+" interrupted") == 0 {
			ctx, _ = crashAt(ctx, e, rapid.IntRange(1, 9).Draw(m.rt, "at step"))
			step := e.step
			e.step = func(name string) error {
				err := step(name)
				if err != nil {
					m.crashes.Add(1)
				}
				return err
			}
		}
		wg.Go(func() { errs[i] = do(ctx, e) })
	}
	wg.Wait()
	m.carrier.arrived()
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
		for range rapid.IntRange(0, 20).Draw(m.rt, "actions") {
			m.now = m.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(m.rt, "minutes")) * time.Minute)
			switch rapid.SampledFrom([]string{"sell", "sell", "sell", "sell", "take back", "void", "refund", "charge back", "fee", "hold", "post", "pay", "early", "instant", "new card", "bank's day"}).Draw(m.rt, "what") {
			case "sell":
				m.sell()
			case "take back":
				m.takesBack()
			case "void":
				m.voids()
			case "refund":
				m.refunds()
			case "charge back":
				m.chargesBack()
			case "fee":
				m.takesFee()
			case "hold":
				m.moveHolds()
			case "instant":
				m.act("instant", func(ctx context.Context, e *Engine) error {
					if _, err := e.CatchUp(ctx); err != nil {
						return err
					}
					_, err := e.PayInstant(ctx, m.now)
					return err
				})
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
			m.act("close", func(ctx context.Context, e *Engine) error {
				_, err := e.CloseDay(ctx, date, m.now, false)
				return err
			})
			m.noteClosed()
			m.pays()
		}
	}
}

// noteClosed remembers what the dates that are closed came to: from here on
// nothing may be booked on them.
func (m *model) noteClosed() {
	var dates []calendar.Date
	if err := m.db.Read(m.t.Context(), func(tx store.Tx) error {
		rows, err := tx.Query("select date from settlement_run where seq = 0 and state = $1 and not exists (select 1 from settlement_run r where r.state <> $1)", runClosed)
		var err2 error
		dates, err2 = store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
		return err2
	}); err != nil {
		m.rt.Fatal(err)
	}
	for _, d := range dates {
		lines, err := m.e.ledger.TrialBalance(m.t.Context(), d)
		if err != nil {
			m.rt.Fatal(err)
		}
		now := fmt.Sprint(lines)
		if was, known := m.closed[d]; known && was != now {
			m.rt.Fatalf("I10: the closed date %s changed: it was %s, is %s", d, was, now)
		}
		m.closed[d] = now
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
	for { // give back what is held
		holds, err := m.e.Holds(ctx, "", false, 100)
		if err != nil {
			m.rt.Fatal(err)
		}
		if len(holds) == 0 {
			break
		}
		for _, h := range holds {
			if err := endHold(ctx, m.e, h, m.now, false); err != nil {
				m.rt.Fatal(err)
			}
		}
	}
	m.now = clock(last, 23, 30)
	m.close(m.e, last)
	m.noteClosed()
	for i := 0; ; i++ {
		if i > 200 {
			m.rt.Fatalf("payouts do not come to rest: %s", m.tables())
		}
		m.now = m.now.Add(2 * time.Hour)
		m.bank.Advance(1)
		if i == 20 {
			m.networksPay(last)
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
		for _, task := range tasks {
			if task.Kind == "payout_long" {
				m.recover(m.e, task.Ref, false, m.now)
				m.longs++
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
	m.noteClosed()
	m.settledOnce()
	m.noSpeedForNothing()
	m.lentForever()
	if r, err := m.e.VerifyJournal(ctx); err != nil || len(r.Problems) > 0 || r.Behind > 0 || r.Facts < len(m.sales)+m.followers {
		m.rt.Fatalf("the ledger against the journal: %+v, %v", r, err)
	}
	owed := m.owed
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
		rows, err = tx.Query("select ref, parent, state from settlement_payout order by length(ref), ref")
		roots := map[string]string{}
		effective := map[string]int{}
		_, err = store.All(rows, err, func(r *store.Rows, _ *int) error {
			var ref, parent string
			var state PayoutState
			if err := r.Scan(&ref, &parent, &state); err != nil {
				return err
			}
			if roots[ref] = ref; parent != "" {
				roots[ref] = roots[parent]
			}
			switch state {
			case Paid:
				m.paidOut++
				if effective[roots[ref]]++; effective[roots[ref]] > 1 {
					twice = ref
				}
			case CameBack:
				m.returned++
			case Failed:
				m.failed++
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.QueryRow("select coalesce(sum(case when speed = 'S0' and advance = 1 then 1 else 0 end), 0) from settlement_payout").Scan(&m.instants)
	}); err != nil {
		m.rt.Fatal(err)
	}
	if twice != "" {
		m.rt.Fatalf("I11a: a payout was made twice: %s", twice)
	}
	for _, mid := range m.mids {
		left := m.balance(m.e, ledger.MerchantPayable, mid) + m.balance(m.e, ledger.PayoutReturned, mid)
		if arrears := m.balance(m.e, ledger.Arrears, mid); arrears != 0 {
			m.inArrears++
			left -= arrears
		}
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
	for _, a := range []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.PayoutInTransit, ledger.MerchantFrozen, ledger.SuspenseShort, ledger.SuspenseLong, ledger.AdvanceRisk} {
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

// settledOnce looks at every sale's lines (I9): what stands has one, and one for
// each refund, with the fee of the model; a void makes two that are nothing
// together; what was reversed has none that counts, or one and its opposite.
func (m *model) settledOnce() {
	lines := map[int64][]line{}
	if err := m.db.Read(m.t.Context(), func(tx store.Tx) error {
		clear(lines)
		rows, err := tx.Query("select " + lineColumns + " from settlement_line order by effect")
		_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
			var l line
			if err := scanLine(r, &l); err != nil {
				return err
			}
			of := l.txn
			if l.parent != 0 {
				of = l.parent
			}
			lines[of] = append(lines[of], l)
			return nil
		})
		return err
	}); err != nil {
		m.rt.Fatal(err)
	}
	for _, s := range m.sales {
		all := lines[s.fact.Txn]
		delete(lines, s.fact.Txn)
		var amount, rate, fixed, speed money.Amount
		settled := true
		for _, l := range all {
			amount, rate, fixed, speed = amount+l.amount, rate+l.feeRate, fixed+l.feeFixed, speed+l.speedFee
			settled = settled && l.run > 0 && l.date >= s.fact.Date && l.date >= all[0].date
		}
		good := false
		switch {
		case s.voided:
			good = len(all) == 2 && settled && amount == 0 && rate == 0 && fixed == 0 && speed == 0
		case s.taken && len(all) == 1:
			good = all[0].run == lineTaken
		case s.taken:
			good = len(all) == 2 && settled && amount == 0 && rate == 0 && fixed == 0 && speed == 0
		default:
			good = len(all) == 1+s.refunds && settled && amount == s.fact.Amount-s.refunded && rate == s.rate-s.rateBack && fixed == s.fixed
		}
		if !good {
			m.rt.Fatalf("I9: sale %d (reversed %v, voided %v, %s of %s refunded) has lines %+v", s.fact.Txn, s.taken, s.voided, s.refunded, s.fact.Amount, all)
		}
	}
	if len(lines) != 0 {
		m.rt.Fatalf("I9: lines of no sale: %+v", lines)
	}
}

// noSpeedForNothing looks that nobody pays for speed for a sale whose run began
// on the day of its T+1, or later. The first close of these books takes earlier
// dates with it, and their T+1 is that of its own date.
func (m *model) noSpeedForNothing() {
	if err := m.db.Read(m.t.Context(), func(tx store.Tx) error {
		rows, err := tx.Query("select l.id, case when r.seq = 0 then r.date else l.date end, r.started from settlement_line l join settlement_run r on r.id = l.run where l.run > 0 and l.speed_fee > 0")
		_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
			var id, began int64
			var date calendar.Date
			if err := r.Scan(&id, &date, &began); err != nil {
				return err
			}
			due, err := calendar.SettleDate(date)
			if err == nil && calendar.DateOf(time.UnixMicro(began)) >= due {
				err = fmt.Errorf("line %d of %s paid for speed in a run that began when its T+1 was due", id, date)
			}
			return err
		})
		return err
	}); err != nil {
		m.rt.Fatal(err)
	}
}
