package journal

import (
	"context"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
)

// Get reads one transaction; store.ErrNotFound when there is none.
func (j *Journal) Get(ctx context.Context, id int64) (*Entry, error) {
	return j.one(ctx, entryByID, id)
}

// Find reads the transaction with the key; store.ErrNotFound when there is
// none.
func (j *Journal) Find(ctx context.Context, k Key) (*Entry, error) {
	return j.one(ctx, entryByKey, k.Day, k.Terminal, k.Batch, k.STAN, k.Kind)
}

func (j *Journal) one(ctx context.Context, sql string, args ...any) (e *Entry, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		e, err = entry(tx, sql, args...)
		if err == nil && e == nil {
			err = store.ErrNotFound
		}
		return err
	})
	return e, err
}

func (j *Journal) many(ctx context.Context, sql string, args ...any) (all []*Entry, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(sql, args...)
		if err != nil {
			return err
		}
		all, err = scanEntries(rows)
		return err
	})
	return all, err
}

// Last reads the n transactions opened last, the newest first.
func (j *Journal) Last(ctx context.Context, n int) ([]*Entry, error) {
	return j.many(ctx, entries+"order by t.id desc limit $1", n)
}

// LastBefore reads the n transactions opened before the one with the given
// id, the newest first: the next page of Last.
func (j *Journal) LastBefore(ctx context.Context, id int64, n int) ([]*Entry, error) {
	return j.many(ctx, entries+"where t.id < $1 order by t.id desc limit $2", id, n)
}

// ByRRN reads the transactions with a reference number (DE 37) that were
// opened between from and to. The span is walked: RRN has no index, since one
// more costs every transaction 15 % of its write.
func (j *Journal) ByRRN(ctx context.Context, rrn string, from, to time.Time) ([]*Entry, error) {
	return j.many(ctx, entries+"where t.id >= $1 and t.id < $2 and t.rrn = $3 order by t.id", store.IDAt(from), store.IDAt(to), rrn)
}

// ByIssuerTrace reads the transactions that went out under a trace number (DE 11
// towards the issuer) and were opened between from and to. The span is walked,
// as ByRRN does.
func (j *Journal) ByIssuerTrace(ctx context.Context, trace int32, from, to time.Time) ([]*Entry, error) {
	return j.many(ctx, entries+"where t.id >= $1 and t.id < $2 and t.trace = $3 order by t.id", store.IDAt(from), store.IDAt(to), trace)
}

// OfTerminal reads a terminal's transactions of a business date and batch, in
// the order they were opened.
func (j *Journal) OfTerminal(ctx context.Context, day calendar.Date, terminal string, batch int32) ([]*Entry, error) {
	return j.many(ctx, entries+"where t.day = $1 and t.terminal = $2 and t.batch = $3 order by t.id", day, terminal, batch)
}

// ByTrace reads what a terminal did on a business date under a batch and trace
// number, whatever kind it was.
func (j *Journal) ByTrace(ctx context.Context, day calendar.Date, terminal string, batch, stan int32) ([]*Entry, error) {
	return j.many(ctx, entries+"where t.day = $1 and t.terminal = $2 and t.batch = $3 and t.stan = $4 order by t.kind", day, terminal, batch, stan)
}

// Clearing is one fact for the ledger: a transaction was approved, or a
// transaction that had been approved was taken back. Those that move no money
// are among them, since the cursor must pass them.
type Clearing struct {
	ID    int64 // cursor: the place in the order of closing
	Taken bool  // false approved, true taken back
	At    time.Time
	On    calendar.Date // business date that was open then; 0 when it is not known

	Txn      int64 // the transaction's id
	Day      calendar.Date
	RRN      string
	Merchant string
	Terminal string
	Issuer   string
	Channel  Channel
	Kind     Kind
	Entry    int32 // DE 22
	Amount   money.Amount

	Original     int64 // the transaction it follows, 0 for none, and that one's
	OriginalKind Kind
	OriginalDay  calendar.Date
	OriginalSum  money.Amount
}

// ClearingOverlap is how long a write may take from giving an id to being
// seen. On PostgreSQL, where several writers commit side by side, a follower
// of ClearingSince starts each call that much before its last cursor (see
// ClearingFrom) and meets some facts twice; its own unique keys make that
// harmless. On SQLite one writer commits in the order of the ids.
const ClearingOverlap = 20 * time.Second

// ClearingFrom is where to ask ClearingSince again after reaching cursor. It
// goes by the cursor and not by the clock: what was not to be seen when the
// cursor was read may be old by the time somebody reads on.
func (j *Journal) ClearingFrom(cursor int64) int64 {
	if !j.db.Postgres() {
		return cursor
	}
	return store.IDAt(store.IDTime(cursor).Add(-ClearingOverlap))
}

