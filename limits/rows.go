package limits

import (
	"fmt"
	"slices"

	"acquirer/store"
)

// Schema is the counters that several nodes share. On SQLite the table stays
// empty.
var Schema = store.Schema{Name: "limits", Steps: []string{`
create table limit_used (
	day INTEGER not null,
	scope INTEGER not null,
	channel INTEGER not null,
	subject BYTEA not null,
	count BIGINT not null,
	amount BIGINT not null,
	primary key (day, scope, channel, subject)
)`}}

// lockRows locks counters in the order of their keys, so that writers never
// wait for each other in a circle, and reads them. Those that are missing are
// made first, with their neighbours already locked: the unique key orders two
// writers who make the same.
func lockRows(tx store.Tx, ks []key) (map[key]used, error) {
	days, scopes, channels, subjects := columns(ks)
	for try := 0; ; try++ {
		all, err := readRows(tx, days, scopes, channels, subjects)
		if err != nil || len(all) == len(ks) {
			return all, err
		}
		if try > 0 {
			return nil, fmt.Errorf("limits: locked %d counters of %d", len(all), len(ks))
		}
		if _, err := tx.Exec(`insert into limit_used (day, scope, channel, subject, count, amount)
			select d, s, c, j, 0, 0 from unnest($1::int[], $2::int[], $3::int[], $4::bytea[]) as k(d, s, c, j)
			order by d, s, c, j on conflict do nothing`, days, scopes, channels, subjects); err != nil {
			return nil, fmt.Errorf("limits: making counters: %w", err)
		}
	}
}

func readRows(tx store.Tx, days, scopes, channels []int32, subjects [][]byte) (map[key]used, error) {
	rows, err := tx.Query(`select u.day, u.scope, u.channel, u.subject, u.count, u.amount from limit_used u
		join unnest($1::int[], $2::int[], $3::int[], $4::bytea[]) as k(d, s, c, j)
		on u.day = d and u.scope = s and u.channel = c and u.subject = j
		order by u.day, u.scope, u.channel, u.subject for update of u`, days, scopes, channels, subjects)
	if err != nil {
		return nil, fmt.Errorf("limits: locking counters: %w", err)
	}
	defer rows.Close()
	all := make(map[key]used, len(days))
	for rows.Next() {
		var k key
		var u used
		var subject []byte
		if err := rows.Scan(&k.day, &k.scope, &k.channel, &subject, &u.count, &u.amount); err != nil {
			return nil, err
		}
		k.subject = string(subject)
		all[k] = u
	}
	return all, rows.Err()
}

// writeRows adds what was moved.
func writeRows(tx store.Tx, moved map[key]used) error {
	ks := make([]key, 0, len(moved))
	for k := range moved {
		ks = append(ks, k)
	}
	days, scopes, channels, subjects := columns(ks)
	counts, amounts := make([]int64, len(ks)), make([]int64, len(ks))
	for i, k := range ks {
		counts[i], amounts[i] = moved[k].count, moved[k].amount
	}
	// A counter that was introduced after the spend was made has nothing to
	// give back: it stops at zero.
	n, err := tx.Exec(`update limit_used u set count = greatest(0, u.count + k.n), amount = greatest(0, u.amount + k.a)
		from unnest($1::int[], $2::int[], $3::int[], $4::bytea[], $5::bigint[], $6::bigint[]) as k(d, s, c, j, n, a)
		where u.day = d and u.scope = s and u.channel = c and u.subject = j`, days, scopes, channels, subjects, counts, amounts)
	if err != nil {
		return fmt.Errorf("limits: writing counters: %w", err)
	}
	if n != int64(len(ks)) {
		return fmt.Errorf("limits: wrote %d counters of %d", n, len(ks))
	}
	return nil
}

func columns(ks []key) (days, scopes, channels []int32, subjects [][]byte) {
	days, scopes, channels = make([]int32, len(ks)), make([]int32, len(ks)), make([]int32, len(ks))
	subjects = make([][]byte, len(ks))
	for i, k := range ks {
		days[i], scopes[i], channels[i], subjects[i] = int32(k.day), int32(k.scope), int32(k.channel), []byte(k.subject)
	}
	return days, scopes, channels, subjects
}

// moveRows decides one after the other on locked counters.
func moveRows(tx store.Tx, rules []Rule, cs []counter, back, ask []*Spend, answer []Decision) error {
	var ks []key
	for _, s := range back {
		ks = keys(ks, cs, s)
	}
	for _, s := range ask {
		ks = keys(ks, cs, s)
	}
	now := map[key]used{}
	if len(ks) > 0 {
		slices.SortFunc(ks, key.compare)
		ks = slices.Compact(ks)
		var err error
		if now, err = lockRows(tx, ks); err != nil {
			return err
		}
	}
	moved := map[key]used{}
	var mine []key
	add := func(s *Spend, sign int64) {
		mine = keys(mine[:0], cs, s)
		for _, k := range mine {
			u, m := now[k], moved[k]
			now[k] = used{u.count + sign, u.amount + sign*s.Amount.Fen()}
			moved[k] = used{m.count + sign, m.amount + sign*s.Amount.Fen()}
		}
	}
	for _, s := range back {
		add(s, -1)
	}
	for i, s := range ask {
		answer[i] = decide(rules, s, func(k key) used { return now[k] })
		if answer[i].OK {
			add(s, 1)
		}
	}
	for k, m := range moved {
		if m == (used{}) {
			delete(moved, k)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	return writeRows(tx, moved)
}
