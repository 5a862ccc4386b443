package spec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func signInFrame(t testing.TB) []byte {
	return unhex(t, "003C600401000060310031000108000020000000C00012000029363239363930303233303133313030343839393030303100110000013200300003303031")
}

// readAll reads frames until an error, in the given way.
type frameSource func(r io.Reader, max int) (POSFrame, error)

func sources() map[string]func() frameSource {
	return map[string]func() frameSource{
		"at once": func() frameSource {
			var buf []byte
			return func(r io.Reader, max int) (f POSFrame, err error) {
				f, buf, err = ReadPOSFrame(r, buf, max)
				return f, err
			}
		},
		"in steps": func() frameSource {
			var fr FrameReader
			return func(r io.Reader, max int) (POSFrame, error) {
				if err := fr.Wait(r); err != nil {
					return POSFrame{}, err
				}
				n, err := fr.Length(r, max)
				if err != nil {
					return POSFrame{}, err
				}
				return fr.Body(r, make([]byte, n))
			}
		},
	}
}

// Frame lengths at and beyond their limits.
func TestFrameLengths(t *testing.T) {
	const most = 2048
	frame := func(length, follow int) []byte {
		return append([]byte{byte(length >> 8), byte(length)}, make([]byte, follow)...)
	}
	for name, source := range sources() {
		for _, c := range []struct {
			name string
			raw  []byte
			want error // nil: a frame; a *FrameError of that length
		}{
			{"0", frame(0, 0), &FrameError{Length: 0}},
			{"1", frame(1, 1), &FrameError{Length: 1}},
			{"10", frame(10, 10), &FrameError{Length: 10}},
			{"11", frame(11, 11), nil},
			{"cap", frame(most, most), nil},
			{"cap + 1", frame(most+1, most+1), &FrameError{Length: most + 1}},
			{"65535", frame(65535, 65535), &FrameError{Length: 65535}},
			{"nothing", nil, io.EOF},
			{"half a length", []byte{0}, ErrFrameCut},
			{"length alone", frame(100, 0), ErrFrameCut},
			{"cut", frame(100, 99), ErrFrameCut},
			{"broken FD block", append(frame(20, 5), 0xFD, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), &FrameError{Length: 20}},
			{"FD block up to the header", append(frame(20, 5), 0xFD, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), nil},
			{"FD block one too long", append(frame(20, 5), 0xFD, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), &FrameError{Length: 20}},
		} {
			_, err := source()(bytes.NewReader(c.raw), most)
			var got, want *FrameError
			switch {
			case errors.As(c.want, &want):
				if !errors.As(err, &got) || got.Length != want.Length {
					t.Errorf("%s, %s: %v, want a FrameError of length %d", name, c.name, err, want.Length)
				}
			case err != c.want:
				t.Errorf("%s, %s: %v, want %v", name, c.name, err, c.want)
			}
		}
	}
}

// The buffer does not grow for a length that is refused.
func TestFrameCapBeforeAllocation(t *testing.T) {
	for _, buf := range [][]byte{nil, make([]byte, 2), make([]byte, 300)} {
		f, b, err := ReadPOSFrame(bytes.NewReader([]byte{0xFF, 0xFF}), buf, 4096)
		if err == nil || f.Body != nil || cap(b) > max(2, cap(buf)) {
			t.Fatalf("%v, buffer of %d", err, cap(b))
		}
	}
}

// Two frames in one segment, one split at every byte, one byte at a time: the
// same frames come out.
func TestFrameSegments(t *testing.T) {
	one := signInFrame(t)
	fd := unhex(t, "0042 6000100000 FD0003AABBCC 603200310001 08000020000000C00012000029363239363930303233303133313030343839393030303100110000013200300003303031")
	both := append(bytes.Clone(one), fd...)
	for name, source := range sources() {
		check := func(how string, r io.Reader) {
			t.Helper()
			next := source()
			for i, want := range [][]byte{one[13:], fd[19:]} {
				f, err := next(r, 4096)
				if err != nil || !bytes.Equal(f.Body, want) {
					t.Fatalf("%s, %s: frame %d: %X %v", name, how, i, f.Body, err)
				}
				if (f.Extra != nil) != (i == 1) || i == 1 && hex.EncodeToString(f.Extra) != "fd0003aabbcc" {
					t.Fatalf("%s, %s: FD block %X", name, how, f.Extra)
				}
				var m Message
				if err := UnionPayPOS.Parse(&m, f.Body); err != nil || m.Text(41) != "62969002" {
					t.Fatalf("%s, %s: %v", name, how, err)
				}
			}
			if _, err := next(r, 4096); err != io.EOF {
				t.Fatalf("%s, %s: at the end %v", name, how, err)
			}
		}
		check("one segment", bytes.NewReader(both))
		check("byte by byte", iotest.OneByteReader(bytes.NewReader(both)))
		check("data with the end", iotest.DataErrReader(bytes.NewReader(both)))
		for i := 1; i < len(both); i++ {
			check("split", io.MultiReader(bytes.NewReader(both[:i]), bytes.NewReader(both[i:])))
		}
	}
}

