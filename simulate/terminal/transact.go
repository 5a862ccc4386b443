package terminal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// Transaction is one transaction at the terminal, of any kind.
type Transaction struct {
	Kind   Kind
	Amount money.Amount // the new amount of an adjust; of a tip 0 is the original and the tip
	Card   *simcard.Card
	Entry  Entry
	PIN    string // what was typed; "" for none; kinds without a PIN do not send it
	// Original is the slip that a void, refund, completion, adjustment... is
	// about. Its card stands in when Card is nil. A refund without it is not
	// linked.
	Original *Slip
	Tip      money.Amount // DE 48 of a tip
	PayCode  string       // DE 59 A3 of a qr_sale, digits in clear
	AddOn    bool         // a preauth that adds to the one in Original (DE 25 60)
	AuthCode string       // DE 38 of an offline_sale, had by telephone
	Text     string       // DE 62: the terms of an instalment, the other account of a load
	Partial  bool         // DE 60.6: partial approval and balance understood
	Later    bool         // keeps a notice or offline sale until after the next transaction
	Fault    *Fault
}

// CardRefused is the Code of a chip_offline_sale that the chip itself declined
// (EMV book 4, annex A6): nothing was sent.
const CardRefused = "Z1"

// Transact does a transaction. Before it the terminal signs in again if the
// host asked for it, sends the results of scripts and a pending reversal, and
// behind it the notices it has kept (protocol.md 3.8).
//
// The reversal of a reversible kind is saved before the first byte leaves
// (8.1); it stays pending after any error but ErrDial, ErrNoKeys, ErrPending,
// ErrFull and ErrState, which mean that nothing was sent. A notice or offline
// sale is kept before it leaves, and sent again until the host takes it. A
// balance or refund without an answer is given up.
func (t *Terminal) Transact(ctx context.Context, x Transaction) (Result, error) {
	r := x.Kind.row()
	if t.keys.MAK == nil {
		return Result{}, t.failure(ErrNoKeys, r.mti, nil)
	}
	if err := t.permit(&x); err != nil {
		return Result{}, err
	}
	if x.Later {
		return t.notify(ctx, &x)
	}
	if err := t.ready(ctx, r.mti); err != nil {
		return Result{}, err
	}
	if err := t.connect(ctx, r.mti); err != nil {
		return Result{}, err
	}
	var res Result
	var err error
	switch r.ending {
	case reversed:
		res, err = t.transact(ctx, &x)
	case repeated:
		return t.notify(ctx, &x)
	default:
		res, err = t.ask(ctx, &x)
	}
	if err == nil && len(t.state.Uploads) > 0 {
		res.Body = bytes.Clone(res.Body)
		_ = t.deliver(ctx) // what it could not deliver waits for the next transaction
	}
	return res, err
}

// ready does what comes before a transaction (protocol.md 3.8).
func (t *Terminal) ready(ctx context.Context, what spec.MTI) error {
	if t.resign {
		if err := t.SignIn(ctx); err != nil {
			return t.failure(ErrNoKeys, what, err)
		}
	}
	if len(t.state.Scripts) > 0 {
		_ = t.tellScripts(ctx) // a result that was not taken keeps no customer waiting
	}
	if t.Pending() {
		if _, err := t.reverse(ctx, nil); err != nil && t.Pending() {
			return t.failure(ErrPending, what, err)
		}
	}
	return nil
}

