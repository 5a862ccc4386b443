package algo

import (
	"strings"
	"testing"
)

func TestTrackEncryption(t *testing.T) {
	tdk := mustKey(t, TDES, "C9A0F37E18EA3FF71E3BDA58ACCEFCE0")
	for _, c := range []struct {
		what, track, clearStart, clearEnd string
	}{
		{"37 digits, odd", "6228480402564890018=49121200000123456", "6228480402564890018=", "6"},
		{"38 digits, even", "6228480402564890018=491212000001234567", "6228480402564890018=", "67"},
		{"39 digits", "1234567890123456789=0508201781999168302", "1234567890123456789=05", "2"},
		{"shortest odd", "12345678901234567", "", "7"},
		{"shortest even", "123456789012345678", "", "78"},
		{"track 3, 104 digits", strings.Repeat("12345678", 13), strings.Repeat("12345678", 10), "78"},
	} {
		sealed, err := AppendEncryptedTrack([]byte("k"), tdk, []byte(c.track))
		if err != nil || sealed[0] != 'k' {
			t.Fatalf("%s: %v", c.what, err)
		}
		text := string(sealed[1:])
		if len(text) != len(c.track) || !strings.HasPrefix(text, c.clearStart) || !strings.HasSuffix(text, c.clearEnd) {
			t.Errorf("%s: %s", c.what, text)
		}
		same := 0
		for i := range text {
			if text[i] == c.track[i] {
				same++
			}
		}
		if same == len(text) {
			t.Errorf("%s: nothing was encrypted", c.what)
		}
		// A terminal packs nibbles: D and = are one, and so are cases.
		for _, form := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "=", "D"), strings.ReplaceAll(text, "D", "=")} {
			back, err := AppendDecryptedTrack(nil, tdk, []byte(form))
			if got := strings.ReplaceAll(strings.ToUpper(string(back)), "D", "="); err != nil || got != c.track {
				t.Errorf("%s: came back as %s, %v", c.what, back, err)
			}
		}
	}
}

func TestTrackRefusals(t *testing.T) {
	tdk := mustKey(t, TDES, "C9A0F37E18EA3FF71E3BDA58ACCEFCE0")
	for _, track := range []string{"", "1", "1234567890123456", "1234567890123456x89", "6228480402564890018A491212000001234567", "62284804025648900 8=4912120000012345"} {
		if out, err := AppendEncryptedTrack(nil, tdk, []byte(track)); err != ErrTrack || out != nil {
			t.Errorf("track of %d characters: %v", len(track), err)
		}
		if out, err := AppendDecryptedTrack(nil, tdk, []byte(track)); err != ErrTrack || out != nil {
			t.Errorf("track of %d characters: %v", len(track), err)
		}
	}
	sealed, err := AppendEncryptedTrack(nil, tdk, []byte("6228480402564890018=491212000001234567"))
	if err != nil {
		t.Fatal(err)
	}
	other := mustKey(t, TDES, "807A23AD32B36D457AE91FDF927570EA")
	if out, err := AppendDecryptedTrack(nil, other, sealed); err != ErrTrack || len(out) != 0 {
		t.Errorf("another key: %s, %v", out, err)
	}
	if _, err := AppendEncryptedTrack(nil, mustKey(t, DES, "0123456789ABCDEF"), []byte("6228480402564890018=491212000001234567")); err != ErrTrack {
		t.Errorf("single DES: %v", err)
	}
}
