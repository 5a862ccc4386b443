// Package settlement turns approved transactions into money on merchants'
// accounts: it books them, closes the business day, nets per merchant, pays
// through a bank, and compares the journal with what others have on their books.
//
// Every step is a durable write of its own with a key that follows from what it
// stands for, so a day that is settled twice, by two schedulers at once, or
// again after a crash between any two steps, has one effect.
package settlement

import (
	"context"
	"errors"
	"fmt"
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

// Fact is one thing the journal knows for good: a transaction was approved,
// or, with Taken, an approved one was taken back (voided or reversed).
type Fact struct {
	Cursor   int64 // place in the order in which the journal learnt it
	Does     Does
	Original int64 // the transaction that it voids, refunds or adjusts; 0 for none
	Taken    bool
	At       time.Time     // when it was approved, or taken back
	On       calendar.Date // business date that was open then
	Txn      int64         // the journal's id
	Date     calendar.Date // business date of the transaction, fixed when it was opened
	RRN      string
	Merchant string
	Terminal string
	Issuer   string
	Channel  merchant.Channel
	CardType merchant.CardType
	Wallet   string
	Entry    merchant.Entry
	Amount   money.Amount
}

// Does is what a transaction does to the merchant's money.
type Does uint8

// A transaction sells, unless it is another kind. Amounts are above zero, but
// for the difference that an adjustment makes.
const (
	Sells   Does = iota
	Voids        // takes a sale back whole
	Refunds      // gives a part back
	Adjusts      // changes a sale by a difference: a tip
	Nothing      // moves no money: an inquiry, a pre-authorisation
)

// RefundFee says what of a merchant's fee comes back with a refund.
type RefundFee string

// The policies. The part by rate follows the share refunded; the fixed part
// follows it too, or stays.
const (
	KeepFee   RefundFee = "keep"
	ReturnPct RefundFee = "return_pct"
	ReturnAll RefundFee = "return_all"
)

// Source is the journal as settlement sees it.
type Source interface {
	// Facts returns up to limit facts behind a cursor, oldest first. Facts may
	// come more than once.
	Facts(ctx context.Context, after int64, limit int) ([]Fact, error)
	// From is where to ask again after reaching a cursor: the cursor itself, or
	// an earlier one where facts may become visible out of order.
	From(cursor int64) int64
	// Undecided counts the transactions of a business date that are neither
	// approved nor refused yet.
	Undecided(ctx context.Context, date calendar.Date) (int, error)
	// CutOver opens a business date, unless it or a later one is open: no
	// transaction is opened on an earlier one any more.
	CutOver(ctx context.Context, date calendar.Date) error
}

// Config is what an Engine stands on. Source, Merchants and DB must be given;
// without a Rail nothing is paid.
type Config struct {
	DB        *store.DB
	Source    Source
	Merchants *merchant.Registry
	Tariff    *ledger.Tariff // default: ledger.UnionPay2016
	Rail      Rail
	// Seal and Unseal close and open the number of a settlement account.
	Seal   func(ctx context.Context, number string) ([]byte, error)
	Unseal func(ctx context.Context, sealed []byte) (string, error)

	RefundFee    RefundFee     // default ReturnPct
	CutOff       time.Duration // of cards, default calendar.CardCutoff
	WalletCutOff time.Duration // of payments by code, default calendar.WalletCutoff
	MinPayout    money.Amount  // less is carried over to the next day; default 0.01
	// What an early payment may be: at most so much a day to one merchant, not to
	// one whose first sale is fewer days ago or that has sold on fewer days in a
	// row, not to one that is watched (Watch), and not to one that had RiskSales
	// sales in 30 days, of which more than RiskPPM (ppm of the sum) was refunded or
	// charged back. 0 is no limit.
	AdvanceLimit          money.Amount
	FastAfter, FastStreak int
	RiskPPM               int64
	RiskSales             int
	BankFrom, BankTo      time.Duration // times of day between which the bank pays S0 at once; equal: always
	Cooling               time.Duration // how long payouts wait after the settlement account was changed
	// A debt that is older, or more than so much, is moved to arrears; 0 never.
	ArrearsDays int
	ArrearsOver money.Amount
	// With Covered, what is not advanced is sent only while the merchants' bank
	// account (1001) and Credit, which the bank gives, cover it.
	Covered       bool
	Payers        []Payer // who pays us, by the bank's statement; without any it is not read
	Credit        money.Amount
	OnInstant     func(took time.Duration) // hears how long after its sale an S0 payout was paid
	OnSlow        func(cause Slow)         // hears that a batch of early sales is paid T+1
	Windows       []int                    // times of day as HHMM at which PayEarly is called, for who asks when a sale is paid
	PayoutCost    money.Amount             // what the bank takes for a payout
	WalletPPM     int64                    // what a wallet keeps of a payment, and gives back of it with a refund, in ppm
	QueryEvery    time.Duration            // between two questions about an unknown payout
	SubmitTimeout time.Duration            // after which a submitted payout without an answer is unknown; default 1 minute
	NotFoundAfter time.Duration            // after which a payout the bank does not know has failed; default 24 hours
	Workers       int                      // payouts under way at once; default 8
	// Gate says why a business date may not be closed yet; nil when it may. A
	// forced close does not ask.
	Gate func(ctx context.Context, date calendar.Date) error
	// Rest says how long to wait after a batch of bookings that took so long,
	// so that a busy house can go first; nil never waits.
	Rest func(took time.Duration) time.Duration
}

// Engine settles. Its methods may be called from any goroutine and on any
// number of nodes.
type Engine struct {
	cfg    Config
	db     *store.DB
	ledger *ledger.Ledger
	payers []payerRule
	// step is called between durable writes; tests let it fail there, which is
	// what a crash is.
	step func(name string) error
	// lastSale is the business date of each merchant's newest sale that is known
	// to be remembered.
	lastSale sync.Map
	settled  atomic.Int64 // facts up to here are booked and none can appear among them any more
	reached  atomic.Int64 // when everything was booked that there was, microseconds
}

// New checks the configuration and fills in its defaults.
func New(cfg Config) (*Engine, error) {
	if cfg.DB == nil || cfg.Source == nil || cfg.Merchants == nil {
		return nil, errors.New("settlement: needs a store, a source and merchants")
	}
	if cfg.Rail != nil && cfg.Unseal == nil {
		return nil, errors.New("settlement: a rail needs a way to unseal account numbers")
	}
	if cfg.Tariff == nil {
		cfg.Tariff = &ledger.UnionPay2016
	}
	switch cfg.RefundFee {
	case "":
		cfg.RefundFee = ReturnPct
	case KeepFee, ReturnPct, ReturnAll:
	default:
		return nil, fmt.Errorf("settlement: refund fee policy %q is none of keep, return_pct, return_all", cfg.RefundFee)
	}
	if cfg.CutOff == 0 {
		cfg.CutOff = calendar.CardCutoff
	}
	if cfg.WalletCutOff == 0 {
		cfg.WalletCutOff = calendar.WalletCutoff
	}
	if cfg.MinPayout < 1 {
		cfg.MinPayout = 1
	}
	if cfg.SubmitTimeout == 0 {
		cfg.SubmitTimeout = time.Minute
	}
	if cfg.NotFoundAfter == 0 {
		cfg.NotFoundAfter = 24 * time.Hour
	}
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	payers, err := payerRules(cfg.Payers)
	if err != nil {
		return nil, err
	}
	return &Engine{cfg: cfg, db: cfg.DB, ledger: ledger.New(cfg.DB), payers: payers, step: func(string) error { return nil }}, nil
}

// Ledger is the ledger the engine books into.
func (e *Engine) Ledger() *ledger.Ledger { return e.ledger }

// Task is something a person must do: find a merchant's new card, look into a
// difference. Tasks are made once per key.
type Task struct {
	Key      string    `json:"key"`
	Kind     string    `json:"kind"` // payout_failed, payout_returned, payout_long, payout_slow, payout_held, payable_short, arrears, unpriced, bank_answer, bank_changed, bank_file, receipt, credit, late_success, dispute
	Merchant string    `json:"merchant,omitempty"`
	Ref      string    `json:"ref,omitempty"` // a payout's reference or a transaction's id
	Text     string    `json:"text"`
	Created  time.Time `json:"created"`
	// Of the payout that Ref names, as Tasks reads them.
	Amount money.Amount  `json:"amount,omitempty"`
	Date   calendar.Date `json:"date,omitzero"` // business date that it settles
}

func addTask(tx store.Tx, t Task) error {
	_, err := tx.Exec(`insert into settlement_task (key, kind, merchant, ref, text, created, done) values ($1,$2,$3,$4,$5,$6,0) on conflict (key) do nothing`,
		t.Key, t.Kind, t.Merchant, t.Ref, t.Text, t.Created.UnixMicro())
	if err != nil {
		return fmt.Errorf("settlement: adding task %s: %w", t.Key, err)
	}
	return nil
}

// endTasks marks tasks as done that nobody needs to do any more.
func endTasks(tx store.Tx, now time.Time, keys ...string) error {
	for _, key := range keys {
		if _, err := tx.Exec("update settlement_task set done = $1 where key = $2 and done = 0", now.UnixMicro(), key); err != nil {
			return fmt.Errorf("settlement: ending task %s: %w", key, err)
		}
	}
	return nil
}

// AddTask makes a task of what somebody else has found; once per key.
func (e *Engine) AddTask(ctx context.Context, t Task) error {
	fault.Hit("task.add.before")
	err := e.db.Write(ctx, func(tx store.Tx) error { return addTask(tx, t) })
	fault.Hit("task.add.after")
	return err
}

// Tasks lists up to limit tasks that wait for a person, the oldest first.
func (e *Engine) Tasks(ctx context.Context, limit int) (tasks []Task, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query(`select t.key, t.kind, t.merchant, t.ref, t.text, t.created, coalesce(p.amount, 0), coalesce(p.date, 0)
			from settlement_task t left join settlement_payout p on p.ref = t.ref where t.done = 0 order by t.created, t.key limit $1`, limit)
		tasks, err = store.All(rows, err, func(r *store.Rows, t *Task) error {
			var created int64
			err := r.Scan(&t.Key, &t.Kind, &t.Merchant, &t.Ref, &t.Text, &created, &t.Amount, &t.Date)
			t.Created = time.UnixMicro(created)
			return err
		})
		return err
	})
	return tasks, err
}

