package switching

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"acquirer/fault"
	"acquirer/journal"
	"acquirer/routing"
	"acquirer/spec"
	"acquirer/store"
)

// OwedConfig is how reversals are sent to issuers.
type OwedConfig struct {
	Interval    time.Duration // between looks at the list, besides the bell
	Backoff     time.Duration // after the first unacknowledged try; doubles, with jitter
	BackoffMax  time.Duration
	MaxAttempts int // then a person takes over
	Concurrency int // in flight towards one issuer
}

// Recover owes a reversal for everything that the last run left open (W5). It
// runs before the listener opens.
func (s *Switch) Recover(ctx context.Context) error {
	n, err := s.journal.OweOpenAtStart(ctx)
	if err != nil {
		return fmt.Errorf("switch: what the last run left open could not be owed: %w", err)
	}
	if n > 0 {
		s.log.Warn("the last run left transactions open; their reversals are owed", "count", n)
		s.ringOwed()
	}
	return s.giveUpOrphans(ctx)
}

// giveUpOrphans leaves to a person what is owed to issuers that are not
// configured any more: nobody would ever ask for their part of the list.
func (s *Switch) giveUpOrphans(ctx context.Context) error {
	counts, err := s.journal.Debts(ctx)
	if err != nil || counts.Owed == 0 {
		return err
	}
	list, err := s.journal.DebtList(ctx, journal.Owed, counts.Owed)
	if err != nil {
		return fmt.Errorf("switch: the list of what is owed could not be read: %w", err)
	}
	for _, e := range list {
		_, issuer := s.legs[e.Issuer]
		_, wallet := s.wallets[e.Issuer]
		if !issuer && !wallet {
			s.giveUp(ctx, e, "issuer "+e.Issuer+" is not configured any more")
		}
	}
	return nil
}

// ringOwed wakes RunOwed; a ring that is already waiting is enough.
func (s *Switch) ringOwed() {
	select {
	case s.owedBell <- struct{}{}:
	default:
	}
}

// RunOwed sends what is owed until ctx ends, and waits for what it has in
// flight. Each record has its own schedule: one that fails or panics never
// holds up the others (fault 30).
func (s *Switch) RunOwed(ctx context.Context) {
	o := owedRun{s: s, slots: map[string]chan struct{}{}}
	for name := range s.legs {
		o.slots[name] = make(chan struct{}, s.cfg.Owed.Concurrency)
	}
	for name := range s.wallets {
		o.slots[name] = make(chan struct{}, s.cfg.Owed.Concurrency)
	}
	look := time.NewTicker(s.cfg.Owed.Interval)
	defer look.Stop()
	sweep := time.NewTicker(5 * time.Second)
	defer sweep.Stop()
	count := time.NewTicker(time.Second)
	defer count.Stop()
	for {
		select {
		case <-ctx.Done():
			o.wg.Wait()
			return
		case <-s.owedBell:
			o.dispatch(ctx)
		case <-look.C:
			o.dispatch(ctx)
		case <-sweep.C:
			if n, err := s.journal.OweLost(ctx); err != nil {
				s.log.Error("looking for lost transactions failed", "error", err.Error())
			} else if n > 0 {
				s.log.Warn("transactions were lost past their deadline; their reversals are owed", "count", n)
			}
		case <-count.C:
			s.countOwed(ctx)
		}
	}
}

func (s *Switch) countOwed(ctx context.Context) {
	c, err := s.journal.Debts(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("counting owed reversals failed", "error", err.Error())
		}
		return
	}
	s.metrics.owed.WithLabelValues("due").Set(float64(c.Owed))
	s.metrics.owed.WithLabelValues("manual").Set(float64(c.Manual))
	age := 0.0
	if !c.Oldest.IsZero() {
		age = time.Since(c.Oldest).Seconds()
	}
	s.metrics.owedOldest.Set(age)
}

// owedRun is the reversals this node has in flight.
type owedRun struct {
	s     *Switch
	slots map[string]chan struct{} // by issuer
	wg    sync.WaitGroup
}

