package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"acquirer/hsm/algo"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// responder is a host that approves, with as little work as it takes: one set
// of working keys for all terminals, no check of what it reads but the MAC
// when verify is set.
type responder struct {
	verify bool
	delay  func(req *spec.Message)               // before the answer is written
	judge  func(req *spec.Message) (code string) // "" is 00
	rrn    func(req *spec.Message) string        // "" is a fixed one
	silent func(req *spec.Message) bool          // no answer at all

	mak   *algo.Key
	conns sync.WaitGroup
	mu    sync.Mutex
	open  map[net.Conn]bool
}

var (
	clearPIK = simcard.TestKey("responder PIK")
	clearMAK = simcard.TestKey("responder MAK")
)

func newResponder() *responder {
	k, err := algo.NewDESKey(clearMAK[:8])
	if err != nil {
		panic(err)
	}
	return &responder{mak: k, open: map[net.Conn]bool{}}
}

// pipe is a dialer that needs no network.
func (r *responder) pipe(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	r.start(b)
	return a, nil
}

func (r *responder) start(c net.Conn) {
	r.mu.Lock()
	r.open[c] = true
	r.mu.Unlock()
	r.conns.Go(func() {
		defer c.Close()
		if err := r.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, net.ErrClosed) {
			panic(fmt.Sprintf("responder: %v", err))
		}
	})
}

// listen serves TCP until the listener is closed.
func (r *responder) listen(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.start(c)
	}
}

func (r *responder) serve(c net.Conn) error {
	in := bufio.NewReaderSize(c, 1024)
	var req, ans spec.Message
	var buf, out []byte
	for {
		f, b, err := spec.ReadPOSFrame(in, buf, 4096)
		buf = b
		if err != nil {
			return err
		}
		if err := spec.UnionPayPOS.Parse(&req, f.Body); err != nil {
			return err
		}
		if r.silent != nil && r.silent(&req) {
			continue
		}
		if err := r.answer(&req, &ans); err != nil {
			return err
		}
		if out, err = f.AppendReply(out[:0], 0, &ans); err != nil {
			return err
		}
		if ans.Has(64) {
			block, mac := spec.SignedPart(spec.FrameBody(out))
			sum := r.mak.UnionPayMAC(block)
			copy(mac, sum[:])
		}
		if r.delay != nil {
			r.delay(&req)
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
}

func (r *responder) answer(req, ans *spec.Message) error {
	ans.Reset(spec.UnionPayPOS, req.MTI().Response())
	ans.Copy(req, 2, 3, 4, 11, 25, 41, 42, 49, 60)
	code := ""
	if r.judge != nil {
		code = r.judge(req)
	}
	if r.verify && req.Has(64) {
		block, mac := spec.SignedPart(req.Raw())
		if want := r.mak.UnionPayMAC(block); string(want[:]) != string(mac) {
			code = "A0"
		}
	}
	if code == "" {
		code = "00"
	}
	ans.Set(39, code)
	if req.MTI() == 0x0800 {
		tmk := simcard.TestTMK(req.Text(41))
		k, err := algo.NewDESKey(tmk[:])
		if err != nil {
			return err
		}
		de62, err := algo.AppendDE62(nil, k, clearPIK[:], clearMAK[:8], nil)
		ans.SetBytes(62, de62)
		return err
	}
	rrn := "523456789012"
	if r.rrn != nil {
		rrn = r.rrn(req)
	}
	ans.Set(37, rrn)
	if req.Has(64) {
		ans.SetBytes(64, make([]byte, 8))
	}
	return nil
}

// hangUp closes every line.
func (r *responder) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		c.Close()
		delete(r.open, c)
	}
}
