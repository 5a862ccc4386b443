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
	for _, c := range []struct {
		kek, use Use
		alg      Alg
	}{
		{UseZMK, UseZPK, TDES16}, {UseZMK, UseZAK, TDES16}, {UseZMK, UseZAK919, TDES16}, {UseZMK, UseZAKCMAC, TDES16},
		{UseTMK, UseTPK, TDES16}, {UseTMK, UseTAK, TDES16}, {UseTMK, UseTDK, TDES16},
		{UseZMK, UseZPK, SM4}, {UseZMK, UseZAK, SM4}, {UseZMK, UseZAKCMAC, SM4},
		{UseTMK, UseTPK, SM4}, {UseTMK, UseTAK, SM4}, {UseTMK, UseTAKCMAC, SM4}, {UseTMK, UseTDK, SM4},
	} {
		ours, _ := form(t, acquirer, c.kek, c.alg, compA, compB)
		theirs, _ := form(t, issuer, c.kek, c.alg, compA, compB)
		key := generate(t, issuer, c.use, c.alg)
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
			if check == nil && c.alg == SM4 {
				if !errors.Is(err, ErrKCV) {
					t.Errorf("import of an SM4 %v without check value: %v, want ErrKCV", c.use, err)
				}
				continue
			}
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
				under == UseZMK && slices.Contains([]Use{UseTMK, UseTTK, UseZPK, UseZAK, UseZAK919, UseZAKCMAC, UseBDK, UsePVK, UsePVKIBM, UseCVK, UseIMK, UseSMI, UseSMC}, use)
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
	// SM4 keys travel under SM4, DES keys under TDES.
	for under, alg := range map[Use]Alg{UseTMK: SM4, UseZMK: SM4} {
		national := generate(t, s, under, alg)
		use := map[Use]Use{UseTMK: UseTPK, UseZMK: UseZPK}[under]
		for _, of := range []Alg{TDES16, TDES24} {
			if _, _, err := s.ExportKey(ctx, national, generate(t, s, use, of)); !errors.Is(err, ErrKeyUse) {
				t.Errorf("%v under an SM4 %v: %v", of, under, err)
			}
		}
		if _, _, err := s.ExportKey(ctx, kek[under], generate(t, s, use, SM4)); !errors.Is(err, ErrKeyUse) {
			t.Errorf("SM4 under a TDES %v: %v", under, err)
		}
		if _, _, err := s.ExportKey(ctx, national, generate(t, s, use, SM4)); err != nil {
			t.Errorf("SM4 under an SM4 %v: %v", under, err)
		}
		for _, n := range []int{0, 8, 15, 24, 32} {
			if _, err := s.ImportKey(ctx, national, use, make([]byte, n), make([]byte, 4)); err == nil {
				t.Errorf("%d bytes under an SM4 %v were taken", n, under)
			}
		}
	}
}

