package switching_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

// journalOf is what the journal has of one terminal, the oldest first.
func (s *street) journalOf(tid string) []*journal.Entry {
	s.t.Helper()
	all, err := s.journal.Last(context.Background(), 1_000_000)
	must(s.t, err)
	var of []*journal.Entry
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Terminal == tid {
			of = append(of, all[i])
		}
	}
	return of
}

// echoes compares what an answer must repeat of its request.
func echoes(t *testing.T, what string, answer, request *spec.Message) {
	t.Helper()
	if answer.MTI() != request.MTI().Response() {
		t.Errorf("%s: answered with a %s, want %s", what, answer.MTI(), request.MTI().Response())
	}
	for _, n := range []int{3, 4, 11, 41, 42} {
		if request.Has(n) && !bytes.Equal(answer.Bytes(n), request.Bytes(n)) {
			t.Errorf("%s: DE %d of the answer is %q, the request's %q", what, n, answer.Text(n), request.Text(n))
		}
	}
}

// TestFramesOfEveryLength: a length that cannot be is refused on its two bytes,
// before anything of it is read; one that can is read up to the last byte.
func TestFramesOfEveryLength(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	end := s.undisturbed(t, 7)
	d := s.device(t, 4)
	const limit = 4096 // MaxFrame of the test house

	for _, n := range []uint16{0, 1, 10, limit + 1, 65535} {
		w := s.wire(t)
		w.send(binary.BigEndian.AppendUint16(nil, n)) // not one byte behind it
		w.closed()
	}
	// TPDU and header and nothing behind them; a type that is cut; one that is none.
	for _, body := range []string{"", "\x02", "\x02\x0A", "\xF2\x00"} {
		w := s.wire(t)
		frame := append([]byte{0, byte(11 + len(body))}, "\x60\x00\x03\x00\x00\x60\x31\x00\x31\x11\x08"+body...)
		w.send(frame)
		w.closed()
	}

	// A sale of exactly the limit sells.
	m := d.sale(money.Yuan(7), pan(t, "north", 1))
	m.Set(47, strings.Repeat("A", 999))
	m.Set(54, strings.Repeat("A", 300))
	m.Set(62, strings.Repeat("41", 999))
	m.Set(63, strings.Repeat("A", 999))
	short := limit + 2 - len(d.frame(t, m))
	m.Set(46, strings.Repeat("A", short-2)) // two bytes are its length
	frame := d.frame(t, m)
	if len(frame) != limit+2 {
		t.Fatalf("a frame of %d bytes", len(frame)-2)
	}
	w := s.wire(t)
	if a := w.ask(frame); a.Text(39) != "00" || !d.signed(a) {
		t.Errorf("a sale of %d bytes was answered %q", limit, a.Text(39))
	}
	end()
	s.balanced()
}

