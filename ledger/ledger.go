package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/store"
)

// Schema is the transfers, which only grow, and the balances that follow from
// them: now, and by business date.
var Schema = store.Schema{Name: "ledger", Steps: []string{`
create table ledger_transfer (
	id       BIGINT primary key,
	key      TEXT not null unique,
	event    TEXT not null,
	date     INTEGER not null,
	ref      TEXT not null,
	kind     INTEGER not null,
	resolves TEXT,
	legs     TEXT not null,
	created  BIGINT not null
);
create unique index ledger_transfer_resolves on ledger_transfer (resolves) where resolves is not null;
create table ledger_balance (
	account        INTEGER not null,
	sub            TEXT not null,
	debit          BIGINT not null,
	credit         BIGINT not null,
	pending_debit  BIGINT not null,
	pending_credit BIGINT not null,
	primary key (account, sub)
);
create table ledger_day (
	date    INTEGER not null,
	account INTEGER not null,
	debit   BIGINT not null,
	credit  BIGINT not null,
	primary key (date, account)
)`, `
create index ledger_transfer_close on ledger_transfer (date) where event = 'DAILY_CLOSE'`, `
alter table ledger_transfer add column checksum INTEGER -- of the columns before it`}}

const transferColumns = "id, key, event, date, ref, kind, resolves, legs, created"

// Summed is the table whose rows can be read back against their checksums.
// Balances are what the transfers make them: Verify adds them up.
var Summed = []store.Summed{{Table: "ledger_transfer", Columns: transferColumns, Sum: "checksum", Date: "date"}}

// Tallied is the table of which every row stays for ever: store.Tally counts
// them, so that one that is taken out is missed.
var Tallied = []store.Tallied{{Table: "ledger_transfer", Columns: transferColumns}}

// Ledger posts transfers and reads balances. Its methods may be called from any
// goroutine and any number of nodes.
type Ledger struct{ db *store.DB }

// New returns the ledger of a store that was opened with Schema.
func New(db *store.DB) *Ledger { return &Ledger{db} }

// Post books transfers, all or none. One whose key was booked before has no
// effect. It panics when legs do not balance.
func (l *Ledger) Post(ctx context.Context, transfers ...Transfer) error {
	fault.Hit("ledger.post.before")
	err := l.db.Write(ctx, func(tx store.Tx) error {
		_, err := PostTx(tx, transfers)
		return err
	})
	fault.Hit("ledger.post.after")
	return err
}

// batchSize is how many sales one transaction of PostSales takes: the one
// writer of SQLite also serves the terminals and must not be held long.
const batchSize = 256

// PostSales books sales, each exactly once however often it is called, in
// transactions of a few hundred. It returns how many were new. After an error
// the first ones may be booked; call it again with all of them.
func (l *Ledger) PostSales(ctx context.Context, sales []Clearing) (booked int, err error) {
	for part := range slices.Chunk(sales, batchSize) {
		transfers := make([]Transfer, 0, len(part))
		for i := range part {
			if t, any := part[i].Sale(); any {
				transfers = append(transfers, t)
			}
		}
		var n int
		if err := l.db.Write(ctx, func(tx store.Tx) (err error) {
			n, err = PostTx(tx, transfers)
			return err
		}); err != nil {
			return booked, err
		}
		booked += n
	}
	return booked, nil
}

