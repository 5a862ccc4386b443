package switching

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/routing"
	"acquirer/spec"
	"acquirer/store"
)

// ZoneSchema is the zone keys of the house. An issuer knows one acquirer, not its
// nodes, and has one pair of keys for it.
var ZoneSchema = store.Schema{Name: "zone", Steps: []string{`
create table zone_key (
	issuer        TEXT NOT NULL PRIMARY KEY,
	zak           TEXT NOT NULL,   -- key block of the MAC key; '' before the first
	zpk           TEXT NOT NULL,   -- of the PIN key
	generation    BIGINT NOT NULL, -- grows by one with every key that comes
	claimed_by    BIGINT NOT NULL, -- the node that exchanges keys with the issuer
	claimed_until BIGINT NOT NULL  -- microseconds since 1970; 0: it has ended
)`}}

const (
	readZoneKeys  = "select zak, zpk, generation from zone_key where issuer = $1"
	beginZoneKeys = "insert into zone_key (issuer, zak, zpk, generation, claimed_by, claimed_until) values ($1, '', '', 0, 0, 0) on conflict (issuer) do nothing"
	putZAK        = "update zone_key set zak = $2, generation = generation + 1 where issuer = $1"
	putZPK        = "update zone_key set zpk = $2, generation = generation + 1 where issuer = $1"

	// Nobody claims an exchange that others have made since he looked.
	claimZoneKeys   = "update zone_key set claimed_by = $2, claimed_until = $3 where issuer = $1 and generation = $4 and (claimed_by = $2 or claimed_until <= $5)"
	releaseZoneKeys = "update zone_key set claimed_until = 0 where issuer = $1 and claimed_by = $2"
)

const (
	// exchangeLease is how long an exchange keeps the other nodes from another,
	// when its node died over it.
	exchangeLease = time.Minute
	// exchangeLook is how often those look whether it has ended.
	exchangeLook = 100 * time.Millisecond
)

// ZoneKeys are the keys shared with one issuer, as key blocks of the HSM. It
// is what an issuer's lines sign and verify with (routing.Keys) and where a
// purchase finds the key for its PIN. They stand in the store, where the nodes
// of the house find what another has received.
type ZoneKeys struct {
	db     *store.DB // with ZoneSchema
	issuer string
	node   int64
	hsm    hsm.HSM
	zmk    hsm.Key
	alg    hsm.MACAlg
	use    hsm.Use
	raw    bool // the MAC travels as its eight bytes, not as routing.MACText

	mu         sync.RWMutex
	zpk        hsm.Key
	zak, old   macKey // the current one and the one before it
	generation uint32
}

// macKey is a ZAK, and the generation with which it came into use here.
type macKey struct {
	key   hsm.Key
	since uint32
}

// NewZoneKeys works with the keys that db has of an issuer, under zmk, for lines that speak d. Messages are
// signed as the dialect says, with a double-length key; CUPS leaves it to the
// issuer: with x919 the retail MAC of a double-length key (ANSI X9.19), else
// CBC-MAC (X9.9).
func NewZoneKeys(db *store.DB, issuer string, h hsm.HSM, zmk hsm.Key, d *spec.Dialect, x919 bool) *ZoneKeys {
	z := &ZoneKeys{db: db, issuer: issuer, node: int64(store.Node()), hsm: h, zmk: zmk, alg: hsm.MACX99, use: hsm.UseZAK}
	rule := d.MAC()
	z.raw = rule != nil
	switch {
	case rule != nil && rule.Alg == "cmac":
		z.alg, z.use = hsm.MACCMAC, hsm.UseZAKCMAC
	case rule != nil, x919:
		z.alg, z.use = hsm.MACX919, hsm.UseZAK919
	}
	return z
}

var _ routing.Keys = (*ZoneKeys)(nil)

// ZPK is the key that PIN blocks for this issuer are encrypted with; "" until
// the issuer has sent one.
func (z *ZoneKeys) ZPK() hsm.Key {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.zpk
}

// Ready reports whether both keys are there.
func (z *ZoneKeys) Ready() bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.zpk != "" && z.zak.key != ""
}

func (z *ZoneKeys) macKeys() (current, old macKey, generation uint32) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.zak, z.old, z.generation
}

// Sign makes the MAC over block under the current key.
func (z *ZoneKeys) Sign(ctx context.Context, block []byte) ([8]byte, uint32, error) {
	key, _, generation := z.macKeys()
	sum, err := z.mac(ctx, key.key, block)
	return sum, generation, err
}

// Verify accepts the current key, and the one before it for an answer whose
// request was signed with that one. When neither fits, another node may have
// received a newer one.
func (z *ZoneKeys) Verify(ctx context.Context, block, mac []byte, generation uint32) error {
	key, old, seen := z.macKeys()
	err := z.compare(ctx, key.key, block, mac)
	if errors.Is(err, routing.ErrMAC) && old.key != "" && old.since <= generation && generation < key.since {
		err = z.compare(ctx, old.key, block, mac)
	}
	if !errors.Is(err, routing.ErrMAC) {
		return err
	}
	switch now, unread := z.Newest(ctx); {
	case unread != nil:
		return errors.Join(err, unread)
	case now == seen:
		return err
	}
	key, _, _ = z.macKeys()
	return z.compare(ctx, key.key, block, mac)
}

func (z *ZoneKeys) mac(ctx context.Context, key hsm.Key, block []byte) ([8]byte, error) {
	if key == "" {
		return [8]byte{}, errors.New("no MAC key has come from the issuer yet")
	}
	sum, err := z.hsm.MAC(ctx, key, z.alg, block)
	if err != nil {
		return [8]byte{}, err
	}
	if z.raw {
		return sum, nil
	}
	return routing.MACText(sum), nil
}

