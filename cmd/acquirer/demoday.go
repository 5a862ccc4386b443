package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/simulate/wallet"
	"acquirer/store"
)

// clerk stands at one terminal of the street and sells.
type clerk struct {
	term  *terminal.Terminal
	cards []*simcard.Card
	rng   *rand.Rand
	micro bool // on a plan that refuses small sums
	codes int  // payment codes seen: each pays once
}

// clerks signs in the street's terminals, each with cards of its own.
func (w *world) clerks(ctx context.Context, addr string) ([]*clerk, error) {
	out := make([]*clerk, streetTerminals)
	// A batch of their own: a folder that was kept knows this street's first
	// trace numbers already, and would take new sales for repeats.
	batch := int(time.Now().Unix()%999_999) + 1
	for i := range out {
		tid, mid := simcard.SeedTerminal(i)
		shop := street[i/simcard.TerminalsPerMerchant]
		t, err := terminal.New(terminal.Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: terminal.DialTCP(addr, nil), Timeout: 15 * time.Second, KeepSlips: true, State: terminal.State{Batch: batch},
			Profile: terminal.Profile{Device: terminal.Device{Type: "04", Serial: seedSerial(i), Version: "1.0.0", Place: shop.place}}})
		if err != nil {
			return nil, err
		}
		if err := t.SignIn(ctx); err != nil {
			return nil, fmt.Errorf("terminal %s could not sign in: %w", tid, err)
		}
		c := &clerk{term: t, rng: rand.New(rand.NewPCG(uint64(i), w.dice)), micro: shop.plan == "MICRO-2025", codes: batch*100 + i*1_000_000_000}
		for j, is := range simcard.Issuers {
			for k := range 3 {
				card, err := simcard.New(is.PAN(i*100 + j*10 + k))
				if err != nil {
					return nil, err
				}
				c.cards = append(c.cards, card)
			}
		}
		// One customer in a while has a card with something the matter.
		for j, cond := range []simcard.Condition{simcard.NoMoney, simcard.Expired, simcard.WrongPIN} {
			card, err := simcard.New(simcard.Issuers[j].PANWith(cond, i))
			if err != nil {
				return nil, err
			}
			c.cards = append(c.cards, card)
		}
		out[i] = c
	}
	return out, nil
}

// work does what a clerk does next: mostly sell, by card or payment code, and
// now and then take something back, hold money for a guest, add a tip, look at
// a balance, or close the batch when it is long.
func (c *clerk) work(ctx context.Context) (terminal.Result, error) {
	slips := c.term.Slips()
	if len(slips) >= batchLength {
		_, err := c.term.Settle(ctx)
		return terminal.Result{}, err
	}
	card := c.cards[c.rng.IntN(len(c.cards)-3)] // without the ones that something is the matter with
	x := terminal.Transaction{Card: card, Amount: c.amount(), PIN: card.PIN}
	if !simcard.HasChip(card.PAN.Reveal()) {
		x.Entry = terminal.Stripe
	}
	switch dice := c.rng.IntN(100); {
	case dice < 15:
		wallet := routing.Wallets[c.rng.IntN(len(routing.Wallets))]
		c.codes++
		x = terminal.Transaction{Kind: terminal.KindQRSale, Amount: c.amount(), PayCode: terminal.PayCode(wallet, c.codes)}
	case dice < 18:
		x.Kind = terminal.KindPreauth
	case dice < 20:
		x.Kind, x.Amount = terminal.KindBalance, 0
	case dice < 30:
		return c.follow(ctx, slips)
	default:
		return c.sell(ctx)
	}
	return c.term.Transact(ctx, x)
}

// batchLength is how many transactions a clerk lets come together.
const batchLength = 40