// A deadline or another failure of the connection is told as it is.
func TestFrameErrorsPass(t *testing.T) {
	broken := errors.New("broken")
	raw := signInFrame(t)
	for name, source := range sources() {
		for _, n := range []int{0, 1, 2, 30} {
			r := io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken))
			if _, err := source()(r, 4096); !errors.Is(err, broken) {
				t.Errorf("%s, after %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestReplyAndRequest(t *testing.T) {
	var m Message
	m.Reset(UnionPayPOS, 0x0810)
	m.SetInt(11, 29)
	m.Set(39, "00")
	f := POSFrame{TPDU: [5]byte{0x60, 0x00, 0x06, 0x11, 0x02}, Header: [6]byte{0x60, 0x31, 0x40, 0x31, 0x10, 0x08}}
	got, err := f.AppendReply([]byte("x"), DemandSignIn, &m)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "78 001A 6011020006 603143311008 0810 0020000002000000 000029 3030")
	if !bytes.Equal(got, want) {
		t.Errorf("got %X\nwant %X", got, want)
	}
	if !bytes.Equal(FrameBody(got[1:]), want[14:]) || len(FrameBody(nil)) != 0 {
		t.Errorf("FrameBody %X", FrameBody(got[1:]))
	}
	got, err = AppendRequest(nil, f.TPDU, f.Header, &m)
	if err != nil || !bytes.Equal(got, unhex(t, "001A 6000061102 603140311008 0810 0020000002000000 000029 3030")) {
		t.Errorf("request %X %v", got, err)
	}
	m.Set(39, "000")
	if got, err = f.AppendReply([]byte("x"), 0, &m); err == nil || string(got) != "x" {
		t.Errorf("a reply of a wrong message: %q %v", got, err)
	}
	m.Reset(UnionPayPOS, 0x0810)
	for n := 105; n <= 127; n++ {
		m.SetBytes(n, make([]byte, 999))
	}
	for n := 54; n <= 63; n++ {
		if n != 60 && n != 61 {
			m.SetBytes(n, make([]byte, 999))
		}
	}
	for _, n := range []int{43, 46, 47, 104} {
		m.SetBytes(n, make([]byte, 40))
	}
	if _, err := f.AppendReply(nil, 0, &m); err != nil {
		t.Errorf("a reply of 30 kilobytes: %v", err)
	}
	buf := make([]byte, 0, 4096)
	m.Reset(UnionPayPOS, 0x0810)
	if a := testing.AllocsPerRun(100, func() { buf, _ = f.AppendReply(buf[:0], 0, &m) }); a != 0 {
		t.Errorf("AppendReply: %v allocations", a)
	}
	r, raw := bytes.NewReader(nil), signInFrame(t)
	if a := testing.AllocsPerRun(100, func() { r.Reset(raw); _, buf, _ = ReadPOSFrame(r, buf, 4096) }); a != 0 {
		t.Errorf("ReadPOSFrame: %v allocations", a)
	}
}

func TestCUPSHeader(t *testing.T) {
	raw := unhex(t, "2E023034303730333035303030312020203030303130303030202020414139013030303030303030003030303030")
	h, total, err := ParseCUPSHeader(raw)
	want := CUPSHeader{Version: 2, Destination: "03050001", Source: "00010000", Reserved: "AA9", Batch: 1, Transaction: "00000000", Reject: "00000"}
	if err != nil || total != 407 || h != want {
		t.Fatalf("%+v %d %v", h, total, err)
	}
	back, err := AppendCUPSHeader(nil, h, 407-CUPSHeaderSize)
	if err != nil || !bytes.Equal(back, raw) {
		t.Errorf("%X %v", back, err)
	}
	if n, err := CUPSLength(raw[:6]); n != 407 || err != nil {
		t.Error(n, err)
	}
	if back, err = AppendCUPSHeader(nil, CUPSHeader{}, 0); err != nil || len(back) != CUPSHeaderSize || string(back[2:6]) != "0046" || back[1] != 2 {
		t.Errorf("%X %v", back, err)
	}
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
	}{
		{"short", func(b []byte) []byte { return b[:5] }},
		{"cut", func(b []byte) []byte { return b[:45] }},
		{"another length byte", func(b []byte) []byte { b[0] = 0x2F; return b }},
		{"letters", func(b []byte) []byte { b[5] = 'A'; return b }},
		{"too small", func(b []byte) []byte { copy(b[2:], "0045"); return b }},
	} {
		var e *HeaderError
		if _, _, err := ParseCUPSHeader(c.edit(bytes.Clone(raw))); !errors.As(err, &e) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := AppendCUPSHeader(nil, CUPSHeader{Destination: "123456789012"}, 0); err == nil {
		t.Error("a destination of 12 characters")
	}
	if _, err := AppendCUPSHeader(nil, CUPSHeader{}, 9999); err == nil {
		t.Error("a total length of five digits")
	}
}

// FuzzFrame: what comes in is a frame or an error, the same in both ways of
// reading, and never more than the cap.
func FuzzFrame(f *testing.F) {
	for _, c := range captures(f) {
		f.Add(c.raw)
	}
	f.Add([]byte{0, 0})
	f.Add([]byte{0xFF, 0xFF, 0x60})
	f.Add(unhex(f, "0014 6000100000 FDFFFF 000000000000000000000000"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const most = 512
		ways := sources()
		a, aErr := ways["at once"]()(bytes.NewReader(raw), most)
		b, bErr := ways["in steps"]()(iotest.OneByteReader(bytes.NewReader(raw)), most)
		if (aErr == nil) != (bErr == nil) || !bytes.Equal(a.Body, b.Body) || !bytes.Equal(a.Extra, b.Extra) || a.TPDU != b.TPDU || a.Header != b.Header {
			t.Fatalf("%v %v", aErr, bErr)
		}
		if aErr == nil && len(a.Body)+len(a.Extra)+minFrame > most {
			t.Fatal("more than the cap")
		}
		if c, err := ReadCapture(raw, nil); err == nil {
			c.Framing()
			if back, err := c.Append(nil); err != nil || !bytes.Equal(back, raw) {
				t.Fatalf("%X comes back as %X %v", raw, back, err)
			}
		}
	})
}
