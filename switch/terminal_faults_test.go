package switching_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/simulate/issuer"
	switching "acquirer/switch"
)

// The terminals' faults that are about bytes and connections, not about
// transactions; see faults_test.go.

// Fault 1: the connection ends after any number of a frame's bytes. Nothing of
// it is journaled and nobody is asked.
func TestFault1_CutAtEveryByte(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	frame := d.frame(t, d.sale(money.Yuan(9), pan(t, "north", 21)))
	cut := s.metric("acquirer_terminal_closed_total", "cut_frame")
	for n := 1; n < len(frame); n++ {
		w := s.wire(t)
		w.send(frame[:n])
		must(t, w.conn.Close())
	}
	await(t, "every cut is seen", func() bool {
		return s.metric("acquirer_terminal_closed_total", "cut_frame") >= cut+float64(len(frame)-1)
	})
	if got := s.journalOf(d.tid); len(got) > 0 {
		t.Errorf("frames that never came whole left %d rows", len(got))
	}
	if n := len(s.issuers["north"].Books()); n > 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
	if rc := s.wire(t).ask(frame).Text(39); rc != "00" {
		t.Errorf("the whole frame is answered %s", rc)
	}
	s.balanced()
}

// Fault 5: a peer that dials and does not shake hands is gone at the end of the
// frame deadline, long before the idle deadline, and holds up nobody.
func TestFault5_HandshakeStalls(t *testing.T) {
	t.Parallel()
	certificate, pool := selfMade(t)
	s := newStreet(t, withConfig(func(c *switching.Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		c.FrameTimeout, c.IdleTimeout = 300*time.Millisecond, time.Hour
	}))
	var stalled []*wire
	for i := range 20 {
		w := s.wire(t)
		if i%2 == 1 {
			w.send([]byte{22, 3, 1, 2, 0, 1}) // the beginning of a ClientHello of 512 bytes
		}
		stalled = append(stalled, w)
	}
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, ServerName: "switch.test"})
	must(t, err)
	w := s.onto(t, conn)
	d := &device{tid: "10000005", mid: "898110054110002", batch: 1}
	d.signIn(t, w)
	for _, w := range stalled {
		w.drained() // an alert at most, then the end
	}
	if rc := w.ask(d.frame(t, d.sale(money.Yuan(7), pan(t, "north", 22)))).Text(39); rc != "00" {
		t.Errorf("a sale beside stalled handshakes is answered %s", rc)
	}
}

// Fault 20: many terminals lose their lines and come back at once. All of them
// are served, and nobody's sale is lost. (cmd/acquirer load tries thousands.)
func TestFault20_AllComeBackAtOnce(t *testing.T) {
	t.Parallel()
	const terminals, lines = 8, 50 // of each
	s := newStreet(t, withTerminals(terminals), withConfig(func(c *switching.Config) { c.MaxConnections = 2 * terminals * lines }))
	errs := make(chan error, terminals)
	for i := range terminals {
		d := s.device(t, i)
		var frames [][]byte
		for k := range lines {
			frames = append(frames, d.frame(t, d.sale(money.Yuan(int64(5+k)), pan(t, "north", 100*i+k))))
		}
		go func() {
			var open []net.Conn
			var err error
			for _, frame := range frames { // all dial and ask before any hears
				var conn net.Conn
				if conn, err = net.Dial("tcp", s.addr); err != nil {
					break
				}
				open = append(open, conn)
				if _, err = conn.Write(frame); err != nil {
					break
				}
			}
			for _, conn := range open {
				if err == nil {
					w := &wire{t: t, conn: conn, told: &s.told}
					var frame []byte
					if _, e := w.receive(); e != nil {
						err = fmt.Errorf("line of terminal %d: %w", i, e)
					} else if frame = w.body; len(frame) == 0 {
						err = fmt.Errorf("line of terminal %d: an empty answer", i)
					}
				}
				if e := conn.Close(); err == nil {
					err = e
				}
			}
			errs <- err
		}()
	}
	for range terminals {
		must(t, <-errs)
	}
	if n := s.states("north")[issuer.Approved]; n != terminals*lines {
		t.Errorf("%d of %d sales were approved", n, terminals*lines)
	}
	s.lawful()
}
