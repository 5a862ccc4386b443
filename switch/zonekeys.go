package switching

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"acquirer/hsm"
	"acquirer/routing"
	"acquirer/spec"
)

// ZoneKeys are the keys shared with one issuer, as key blocks of the HSM. It
// is what an issuer's lines sign and verify with (routing.Keys) and where a
// purchase finds the key for its PIN. The issuer sends them under the zone
// master key after every start, so they are not stored.
type ZoneKeys struct {
	hsm hsm.HSM
	zmk hsm.Key
	alg hsm.MACAlg
	use hsm.Use
	raw bool // the MAC travels as its eight bytes, not as routing.MACText

	mu         sync.RWMutex
	zpk        hsm.Key
	zak, old   hsm.Key // the current MAC key and the one before it
	generation uint32
}

// NewZoneKeys works with keys under zmk for lines that speak d. Messages are
// signed as the dialect says, with a double-length key; CUPS leaves it to the
// issuer: with x919 the retail MAC of a double-length key (ANSI X9.19), else
// CBC-MAC (X9.9).
func NewZoneKeys(h hsm.HSM, zmk hsm.Key, d *spec.Dialect, x919 bool) *ZoneKeys {
	z := &ZoneKeys{hsm: h, zmk: zmk, alg: hsm.MACX99, use: hsm.UseZAK}
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
	return z.zpk != "" && z.zak != ""
}

func (z *ZoneKeys) macKeys() (current, old hsm.Key, generation uint32) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.zak, z.old, z.generation
}

// Sign makes the MAC over block under the current key.
func (z *ZoneKeys) Sign(ctx context.Context, block []byte) ([8]byte, uint32, error) {
	key, _, generation := z.macKeys()
	sum, err := z.mac(ctx, key, block)
	return sum, generation, err
}

// Verify accepts the current key, and the one before it for an answer whose
// request was signed with that one.
func (z *ZoneKeys) Verify(ctx context.Context, block, mac []byte, generation uint32) error {
	key, old, current := z.macKeys()
	err := z.compare(ctx, key, block, mac)
	if errors.Is(err, routing.ErrMAC) && generation+1 == current && old != "" {
		err = z.compare(ctx, old, block, mac)
	}
	return err
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
// current MAC key; until that holds nothing changes.
func (z *ZoneKeys) Install(ctx context.Context, reset routing.KeyReset) error {
	use := hsm.UseZPK
	if reset.Use == routing.ZAK {
		use = z.use
	}
	key, err := z.hsm.ImportKey(ctx, z.zmk, use, reset.Cryptogram, nil)
	if err != nil {
		return fmt.Errorf("importing the %s: %w", reset.Use, err)
	}
	prover := key
	if reset.Use == routing.ZPK {
		if prover, _, _ = z.macKeys(); prover == "" {
			return errors.New("a PIN key came before the first MAC key, which would prove it")
		}
	}
	if err := z.compare(ctx, prover, reset.Block, reset.MAC); err != nil {
		return err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if reset.Use == routing.ZPK {
		z.zpk = key
		return nil
	}
	z.old, z.zak = z.zak, key
	z.generation++
	return nil
}
