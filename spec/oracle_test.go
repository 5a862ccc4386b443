package spec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moov-io/iso8583"
	"pgregory.net/rapid"
)

// moov reads a message with the same specification. Its panics are told as
// errors: they are refusals.
func moov(d *Dialect, raw []byte) (m *iso8583.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("moov panicked: %v", p)
		}
	}()
	m = iso8583.NewMessage(d.moov)
	return m, m.Unpack(raw)
}

// compare reads raw with the table and with moov. They must refuse the same
// messages and read the same values, and pack the same bytes, but for what
// moov is knowingly wrong or silent about:
//
//   - it accepts bytes behind the last field;
//   - it reads a third bitmap when bit 65 is set, and fields above 128 with it;
//   - it packs a second bitmap only when a field above 64 is there, a received
//     one that is empty is lost;
//   - it has no place for padding: nibbles F, and an odd fixed field that its
//     sender padded on the left, come back in the form of the standard.
func compare(t *testing.T, d *Dialect, raw []byte) {
	t.Helper()
	var m Message
	err := d.Parse(&m, raw)
	o, oracleErr := moov(d, raw)
	var p *ParseError
	if errors.As(err, &p) {
		switch {
		case p.Field == -1: // what follows the last field
			var short Message
			if e := d.Parse(&short, raw[:p.Offset]); e != nil || oracleErr != nil {
				t.Fatalf("%s: table %v, without the rest %v, moov %v", d.name, err, e, oracleErr)
			}
			m, raw = short, raw[:p.Offset]
		case p.Field == 1 && p.Want == "bit 65 clear (a third bitmap is not spoken)":
			return
		case oracleErr == nil:
			t.Fatalf("%s: table refuses %v, moov reads %X", d.name, err, raw)
		default:
			return
		}
	} else if err != nil {
		t.Fatalf("%s: %v is not a ParseError", d.name, err)
	}
	if oracleErr != nil {
		t.Fatalf("%s: table reads, moov refuses %X: %v", d.name, raw, errors.Unwrap(oracleErr))
	}
	if mti, err := o.GetMTI(); err != nil || mti != m.MTI().String() {
		t.Fatalf("%s: MTI %s, moov %s %v", d.name, m.MTI(), mti, err)
	}
	padded := false
	for n := 2; n <= maxField; n++ {
		f := o.GetField(n)
		if (f != nil) != m.Has(n) {
			t.Fatalf("%s: DE %d is there for one alone", d.name, n)
		}
		if f == nil {
			continue
		}
		s, err := f.String()
		if err != nil || s != m.Text(n) {
			t.Fatalf("%s: DE %d is %q, moov %q %v", d.name, n, m.Text(n), s, err)
		}
		v := newView(&m, true)
		padded = padded || v.exact(n) != v.text(n)
	}
	packed, err := m.Append(nil)
	if err != nil || !bytes.Equal(packed, raw) {
		t.Fatalf("%s: %X packs as %X %v", d.name, raw, packed, err)
	}
	theirs, err := o.Pack()
	if err != nil {
		t.Fatalf("%s: moov does not pack what it read: %v", d.name, err)
	}
	if !padded && (!m.wide || m.bits[1] != 0) && !bytes.Equal(theirs, raw) {
		t.Fatalf("%s: %X, moov packs %X", d.name, raw, theirs)
	}
}

// oracleDialects are all dialects of this package, and one with a bitmap of
// hexadecimal characters.
func oracleDialects(t testing.TB) (out []*Dialect) {
	for _, name := range Names() {
		d, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return append(out, hexDialect(t))
}

// hexDialect is iso87-ascii with a bitmap of hexadecimal characters.
func hexDialect(t testing.TB) *Dialect {
	ascii, err := Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ReadDialect("iso87-hex", []byte(strings.NewReplacer(`"bitmap": "binary"`, `"bitmap": "hex"`, `"iso87-ascii"`, `"iso87-hex"`).Replace(string(ascii.File()))))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func FuzzMessage(f *testing.F) {
	dialects := oracleDialects(f)
	for _, c := range captures(f) {
		p, err := ReadCapture(c.raw, nil)
		if err != nil {
			f.Add(c.raw, uint8(0))
			continue
		}
		if p.Message.MTI() != 0 {
			f.Add(p.Message.Raw(), uint8(slices.Index(dialects, p.Dialect)))
		}
	}
	for i, d := range dialects {
		var m Message
		sale(&m, d)
		m.Set(70, "301")
		packed, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint8(i))
		f.Add(packed[:len(packed)-1], uint8(i))
		f.Add(append(packed, 0), uint8(i))
	}
	f.Add(unhex(f, "0200 8000000000000000 0000000000000000"), uint8(0))
	f.Add(unhex(f, "0200 8000000000000000 8000000000000000 0000000000000000"), uint8(0))
	f.Add(unhex(f, "0200 4000000000000000 19 6228480402564890018F"), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, which uint8) {
		d := dialects[int(which)%len(dialects)]
		compare(t, d, raw)
		// Reading and describing what came in never panics, and the account
		// number is never shown whole.
		var m Message
		if d.Parse(&m, raw) == nil {
			pan := string(accountNumber(&m))
			for _, v := range shown(Describe(&m)) {
				// In the hexadecimal of a text the digits 30 to 39 may make a
				// number of their own.
				if pan != "" && !strings.HasPrefix(v, hexMark) && strings.Contains(v, pan) {
					t.Fatalf("%s: %s is shown", d.name, v)
				}
			}
			Reveal(&m)
			ParseDE60(&m)
			ParseDE61(&m)
			ParseDE53(&m)
			ParseDE90(&m)
			FindOriginal(&m)
			NetworkCode(&m)
			d.KSN(&m)
			if e := d.Check(&m); e != nil && d.Row(&m) == "" {
				t.Fatalf("%s: %v of no rule", d.name, e)
			}
			for n := 0; n <= 129; n++ {
				m.Int(n)
			}
		}
	})
}