// Done marks a task as done; a second time changes nothing. Whatever also writes
// is written with it. An unknown task is store.ErrNotFound.
func (e *Engine) Done(ctx context.Context, key string, now time.Time, also ...func(tx store.Tx) error) error {
	fault.Hit("task.done.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		var done int64
		if err := tx.QueryRow("select done from settlement_task where key = $1 for update", key).Scan(&done); err != nil || done > 0 {
			return err
		}
		if _, err := tx.Exec("update settlement_task set done = $1 where key = $2 and done = 0", now.UnixMicro(), key); err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("task.done.after")
	if err != nil {
		return fmt.Errorf("settlement: task %.100q: %w", key, err)
	}
	return nil
}

// all writes what a caller wants written with a change.
func all(tx store.Tx, also []func(tx store.Tx) error) error {
	for _, f := range also {
		if err := f(tx); err != nil {
			return err
		}
	}
	return nil
}

// AddTaskTx adds a task for a person inside a transaction, once per key.
func AddTaskTx(tx store.Tx, t Task) error { return addTask(tx, t) }

// EndTasksTx ends the open tasks of a kind about one thing inside a transaction:
// they are overtaken.
func EndTasksTx(tx store.Tx, kind, ref string, now time.Time) error {
	if _, err := tx.Exec("update settlement_task set done = $1 where kind = $2 and ref = $3 and done = 0", now.UnixMicro(), kind, ref); err != nil {
		return fmt.Errorf("settlement: ending the tasks of %s %s: %w", kind, ref, err)
	}
	return nil
}
