package issuer

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/algo"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// TestZMK is the TEST zone master key that a simulated issuer shares with the
// acquirer from the beginning: simcard.TestKey("ZMK "+name). Both sides form
// it in their HSMs; everything else is exchanged over the line under it.
func TestZMK(issuer string) [16]byte { return simcard.TestKey("ZMK " + issuer) }

// vault is the issuer's HSM and the keys in it.
type vault struct {
	hsm     *hsm.Software
	dialect *spec.Dialect // says how messages are signed
	zmk     hsm.Key
	imk     hsm.Key // master key of its chips
	pin     hsm.Key // its PIN store is encrypted under this one

	// pinStore is the same key in the issuer's card-issuing department, which
	// fills the store.
	pinStore *algo.Key

	grace time.Duration // of the key before the current one

	mu       sync.Mutex
	zak, zpk pair
}

// pair is a zone key and the one before it.
type pair struct {
	current, previous hsm.Key
	mac               hsm.MACAlg // of the current ZAK
	previousMAC       hsm.MACAlg
	rolled            time.Time
}

func (p *pair) roll(k hsm.Key, mac hsm.MACAlg, now time.Time) {
	*p = pair{current: k, previous: p.current, mac: mac, previousMAC: p.mac, rolled: now}
}

// undo forgets a roll that the acquirer refused.
func (p *pair) undo() {
	*p = pair{current: p.previous, mac: p.previousMAC, rolled: p.rolled}
}

func newVault(name string, zmk, imk [16]byte, d *spec.Dialect, grace time.Duration) (*vault, error) {
	master := make([]byte, 32)
	rand.Read(master)
	box, err := hsm.NewSoftware(master)
	clear(master)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", name, err)
	}
	v := &vault{hsm: box, dialect: d, grace: grace}
	store := simcard.TestKey("PIN store " + name)
	for _, k := range []struct {
		into  *hsm.Key
		use   hsm.Use
		clear [16]byte
	}{{&v.zmk, hsm.UseZMK, zmk}, {&v.imk, hsm.UseIMK, imk}, {&v.pin, hsm.UseZPK, store}} {
		var one, two [16]byte // two components, as at a ceremony
		rand.Read(one[:])
		subtle.XORBytes(two[:], one[:], k.clear[:])
		if *k.into, _, err = box.FormKey(context.Background(), k.use, hsm.TDES16, one[:], two[:]); err != nil {
			return nil, fmt.Errorf("issuer %s: forming its %v: %w", name, k.use, err)
		}
	}
	if v.pinStore, err = algo.NewDESKey(store[:]); err != nil {
		return nil, fmt.Errorf("issuer %s: PIN store: %w", name, err)
	}
	return v, nil
}

// newKey makes a zone key and exports it under the ZMK. It is current at once;
// the one before stays good for a while.
func (v *vault) newKey(ctx context.Context, use routing.KeyUse, double bool) (cryptogram []byte, err error) {
	kind, alg, mac := hsm.UseZPK, hsm.TDES16, hsm.MACAlg(0)
	if use == routing.ZAK {
		kind, alg, mac = hsm.UseZAK, hsm.DES8, hsm.MACX99
		if double {
			kind, alg, mac = hsm.UseZAK919, hsm.TDES16, hsm.MACX919
		}
		if r := v.dialect.MAC(); r != nil && r.Alg == "cmac" {
			kind, alg, mac = hsm.UseZAKCMAC, hsm.TDES16, hsm.MACCMAC
		}
	}
	k, _, err := v.hsm.GenerateKey(ctx, kind, alg)
	if err != nil {
		return nil, err
	}
	if cryptogram, _, err = v.hsm.ExportKey(ctx, v.zmk, k); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if use == routing.ZAK {
		v.zak.roll(k, mac, time.Now())
	} else {
		v.zpk.roll(k, 0, time.Now())
	}
	return cryptogram, nil
}

// keyLengths are those of the zone keys in bytes, 0 before the first.
func (v *vault) keyLengths() (zpk, zak int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.zpk.current != "" {
		zpk = 16
	}
	switch v.zak.mac {
	case hsm.MACX99:
		zak = 8
	case hsm.MACX919, hsm.MACCMAC:
		zak = 16
	}
	return zpk, zak
}

func (v *vault) undo(use routing.KeyUse) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if use == routing.ZAK {
		v.zak.undo()
	} else {
		v.zpk.undo()
	}
}

// signer is a ZAK and how it signs.
type signer struct {
	key hsm.Key
	mac hsm.MACAlg
}

// signers are the ZAKs that are good now, the current one first.
func (v *vault) signers() (now, before signer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now = signer{v.zak.current, v.zak.mac}
	if v.zak.previous != "" && time.Since(v.zak.rolled) < v.grace {
		before = signer{v.zak.previous, v.zak.previousMAC}
	}
	return now, before
}

var errNoKey = errors.New("issuer: no MAC key has been exchanged")

// sign overwrites the last eight bytes of a packed message.
func (v *vault) sign(ctx context.Context, s signer, packed []byte) error {
	if s.key == "" {
		return errNoKey
	}
	block, tail := spec.SignedPart(packed)
	mac, err := v.travelling(ctx, s, block)
	copy(tail, mac[:])
	return err
}

// travelling is the MAC over block in the eight bytes that go on the wire.
func (v *vault) travelling(ctx context.Context, s signer, block []byte) ([8]byte, error) {
	mac, err := v.hsm.MAC(ctx, s.key, s.mac, block)
	if v.dialect.MAC() == nil {
		mac = routing.MACText(mac)
	}
	return mac, err
}