// compare is in constant time over the eight bytes that travel.
func (z *ZoneKeys) compare(ctx context.Context, key hsm.Key, block, mac []byte) error {
	want, err := z.mac(ctx, key, block)
	if err != nil {
		return err
	}
	if !equalMAC(want[:], mac) {
		return routing.ErrMAC
	}
	return nil
}

// Install takes a key the issuer sent under the zone master key. A MAC key
// proves itself with the MAC of its own message, a PIN key with one under the
// current MAC key; until that holds nothing changes. The key is in the store
// before the issuer hears that it was taken.
func (z *ZoneKeys) Install(ctx context.Context, reset routing.KeyReset) error {
	use, put := hsm.UseZPK, putZPK
	if reset.Use == routing.ZAK {
		use, put = z.use, putZAK
	}
	key, err := z.hsm.ImportKey(ctx, z.zmk, use, reset.Cryptogram, nil)
	if err != nil {
		return fmt.Errorf("importing the %s: %w", reset.Use, err)
	}
	prover := key
	if reset.Use == routing.ZPK {
		if _, err := z.Newest(ctx); err != nil { // the MAC key may have come to another node
			return err
		}
		current, _, _ := z.macKeys()
		if prover = current.key; prover == "" {
			return errors.New("a PIN key came before the first MAC key, which would prove it")
		}
	}
	if err := z.compare(ctx, prover, reset.Block, reset.MAC); err != nil {
		return err
	}
	var row zoneRow
	fault.Hit("zone.key.before")
	err = z.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(beginZoneKeys, z.issuer); err != nil {
			return err
		}
		if _, err := tx.Exec(put, z.issuer, string(key)); err != nil {
			return err
		}
		return tx.QueryRow(readZoneKeys, z.issuer).Scan(&row.zak, &row.zpk, &row.generation)
	})
	fault.Hit("zone.key.after")
	if err != nil {
		return fmt.Errorf("keeping the %s of issuer %s: %w", reset.Use, z.issuer, err)
	}
	z.take(row)
	return nil
}

// zoneRow is what the store has.
type zoneRow struct {
	zak, zpk   string
	generation int64
}

// take uses keys of the store from now on.
func (z *ZoneKeys) take(row zoneRow) {
	z.mu.Lock()
	defer z.mu.Unlock()
	generation := uint32(row.generation)
	if generation <= z.generation {
		return
	}
	z.generation, z.zpk = generation, hsm.Key(row.zpk)
	if zak := hsm.Key(row.zak); zak != z.zak.key {
		z.old, z.zak = z.zak, macKey{zak, generation}
	}
}

// Newest takes up what other nodes have received. Keys that this HSM cannot
// open, as those under a master key that was retired, are as good as none.
func (z *ZoneKeys) Newest(ctx context.Context) (generation uint32, err error) {
	_, err = z.read(ctx)
	_, _, generation = z.macKeys()
	return generation, err
}

// read is Newest, and gives the generation of the store.
func (z *ZoneKeys) read(ctx context.Context) (stored int64, err error) {
	var row zoneRow
	err = z.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow(readZoneKeys, z.issuer).Scan(&row.zak, &row.zpk, &row.generation)
	})
	switch _, _, seen := z.macKeys(); {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading the zone keys of issuer %s: %w", z.issuer, err)
	case row.generation <= int64(seen):
		return row.generation, nil
	}
	for _, block := range []string{row.zak, row.zpk} {
		if block == "" {
			continue
		}
		if _, err := z.hsm.CheckValue(ctx, hsm.Key(block)); errors.Is(err, hsm.ErrKey) {
			return row.generation, nil
		} else if err != nil {
			return 0, fmt.Errorf("the zone keys of issuer %s: %w", z.issuer, err)
		}
	}
	z.take(row)
	return row.generation, nil
}

// Exchange calls ask when the keys in use are no newer than generation known,
// those of the store included. It waits while another node is at it, and looks
// again.
func (z *ZoneKeys) Exchange(ctx context.Context, known uint32, ask func() error) error {
	look := time.NewTicker(exchangeLook)
	defer look.Stop()
	for {
		stored, err := z.read(ctx)
		if err != nil {
			return err
		}
		if _, _, generation := z.macKeys(); generation > known && z.Ready() { // not between the two of another node
			return nil
		}
		mine, err := z.claim(ctx, stored)
		if err != nil {
			return err
		}
		if mine {
			return errors.Join(ask(), z.release(ctx))
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claim reports whether this node may exchange keys: the store still has the
// generation given, and nobody else is at it.
func (z *ZoneKeys) claim(ctx context.Context, stored int64) (mine bool, err error) {
	now := time.Now()
	fault.Hit("zone.claim.before")
	err = z.db.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(beginZoneKeys, z.issuer); err != nil {
			return err
		}
		n, err := tx.Exec(claimZoneKeys, z.issuer, z.node, now.Add(exchangeLease).UnixMicro(), stored, now.UnixMicro())
		mine = n == 1
		return err
	})
	fault.Hit("zone.claim.after")
	if err != nil {
		return false, fmt.Errorf("claiming the key exchange with issuer %s: %w", z.issuer, err)
	}
	return mine, nil
}

// release lets other nodes exchange keys.
func (z *ZoneKeys) release(ctx context.Context) error {
	fault.Hit("zone.release.before")
	err := z.db.Write(context.WithoutCancel(ctx), func(tx store.Tx) error {
		_, err := tx.Exec(releaseZoneKeys, z.issuer, z.node)
		return err
	})
	fault.Hit("zone.release.after")
	if err != nil {
		return fmt.Errorf("ending the key exchange with issuer %s: %w", z.issuer, err)
	}
	return nil
}
