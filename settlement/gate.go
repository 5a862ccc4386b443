package settlement

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// Before the money of a day is paid it is compared with what others have on
// their books. What does not match is held: the line is left out of the run,
// stays in the payable account, and settles with a later run when it has been
// found, or is taken back when it never comes.

// Line is a line of the settlement as others compare it with their books.
type Line struct {
	ID         int64         `json:"-"` // the transaction's id; below zero its taking back after it was settled
	Txn        int64         `json:"txn"`
	Date       calendar.Date `json:"date"`     // business date it settles with
	TxnDate    calendar.Date `json:"txn_date"` // business date of the transaction
	RRN        string        `json:"rrn"`
	Merchant   string        `json:"merchant"`
	Terminal   string        `json:"terminal"`
	Issuer     string        `json:"issuer"`
	Wallet     string        `json:"wallet,omitempty"`
	Parent     int64         `json:"parent,omitempty"`
	Amount     money.Amount  `json:"amount"` // below zero where money goes back
	IssuerFee  money.Amount  `json:"issuer_fee"`
	NetworkFee money.Amount  `json:"network_fee"`
	State      LineState     `json:"state"`
	Run        int64         `json:"-"` // the run that settled it; 0 when none has
}

// Net is what the network owes for the line.
func (l *Line) Net() money.Amount { return l.Amount - l.IssuerFee - l.NetworkFee }

// LineState says what became of a line.
type LineState string

// The states of a line.
const (
	LineWaits    LineState = "waits"    // for its day's close
	LineSettled  LineState = "settled"  // in a merchant's batch
	LineTaken    LineState = "taken"    // back, before it was settled
	LineHeld     LineState = "held"     // out of every run until somebody releases it
	LineUnpriced LineState = "unpriced" // in suspense for a person
)

// export makes the line what others see of it.
func (l *line) export() Line {
	out := Line{ID: l.id(), Txn: l.txn, Date: l.date, TxnDate: l.txnDate, RRN: l.rrn, Merchant: l.merchant, Terminal: l.terminal, Issuer: l.issuer,
		Wallet: l.wallet, Parent: l.parent, Amount: l.amount, IssuerFee: l.issuerFee, NetworkFee: l.networkFee, State: LineSettled}
	switch l.run {
	case lineOpen:
		out.State = LineWaits
	case lineTaken:
		out.State = LineTaken
	case lineHeld:
		out.State = LineHeld
	case lineUnpriced:
		out.State = LineUnpriced
	default:
		out.Run = l.run
	}
	return out
}

// LineTx reads a line inside a transaction and locks it; ErrNotFound of store
// when there is none.
func LineTx(tx store.Tx, id int64) (Line, error) {
	l, err := lockLine(tx, id)
	if err != nil {
		return Line{}, err
	}
	return l.export(), nil
}

func lockLine(tx store.Tx, id int64) (line, error) {
	rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1 for update", id)
	all, err := store.All(rows, err, scanLine)
	if err != nil {
		return line{}, fmt.Errorf("settlement: reading line %d: %w", id, err)
	}
	if len(all) == 0 {
		return line{}, store.ErrNotFound
	}
	return all[0], nil
}

// linePage is how many lines Lines reads at a time.
const linePage = 1000

// Lines yields what a business date is to be compared with: its lines that
// still wait, and those that runs of the date have settled already. An error
// ends it.
func (e *Engine) Lines(ctx context.Context, date calendar.Date) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for _, where := range []string{"run = 0 and date = $1", "run > 0 and run in (select r.id from settlement_run r where r.date = $1)"} {
			after := int64(-1 << 63)
			for {
				var page []line
				err := e.db.Read(ctx, func(tx store.Tx) error {
					rows, err := tx.Query("select "+lineColumns+" from settlement_line where "+where+" and id > $2 order by id limit $3", date, after, linePage)
					page, err = store.All(rows, err, scanLine)
					return err
				})
				if err != nil {
					yield(Line{}, fmt.Errorf("settlement: reading the lines of %s: %w", date, err))
					return
				}
				for i := range page {
					after = page[i].id()
					if !yield(page[i].export(), nil) {
						return
					}
				}
				if len(page) < linePage {
					break
				}
			}
		}
	}
}

