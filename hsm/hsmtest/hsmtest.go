// Package hsmtest is what every hsm.HSM does alike: a table of behaviours that
// runs on the software HSM and on drivers of devices. The tests stand on the
// other side, as terminals and issuers do: they know the keys that they share
// with the HSM.
package hsmtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// Subject is an HSM and what it is known to lack. What it lacks it must refuse
// with an error: an answer is a failure.
type Subject struct {
	hsm.HSM
	Form          func(ctx context.Context, use hsm.Use, alg hsm.Alg, components ...[]byte) (hsm.Key, hsm.KCV, error)
	NoSM4         bool // keys, PIN blocks and MACs of SM4
	NoUnboundPIN  bool // UnionPayNoPAN
	NoPBOC        bool // the cryptogram of UnionPay cards
	NoAESDUKPT    bool
	NoImportByTMK bool // keys of a terminal that another host made
	NoExportOfTDK bool
	NoExportOfTPK bool
}

// Run runs every behaviour. The subject is used by many goroutines.
func Run(t *testing.T, s Subject) {
	for _, b := range []struct {
		name string
		f    func(*testing.T, Subject)
	}{
		{"a generated key has a check value and is one of its use", generated},
		{"keys of others and changed keys are refused", foreign},
		{"a key comes from an issuer", imported},
		{"a key from an issuer is refused when it is not what was said", importRefused},
		{"a key goes to an issuer or a terminal", exported},
		{"a terminal gets its master key", delivered},
		{"a terminal gets its working keys", workingKeys},
		{"a PIN goes from a terminal to an issuer", pins},
		{"every wrong PIN block is the same refusal", wrongPINs},
		{"a PIN comes from a DUKPT terminal", dukpt},
		{"an issuer checks a PIN", pvv},
		{"an issuer checks a CVV", cvv},
		{"an issuer checks a cryptogram", cryptograms},
		{"MACs are those of the other side", macs},
		{"a MAC key makes one kind of MAC", macUses},
		{"data at rest and tokens", atRest},
		{"encrypted tracks", tracks},
		{"many at once", many},
	} {
		t.Run(b.name, func(t *testing.T) { b.f(t, s) })
	}
}

var ctx = context.Background()

const testPAN = "6228480402564890018"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want wants an error of a kind; nil is any error.
func want(t testing.TB, what string, err, kind error) {
	t.Helper()
	if err == nil || kind != nil && !errors.Is(err, kind) {
		t.Errorf("%s: error %v, want %v", what, err, kind)
	}
}

func pan(t testing.TB, digits string) card.PAN {
	t.Helper()
	p, err := card.ParsePAN(digits)
	must(t, err)
	return p
}

// random is a key that an HSM takes.
func random(alg hsm.Alg) []byte {
	b := make([]byte, alg.Len())
	for {
		rand.Read(b)
		if alg == hsm.SM4 {
			return b
		}
		algo.SetOddParity(b)
		if algo.CheckDES(b) == nil {
			return b
		}
	}
}

func expand(t testing.TB, alg hsm.Alg, b []byte) *algo.Key {
	t.Helper()
	c := algo.TDES
	switch alg {
	case hsm.DES8:
		c = algo.DES
	case hsm.SM4:
		c = algo.SM4
	}
	k, err := algo.NewKey(c, b)
	must(t, err)
	return k
}

// shared puts a random key into the HSM by two components, and returns it in
// clear too, as the other side has it.
func (s Subject) shared(t testing.TB, use hsm.Use, alg hsm.Alg) (hsm.Key, *algo.Key) {
	t.Helper()
	b := random(alg)
	return s.formed(t, use, alg, b), expand(t, alg, b)
}

// formed is a key of known bytes.
func (s Subject) formed(t testing.TB, use hsm.Use, alg hsm.Alg, b []byte) hsm.Key {
	t.Helper()
	a, x := make([]byte, len(b)), make([]byte, len(b))
	rand.Read(a)
	for i := range x {
		x[i] = a[i] ^ b[i]
	}
	k, kcv, err := s.Form(ctx, use, alg, a, x)
	must(t, err)
	if other := expand(t, alg, b).CheckValue(); !bytes.Equal(kcv[:], other[:4]) {
		t.Fatalf("formed %v has check value %v, the other side %X", use, kcv, other[:4])
	}
	return k
}

func (s Subject) generate(t testing.TB, use hsm.Use, alg hsm.Alg) hsm.Key {
	t.Helper()
	k, _, err := s.GenerateKey(ctx, use, alg)
	must(t, err)
	return k
}

