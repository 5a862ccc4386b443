package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/console"
	"acquirer/journal"
	"acquirer/spec"
	"acquirer/store"
)

// unknown is the console's word for what the store has not.
func unknown(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return console.ErrNotFound
	}
	return err
}

// typeOf is the name of the message that a transaction came as, as far as the
// journal tells: instalments and points are sales there, and an adjustment that
// adds to a sale is taken for a tip.
func typeOf(t *journal.Transaction) string {
	qr := t.Channel == journal.QR
	switch t.Kind {
	case journal.Sale:
		if qr {
			return "qr_sale"
		}
		return "sale"
	case journal.Void:
		switch {
		case qr:
			return "qr_void"
		case t.ProcessingCode == 170000:
			return "ecash_load_void"
		}
		return "void"
	case journal.Refund:
		if qr {
			return "qr_refund"
		}
		return "refund"
	case journal.PreAuth:
		return "preauth"
	case journal.PreAuthVoid:
		return "preauth_void"
	case journal.Completion:
		if t.MTI == 0x0220 {
			return "completion_notice"
		}
		return "completion"
	case journal.CompletionVoid:
		return "completion_void"
	case journal.Inquiry:
		if t.ProcessingCode == 330000 {
			return "topup_check"
		}
		return "balance"
	case journal.OfflineSale:
		if entry := entryOf(t); t.MTI == 0x0200 || entry == "chip" || entry == "contactless" {
			return "chip_offline_sale"
		}
		return "offline_sale"
	case journal.Adjustment:
		if t.Amount < 0 {
			return "adjust"
		}
		return "tip"
	case journal.Load:
		switch entry := entryOf(t); {
		case t.ProcessingCode == 600000:
			return "ecash_load"
		case t.ProcessingCode == 620000:
			return "ecash_load_other"
		case t.ProcessingCode == 400000:
			return "topup_account"
		case t.ProcessingCode == 630000 && (entry == "chip" || entry == "contactless"):
			return "ecash_cash_load"
		case t.ProcessingCode == 630000:
			return "topup_cash"
		}
		return "purse_load"
	case journal.ScriptResult:
		return "script_result"
	}
	return t.Kind.String()
}

// entryOf is how the card was read (DE 22).
func entryOf(t *journal.Transaction) string {
	switch t.EntryMode / 10 {
	case 1:
		return "keyed"
	case 2:
		return "stripe"
	case 3, 4:
		return "code"
	case 5:
		return "chip"
	case 7, 91, 96, 98:
		return "contactless"
	case 80:
		return "fallback"
	case 92:
		return "remote"
	}
	return fmt.Sprintf("DE 22 %03d", t.EntryMode)
}

// prints reports that a receipt is printed of a kind.
func prints(k journal.Kind) bool { return k != journal.Inquiry && k != journal.ScriptResult }

// relate puts what a transaction follows and what followed it on its page.
func (h consoleHouse) relate(ctx context.Context, d *console.Detail, f *journal.Following) error {
	e := f.Original
	if e.Original != 0 {
		o, err := h.v.journal.Get(ctx, e.Original)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil {
			d.Related = append(d.Related, console.Related{Original: true, Row: h.row(o)})
		}
	}
	for _, x := range f.Followers {
		d.Related = append(d.Related, console.Related{Row: h.row(x)})
	}
	switch e.Kind {
	case journal.Sale, journal.OfflineSale, journal.Completion, journal.Load:
	default:
		return nil // nothing is left of a void or a pre-authorisation
	}
	if e.State() != journal.StateApproved || len(f.Followers) == 0 {
		return nil
	}
	left := f.Standing()
	if slices.ContainsFunc(f.Followers, func(x *journal.Entry) bool { return x.Kind.Undoes() }) {
		left = 0
	}
	d.Left = &left
	return nil
}

// Receipt implements console.House.
func (h consoleHouse) Receipt(ctx context.Context, id int64) (console.Receipt, error) {
	e, err := h.v.journal.Get(ctx, id)
	switch {
	case err != nil:
		return console.Receipt{}, unknown(err)
	case !prints(e.Kind):
		return console.Receipt{}, console.ErrNoReceipt
	}
	r := console.Receipt{Row: h.row(e), BusinessDate: e.Day, Batch: fmt.Sprintf("%06d", e.Batch), Voucher: fmt.Sprintf("%06d", e.STAN), RRN: e.RRN,
		Entry: entryOf(&e.Transaction), PIN: e.EntryMode%10 == 1}
	if e.State() != journal.StateApproved {
		return r, nil
	}
	o := e.Outcome
	r.Answered, r.Approval = o.Closed, o.Approval
	if o.Settles != 0 {
		r.Clears = fmt.Sprintf("%04d", o.Settles)
	}
	if o.Part != 0 {
		r.Asked = e.Amount
	}
	if len(o.Additional) == 22 {
		r.IssuerNo, r.AcquirerNo = strings.TrimSpace(o.Additional[:11]), strings.TrimSpace(o.Additional[11:])
	}
	if code, err := spec.TransactionCode(r.Clears, e.RRN); err == nil {
		r.Code = code
	}
	if e.Channel != journal.QR {
		r.Scheme = cmp.Or(e.Scheme, "CUP")
	}
	if e.Original != 0 {
		if r.Original, err = h.original(ctx, e); err != nil {
			return console.Receipt{}, err
		}
	}
	r.Signing, err = h.signing(ctx, e)
	return r, err
}

