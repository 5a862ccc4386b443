package journal

import (
	"context"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// The business date is state, not a clock: whichever node first writes a
// transaction behind the cut-off moves the date, in that very write, and the
// row that says so has its place in the journal's order. From then on every
// node opens on the new date, whatever its clock says, and nothing is opened on
// the old one any more. Cards and wallets have a date each, since their
// cut-offs differ.

// Dates is one of the two business dates.
type Dates uint8

// Cards end at 23:00, wallets at midnight, unless they are configured otherwise.
const (
	CardDates   Dates = 1
	WalletDates Dates = 2
)

// DatesOf is the date that transactions of a channel are opened on.
func DatesOf(c Channel) Dates {
	if c == QR {
		return WalletDates
	}
	return CardDates
}

// CutOver is one step of a business date.
type CutOver struct {
	ID    int64 // its place in the journal's order
	Dates Dates
	Date  calendar.Date // open from here on
	Node  int32         // that moved it
	At    time.Time
}

// OnOpenDate opens on the business date that is open: t.Day is what the
// caller's clock says, which moves the date on when it is the later one. After
// Open t.Day says which it was. A repeat is then looked for on t.Day as it was
// too.
func OnOpenDate() OpenOption { return func(o *op) { o.dated = true } }

// OpenDate is the business date that is open as far as this node has seen; 0
// before anything was opened.
func (j *Journal) OpenDate(d Dates) calendar.Date { return calendar.Date(j.dates[d].Load()) }

// date gives the opens of a batch their business date.
func (j *Journal) date(tx store.Tx, opens []*op) error {
	var asked [WalletDates + 1]calendar.Date
	dated := false
	for _, o := range opens {
		if o.dated {
			d := DatesOf(o.txn.Channel)
			asked[d] = max(asked[d], o.asked)
			dated = true
		}
	}
	if !dated {
		return nil
	}
	for d := CardDates; d <= WalletDates; d++ {
		if asked[d] > j.OpenDate(d) {
			if err := cutOver(tx, d, asked[d]); err != nil {
				return err
			}
		}
	}
	open, err := openDates(tx)
	if err != nil {
		return err
	}
	for _, o := range opens {
		if !o.dated {
			continue
		}
		if o.txn.Day = max(o.asked, open[DatesOf(o.txn.Channel)]); o.txn.Day != o.asked && o.also == 0 {
			o.also = o.asked
		}
	}
	j.saw(tx, open)
	return nil
}

// saw remembers the open dates when the transaction is durable.
func (j *Journal) saw(tx store.Tx, open [WalletDates + 1]calendar.Date) {
	if open[CardDates] == j.OpenDate(CardDates) && open[WalletDates] == j.OpenDate(WalletDates) {
		return
	}
	tx.After(func(fate error) {
		if fate != nil {
			return
		}
		for d := CardDates; d <= WalletDates; d++ {
			for {
				old := j.dates[d].Load()
				if old >= int32(open[d]) || j.dates[d].CompareAndSwap(old, int32(open[d])) {
					break
				}
			}
		}
	})
}

// openDates reads both dates and, on PostgreSQL, keeps them from moving until
// the transaction ends: what was opened on a date is there before its close
// begins.
func openDates(tx store.Tx) (open [WalletDates + 1]calendar.Date, err error) {
	sql := "select dates, date from business_date order by dates"
	if tx.Postgres() {
		sql += " for share"
	}
	rows, err := tx.Query(sql)
	_, err = store.All(rows, err, func(r *store.Rows, _ *struct{}) error {
		var d Dates
		var date calendar.Date
		if err := r.Scan(&d, &date); err != nil {
			return err
		}
		if d != CardDates && d != WalletDates {
			return fmt.Errorf("journal: business_date has a row %d", d)
		}
		open[d] = date
		return nil
	})
	return open, err
}

// cutOver moves a date on, unless it is there already.
func cutOver(tx store.Tx, d Dates, date calendar.Date) error {
	n, err := tx.Exec("update business_date set date = $1 where dates = $2 and date < $1", date, d)
	if err != nil || n == 0 {
		return err
	}
	_, err = tx.Exec("insert into cut_over (id, dates, date, node, at) values ($1,$2,$3,$4,$5)", store.NewID(), d, date, store.Node(), time.Now().UnixMicro())
	return err
}

// Began is the first business date that anything was opened on; 0 before.
func (j *Journal) Began(ctx context.Context) (date calendar.Date, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(`select coalesce(min(d), 0) from (select min(date) as d from cut_over where date > 0
			union all select min(day) from txn where day > 0) began`).Scan(&date)
	})
	if err != nil {
		return 0, fmt.Errorf("journal: reading the first business date: %w", err)
	}
	return date, nil
}

// LatestDate is the later one of the business dates of cards and wallets that are
// open in a store, whatever a clock says; 0 before anything was opened.
func LatestDate(ctx context.Context, db *store.DB) (date calendar.Date, err error) {
	err = db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select coalesce(max(date), 0) from business_date").Scan(&date)
	})
	if err != nil {
		return 0, fmt.Errorf("journal: reading the open business date: %w", err)
	}
	return date, nil
}

// CutOver opens a business date for cards and wallets, unless it or a later one
// is open: nothing is opened on an earlier one any more.
func (j *Journal) CutOver(ctx context.Context, date calendar.Date) error {
	fault.Hit("journal.cut_over.before")
	err := j.db.Write(ctx, func(tx store.Tx) error {
		for d := CardDates; d <= WalletDates; d++ {
			if err := cutOver(tx, d, date); err != nil {
				return err
			}
		}
		open, err := openDates(tx)
		if err == nil {
			j.saw(tx, open)
		}
		return err
	})
	fault.Hit("journal.cut_over.after")
	if err != nil {
		return fmt.Errorf("journal: opening business date %s: %w", date, err)
	}
	return nil
}

// CutOvers lists the newest steps of the business dates, the last first.
func (j *Journal) CutOvers(ctx context.Context, limit int) (all []CutOver, err error) {
	err = j.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select id, dates, date, node, at from cut_over order by id desc limit $1", limit)
		all, err = store.All(rows, err, func(r *store.Rows, c *CutOver) error {
			var at int64
			err := r.Scan(&c.ID, &c.Dates, &c.Date, &c.Node, &at)
			c.At = store.Instant(at)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("journal: listing the cut-overs: %w", err)
	}
	return all, nil
}
