package switching

import (
	"context"
	"errors"
	"slices"
	"strings"

	"acquirer/fault"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/spec"
)

// row is one row of the message matrix: which messages it takes, what they must
// prove, what they are in the journal and who serves them.
type row struct {
	name  string   // the word in logs and metrics
	mti   spec.MTI // message type
	code  string   // DE 3; "" for messages that carry none, "*" for any
	de25  string   // DE 25, one or more; "" when the row does not ask
	kinds []int    // DE 60.1; nil when the row does not ask
	net   []int    // DE 60.3; nil when the row does not ask
	qr    bool     // a payment code instead of a card
	does  journal.Kind
	needs []int          // fields besides the ones every financial message has
	after []journal.Kind // what it follows; nil when it stands on its own
	needy string         // what the issuer's line must carry (Leg.Carries); "" for what all do
	back  bool           // a terminal may reverse it (0400)
	serve func(*Switch, context.Context, *work)
}

var (
	amount = []int{4}
	chip   = []int{4, 55}

	// What can be given back, voided, completed and so on.
	sales       = []journal.Kind{journal.Sale, journal.OfflineSale, journal.Completion}
	sold        = []journal.Kind{journal.Sale, journal.OfflineSale}
	sale        = []journal.Kind{journal.Sale}
	preAuth     = []journal.Kind{journal.PreAuth}
	completion  = []journal.Kind{journal.Completion}
	loaded      = []journal.Kind{journal.Load}
	everyOnline = []journal.Kind{journal.Sale, journal.PreAuth, journal.Completion, journal.Inquiry, journal.Load, journal.Void, journal.PreAuthVoid, journal.CompletionVoid}
)