// TestSM4WorkingKeyOfPublicBank imports a working key with the check value that
// a bank published for it (nameidi.com/n/9rd4jp1z.html).
func TestSM4WorkingKeyOfPublicBank(t *testing.T) {
	s := newHSM(t)
	tmk, _, err := s.FormKey(ctx, UseTMK, SM4, mustHex(t, "1234567890ABCDEFABCDEF0987654321"), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	cryptogram, kcv := mustHex(t, "3D66234C49E4296FF9C78D8BACBD6A76"), mustHex(t, "861E83E31FAEBF10")
	tpk, err := s.ImportKey(ctx, tmk, UseTPK, cryptogram, kcv)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.CheckValue(ctx, tpk); err != nil || got.String() != "861E83E3" {
		t.Errorf("check value %v, %v", got, err)
	}
	kcv[0] ^= 1
	if _, err := s.ImportKey(ctx, tmk, UseTPK, cryptogram, kcv); !errors.Is(err, ErrKCV) {
		t.Errorf("another check value: %v, want ErrKCV", err)
	}
	kcv[0] ^= 1

	// Check values of every length that is sent, up to the whole block.
	_, clearKey, err := s.blocks.Unwrap(string(tpk))
	if err != nil {
		t.Fatal(err)
	}
	k, err := algo.NewKey(algo.SM4, clearKey)
	if err != nil {
		t.Fatal(err)
	}
	whole := k.CheckValue()
	if !bytes.HasPrefix(whole, kcv) {
		t.Errorf("check value %X, want %X first", whole, kcv)
	}
	for n := range 18 {
		_, err := s.ImportKey(ctx, tmk, UseTPK, cryptogram, append(bytes.Clone(whole), 0)[:n])
		if (err == nil) != (n >= 3 && n <= 16) {
			t.Errorf("a check value of %d bytes: %v", n, err)
		}
	}
	whole[15] ^= 1
	if _, err := s.ImportKey(ctx, tmk, UseTPK, cryptogram, whole); !errors.Is(err, ErrKCV) {
		t.Errorf("another last byte: %v, want ErrKCV", err)
	}
	zmk := generate(t, s, UseZMK, TDES16)
	if _, err := s.ImportKey(ctx, zmk, UseZPK, make([]byte, 16), make([]byte, 9)); err == nil || errors.Is(err, ErrKCV) {
		t.Errorf("9 bytes for a TDES key: %v", err)
	}
}

// TestDeliverTMK: a terminal decrypts what it was sent with the transport key
// of its factory, and reads the next sign-in with it.
func TestDeliverTMK(t *testing.T) {
	s := newHSM(t)
	for _, under := range []Alg{TDES16, TDES24, SM4} {
		ttk, factory := form(t, s, UseTTK, under, (compA + compC)[:2*algRules[under].length], (compB + compA)[:2*algRules[under].length])
		for _, alg := range []Alg{TDES16, TDES24, SM4} {
			what := fmt.Sprintf("TMK of %v under a TTK of %v", alg, under)
			tmk, cryptogram, kcv, err := s.DeliverTMK(ctx, ttk, alg)
			if (under == SM4) != (alg == SM4) || alg == TDES24 && under == TDES16 {
				if !errors.Is(err, ErrKeyUse) || tmk != "" || cryptogram != nil || kcv != nil {
					t.Errorf("%s: %v, want ErrKeyUse", what, err)
				}
				continue
			}
			if err != nil || len(cryptogram) != algRules[alg].length || len(kcv) != 4 {
				t.Fatalf("%s: %d bytes, %v", what, len(cryptogram), err)
			}
			clearTMK := make([]byte, len(cryptogram))
			if err := factory.DecryptECB(clearTMK, cryptogram); err != nil {
				t.Fatal(err)
			}
			if alg.des() && (!algo.OddParity(clearTMK) || algo.CheckDES(clearTMK) != nil) {
				t.Errorf("%s: bad DES key", what)
			}
			terminal, err := algo.NewKey(algRules[alg].cipher, clearTMK)
			if err != nil || !bytes.Equal(terminal.CheckValue()[:4], kcv) {
				t.Errorf("%s: check value %X, %v", what, kcv, err)
			}
			if got, err := s.CheckValue(ctx, tmk); err != nil || !bytes.Equal(got[:], kcv) {
				t.Errorf("%s: check value of the block %v, %v", what, got, err)
			}
			set := Set004
			if alg == SM4 {
				set = Set005
			}
			w, err := s.WorkingKeys(ctx, tmk, set, MAKDouble)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if keys, err := algo.ParseDE62(terminal, w.DE62); err != nil || keys.TDK == nil {
				t.Errorf("%s: the terminal cannot read its keys: %v", what, err)
			}
			for _, kek := range []Key{ttk, generate(t, s, UseZMK, under)} {
				if _, _, err := s.ExportKey(ctx, kek, tmk); !errors.Is(err, ErrKeyUse) {
					t.Errorf("%s: it left a second time: %v", what, err)
				}
			}
			again, other, _, err := s.DeliverTMK(ctx, ttk, alg)
			if err != nil || again == tmk || bytes.Equal(other, cryptogram) {
				t.Errorf("%s: the same key twice: %v", what, err)
			}
		}
	}
	ttk := generate(t, s, UseTTK, TDES24)
	for _, alg := range []Alg{0, DES8, AES16, AES32, HMAC32, 99} {
		if _, _, _, err := s.DeliverTMK(ctx, ttk, alg); !errors.Is(err, ErrKeyUse) {
			t.Errorf("a TMK of %v: %v, want ErrKeyUse", alg, err)
		}
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
			_, err := s.TranslatePIN(ctx, k, ISO0, PINBlock{}, p, keys[UseZPK], ISO0)
			return err
		}},
		{"TranslatePIN to", []Use{UseZPK}, func(k Key) error {
			_, err := s.TranslatePIN(ctx, keys[UseTPK], ISO0, PINBlock{}, p, k, ISO0)
			return err
		}},
		{"VerifyPIN of", []Use{UseTPK, UseZPK}, func(k Key) error {
			return s.VerifyPIN(ctx, k, ISO0, PINBlock{}, p, keys[UsePVK], PVV{Index: '1'})
		}},
		{"VerifyPIN against", []Use{UsePVK}, func(k Key) error {
			return s.VerifyPIN(ctx, keys[UseZPK], ISO0, PINBlock{}, p, k, PVV{Index: '1'})
		}},
		{"VerifyOffset against", []Use{UsePVKIBM}, func(k Key) error {
			return s.VerifyOffset(ctx, keys[UseZPK], ISO0, PINBlock{}, p, k, Offset{Table: "0123456789012345", Value: "0000"})
		}},
		{"TranslateDUKPT from", []Use{UseBDK}, func(k Key) error {
			_, err := s.TranslateDUKPT(ctx, k, mustHex(t, "FFFF9876543210E00001"), ISO0, PINBlock{}, p, keys[UseZPK], ISO0)
			return err
		}},
		{"TranslateDUKPT to", []Use{UseZPK}, func(k Key) error {
			_, err := s.TranslateDUKPT(ctx, keys[UseBDK], mustHex(t, "FFFF9876543210E00001"), ISO0, PINBlock{}, p, k, ISO0)
			return err
		}},
		{"MACDUKPT", []Use{UseBDK}, func(k Key) error { _, err := s.MACDUKPT(ctx, k, mustHex(t, "FFFF9876543210E00001"), data); return err }},
		{"ScriptMAC", []Use{UseSMI}, func(k Key) error {
			_, err := s.ScriptMAC(ctx, k, Script{Scheme: PBOC, PAN: p})
			return err
		}},
		{"ScriptPINChange", []Use{UseSMC}, func(k Key) error {
			_, _, err := s.ScriptPINChange(ctx, keys[UseZPK], ISO0, PINBlock{}, IssuerKeys{SMI: keys[UseSMI], SMC: k, IMK: keys[UseIMK]}, Script{Scheme: PBOC, PAN: p})
			return err
		}},
		{"ExportBlock under", []Use{UseZMK}, func(k Key) error { _, err := s.ExportBlock(ctx, k, keys[UseZPK], 'B'); return err }},
		{"VerifyCVV", []Use{UseCVK}, func(k Key) error { return s.VerifyCVV(ctx, k, p, "2912", "220", "000") }},
		{"VerifyARQC", []Use{UseIMK}, func(k Key) error {
			_, err := s.VerifyARQC(ctx, k, Cryptogram{Scheme: PBOC, PAN: p})
			return err
		}},
		{"Encrypt", []Use{UseDEK}, func(k Key) error { _, err := s.Encrypt(ctx, k, nil, data); return err }},
		{"Decrypt", []Use{UseDEK}, func(k Key) error { _, err := s.Decrypt(ctx, k, nil, data); return err }},
		{"Token", []Use{UseHMAC}, func(k Key) error { _, err := s.Token(ctx, k, data); return err }},
		{"DecryptTrack", []Use{UseTDK}, func(k Key) error { _, err := s.DecryptTrack(ctx, k, TrackTDB, data); return err }},
		{"DeliverTMK", []Use{UseTTK}, func(k Key) error { _, _, _, err := s.DeliverTMK(ctx, k, TDES16); return err }},
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
	tdes, tdesTerminal := form(t, s, UseTMK, TDES16, compA, compB)
	national, sm4Terminal := form(t, s, UseTMK, SM4, compA, compB)
	zpk, issuer := form(t, s, UseZPK, TDES16, compC, compD)
	p := pan(t, testPAN)
	data := []byte("0200 and what else a message has")
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
		{Set003, MAKCMAC, 40, 16, 16},
		{Set004, MAKRetail, 60, 16, 16},
		{Set004, MAKCMAC, 60, 16, 16},
		{Set005, MAKSingle, 60, 16, 16},
		{Set005, MAKDouble, 60, 16, 16},
		{Set005, MAKCMAC, 60, 16, 16},
	} {
		what := fmt.Sprintf("set %03d, shape %d", c.set, c.shape)
		tmk, other, terminal, cipher := tdes, national, tdesTerminal, algo.TDES
		pinFormats := []PINFormat{ISO0, UnionPayNoPAN}
		if c.set == Set005 {
			tmk, other, terminal, cipher = national, tdes, sm4Terminal, algo.SM4
			pinFormats = []PINFormat{SM4WithPAN, SM4NoPAN}
		}
		if _, err := s.WorkingKeys(ctx, other, c.set, c.shape); !errors.Is(err, ErrKeyUse) {
			t.Errorf("%s under a TMK of the other family: %v, want ErrKeyUse", what, err)
		}
		w, err := s.WorkingKeys(ctx, tmk, c.set, c.shape)
		if err != nil || len(w.DE62) != c.length {
			t.Fatalf("%s: DE 62 of %d bytes, %v", what, len(w.DE62), err)
		}
		got, err := algo.ParseDE62(terminal, w.DE62)
		if err != nil || got.PIK.Len() != c.pik || got.MAK.Len() != c.mak || c.pik == 16 && got.PIK.Cipher() != cipher {
			t.Fatalf("%s: the terminal reads %v, %v", what, got, err)
		}
		if c.mak == 8 && c.pik == 16 && !bytes.Equal(w.DE62[28:36], make([]byte, 8)) {
			t.Errorf("%s: no zeros behind the MAC key", what)
		}

		want := map[MACAlg][8]byte{MACUnionPay: got.MAK.UnionPayMAC(data), MACX99: got.MAK.X99MAC(data)}
		switch c.shape {
		case MAKRetail:
			var mac [8]byte
			if _, err := got.MAK.AppendRetailMAC(mac[:0], algo.PadZeros, data); err != nil {
				t.Fatal(err)
			}
			want = map[MACAlg][8]byte{MACX919: mac}
		case MAKCMAC:
			want = map[MACAlg][8]byte{MACCMAC: got.MAK.CMAC(data)}
		}
		for try := range MACCMAC + 1 {
			mac, err := s.MAC(ctx, w.TAK, try, data)
			if _, bound := want[try]; bound != (err == nil) || mac != want[try] {
				t.Errorf("%s: MAC %d: %v", what, try, err)
			}
		}
		for _, format := range pinFormats {
			out, err := s.TranslatePIN(ctx, w.TPK, format, pinBlock(t, got.PIK, format, "123456", testPAN), p, zpk, ISO0)
			if err != nil || out != pinBlock(t, issuer, ISO0, "123456", testPAN) {
				t.Errorf("%s: the PIN did not arrive: %v", what, err)
			}
		}
		track := c.set == Set004 || c.set == Set005
		if (w.TDK != "") != track || (got.TDK != nil) != track {
			t.Errorf("%s: track key %q, %v", what, w.TDK, got.TDK)
		}
		for _, scheme := range []TrackScheme{TrackTDB, TrackWhole, TrackLength} {
			if !track {
				continue
			}
			const plain = "6228480402564890018=49121200000123456"
			sealed, err := algo.AppendEncryptedTrack(nil, got.TDK, scheme, []byte(plain))
			if err != nil {
				t.Fatal(err)
			}
			opened, err := s.DecryptTrack(ctx, w.TDK, scheme, sealed)
			if err != nil || string(opened) != plain {
				t.Errorf("%s: the track did not arrive by scheme %d: %v", what, scheme, err)
			}
			for _, other := range []TrackScheme{0, TrackTDB, TrackWhole, TrackLength, TrackLength + 1} {
				if other == scheme {
					continue
				}
				if got, err := s.DecryptTrack(ctx, w.TDK, other, sealed); err == nil && string(got) == plain {
					t.Errorf("%s: scheme %d was read as %d", what, scheme, other)
				}
			}
			if _, err := s.DecryptTrack(ctx, w.TDK, scheme, sealed[:10]); err != ErrTrack {
				t.Errorf("%s: a cut track: %v, want ErrTrack", what, err)
			}
		}
		for _, key := range []Key{w.TPK, w.TAK} {
			if _, _, err := s.ExportKey(ctx, tmk, key); !errors.Is(err, ErrKeyUse) {
				t.Errorf("%s: a working key left a second time: %v", what, err)
			}
		}
	}
	for _, set := range []KeySet{0, 2, 6, 420} {
		if _, err := s.WorkingKeys(ctx, tdes, set, MAKSingle); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%03d", set)) {
			t.Errorf("set %d: %v", set, err)
		}
	}
	if _, err := s.WorkingKeys(ctx, tdes, Set003, MAKCMAC+1); err == nil {
		t.Error("a shape behind the last was taken")
	}
	for _, shape := range []MAKShape{MAKRetail, MAKCMAC} {
		if _, err := s.WorkingKeys(ctx, tdes, Set001, shape); !errors.Is(err, ErrKeyUse) {
			t.Errorf("shape %d of single length: %v", shape, err)
		}
	}
	if _, err := s.WorkingKeys(ctx, national, Set005, MAKRetail); !errors.Is(err, ErrKeyUse) {
		t.Errorf("an SM4 key in two halves: %v", err)
	}
	one, err := s.WorkingKeys(ctx, tdes, Set003, MAKSingle)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.WorkingKeys(ctx, tdes, Set003, MAKSingle)
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
