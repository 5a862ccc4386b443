package switching

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/spec"
)

// sealedCard is what must be known of a card after its transaction: the
// reversal names it, the advice tells what its chip said, and so does the
// evidence in a dispute. journal.Forget ends its life.
type sealedCard struct {
	PAN      card.PAN
	Expiry   card.Expiry
	Sequence string // DE 23
	Chip     []byte // DE 55 of the request, without what names the card
}

// sealCard seals a card for the row id.
func (s *Switch) sealCard(ctx context.Context, id int64, c *sealedCard) ([]byte, error) {
	clear := make([]byte, 0, 32+len(c.Chip))
	clear = append(append(append(clear, c.PAN.Reveal()...), '='), c.Expiry...)
	if c.Sequence != "" || len(c.Chip) > 0 {
		clear = append(append(clear, '='), c.Sequence...)
		clear = append(append(clear, '='), c.Chip...)
	}
	return s.hsm.Encrypt(ctx, s.dataKey, rowAAD(id), clear)
}

// openCard opens what sealCard sealed.
func (s *Switch) openCard(ctx context.Context, e *journal.Entry) (sealedCard, error) {
	return openSealed(ctx, s.hsm, s.dataKey, e)
}

func openSealed(ctx context.Context, h hsm.HSM, dataKey hsm.Key, e *journal.Entry) (c sealedCard, err error) {
	clear, err := h.Decrypt(ctx, dataKey, rowAAD(e.ID), e.PANSealed)
	if err != nil {
		return c, fmt.Errorf("the card of %s cannot be opened: %w", e.RRN, err)
	}
	parts := bytes.SplitN(clear, []byte("="), 4)
	if c.PAN, err = card.ParsePAN(parts[0]); err != nil {
		return c, fmt.Errorf("the card of %s: %w", e.RRN, err)
	}
	if len(parts) > 1 {
		c.Expiry = card.Expiry(parts[1])
	}
	if len(parts) > 3 {
		c.Sequence, c.Chip = string(parts[2]), parts[3]
	}
	return c, nil
}

// ReadChip is what the chip said in a transaction's request, for whoever has
// the HSM and the house's data key: DE 55 without what names the card, and DE
// 23. Both are empty when there was no chip, or when it is forgotten.
func ReadChip(ctx context.Context, h hsm.HSM, dataKey hsm.Key, e *journal.Entry) (de55 []byte, sequence string, err error) {
	if len(e.PANSealed) == 0 {
		return nil, "", nil
	}
	c, err := openSealed(ctx, h, dataKey, e)
	return c.Chip, c.Sequence, err
}

// rowAAD binds what is sealed to its row.
func rowAAD(id int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

// told is what the terminal says in DE 59 of where it is and what it is, as the
// journal keeps it. What cannot be read, or repeats the account number or the
// payment code, is left out: no sale is refused for it.
func (w *work) told() (place, device string) {
	if !w.dialect.UnionPay() || !w.req.Has(59) {
		return "", ""
	}
	i := spec.ReadTerminalInfo(w.req.Bytes(59))
	for _, part := range [...]*string{&i.Place, &i.Type, &i.Serial, &i.Version} {
		if w.repeated(*part) {
			*part = ""
		}
	}
	return i.Place, i.Device()
}

// repeated reports that the digits of text hold the account number or the
// payment code.
func (w *work) repeated(text string) bool {
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, text)
	return !w.pan.IsZero() && strings.Contains(digits, w.pan.Reveal()) || !w.code.IsZero() && strings.Contains(digits, w.code.Reveal())
}
