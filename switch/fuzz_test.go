package switching_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/simulate/terminal"
	"acquirer/spec"
	"acquirer/spec/jbig"
)

// captured are the terminals' requests among the recordings of testdata, by
// name.
func captured(t testing.TB) map[string]*spec.Message {
	t.Helper()
	texts := map[string]string{}
	b, err := os.ReadFile("../testdata/vectors/cup_messages.json")
	must(t, err)
	var vectors []struct{ ID, Hex string }
	must(t, json.Unmarshal(b, &vectors))
	for _, v := range vectors {
		texts[v.ID] = v.Hex
	}
	files, err := filepath.Glob("../testdata/messages/*.hex")
	must(t, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(t, err)
		texts[filepath.Base(name)] = strings.Join(strings.Fields(string(b)), "")
	}
	requests := map[string]*spec.Message{}
	for name, text := range texts {
		raw, err := hex.DecodeString(text)
		must(t, err)
		c, err := spec.ReadCapture(raw, nil)
		if err != nil || c.Dialect != spec.UnionPayPOS || c.Message.MTI() == 0 || c.Message.MTI().IsResponse() {
			continue // answers, other dialects, and what the files' own notes call malformed
		}
		requests[name] = clone(&c.Message)
	}
	return requests
}

// TestCapturedRequests: whatever terminals were seen to send, addressed to this
// house and signed by one of its terminals, is answered, and the conversation
// goes on.
func TestCapturedRequests(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	types := map[spec.MTI]int{}
	for name, m := range captured(t) {
		m.Set(41, d.tid)
		if m.Has(42) {
			m.Set(42, d.mid)
		}
		must(t, m.Err())
		types[m.MTI()]++
		a := w.ask(d.frame(t, m))
		echoes(t, name, a, m)
		if rc := a.Text(39); m.MTI() == 0x0500 {
			if _, err := spec.ParseTotals(a.AppendText(nil, 48)); err != nil {
				t.Errorf("%s: answered %q and no totals: %v", name, rc, err)
			}
		} else if len(rc) != 2 || rc == "96" {
			t.Errorf("%s: answered %q", name, rc)
		}
		if m.Has(64) && a.Text(39) != "A0" && a.Text(39) != "30" && a.Text(39) != "12" && !d.signed(a) {
			t.Errorf("%s: answered %s without a MAC", name, a.Text(39))
		}
		if m.MTI() == 0x0800 && a.Text(39) == "00" {
			d.take(t, a)
		}
	}
	for _, mti := range []spec.MTI{0x0200, 0x0220, 0x0320, 0x0400, 0x0500, 0x0800, 0x0820} {
		if types[mti] == 0 {
			t.Errorf("no %s among the recordings", mti)
		}
	}
	s.quiet()
	s.lawful()
}

// everyKind lets a terminal do everything once and gives what it sent, by
// message type, processing code, entry mode and DE 60: the reversals, uploads and downloads
// among it.
func (s *street) everyKind(t testing.TB) map[string][]byte {
	t.Helper()
	bodies := map[string][]byte{}
	w := &worker{t: t, s: s, i: 4, watch: func(x terminal.Traffic) {
		var m spec.Message
		if x.Sent && len(x.Bytes) > 13 && spec.UnionPayPOS.Parse(&m, bytes.Clone(x.Bytes[13:])) == nil {
			bodies[m.MTI().String()+m.Text(3)+m.Text(22)+m.Text(60)[:min(2, len(m.Text(60)))]+m.Text(60)[min(8, len(m.Text(60))):]] = bytes.Clone(x.Bytes[13:])
		}
	}}
	w.on(terminal.State{})
	ctx := t.Context()
	for _, d := range deeds {
		x := w.prepare(d)
		w.done(x)
		if d.kind.Reversible() && d.kind != terminal.KindQRVoid {
			if _, err := w.term.Reverse(ctx, terminal.Reversal{}); err != nil {
				t.Fatalf("reversing %v: %v", d.kind, err)
			}
		}
	}
	w.done(w.fresh(terminal.KindSale))
	slip, _ := w.term.LastSlip()
	_, err := w.term.Sign(ctx, slip, jbig.Encode(autograph(), jbig.Options{TwoLine: true, Typical: true, Lines: 128}))
	must(t, err)
	_, err = w.term.DownloadParameters(ctx)
	must(t, err)
	_, err = w.term.DownloadCAPKs(ctx)
	must(t, err)
	_, err = w.term.DownloadAIDs(ctx)
	must(t, err)
	_, err = w.term.DownloadBlackList(ctx)
	must(t, err)
	_, err = w.term.DownloadLimits(ctx)
	must(t, err)
	must(t, w.term.UploadStatus(ctx))
	state := w.term.State()
	state.Slips[0].Amount++ // so that all is uploaded
	must(t, w.term.Close())
	w.on(state)
	_, err = w.term.Settle(ctx)
	must(t, err)
	return bodies
}

