package journal

import (
	"context"
	"fmt"
	"time"

	"acquirer/store"
)

// Violation is a fact that must not be (reliability invariants I1 to I6).
type Violation struct {
	Invariant string // "I1", the label of the metric
	What      string
	Count     int64
	Example   int64 // one of the ids concerned
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: %s: %d, for example %d", v.Invariant, v.What, v.Count, v.Example)
}

// checks are queries that must find nothing; $1 is the smallest id looked at
// and $2 a time.
var checks = []struct{ invariant, what, sql string }{
	{"I1", "an outcome without its transaction",
		"select count(*), coalesce(min(o.txn), 0) from outcome o left join txn t on t.id = o.txn where o.id >= $1 and t.id is null and cast($2 as BIGINT) > 0"},
	{"I1", "a reversal without its transaction",
		"select count(*), coalesce(min(w.txn), 0) from owed w left join txn t on t.id = w.txn where w.id >= $1 and t.id is null and cast($2 as BIGINT) > 0"},
	{"I6", "a reversal owed without an outcome",
		"select count(*), coalesce(min(w.txn), 0) from owed w left join outcome o on o.txn = w.txn where w.id >= $1 and o.id is null and cast($2 as BIGINT) > 0"},
	{"I3", "an outcome that owes a reversal without one",
		"select count(*), coalesce(min(o.txn), 0) from outcome o join txn t on t.id = o.txn left join owed w on w.txn = o.txn where o.id >= $1 and o.reason in (51, 52, 53, 54) and t.kind <> 8 and w.id is null and cast($2 as BIGINT) > 0"},
	{"I6", "a reversal of a transaction that was refused without owing one",
		"select count(*), coalesce(min(w.txn), 0) from owed w join outcome o on o.txn = w.txn where w.id >= $1 and o.reason not in (1, 51, 52, 53, 54) and cast($2 as BIGINT) > 0"},
	{"I6", "a reversal that forgets whether its transaction was approved",
		"select count(*), coalesce(min(w.txn), 0) from owed w join outcome o on o.txn = w.txn where w.id >= $1 and (o.reason = 1 and w.why <> 'delivery') <> (w.approved = 1) and cast($2 as BIGINT) > 0"},
	{"I6", "an outcome without a decision",
		"select count(*), coalesce(min(txn), 0) from outcome where id >= $1 and reason = 0 and cast($2 as BIGINT) > 0"},
	{"I6", "a reversal in an impossible state",
		"select count(*), coalesce(min(txn), 0) from owed where id >= $1 and (state not in (4, 5, 6) or (state = 4) <> (ended = 0)) and cast($2 as BIGINT) > 0"},
	{"I6", "an original that was undone or refunded beyond what it came to",
		`select count(*), coalesce(min(x.original), 0) from (
			select f.original as original from txn f join outcome o on o.txn = f.id and o.reason = 1 join txn p on p.id = f.original join outcome po on po.txn = p.id
				left join owed w on w.txn = f.id and w.why <> 'delivery'
			where f.original <> 0 and f.id >= $1 and w.id is null group by f.original, p.amount, po.part
			having case when po.part <> 0 then po.part else p.amount end + sum(case when f.kind = 10 then f.amount when f.kind in (2, 3, 5, 7) then -f.amount else 0 end) < 0
		) x where cast($2 as BIGINT) > 0`},
	{"I3", "a transaction open long after its deadline",
		"select count(*), coalesce(min(t.id), 0) from txn t left join outcome o on o.txn = t.id where t.id >= $1 and o.id is null and t.deadline < $2"},
}

// Check looks at everything opened, closed or owed since and returns what must
// not be: nothing. It reads; what it finds is for an alarm.
func (j *Journal) Check(ctx context.Context, since time.Time) ([]Violation, error) {
	var found []Violation
	late := time.Now().Add(-MaxLife - 2*Grace)
	err := j.db.Read(ctx, func(tx store.Tx) error {
		found = nil
		for _, c := range checks {
			v := Violation{Invariant: c.invariant, What: c.what}
			if err := tx.QueryRow(c.sql, store.IDAt(since), store.Micros(late)).Scan(&v.Count, &v.Example); err != nil {
				return fmt.Errorf("journal: checking for %s: %w", c.what, err)
			}
			if v.Count > 0 {
				found = append(found, v)
			}
		}
		return nil
	})
	return found, err
}
