package switching

import (
	"context"
	"time"

	"acquirer/hsm"
	"acquirer/merchant"
)

// signIn gives the terminal new working keys under its master key (0800,
// DE 60.3 = 001, 003 or 004; DE 62 of the answer). They are stored before they
// leave; the ones in use stay good until the first message under the new.
func (s *Switch) signIn(ctx context.Context, w *work) {
	t := w.terminal
	if rc := s.mayWork(w); rc != RCApproved {
		s.endSignIn(w, rc, nil)
		return
	}
	if t.TMK == "" {
		s.log.Error("sign-in refused: the terminal has no master key; load one", "terminal", t.TID)
		s.endSignIn(w, RCUnknownTerminal, nil)
		return
	}
	keys, err := s.hsm.WorkingKeys(ctx, hsm.Key(t.TMK), hsm.KeySet(w.de60.NetworkCode), makShape(t))
	if err != nil {
		s.log.Error("sign-in failed in the HSM", "terminal", t.TID, "error", err.Error())
		s.endSignIn(w, RCMalfunction, nil)
		return
	}
	stored := merchant.Keys{TPK: string(keys.TPK), TAK: string(keys.TAK), TDK: string(keys.TDK)}
	if _, err := s.terminals.SignIn(ctx, t.TID, stored, time.Now()); err != nil {
		s.log.Error("sign-in keys could not be stored", "terminal", t.TID, "error", err.Error())
		s.endSignIn(w, RCMalfunction, nil)
		return
	}
	s.endSignIn(w, RCApproved, keys.DE62)
}

// makShape is the kind of MAC key that the terminal's profile asks for.
func makShape(t *merchant.Terminal) hsm.MAKShape {
	switch {
	case t.Profile.MAC == merchant.MACX919:
		return hsm.MAKRetail
	case t.Profile.MAC == merchant.MACCMAC:
		return hsm.MAKCMAC
	case t.Profile.Shape == merchant.ShapeDouble:
		return hsm.MAKDouble
	}
	return hsm.MAKSingle
}

func (s *Switch) endSignIn(w *work, rc ResponseCode, de62 []byte) {
	s.metrics.signIns.WithLabelValues(string(rc)).Inc()
	s.answerManagement(w, rc)
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
	w.rep.Set(37, rrnOf(w.id()))
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