// TestMalformedMessages: what cannot be read has no effect and is answered 30
// as far as it says to whom, on a connection that goes on.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	end := s.undisturbed(t, 7)
	d := s.device(t, 4)
	w := s.wire(t)
	packed := func() (*spec.Message, []byte) {
		m := d.sale(money.Yuan(8), pan(t, "north", 2))
		return m, d.frame(t, m)
	}
	const body = 13 // where the MTI stands in a frame

	t.Run("trailing bytes", func(t *testing.T) {
		for _, more := range []int{1, 7, 8, 9, 200} {
			m, frame := packed()
			frame = append(frame, make([]byte, more)...)
			binary.BigEndian.PutUint16(frame, uint16(len(frame)-2))
			a := w.ask(frame)
			echoes(t, fmt.Sprint(more, " more bytes"), a, m)
			if a.Text(39) != "30" {
				t.Errorf("%d more bytes were answered %s", more, a.Text(39))
			}
		}
	})

	// Every bit that the bitmap does not have, set: a field is announced that
	// is not there, so that what follows is read as another.
	t.Run("fields that are not there", func(t *testing.T) {
		for n := 2; n <= 64; n++ {
			m, frame := packed()
			if m.Has(n) {
				continue
			}
			frame[body+2+(n-1)/8] |= 0x80 >> ((n - 1) % 8)
			d.sign(frame)
			if a := w.ask(frame); a.MTI() != 0x0210 || a.Text(39) == "00" {
				t.Errorf("DE %d announced: answered %s %q", n, a.MTI(), a.Text(39))
			}
		}
		for _, bits := range []string{"\xff\xff\xff\xff\xff\xff\xff\xff", "\x7f\xff\xff\xff\xff\xff\xff\xff", "\x80\x00\x00\x00\x00\x00\x00\x00"} {
			_, frame := packed()
			copy(frame[body+2:], bits)
			d.sign(frame)
			if a := w.ask(frame); a.MTI() != 0x0210 || a.Text(39) == "00" {
				t.Errorf("bitmap %X: answered %s %q", bits, a.MTI(), a.Text(39))
			}
		}
		m, frame := packed()
		for cut := len(frame) - 1; cut > body+2; cut-- { // the message ends anywhere
			short := frame[:cut]
			binary.BigEndian.PutUint16(short, uint16(cut-2))
			a := w.ask(short)
			if a.MTI() != 0x0210 || a.Text(39) != "30" || a.Has(11) && a.Text(11) != m.Text(11) {
				t.Fatalf("cut at %d: answered %s %q", cut, a.MTI(), a.Text(39))
			}
		}
	})

	// A nibble A to F at every place of every numeric field, under a right MAC.
	t.Run("nibbles that are no digits", func(t *testing.T) {
		for _, n := range []int{2, 3, 4, 5, 7, 11, 12, 13, 14, 15, 18, 22, 23, 25, 26, 32, 48, 53, 60, 61} {
			full := d.sale(money.Yuan(8), pan(t, "north", 2))
			full.Set(48, "1234")
			full.Set(53, "0000000000000000")
			full.Set(61, "000001000001")
			full.Set(32, "48020000")
			for k, v := range map[int]string{5: "000000000001", 7: "0101010101", 12: "010101", 13: "0101", 15: "0101", 18: "5411", 23: "001", 26: "12"} {
				full.Set(k, v)
			}
			until := clone(full) // the fields before DE n, to find where it lies
			for k := n; k <= 64; k++ {
				until.Unset(k)
			}
			head, err := until.Append(nil)
			must(t, err)
			at := body + len(head)
			switch n {
			case 2, 32:
				at++ // behind its length
			case 48, 60, 61:
				at += 2
			}
			for i := range full.Len(n) {
				for nibble := byte(0xA); nibble <= 0xF; nibble++ {
					full.SetInt(11, int64(d.next()))
					frame := d.frame(t, full)
					place, shift := at+i/2, uint(4*(1-i%2))
					if n == 23 { // padded on the left
						place, shift = at+(i+1)/2, uint(4*(i%2))
					}
					frame[place] = frame[place]&^(0xF<<shift) | nibble<<shift
					d.sign(frame)
					a := w.ask(frame)
					if a.Text(39) != "30" || a.MTI() != 0x0210 || n > 11 && !bytes.Equal(a.Bytes(11), full.Bytes(11)) {
						t.Fatalf("DE %d, digit %d is %X: answered %s %q with DE 11 %q", n, i, nibble, a.MTI(), a.Text(39), a.Text(11))
					}
				}
			}
		}
	})

	t.Run("wrong messages", func(t *testing.T) {
		for _, c := range []struct {
			what, rc string
			change   func(*spec.Message)
		}{
			{"an unknown type", "12", func(m *spec.Message) { m.SetMTI(0x0900) }},
			{"a repeat's type", "12", func(m *spec.Message) { m.SetMTI(0x0201) }},
			{"a type of another version", "12", func(m *spec.Message) { m.SetMTI(0x1200) }},
			{"an unknown processing code", "12", func(m *spec.Message) { m.Set(3, "990000") }},
			{"no processing code", "12", func(m *spec.Message) { m.Unset(3) }},
			{"no DE 60", "30", func(m *spec.Message) { m.Unset(60) }},
			{"DE 60 of seven digits", "30", func(m *spec.Message) { m.Set(60, "2200000") }},
			{"empty DE 60", "30", func(m *spec.Message) { m.Set(60, "") }},
			{"a foreign 60.1", "12", func(m *spec.Message) { m.Set(60, "9900000100060") }},
			{"no DE 11", "30", func(m *spec.Message) { m.Unset(11) }},
			{"DE 11 of zeros", "30", func(m *spec.Message) { m.Set(11, "000000") }},
			{"no terminal", "97", func(m *spec.Message) { m.Unset(41) }},
			{"nobody's terminal", "97", func(m *spec.Message) { m.Set(41, "ZZZZZZZZ") }},
			{"a DE 55 that is no TLV", "30", func(m *spec.Message) { m.Set(22, "052"); m.Set(55, "9F26FF00") }},
			{"an empty track", "14", func(m *spec.Message) { m.Set(22, "022"); m.Set(35, "") }},
			{"a track of separators", "14", func(m *spec.Message) { m.Set(22, "022"); m.Set(35, strings.Repeat("=", 37)) }},
		} {
			m := d.sale(money.Yuan(8), pan(t, "north", 2))
			c.change(m)
			a := w.ask(d.frame(t, m))
			echoes(t, c.what, a, m)
			if a.Text(39) != c.rc {
				t.Errorf("%s: answered %q, want %s", c.what, a.Text(39), c.rc)
			}
		}
		for _, mti := range []spec.MTI{0x0210, 0x0410, 0x0810} {
			m := d.sale(money.Yuan(8), pan(t, "north", 2))
			m.SetMTI(mti)
			answers := s.wire(t)
			answers.send(d.frame(t, m))
			answers.closed()
		}
	})

	end()
	for _, e := range s.journalOf(d.tid) {
		if e.State() != journal.StateDeclined || e.Issuer != "" {
			t.Errorf("the journal has %s %s: %s to %q", e.Kind, e.Amount, e.State(), e.Issuer)
		}
	}
	if n := len(s.issuers["north"].Books()); n > 0 {
		t.Errorf("%d messages reached the issuer", n)
	}
	a := w.ask(d.frame(t, d.sale(money.Yuan(8), pan(t, "north", 2))))
	if a.Text(39) != "00" {
		t.Errorf("a good sale behind it all was answered %s", a.Text(39))
	}
	s.balanced()
}