// original is what a receipt says of what e follows; nil when that is not in
// the journal any more.
func (h consoleHouse) original(ctx context.Context, e *journal.Entry) (*console.ReceiptOriginal, error) {
	f, err := h.v.journal.Following(ctx, e.Original)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o := f.Original
	r := &console.ReceiptOriginal{Type: typeOf(&o.Transaction), Date: o.Day, Batch: fmt.Sprintf("%06d", o.Batch), Voucher: fmt.Sprintf("%06d", o.STAN), RRN: o.RRN}
	if o.Outcome != nil {
		r.Date, r.Approval = calendar.DateOf(o.Outcome.Closed), o.Outcome.Approval
	}
	if e.Kind == journal.Adjustment {
		r.Before = o.Sum()
		for _, x := range f.Followers {
			if x.Kind == journal.Adjustment && x.ID < e.ID {
				r.Before += x.Amount
			}
		}
	}
	return r, nil
}

// signing is what stands where the cardholder signs. The limits are those of
// today.
func (h consoleHouse) signing(ctx context.Context, e *journal.Entry) (console.Signing, error) {
	signed, err := h.v.journal.Signed(ctx, []int64{e.ID})
	if err != nil {
		return console.SigningNone, err
	}
	noPIN, noSignature := h.v.downloads.Limits(e.Terminal, e.Merchant)
	switch {
	case signed[e.ID]:
		return console.SigningPicture, nil
	case e.Channel == journal.QR, e.Kind == journal.Adjustment:
		return console.SigningNone, nil
	case e.Kind == journal.Sale && entryOf(&e.Transaction) == "contactless" && e.EntryMode%10 != 1 && e.Sum() <= min(noPIN, noSignature):
		return console.SigningWaived, nil
	}
	return console.SigningOpen, nil
}

// Signature implements console.House.
func (h consoleHouse) Signature(ctx context.Context, id int64) ([]byte, error) {
	picture, err := h.v.sw.Signature(ctx, id)
	return picture, unknown(err)
}

// Batches implements console.House.
func (h consoleHouse) Batches(ctx context.Context, date calendar.Date, n int) (console.Batches, error) {
	if date == 0 {
		date = h.v.today(time.Now())
	}
	settlings, err := h.v.journal.Settlings(ctx, date)
	if err != nil {
		return console.Batches{}, err
	}
	out := console.Batches{Date: date}
	for _, s := range settlings {
		b := console.TerminalBatch{TID: s.Terminal, Merchant: h.v.merchantName(s.Merchant), Batch: fmt.Sprintf("%06d", s.Batch), At: s.At,
			Uploaded: int(s.Uploaded), Ended: s.Ended}
		var claimedErr, oursErr error
		b.Claimed, claimedErr = spec.ParseTotals([]byte(s.Claimed))
		b.Ours, oursErr = spec.ParseTotals([]byte(s.Ours))
		b.Unreadable = claimedErr != nil || oursErr != nil
		out.Settled = append(out.Settled, b)
	}
	slices.SortStableFunc(out.Settled, func(a, b console.TerminalBatch) int {
		return cmp.Compare(rank(a), rank(b))
	})
	if len(out.Settled) > n {
		out.Settled, out.More = out.Settled[:n], len(out.Settled)-n
	}
	breaks, err := h.v.journal.Breaks(ctx, n)
	if err != nil {
		return console.Batches{}, err
	}
	for _, u := range breaks {
		out.Differences = append(out.Differences, h.difference(&u))
	}
	return out, nil
}

// rank puts settlements that balanced behind the others.
func rank(b console.TerminalBatch) int {
	if b.Result() == "balanced" {
		return 1
	}
	return 0
}

func (h consoleHouse) difference(u *journal.Uploaded) console.Difference {
	d := console.Difference{ID: u.ID, Date: u.Day, At: u.At, TID: u.Terminal, Merchant: h.v.merchantName(u.Merchant), Batch: fmt.Sprintf("%06d", u.Batch),
		What: differences[u.What], Form: uploadOf(u.Form), Amount: u.Amount, PAN: u.Masked, Txn: u.Txn}
	if u.What == journal.OtherCount { // counted in records, not in money
		d.Amount, d.Records = 0, int(u.Amount)
	}
	if u.STAN != 0 {
		d.Voucher = fmt.Sprintf("%06d", u.STAN)
	}
	return d
}

// differences say what is wrong, for people.
var differences = map[journal.Difference]console.Words{
	journal.NotHere:     {ZH: "终端有，流水没有", EN: "the terminal has it, the journal has not"},
	journal.NotApproved: {ZH: "终端成功，流水未成功或已冲正", EN: "approved at the terminal, not here"},
	journal.OtherAmount: {ZH: "金额或卡号不符", EN: "another amount or card"},
	journal.NotThere:    {ZH: "流水有，终端未上送", EN: "the journal has it, the terminal did not upload it"},
	journal.FailedThere: {ZH: "流水成功，终端失败", EN: "approved here, failed at the terminal"},
	journal.NoSignature: {ZH: "应签未签", EN: "not signed"},
	journal.OtherTotals: {ZH: "合计不符，上送未说明", EN: "totals differ and no upload says why"},
	journal.OtherCount:  {ZH: "批结笔数与上送不符", EN: "the batch end counts other records than came"},
}

// uploadOf says which upload brought a record: DE 60.3, DE 60.1 of a notice.
func uploadOf(form string) console.Words {
	switch form {
	case "":
		return console.Words{ZH: "批结", EN: "batch end"}
	case "201":
		return console.Words{ZH: "磁条明细", EN: "stripe details"}
	case "203", "205":
		return console.Words{ZH: "IC 卡证书", EN: "chip certificate"}
	case "204", "206":
		return console.Words{ZH: "IC 卡失败交易", EN: "failed chip transaction"}
	}
	return console.Words{ZH: "通知 " + form, EN: "notice " + form}
}

// Resolve implements console.House.
func (h consoleHouse) Resolve(ctx context.Context, id int64) error {
	return unknown(h.v.journal.Resolve(ctx, id, time.Now()))
}
