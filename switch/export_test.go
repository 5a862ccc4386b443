package switching

import (
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/spec"
)

// Matrix lists the names of the rows that are served.
func Matrix() []string {
	var names []string
	for i := range rows {
		names = append(names, rows[i].name)
	}
	return names
}

// DaysOf is daysOf of a switch with a cut-off.
func DaysOf(cutOff time.Duration, now time.Time, mmdd int) []calendar.Date {
	return daysOf(calendar.BusinessDate(now, cutOff), mmdd)
}

// TotalsOf is totalsOf.
func TotalsOf(entries []*journal.Entry) spec.Totals { return totalsOf(entries) }

// TracesMade is how many traces are made of transactions that end at these
// moments.
func TracesMade(at []time.Time) (n int) {
	var t traces
	for _, now := range at {
		if t.due(now) {
			n++
		}
	}
	return n
}

// Backoff is how long a record of what is owed rests after so many tries.
var Backoff = backoff