// dispatch claims what is due, for each issuer as much as it has free slots,
// and sends each record on its own: a long list towards a slow issuer never
// stands in front of the others.
func (o *owedRun) dispatch(ctx context.Context) {
	for issuer, slot := range o.slots {
		free := cap(slot) - len(slot)
		if leg, ok := o.s.legs[issuer]; free == 0 || ok && !leg.Issuer.Up() {
			continue // a claim counts as a try, and an outage must not spend them
		}
		entries, err := o.s.journal.ClaimFor(ctx, issuer, free, o.s.longest()+journal.Grace)
		if err != nil {
			if ctx.Err() == nil {
				o.s.log.Error("claiming owed reversals failed", "issuer", issuer, "error", err.Error())
			}
			continue
		}
		full := len(entries) == free
		for _, e := range entries {
			slot <- struct{}{} // free, since only this goroutine fills it
			o.wg.Go(func() {
				defer func() {
					<-slot
					if full { // there may be more
						o.s.ringOwed()
					}
				}()
				o.s.sendOwed(context.WithoutCancel(ctx), e)
			})
		}
	}
}

// sendOwed sends one reversal or advice and decides what becomes of it.
func (s *Switch) sendOwed(ctx context.Context, e *journal.Entry) {
	result := "failed"
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panics.Inc()
			s.log.Error("sending what is owed panicked", "rrn", e.RRN, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			s.again(ctx, e, "panic")
		}
		s.metrics.owedAttempts.WithLabelValues(e.Issuer, result).Inc()
	}()
	if way := s.wallets[e.Issuer]; way != nil {
		result = s.sendWallet(ctx, e, way)
		return
	}
	var req, ans spec.Message
	if err := s.buildOwed(ctx, e, &req); errors.Is(err, errWaits) {
		result = "not_yet"
		s.settled(e, "rescheduled", s.journal.Postpone(ctx, e.Debt.ID, time.Now().Add(s.cfg.Owed.Backoff), err.Error()))
		return
	} else if err != nil {
		s.again(ctx, e, err.Error())
		return
	}
	fault.Hit("owed.send.before")
	err := s.legs[e.Issuer].Issuer.Send(ctx, &req, &ans)
	fault.Hit("owed.send.after")
	if err != nil {
		result = "unanswered"
		if errors.Is(err, routing.ErrUnreachable) {
			result = "unreachable"
		}
		if fault.Planted("reversal-sent-once") {
			s.acknowledge(ctx, e, whyOf(err))
			return
		}
		if why := whyOf(err); why == string(routing.Busy) { // as in an outage, a wait for a place spends no try
			s.settled(e, "rescheduled", s.journal.Postpone(ctx, e.Debt.ID, time.Now().Add(backoff(s.cfg.Owed, int(e.Debt.Tries))), why))
			return
		}
		s.again(ctx, e, whyOf(err))
		return
	}
	code := ResponseCode(ans.Text(39))
	switch {
	case code.Approves():
		result = "acknowledged"
		s.acknowledge(ctx, e, "acknowledged with "+string(code))
	case (e.Debt.Delivery() || e.StoodIn()) && code == RCDuplicate: // it has it (protocol.md 7)
		result = "acknowledged"
		s.acknowledge(ctx, e, "acknowledged with 94: it was there")
	case e.Debt.Delivery() && !busy(code):
		result = "refused"
		s.giveUp(ctx, e, "the issuer refused the advice with "+string(code))
	case code == RCNoOriginal && (fault.Planted("25-is-final") || time.Now().After(s.over(e))):
		result = "unknown_there"
		s.acknowledge(ctx, e, "the issuer has no such original")
	case code == RCNoOriginal:
		// The original may still be on its way there (fault 28): however often
		// that is the answer, it counts only when the original's life is over.
		result = "not_yet"
		s.retry(ctx, e, time.Now().Add(backoff(s.cfg.Owed, int(e.Debt.Tries))), "answered 25, which is not final before the original's time is over")
	case busy(code):
		result = "not_yet"
		s.again(ctx, e, "answered "+string(code))
	default:
		result = "refused"
		s.giveUp(ctx, e, "the issuer refused the reversal with "+string(code))
	}
}

