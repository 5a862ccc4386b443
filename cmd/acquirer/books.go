package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/calendar"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/settlement"
	switching "acquirer/switch"
)

// openBooks puts the settlement engine on the journal, the ledger and the bank.
func (v *house) openBooks(ctx context.Context, dataKey hsm.Key) (*settlement.Engine, error) {
	cfg := settlement.Config{
		DB: v.db, Source: settlement.FromJournal(v.journal, switching.EntryOf), Merchants: v.terminals, Rest: v.letTerminalsFirst,
		Seal: v.sealAccount(dataKey), Unseal: v.openAccount(dataKey), OnInstant: v.instantPaid, OnSlow: v.slowedDown,
	}
	if err := v.cfg.terms(&cfg); err != nil {
		return nil, err
	}
	var err error
	if v.rail, err = v.openRail(dataKey); err != nil {
		return nil, err
	}
	if v.rail != nil {
		if v.cfg.demo { // its bank began anew
			err = settlement.ForgetBank(ctx, v.db)
		}
		if err == nil {
			cfg.Rail, err = settlement.OneBank(ctx, v.db, v.rail, v.cfg.bankName(), time.Now())
		}
		if err != nil {
			return nil, err
		}
	}
	if v.cfg.Clearing.Sources != "" {
		cfg.Gate = func(ctx context.Context, date calendar.Date) error { return v.recon.Gate(ctx, date) }
	}
	return settlement.New(cfg)
}

// letTerminalsFirst keeps the ledger to a fifth of the store's time while any
// transaction is under way: terminals wait for the store, the ledger may lag
// (acquirer_ledger_lag_seconds).
func (v *house) letTerminalsFirst(took time.Duration) time.Duration {
	if v.sw == nil || v.sw.InFlight() == 0 {
		return 0
	}
	return min(4*took, time.Second)
}

// bookOwnFunds books, once for these books, what we ourselves have at the bank.
func (v *house) bookOwnFunds(ctx context.Context) error {
	amount, err := money.Parse(v.cfg.Settlement.OwnFunds)
	if err != nil || amount == 0 {
		return err
	}
	err = v.ledger.Post(ctx, ledger.OwnFunds("opening", calendar.BusinessDate(time.Now(), v.cfg.Switch.CutOff), amount))
	if errors.Is(err, ledger.ErrConflict) {
		v.log.Warn("settlement.own_funds was booked with another amount when these books began; that one stands", "setting", amount.String())
		return nil
	}
	return err
}

// keeper follows the journal into the ledger and checks the house's own
// invariants; what it finds is what the alarms look at.
type keeper struct {
	v          *house
	began      time.Time
	checked    atomic.Int64
	balanced   atomic.Bool
	violations *prometheus.CounterVec
	failures   prometheus.Counter
	mu         sync.Mutex       // one check at a time: the demo asks for one of its own
	known      map[string]int64 // violations seen by the last check, so that each is counted once
	last       atomic.Pointer[[]violation]
}

// violation is one invariant that the last check found broken.
type violation struct {
	invariant, what string
	count           int64
}

// violated is what the last check found.
func (k *keeper) violated() []violation {
	if v := k.last.Load(); v != nil {
		return *v
	}
	return nil
}

func newKeeper(v *house) *keeper {
	k := &keeper{v: v, began: time.Now(), known: map[string]int64{},
		violations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_invariant_violations_total",
			Help: "Facts that must not be, found by the house's own checks, by invariant; must stay 0."}, []string{"invariant"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_self_check_failures_total",
			Help: "Self-checks that could not be carried out."}),
	}
	k.balanced.Store(true)
	v.metrics.MustRegister(k.violations, k.failures,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_ledger_lag_seconds",
			Help: "How far the ledger is behind the journal: everything older is booked."}, func() float64 { return k.lag(time.Now()).Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_ledger_balanced",
			Help: "1 while debits equal credits in both books, 0 otherwise."}, func() float64 {
			if k.balanced.Load() {
				return 1
			}
			return 0
		}))
	for _, invariant := range []string{"I1", "I3", "I6", "I8", "I9"} {
		k.violations.WithLabelValues(invariant)
	}
	return k
}