// transact signs a request of a reversible kind, saves its reversal, sends it,
// and settles what the answer means.
func (t *Terminal) transact(ctx context.Context, x *Transaction) (Result, error) {
	req, err := t.build(x)
	if err != nil {
		return Result{}, err
	}
	what := req.MTI()
	if err := t.pack(req, x.Fault); err != nil {
		return Result{}, err
	}
	if err := t.buildRecord(x); err != nil {
		return Result{}, fmt.Errorf("terminal %s: reversal record: %w", t.cfg.TID, err)
	}
	var slip Slip
	if t.cfg.KeepSlips {
		if slip, err = t.draft(x, req); err != nil {
			return Result{}, fmt.Errorf("terminal %s: slip: %w", t.cfg.TID, err)
		}
	}
	t.lastKey, t.heardOf = t.key(req), heardOf{}
	t.state.Pending, t.state.Reason = t.last, ReasonTimeout
	if err := t.save(); err != nil {
		t.state.Pending = nil
		return Result{}, t.failure(ErrState, what, err)
	}
	t.book(x, Unknown)

	res, err := t.roundTrip(ctx, req, x.Fault)
	if err == nil && res.Approved() {
		if err = t.checkIssuer(req, x.Card); err != nil {
			t.hearOf(&res)
			slip.Failure = spec.ChipBadARPC
			if t.cfg.KeepSlips {
				t.answered(&slip, &res)
				t.state.Slips = append(t.state.Slips, slip)
			}
		}
	}
	if err != nil {
		t.state.Reason = reasonFor(err)
		if saveErr := t.save(); saveErr != nil {
			err = errors.Join(err, saveErr)
		}
		return res, err
	}
	if x.Fault == nil { // a terminal that misbehaves has asked for its refusal
		t.heard(&res)
	}
	status := Declined
	if res.Approved() {
		status = Approved
		t.hearOf(&res)
		if t.cfg.KeepSlips {
			t.answered(&slip, &res)
			t.keep(&slip)
		}
		if err := t.noteScripts(req, x.Card); err != nil {
			return res, err
		}
	}
	t.cfg.Book.move(t.lastKey, status, &res)
	t.state.Pending = nil
	if err := t.save(); err != nil {
		return res, t.failure(ErrState, what, err)
	}
	return res, nil
}

// heardOf is what the reversal of a transaction says of its answer.
type heardOf struct{ auth, date, voucher string }

func (t *Terminal) hearOf(res *Result) {
	t.heardOf = heardOf{auth: res.AuthCode, date: t.ans.Text(13), voucher: res.Voucher}
}

// checkIssuer lets the card look at tag 91 of an approval.
func (t *Terminal) checkIssuer(req *spec.Message, c *simcard.Card) error {
	if c == nil || !t.ans.Has(55) || !req.Has(55) {
		return nil
	}
	if tag91, ok := spec.FindTLV(t.ans.Bytes(55), 0x91); ok {
		if err := c.CheckARPC(tag91); err != nil {
			return t.failure(ErrARPC, req.MTI(), err)
		}
	}
	return nil
}

// book opens the record of the request in t.req, when it moves money.
func (t *Terminal) book(x *Transaction, s Status) {
	if t.cfg.Book != nil && !x.Kind.row().noAmount {
		t.cfg.Book.put(Record{Key: t.key(&t.req), Kind: x.Kind, Amount: amountOf(x), PAN: panOf(x), Status: s})
	}
}

// ask sends a transaction that is given up when no answer comes.
func (t *Terminal) ask(ctx context.Context, x *Transaction) (Result, error) {
	req, err := t.build(x)
	if err != nil {
		return Result{}, err
	}
	if err := t.pack(req, x.Fault); err != nil {
		return Result{}, err
	}
	var slip Slip
	if t.cfg.KeepSlips {
		if slip, err = t.draft(x, req); err != nil {
			return Result{}, fmt.Errorf("terminal %s: slip: %w", t.cfg.TID, err)
		}
	}
	if err := t.save(); err != nil { // the trace number is used
		return Result{}, t.failure(ErrState, req.MTI(), err)
	}
	key, booked := t.key(req), !x.Kind.row().noAmount
	t.book(x, Unknown)
	res, err := t.roundTrip(ctx, req, x.Fault)
	if err == nil && res.Approved() {
		err = t.checkIssuer(req, x.Card)
	}
	status := Declined
	switch {
	case err != nil:
		status = Abandoned
	case res.Approved():
		status = Approved
		if booked && t.cfg.KeepSlips {
			t.answered(&slip, &res)
			t.keep(&slip)
		}
	}
	if err == nil && x.Fault == nil {
		t.heard(&res)
	}
	if booked {
		t.cfg.Book.move(key, status, &res)
	}
	if err != nil {
		return res, err
	}
	if status == Approved {
		if err := t.noteScripts(req, x.Card); err != nil {
			return res, err
		}
	}
	if err := t.save(); err != nil {
		return res, t.failure(ErrState, req.MTI(), err)
	}
	return res, nil
}

