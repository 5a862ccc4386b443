package switching

import (
	"testing"

	"acquirer/journal"
	"acquirer/store"
)

// A reference number names its transaction, and nothing else does.
func TestRRNNamesItsTransaction(t *testing.T) {
	id := store.NewID()
	if got, ok := journal.IDOf(rrnOf(id)); !ok || got != id {
		t.Errorf("%s is %d, %v; want %d", rrnOf(id), got, ok, id)
	}
	for _, rrn := range []string{"", "0", "000000000000", "00000000000-", "00000000000a", "0000000000001", "号号号号"} {
		if id, ok := journal.IDOf(rrn); ok {
			t.Errorf("%q is %d", rrn, id)
		}
	}
}
