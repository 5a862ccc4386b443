package payshield

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// dial opens a connection that ends with the test.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the other side may have closed it
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPipelining: many commands in one write are answered in their order.
func TestPipelining(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{HeaderLength: 4})
	c := dial(t, addr)
	var out []byte
	var err error
	const n = 500
	for i := range n {
		if out, err = appendFrame(out, fmt.Appendf(nil, "%04d", i), fmt.Appendf(nil, "B20003%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _, _ = c.Write(out) }()
	r := bufio.NewReader(c)
	for i := range n {
		frame, err := readFrame(r, nil)
		if want := fmt.Sprintf("%04dB300%03d", i, i); err != nil || string(frame) != want {
			t.Fatalf("answer %d is %q, %v, want %q", i, frame, err, want)
		}
	}
}

// TestHeaders: any length of header comes back untouched, and a message that
// is shorter than it is answered.
func TestHeaders(t *testing.T) {
	for _, n := range []int{0, 1, 12, MaxHeader} {
		addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{HeaderLength: n})
		c := dial(t, addr)
		r := bufio.NewReader(c)
		header := strings.Repeat("\xFFh\x00", n)[:n]
		for _, m := range []struct{ in, out string }{
			{header + "B20002hi", header + "B300hi"},
			{header, header + "ZZ51"},
			{header[:n/2], header[:n/2] + "ZZ51"},
			{header + "B2", header + "B315"},
		} {
			frame, err := appendFrame(nil, []byte(m.in))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range frame { // one byte at a time
				if _, err := c.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := readFrame(r, nil)
			if err != nil || string(got) != m.out {
				t.Errorf("header of %d: %q is answered by %q, %v, want %q", n, m.in, got, err, m.out)
			}
		}
	}
	for _, n := range []int{-1, MaxHeader + 1} {
		if _, err := NewServer(NewDevice(TestLMK(), false), ServerConfig{HeaderLength: n}); err == nil {
			t.Errorf("a header of %d is taken", n)
		}
	}
}

// TestChainHeaders: subcommands of NK carry headers of the device's length.
func TestChainHeaders(t *testing.T) {
	d := NewDevice(TestLMK(), false)
	if _, err := NewServer(d, ServerConfig{HeaderLength: 4}); err != nil {
		t.Fatal(err)
	}
	answers(t, d, "NK1010012abcdB20002hi", "NL00010010abcdB300hi")
	answers(t, d, "NK1010003abc", "NL51")
}

// TestTooManyConnections: one more than may be is closed, and there is room
// again when one has gone.
func TestTooManyConnections(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{MaxConnections: 2})
	ask := func(c net.Conn) error {
		if _, err := c.Write([]byte("\x00\x08B20002hi")); err != nil {
			return err
		}
		_, err := readFrame(bufio.NewReader(c), nil)
		return err
	}
	one, two := dial(t, addr), dial(t, addr)
	for _, c := range []net.Conn{one, two} {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(dial(t, addr)); err == nil {
		t.Fatal("a third connection is served")
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for ask(dial(t, addr)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("there is no room after one has gone")
		}
	}
}

// TestQuietConnections: silence ends a connection, in the middle of a command
// too, and stopping ends all of them at once.
func TestQuietConnections(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{IdleTimeout: 50 * time.Millisecond})
	for _, begin := range []string{"", "\x00", "\x00\x08B2"} {
		c := dial(t, addr)
		if _, err := c.Write([]byte(begin)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after %q and silence: %v", begin, err)
		}
	}
	addr, stop := listen(t, NewDevice(TestLMK(), false), ServerConfig{})
	c := dial(t, addr)
	if _, err := c.Write([]byte("\x00\x08B20002hi\x00\x08B2")); err != nil {
		t.Fatal(err)
	}
	if frame, err := readFrame(bufio.NewReader(c), nil); err != nil || string(frame) != "B300hi" {
		t.Fatalf("%q, %v", frame, err)
	}
	stop() // returns, or the test hangs
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the stop: %v", err)
	}
}

// TestLongAnswer: what is longer than two bytes can tell is an error, and the
// connection goes on.
func TestLongAnswer(t *testing.T) {
	addr, _ := listen(t, NewDevice(TestLMK(), false), ServerConfig{})
	c := dial(t, addr)
	r := bufio.NewReader(c)
	zek := under(t, typeZEK, key1)
	request := "M0" + modeECB + "01" + "00A" + zek + "C000" + strings.Repeat("x", 0xC000)
	frame, err := appendFrame(nil, []byte(request))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		go func() { _, _ = c.Write(frame) }()
		if got, err := readFrame(r, nil); err != nil || string(got) != "M180" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
