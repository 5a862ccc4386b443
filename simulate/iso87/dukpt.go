package iso87

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"

	"acquirer/hsm/algo"
	simcard "acquirer/simulate/card"
)

// device is the DUKPT device in a terminal: its initial key, and the key
// serial number of the key that it used last. A real one forgets keys that it
// used; this one derives each from the first.
type device struct {
	initial []byte
	ksn     algo.KSN
}

// newDevice loads a device whose key serial number is ksn, with a test base
// key (simulate/card). The first PIN comes under the number after it.
func newDevice(ksn string) (*device, error) {
	number, err := hex.DecodeString(ksn)
	if err != nil || len(number) != 10 && len(number) != 12 {
		return nil, fmt.Errorf("iso87: key serial number %q is not of 20 or 24 hexadecimal digits", ksn)
	}
	for _, k := range simcard.TestBaseKeys {
		if !strings.HasPrefix(strings.ToUpper(ksn), k.KSI) || k.AES != (len(number) == 12) {
			continue
		}
		d := &device{ksn: number}
		if k.AES {
			d.initial, err = algo.AESInitialKey(k.Key[:], number[:8])
			return d, err
		}
		ik, err := algo.TDESInitialKey(k.Key[:], number)
		d.initial = ik[:]
		return d, err
	}
	return nil, fmt.Errorf("iso87: no test base key has key serial numbers like %s", ksn)
}

// next is the PIN key of the next transaction; d.ksn names it then. Counters
// with more one bits than a host derives are skipped (X9.24).
func (d *device) next() (*algo.Key, error) {
	at, most, mask := len(d.ksn)-4, 10, uint32(0x1FFFFF)
	if len(d.ksn) == 12 {
		most, mask = 16, ^uint32(0)
	}
	word := binary.BigEndian.Uint32(d.ksn[at:])
	counter := word&mask + 1
	for bits.OnesCount32(counter) > most {
		counter++
	}
	if counter > mask {
		return nil, fmt.Errorf("iso87: the device %X has used all its keys", []byte(d.ksn))
	}
	binary.BigEndian.PutUint32(d.ksn[at:], word&^mask|counter)
	if len(d.ksn) == 12 {
		derivation, err := algo.AESDerivationKey(d.initial, d.ksn)
		if err != nil {
			return nil, err
		}
		key, err := algo.AESWorkingKey(derivation, d.ksn, algo.DUKPTPIN, algo.DUKPTTDES2) // DE 52 has 8 bytes
		if err != nil {
			return nil, err
		}
		return algo.NewDESKey(key)
	}
	transaction, err := algo.TDESTransactionKey([16]byte(d.initial), d.ksn)
	if err != nil {
		return nil, err
	}
	key, err := algo.TDESWorkingKey(transaction, algo.DUKPTPIN)
	if err != nil {
		return nil, err
	}
	return algo.NewDESKey(key[:])
}
