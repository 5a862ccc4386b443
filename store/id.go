package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"acquirer/fault"
)

// Ids are int64: 41 bits of milliseconds since idEpoch, 8 bits of node, 14
// bits of sequence. They sort by the time they were made.
const (
	idNodeBits = 8
	idSeqBits  = 14
	idShift    = idNodeBits + idSeqBits
	// MaxNode is the largest node number.
	MaxNode = 1<<idNodeBits - 1
)

// idEpoch is 2024-01-01T00:00:00Z; the 41 bits last until 2093.
const idEpoch = 1704067200000

var ids struct {
	sync.Mutex
	node int64
	last int64 // millisecond<<idSeqBits | sequence
}

// SetNode gives this process its number among the nodes that share a
// database, 0 to MaxNode. Call it before the first NewID.
func SetNode(n int) error {
	if n < 0 || n > MaxNode {
		return fmt.Errorf("store: node %d: want 0 to %d", n, MaxNode)
	}
	ids.Lock()
	defer ids.Unlock()
	ids.node = int64(n)
	return nil
}

// Node is the number given to SetNode.
func Node() int {
	ids.Lock()
	defer ids.Unlock()
	return int(ids.node)
}

// NewID returns an id greater than every id this process has returned before,
// also when the clock has been set back.
func NewID() int64 {
	now := (time.Now().UnixMilli() - idEpoch) << idSeqBits
	ids.Lock()
	defer ids.Unlock()
	ids.last = max(now, ids.last+1)
	return joinID(ids.last, ids.node)
}

func joinID(tick, node int64) int64 {
	return tick>>idSeqBits<<idShift | node<<idSeqBits | tick&(1<<idSeqBits-1)
}

// IDAt is the smallest id made at or after t: ids compare as times do.
func IDAt(t time.Time) int64 { return max(0, t.UnixMilli()-idEpoch) << idShift }

// IDTime is when id was made, to the millisecond. It runs ahead of the clock
// after the clock was set back.
func IDTime(id int64) time.Time { return time.UnixMilli(id>>idShift + idEpoch) }

func lastTick() int64 {
	ids.Lock()
	defer ids.Unlock()
	return ids.last
}

// markEvery is how often the mark is moved on.
const markEvery = time.Second

// keeper keeps a mark in the database that no id of this node has passed, so
// that they go on from there when the process starts again: at once after it
// was killed, or on a clock that was set back. What others derive from the
// order of ids (what was swept, what was cleared) rests on it.
type keeper struct {
	db   *DB
	node int64
	last int64 // generator's position when the mark was moved
	quit chan struct{}
	done chan struct{}
}

// ahead is a mark that ids do not pass before it is moved the next time: they
// run with the clock, or, where they are before it, creep a sequence number
// each. (A process that keeps restarting is carried away from its clock by a
// tenth of a second each time, and no further once it is two seconds before.)
func ahead(last int64) int64 {
	const second = 1000 << idSeqBits
	now := (time.Now().UnixMilli() - idEpoch) << idSeqBits
	return max(last+second/10, now+2*int64(markEvery/time.Second)*second)
}

// keepIDs moves the generator past every id of an earlier run, moves the mark
// past those of this one, and starts the keeper.
func keepIDs(ctx context.Context, db *DB) (*keeper, error) {
	k := &keeper{db: db, node: int64(Node()), quit: make(chan struct{}), done: make(chan struct{})}
	var tick int64
	err := db.Read(ctx, func(tx Tx) error {
		err := tx.QueryRow("select tick from store_mark where node = $1", k.node).Scan(&tick)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: reading where the ids were: %w", err)
	}
	ids.Lock()
	ids.last = max(ids.last, tick)
	ids.Unlock()
	if err := k.mark(ctx); err != nil {
		return nil, fmt.Errorf("store: writing where the ids are: %w", err)
	}
	go k.run()
	return k, nil
}

func (k *keeper) run() {
	defer close(k.done)
	t := time.NewTicker(markEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			ctx, cancel := context.WithTimeout(context.Background(), 5*markEvery)
			// Not written now is written a second later; a store that cannot
			// write at all makes itself heard elsewhere.
			_ = k.mark(ctx)
			cancel()
		case <-k.quit:
			return
		}
	}
}

// mark moves the mark if an id was made since it was moved last.
func (k *keeper) mark(ctx context.Context) error {
	last := lastTick()
	if last == k.last && last != 0 {
		return nil
	}
	fault.Hit("store.mark.before")
	err := k.db.Write(ctx, func(tx Tx) error {
		_, err := tx.Exec("insert into store_mark (node, tick) values ($1, $2) on conflict (node) do update set tick = $2 where store_mark.tick < $2", k.node, ahead(last))
		return err
	})
	fault.Hit("store.mark.after")
	if err == nil {
		k.last = last
	}
	return err
}

// stop ends the keeper. The mark is ahead of every id already, unless the
// store has not been writing for a while.
func (k *keeper) stop() {
	close(k.quit)
	<-k.done
	ctx, cancel := context.WithTimeout(context.Background(), 5*markEvery)
	defer cancel()
	_ = k.mark(ctx)
}