// TakenTx lists the lines, by id, of business dates from one to another that were
// taken back before they were settled.
func TakenTx(tx store.Tx, from, to calendar.Date) ([]int64, error) {
	rows, err := tx.Query("select id from settlement_line where run = -1 and date >= $1 and date <= $2 order by id", from, to)
	all, err := store.All(rows, err, func(r *store.Rows, id *int64) error { return r.Scan(id) })
	if err != nil {
		return nil, fmt.Errorf("settlement: listing what was taken back from %s to %s: %w", from, to, err)
	}
	return all, nil
}

// SellersTx lists the merchants with lines of a business date by an issuer or
// wallet that still wait or that runs of the date have settled, in order.
func SellersTx(tx store.Tx, date calendar.Date, issuer string) ([]string, error) {
	rows, err := tx.Query(`select merchant from settlement_line where run = 0 and date = $1 and txn_date = $1 and issuer = $2
		union select merchant from settlement_line where run > 0 and run in (select r.id from settlement_run r where r.date = $1) and txn_date = $1 and issuer = $2 order by 1`, date, issuer)
	all, err := store.All(rows, err, func(r *store.Rows, mid *string) error { return r.Scan(mid) })
	if err != nil {
		return nil, fmt.Errorf("settlement: listing who sold by %s on %s: %w", issuer, date, err)
	}
	return all, nil
}

// FollowersTx reads the lines that follow a sale: its voids, refunds and
// adjustments.
func FollowersTx(tx store.Tx, sale int64) ([]Line, error) {
	rows, err := tx.Query("select "+lineColumns+" from settlement_line where parent = $1 and parent <> 0 order by id", sale)
	all, err := store.All(rows, err, scanLine)
	if err != nil {
		return nil, fmt.Errorf("settlement: reading what follows %d: %w", sale, err)
	}
	out := make([]Line, len(all))
	for i := range all {
		out[i] = all[i].export()
	}
	return out, nil
}

// HoldTx keeps a waiting line out of every run. False when it does not wait:
// it was settled, taken back or held before.
func HoldTx(tx store.Tx, id int64) (bool, error) {
	n, err := tx.Exec("update settlement_line set run = $1 where id = $2 and run = $3", lineHeld, id, lineOpen)
	if err != nil {
		return false, fmt.Errorf("settlement: holding line %d: %w", id, err)
	}
	return n == 1, nil
}

// ReleaseTx lets a held line settle, with the given business date or the open
// one if that is later, which it returns. 0 when the line is not held.
func ReleaseTx(tx store.Tx, id int64, date calendar.Date) (calendar.Date, error) {
	open, err := openDateTx(tx)
	if err != nil {
		return 0, err
	}
	date = max(date, open)
	n, err := tx.Exec("update settlement_line set run = $1, date = $2 where id = $3 and run = $4", lineOpen, date, id, lineHeld)
	if err != nil {
		return 0, fmt.Errorf("settlement: releasing line %d: %w", id, err)
	}
	if n == 0 {
		return 0, nil
	}
	return date, nil
}

// DropTx takes a held line back as if it had never been: the network does not
// have it and the merchant bears it. False when it is not held.
func DropTx(tx store.Tx, id int64, date calendar.Date) (bool, error) {
	l, err := lockLine(tx, id)
	if err != nil {
		return false, err
	}
	if l.run != lineHeld {
		return false, nil
	}
	open, err := openDateTx(tx)
	if err != nil {
		return false, err
	}
	if _, err := tx.Exec("update settlement_line set run = $1 where id = $2", lineTaken, id); err != nil {
		return false, fmt.Errorf("settlement: taking line %d back: %w", id, err)
	}
	if t, any := l.clearing().Reversal(max(date, open)); any {
		_, err = ledger.PostTx(tx, []ledger.Transfer{t})
	}
	return true, err
}

