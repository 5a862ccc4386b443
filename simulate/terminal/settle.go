package terminal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"acquirer/money"
	"acquirer/spec"
)

// SettleResult is how a batch was closed.
type SettleResult struct {
	Batch             int         // the number of the closed batch
	Totals            spec.Totals // what the terminal had
	Domestic, Foreign spec.Balance
	Date              string // DE 15 of the answer, MMDD
	RRN               string
	Uploaded          int // records, as the batch end told them
	Next              int // the batch number now in force
}

// Settle closes the batch (protocol.md 9). It delivers what waits, sends the
// totals (0500), uploads what the host's two flags ask for, ends the batch
// (0320, DE 60.3 207 when both sides agree, else 202), and goes on with the
// next batch number: the one in the host's answer when that is another, else
// the one behind. A host that misses signatures (flag 3 and DE 62 "ES") gets
// them again and is asked once more.
//
// After an error the batch stands as it was and Settle can be called again:
// ErrPending and ErrUploads when the host did not take what comes first,
// ErrBalance when it did not compare, *Refusal when it refused an upload.
func (t *Terminal) Settle(ctx context.Context) (SettleResult, error) {
	const what = 0x0500
	if t.keys.MAK == nil {
		return SettleResult{}, t.failure(ErrNoKeys, what, nil)
	}
	if !t.cfg.KeepSlips {
		return SettleResult{}, fmt.Errorf("terminal %s: it keeps no batch to settle: set Config.KeepSlips", t.cfg.TID)
	}
	if err := t.ready(ctx, what); err != nil {
		return SettleResult{}, err
	}
	if err := t.deliver(ctx); err != nil || len(t.state.Uploads) > 0 {
		return SettleResult{}, t.failure(ErrUploads, what, err)
	}
	for i := range t.state.Signatures {
		if !t.state.Signatures[i].Taken {
			if _, err := t.sendSignature(ctx, i); err != nil {
				return SettleResult{}, err
			}
		}
	}
	out, err := t.compare(ctx)
	if err != nil {
		return out, err
	}
	if out.Uploaded, err = t.uploadBatch(ctx, &out); err != nil {
		return out, err
	}
	next, err := t.endBatch(ctx, &out)
	if err != nil {
		return out, err
	}
	out.Next = next
	t.state.Batch, t.state.STAN = next, 0
	t.state.Slips, t.state.Signatures = nil, nil
	t.last = t.last[:0]
	if err := t.save(); err != nil {
		return out, t.failure(ErrState, what, err)
	}
	return out, nil
}

// compare sends the totals until the host has compared them: at most twice,
// with the missing signatures in between.
func (t *Terminal) compare(ctx context.Context) (SettleResult, error) {
	const what = 0x0500
	out := SettleResult{Batch: t.state.Batch}
	totals, err := t.Totals()
	if err != nil {
		return out, err
	}
	out.Totals = totals
	for first := true; ; first = false {
		req, err := t.buildSettlement(totals)
		if err != nil {
			return out, err
		}
		res, err := t.Exchange(ctx, req)
		if err != nil {
			return out, err
		}
		if res.Code != "" && res.Code != "00" { // a settlement that went well has no DE 39 (13.6)
			t.heard(&res)
			return out, &Refusal{TID: t.cfg.TID, What: "settlement", Code: res.Code}
		}
		told, err := spec.ParseTotals(t.ans.AppendText(nil, 48))
		if err != nil {
			return out, t.failure(ErrFormat, what, err)
		}
		out.Date, out.RRN = t.ans.Text(15), res.RRN
		out.Domestic, out.Foreign = said(told.Domestic, totals.Domestic), said(told.Foreign, totals.Foreign)
		missing, listErr := spec.ParseMissingSignatures(t.ans.Bytes(62))
		switch {
		case compared(out.Domestic) && compared(out.Foreign):
			return out, nil
		case listErr != nil || !first:
			return out, t.failure(ErrBalance, what, fmt.Errorf("flags %d and %d", out.Domestic, out.Foreign))
		}
		for _, stan := range missing {
			i := slices.IndexFunc(t.state.Signatures, func(s Signature) bool { return s.Slip.STAN == stan })
			if i < 0 {
				return out, t.failure(ErrBalance, what, fmt.Errorf("the host misses the signature of %06d, which was never taken", stan))
			}
			if _, err := t.sendSignature(ctx, i); err != nil {
				return out, err
			}
		}
	}
}

