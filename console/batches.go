package console

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/spec"
)

// Batches is how terminals settled (批结算) on a business date, and the
// differences between them and the journal that wait for a person.
type Batches struct {
	Date        calendar.Date
	Settled     []TerminalBatch // those that did not balance first
	More        int             // settlements that are not listed
	Differences []Difference    // of any business date, the oldest first
}

// TerminalBatch is one settlement of a terminal's batch.
type TerminalBatch struct {
	TID, Merchant string
	Batch         string // DE 60.2
	At            time.Time
	Claimed, Ours spec.Totals // what the terminal says, what the journal has; Ours carries the flags that were answered
	Unreadable    bool        // one of the two could not be read
	Uploaded      int         // records that came
	Ended         time.Time   // zero before the batch end came
}

// Result is the key of the settlement's texts, and the class of its style.
func (b TerminalBatch) Result() string {
	d, f := b.Ours.Domestic.Balance, b.Ours.Foreign.Balance
	switch {
	case b.Unreadable:
		return "unreadable"
	case d == spec.BalanceError || f == spec.BalanceError:
		return "unsigned" // the terminal was told to send signatures first
	case d == spec.Balanced && f == spec.Balanced:
		return "balanced"
	}
	return "unbalanced"
}

// tallied is one line of the totals, on both sides.
type tallied struct {
	Cards, Flow   string // keys cards.* and flow.* of the texts
	Claimed, Ours spec.Tally
}

// Off is how much more the terminal says than the journal has.
func (t tallied) Off() money.Amount { return money.Amount(t.Claimed.Fen - t.Ours.Fen) }

// Differs reports that sum or count are not the same.
func (t tallied) Differs() bool { return t.Claimed != t.Ours }

// Lines are the totals: debit and credit, of domestic and of foreign cards.
func (b TerminalBatch) Lines() []tallied {
	c, o := b.Claimed, b.Ours
	return []tallied{
		{"domestic", "debit", c.Domestic.Debit, o.Domestic.Debit}, {"domestic", "credit", c.Domestic.Credit, o.Domestic.Credit},
		{"foreign", "debit", c.Foreign.Debit, o.Foreign.Debit}, {"foreign", "credit", c.Foreign.Credit, o.Foreign.Credit},
	}
}

// Difference is a record of a terminal's upload that the journal has not just
// so, or the other way round. Nothing of it moves money.
type Difference struct {
	ID            int64
	Date          calendar.Date // business date on which it was found
	At            time.Time
	TID, Merchant string
	Batch         string
	Voucher       string // DE 11; empty when it speaks of the whole batch
	What          Words
	Form          Words // which upload brought it
	Amount        money.Amount
	Records       int    // by how many records upload and batch end differ; there is no Amount then
	PAN           string // masked; may be empty
	Txn           int64  // the journal's transaction, 0 when there is none
}

// resolve marks a difference as dealt with and leads back to the page. guard
// lets it through from a page of this console only.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	back := url.URL{Path: "/batches"}
	if date, err := calendar.ParseDate(r.URL.Query().Get("date")); err == nil {
		back.RawQuery = url.Values{"date": {date.String()}}.Encode()
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err == nil {
		ask, cancel := patience(r)
		defer cancel()
		err = s.house.Resolve(ask, id)
	} else {
		err = ErrNotFound
	}
	switch {
	case errors.Is(err, ErrNotFound):
		s.problem(w, r, http.StatusNotFound, "difference.missing", r.PathValue("id"))
	case err != nil:
		s.complain(err)
		s.problem(w, r, http.StatusServiceUnavailable, "error.why", err.Error())
	default:
		s.log.Info("a difference between a terminal's batch and the journal was marked as resolved", "difference", id)
		http.Redirect(w, r, back.String(), http.StatusSeeOther)
	}
}