// PostTx is Post inside a transaction of the caller, so that a transfer and
// what it stands for become durable together. It returns how many were new.
func PostTx(tx store.Tx, transfers []Transfer) (booked int, err error) {
	if len(transfers) == 0 {
		return 0, nil
	}
	rows := make([]row, len(transfers))
	for i := range transfers {
		t := &transfers[i]
		if err := t.bounded(); err != nil {
			return 0, err
		}
		t.check()
		rows[i] = row{t: t, id: store.NewID(), legs: encodeLegs(t.Legs)}
	}
	if err := insert(tx, rows); err != nil {
		return 0, fmt.Errorf("ledger: posting: %w", err)
	}
	if err := compareOld(tx, rows); err != nil {
		return 0, err
	}
	move := movement{}
	for i := range rows {
		if !rows[i].fresh {
			continue
		}
		booked++
		legs := rows[i].t.Legs
		if rows[i].t.Resolves != "" {
			if legs, err = pendingLegs(tx, rows[i].t); err != nil {
				return 0, err
			}
		}
		move.add(rows[i].t, legs)
	}
	return booked, move.apply(tx)
}

// row is a transfer on its way into the table.
type row struct {
	t     *Transfer
	id    int64
	legs  string
	fresh bool // inserted now, not known before
}

// args are the columns of ledger_transfer.
func (r *row) args(a *store.Args, created int64) *store.Args {
	a.Reset().Int(r.id).Text(r.t.Key).Text(string(r.t.Event)).Int(int64(r.t.Date)).Text(r.t.Ref).Int(int64(r.t.Kind))
	if r.t.Resolves == "" {
		a.Bytes(nil)
	} else {
		a.Text(r.t.Resolves)
	}
	return a.Text(r.legs).Int(created)
}

// insert writes the rows whose keys are new and marks them fresh.
func insert(tx store.Tx, rows []row) error {
	now := time.Now().UnixMicro()
	var a store.Args
	if !tx.Postgres() {
		for i := range rows {
			r := &rows[i]
			n, err := tx.ExecArgs("insert into ledger_transfer ("+transferColumns+", checksum) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) on conflict (key) do nothing",
				r.args(&a, now).Int(int64(a.Checksum())))
			if err != nil {
				return resolvedTwice(err, r.t)
			}
			r.fresh = n == 1
		}
		return nil
	}
	n := len(rows)
	ids, keys, events, dates, refs := make([]int64, n), make([]string, n), make([]string, n), make([]int32, n), make([]string, n)
	kinds, resolves, legs, checksums := make([]int16, n), make([]*string, n), make([]string, n), make([]int32, n)
	at := make(map[int64]int, n)
	for i := range rows {
		r := &rows[i]
		ids[i], keys[i], events[i], dates[i], refs[i] = r.id, r.t.Key, string(r.t.Event), int32(r.t.Date), r.t.Ref
		kinds[i], legs[i], checksums[i] = int16(r.t.Kind), r.legs, r.args(&a, now).Checksum()
		if r.t.Resolves != "" {
			resolves[i] = &r.t.Resolves
		}
		at[r.id] = i
	}
	out, err := tx.Query("insert into ledger_transfer ("+transferColumns+`, checksum)
		select u.id, u.key, u.event, u.date, u.ref, u.kind, u.resolves, u.legs, $9, u.checksum
		from unnest($1::bigint[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::smallint[], $7::text[], $8::text[], $10::integer[])
			as u(id, key, event, date, ref, kind, resolves, legs, checksum)
		on conflict (key) do nothing returning id`, ids, keys, events, dates, refs, kinds, resolves, legs, now, checksums)
	fresh, err := store.All(out, err, func(r *store.Rows, id *int64) error { return r.Scan(id) })
	if err != nil {
		return resolvedTwice(err, rows[0].t)
	}
	for _, id := range fresh {
		rows[at[id]].fresh = true
	}
	return nil
}

// resolvedTwice names the one unique key besides the transfer's own.
func resolvedTwice(err error, t *Transfer) error {
	if errors.Is(err, store.ErrDuplicate) {
		return fmt.Errorf("%w: %s of %q: it was ended before", ErrResolved, t.Event, t.Ref)
	}
	return err
}

