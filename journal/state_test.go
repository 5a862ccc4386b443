package journal_test

import (
	"testing"

	"acquirer/journal"
)

// Every pair of state and event: the arrows of the diagram, and no others.
func TestStatesMoveAlongTheArrows(t *testing.T) {
	arrows := map[[2]any]journal.State{
		{journal.Open, journal.Approve}:       journal.StateApproved,
		{journal.Open, journal.Decline}:       journal.StateDeclined,
		{journal.Open, journal.Owe}:           journal.Owed,
		{journal.StateApproved, journal.Owe}:  journal.Owed,
		{journal.Owed, journal.Acknowledge}:   journal.Reversed,
		{journal.Owed, journal.GiveUp}:        journal.Manual,
		{journal.Manual, journal.Acknowledge}: journal.Reversed,
		{journal.Manual, journal.Resume}:      journal.Owed,
	}
	for s := range journal.State(10) {
		for e := range journal.Event(10) {
			next, err := s.Next(e)
			want, ok := arrows[[2]any{s, e}]
			switch {
			case ok && (err != nil || next != want):
				t.Errorf("%v, %v: %v %v, want %v", s, e, next, err, want)
			case !ok && (err == nil || next != s):
				t.Errorf("%v, %v: %v %v, want an error and no move", s, e, next, err)
			}
		}
	}
}

func TestReasons(t *testing.T) {
	if journal.Undecided != 0 {
		t.Error("the zero Reason must decide nothing")
	}
	owing := map[journal.Reason]bool{journal.Unanswered: true, journal.AnswerWrong: true, journal.Interrupted: true, journal.TerminalReversed: true}
	names := map[string]journal.Reason{}
	for _, r := range journal.Reasons() {
		if r.Owes() != owing[r] {
			t.Errorf("%v owes a reversal: %v", r, r.Owes())
		}
		if other, twice := names[r.String()]; twice || r.String() == "" {
			t.Errorf("%d and %d are both called %q", r, other, r)
		}
		names[r.String()] = r
	}
	if journal.Reason(200).Owes() || journal.Reason(200).String() != "unknown reason" {
		t.Error("a reason that does not exist says something")
	}
}
