package store

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// QueueLimit is how many values may wait in one queue before Do answers
// ErrBusy.
const QueueLimit = 8192

// groupLimit is how many values one transaction takes at most, so that its
// statements stay of a known size.
const groupLimit = 1024

// Queue gathers the values of many callers into one transaction and one
// fsync. Make one with Gather.
type Queue[T any] struct {
	name   string
	single bool // apply takes one value at a time
	apply  func(tx Tx, batch []T) error
	db     *DB
	ring   func() // wakes a writer

	mu      sync.Mutex
	waiting []*waiter[T]
	closed  error
	free    sync.Pool // *waiter[T] whose answer was received
}

// waiter is one caller inside Do.
type waiter[T any] struct {
	value T
	state atomic.Int32
	done  chan error
}

const (
	isWaiting   int32 = iota
	isTaken           // a writer has it
	isAbandoned       // its caller left before a writer came
)

// Gather makes a queue of values applied together by apply, in the order of
// the calls to Do. T is usually a pointer: apply writes its answer into the
// value. apply must only depend on the transaction and the values, and must
// overwrite answers it has written before: when it fails for a batch it is
// rolled back and called again with one value at a time, so that one bad
// value never harms its neighbours; it may also run again after 40001.
//
// On SQLite the one writer takes all waiting values of all queues; on
// PostgreSQL two writers serve each queue.
func Gather[T any](db *DB, name string, apply func(tx Tx, batch []T) error) *Queue[T] {
	q := &Queue[T]{name: name, apply: apply, db: db}
	db.meters.add(name, q.depth)
	db.engine.attach(q)
	return q
}

// Do hands v to a writer and returns after the commit that carried it, or
// with the error that kept it out. When ctx ends while v still waits, v is
// withdrawn and nothing was written. When ctx ends later, the answer is
// ErrInDoubt, and the caller must not read v any more: a writer may be
// writing into it.
func (q *Queue[T]) Do(ctx context.Context, v T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, _ := q.free.Get().(*waiter[T])
	if w == nil {
		w = &waiter[T]{done: make(chan error, 1)}
	}
	w.value = v
	q.mu.Lock()
	switch {
	case q.closed != nil:
		err := q.closed
		q.mu.Unlock()
		return err
	case len(q.waiting) >= QueueLimit:
		q.mu.Unlock()
		return fmt.Errorf("%w in %s", ErrBusy, q.name)
	}
	q.waiting = append(q.waiting, w)
	first := len(q.waiting) == 1
	q.mu.Unlock()
	if first {
		q.ring()
	}
	err, answered := w.wait(ctx, q.single)
	if answered { // no writer will touch it again
		w.state.Store(isWaiting)
		var none T
		w.value = none
		q.free.Put(w)
	}
	return err
}

// wait returns what became of the value, and whether its writer said so. With
// stay it does not leave while a
// writer has it: the value is a function that writes into its caller's
// variables.
func (w *waiter[T]) wait(ctx context.Context, stay bool) (err error, answered bool) {
	select {
	case err := <-w.done:
		return err, true
	case <-ctx.Done():
	}
	if w.state.CompareAndSwap(isWaiting, isAbandoned) {
		return context.Cause(ctx), false
	}
	if stay {
		return <-w.done, true
	}
	select { // it may have ended in the same moment
	case err := <-w.done:
		return err, true
	default:
		return inDoubt(context.Cause(ctx)), false
	}
}

func (q *Queue[T]) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// gatherer is a queue as the engines see it, whatever its type.
type gatherer interface {
	label() string
	connect(ring func()) // ring wakes a writer
	take() group         // nil when nothing waits
	shut(err error)      // refuses everything waiting and to come
}

// group is a batch on its way through a transaction.
type group interface {
	label() string
	size() int
	whole() bool                 // apply may be called
	apply(tx Tx) error           // all members
	applyOne(tx Tx, i int) error // member i alone
	finish(i int, err error)     // tells member i
}

func (q *Queue[T]) label() string       { return q.name }
func (q *Queue[T]) connect(ring func()) { q.ring = ring }

func (q *Queue[T]) take() group {
	q.mu.Lock()
	if len(q.waiting) == 0 {
		q.mu.Unlock()
		return nil
	}
	n := min(len(q.waiting), groupLimit)
	b := &batch[T]{q: q, values: make([]T, 0, n), members: make([]*waiter[T], 0, n)}
	for _, w := range q.waiting[:n] {
		if w.state.CompareAndSwap(isWaiting, isTaken) {
			b.values = append(b.values, w.value)
			b.members = append(b.members, w)
		}
	}
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.mu.Unlock()
	if rest > 0 {
		q.ring()
	}
	if len(b.values) == 0 {
		return nil
	}
	return b
}

func (q *Queue[T]) shut(err error) {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting, q.closed = nil, err
	q.mu.Unlock()
	for _, w := range waiting {
		if w.state.CompareAndSwap(isWaiting, isTaken) {
			w.done <- err
		}
	}
}

type batch[T any] struct {
	q       *Queue[T]
	values  []T
	members []*waiter[T]
}

func (b *batch[T]) label() string     { return b.q.name }
func (b *batch[T]) size() int         { return len(b.values) }
func (b *batch[T]) whole() bool       { return !b.q.single || len(b.values) == 1 }
func (b *batch[T]) apply(tx Tx) error { return guard(func() error { return b.q.apply(tx, b.values) }) }
func (b *batch[T]) applyOne(tx Tx, i int) error {
	return guard(func() error { return b.q.apply(tx, b.values[i:i+1:i+1]) })
}
func (b *batch[T]) finish(i int, err error) { b.members[i].done <- err }

// panicked carries a panic from a writer's goroutine to the caller's.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("store: panic in a transaction: %v", p.value) }

// guard runs f and turns a panic into an error, so that one caller's defect
// does not end the writer that serves them all.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	return f()
}