func generated(t *testing.T, s Subject) {
	for _, c := range []struct {
		use hsm.Use
		alg hsm.Alg
	}{
		{hsm.UseTMK, hsm.TDES16}, {hsm.UseTTK, hsm.TDES16}, {hsm.UseTPK, hsm.DES8}, {hsm.UseTPK, hsm.TDES16}, {hsm.UseTAK, hsm.DES8},
		{hsm.UseTAK919, hsm.TDES16}, {hsm.UseTDK, hsm.TDES16}, {hsm.UseZMK, hsm.TDES16}, {hsm.UseZPK, hsm.TDES24}, {hsm.UseZAK, hsm.TDES16},
		{hsm.UsePVK, hsm.TDES16}, {hsm.UseCVK, hsm.TDES16}, {hsm.UseIMK, hsm.TDES16}, {hsm.UseDEK, hsm.AES32}, {hsm.UseHMAC, hsm.HMAC32},
	} {
		k1, v1, err := s.GenerateKey(ctx, c.use, c.alg)
		must(t, err)
		k2, _, err := s.GenerateKey(ctx, c.use, c.alg)
		must(t, err)
		if k1 == k2 {
			t.Errorf("two generated %v are the same", c.use)
		}
		v, err := s.CheckValue(ctx, k1)
		if err != nil || v != v1 {
			t.Errorf("%v of %v: check value %v, %v; when it was made %v", c.use, c.alg, v, err, v1)
		}
	}
	for _, c := range []struct {
		use hsm.Use
		alg hsm.Alg
	}{{hsm.UseTMK, hsm.DES8}, {hsm.UseTDK, hsm.AES32}, {hsm.UseCVK, hsm.TDES24}, {hsm.UseDEK, hsm.TDES16}, {0, hsm.TDES16}} {
		if _, _, err := s.GenerateKey(ctx, c.use, c.alg); err == nil {
			t.Errorf("a %v of %v was made", c.use, c.alg)
		}
	}
	if s.NoSM4 {
		_, _, err := s.GenerateKey(ctx, hsm.UseTMK, hsm.SM4)
		want(t, "a TMK of SM4", err, hsm.ErrKeyUse)
	}
}

func foreign(t *testing.T, s Subject) {
	k := string(s.generate(t, hsm.UseZAK, hsm.TDES16))
	changed := []byte(k)
	last := len(changed) - 9
	changed[last] ^= 1 // hexadecimal still, but for 9 and A to F
	if c := changed[last]; c == '8' || c == ':' || c == '@' || c == 'G' {
		changed[last] = '0'
	}
	for _, bad := range []string{"", "x", k[:len(k)-1], k + "0", "0123456789ABCDEF", string(changed)} {
		if bad == k {
			continue
		}
		_, err := s.MAC(ctx, hsm.Key(bad), hsm.MACX99, []byte("x"))
		// A variant LMK has no MAC over its keys: one changed digit leaves
		// parity right once in 256 times for each half.
		if bad != string(changed) || err != nil {
			want(t, fmt.Sprintf("MAC with a key of %d characters", len(bad)), err, hsm.ErrKey)
		}
	}
}

func imported(t *testing.T, s Subject) {
	zmk, other := s.shared(t, hsm.UseZMK, hsm.TDES16)
	for _, use := range []hsm.Use{hsm.UseZPK, hsm.UseZAK, hsm.UseZAK919} {
		for _, alg := range []hsm.Alg{hsm.DES8, hsm.TDES16} {
			if use.Check("", alg) != nil {
				continue
			}
			b := random(alg)
			key, sealed := expand(t, alg, b), make([]byte, len(b))
			must(t, other.EncryptECB(sealed, b))
			for _, n := range []int{0, 3, 4, 8} {
				kcv := key.CheckValue()[:n]
				if n == 0 {
					kcv = nil // odd parity vouches for it
				}
				k, err := s.ImportKey(ctx, zmk, use, sealed, kcv)
				if err != nil {
					t.Errorf("%v of %v with %d bytes of check value: %v", use, alg, n, err)
					continue
				}
				v, err := s.CheckValue(ctx, k)
				if err != nil || !bytes.Equal(v[:], key.CheckValue()[:4]) {
					t.Errorf("%v: check value %v, %v, want %X", use, v, err, key.CheckValue()[:4])
				}
				_, _, err = s.ExportKey(ctx, zmk, k)
				want(t, "an imported key leaves", err, hsm.ErrKeyUse)
			}
		}
	}
	tmk, terminal := s.shared(t, hsm.UseTMK, hsm.TDES16)
	b := random(hsm.TDES16)
	sealed := make([]byte, 16)
	must(t, terminal.EncryptECB(sealed, b))
	if _, err := s.ImportKey(ctx, tmk, hsm.UseTPK, sealed, nil); (err != nil) != s.NoImportByTMK {
		t.Errorf("a TPK under its TMK: %v", err)
	}
}