// TestEveryKindIsASeed: what FuzzTerminal begins with is of every message type.
func TestEveryKindIsASeed(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withAll)
	types := map[string]int{}
	for key := range s.everyKind(t) {
		types[key[:4]]++
	}
	for mti, n := range map[string]int{"0100": 2, "0200": 7, "0220": 5, "0320": 4, "0400": 5, "0500": 1, "0800": 8, "0820": 4} {
		if types[mti] < n {
			t.Errorf("%d kinds of %s, want %d", types[mti], mti, n)
		}
	}
	t.Log(types)
}

// FuzzTerminal gives a served connection any bytes: mode 0 as they are; mode 1
// as one message, addressed to the house, framed, and signed by a terminal of
// it, so that what is wrong gets past the MAC. No handler may panic, the
// connection answers or ends in time, and the answers are to the requests in
// their order.
func FuzzTerminal(f *testing.F) {
	s := newStreet(f, withAll, withTimeout(200*time.Millisecond))
	for _, body := range s.everyKind(f) {
		f.Add(byte(1), body)
	}
	d := s.device(f, 4)
	var stream []byte
	for _, m := range captured(f) {
		m.Set(41, d.tid)
		m.Set(42, d.mid)
		body, err := m.Append(nil)
		must(f, err)
		f.Add(byte(1), body)
		frame := d.frame(f, m)
		stream = append(stream, frame...)
		f.Add(byte(0), frame)
	}
	f.Add(byte(0), stream)
	sale, err := d.sale(500, pan(f, "north", 400)).Append(nil)
	must(f, err)
	f.Add(byte(1), sale)
	f.Add(byte(0), []byte{0, 0})
	f.Add(byte(0), []byte{0xFF, 0xFF, 0})

	f.Fuzz(func(t *testing.T, mode byte, b []byte) {
		if len(b) > 20_000 {
			t.Skip("longer than a few frames")
		}
		sent := b
		if mode&1 != 0 {
			sent = d.adopt(b)
		}
		conn, err := net.Dial("tcp", s.addr)
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		if _, err := conn.Write(sent); err == nil {
			_ = conn.(*net.TCPConn).CloseWrite() // fails when the other side has hung up
		}
		heard, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v and neither an answer nor an end", patience)
		}
		house := street{t: t, metrics: s.metrics}
		if house.metric("acquirer_handler_panics_total") > 0 {
			t.Fatal("a handler panicked")
		}
		answered(t, sent, heard)
	})
}

// adopt makes one message of b that d might have sent.
func (d *device) adopt(b []byte) []byte {
	body := bytes.Clone(b[:min(len(b), 4000)])
	var m spec.Message
	_ = spec.UnionPayPOS.Parse(&m, body) // what can be read of it refers to body
	copy(m.Bytes(41), d.tid)
	copy(m.Bytes(42), d.mid)
	frame := append([]byte{0, 0, 0x60, 0, 3, 0, 0, 0x60, 0x31, 0, 0x31, 0x11, 8}, body...)
	binary.BigEndian.PutUint16(frame, uint16(len(frame)-2))
	if len(body) >= 8 {
		d.sign(frame)
	}
	return frame
}

// answered holds the answers against the requests: the n-th answer is to the
// n-th frame.
func answered(t *testing.T, sent, heard []byte) {
	t.Helper()
	in, out := bytes.NewReader(sent), bytes.NewReader(heard)
	for {
		frame, _, err := spec.ReadPOSFrame(out, nil, 4096)
		if err != nil {
			return // its end, or where a reset cut it off
		}
		var a, r spec.Message
		if err := spec.UnionPayPOS.Parse(&a, frame.Body); err != nil {
			t.Fatalf("an answer that cannot be read: %v\n%X", err, heard)
		}
		asked, _, err := spec.ReadPOSFrame(in, nil, 4096)
		if err != nil {
			t.Fatalf("an answer too many: %X", heard)
		}
		_ = spec.UnionPayPOS.Parse(&r, asked.Body) // the part before an error is what an answer repeats
		if a.MTI() != r.MTI().Response() || len(a.Text(39)) != 2 && !(a.MTI() == 0x0510 && a.Len(48) == 62) {
			t.Fatalf("a %s was answered with a %s %q", r.MTI(), a.MTI(), a.Text(39))
		}
		for _, n := range []int{11, 41, 42} {
			if r.Has(n) && !bytes.Equal(a.Bytes(n), r.Bytes(n)) {
				t.Fatalf("DE %d of the answer is %q, the request's %q", n, a.Bytes(n), r.Bytes(n))
			}
		}
	}
}