// verify finds the ZAK that signed a message: its answer is signed with the
// same one.
func (v *vault) verify(ctx context.Context, m *spec.Message) (by signer, err error) {
	if !m.Has(routing.MACField(v.dialect, m)) {
		return by, hsm.ErrMAC
	}
	block, tail := spec.SignedPart(m.Raw())
	now, before := v.signers()
	for _, s := range [...]signer{now, before} {
		if s.key == "" {
			continue
		}
		mac, err := v.travelling(ctx, s, block)
		if err != nil {
			return by, err
		}
		if subtle.ConstantTimeCompare(mac[:], tail) == 1 {
			return s, nil
		}
	}
	return by, hsm.ErrMAC
}

// checkPIN compares a PIN block under the ZPK with the PIN store: both are
// translated to the store's key and compared there, so no clear PIN appears.
func (v *vault) checkPIN(ctx context.Context, block []byte, pan card.PAN, expected string) error {
	pin, err := algo.ParsePIN(expected)
	if err != nil {
		return err
	}
	want, err := algo.SealPIN(v.pinStore, hsm.ISO0, pin, pan.Reveal())
	if err != nil {
		return err
	}
	v.mu.Lock()
	keys := []hsm.Key{v.zpk.current}
	if v.zpk.previous != "" && time.Since(v.zpk.rolled) < v.grace {
		keys = append(keys, v.zpk.previous)
	}
	v.mu.Unlock()
	for _, zpk := range keys {
		if zpk == "" {
			continue
		}
		got, err := v.hsm.TranslatePIN(ctx, zpk, hsm.ISO0, hsm.PINBlockOf(block), pan, v.pin, hsm.ISO0)
		if err != nil {
			continue // not a PIN under this key
		}
		if subtle.ConstantTimeCompare(got.Bytes(), want.Bytes()) == 1 {
			return nil
		}
	}
	return hsm.ErrPIN
}

// errNoARQC says that DE 55 carries no cryptogram, as a fallback's may.
var errNoARQC = errors.New("issuer: DE 55 without a cryptogram")

// cryptogram is what a chip made its cryptogram over, and the cryptogram.
type cryptogram struct {
	pan  card.PAN
	psn  string
	cid  int // 9F27, -1 when it is not told
	atc  [2]byte
	ac   [8]byte
	data []byte

	tag91 [10]byte // for an approval
}

// readCryptogram reads DE 55.
func readCryptogram(m *spec.Message, pan card.PAN) (*cryptogram, error) {
	b := m.Bytes(55)
	c := &cryptogram{pan: pan, psn: "00", cid: -1}
	var t simcard.Terms
	var aip [2]byte
	for _, f := range []struct {
		tag  uint32
		into []byte
	}{
		{0x9F26, c.ac[:]}, {0x9F36, c.atc[:]}, {0x82, aip[:]}, {0x9F02, t.Amount[:]}, {0x9F03, t.Other[:]}, {0x9F1A, t.Country[:]},
		{0x95, t.TVR[:]}, {0x5F2A, t.Currency[:]}, {0x9A, t.Date[:]}, {0x9F37, t.UN[:]},
	} {
		value, ok := spec.FindTLV(b, f.tag)
		if !ok && f.tag == 0x9F26 {
			return nil, errNoARQC
		}
		if !ok && f.tag == 0x9F03 {
			continue // no other amount: zeros
		}
		if len(value) != len(f.into) {
			return nil, fmt.Errorf("%w: tag %X has %d bytes, want %d", hsm.ErrARQC, f.tag, len(value), len(f.into))
		}
		copy(f.into, value)
	}
	kind, ok := spec.FindTLV(b, 0x9C)
	iad, ok2 := spec.FindTLV(b, 0x9F10)
	if !ok || !ok2 || len(kind) != 1 || len(iad) < 7 {
		return nil, fmt.Errorf("%w: tag 9C or 9F10 is missing or short", hsm.ErrARQC)
	}
	t.Type = kind[0]
	amount := "000000000000" // of an inquiry
	if m.Has(4) {
		amount = m.Text(4)
	}
	if amount != bcdText(t.Amount[:]) {
		return nil, fmt.Errorf("%w: the chip signed another amount (9F02) than DE 4", hsm.ErrARQC)
	}
	if cid, ok := spec.FindTLV(b, 0x9F27); ok && len(cid) == 1 {
		c.cid = int(cid[0] & 0xC0)
	}
	if s := m.Text(23); len(s) == 3 {
		c.psn = s[1:]
	}
	c.data = simcard.AppendARQCData(nil, &t, aip, c.atc, [4]byte(iad[3:7]))
	return c, nil
}

// authenticate verifies a cryptogram and makes tag 91 for the answer: the ARPC
// to arc, and arc.
func (v *vault) authenticate(ctx context.Context, c *cryptogram, arc string) (tag91 [10]byte, err error) {
	arpc, err := v.hsm.VerifyARQC(ctx, v.imk, hsm.Cryptogram{
		Scheme: hsm.PBOC, PAN: c.pan, PSN: c.psn, ATC: c.atc, Data: c.data, ARQC: c.ac, ARC: [2]byte([]byte(arc)),
	})
	copy(tag91[:], arpc[:])
	copy(tag91[8:], arc)
	return tag91, err
}

func bcdText(b []byte) string {
	out := make([]byte, 0, 2*len(b))
	for _, v := range b {
		out = append(out, '0'+v>>4, '0'+v&15)
	}
	return string(out)
}