func importRefused(t *testing.T, s Subject) {
	zmk, other := s.shared(t, hsm.UseZMK, hsm.TDES16)
	seal := func(b []byte) []byte {
		out := make([]byte, len(b))
		must(t, other.EncryptECB(out, b))
		return out
	}
	b := random(hsm.TDES16)
	kcv := expand(t, hsm.TDES16, b).CheckValue()
	wrong := bytes.Clone(kcv)
	wrong[2] ^= 1
	even := bytes.Clone(b)
	even[3] ^= 1
	twice := append(bytes.Clone(b[:8]), b[:8]...)
	weak := append(bytes.Repeat([]byte{1}, 8), b[:8]...)
	for _, c := range []struct {
		what string
		kek  hsm.Key
		use  hsm.Use
		data []byte
		kcv  []byte
		kind error
	}{
		{"another check value", zmk, hsm.UseZPK, seal(b), wrong[:3], hsm.ErrKCV},
		{"a difference in the fourth byte", zmk, hsm.UseZPK, seal(b), append(bytes.Clone(kcv[:3]), ^kcv[3]), hsm.ErrKCV},
		{"no check value and no parity", zmk, hsm.UseZPK, seal(even), nil, hsm.ErrKCV},
		{"a short check value", zmk, hsm.UseZPK, seal(b), kcv[:2], nil},
		{"equal halves", zmk, hsm.UseZPK, seal(twice), nil, nil},
		{"a weak half", zmk, hsm.UseZPK, seal(weak), nil, nil},
		{"a terminal's key under a ZMK", zmk, hsm.UseTPK, seal(b), nil, hsm.ErrKeyUse},
		{"a key longer than the one above", zmk, hsm.UseZPK, make([]byte, 24), nil, hsm.ErrKeyUse},
		{"ten bytes", zmk, hsm.UseZPK, make([]byte, 10), nil, nil},
		{"under a ZPK", s.generate(t, hsm.UseZPK, hsm.TDES16), hsm.UseZPK, seal(b), nil, hsm.ErrKeyUse},
		{"data at rest from outside", zmk, hsm.UseDEK, seal(b), nil, hsm.ErrKeyUse},
	} {
		_, err := s.ImportKey(ctx, c.kek, c.use, c.data, c.kcv)
		want(t, c.what, err, c.kind)
	}
}

func exported(t *testing.T, s Subject) {
	zmk, issuer := s.shared(t, hsm.UseZMK, hsm.TDES16)
	tmk, terminal := s.shared(t, hsm.UseTMK, hsm.TDES16)
	for _, c := range []struct {
		use   hsm.Use
		alg   hsm.Alg
		kek   hsm.Key
		other *algo.Key
		no    bool
	}{
		{hsm.UseZPK, hsm.TDES16, zmk, issuer, false}, {hsm.UseZAK, hsm.DES8, zmk, issuer, false}, {hsm.UseZAK919, hsm.TDES16, zmk, issuer, false},
		{hsm.UseTPK, hsm.TDES16, tmk, terminal, s.NoExportOfTPK}, {hsm.UseTAK, hsm.DES8, tmk, terminal, false}, {hsm.UseTDK, hsm.TDES16, tmk, terminal, s.NoExportOfTDK},
	} {
		k, v, err := s.GenerateKey(ctx, c.use, c.alg)
		must(t, err)
		sealed, kcv, err := s.ExportKey(ctx, c.kek, k)
		if c.no {
			want(t, "export of a "+c.use.String(), err, nil)
			continue
		}
		must(t, err)
		got := make([]byte, len(sealed))
		must(t, c.other.DecryptECB(got, sealed))
		if len(got) != c.alg.Len() || !algo.OddParity(got) {
			t.Fatalf("%v arrives as no key", c.use)
		}
		check := expand(t, c.alg, got).CheckValue()[:4]
		if !bytes.Equal(check, kcv) || !bytes.Equal(check, v[:]) {
			t.Errorf("%v: check values %X there, %X sent, %v made", c.use, check, kcv, v)
		}
	}
	_, _, err := s.ExportKey(ctx, zmk, s.generate(t, hsm.UseTPK, hsm.TDES16))
	want(t, "a TPK under a ZMK", err, hsm.ErrKeyUse)
	_, _, err = s.ExportKey(ctx, zmk, tmk)
	want(t, "a formed key", err, hsm.ErrKeyUse)
	_, _, err = s.ExportKey(ctx, zmk, s.generate(t, hsm.UseZMK, hsm.TDES16))
	want(t, "a ZMK", err, hsm.ErrKeyUse)
}

func delivered(t *testing.T, s Subject) {
	ttk, device := s.shared(t, hsm.UseTTK, hsm.TDES16)
	tmk, sealed, kcv, err := s.DeliverTMK(ctx, ttk, hsm.TDES16)
	must(t, err)
	b := make([]byte, len(sealed))
	must(t, device.DecryptECB(b, sealed))
	terminal := expand(t, hsm.TDES16, b)
	if len(kcv) != 4 || !bytes.Equal(kcv, terminal.CheckValue()[:4]) {
		t.Errorf("check value %X, want %X", kcv, terminal.CheckValue()[:4])
	}
	keys, err := s.WorkingKeys(ctx, tmk, hsm.Set003, hsm.MAKSingle)
	must(t, err)
	if _, err := algo.ParseDE62(terminal, keys.DE62); err != nil {
		t.Error(err)
	}
	_, _, err = s.ExportKey(ctx, s.generate(t, hsm.UseZMK, hsm.TDES16), tmk)
	want(t, "a delivered TMK leaves again", err, hsm.ErrKeyUse)
	_, _, _, err = s.DeliverTMK(ctx, tmk, hsm.TDES16)
	want(t, "under a TMK", err, hsm.ErrKeyUse)
	_, _, _, err = s.DeliverTMK(ctx, ttk, hsm.TDES24)
	want(t, "longer than the transport key", err, hsm.ErrKeyUse)
}

