package spec

import (
	"strings"
	"testing"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/padding"
	"github.com/moov-io/iso8583/prefix"
)

// A specification that the table cannot hold is refused when it is compiled,
// not when a message comes.
func TestCompileRefuses(t *testing.T) {
	with := func(n int, f field.Field) *iso8583.MessageSpec {
		s := posSpec()
		s.Fields[n] = f
		return s
	}
	without := func(n int) *iso8583.MessageSpec {
		s := posSpec()
		delete(s.Fields, n)
		return s
	}
	padded := func(f field.Field) field.Field {
		f.Spec().Pad = padding.Left('0')
		return f
	}
	for _, c := range []struct {
		name string
		spec *iso8583.MessageSpec
		why  string
	}{
		{"no MTI", without(0), "MTI"},
		{"no bitmap", without(1), "Bitmap"},
		{"MTI of three", with(0, str(mtiBCD, Fixed, 3, "")), "MTI is not four digits"},
		{"MTI as text", with(0, str(Text, Fixed, 4, "")), "MTI is not four digits"},
		{"bitmap of 16", with(1, field.NewBitmap(&field.Spec{Length: 16, Enc: bitmapBits, Pref: Fixed})), "bitmap"},
		{"fixed bitmap", with(1, field.NewBitmap(&field.Spec{Length: 8, DisableAutoExpand: true, Enc: bitmapBits, Pref: Fixed})), "bitmap"},
		{"stock encoder", with(48, field.NewString(&field.Spec{Length: 10, Enc: encoding.BCD, Pref: BCDLL})), "DE 48: the encoder"},
		{"stock prefixer", with(48, field.NewString(&field.Spec{Length: 10, Enc: Text, Pref: prefix.ASCII.LL})), "DE 48: the prefixer"},
		{"no encoder", with(48, field.NewString(&field.Spec{Length: 10, Pref: BCDLL})), "DE 48: the encoder"},
		{"padding", with(48, padded(str(Text, Fixed, 10, ""))), "DE 48: padding"},
		{"numeric", with(4, field.NewNumeric(&field.Spec{Length: 12, Enc: BCDLeft, Pref: Fixed})), "DE 4: want a String"},
		{"binary as string", with(52, str(Binary, Fixed, 8, "")), "DE 52: want"},
		{"string as binary", with(52, field.NewBinary(&field.Spec{Length: 8, Enc: Text, Pref: Fixed})), "DE 52: want"},
		{"too long for its prefix", with(48, str(Text, BCDLL, 100, "")), "DE 48: length 100"},
		{"too long", with(48, str(Text, Fixed, 1000, "")), "DE 48: length 1000"},
		{"no length", with(48, str(Text, Fixed, 0, "")), "DE 48: length 0"},
		{"bit 65", with(65, str(Text, Fixed, 1, "")), "DE 65 cannot be defined"},
		{"DE 129", with(129, str(Text, Fixed, 1, "")), "DE 129 cannot be defined"},
	} {
		if _, err := Compile("test", c.spec); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %s", c.name, err, c.why)
		}
	}
}

// A dialect may leave fields out: a bit for one of them is refused.
func TestUndefinedField(t *testing.T) {
	s := posSpec()
	delete(s.Fields, 11)
	d, err := Compile("test", s)
	if err != nil {
		t.Fatal(err)
	}
	var m Message
	if err := d.Parse(&m, unhex(t, "0800 0020000000000000 000001")); err == nil || !strings.Contains(err.Error(), "test: DE 11 at byte 10: want a field of this dialect") {
		t.Error(err)
	}
	if d.Format(11) != "" || d.FieldName(11) != "" || d.FieldName(0) != "" || d.Format(129) != "" || d.Name() != "test" {
		t.Error("an undefined field has a name or format")
	}
	for n, want := range map[int]string{2: "n..19 LL", 4: "n12", 22: "n3", 35: "z..64 LL", 36: "z..128 LLL", 41: "ans8", 52: "b8", 55: "b..999 LLL"} {
		if got := d.Format(n); got != want {
			t.Errorf("DE %d is %s, want %s", n, got, want)
		}
	}
}

func TestMTI(t *testing.T) {
	for m, want := range map[MTI]MTI{0x0200: 0x0210, 0x0220: 0x0230, 0x0400: 0x0410, 0x0401: 0x0410, 0x0420: 0x0430, 0x0421: 0x0430, 0x0800: 0x0810, 0x0920: 0x0930} {
		if got := m.Response(); got != want || m.IsResponse() || !got.IsResponse() {
			t.Errorf("%s is answered by %s, want %s", m, got, want)
		}
	}
	if MTI(0x0420).Class() != 4 || MTI(0x0420).String() != "0420" || MTI(0x0420).Title() == "" {
		t.Error("0420")
	}
}
