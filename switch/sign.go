package switching

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/spec"
	"acquirer/spec/jbig"
	"acquirer/store"
)

// signature takes what a cardholder wrote on the terminal's screen (0820, DE
// 60.1 07; 0920 at some). It is found by the reference number, or by batch and
// trace number, must be of the same amount, and carry the code (交易特征码) of
// that transaction: the code that is printed under the signature follows from
// DE 15 and DE 37. A picture that cannot be read is answered 30, so that the
// terminal sends it again. It is kept encrypted.
func (s *Switch) signature(ctx context.Context, w *work) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	rc := s.mayWork(w)
	if rc != RCApproved {
		s.endSignature(w, rc, nil)
		return
	}
	e, rc, why := s.signed(step, w)
	if rc != RCApproved {
		s.log.Warn("a signature was refused", "terminal", w.terminal.TID, "batch", w.de60.Batch, "why", why)
		s.endSignature(w, rc, nil)
		return
	}
	sealed, err := s.hsm.Encrypt(step, s.dataKey, rowAAD(e.ID), w.req.Bytes(62))
	if err == nil {
		err = s.journal.Sign(step, journal.Signature{Txn: e.ID, Sealed: sealed, Received: time.Now()})
	}
	if err != nil {
		s.storeFailed(w, "a signature could not be kept", err)
		return
	}
	s.endSignature(w, RCApproved, e)
}

// signed finds the transaction of a signature and looks at its picture.
func (s *Switch) signed(ctx context.Context, w *work) (*journal.Entry, ResponseCode, string) {
	m := &w.req
	e, err := s.ofSignature(ctx, w)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, RCNoOriginal, "its transaction is not here"
	case err != nil:
		return nil, RCMalfunction, err.Error()
	case !counts(e):
		return nil, RCNoOriginal, "its transaction is " + e.State().String()
	}
	if amount, ok := m.Int(4); ok && amount != e.Sum().Fen() {
		return nil, RCAmountDiffers, "DE 4 is not the amount that was approved"
	}
	if m.Has(37) {
		theirs, err := spec.TransactionCode(m.Text(15), m.Text(37))
		settles := ""
		if m.Has(15) && e.Outcome.Settles != 0 {
			settles = fmt.Sprintf("%04d", e.Outcome.Settles)
		}
		ours, ourErr := spec.TransactionCode(settles, e.RRN)
		if err != nil || ourErr != nil || theirs != ours {
			return nil, RCNoOriginal, "the code of DE 15 and DE 37 is not the transaction's"
		}
	}
	if _, err := jbig.Decode(m.Bytes(62)); err != nil {
		return nil, RCFormat, "DE 62: " + err.Error()
	}
	return e, RCApproved, ""
}

func (s *Switch) ofSignature(ctx context.Context, w *work) (*journal.Entry, error) {
	m := &w.req
	if id := idOf(m.Text(37)); id != 0 {
		e, err := s.journal.Get(ctx, id)
		if err == nil && e.Terminal != w.terminal.TID {
			return nil, store.ErrNotFound
		}
		return e, err
	}
	stan, ok := m.Int(11)
	if !ok {
		return nil, store.ErrNotFound
	}
	entries, err := s.journal.OfBatch(ctx, w.terminal.TID, int32(w.de60.Batch), daysOf(s.today(journal.CardDates, w.started), 0))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if int64(e.STAN) == stan && inTotals(e.Kind) {
			return e, nil
		}
	}
	return nil, store.ErrNotFound
}

// endSignature answers with DE 11 37 39 41 42 60 and a MAC.
func (s *Switch) endSignature(w *work, rc ResponseCode, e *journal.Entry) {
	s.answerManagement(w, rc)
	w.rep.Unset(2)
	if e != nil {
		w.rep.Set(37, e.RRN)
	}
	s.pack(w)
}

// Signature opens the picture of a transaction's signature, JBIG;
// store.ErrNotFound when there is none.
func (s *Switch) Signature(ctx context.Context, txn int64) ([]byte, error) {
	return ReadSignature(ctx, s.journal, s.hsm, s.dataKey, txn)
}

// ReadSignature is Signature for whoever has the journal, the HSM and the
// house's data key, and no switch.
func ReadSignature(ctx context.Context, j *journal.Journal, h hsm.HSM, dataKey hsm.Key, txn int64) ([]byte, error) {
	kept, err := j.SignatureOf(ctx, txn)
	if err != nil {
		return nil, err
	}
	picture, err := h.Decrypt(ctx, dataKey, rowAAD(txn), kept.Sealed)
	if err != nil {
		return nil, fmt.Errorf("switch: the signature of %s cannot be opened: %w", rrnOf(txn), err)
	}
	return picture, nil
}
