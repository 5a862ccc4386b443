package console

import (
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// Compared is what the comparison with the books of others came to, and the
// disputes. Money moves by two people at the command line, who have names
// there; the page shows.
type Compared struct {
	Days  []ComparedDay // the newest first
	Open  []OtherBooks  // what waits for people, the oldest first
	Cases []DisputeCase // not over, the next last day first
}

// ComparedDay is one business date.
type ComparedDay struct {
	Date          calendar.Date
	Missing       []string // sources whose files have not come
	Files         int
	Ours, Matched int64
	Waiting, Open int // breaks
	OpenSum       money.Amount
	Maker         string // who signed it first; empty when nobody has
	Checker       string // and second
}

// Share is how many of ours were found, an en dash for none.
func (d ComparedDay) Share() string {
	if d.Ours == 0 {
		return "–"
	}
	return per(float64(d.Matched)*100/float64(d.Ours)) + " %"
}

// OtherBooks is a difference to the books of somebody else.
type OtherBooks struct {
	ID           int64
	Date         calendar.Date
	Kind         string // a key break.* of the texts, or shown as it is
	Source       string
	RRN          string
	Txn          int64 // 0 when no transaction of ours is meant
	Merchant     string
	Ours, Theirs money.Amount
	Asked        string // what one person asked for; a second must confirm
}

// DisputeCase is a payment in dispute.
type DisputeCase struct {
	ID       int64
	Stage    string // a key stage.* of the texts, or shown as it is
	Ours     bool   // ours to answer; else theirs
	Source   string
	RRN      string
	Txn      int64
	Merchant string
	Amount   money.Amount
	Reason   string
	Due      calendar.Date
}

// Late reports that a case of ours has two days or less.
func (c DisputeCase) Late(now time.Time) bool {
	return c.Ours && calendar.DateOf(now).DaysUntil(c.Due) <= 2
}