// TestSegments: frames are told apart by their lengths, however the bytes come.
func TestSegments(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	end := s.undisturbed(t, 7)
	d := s.device(t, 4)
	line := s.listenPipes(t).dial(t) // a write is a read of its own
	north := pan(t, "north", 3)
	approved := func(what string, want *spec.Message) {
		t.Helper()
		a := line.answer()
		echoes(t, what, a, want)
		if a.Text(39) != "00" {
			t.Errorf("%s: answered %s", what, a.Text(39))
		}
	}

	length := len(d.frame(t, d.sale(money.Yuan(9), north)))
	for at := 1; at < length; at++ {
		m := d.sale(money.Yuan(9), north)
		frame := d.frame(t, m)
		line.send(frame[:at])
		line.send(frame[at:])
		approved(fmt.Sprint("split at ", at), m)
	}
	m := d.sale(money.Yuan(9), north)
	for _, b := range d.frame(t, m) {
		line.send([]byte{b})
	}
	approved("byte by byte", m)

	// Three in one segment, and half a fourth, are answered in their order.
	tcp := s.wire(t)
	var segment []byte
	var asked []*spec.Message
	for range 4 {
		m := d.sale(money.Yuan(9), north)
		asked = append(asked, m)
		segment = append(segment, d.frame(t, m)...)
	}
	tcp.send(segment[:len(segment)-20])
	for i, m := range asked {
		if i == 3 {
			tcp.send(segment[len(segment)-20:])
		}
		a := tcp.answer()
		echoes(t, fmt.Sprint("number ", i), a, m)
		if a.Text(39) != "00" {
			t.Errorf("number %d of a segment: answered %s", i, a.Text(39))
		}
	}
	end()
	s.balanced()
}

// TestExtraBlock: the FD block of the TLS front is stepped over, and not sent
// back; one that does not fit its frame ends the connection.
func TestExtraBlock(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	with := func(block string) []byte {
		frame := d.frame(t, d.sale(money.Yuan(3), pan(t, "north", 4)))
		frame = append(frame[:7:7], block+string(frame[7:])...) // behind length and TPDU
		binary.BigEndian.PutUint16(frame, uint16(len(frame)-2))
		return frame
	}
	w := s.wire(t)
	for _, block := range []string{"\xFD\x00\x00", "\xFD\x00\x05hello", "\xFD\x01\x2C" + strings.Repeat("x", 300)} {
		if a := w.ask(with(block)); a.Text(39) != "00" || !d.signed(a) {
			t.Errorf("with an FD block of %d bytes: answered %q", len(block)-3, a.Text(39))
		}
		if w.body[5] == 0xFD { // behind the TPDU of the answer
			t.Error("the FD block was sent back")
		}
	}
	for _, block := range []string{"\xFD\xFF\xFF", "\xFD\x01\x00"} {
		bad := s.wire(t)
		bad.send(with(block))
		bad.closed()
	}
	s.balanced()
}