func workingKeys(t *testing.T, s Subject) {
	tmk, terminal := s.shared(t, hsm.UseTMK, hsm.TDES16)
	p := pan(t, testPAN)
	zpk, issuer := s.shared(t, hsm.UseZPK, hsm.TDES16)
	for _, c := range []struct {
		set    hsm.KeySet
		shape  hsm.MAKShape
		length int
		alg    hsm.MACAlg
	}{
		{hsm.Set001, hsm.MAKSingle, 24, hsm.MACUnionPay}, {hsm.Set003, hsm.MAKSingle, 40, hsm.MACUnionPay}, {hsm.Set003, hsm.MAKDouble, 40, hsm.MACX99},
		{hsm.Set003, hsm.MAKRetail, 40, hsm.MACX919}, {hsm.Set003, hsm.MAKCMAC, 40, hsm.MACCMAC}, {hsm.Set004, hsm.MAKSingle, 60, hsm.MACUnionPay},
	} {
		keys, err := s.WorkingKeys(ctx, tmk, c.set, c.shape)
		must(t, err)
		if len(keys.DE62) != c.length {
			t.Fatalf("set %03d: DE 62 of %d bytes, want %d", c.set, len(keys.DE62), c.length)
		}
		have, err := algo.ParseDE62(terminal, keys.DE62)
		must(t, err)
		if (keys.TDK == "") != (c.set != hsm.Set004) {
			t.Errorf("set %03d: a TDK is there: %v", c.set, keys.TDK != "")
		}
		data := []byte("0200 the message of a terminal, of no particular length")
		got, err := s.MAC(ctx, keys.TAK, c.alg, data)
		must(t, err)
		if w := macOf(t, have.MAK, c.alg, data); got != w {
			t.Errorf("set %03d, shape %d: MAC %X, the terminal's %X", c.set, c.shape, got, w)
		}
		out, err := s.TranslatePIN(ctx, keys.TPK, hsm.ISO0, seal(t, have.PIK, hsm.ISO0, "123456"), p, zpk, hsm.ISO0)
		must(t, err)
		opens(t, issuer, hsm.ISO0, out, "123456")
		if keys.TDK != "" {
			decrypts(t, s, keys.TDK, have.TDK)
		}
	}
	_, err := s.WorkingKeys(ctx, tmk, hsm.Set005, hsm.MAKSingle)
	want(t, "SM4 keys under a TDES TMK", err, hsm.ErrKeyUse)
	_, err = s.WorkingKeys(ctx, tmk, 2, hsm.MAKSingle)
	want(t, "set 002", err, nil)
	_, err = s.WorkingKeys(ctx, tmk, hsm.Set001, hsm.MAKRetail)
	want(t, "a retail MAC key of single length", err, hsm.ErrKeyUse)
	_, err = s.WorkingKeys(ctx, zpk, hsm.Set003, hsm.MAKSingle)
	want(t, "under a ZPK", err, hsm.ErrKeyUse)
}

func macOf(t testing.TB, k *algo.Key, alg hsm.MACAlg, data []byte) (mac [8]byte) {
	t.Helper()
	switch alg {
	case hsm.MACUnionPay:
		return k.UnionPayMAC(data)
	case hsm.MACX99:
		return k.X99MAC(data)
	case hsm.MACCMAC:
		return k.CMAC(data)
	}
	_, err := k.AppendRetailMAC(mac[:0], algo.PadZeros, data)
	must(t, err)
	return mac
}

func seal(t testing.TB, k *algo.Key, format hsm.PINFormat, digits string) hsm.PINBlock {
	t.Helper()
	p, err := algo.ParsePIN(digits)
	must(t, err)
	b, err := algo.SealPIN(k, format, p, testPAN)
	must(t, err)
	return b
}

// opens wants a block to hold a PIN for the other side.
func opens(t testing.TB, k *algo.Key, format hsm.PINFormat, b hsm.PINBlock, digits string) {
	t.Helper()
	p, err := algo.OpenPIN(k, format, b, testPAN)
	if err != nil {
		t.Errorf("the issuer finds no PIN: %v", err)
		return
	}
	w, err := algo.ParsePIN(digits)
	must(t, err)
	if p != w {
		t.Error("the issuer finds another PIN")
	}
}

func pins(t *testing.T, s Subject) {
	p := pan(t, testPAN)
	tpk, terminal := s.shared(t, hsm.UseTPK, hsm.TDES16)
	zpk, issuer := s.shared(t, hsm.UseZPK, hsm.TDES16)
	zpk2, issuer2 := s.shared(t, hsm.UseZPK, hsm.TDES24)
	for _, digits := range []string{"1234", "123456", "123456789012"} {
		for _, c := range []struct{ in, out hsm.PINFormat }{{hsm.ISO0, hsm.ISO0}, {hsm.ISO0, hsm.ISO3}, {hsm.ISO3, hsm.ISO0}, {hsm.ISO1, hsm.ISO0}, {hsm.ISO1, hsm.ISO1}, {hsm.ISO3, hsm.ISO3}} {
			b, err := s.TranslatePIN(ctx, tpk, c.in, seal(t, terminal, c.in, digits), p, zpk, c.out)
			if err != nil {
				t.Errorf("%v to %v: %v", c.in, c.out, err)
				continue
			}
			opens(t, issuer, c.out, b, digits)
			if c.out == hsm.ISO0 {
				b, err = s.TranslatePIN(ctx, zpk, hsm.ISO0, b, p, zpk2, hsm.ISO0)
				must(t, err)
				opens(t, issuer2, hsm.ISO0, b, digits)
			}
		}
	}
	b, err := s.TranslatePIN(ctx, tpk, hsm.UnionPayNoPAN, seal(t, terminal, hsm.UnionPayNoPAN, "123456"), p, zpk, hsm.ISO0)
	if s.NoUnboundPIN {
		want(t, "a PIN without account number", err, nil)
	} else {
		must(t, err)
		opens(t, issuer, hsm.ISO0, b, "123456")
	}
	_, err = s.TranslatePIN(ctx, zpk, hsm.SM4WithPAN, hsm.PINBlockOf(make([]byte, 16)), p, zpk2, hsm.ISO0)
	want(t, "an SM4 block under TDES", err, nil)
}

