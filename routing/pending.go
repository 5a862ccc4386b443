package routing

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/fault"
	"acquirer/spec"
)

// call is one request in flight. Its caller and the session's writer both hold
// it; the last to let go returns it to the pool.
type call struct {
	key        uint64 // MTI of the answer and STAN
	next       *call  // under Issuer.mu: another one of that key, of another RRN or terminal
	prefer     uint32 // picks the line
	rrn        text
	terminal   text
	amount     text
	partial    bool // an approval of less than amount (DE 39 10) is an answer
	management bool // network management of our own, not a caller's request
	signed     bool
	generation uint32 // of the key that signed it
	frame      []byte // header and message

	state   atomic.Int32
	holders atomic.Int32
	timer   *time.Timer

	inbox   []inbound     // under Issuer.mu: answers that match, not yet judged
	arrived chan struct{} // 1-buffered: look into inbox
}

// inbound is a received message and the line that brought it.
type inbound struct {
	body []byte
	line int
}

// maxInbox is how many answers to one request wait for its caller to judge
// their MACs; one is the rule.
const maxInbox = 4

// What became of a call's frame. The writer moves queued to handed just before
// the bytes go to the socket: from then on they may have left the house.
const (
	queued    int32 = iota
	handed          // given to the socket, whole or in part
	unsent          // the socket refused before its first byte
	withdrawn       // taken back by the caller while it was queued
)

// text is a short field kept for comparison.
type text struct {
	n int
	b [16]byte
}

func (t *text) set(v []byte) { t.n = copy(t.b[:], v) }

// fits: what the request did not carry, the answer may.
func (t *text) fits(v []byte) bool { return t.n == 0 || string(t.b[:t.n]) == string(v) }

