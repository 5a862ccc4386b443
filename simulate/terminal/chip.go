package terminal

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// The terminal's own EMV data: China (GB/T 2659 156), yuan, an attended online
// terminal that reads all interfaces and takes PINs.
var (
	code156      = [2]byte{0x01, 0x56}
	capabilities = []byte{0xE0, 0xF0, 0xC8} // 9F33
	terminalType = []byte{0x22}             // 9F35
	appVersion   = []byte{0x00, 0x30}       // 9F09
	onlinePIN    = []byte{0x42, 0x03, 0x00} // 9F34
	noCVM        = []byte{0x1F, 0x03, 0x02} // 9F34
	aidDebit     = []byte{0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x01}
	aidCredit    = []byte{0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x02}
)

// setChip asks the card for its cryptogram and writes DE 55: the mandatory
// tags of protocol.md 2.4 in their order, then 9F34 9F35 9F1E 84 9F09 9F41. A
// sale without its issuer carries a certificate instead of a request.
func (t *Terminal) setChip(m *spec.Message, x *Transaction, r *row) error {
	terms := simcard.Terms{
		Amount: bcd6(amountOf(x).Fen()), Country: code156, Currency: code156, Date: bcdDate(time.Now()),
		Type: r.processing[0]<<4 | r.processing[1]&15, // 9C: the first two digits of DE 3
	}
	cvm := noCVM
	if x.PIN != "" && r.pin {
		terms.TVR[2] = 0x04 // online PIN entered
		cvm = onlinePIN
	}
	binary.BigEndian.PutUint32(terms.UN[:], rand.Uint32())
	want := simcard.ARQC
	if x.Kind == KindChipOfflineSale {
		want = simcard.TC
	}
	a, err := x.Card.FirstAC(want, &terms)
	if err != nil {
		return fmt.Errorf("terminal %s: reading the chip of %s: %w", t.cfg.TID, x.Card.PAN, err)
	}
	aid := aidCredit
	if is, ok := simcard.IssuerOf(x.Card.Number); ok && is.Debit {
		aid = aidDebit
	}
	b := t.scratch[:0]
	b = spec.AppendTLV(b, 0x9F26, a.AC[:])
	b = append(b, 0x9F, 0x27, 1, a.CID)
	b = spec.AppendTLV(b, 0x9F10, a.IAD[:])
	b = spec.AppendTLV(b, 0x9F37, terms.UN[:])
	b = spec.AppendTLV(b, 0x9F36, a.ATC[:])
	b = spec.AppendTLV(b, 0x95, terms.TVR[:])
	b = spec.AppendTLV(b, 0x9A, terms.Date[:])
	b = append(b, 0x9C, 1, terms.Type)
	b = spec.AppendTLV(b, 0x9F02, terms.Amount[:])
	b = spec.AppendTLV(b, 0x5F2A, terms.Currency[:])
	b = spec.AppendTLV(b, 0x82, a.AIP[:])
	b = spec.AppendTLV(b, 0x9F1A, terms.Country[:])
	b = spec.AppendTLV(b, 0x9F03, terms.Other[:])
	b = spec.AppendTLV(b, 0x9F33, capabilities)
	b = spec.AppendTLV(b, 0x9F34, cvm)
	b = spec.AppendTLV(b, 0x9F35, terminalType)
	b = append(b, 0x9F, 0x1E, 8)
	b = append(b, t.cfg.TID...)
	b = spec.AppendTLV(b, 0x84, aid)
	b = spec.AppendTLV(b, 0x9F09, appVersion)
	sequence := bcd6(int64(t.state.STAN))
	b = spec.AppendTLV(b, 0x9F41, sequence[2:])
	t.scratch = b
	m.SetBytes(55, b)
	return nil
}

// asCertificate is DE 55 with 9F27 of a certificate.
func asCertificate(de55 []byte) []byte {
	var out []byte
	for v, err := range spec.WalkTLV(de55) {
		if err != nil {
			return de55
		}
		if v.Tag == 0x9F27 {
			v.Value = []byte{simcard.TC}
		}
		out = spec.AppendTLV(out, v.Tag, v.Value)
	}
	return out
}
