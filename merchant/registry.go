package merchant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/store"
)

// Registry holds every merchant and terminal in memory as this node knows
// them, written through to the store. Lookups neither allocate nor wait.
type Registry struct {
	db        *store.DB
	merchants atomic.Pointer[map[[15]byte]*slot[Merchant]]
	terminals atomic.Pointer[map[[8]byte]*slot[Terminal]]
	plans     atomic.Pointer[Plans]
	terms     atomic.Pointer[map[string]*Terms] // by MID

	growing sync.Mutex // held while a map is replaced by a bigger one
	seen    atomic.Int64
	refresh sync.Mutex // one refresh at a time
}

// slot holds the newest snapshot of one row.
type slot[T any] struct{ now atomic.Pointer[T] }

// set replaces the snapshot unless a newer one is there already.
func (s *slot[T]) set(v *T, version func(*T) int64) {
	for {
		old := s.now.Load()
		if old != nil && version(old) >= version(v) || s.now.CompareAndSwap(old, v) {
			return
		}
	}
}

// OpenRegistry reads everything there is; the store must have been opened with
// Schema. The fee plans that ship with the binary are written into it, so that
// what a merchant signed stays readable whatever later binaries ship.
func OpenRegistry(ctx context.Context, db *store.DB) (*Registry, error) {
	r := &Registry{db: db}
	r.merchants.Store(&map[[15]byte]*slot[Merchant]{})
	r.terminals.Store(&map[[8]byte]*slot[Terminal]{})
	r.plans.Store(&Plans{})
	r.terms.Store(&map[string]*Terms{})
	if _, err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	if err := r.ImportPlans(ctx, bytes.NewReader(builtInPlans)); err != nil {
		return nil, err
	}
	return r, r.signAll(ctx)
}

// Terminal finds a terminal by the 8 bytes of DE 41.
func (r *Registry) Terminal(tid []byte) (*Terminal, bool) {
	if len(tid) != 8 {
		return nil, false
	}
	if s := (*r.terminals.Load())[[8]byte(tid)]; s != nil {
		return s.now.Load(), true
	}
	return nil, false
}

// Merchant finds a merchant by the 15 bytes of DE 42.
func (r *Registry) Merchant(mid []byte) (*Merchant, bool) {
	if len(mid) != 15 {
		return nil, false
	}
	if s := (*r.merchants.Load())[[15]byte(mid)]; s != nil {
		return s.now.Load(), true
	}
	return nil, false
}

// Terminals walks the terminals in no order.
func (r *Registry) Terminals() iter.Seq[*Terminal] {
	return func(yield func(*Terminal) bool) {
		for _, s := range *r.terminals.Load() {
			if !yield(s.now.Load()) {
				return
			}
		}
	}
}

// Merchants walks the merchants in no order.
func (r *Registry) Merchants() iter.Seq[*Merchant] {
	return func(yield func(*Merchant) bool) {
		for _, s := range *r.merchants.Load() {
			if !yield(s.now.Load()) {
				return
			}
		}
	}
}

// Len counts the merchants and terminals.
func (r *Registry) Len() (merchants, terminals int) {
	return len(*r.merchants.Load()), len(*r.terminals.Load())
}

// Refresh takes in what other nodes changed and returns how many rows that
// were. It costs one small read when nothing did.
func (r *Registry) Refresh(ctx context.Context) (int, error) {
	r.refresh.Lock()
	defer r.refresh.Unlock()
	seen := r.seen.Load()
	var version int64
	var merchants []Merchant
	var terminals []Terminal
	var news priceNews
	err := r.db.Read(ctx, func(tx store.Tx) (err error) {
		merchants, terminals, news = nil, nil, priceNews{}
		if version, err = readVersion(tx); err != nil || version == seen {
			return err
		}
		// On PostgreSQL these reads may see rows newer than version; they come again next time.
		rows, err := tx.Query("select "+merchantColumns+" from merchant where version > $1", seen)
		if merchants, err = store.All(rows, err, scanMerchant); err != nil {
			return err
		}
		rows, err = tx.Query("select "+terminalColumns+" from merchant_terminal where version > $1", seen)
		if terminals, err = store.All(rows, err, scanTerminal); err != nil {
			return err
		}
		return news.read(tx, seen)
	})
	if err != nil {
		return 0, fmt.Errorf("merchant: reading the registry: %w", err)
	}
	if err := r.adoptPrices(&news); err != nil {
		return 0, err
	}
	r.adopt(merchants, terminals)
	r.seen.Store(version)
	return len(merchants) + len(terminals), nil
}

// Watch refreshes at every interval until ctx ends; failures are told to
// report and tried again.
func (r *Registry) Watch(ctx context.Context, every time.Duration, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := r.Refresh(ctx); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
	}
}

// adopt puts snapshots in place, making room for new rows first.
func (r *Registry) adopt(merchants []Merchant, terminals []Terminal) {
	r.growing.Lock()
	defer r.growing.Unlock()
	ms, ts := *r.merchants.Load(), *r.terminals.Load()
	grownM, grownT := false, false
	for i := range merchants {
		m := &merchants[i]
		s := ms[[15]byte([]byte(m.MID))]
		if s == nil {
			if !grownM {
				ms, grownM = maps.Clone(ms), true
			}
			s = &slot[Merchant]{}
			ms[[15]byte([]byte(m.MID))] = s
		}
		s.set(m, func(m *Merchant) int64 { return m.Version })
	}
	for i := range terminals {
		t := &terminals[i]
		s := ts[[8]byte([]byte(t.TID))]
		if s == nil {
			if !grownT {
				ts, grownT = maps.Clone(ts), true
			}
			s = &slot[Terminal]{}
			ts[[8]byte([]byte(t.TID))] = s
		}
		s.set(t, func(t *Terminal) int64 { return t.Version })
	}
	if grownM {
		r.merchants.Store(&ms)
	}
	if grownT {
		r.terminals.Store(&ts)
	}
}

