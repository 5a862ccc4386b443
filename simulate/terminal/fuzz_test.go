package terminal

import (
	"testing"

	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// Whatever a host answers, a terminal ends each transaction: with an answer and
// nothing pending, or with an error and, where the kind has one, a reversal or
// a notice to be sent again. Bodies that can be read are made to fit the request
// and are signed, so that they get behind the checks.
func FuzzAnswers(f *testing.F) {
	answer := func(set func(m *spec.Message)) []byte {
		var m spec.Message
		m.Reset(spec.UnionPayPOS, 0x0210)
		m.Set(39, "00")
		set(&m)
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(uint8(KindSale), answer(func(m *spec.Message) {
		m.SetBytes(55, spec.AppendTLV(nil, 0x72, spec.AppendTLV(nil, 0x9F18, []byte{1, 2, 3, 4})))
	}))
	f.Add(uint8(KindBalance), answer(func(m *spec.Message) { m.Set(54, "1002156D000000012345") }))
	f.Add(uint8(KindQRSale), answer(func(m *spec.Message) { m.Set(59, "A4003abc"); m.Set(13, "0314"); m.Set(63, "CUP") }))
	f.Add(uint8(KindTip), answer(func(m *spec.Message) { m.Set(39, "94") }))
	f.Add(uint8(0), answer(func(m *spec.Message) {
		m.Unset(39)
		m.Set(48, "00000000000000000000000000000010000000000000000000000000000001")
		m.Set(60, "00000099202")
	}))
	f.Add(uint8(0), []byte{2, 0x10})
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		if len(body) > 2000 {
			return
		}
		h := newHost(t)
		h.reply = func(h *host, req, ans *spec.Message) []byte {
			var m spec.Message
			if req.MTI() == 0x0800 || req.MTI() == 0x0400 {
				return nil
			}
			if err := spec.UnionPayPOS.Parse(&m, body); err != nil {
				n := 11 + len(body)
				return append(append([]byte{byte(n >> 8), byte(n)}, make([]byte, 11)...), body...)
			}
			m.SetMTI(ans.MTI())
			m.Copy(req, 3, 4, 11, 41, 42)
			if req.Has(64) {
				m.SetBytes(64, make([]byte, 8))
			}
			return h.frame(tid, &m)
		}
		term := open(t, h, func(c *Config) { c.KeepSlips = true })
		c := cardOf(t, 1, simcard.Good, true)
		if kind %= uint8(kindsEnd); kind == 0 {
			term.state.Slips = []Slip{{Kind: KindSale, Amount: 1}}
			if r, err := term.Settle(t.Context()); err == nil && (len(term.Slips()) != 0 || r.Next == 0 || r.Next != term.State().Batch) {
				t.Errorf("%+v with %d slips", r, len(term.Slips()))
			}
			return
		}
		x := Transaction{Kind: Kind(kind), Amount: 100, Card: c, PIN: c.PIN, Original: theOriginal(c), PayCode: "134567890123456789", AuthCode: "T12345", Tip: 1}
		res, err := term.Transact(t.Context(), x)
		left := term.Pending() || term.Waiting() > 0
		switch ending := x.Kind.row().ending; {
		case err != nil && left != (ending != givenUp):
			t.Errorf("%s: %v, pending %v, waiting %d", x.Kind, err, term.Pending(), term.Waiting())
		case err == nil && term.Pending():
			t.Errorf("%s: %+v and a reversal is pending", x.Kind, res)
		}
		if n := len(term.Slips()); err == nil && n > 1 {
			t.Errorf("%d slips of one transaction", n)
		}
	})
}
