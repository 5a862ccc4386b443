package terminal

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/calendar"
	"acquirer/spec"
)

// Signature is an electronic signature of the batch.
type Signature struct {
	Slip  Slip
	Image []byte // JBIG, with its header of 20 bytes
	Taken bool   // the host has acknowledged it
}

// maxImage is what DE 62 holds.
const maxImage = 999

// Sign sends the customer's signature under a slip (protocol.md 12): 0820, DE
// 60.1 07, 60.3 800, with the trace number of the transaction. image is a JBIG
// image of at most 999 bytes. The signature is kept, acknowledged or not, until
// the batch is settled: what was not acknowledged is sent again before. A
// refusal is a *Refusal.
func (t *Terminal) Sign(ctx context.Context, s Slip, image []byte) (Result, error) {
	switch {
	case t.keys.MAK == nil:
		return Result{}, t.failure(ErrNoKeys, 0x0820, nil)
	case len(image) == 0 || len(image) > maxImage:
		return Result{}, fmt.Errorf("terminal %s: a signature of %d bytes, want 1 to %d", t.cfg.TID, len(image), maxImage)
	}
	i := slices.IndexFunc(t.state.Signatures, func(have Signature) bool { return have.Slip.Key == s.Key })
	if i < 0 {
		i = len(t.state.Signatures)
		t.state.Signatures = append(t.state.Signatures, Signature{})
	}
	t.state.Signatures[i] = Signature{Slip: s, Image: slices.Clone(image)}
	if err := t.save(); err != nil {
		return Result{}, t.failure(ErrState, 0x0820, err)
	}
	if t.resign {
		if err := t.SignIn(ctx); err != nil {
			return Result{}, t.failure(ErrNoKeys, 0x0820, err)
		}
	}
	return t.sendSignature(ctx, i)
}

// sendSignature sends the i-th signature until it is answered.
func (t *Terminal) sendSignature(ctx context.Context, i int) (Result, error) {
	s := &t.state.Signatures[i]
	m := t.begin(0x0820)
	if pan := s.Slip.PAN.Reveal(); pan != "" {
		m.Set(2, pan)
	}
	m.SetInt(4, s.Slip.Amount.Fen())
	m.SetInt(11, int64(s.Slip.STAN))
	if s.Slip.Cleared != "" {
		m.Set(15, s.Slip.Cleared)
	}
	if s.Slip.RRN != "" {
		m.Set(37, s.Slip.RRN)
	}
	de55, err := t.signed55(&s.Slip)
	if err != nil {
		return Result{}, fmt.Errorf("terminal %s: signature of %06d: %w", t.cfg.TID, s.Slip.STAN, err)
	}
	m.SetBytes(55, de55)
	m.Set(60, fmt.Sprintf("07%06d800", s.Slip.Batch))
	m.SetBytes(62, s.Image)
	m.SetBytes(64, make([]byte, 8))
	res, err := t.Exchange(ctx, m)
	if err != nil {
		return res, err
	}
	t.heard(&res)
	if res.Code != "00" {
		return res, &Refusal{TID: t.cfg.TID, What: "signature", Code: res.Code}
	}
	s.Taken = true
	if err := t.save(); err != nil {
		return res, t.failure(ErrState, 0x0820, err)
	}
	return res, nil
}

// signed55 is what is printed above a signature, in the tags of protocol.md
// 12.3. What the slip does not have is left out.
func (t *Terminal) signed55(s *Slip) ([]byte, error) {
	var b []byte
	put := func(tag uint32, v []byte) {
		if len(v) > 0 {
			b = spec.AppendTLV(b, tag, v)
		}
	}
	gbk := func(text string) ([]byte, error) { return simplifiedchinese.GBK.NewEncoder().Bytes([]byte(text)) }
	name, err := gbk(t.cfg.Merchant)
	if err != nil {
		return nil, fmt.Errorf("the merchant's name cannot be written in GBK: %w", err)
	}
	title, err := gbk(s.Kind.row().title)
	if err != nil {
		return nil, fmt.Errorf("the title of a %s cannot be written in GBK: %w", s.Kind, err)
	}
	put(0xFF00, name)
	put(0xFF01, title)
	put(0xFF02, []byte(strings.TrimSpace(t.cfg.Profile.Operator)))
	issuer, acquirer := s.Parties[:min(11, len(s.Parties))], s.Parties[min(11, len(s.Parties)):]
	put(0xFF03, []byte(strings.TrimSpace(acquirer)))
	put(0xFF04, []byte(strings.TrimSpace(issuer)))
	put(0xFF05, bcd(s.Expiry))
	if s.Date != "" && s.Time != "" {
		put(0xFF06, bcd(yearOf(s.Date, time.Now())+s.Date+s.Time))
	}
	put(0xFF07, []byte(s.AuthCode))
	put(0xFF09, []byte("156"))
	var was spec.Message
	if s.request != nil {
		if err := spec.UnionPayPOS.Parse(&was, s.request.bytes); err != nil {
			return nil, err
		}
	}
	for _, tags := range [...][2]uint32{{0xFF23, 0x9F26}, {0xFF31, 0x84}} {
		v, _ := spec.FindTLV(was.Bytes(55), tags[1])
		put(tags[0], v)
	}
	if o, ok := spec.ParseDE61(&was); ok && o.STAN > 0 {
		put(0xFF60, appendDigits(nil, int64(o.STAN), 6))
		put(0xFF62, was.Bytes(37))
		if o.Date > 0 {
			put(0xFF63, bcd(string(appendDigits(nil, int64(o.Date), 4))))
		}
		put(0xFF64, was.Bytes(38))
	}
	put(0xFF70, []byte{1})
	return b, nil
}

// bcd packs an even number of digits; nil for anything else.
func bcd(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil
	}
	return b
}

// yearOf is the year of a date MMDD that is not after now.
func yearOf(mmdd string, now time.Time) string {
	today := int(calendar.DateOf(now))
	year := today / 10000
	if mmdd > fmt.Sprintf("%04d", today%10000) {
		year--
	}
	return fmt.Sprintf("%04d", year)
}