// compareOld makes sure that keys known before stand for the same thing. The
// date may differ: a repetition after the cut-off is still a repetition.
func compareOld(tx store.Tx, rows []row) error {
	for i := range rows {
		r := &rows[i]
		if r.fresh {
			continue
		}
		var event Event
		var kind Kind
		var legs string
		var resolves *string
		if err := tx.QueryRow("select event, kind, legs, resolves from ledger_transfer where key = $1", r.t.Key).Scan(&event, &kind, &legs, &resolves); err != nil {
			return fmt.Errorf("ledger: reading transfer %q: %w", r.t.Key, err)
		}
		if event != r.t.Event || kind != r.t.Kind || legs != r.legs || (resolves == nil) != (r.t.Resolves == "") || resolves != nil && *resolves != r.t.Resolves {
			return fmt.Errorf("%w: %q is booked as %s %s %s, asked for %s %s %s", ErrConflict, r.t.Key, event, kind, legs, r.t.Event, r.t.Kind, r.legs)
		}
	}
	return nil
}

// pendingLegs are the legs that t gives back or makes real.
func pendingLegs(tx store.Tx, t *Transfer) ([]Leg, error) {
	var kind Kind
	var text string
	err := tx.QueryRow("select kind, legs from ledger_transfer where key = $1", t.Resolves).Scan(&kind, &text)
	if errors.Is(err, store.ErrNotFound) || err == nil && kind != Pending {
		return nil, fmt.Errorf("%w: %q", ErrResolved, t.Resolves)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: reading transfer %q: %w", t.Resolves, err)
	}
	return decodeLegs(text)
}

// LegsTx reads the legs of the transfer with a key; ErrNotFound of store when
// nothing was booked under it.
func LegsTx(tx store.Tx, key string) ([]Leg, error) {
	var text string
	if err := tx.QueryRow("select legs from ledger_transfer where key = $1", key).Scan(&text); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		return nil, fmt.Errorf("ledger: reading transfer %q: %w", key, err)
	}
	return decodeLegs(text)
}

// TransfersTx reads the transfers with some keys; those that nobody booked are
// not among them. Legs that cannot be read are left out: Verify names them.
func TransfersTx(tx store.Tx, keys []string) (map[string]Transfer, error) {
	out := make(map[string]Transfer, len(keys))
	for part := range slices.Chunk(keys, 1000) {
		is, args := "= any($1)", []any{part} // one statement, whatever the number
		if !tx.Postgres() {
			marks := make([]string, len(part))
			args = make([]any, len(part))
			for i, key := range part {
				args[i], marks[i] = key, "$"+strconv.Itoa(i+1)
			}
			is = "in (" + strings.Join(marks, ",") + ")"
		}
		rows, err := tx.Query("select key, event, date, ref, kind, coalesce(resolves, ''), legs from ledger_transfer where key "+is, args...)
		_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
			var t Transfer
			var text string
			if err := r.Scan(&t.Key, &t.Event, &t.Date, &t.Ref, &t.Kind, &t.Resolves, &text); err != nil {
				return err
			}
			t.Legs, _ = decodeLegs(text)
			out[t.Key] = t
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("ledger: reading %d transfers: %w", len(part), err)
		}
	}
	return out, nil
}

// KeysTx calls each with the key of every transfer, in no order.
func KeysTx(tx store.Tx, each func(key string)) error {
	rows, err := tx.Query("select key from ledger_transfer")
	if err != nil {
		return fmt.Errorf("ledger: reading keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return fmt.Errorf("ledger: reading keys: %w", err)
		}
		each(key)
	}
	return rows.Err()
}

// Balance is what stands on an account. Pending amounts are reserved, not moved.
type Balance struct {
	Debit, Credit, PendingDebit, PendingCredit money.Amount
}

// String is "debit 9952.00, credit 9640.00" and what is reserved, if anything is.
func (b Balance) String() string {
	s := fmt.Sprintf("debit %s, credit %s", b.Debit, b.Credit)
	if b.PendingDebit != 0 || b.PendingCredit != 0 {
		s += fmt.Sprintf(", reserved debit %s, credit %s", b.PendingDebit, b.PendingCredit)
	}
	return s
}