// follow takes up an earlier transaction of the batch, as it comes: what cannot
// be voided, refunded, completed or tipped any more is refused.
func (c *clerk) follow(ctx context.Context, slips []terminal.Slip) (terminal.Result, error) {
	if len(slips) == 0 {
		return c.sell(ctx)
	}
	slip := slips[c.rng.IntN(len(slips))]
	x := terminal.Transaction{Original: &slip, Amount: slip.Due()}
	switch slip.Kind {
	case terminal.KindQRSale:
		x.Kind = [...]terminal.Kind{terminal.KindQRVoid, terminal.KindQRRefund}[c.rng.IntN(2)]
	case terminal.KindPreauth:
		x.Kind = [...]terminal.Kind{terminal.KindCompletion, terminal.KindCompletionNotice, terminal.KindPreauthVoid}[c.rng.IntN(3)]
	case terminal.KindCompletion:
		x.Kind = terminal.KindCompletionVoid
	case terminal.KindSale:
		switch c.rng.IntN(3) {
		case 0:
			x.Kind = terminal.KindVoid
		case 1:
			x.Kind, x.Amount = terminal.KindRefund, max(1, slip.Due()/2)
		default:
			x.Kind, x.Amount, x.Tip = terminal.KindTip, 0, max(1, slip.Due()/20)
		}
	default:
		return c.sell(ctx)
	}
	for _, card := range c.cards { // the customer is back
		if card.PAN.Equal(slip.PAN) && x.Kind != terminal.KindTip {
			x.Card = card
			if !simcard.HasChip(card.PAN.Reveal()) {
				x.Entry = terminal.Stripe
			}
		}
	}
	return c.term.Transact(ctx, x)
}

// amount is a price, none that chooses weather.
func (c *clerk) amount() money.Amount {
	fen := money.Amount(500 + c.rng.IntN(30_000))
	if issuer.Stormy(fen) || simwallet.StormOf(fen) != simwallet.Calm {
		fen = fen/100*100 + 18
	}
	return fen
}

// sell makes one sale, now and then with bad luck: an issuer that stays
// silent, a terminal that loses its answer. What is left pending is reversed
// before the next sale, as every terminal does.
func (c *clerk) sell(ctx context.Context) (terminal.Result, error) {
	s := terminal.Sale{Card: c.cards[c.rng.IntN(len(c.cards))]}
	entry := c.rng.IntN(10)
	switch {
	case !simcard.HasChip(s.Card.PAN.Reveal()):
		s.Entry = terminal.Stripe
	case entry < 4:
		s.Entry = terminal.Chip
	case entry < 9:
		s.Entry = terminal.Contactless
	default:
		s.Entry = terminal.Keyed
	}
	if s.Entry != terminal.Keyed {
		s.PIN = s.Card.PIN
	}
	fen := int64(300 + c.rng.IntN(30_000))
	if c.micro {
		fen += 500
	}
	s.Amount = money.Amount(fen)
	if issuer.Stormy(s.Amount) {
		s.Amount = money.Amount(fen/100*100 + 18)
	}
	switch c.rng.IntN(60) {
	case 0:
		s.Amount = money.Amount(fen/100*100 + 98) // the issuer books and stays silent
	case 1:
		s.Amount = money.Amount(fen/100*100 + 51)
	case 2:
		s.Fault = &terminal.Fault{DropAnswer: true}
	case 3:
		s.Fault = &terminal.Fault{HangUp: true}
	}
	return c.term.Sale(ctx, s)
}

// flow is the gentle stream of the demo: each terminal sells now and then.
func (w *world) flow(ctx context.Context, r running) error {
	clerks, err := w.clerks(ctx, r.terminal)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, c := range clerks {
		wg.Go(func() {
			for {
				pause := time.NewTimer(time.Duration(5000+c.rng.IntN(30_000)) * time.Millisecond)
				select {
				case <-ctx.Done():
					pause.Stop()
					return
				case <-pause.C:
				}
				// What went wrong is what the demo shows: it stands in the
				// journal, the log and on the console.
				_, _ = c.work(ctx)
			}
		})
	}
	wg.Wait()
	return nil
}

