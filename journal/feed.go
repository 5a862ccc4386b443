package journal

import (
	"sync"
	"sync/atomic"
)

// feed tells listeners in this process what was closed or reversed by it.
type feed struct {
	mu        sync.Mutex
	listeners map[chan *Entry]struct{}
	count     atomic.Int32
	lost      atomic.Int64
}

// Subscribe returns a channel of the entries this process closes or takes
// back from now on, each after it is durable, and a function that ends the
// subscription. A listener that does not keep up with its buffer loses
// entries (see FeedLost); the journal never waits for it. The entries are
// shared: read only.
func (j *Journal) Subscribe(buffer int) (<-chan *Entry, func()) {
	ch := make(chan *Entry, max(1, buffer))
	f := &j.feed
	f.mu.Lock()
	if f.listeners == nil {
		f.listeners = map[chan *Entry]struct{}{}
	}
	f.listeners[ch] = struct{}{}
	f.count.Store(int32(len(f.listeners)))
	f.mu.Unlock()
	var once sync.Once
	return ch, func() {
		once.Do(func() {
			f.mu.Lock()
			delete(f.listeners, ch)
			f.count.Store(int32(len(f.listeners)))
			close(ch)
			f.mu.Unlock()
		})
	}
}

// FeedLost is how many entries slow listeners have missed.
func (j *Journal) FeedLost() int64 { return j.feed.lost.Load() }

func (f *feed) listened() bool { return f.count.Load() > 0 }

func (f *feed) publish(batch []*op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range batch {
		if o.event == nil {
			continue
		}
		for ch := range f.listeners {
			select {
			case ch <- o.event:
			default:
				f.lost.Add(1)
			}
		}
	}
}