// busy are the codes of an issuer that could not look at a reversal now.
func busy(code ResponseCode) bool {
	switch code {
	case RCInProgress, RCTimeout, "90", RCIssuerUnreachable, "92", RCMalfunction, RCIssuerTimeout, RCMAC:
		return true
	}
	return false
}

// again schedules the next try with back-off and jitter; after MaxAttempts a
// person takes over.
func (s *Switch) again(ctx context.Context, e *journal.Entry, note string) {
	if int(e.Debt.Tries) >= s.cfg.Owed.MaxAttempts && fault.Planted("owed-dropped") {
		s.acknowledge(ctx, e, note)
		return
	}
	if int(e.Debt.Tries) >= s.cfg.Owed.MaxAttempts {
		s.giveUp(ctx, e, fmt.Sprintf("%d tries, the last: %s", e.Debt.Tries, note))
		return
	}
	s.retry(ctx, e, time.Now().Add(backoff(s.cfg.Owed, int(e.Debt.Tries))), note)
}

// backoff doubles with every try up to its cap and takes a random point in the
// upper half, so that reversals do not march in step.
func backoff(c OwedConfig, tries int) time.Duration {
	d := c.Backoff << min(max(tries-1, 0), 20)
	if d <= 0 || d > c.BackoffMax {
		d = c.BackoffMax
	}
	return d/2 + rand.N(d/2+1)
}

func (s *Switch) retry(ctx context.Context, e *journal.Entry, at time.Time, note string) {
	s.settled(e, "rescheduled", s.journal.RetryAt(ctx, e.Debt.ID, at, note))
}

func (s *Switch) acknowledge(ctx context.Context, e *journal.Entry, note string) {
	s.settled(e, "acknowledged", s.journal.Acknowledge(ctx, e.Debt.ID, note))
}

func (s *Switch) giveUp(ctx context.Context, e *journal.Entry, note string) {
	facts := []any{"rrn", e.RRN, "issuer", e.Issuer, "card", e.PANMasked, "amount", e.Amount.String(), "why", note}
	if e.Debt.Delivery() {
		s.log.Error("an advice needs a person", facts...)
	} else {
		s.log.Error("a reversal needs a person", facts...)
	}
	s.settled(e, "given up", s.journal.GiveUpOn(ctx, e.Debt.ID, note))
}

// settled reports a list that could not be updated; the lease ends and the
// record comes due again, since a reversal may be repeated. An advice that was
// called off while it was on its way is not on the list any more; what gives
// its sale back waited for this.
func (s *Switch) settled(e *journal.Entry, what string, err error) {
	if errors.Is(err, store.ErrNotFound) && e.StoodIn() {
		ctx, cancel := s.storeContext(context.Background())
		defer cancel()
		err = s.journal.Hurry(ctx, e.ID)
		s.ringOwed()
	}
	if err != nil {
		s.log.Error("a reversal could not be "+what+"; it comes due again", "rrn", e.RRN, "error", err.Error())
	}
}

// over is when nothing of a transaction can be on its way to its issuer any
// more, so that "no such original" is final (fault 28).
func (s *Switch) over(e *journal.Entry) time.Time {
	if e.StoodIn() { // its advice may have left until it was called off
		return e.Debt.Created.Add(s.longest() + journal.Grace)
	}
	return e.Deadline.Add(journal.Grace)
}

