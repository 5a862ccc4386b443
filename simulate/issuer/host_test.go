package issuer

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// stranger is somebody on the line who has no key.
type stranger struct {
	t    testing.TB
	c    net.Conn
	host *Host
}

func newStranger(t testing.TB) *stranger {
	t.Helper()
	h, err := New(Config{Name: "north", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); h.ServeConn(theirs) }()
	t.Cleanup(func() {
		h.Close()
		<-done
		if err := ours.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stranger{t, ours, h}
}

func (s *stranger) send(m *spec.Message) {
	s.t.Helper()
	body, err := m.Append(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	frame, err := spec.AppendCUPSHeader(nil, spec.CUPSHeader{}, len(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.c.Write(append(frame, body...)); err != nil {
		s.t.Fatal(err)
	}
}

// read gives the reject code and the body of the next frame.
func (s *stranger) read() (string, []byte, error) {
	if err := s.c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", nil, io.EOF // a pipe whose other end has hung up says so here
	}
	head := make([]byte, spec.CUPSHeaderSize)
	if _, err := io.ReadFull(s.c, head); err != nil {
		return "", nil, err
	}
	h, total, err := spec.ParseCUPSHeader(head)
	if err != nil {
		s.t.Fatal(err)
	}
	body := make([]byte, total-spec.CUPSHeaderSize)
	_, err = io.ReadFull(s.c, body)
	return h.Reject, body, err
}

func (s *stranger) answer() *spec.Message {
	s.t.Helper()
	_, body, err := s.read()
	m := new(spec.Message)
	if err == nil {
		err = spec.CUPS.Parse(m, body)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func TestStrangerGetsNothing(t *testing.T) {
	s := newStranger(t)
	is, _ := simcard.IssuerNamed("north")
	var m spec.Message
	purchase := func(mac bool) {
		routing.BuildRequest(spec.CUPS, &m, &routing.Request{
			Processing: "000000", Amount: money.Yuan(1), STAN: 1, RRN: "000000000001", PAN: is.PAN(1), Sent: time.Now(),
			EntryMode: "012", Acquirer: "08980000", Terminal: "10000001", Merchant: "898110054110001",
		})
		if mac {
			m.SetBytes(128, []byte("00000000"))
		}
		s.send(&m)
		if a := s.answer(); a.Text(39) != "A0" || a.MTI() != 0x0210 || a.Has(128) {
			t.Errorf("answered %v %s", a.MTI(), a.Text(39))
		}
	}
	purchase(false)
	purchase(true)
	m.Reset(spec.CUPS, 0x0820)
	m.SetInt(7, 1123101010)
	m.SetInt(11, 5)
	m.SetInt(70, 301)
	s.send(&m)
	if a := s.answer(); a.MTI() != 0x0830 || a.Text(39) != "00" || a.Text(11) != "000005" {
		t.Errorf("echo: %v %s", a.MTI(), a.Text(39))
	}
	m.Unset(70)
	m.SetInt(70, 777)
	s.send(&m)
	if a := s.answer(); a.Text(39) != "40" {
		t.Errorf("unknown network management: %s", a.Text(39))
	}
	m.Unset(70)
	m.SetInt(70, 101)
	s.send(&m)
	if a := s.answer(); a.Text(39) != "30" {
		t.Errorf("a key request that names no key: %s", a.Text(39))
	}
	// what cannot be read comes back with a reject code
	frame, err := spec.AppendCUPSHeader(nil, spec.CUPSHeader{}, 6)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.c.Write(append(frame, "0200\x00\x00"...)); err != nil {
		t.Fatal(err)
	}
	if reject, body, err := s.read(); err != nil || reject == "00000" || string(body) != "0200\x00\x00" {
		t.Errorf("malformed: %q %q %v", reject, body, err)
	}
	if n := len(s.host.Books()); n != 0 {
		t.Errorf("%d entries in the books", n)
	}
	if _, err := s.c.Write(make([]byte, spec.CUPSHeaderSize)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.read(); err != io.EOF {
		t.Errorf("a wrong header: %v, want the line to end", err)
	}
}

// FuzzHost throws bytes at a host. It never panics, hangs or books anything.
func FuzzHost(f *testing.F) {
	header, err := spec.AppendCUPSHeader(nil, spec.CUPSHeader{}, 4)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(header, "0200"...))
	f.Add([]byte("\x2E\x020046"))
	f.Add([]byte{0xFF})
	h, err := New(Config{Name: "north", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); h.ServeConn(theirs) }()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_, _ = ours.Write(b)
		_ = ours.Close()
		<-done
		if n := len(h.Books()); n != 0 {
			t.Fatalf("%d entries after %x", n, b)
		}
	})
}
