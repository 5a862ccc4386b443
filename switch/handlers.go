package switching

import (
	"context"
	"errors"

	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/spec"
)

// handler is one row of the table below: which messages it takes and what they
// must prove.
type handler struct {
	name  string   // the word in logs and metrics
	mti   spec.MTI // message type
	code  string   // DE 3; "" for messages that carry none, "*" for any
	de25  string   // DE 25; "" when the row does not ask
	kinds []int    // DE 60.1
	net   []int    // DE 60.3; nil when the row does not ask
	mac   bool     // DE 64 is verified before anything is looked at
	serve func(*Switch, context.Context, *work)
}

// handlers is the message matrix of the dialect (docs/fields.md): the first
// row that fits serves.
var handlers = []handler{
	{name: "sale", mti: 0x0200, code: "000000", de25: "00", kinds: []int{22}, mac: true, serve: (*Switch).purchase},
	{name: "reversal", mti: 0x0400, code: "000000", de25: "00", kinds: []int{22}, mac: true, serve: (*Switch).reversal},
	{name: "sign_in", mti: 0x0800, kinds: []int{0}, net: []int{1, 3, 4}, serve: (*Switch).signIn},
	{name: "sign_off", mti: 0x0820, kinds: []int{0}, net: []int{2}, serve: (*Switch).signOff},
	{name: "echo", mti: 0x0820, kinds: []int{0}, net: []int{301}, serve: (*Switch).echo},
}

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

// find picks the handler of m, nil when no row fits.
func find(m *spec.Message, de60 spec.DE60) *handler {
	var room [8]byte
	code := string(m.AppendText(room[:0], 3))
	for i := range handlers {
		h := &handlers[i]
		if h.mti != m.MTI() || h.code != code || !has(h.kinds, de60.MessageType) || h.net != nil && !has(h.net, de60.NetworkCode) {
			continue
		}
		if h.de25 != "" && m.Has(25) && string(m.AppendText(room[:0], 25)) != h.de25 {
			continue // a missing DE 25 is the ladder's to refuse, with 30
		}
		return h
	}
	return nil
}

func has(list []int, v int) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
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
		s.refuse(w, RCUnknownTerminal)
		return
	}
	w.terminal = t
	if financial(m.MTI()) {
		w.signs = true
		if err := s.verify(ctx, w); err != nil {
			s.refuse(w, s.macRefusal(w, err))
			return
		}
	}
	w.step(stepCheck)
	de60, ok := spec.ParseDE60(m)
	if !ok {
		s.malformed(w, errNoDE60)
		return
	}
	w.de60 = de60
	h := find(m, de60)
	if h == nil {
		s.refuse(w, RCInvalidSale)
		return
	}
	w.kind = h.name
	h.serve(s, ctx, w)
}

// verify checks DE 64 under the terminal's keys. Until the keys of the last
// sign-in were used once, those before them still count: the answer that
// carried the new ones may have been lost (fault 19). The answer is signed
// with the generation that the request used.
func (s *Switch) verify(ctx context.Context, w *work) error {
	t := w.terminal
	if !t.SignedIn() {
		return errNotSignedIn
	}
	w.macAlg = macAlgOf(t)
	block, mac := spec.SignedPart(w.req.Raw())
	err := error(hsm.ErrMAC)
	if w.req.Has(64) {
		err = s.hsm.VerifyMAC(ctx, hsm.Key(t.Keys.TAK), w.macAlg, block, mac)
	}
	w.macKey, w.tpk, w.tdk, w.keysSince = hsm.Key(t.Keys.TAK), hsm.Key(t.Keys.TPK), hsm.Key(t.Keys.TDK), t.Keys.SignedIn
	switch {
	case err == nil && !t.Previous.None():
		if _, err := s.terminals.Confirm(ctx, t.TID, t.Keys.Generation); err != nil {
			s.log.Error("the first use of new terminal keys could not be recorded", "terminal", t.TID, "error", err.Error())
		}
	case errors.Is(err, hsm.ErrMAC) && w.req.Has(64) && !t.Previous.None():
		if old := hsm.Key(t.Previous.TAK); s.hsm.VerifyMAC(ctx, old, w.macAlg, block, mac) == nil {
			w.macKey, w.tpk, w.tdk, w.keysSince = old, hsm.Key(t.Previous.TPK), hsm.Key(t.Previous.TDK), t.Previous.SignedIn
			return nil
		}
	}
	return err
}

var errNoDE60 = errors.New("DE 60 is missing or ends before the batch number")

var errNotSignedIn = errors.New("the terminal has not signed in")

// macRefusal is A0 for a wrong or missing MAC and for a terminal without keys,
// 96 when the HSM itself failed: then the MAC may be right, and is not skipped.
func (s *Switch) macRefusal(w *work, err error) ResponseCode {
	if errors.Is(err, hsm.ErrMAC) || errors.Is(err, errNotSignedIn) {
		s.metrics.macFailures.Inc()
		s.log.Warn("MAC refused", "terminal", w.terminal.TID, "mti", w.req.MTI().String(), "why", err.Error())
		return RCMAC
	}
	s.log.Error("the HSM failed; answered 96", "terminal", w.terminal.TID, "error", err.Error())
	return RCMalfunction
}

// macAlgOf is the algorithm of the terminal's profile.
func macAlgOf(t *merchant.Terminal) hsm.MACAlg {
	switch t.Profile.MAC {
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