// Put registers merchants and terminals or replaces what is known of them, all
// or none. Working keys are not touched: those of a terminal that is already
// registered stay, a new one has none. A terminal's merchant must be
// registered, before or in the same call. A profile's empty fields take their
// defaults (Import).
func (r *Registry) Put(ctx context.Context, merchants []Merchant, terminals []Terminal) error {
	var savedM []Merchant
	var savedT []Terminal
	var signed priceNews
	today := calendar.DateOf(time.Now())
	for i := range merchants {
		if err := merchants[i].check(); err != nil {
			return err
		}
	}
	terminals = slices.Clone(terminals)
	for i := range terminals {
		terminals[i].Profile.defaults()
		if err := terminals[i].check(); err != nil {
			return err
		}
	}
	fault.Hit("registry.put.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		savedM, savedT, signed = append([]Merchant(nil), merchants...), nil, priceNews{}
		version, err := nextVersion(tx)
		if err != nil {
			return err
		}
		for i := range savedM {
			savedM[i].Version = version
			if err := saveMerchant(tx, &savedM[i]); err != nil {
				return fmt.Errorf("merchant: saving %s: %w", savedM[i].MID, err)
			}
			if err := r.sign(tx, &savedM[i], r.Terms(savedM[i].MID).last(), today, &signed); err != nil {
				return fmt.Errorf("merchant: the contract of %s: %w", savedM[i].MID, err)
			}
		}
		for _, t := range terminals {
			known, err := hasMerchant(tx, t.MID)
			if err != nil {
				return err
			}
			if !known {
				return fmt.Errorf("%w: merchant %s of terminal %s; register it first", ErrUnknown, t.MID, t.TID)
			}
			switch old, err := lockTerminal(tx, t.TID); {
			case err == nil:
				t.Keys, t.Previous = old.Keys, old.Previous
				t.TMK, t.TTK, t.Since = either(t.TMK, old.TMK), either(t.TTK, old.TTK), old.Since
				if old.Status == Pending && t.Status != Pending {
					t.Since = today // its first month and its SIM card's first year begin with its use
				}
			case errors.Is(err, ErrUnknown):
				t.Keys, t.Previous, t.Since = Keys{}, Keys{}, today
			default:
				return err
			}
			t.Version = version
			if err := saveTerminal(tx, &t); err != nil {
				return fmt.Errorf("merchant: saving terminal %s: %w", t.TID, err)
			}
			savedT = append(savedT, t)
		}
		return nil
	})
	fault.Hit("registry.put.after")
	if err != nil {
		return err
	}
	if err := r.adoptPrices(&signed); err != nil {
		return err
	}
	r.adopt(savedM, savedT)
	return nil
}

// SignIn stores the working keys of a sign-in before they leave the house. The
// keys used last stay good until Confirm.
func (r *Registry) SignIn(ctx context.Context, tid string, keys Keys, now time.Time) (*Terminal, error) {
	return r.change(ctx, tid, func(t *Terminal) bool { t.newKeys(keys, now); return true })
}

// Confirm drops the older keys once a message came under the keys of a
// generation. An older generation changes nothing.
func (r *Registry) Confirm(ctx context.Context, tid string, generation int64) (*Terminal, error) {
	return r.change(ctx, tid, func(t *Terminal) bool {
		if t.Keys.Generation != generation || t.Previous.None() {
			return false
		}
		t.Previous = Keys{}
		return true
	})
}

// SetTMK stores a terminal's master key and forgets the working keys that were
// sent under the one before.
func (r *Registry) SetTMK(ctx context.Context, tid, tmk string) (*Terminal, error) {
	return r.change(ctx, tid, func(t *Terminal) bool {
		t.TMK, t.Keys, t.Previous = tmk, Keys{Generation: t.Keys.Generation}, Keys{}
		return true
	})
}

// SetBatch stores the terminal's batch number (DE 60.2), 1 to 999999.
func (r *Registry) SetBatch(ctx context.Context, tid string, batch int) (*Terminal, error) {
	if batch < 1 || batch > 999999 {
		return nil, fmt.Errorf("merchant: terminal %q: batch number %d is not 1 to 999999", tid, batch)
	}
	return r.change(ctx, tid, func(t *Terminal) bool {
		if t.Batch == batch {
			return false
		}
		t.Batch = batch
		return true
	})
}

// DeliverTMK stores a master key that is about to be delivered. Working keys
// stay: until the terminal signs in under it nothing says that it arrived.
func (r *Registry) DeliverTMK(ctx context.Context, tid, tmk string) (*Terminal, error) {
	return r.change(ctx, tid, func(t *Terminal) bool { t.TMK = tmk; return true })
}

// change applies edit to the stored row, which may be newer than this node's
// snapshot, and takes the result in. edit returns false to leave it as it is.
func (r *Registry) change(ctx context.Context, tid string, edit func(*Terminal) bool) (*Terminal, error) {
	var out *Terminal
	fault.Hit("registry.change.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		t, err := lockTerminal(tx, tid)
		if err != nil {
			return err
		}
		out = t
		if !edit(t) {
			return nil
		}
		if t.Version, err = nextVersion(tx); err != nil {
			return err
		}
		return saveTerminal(tx, t)
	})
	fault.Hit("registry.change.after")
	if err != nil {
		return nil, err
	}
	r.adopt(nil, []Terminal{*out})
	return out, nil
}
