package hsm

import (
	"encoding/binary"
	"strings"
	"sync"
)

// cacheKeys bounds the expanded keys that are kept: three for each of some
// 20,000 terminals, about 1 KB apiece. Expanding a DES key costs ten times
// what a PIN translation does.
const cacheKeys = 1 << 16

// cache keeps expanded keys by the text of their block. It is cut into
// shards, so that terminals rarely wait for each other.
type cache struct {
	shards [64]shard
	limit  int // per shard
}

type shard struct {
	mu   sync.RWMutex
	keys map[Key]*expanded
}

func newCache(size int) *cache {
	return &cache{limit: max(1, size/len(cache{}.shards))}
}

// shard picks by the end of the block, which is its MAC and as good as random.
// The key has at least 8 characters.
func (c *cache) shard(key Key) *shard {
	end := [8]byte([]byte(key[len(key)-8:]))
	return &c.shards[binary.LittleEndian.Uint64(end[:])*0x9E3779B97F4A7C15>>58]
}

// get returns nil when the key is not there.
func (c *cache) get(key Key) *expanded {
	if len(key) < 8 {
		return nil
	}
	s := c.shard(key)
	s.mu.RLock()
	k := s.keys[key]
	s.mu.RUnlock()
	if k != nil && !k.recent.Load() {
		k.recent.Store(true)
	}
	return k
}

// put keeps k, and drops another one when the shard is full: the first met
// that nobody asked for since the last time room was made.
func (c *cache) put(key Key, k *expanded) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[Key]*expanded)
	}
	if len(s.keys) >= c.limit {
		var victim Key
		for name, old := range s.keys {
			victim = name
			if !old.recent.Swap(false) {
				break
			}
		}
		delete(s.keys, victim)
	}
	s.keys[Key(strings.Clone(string(key)))] = k
}

func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.keys)
		s.mu.RUnlock()
	}
	return n
}
