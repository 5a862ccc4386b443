package terminal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"acquirer/card"
	"acquirer/money"
	"acquirer/spec"
)

// Slip is what a terminal keeps of one transaction of its batch: what is
// printed on the slip, and what a later message must say about it.
type Slip struct {
	Key
	Kind     Kind
	Amount   money.Amount // approved
	Changed  money.Amount // what the last adjust or tip made of it; 0 when there was none
	Date     string       // DE 13, MMDD; "" when no answer was heard
	Time     string       // DE 12
	Cleared  string       // DE 15, MMDD
	RRN      string       // DE 37
	AuthCode string       // DE 38
	Voucher  string       // DE 59 A4 of a payment by code
	Acquirer string       // DE 32
	Parties  string       // DE 44: issuer and acquirer
	Scheme   string       // first three characters of DE 63: CUP, VIS, MCC...
	Entry    Entry
	PAN      card.PAN
	Expiry   string
	Undone   bool             // voided
	Waiting  bool             // a notice that the host has not taken yet
	Refused  bool             // a notice that the host did not take
	Failure  spec.ChipFailure // a chip transaction that failed is in no total
	original Key              // that it is about
	before   money.Amount     // that an adjustment found
	request  *packed          // as it was sent, without PIN and MAC
}

// packed is a message with card data in clear, behind a pointer because package
// fmt reads unexported fields.
type packed struct{ bytes []byte }

// Due is the amount a void has to name: what was approved, or what an
// adjustment made of it.
func (s *Slip) Due() money.Amount { return cmp.Or(s.Changed, s.Amount) }

// Foreign reports whether the card is none of UnionPay: by DE 63 where the host
// named a scheme, else by the first digit of its number.
func (s *Slip) Foreign() bool {
	switch s.Scheme {
	case "CUP":
		return false
	case "VIS", "MCC", "MAE", "JCB", "DCC", "AMX":
		return true
	}
	switch s.PAN.BIN(1) {
	case "2", "3", "4", "5":
		return true
	}
	return false
}

// counts reports whether the slip is in the totals.
func (s *Slip) counts() bool { return !s.Refused && s.Failure == spec.ChipGood }

// maxSlips is how many transactions a batch may hold: its totals count in
// three digits.
const maxSlips = 999

// Slips returns the batch so far, in order. It is empty without
// Config.KeepSlips.
func (t *Terminal) Slips() []Slip { return slices.Clone(t.state.Slips) }

// Slip finds the transaction of the batch with a trace number.
func (t *Terminal) Slip(stan int) (Slip, bool) {
	for _, s := range slices.Backward(t.state.Slips) {
		if s.STAN == stan {
			return s, true
		}
	}
	return Slip{}, false
}

// LastSlip is the last transaction of the batch that went well.
func (t *Terminal) LastSlip() (Slip, bool) {
	for _, s := range slices.Backward(t.state.Slips) {
		if s.counts() {
			return s, true
		}
	}
	return Slip{}, false
}

// slipOf finds a slip of the batch to change it; nil when it is not there.
func (t *Terminal) slipOf(k Key) *Slip {
	for i := range t.state.Slips {
		if t.state.Slips[i].Key == k {
			return &t.state.Slips[i]
		}
	}
	return nil
}

// draft is the slip of a request that is about to leave.
func (t *Terminal) draft(x *Transaction, req *spec.Message) (Slip, error) {
	s := Slip{Key: t.key(req), Kind: x.Kind, Amount: amountOf(x), Entry: x.Entry, PAN: panOf(x), AuthCode: req.Text(38)}
	if o := x.Original; o != nil {
		s.original, s.before, s.Expiry, s.Voucher, s.Scheme = o.Key, o.Due(), o.Expiry, o.Voucher, o.Scheme
		if kept := t.slipOf(o.Key); kept != nil {
			s.before = kept.Due()
		}
	}
	if x.Card != nil {
		s.Expiry = x.Card.Expiry
	}
	b, err := t.withoutPIN(req)
	s.request = &packed{b}
	return s, err
}

// withoutPIN packs req without its PIN and MAC.
func (t *Terminal) withoutPIN(req *spec.Message) ([]byte, error) {
	m := &t.rev
	m.Reset(spec.UnionPayPOS, req.MTI())
	m.Copy(req, 2, 3, 4, 11, 14, 22, 23, 25, 35, 37, 38, 41, 42, 48, 49, 55, 59, 60, 61, 62)
	if req.Has(22) && req.Has(52) {
		mode := []byte(req.Text(22))
		mode[2] = '2'
		m.SetText(22, mode)
	}
	if req.Has(53) && req.Has(35) {
		control := []byte(req.Text(53))
		control[0] = '0'
		m.SetText(53, control)
	}
	if req.Has(63) && !bytes.HasPrefix(req.Bytes(63), []byte(sm4PINTag)) {
		m.Copy(req, 63)
	}
	return m.Append(nil)
}

