package switching

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/spec"
)

// signIn gives the terminal new working keys under its master key (0800,
// DE 60.3 = 001, 003, 004 or 005; DE 62 of the answer). They are stored before
// they leave; the ones in use stay good until the first message under the new.
func (s *Switch) signIn(ctx context.Context, w *work) {
	t := w.terminal
	if rc := s.mayWork(w); rc != RCApproved {
		s.endSignIn(w, rc, nil)
		return
	}
	switch strict := t.Profile.Batch == merchant.BatchStrict; {
	case t.Profile.Batch == merchant.BatchFollows && w.de60.Batch > 0 && w.de60.Batch != t.Batch:
		if _, err := s.terminals.SetBatch(ctx, t.TID, w.de60.Batch); err != nil {
			s.log.Error("a terminal's batch number could not be stored", "terminal", t.TID, "error", err.Error())
			s.endSignIn(w, RCMalfunction, nil)
			return
		}
	case strict && w.de60.Batch != t.Batch:
		s.endSignIn(w, RCBatch, nil)
		return
	}
	rc, keys := s.newKeys(ctx, w, hsm.KeySet(w.de60.NetworkCode))
	s.endSignIn(w, rc, keys)
}

// newKeys makes and stores working keys of a set, and gives what the terminal
// is to get of them: each under its master key, with its check value.
func (s *Switch) newKeys(ctx context.Context, w *work, set hsm.KeySet) (ResponseCode, []byte) {
	t := w.terminal
	if t.TMK == "" {
		s.log.Error("sign-in refused: the terminal has no master key; load one", "terminal", t.TID)
		return RCUnknownTerminal, nil
	}
	keys, err := s.hsm.WorkingKeys(ctx, hsm.Key(t.TMK), set, makShape(t, macAlgOf(t, w.dialect)))
	if errors.Is(err, hsm.ErrKeyUse) {
		s.log.Warn("sign-in refused: the terminal's master key does not carry this set of keys", "terminal", t.TID, "set", int(set))
		return RCInvalidSale, nil
	}
	if err != nil {
		s.log.Error("sign-in failed in the HSM", "terminal", t.TID, "error", err.Error())
		return RCMalfunction, nil
	}
	stored := merchant.Keys{TPK: string(keys.TPK), TAK: string(keys.TAK), TDK: string(keys.TDK)}
	if _, err := s.terminals.SignIn(ctx, t.TID, stored, time.Now()); err != nil {
		s.log.Error("sign-in keys could not be stored", "terminal", t.TID, "error", err.Error())
		return RCMalfunction, nil
	}
	s.strikes.forget(t.TID)
	s.obeyed(ctx, w, spec.DemandSignIn)
	return RCApproved, keys.DE62
}

// signOn is the sign-on of a terminal that gets its keys by a message of their
// own (DE 70 001). Without keys it can do nothing yet, and hears that.
func (s *Switch) signOn(_ context.Context, w *work) {
	rc := s.mayWork(w)
	if rc == RCApproved && w.dialect.MAC() != nil && !w.terminal.SignedIn() {
		s.log.Warn("a sign-on was refused: the terminal has no working keys; it must exchange keys first", "terminal", w.terminal.TID)
		rc = RCSecurity
	}
	s.metrics.signIns.WithLabelValues(string(rc)).Inc()
	s.answerManagement(w, rc)
	s.pack(w)
}

// keyExchange gives a terminal of another dialect new working keys (DE 70
// 101): the set of its profile, in the field that the dialect declares.
func (s *Switch) keyExchange(ctx context.Context, w *work) {
	rc, keys := s.mayWork(w), []byte(nil)
	if rc == RCApproved {
		rc, keys = s.newKeys(ctx, w, hsm.KeySet(w.terminal.Profile.KeySet))
	}
	s.metrics.signIns.WithLabelValues(string(rc)).Inc()
	s.answerManagement(w, rc)
	if rc == RCApproved {
		w.dialect.SetKeys(&w.rep, keys)
	}
	s.pack(w)
}

