package terminal

import (
	"cmp"
	"slices"
	"sync"

	"acquirer/card"
	"acquirer/money"
)

// Key names a transaction of a terminal for good.
type Key struct {
	TID         string
	Batch, STAN int
}

// Status is what a terminal believes of a transaction.
type Status string

// The statuses. Unknown is between the first byte and a valid answer, and
// after any failure, until a reversal is taken.
const (
	Unknown   Status = "unknown"
	Approved  Status = "approved"  // a valid approval was read
	Declined  Status = "declined"  // an answer said no
	Reversed  Status = "reversed"  // the host took the reversal, or knew no original
	Abandoned Status = "abandoned" // given up: the reversal (Profile.GiveUp), or a refund without an answer
)

// Record is one transaction in a Book.
type Record struct {
	Key
	Kind     Kind
	Amount   money.Amount // the approved one when the host approved in part (DE 39 10)
	PAN      card.PAN
	Status   Status
	Code     string // DE 39 of the answer, or of the reversal's
	RRN      string // DE 37
	AuthCode string // DE 38
}

// Book is what one or many terminals believe of their transactions, kept apart
// from any host so that the two can be compared. It is safe for concurrent
// use; the zero value is empty.
type Book struct {
	mu      sync.Mutex
	entries map[Key]Record
}

func (b *Book) put(e Record) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries == nil {
		b.entries = map[Key]Record{}
	}
	b.entries[e.Key] = e
}

// move changes the status of an entry; code and the rest of the answer only
// where it says something.
func (b *Book) move(k Key, s Status, res *Result) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries == nil {
		b.entries = map[Key]Record{}
	}
	e := b.entries[k]
	e.Key, e.Status = k, s
	if res != nil {
		e.Code = res.Code
		if s == Approved && res.Code == "10" && res.Amount > 0 {
			e.Amount = res.Amount
		}
		e.RRN = cmp.Or(res.RRN, e.RRN)
		e.AuthCode = cmp.Or(res.AuthCode, e.AuthCode)
	}
	b.entries[k] = e
}

// Get returns one entry.
func (b *Book) Get(k Key) (Record, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[k]
	return e, ok
}

// Records returns all entries, ordered by terminal, batch and trace number.
func (b *Book) Records() []Record {
	b.mu.Lock()
	out := make([]Record, 0, len(b.entries))
	for _, e := range b.entries {
		out = append(out, e)
	}
	b.mu.Unlock()
	slices.SortFunc(out, func(x, y Record) int {
		return cmp.Or(cmp.Compare(x.TID, y.TID), cmp.Compare(x.Batch, y.Batch), cmp.Compare(x.STAN, y.STAN))
	})
	return out
}

// Count returns how many entries have each status.
func (b *Book) Count() map[Status]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[Status]int{}
	for _, e := range b.entries {
		n[e.Status]++
	}
	return n
}
