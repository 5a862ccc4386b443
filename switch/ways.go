package switching

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/limits"
	"acquirer/money"
	"acquirer/routing"
)

// Where a card goes: the ways are chosen in the ladder by the rules and by how
// the issuers stand, and asked one after the other until something has left the
// house. After that no other is asked, whatever comes of it.

// Reroute makes a BIN table and rules the ones that new transactions go by,
// whole or not at all; what is on its way keeps those that it began with. Nil
// rules send every card to its own issuer. agree, when given, hears before they
// count what is different; its error keeps the old ones. One call at a time.
func (s *Switch) Reroute(bins *routing.Table, rules *routing.Rules, agree func(diff []string) error) ([]string, error) {
	p, err := routing.NewPlan(bins, rules, s.issuerNames())
	if err != nil {
		return nil, err
	}
	diff := p.Diff(s.plan.Load())
	if agree != nil {
		if err := agree(diff); err != nil {
			return diff, err
		}
	}
	s.plan.Store(p)
	return diff, nil
}

// Plan is what new transactions go by.
func (s *Switch) Plan() *routing.Plan { return s.plan.Load() }

// issuerNames are those of the configured issuers, in order.
func (s *Switch) issuerNames() []string {
	var names []string
	for name := range s.legs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Breakers are the issuers' breakers, by name.
func (s *Switch) Breakers() map[string]routing.BreakerView {
	out := make(map[string]routing.BreakerView, len(s.breakers))
	for name, b := range s.breakers {
		out[name] = b.View()
	}
	return out
}

// Standing is how an issuer stands for a new transaction.
func (s *Switch) Standing(issuer string) routing.Standing { return s.standing(issuer, "") }

func (s *Switch) standing(issuer, needs string) routing.Standing {
	leg := s.legs[issuer]
	up := leg.Issuer.Up()
	switch {
	case needs != "" && !slices.Contains(leg.Carries, needs):
		return routing.Cannot
	case !up:
		return routing.Down
	case !s.breakers[issuer].Passes(up):
		return routing.Tripped
	}
	return routing.Ready
}

// carriesIt is standing for what is recorded and delivered later: only whether
// the issuer's line can carry it matters.
func (s *Switch) carriesIt(issuer, needs string) routing.Standing {
	if s.standing(issuer, needs) == routing.Cannot {
		return routing.Cannot
	}
	return routing.Ready
}

// CostOf is what a card sale costs by a tariff: the issuer's fee and the
// network's.
func CostOf(t routing.Fees, kind routing.Kind, amount money.Amount) (money.Amount, error) {
	tariff := ledger.Tariff(t)
	c, err := tariff.Cost(channelOf(kind) == journal.Debit, false, amount)
	if err != nil {
		return 0, err
	}
	return c.Issuer.Add(c.Network)
}

// way chooses where a transaction goes. What follows an original goes where
// that one went.
func (s *Switch) way(w *work, q *asked) (journal.Reason, string) {
	q.query = routing.Query{PAN: w.pan, Route: w.route, Amount: w.amount, Entry: routing.EntryOf(w.entry), Currency: int32Of(&w.req, 49),
		MCC: w.merchant.MCC, Needs: w.row.needy}
	chooser := routing.Chooser{Standing: s.standing, Cost: CostOf}
	switch went, ok := q.went(); {
	case ok && s.legs[went].Issuer == nil:
		return journal.Unreachable, "issuer " + went + " of the original is not configured any more"
	case ok && s.standing(went, w.row.needy) != routing.Cannot:
		q.ways.Ways[0], q.ways.N = went, 1
	case ok:
		q.ways.N = 0
	case w.row.recorded():
		chooser.Standing = s.carriesIt
		fallthrough
	default:
		q.ways = chooser.Choose(q.plan, &q.query, rand.Uint32())
	}
	if q.ways.N == 0 {
		return journal.IssuerCannot, w.row.needy
	}
	w.issuer, w.rule = q.ways.Ways[0], q.ways.Rule
	q.leg = s.legs[w.issuer]
	return journal.Undecided, ""
}

// went is the issuer that the original went to. One that was refused here went
// nowhere, and the write that opens refuses what follows it.
func (q *asked) went() (string, bool) {
	if q.follows == nil || q.follows.Original.Outcome == nil || q.follows.Original.Outcome.Reason != journal.Approved {
		return "", false
	}
	return q.follows.Original.Issuer, true
}

// failOverWithin is how long after its request another issuer is still asked:
// with the longest wait for an answer behind it, the terminal, which waits 60
// seconds, still hears how it ended.
const failOverWithin = 10 * time.Second

// askAll asks the ways one after the other until bytes have left the house or
// none is left, and says how the transaction ends. Every way but the first is
// made durable before it is asked (W1): the journal always names whoever may
// have heard.
func (s *Switch) askAll(ctx context.Context, w *work, t *journal.Transaction, q *asked) journal.Outcome {
	var last error
	for i, name := range q.ways.Ways[:q.ways.N] {
		leg := s.legs[name]
		if i > 0 {
			if time.Since(w.started) > failOverWithin || s.standing(name, w.row.needy) != routing.Ready {
				continue
			}
		}
		breaker := s.breakers[name]
		ticket, ok := breaker.Take(leg.Issuer.Up())
		if !ok {
			last = barred(name)
			continue
		}
		if i > 0 {
			if err := s.moveTo(ctx, w, t, q, name); err != nil {
				breaker.Done(ticket, barred(name)) // nothing was asked of it
				if errors.Is(err, errDecided) {
					return journal.Outcome{Reason: journal.Unreachable, Note: err.Error()} // which another outcome has won over
				}
				s.log.Warn("another issuer could not be asked", "rrn", t.RRN, "issuer", name, "error", err.Error())
				continue
			}
			s.metrics.failOvers.WithLabelValues(q.ways.Ways[0], name).Inc()
			s.log.Warn("nothing left for the first issuer; another is asked", "rrn", t.RRN, "rule", w.rule, "first", q.ways.Ways[0], "why", whyOf(last), "issuer", name)
		}
		p := s.legRequest(w, t, q)
		routing.BuildRequest(leg.Issuer.Dialect(), &w.leg, &p)
		err := leg.Issuer.Send(context.WithoutCancel(ctx), &w.leg, &w.legRep)
		breaker.Done(ticket, err)
		switch {
		case err == nil:
			out := s.issuerSaid(w, t, q)
			if card, atc, ok := counted(w, t); ok && out.Reason == journal.Approved {
				s.chips.note(card, atc)
			}
			return out
		case errors.Is(err, routing.ErrUnanswered) && !fault.Planted("another-after-bytes"):
			out := journal.Outcome{Reason: journal.Unanswered, Note: whyOf(err)}
			if t.Advice() { // it counts as taken over
				out.Additional, out.Settles = institutions(leg.Issuer.Institution(), s.cfg.Acquirer), int32(t.Day)%10000
			}
			return out
		}
		last = err
	}
	out := journal.Outcome{Reason: journal.Unreachable, Note: whyOf(last)}
	if out.Note == string(routing.Busy) {
		out.Reason = journal.IssuerBusy
	}
	return out
}

// barredAll reports that every way's breaker is open and nobody answers for the
// issuer, so that nothing will be sent. What is told or given back whether or
// not the issuer is there is another matter, and so is a line that is down
// while its breaker still counts what is asked in vain.
func (s *Switch) barredAll(w *work, q *asked) bool {
	if w.row.stands() || q.plan.Rules.StandsIn(w.route.Issuer) != nil {
		return false
	}
	return !slices.ContainsFunc(q.ways.Ways[:q.ways.N], func(issuer string) bool { return s.breakers[issuer].Passes(s.legs[issuer].Issuer.Up()) })
}

func barred(issuer string) error { return &routing.SendError{Issuer: issuer, Why: routing.Barred} }

// errDecided says that a transaction was closed, by its reversal, while a way
// was looked for.
var errDecided = errors.New("it was decided meanwhile")

// moveTo makes name the issuer of t: its PIN under that one's key, its row in
// the journal before a byte leaves.
func (s *Switch) moveTo(ctx context.Context, w *work, t *journal.Transaction, q *asked, name string) error {
	moved := *q
	moved.leg = s.legs[name]
	if q.pin {
		var reason journal.Reason
		var note string
		if moved, reason, note = s.translatePIN(ctx, w, moved); reason != journal.Undecided {
			return fmt.Errorf("its PIN: %s %s", reason, note)
		}
	}
	deadline := time.Now().Add(moved.leg.Issuer.Timeout() + s.cfg.StoreTimeout)
	step, cancel := s.storeContext(ctx)
	defer cancel()
	if fault.Planted("moved-in-memory") {
		*q, t.Issuer, w.issuer = moved, name, name
		return nil
	}
	ok, err := s.journal.Move(step, t.ID, name, deadline)
	switch {
	case err != nil:
		return err
	case !ok:
		return errDecided
	}
	*q = moved
	t.Issuer, t.Deadline, w.issuer = name, deadline, name
	return nil
}

// standIn answers for an issuer that could not be told, when the rules let the
// house do that and the card has not had its day's share. The sale is then
// approved by out, with its advice owed to the issuer in the same write. The
// share is taken in a write before: a crash between the two costs the card a
// part of its share and nobody any money.
func (s *Switch) standIn(ctx context.Context, w *work, t *journal.Transaction, q *asked, out *journal.Outcome) bool {
	rule := q.plan.Rules.StandsIn(w.route.Issuer)
	if rule == nil || out.Reason != journal.Unreachable || t.Kind != journal.Sale || w.row.needy != "" {
		return false
	}
	refuse := func(result, why string) bool {
		s.metrics.standIn.WithLabelValues(w.route.Issuer, result).Inc()
		s.log.Info("no stand-in", "rrn", t.RRN, "issuer", w.route.Issuer, "why", why)
		return false
	}
	if why := rule.Refuses(&q.query, q.pin); why != "" {
		return refuse("refused", why)
	}
	step, cancel := s.storeContext(ctx)
	defer cancel()
	within, err := limits.StandIn(step, s.store, calendar.DateOf(w.started), t.PANToken, t.Amount, rule.Count, rule.Sum)
	switch {
	case err != nil:
		s.log.Error("the share of stand-in could not be taken", "rrn", t.RRN, "error", err.Error())
		return refuse("failed", "the share could not be taken")
	case !within:
		return refuse("limit", "the card has had its day's share")
	}
	*out = journal.Outcome{Reason: journal.Approved, Approval: standInApproval(t.ID), Additional: institutions(q.leg.Issuer.Institution(), s.cfg.Acquirer),
		Settles: int32(t.Day) % 10000, Note: "approved by us for " + w.route.Issuer + ": " + out.Note}
	s.metrics.standIn.WithLabelValues(w.route.Issuer, "approved").Inc()
	s.log.Warn("approved by stand-in; the issuer is owed the advice", "rrn", t.RRN, "issuer", w.route.Issuer, "amount", t.Amount.String(), "why", out.Note)
	return true
}

// standInApproval is the approval code of a sale that the house approved: S and
// five characters of its reference number.
func standInApproval(id int64) string {
	rrn := rrnOf(id)
	return "S" + rrn[len(rrn)-5:]
}