// sell lets the clerks do so many transactions together, take back what their
// terminals did not hear the end of, and waits until nothing is owed.
func (w *world) sell(ctx context.Context, r running, clerks []*clerk, transactions int) error {
	var left atomic.Int64
	left.Store(int64(transactions))
	var wg sync.WaitGroup
	problems := make([]error, len(clerks))
	for i, c := range clerks {
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				_, _ = c.work(ctx) // refused, lost or late: the books below must hold whatever happened
			}
			if c.term.Pending() {
				if _, err := c.term.Reverse(ctx, terminal.Reversal{}); err != nil {
					problems[i] = fmt.Errorf("terminal %s could not reverse its last sale: %w", c.term.TID(), err)
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(append(problems, ctx.Err())...); err != nil {
		return err
	}
	return w.awaitNothingOwed(ctx, r)
}

// day runs the transactions asked for, then waits until nothing is owed, and
// with --settle closes the day, pays and compares.
func (w *world) day(ctx context.Context, r running) error {
	clerks, err := w.clerks(ctx, r.terminal)
	if err != nil {
		return err
	}
	w.first = store.NewID()
	date := r.house.today(time.Now())
	err = w.sell(ctx, r, clerks, w.transactions)
	for _, c := range clerks {
		err = errors.Join(err, c.term.Close())
	}
	if err != nil {
		return err
	}
	if err := r.keeper.post(ctx); err != nil {
		return err
	}
	if err := w.count(ctx, r); err != nil {
		return err
	}
	if w.settle {
		if err := w.settleDay(ctx, r, date); err != nil {
			return err
		}
	}
	return w.audit(ctx, r)
}

// awaitNothingOwed waits for the reversals to be acknowledged.
func (w *world) awaitNothingOwed(ctx context.Context, r running) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		c, err := r.house.journal.Debts(ctx)
		if err != nil {
			return err
		}
		if w.result.OwedOpen = c.Owed + c.Manual; c.Owed == 0 {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil // the result says how many
		}
	}
}

// count reads what became of this day's transactions from the journal.
func (w *world) count(ctx context.Context, r running) error {
	return w.each(ctx, r, func(e *journal.Entry) {
		w.result.Transactions++
		switch e.State() {
		case journal.StateApproved:
			w.result.Approved++
		case journal.StateDeclined:
			w.result.Declined++
		default:
			w.result.Reversed++
		}
	})
}

// each visits what this process has journaled, the newest first, page by page.
func (w *world) each(ctx context.Context, r running, visit func(*journal.Entry)) error {
	page, err := r.house.journal.Last(ctx, 500)
	for err == nil && len(page) > 0 {
		for _, e := range page {
			if e.ID < w.first {
				return nil
			}
			visit(e)
		}
		page, err = r.house.journal.LastBefore(ctx, page[len(page)-1].ID, 500)
	}
	return err
}

