package switching

import (
	"context"
	"time"

	"acquirer/journal"
)

// recorded reports that the row tells what was done: an offline sale, a
// notice, a tip, a script's result.
func (r *row) recorded() bool {
	switch r.does {
	case journal.OfflineSale, journal.Adjustment, journal.ScriptResult:
		return true
	case journal.Completion:
		return r.mti == 0x0220
	}
	return false
}

// stands reports that what the row opened is not taken back: it is told to the
// issuer or the wallet until that has it. Its terminal hears an approval or
// nothing, and asks again.
func (r *row) stands() bool {
	return r != nil && (r.recorded() || r.does == journal.Refund || r.qr && r.does == journal.Void)
}

// recording is what the terminal has done already (0220, an offline chip sale
// as 0200, 0620). It is answered as soon as it is durable, with the delivery
// to the issuer that it owes (owed.go); nobody waits for the issuer. What
// cannot be right is refused, and stays with the terminal for its batch
// upload.
func (s *Switch) recording(ctx context.Context, w *work) {
	q, reason, note := s.climb(ctx, w)
	defer func() { clear(q.track2) }()
	w.step(stepCheck)
	out := journal.Outcome{Reason: journal.Approved, Approval: w.req.Text(38), Closed: time.Now(), Note: "told by the terminal"}
	if q.leg.Issuer != nil {
		out.Additional = institutions(q.leg.Issuer.Institution(), s.cfg.Acquirer)
	}
	s.begin(ctx, w, &q, reason, note, journal.TakeOver(out))
}
