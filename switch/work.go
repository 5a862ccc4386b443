package switching

import (
	"context"
	"log/slog"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/spec"
	"acquirer/store"
)

// The steps of a transaction that the log line and the metrics time.
const (
	stepCheck = iota
	stepOpen
	stepIssuer
	stepClose
	stepWrite
	steps
)

var stepNames = [steps]string{"check", "open", "issuer", "close", "write"}

// work is one message on its way through the house. It is reused: every field
// is reset by take.
type work struct {
	started time.Time
	last    time.Time // when the step before ended
	took    [steps]time.Duration

	dialect *spec.Dialect
	frame   spec.POSFrame
	in, out []byte
	req     spec.Message // from the terminal
	rep     spec.Message // to the terminal
	leg     spec.Message // to the issuer
	legRep  spec.Message // from the issuer
	de60    spec.DE60    // or what a terminal of another dialect says of it elsewhere (dialect.go)

	kind     string // row.name, for logs and metrics
	row      *row
	undoes   *row // of what an 0400 takes back
	terminal *merchant.Terminal
	merchant *merchant.Merchant
	macKey   hsm.Key // of the generation that the request used
	tpk, tdk hsm.Key
	macAlg   hsm.MACAlg
	signs    bool // the answer carries DE 64
	demand   spec.Demand
	silent   bool // no answer leaves; the connection closes
	rc       ResponseCode

	facts
}

// facts are what a financial message turned out to say.
type facts struct {
	journalID int64
	pan       card.PAN
	code      routing.PayCode // instead of a card
	track     card.Track2
	amount    money.Amount
	entry     int // DE 22, first two digits
	route     routing.Route
	issuer    string
	rule      string // of the routing file that sent it there; "" for none
	reason    journal.Reason
	journaled bool
	keysSince int64   // sign-in that brought the keys it was signed with, microseconds since 1970
	approved  bool    // it is to be answered with an approval
	flight    *flight // the transaction it sent, or waits for
}

// take gives a work for a message of dialect d, with a body buffer of length
// bytes.
func (s *Switch) take(d *spec.Dialect, length int) *work {
	w := s.works.Get().(*work)
	w.dialect = d
	if cap(w.in) < length {
		w.in = make([]byte, max(length, 1024))
	}
	w.in = w.in[:length]
	w.started = time.Now()
	w.last = w.started
	w.took = [steps]time.Duration{}
	w.kind, w.row, w.undoes, w.terminal, w.merchant, w.macKey, w.tpk, w.tdk, w.macAlg = "unknown", nil, nil, nil, nil, "", "", "", 0
	w.signs, w.demand, w.silent, w.rc, w.de60 = false, 0, false, "", spec.DE60{}
	w.facts = facts{}
	w.rep.Reset(w.dialect, 0)
	w.leg.Reset(spec.CUPS, 0)
	w.legRep.Reset(spec.CUPS, 0)
	return w
}

// give returns w; what it read is wiped, since a buffer may live long.
func (s *Switch) give(w *work) {
	clear(w.in[:cap(w.in)])
	clear(w.out[:cap(w.out)])
	w.pan, w.track = card.PAN{}, card.Track2{}
	s.works.Put(w)
}

// id is the journal's id of this message, drawn at the first call.
func (w *work) id() int64 {
	if w.journalID == 0 {
		w.journalID = store.NewID()
	}
	return w.journalID
}

// step ends the current step.
func (w *work) step(i int) {
	now := time.Now()
	w.took[i] += now.Sub(w.last)
	w.last = now
}

// finish counts the message and writes its one log line.
func (s *Switch) finish(ctx context.Context, w *work) {
	total := w.last.Sub(w.started)
	reason := "none"
	if w.journaled || w.reason != journal.Undecided {
		reason = w.reason.String()
	} else if w.rc != "" {
		reason = "rc_" + string(w.rc)
	}
	s.metrics.transactions.WithLabelValues(w.kind, reason, w.issuer).Inc()
	s.metrics.seconds.WithLabelValues(w.kind).Observe(total.Seconds())
	for i, d := range w.took {
		if d > 0 {
			s.metrics.steps.WithLabelValues(stepNames[i]).Observe(d.Seconds())
		}
	}
	s.record(w)
	if s.tell != nil && w.movesMoney() {
		s.tell(Told{ID: w.journalID, At: w.started, Took: total, IssuerTook: w.took[stepIssuer], Kind: w.kind, Terminal: w.terminal,
			PAN: w.pan, Amount: w.amount, Issuer: w.issuer, Reason: w.reason, Code: w.rc})
	}
	if !s.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 20)
	attrs = append(attrs, slog.String("type", w.kind), slog.String("mti", w.req.MTI().String()))
	if w.terminal != nil {
		attrs = append(attrs, slog.String("terminal", w.terminal.TID), slog.String("merchant", w.terminal.MID))
	}
	if stan, ok := w.req.Int(11); ok {
		attrs = append(attrs, slog.Int("batch", w.de60.Batch), slog.Int64("stan", stan))
	}
	if w.journaled {
		attrs = append(attrs, slog.String("rrn", rrnOf(w.journalID)))
	}
	if !w.pan.IsZero() {
		attrs = append(attrs, slog.String("card", w.pan.Masked()), slog.String("amount", w.amount.String()), slog.String("issuer", w.issuer))
	}
	if w.rule != "" {
		attrs = append(attrs, slog.String("rule", w.rule))
	}
	if !w.code.IsZero() {
		attrs = append(attrs, slog.String("code", w.code.Masked()), slog.String("amount", w.amount.String()), slog.String("wallet", w.issuer))
	}
	attrs = append(attrs, slog.String("reason", reason), slog.String("rc", string(w.rc)))
	for i, d := range w.took {
		if d > 0 {
			attrs = append(attrs, slog.Int64(stepNames[i]+"_us", d.Microseconds()))
		}
	}
	attrs = append(attrs, slog.Int64("us", total.Microseconds()))
	s.log.LogAttrs(ctx, slog.LevelInfo, "transaction", attrs...)
}