// Upload is a notice or offline sale that the host has not taken yet.
type Upload struct {
	Key
	Message []byte // packed, without DE 64; holds card data in clear
	Sent    bool   // it has left once: DE 39 94 is then a success (protocol.md 7)
}

// Waiting is how many notices and offline sales wait to be taken by the host.
func (t *Terminal) Waiting() int { return len(t.state.Uploads) }

// Deliver sends what waits now instead of around the next transaction: the
// results of scripts, the pending reversal, notices and offline sales. The
// error says what the host did not take.
func (t *Terminal) Deliver(ctx context.Context) error {
	const what = 0x0220
	if t.keys.MAK == nil {
		return t.failure(ErrNoKeys, what, nil)
	}
	if err := t.ready(ctx, what); err != nil {
		return err
	}
	if len(t.state.Scripts) > 0 {
		if err := t.tellScripts(ctx); err != nil {
			return err
		}
	}
	if err := t.deliver(ctx); err != nil || len(t.state.Uploads) > 0 {
		return t.failure(ErrUploads, what, err)
	}
	return nil
}

// notify keeps a notice or offline sale and, unless it is for later, sends it.
func (t *Terminal) notify(ctx context.Context, x *Transaction) (Result, error) {
	req, err := t.build(x)
	if err != nil {
		return Result{}, err
	}
	if err := t.pack(req, x.Fault); err != nil {
		return Result{}, err
	}
	slip, err := t.draft(x, req)
	if err != nil {
		return Result{}, fmt.Errorf("terminal %s: slip: %w", t.cfg.TID, err)
	}
	if x.Kind == KindChipOfflineSale && refusedByChip(req) {
		slip.Failure = spec.ChipRefused
		if t.cfg.KeepSlips {
			t.state.Slips = append(t.state.Slips, slip)
		}
		return Result{STAN: slip.STAN, Code: CardRefused, Amount: slip.Amount}, nil
	}
	u := Upload{Key: slip.Key}
	if u.Message, err = t.unsigned(req); err != nil {
		return Result{}, fmt.Errorf("terminal %s: keeping a notice: %w", t.cfg.TID, err)
	}
	before := t.State()
	t.state.Uploads = append(t.state.Uploads, u)
	if slip.Waiting = true; t.cfg.KeepSlips {
		t.keep(&slip)
	}
	if err := t.save(); err != nil {
		t.state = before
		return Result{}, t.failure(ErrState, req.MTI(), err)
	}
	t.book(x, Unknown)
	if x.Later {
		return Result{STAN: slip.STAN, Amount: slip.Amount}, nil
	}
	t.state.Uploads[len(t.state.Uploads)-1].Sent = true
	res, err := t.roundTrip(ctx, req, x.Fault)
	if err != nil {
		return res, err
	}
	res.Body = bytes.Clone(res.Body)
	if x.Fault == nil {
		t.heard(&res)
	}
	t.taken(u.Key, &res, false)
	if err := t.save(); err != nil {
		return res, t.failure(ErrState, req.MTI(), err)
	}
	if res.Approved() && len(t.state.Uploads) > 0 {
		_ = t.deliver(ctx)
	}
	return res, nil
}

// unsigned packs req without its MAC, to be signed when it is sent.
func (t *Terminal) unsigned(req *spec.Message) ([]byte, error) {
	m := &t.rev
	m.Reset(spec.UnionPayPOS, req.MTI())
	for n := 2; n < 64; n++ {
		m.Copy(req, n)
	}
	return m.Append(nil)
}

// taken settles a notice by its answer. The host wants to be signed in to
// before it says anything about a notice that it answers 77, 99 or A0.
func (t *Terminal) taken(k Key, res *Result, repeat bool) {
	switch res.Code {
	case "77", "99", "A0":
		return
	}
	ok := res.Approved() || repeat && res.Code == "94"
	if s := t.slipOf(k); s != nil {
		if ok {
			s.Waiting = false
			s.RRN, s.Date = cmp.Or(res.RRN, s.RRN), cmp.Or(t.ans.Text(13), s.Date)
		} else {
			t.refuse(s)
		}
	}
	status := Declined
	if ok {
		status = Approved
	}
	t.cfg.Book.move(k, status, res)
	t.state.Uploads = slices.DeleteFunc(t.state.Uploads, func(u Upload) bool { return u.Key == k })
}

