package audit

import (
	"errors"
	"fmt"
	"time"
)

// Lapses is how long what one person asked for waits for another.
const Lapses = 72 * time.Hour

// ErrTwoPeople says that the same person may not do both halves.
var ErrTwoPeople = errors.New("a second person must do this")

// Ask is the first half of what two people do: one asks for something, another
// asks for the same, and it is done. The zero Ask says that nobody did.
type Ask struct {
	What string // with all that it depends on: what is asked is what is done
	By   string
	At   time.Time // zero of one that is older than this column; such a one does not lapse
}

// Waits reports whether somebody asked and it has not lapsed.
func (a Ask) Waits(now time.Time) bool {
	return a.By != "" && (a.At.IsZero() || now.Before(a.At.Add(Lapses)))
}

// Second reports whether by is the second person: another one asked for what, and
// it is to be done. Else by is the first, which a then says: nobody had asked, or
// too long ago, or for something else. Whoever asked and comes again is
// ErrTwoPeople.
func (a *Ask) Second(what, by string, now time.Time) (bool, error) {
	switch {
	case !a.Waits(now) || a.What != what:
		*a = Ask{what, by, now}
		return false, nil
	case SamePerson(a.By, by):
		return false, fmt.Errorf("%w: %s asked for it", ErrTwoPeople, a.By)
	}
	return true, nil
}