// shown is everything of a description that came from the message.
func shown(items []Item) (out []string) {
	for _, i := range items {
		out = append(append(out, i.Value, i.Note), shown(i.Sub)...)
	}
	return out
}

func TestCapturesAgainstMoov(t *testing.T) {
	for _, c := range captures(t) {
		if p, err := ReadCapture(c.raw, nil); err == nil && p.Message.MTI() != 0 {
			t.Run(c.ID, func(t *testing.T) { compare(t, p.Dialect, p.Message.Raw()) })
		}
	}
}

// TestBuildAgainstMoov sets random values in random fields: both pack the same
// bytes, or both refuse.
func TestBuildAgainstMoov(t *testing.T) {
	for _, d := range oracleDialects(t) {
		t.Run(d.Name(), rapid.MakeCheck(func(t *rapid.T) {
			var m Message
			m.Reset(d, 0x0200)
			o := iso8583.NewMessage(d.moov)
			o.MTI("0200")
			numbers := rapid.IntRange(2, 128).Filter(func(n int) bool { return n != 65 })
			for _, n := range rapid.SliceOfNDistinct(numbers, 0, 12, rapid.ID[int]).Draw(t, "fields") {
				c := d.cells[n]
				size := int(c.max)
				if c.length != Fixed {
					size = rapid.IntRange(0, int(c.max)).Draw(t, "length")
				}
				if rapid.IntRange(0, 20).Draw(t, "wrong") == 0 {
					size++ // too long, or fixed and too long
				}
				alphabet := "0123456789"
				switch c.kind {
				case Track:
					alphabet += "=ABCEF"
				case TrackText:
					alphabet += "=D^ "
				}
				value := make([]byte, size)
				fill := rapid.Uint64().Draw(t, "fill")
				for i := range value {
					fill = fill*6364136223846793005 + 1442695040888963407
					value[i] = byte(fill >> 56)
					if c.kind != Text && c.kind != Binary {
						value[i] = alphabet[int(value[i])%len(alphabet)]
					}
				}
				if c.kind.numeric() && size > 0 && rapid.IntRange(0, 20).Draw(t, "letter") == 0 {
					value[size/2] = 'A'
				}
				if c.kind == Text || c.kind == Binary {
					m.SetBytes(n, value)
				} else {
					m.SetText(n, value)
				}
				if err := o.BinaryField(n, value); err != nil {
					t.Fatal(err)
				}
			}
			ours, err := m.Append(nil)
			theirs, oracleErr := o.Pack()
			if (err == nil) != (oracleErr == nil) {
				t.Fatalf("table %v, moov %v", err, oracleErr)
			}
			if err == nil && !bytes.Equal(ours, theirs) {
				t.Fatalf("table %X\nmoov  %X", ours, theirs)
			}
		}))
	}
}

// The traps that compare allows for are there: when one is mended, compare can
// be stricter.
func TestKnownMoovDifferences(t *testing.T) {
	for _, c := range []struct{ name, hex, moovPacks string }{
		{"bytes behind the last field", "0820 0020000000000000 000001 FF", "0820 0020000000000000 000001"},
		{"an empty second bitmap", "0820 8020000000000000 0000000000000000 000001", "0820 0020000000000000 000001"},
		{"padding F", "0200 4000000000000000 03 123F", "0200 4000000000000000 03 1230"},
		{"padding on the left", "0200 0000040000000000 0012", "0200 0000040000000000 0120"},
		{"an empty third bitmap", "0820 8020000000000000 8000000000000000 0000000000000000 000001", "0820 0020000000000000 000001"},
	} {
		o, err := moov(UnionPayPOS, unhex(t, c.hex))
		if err != nil {
			t.Errorf("%s: moov refuses it: %v", c.name, errors.Unwrap(err))
			continue
		}
		packed, err := o.Pack()
		if err != nil || !bytes.Equal(packed, unhex(t, c.moovPacks)) {
			t.Errorf("%s: moov packs %X %v, want %s", c.name, packed, err, c.moovPacks)
		}
	}
}