func compared(b spec.Balance) bool { return b == spec.Balanced || b == spec.NotBalanced }

// said is the host's flag of one side; it need not compare a side on which
// nothing was done.
func said(host, ours spec.SideTotals) spec.Balance {
	if ours == (spec.SideTotals{}) && host.Balance == spec.NotCompared {
		return spec.Balanced
	}
	return host.Balance
}

func (r *SettleResult) balanced() bool {
	return r.Domestic == spec.Balanced && r.Foreign == spec.Balanced
}

func (t *Terminal) buildSettlement(totals spec.Totals) (*spec.Message, error) {
	m := t.begin(0x0500)
	m.SetInt(11, int64(t.NextSTAN()))
	digits, err := spec.AppendTotals(nil, totals)
	if err != nil {
		return nil, fmt.Errorf("terminal %s: settlement: %w", t.cfg.TID, err)
	}
	m.SetText(48, digits)
	m.Set(49, money.CurrencyNumeric)
	t.set60(m, "00", "201", false, false, false)
	m.Set(63, t.cfg.Profile.Operator)
	return m, nil
}

// uploadBatch sends what the flags ask for, in the order of protocol.md 9.3,
// and returns how many records that was. When both sides agree these are the
// chips' certificates alone (9.2).
func (t *Terminal) uploadBatch(ctx context.Context, r *SettleResult) (int, error) {
	n := 0
	each := func(wanted func(*Slip) bool, send func(context.Context, *SettleResult, *Slip) error) error {
		for i := range t.state.Slips {
			if s := &t.state.Slips[i]; wanted(s) {
				if err := send(ctx, r, s); err != nil {
					return err
				}
				n++
			}
		}
		return nil
	}
	differs := func(s *Slip) bool {
		flag := r.Domestic
		if s.Foreign() {
			flag = r.Foreign
		}
		return s.counts() && flag == spec.NotBalanced
	}
	of := func(kinds ...Kind) func(*Slip) bool {
		return func(s *Slip) bool { return differs(s) && slices.Contains(kinds, s.Kind) }
	}
	if err := each(of(KindOfflineSale, KindAdjust, KindTip), t.uploadNotice); err != nil {
		return n, err
	}
	if err := each(of(KindChipOfflineSale), t.uploadNotice); err != nil {
		return n, err
	}
	var details []spec.Detail
	if err := each(func(s *Slip) bool { return differs(s) && s.inDetails() }, func(_ context.Context, _ *SettleResult, s *Slip) error {
		details = append(details, spec.Detail{Foreign: s.Foreign(), STAN: s.STAN, PAN: s.PAN.Reveal(), Fen: s.Amount.Fen()})
		return nil
	}); err != nil {
		return n, err
	}
	for some := range slices.Chunk(details, spec.MaxDetails) {
		if err := t.uploadDetails(ctx, some); err != nil {
			return n, err
		}
	}
	if err := each(of(KindRefund, KindQRRefund), t.uploadNotice); err != nil {
		return n, err
	}
	if err := each(of(KindCompletionNotice), t.uploadNotice); err != nil {
		return n, err
	}
	if err := each((*Slip).certified, t.uploadChip); err != nil {
		return n, err
	}
	return n, each(func(s *Slip) bool { return s.Failure != spec.ChipGood }, t.uploadChip)
}

// certified reports whether an online chip transaction has a certificate to
// upload: those that sold something.
func (s *Slip) certified() bool {
	r := s.Kind.row()
	return s.counts() && r.side == debit && r.ending == reversed && r.mti == 0x0200 && r.naming == noOriginal && s.hasChip()
}

func (s *Slip) hasChip() bool {
	return s.Kind.row().reading == whole && (s.Entry == Chip || s.Entry == Contactless) && !s.PAN.IsZero()
}