// dukpt has the base keys, numbers and PIN block of X9.24-1 (A.4) and X9.24-3.
func dukpt(t *testing.T, s Subject) {
	p := pan(t, "4012345678909")
	zpk, issuer := s.shared(t, hsm.UseZPK, hsm.TDES16)
	tdes := hexBytes(t, "0123456789ABCDEFFEDCBA9876543210")
	bdk := s.formed(t, hsm.UseBDK, hsm.TDES16, tdes)
	ksn := hexBytes(t, "FFFF9876543210E00001")
	out, err := s.TranslateDUKPT(ctx, bdk, ksn, hsm.ISO0, hsm.PINBlockOf(hexBytes(t, "1B9C1845EB993A7A")), p, zpk, hsm.ISO0)
	must(t, err)
	pin, err := algo.OpenPIN(issuer, hsm.ISO0, out, "4012345678909")
	must(t, err)
	if w, err := algo.ParsePIN("1234"); err != nil || pin != w {
		t.Errorf("the published block holds another PIN (%v)", err)
	}
	good := hsm.PINBlockOf(hexBytes(t, "1B9C1845EB993A7A"))
	for what, wrong := range map[string]struct {
		ksn string
		err error
	}{
		"another counter": {"FFFF9876543210E00002", hsm.ErrPIN}, "counter 0": {"FFFF9876543210E00000", hsm.ErrKSN},
		"eleven one bits": {"FFFF9876543210E007FF", hsm.ErrKSN}, "9 bytes": {"FFFF9876543210E000", hsm.ErrKSN}, "none": {"", hsm.ErrKSN},
	} {
		_, err := s.TranslateDUKPT(ctx, bdk, hexBytes(t, wrong.ksn), hsm.ISO0, good, p, zpk, hsm.ISO0)
		want(t, what, err, wrong.err)
	}
	_, err = s.TranslateDUKPT(ctx, zpk, ksn, hsm.ISO0, good, p, zpk, hsm.ISO0)
	want(t, "a ZPK as base key", err, hsm.ErrKeyUse)
	_, err = s.TranslateDUKPT(ctx, bdk, ksn, hsm.ISO0, good, p, bdk, hsm.ISO0)
	want(t, "to a base key", err, hsm.ErrKeyUse)
	_, err = s.TranslateDUKPT(ctx, bdk, ksn, hsm.ISO0, hsm.PINBlockOf(make([]byte, 7)), p, zpk, hsm.ISO0)
	want(t, "a block of 7 bytes", err, hsm.ErrPIN)

	base := hexBytes(t, "FEDCBA9876543210F1F1F1F1F1F1F1F1")
	number := hexBytes(t, "123456789012345600000001")
	if s.NoAESDUKPT {
		_, err := s.TranslateDUKPT(ctx, bdk, number, hsm.ISO0, good, p, zpk, hsm.ISO0)
		want(t, "AES DUKPT", err, nil)
		return
	}
	initial, err := algo.AESInitialKey(base, number[:8])
	must(t, err)
	derivation, err := algo.AESDerivationKey(initial, number)
	must(t, err)
	key, err := algo.AESWorkingKey(derivation, number, algo.DUKPTPIN, algo.DUKPTTDES2)
	must(t, err)
	half := random(hsm.AES16)
	for i := range base {
		base[i] ^= half[i]
	}
	aes, _, err := s.Form(ctx, hsm.UseBDK, hsm.AES16, half, base)
	must(t, err)
	out, err = s.TranslateDUKPT(ctx, aes, number, hsm.ISO0, seal(t, expand(t, hsm.TDES16, key), hsm.ISO0, "123456"), pan(t, testPAN), zpk, hsm.ISO0)
	must(t, err)
	opens(t, issuer, hsm.ISO0, out, "123456")
}

func hexBytes(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	must(t, err)
	return b
}

