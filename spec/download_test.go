package spec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// de62Of is DE 62 of a captured message.
func de62Of(t *testing.T, id string) []byte {
	t.Helper()
	for _, v := range captures(t) {
		if v.ID != id {
			continue
		}
		c, err := ReadCapture(v.raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(c.Message.Bytes(62))
	}
	t.Fatalf("no captured message %s", id)
	return nil
}

// The captured answers are read, and written again as the same bytes.
func TestDownloadCaptures(t *testing.T) {
	b := de62Of(t, "capk-download-resp")
	flag, rest, err := CutPage(b)
	if err != nil || flag != PageLast {
		t.Fatalf("flag %c, %v", flag, err)
	}
	k, err := ParseCAKey(rest)
	if err != nil {
		t.Fatal(err)
	}
	if k.CAKeyID.String() != "A000000333/08" || k.Expires != "20201231" || len(k.Modulus) != 144 || !bytes.Equal(k.Exponent, []byte{3}) || k.HashAlg != 1 || k.KeyAlg != 1 {
		t.Errorf("the captured key: %+v", k)
	}
	if k.Digest() != k.CheckHash {
		t.Errorf("SHA-1 %X, the capture says %X", k.Digest(), k.CheckHash)
	}
	if again := k.Append([]byte{byte(PageLast)}); !bytes.Equal(again, b) {
		t.Errorf("written again as\n%X, want\n%X", again, b)
	}

	b = de62Of(t, "aid-query-resp")
	flag, rest, err = CutPage(b)
	if err != nil || flag != PageLast {
		t.Fatalf("flag %c, %v", flag, err)
	}
	aids, err := ParseAIDs(rest)
	if err != nil || len(aids) != 10 || fmt.Sprintf("%X", aids[0]) != "A000000333010106" {
		t.Errorf("captured list: %X, %v", aids, err)
	}
	again := []byte{byte(PageLast)}
	for _, aid := range aids {
		again = AppendAID(again, aid)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("written again as\n%X, want\n%X", again, b)
	}
}

func TestOffsets(t *testing.T) {
	for text, want := range map[string]int{"": 0, "100": 0, "107": 7, "199": 99, "1100": 100, "19999": 9999} {
		if n, err := ParseOffset([]byte(text)); err != nil || n != want {
			t.Errorf("%q: %d, %v, want %d", text, n, err, want)
		}
		if text != "" && string(AppendOffset(nil, want)) != text {
			t.Errorf("%d is written %q, want %q", want, AppendOffset(nil, want), text)
		}
	}
	for _, text := range []string{"1", "10", "200", "1x0", "10 ", "100000", "\x00\x00\x00"} {
		if n, err := ParseOffset([]byte(text)); !errors.Is(err, ErrDownload) {
			t.Errorf("%q is offset %d, %v", text, n, err)
		}
	}
}

func TestCAKeyLists(t *testing.T) {
	rid := [5]byte{0xA0, 0, 0, 3, 0x33}
	want := []CAKeyRef{{CAKeyID{rid, 8}, "20301231"}, {CAKeyID{rid, 0x0B}, "20291231"}}
	var b []byte
	for _, k := range want {
		b = AppendCAKeyRef(b, k)
	}
	if len(b) != 46 {
		t.Errorf("two entries have %d bytes, want 46", len(b))
	}
	got, err := ParseCAKeyRefs(b)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	short := append(AppendCAKeyID(nil, want[0].CAKeyID), 0xDF, 0x05, 4, 0x20, 0x30, 0x12, 0x31)
	if got, err := ParseCAKeyRefs(short); err != nil || got[0] != want[0] {
		t.Errorf("a date in BCD: %v, %v", got, err)
	}
	for i := 1; i < len(b); i++ {
		if i == 23 {
			continue
		}
		if got, err := ParseCAKeyRefs(b[:i]); err == nil {
			t.Errorf("%d bytes are read as %v", i, got)
		}
	}
}

// Whatever key or application there is comes back as it went.
func TestDownloadsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		octets := func(label string, from, to int) []byte { return rapid.SliceOfN(rapid.Byte(), from, to).Draw(t, label) }
		k := CAKey{CAKeyID: CAKeyID{[5]byte(octets("rid", 5, 5)), rapid.Byte().Draw(t, "index")}, Expires: rapid.StringMatching(`[0-9]{8}`).Draw(t, "expires"),
			HashAlg: rapid.Byte().Draw(t, "hash"), KeyAlg: rapid.Byte().Draw(t, "alg"), Modulus: octets("modulus", 1, 256), Exponent: octets("exponent", 1, 3)}
		k.CheckHash = k.Digest()
		back, err := ParseCAKey(k.Append(nil))
		if err != nil || fmt.Sprint(back) != fmt.Sprint(k) {
			t.Fatalf("%v, %v\n%v", back, err, k)
		}
		n12 := rapid.Int64Range(0, 999_999_999_999)
		a := Application{AID: octets("aid", 5, 16), Exact: rapid.Bool().Draw(t, "exact"), Version: [2]byte(octets("version", 2, 2)),
			TACDefault: [5]byte(octets("default", 5, 5)), TACOnline: [5]byte(octets("online", 5, 5)), TACDenial: [5]byte(octets("denial", 5, 5)),
			FloorLimit: rapid.Int64Range(0, 1<<32-1).Draw(t, "floor"), Threshold: rapid.Int64Range(0, 1<<32-1).Draw(t, "threshold"),
			MaxTarget: rapid.IntRange(0, 99).Draw(t, "max"), Target: rapid.IntRange(0, 99).Draw(t, "target"), DDOL: octets("ddol", 0, 252), OnlinePIN: rapid.Bool().Draw(t, "pin"),
			ContactlessFloor: n12.Draw(t, "df19"), ContactlessLimit: n12.Draw(t, "df20"), CVMLimit: n12.Draw(t, "df21"), ECashLimit: n12.Draw(t, "9f7b")}
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		b := a.Append(nil)
		same, err := ParseApplication(b)
		if err != nil || fmt.Sprint(same) != fmt.Sprint(a) {
			t.Fatalf("%v, %v\n%v", same, err, a)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if part, err := ParseApplication(b[:cut]); err == nil && !bytes.HasPrefix(b, part.AID) && cut < len(a.AID)+3 {
			t.Fatalf("%d bytes are read as %v", cut, part)
		}
		entries := rapid.SliceOfN(rapid.StringMatching(`[0-9]{4,19}`), 0, MaxBlackListPage).Draw(t, "entries")
		page, err := AppendBlackList(nil, PageMore, entries)
		if err != nil || len(page) > 999 {
			t.Fatalf("%d bytes, %v", len(page), err)
		}
		flag, list, err := ParseBlackList(page)
		if err != nil || flag != PageMore || !slices.Equal(list, entries) {
			t.Fatalf("%c %v, %v, want %v", flag, list, err, entries)
		}
	})
}