// inDetails reports whether a transaction is uploaded as one of the details of
// DE 48: those done online that are in the totals and have no certificate.
func (s *Slip) inDetails() bool {
	r := s.Kind.row()
	return (r.side == debit || r.side == credit) && r.ending == reversed && !s.certified()
}

// uploadNotice sends the request of a slip again as 0320, without its PIN.
func (t *Terminal) uploadNotice(ctx context.Context, _ *SettleResult, s *Slip) error {
	m := &t.req
	if err := spec.UnionPayPOS.Parse(m, s.request.bytes); err != nil {
		return fmt.Errorf("terminal %s: slip %06d: %w", t.cfg.TID, s.STAN, err)
	}
	m.SetMTI(0x0320)
	return t.upload(ctx, m, "notice upload")
}

func (t *Terminal) uploadDetails(ctx context.Context, details []spec.Detail) error {
	m := t.begin(0x0320)
	m.SetInt(11, int64(t.NextSTAN()))
	digits, err := spec.AppendDetails(nil, details)
	if err != nil {
		return fmt.Errorf("terminal %s: batch upload: %w", t.cfg.TID, err)
	}
	m.SetText(48, digits)
	t.set60(m, "00", "201", false, false, false)
	return t.upload(ctx, m, "batch upload")
}

// uploadChip sends the certificate of a chip transaction (203, or 205 when the
// sides do not agree), or a failed one (204, 206): DE 2 4 11 22 23 41 42 55 60 62
// of its request.
func (t *Terminal) uploadChip(ctx context.Context, r *SettleResult, s *Slip) error {
	var was spec.Message
	if err := spec.UnionPayPOS.Parse(&was, s.request.bytes); err != nil {
		return fmt.Errorf("terminal %s: slip %06d: %w", t.cfg.TID, s.STAN, err)
	}
	m := t.begin(0x0320)
	m.Copy(&was, 2, 4, 11, 22, 23)
	code, de55 := "203", was.Bytes(55)
	switch {
	case s.Failure != spec.ChipGood && r.balanced():
		code = "204"
	case s.Failure != spec.ChipGood:
		code = "206"
	case !r.balanced():
		code = "205"
	}
	if s.Failure == spec.ChipGood {
		de55 = asCertificate(de55)
	}
	m.SetBytes(55, de55)
	t.set60(m, "00", code, false, false, false)
	digits, err := spec.AppendChipDetail(nil, spec.ChipDetail{Failure: s.Failure, Foreign: s.Foreign(), Fen: s.Amount.Fen(), Currency: money.CurrencyNumeric})
	if err != nil {
		return fmt.Errorf("terminal %s: chip upload: %w", t.cfg.TID, err)
	}
	m.SetBytes(62, digits)
	return t.upload(ctx, m, "chip upload")
}

// endBatch tells the host how many records were uploaded and returns the next
// batch number.
func (t *Terminal) endBatch(ctx context.Context, r *SettleResult) (int, error) {
	m := t.begin(0x0320)
	m.SetInt(11, int64(t.NextSTAN()))
	digits, err := spec.AppendDetailCount(nil, r.Uploaded)
	if err != nil {
		return 0, fmt.Errorf("terminal %s: batch end: %w", t.cfg.TID, err)
	}
	m.SetText(48, digits)
	code := "207"
	if !r.balanced() {
		code = "202"
	}
	t.set60(m, "00", code, false, false, false)
	if err := t.upload(ctx, m, "batch end"); err != nil {
		return 0, err
	}
	if next := batchOf(&t.ans); next > 0 && next != t.state.Batch {
		return next, nil
	}
	return t.state.Batch%999999 + 1, nil
}

// upload sends a message without a MAC, up to Profile.Tries times while no
// answer comes, and demands 00, or 94: the host has it already.
func (t *Terminal) upload(ctx context.Context, m *spec.Message, what string) error {
	var last error
	for range t.cfg.Profile.Tries {
		res, err := t.Exchange(ctx, m)
		switch {
		case err == nil && (res.Code == "00" || res.Code == "94"):
			return nil
		case err == nil:
			t.heard(&res)
			return &Refusal{TID: t.cfg.TID, What: what, Code: res.Code}
		}
		last = errors.Join(last, err)
		if ctx.Err() != nil {
			break
		}
	}
	return last
}