// Net is the balance on the account's normal side: what a credit-normal
// account owes, what a debit-normal one holds.
func (b Balance) Net(a Account) money.Amount {
	if a.Side() == Credit {
		return b.Credit - b.Debit
	}
	return b.Debit - b.Credit
}

// Available is Net less what pending transfers have reserved of it.
func (b Balance) Available(a Account) money.Amount {
	if a.Side() == Credit {
		return b.Credit - b.Debit - b.PendingDebit
	}
	return b.Debit - b.Credit - b.PendingCredit
}

func (b Balance) plus(o Balance) Balance {
	return Balance{b.Debit + o.Debit, b.Credit + o.Credit, b.PendingDebit + o.PendingDebit, b.PendingCredit + o.PendingCredit}
}

type place struct {
	account Account
	sub     string
}

func (p place) String() string {
	if p.sub == "" {
		return p.account.String()
	}
	return p.account.String() + " of " + p.sub
}

type dayPlace struct {
	date    calendar.Date
	account Account
}

// movement is what a set of transfers does to balances.
type movement struct {
	balances map[place]Balance
	days     map[dayPlace]Balance
	guarded  map[place]Event // places that a guarded event takes from
}

func (m *movement) add(t *Transfer, legs []Leg) {
	if m.balances == nil {
		m.balances, m.days, m.guarded = map[place]Balance{}, map[dayPlace]Balance{}, map[place]Event{}
	}
	for _, l := range legs {
		if l.Account == CostNetwork && fault.Planted("leg-dropped") {
			continue
		}
		var b Balance
		amount := &b.Debit
		switch {
		case t.Kind == Posted && l.Side == Credit:
			b.Credit = l.Amount
		case t.Kind == Posted:
			b.Debit = l.Amount
		default:
			if l.Side == Credit {
				amount = &b.Credit
			}
			reserved := &b.PendingDebit
			if l.Side == Credit {
				reserved = &b.PendingCredit
			}
			switch t.Kind {
			case Pending:
				*reserved = l.Amount
			case Posting:
				*reserved, *amount = -l.Amount, l.Amount
			default:
				*reserved = -l.Amount
			}
		}
		if at := (place{l.Account, l.Sub}); l.Sub != "" {
			m.balances[at] = m.balances[at].plus(b)
		}
		control := place{l.Account, ""}
		m.balances[control] = m.balances[control].plus(b)
		if b.Debit != 0 || b.Credit != 0 {
			day := dayPlace{t.Date, l.Account}
			m.days[day] = m.days[day].plus(b)
		}
		takes := l.Side != l.Account.Side() && (t.Kind == Posted || t.Kind == Pending)
		if takes && chart[l.Account].floor && !t.Event.overdraws() {
			m.guarded[place{l.Account, l.Sub}] = t.Event
		}
	}
}

// apply writes the movement, always in the same order of rows so that two
// writers wait for each other instead of locking each other out, and then
// looks whether an account that must not be is overdrawn.
func (m *movement) apply(tx store.Tx) error {
	places := make([]place, 0, len(m.balances))
	for p := range m.balances {
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.sub, b.sub), cmp.Compare(a.account, b.account))
	})
	// The control rows sort first and would be held longest; they go last.
	controls := 0
	for controls < len(places) && places[controls].sub == "" {
		controls++
	}
	places = append(places[controls:], places[:controls]...)
	if err := m.applyBalances(tx, places); err != nil {
		return fmt.Errorf("ledger: moving balances: %w", err)
	}
	if err := m.applyDays(tx); err != nil {
		return fmt.Errorf("ledger: moving the day's balances: %w", err)
	}
	for p, event := range m.guarded {
		b, err := balanceTx(tx, p.account, p.sub)
		if err != nil {
			return err
		}
		if have := b.Available(p.account); have < 0 {
			return fmt.Errorf("%w: %s leaves %s %s at %s", ErrInsufficient, event, p.account, p.sub, have)
		}
	}
	return nil
}