// rows is the message matrix of the dialect (docs/fields.md): the first row
// that fits serves.
var rows = []row{
	{name: "qr_sale", mti: 0x0200, code: "000000", de25: "00", kinds: []int{22}, qr: true, does: journal.Sale, needs: amount, back: true, serve: (*Switch).qrSale},
	{name: "qr_void", mti: 0x0200, code: "200000", de25: "00", kinds: []int{23}, qr: true, does: journal.Void, needs: amount, after: sale, back: true, serve: (*Switch).qrBack},
	{name: "qr_refund", mti: 0x0220, code: "200000", de25: "00", kinds: []int{25}, qr: true, does: journal.Refund, needs: amount, after: sale, serve: (*Switch).qrBack},

	{name: "sale", mti: 0x0200, code: "000000", de25: "00", kinds: []int{22}, does: journal.Sale, needs: amount, back: true, serve: (*Switch).purchase},
	{name: "sale", mti: 0x0200, code: "190000", de25: "00", kinds: []int{22}, does: journal.Sale, needs: amount, back: true, serve: (*Switch).purchase},
	{name: "balance", mti: 0x0200, code: "310000", de25: "00", kinds: []int{1}, does: journal.Inquiry, serve: (*Switch).purchase},
	{name: "void", mti: 0x0200, code: "200000", de25: "00", kinds: []int{23}, does: journal.Void, needs: amount, after: sold, back: true, serve: (*Switch).purchase},
	{name: "refund", mti: 0x0220, code: "200000", de25: "00", kinds: []int{25}, does: journal.Refund, needs: amount, after: sales, serve: (*Switch).purchase},
	{name: "preauth", mti: 0x0100, code: "030000", de25: "06 60", kinds: []int{10}, does: journal.PreAuth, needs: amount, back: true, serve: (*Switch).purchase},
	{name: "preauth_void", mti: 0x0100, code: "200000", de25: "06 60", kinds: []int{11}, does: journal.PreAuthVoid, needs: amount, after: preAuth, back: true, serve: (*Switch).purchase},
	{name: "completion", mti: 0x0200, code: "000000", de25: "06 60", kinds: []int{20}, does: journal.Completion, needs: amount, after: preAuth, back: true, serve: (*Switch).purchase},
	{name: "completion_void", mti: 0x0200, code: "200000", de25: "06 60", kinds: []int{21}, does: journal.CompletionVoid, needs: amount, after: completion, back: true, serve: (*Switch).purchase},

	{name: "completion_notice", mti: 0x0220, code: "000000", de25: "06 60", kinds: []int{24}, does: journal.Completion, needs: amount, after: preAuth, serve: (*Switch).recording},
	{name: "offline_sale", mti: 0x0220, code: "000000", de25: "00", kinds: []int{30}, does: journal.OfflineSale, needs: amount, serve: (*Switch).recording},
	{name: "adjust", mti: 0x0220, code: "000000", de25: "00", kinds: []int{32}, does: journal.Adjustment, needs: amount, after: sold, serve: (*Switch).recording},
	{name: "tip", mti: 0x0220, code: "000000", de25: "00", kinds: []int{34}, does: journal.Adjustment, needs: amount, after: sold, serve: (*Switch).recording},
	{name: "chip_offline_sale", mti: 0x0200, code: "000000", de25: "00", kinds: []int{36}, does: journal.OfflineSale, needs: chip, serve: (*Switch).recording},
	{name: "chip_offline_sale", mti: 0x0220, code: "000000", de25: "00", kinds: []int{36}, does: journal.OfflineSale, needs: chip, serve: (*Switch).recording},
	{name: "script_result", mti: 0x0620, code: "*", kinds: []int{0}, net: []int{951}, does: journal.ScriptResult, needs: []int{55}, after: everyOnline, serve: (*Switch).recording},

	{name: "instalment", mti: 0x0200, code: "000000", de25: "64", kinds: []int{22}, does: journal.Sale, needs: amount, needy: "instalment", back: true, serve: (*Switch).purchase},
	{name: "instalment_void", mti: 0x0200, code: "200000", de25: "64", kinds: []int{23}, does: journal.Void, needs: amount, after: sale, needy: "instalment", back: true, serve: (*Switch).purchase},
	{name: "points", mti: 0x0200, code: "000000", de25: "65", kinds: []int{22}, does: journal.Sale, needs: amount, needy: "points", back: true, serve: (*Switch).purchase},
	{name: "points_query", mti: 0x0200, code: "310000", de25: "65", kinds: []int{3}, does: journal.Inquiry, needy: "points", serve: (*Switch).purchase},
	{name: "reservation", mti: 0x0200, code: "000000", de25: "67", kinds: []int{53}, does: journal.Sale, needs: amount, needy: "reservation", back: true, serve: (*Switch).purchase},
	{name: "reservation_void", mti: 0x0200, code: "200000", de25: "67", kinds: []int{54}, does: journal.Void, needs: amount, after: sale, needy: "reservation", back: true, serve: (*Switch).purchase},
	{name: "ecash_load", mti: 0x0200, code: "600000", de25: "91", kinds: []int{45}, does: journal.Load, needs: chip, needy: "ecash", back: true, serve: (*Switch).purchase},
	{name: "ecash_load_other", mti: 0x0200, code: "620000", de25: "91", kinds: []int{47}, does: journal.Load, needs: chip, needy: "ecash", back: true, serve: (*Switch).purchase},
	{name: "ecash_cash_load", mti: 0x0200, code: "630000", de25: "91", kinds: []int{46}, does: journal.Load, needs: chip, needy: "ecash", back: true, serve: (*Switch).purchase},
	{name: "ecash_load_void", mti: 0x0200, code: "170000", de25: "91", kinds: []int{51}, does: journal.Void, needs: chip, after: loaded, needy: "ecash", back: true, serve: (*Switch).purchase},
	{name: "ecash_refund", mti: 0x0220, code: "200000", de25: "00", kinds: []int{27}, does: journal.Refund, needs: amount, after: sales, needy: "ecash", serve: (*Switch).purchase},
	{name: "purse_load", mti: 0x0200, code: "*", kinds: []int{40, 41, 42}, does: journal.Load, needs: amount, needy: "purse", back: true, serve: (*Switch).purchase},
	{name: "topup_check", mti: 0x0100, code: "330000", de25: "00 66", kinds: []int{0}, does: journal.Inquiry, needy: "topup", serve: (*Switch).purchase},
	{name: "topup_cash", mti: 0x0200, code: "630000", de25: "00 66", kinds: []int{48}, does: journal.Load, needs: amount, needy: "topup", back: true, serve: (*Switch).purchase},
	{name: "topup_account", mti: 0x0200, code: "400000", de25: "00 66", kinds: []int{49}, does: journal.Load, needs: amount, needy: "topup", back: true, serve: (*Switch).purchase},

	{name: "reversal", mti: 0x0400, code: "*", serve: (*Switch).reversal},

	{name: "settlement", mti: 0x0500, kinds: []int{0}, net: []int{201}, serve: (*Switch).settlement},
	{name: "batch_upload", mti: 0x0320, kinds: []int{0}, net: []int{201}, serve: (*Switch).batchUpload},
	{name: "batch_end", mti: 0x0320, kinds: []int{0}, net: []int{202, 207}, serve: (*Switch).batchEnd},
	{name: "chip_upload", mti: 0x0320, kinds: []int{0}, net: []int{203, 204, 205, 206}, serve: (*Switch).chipUpload},
	{name: "notice_upload", mti: 0x0320, code: "*", serve: (*Switch).noticeUpload},

	{name: "esign", mti: 0x0820, kinds: []int{signatureMessage}, serve: (*Switch).signature},
	{name: "esign", mti: 0x0920, kinds: []int{signatureMessage}, serve: (*Switch).signature},

	{name: "sign_in", mti: 0x0800, kinds: []int{0}, net: []int{1, 3, 4, 5}, serve: (*Switch).signIn},
	{name: "cashier_sign_in", mti: 0x0820, kinds: []int{0}, net: []int{401}, serve: (*Switch).echo},
	{name: "sign_off", mti: 0x0820, kinds: []int{0}, net: []int{2}, serve: (*Switch).signOff},
	{name: "echo", mti: 0x0820, kinds: []int{0}, net: []int{301}, serve: (*Switch).echo},
	{name: "tmk_download", mti: 0x0800, kinds: []int{0}, net: []int{420, 682}, serve: (*Switch).masterKey},
	{name: "tmk_download", mti: 0x0800, kinds: []int{99}, serve: (*Switch).masterKey},

	{name: "parameter_download", mti: 0x0800, kinds: []int{0}, net: []int{360}, serve: (*Switch).parameterDownload},
	{name: "parameter_end", mti: 0x0800, kinds: []int{0}, net: []int{361}, serve: (*Switch).parameterEnd},
	{name: "status_upload", mti: 0x0820, kinds: []int{0}, net: []int{362}, serve: (*Switch).statusUpload},
	{name: "capk_query", mti: 0x0820, kinds: []int{0}, net: []int{372}, serve: (*Switch).capkQuery},
	{name: "capk_download", mti: 0x0800, kinds: []int{0}, net: []int{370}, serve: (*Switch).capkDownload},
	{name: "capk_end", mti: 0x0800, kinds: []int{0}, net: []int{371}, serve: (*Switch).capkEnd},
	{name: "aid_query", mti: 0x0820, kinds: []int{0}, net: []int{382}, serve: (*Switch).aidQuery},
	{name: "aid_download", mti: 0x0800, kinds: []int{0}, net: []int{380}, serve: (*Switch).aidDownload},
	{name: "aid_end", mti: 0x0800, kinds: []int{0}, net: []int{381}, serve: (*Switch).aidEnd},
	{name: "blacklist_download", mti: 0x0800, kinds: []int{0}, net: []int{390}, serve: (*Switch).blackListDownload},
	{name: "blacklist_end", mti: 0x0800, kinds: []int{0}, net: []int{391}, serve: (*Switch).blackListEnd},
	{name: "qps_download", mti: 0x0800, kinds: []int{0}, net: []int{394}, serve: (*Switch).qpsDownload},
	{name: "qps_end", mti: 0x0800, kinds: []int{0}, net: []int{395}, serve: (*Switch).qpsEnd},
}

