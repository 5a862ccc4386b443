package journal

import (
	"fmt"
	"slices"

	"acquirer/store"
)

// On PostgreSQL a batch is written with one statement per table, its columns
// handed over as arrays: a third of the cost of a statement per transaction.
// Whatever did not go the plain way (a repeat, a lost race, a reversal) is
// rare and takes the loop's path.

const (
	insertTxnSet = "insert into txn (" + txnColumns + `, checksum) select * from unnest($1::bigint[], $2::int[], $3::text[], $4::int[], $5::int[],
		$6::int[], $7::text[], $8::int[], $9::int[], $10::int[], $11::bigint[], $12::int[], $13::bytea[], $14::text[], $15::bytea[],
		$16::int[], $17::text[], $18::text[], $19::int[], $20::bigint[], $21::bytea[], $22::bigint[], $23::bigint[], $24::int[], $25::int[], $26::bigint[], $27::text[], $28::int[], $29::text[], $30::text[], $31::int[])
		on conflict (day, terminal, batch, stan, kind) do nothing`
	insertOutcomeSet = "insert into outcome (" + outcomeColumns + `, checksum) select * from unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::text[],
		$6::text[], $7::bytea[], $8::int[], $9::bytea[], $10::text[], $11::bigint[], $12::bigint[], $13::int[])
		on conflict (txn) do nothing`
)

// openSet records the opens of a batch.
func openSet(tx store.Tx, ops []*op, b *writing) error {
	plain, late, err := elsewhere(tx, ops)
	if err != nil {
		return err
	}
	if len(plain) > 0 {
		n, err := insertTxns(tx, plain)
		if err != nil {
			return err
		}
		fresh, again := plain, []*op(nil)
		if n != int64(len(plain)) {
			if fresh, again, err = split(tx, plain); err != nil {
				return err
			}
		}
		if err := recordedSet(tx, fresh, b); err != nil {
			return err
		}
		for _, o := range again { // perhaps of one that was recorded just now
			first, err := entryAt(tx, o.txn.Key)
			if err != nil {
				return err
			}
			if first == nil {
				return fmt.Errorf("journal: the transaction that stood in the way of %d is gone", o.txn.ID)
			}
			o.opened = met(o, first)
		}
	}
	for _, o := range late {
		if err := open(tx, o, b); err != nil {
			return err
		}
	}
	return nil
}

// elsewhere answers the ops that meet an earlier one on the other day they
// look at. late are those that wait until the others are recorded: they can
// meet one of this batch, or follow an original and are decided one by one.
func elsewhere(tx store.Tx, ops []*op) (plain, late []*op, err error) {
	if slices.ContainsFunc(ops, (*op).follows) {
		var rest []*op
		for _, o := range ops {
			if o.follows() {
				late = append(late, o)
			} else {
				rest = append(rest, o)
			}
		}
		ops = rest
	}
	var odd []*op
	for _, o := range ops {
		if o.also != 0 && o.also != o.txn.Day {
			odd = append(odd, o)
		}
	}
	if len(odd) == 0 {
		return ops, late, nil
	}
	there, err := onOtherDay(tx, odd)
	if err != nil {
		return nil, nil, err
	}
	mine := make(map[Key]bool, len(ops))
	for _, o := range ops {
		k := o.txn.Key
		k.Day = o.also
		switch {
		case o.also == 0 || o.also == o.txn.Day || there[k] == 0 && !mine[k]:
			plain = append(plain, o)
		case there[k] == 0:
			late = append(late, o)
		default:
			first, err := entry(tx, entryByID, there[k])
			if err != nil {
				return nil, nil, err
			}
			if first == nil {
				return nil, nil, fmt.Errorf("journal: transaction %d is gone", there[k])
			}
			o.opened = met(o, first)
		}
		mine[o.txn.Key] = true
	}
	return plain, late, nil
}

// onOtherDay finds the transactions with the keys of ops on their other day.
func onOtherDay(tx store.Tx, ops []*op) (map[Key]int64, error) {
	n := len(ops)
	day, batch, stan, kind, terminal := make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n), make([]string, n)
	for i, o := range ops {
		day[i], terminal[i], batch[i], stan[i], kind[i] = int32(o.also), o.txn.Terminal, o.txn.Batch, o.txn.STAN, int32(o.txn.Kind)
	}
	rows, err := tx.Query(`select t.id, t.day, t.terminal, t.batch, t.stan, t.kind
		from unnest($1::int[], $2::text[], $3::int[], $4::int[], $5::int[]) as k(day, terminal, batch, stan, kind)
		join txn t on t.day = k.day and t.terminal = k.terminal and t.batch = k.batch and t.stan = k.stan and t.kind = k.kind`, day, terminal, batch, stan, kind)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[Key]int64{}
	for rows.Next() {
		var k Key
		var id int64
		if err := rows.Scan(&id, &k.Day, &k.Terminal, &k.Batch, &k.STAN, &k.Kind); err != nil {
			return nil, err
		}
		all[k] = id
	}
	return all, rows.Err()
}

// split tells the ops that were recorded from those that met an earlier one.
func split(tx store.Tx, ops []*op) (fresh, again []*op, err error) {
	ids := make([]int64, len(ops))
	for i, o := range ops {
		ids[i] = o.txn.ID
	}
	mine, err := present(tx, "select id, 0 from txn where id = any($1::bigint[])", ids)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range ops {
		if _, ok := mine[o.txn.ID]; ok {
			fresh = append(fresh, o)
		} else {
			again = append(again, o)
		}
	}
	return fresh, again, nil
}

