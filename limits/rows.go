package limits

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// Schema is the counters that several nodes share, and what cards had of
// stand-in. On SQLite limit_used stays empty.
var Schema = store.Schema{Name: "limits", Steps: []string{`
create table limit_used (
	day INTEGER not null,
	scope INTEGER not null,
	channel INTEGER not null,
	subject BYTEA not null,
	count BIGINT not null,
	amount BIGINT not null,
	primary key (day, scope, channel, subject)
)`, `
create table limit_stand_in (      -- what the house approved for issuers that could not be told
	day INTEGER not null,          -- Beijing calendar day
	card BYTEA not null,           -- token of the account number
	count BIGINT not null,
	amount BIGINT not null,        -- fen
	primary key (day, card)
)`}}

// forgetPage is how many counters one transaction of Forget deletes.
const forgetPage = 5000

// Forget deletes the shared counters of days before the given one, a page at
// a time so that nobody waits for it, and returns how many they were. What
// was sold then can still be given back: nothing counts it any more. Call it
// once a day.
func (l *Limits) Forget(ctx context.Context, db *store.DB, before calendar.Date) (int64, error) {
	var all int64
	for {
		var n int64
		fault.Hit("limits.forget.before")
		err := db.Write(ctx, func(tx store.Tx) (err error) {
			if _, err := tx.Exec("delete from limit_stand_in where day < $1", before); err != nil {
				return err
			}
			n, err = tx.Exec(`delete from limit_used where (day, scope, channel, subject) in
				(select day, scope, channel, subject from limit_used where day < $1 order by day limit $2)`, before, forgetPage)
			return err
		})
		fault.Hit("limits.forget.after")
		if err != nil {
			return all, fmt.Errorf("limits: forgetting the days before %v: %w", before, err)
		}
		if all += n; n < forgetPage {
			return all, nil
		}
	}
}

// add moves counters by the given sums, all at once, and returns what they
// held before. Their rows are locked in the order of their keys, so that
// writers never wait for each other in a circle. A counter that was
// introduced after a spend was made has nothing to give back: it stops at
// zero.
const add = `update limit_used u set count = greatest(0, u.count + s.n), amount = greatest(0, u.amount + s.a)
	from (select l.day, l.scope, l.channel, l.subject, l.count, l.amount, k.n, k.a from limit_used l
		join unnest($1::int[], $2::int[], $3::int[], $4::bytea[], $5::bigint[], $6::bigint[]) as k(d, s, c, j, n, a)
		on l.day = k.d and l.scope = k.s and l.channel = k.c and l.subject = k.j
		order by l.day, l.scope, l.channel, l.subject for update of l) s
	where u.day = s.day and u.scope = s.scope and u.channel = s.channel and u.subject = s.subject
	returning u.day, u.scope, u.channel, u.subject, s.count, s.amount`

// set gives counters, whose rows this transaction holds, new values.
const set = `update limit_used u set count = k.n, amount = k.a
	from unnest($1::int[], $2::int[], $3::int[], $4::bytea[], $5::bigint[], $6::bigint[]) as k(d, s, c, j, n, a)
	where u.day = k.d and u.scope = k.s and u.channel = k.c and u.subject = k.j`

