package settlement

import (
	"strings"
	"testing"

	"acquirer/store"
	"acquirer/store/storetest"
)

// What is asked every few seconds or minutes, or by the writer, reads what is open
// or of one day by an index, and never walks over what was settled before.
func TestQueriesDoNotWalkOverHistory(t *testing.T) {
	db := storetest.SQLite(t, schemas...)
	queries := map[string]string{
		"runs that are not closed":    "select date, seq from " + runsBefore + " order by id",
		"what a network owes":         owedForDate,
		"what was paid on a day":      "select ref from " + paidOn,
		"advances":                    "select distinct date from " + advanced + " order by date",
		"advances of a day":           "select ref from " + advanced + " and date = $1 order by ref",
		"payouts on their way":        "select state, count(*) from " + underWay + " group by state",
		"stranded payouts":            "select state, count(*) from " + stranded + " group by state",
		"payouts of a batch":          "select ref from settlement_payout where " + ofBatch,
		"payouts that are to be sent": "select ref from settlement_payout where state < 5 and state = 1 and due <= $1 order by due, ref",
	}
	for _, c := range nowChecks {
		queries[c.name] = c.sql
	}
	for name, sql := range queries {
		var args []any
		for _, p := range []string{"$1", "$2", "$3", "$4"} {
			if strings.Contains(sql, p) {
				args = append(args, 1)
			}
		}
		err := db.Read(t.Context(), func(tx store.Tx) error {
			rows, err := tx.Query("explain query plan "+sql, args...)
			plan, err := store.All(rows, err, func(r *store.Rows, s *string) error {
				var id, parent, zero int64
				return r.Scan(&id, &parent, &zero, s)
			})
			for _, step := range plan {
				// A scan is of everything, unless it is of a partial index; a search for
				// all runs or all references behind one too. settlement_carry has a row a
				// merchant.
				table, index, _ := strings.Cut(step, " USING ")
				all := strings.HasPrefix(table, "SCAN settlement_") && table != "SCAN settlement_carry" && (index == "" || strings.Contains(index, "autoindex"))
				if all || strings.Contains(step, "(run>?)") || strings.Contains(step, "(ref>?)") || strings.Contains(step, "AUTOMATIC") {
					t.Errorf("%s: %s\n%s", name, step, strings.Join(plan, "\n"))
				}
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