// signatureMessage is DE 60.1 of an electronic signature, which carries a MAC
// though it is management.
const signatureMessage = 7

// financial are the message types that carry a MAC whatever else they are
// (docs/fields.md, DE 64). A type that is not here and not management is
// refused before any look-up.
func financial(mti spec.MTI) bool {
	switch mti {
	case 0x0100, 0x0200, 0x0220, 0x0400, 0x0620:
		return true
	}
	return false
}

// find picks the row of m, nil when none fits.
func find(m *spec.Message, de60 spec.DE60) *row {
	for i := range rows {
		if r := &rows[i]; r.mti == m.MTI() && r.fits(m, de60) {
			return r
		}
	}
	return nil
}

// reversible picks the row of what m, a reversal, wants taken back; nil when it
// is nothing that a terminal may reverse.
func reversible(m *spec.Message, de60 spec.DE60) *row {
	for i := range rows {
		if r := &rows[i]; r.back && r.fits(m, de60) {
			return r
		}
	}
	return nil
}

// fits holds everything but the message type against the row.
func (r *row) fits(m *spec.Message, de60 spec.DE60) bool {
	var room [8]byte
	switch {
	case r.code != "*" && string(m.AppendText(room[:0], 3)) != r.code,
		r.kinds != nil && !slices.Contains(r.kinds, de60.MessageType),
		r.net != nil && !slices.Contains(r.net, de60.NetworkCode),
		r.qr && !presentsCode(m):
		return false
	}
	// A missing DE 25 is the ladder's to refuse, with 30.
	return r.de25 == "" || !m.Has(25) || strings.Contains(r.de25, string(m.AppendText(room[:0], 25)))
}

