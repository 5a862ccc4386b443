package console

import (
	"cmp"
	"context"
	"slices"
	"time"

	"acquirer/money"
)

// Wait is something that waits for a person. The page shows and does nothing: who
// acts has a name at the command line.
type Wait struct {
	Kind     string       // a key wait.* of the texts, or shown as it is
	Ref      string       // what it is about: a payout, a case, a merchant
	Merchant string       // its name; may be empty
	Amount   money.Amount // 0 for none
	What     Words        // what is to be done, or what the next person would do
	Since    time.Time    // zero: nobody knows
	Due      time.Time    // when it is too late; zero never
	By       string       // who asked, when it is a second person's turn
	Commands []string     // that do it; of a second person's turn just one
	Href     string       // of the page that shows it
}

// pressing is how long before its end something is marked.
const pressing = 48 * time.Hour

// Pressing reports that it is too late soon, or is by now.
func (w Wait) Pressing(now time.Time) bool { return !w.Due.IsZero() && w.Due.Before(now.Add(pressing)) }

// SortWaits puts what is most urgent first: what presses by its end, then the
// oldest.
func SortWaits(all []Wait, now time.Time) {
	slices.SortStableFunc(all, func(a, b Wait) int {
		pa, pb := a.Pressing(now), b.Pressing(now)
		switch {
		case pa && pb:
			return a.Due.Compare(b.Due)
		case pa != pb:
			return cmp.Compare(map[bool]int{true: 0, false: 1}[pa], map[bool]int{true: 0, false: 1}[pb])
		}
		return a.Since.Compare(b.Since)
	})
}

// waited returns what waits for people, the most urgent first, as it was at most
// five seconds ago: every page shows how much it is.
func (s *Server) waited(ctx context.Context, now time.Time) ([]Wait, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	g := &s.glance
	g.waitsMu.Lock()
	defer g.waitsMu.Unlock()
	if now.Sub(g.waitsAsked) < todayAge && !now.Before(g.waitsAsked) {
		return g.waits, nil
	}
	all, err := s.house.Waiting(ctx, waitingRows)
	if err != nil {
		return g.waits, err
	}
	SortWaits(all, now)
	g.waits, g.waitsAsked = all, now
	return all, nil
}

// Seconds counts what waits for a second person.
func (p *page) Seconds() int {
	n := 0
	for _, w := range p.Waits {
		if w.By != "" {
			n++
		}
	}
	return n
}

// Urgent reports that something that waits is too late soon.
func (p *page) Urgent() bool {
	return slices.ContainsFunc(p.Waits, func(w Wait) bool { return w.Pressing(p.Now) })
}