// run posts every half second and checks every thirty until ctx ends.
func (k *keeper) run(ctx context.Context) {
	post := time.NewTicker(500 * time.Millisecond)
	defer post.Stop()
	check := time.NewTicker(30 * time.Second)
	defer check.Stop()
	_, err := k.check(ctx)
	for {
		if err != nil && ctx.Err() == nil {
			k.failures.Inc()
			k.v.log.Error("keeping the books", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-post.C:
			err = k.post(ctx)
		case <-check.C:
			_, err = k.check(ctx)
		}
	}
}

func (k *keeper) post(ctx context.Context) error {
	_, err := k.v.books.CatchUp(ctx)
	return err
}

// lag is how far the ledger is behind the journal: everything older is booked.
func (k *keeper) lag(now time.Time) time.Duration {
	upto := k.v.books.Reached()
	if upto.IsZero() {
		upto = k.began // nothing was read yet
	}
	return max(0, now.Sub(upto))
}

// check asks journal, ledger and settlement for what must not be, counts what
// is new and returns all of it in words.
func (k *keeper) check(ctx context.Context) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found []string
	var broken []violation
	seen := map[string]int64{}
	note := func(invariant, what string, n int64) {
		found = append(found, invariant+": "+what)
		broken = append(broken, violation{invariant, what, n})
		seen[invariant] += n
	}
	violations, err := k.v.journal.Check(ctx, time.Now().Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	for _, x := range violations {
		note(x.Invariant, x.String(), x.Count)
	}
	report, err := k.v.ledger.SelfCheck(ctx)
	if err != nil {
		return nil, err
	}
	k.balanced.Store(report.OK())
	for _, p := range report.Problems {
		note("I8", p, 1)
	}
	problems, err := k.v.books.Check(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		note("I9", p, 1)
	}
	k.last.Store(&broken)
	k.checked.Store(time.Now().UnixMicro())
	for invariant, n := range seen {
		if more := n - k.known[invariant]; more > 0 {
			k.violations.WithLabelValues(invariant).Add(float64(more))
		}
	}
	k.known = seen
	if len(found) > 0 {
		k.v.log.Error("invariants violated; page somebody", "found", strings.Join(found, "; "))
	}
	return found, nil
}

// settler closes business dates when their cut-off has passed, pays D+0
// merchants at the day's windows, and sends what is due, for as long as the
// house runs.
func (v *house) settler(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	trouble := trouble{log: v.log}
	for {
		if err := v.settleDue(ctx, time.Now()); ctx.Err() == nil {
			trouble.met("settling", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settleDue does what settlement owes at a moment. Every part of it may be
// repeated: a date is closed once, a window paid once, a payout sent once. No
// part holds up another: a folder that cannot be read is no reason not to pay.
func (v *house) settleDue(ctx context.Context, now time.Time) error {
	return errors.Join(v.reconcileDue(ctx, now), v.disputesDue(ctx, now), v.closeEnded(ctx, now), v.payWindows(ctx, now), v.payDue(ctx, now), v.watchReceipts(ctx, now))
}

// disputesDue reminds of deadlines of disputes and ends what nobody answered.
func (v *house) disputesDue(ctx context.Context, now time.Time) error {
	did, err := v.disputes.Tick(ctx, now)
	if did.Changed > 0 {
		v.log.Info("deadlines of disputes came nearer or ended", "cases", did.Changed)
	}
	if did.Missed > 0 {
		v.missed.Add(float64(did.Missed))
		v.log.Error("disputes were not answered in time; acquirer payout tasks names them", "cases", did.Missed)
	}
	return err
}

// closeEnded closes the business date that has ended, when nothing keeps it
// waiting.
func (v *house) closeEnded(ctx context.Context, now time.Time) error {
	open, err := v.books.OpenDate(ctx)
	if err != nil {
		return err
	}
	ended := v.books.Ended(now)
	if open > ended { // open is 0 before the first close: the day before is closed empty
		return nil
	}
	day, err := v.books.CloseDay(ctx, ended, now, false)
	if err != nil {
		v.waiting.Set(1)
		if !errors.Is(err, settlement.ErrGate) {
			return err
		}
		if v.waits != err.Error() {
			v.waits = err.Error()
			v.log.Warn("a business date waits before it is settled", "why", v.waits)
		}
		return nil
	}
	v.waits = ""
	v.waiting.Set(0)
	v.log.Info("business date closed", "date", day.Date.String(), "transactions", day.Lines, "payouts", day.Payouts, "total", day.PayoutTotal.String())
	if err := chargeExtras(ctx, v.books, day.Date, now, v.log); err != nil {
		return err
	}
	return v.forgetCounters(ctx, calendar.DateOf(now).AddDays(-1))
}

// payWindows pays D+0 merchants what they sold before the day's windows that
// have passed.
func (v *house) payWindows(ctx context.Context, now time.Time) error {
	today := v.today(now)
	if calendar.DateOf(now) != today {
		return nil
	}
	local := now.In(calendar.Beijing)
	clock := local.Hour()*100 + local.Minute()
	for _, window := range v.windows {
		if clock < window || v.paidWindow >= int64(today)*10_000+int64(window) {
			continue
		}
		if _, err := v.books.PayEarly(ctx, today, window, now); err != nil {
			return err
		}
		v.paidWindow = int64(today)*10_000 + int64(window)
	}
	return nil
}

// payDue sends the payouts that are due, where there is a bank.
func (v *house) payDue(ctx context.Context, now time.Time) error {
	if v.cfg.Settlement.Bank == "" {
		return nil
	}
	_, err := v.books.Pay(ctx, now)
	return err
}

// today is the business date of cards that is open.
func (v *house) today(now time.Time) calendar.Date {
	return max(calendar.BusinessDate(now, v.cfg.Switch.CutOff), v.journal.OpenDate(journal.CardDates))
}

// chargeExtras charges what fell due up to a closed date, apart from sales.
func chargeExtras(ctx context.Context, books *settlement.Engine, date calendar.Date, now time.Time, log *slog.Logger) error {
	x, err := books.ChargeExtras(ctx, date, now)
	if err == nil && x.Charged+x.Waived > 0 {
		log.Info("devices and SIM years charged", "date", date.String(), "charged", x.Charged, "total", x.Total.String(), "waived", x.Waived)
	}
	return err
}

// forgetCounters deletes the shared limit counters of days before the given
// one; on SQLite, where they live in memory, there are none.
func (v *house) forgetCounters(ctx context.Context, before calendar.Date) error {
	l, err := limits.New(v.db, limits.Defaults(), nil)
	if err != nil {
		return err
	}
	_, err = l.Forget(ctx, v.db, before)
	return err
}

// parseWindows reads times of day like "12:00,16:00" as HHMM.
func parseWindows(text string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		t, err := time.Parse("15:04", part)
		if err != nil {
			return nil, fmt.Errorf("%q is not a time of day like 16:00", part)
		}
		out = append(out, t.Hour()*100+t.Minute())
	}
	slices.Sort(out)
	return out, nil
}