// present reads pairs of numbers.
func present(tx store.Tx, sql string, ids []int64) (map[int64]int64, error) {
	rows, err := tx.Query(sql, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[int64]int64, len(ids))
	for rows.Next() {
		var k, v int64
		if err := rows.Scan(&k, &v); err != nil {
			return nil, err
		}
		all[k] = v
	}
	return all, rows.Err()
}

// recordedSet goes on with transactions that are new: those that are refused
// from the start are closed together.
func recordedSet(tx store.Tx, fresh []*op, b *writing) error {
	var refused []*op
	for _, o := range fresh {
		if o.shut {
			refused = append(refused, o)
			continue
		}
		if err := o.recorded(tx, b); err != nil {
			return err
		}
	}
	if len(refused) == 0 {
		return nil
	}
	n, err := insertOutcomes(tx, refused)
	if err != nil {
		return err
	}
	if n != int64(len(refused)) {
		return fmt.Errorf("journal: %d of %d new transactions have an outcome already", int64(len(refused))-n, len(refused))
	}
	for _, o := range refused {
		if err := o.refused(tx, b); err != nil {
			return err
		}
	}
	return nil
}

// closeSet records the closes of a batch.
func closeSet(tx store.Tx, ops []*op, b *writing) error {
	if len(ops) == 0 {
		return nil
	}
	n, err := insertOutcomes(tx, ops)
	if err != nil {
		return err
	}
	var stands map[int64]int64 // transaction to outcome, when some have lost
	if n != int64(len(ops)) {
		ids := make([]int64, len(ops))
		for i, o := range ops {
			ids[i] = o.txn.ID
		}
		if stands, err = present(tx, "select txn, id from outcome where txn = any($1::bigint[])", ids); err != nil {
			return err
		}
	}
	for _, o := range ops {
		if stands != nil && stands[o.txn.ID] != o.out.ID {
			if err := o.lost(tx); err != nil {
				return err
			}
			continue
		}
		if err := o.closes(tx, b); err != nil {
			return err
		}
	}
	return nil
}

func insertTxns(tx store.Tx, ops []*op) (int64, error) {
	n := len(ops)
	id, opened, deadline, transmitted, amount := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	original, scheme, place, device := make([]int64, n), make([]string, n), make([]string, n), make([]string, n)
	ints := make([]int32, 14*n) // one piece of memory for the fourteen small columns
	col := func(i int) []int32 { return ints[i*n : (i+1)*n : (i+1)*n] }
	day, batch, stan, kind, mti, processing, entry := col(0), col(1), col(2), col(3), col(4), col(5), col(6)
	currency, channel, trace, node, spent, condition, checksum := col(7), col(8), col(9), col(10), col(11), col(12), col(13)
	terminal, merchant, masked, issuer, rrn := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	token, sealed, fingerprint := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	var a store.Args
	for i, o := range ops {
		t := &o.txn
		id[i], day[i], terminal[i], batch[i], stan[i], kind[i] = t.ID, int32(t.Day), t.Terminal, t.Batch, t.STAN, int32(t.Kind)
		merchant[i], mti[i], processing[i], entry[i] = t.Merchant, int32(t.MTI), t.ProcessingCode, t.EntryMode
		amount[i], currency[i], token[i], masked[i], sealed[i] = t.Amount.Fen(), t.Currency, t.PANToken[:], t.PANMasked, t.PANSealed
		channel[i], issuer[i], rrn[i], trace[i], transmitted[i] = int32(t.Channel), t.Issuer, t.RRN, t.Trace, store.Micros(t.Transmitted)
		fingerprint[i], opened[i], deadline[i], node[i], spent[i] = t.Fingerprint[:], store.Micros(t.Opened), store.Micros(t.Deadline), t.Node, int32(t.SpentOn)
		original[i], scheme[i], condition[i], place[i], device[i] = t.Original, t.Scheme, t.Condition, t.Place, t.Device
		checksum[i] = t.args(&a).Checksum()
	}
	return tx.Exec(insertTxnSet, id, day, terminal, batch, stan, kind, merchant, mti, processing, entry, amount, currency, token, masked, sealed,
		channel, issuer, rrn, trace, transmitted, fingerprint, opened, deadline, node, spent, original, scheme, condition, place, device, checksum)
}

// insertOutcomes decides and records how ops close.
func insertOutcomes(tx store.Tx, ops []*op) (int64, error) {
	n := len(ops)
	id, txn, closed, part := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	reason, settles, checksum := make([]int32, n), make([]int32, n), make([]int32, n)
	approval, code, additional, note := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	chip, extra := make([][]byte, n), make([][]byte, n)
	var a store.Args
	for i, p := range ops {
		p.decide()
		o := &p.out
		id[i], txn[i], reason[i], approval[i], code[i], additional[i] = o.ID, p.txn.ID, int32(o.Reason), o.Approval, o.IssuerCode, o.Additional
		chip[i], settles[i], extra[i], note[i], closed[i] = o.Chip, o.Settles, o.Extra, o.Note, store.Micros(o.Closed)
		part[i] = o.Part.Fen()
		checksum[i] = o.args(&a, p.txn.ID).Checksum()
	}
	return tx.Exec(insertOutcomeSet, id, txn, reason, approval, code, additional, chip, settles, extra, note, closed, part, checksum)
}