// settleDay closes the business date, lets the network pay for it and pays the
// merchants, as of the morning on which each payout is due.
func (w *world) settleDay(ctx context.Context, r running, date calendar.Date) error {
	books := r.house.books
	open, err := books.OpenDate(ctx)
	if err != nil {
		return err
	}
	date = max(date, open)      // in a folder whose day was closed before, these sales settle with the next
	first := cmp.Or(open, date) // behind the cut-off of cards, wallets still sell on the date before
	var ordered struct {
		payouts int64
		total   money.Amount
	}
	for d := first; d <= date; d = d.AddDays(1) {
		closed, err := books.CloseDay(ctx, d, time.Now(), true)
		if err != nil {
			return err
		}
		if again, err := books.CloseDay(ctx, d, time.Now(), true); err != nil || again != closed {
			return fmt.Errorf("closing %s a second time changed something: %+v, then %+v, %w", d, closed, again, err)
		}
		ordered.payouts += closed.Payouts
		ordered.total += closed.PayoutTotal
	}
	due, err := calendar.SettleDate(date)
	if err != nil {
		return err
	}
	morning := due.Time().Add(10 * time.Hour)
	// D+0 is paid today, T+1 in the morning of the next working day. A payout
	// whose order was not answered is asked for, minute by minute.
	for _, moment := range [...]time.Time{time.Now(), morning} {
		if moment.Equal(morning) {
			if err := w.payAll(ctx, r, first, date); err != nil {
				return err
			}
		}
		for minute := range 30 {
			p, err := books.Pay(ctx, moment.Add(time.Duration(minute)*2*time.Minute))
			if err != nil {
				return err
			}
			w.result.Payouts += p.Paid
			w.result.PaidTotal += p.Total
			if p.Sent == 0 && p.Asked == 0 {
				break
			}
		}
	}
	if int64(w.result.Payouts) != ordered.payouts || w.result.PaidTotal != ordered.total {
		w.result.found = append(w.result.found, fmt.Sprintf("%d payouts of %s were ordered, %d of %s paid", ordered.payouts, ordered.total, w.result.Payouts, w.result.PaidTotal))
	}
	return nil
}

// onBooks is what a transaction is known by on both sides' books.
type onBooks struct{ issuer, rrn string }

// standing is what this process has journaled and what still stands of it, as
// the other sides' books have it: a voided sale stands no more, a completed
// pre-authorisation is its completion, and a wallet knows its orders only.
func (w *world) standing(ctx context.Context, r running) (map[onBooks]money.Amount, error) {
	var all []*journal.Entry
	over := map[int64]bool{}
	back := map[int64]money.Amount{}
	err := w.each(ctx, r, func(e *journal.Entry) { // the issuers' books are as old as this process
		if e.State() != journal.StateApproved || e.Kind == journal.Inquiry {
			return
		}
		all = append(all, e)
		if e.Kind.Undoes() || e.Kind == journal.Completion {
			over[e.Original] = true
		}
		if e.Channel == journal.QR && e.Original != 0 {
			back[e.Original] += e.Amount
		}
	})
	ours := map[onBooks]money.Amount{}
	for _, e := range all {
		amount := e.Sum()
		switch {
		case e.Channel == journal.QR && e.Original != 0:
			continue
		case e.Channel == journal.QR:
			if amount -= back[e.ID]; amount == 0 {
				continue
			}
		case over[e.ID], e.Kind == journal.Adjustment && over[e.Original]:
			continue
		}
		ours[onBooks{e.Issuer, e.RRN}] += amount // what is there twice is too much
	}
	return ours, err
}

// audit compares journal and issuers, and asks the house for what must not be.
func (w *world) audit(ctx context.Context, r running) error {
	ours, err := w.standing(ctx, r)
	if err != nil {
		return err
	}
	theirs := map[onBooks]money.Amount{}
	for name, host := range w.issuers {
		for _, e := range host.Books() {
			if e.State == issuer.Approved && e.Kind != issuer.Balance {
				theirs[onBooks{name, e.RRN}] += cmp.Or(e.Part, e.Amount)
			}
		}
	}
	for _, o := range w.wallets.Orders() {
		if o.Standing() > 0 {
			theirs[onBooks{o.Wallet, o.Number}] += o.Standing()
		}
	}
	for k, amount := range ours {
		if theirs[k] != amount {
			w.result.IssuerMismatches++
		}
		delete(theirs, k)
	}
	w.result.IssuerMismatches += len(theirs)
	report, err := r.house.ledger.Verify(ctx)
	if err != nil {
		return err
	}
	w.result.LedgerBalanced = report.OK()
	w.result.found = append(w.result.found, report.Problems...)
	violations, err := r.keeper.check(ctx)
	if err != nil {
		return err
	}
	w.result.InvariantViolations = len(violations)
	w.result.found = append(w.result.found, violations...)
	return nil
}
