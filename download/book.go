package download

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/card"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/spec"
	"acquirer/store"
)

// Vault keeps the card numbers of the black list: the HSM.
type Vault interface {
	// Seal gives the sealed number and the token by which it is found.
	Seal(ctx context.Context, number string) (sealed []byte, token [16]byte, err error)
	// Open gives the number back.
	Open(ctx context.Context, sealed []byte, token [16]byte) (string, error)
}

// Book holds in memory what the house gives its terminals and what they have
// of it, as this node knows it, written through to the store. Lookups neither
// wait nor, where a transaction makes them, allocate. It is safe for
// concurrent use.
type Book struct {
	db        *store.DB
	vault     Vault
	shelf     atomic.Pointer[shelf]
	terminals atomic.Pointer[map[string]*slot]

	growing sync.Mutex // held while the map of terminals is replaced by a bigger one
	refresh sync.Mutex // one refresh at a time
	seen    int64      // version of the terminals; under refresh
}

// shelf is the content at one version. It is never changed.
type shelf struct {
	version  int64
	changed  [kinds]map[string]int64 // by scope
	keys     []spec.CAKey
	keyAt    map[spec.CAKeyID]int
	apps     []spec.Application
	appAt    map[string]int
	settings map[string]map[string]string // scope -> tag -> text
	small    map[string]amounts           // scope -> contactless limits
	black    []black
	prefixes map[string]struct{}
	tokens   map[[16]byte]struct{}
}

// amounts are limits of a scope; negative says nothing.
type amounts struct{ noPIN, noSignature money.Amount }