func TestApplicationCheck(t *testing.T) {
	good := func() Application { return Application{AID: make([]byte, 8)} }
	for name, spoil := range map[string]func(*Application){
		"identifier": func(a *Application) { a.AID = a.AID[:4] }, "DDOL": func(a *Application) { a.DDOL = make([]byte, 253) },
		"floor": func(a *Application) { a.FloorLimit = 1 << 32 }, "threshold": func(a *Application) { a.Threshold = -1 }, "target": func(a *Application) { a.Target = 100 },
		"CVM": func(a *Application) { a.CVMLimit = 1_000_000_000_000 }, "e-cash": func(a *Application) { a.ECashLimit = -1 },
	} {
		a := good()
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&a)
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a bad %s: %v", name, err)
		}
	}
}

func TestParameters(t *testing.T) {
	in := [][2]string{{"11", "01"}, {"12", "60"}, {"13", "3"}, {"14", "01088880000"}, {"18", "1"}, {"19", "05"}, {"22", "老王烧烤夜市摊"}, {"26", "FFE00001"}, {"27", "10"}, {"51", "000100020003"}}
	var b []byte
	var err error
	for _, p := range in {
		if b, err = AppendParameter(b, p[0], p[1]); err != nil {
			t.Fatal(err)
		}
	}
	var got [][2]string
	for e, err := range WalkParameters(b) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, [2]string{e.Tag, ParameterText(e)})
	}
	if !slices.Equal(got, in) {
		t.Errorf("came back as %q", got)
	}
	name, err := AppendParameter(nil, "22", strings.Repeat("店", 19)+"a"+"店")
	if err != nil || len(name) != 42 || !bytes.HasSuffix(name, []byte("a ")) {
		t.Errorf("a name of 41 bytes is cut to %d: %q, %v", len(name), name, err)
	}
	if name, err := AppendParameter(nil, "22", "a\x00\n😀"); err != nil || !bytes.HasPrefix(name, []byte("22a??? ")) {
		t.Errorf("what GBK lacks: %q, %v", name, err)
	}
	for tag, text := range map[string]string{"10": "1", "28": "1", "12": "6", "13": "x", "14": "123456789012345", "15": "12a", "26": "FF", "27": "100"} {
		if b, err := AppendParameter(nil, tag, text); err == nil {
			t.Errorf("parameter %s = %q is written %q", tag, text, b)
		}
	}
}