// presentsCode reports a payment code instead of a card: DE 22 says 03 (04 on
// paper), or there is no card and DE 59 has a code or its voucher.
func presentsCode(m *spec.Message) bool {
	if entry, ok := m.Int(22); ok && (entry/10 == entryCode || entry/10 == entryCodeOnPaper) {
		return true
	}
	if m.Has(2) || m.Has(35) || !m.Has(59) {
		return false
	}
	_, code := spec.FindDE59(m.Bytes(59), "A3")
	_, voucher := spec.FindDE59(m.Bytes(59), "A4")
	return code || voucher
}

// handle finds the terminal, verifies the MAC over the bytes as received and
// hands the message to its row. Nothing a message says has any effect before
// its MAC is right.
func (s *Switch) handle(ctx context.Context, w *work) {
	m := &w.req
	if m.MTI().IsResponse() {
		s.dropped(w, "an answer arrived where requests are served")
		return
	}
	t, known := s.terminals.Terminal(m.Bytes(41))
	if !known {
		s.unknown(ctx, w)
		return
	}
	w.terminal = t
	if !w.dialect.UnionPay() {
		s.handleOther(ctx, w)
		return
	}
	de60, ok := spec.ParseDE60(m)
	if financial(m.MTI()) || ok && de60.MessageType == signatureMessage {
		w.signs = true
		if err := s.verify(ctx, w); err != nil {
			s.refuse(w, s.macRefusal(w, err))
			return
		}
		s.strikes.forget(t.TID)
	}
	w.step(stepCheck)
	if !ok {
		s.malformed(w, errNoDE60)
		return
	}
	w.de60 = de60
	if w.row = find(m, de60); w.row == nil {
		s.refuse(w, RCInvalidSale)
		return
	}
	w.kind = w.row.name
	if m.MTI() == 0x0400 {
		w.undoes = reversible(m, de60)
	}
	switch m.MTI() {
	case 0x0320, 0x0400, 0x0500: // the others that have rules to keep keep them on their ladder
		if e := w.dialect.Check(m); e != nil {
			s.malformed(w, e)
			return
		}
	}
	w.row.serve(s, ctx, w)
}