func (m *movement) applyBalances(tx store.Tx, places []place) error {
	const set = ` on conflict (account, sub) do update set debit = ledger_balance.debit + excluded.debit,
		credit = ledger_balance.credit + excluded.credit, pending_debit = ledger_balance.pending_debit + excluded.pending_debit,
		pending_credit = ledger_balance.pending_credit + excluded.pending_credit`
	if !tx.Postgres() {
		for _, p := range places {
			b := m.balances[p]
			if _, err := tx.Exec("insert into ledger_balance (account, sub, debit, credit, pending_debit, pending_credit) values ($1,$2,$3,$4,$5,$6)"+set,
				p.account, p.sub, b.Debit, b.Credit, b.PendingDebit, b.PendingCredit); err != nil {
				return err
			}
		}
		return nil
	}
	n := len(places)
	accounts, subs := make([]int32, n), make([]string, n)
	var cols [4][]int64
	for i := range cols {
		cols[i] = make([]int64, n)
	}
	for i, p := range places {
		b := m.balances[p]
		accounts[i], subs[i] = int32(p.account), p.sub
		cols[0][i], cols[1][i], cols[2][i], cols[3][i] = int64(b.Debit), int64(b.Credit), int64(b.PendingDebit), int64(b.PendingCredit)
	}
	_, err := tx.Exec(`insert into ledger_balance (account, sub, debit, credit, pending_debit, pending_credit)
		select * from unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])`+set,
		accounts, subs, cols[0], cols[1], cols[2], cols[3])
	return err
}

func (m *movement) applyDays(tx store.Tx) error {
	days := make([]dayPlace, 0, len(m.days))
	for d := range m.days {
		days = append(days, d)
	}
	slices.SortFunc(days, func(a, b dayPlace) int {
		return cmp.Or(cmp.Compare(a.date, b.date), cmp.Compare(a.account, b.account))
	})
	for _, d := range days {
		b := m.days[d]
		if _, err := tx.Exec(`insert into ledger_day (date, account, debit, credit) values ($1,$2,$3,$4)
			on conflict (date, account) do update set debit = ledger_day.debit + excluded.debit, credit = ledger_day.credit + excluded.credit`,
			d.date, d.account, b.Debit, b.Credit); err != nil {
			return err
		}
	}
	return nil
}

func balanceTx(tx store.Tx, a Account, sub string) (b Balance, err error) {
	err = tx.QueryRow("select debit, credit, pending_debit, pending_credit from ledger_balance where account = $1 and sub = $2", a, sub).
		Scan(&b.Debit, &b.Credit, &b.PendingDebit, &b.PendingCredit)
	if errors.Is(err, store.ErrNotFound) {
		return Balance{}, nil
	}
	if err != nil {
		return Balance{}, fmt.Errorf("ledger: reading account %s %s: %w", a, sub, err)
	}
	return b, nil
}

// BalanceTx reads an account, or one of its sub-accounts, inside a transaction.
func BalanceTx(tx store.Tx, a Account, sub string) (Balance, error) { return balanceTx(tx, a, sub) }

// Balance reads an account, or one of its sub-accounts. An account nothing was
// ever booked on is zero.
func (l *Ledger) Balance(ctx context.Context, a Account, sub string) (b Balance, err error) {
	err = l.db.Read(ctx, func(tx store.Tx) (err error) {
		b, err = balanceTx(tx, a, sub)
		return err
	})
	return b, err
}

// Line is an account of a trial balance.
type Line struct {
	Account Account
	Balance Balance
}

