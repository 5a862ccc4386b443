package hsm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/hsm/algo"
)

// Any as many as are needed make the key, fewer never do.
func TestComponents(t *testing.T) {
	names := []string{"alice", "bob", "carol", "dave", "erin"}
	for of := 2; of <= len(names); of++ {
		for needed := 2; needed <= of; needed++ {
			c, parts, key, err := NewComponents(names[:of], needed)
			if err != nil {
				t.Fatal(err)
			}
			made := 0
			for set := range 1 << of {
				var some []Component
				for i := range parts {
					if set>>i&1 == 1 {
						some = append([]Component{parts[i]}, some...) // in another order than they were made
					}
				}
				got, err := c.Combine(some)
				switch {
				case len(some) < needed:
					if !errors.Is(err, ErrComponents) {
						t.Errorf("%d of %d, with %d: %v", needed, of, len(some), err)
					}
				case err != nil || !bytes.Equal(got, key):
					t.Errorf("%d of %d, with %v: %v", needed, of, some, err)
				default:
					made++
				}
			}
			if made == 0 {
				t.Errorf("%d of %d: the key was never made", needed, of)
			}
			for i := range parts {
				if bytes.Equal(parts[i].Value[:], key) || parts[i].CheckValue().Short() != c.People[i].CheckValue {
					t.Errorf("%d of %d: %v", needed, of, parts[i])
				}
			}
			if of == needed {
				x := make([]byte, 32)
				for i := range parts {
					for j := range x {
						x[j] ^= parts[i].Value[j]
					}
				}
				if !bytes.Equal(x, key) {
					t.Errorf("all of %d are not combined by XOR", of)
				}
			}
		}
	}
}

// The field is that of FIPS 197, whose section 4.2 has the examples.
func TestField(t *testing.T) {
	if got := gfMul(0x57, 0x83); got != 0xC1 {
		t.Errorf("57 times 83 is %02X", got)
	}
	if got := gfMul(0x57, 0x13); got != 0xFE {
		t.Errorf("57 times 13 is %02X", got)
	}
	for a := 1; a < 256; a++ {
		if got := gfMul(byte(a), gfInverse(byte(a))); got != 1 {
			t.Errorf("%02X has no inverse: %02X", a, got)
		}
	}
}