// verify checks the MAC under the terminal's keys. Until the keys of the last
// sign-in were used once, those before them still count: the answer that
// carried the new ones may have been lost (fault 19). The answer is signed
// with the generation that the request used.
func (s *Switch) verify(ctx context.Context, w *work) error {
	t := w.terminal
	if !t.SignedIn() {
		return errNotSignedIn
	}
	w.macAlg = macAlgOf(t, w.dialect)
	block, mac := spec.SignedPart(w.req.Raw())
	err := error(hsm.ErrMAC)
	signed := w.req.Has(w.dialect.MACField(&w.req))
	if signed {
		err = s.hsm.VerifyMAC(ctx, hsm.Key(t.Keys.TAK), w.macAlg, block, mac)
	}
	w.hold(&t.Keys)
	switch {
	case !signed && fault.Planted("mac-optional"):
		return nil
	case errors.Is(err, hsm.ErrKeyUse):
		w.macKey = "" // it signs no answer either
	case err == nil && !t.Previous.None() && !fault.Planted("old-keys-for-ever"):
		if _, err := s.terminals.Confirm(ctx, t.TID, t.Keys.Generation); err != nil {
			s.log.Error("the first use of new terminal keys could not be recorded", "terminal", t.TID, "error", err.Error())
		}
	case errors.Is(err, hsm.ErrMAC) && signed && !t.Previous.None():
		if s.hsm.VerifyMAC(ctx, hsm.Key(t.Previous.TAK), w.macAlg, block, mac) == nil {
			w.hold(&t.Previous)
			return nil
		}
	}
	return err
}

// hold keeps the keys of the generation that the request used.
func (w *work) hold(k *merchant.Keys) {
	w.macKey, w.tpk, w.tdk, w.keysSince = hsm.Key(k.TAK), hsm.Key(k.TPK), hsm.Key(k.TDK), k.SignedIn
}

var errNoDE60 = errors.New("DE 60 is missing or ends before the batch number")

var errNotSignedIn = errors.New("the terminal has not signed in")

// macRefusal is A0 for a wrong or missing MAC and for a terminal without keys,
// or with keys for another MAC than its listener's; 96 when the HSM itself
// failed: then the MAC may be right, and is not skipped.
func (s *Switch) macRefusal(w *work, err error) ResponseCode {
	if errors.Is(err, hsm.ErrMAC) || errors.Is(err, errNotSignedIn) || errors.Is(err, hsm.ErrKeyUse) {
		s.metrics.macFailures.Inc()
		if errors.Is(err, hsm.ErrMAC) && s.strikes.add(w.terminal.TID) >= s.cfg.BadMACs {
			w.demand = spec.DemandSignIn
		}
		s.log.Warn("MAC refused", "terminal", w.terminal.TID, "mti", w.req.MTI().String(), "why", err.Error())
		return RCMAC
	}
	s.log.Error("the HSM failed; answered 96", "terminal", w.terminal.TID, "error", err.Error())
	return RCMalfunction
}

// macAlgOf is the algorithm of the terminal's profile; one that says nothing
// but UnionPay's follows the dialect that the terminal speaks.
func macAlgOf(t *merchant.Terminal, d *spec.Dialect) hsm.MACAlg {
	alg := t.Profile.MAC
	if rule := d.MAC(); alg == merchant.MACUnionPay && rule != nil {
		alg = rule.Alg
	}
	switch alg {
	case merchant.MACX919:
		return hsm.MACX919
	case merchant.MACX99:
		return hsm.MACX99
	case merchant.MACCMAC:
		return hsm.MACCMAC
	}
	return hsm.MACUnionPay
}

// malformed answers 30 when enough of the message was readable to say to whom,
// and ends the conversation when not even its type was.
func (s *Switch) malformed(w *work, err error) {
	s.log.Warn("message refused", "why", err.Error())
	if w.req.MTI() == 0 || w.req.MTI().IsResponse() {
		s.dropped(w, "a message without a readable type")
		return
	}
	s.refuse(w, RCFormat)
}

// dropped leaves a message without an answer and closes the connection.
func (s *Switch) dropped(w *work, why string) {
	s.log.Warn("message dropped", "why", why)
	w.silent = true
}
