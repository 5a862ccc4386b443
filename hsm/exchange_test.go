package hsm

import (
	"bytes"
	"errors"
	"testing"

	"acquirer/hsm/algo"
)

// TestImportBlock: published key blocks of other makers, each with the use it
// is good for.
func TestImportBlock(t *testing.T) {
	s := newHSM(t)
	for _, c := range []struct {
		what, kbpk string
		alg        Alg
		block      string
		use        Use
		kcv        string // of the key; "" where the key is refused
		err        error
	}{
		{"version D, AES PIN key", "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6", AES32,
			"D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34", UseZPK, "08793E25", nil},
		{"version B with a KS block, TDES base key", "1D22BF32387C600AD97F9B97A51311AC", TDES16,
			"B0104B0TX12S0100KS1800604B120F9292800000BB68BE8680A400D9191AD4ECE45B6E6C0D21C4738A52190E248719E24B433627", UseBDK, "9A42122D", nil},
		{"version A, TDES PIN key", "89E88CF7931444F334BD7547FC3F380C", TDES16,
			"A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701", UseZPK, "CB9DEA", nil},
		{"another use", "89E88CF7931444F334BD7547FC3F380C", TDES16,
			"A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701", UseZAK, "", ErrKeyUse},
		{"a base key for encryption", "1D22BF32387C600AD97F9B97A51311AC", TDES16,
			"A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701", UseBDK, "", ErrKey},
		{"version D under TDES", "89E88CF7931444F334BD7547FC3F380C", TDES16,
			"D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34", UseZPK, "", ErrKeyUse},
		{"a changed block", "89E88CF7931444F334BD7547FC3F380C", TDES16,
			"A0072P0TB00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701", UseZPK, "", ErrKey},
		{"no block", "89E88CF7931444F334BD7547FC3F380C", TDES16, "", UseZPK, "", ErrKey},
		{"a block of a zone under no zone's use", "89E88CF7931444F334BD7547FC3F380C", TDES16,
			"A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701", UseTPK, "", ErrKeyUse},
	} {
		zmk := formed(t, s, UseZMK, c.alg, c.kbpk)
		key, err := s.ImportBlock(ctx, zmk, c.use, c.block)
		if c.err != nil {
			if !errors.Is(err, c.err) || key != "" {
				t.Errorf("%s: %v, want %v", c.what, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if kcv, err := s.CheckValue(ctx, key); err != nil || kcv.String()[:len(c.kcv)] != c.kcv {
			t.Errorf("%s: check value %v, %v, want %s", c.what, kcv, err, c.kcv)
		}
		if _, _, err := s.ExportKey(ctx, zmk, key); !errors.Is(err, ErrKeyUse) {
			t.Errorf("%s: it left again: %v", c.what, err)
		}
		if _, err := s.ExportBlock(ctx, zmk, key, c.block[0]); !errors.Is(err, ErrKeyUse) {
			t.Errorf("%s: it left again as a block: %v", c.what, err)
		}
	}
	if _, err := s.ImportBlock(ctx, "", 0, "A"); err == nil {
		t.Error("a block for no use")
	}
}

// TestExportBlock: every version, read by the other side, and back here.
func TestExportBlock(t *testing.T) {
	s := newHSM(t)
	for _, c := range []struct {
		version byte
		kek     Alg
		keys    []Alg
		refused []Alg
	}{
		{'A', TDES16, []Alg{TDES16}, []Alg{TDES24, AES16, SM4}},
		{'B', TDES24, []Alg{TDES16, TDES24}, []Alg{AES16}},
		{'C', TDES16, []Alg{TDES16}, []Alg{TDES24}},
		{'D', AES16, []Alg{TDES16, TDES24, AES16, SM4}, []Alg{AES32}},
		{'D', AES32, []Alg{TDES16, AES16, AES32, SM4}, nil},
	} {
		zmk := generate(t, s, UseZMK, c.kek)
		_, clearZMK, err := s.blocks.Unwrap(string(zmk))
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range c.keys {
			key := generate(t, s, UseZPK, alg)
			block, err := s.ExportBlock(ctx, zmk, key, c.version)
			if err != nil {
				t.Errorf("version %c, %v: %v", c.version, alg, err)
				continue
			}
			there, err := algo.NewProtector(c.version, clearZMK)
			if err != nil {
				t.Fatal(err)
			}
			h, clearKey, err := there.Unwrap(block)
			if err != nil || string(h.Usage[:]) != "P0" || h.Export != 'N' || len(clearKey) != algRules[alg].length {
				t.Errorf("version %c, %v: %+v, %v", c.version, alg, h, err)
			}
			back, err := s.ImportBlock(ctx, zmk, UseZPK, block)
			if err != nil {
				t.Errorf("version %c, %v, back: %v", c.version, alg, err)
				continue
			}
			one, _ := s.CheckValue(ctx, key)
			two, _ := s.CheckValue(ctx, back)
			if one != two {
				t.Errorf("version %c, %v: another key came back", c.version, alg)
			}
		}
		for _, alg := range c.refused {
			if _, err := s.ExportBlock(ctx, zmk, generate(t, s, UseZPK, alg), c.version); !errors.Is(err, ErrKeyUse) {
				t.Errorf("version %c, %v under %v: %v", c.version, alg, c.kek, err)
			}
		}
	}
	tdes := generate(t, s, UseZMK, TDES16)
	for _, version := range []byte{'D', 'E', 0} {
		if _, err := s.ExportBlock(ctx, tdes, generate(t, s, UseZPK, TDES16), version); err == nil {
			t.Errorf("version %q under TDES was made", version)
		}
	}
	if _, err := s.ExportBlock(ctx, generate(t, s, UseZMK, SM4), generate(t, s, UseZPK, SM4), 'D'); !errors.Is(err, ErrKeyUse) {
		t.Errorf("under SM4: %v", err)
	}
	if _, err := s.ExportBlock(ctx, tdes, generate(t, s, UseTPK, TDES16), 'B'); !errors.Is(err, ErrKeyUse) {
		t.Errorf("a terminal's key under a ZMK: %v", err)
	}
	if _, err := s.ExportBlock(ctx, tdes, "no key", 'B'); !errors.Is(err, ErrKey) {
		t.Errorf("no key: %v", err)
	}
}

// TestOldMasterKey: while the master key is being changed, a key under the one
// before takes part in everything, also where its bytes are asked for.
func TestOldMasterKey(t *testing.T) {
	old := newHSM(t)
	first, second := make([]byte, 32), bytes.Repeat([]byte{0x5A}, 32)
	for i := range first {
		first[i] = byte(i + 1)
	}
	both, err := NewSoftware(second, first)
	if err != nil {
		t.Fatal(err)
	}
	zmk, zpk := generate(t, old, UseZMK, TDES16), generate(t, old, UseZPK, TDES16)
	for _, bdk := range []struct {
		key        Key
		ksn, block string
		format     PINFormat
		pan        string
	}{
		{formed(t, old, UseBDK, TDES16, publishedBDK), "FFFF9876543210E00001", "1B9C1845EB993A7A", ISO0, "4012345678909"},
		{formed(t, old, UseBDK, AES16, "FEDCBA9876543210F1F1F1F1F1F1F1F1"), "123456789012345600000002", "52A00503BD34BA1383F6A7EE9FE2547F", ISO4, "4111111111111111"},
	} {
		if _, err := both.TranslateDUKPT(ctx, bdk.key, mustHex(t, bdk.ksn), bdk.format, PINBlockOf(mustHex(t, bdk.block)), pan(t, bdk.pan), zpk, ISO0); err != nil {
			t.Errorf("DUKPT: %v", err)
		}
	}
	block, err := both.ExportBlock(ctx, zmk, zpk, 'B')
	if err != nil {
		t.Fatal(err)
	}
	back, err := both.ImportBlock(ctx, zmk, UseZPK, block)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := both.CheckValue(ctx, zpk)
	if two, err := both.CheckValue(ctx, back); err != nil || one != two {
		t.Errorf("another key came back: %v", err)
	}
	if i, err := both.Inspect(ctx, back); err != nil || i.Master != both.MasterCheckValue() {
		t.Errorf("what comes in is under the old master key: %v", err)
	}
}
