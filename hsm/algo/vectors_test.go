package algo

import (
	"errors"
	"os"
	"slices"
	"testing"
)

// later are the operations of crypto.json that are not here.
var later = []string{
	"cvc3.dynamic",
	"dukpt.aes", "dukpt.aes.ik", "dukpt.aes.mac",
	"dukpt.tdes", "dukpt.tdes.ik",
	"emv.script_pin_change",
	"lmk.encrypt_key",
	"pin.ibm3624",
	"pinblock.iso4.decrypt", "pinblock.iso4.encrypt", "pinblock.iso4.panfield",
	"sm2.decrypt", "sm2.verify",
	"sm3.hash",
}

func TestPublishedVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadVectors(data)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	var missing []string
	for i, v := range all {
		switch err := v.Check(); {
		case errors.Is(err, ErrUnknownOp):
			if !slices.Contains(missing, v.Op) {
				missing = append(missing, v.Op)
			}
		case err != nil:
			t.Errorf("vector %d (%s): %v", i, v.Source, err)
		default:
			ran[v.Op]++
		}
	}
	slices.Sort(missing)
	if !slices.Equal(missing, later) {
		t.Errorf("operations not here: %v, the list says %v", missing, later)
	}
	for _, op := range Operations() {
		if ran[op] == 0 {
			t.Errorf("%s: no vector ran", op)
		}
	}
	t.Logf("%d operations, %v", len(ran), ran)
}