// clearingSince finds the facts in the order of their ids first and then the
// rest of each.
const clearingSince = `select f.id, f.taken, f.at, t.id, t.day, t.rrn, t.merchant, t.terminal, t.issuer, t.channel, t.kind, t.entry, case when f.part <> 0 then f.part else t.amount end,
	t.original, coalesce(p.kind, 0), coalesce(p.day, 0), coalesce(p.amount, 0),
	case when f.taken = 0 then t.day else coalesce((select max(c.date) from cut_over c where c.id < f.id and c.dates = case when t.channel = 3 then 2 else 1 end), 0) end from (
	select id, 0 as taken, txn, closed as at, part from outcome where id > $1 and reason = 1
	union all
	select w.id, 1 as taken, w.txn, w.created as at, o.part from owed w join outcome o on o.txn = w.txn where w.id > $1 and w.approved = 1
	order by 1 limit $2
) f join txn t on t.id = f.txn left join txn p on p.id = t.original order by f.id`

// ClearingSince reads up to n facts after cursor, in the order of closing.
// Transactions that were never approved are not among them, however they
// ended.
func (j *Journal) ClearingSince(ctx context.Context, cursor int64, n int) ([]Clearing, error) {
	var all []Clearing
	err := j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(clearingSince, cursor, n)
		all, err = store.All(rows, err, func(r *store.Rows, c *Clearing) error {
			var at int64
			err := r.Scan(&c.ID, &c.Taken, &at, &c.Txn, &c.Day, &c.RRN, &c.Merchant, &c.Terminal, &c.Issuer, &c.Channel, &c.Kind, &c.Entry, &c.Amount,
				&c.Original, &c.OriginalKind, &c.OriginalDay, &c.OriginalSum, &c.On)
			c.At = store.Instant(at)
			return err
		})
		return err
	})
	return all, err
}

// Total counts and sums the transactions of a day that ended the same way.
type Total struct {
	Terminal string // set by TotalsByTerminal
	Merchant string // set by TotalsByTerminal
	Issuer   string // set by TotalsByIssuer
	Kind     Kind
	Channel  Channel
	State    State
	Count    int64
	Sum      money.Amount
}

const stateColumn = `case when w.id is not null and w.why <> 'delivery' then w.state when o.id is null then 1 when o.reason = 1 then 2 else 3 end`

// TotalsByIssuer sums a business date by issuer, kind, channel and state.
func (j *Journal) TotalsByIssuer(ctx context.Context, day calendar.Date) ([]Total, error) {
	return j.totals(ctx, day, "t.issuer as issuer, '' as terminal, '' as merchant")
}

// TotalsByTerminal sums a business date by terminal, kind, channel and state.
func (j *Journal) TotalsByTerminal(ctx context.Context, day calendar.Date) ([]Total, error) {
	return j.totals(ctx, day, "'' as issuer, t.terminal as terminal, t.merchant as merchant")
}

func (j *Journal) totals(ctx context.Context, day calendar.Date, by string) (all []Total, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select issuer, terminal, merchant, kind, channel, state, count(*), cast(sum(amount) as BIGINT) from (
			select `+by+`, t.kind as kind, t.channel as channel, `+stateColumn+` as state, case when o.part is not null and o.part <> 0 then o.part else t.amount end as amount
			from txn t left join outcome o on o.txn = t.id left join owed w on w.txn = t.id where t.day = $1
		) x group by issuer, terminal, merchant, kind, channel, state order by issuer, terminal, merchant, kind, channel, state`, day)
		all, err = store.All(rows, err, func(r *store.Rows, t *Total) error {
			return r.Scan(&t.Issuer, &t.Terminal, &t.Merchant, &t.Kind, &t.Channel, &t.State, &t.Count, &t.Sum)
		})
		return err
	})
	return all, err
}

const spentOn = `select t.id, t.terminal, t.merchant, t.channel, t.amount, t.token from txn t
	left join outcome o on o.txn = t.id left join owed w on w.txn = t.id
	where t.id >= $1 and t.spent_on = $2 and (w.id is null or w.why = 'delivery') and (o.id is null or o.reason = 1)
	and not exists (select 1 from txn v join outcome vo on vo.txn = v.id left join owed vw on vw.txn = v.id
		where v.original = t.id and v.original <> 0 and v.kind in (2, 5, 7) and vo.reason = 1 and (vw.id is null or vw.why = 'delivery'))`

// SpentOn calls each with every transaction that still holds quota of the
// given Beijing day: open or approved, not taken back and not voided. It is what limits
// kept in memory are rebuilt from. The transactions hold what the limits
// need: key, merchant, channel, amount, card token.
func (j *Journal) SpentOn(tx store.Tx, day calendar.Date, each func(*Transaction)) error {
	// Ids sort by time; the slack covers a clock that is set at midnight.
	from := store.IDAt(day.Time().Add(-5 * time.Minute))
	rows, err := tx.Query(spentOn, from, day)
	if err != nil {
		return err
	}
	defer rows.Close()
	t := Transaction{SpentOn: day}
	for rows.Next() {
		if err := rows.Scan(&t.ID, &t.Terminal, &t.Merchant, &t.Channel, &t.Amount, &t.PANToken); err != nil {
			return err
		}
		each(&t)
	}
	return rows.Err()
}

// IDOf is the transaction's id that a reference number (DE 37) of this house
// spells: twelve digits of base 36. False when it is none of ours.
func IDOf(rrn string) (int64, bool) {
	if len(rrn) != 12 || strings.Trim(rrn, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return 0, false
	}
	id, err := strconv.ParseInt(rrn, 36, 64)
	return id, err == nil && id > 0
}
