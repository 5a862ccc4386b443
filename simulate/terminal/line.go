package terminal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"acquirer/money"
	"acquirer/spec"
)

// maxFrame is more than any answer of a host has.
const maxFrame = 4096

// Result is a host's answer.
type Result struct {
	STAN     int
	Code     string // DE 39; "" when the answer has none
	RRN      string // DE 37
	AuthCode string // DE 38
	Amount   money.Amount
	Voucher  string        // DE 59 A4 of a payment by code
	Balance  *money.Amount // the first balance of DE 54; nil when there is none
	Demand   spec.Demand   // what the host asks of the terminal next
	// Body is the answer from its MTI on, valid until the terminal's next
	// call; parse it to look at other fields.
	Body []byte
	// Repeated is the answer to the second copy of a Fault that sent the same
	// bytes twice.
	Repeated *Result
}

// Approved reports whether a UnionPay terminal takes the answer for a success:
// 00, 10, 11, A2, A4, A5, A6 (protocol.md 7).
func (r *Result) Approved() bool {
	switch r.Code {
	case "00", "10", "11", "A2", "A4", "A5", "A6":
		return true
	}
	return false
}

// Fault is what a terminal does wrong with one request.
type Fault struct {
	Change     func(*spec.Message)       // changes the message before it is signed
	WrongMAC   bool                      // signs with a MAC that does not fit
	NoMAC      bool                      // leaves DE 64 away
	Corrupt    func(frame []byte) []byte // changes the bytes behind the MAC, length prefix included
	Twice      bool                      // sends the same bytes twice, in one segment
	HangUp     bool                      // closes the line after sending, before any answer
	DropAnswer bool                      // reads the answer and behaves as though none had come
	Withhold   bool                      // does all but sending: LastFrame can be sent later, behind its reversal
}

// connect dials unless there is a line already.
func (t *Terminal) connect(ctx context.Context, what spec.MTI) error {
	if t.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	conn, err := t.cfg.Dial(ctx)
	if err != nil {
		return t.failure(ErrDial, what, err)
	}
	t.conn, t.in, t.frames = conn, bufio.NewReaderSize(conn, 1024), spec.FrameReader{}
	return nil
}

// hangUp closes the line after cause; the next call dials again.
func (t *Terminal) hangUp(cause error) error {
	return errors.Join(cause, t.Close())
}

// Exchange sends a message that the caller built and waits for its answer.
// With DE 64 present (its value does not matter) the message is signed and an
// approval must be, as in a transaction. The answer is checked as protocol.md
// 1.6 says. Nothing is saved or booked.
func (t *Terminal) Exchange(ctx context.Context, req *spec.Message) (Result, error) {
	if err := t.connect(ctx, req.MTI()); err != nil {
		return Result{}, err
	}
	if err := t.pack(req, nil); err != nil {
		return Result{}, err
	}
	return t.roundTrip(ctx, req, nil)
}

// roundTrip sends t.out, which is the packed req, and waits for the answer,
// which stays parsed in t.ans.
func (t *Terminal) roundTrip(ctx context.Context, req *spec.Message, fault *Fault) (Result, error) {
	what := req.MTI()
	if fault != nil && fault.Withhold {
		return Result{}, t.failure(ErrTimeout, what, errors.New("not sent, as asked"))
	}
	release, err := t.arm(ctx)
	if err != nil {
		return Result{}, t.failure(ErrLine, what, t.hangUp(err))
	}
	defer release()
	if fault != nil && fault.Twice {
		t.out = append(t.out, t.out...)
	}
	if err := t.write(t.out); err != nil {
		return Result{}, t.lineFailure(ctx, what, err)
	}
	if fault == nil {
		return t.await(ctx, req)
	}
	if fault.HangUp {
		return Result{}, t.failure(ErrLine, what, t.hangUp(errors.New("hung up, as asked")))
	}
	res, err := t.await(ctx, req)
	if fault.Twice && err == nil {
		var second Result
		res.Body = bytes.Clone(res.Body)
		if second, err = t.await(ctx, req); err == nil {
			second.Body = bytes.Clone(second.Body)
			err = spec.UnionPayPOS.Parse(&t.ans, res.Body) // callers look at the first
			res.Repeated = &second
		}
	}
	if fault.DropAnswer && err == nil {
		return Result{}, t.failure(ErrTimeout, what, errors.New("answer dropped, as asked"))
	}
	return res, err
}

