package payshield

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errQueueFull says that more callers wait for a device than may.
var errQueueFull = errors.New("the queue before the payShield is full: its calls per second are not enough")

// pace lets so many calls through in a second, which is what a payShield is
// licensed for, and makes the others wait in line. A tenth of a second's calls
// may go at once.
type pace struct {
	every time.Duration // 0: as many as come
	burst time.Duration
	most  int64

	mu      sync.Mutex
	next    time.Time
	waiting atomic.Int64
}

func newPace(perSecond, most int) *pace {
	if perSecond <= 0 {
		return &pace{}
	}
	return &pace{every: time.Second / time.Duration(perSecond), burst: time.Second / 10, most: int64(most)}
}

// wait takes the next place and returns when its time has come.
func (p *pace) wait(ctx context.Context) error {
	if p.every == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-p.burst); p.next.Before(earliest) {
		p.next = earliest
	}
	delay := p.next.Sub(now)
	if delay > 0 && p.waiting.Load() >= p.most {
		p.mu.Unlock()
		return errQueueFull
	}
	p.next = p.next.Add(p.every)
	if delay <= 0 {
		p.mu.Unlock()
		return nil
	}
	p.waiting.Add(1)
	p.mu.Unlock()
	defer p.waiting.Add(-1)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
