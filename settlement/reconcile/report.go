package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// Came is a file that was loaded.
type Came struct {
	Source   string        `json:"source"`
	Date     calendar.Date `json:"date"`
	Name     string        `json:"name"`
	SHA      string        `json:"sha256"`
	Lines    int64         `json:"lines"`
	Matched  int64         `json:"matched"`
	Amount   money.Amount  `json:"amount"`
	Fees     money.Amount  `json:"fees"`
	Net      money.Amount  `json:"net"`
	Compared bool          `json:"compared"`
	Loaded   time.Time     `json:"loaded"`
}

// Day is what the comparison of a business date came to.
type Day struct {
	Date     calendar.Date `json:"date"`
	Compared time.Time     `json:"compared,omitzero"`
	Missing  []string      `json:"missing,omitempty"` // sources whose files have not come
	Files    []Came        `json:"files"`
	Ours     int64         `json:"ours"`    // lines of ours that were to be found
	Theirs   int64         `json:"theirs"`  // lines of all files
	Matched  int64         `json:"matched"` // of ours
	Kinds    map[Kind]int  `json:"kinds"`   // breaks of the day by kind
	Breaks   int           `json:"breaks"`
	Waiting  int           `json:"waiting"`
	Open     int           `json:"open"`
	OpenSum  money.Amount  `json:"open_sum"`                    // of what is not resolved, whatever its sign
	Reopened int           `json:"open_since_signed,omitempty"` // Open, when both have signed: none was then
	Maker    string        `json:"maker,omitempty"`
	Checker  string        `json:"checker,omitempty"`
	// Earned is what became of the day's income, once both have signed.
	Earned *settlement.Earned `json:"earned,omitempty"`
	List   []Break            `json:"differences"` // the first ListLimit
}

// ListLimit bounds the breaks that a Day lists one by one.
const ListLimit = 1000

// Day reads back how a business date stands.
func (e *Engine) Day(ctx context.Context, date calendar.Date) (d Day, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		d = Day{Date: date, Kinds: map[Kind]int{}}
		if d.Missing, err = e.missing(tx, date); err != nil {
			return err
		}
		var compared int64
		err = tx.QueryRow("select compared, ours, theirs, matched, maker, checker from recon_day where date = $1", date).Scan(&compared, &d.Ours, &d.Theirs, &d.Matched, &d.Maker, &d.Checker)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if compared != 0 {
			d.Compared = time.UnixMicro(compared)
		}
		switch earned, err := settlement.EarnedTx(tx, date); {
		case err == nil:
			d.Earned = &earned
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		rows, err := tx.Query(`select f.source, f.date, f.name, f.sha, f.lines, (select count(*) from recon_line l where l.file = f.id and l.state = 2), f.amount, f.fees, f.net, f.state, f.loaded
			from recon_file f where f.date = $1 and f.state > $2 order by f.source, f.part`, date, fileLoading)
		d.Files, err = store.All(rows, err, func(r *store.Rows, c *Came) error {
			var state, loaded int64
			err := r.Scan(&c.Source, &c.Date, &c.Name, &c.SHA, &c.Lines, &c.Matched, &c.Amount, &c.Fees, &c.Net, &state, &loaded)
			c.Compared, c.Loaded = state == fileCompared, time.UnixMicro(loaded)
			return err
		})
		if err != nil {
			return err
		}
		rows, err = tx.Query(`select kind, state, count(*), cast(coalesce(sum(abs(theirs - their_fee - ours + our_fee)), 0) as BIGINT) from recon_break where date = $1 group by kind, state`, date)
		type group struct {
			kind  Kind
			state State
			n     int
			sum   money.Amount
		}
		groups, err := store.All(rows, err, func(r *store.Rows, g *group) error { return r.Scan(&g.kind, &g.state, &g.n, &g.sum) })
		for _, g := range groups {
			d.Kinds[g.kind] += g.n
			d.Breaks += g.n
			switch g.state {
			case Waiting:
				d.Waiting += g.n
			case Open:
				d.Open += g.n
			}
			if g.state != Resolved {
				d.OpenSum += g.sum
			}
		}
		if d.Checker != "" {
			d.Reopened = d.Open
		}
		return err
	})
	if err != nil {
		return Day{}, fmt.Errorf("reconcile: reading %s: %w", date, err)
	}
	d.List, err = e.Breaks(ctx, Query{Date: date, Limit: ListLimit})
	return d, err
}

// Query selects breaks; zero fields select all.
type Query struct {
	Date  calendar.Date
	State State
	Kind  Kind
	After int64 // id of the last one of the page before
	Limit int   // default 100
}

