package hsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"acquirer/hsm/algo"
)

func TestMACs(t *testing.T) {
	s := newHSM(t)
	data := []byte("0200 a message of no particular length")
	for _, c := range []struct {
		use  Use
		alg  Alg
		mac  MACAlg
		want func(k *algo.Key) []byte
	}{
		{UseTAK, DES8, MACUnionPay, func(k *algo.Key) []byte { m := k.UnionPayMAC(data); return m[:] }},
		{UseTAK, TDES16, MACUnionPay, func(k *algo.Key) []byte { m := k.UnionPayMAC(data); return m[:] }},
		{UseTAK, SM4, MACUnionPay, func(k *algo.Key) []byte { m := k.UnionPayMAC(data); return m[:] }},
		{UseZAK, DES8, MACX99, func(k *algo.Key) []byte { return k.AppendCBCMAC(nil, algo.PadZeros, data) }},
		{UseZAK, TDES16, MACX99, func(k *algo.Key) []byte { return k.AppendCBCMAC(nil, algo.PadZeros, data) }},
		{UseZAK, SM4, MACX99, func(k *algo.Key) []byte { return k.AppendCBCMAC(nil, algo.PadZeros, data)[:8] }},
		{UseZAK919, TDES16, MACX919, func(k *algo.Key) []byte {
			m, err := k.AppendRetailMAC(nil, algo.PadZeros, data)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}},
		{UseTAKCMAC, AES32, MACCMAC, func(k *algo.Key) []byte { return k.AppendCMAC(nil, data)[:8] }},
		{UseTAKCMAC, TDES24, MACCMAC, func(k *algo.Key) []byte { return k.AppendCMAC(nil, data) }},
		{UseTAK, SM4, MACX99, func(k *algo.Key) []byte { m := k.X99MAC(data); return m[:] }},
		{UseTAKCMAC, TDES16, MACCMAC, func(k *algo.Key) []byte { m := k.CMAC(data); return m[:] }},
		{UseTAKCMAC, SM4, MACCMAC, func(k *algo.Key) []byte { return k.AppendCMAC(nil, data)[:8] }},
	} {
		n := algRules[c.alg].length * 2
		key, other := form(t, s, c.use, c.alg, (compA + compB)[:n], (compC + compD)[:n])
		mac, err := s.MAC(ctx, key, c.mac, data)
		if want := c.want(other); err != nil || !bytes.Equal(mac[:], want) {
			t.Errorf("%v of %v: %X, %v, want %X", c.use, c.alg, mac, err, want)
		}
		if err := s.VerifyMAC(ctx, key, c.mac, data, mac[:]); err != nil {
			t.Errorf("%v of %v: %v", c.use, c.alg, err)
		}
		for i := range mac {
			mac[i] ^= 0x20
			if err := s.VerifyMAC(ctx, key, c.mac, data, mac[:]); err != ErrMAC {
				t.Errorf("%v of %v, byte %d changed: %v, want ErrMAC", c.use, c.alg, i, err)
			}
			mac[i] ^= 0x20
		}
		for _, cut := range [][]byte{nil, {}, mac[:4], mac[:7], append(mac[:], 0)} {
			if err := s.VerifyMAC(ctx, key, c.mac, data, cut); err != ErrMAC {
				t.Errorf("%v of %v: a MAC of %d bytes: %v, want ErrMAC", c.use, c.alg, len(cut), err)
			}
		}
		if err := s.VerifyMAC(ctx, key, c.mac, append(data, 0x31), mac[:]); err != ErrMAC {
			t.Errorf("%v of %v: more data: %v, want ErrMAC", c.use, c.alg, err)
		}
	}
}

