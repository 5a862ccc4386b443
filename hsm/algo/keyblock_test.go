package algo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func keyBlocks(t testing.TB) []Vector {
	t.Helper()
	text, err := os.ReadFile("../../testdata/vectors/crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadVectors(text)
	if err != nil {
		t.Fatal(err)
	}
	var out []Vector
	for _, v := range all {
		if v.Op == "tr31.unwrap" {
			out = append(out, v)
		}
	}
	return out
}

// TestPublishedBlocksRewrap seals every published block again, with the fill
// it had, and wants the same characters.
func TestPublishedBlocksRewrap(t *testing.T) {
	for _, v := range keyBlocks(t) {
		block := v.Inputs["block"].(string)
		p, err := NewProtector(block[0], mustHex(t, v.Inputs["kbpk"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		h, at, err := ParseHeader(block)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := p.open(h, block, at)
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.seal(h, payload)
		if err != nil || again != block {
			t.Errorf("%s: %v\n%s, want\n%s", v.Source, err, again, block)
		}
	}
}

func TestKeyBlockRoundTrip(t *testing.T) {
	kbpk := map[byte][]string{
		'A': {"0123456789ABCDEFFEDCBA9876543210", "0123456789ABCDEFFEDCBA987654321089ABCDEF01234567"},
		'D': {
			"2B7E151628AED2A6ABF7158809CF4F3C", "2B7E151628AED2A6ABF7158809CF4F3C2B7E151628AED2A6",
			"88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6",
		},
	}
	kbpk['B'], kbpk['C'] = kbpk['A'], kbpk['A']
	for version, protectors := range kbpk {
		for _, text := range protectors {
			p, err := NewProtector(version, mustHex(t, text))
			if err != nil {
				t.Fatal(err)
			}
			for _, label := range []string{"", "TMK", "eight or more"} {
				for _, n := range []int{8, 16, 24, 32} {
					h := Header{Version: version, Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'D', KeyVersion: [2]byte{'0', '0'}, Export: 'N'}
					if label != "" {
						h.Optional = []OptionalBlock{{"LB", label}}
					}
					key := bytes.Repeat([]byte{byte(n)}, n)
					block, err := p.Wrap(h, key, 32)
					if err != nil {
						t.Fatal(err)
					}
					got, back, err := p.Unwrap(block)
					if err != nil || !bytes.Equal(back, key) || fmt.Sprint(got) != fmt.Sprint(h) {
						t.Errorf("%s: %v, %v", block, got, err)
					}
				}
			}
		}
	}
}

func TestKeyBlockHidesTheLength(t *testing.T) {
	p, err := NewProtector('D', bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	h := Header{Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'D', KeyVersion: [2]byte{'0', '0'}, Export: 'N'}
	lengths := map[int]bool{}
	for _, n := range []int{8, 16, 24} {
		block, err := p.Wrap(h, make([]byte, n), 24)
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(block)] = true
	}
	if len(lengths) != 1 {
		t.Errorf("lengths %v tell the length of the key", lengths)
	}
}

func TestKeyBlockIsBoundToItsHeader(t *testing.T) {
	for _, version := range []byte("ABCD") {
		p, err := NewProtector(version, mustHex(t, "0123456789ABCDEFFEDCBA9876543210"))
		if err != nil {
			t.Fatal(err)
		}
		h := Header{Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'D', KeyVersion: [2]byte{'0', '0'}, Export: 'N', Optional: []OptionalBlock{{"LB", "TPK"}}}
		block, err := p.Wrap(h, mustHex(t, "FEDCBA98765432100123456789ABCDEF"), 24)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(block) {
			changed := []byte(block)
			changed[i]++
			if _, key, err := p.Unwrap(string(changed)); err == nil || key != nil {
				t.Errorf("version %c: character %d changed from %c to %c, and nobody noticed", version, i, block[i], changed[i])
			}
			if _, key, err := p.Unwrap(block[:i]); err == nil || key != nil {
				t.Errorf("version %c: cut to %d characters, and nobody noticed", version, i)
			}
		}
		if _, _, err := p.Unwrap(block + "0"); err == nil {
			t.Errorf("version %c: longer by one, and nobody noticed", version)
		}
	}
}

func TestKeyBlockRefusals(t *testing.T) {
	aes := bytes.Repeat([]byte{7}, 32)
	p, err := NewProtector('D', aes)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range []string{
		"", "B", "B0040P0TE00E00", "D0016P0TE00E0000", "D0016P0TE00N0100", "D9999P0TE00E0000",
		"D0020P0TE00E0100KS00", "D0022P0TE00E0100KS0002", "D0026P0TE00E0100KS0002FFFF", "D0026P0TE00E0100KS0004FFFF", "D0026P0TE00E0100KS00020009",
		"D0024P0TE00E0100KS000000", "D0020P0TE00E0100KSFF", "D0020P0TE00E0100KS03", "D0020P0TE00E0100KSZZ",
		"D0020P0TE00E9900LB04", "D00-6P0TE00E0000", "D0016P0TE00EAA00",
		"E0016P0TE00E0000", "D0017P0TE00E0000\x00", "D0018P0TE00E0000é",
		"D0048P0TE00E0000" + strings.Repeat("0", 32), "D0112P0TE00E0000" + strings.Repeat("G", 96),
		"D0113P0TE00E0000" + strings.Repeat("0", 97), strings.Repeat("D", 10000),
	} {
		if _, key, err := p.Unwrap(block); !errors.Is(err, ErrKeyBlock) || key != nil {
			t.Errorf("%.40q: %v, want ErrKeyBlock", block, err)
		}
	}
	block := "D0112P0TE00E0000" + strings.Repeat("0", 96)
	if _, _, err := p.Unwrap(block); err != ErrKeyBlockMAC {
		t.Errorf("zeros: %v, want ErrKeyBlockMAC", err)
	}
	for version, n := range map[byte]int{'A': 8, 'B': 32, 'C': 17, 'D': 8, 'E': 16, 0: 16} {
		if _, err := NewProtector(version, make([]byte, n)); err == nil {
			t.Errorf("protection key of %d bytes for version %q was taken", n, version)
		}
	}
	if _, err := p.Wrap(Header{}, nil, 0); err == nil {
		t.Error("an empty key was wrapped")
	}
	if _, err := p.Wrap(Header{Optional: []OptionalBlock{{"LBX", ""}}}, aes, 0); err == nil {
		t.Error("an optional block of three letters was written")
	}
	if _, err := p.Wrap(Header{Optional: []OptionalBlock{{"LB", strings.Repeat("x", 252)}}}, aes, 0); err == nil {
		t.Error("an optional block of 256 characters was written")
	}
}

// TestKeyBlockPayloadLength: a block with a good MAC whose length field is
// wrong.
func TestKeyBlockPayloadLength(t *testing.T) {
	p, err := NewProtector('D', bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	h := Header{Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'D', KeyVersion: [2]byte{'0', '0'}, Export: 'N'}
	for _, length := range [][2]byte{{0, 0}, {0, 129}, {0, 248}, {255, 248}} {
		payload := make([]byte, 32)
		copy(payload, length[:])
		block, err := p.seal(h, payload)
		if err != nil {
			t.Fatal(err)
		}
		if _, key, err := p.Unwrap(block); !errors.Is(err, ErrKeyBlock) || key != nil {
			t.Errorf("length field %X: %v, want ErrKeyBlock", length, err)
		}
	}
}

// TestExtendedLengthOfOptionalBlock: the length of a long block is written in
// twice as many hex digits as the byte in front of it says (X9.143, 6.2).
func TestExtendedLengthOfOptionalBlock(t *testing.T) {
	data := strings.Repeat("x", 300)
	for _, text := range []string{
		"LB0002" + fmt.Sprintf("%04X", 10+len(data)) + data,
		"LB0003" + fmt.Sprintf("%06X", 12+len(data)) + data,
		"LB0001" + fmt.Sprintf("%02X", 8+200) + data[:200],
	} {
		header := fmt.Sprintf("D%04dP0TE00N0100%s", fixedHeader+len(text), text)
		h, at, err := ParseHeader(header)
		if err != nil || at != len(header) || len(h.Optional) != 1 || !strings.HasSuffix(text, h.Optional[0].Data) || len(h.Optional[0].Data) < 200 {
			t.Errorf("%.10s: %v at %d: %v", text, h.Optional, at, err)
		}
	}
	p, err := NewProtector('D', bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 251, 252, 253, 5000} {
		h := Header{Version: 'D', Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'E', KeyVersion: [2]byte{'0', '0'}, Export: 'N', Optional: []OptionalBlock{{"CT", strings.Repeat("x", n)}}}
		key := bytes.Repeat([]byte{9}, 16)
		block, err := p.Wrap(h, key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, back, err := p.Unwrap(block); err != nil || !bytes.Equal(back, key) || fmt.Sprint(got) != fmt.Sprint(h) {
			t.Errorf("a block with %d characters in an optional one does not come back: %v", n, err)
		}
	}
}

func FuzzKeyBlock(f *testing.F) {
	f.Add("B0040P0TE00E00")
	f.Add("D0022P0TE00E0100KS0002")
	f.Add("D0026P0TE00E0100KS0002FFFF")
	for _, v := range keyBlocks(f) {
		f.Add(v.Inputs["block"].(string))
	}
	var protectors []*Protector
	for _, version := range []byte("ABCD") {
		p, err := NewProtector(version, mustHex(f, "0123456789ABCDEFFEDCBA9876543210"))
		if err != nil {
			f.Fatal(err)
		}
		protectors = append(protectors, p)
	}
	f.Fuzz(func(t *testing.T, block string) {
		h, at, err := ParseHeader(block)
		if err == nil && (at < fixedHeader || at > len(block)) {
			t.Fatalf("header of %d characters in a block of %d", at, len(block))
		}
		for _, p := range protectors {
			if _, key, err := p.Unwrap(block); err == nil {
				t.Fatalf("a block under no key of this test opened to %d bytes", len(key))
			}
		}
		if err != nil {
			return
		}
		// What was read can be written, and reads the same again.
		p := protectors[h.Version-'A']
		again, err := p.Wrap(h, []byte("sixteen byte key"), 24)
		if err != nil {
			return // longer than a block may be once it is padded
		}
		h2, key, err := p.Unwrap(again)
		if err != nil || string(key) != "sixteen byte key" || fmt.Sprint(h2) != fmt.Sprint(h) {
			t.Fatalf("%v became %v: %v", h, h2, err)
		}
	})
}