// LockTx keeps closing and booking out until the transaction ends, and returns
// the open date. Whoever changes lines takes it first.
func LockTx(tx store.Tx) (calendar.Date, error) { return openDateTx(tx) }

// RunDateTx is the business date that a run settles.
func RunDateTx(tx store.Tx, run int64) (date calendar.Date, err error) {
	if err := tx.QueryRow("select date from settlement_run where id = $1", run).Scan(&date); err != nil {
		return 0, fmt.Errorf("settlement: reading run %d: %w", run, err)
	}
	return date, nil
}

// openDateTx reads the open date with the lock that keeps closing and booking
// apart.
func openDateTx(tx store.Tx) (open calendar.Date, err error) {
	if err := tx.QueryRow("update settlement_state set posts = posts + 1 where id = 1 returning open_date").Scan(&open); err != nil {
		return 0, fmt.Errorf("settlement: reading the open date: %w", err)
	}
	return open, nil
}

// ExpectTx changes what the network (or a wallet) owes for a business date,
// for what no line of the date's run says: an item that it has and we have not,
// another fee, another amount. The key names why; the same key counts once.
func ExpectTx(tx store.Tx, key string, date calendar.Date, wallet string, amount money.Amount) error {
	if amount == 0 {
		return nil
	}
	if _, err := tx.Exec("insert into settlement_expected (key, date, wallet, amount) values ($1,$2,$3,$4) on conflict (key) do nothing", key, date, wallet, amount); err != nil {
		return fmt.Errorf("settlement: expecting %s of %s: %w", amount, date, err)
	}
	return nil
}

// ErrGate says that a business date waits for something before it is closed.
var ErrGate = errors.New("settlement: the business date waits")

// pass asks the gate whether a date that has not begun to close may.
func (e *Engine) pass(ctx context.Context, date calendar.Date, force bool) error {
	if e.cfg.Gate == nil || force {
		return nil
	}
	r := run{e: e, date: date}
	if err := r.find(ctx); err != nil || r.id != 0 {
		return err
	}
	if err := e.cfg.Gate(ctx, date); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrGate, date, err)
	}
	return nil
}

// OweTx changes what a merchant is owed by an amount that is no transaction's,
// below zero for less: a difference that was found and is the merchant's. It
// nets with the next run; whoever calls books the transfer that goes with it.
// False when the key was used before.
func OweTx(tx store.Tx, key, mid string, amount money.Amount, txn int64, text string, now time.Time) (bool, error) {
	open, err := openDateTx(tx)
	if err != nil {
		return false, err
	}
	return addItem(tx, &item{key: key, merchant: mid, date: max(open, calendar.DateOf(now)), amount: amount, txn: txn, text: text}, now)
}

// Sent is a payout as a bank's statement is compared with it.
type Sent struct {
	Ref      string
	Merchant string
	Amount   money.Amount
	State    PayoutState
	Finished time.Time // when it was paid, failed or came back
}

// SentTx reads a payout by its reference; ErrNotFound of store when nobody
// ordered it.
func SentTx(tx store.Tx, ref string) (Sent, error) {
	p, err := lockPayout(tx, ref)
	if err != nil {
		return Sent{}, err
	}
	return Sent{Ref: p.ref, Merchant: p.merchant, Amount: p.amount, State: p.state, Finished: time.UnixMicro(p.finished)}, nil
}

// Message is a file of orders that went to the bank.
type Message struct {
	ID      string
	Payouts []Sent // by reference
}