func TestSealedData(t *testing.T) {
	s := newHSM(t)
	key, another := generate(t, s, UseDEK, AES32), generate(t, s, UseDEK, AES32)
	secret, row := []byte(testPAN), []byte("journal row 1")
	sealed, err := s.Encrypt(ctx, key, row, secret)
	if err != nil || bytes.Contains(sealed, secret) || len(sealed) != len(secret)+28 {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	if got, err := s.Decrypt(ctx, key, row, sealed); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%v", err)
	}
	again, err := s.Encrypt(ctx, key, row, secret)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed the same twice: %v", err)
	}
	if _, err := s.Decrypt(ctx, key, []byte("journal row 2"), sealed); err != ErrData {
		t.Errorf("moved to another row: %v", err)
	}
	if _, err := s.Decrypt(ctx, another, row, sealed); err != ErrData {
		t.Errorf("another key: %v", err)
	}
	for i := range len(sealed) {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Decrypt(ctx, key, row, changed); err != ErrData {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := s.Decrypt(ctx, key, row, sealed[:i]); err != ErrData {
			t.Errorf("cut to %d: %v", i, err)
		}
	}
	if empty, err := s.Encrypt(ctx, key, nil, nil); err != nil || len(empty) != 28 {
		t.Errorf("nothing: %d bytes, %v", len(empty), err)
	}
}