// deliver sends what waits, in order, until one is not answered or the host
// asks for a sign-in first.
func (t *Terminal) deliver(ctx context.Context) error {
	for !t.resign && len(t.state.Uploads) > 0 {
		u := &t.state.Uploads[0]
		res, err := t.sendKept(ctx, u.Message)
		if err != nil {
			u.Sent = u.Sent || !errors.Is(err, ErrDial)
			return err
		}
		t.heard(&res)
		t.taken(u.Key, &res, u.Sent)
		if err := t.save(); err != nil {
			return t.failure(ErrState, 0x0220, err)
		}
	}
	return nil
}

// sendKept signs and sends a message that was kept without its MAC.
func (t *Terminal) sendKept(ctx context.Context, packed []byte) (Result, error) {
	m := &t.req
	if err := spec.UnionPayPOS.Parse(m, packed); err != nil {
		return Result{}, fmt.Errorf("terminal %s: a kept message: %w", t.cfg.TID, err)
	}
	m.SetBytes(64, make([]byte, 8))
	return t.Exchange(ctx, m)
}

// refusedByChip reports that the chip gave an AAC instead of a certificate.
func refusedByChip(req *spec.Message) bool {
	cid, ok := spec.FindTLV(req.Bytes(55), 0x9F27)
	return ok && len(cid) == 1 && cid[0] == simcard.AAC
}

// noteScripts gives the card the issuer's scripts and keeps the result of those in the answer to req
// (tags 71 and 72), to be told before the next transaction: a new trace
// number, DE 61 the transaction, and in DE 55 the tags of protocol.md 2.4.
func (t *Terminal) noteScripts(req *spec.Message, c *simcard.Card) error {
	if !req.Has(55) || !t.ans.Has(55) {
		return nil
	}
	if c == nil {
		return nil
	}
	results, failed := c.ApplyScripts(t.ans.Bytes(55))
	if len(results) == 0 {
		return nil
	}
	de55 := req.Bytes(55)
	var b []byte
	for _, tag := range [...]uint32{0x9F33, 0x95, 0x9F37, 0x9F1E, 0x9F10, 0x9F26, 0x9F36, 0x82, 0xDF31, 0x9F1A, 0x9A} {
		if tag == 0xDF31 {
			b = spec.AppendTLV(b, tag, results)
		} else if v, ok := spec.FindTLV(de55, tag); ok {
			if tag == 0x95 && len(v) == 5 {
				v = append([]byte(nil), v...)
				v[4] |= failed
			}
			b = spec.AppendTLV(b, tag, v)
		}
	}
	m := &t.rev
	m.Reset(spec.UnionPayPOS, 0x0620)
	m.Copy(req, 2, 3, 4)
	m.SetInt(11, int64(t.NextSTAN()))
	m.Copy(req, 22, 23)
	m.Set(25, "00")
	m.Copy(&t.ans, 32, 37, 38)
	m.Copy(req, 41, 42, 49)
	m.SetBytes(55, b)
	t.set60(m, "00", "951", true, false, false)
	m.SetText(61, t.original61(t.key(req), t.ans.Text(13), 16))
	packed, err := m.Append(nil)
	if err != nil {
		return fmt.Errorf("terminal %s: script result: %w", t.cfg.TID, err)
	}
	t.state.Scripts = append(t.state.Scripts, packed)
	return nil
}

// tellScripts sends the kept script results. Any answer settles one.
func (t *Terminal) tellScripts(ctx context.Context) error {
	for len(t.state.Scripts) > 0 {
		res, err := t.sendKept(ctx, t.state.Scripts[0])
		if err != nil {
			return err
		}
		t.state.Scripts = t.state.Scripts[1:]
		t.heard(&res)
		if err := t.save(); err != nil {
			return t.failure(ErrState, 0x0620, err)
		}
	}
	return nil
}