// pack makes t.out the frame of req, signed when req has DE 64.
func (t *Terminal) pack(req *spec.Message, fault *Fault) error {
	if fault != nil && fault.Change != nil {
		fault.Change(req)
	}
	if fault != nil && fault.NoMAC {
		req.Unset(64)
	}
	var err error
	if t.out, err = spec.AppendRequest(t.out[:0], t.tpdu, t.header, req); err != nil {
		return fmt.Errorf("terminal %s: packing %s: %w", t.cfg.TID, req.MTI(), err)
	}
	if req.Has(64) {
		block, mac := spec.SignedPart(spec.FrameBody(t.out))
		if t.keys.MAK == nil {
			return t.failure(ErrNoKeys, req.MTI(), nil)
		}
		sum, err := computeMAC(t.keys.MAK, t.cfg.Profile.MAC, block)
		if err != nil {
			return fmt.Errorf("terminal %s: MAC of %s: %w", t.cfg.TID, req.MTI(), err)
		}
		copy(mac, sum[:])
		if fault != nil && fault.WrongMAC {
			mac[0] ^= 1
		}
	}
	if fault != nil && fault.Corrupt != nil {
		t.out = fault.Corrupt(t.out)
	}
	return nil
}

// arm sets the deadline of one exchange and lets the end of ctx break it.
func (t *Terminal) arm(ctx context.Context) (release func(), err error) {
	if err := t.conn.SetDeadline(time.Now().Add(t.cfg.Timeout)); err != nil {
		return nil, err
	}
	if ctx.Done() == nil {
		return func() {}, nil
	}
	conn := t.conn
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // fails only on a line that has failed
	})
	return func() {
		if !stop() && conn == t.conn {
			// The deadline may still be about to change under the next exchange.
			_ = t.Close()
		}
	}, nil
}

func (t *Terminal) write(b []byte) error {
	if t.cfg.Observe != nil {
		t.cfg.Observe(Traffic{At: time.Now(), TID: t.cfg.TID, Sent: true, Bytes: b})
	}
	_, err := t.conn.Write(b)
	return err
}

// await reads frames until one answers req. Others are late answers of
// earlier requests: a terminal takes only what it waits for (protocol.md 8.7).
func (t *Terminal) await(ctx context.Context, req *spec.Message) (Result, error) {
	for {
		frame, err := t.readFrame(ctx, req.MTI())
		if err != nil {
			return Result{}, err
		}
		if err := req.Dialect().Parse(&t.ans, frame.Body); err != nil {
			return Result{}, t.failure(ErrFormat, req.MTI(), err)
		}
		if !answers(&t.ans, req) {
			continue
		}
		res := Result{
			Code: t.ans.Text(39), RRN: t.ans.Text(37), AuthCode: t.ans.Text(38),
			Demand: spec.Demand(frame.Header[2] & 0x0F), Body: frame.Body,
		}
		if v, ok := t.ans.Int(11); ok {
			res.STAN = int(v)
		}
		if v, ok := t.ans.Int(4); ok {
			res.Amount = money.Amount(v)
		}
		if v, ok := spec.FindDE59(t.ans.Bytes(59), "A4"); ok {
			res.Voucher = string(v)
		}
		if t.ans.Has(54) {
			res.Balance = balanceOf(t.ans.Bytes(54))
		}
		return res, t.check(req, &res)
	}
}

// balanceOf reads the first balance of DE 54: account and amount type 4, currency
// 3, C or D, twelve digits.
func balanceOf(de54 []byte) *money.Amount {
	if len(de54) < 20 {
		return nil
	}
	var a money.Amount
	for _, c := range de54[8:20] {
		if c < '0' || c > '9' {
			return nil
		}
		a = a*10 + money.Amount(c-'0')
	}
	if de54[7] == 'D' {
		a = -a
	}
	return &a
}