func wrongPINs(t *testing.T, s Subject) {
	p := pan(t, testPAN)
	tpk, terminal := s.shared(t, hsm.UseTPK, hsm.TDES16)
	zpk, _ := s.shared(t, hsm.UseZPK, hsm.TDES16)
	good := seal(t, terminal, hsm.ISO0, "123456")
	otherCard := pan(t, "6228480402564890117")
	raw := func(clear string) hsm.PINBlock {
		var b [8]byte
		for i := range b {
			_, err := fmt.Sscanf(clear[2*i:2*i+2], "%02X", &b[i])
			must(t, err)
		}
		out := terminal.Encrypt8(b)
		return hsm.PINBlockOf(out[:])
	}
	for _, c := range []struct {
		what    string
		block   hsm.PINBlock
		pan     card.PAN
		in, out hsm.PINFormat
	}{
		{"another card", good, otherCard, hsm.ISO0, hsm.ISO0},
		{"no block", hsm.PINBlock{}, p, hsm.ISO0, hsm.ISO0},
		{"a block of another key", hsm.PINBlockOf([]byte("12345678")), p, hsm.ISO0, hsm.ISO0},
		{"format 0 as format 1", good, p, hsm.ISO1, hsm.ISO0},
		{"three digits", raw("13123FFFFFFFFFFF"), p, hsm.ISO1, hsm.ISO0},
		{"a digit that is none", raw("141A34FFFFFFFFFF"), p, hsm.ISO1, hsm.ISO0},
		{"format 0 to 1", good, p, hsm.ISO0, hsm.ISO1},
		{"format 3 to 1", seal(t, terminal, hsm.ISO3, "1234"), p, hsm.ISO3, hsm.ISO1},
	} {
		_, err := s.TranslatePIN(ctx, tpk, c.in, c.block, c.pan, zpk, c.out)
		want(t, c.what, err, hsm.ErrPIN)
	}
	_, err := s.TranslatePIN(ctx, zpk, hsm.ISO0, good, p, tpk, hsm.ISO0)
	want(t, "to a TPK", err, hsm.ErrKeyUse)
	_, err = s.TranslatePIN(ctx, s.generate(t, hsm.UseZAK, hsm.TDES16), hsm.ISO0, good, p, zpk, hsm.ISO0)
	want(t, "from a ZAK", err, hsm.ErrKeyUse)
}

func pvv(t *testing.T, s Subject) {
	p := pan(t, testPAN)
	zpk, acquirer := s.shared(t, hsm.UseZPK, hsm.TDES16)
	tpk, terminal := s.shared(t, hsm.UseTPK, hsm.TDES16)
	pvk, issuer := s.shared(t, hsm.UsePVK, hsm.TDES16)
	pin, err := algo.ParsePIN("4321")
	must(t, err)
	v, err := algo.VisaPVV(issuer, testPAN, '1', pin)
	must(t, err)
	ref := hsm.PVV{Index: '1', Value: v}
	must(t, s.VerifyPIN(ctx, zpk, hsm.ISO0, seal(t, acquirer, hsm.ISO0, "4321"), p, pvk, ref))
	must(t, s.VerifyPIN(ctx, tpk, hsm.ISO3, seal(t, terminal, hsm.ISO3, "4321"), p, pvk, ref))
	want(t, "another PIN", s.VerifyPIN(ctx, zpk, hsm.ISO0, seal(t, acquirer, hsm.ISO0, "4322"), p, pvk, ref), hsm.ErrPIN)
	want(t, "a broken block", s.VerifyPIN(ctx, zpk, hsm.ISO0, hsm.PINBlockOf([]byte("12345678")), p, pvk, ref), hsm.ErrPIN)
	want(t, "another index", s.VerifyPIN(ctx, zpk, hsm.ISO0, seal(t, acquirer, hsm.ISO0, "4321"), p, pvk, hsm.PVV{Index: 'x', Value: v}), hsm.ErrPIN)
	want(t, "a ZPK as PVK", s.VerifyPIN(ctx, zpk, hsm.ISO0, seal(t, acquirer, hsm.ISO0, "4321"), p, zpk, ref), hsm.ErrKeyUse)
}

func cvv(t *testing.T, s Subject) {
	p := pan(t, testPAN)
	cvk, issuer := s.shared(t, hsm.UseCVK, hsm.TDES16)
	v, err := algo.CVV(issuer, testPAN, "2912", "201")
	must(t, err)
	must(t, s.VerifyCVV(ctx, cvk, p, "2912", "201", string(v[:])))
	v[2] = '0' + (v[2]-'0'+1)%10
	want(t, "another value", s.VerifyCVV(ctx, cvk, p, "2912", "201", string(v[:])), hsm.ErrCVV)
	want(t, "no value", s.VerifyCVV(ctx, cvk, p, "2912", "201", ""), hsm.ErrCVV)
	want(t, "no digits", s.VerifyCVV(ctx, cvk, p, "2912", "20x", "123"), hsm.ErrCVV)
	want(t, "a PVK", s.VerifyCVV(ctx, s.generate(t, hsm.UsePVK, hsm.TDES16), p, "2912", "201", "123"), hsm.ErrKeyUse)
}