func newCall() *call {
	c := &call{arrived: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	c.timer.Stop()
	return c
}

func (c *call) reset(answer spec.MTI, stan uint32) {
	c.key = callKey(answer, stan)
	c.signed, c.generation, c.inbox = false, 0, c.inbox[:0]
	c.state.Store(queued)
	c.holders.Store(1)
	select {
	case <-c.arrived:
	default:
	}
}

func callKey(answer spec.MTI, stan uint32) uint64 { return uint64(answer)<<32 | uint64(stan) }

func (c *call) hold() { c.holders.Add(1) }

func (c *call) release(pool *sync.Pool) {
	if c.holders.Add(-1) == 0 {
		pool.Put(c)
	}
}

// withdraw takes the frame back from the session's queue and reports whether
// it was, now or before, still there.
func (c *call) withdraw() bool {
	return c.state.CompareAndSwap(queued, withdrawn) || c.state.Load() == withdrawn
}

// takeBack reports whether no byte of the frame can have left the house, and
// makes it ready for another session. The session it was on has ended.
func (c *call) takeBack() bool {
	if s := c.state.Load(); s == queued || s == unsent {
		c.state.Store(queued)
		return true
	}
	return false
}

// twin reports whether an answer could not be told to belong to one of both.
// STANs come round again; with RRN and terminal they are one request's alone.
func (c *call) twin(o *call) bool { return c.rrn == o.rrn && c.terminal == o.terminal }

// matches holds an answer against what the request said.
func (c *call) matches(m *spec.Message) bool {
	return c.rrn.fits(m.Bytes(37)) && c.terminal.fits(m.Bytes(41)) && (c.amount.fits(m.Bytes(4)) || c.partOf(m) || fault.Planted("another-amount"))
}

// partOf reports whether m approves a part of an amount that may be approved
// in part: more than nothing and less than was asked.
func (c *call) partOf(m *spec.Message) bool {
	part := m.Bytes(4)
	return c.partial && string(m.Bytes(39)) == "10" && len(part) == c.amount.n &&
		string(part) < string(c.amount.b[:c.amount.n]) && string(part) > nothing
}

// nothing is DE 4 of no money.
const nothing = "000000000000"

// recentSize is how many finished requests are remembered, to tell a late
// answer from a second one and both from a stranger.
const recentSize = 4096

type finished struct {
	key uint64
	rrn text
	end ending
}

type ending uint8

const (
	wasAnswered ending = iota + 1
	wasGivenUp
)

// StrayKind is a kind of message that found no caller; its text is the label
// of acquirer_issuer_unmatched_total.
type StrayKind string

// The kinds. Mismatch and BadMAC are alarms: they came for a request that is
// in flight, and were wrong.
const (
	Late      StrayKind = "late"      // its request had been given up
	Duplicate StrayKind = "duplicate" // its request had been answered
	Stranger  StrayKind = "stranger"  // no request of ours, or one long gone
	Mismatch  StrayKind = "mismatch"  // RRN, terminal or amount differ from the request's
	BadMAC    StrayKind = "mac"       // DE 128 is missing or wrong
	Malformed StrayKind = "malformed" // not a message of the dialect
	Rejected  StrayKind = "rejected"  // the network refused it: reject code in the header
)

var strayKinds = []StrayKind{Late, Duplicate, Stranger, Mismatch, BadMAC, Malformed, Rejected}

// Stray is a message that found no caller. Nobody has looked at its MAC, or it
// is wrong: it is for people and counters.
type Stray struct {
	Issuer  string
	Line    int
	Kind    StrayKind
	Message *spec.Message // valid during the call only; holds what was readable when it was malformed
}

// register enters c into the table of what is in flight.
func (i *Issuer) register(c *call) Why {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closing && !c.management {
		return Closing
	}
	c.next = i.pending[c.key]
	for o := c.next; o != nil; o = o.next {
		if o.twin(c) {
			return SameTrace
		}
	}
	i.pending[c.key] = c
	if !c.management {
		i.waiting++
	}
	return ""
}

// forget takes c out of the table; mu is held. From here on nobody lays
// anything into c.
func (i *Issuer) forget(c *call, end ending) {
	switch o := i.pending[c.key]; {
	case o != c:
		for o.next != c {
			o = o.next
		}
		o.next = c.next
	case c.next == nil:
		delete(i.pending, c.key)
	default:
		i.pending[c.key] = c.next
	}
	c.next = nil
	i.recent[recentSlot(c.key)] = finished{c.key, c.rrn, end}
	if c.management {
		return
	}
	if i.waiting--; i.waiting == 0 && i.empty != nil {
		close(i.empty) // once: Close lets nobody in anymore
		i.empty = nil
	}
}

// deliver lays an answer into the call it belongs to, or counts it as a stray.
// It runs on the session's reader and never blocks.
func (i *Issuer) deliver(s *session, m *spec.Message, body []byte) {
	line := s.link.number
	stan, _ := m.Int(11)
	key := callKey(m.MTI(), uint32(stan))
	i.mu.Lock()
	first := i.pending[key]
	c := first
	for c != nil && !c.matches(m) {
		c = c.next
	}
	kind := i.recent[recentSlot(key)].kind(key, m)
	switch {
	case c == nil && first != nil && kind == Stranger:
		kind = Mismatch
	case c == nil:
	case len(c.inbox) == maxInbox:
		kind = Duplicate
	default:
		kind = ""
		c.inbox = append(c.inbox, inbound{body, line})
		select {
		case c.arrived <- struct{}{}:
		default: // the caller has not yet looked; it empties the inbox when it does
		}
	}
	i.mu.Unlock()
	if m.MTI().Class() != 8 && (kind == "" || kind == Late || kind == Duplicate) {
		s.mu.Lock()
		s.streak = 0 // the line carries answers, and not to echoes alone
		s.mu.Unlock()
	}
	if kind != "" {
		i.stray(kind, line, m)
	}
}

// accept judges the answers that the reader laid into c: the first whose MAC
// is right is the answer, those before it are counted as wrong and c goes back
// to waiting as if they had not come.
func (i *Issuer) accept(ctx context.Context, c *call, ans *spec.Message) bool {
	for {
		i.mu.Lock()
		if len(c.inbox) == 0 {
			i.mu.Unlock()
			return false
		}
		in := c.inbox[0]
		c.inbox = append(c.inbox[:0], c.inbox[1:]...)
		i.mu.Unlock()
		err := i.speak.Parse(ans, in.body)
		if err == nil && c.signed {
			err = i.verify(ctx, ans, c.generation)
		}
		if err != nil {
			if errors.Is(err, ErrMAC) {
				i.doubtKeys(c.generation)
			} else {
				i.log.Error("MAC of an answer could not be verified", "line", in.line, "error", err)
			}
			i.stray(BadMAC, in.line, ans)
			continue
		}
		i.mu.Lock()
		i.forget(c, wasAnswered)
		i.mu.Unlock()
		i.strays(c, Duplicate)
		if c.signed && string(ans.Bytes(39)) == "A0" { // our MAC was wrong there
			i.doubtKeys(c.generation)
		}
		return true
	}
}

func (i *Issuer) verify(ctx context.Context, m *spec.Message, generation uint32) error {
	if !m.Has(MACField(i.speak.Dialect, m)) {
		return ErrMAC
	}
	block, mac := spec.SignedPart(m.Raw())
	return i.cfg.Keys.Verify(ctx, block, mac, generation)
}

// settle ends a request without an answer, unless one came at the very end:
// after a frame has left, the table is left only with an empty inbox.
func (i *Issuer) settle(ctx context.Context, c *call, ans *spec.Message, left bool, why Why, err error) error {
	ctx = context.WithoutCancel(ctx) // its end may be what brought us here
	for {
		if left && i.accept(ctx, c, ans) {
			return nil
		}
		i.mu.Lock()
		if !left || len(c.inbox) == 0 {
			i.forget(c, wasGivenUp)
			i.mu.Unlock()
			i.strays(c, Stranger) // answers to what was never sent
			return i.fail(left, why, err)
		}
		i.mu.Unlock()
	}
}

// recentSlot spreads keys over the memory of finished requests.
func recentSlot(key uint64) uint64 { return (key + key>>32*61) % recentSize }

func (f *finished) kind(key uint64, m *spec.Message) StrayKind {
	switch {
	case f.end == 0 || f.key != key || !f.rrn.fits(m.Bytes(37)):
		return Stranger
	case f.end == wasAnswered:
		return Duplicate
	}
	return Late
}

// stray counts and tells.
func (i *Issuer) stray(kind StrayKind, line int, m *spec.Message) {
	i.met.stray(kind)
	i.cfg.Observe(Stray{Issuer: i.cfg.Name, Line: line, Kind: kind, Message: m})
}

// strays counts and tells what was left in the inbox of a finished call.
func (i *Issuer) strays(c *call, kind StrayKind) {
	for _, in := range c.inbox {
		var m spec.Message
		if i.speak.Parse(&m, in.body) == nil {
			i.stray(kind, in.line, &m)
		}
	}
	clear(c.inbox)
	c.inbox = c.inbox[:0]
}
