// Package relay is the bare way of a message, without anything durable: what a
// machine gives at most, to hold the switch against. A relay reads a purchase
// from a terminal, sends it to an issuer in the network's dialect, and
// answers. There is ours (table codec, lines of package routing) and one of
// moov-io/iso8583 and its connection as they come, with encoders that do not
// build tables for every field; a raw framed echo shows what the sockets cost
// alone. Each runs as a process of its own and reports what it burned.
package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/routing"
	"acquirer/spec"
)

// maxFrame is the longest frame taken from a terminal.
const maxFrame = 4096

// Report is what a process says at its end.
type Report struct {
	What         string  `json:"what"`
	Transactions int64   `json:"transactions"`
	CPUSeconds   float64 `json:"cpu_seconds"` // user and system, from the first transaction on
	CPUMicros    float64 `json:"cpu_us_per_txn"`
	MaxRSSKB     int64   `json:"max_rss_kb"`
}

// meter counts transactions and the processor time since the first one.
type meter struct {
	what  string
	count atomic.Int64
	once  sync.Once
	began time.Duration
}

func (m *meter) add() {
	m.once.Do(func() { m.began = cpuTime() })
	m.count.Add(1)
}

func (m *meter) report() Report {
	r := Report{What: m.what, Transactions: m.count.Load(), MaxRSSKB: maxRSS()}
	if r.Transactions > 0 {
		r.CPUSeconds = (cpuTime() - m.began).Seconds()
		r.CPUMicros = r.CPUSeconds * 1e6 / float64(r.Transactions)
	}
	return r
}

// serve accepts connections until ctx ends, each handled by handle, and
// returns when all have ended.
func serve(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	var conns sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	stop := context.AfterFunc(ctx, func() {
		ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			c.Close()
		}
	})
	defer stop()
	defer conns.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		mu.Lock()
		open[c] = true
		mu.Unlock()
		if ctx.Err() != nil {
			c.Close()
		}
		conns.Go(func() {
			defer func() {
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			}()
			handle(c)
		})
	}
}