// TrialBalance reads every account that was ever used, by code. With a date it
// is the state at the end of that business date, without pending amounts.
func (l *Ledger) TrialBalance(ctx context.Context, at calendar.Date) (lines []Line, err error) {
	err = l.db.Read(ctx, func(tx store.Tx) (err error) {
		var rows *store.Rows
		if at == 0 {
			rows, err = tx.Query("select account, debit, credit, pending_debit, pending_credit from ledger_balance where sub = '' order by account")
		} else {
			rows, err = tx.Query(`select account, cast(sum(debit) as BIGINT), cast(sum(credit) as BIGINT), 0, 0
				from ledger_day where date <= $1 group by account order by account`, at)
		}
		lines, err = store.All(rows, err, func(r *store.Rows, l *Line) error {
			return r.Scan(&l.Account, &l.Balance.Debit, &l.Balance.Credit, &l.Balance.PendingDebit, &l.Balance.PendingCredit)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: trial balance: %w", err)
	}
	return lines, nil
}

// DayIncome is what a business date earned and cost, from its movements. What
// daily closes carried away on it belongs to other days and is left out.
func (l *Ledger) DayIncome(ctx context.Context, date calendar.Date) (i Income, err error) {
	err = l.db.Read(ctx, func(tx store.Tx) error {
		i, err = DayIncomeTx(tx, date)
		return err
	})
	return i, err
}

// DayIncomeTx is DayIncome inside a transaction.
func DayIncomeTx(tx store.Tx, date calendar.Date) (i Income, err error) {
	rows, err := tx.Query("select account, debit, credit from ledger_day where date = $1", date)
	lines, err := store.All(rows, err, func(r *store.Rows, l *Line) error { return r.Scan(&l.Account, &l.Balance.Debit, &l.Balance.Credit) })
	if err != nil {
		return Income{}, fmt.Errorf("ledger: income of %s: %w", date, err)
	}
	for _, line := range lines {
		if sum := i.of(line.Account); sum != nil {
			*sum = line.Balance.Net(line.Account)
		}
	}
	rows, err = tx.Query("select legs from ledger_transfer where event = 'DAILY_CLOSE' and date = $1", date)
	closes, err := store.All(rows, err, func(r *store.Rows, text *string) error { return r.Scan(text) })
	if err != nil {
		return Income{}, fmt.Errorf("ledger: daily closes of %s: %w", date, err)
	}
	for _, text := range closes {
		carried, err := decodeLegs(text)
		if err != nil {
			return Income{}, err
		}
		for _, leg := range carried {
			sum := i.of(leg.Account)
			switch {
			case sum == nil:
			case leg.Side == leg.Account.Side():
				*sum -= leg.Amount
			default:
				*sum += leg.Amount
			}
		}
	}
	return i, nil
}

// SurplusTx is by how much the merchants' bank account and what networks and
// wallets owe it are more than what it owes merchants; below zero what is
// missing.
func SurplusTx(tx store.Tx) (money.Amount, error) {
	all, err := readSums(tx)
	if err != nil {
		return 0, fmt.Errorf("ledger: what is safeguarded: %w", err)
	}
	var surplus money.Amount
	for a, s := range all {
		switch held, owed := a.safeguards(); {
		case held:
			surplus += s.control.Net(a)
		case owed:
			surplus -= s.control.Net(a)
		}
	}
	return surplus, nil
}

// FreeTx is SurplusTx without what merchants owe: by how much the merchants' bank
// account and what networks and wallets owe it are more than what is owed to each
// merchant. The debt of one pays nobody else.
func FreeTx(tx store.Tx) (money.Amount, error) {
	surplus, err := SurplusTx(tx)
	if err != nil {
		return 0, err
	}
	var debts money.Amount
	if err := tx.QueryRow("select cast(coalesce(sum(debit - credit), 0) as BIGINT) from ledger_balance where account = $1 and sub <> '' and debit > credit", MerchantPayable).Scan(&debts); err != nil {
		return 0, fmt.Errorf("ledger: what merchants owe: %w", err)
	}
	return surplus - debts, nil
}