func TestComponentsRefused(t *testing.T) {
	c, parts, _, err := NewComponents([]string{"alice", "bob", "carol"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	twice := []Component{parts[0], parts[0]}
	changed := []Component{parts[0], parts[1]}
	changed[1].Value[31] ^= 1
	stranger := []Component{parts[0], parts[1]}
	stranger[1].Custodian = "mallory"
	swapped := []Component{parts[0], parts[1]}
	swapped[0].Custodian, swapped[1].Custodian = "bob", "alice"
	for what, some := range map[string][]Component{"twice": twice, "changed": changed, "stranger": stranger, "swapped": swapped} {
		if _, err := c.Combine(some); !errors.Is(err, ErrComponents) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, bad := range []struct {
		names  string
		needed int
	}{{"alice", 2}, {"alice,Alice", 2}, {"alice,bob", 1}, {"alice,bob", 3}, {"alice,", 2}, {"a,b,c,d,e,f,g,h,i,j", 2}, {"alice, bob", 2}} {
		if _, _, _, err := NewComponents(strings.Split(bad.names, ","), bad.needed); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	one, two := NewComponent("alice", 1), NewComponent("bob", 2)
	set, key, err := GatherComponents([]Component{one, two})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := set.Combine([]Component{two, one}); err != nil || !bytes.Equal(again, key) {
		t.Errorf("own components: %v", err)
	}
	two.Value = one.Value
	if _, _, err := GatherComponents([]Component{one, two}); !errors.Is(err, ErrComponents) {
		t.Errorf("two that are the same: %v", err)
	}
}

// FuzzComponent: what a custodian types is the component that was written, or
// is refused, with an error that does not show it.
func FuzzComponent(f *testing.F) {
	c := Component{Index: 1, Custodian: "alice"}
	for i := range c.Value {
		c.Value[i] = byte(7 * i)
	}
	text := string(c.AppendText(nil))
	digits := fmt.Sprintf("%x", c.Value[:])
	for _, s := range []string{text, digits, digits[:63], digits + "0", "check value " + digits, text + text, "#\n" + digits + "\r\ncheck value ", strings.ReplaceAll(digits, "0", "O"), ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, err := ParseComponent(text)
		if err != nil {
			if value != [masterBytes]byte{} {
				t.Fatal("a refused component was given back")
			}
			for line := range bytes.Lines(text) {
				line = bytes.ToUpper(bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(line), []byte("check value "))))
				if len(line) > 16 && bytes.Contains(bytes.ToUpper([]byte(err.Error())), line) {
					t.Fatalf("the error shows what was typed: %v", err)
				}
			}
			return
		}
		again := Component{Index: 1, Custodian: "alice", Value: value}
		if back, err := ParseComponent(again.AppendText(nil)); err != nil || back != value {
			t.Fatalf("what was read is not read again: %v", err)
		}
	})
}

func TestComponentText(t *testing.T) {
	c := NewComponent("alice", 2)
	text := c.AppendText(nil)
	got, err := ParseComponent(text)
	if err != nil || got != c.Value || !bytes.Contains(text, []byte(c.CheckValue().Short())) || !bytes.Contains(text, []byte("alice")) {
		t.Fatalf("%v", err)
	}
	digits := fmt.Sprintf("%x", c.Value[:])
	if got, err := ParseComponent([]byte(digits)); err != nil || got != c.Value {
		t.Errorf("digits alone: %v", err)
	}
	for what, bad := range map[string]string{
		"short": digits[:62], "long": digits + "00", "no hex": "zz" + digits[2:], "check value": digits + "\ncheck value 000000\n", "nothing": "",
		"a component for a check value": strings.Repeat("00", 32) + "\ncheck value " + digits,
	} {
		if _, err := ParseComponent([]byte(bad)); err == nil || strings.Contains(strings.ToLower(err.Error()), digits[2:20]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	secret := strings.ToUpper(digits[:8])
	if shown := fmt.Sprintf("%v %+v %#v %s", c, c, c, []Component{c}); strings.Contains(strings.ToUpper(shown), secret) || !strings.Contains(shown, "alice") {
		t.Errorf("it prints %s", shown)
	}
	if b, err := json.Marshal(c); err != nil || bytes.Contains(bytes.ToUpper(b), []byte(secret)) {
		t.Errorf("as JSON it is %s, %v", b, err)
	}
}

// A ring under a passphrase, under components, and made of a file of version 1.
func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	people, parts, key, err := NewComponents([]string{"alice", "bob", "carol"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(dir, "first")
	if _, err := Create(first, passphrase); err != nil {
		t.Fatal(err)
	}
	ring := NewRing()
	second, third := filepath.Join(dir, "second"), filepath.Join(dir, "third")
	if err := CreateKeyFile(second, ring, nil, passphrase); err != nil {
		t.Fatal(err)
	}
	if err := CreateKeyFile(third, ring, people, key); err != nil {
		t.Fatal(err)
	}
	if err := CreateKeyFile(third, ring, people, key); err == nil {
		t.Error("a file was overwritten")
	}
	if err := CreateKeyFile(filepath.Join(dir, "fourth"), ring, nil, []byte("short")); err == nil {
		t.Error("a short passphrase was taken")
	}
	combined, err := people.Combine(parts[1:])
	if err != nil {
		t.Fatal(err)
	}
	for path, secret := range map[string][]byte{first: passphrase, second: passphrase, third: combined} {
		k, err := ReadKeyFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := k.Open(secret)
		if err != nil {
			t.Fatal(err)
		}
		old, err := r.Software()
		if err != nil {
			t.Fatal(err)
		}
		block := generate(t, old, UseZPK, TDES16)
		audit := r.AuditKey()
		if err := r.Rotate(); err != nil {
			t.Fatal(err)
		}
		if err := r.Rotate(); !errors.Is(err, ErrRotating) {
			t.Errorf("a second rotation: %v", err)
		}
		if err := k.Replace(r, bytes.Repeat([]byte{1}, 32)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("replaced under another secret: %v", err)
		}
		if err := k.Replace(r, secret); err != nil {
			t.Fatal(err)
		}
		r.Wipe()

		if k, err = ReadKeyFile(path); err != nil || len(k.Masters) != 2 {
			t.Fatalf("%v %v", k, err)
		}
		if r, err = k.Open(secret); err != nil || !bytes.Equal(r.AuditKey(), audit) {
			t.Fatalf("the audit key changed: %v", err)
		}
		both, err := r.Software()
		if err != nil {
			t.Fatal(err)
		}
		before, err := both.Inspect(ctx, block)
		if err != nil || before.Master != old.MasterCheckValue() || both.MasterCheckValue() == old.MasterCheckValue() {
			t.Fatalf("%v %v", before, err)
		}
		moved, err := both.Rewrap(ctx, block)
		if err != nil {
			t.Fatal(err)
		}
		after, err := both.Inspect(ctx, moved)
		if err != nil || after.Master != both.MasterCheckValue() || after.KCV != before.KCV || after.Use != before.Use || after.Export != before.Export {
			t.Errorf("%v became %v, %v", before, after, err)
		}
		if same, err := both.Rewrap(ctx, moved); err != nil || same != moved {
			t.Errorf("wrapped again: %v", err)
		}
		if _, err := old.Inspect(ctx, moved); !errors.Is(err, ErrKey) {
			t.Errorf("the old master key opens what is under the new: %v", err)
		}
		if err := r.Retire(); err != nil {
			t.Fatal(err)
		}
		if err := r.Retire(); err == nil {
			t.Error("the last master key was retired")
		}
		if err := k.Replace(r, secret); err != nil {
			t.Fatal(err)
		}
		now, err := r.Software()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := now.Inspect(ctx, block); !errors.Is(err, ErrKey) {
			t.Errorf("a retired master key still opens: %v", err)
		}
		if _, err := now.Inspect(ctx, moved); err != nil {
			t.Error(err)
		}
	}
	if s, err := Open(second, passphrase); err != nil || s == nil {
		t.Errorf("version 2 by Open: %v", err)
	}
	if _, err := Open(third, passphrase); !errors.Is(err, ErrCustodians) || !strings.Contains(err.Error(), "2 of alice, bob, carol") {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(third); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".master-key-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What a file of version 2 says of itself cannot be changed, and damage is not
// taken for a wrong secret.
func TestKeyFileDamage(t *testing.T) {
	people, _, key, err := NewComponents([]string{"alice", "bob"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := CreateKeyFile(path, NewRing(), people, key); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(changed []byte) error {
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := ReadKeyFile(path)
		if err == nil {
			_, err = k.Open(key)
		}
		return err
	}
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 2
		if bytes.Equal(bytes.TrimSpace(changed[i:i+1]), bytes.TrimSpace(text[i:i+1])) || text[i] == ' ' || text[i] == '\n' {
			continue
		}
		if err := try(changed); err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("byte %d changed from %q: %v", i, text[i], err)
		}
	}
	for n := 0; n < len(text)-1; n += 7 {
		if err := try(text[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	// Somebody who mends the checksum changes who opens it, and fails.
	var f ringFile
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	f.Custodians.People[0].Name = "mallory"
	f.Sum = f.sum()
	forged, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := try(forged); !errors.Is(err, ErrPassphrase) {
		t.Errorf("forged: %v", err)
	}
}

// A TMK leaves for a device in a key block that the other holder of the KBPK
// opens, and never otherwise.
func TestDeliverTMKBlock(t *testing.T) {
	s := newHSM(t)
	for _, c := range []struct {
		kbpk, alg Alg
		version   byte
		ok        bool
	}{{AES16, TDES16, 'D', true}, {AES16, SM4, 'D', true}, {TDES16, TDES16, 'B', true}, {TDES16, TDES24, 0, false}, {TDES16, SM4, 0, false}} {
		kbpk, other := form(t, s, UseKBPK, c.kbpk, compA, compB)
		_ = other
		tmk, block, kcv, err := s.DeliverTMKBlock(ctx, kbpk, c.alg)
		if !c.ok {
			if !errors.Is(err, ErrKeyUse) {
				t.Errorf("%v under %v: %v", c.alg, c.kbpk, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		raw := mustHex(t, formSM4)
		if c.kbpk == TDES16 {
			raw = mustHex(t, formK)
		}
		p, err := algo.NewProtector(c.version, raw)
		if err != nil {
			t.Fatal(err)
		}
		h, clearKey, err := p.Unwrap(block)
		if err != nil || string(h.Usage[:]) != "K0" || h.Mode != 'B' || h.Export != 'N' {
			t.Fatalf("%v under %v: %+v, %v", c.alg, c.kbpk, h, err)
		}
		k, err := algo.NewKey(algRules[c.alg].cipher, clearKey)
		if err != nil || !bytes.Equal(k.CheckValue()[:4], kcv[:]) {
			t.Errorf("the device has another key: %v", err)
		}
		if i, err := s.Inspect(ctx, tmk); err != nil || i.Use != UseTMK || i.KCV != kcv || i.Export {
			t.Errorf("the house has %v, %v", i, err)
		}
	}
	if _, _, _, err := s.DeliverTMKBlock(ctx, generate(t, s, UseZMK, TDES16), TDES16); !errors.Is(err, ErrKeyUse) {
		t.Errorf("under a ZMK: %v", err)
	}
	if _, _, _, err := s.DeliverTMKBlock(context.Background(), "nonsense", TDES16); !errors.Is(err, ErrKey) {
		t.Errorf("under nonsense: %v", err)
	}
}
