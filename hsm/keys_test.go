package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"acquirer/hsm/algo"
)

func allUses() []Use {
	var out []Use
	for u := UseTMK; u < uses; u++ {
		out = append(out, u)
	}
	return out
}

var allAlgs = []Alg{DES8, TDES16, TDES24, AES16, AES32, SM4, HMAC32}

func TestGenerateKey(t *testing.T) {
	s := newHSM(t)
	for _, use := range allUses() {
		for _, alg := range append(slices.Clone(allAlgs), 0, 99) {
			key, kcv, err := s.GenerateKey(ctx, use, alg)
			if !slices.Contains(useRules[use].algs, alg) {
				if !errors.Is(err, ErrKeyUse) || key != "" {
					t.Errorf("%v key of %v: %v, want ErrKeyUse", use, alg, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%v key of %v: %v", use, alg, err)
				continue
			}
			h, clearKey, err := s.blocks.Unwrap(string(key))
			if err != nil || len(clearKey) != algRules[alg].length {
				t.Fatalf("%v key of %v: %v", use, alg, err)
			}
			if string(h.Usage[:]) != useRules[use].usage || h.Mode != useRules[use].mode || h.Version != 'D' {
				t.Errorf("%v key of %v: header %s", use, alg, key[:16])
			}
			if alg.des() && (!algo.OddParity(clearKey) || algo.CheckDES(clearKey) != nil) {
				t.Errorf("%v key of %v: bad DES key", use, alg)
			}
			if got, err := s.CheckValue(ctx, key); err != nil || got != kcv || kcv == (KCV{}) {
				t.Errorf("%v key of %v: check value %v, want %v, %v", use, alg, got, kcv, err)
			}
			if len(key) > 180 {
				t.Errorf("%v key of %v: block of %d characters", use, alg, len(key))
			}
		}
	}
	if _, _, err := s.GenerateKey(ctx, 0, TDES16); err == nil {
		t.Error("use 0 was taken")
	}
	if _, _, err := s.GenerateKey(ctx, uses, TDES16); err == nil {
		t.Error("a use behind the last was taken")
	}
}

func TestCheckValues(t *testing.T) {
	s := newHSM(t)
	// The TMK of two components of cup_pin_keys.json.
	key, kcv, err := s.FormKey(ctx, UseTMK, TDES16, mustHex(t, compA), mustHex(t, compB))
	if err != nil || kcv.Short() != "9BAE3E" || !strings.HasPrefix(kcv.String(), "9BAE3E") {
		t.Errorf("%v, %v", kcv, err)
	}
	if got, err := s.CheckValue(ctx, key); err != nil || got != kcv {
		t.Errorf("%v, %v", got, err)
	}
	// X9.143:2021 8.6, as a data key.
	whole := mustHex(t, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
	_, kcv, err = s.FormKey(ctx, UseDEK, AES32, whole, make([]byte, 32))
	if err != nil || kcv.String() != "2331550B" {
		t.Errorf("%v, %v", kcv, err)
	}
}

func TestFormKey(t *testing.T) {
	s := newHSM(t)
	a, b := mustHex(t, compA), mustHex(t, compB)
	kept := bytes.Clone(a)
	key, _, err := s.FormKey(ctx, UseTMK, TDES16, a, b, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	if _, clearKey, err := s.blocks.Unwrap(string(key)); err != nil || !bytes.Equal(clearKey, mustHex(t, formK)) {
		t.Errorf("formed another key: %v", err)
	}
	if !bytes.Equal(a, kept) {
		t.Error("FormKey changed its argument")
	}
	for _, c := range []struct {
		what       string
		alg        Alg
		components [][]byte
		want       error
	}{
		{"one component", TDES16, [][]byte{a}, nil},
		{"none", TDES16, nil, nil},
		{"ten", TDES16, [][]byte{a, b, a, b, a, b, a, b, a, b}, nil},
		{"short second", TDES16, [][]byte{a, b[:8]}, nil},
		{"wrong length", TDES24, [][]byte{a, b}, nil},
		{"the same twice", TDES16, [][]byte{a, a}, algo.ErrWeakKey},
		{"equal halves", TDES16, [][]byte{append(bytes.Clone(a[:8]), a[:8]...), append(bytes.Clone(b[:8]), b[:8]...)}, algo.ErrRepeatedParts},
		{"no TMK of single length", DES8, [][]byte{a[:8], b[:8]}, ErrKeyUse},
	} {
		key, _, err := s.FormKey(ctx, UseTMK, c.alg, c.components...)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || key != "" {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if _, _, err := s.FormKey(ctx, UseDEK, AES32, make([]byte, 32), make([]byte, 32)); err == nil {
		t.Error("an AES key of zeros was taken")
	}
}

// TestImportExport sends a key from one HSM to another under a shared ZMK, and
// a terminal's key under its TMK.
func TestImportExport(t *testing.T) {
	acquirer, issuer := newHSM(t), newHSM(t)
	for _, c := range []struct{ kek, use Use }{
		{UseZMK, UseZPK}, {UseZMK, UseZAK}, {UseZMK, UseZAK919}, {UseZMK, UseZAKCMAC},
		{UseTMK, UseTPK}, {UseTMK, UseTAK}, {UseTMK, UseTDK},
	} {
		ours, _ := form(t, acquirer, c.kek, TDES16, compA, compB)
		theirs, _ := form(t, issuer, c.kek, TDES16, compA, compB)
		key := generate(t, issuer, c.use, TDES16)
		cryptogram, kcv, err := issuer.ExportKey(ctx, theirs, key)
		if err != nil || len(cryptogram) != 16 || len(kcv) != 4 {
			t.Fatalf("export of a %v: %v", c.use, err)
		}
		for _, n := range []int{0, 3, 4} {
			check := kcv[:n]
			if n == 0 {
				check = nil
			}
			got, err := acquirer.ImportKey(ctx, ours, c.use, cryptogram, check)
			if err != nil {
				t.Fatalf("import of a %v: %v", c.use, err)
			}
			_, want, err := issuer.blocks.Unwrap(string(key))
			if err != nil {
				t.Fatal(err)
			}
			if _, clearKey, err := acquirer.blocks.Unwrap(string(got)); err != nil || !bytes.Equal(clearKey, want) {
				t.Errorf("%v: another key came in: %v", c.use, err)
			}
			if _, _, err := acquirer.ExportKey(ctx, ours, got); !errors.Is(err, ErrKeyUse) {
				t.Errorf("%v: an imported key leaves again: %v", c.use, err)
			}
		}
	}
}

// TestKeyEncryptionMatrix: which key may travel under which.
func TestKeyEncryptionMatrix(t *testing.T) {
	s := newHSM(t)
	kek := map[Use]Key{}
	for _, use := range allUses() {
		kek[use] = generate(t, s, use, useRules[use].algs[len(useRules[use].algs)-1])
	}
	kek[UseTMK], _ = form(t, s, UseTMK, TDES16, compA, compB)
	kek[UseZMK], _ = form(t, s, UseZMK, TDES16, compA, compC)
	cryptogram := make([]byte, 16)
	for _, under := range allUses() {
		for _, use := range allUses() {
			legal := under == UseTMK && slices.Contains([]Use{UseTPK, UseTAK, UseTAK919, UseTAKCMAC, UseTDK}, use) ||
				under == UseZMK && slices.Contains([]Use{UseTMK, UseZPK, UseZAK, UseZAK919, UseZAKCMAC, UsePVK, UseCVK, UseIMK}, use)
			_, err := s.ImportKey(ctx, kek[under], use, cryptogram, []byte{1, 2, 3, 4})
			if legal && !errors.Is(err, ErrKCV) || !legal && !errors.Is(err, ErrKeyUse) {
				t.Errorf("import of a %v under a %v: %v", use, under, err)
			}
			if !slices.Contains(useRules[use].algs, TDES16) {
				continue
			}
			_, _, err = s.ExportKey(ctx, kek[under], generate(t, s, use, TDES16))
			legal = legal && useRules[use].export == 'S'
			if legal && err != nil || !legal && !errors.Is(err, ErrKeyUse) {
				t.Errorf("export of a %v under a %v: %v", use, under, err)
			}
		}
	}
	// Nothing travels under a shorter key, and AES keys not under TDES.
	if _, _, err := s.ExportKey(ctx, kek[UseZMK], generate(t, s, UseZPK, TDES24)); !errors.Is(err, ErrKeyUse) {
		t.Errorf("24 bytes under 16: %v", err)
	}
	if _, err := s.ImportKey(ctx, kek[UseZMK], UseZPK, make([]byte, 24), nil); !errors.Is(err, ErrKeyUse) {
		t.Errorf("24 bytes under 16: %v", err)
	}
	if _, _, err := s.ExportKey(ctx, kek[UseZMK], generate(t, s, UseZAKCMAC, AES16)); !errors.Is(err, ErrKeyUse) {
		t.Errorf("AES under TDES: %v", err)
	}
}

func TestImportRefusals(t *testing.T) {
	s := newHSM(t)
	zmk, other := form(t, s, UseZMK, TDES16, compA, compB)
	under := func(clearKey string) []byte {
		out := mustHex(t, clearKey)
		if err := other.EncryptECB(out, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := "807A23AD32B36D457AE91FDF927570EA"
	kcv := mustHex(t, "8D0A74B8")
	for _, c := range []struct {
		what       string
		use        Use
		cryptogram []byte
		kcv        []byte
		want       error
	}{
		{"as it should be", UseZPK, under(good), kcv, nil},
		{"wrong check value", UseZPK, under(good), mustHex(t, "8D0A74B9"), ErrKCV},
		{"a bit flipped", UseZPK, under("817A23AD32B36D457AE91FDF927570EA"), kcv, nil}, // a parity bit
		{"another bit flipped", UseZPK, under("827A23AD32B36D457AE91FDF927570EA"), kcv, ErrKCV},
		{"no parity, no check value", UseZPK, under("817A23AD32B36D457AE91FDF927570EA"), nil, ErrKCV},
		{"check value of 2 bytes", UseZPK, under(good), kcv[:2], errAny},
		{"check value of 0 bytes", UseZPK, under(good), []byte{}, errAny},
		{"check value of 9 bytes", UseZPK, under(good), make([]byte, 9), errAny},
		{"equal halves", UseZPK, under("807A23AD32B36D45807A23AD32B36D45"), nil, algo.ErrRepeatedParts},
		{"weak half", UseZPK, under("807A23AD32B36D451F1F1F1F0E0E0E0E"), nil, algo.ErrWeakKey},
		{"single length ZPK", UseZPK, under(good)[:8], nil, ErrKeyUse},
		{"no bytes", UseZPK, nil, nil, errAny},
		{"12 bytes", UseZPK, make([]byte, 12), nil, errAny},
		{"a data key", UseDEK, under(good), kcv, ErrKeyUse},
		{"no use", 0, under(good), kcv, errAny},
	} {
		key, err := s.ImportKey(ctx, zmk, c.use, c.cryptogram, c.kcv)
		switch {
		case c.want == nil && err != nil,
			c.want == errAny && err == nil,
			c.want != nil && c.want != errAny && !errors.Is(err, c.want),
			(key == "") != (err != nil):
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
}

var errAny = errors.New("any error")

func TestKeyBlocksOfOthersAreRefused(t *testing.T) {
	s := newHSM(t)
	key := generate(t, s, UseTAK, TDES16)
	stranger, err := NewSoftware(bytes.Repeat([]byte{0x5A}, 32))
	if err != nil {
		t.Fatal(err)
	}
	// Under the right master key, but saying of itself what this HSM does not
	// write.
	wrap := func(change func(h *algo.Header)) Key {
		h := header(UseTAK, TDES16, 'N')
		change(&h)
		block, err := s.blocks.Wrap(h, mustHex(t, formK), 24)
		if err != nil {
			t.Fatal(err)
		}
		return Key(block)
	}
	for what, k := range map[string]Key{
		"nothing":                 "",
		"seven characters":        "D0112M1",
		"cut":                     "B0040P0TE00E00",
		"a cut block":             key[:len(key)-2],
		"a clear key":             formK,
		"another master key":      generate(t, stranger, UseTAK, TDES16),
		"no label":                wrap(func(h *algo.Header) { h.Optional = nil }),
		"unknown label":           wrap(func(h *algo.Header) { h.Optional[0].Data = "TAX" }),
		"label and usage differ":  wrap(func(h *algo.Header) { h.Usage = [2]byte{'P', '0'} }),
		"label and mode differ":   wrap(func(h *algo.Header) { h.Mode = 'N' }),
		"another algorithm":       wrap(func(h *algo.Header) { h.Algorithm = 'A' }),
		"exportable without rule": wrap(func(h *algo.Header) { h.Export = 'E' }),
	} {
		if _, err := s.MAC(ctx, k, MACUnionPay, []byte("data")); !errors.Is(err, ErrKey) {
			t.Errorf("%s: MAC: %v, want ErrKey", what, err)
		}
		if _, err := s.CheckValue(ctx, k); !errors.Is(err, ErrKey) {
			t.Errorf("%s: CheckValue: %v, want ErrKey", what, err)
		}
		if _, _, err := s.ExportKey(ctx, k, k); !errors.Is(err, ErrKey) {
			t.Errorf("%s: ExportKey: %v, want ErrKey", what, err)
		}
	}
	if s.cache.len() != 0 {
		t.Errorf("%d refused keys were kept", s.cache.len())
	}
}

// TestUseBinding asks every verb with a key of every use. The table says which
// are taken; all others answer ErrKeyUse.
func TestUseBinding(t *testing.T) {
	s := newHSM(t)
	keys := map[Use]Key{}
	for _, use := range allUses() {
		alg := TDES16
		if !slices.Contains(useRules[use].algs, alg) {
			alg = useRules[use].algs[0]
		}
		keys[use] = generate(t, s, use, alg)
	}
	p := pan(t, testPAN)
	data := []byte("0200 and so on, as many bytes as a message has")
	mac := func(alg MACAlg) func(Key) error {
		return func(k Key) error {
			if err := s.VerifyMAC(ctx, k, alg, data, make([]byte, 8)); !errors.Is(err, ErrMAC) && err != nil {
				return err
			}
			_, err := s.MAC(ctx, k, alg, data)
			return err
		}
	}
	for _, v := range []struct {
		verb  string
		takes []Use
		call  func(Key) error
	}{
		{"UnionPay MAC", []Use{UseTAK, UseZAK}, mac(MACUnionPay)},
		{"X9.9", []Use{UseTAK, UseZAK}, mac(MACX99)},
		{"X9.19", []Use{UseTAK919, UseZAK919}, mac(MACX919)},
		{"CMAC", []Use{UseTAKCMAC, UseZAKCMAC}, mac(MACCMAC)},
		{"no MAC", nil, mac(0)},
		{"TranslatePIN from", []Use{UseTPK, UseZPK}, func(k Key) error {
			_, err := s.TranslatePIN(ctx, k, ISO0, [8]byte{}, p, keys[UseZPK], ISO0)
			return err
		}},
		{"TranslatePIN to", []Use{UseZPK}, func(k Key) error {
			_, err := s.TranslatePIN(ctx, keys[UseTPK], ISO0, [8]byte{}, p, k, ISO0)
			return err
		}},
		{"VerifyPIN of", []Use{UseTPK, UseZPK}, func(k Key) error {
			return s.VerifyPIN(ctx, k, ISO0, [8]byte{}, p, keys[UsePVK], PVV{Index: '1'})
		}},
		{"VerifyPIN against", []Use{UsePVK}, func(k Key) error {
			return s.VerifyPIN(ctx, keys[UseZPK], ISO0, [8]byte{}, p, k, PVV{Index: '1'})
		}},
		{"VerifyCVV", []Use{UseCVK}, func(k Key) error { return s.VerifyCVV(ctx, k, p, "2912", "220", "000") }},
		{"VerifyARQC", []Use{UseIMK}, func(k Key) error {
			_, err := s.VerifyARQC(ctx, k, Cryptogram{Scheme: PBOC, PAN: p})
			return err
		}},
		{"Encrypt", []Use{UseDEK}, func(k Key) error { _, err := s.Encrypt(ctx, k, nil, data); return err }},
		{"Decrypt", []Use{UseDEK}, func(k Key) error { _, err := s.Decrypt(ctx, k, nil, data); return err }},
		{"Token", []Use{UseHMAC}, func(k Key) error { _, err := s.Token(ctx, k, data); return err }},
		{"DecryptTrack", []Use{UseTDK}, func(k Key) error { _, err := s.DecryptTrack(ctx, k, data); return err }},
		{"WorkingKeys", []Use{UseTMK}, func(k Key) error { _, err := s.WorkingKeys(ctx, k, Set003, MAKSingle); return err }},
	} {
		for _, use := range allUses() {
			err := v.call(keys[use])
			taken := !errors.Is(err, ErrKeyUse)
			if taken != slices.Contains(v.takes, use) {
				t.Errorf("%s with a %v: %v", v.verb, use, err)
			}
			if !taken && !strings.Contains(err.Error(), use.String()) {
				t.Errorf("%s with a %v: %q does not say so", v.verb, use, err)
			}
			if errors.Is(err, ErrKey) {
				t.Errorf("%s with a %v: %v", v.verb, use, err)
			}
		}
	}
}

// TestSignIn is a terminal's morning: every set and shape, read with the
// terminal's own TMK, and the keys fit the ones the host got.
func TestSignIn(t *testing.T) {
	s := newHSM(t)
	tmk, terminal := form(t, s, UseTMK, TDES16, compA, compB)
	zpk, issuer := form(t, s, UseZPK, TDES16, compC, compD)
	p := pan(t, testPAN)
	data := []byte("0200...")
	for _, c := range []struct {
		set              KeySet
		shape            MAKShape
		length, pik, mak int
	}{
		{Set001, MAKSingle, 24, 8, 8},
		{Set001, MAKDouble, 24, 8, 8},
		{Set003, MAKSingle, 40, 16, 8},
		{Set003, MAKDouble, 40, 16, 16},
		{Set004, MAKSingle, 60, 16, 8},
		{Set004, MAKDouble, 60, 16, 16},
		{Set003, MAKRetail, 40, 16, 16},
		{Set004, MAKCMAC, 60, 16, 16},
	} {
		what := fmt.Sprintf("set %03d, shape %d", c.set, c.shape)
		w, err := s.WorkingKeys(ctx, tmk, c.set, c.shape)
		if err != nil || len(w.DE62) != c.length {
			t.Fatalf("%s: DE 62 of %d bytes, %v", what, len(w.DE62), err)
		}
		got, err := algo.ParseDE62(terminal, w.DE62)
		if err != nil || got.PIK.Len() != c.pik || got.MAK.Len() != c.mak {
			t.Fatalf("%s: the terminal reads %v, %v", what, got, err)
		}
		if c.mak == 8 && c.pik == 16 && !bytes.Equal(w.DE62[28:36], make([]byte, 8)) {
			t.Errorf("%s: no zeros behind the MAC key", what)
		}

		alg, want := MACUnionPay, got.MAK.UnionPayMAC(data)
		switch c.shape {
		case MAKRetail:
			alg = MACX919
			if _, err := got.MAK.AppendRetailMAC(want[:0], algo.PadZeros, data); err != nil {
				t.Fatal(err)
			}
		case MAKCMAC:
			alg = MACCMAC
			got.MAK.AppendCMAC(want[:0], data)
		}
		for try := range MACCMAC + 1 {
			mac, err := s.MAC(ctx, w.TAK, try, data)
			bound := try == alg || alg == MACUnionPay && try == MACX99
			if bound != (err == nil) || try == alg && mac != want {
				t.Errorf("%s: MAC %d: %v", what, try, err)
			}
		}
		out, err := s.TranslatePIN(ctx, w.TPK, ISO0, pinBlock(t, got.PIK, ISO0, "123456", testPAN), p, zpk, ISO0)
		if err != nil || out != pinBlock(t, issuer, ISO0, "123456", testPAN) {
			t.Errorf("%s: the PIN did not arrive: %v", what, err)
		}
		if (w.TDK != "") != (c.set == Set004) || (got.TDK != nil) != (c.set == Set004) {
			t.Errorf("%s: track key %q, %v", what, w.TDK, got.TDK)
		}
		if c.set == Set004 {
			const track = "6228480402564890018=49121200000123456"
			sealed, err := algo.AppendEncryptedTrack(nil, got.TDK, []byte(track))
			if err != nil {
				t.Fatal(err)
			}
			clearTrack, err := s.DecryptTrack(ctx, w.TDK, sealed)
			if err != nil || string(clearTrack) != track {
				t.Errorf("%s: the track did not arrive: %v", what, err)
			}
			sealed[len(sealed)-3] ^= 1
			if _, err := s.DecryptTrack(ctx, w.TDK, sealed[:10]); err != ErrTrack {
				t.Errorf("%s: a cut track: %v, want ErrTrack", what, err)
			}
		}
		for _, key := range []Key{w.TPK, w.TAK} {
			if _, _, err := s.ExportKey(ctx, tmk, key); !errors.Is(err, ErrKeyUse) {
				t.Errorf("%s: a working key left a second time: %v", what, err)
			}
		}
	}
	for _, set := range []KeySet{0, 2, 5, 420} {
		if _, err := s.WorkingKeys(ctx, tmk, set, MAKSingle); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%03d", set)) {
			t.Errorf("set %d: %v", set, err)
		}
	}
	if _, err := s.WorkingKeys(ctx, tmk, Set003, MAKCMAC+1); err == nil {
		t.Error("a shape behind the last was taken")
	}
	for _, shape := range []MAKShape{MAKRetail, MAKCMAC} {
		if _, err := s.WorkingKeys(ctx, tmk, Set001, shape); !errors.Is(err, ErrKeyUse) {
			t.Errorf("shape %d of single length: %v", shape, err)
		}
	}
	one, err := s.WorkingKeys(ctx, tmk, Set003, MAKSingle)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.WorkingKeys(ctx, tmk, Set003, MAKSingle)
	if err != nil || bytes.Equal(one.DE62, two.DE62) {
		t.Errorf("the same keys twice: %v", err)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]Use{}
	for _, use := range allUses() {
		if other, twice := seen[use.String()]; twice || use.String() == "" {
			t.Errorf("%d and %d are both %v", use, other, use)
		}
		seen[use.String()] = use
	}
	if Use(0).String() != "use 0" || Use(200).String() != "use 200" || Alg(0).String() != "algorithm 0" || Alg(99).String() != "algorithm 99" {
		t.Error(Use(0), Use(200), Alg(0), Alg(99))
	}
}

func FuzzKey(f *testing.F) {
	s := newHSM(f)
	f.Add("B0040P0TE00E00")
	f.Add("D0016P0TE00E0000")
	f.Add(string(generate(f, s, UseTAK, TDES16)))
	f.Add(string(generate(f, s, UseHMAC, HMAC32)))
	stranger, err := NewSoftware(bytes.Repeat([]byte{0x5A}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, block string) {
		// The blocks in the corpus are of s; to the stranger all are noise.
		if _, err := stranger.MAC(ctx, Key(block), MACUnionPay, nil); !errors.Is(err, ErrKey) {
			t.Fatalf("%v, want ErrKey", err)
		}
		if _, err := stranger.ImportKey(ctx, Key(block), UseZPK, make([]byte, 16), nil); !errors.Is(err, ErrKey) {
			t.Fatalf("%v, want ErrKey", err)
		}
		if _, err := s.Token(ctx, Key(block), nil); err != nil && !errors.Is(err, ErrKey) && !errors.Is(err, ErrKeyUse) {
			t.Fatal(err)
		}
	})
}
