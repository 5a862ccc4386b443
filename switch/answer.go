package switching

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"acquirer/calendar"
	"acquirer/spec"
)

// startAnswer begins the answer to w.req: its message type, and the fields of
// the request that an answer repeats (docs/fields.md). Host time stands in
// DE 12 and 13.
func (s *Switch) startAnswer(w *work, at time.Time) {
	w.rep.Reset(w.dialect, w.req.MTI().Response())
	if !w.dialect.UnionPay() {
		s.startOther(w, at)
		return
	}
	s.demand(w)
	w.rep.Copy(&w.req, 2, 3, 4, 11)
	setHostTime(&w.rep, at)
	w.rep.Copy(&w.req, 14, 23, 25)
	w.rep.Set(32, s.cfg.Acquirer)
	w.rep.Copy(&w.req, 41, 42, 49, 60)
}

// setHostTime writes DE 12 hhmmss and DE 13 MMDD in Beijing time, as far as the
// dialect has them.
func setHostTime(m *spec.Message, at time.Time) {
	at = at.In(calendar.Beijing)
	var b [10]byte
	hh, mm, ss := at.Clock()
	_, month, day := at.Date()
	for i, v := range [5]int{hh, mm, ss, int(month), day} {
		b[2*i], b[2*i+1] = byte('0'+v/10), byte('0'+v%10)
	}
	if d := m.Dialect(); d.Declares(12) && d.Declares(13) {
		m.SetText(12, b[:6])
		m.SetText(13, b[6:])
	}
}

// refuse answers w.req with rc and nothing else: for messages that are not
// journaled, or whose handling failed.
func (s *Switch) refuse(w *work, rc ResponseCode) {
	s.startAnswer(w, w.started)
	w.rc = rc
	w.rep.Set(39, string(rc))
	s.pack(w)
}

// pack turns w.rep into the frame that leaves, signed when the terminal has a
// MAC key and its message type carries a MAC. A field that does not fit is a
// bug of ours: the terminal hears a bare 96, or nothing when it was approved and
// is not taken back. The 96 is unsigned when the HSM does not sign it either:
// it is no approval, and a terminal that wants it signed does what it would do
// without an answer.
func (s *Switch) pack(w *work) {
	err := s.tryPack(w)
	if err == nil {
		return
	}
	if w.approved && w.row.stands() {
		s.log.Error("an answer could not be packed; not answered", "type", w.kind, "error", err.Error())
		w.silent = true
		return
	}
	mti := w.req.MTI().Response()
	w.rep.Reset(w.dialect, mti)
	w.rep.Copy(&w.req, 11, 41, 42)
	w.rc = RCMalfunction
	w.rep.Set(39, string(w.rc))
	what := "an answer could not be packed; answered 96"
	if s.tryPack(w) != nil {
		what = "an answer could not be packed; answered 96 without a MAC"
		w.signs = false
		if s.tryPack(w) != nil {
			what = "an answer could not be packed; not answered"
			w.silent = true
		}
	}
	s.log.Error(what, "type", w.kind, "error", err.Error())
}

func (s *Switch) tryPack(w *work) error {
	signed, field := w.signs && w.macKey != "", w.dialect.MACField(&w.rep)
	if signed {
		w.rep.SetBytes(field, zero8[:])
	} else {
		w.rep.Unset(field)
	}
	out, err := w.frame.AppendReply(w.out[:0], w.demand, &w.rep)
	if err != nil {
		return err
	}
	w.out = out
	if !signed {
		return nil
	}
	block, mac := spec.SignedPart(w.dialect.FrameBody(out))
	sum, err := s.hsm.MAC(context.Background(), w.macKey, w.macAlg, block)
	if err != nil {
		return errors.Join(errors.New("signing the answer"), err)
	}
	copy(mac, sum[:])
	return nil
}

var zero8 [8]byte

// equalMAC compares in constant time.
func equalMAC(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
