package payshield

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"acquirer/hsm/algo"
)

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func expand(t testing.TB, clear string) *algo.Key {
	t.Helper()
	k, err := algo.NewDESKey(mustHex(t, clear))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Clear keys of the tests, of odd parity.
const (
	key1 = "0123456789ABCDEFFEDCBA9876543210"
	key2 = "1C587F1C13924FEF8A9BADBC7640CD5E"
	key3 = "DFC26E4FB92FAE2A6B4C0DE3F2919EB0"
)

// under is a key as it lies under the test LMK.
func under(t testing.TB, typ keyType, clear string) string {
	t.Helper()
	s := map[int]algo.Scheme{16: algo.SchemeZ, 32: algo.SchemeU, 48: algo.SchemeT}[len(clear)]
	b := mustHex(t, clear)
	algo.SetOddParity(b)
	out, code := TestLMK().encrypt(typ, s, b)
	if code != "" {
		t.Fatal(code)
	}
	return out
}

func odd(t testing.TB, clear string) *algo.Key {
	t.Helper()
	b := mustHex(t, clear)
	algo.SetOddParity(b)
	return expand(t, hexUpper(b))
}

// answers wants a device to give an answer.
func answers(t *testing.T, d *Device, request, want string) {
	t.Helper()
	if got := string(d.Do(request)); got != want {
		t.Errorf("%q\n got %q\nwant %q", request, got, want)
	}
}

const (
	account12 = "848040256489"
	testPAN   = account12 + "0"
)

func sealed(t testing.TB, k *algo.Key, f algo.PINFormat, digits string) string {
	t.Helper()
	p, err := algo.ParsePIN(digits)
	if err != nil {
		t.Fatal(err)
	}
	b, err := algo.SealPIN(k, f, p, testPAN)
	if err != nil {
		t.Fatal(err)
	}
	return hexUpper(b.Bytes())
}

// TestErrorCodes: what is wrong with a request has the code that a payShield
// gives.
func TestErrorCodes(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	zmk, zpk, tpk := under(t, typeZMK, key1), under(t, typeZPK, key2), under(t, type002, key3)
	block := sealed(t, odd(t, key3), algo.ISO0, "1234")
	ca := "CA" + tpk + zpk + "12" + block
	changed := "U" + strings.Repeat("0", 32)
	own, _, err := MakeLMK(t.Context(), software(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, request, want string }{
		{"nothing", "", "ZZ51"},
		{"half a command", "C", "ZZ51"},
		{"no letters", "\x00\x01", "ZZ68"},
		{"a command that is none", "XX", "XY68"},
		{"a command with no follower", "CZ", "ZZ68"},
		{"no fields", "CA", "CB15"},
		{"a key that is cut off", "CAU12", "CB15"},
		{"a key of the device's storage", "CAK001" + zpk, "CB12"},
		{"a key that is no hex", "CAU" + strings.Repeat("G", 32), "CB15"},
		{"the first key is of another type", "CA" + zpk + zpk + "12" + block + "0101" + account12, "CB10"},
		{"the second key is changed", "CA" + tpk + changed + "12" + block + "0101" + account12, "CB11"},
		{"a PIN length that is not 12", "CA" + tpk + zpk + "04" + block + "0101" + account12, "CB24"},
		{"a block that holds no PIN", "CA" + tpk + zpk + "12" + strings.Repeat("0", 16) + "0101" + account12, "CB20"},
		{"another account", ca + "0101" + "848040256480", "CB20"},
		{"an account with a letter", ca + "0101" + "84804025648X", "CB22"},
		{"a format that is none", ca + "9901" + account12, "CB23"},
		{"a format that is not enabled", ca + "0102" + account12, "CB69"},
		{"format 0 to 1", ca + "0105" + account12, "CB23"},
		{"more fields than there are", ca + "0101" + account12 + "0", "CB15"},
		{"an LMK that is not there", ca + "0101" + account12 + "%05", "CB13"},
		{"a trailer that is too long", ca + "0101" + account12 + "\x19" + strings.Repeat("x", 33), "CB15"},
		{"a key type that is none", "A00FFEU", "A104"},
		{"a mode that is none", "A09000U", "A102"},
		{"a scheme that is none", "A00000Q", "A126"},
		{"export without a key to export under", "A01001U", "A115"},
		{"one component", "A41000U" + zmk, "A503"},
		{"a key longer than the one above it", "A6001" + under(t, typeZMK, "0123456789ABCDEF") + "X" + strings.Repeat("0", 32) + "U", "A727"},
		{"a length flag that is not the key's", "BU000" + zmk, "BV05"},
		{"a check value of another kind", "BU001" + zmk + ";009", "BV15"},
		{"a scheme that does not fit the key", "A8001" + zmk + zpk + "Z", "A926"},
		{"a MAC mode that is none", "M6900110030000", "M702"},
		{"a MAC format that is none", "M600", "M715"},
		{"a MAC algorithm that is none", "M600091003" + zmk, "M704"},
		{"a MAC key type that is none", "M600011005" + zmk, "M705"},
		{"a MAC length past the end", "M600011003" + under(t, typeTAK, key1) + "0009data", "M706"},
		{"retail MAC with a single-length key", "M600031003" + under(t, typeTAK, "0123456789ABCDEF") + "0004data", "M727"},
		{"echo of more than there is", "B20005ping", "B380"},
		{"random of nothing", "N0000", "N101"},
		{"a chain of a chain", "NK0010005NK000", "NL00010004ZZ68"},
		{"a PIN under the LMK with letters", "DG" + under(t, typePVK, key1) + "0123x" + account12 + "1", "DH14"},
		{"a decimalisation table that tells digits apart", "DA" + tpk + under(t, typePVK, key1) + "12" + block + "0104" + account12 + "1000000000000000" + "12345678901N" + "0000FFFFFFFF", "DB25"},
		{"a counter that no terminal reaches", "CI" + under(t, typeBDK, key1) + zpk + "605" + "FFFF9876543210FFFFFF" + block + "01" + account12, "CJ15"},
		{"a cryptogram over nothing", "KQ00" + under(t, typeMKAC, key1) + "12345678" + "at" + "unun" + "00;", "KR81"},
		{"a script mode whose layout is unknown", "KU3", "KV04"},
	} {
		t.Run(c.what, func(t *testing.T) { answers(t, d, c.request, c.want) })
	}
	answers(t, NewDevice(own, false), "DG"+under(t, typePVK, key1)+"01234"+account12+"1", "DH10")
	answers(t, NewDevice(TestLMK(), true), "HC"+under(t, typeTMK, key1), "HD68")
}

// TestOwnLMK: under an LMK that is not published there is no PIN under the LMK
// and no format that is no format of ISO 9564.
func TestOwnLMK(t *testing.T) {
	own, _, err := MakeLMK(t.Context(), software(t))
	if err != nil {
		t.Fatal(err)
	}
	d := NewDevice(own, false)
	make1 := func(typ string) string {
		answer := string(d.Do("A00" + typ + "U"))
		if !strings.HasPrefix(answer, "A100U") {
			t.Fatal(answer)
		}
		return answer[4:37]
	}
	tpk, zpk, pvk := make1("002"), make1("001"), make1("002")
	answers(t, d, "DG"+pvk+"01234"+account12+"1", "DH68")
	answers(t, d, "CA"+tpk+zpk+"12"+strings.Repeat("0", 16)+"0103"+account12, "CB69")
	answers(t, NewDevice(TestLMK(), false), "BU011"+zpk, "BV10")
}

// TestTrailer: an LMK identifier is taken, a trailer comes back, behind errors
// too.
func TestTrailer(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	answers(t, d, "B20004ping%00\x19tail", "B300ping\x19tail")
	answers(t, d, "B20004ping%01", "B300ping")
	answers(t, d, "NC\x19", "ND00"+"7B44AC1DDEE2A94B"+firmware+"\x19")
	answers(t, d, "NO00\x19"+strings.Repeat("t", 32), "NP00310064"+firmware+"00000\x19"+strings.Repeat("t", 32))
}

// TestGeneratedKeys: A0, HC, HA, IA and FI give the same key twice.
func TestGeneratedKeys(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	for _, c := range []struct {
		request, answer string
		kek             string
		own             keyType
		lmkFirst        bool
	}{
		{"A01001U;0" + under(t, typeZMK, key1) + "X", "A1", key1, typeZPK, true},
		{"A01003Z;1" + under(t, type002, key2) + "Z", "A1", key2, typeTAK, true},
		{"A0100BU;1" + under(t, type002, key2) + "X", "A1", key2, typeDEK, true},
		{"HC" + under(t, type002, key2) + ";XU1", "HD", key2, type002, false},
		{"HC" + under(t, type002, key2), "HD", key2, type002, false},
		{"HA" + under(t, type002, key2) + ";XU0", "HB", key2, typeTAK, false},
		{"IA" + under(t, typeZMK, key1) + ";XU1", "IB", key1, typeZPK, false},
		{"FI0" + under(t, typeZMK, key1) + ";UU0", "FJ", key1, typeZEK, false},
		{"FI1" + under(t, typeZMK, key1) + ";XU1", "FJ", key1, typeZAK, false},
	} {
		answer := string(d.Do(c.request))
		rest, ok := strings.CutPrefix(answer, c.answer+"00")
		if !ok {
			t.Errorf("%s: %s", c.request, answer)
			continue
		}
		read := func() (algo.Scheme, []byte) {
			s, sealed, more, err := algo.ParseKeyField(rest)
			if err != nil {
				t.Fatalf("%s: %v", answer, err)
			}
			rest = more
			return s, sealed
		}
		s1, one := read()
		s2, two := read()
		if c.lmkFirst {
			s1, one, s2, two = s2, two, s1, one
		}
		sent, err := algo.DecryptKey(mustHex(t, c.kek), s1, one)
		if err != nil {
			t.Fatal(err)
		}
		pair, variant, err := algo.KeyTypePair(c.own.code)
		if err != nil {
			t.Fatal(err)
		}
		own, err := algo.TestLMK().DecryptKey(pair, variant, s2, two)
		if err != nil || !bytes.Equal(sent, own) || !algo.OddParity(own) {
			t.Errorf("%s: the two keys differ: %v", c.request, err)
		}
		check := hexUpper(expand(t, hexUpper(own)).CheckValue())
		if rest != "" && !strings.HasPrefix(check, rest) {
			t.Errorf("%s: check value %s, want %s", c.request, rest, check)
		}
	}
}

// TestTranslatedKeys: what goes out to a ZMK or TMK comes in again.
func TestTranslatedKeys(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	zmk := under(t, typeZMK, key1)
	for _, c := range []struct {
		out, in string
		typ     keyType
	}{{"GC", "FA", typeZPK}, {"FE", "FC", type002}, {"MG", "MI", typeTAK}, {"FM0", "FK0", typeZEK}, {"FM1", "FK1", typeZAK}, {"DY", "DW", typeBDK}, {"AU", "AW", typeCVK}} {
		key := under(t, c.typ, key2)
		for _, scheme := range []string{"X", "U"} {
			answer := string(d.Do(c.out + zmk + key + ";" + scheme + "U1"))
			if len(answer) != 4+33+6 || answer[2:4] != "00" {
				t.Fatalf("%s: %s", c.out, answer)
			}
			answers(t, d, c.in+zmk+answer[4:37]+";0U1", answerCode(c.in[:2])+"00"+key+answer[37:])
		}
	}
	even := mustHex(t, key2)
	even[0] ^= 1
	wrong, err := algo.EncryptKey(mustHex(t, key1), algo.SchemeX, even)
	if err != nil {
		t.Fatal(err)
	}
	corrected := under(t, typeZPK, hexUpper(even))
	answers(t, d, "FA"+zmk+"X"+hexUpper(wrong)+";0U1", "FB01"+corrected+hexUpper(odd(t, key2).CheckValue()[:3]))
	twice, err := algo.EncryptKey(mustHex(t, key1), algo.SchemeX, mustHex(t, "0123456789ABCDEF0123456789ABCDEF"))
	if err != nil {
		t.Fatal(err)
	}
	answers(t, d, "FA"+zmk+"X"+hexUpper(twice)+";0U1", "FB75")
}

// TestFormKey: components make the key that they are of.
func TestFormKey(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	sum := mustHex(t, key1)
	for i, v := range mustHex(t, key2) {
		sum[i] ^= v
	}
	for i, v := range mustHex(t, key3) {
		sum[i] ^= v
	}
	want := under(t, typeZMK, hexUpper(sum))
	answers(t, d, "A43000U"+under(t, typeZMK, key1)+under(t, typeZMK, key2)+under(t, typeZMK, key3), "A500"+want+hexUpper(odd(t, hexUpper(sum)).CheckValue()[:3]))
}

// TestKeyBlocks: keys under the key block LMK do what those under the variant
// LMK do, and only what their block says.
func TestKeyBlocks(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	generate := func(attributes string) string {
		t.Helper()
		answer := string(d.Do("A00FFFS#" + attributes))
		if !strings.HasPrefix(answer, "A100S1") {
			t.Fatalf("%s: %s", attributes, answer)
		}
		return answer[4 : len(answer)-6]
	}
	zpk, tpk, pvk := generate("72T2B00S00"), generate("71T2D00N00"), generate("V2T2V00N00")
	zmk, zmkAES := generate("52T2B00N00"), generate("K0A3B00N00")
	tak, cmac := generate("M3T2C00N00"), generate("M6A1C00E00")
	if answer := string(d.Do("CA" + tpk + zpk + "12" + strings.Repeat("0", 16) + "0101" + account12)); answer != "CB20" {
		t.Errorf("keys in blocks are not taken: %s", answer)
	}
	answers(t, d, "CA"+zpk+zpk+"12"+strings.Repeat("0", 16)+"0101"+account12, "CB"+string(BlockUsage))
	answers(t, d, "DC"+tpk+tpk+strings.Repeat("0", 16)+"01"+account12+"11234", "DD"+string(BlockUsage))
	answers(t, d, "DC"+tpk+pvk+strings.Repeat("0", 16)+"01"+account12+"11234", "DD20")
	broken := tpk[:len(tpk)-1] + string("0123456789ABCDEF"[15-strings.IndexByte("0123456789ABCDEF", tpk[len(tpk)-1])])
	answers(t, d, "CA"+broken+zpk, "CB"+string(BlockMAC))
	answers(t, d, "CAS1999"+zpk, "CB"+string(BlockHeader))
	for _, c := range []struct{ key, alg string }{{tak, "3"}, {cmac, "6"}, {cmac, "5"}} {
		mac := string(d.Do("M6001" + c.alg + "1FFF" + c.key + "0010" + "sixteen bytes it"))
		if len(mac) != 20 || mac[:4] != "M700" {
			t.Fatalf("MAC %s: %s", c.alg, mac)
		}
		answers(t, d, "M8001"+c.alg+"1FFF"+c.key+"0010"+"sixteen bytes it"+mac[4:], "M900")
		answers(t, d, "M8001"+c.alg+"1FFF"+c.key+"0010"+"sixteen bytes is"+mac[4:], "M901")
	}
	check := string(d.Do("BUFFF" + cmac))
	if len(check) != 10 {
		t.Errorf("check value of an AES key: %s", check)
	}
	// As TR-31 under a ZMK and back: the same key, by its check value.
	for _, kek := range []string{zmk, zmkAES} {
		out := string(d.Do("A8FFF" + kek + zpk + "R"))
		if !strings.HasPrefix(out, "A900R") {
			t.Fatalf("export: %s", out)
		}
		in := string(d.Do("A6FFF" + kek + out[4:len(out)-6] + "S"))
		if !strings.HasPrefix(in, "A700S1") || in[len(in)-6:] != out[len(out)-6:] {
			t.Errorf("import: %s after %s", in, out)
		}
	}
	answers(t, d, "A8FFF"+zmk+tpk+"R", "A9"+string(BlockExport))
	answers(t, d, "A8FFF"+zmk+cmac+"X", "A926")
}

// TestPINVerification: IBM 3624 and Visa, from terminals, zones and DUKPT.
func TestPINVerification(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	tpk, zpk, pvk, bdk := under(t, type002, key1), under(t, typeZPK, key2), under(t, typePVK, key3), under(t, typeBDK, key1)
	const table, validation = "1234567890123456", "12345678901N"
	natural := [8]byte(mustHex(t, "12345678901"+account12[7:]))
	pin, err := algo.ParsePIN("1234")
	if err != nil {
		t.Fatal(err)
	}
	offset, err := algo.IBM3624Offset(odd(t, key3), table, natural, pin, 4)
	if err != nil {
		t.Fatal(err)
	}
	wrongOffset := offset[:3] + string('0'+(offset[3]-'0'+1)%10)
	pvvBytes, err := algo.VisaPVV(odd(t, key3), testPAN, '1', pin)
	if err != nil {
		t.Fatal(err)
	}
	pvv := string(pvvBytes[:])
	const ksn = "FFFF9876543210E00001"
	ik, err := algo.TDESInitialKey(mustHex(t, key1), mustHex(t, ksn))
	if err != nil {
		t.Fatal(err)
	}
	tk, err := algo.TDESTransactionKey(ik, mustHex(t, ksn))
	if err != nil {
		t.Fatal(err)
	}
	pinKey, err := algo.TDESWorkingKey(tk, algo.DUKPTPIN)
	if err != nil {
		t.Fatal(err)
	}
	macKey, err := algo.TDESWorkingKey(tk, algo.DUKPTMACRequest)
	if err != nil {
		t.Fatal(err)
	}
	fromTPK, fromZPK := sealed(t, odd(t, key1), algo.ISO0, "1234"), sealed(t, odd(t, key2), algo.ISO0, "1234")
	fromDUKPT := sealed(t, expand(t, hexUpper(pinKey[:])), algo.ISO0, "1234")
	tail := "04" + account12 + table + validation
	answers(t, d, "DA"+tpk+pvk+"12"+fromTPK+"01"+tail+offset+"FFFFFFFF", "DB00")
	answers(t, d, "DA"+tpk+pvk+"12"+fromTPK+"01"+tail+wrongOffset+"FFFFFFFF", "DB01")
	answers(t, d, "EA"+zpk+pvk+"12"+fromZPK+"01"+tail+offset+"FFFFFFFF", "EB00")
	answers(t, d, "DE"+pvk+"01234"+tail, "DF00"+offset+"FFFFFFFF")
	answers(t, d, "BK002"+tpk+pvk+fromTPK+"01"+tail, "BL00"+offset+"FFFFFFFF")
	answers(t, d, "GO0"+bdk+pvk+"605"+ksn+fromDUKPT+"01"+tail+offset+"FFFFFFFF", "GP00")
	answers(t, d, "GO0"+bdk+pvk+"605"+ksn+fromDUKPT+"01"+tail+wrongOffset+"FFFFFFFF", "GP01")
	answers(t, d, "GQ0"+bdk+pvk+"605"+ksn+fromDUKPT+"01"+account12+"1"+pvv, "GR00")
	answers(t, d, "GQ0"+bdk+pvk+"605"+ksn[4:]+fromDUKPT+"01"+account12+"1"+pvv, "GR00")
	answers(t, d, "FW001"+zpk+pvk+fromZPK+"01"+account12+"1", "FX00"+pvv)
	answers(t, d, "DG"+pvk+"01234"+account12+"1", "DH00"+pvv)
	answers(t, d, "G0"+bdk+zpk+"605"+ksn+fromDUKPT+"0101"+account12, "G10004"+fromZPK+"01")
	answers(t, d, "G0"+bdk+"*"+bdk+"605"+ksn+"605"+ksn+fromDUKPT+"0101"+account12, "G10004"+fromDUKPT+"01")

	data := "a message whose bytes: 32, \x19%00;."
	data = data[:32]
	mac, err := expand(t, hexUpper(macKey[:])).AppendRetailMAC(nil, algo.PadZeros, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	text := hexUpper(mac)
	for mode, want := range map[string]string{"4": text, "5": text[:8], "6": text[8:]} {
		answers(t, d, "GW"+mode+"1"+bdk+"605"+ksn+"0032"+data, "GX00"+want)
		verify := string(mode[0] - 3)
		answers(t, d, "GW"+verify+"1"+bdk+"605"+ksn+want+"0032"+data, "GX00")
		answers(t, d, "GW"+verify+"1"+bdk+"605"+ksn+strings.Repeat("0", len(want))+"0032"+data, "GX01")
	}
}

// TestMACsInParts: a message in three commands has the MAC of one.
func TestMACsInParts(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	tak := under(t, typeTAK, key1)
	message := strings.Repeat("eight by", 5) + "tes"
	for _, alg := range []string{"1", "3"} {
		for _, pad := range []string{"1", "2"} {
			head := "1" + alg + pad + "003" + tak // 16 digits
			whole := string(d.Do("M600" + head + fmt.Sprintf("%04X", len(message)) + message))
			first := string(d.Do("M610" + head + "0010" + message[:16]))
			if len(first) != 20 {
				t.Fatal(first)
			}
			middle := string(d.Do("M620" + head + first[4:] + "0008" + message[16:24]))
			if len(middle) != 20 {
				t.Fatal(middle)
			}
			last := fmt.Sprintf("%04X", len(message)-24) + message[24:]
			answers(t, d, "M630"+head+middle[4:]+last, whole)
			answers(t, d, "M830"+head+middle[4:]+last+whole[4:], "M900")
			answers(t, d, "M830"+head+first[4:]+last+whole[4:], "M901")

			// A last part shorter than the state that goes before it.
			before := string(d.Do("M610" + head + "0028" + message[:40]))
			answers(t, d, "M630"+head+before[4:]+"0003"+message[40:], whole)
			answers(t, d, "M830"+head+before[4:]+"0003"+message[40:]+whole[4:], "M900")
		}
	}
	want, err := odd(t, key1).AppendRetailMAC(nil, algo.PadZeros, []byte(message))
	if err != nil {
		t.Fatal(err)
	}
	state := string(d.Do("MS1010" + tak + "0018" + message[:24]))
	answers(t, d, "MS3010"+tak+state[4:]+fmt.Sprintf("%04X", len(message)-24)+message[24:], "MT00"+hexUpper(want))
	state = string(d.Do("MS1010" + tak + "0028" + message[:40]))
	answers(t, d, "MS3010"+tak+state[4:]+"0003"+message[40:], "MT00"+hexUpper(want))
}

// TestData: M0, M2 and M4 in every mode, against the definitions of the modes.
func TestData(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	zek, dek := under(t, typeZEK, key1), under(t, typeDEK, key2)
	k := odd(t, key1)
	plain := []byte("sixteen bytes of it")[:16]
	iv := [8]byte(mustHex(t, "0102030405060708"))
	block := func(x [8]byte, with []byte) (out [8]byte) {
		out = k.Encrypt8(x)
		for i := range out {
			out[i] ^= with[i]
		}
		return out
	}
	cfb1 := block(iv, plain[:8])
	cfb2 := block(cfb1, plain[8:])
	var state = iv
	var cfb8 []byte
	for _, p := range plain {
		c := k.Encrypt8(state)
		cfb8 = append(cfb8, c[0]^p)
		copy(state[:], state[1:])
		state[7] = c[0] ^ p
	}
	cbc := make([]byte, 16)
	if err := k.EncryptCBC(iv[:], cbc, plain); err != nil {
		t.Fatal(err)
	}
	ecb := make([]byte, 16)
	if err := k.EncryptECB(ecb, plain); err != nil {
		t.Fatal(err)
	}
	ivText := hexUpper(iv[:])
	for _, c := range []struct {
		mode string
		want []byte
		last []byte
	}{{modeECB, ecb, nil}, {modeCBC, cbc, cbc[8:]}, {modeCFB64, append(append([]byte(nil), cfb1[:]...), cfb2[:]...), cfb2[:]}, {modeCFB8, cfb8, cfb8[8:]}} {
		with := ivText
		if c.mode == modeECB {
			with = ""
		}
		last := hexUpper(c.last)
		answers(t, d, "M0"+c.mode+"01"+"00A"+zek+with+"0010"+string(plain), "M100"+last+"0020"+hexUpper(c.want))
		answers(t, d, "M2"+c.mode+"10"+"00A"+zek+with+"0020"+hexUpper(c.want), "M300"+last+"0010"+string(plain))
		to := string(d.Do("M4" + c.mode + modeECB + "11" + "00A" + zek + "00B" + dek + with + "0020" + hexUpper(c.want)))
		again := make([]byte, 16)
		if err := odd(t, key2).EncryptECB(again, plain); err != nil {
			t.Fatal(err)
		}
		if to != "M500"+last+"0020"+hexUpper(again) {
			t.Errorf("M4 from mode %s: %s", c.mode, to)
		}
	}
	answers(t, d, "M0"+modeCBC+"01"+"00A"+zek+ivText+"0005"+"12345", "M106")
	answers(t, d, "M2"+modeECB+"10"+"00A"+zek+"0020"+strings.Repeat("x", 32), "M335")
}

// TestScripts: KU and KY in mode 0.
func TestScripts(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	smi := under(t, typeMKSMI, key1)
	const pan = "\x62\x28\x48\x04\x02\x56\x48\x01" // 14 digits, sequence 01
	script := "\x84\x24\x00\x00\x08\x19%00;"
	for _, c := range []struct{ command, session, what string }{{"KU00", "\x00\x00\x00\x00\x00\x00\x12\x34", "VISA"}, {"KU01", "12345678", "CSK"}, {"KY0", "12345678", "CSK"}} {
		icc, err := algo.ICCKey(odd(t, key1), algo.OptionA, "62284804025648", "01")
		if err != nil {
			t.Fatal(err)
		}
		k, err := algo.CommonSessionKey(icc, [8]byte([]byte(c.session)))
		if c.what == "VISA" {
			k, err = algo.VisaScriptKey(odd(t, key1), algo.OptionA, "62284804025648", "01", [2]byte{0x12, 0x34})
		}
		if err != nil {
			t.Fatal(err)
		}
		mac, err := k.AppendRetailMAC(nil, algo.PadBit, []byte(script))
		if err != nil {
			t.Fatal(err)
		}
		answers(t, d, c.command+smi+pan+c.session+fmt.Sprintf("%04X", len(script))+script+";", answerCode(c.command[:2])+"00"+string(mac))
	}
}

// TestHealth: the probes have the fields that clients of the machine read.
func TestHealth(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	for request, length := range map[string]int{"NC": 29, "NO00": 24, "NO01": 5, "J2": 4 + 12 + 36 + 10 + 16, "J8": 4 + 12 + 36 + 40, "RA": 4, "N0016": 20} {
		answer := d.Do(request)
		if len(answer) != length || string(answer[2:4]) != "00" {
			t.Errorf("%s: %d characters, want %d: %q", request, len(answer), length, answer)
		}
	}
	jk := string(d.Do("JK"))
	if jk[4+30] != '0' || !strings.Contains(jk, "\x14") || !strings.HasSuffix(jk, "\x1500") || !strings.Contains(jk, "V0T") {
		t.Errorf("JK: %q", jk)
	}
	if j4 := string(d.Do("J4")); !strings.Contains(j4, "NC000000000001") {
		t.Errorf("J4 does not count: %q", j4)
	}
	answers(t, d, "NK0020004RA000008B20002hi", "NL0002"+"0004RB15"+"0006B300hi")
	one := d.Do("N0032")
	if two := d.Do("N0032"); bytes.Equal(one, two) {
		t.Error("two random values are the same")
	}
}

// TestLMKFile: an LMK comes out of its file again under the same master key,
// under no other, and not when the file was changed.
func TestLMKFile(t *testing.T) {
	s := software(t)
	l, text, err := MakeLMK(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenLMK(t.Context(), s, text)
	if err != nil {
		t.Fatal(err)
	}
	key := string(NewDevice(l, false).Do("A00001U"))[4:37]
	if got := string(NewDevice(again, false).Do("BU011" + key)); !strings.HasPrefix(got, "BV00") {
		t.Errorf("a key under the LMK is not known under the reopened one: %s", got)
	}
	if l.IsTest() || fmt.Sprint(l) != fmt.Sprint(again) || strings.Contains(fmt.Sprintf("%+v %#v", l, l), "pairs") {
		t.Errorf("%+v", l)
	}
	changed := bytes.Replace(text, []byte(`"sealed": "`), []byte(`"sealed": "00`), 1)
	for name, bad := range map[string][]byte{"changed": changed, "cut": text[:len(text)/2], "empty": nil, "of another kind": bytes.Replace(text, []byte(sealedLMKFormat), []byte("other"), 1)} {
		if _, err := OpenLMK(t.Context(), s, bad); err == nil {
			t.Errorf("an LMK file that is %s opens", name)
		}
	}
	master := make([]byte, 32)
	master[0] = 2
	other := softwareOf(t, master)
	if _, err := OpenLMK(t.Context(), other, text); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("under another master key: %v", err)
	}
}

// FuzzDevice: whatever comes is answered, never with a panic, and with the
// command that it was.
func FuzzDevice(f *testing.F) {
	for _, v := range wireVectors(f) {
		f.Add(v.Inputs.Request)
	}
	for _, request := range []string{"A00FFFS#72T2B00S00", "KQ00", "KW32", "M6", "NK0010005NK000", "NK1010004abcd", "G0", "GW41", "JK", "A6FFFS1", "M4010200", "BU\xff\xff"} {
		f.Add(request)
	}
	d := NewDevice(TestLMK(), false)
	own, _, err := MakeLMK(f.Context(), software(f))
	if err != nil {
		f.Fatal(err)
	}
	two := NewDevice(own, true)
	f.Fuzz(func(t *testing.T, request string) {
		for _, d := range []*Device{d, two} {
			answer := d.Do(request)
			if len(answer) < 4 {
				t.Fatalf("%q is answered by %q", request, answer)
			}
			want := "ZZ"
			if len(request) >= 2 {
				want = answerCode(request[:2])
			}
			if string(answer[:2]) != want {
				t.Fatalf("%q is answered by %q", request, answer)
			}
		}
	})
}