// moveRows decides one after the other on locked counters. Nearly always
// everything is within its limits, so the counters are moved as if it were,
// in one statement that says what they held before; what was refused after
// all is taken out again.
func moveRows(tx store.Tx, rules []Rule, cs []counter, back, again, ask []*Spend, answer []Decision) error {
	sums := map[key]used{}
	var mine []key
	move := func(in map[key]used, s *Spend, sign int64) {
		mine = keys(mine[:0], cs, s)
		for _, k := range mine {
			u := in[k]
			in[k] = used{u.count + sign, u.amount + sign*s.Amount.Fen()}
		}
	}
	for _, s := range back {
		move(sums, s, -1)
	}
	for _, s := range again {
		move(sums, s, 1)
	}
	for i, s := range ask {
		// What even an unused counter refuses is not added; its counters are
		// read all the same when a day's limit refuses it, to say how much of
		// it is used.
		answer[i] = decide(rules, s, func(key) used { return used{} })
		switch {
		case answer[i].OK:
			move(sums, s, 1)
		case answer[i].day:
			mine = keys(mine[:0], cs, s)
			for _, k := range mine {
				if _, there := sums[k]; !there {
					sums[k] = used{}
				}
			}
		}
	}
	if len(sums) == 0 {
		return nil
	}
	now, err := addRows(tx, sums)
	if err != nil {
		return err
	}
	written := make(map[key]used, len(now))
	for k, u := range now {
		written[k] = used{max(0, u.count+sums[k].count), max(0, u.amount+sums[k].amount)}
	}
	for _, s := range back {
		move(now, s, -1)
	}
	for _, s := range again {
		move(now, s, 1)
	}
	for k, u := range now {
		now[k] = used{max(0, u.count), max(0, u.amount)}
	}
	for i, s := range ask {
		if !answer[i].OK && !answer[i].day {
			continue
		}
		if answer[i] = decide(rules, s, func(k key) used { return now[k] }); answer[i].OK {
			move(now, s, 1)
		}
	}
	for k, u := range now {
		if u == written[k] {
			delete(now, k)
		}
	}
	if len(now) == 0 {
		return nil
	}
	return setRows(tx, now)
}

// addRows runs add, after making the counters that are missing. They are made
// in the order of their keys too, and the unique key orders two writers who
// make the same.
func addRows(tx store.Tx, sums map[key]used) (map[key]used, error) {
	c := columns(sums)
	for range 2 {
		before, err := c.add(tx)
		if err != nil || len(before) == len(sums) {
			return before, err
		}
		// Some are missing. Nothing is lost by starting over: put back what
		// the others were moved by.
		if len(before) > 0 {
			if err := setRows(tx, before); err != nil {
				return nil, err
			}
		}
		if _, err := tx.Exec(`insert into limit_used (day, scope, channel, subject, count, amount)
			select d, s, c, j, 0, 0 from unnest($1::int[], $2::int[], $3::int[], $4::bytea[]) as k(d, s, c, j)
			order by d, s, c, j on conflict do nothing`, c.days, c.scopes, c.channels, c.subjects); err != nil {
			return nil, fmt.Errorf("limits: making counters: %w", err)
		}
	}
	return nil, fmt.Errorf("limits: counters are missing that were made just now")
}

// setOf is a set of counters as the arrays of a statement.
type setOf struct {
	days, scopes, channels []int32
	subjects               [][]byte
	counts, amounts        []int64
}

func columns(values map[key]used) setOf {
	ks := slices.SortedFunc(maps.Keys(values), key.compare)
	n := len(ks)
	c := setOf{make([]int32, n), make([]int32, n), make([]int32, n), make([][]byte, n), make([]int64, n), make([]int64, n)}
	for i, k := range ks {
		c.days[i], c.scopes[i], c.channels[i], c.subjects[i] = int32(k.day), int32(k.scope), int32(k.channel), []byte(k.subject)
		c.counts[i], c.amounts[i] = values[k].count, values[k].amount
	}
	return c
}

func (c *setOf) add(tx store.Tx) (map[key]used, error) {
	rows, err := tx.Query(add, c.days, c.scopes, c.channels, c.subjects, c.counts, c.amounts)
	if err != nil {
		return nil, fmt.Errorf("limits: moving counters: %w", err)
	}
	defer rows.Close()
	before := make(map[key]used, len(c.days))
	for rows.Next() {
		var k key
		var u used
		var subject []byte
		if err := rows.Scan(&k.day, &k.scope, &k.channel, &subject, &u.count, &u.amount); err != nil {
			return nil, err
		}
		k.subject = string(subject)
		before[k] = u
	}
	return before, rows.Err()
}

func setRows(tx store.Tx, values map[key]used) error {
	c := columns(values)
	n, err := tx.Exec(set, c.days, c.scopes, c.channels, c.subjects, c.counts, c.amounts)
	if err != nil {
		return fmt.Errorf("limits: writing counters: %w", err)
	}
	if n != int64(len(values)) {
		return fmt.Errorf("limits: wrote %d counters of %d", n, len(values))
	}
	return nil
}