// MessageTx reads a message by its identification; ErrNotFound of store when
// nobody sent it.
func MessageTx(tx store.Tx, id string) (Message, error) {
	m := Message{ID: id}
	rows, err := tx.Query(`select p.ref, p.merchant, p.amount, p.state, p.finished from bankfile_order o join settlement_payout p on p.ref = o.ref
		where o.message = $1 and o.message <> '' order by o.ref`, id)
	m.Payouts, err = store.All(rows, err, func(r *store.Rows, s *Sent) error {
		var finished int64
		err := r.Scan(&s.Ref, &s.Merchant, &s.Amount, &s.State, &finished)
		s.Finished = time.UnixMicro(finished)
		return err
	})
	switch {
	case err != nil:
		return Message{}, fmt.Errorf("settlement: reading message %.64q: %w", id, err)
	case len(m.Payouts) == 0:
		return Message{}, store.ErrNotFound
	}
	return m, nil
}

// MessageOfTx is the message that a payout went out in; "" when it went out in
// none.
func MessageOfTx(tx store.Tx, ref string) (id string, err error) {
	err = tx.QueryRow("select message from bankfile_order where ref = $1", ref).Scan(&id)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("settlement: the message of payout %s: %w", ref, err)
	}
	return id, nil
}

const paidOn = "settlement_payout where state = 5 and finished >= $1 and finished < $2 and ref > $3 order by ref limit $4"

// PaidOnTx lists up to limit payouts behind a reference that were paid on a
// calendar day and have not come back, in the order of their references.
func PaidOnTx(tx store.Tx, day calendar.Date, after string, limit int) ([]Sent, error) {
	from := day.Time()
	rows, err := tx.Query("select "+payoutColumns+" from "+paidOn, from.UnixMicro(), from.AddDate(0, 0, 1).UnixMicro(), after, limit)
	all, err := store.All(rows, err, scanPayout)
	if err != nil {
		return nil, fmt.Errorf("settlement: reading what was paid on %s: %w", day, err)
	}
	out := make([]Sent, len(all))
	for i, p := range all {
		out[i] = Sent{Ref: p.ref, Merchant: p.merchant, Amount: p.amount, State: p.state, Finished: time.UnixMicro(p.finished)}
	}
	return out, nil
}

// Received is a receipt as it was booked.
type Received struct {
	Receipt
	Expected money.Amount
	More     money.Amount // what came later of what it lacked
	Booked   time.Time
}

// Lacks is what is missing still of what was expected; below zero what is too much.
func (r *Received) Lacks() money.Amount { return r.Expected - r.Received - r.More }

// ReceivedTx lists the receipts that were booked for a business date.
func ReceivedTx(tx store.Tx, date calendar.Date) ([]Received, error) {
	return receipts(tx, "date = $1", date)
}

// DifferingReceiptsTx lists the receipts that are not what was expected.
func DifferingReceiptsTx(tx store.Tx) ([]Received, error) {
	return receipts(tx, "received <> expected")
}

// CameTx lists what was booked as having come with a reference: as receipts by
// hand, and as credits whose payer wrote it.
func CameTx(tx store.Tx, ref string) ([]money.Amount, error) {
	rows, err := tx.Query("select received from settlement_receipt where ref = $1 union all select amount from settlement_credit where reference = $1", ref)
	all, err := store.All(rows, err, func(r *store.Rows, a *money.Amount) error { return r.Scan(a) })
	if err != nil {
		return nil, fmt.Errorf("settlement: reading what came as %.64q: %w", ref, err)
	}
	return all, nil
}

func receipts(tx store.Tx, where string, args ...any) ([]Received, error) {
	rows, err := tx.Query(`select ref, date, wallet, expected, received, booked, (select cast(coalesce(sum(c.amount), 0) as BIGINT) from settlement_credit c
		where c.date = r.date and c.payer = case when r.wallet = '' then 'network' else r.wallet end and c.state = 3) from settlement_receipt r where `+where+" order by ref", args...)
	all, err := store.All(rows, err, func(r *store.Rows, x *Received) error {
		var booked int64
		err := r.Scan(&x.Reference, &x.Date, &x.Wallet, &x.Expected, &x.Received, &booked, &x.More)
		x.Booked = time.UnixMicro(booked)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: reading receipts: %w", err)
	}
	return all, nil
}