func TestToken(t *testing.T) {
	s := newHSM(t)
	key, another := generate(t, s, UseHMAC, HMAC32), generate(t, s, UseHMAC, HMAC32)
	one, err := s.Token(ctx, key, []byte(testPAN))
	if err != nil {
		t.Fatal(err)
	}
	restarted := newHSM(t)
	if again, err := restarted.Token(ctx, key, []byte(testPAN)); err != nil || again != one {
		t.Errorf("after a restart: %X, want %X, %v", again, one, err)
	}
	if other, err := s.Token(ctx, key, []byte(testPAN+"1")); err != nil || other == one {
		t.Errorf("another card has the same token: %v", err)
	}
	if other, err := s.Token(ctx, another, []byte(testPAN)); err != nil || other == one {
		t.Errorf("another key gives the same token: %v", err)
	}
	fixed, _, err := s.FormKey(ctx, UseHMAC, HMAC32, bytes.Repeat([]byte{0x0B}, 32), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	// By OpenSSL: printf 'Hi There' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0b0b...
	const hmacHiThere = "198a607eb44bfbc69903a0f1cf2bbdc5"
	if got, err := s.Token(ctx, fixed, []byte("Hi There")); err != nil || fmt.Sprintf("%x", got) != hmacHiThere {
		t.Errorf("%x, %v, want %s", got, err, hmacHiThere)
	}
}

func TestMasterKey(t *testing.T) {
	for _, n := range []int{0, 16, 24, 31, 33} {
		if _, err := NewSoftware(bytes.Repeat([]byte{1}, n)); err == nil {
			t.Errorf("a master key of %d bytes was taken", n)
		}
	}
	if _, err := NewSoftware(make([]byte, 32)); err == nil {
		t.Error("a master key of zeros was taken")
	}
	s, err := NewSoftware(mustHex(t, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"))
	if err != nil || s.MasterCheckValue().String() != "2331550B" {
		t.Errorf("%v, %v", s.MasterCheckValue(), err) // X9.143:2021, 8.6
	}
}

func TestCacheIsBounded(t *testing.T) {
	s := newHSM(t)
	s.cache = newCache(128)
	limit := s.cache.limit * len(s.cache.shards)
	hot := generate(t, s, UseTAK, DES8)
	for range 20 * limit {
		if _, err := s.MAC(ctx, generate(t, s, UseTAK, DES8), MACUnionPay, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.MAC(ctx, hot, MACUnionPay, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.cache.len(); n > limit || n < limit/2 {
		t.Errorf("%d keys kept, limit %d", n, limit)
	}
}

// TestCacheKeepsWhatIsAskedFor: a key in use outlives the ones that pass by,
// in a shard with room for more than one.
func TestCacheKeepsWhatIsAskedFor(t *testing.T) {
	c := newCache(4 * len(cache{}.shards))
	name := func(i int) Key { return Key(fmt.Sprintf("D%06d-ABCDEFGH", i)) } // all in one shard
	hot := new(expanded)
	c.put(name(0), hot)
	for i := 1; i < 1000; i++ {
		if c.get(name(0)) != hot {
			t.Fatalf("the key in use was dropped at %d", i)
		}
		c.put(name(i), new(expanded))
		if c.get(name(0)) != hot {
			t.Fatalf("the key in use was dropped at %d", i)
		}
	}
	if c.len() != 4 {
		t.Errorf("%d keys, want 4", c.len())
	}
}

// TestNothingSecretIsPrinted forms keys of known value, puts them through
// every verb, with good input and bad, and looks for their bytes in all that
// can be printed.
func TestNothingSecretIsPrinted(t *testing.T) {
	master := mustHex(t, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6")
	s, err := NewSoftware(master)
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{master, mustHex(t, formK), mustHex(t, formSM4), mustHex(t, compA), mustHex(t, compB), []byte(testPAN), []byte("918273645546")}
	var printed strings.Builder
	show := func(values ...any) {
		for _, v := range values {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%T"} {
				fmt.Fprintf(&printed, verb+"\n", v)
			}
			if text, err := json.Marshal(v); err == nil {
				printed.Write(text)
			}
		}
	}
	a, b := mustHex(t, compA), mustHex(t, compB)
	p := pan(t, testPAN)
	keys := []Key{"", Key(formK), Key("D0112" + formK), "B0040P0TE00E00"}
	for _, use := range allUses() {
		if !slices.Contains(useRules[use].algs, TDES16) {
			continue
		}
		key, kcv, err := s.FormKey(ctx, use, TDES16, a, b)
		show(key, kcv, err)
		keys = append(keys, key)
		_, _, err = s.FormKey(ctx, use, TDES24, a, b)
		show(err)
		_, _, err = s.FormKey(ctx, use, TDES16, a, a)
		show(err)
	}
	for _, use := range allUses() {
		if !slices.Contains(useRules[use].algs, SM4) {
			continue
		}
		key, kcv, err := s.FormKey(ctx, use, SM4, a, b)
		show(key, kcv, err)
		keys = append(keys, key)
	}
	keys = append(keys, generate(t, s, UseDEK, AES32), generate(t, s, UseHMAC, HMAC32))
	terminal, err := algo.NewKey(algo.TDES, mustHex(t, formK))
	if err != nil {
		t.Fatal(err)
	}
	block := pinBlock(t, terminal, ISO0, "918273645546", testPAN)
	for _, k := range keys {
		for _, other := range keys {
			for _, format := range []PINFormat{ISO0, ISO1, 7} {
				out, err := s.TranslatePIN(ctx, k, format, block, p, other, ISO0)
				show(out, err)
			}
			show(s.VerifyPIN(ctx, k, ISO0, block, p, other, PVV{}))
			cryptogram, kcv, err := s.ExportKey(ctx, k, other)
			show(cryptogram, kcv, err)
		}
		for alg := range MACCMAC + 2 {
			mac, err := s.MAC(ctx, k, alg, a)
			show(mac, err, s.VerifyMAC(ctx, k, alg, a, b))
		}
		_, err := s.ImportKey(ctx, k, UseZPK, a, b[:4])
		show(err)
		_, err = s.ImportKey(ctx, k, UseTPK, a[:7], nil)
		show(err)
		w, err := s.WorkingKeys(ctx, k, Set004, MAKDouble)
		show(w, err)
		_, err = s.Decrypt(ctx, k, a, b)
		show(err)
		_, err = s.DecryptTrack(ctx, k, TrackTDB, []byte(testPAN+"=49121200000123456"))
		show(err)
		_, err = s.DecryptTrack(ctx, k, TrackLength, bytes.Repeat([]byte("6"), 32))
		show(err)
		delivered, cryptogram, kcv, err := s.DeliverTMK(ctx, k, TDES16)
		show(delivered, cryptogram, kcv, err)
		w, err = s.WorkingKeys(ctx, k, Set005, MAKDouble)
		show(w, err, s.VerifyCVV(ctx, k, p, "4912", "120", "000"))
		_, err = s.VerifyARQC(ctx, k, Cryptogram{Scheme: PBOC, PAN: p, PSN: "01"})
		show(err, Cryptogram{Scheme: PBOC, PAN: p, PSN: "01"})
		if e, err := s.load("test", k, allUses()...); err == nil {
			show(e, *e.key0(), struct{ E *expanded }{e})
		}
	}
	show(s, struct{ H HSM }{s}, struct{ s *Software }{s}, s.blocks, terminal)
	out := strings.ToUpper(printed.String())
	for i, secret := range secrets {
		decimal := strings.Trim(fmt.Sprint(secret), "[]")
		list := strings.ToUpper(strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"))
		for _, form := range []string{string(secret), fmt.Sprintf("%X", secret), decimal, list} {
			// A DES key is as bad by its halves.
			for _, part := range []string{form, form[:len(form)/2]} {
				if len(part) >= 8 && strings.Contains(out, strings.ToUpper(part)) {
					t.Errorf("secret %d was printed as %q", i, part)
				}
			}
		}
	}
	if !strings.Contains(out, "TAK") || len(out) < 10000 {
		t.Error("the test printed next to nothing")
	}
}

// key0 gives the test a value to print whatever the key is.
func (k *expanded) key0() *algo.Key {
	if k.key == nil {
		return new(algo.Key)
	}
	return k.key
}

// TestConcurrency lets many goroutines work with more keys than the cache
// holds.
func TestConcurrency(t *testing.T) {
	s := newHSM(t)
	s.cache = newCache(64)
	tdes, tdesTerminal := form(t, s, UseTMK, TDES16, compA, compB)
	national, sm4Terminal := form(t, s, UseTMK, SM4, compA, compB)
	zpk, issuer := form(t, s, UseZPK, TDES16, compC, compD)
	dek, token := generate(t, s, UseDEK, AES32), generate(t, s, UseHMAC, HMAC32)
	p := pan(t, testPAN)
	want, err := s.Token(ctx, token, []byte(testPAN))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte(g)}, 200)
			tmk, terminal, set, format := tdes, tdesTerminal, Set004, ISO0
			if g%4 > 1 {
				tmk, terminal, set, format = national, sm4Terminal, Set005, SM4WithPAN
			}
			for range 20 {
				w, err := s.WorkingKeys(ctx, tmk, set, MAKShape(g%2))
				if err != nil {
					t.Error(err)
					return
				}
				keys, err := algo.ParseDE62(terminal, w.DE62)
				if err != nil {
					t.Error(err)
					return
				}
				for range 5 {
					mac, err := s.MAC(ctx, w.TAK, MACUnionPay, data)
					if err != nil || mac != keys.MAK.UnionPayMAC(data) {
						t.Errorf("MAC: %v", err)
					}
					out, err := s.TranslatePIN(ctx, w.TPK, format, pinBlock(t, keys.PIK, format, "123456", testPAN), p, zpk, ISO0)
					if err != nil || out != pinBlock(t, issuer, ISO0, "123456", testPAN) {
						t.Errorf("PIN: %v", err)
					}
					const track = "6228480402564890018=49121200000123456"
					coded, err := algo.AppendEncryptedTrack(nil, keys.TDK, TrackWhole, []byte(track))
					if err != nil {
						t.Error(err)
					}
					if got, err := s.DecryptTrack(ctx, w.TDK, TrackWhole, coded); err != nil || string(got) != track {
						t.Errorf("track: %v", err)
					}
					if got, err := s.Token(ctx, token, []byte(testPAN)); err != nil || got != want {
						t.Errorf("token: %v", err)
					}
					sealed, err := s.Encrypt(ctx, dek, data[:8], data)
					if err != nil {
						t.Error(err)
					}
					if got, err := s.Decrypt(ctx, dek, data[:8], sealed); err != nil || !bytes.Equal(got, data) {
						t.Errorf("sealed data: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestErrorsAreTold(t *testing.T) {
	all := []error{ErrKey, ErrKeyUse, ErrKCV, ErrPIN, ErrMAC, ErrARQC, ErrCVV, ErrData, ErrTrack, ErrPassphrase, ErrDamaged}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("%v and %v", a, b)
			}
		}
	}
}