// masterKey gives the terminal a new master key under its transport key (0800,
// DE 60.3 420 or 682, or 99 in DE 60.1, by its profile; DE 62 of the answer:
// the key and 4 bytes of check value). The message has no MAC, so a terminal
// that has signed in under a master key is not given another: an operator
// clears it first.
func (s *Switch) masterKey(ctx context.Context, w *work) {
	t := w.terminal
	rc, de62 := s.mayWork(w), []byte(nil)
	variant := fmt.Sprintf("%03d", w.de60.NetworkCode)
	serial := w.req.Bytes(62)
	switch {
	case rc != RCApproved:
	case t.Profile.Delivery != variant, t.TTK == "", t.SignedIn():
		s.log.Warn("a master key was asked for and is not to be delivered", "terminal", t.TID, "variant", variant, "profile", t.Profile.Delivery, "transport_key", t.TTK != "", "signed_in", t.SignedIn())
		rc = RCNotPermittedHere
	case len(serial) > 0 && t.Serial != "" && !bytes.Contains(serial, []byte(t.Serial)):
		s.log.Warn("a master key was asked for by another device", "terminal", t.TID)
		rc = RCUnknownTerminal
	default:
		alg := hsm.TDES16
		if t.Profile.KeySet == int(hsm.Set005) {
			alg = hsm.SM4
		}
		tmk, cryptogram, kcv, err := s.hsm.DeliverTMK(ctx, hsm.Key(t.TTK), alg)
		if err == nil {
			_, err = s.terminals.DeliverTMK(ctx, t.TID, string(tmk))
		}
		if err != nil {
			s.log.Error("a master key could not be delivered", "terminal", t.TID, "error", err.Error())
			rc = RCMalfunction
			break
		}
		de62 = append(cryptogram, kcv...)
	}
	s.answerManagement(w, rc)
	if rc == RCApproved {
		w.rep.SetBytes(62, de62)
	}
	s.pack(w)
}

// makShape is the kind of MAC key that the terminal's MAC and profile ask for.
func makShape(t *merchant.Terminal, alg hsm.MACAlg) hsm.MAKShape {
	switch {
	case alg == hsm.MACX919:
		return hsm.MAKRetail
	case alg == hsm.MACCMAC:
		return hsm.MAKCMAC
	case t.Profile.Shape == merchant.ShapeDouble:
		return hsm.MAKDouble
	}
	return hsm.MAKSingle
}

func (s *Switch) endSignIn(w *work, rc ResponseCode, de62 []byte) {
	s.metrics.signIns.WithLabelValues(string(rc)).Inc()
	s.answerManagement(w, rc)
	if w.terminal.Profile.Batch != merchant.BatchFollows { // the house's number
		de60 := w.de60
		de60.Batch = w.terminal.Batch
		w.rep.SetText(60, de60.AppendText(nil))
	}
	if rc == RCApproved {
		w.rep.Set(37, rrnOf(w.id()))
		w.rep.SetBytes(62, de62)
	}
	s.pack(w)
}

// signOff ends the terminal's day: nothing is kept of it but the log line, the
// keys stay until the next sign-in as other hosts keep them.
func (s *Switch) signOff(_ context.Context, w *work) {
	s.answerManagement(w, RCApproved)
	w.say(37, rrnOf(w.id()))
	s.pack(w)
}

// echo answers that the house is there.
func (s *Switch) echo(_ context.Context, w *work) {
	s.answerManagement(w, RCApproved)
	s.pack(w)
}

// answerManagement starts the answer of a message that moves no money.
func (s *Switch) answerManagement(w *work, rc ResponseCode) {
	s.startAnswer(w, w.started)
	w.rc = rc
	w.rep.Set(39, string(rc))
}

// mayWork is the state of terminal and merchant as a response code.
func (s *Switch) mayWork(w *work) ResponseCode {
	m, known := s.terminals.Merchant([]byte(w.terminal.MID))
	w.merchant = m
	switch {
	case w.terminal.Status != merchant.Active:
		return RCNotPermittedHere
	case !known, m.Status != merchant.Active:
		return RCInvalidMerchant
	case w.req.Has(42) && string(w.req.Bytes(42)) != w.terminal.MID:
		return RCInvalidMerchant
	}
	return RCApproved
}
