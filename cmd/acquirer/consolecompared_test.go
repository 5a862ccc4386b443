package main

import (
	"testing"

	"acquirer/settlement/reconcile"
)

// Where the fees differ the page shows the fees: the amounts are the same.
func TestSidesOfABreak(t *testing.T) {
	b := reconcile.Break{Kind: reconcile.Fee, Ours: 100_00, Theirs: 100_00, OurFee: 45, TheirFee: 48}
	if ours, theirs := sides(b); ours != 45 || theirs != 48 {
		t.Errorf("a difference of fees is %s and %s", ours, theirs)
	}
	b.Kind, b.Theirs = reconcile.Amount, 99_00
	if ours, theirs := sides(b); ours != 100_00 || theirs != 99_00 {
		t.Errorf("a difference of amounts is %s and %s", ours, theirs)
	}
}