// Open reads everything there is; the store must have been opened with Schema.
func Open(ctx context.Context, db *store.DB, vault Vault) (*Book, error) {
	b := &Book{db: db, vault: vault}
	b.terminals.Store(&map[string]*slot{})
	if err := b.Refresh(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// Refresh takes in what other nodes changed. It costs two small reads when
// nothing did.
func (b *Book) Refresh(ctx context.Context) error {
	b.refresh.Lock()
	defer b.refresh.Unlock()
	var content *shelf
	var terminals []Terminal
	var version int64
	err := b.db.Read(ctx, func(tx store.Tx) error {
		content, terminals = nil, nil
		v, err := readVersion(tx, ofContent)
		if err != nil {
			return err
		}
		if now := b.shelf.Load(); now == nil || now.version != v {
			if content, err = readShelf(tx); err != nil {
				return err
			}
		}
		if version, err = readVersion(tx, ofTerminals); err != nil || version == b.seen {
			return err
		}
		rows, err := tx.Query("select "+terminalColumns+" from download_terminal where version > $1", b.seen)
		terminals, err = store.All(rows, err, scanTerminal)
		return err
	})
	if err != nil {
		return fmt.Errorf("download: reading what terminals download: %w", err)
	}
	if content != nil {
		b.shelf.Store(content)
	}
	b.adopt(terminals)
	b.seen = version
	return nil
}

// Watch refreshes at every interval until ctx ends; failures are told to
// report and tried again.
func (b *Book) Watch(ctx context.Context, every time.Duration, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := b.Refresh(ctx); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
	}
}

// change writes content and takes it in. When the taking in fails the content
// is written all the same, and the error says so.
func (b *Book) change(ctx context.Context, f func(*change) error) error {
	fault.Hit("download.content.before")
	err := b.db.Write(ctx, func(tx store.Tx) error {
		v, err := nextVersion(tx, ofContent)
		if err != nil {
			return err
		}
		return f(&change{tx, v})
	})
	fault.Hit("download.content.after")
	if err != nil {
		return fmt.Errorf("download: writing what terminals download: %w", err)
	}
	if err := b.Refresh(ctx); err != nil {
		return fmt.Errorf("written, but not in force on this node until it can be read: %w", err)
	}
	return nil
}

// Import makes the house hold what a set says: its CA keys, applications,
// parameters and limits, all or nothing, and the overrides of the merchants and
// terminals that it names. The black list only grows: what was blocked while
// the house worked stays blocked. Only what differs gets a new version, so the
// same set may be imported at every start.
func (b *Book) Import(ctx context.Context, s *Set) error {
	if err := s.check(); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	keys, apps := map[string][]byte{}, map[string][]byte{}
	for i := range s.CAKeys {
		keys[s.CAKeys[i].CAKeyID.String()] = s.CAKeys[i].Append(nil)
	}
	for i := range s.Applications {
		apps[fmt.Sprintf("%X", s.Applications[i].AID)] = s.Applications[i].Append(nil)
	}
	entries, err := b.seal(ctx, s.BlackList)
	if err != nil {
		return err
	}
	return b.change(ctx, func(c *change) error {
		if err := errors.Join(c.setObjects(CAKeys, keys), c.setObjects(Applications, apps), c.set("", s.House.settings())); err != nil {
			return err
		}
		for _, scope := range slices.Sorted(maps.Keys(s.Overrides)) {
			o := s.Overrides[scope]
			if err := c.set(scope, o.settings()); err != nil {
				return err
			}
		}
		return c.block(entries)
	})
}

// Override replaces what is different for a merchant (MID) or a terminal
// (TID); the zero Override takes everything back.
func (b *Book) Override(ctx context.Context, scope string, o Override) error {
	if err := checkScope(scope); err != nil {
		return fmt.Errorf("%w: %q", err, scope)
	}
	if err := o.check(scope); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	return b.change(ctx, func(c *change) error { return c.set(scope, o.settings()) })
}

// Block puts a card number, or 4 to 12 digits that numbers begin with, on the
// black list.
func (b *Book) Block(ctx context.Context, entry string) error {
	entries, err := b.seal(ctx, []string{entry})
	if err != nil {
		return err
	}
	return b.change(ctx, func(c *change) error { return c.block(entries) })
}

// ErrNotBlocked says that something to be unblocked was not on the list.
var ErrNotBlocked = errors.New("download: not on the black list")

// Unblock takes a number or a beginning off the list.
func (b *Book) Unblock(ctx context.Context, entry string) error {
	entries, err := b.seal(ctx, []string{entry})
	if err != nil {
		return err
	}
	return b.change(ctx, func(c *change) error {
		found, err := c.unblock(entries[0].entry)
		if err == nil && !found {
			err = ErrNotBlocked
		}
		return err
	})
}

// seal makes rows of entries. What is wrong is not repeated in the error.
func (b *Book) seal(ctx context.Context, entries []string) ([]black, error) {
	var out []black
	for i, e := range entries {
		if !blackEntry(e) {
			return nil, fmt.Errorf("download: entry %d for the black list is not 4 to 19 digits", i+1)
		}
		if len(e) <= longestBeginning {
			out = append(out, black{entry: e})
			continue
		}
		sealed, token, err := b.vault.Seal(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("download: sealing entry %d of the black list: %w", i+1, err)
		}
		out = append(out, black{hex.EncodeToString(token[:]), sealed})
	}
	return out, nil
}

// Blocked reports whether a card is on the black list, by the beginning of its
// number or by the token of the whole of it (Vault.Seal).
func (b *Book) Blocked(pan card.PAN, token [16]byte) bool {
	s := b.shelf.Load()
	if _, blocked := s.tokens[token]; blocked {
		return true
	}
	if len(s.prefixes) == 0 {
		return false
	}
	for n := 4; n <= longestBeginning; n++ {
		if _, blocked := s.prefixes[pan.BIN(n)]; blocked {
			return true
		}
	}
	return false
}

// The pages are so long that every terminal seen takes them.
const (
	keysPerPage  = 10
	aidsPerPage  = 10
	cardsPerPage = 40
)

// page cuts a page out of n entries.
func page(n, offset, most int) (from, to int, flag spec.PageFlag) {
	if offset >= n {
		return 0, 0, spec.PageNothing
	}
	to = min(n, offset+most)
	if to < n {
		return offset, to, spec.PageMore
	}
	return offset, to, spec.PageLast
}

// CAKeyPage is DE 62 of an answer to a query: the keys from the offset-th on.
func (b *Book) CAKeyPage(offset int) []byte {
	keys := b.shelf.Load().keys
	from, to, flag := page(len(keys), offset, keysPerPage)
	out := []byte{byte(flag)}
	for i := from; i < to; i++ {
		out = spec.AppendCAKeyRef(out, spec.CAKeyRef{CAKeyID: keys[i].CAKeyID, Expires: keys[i].Expires})
	}
	return out
}

// CAKey is DE 62 of an answer to a download: the key, or that there is none.
func (b *Book) CAKey(id spec.CAKeyID) []byte {
	s := b.shelf.Load()
	i, known := s.keyAt[id]
	if !known {
		return []byte{byte(spec.PageNothing)}
	}
	return s.keys[i].Append([]byte{byte(spec.PageLast)})
}

// AIDPage is DE 62 of an answer to a query: the applications from the
// offset-th on.
func (b *Book) AIDPage(offset int) []byte {
	apps := b.shelf.Load().apps
	from, to, flag := page(len(apps), offset, aidsPerPage)
	out := []byte{byte(flag)}
	for i := from; i < to; i++ {
		out = spec.AppendAID(out, apps[i].AID)
	}
	return out
}

// AID is DE 62 of an answer to a download: the application, or that there is
// none.
func (b *Book) AID(aid []byte) []byte {
	s := b.shelf.Load()
	i, known := s.appAt[string(aid)]
	if !known {
		return []byte{byte(spec.PageNothing)}
	}
	return s.apps[i].Append([]byte{byte(spec.PageLast)})
}

// Parameters is DE 62 of an answer to a parameter download. The merchant's name
// is told in tag 22 unless the settings say another.
func (b *Book) Parameters(tid, mid, name string) ([]byte, error) {
	s := b.shelf.Load()
	all := map[string]string{"22": name}
	for _, scope := range [...]string{"", mid, tid} {
		for tag, text := range s.settings[scope] {
			if kindOf(tag) == Parameters {
				all[tag] = text
			}
		}
	}
	var out []byte
	var err error
	for _, tag := range slices.Sorted(maps.Keys(all)) {
		if out, err = spec.AppendParameter(out, tag, all[tag]); err != nil {
			return nil, fmt.Errorf("download: parameters of terminal %s: %w", tid, err)
		}
	}
	return out, nil
}

// Limits are the amounts up to which a contactless sale at a terminal needs no
// PIN, and no signature.
func (b *Book) Limits(tid, mid string) (noPIN, noSignature money.Amount) {
	s := b.shelf.Load()
	for _, scope := range [...]string{"", mid, tid} {
		a, set := s.small[scope]
		if set && a.noPIN >= 0 {
			noPIN = a.noPIN
		}
		if set && a.noSignature >= 0 {
			noSignature = a.noSignature
		}
	}
	return noPIN, noSignature
}

// QPS is DE 62 of an answer to a download of the contactless limits.
func (b *Book) QPS(tid, mid string) ([]byte, error) {
	noPIN, noSignature := b.Limits(tid, mid)
	quick := "0"
	if noPIN > 0 {
		quick = "1"
	}
	var out []byte
	var err error
	for _, l := range [...][2]string{{spec.LimitNoPIN, spec.LimitFen(noPIN.Fen())}, {spec.LimitNoSignature, spec.LimitFen(noSignature.Fen())}, {spec.LimitQuickPass, quick}} {
		if out, err = spec.AppendLimit(out, l[0], l[1]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// BlackList is DE 62 of an answer to a download of a page of the black list.
// It opens the card numbers on it.
func (b *Book) BlackList(ctx context.Context, number int) ([]byte, error) {
	list := b.shelf.Load().black
	from, to, flag := page(len(list), number*cardsPerPage, cardsPerPage)
	if flag == spec.PageNothing {
		return []byte{byte(flag)}, nil
	}
	entries := make([]string, 0, to-from)
	for _, e := range list[from:to] {
		if len(e.sealed) == 0 {
			entries = append(entries, e.entry)
			continue
		}
		token, err := tokenOf(e.entry)
		if err != nil {
			return nil, err
		}
		clear, err := b.vault.Open(ctx, e.sealed, token)
		if err != nil {
			return nil, fmt.Errorf("download: opening a card number of the black list: %w", err)
		}
		entries = append(entries, clear)
	}
	return spec.AppendBlackList(nil, flag, entries)
}

func tokenOf(entry string) (token [16]byte, err error) {
	b, err := hex.DecodeString(entry)
	if err != nil || len(b) != len(token) {
		return token, errors.New("download: a row of the black list is neither digits nor a token")
	}
	return [16]byte(b), nil
}

// newest is the version of a kind that a terminal should have.
func (s *shelf) newest(k Kind, tid, mid string) int64 {
	by := s.changed[k]
	return max(by[""], by[mid], by[tid])
}

func (s *shelf) readObjects(tx store.Tx) error {
	keys, err := readObjects(tx, CAKeys)
	if err != nil {
		return err
	}
	for _, o := range keys {
		k, err := spec.ParseCAKey(o.bytes)
		if err != nil {
			return fmt.Errorf("stored CA key %s: %w", o.name, err)
		}
		s.keyAt[k.CAKeyID] = len(s.keys)
		s.keys = append(s.keys, k)
	}
	apps, err := readObjects(tx, Applications)
	if err != nil {
		return err
	}
	for _, o := range apps {
		a, err := spec.ParseApplication(o.bytes)
		if err != nil {
			return fmt.Errorf("stored application %s: %w", o.name, err)
		}
		s.appAt[string(a.AID)] = len(s.apps)
		s.apps = append(s.apps, a)
	}
	return nil
}

func (s *shelf) addSetting(v setting) error {
	if s.settings[v.scope] == nil {
		s.settings[v.scope] = map[string]string{}
	}
	s.settings[v.scope][v.tag] = v.value
	if kindOf(v.tag) == Parameters {
		return nil
	}
	fen, err := strconv.ParseInt(v.value, 10, 64)
	if err != nil {
		return fmt.Errorf("stored limit %s of %q: %w", v.tag, v.scope, err)
	}
	a, set := s.small[v.scope]
	if !set {
		a = amounts{-1, -1}
	}
	if v.tag == spec.LimitNoPIN {
		a.noPIN = money.Amount(fen)
	} else {
		a.noSignature = money.Amount(fen)
	}
	s.small[v.scope] = a
	return nil
}

// index makes the black list fit to be looked up.
func (s *shelf) index() error {
	for _, e := range s.black {
		if len(e.sealed) == 0 {
			s.prefixes[e.entry] = struct{}{}
			continue
		}
		token, err := tokenOf(e.entry)
		if err != nil {
			return err
		}
		s.tokens[token] = struct{}{}
	}
	return nil
}