// buildOwed lays what is owed into m.
func (s *Switch) buildOwed(ctx context.Context, e *journal.Entry, m *spec.Message) error {
	r, err := s.legTold(ctx, e)
	if err != nil {
		return err
	}
	dialect := s.legs[e.Issuer].Issuer.Dialect()
	switch {
	case e.Debt.Delivery():
		r.Repeat = e.Debt.Tries > 1 || e.Kind == journal.Refund // which its own handler has sent before
		routing.BuildRequest(dialect, m, &r)
		return nil
	case e.StoodIn(): // no issuer reverses what it was told: it is given back, under a number of its own that stays
		r.Original, _ = s.legOriginal(e)
		r.Processing, r.STAN, r.Sent, r.ICData = "200000", uint32(e.Debt.ID%999_999)+1, e.Debt.Created, nil
		r.Repeat = e.Debt.Tries > 1
		routing.BuildRequest(dialect, m, &r)
		return nil
	}
	back := routing.Reversal{Original: r, STAN: uint32(s.nextTrace()), Sent: time.Now(), Reason: reversalReason(e.Debt.Why), Repeat: e.Debt.Tries > 1}
	if e.Outcome != nil {
		back.Approval = e.Outcome.Approval
	}
	back.ICData = e.Debt.Chip
	routing.BuildReversal(dialect, m, &back)
	return nil
}

// legTold is a transaction as it went to its issuer, from what the journal
// kept of it; an advice whole, of a request what its reversal names.
func (s *Switch) legTold(ctx context.Context, e *journal.Entry) (routing.Request, error) {
	c, err := s.openCard(ctx, e)
	if err != nil {
		return routing.Request{}, err
	}
	r := routing.Request{
		MTI: toldAs(e), Processing: fmt.Sprintf("%06d", e.ProcessingCode), Amount: e.Amount, Sent: e.Transmitted, STAN: uint32(e.Trace), RRN: e.RRN,
		PAN: c.PAN, Expiry: c.Expiry, Sequence: c.Sequence, ICData: c.Chip, EntryMode: fmt.Sprintf("%03d", e.EntryMode), Condition: condition(&e.Transaction),
		Acquirer: s.cfg.Acquirer, Forwarder: s.cfg.Acquirer, Receiver: s.legs[e.Issuer].Issuer.Institution(),
		Terminal: e.Terminal, Merchant: e.Merchant,
	}
	if m, ok := s.terminals.Merchant([]byte(e.Merchant)); ok {
		r.Name, r.Category = gbk(m.Name), m.MCC
	}
	if e.Kind == journal.Adjustment {
		r.Processing = "020000" // ISO 8583 DE 3: debit adjustment, 22 credit
		if e.Amount < 0 {
			r.Processing, r.Amount = "220000", -e.Amount
		}
	}
	if !e.Advice() && !e.StoodIn() {
		return r, nil
	}
	if e.Outcome != nil {
		r.Approval = e.Outcome.Approval
	}
	if e.Original != 0 {
		original, err := s.journal.Get(ctx, e.Original)
		if err != nil {
			return r, fmt.Errorf("the original of %s could not be read: %w", e.RRN, err)
		}
		if d := original.Debt; d != nil && d.Delivery() && d.State == journal.Owed {
			return r, errWaits
		}
		var approval string
		if r.Original, approval = s.legOriginal(original); r.Approval == "" {
			r.Approval = approval
		}
	}
	return r, nil
}

// toldAs is the message type under which the issuer hears of a transaction. A
// sale that the house approved for it comes as an advice.
func toldAs(e *journal.Entry) spec.MTI {
	if e.StoodIn() {
		return 0x0220
	}
	return legMTI(&e.Transaction)
}

// errWaits says that an advice cannot be told before the one it is about.
var errWaits = errors.New("its original is still to be delivered")

// condition is DE 25 towards the issuer: as the terminal had it, but that an
// add-on to a pre-authorisation (60) is one like others.
func condition(t *journal.Transaction) string {
	if t.Condition == 60 {
		return "06"
	}
	return fmt.Sprintf("%02d", t.Condition)
}

// reversalReason is the message reason towards the issuer.
func reversalReason(w journal.Why) string {
	switch w {
	case "98", journal.WhyUnanswered, journal.WhyInterrupted:
		return routing.ReasonTimeout
	case "A0", "06", "96", journal.WhyUndelivered, journal.WhyAnswerWrong:
		return routing.ReasonDevice
	}
	return routing.ReasonCancelled
}

// Owed is how much is on the list, for the console and the demo.
func (s *Switch) Owed(ctx context.Context) (journal.DebtCounts, error) { return s.journal.Debts(ctx) }