func TestLimits(t *testing.T) {
	b, err := AppendLimit(nil, LimitNoPIN, LimitFen(100000))
	if err != nil || string(b) != "FF8058012000000100000" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := AppendLimit(nil, "FF", "1"); err == nil {
		t.Error("a tag of two characters")
	}
	b, err = AppendLimit(b, LimitQuickPass, "1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range WalkLimits(b) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Tag+"="+string(e.Value))
	}
	if !slices.Equal(got, []string{"FF8058=000000100000", "FF8054=1"}) {
		t.Errorf("came back as %q", got)
	}
	for i := 1; i < len(b); i++ {
		if i == 21 {
			continue
		}
		var last error
		for _, err := range WalkLimits(b[:i]) {
			last = err
		}
		if last == nil {
			t.Errorf("%d bytes are read whole", i)
		}
	}
}

func TestBlackListPages(t *testing.T) {
	for _, bad := range [][]string{{"123"}, {"12345678901234567890"}, {"12a4"}, make([]string, MaxBlackListPage+1)} {
		if _, err := AppendBlackList(nil, PageLast, bad); err == nil {
			t.Errorf("%q is written", bad)
		}
	}
	for _, bad := range []string{"", "3", "1", "100x", "10105622848", "102066228480", "1010", "10103622", "2990"} {
		if flag, list, err := ParseBlackList([]byte(bad)); !errors.Is(err, ErrDownload) {
			t.Errorf("%q is read as %c %v, %v", bad, flag, list, err)
		}
	}
	if flag, list, err := ParseBlackList([]byte("0")); flag != PageNothing || list != nil || err != nil {
		t.Errorf("nothing: %c %v %v", flag, list, err)
	}
	// Decode shows beginnings and hides card numbers.
	const card = "6228480000000000002"
	page, err := AppendBlackList(nil, PageLast, []string{"622999", card})
	if err != nil {
		t.Fatal(err)
	}
	for _, de62 := range [][]byte{page, append(page, "06"+card...), []byte("1"), []byte(card)} {
		for _, mti := range []MTI{0x0800, 0x0810} {
			var m Message
			m.Reset(UnionPayPOS, mti)
			m.Set(60, "00000001390")
			m.SetBytes(62, de62)
			raw, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := UnionPayPOS.Parse(&m, raw); err != nil {
				t.Fatal(err)
			}
			shown := fmt.Sprint(Describe(&m))
			if strings.Contains(shown, card[6:15]) {
				t.Errorf("a card number is shown: %s", shown)
			}
			if mti == 0x0810 && len(de62) > 20 && !strings.Contains(shown, "622999") {
				t.Errorf("a beginning is hidden: %s", shown)
			}
		}
	}
}

// FuzzDownloads: whatever stands in DE 62, reading it ends, without a panic,
// and what is read whole is written again as something that reads the same.
func FuzzDownloads(f *testing.F) {
	f.Add([]byte("19F0605"))
	f.Add([]byte("10206622848041234"))
	f.Add([]byte("1101126013322"))
	f.Add([]byte("FF8058012000000100000"))
	f.Add(append(AppendCAKeyID(nil, CAKeyID{[5]byte{0xA0, 0, 0, 3, 0x33}, 8}), 0xDF, 0x05, 4, 0x20, 0x30, 0x12, 0x31))
	f.Add((&Application{AID: make([]byte, 8)}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := ParseOffset(b); err == nil && len(b) > 0 {
			if again, err := ParseOffset(AppendOffset(nil, n)); err != nil || again != n {
				t.Errorf("offset %d comes back as %d, %v", n, again, err)
			}
		}
		if refs, err := ParseCAKeyRefs(b); err == nil {
			var out []byte
			for _, k := range refs {
				out = AppendCAKeyRef(out, k)
			}
			if again, err := ParseCAKeyRefs(out); err != nil || !slices.Equal(again, refs) {
				t.Errorf("%v comes back as %v, %v", refs, again, err)
			}
		}
		if k, err := ParseCAKey(b); err == nil {
			if again, err := ParseCAKey(k.Append(nil)); err != nil || fmt.Sprint(again) != fmt.Sprint(k) {
				t.Errorf("%v comes back as %v, %v", k, again, err)
			}
		}
		if a, err := ParseApplication(b); err == nil && a.Check() == nil {
			if again, err := ParseApplication(a.Append(nil)); err != nil || fmt.Sprint(again) != fmt.Sprint(a) {
				t.Errorf("%v comes back as %v, %v", a, again, err)
			}
		}
		if flag, list, err := ParseBlackList(b); err == nil && len(list) <= MaxBlackListPage && flag != PageNothing {
			if again, err := AppendBlackList(nil, flag, list); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%q is written again as %q, %v", b, again, err)
			}
		}
		rest := len(b)
		for e, err := range WalkParameters(b) {
			if err == nil {
				rest -= 2 + len(e.Value)
				_ = ParameterText(e)
			}
		}
		if rest < 0 {
			t.Errorf("%d bytes of parameters in %d", len(b)-rest, len(b))
		}
		for e, err := range WalkLimits(b) {
			if err == nil && len(e.Tag) != 6 {
				t.Errorf("tag %q", e.Tag)
			}
		}
	})
}