// answered completes a slip from the answer in t.ans.
func (t *Terminal) answered(s *Slip, res *Result) {
	a := &t.ans
	if res.Code == "10" && res.Amount > 0 {
		s.Amount = res.Amount
	}
	s.Date, s.Time, s.Cleared = a.Text(13), a.Text(12), a.Text(15)
	s.RRN, s.AuthCode = res.RRN, cmp.Or(res.AuthCode, s.AuthCode)
	s.Acquirer, s.Parties, s.Voucher = a.Text(32), a.Text(44), cmp.Or(res.Voucher, s.Voucher)
	if de63 := a.Bytes(63); len(de63) >= 3 {
		s.Scheme = string(de63[:3])
	}
}

// keep puts an approved slip into the batch and marks what it was about.
func (t *Terminal) keep(s *Slip) {
	t.state.Slips = append(t.state.Slips, *s)
	o := t.slipOf(s.original)
	if o == nil {
		return
	}
	switch r := s.Kind.row(); {
	case r.side == difference:
		o.Changed = s.Amount
	case r.naming != noOriginal && (r.side == credit && r.ending == reversed || s.Kind == KindPreauthVoid || s.Kind == KindEcashLoadVoid):
		o.Undone = true
	}
}

// refuse takes a notice that the host did not take out of the totals.
func (t *Terminal) refuse(s *Slip) {
	s.Waiting, s.Refused = false, true
	if o := t.slipOf(s.original); o != nil && s.Kind.row().side == difference && o.Changed == s.Amount {
		o.Changed = s.before
	}
}

// forget takes a reversed slip out of the batch again; that of a failed chip
// stays, for its upload.
func (t *Terminal) forget(k Key) {
	i := slices.IndexFunc(t.state.Slips, func(s Slip) bool { return s.Key == k && s.Failure == spec.ChipGood })
	if i < 0 {
		return
	}
	if o := t.slipOf(t.state.Slips[i].original); o != nil {
		o.Undone = false
	}
	t.state.Slips = slices.Delete(t.state.Slips, i, i+1)
}

// Totals are the sums of the batch (protocol.md 9.1). What an adjustment or a
// tip changed is in the amount of the debits and not in their number. A batch
// whose adjustments took away more than it sold is an error.
func (t *Terminal) Totals() (spec.Totals, error) {
	var out spec.Totals
	for i := range t.state.Slips {
		s := &t.state.Slips[i]
		if !s.counts() {
			continue
		}
		to := &out.Domestic
		if s.Foreign() {
			to = &out.Foreign
		}
		switch s.Kind.row().side {
		case debit:
			to.Debit.Fen += s.Amount.Fen()
			to.Debit.Count++
		case credit:
			to.Credit.Fen += s.Amount.Fen()
			to.Credit.Count++
		case difference:
			to.Debit.Fen += s.Amount.Fen() - s.before.Fen()
		}
	}
	if _, err := spec.AppendTotals(nil, out); err != nil {
		return out, fmt.Errorf("terminal %s: totals of batch %d: %w", t.cfg.TID, t.state.Batch, err)
	}
	return out, nil
}

// amountOf is DE 4 of a transaction: of a tip, what the customer pays with it.
func amountOf(x *Transaction) money.Amount {
	if x.Kind == KindTip && x.Amount == 0 && x.Original != nil {
		return x.Original.Amount + x.Tip
	}
	return x.Amount
}

func panOf(x *Transaction) card.PAN {
	switch {
	case x.Kind.row().reading == noCard:
		return card.PAN{}
	case x.Card != nil:
		return x.Card.PAN
	case x.Original != nil:
		return x.Original.PAN
	}
	return card.PAN{}
}

// permit says why a terminal does not let its clerk do a transaction.
func (t *Terminal) permit(x *Transaction) error {
	r := x.Kind.row()
	var why error
	switch {
	case r.name == "":
		why = errors.New("no such kind")
	case r.original() && x.Original == nil:
		why = errors.New("it wants the slip of its original")
	case r.reading != noCard && panOf(x).IsZero():
		why = errors.New("no card, and no original that had one")
	case r.chip && (x.Card == nil || x.Entry != Chip && x.Entry != Contactless):
		why = errors.New("it wants a chip")
	case x.Kind == KindQRSale && x.PayCode == "":
		why = errors.New("it wants a payment code")
	case x.Kind == KindOfflineSale && len(x.AuthCode) != 6:
		why = errors.New("it wants the six characters of the authorisation had by telephone")
	case x.Kind == KindTip && x.Tip <= 0:
		why = errors.New("the tip is not above zero")
	case x.Later && r.ending != repeated:
		why = errors.New("only notices and offline sales can be sent later")
	case x.Text != "" && !r.text:
		why = errors.New("it carries no text")
	case t.cfg.KeepSlips && len(t.state.Slips) >= maxSlips:
		return t.failure(ErrFull, r.mti, nil)
	default:
		return nil
	}
	return fmt.Errorf("terminal %s: %s: %w", t.cfg.TID, x.Kind, why)
}

// Lose forgets the last transaction of a kind in the batch, as a terminal does
// whose memory fails: its totals and its upload lack it from now on. False when
// there is none.
func (t *Terminal) Lose(kind Kind) (Slip, bool) {
	for i, s := range slices.Backward(t.state.Slips) {
		if s.Kind == kind && s.Changed == 0 {
			t.state.Slips = slices.Delete(t.state.Slips, i, i+1)
			return s, true
		}
	}
	return Slip{}, false
}
