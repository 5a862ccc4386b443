package settlement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// PayoutState is where a payout stands.
type PayoutState uint8

// The states. Submitted is written before the order leaves; an order whose
// answer did not come is Unknown and is asked for by its reference, never sent
// again. Failed and Returned payouts are replaced by a new one (Reissue).
const (
	Created PayoutState = iota + 1
	Submitted
	InProcess
	Unknown
	Paid
	Failed
	CameBack
)

var payoutStates = [...]string{"none", "created", "submitted", "processing", "unknown", "paid", "failed", "returned"}

func (s PayoutState) String() string {
	if int(s) < len(payoutStates) {
		return payoutStates[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// MarshalText writes String.
func (s PayoutState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *PayoutState) UnmarshalText(b []byte) error {
	i := slices.Index(payoutStates[:], string(b))
	if i < 0 {
		return fmt.Errorf("settlement: a payout is never %.20q", b)
	}
	*s = PayoutState(i)
	return nil
}

type payout struct {
	ref, merchant, parent, child string
	batch                        int64
	date, due                    calendar.Date
	speed                        merchant.Speed
	amount                       money.Amount
	advance, reissue             bool
	state                        PayoutState
	reason, bankID, account      string
	submitted, asked, finished   int64
	sold                         int64 // S0: when the first of its sales was approved, microseconds
	repaid, long                 bool
}

const payoutColumns = `ref, merchant, parent, child, batch, date, due, speed, amount, advance, reissue, state, reason, bank_id, account,
	submitted, asked, finished, repaid, long, sold`

func (p *payout) insert(tx store.Tx) error {
	_, err := tx.Exec("insert into settlement_payout ("+payoutColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21)",
		p.ref, p.merchant, p.parent, p.child, p.batch, p.date, p.due, p.speed, p.amount, p.advance, p.reissue, p.state, p.reason, p.bankID, p.account,
		p.submitted, p.asked, p.finished, p.repaid, p.long, p.sold)
	return err
}

func scanPayout(r *store.Rows, p *payout) error {
	return r.Scan(&p.ref, &p.merchant, &p.parent, &p.child, &p.batch, &p.date, &p.due, &p.speed, &p.amount, &p.advance, &p.reissue, &p.state,
		&p.reason, &p.bankID, &p.account, &p.submitted, &p.asked, &p.finished, &p.repaid, &p.long, &p.sold)
}

// booking is the payout as the ledger's templates want it.
func (p *payout) booking(date calendar.Date, cost money.Amount) *ledger.Payout {
	return &ledger.Payout{Ref: p.ref, Date: date, Merchant: p.merchant, Amount: p.amount, Advance: p.advance, Reissue: p.reissue, Cost: cost}
}

// lockPayout reads a payout and keeps others from moving it.
func lockPayout(tx store.Tx, ref string) (*payout, error) {
	rows, err := tx.Query("select "+payoutColumns+" from settlement_payout where ref = $1 for update", ref)
	all, err := store.All(rows, err, scanPayout)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("settlement: payout %s: %w", ref, store.ErrNotFound)
	}
	return &all[0], nil
}

func (p *payout) save(tx store.Tx) error {
	_, err := tx.Exec(`update settlement_payout set state = $1, reason = $2, bank_id = $3, account = $4, submitted = $5, asked = $6, finished = $7,
		repaid = $8, long = $9, child = $10 where ref = $11`,
		p.state, p.reason, p.bankID, p.account, p.submitted, p.asked, p.finished, p.repaid, p.long, p.child, p.ref)
	return err
}

// Payment is what one Pay did.
type Payment struct {
	Sent     int          `json:"sent"`
	Asked    int          `json:"asked"`
	Paid     int          `json:"paid"`
	Total    money.Amount `json:"total"` // of Paid
	Failed   int          `json:"failed"`
	Returned int          `json:"returned"`
	Unknown  int          `json:"unknown"`
	Held     int          `json:"held"`
}

func (p *Payment) count(was, is PayoutState, amount money.Amount) {
	if was == is {
		return
	}
	switch is {
	case Paid:
		p.Paid++
		p.Total += amount
	case Failed:
		p.Failed++
	case CameBack:
		p.Returned++
	case Unknown, InProcess:
		p.Unknown++
	}
}

// Pay does everything that is due at a moment: finishes interrupted runs, takes
// in what the bank has to tell of payouts and of money that came, asks for payouts whose fate is unknown, sends those that are due, and
// repays advances. It may be called at any time and by several nodes at once;
// an error of one payout does not keep the others.
func (e *Engine) Pay(ctx context.Context, now time.Time) (Payment, error) {
	var done Payment
	if e.cfg.Rail == nil {
		return done, errors.New("settlement: there is no bank to pay through; configure settlement.bank")
	}
	var problems []error
	if err := e.Resume(ctx, now); err != nil {
		problems = append(problems, err)
	}
	if err := e.takeChanges(ctx, now, &done); err != nil {
		problems = append(problems, err)
	}
	if err := e.takeCredits(ctx, now); err != nil {
		problems = append(problems, err)
	}
	if err := e.lapse(ctx, now); err != nil {
		problems = append(problems, err)
	}
	unknown, err := e.openPayouts(ctx, `(state = 2 and submitted <= $1 or state in (3, 4) and asked <= $2)`,
		now.Add(-e.cfg.SubmitTimeout).UnixMicro(), now.Add(-e.cfg.QueryEvery).UnixMicro())
	done.Asked = len(unknown)
	if err == nil {
		err = e.eachPayout(unknown, &done, func(p *payout) (PayoutState, bool, error) {
			state, err := e.ask(ctx, p, now)
			return state, false, err
		})
	}
	problems = append(problems, err)
	due, err := e.openPayouts(ctx, "state = 1 and due <= $1", calendar.DateOf(now))
	if err == nil {
		due, err = e.covered(ctx, due, &done)
	}
	if err == nil {
		err = e.sendAll(ctx, due, now, &done)
	}
	problems = append(problems, err)
	if err := e.cfg.Rail.Flush(ctx, now); err != nil {
		problems = append(problems, err)
	}
	if err := e.repay(ctx, now); err != nil {
		problems = append(problems, err)
	}
	return done, errors.Join(problems...)
}

// sendAll orders payouts, several at once, until the bank is closed or cannot be
// reached: the others wait for the next turn.
func (e *Engine) sendAll(ctx context.Context, due []payout, now time.Time, done *Payment) error {
	var shut atomic.Bool
	return e.eachPayout(due, done, func(p *payout) (PayoutState, bool, error) {
		if shut.Load() {
			return p.state, false, nil
		}
		return e.send(ctx, p, now, &shut)
	})
}

// eachPayout does something to every payout, several at once, and counts what
// became of them. do says where the payout stands then and whether it was sent.
func (e *Engine) eachPayout(payouts []payout, done *Payment, do func(p *payout) (PayoutState, bool, error)) error {
	var mu sync.Mutex
	var problems []error
	var wg sync.WaitGroup
	tickets := make(chan struct{}, e.cfg.Workers)
	for i := range payouts {
		p := &payouts[i]
		tickets <- struct{}{}
		wg.Go(func() {
			defer func() { <-tickets }()
			state, sent, err := do(p)
			mu.Lock()
			defer mu.Unlock()
			done.count(p.state, state, p.amount)
			if sent {
				done.Sent++
			}
			if state == Created && err == nil {
				done.Held++
			}
			if err != nil {
				problems = append(problems, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(problems...)
}

func (e *Engine) openPayouts(ctx context.Context, where string, args ...any) (open []payout, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select "+payoutColumns+" from settlement_payout where state < 5 and "+where+" order by due, ref", args...)
		open, err = store.All(rows, err, scanPayout)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: reading open payouts: %w", err)
	}
	return open, nil
}

// send claims a payout, which is durable before the bank can hear of it, and
// orders it once. It sets shut when the bank takes no orders.
func (e *Engine) send(ctx context.Context, p *payout, now time.Time, shut *atomic.Bool) (state PayoutState, sent bool, err error) {
	order, why, err := e.instruction(ctx, p, now)
	if err != nil {
		return p.state, false, err
	}
	claimed := false
	fault.Hit("payout.claim.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		claimed = false
		row, err := lockPayout(tx, p.ref)
		if err != nil {
			return err
		}
		if state = row.state; state != Created {
			return nil
		}
		held := why
		if long, err := longBefore(tx, row); err != nil {
			return err
		} else if long != "" {
			held = "the bank paid " + long + ", which it replaces, after all: acquirer payout recover " + long
		}
		if held == "" {
			if held, err = e.fullToday(tx, row, now); err != nil {
				return err
			}
		}
		if held != "" {
			row.reason = held
			if err := addTask(tx, Task{Key: "held/" + p.ref, Kind: "payout_held", Merchant: p.merchant, Ref: p.ref, Created: now,
				Text: fmt.Sprintf("payout %s of %s is held: %s", p.ref, p.amount, held)}); err != nil {
				return err
			}
			return row.save(tx)
		}
		// An account that became another one since the order was made waits anew.
		if same, err := merchant.HasAccountTx(tx, p.merchant, order.since); err != nil || !same {
			return err
		}
		claimed = true
		row.state, row.submitted, row.asked, row.account, row.reason = Submitted, now.UnixMicro(), now.UnixMicro(), order.Account.String(), ""
		state = row.state
		return row.save(tx)
	})
	fault.Hit("payout.claim.after")
	if err != nil || !claimed {
		return state, false, err
	}
	if err := e.step("claimed"); err != nil {
		return state, false, err
	}
	fault.Hit("payout.send.before")
	began := time.Now()
	answer, err := e.cfg.Rail.Send(ctx, order)
	fault.Hit("payout.send.after")
	if err := e.step("sent"); err != nil {
		return state, true, err
	}
	if errors.Is(err, ErrNotSent) {
		if !errors.Is(err, ErrUnfit) {
			shut.Store(true)
		}
		state, undo := e.unclaim(ctx, p, now, err)
		if errors.Is(err, ErrClosed) || errors.Is(err, ErrUnfit) {
			err = nil // its reason says it
		}
		return state, false, errors.Join(err, undo)
	}
	if err != nil { // nobody knows: it is asked for until the bank does
		answer = Answer{Reference: p.ref, Reason: shortened(err)}
	}
	state, err2 := e.apply(ctx, answer, now.Add(time.Since(began)))
	return state, true, err2
}

// instruction makes the order for a payout, or says why it must wait.
func (e *Engine) instruction(ctx context.Context, p *payout, now time.Time) (Instruction, string, error) {
	m, known := e.cfg.Merchants.Merchant([]byte(p.merchant))
	switch {
	case !known:
		return Instruction{}, "the merchant is not registered", nil
	case m.Status != merchant.Active:
		return Instruction{}, "the merchant is " + string(m.Status), nil
	case len(m.Account.Sealed) == 0:
		return Instruction{}, "the merchant has no settlement account", nil
	}
	if why := e.cooling(m, now); why != "" {
		return Instruction{}, why, nil
	}
	number, err := e.cfg.Unseal(ctx, m.Account.Sealed)
	if err != nil {
		return Instruction{}, "", fmt.Errorf("settlement: opening the account of merchant %s: %w", p.merchant, err)
	}
	return Instruction{Reference: p.ref, Merchant: p.merchant, Amount: p.amount, Account: NewNumber(number), Name: m.Account.Name, Bank: m.Account.Bank, since: m.Account.Changed}, "", nil
}

// unclaim takes back a claim whose order certainly did not leave the house. An
// order that the bank cannot carry is left to a person.
func (e *Engine) unclaim(ctx context.Context, p *payout, now time.Time, why error) (state PayoutState, err error) {
	fault.Hit("payout.unclaim.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		row, err := lockPayout(tx, p.ref)
		if err != nil {
			return err
		}
		if row.state == Submitted && row.submitted == now.UnixMicro() {
			row.state, row.submitted, row.reason = Created, 0, shortened(why)
			if errors.Is(why, ErrUnfit) {
				err = addTask(tx, Task{Key: "held/" + p.ref, Kind: "payout_held", Merchant: p.merchant, Ref: p.ref, Created: now,
					Text: fmt.Sprintf("payout %s of %s is held: %s", p.ref, p.amount, shortened(why))})
			}
			err = errors.Join(err, row.save(tx))
		}
		state = row.state
		return err
	})
	fault.Hit("payout.unclaim.after")
	return state, err
}

// ask queries one payout by its reference.
func (e *Engine) ask(ctx context.Context, p *payout, now time.Time) (PayoutState, error) {
	if fault.Planted("payout-sent-again") {
		order, _, _ := e.instruction(ctx, p, now)
		_, _ = e.cfg.Rail.Send(ctx, order)
	}
	answer, err := e.cfg.Rail.Query(ctx, p.ref)
	if err != nil {
		state, err2 := e.apply(ctx, Answer{Reference: p.ref, Reason: shortened(err)}, now)
		return state, errors.Join(err, err2)
	}
	if err := e.step("asked"); err != nil {
		return p.state, err
	}
	return e.apply(ctx, answer, now)
}

// shortened is an error as it may stand in a row.
func shortened(err error) string {
	s := strings.ToValidUTF8(err.Error(), "?")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return s
}

// feedPages is how many pages of a bank's feed are read in one turn: one that
// never ends must not keep payouts from being sent.
const feedPages = 100

// takeChanges reads the bank's feed from where it was left.
func (e *Engine) takeChanges(ctx context.Context, now time.Time, done *Payment) error {
	for range feedPages {
		var after string
		err := e.db.Read(ctx, func(tx store.Tx) (err error) {
			after, err = feedAt(tx, bankFeed)
			return err
		})
		if err != nil {
			return fmt.Errorf("settlement: reading the bank's cursor: %w", err)
		}
		changes, next, err := e.cfg.Rail.Changes(ctx, after)
		if err != nil {
			return err
		}
		for _, c := range changes {
			was, is, amount, err := e.move(ctx, c, now)
			if errors.Is(err, store.ErrNotFound) {
				err = e.strange(ctx, c, now, "we never ordered it")
			}
			if err != nil {
				return err
			}
			done.count(was, is, amount)
		}
		if err := e.step("changes taken"); err != nil {
			return err
		}
		if next == after || len(changes) == 0 {
			return nil
		}
		fault.Hit("payout.cursor.before")
		if err := e.db.Write(ctx, func(tx store.Tx) error { return setFeed(tx, bankFeed, next) }); err != nil {
			return fmt.Errorf("settlement: saving the bank's cursor: %w", err)
		}
		fault.Hit("payout.cursor.after")
	}
	return nil
}

// Notified handles a bank's callback. What it says is not believed: the payout
// is asked for by its reference. A callback may come twice.
func (e *Engine) Notified(ctx context.Context, reference string, now time.Time) error {
	if e.cfg.Rail == nil {
		return errors.New("settlement: there is no bank to ask")
	}
	if !plainReference(reference) {
		return fmt.Errorf("settlement: %.64q is not a payout's reference", reference)
	}
	answer, err := e.cfg.Rail.Query(ctx, reference)
	if err != nil {
		return err
	}
	_, err = e.apply(ctx, answer, now)
	return err
}

func plainReference(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (e *Engine) apply(ctx context.Context, a Answer, now time.Time) (PayoutState, error) {
	_, is, _, err := e.move(ctx, a, now)
	return is, err
}

// move does what moveTx does, in a write of its own.
func (e *Engine) move(ctx context.Context, a Answer, now time.Time) (was, is PayoutState, amount money.Amount, err error) {
	if err := e.step("answered"); err != nil {
		return 0, 0, 0, err
	}
	fault.Hit("payout.move.before")
	var p *payout
	err = e.db.Write(ctx, func(tx store.Tx) (err error) {
		was, p, err = e.moveTx(tx, a, now)
		return err
	})
	fault.Hit("payout.move.after")
	if err != nil {
		return was, was, 0, fmt.Errorf("settlement: payout %s, answer %s: %w", a.Reference, a.Status, err)
	}
	if e.cfg.OnInstant != nil && p.sold > 0 && p.state == Paid && was != Paid {
		e.cfg.OnInstant(now.Sub(time.UnixMicro(p.sold)))
	}
	return was, p.state, p.amount, nil
}

// moveTx is the one place where payouts change their state and their postings
// with it. It returns where the payout stood, and the payout as it is now.
func (e *Engine) moveTx(tx store.Tx, a Answer, now time.Time) (was PayoutState, p *payout, err error) {
	date, err := e.bookOn(tx, now)
	if err != nil {
		return was, nil, err
	}
	p, err = lockPayout(tx, a.Reference)
	if err != nil {
		return was, nil, err
	}
	was = p.state
	if a.Amount != p.amount && (a.Status == Succeeded || a.Status == Returned) {
		return was, p, addTask(tx, Task{Key: "answer/" + p.ref + "/amount", Kind: "bank_answer", Merchant: p.merchant, Ref: p.ref, Created: now,
			Text: fmt.Sprintf("the bank says payout %s is %s of %s; it was ordered with %s", p.ref, a.Status, a.Amount, p.amount)})
	}
	if a.BankID != "" {
		p.bankID = a.BankID
	}
	p.asked = now.UnixMicro()
	var transfers []ledger.Transfer
	var task *Task
	switch {
	case a.Status == Succeeded && was == Failed:
		transfers, task, err = p.paidAfterAll(tx, now, date, e.cfg.PayoutCost)
	case a.Status == Returned && was == Failed:
		transfers, task, err = p.broughtBack(tx, now, date)
	default:
		transfers, task = p.next(a, now, date, e.cfg.PayoutCost, e.cfg.NotFoundAfter)
	}
	if err != nil {
		return was, nil, err
	}
	if task != nil {
		if err := addTask(tx, *task); err != nil {
			return was, nil, err
		}
	}
	if _, err := ledger.PostTx(tx, transfers); err != nil {
		return was, nil, err
	}
	if was < Paid && p.state >= Paid { // nobody needs to ask any more
		if err := endTasks(tx, now, "payout_slow/"+p.ref, "held/"+p.ref); err != nil {
			return was, nil, err
		}
	}
	return was, p, p.save(tx)
}

// next moves p by an answer and returns what must be booked, and what a person
// must do.
func (p *payout) next(a Answer, now time.Time, date calendar.Date, cost money.Amount, notFoundAfter time.Duration) (transfers []ledger.Transfer, task *Task) {
	book := p.booking(date, cost)
	person := func(kind, text string) *Task {
		return &Task{Key: kind + "/" + p.ref, Kind: kind, Merchant: p.merchant, Ref: p.ref, Created: now, Text: text}
	}
	fail := func(reason string) *Task {
		p.state, p.reason, p.finished = Failed, reason, now.UnixMicro()
		transfers = append(transfers, book.Failed()...)
		return person("payout_failed", fmt.Sprintf("payout %s of %s failed: %s; correct the merchant's account (acquirer settle account ask) and issue it again", p.ref, p.amount, reason))
	}
	underway := p.state == Submitted || p.state == InProcess || p.state == Unknown
	switch {
	case a.Status == Succeeded && underway, a.Status == Returned && underway:
		p.state, p.reason, p.finished = Paid, a.Reason, now.UnixMicro()
		transfers = append(transfers, book.Success()...)
	case a.Status == Rejected && underway:
		task = fail(a.Reason)
	case a.Status == Rejected && p.state == Paid:
		return nil, &Task{Key: "answer/" + p.ref + "/rejected", Kind: "bank_answer", Merchant: p.merchant, Ref: p.ref, Created: now,
			Text: fmt.Sprintf("the bank now rejects payout %s of %s, which it had paid: %s", p.ref, p.amount, a.Reason)}
	case a.Status == Processing && underway:
		p.state, p.reason = InProcess, a.Reason
		if now.Sub(time.UnixMicro(p.submitted)) >= notFoundAfter {
			task = person("payout_slow", fmt.Sprintf("payout %s of %s is still processing at the bank (%s); ask it by the reference", p.ref, p.amount, a.Reason))
		}
	case a.Status == NotFound && p.state == InProcess:
		return nil, &Task{Key: "answer/" + p.ref + "/lost", Kind: "bank_answer", Merchant: p.merchant, Ref: p.ref, Created: now,
			Text: fmt.Sprintf("the bank does not know payout %s of %s any more, which it was processing", p.ref, p.amount)}
	case a.Status == NotFound && underway:
		if now.Sub(time.UnixMicro(p.submitted)) >= notFoundAfter {
			task = fail("the bank never received it")
			break
		}
		p.state, p.reason = Unknown, "the bank does not know it yet"
	case a.Status == "" && underway:
		if p.state != InProcess {
			p.state = Unknown
		}
		p.reason = a.Reason
	}
	if a.Status == Returned && p.state == Paid {
		p.state, p.reason, p.finished = CameBack, a.Reason, now.UnixMicro()
		transfers = append(transfers, book.Returned(p.repaid)...)
		p.repaid = p.repaid || p.advance // an advance that came back needs no repaying
		return transfers, person("payout_returned", fmt.Sprintf("payout %s of %s came back: %s; ask the merchant for another card (acquirer settle account ask), then issue it again", p.ref, p.amount, a.Reason))
	}
	return transfers, task
}

// strange makes a task of a bank's word that fits nothing.
func (e *Engine) strange(ctx context.Context, a Answer, now time.Time, why string) error {
	fault.Hit("payout.strange.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		return addTask(tx, Task{Key: "answer/" + a.Reference, Kind: "bank_answer", Ref: a.Reference, Created: now,
			Text: fmt.Sprintf("the bank says payout %.64q is %s of %s; %s", a.Reference, a.Status, a.Amount, why)})
	})
	fault.Hit("payout.strange.after")
	return err
}

// noChild stands for the replacement of a payout of which a hold left nothing.
const noChild = "-"

// ErrReissue says that a payout cannot be issued again.
var ErrReissue = errors.New("settlement: the payout cannot be issued again")

// Reissue replaces a failed or returned payout by a new one to the account the
// merchant has now, and returns its reference. A payout is replaced once; asked
// again it names the same replacement. Whatever also writes is written with it.
func (e *Engine) Reissue(ctx context.Context, ref string, now time.Time, also ...func(tx store.Tx) error) (string, error) {
	var child string
	fault.Hit("payout.reissue.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		date, err := e.bookOn(tx, now)
		if err != nil {
			return err
		}
		p, err := lockPayout(tx, ref)
		if err != nil {
			return err
		}
		if child = p.child; child != "" && child != noChild {
			return nil
		}
		switch {
		case child == noChild:
			return fmt.Errorf("%w: nothing of %s is left to pay: %s", ErrReissue, ref, p.reason)
		case p.long:
			return fmt.Errorf("%w: the bank paid %s after all: acquirer payout recover %s", ErrReissue, ref, ref)
		case p.state != Failed && p.state != CameBack:
			return fmt.Errorf("%w: %s is %s", ErrReissue, ref, p.state)
		}
		child = nextRef(ref)
		due := calendar.DateOf(now)
		if p.advance { // from here on it is paid with the network's money
			settles, err := calendar.SettleDate(p.date)
			if err != nil {
				return err
			}
			due = max(due, settles)
		}
		n := payout{ref: child, batch: p.batch, merchant: p.merchant, date: p.date, due: due, speed: p.speed, amount: p.amount,
			reissue: p.reissue || p.state == CameBack, parent: ref, state: Created}
		if err := n.insert(tx); err != nil {
			return err
		}
		if _, err := ledger.PostTx(tx, n.booking(date, 0).Reserve()); err != nil {
			return err
		}
		p.child = child
		if err := p.save(tx); err != nil {
			return err
		}
		if err := endTasks(tx, now, "payout_failed/"+ref, "payout_returned/"+ref); err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("payout.reissue.after")
	if err != nil {
		return "", fmt.Errorf("settlement: issuing %s again: %w", ref, err)
	}
	return child, nil
}

// nextRef counts replacements: X, X-R1, X-R2.
func nextRef(ref string) string {
	if i := strings.LastIndex(ref, "-R"); i >= 0 {
		if n, err := strconv.Atoi(ref[i+2:]); err == nil {
			return ref[:i+2] + strconv.Itoa(n+1)
		}
	}
	return ref + "-R1"
}