// ServeEcho sends every frame back as it came.
func ServeEcho(ctx context.Context, ln net.Listener) (Report, error) {
	m := meter{what: "echo"}
	err := serve(ctx, ln, func(c net.Conn) {
		r := bufio.NewReader(c)
		buf := make([]byte, 2+maxFrame)
		for {
			if _, err := io.ReadFull(r, buf[:2]); err != nil {
				return
			}
			n := 2 + (int(buf[0])<<8 | int(buf[1]))
			if n > len(buf) {
				return
			}
			if _, err := io.ReadFull(r, buf[2:n]); err != nil {
				return
			}
			m.add()
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	return m.report(), err
}

// ServeRelay is our relay: the table codec on both sides and the lines of
// package routing between them.
func ServeRelay(ctx context.Context, ln net.Listener, issuer string, lines int) (Report, error) {
	addrs := make([]string, lines)
	for i := range addrs {
		addrs[i] = issuer
	}
	way, err := routing.NewIssuer(routing.Config{
		Name: "bench", Addrs: addrs, Institution: "01020000", Acquirer: acquirer,
		MaxInFlight: 1 << 16, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return Report{}, err
	}
	up, cancel := context.WithTimeout(ctx, 10*time.Second)
	err = way.AwaitUp(up)
	cancel()
	m := meter{what: "relay"}
	var stan atomic.Uint32
	if err == nil {
		err = serve(ctx, ln, func(c net.Conn) {
			r := bufio.NewReader(c)
			var one exchange
			for one.relay(r, c, way, &stan) == nil {
				m.add()
			}
		})
	}
	report := m.report()
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return report, errors.Join(err, way.Close(closing))
}

const acquirer = "08980000"

// exchange is what one connection reuses from message to message.
type exchange struct {
	in, out, ans, reply spec.Message
	buf, frame          []byte
}

// relay takes one purchase to the issuer and its answer back.
func (x *exchange) relay(r io.Reader, w io.Writer, way *routing.Issuer, stan *atomic.Uint32) error {
	f, buf, err := spec.ReadPOSFrame(r, x.buf, maxFrame)
	x.buf = buf
	if err != nil {
		return err
	}
	if err := spec.UnionPayPOS.Parse(&x.in, f.Body); err != nil {
		return err
	}
	trace := int64(stan.Add(1)%999999 + 1)
	toIssuer(&x.out, &x.in, trace, time.Now())
	if err := way.Send(context.Background(), &x.out, &x.ans); err != nil {
		return err
	}
	p := &x.reply
	p.Reset(spec.UnionPayPOS, x.in.MTI().Response())
	p.Copy(&x.in, 3, 4, 11, 25, 41, 42, 49, 60)
	p.Copy(&x.ans, 2, 12, 13, 14, 15, 32, 37, 38, 39, 55)
	p.SetBytes(64, noMAC[:])
	if x.frame, err = f.AppendReply(x.frame[:0], spec.DemandNothing, p); err != nil {
		return err
	}
	_, err = w.Write(x.frame)
	return err
}

var noMAC = [8]byte{'0', '0', '0', '0', '0', '0', '0', '0'}

// toIssuer writes the terminal's purchase in the network's dialect.
func toIssuer(out, in *spec.Message, trace int64, now time.Time) {
	out.Reset(spec.CUPS, in.MTI())
	out.Copy(in, 2, 3, 4, 14, 22, 23, 25, 26, 35, 41, 42, 49, 52, 53, 55)
	now = now.In(calendar.Beijing)
	h, mi, s := now.Clock()
	clock := int64(h)*1e4 + int64(mi)*100 + int64(s)
	date := int64(now.Month())*100 + int64(now.Day())
	out.SetInt(7, date*1e6+clock)
	out.SetInt(11, trace)
	out.SetInt(12, clock)
	out.SetInt(13, date)
	out.Set(18, "5411")
	out.Set(32, acquirer)
	out.Set(33, acquirer)
	var rrn [12]byte
	for i := range rrn {
		rrn[len(rrn)-1-i] = byte('0' + trace%10)
		trace /= 10
	}
	out.SetText(37, rrn[:])
	out.Set(60, "000005000300000")
}

// ServeCheapIssuer answers network management and approves everything else
// with as little work as it can: what arrives together is answered in one
// write.
func ServeCheapIssuer(ctx context.Context, ln net.Listener) (Report, error) {
	m := meter{what: "cheap-issuer"}
	err := serve(ctx, ln, func(c net.Conn) {
		r := bufio.NewReaderSize(c, 64<<10)
		var in, ans spec.Message
		var body, out []byte
		for {
			head, err := r.Peek(spec.CUPSHeaderSize)
			if err != nil {
				return
			}
			total, err := spec.CUPSLength(head)
			if err != nil {
				return
			}
			if cap(body) < total {
				body = make([]byte, total)
			}
			if _, err := io.ReadFull(r, body[:total]); err != nil {
				return
			}
			if spec.CUPS.Parse(&in, body[spec.CUPSHeaderSize:total]) != nil {
				return
			}
			ans.Reset(spec.CUPS, in.MTI().Response())
			if in.MTI() == 0x0820 {
				ans.Copy(&in, 7, 11, 33, 70)
			} else {
				m.add()
				ans.Copy(&in, 2, 3, 4, 7, 11, 12, 13, 14, 18, 25, 32, 33, 37, 41, 42, 49)
				ans.Set(15, "1123")
				ans.Set(38, "123456")
				ans.SetBytes(55, issuerData)
			}
			ans.Set(39, "00")
			start := len(out)
			out = append(out, body[:spec.CUPSHeaderSize]...)
			if out, err = ans.Append(out); err != nil {
				return
			}
			if _, err := spec.AppendCUPSHeader(out[start:start], spec.CUPSHeader{Destination: acquirer}, len(out)-start-spec.CUPSHeaderSize); err != nil {
				return
			}
			if r.Buffered() < spec.CUPSHeaderSize {
				if _, err := c.Write(out); err != nil {
					return
				}
				out = out[:0]
			}
		}
	})
	return m.report(), err
}

// issuerData is a DE 55 with an ARPC.
var issuerData = append([]byte{0x91, 10, 1, 2, 3, 4, 5, 6, 7, 8}, "00\x9F\x36\x02\x00\x01"...)

// purchaseSTAN is DE 11 of Purchase, three bytes that stand nowhere else in it.
var purchaseSTAN = [3]byte{0x91, 0x82, 0x73}

// Purchase is the frame that Drive sends: an 0200 of twenty fields and about
// 300 bytes, chip and PIN, on a card and with keys that nobody has.
func Purchase() ([]byte, error) {
	var m spec.Message
	m.Reset(spec.UnionPayPOS, 0x0200)
	for n, v := range map[int]string{
		2: "9999010000000002", 3: "000000", 4: "000000010000", 11: "918273", 12: "101010", 13: "1123", 14: "3512", 22: "051",
		23: "001", 25: "00", 26: "12", 35: "9999010000000002=35122010000012345678", 41: "10000001", 42: "898110054110001", 49: "156",
		52: "0102030405060708", 53: "2600000000000000", 60: "22000001000500", 64: "3030303030303030",
		55: "9F2608C20428A3FF53F0AD9F2701809F101307020103A0B806010A0100000900000C060A299F37040B7FBD489F3602378895050080001800" +
			"9A032611239C01009F02060000000100005F2A02015682027D009F1A0201569F03060000000000009F3303E0F8C89F34034203009F3501229F1E0831323334353637388408A0000003330101019F0902008C",
	} {
		m.Set(n, v)
	}
	b, err := spec.AppendRequest(nil, [5]byte{0x60, 0, 1, 0, 0}, [6]byte{0x60, 0x31, 0, 0x31, 0, 1}, &m)
	if err != nil {
		return nil, fmt.Errorf("bench: the purchase: %w", err)
	}
	return b, nil
}
