package switching

import (
	"context"
	"errors"
	"strings"
	"time"

	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/spec"
)

// qrSale is a sale by payment code: the terminal scanned what the buyer's
// wallet shows (DE 59 A3). The same open, send and close as a card's; the
// order number at the wallet is our RRN, which goes back as the voucher (A4).
// What nobody has decided when the patience ends is cancelled at the wallet
// (owed.go).
func (s *Switch) qrSale(ctx context.Context, w *work) {
	s.atWallet(ctx, w, func(ctx context.Context, t *journal.Transaction, q *asked) (wallet.Result, error) {
		return q.wallet.PayAndWait(ctx, wallet.Payment{Order: orderOf(t), Code: w.code, Name: w.merchant.Name}, s.cfg.WalletPatience)
	})
}

// qrBack is the void or refund of a QR sale, found by its voucher or number.
// Towards the wallet both are a refund under our RRN, which can be repeated
// until it is answered and never be taken back: like an advice, it is owed
// until the wallet has done it.
func (s *Switch) qrBack(ctx context.Context, w *work) {
	s.atWallet(ctx, w, func(ctx context.Context, t *journal.Transaction, q *asked) (wallet.Result, error) {
		return q.wallet.Refund(ctx, orderOf(&q.follows.Original.Transaction), refundOf(t))
	})
}

// atWallet checks and opens, asks the wallet, and closes with what it said.
func (s *Switch) atWallet(ctx context.Context, w *work, ask func(context.Context, *journal.Transaction, *asked) (wallet.Result, error)) {
	q, reason, note := s.climbCode(ctx, w)
	w.step(stepCheck)
	t := s.begin(ctx, w, &q, reason, note)
	if t == nil {
		return
	}
	w.flight = s.undecide.begin(t.ID)
	defer close(w.flight.decided)
	r, err := ask(context.WithoutCancel(ctx), t, &q)
	w.step(stepIssuer)
	s.close(ctx, w, t, s.walletSaid(t, r, err))
}

// climbCode is the ladder of a payment code.
func (s *Switch) climbCode(ctx context.Context, w *work) (asked, journal.Reason, string) {
	q := asked{channel: journal.QR}
	m := &w.req
	if reason, note := s.format(w, &q); reason != journal.Undecided {
		return q, reason, note
	}
	if q.pin || m.Has(2) || m.Has(35) || m.Has(55) {
		return q, journal.FormatError, "a payment code with a card or a PIN"
	}
	if reason, note := s.mayTrade(w); reason != journal.Undecided {
		return q, reason, note
	}
	if e := w.dialect.Check(m); e != nil {
		return q, journal.FormatError, e.Note()
	}
	if w.row.after == nil {
		text, ok := spec.FindDE59(m.Bytes(59), "A3")
		if !ok {
			return q, journal.FormatError, "DE 59 has no payment code (A3)"
		}
		code, err := routing.ParsePayCode(strings.TrimSpace(string(text)))
		if err != nil {
			return q, journal.CardInvalid, "DE 59 A3"
		}
		w.code = code
		if q.token, err = s.hsm.Token(ctx, s.tokenKey, []byte(code.Reveal())); err != nil {
			return q, journal.HSMTrouble, err.Error()
		}
	}
	if reason, note := s.amountOf(w); reason != journal.Undecided {
		return q, reason, note
	}
	if w.row.after != nil {
		if reason, note := s.findOriginal(ctx, w, &q); reason != journal.Undecided {
			return q, reason, note
		}
		w.issuer = q.follows.Original.Issuer
	} else {
		w.issuer, _ = routing.WalletOf(w.code)
	}
	if q.wallet = s.wallets[w.issuer]; q.wallet == nil {
		return q, journal.UnknownCard, "no wallet takes this code"
	}
	if w.row.does == journal.Sale {
		if reason, note := s.priced(w, merchant.Sale{Channel: merchant.QR, Wallet: w.issuer, Amount: w.amount}); reason != journal.Undecided {
			return q, reason, note
		}
	}
	return q, journal.Undecided, ""
}

// walletCodes are DE 39 for a wallet's no; any other is 05.
var walletCodes = map[string]ResponseCode{
	wallet.NotEnough: RCFunds, wallet.BuyerRefused: "05", wallet.NotPermitted: RCNotPermitted, wallet.OverLimit: RCAmountLimit,
	wallet.CodeInvalid: RCInvalidCard, wallet.CodeExpired: RCExpired, wallet.OrderConflict: RCDuplicate,
	wallet.BadRequest: RCFormat, wallet.NotPaid: RCNoOriginal, wallet.OverRefund: RCAmountLimit,
}

// walletSaid turns a wallet's answer into an outcome.
func (s *Switch) walletSaid(t *journal.Transaction, r wallet.Result, err error) journal.Outcome {
	out := journal.Outcome{Closed: time.Now(), Settles: int32(t.Day) % 10000, Additional: institutions(t.Issuer, s.cfg.Acquirer)}
	if r.Transaction != "" {
		out.Extra = appendExtra(nil, extraNumber, r.Transaction)
	}
	done := r.State == wallet.Paid || r.State == wallet.Refunded && t.Kind != journal.Sale
	switch {
	case errors.Is(err, routing.ErrUnreachable):
		out.Reason, out.Note = journal.Unreachable, whyOf(err)
	case err != nil:
		out.Reason, out.Note = journal.Unanswered, whyOf(err)
	case done:
		out.Reason, out.IssuerCode = journal.Approved, string(RCApproved)
		if n := len(r.Transaction); n >= 6 && t.Kind == journal.Sale { // a wallet has no authorisation code: the end of its number
			out.Approval = r.Transaction[n-6:]
		}
		voucher, err := spec.AppendDE59(nil, "A4", []byte(voucherOf(t)))
		if err == nil {
			out.Extra = appendExtra(out.Extra, 59, string(voucher))
		}
	case r.State == wallet.BuyerPaying:
		out.Reason, out.Note = journal.Unanswered, "the buyer did not finish"
	default: // Failed; Closed and Refunded when the order number was used before
		out.Reason, out.IssuerCode = journal.Declined, "05"
		if rc, ok := walletCodes[r.Code]; ok {
			out.IssuerCode = string(rc)
		}
		out.Note = noteOf(r)
	}
	return out
}

// noteOf is why a wallet refused: our word for it, and its own.
func noteOf(r wallet.Result) string {
	switch {
	case r.Code == "":
		return "the order is " + r.State.String()
	case r.Said == "":
		return r.Code
	}
	return r.Code + ": " + r.Said
}

// voucherOf is what a terminal keeps for the void and the refund of a QR sale:
// the order number at the wallet.
func voucherOf(t *journal.Transaction) string { return t.RRN }