// readFrame reads one frame. A time-out before its first byte leaves the line
// standing; any other failure closes it.
func (t *Terminal) readFrame(ctx context.Context, what spec.MTI) (spec.POSFrame, error) {
	if err := t.frames.Wait(t.in); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return spec.POSFrame{}, t.failure(ErrTimeout, what, nil)
		}
		return spec.POSFrame{}, t.lineFailure(ctx, what, err)
	}
	n, err := t.frames.Length(t.in, maxFrame)
	if err != nil {
		return spec.POSFrame{}, t.lineFailure(ctx, what, err)
	}
	if cap(t.body) < n {
		t.body = make([]byte, maxFrame)
	}
	frame, err := t.frames.Body(t.in, t.body[:n])
	if err != nil {
		return spec.POSFrame{}, t.lineFailure(ctx, what, err)
	}
	if t.cfg.Observe != nil {
		t.cfg.Observe(Traffic{At: time.Now(), TID: t.cfg.TID, Bytes: append([]byte{byte(n >> 8), byte(n)}, t.body[:n]...)})
	}
	return frame, nil
}

// lineFailure closes the line and says how it failed.
func (t *Terminal) lineFailure(ctx context.Context, what spec.MTI, err error) error {
	var fe *spec.FrameError
	switch {
	case ctx.Err() != nil:
		return t.failure(ErrTimeout, what, t.hangUp(ctx.Err()))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return t.failure(ErrTimeout, what, t.hangUp(err))
	case errors.As(err, &fe):
		return t.failure(ErrFormat, what, t.hangUp(err))
	}
	return t.failure(ErrLine, what, t.hangUp(err))
}

// answers reports whether ans is the answer that req waits for: its type, its
// trace number where both have one, and its terminal.
func answers(ans, req *spec.Message) bool {
	if ans.MTI() != req.MTI().Response() {
		return false
	}
	return !req.Has(11) || !ans.Has(11) || bytes.Equal(ans.Bytes(11), req.Bytes(11))
}

// check compares the answer with the request (protocol.md 1.6) and verifies
// its MAC when it approves: DE 3 and 11 equal, 41 equal, 42 equal when DE 39
// is 00, 4 equal unless it is 10 or the request was a script result or an
// upload.
func (t *Terminal) check(req *spec.Message, res *Result) error {
	what := req.MTI()
	for _, n := range [...]int{3, 4, 41, 42} {
		if n == 4 && (res.Code == "10" || what == 0x0620 || what == 0x0320) || n == 42 && res.Code != "00" {
			continue
		}
		if req.Has(n) && t.ans.Has(n) && !bytes.Equal(req.Bytes(n), t.ans.Bytes(n)) {
			return t.failure(ErrMismatch, what, errors.New("DE "+strconv.Itoa(n)+" is not the request's"))
		}
	}
	if !req.Has(64) || !res.Approved() {
		return nil
	}
	if !t.ans.Has(11) {
		return t.failure(ErrMismatch, what, errors.New("an approval without DE 11"))
	}
	if !t.ans.Has(64) {
		return t.failure(ErrMAC, what, errors.New("an approval without DE 64"))
	}
	block, mac := spec.SignedPart(t.ans.Raw())
	want, err := computeMAC(t.keys.MAK, t.cfg.Profile.MAC, block)
	if err != nil {
		return t.failure(ErrMAC, what, err)
	}
	if subtle.ConstantTimeCompare(mac, want[:]) != 1 {
		return t.failure(ErrMAC, what, nil)
	}
	return nil
}

// Send writes bytes as they are, whatever they are.
func (t *Terminal) Send(ctx context.Context, b []byte) error {
	if err := t.connect(ctx, 0); err != nil {
		return err
	}
	release, err := t.arm(ctx)
	if err != nil {
		return t.failure(ErrLine, 0, t.hangUp(err))
	}
	defer release()
	if err := t.write(b); err != nil {
		return t.lineFailure(ctx, 0, err)
	}
	return nil
}

// Receive reads the next frame, whatever it answers. It is valid until the
// terminal's next call.
func (t *Terminal) Receive(ctx context.Context) (spec.POSFrame, error) {
	if err := t.connect(ctx, 0); err != nil {
		return spec.POSFrame{}, err
	}
	release, err := t.arm(ctx)
	if err != nil {
		return spec.POSFrame{}, t.failure(ErrLine, 0, t.hangUp(err))
	}
	defer release()
	return t.readFrame(ctx, 0)
}

// LastFrame is the bytes of the last request, to be sent again with Send.
func (t *Terminal) LastFrame() []byte { return bytes.Clone(t.out) }