func cryptograms(t *testing.T, s Subject) {
	imk, issuer := s.shared(t, hsm.UseIMK, hsm.TDES16)
	data := []byte("amount, country, TVR, date, UN, AIP, ATC, and so on")
	icc, err := algo.ICCKey(issuer, algo.OptionA, testPAN, "01")
	must(t, err)
	base := hsm.Cryptogram{PAN: pan(t, testPAN), PSN: "01", ATC: [2]byte{1, 0x19}, UN: [4]byte{9, ';', '%', 0}, Data: data, ARC: [2]byte{'0', '0'}, CSU: [4]byte{3, 0x25, '%', 0}}
	for name, scheme := range map[string]hsm.EMVScheme{"PBOC": hsm.PBOC, "CVN 10": hsm.CVN10, "CVN 18": hsm.CVN18, "M/Chip": hsm.MChip, "common": hsm.EMVCommon, "common, option B": hsm.EMVCommon, "CVN 18 with more": hsm.CVN18} {
		c := base
		c.Scheme = scheme
		card := icc
		if name == "common, option B" {
			c.OptionB = true
			card, err = algo.ICCKey(issuer, algo.OptionB, testPAN, "01")
			must(t, err)
		}
		if name == "CVN 18 with more" {
			c.Private = []byte("private")
		}
		k, pad := card, algo.PadBit
		switch scheme {
		case hsm.PBOC:
			k, err = algo.PBOCSessionKey(card, c.ATC)
		case hsm.CVN10:
			pad = algo.PadZeros
		case hsm.MChip:
			k, err = algo.CommonSessionKey(card, algo.MChipR(c.ATC, c.UN))
		case hsm.CVN18, hsm.EMVCommon:
			k, err = algo.CommonSessionKey(card, algo.CommonR(c.ATC))
		}
		must(t, err)
		c.ARQC, err = algo.ARQC(k, pad, data)
		must(t, err)
		got, err := s.VerifyARQC(ctx, imk, c)
		if scheme == hsm.PBOC && s.NoPBOC {
			want(t, "a PBOC cryptogram", err, nil)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var w [8]byte
		switch scheme {
		case hsm.CVN18:
			short, err := algo.ARPC2(k, c.ARQC, c.CSU, c.Private)
			must(t, err)
			copy(w[:], append(short[:], c.CSU[:]...))
		case hsm.MChip:
			w, err = algo.ARPC1(card, c.ARQC, c.ARC)
			must(t, err)
		default:
			w, err = algo.ARPC1(k, c.ARQC, c.ARC)
			must(t, err)
		}
		if got != w {
			t.Errorf("%s: ARPC %X, want %X", name, got, w)
		}
		c.ARQC[7] ^= 1
		_, err = s.VerifyARQC(ctx, imk, c)
		want(t, "another cryptogram", err, hsm.ErrARQC)
	}
	_, err = s.VerifyARQC(ctx, imk, hsm.Cryptogram{Scheme: hsm.CVN10, Data: data})
	want(t, "no card", err, hsm.ErrARQC)
	_, err = s.VerifyARQC(ctx, s.generate(t, hsm.UseCVK, hsm.TDES16), hsm.Cryptogram{Scheme: hsm.CVN10, PAN: pan(t, testPAN), Data: data})
	want(t, "a CVK", err, hsm.ErrKeyUse)
}

func macs(t *testing.T, s Subject) {
	message := make([]byte, 1200)
	rand.Read(message)
	copy(message[190:], "%00\x19;") // what ends other messages
	for _, c := range []struct {
		use hsm.Use
		alg hsm.Alg
		mac hsm.MACAlg
	}{
		{hsm.UseTAK, hsm.DES8, hsm.MACUnionPay}, {hsm.UseTAK, hsm.TDES16, hsm.MACUnionPay}, {hsm.UseZAK, hsm.TDES24, hsm.MACUnionPay},
		{hsm.UseTAK, hsm.DES8, hsm.MACX99}, {hsm.UseZAK, hsm.TDES16, hsm.MACX99}, {hsm.UseTAK919, hsm.TDES16, hsm.MACX919}, {hsm.UseZAK919, hsm.TDES16, hsm.MACX919},
		{hsm.UseTAKCMAC, hsm.TDES16, hsm.MACCMAC}, {hsm.UseZAKCMAC, hsm.TDES24, hsm.MACCMAC},
	} {
		k, other := s.shared(t, c.use, c.alg)
		for _, n := range []int{0, 1, 7, 8, 9, 16, 199, 200, 1200} {
			if n == 0 && c.mac == hsm.MACCMAC {
				continue
			}
			w := macOf(t, other, c.mac, message[:n])
			got, err := s.MAC(ctx, k, c.mac, message[:n])
			if err != nil || got != w {
				t.Fatalf("%v, %d bytes: MAC %X, %v, want %X", c.use, n, got, err, w)
			}
			must(t, s.VerifyMAC(ctx, k, c.mac, message[:n], w[:]))
			for i := range w {
				bad := w
				bad[i] ^= 1
				if s.VerifyMAC(ctx, k, c.mac, message[:n], bad[:]) == nil {
					t.Errorf("%v: a MAC with another byte %d is right", c.use, i)
				}
			}
			want(t, "half of a MAC", s.VerifyMAC(ctx, k, c.mac, message[:n], w[:4]), hsm.ErrMAC)
			want(t, "no MAC", s.VerifyMAC(ctx, k, c.mac, message[:n], nil), hsm.ErrMAC)
			want(t, "eight spaces", s.VerifyMAC(ctx, k, c.mac, message[:n], []byte("        ")), hsm.ErrMAC)
			if low := bytes.ToLower(w[:]); c.mac == hsm.MACUnionPay && !bytes.Equal(low, w[:]) {
				want(t, "a MAC in small letters", s.VerifyMAC(ctx, k, c.mac, message[:n], low), hsm.ErrMAC)
			}
		}
	}
}

func macUses(t *testing.T, s Subject) {
	for _, c := range []struct {
		use hsm.Use
		alg hsm.Alg
		mac hsm.MACAlg
	}{
		{hsm.UseTAK, hsm.TDES16, hsm.MACX919}, {hsm.UseTAK, hsm.TDES16, hsm.MACCMAC}, {hsm.UseTAK919, hsm.TDES16, hsm.MACX99},
		{hsm.UseZAK919, hsm.TDES16, hsm.MACUnionPay}, {hsm.UseTAKCMAC, hsm.TDES16, hsm.MACX99}, {hsm.UseTPK, hsm.TDES16, hsm.MACX99}, {hsm.UseTMK, hsm.TDES16, hsm.MACX99},
	} {
		k := s.generate(t, c.use, c.alg)
		_, err := s.MAC(ctx, k, c.mac, []byte("data"))
		want(t, fmt.Sprintf("MAC %d with a %v", c.mac, c.use), err, hsm.ErrKeyUse)
		want(t, fmt.Sprintf("MAC %d verified with a %v", c.mac, c.use), s.VerifyMAC(ctx, k, c.mac, []byte("data"), make([]byte, 8)), hsm.ErrKeyUse)
	}
}

func atRest(t *testing.T, s Subject) {
	dek, hmac := s.generate(t, hsm.UseDEK, hsm.AES32), s.generate(t, hsm.UseHMAC, hsm.HMAC32)
	sealed, err := s.Encrypt(ctx, dek, []byte("row 7"), []byte("6228"))
	must(t, err)
	clear, err := s.Decrypt(ctx, dek, []byte("row 7"), sealed)
	if err != nil || string(clear) != "6228" {
		t.Errorf("opened as %q, %v", clear, err)
	}
	_, err = s.Decrypt(ctx, dek, []byte("row 8"), sealed)
	want(t, "another row", err, hsm.ErrData)
	one, err := s.Token(ctx, hmac, []byte("6228"))
	must(t, err)
	two, err := s.Token(ctx, hmac, []byte("6228"))
	must(t, err)
	other, err := s.Token(ctx, hmac, []byte("6229"))
	must(t, err)
	if one != two || one == other {
		t.Error("tokens do not tell data apart")
	}
	_, err = s.Token(ctx, dek, []byte("6228"))
	want(t, "a token with a DEK", err, hsm.ErrKeyUse)
	_, err = s.Encrypt(ctx, s.generate(t, hsm.UseTDK, hsm.TDES16), nil, []byte("x"))
	want(t, "data at rest under a TDK", err, nil)
}

func tracks(t *testing.T, s Subject) {
	tdk, terminal := s.shared(t, hsm.UseTDK, hsm.TDES16)
	decrypts(t, s, tdk, terminal)
	_, err := s.DecryptTrack(ctx, s.generate(t, hsm.UseTDK, hsm.TDES16), hsm.TrackWhole, bytes.Repeat([]byte("1"), 48))
	want(t, "a track of another key", err, hsm.ErrTrack)
	_, err = s.DecryptTrack(ctx, tdk, hsm.TrackTDB, []byte("1234=99"))
	want(t, "a short track", err, hsm.ErrTrack)
	_, err = s.DecryptTrack(ctx, s.generate(t, hsm.UseTPK, hsm.TDES16), hsm.TrackWhole, bytes.Repeat([]byte("1"), 48))
	want(t, "a TPK", err, hsm.ErrKeyUse)
}

func decrypts(t testing.TB, s Subject, tdk hsm.Key, terminal *algo.Key) {
	t.Helper()
	track := []byte("6228480402564890018=29122010000000000")
	for _, scheme := range []hsm.TrackScheme{hsm.TrackTDB, hsm.TrackWhole, hsm.TrackLength} {
		sealed, err := algo.AppendEncryptedTrack(nil, terminal, scheme, track)
		must(t, err)
		got, err := s.DecryptTrack(ctx, tdk, scheme, sealed)
		if err != nil || !bytes.Equal(got, track) {
			t.Errorf("track of scheme %d comes out otherwise: %v", scheme, err)
		}
	}
}

// many mixes the verbs of a transaction on one HSM: no answer goes to another
// caller.
func many(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			tak, other := s.shared(t, hsm.UseTAK, hsm.TDES16)
			zpk, issuer := s.shared(t, hsm.UseZPK, hsm.TDES16)
			tpk, terminal := s.shared(t, hsm.UseTPK, hsm.TDES16)
			for j := range 20 {
				data := []byte(fmt.Sprintf("message %d of terminal %d", j, i))
				w := other.UnionPayMAC(data)
				if err := s.VerifyMAC(ctx, tak, hsm.MACUnionPay, data, w[:]); err != nil {
					t.Errorf("terminal %d, message %d: %v", i, j, err)
				}
				digits := fmt.Sprintf("%02d%02d", i, j)
				b, err := s.TranslatePIN(ctx, tpk, hsm.ISO0, seal(t, terminal, hsm.ISO0, digits), pan(t, testPAN), zpk, hsm.ISO0)
				if err != nil {
					t.Errorf("terminal %d, PIN %d: %v", i, j, err)
					continue
				}
				opens(t, issuer, hsm.ISO0, b, digits)
			}
		})
	}
	wg.Wait()
}
