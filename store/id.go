package store

import (
	"fmt"
	"sync"
	"time"
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

// lastTick is the generator's position; raiseTick moves it forward. The store
// keeps it so that ids stay ordered across a restart on an earlier clock.
func lastTick() int64 {
	ids.Lock()
	defer ids.Unlock()
	return ids.last
}

func raiseTick(tick int64) {
	ids.Lock()
	defer ids.Unlock()
	ids.last = max(ids.last, tick)
}
