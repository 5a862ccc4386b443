package download

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"acquirer/fault"
	"acquirer/spec"
	"acquirer/store"
)

// Versions has a number for each Kind.
type Versions [kinds]int64

// String is the numbers with blanks between, as they are stored.
func (v Versions) String() string {
	var b []byte
	for i, n := range v {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(b)
}

// read is the reverse of String; kinds that came later are 0.
func (v *Versions) read(s string) error {
	for i, word := range strings.Fields(s) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || i >= len(v) {
			return fmt.Errorf("stored versions %q of a terminal cannot be read", s)
		}
		v[i] = n
	}
	return nil
}

// Terminal is what the house knows of a terminal's downloads. One from the
// Book is a snapshot shared by all readers: never write to it.
type Terminal struct {
	TID    string
	Held   Versions // what the terminal said it has; 0 never
	Status []byte   // what it last said of itself (spec.WalkParameters)

	started  Versions // what it began to download
	asked    uint16   // demands of an operator, a bit each
	statusAt int64
	version  int64
}

// Asked reports whether an operator's demand waits for the terminal.
func (t *Terminal) Asked(d spec.Demand) bool { return t.asked&(1<<d) != 0 }

// StatusAt is when Status came, the zero time when it never did.
func (t *Terminal) StatusAt() time.Time {
	if t.statusAt == 0 {
		return time.Time{}
	}
	return time.UnixMicro(t.statusAt)
}

// slot holds the newest snapshot of one terminal.
type slot struct{ now atomic.Pointer[Terminal] }

func (s *slot) set(t *Terminal) {
	for {
		old := s.now.Load()
		if old != nil && old.version >= t.version || s.now.CompareAndSwap(old, t) {
			return
		}
	}
}

func (b *Book) adopt(terminals []Terminal) {
	b.growing.Lock()
	defer b.growing.Unlock()
	all, grown := *b.terminals.Load(), false
	for i := range terminals {
		t := &terminals[i]
		s := all[t.TID]
		if s == nil {
			if !grown {
				all, grown = maps.Clone(all), true
			}
			s = &slot{}
			all[t.TID] = s
		}
		s.set(t)
	}
	if grown {
		b.terminals.Store(&all)
	}
}

var nobody Terminal

// Terminal is what is known of a terminal; nothing, for one that never
// downloaded.
func (b *Book) Terminal(tid string) *Terminal {
	if s := (*b.terminals.Load())[tid]; s != nil {
		return s.now.Load()
	}
	return &nobody
}

// Newest are the versions that a terminal should have.
func (b *Book) Newest(tid, mid string) (v Versions) {
	s := b.shelf.Load()
	for k := range kinds {
		v[k] = s.newest(k, tid, mid)
	}
	return v
}

// inOrder are the demands in the order in which a terminal hears them: keys
// before content, and its own status last.
var inOrder = [...]spec.Demand{spec.DemandSignIn, spec.DemandParameters, spec.DemandCAPK, spec.DemandICParameters, spec.DemandBlackList, spec.DemandStatus}

// Demand is what a terminal should be asked for in the next answer: what an
// operator wants of it, then what it has not the newest of. The contactless
// limits are not demanded: the header has no word for them.
func (b *Book) Demand(tid, mid string) spec.Demand {
	t := b.Terminal(tid)
	if t.asked != 0 {
		for _, d := range inOrder {
			if t.Asked(d) {
				return d
			}
		}
	}
	s := b.shelf.Load()
	for k, d := range demands {
		if d != spec.DemandNothing && s.newest(Kind(k), tid, mid) > t.Held[k] {
			return d
		}
	}
	return spec.DemandNothing
}

// Ask wants something of a terminal. It stays wanted until the terminal has
// done it.
func (b *Book) Ask(ctx context.Context, tid string, d spec.Demand) error {
	for _, known := range inOrder {
		if d == known {
			return b.edit(ctx, tid, func(t *Terminal) bool {
				if t.Asked(d) {
					return false
				}
				t.asked |= 1 << d
				return true
			})
		}
	}
	return fmt.Errorf("download: terminal %s cannot be asked for %d; it is 1 parameters, 2 status, 3 sign-in, 4 CA keys, 5 applications or 7 black list", tid, d)
}

// Done takes an operator's demand back, which the terminal has fulfilled. It
// costs nothing when there is none.
func (b *Book) Done(ctx context.Context, tid string, d spec.Demand) error {
	if !b.Terminal(tid).Asked(d) {
		return nil
	}
	return b.edit(ctx, tid, func(t *Terminal) bool {
		if !t.Asked(d) {
			return false
		}
		t.asked &^= 1 << d
		return true
	})
}

// Begin remembers which version of a kind a terminal begins to download: what
// changes before its end is not taken for known.
func (b *Book) Begin(ctx context.Context, k Kind, tid, mid string) error {
	newest := b.shelf.Load().newest(k, tid, mid)
	if b.Terminal(tid).started[k] == newest {
		return nil
	}
	return b.edit(ctx, tid, func(t *Terminal) bool {
		if t.started[k] == newest {
			return false
		}
		t.started[k] = newest
		return true
	})
}

// End records that a terminal has what it began to download, and takes an
// operator's demand for it back. An end without a beginning leaves the
// versions as they are.
func (b *Book) End(ctx context.Context, k Kind, tid string) error {
	return b.edit(ctx, tid, func(t *Terminal) bool {
		before := *t
		t.Held[k] = t.started[k]
		if d := demands[k]; d != spec.DemandNothing {
			t.asked &^= 1 << d
		}
		return t.Held != before.Held || t.asked != before.asked
	})
}

// maxStatus is how long a status may be (docs/fields.md, DE 62).
const maxStatus = 160

// SaveStatus keeps what a terminal says of itself, and takes an operator's
// demand for it back. It must be made of known parameters: whatever else stands
// there may be card data, and is refused with spec.ErrDownload.
func (b *Book) SaveStatus(ctx context.Context, tid string, de62 []byte, now time.Time) error {
	if len(de62) == 0 || len(de62) > maxStatus {
		return fmt.Errorf("%w: a status of %d bytes, want 1 to %d", spec.ErrDownload, len(de62), maxStatus)
	}
	for _, err := range spec.WalkParameters(de62) {
		if err != nil {
			return err
		}
	}
	return b.edit(ctx, tid, func(t *Terminal) bool {
		t.Status, t.statusAt = bytes.Clone(de62), now.UnixMicro()
		t.asked &^= 1 << spec.DemandStatus
		return true
	})
}

// edit applies f to the stored row, which may be newer than this node's
// snapshot, and takes the result in. f returns false to leave it as it is.
func (b *Book) edit(ctx context.Context, tid string, f func(*Terminal) bool) error {
	var out *Terminal
	fault.Hit("download.terminal.before")
	err := b.db.Write(ctx, func(tx store.Tx) error {
		// The number first: its lock makes way for one at a time, also where
		// the terminal has no row to lock yet.
		version, err := nextVersion(tx, ofTerminals)
		if err != nil {
			return err
		}
		t, err := lockTerminal(tx, tid)
		if err != nil {
			return err
		}
		out = t
		if !f(t) {
			return nil
		}
		t.version = version
		return saveTerminal(tx, t)
	})
	fault.Hit("download.terminal.after")
	if err != nil {
		return fmt.Errorf("download: terminal %s: %w", tid, err)
	}
	b.adopt([]Terminal{*out})
	return nil
}