// Breaks lists breaks in the order in which they were found.
func (e *Engine) Breaks(ctx context.Context, q Query) (all []Break, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+breakColumns+` from recon_break where id > $1 and (date = $2 or $2 = 0) and (state = $3 or $3 = 0) and (kind = $4 or $4 = '')
			order by id limit $5`, q.After, q.Date, int(q.State), string(q.Kind), q.Limit)
		all, err = store.All(rows, err, scanBreak)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reconcile: listing breaks: %w", err)
	}
	return all, nil
}

// Break reads one; store.ErrNotFound when there is none.
func (e *Engine) Break(ctx context.Context, id int64) (b Break, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select "+breakColumns+" from recon_break where id = $1", id)
		all, err := store.All(rows, err, scanBreak)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return store.ErrNotFound
		}
		b = all[0]
		return nil
	})
	if err != nil {
		return Break{}, fmt.Errorf("reconcile: break %d: %w", id, err)
	}
	return b, nil
}

// Standing counts what is not resolved, by kind and state.
func (e *Engine) Standing(ctx context.Context) (counts map[Kind]map[State]int, err error) {
	counts = map[Kind]map[State]int{}
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select kind, state, count(*) from recon_break where state < 3 group by kind, state")
		type group struct {
			kind  Kind
			state State
			n     int
		}
		groups, err := store.All(rows, err, func(r *store.Rows, g *group) error { return r.Scan(&g.kind, &g.state, &g.n) })
		for _, g := range groups {
			if counts[g.kind] == nil {
				counts[g.kind] = map[State]int{}
			}
			counts[g.kind][g.state] = g.n
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reconcile: counting breaks: %w", err)
	}
	return counts, nil
}

// Days lists up to limit compared days, the newest first, without their breaks
// one by one.
func (e *Engine) Days(ctx context.Context, limit int) (days []Day, err error) {
	var dates []calendar.Date
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select date from recon_day order by date desc limit $1", limit)
		dates, err = store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reconcile: listing days: %w", err)
	}
	for _, date := range dates {
		d, err := e.Day(ctx, date)
		if err != nil {
			return nil, err
		}
		d.List = nil
		days = append(days, d)
	}
	return days, nil
}

// Unsigned lists up to limit compared days of which no break is open and that two
// people have not signed, the oldest first, with who signed first.
func (e *Engine) Unsigned(ctx context.Context, limit int) (days []Unsigned, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select date, compared, maker, made from recon_day d where checker = ''
			and not exists (select 1 from recon_break b where b.date = d.date and b.state = $1) order by date limit $2`, int(Open), limit)
		days, err = store.All(rows, err, func(r *store.Rows, d *Unsigned) error {
			var compared, made int64
			err := r.Scan(&d.Date, &compared, &d.By, &made)
			d.Compared, d.At = store.Instant(compared), store.Instant(made)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reconcile: listing what is not signed: %w", err)
	}
	return days, nil
}

// Unsigned is a compared day that waits for a signature: its first, or with By the
// second.
type Unsigned struct {
	audit.Ask
	Date     calendar.Date
	Compared time.Time // the last time
}

// Due lists the dates that are over and have all their files, one of which was
// not compared yet, or that are not closed and have a matched sale that was
// reversed since, the oldest first.
func (e *Engine) Due(ctx context.Context, now time.Time) (dates []calendar.Date, err error) {
	open, err := e.cfg.Books.OpenDate(ctx)
	if err != nil {
		return nil, err
	}
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select distinct date from recon_file where state = $1
			union select date from recon_day where date >= $2 order by date`, fileLoaded, open)
		loaded, err := store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
		if err != nil {
			return err
		}
		dates = nil
		for _, d := range loaded {
			missing, err := e.missing(tx, d)
			if err != nil {
				return err
			}
			news, err := e.news(tx, d)
			if err != nil {
				return err
			}
			if len(missing) == 0 && news {
				dates = append(dates, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reconcile: looking for days to compare: %w", err)
	}
	var over []calendar.Date
	for _, d := range dates {
		err := e.cfg.Books.Whole(ctx, d, now)
		switch {
		case err == nil:
			over = append(over, d)
		case !errors.Is(err, settlement.ErrEarly) && !errors.Is(err, settlement.ErrUndecided):
			return nil, err
		}
	}
	return over, nil
}

// news reports whether a date has something to compare.
func (e *Engine) news(tx store.Tx, date calendar.Date) (bool, error) {
	var files int
	if err := tx.QueryRow("select count(*) from recon_file where date = $1 and state = $2", date, fileLoaded).Scan(&files); err != nil || files > 0 {
		return true, err
	}
	taken, err := e.takenSince(tx, date, date)
	return len(taken) > 0, err
}
