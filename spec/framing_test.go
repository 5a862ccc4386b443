package spec

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// framed is a dialect with a framing of its own.
func framed(t testing.TB, framing string) *Dialect {
	t.Helper()
	d, err := ReadDialect("framed", []byte(strings.Replace(small, `{"length_bytes": 4, "length_encoding": "ascii"}`, framing, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Each framing reads what it writes, byte by byte too, and an answer goes back
// with source and destination exchanged.
func TestFramesOfDialects(t *testing.T) {
	for _, c := range []struct {
		framing, words, head, reply string
		header                      string
	}{
		{`{"length_bytes": 2, "length_encoding": "binary"}`, "length 2 binary", "001A", "001A", ""},
		{`{"length_bytes": 4, "length_encoding": "binary"}`, "length 4 binary", "0000001A", "0000001A", ""},
		{`{"length_bytes": 2, "length_encoding": "ascii"}`, "length 2 ASCII digits", "3236", "3236", ""},
		{`{"length_bytes": 4, "length_encoding": "ascii"}`, "length 4 ASCII digits", "30303236", "30303236", ""},
		{`{"length_bytes": 2, "length_encoding": "binary", "tpdu": true}`, "length 2 binary, TPDU 5", "001F6000030001", "001F6000010003", ""},
		{`{"length_bytes": 4, "length_encoding": "ascii", "header": 3}`, "length 4 ASCII digits, header 3", "30303239495344", "30303239495344", "495344"},
		{`{"length_bytes": 2, "length_encoding": "binary", "tpdu": true, "header": 3}`, "length 2 binary, TPDU 5, header 3", "00226000030001495344", "00226000010003495344", "495344"},
		{`"unionpay-pos"`, "length 2 binary, TPDU 5, header 6", "00256000030001603100311108", "00256000010003603103311108", "603100311108"},
	} {
		d := framed(t, c.framing)
		f := d.Framing()
		if f.String() != c.words {
			t.Errorf("%s is %q", c.framing, f.String())
		}
		var m Message
		m.Reset(d, 0x0200)
		m.Set(3, "000000")
		sent, err := d.AppendFrame([]byte("x"), [5]byte{0x60, 0, 3, 0, 1}, unhex(t, c.header), &m)
		if err != nil {
			t.Fatal(err)
		}
		body := "0200" + "2000000000000000" + "000000"
		if want := append(unhex(t, c.head), body...); !bytes.Equal(sent[1:], want) {
			t.Errorf("%s: sent %X, want %X", c.words, sent[1:], want)
		}
		if string(d.FrameBody(sent[1:])) != body {
			t.Errorf("%s: body %q", c.words, d.FrameBody(sent[1:]))
		}
		twice := append(bytes.Clone(sent[1:]), sent[1:]...)
		r := iotest.OneByteReader(bytes.NewReader(twice))
		frames := d.Frames()
		for range 2 {
			got, err := next(&frames, r, 4096)
			if err != nil {
				t.Fatal(c.words, err)
			}
			if string(got.Body) != body {
				t.Errorf("%s: read %q", c.words, got.Body)
			}
			var back Message
			if err := d.Parse(&back, got.Body); err != nil {
				t.Fatal(err)
			}
			reply, err := got.AppendReply(nil, DemandSignIn, &back)
			if want := append(unhex(t, c.reply), body...); err != nil || !bytes.Equal(reply, want) {
				t.Errorf("%s: replied %X, want %X: %v", c.words, reply, want, err)
			}
		}
		if _, err := next(&frames, r, 4096); err != io.EOF {
			t.Errorf("%s: at the end: %v", c.words, err)
		}
		// Cut anywhere inside, the frame is a cut one.
		for n := 1; n < len(sent)-1; n++ {
			frames := d.Frames()
			if _, err := next(&frames, bytes.NewReader(sent[1:1+n]), 4096); !errors.Is(err, ErrFrameCut) {
				t.Errorf("%s: cut after %d bytes: %v", c.words, n, err)
			}
		}
	}
}

func next(f *FrameReader, r io.Reader, most int) (POSFrame, error) {
	if err := f.Wait(r); err != nil {
		return POSFrame{}, err
	}
	n, err := f.Length(r, most)
	if err != nil {
		return POSFrame{}, err
	}
	return f.Body(r, make([]byte, n))
}

// A length is held against the limit before anything is read by it.
func TestFramingLimits(t *testing.T) {
	for _, c := range []struct{ framing, hex, want string }{
		{`{"length_bytes": 4, "length_encoding": "binary"}`, "7FFFFFFF", "frame of length 2147483647 at byte 0: want at most 4096 bytes, found 2147483647"},
		{`{"length_bytes": 4, "length_encoding": "binary"}`, "FFFFFFFF", "frame of length 4294967295 at byte 0: want at most 4096 bytes, found 4294967295"},
		{`{"length_bytes": 4, "length_encoding": "ascii"}`, "30303A39", "frame of length 0 at byte -2: want a length of decimal digits, found 3A"},
		{`{"length_bytes": 2, "length_encoding": "binary", "tpdu": true, "header": 3}`, "0007", "frame of length 7 at byte 0: want at least 8 bytes (length 2 binary, TPDU 5, header 3), found 7"},
	} {
		d := framed(t, c.framing)
		frames := d.Frames()
		_, err := next(&frames, bytes.NewReader(unhex(t, c.hex+"00000000")), 4096)
		var fe *FrameError
		if !errors.As(err, &fe) || err.Error() != c.want {
			t.Errorf("%s: %v", c.framing, err)
		}
	}
	var m Message
	d := framed(t, `{"length_bytes": 2, "length_encoding": "ascii"}`)
	m.Reset(d, 0x0200)
	m.Set(35, strings.Repeat("1", 37))
	m.Set(2, strings.Repeat("1", 19))
	m.Set(62, strings.Repeat("1", 20))
	m.SetBytes(64, make([]byte, 8))
	if _, err := d.AppendFrame(nil, [5]byte{}, nil, &m); err == nil || !strings.Contains(err.Error(), "want at most 99 bytes") {
		t.Errorf("two digits tell the length of 112 bytes: %v", err)
	}
	if _, err := d.AppendFrame(nil, [5]byte{}, []byte{1}, &m); err == nil {
		t.Error("a header where there is none")
	}
}

func TestFramesDoNotAllocate(t *testing.T) {
	for _, name := range []string{"unionpay-pos", "iso87-ascii", "iso87-bcd"} {
		m, d := checkedSale(t, name)
		f := d.Framing()
		sent, err := d.AppendFrame(nil, [5]byte{0x60, 0, 3}, make([]byte, f.Header), m)
		if err != nil {
			t.Fatal(err)
		}
		in, out, buf := bytes.NewReader(sent), make([]byte, 0, 2*len(sent)), make([]byte, len(sent))
		frames := d.Frames()
		var back Message
		if n := testing.AllocsPerRun(100, func() {
			in.Reset(sent)
			if err := frames.Wait(in); err != nil {
				t.Fatal(err)
			}
			n, err := frames.Length(in, 4096)
			if err != nil {
				t.Fatal(err)
			}
			got, err := frames.Body(in, buf[:n])
			if err == nil {
				err = d.Parse(&back, got.Body)
			}
			if err == nil {
				_, err = got.AppendReply(out, DemandNothing, &back)
			}
			if err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