// TestSlowAndSilent: who sends a byte now and then is cut off at the end of
// the frame's time, who says nothing at the end of the idle time; others sell.
func TestSlowAndSilent(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withConfig(func(c *switching.Config) { c.FrameTimeout, c.IdleTimeout = 300*time.Millisecond, 2*time.Second }))
	end := s.undisturbed(t, 7)
	d := s.device(t, 4)

	silent, mute := s.wire(t), s.wire(t)
	half := s.wire(t)
	half.send([]byte{0})
	stuck := s.wire(t)
	stuck.send(d.frame(t, d.sale(money.Yuan(3), pan(t, "north", 4)))[:40])

	slow := s.wire(t)
	frame := d.frame(t, d.sale(money.Yuan(3), pan(t, "north", 4)))
	drip := time.NewTicker(20 * time.Millisecond) // the whole frame would take seconds
	defer drip.Stop()
	sent := 0
	for _, b := range frame {
		if slow.trySend([]byte{b}) != nil {
			break
		}
		sent++
		<-drip.C
	}
	if sent == len(frame) {
		t.Errorf("all %d bytes of a slow frame were taken", sent)
	}
	slow.drained()
	half.closed()
	stuck.closed()
	silent.closed()
	// Idle begins anew with every answer: one that spoke is still there.
	mute.closed()
	if got := s.metric("acquirer_terminal_closed_total", "deadline"); got < 5 {
		t.Errorf("%v connections ended by a deadline, want 5", got)
	}
	if got := s.journalOf(d.tid); len(got) > 0 {
		t.Errorf("a frame that never came whole is in the journal: %v", got)
	}
	end()
}

// TestConnectionLimit: one connection too many is closed at once, and those
// that stand go on.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withConfig(func(c *switching.Config) { c.MaxConnections = 4 }))
	end := s.undisturbed(t, 7)
	d := s.device(t, 4) // and its connection stands until the test ends
	second, third := s.wire(t), s.wire(t)
	echo := func(w *wire) {
		t.Helper()
		m := &spec.Message{}
		m.Reset(spec.UnionPayPOS, 0x0820)
		m.SetInt(11, int64(d.next()))
		m.Set(41, d.tid)
		m.Set(42, d.mid)
		m.Set(60, "00000001301")
		if a := w.ask(d.frame(t, m)); a.Text(39) != "00" {
			t.Errorf("echo answered %s", a.Text(39))
		}
	}
	echo(second)
	echo(third)
	for range 3 {
		s.wire(t).closed()
	}
	if got := s.metric("acquirer_terminal_refused_total", "full"); got != 3 {
		t.Errorf("%v connections counted as refused, want 3", got)
	}
	echo(second)
	echo(third)
	must(t, third.conn.Close())
	await(t, "a place is free again", func() bool { return s.sw.Connections() == 3 })
	echo(s.wire(t))
	end()
}

// TestTLS: with a certificate the house speaks TLS and nothing else.
func TestTLS(t *testing.T) {
	t.Parallel()
	certificate, pool := selfMade(t)
	s := newStreet(t, withConfig(func(c *switching.Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		c.IdleTimeout = 2 * time.Second
	}))
	over := &tls.Config{RootCAs: pool, ServerName: "switch.test"}
	ctx := context.Background()
	term := s.terminal(4, func(c *terminal.Config) { c.Dial = terminal.DialTCP(s.addr, over) })
	must(t, term.SignIn(ctx))
	c := chipCard(t, "north", 5)
	sell := func() {
		t.Helper()
		if res, err := term.Sale(ctx, terminal.Sale{Amount: money.Yuan(6), Card: c, PIN: c.PIN}); err != nil || res.Code != "00" {
			t.Errorf("a sale over TLS: %q, %v", res.Code, err)
		}
	}
	sell()

	plain := s.wire(t)
	d := &device{tid: "10000005", mid: "898110054110002", batch: 1}
	plain.send(d.frame(t, d.signInRequest()))
	plain.drained() // an alert at most
	silent := s.wire(t)
	sell()
	silent.closed() // at the end of the idle time
	must(t, term.Close())
	sell()
	s.balanced()
}

// selfMade is a certificate for switch.test, and a pool that trusts it.
func selfMade(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "switch.test"}, DNSNames: []string{"switch.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
