package journal

import (
	"strings"
	"testing"

	"acquirer/store"
	"acquirer/store/storetest"
)

// What is asked often, or inside the writer, never walks a whole table.
func TestReadsFollowIndexes(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	for sql, walks := range map[string]string{
		entryByKey: "", entryByID: "", entries + "where w.id = $1": "",
		clearingSince:   "f", // the page it found
		debtLists[Owed]: "d", debtLists[Manual]: "d",
		spentOn:  "",
		openPage: "", pageEnd: "", openOf: "", followers: "",
		countOwed:                              "owed USING INDEX owed_due",
		countManual:                            "owed USING COVERING INDEX owed_manual",
		dueReversals:                           "",
		entries + "order by t.id desc limit 5": "t", // stops after five
	} {
		err := db.Read(t.Context(), func(tx store.Tx) error {
			n := strings.Count(sql, "$")
			args := make([]any, min(n, 5))
			for i := range args {
				args[i] = 1
				if !strings.Contains(sql, "$"+string(rune('1'+i))) {
					args = args[:i]
					break
				}
			}
			rows, err := tx.Query("explain query plan "+sql, args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var a, b, c int64
				var step string
				if err := rows.Scan(&a, &b, &c, &step); err != nil {
					return err
				}
				what, scan := strings.CutPrefix(step, "SCAN ")
				if scan && what != walks && !strings.Contains(what, "owed_due") && !strings.Contains(what, "owed_manual") {
					t.Errorf("%s\nwalks %s", sql, what)
				}
			}
			return rows.Err()
		})
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
