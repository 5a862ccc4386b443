package settlement

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"acquirer/calendar"
	"acquirer/money"
)

// Record is a transaction as one side has it on its books.
type Record struct {
	RRN    string // DE 37, what both sides know it by
	Issuer string
	Amount money.Amount // what stands after everything: below zero for a refund
	Ref    string       // the side's own id, for people
}

// BreakKind says how two sides differ.
type BreakKind string

// Long is money the other side has booked and we have not (长款), Short the
// reverse (短款).
const (
	Long      BreakKind = "long"
	Short     BreakKind = "short"
	Amount    BreakKind = "amount"
	Duplicate BreakKind = "duplicate" // one side has the number twice
)

// Break is a difference between two sides.
type Break struct {
	Kind   BreakKind    `json:"kind"`
	RRN    string       `json:"rrn"`
	Issuer string       `json:"issuer"`
	Ours   money.Amount `json:"ours"`
	Theirs money.Amount `json:"theirs"`
	Ref    string       `json:"ref"` // of the side that has it, ours before theirs
}

// Reconciliation is the comparison of two sides over a day. Breaks holds the
// first BreakLimit differences; Count counts all.
type Reconciliation struct {
	Date    calendar.Date `json:"date"`
	Ours    int           `json:"ours"`
	Theirs  int           `json:"theirs"`
	Matched int           `json:"matched"`
	Count   int           `json:"breaks"`
	Breaks  []Break       `json:"differences"`
}

// BreakLimit bounds the differences that are listed one by one.
const BreakLimit = 10_000

func (r *Reconciliation) add(b Break) {
	r.Count++
	if len(r.Breaks) < BreakLimit {
		r.Breaks = append(r.Breaks, b)
	}
}

// Sorted yields records in the order Reconcile wants; it sorts the slice.
func Sorted(records []Record) iter.Seq2[Record, error] {
	slices.SortFunc(records, compareRecords)
	return func(yield func(Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func compareRecords(a, b Record) int {
	if c := strings.Compare(a.Issuer, b.Issuer); c != 0 {
		return c
	}
	return strings.Compare(a.RRN, b.RRN)
}

// Reconcile compares two sides, each in the order of issuer and RRN, record by
// record in constant memory. The first error of a side, or a side out of
// order, ends it.
func Reconcile(date calendar.Date, ours, theirs iter.Seq2[Record, error]) (Reconciliation, error) {
	r := Reconciliation{Date: date}
	us, stopUs := newSide("ours", ours, &r.Ours)
	defer stopUs()
	them, stopThem := newSide("theirs", theirs, &r.Theirs)
	defer stopThem()
	for _, s := range []*side{us, them} {
		if err := s.advance(&r); err != nil {
			return r, err
		}
	}
	for !us.over || !them.over {
		order := 0
		switch {
		case us.over:
			order = 1
		case them.over:
			order = -1
		default:
			order = compareRecords(us.now, them.now)
		}
		a, b := us.now, them.now
		switch {
		case order < 0:
			r.add(Break{Short, a.RRN, a.Issuer, a.Amount, 0, a.Ref})
		case order > 0:
			r.add(Break{Long, b.RRN, b.Issuer, 0, b.Amount, b.Ref})
		case a.Amount != b.Amount:
			r.add(Break{Amount, a.RRN, a.Issuer, a.Amount, b.Amount, a.Ref})
		default:
			r.Matched++
		}
		if order <= 0 {
			if err := us.advance(&r); err != nil {
				return r, err
			}
		}
		if order >= 0 {
			if err := them.advance(&r); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// side is one of the two sequences, at its current record.
type side struct {
	name  string
	next  func() (Record, error, bool)
	now   Record
	begun bool
	over  bool
	count *int
}

func newSide(name string, records iter.Seq2[Record, error], count *int) (*side, func()) {
	next, stop := iter.Pull2(records)
	return &side{name: name, next: next, count: count}, stop
}

// advance moves to the next record with another number.
func (s *side) advance(r *Reconciliation) error {
	for {
		rec, err, more := s.next()
		if !more {
			s.over = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("settlement: reconciling %s: reading %s: %w", r.Date, s.name, err)
		}
		*s.count++
		order := 1
		if s.begun {
			order = compareRecords(rec, s.now)
		}
		switch {
		case order < 0:
			return fmt.Errorf("settlement: reconciling %s: %s has %s %s behind %s %s: sort both sides by issuer and RRN", r.Date, s.name, rec.Issuer, rec.RRN, s.now.Issuer, s.now.RRN)
		case order == 0:
			b := Break{Kind: Duplicate, RRN: rec.RRN, Issuer: rec.Issuer, Ours: rec.Amount, Ref: rec.Ref}
			if s.name == "theirs" {
				b.Ours, b.Theirs = 0, rec.Amount
			}
			r.add(b)
			continue
		}
		s.now, s.begun = rec, true
		return nil
	}
}
