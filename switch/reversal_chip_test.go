package switching_test

import (
	"context"
	"testing"

	"acquirer/money"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// A reversal carries on to its issuer what the chip said, and none of the
// card's data that a terminal may have left in DE 55.
func TestReversalTellsOfTheChip(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t)
	term := s.terminal(4)
	must(t, term.SignIn(ctx))
	card := chipCard(t, "north", 60)
	if _, err := term.Sale(ctx, terminal.Sale{Amount: money.Yuan(10), Card: card, PIN: card.PIN, Fault: &terminal.Fault{DropAnswer: true}}); err == nil {
		t.Fatal("the answer was heard")
	}
	leaky := &terminal.Fault{Change: func(m *spec.Message) {
		de55 := spec.AppendTLV(append([]byte(nil), m.Bytes(55)...), 0x5A, []byte{0x62, 0x28, 0x48, 0, 0, 0, 0, 0x02})
		m.SetBytes(55, spec.AppendTLV(de55, 0xDF31, []byte{0x20, 1, 2, 3, 4}))
	}}
	if _, err := term.Reverse(ctx, terminal.Reversal{Reason: "06", Fault: leaky}); err != nil {
		t.Fatal(err)
	}
	s.settled()
	entries := s.journalOf(term.TID())
	if len(entries) != 1 || entries[0].Debt == nil {
		t.Fatalf("the journal has %+v", entries)
	}
	chip := entries[0].Debt.Chip
	for tag, want := range map[uint32]bool{0x95: true, 0x9F10: true, 0x9F36: true, 0xDF31: true, 0x5A: false} {
		if _, ok := spec.FindTLV(chip, tag); ok != want {
			t.Errorf("tag %X is kept: %v, want %v", tag, ok, want)
		}
	}
}
