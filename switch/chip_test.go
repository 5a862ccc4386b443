package switching_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"acquirer/money"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

// chipSale is a chip sale with everything that DE 55 must have, but for a
// cryptogram that its issuer would believe: it is answered 05.
func (d *device) chipSale(t *testing.T, amount money.Amount, number, sequence string, atc uint16) *spec.Message {
	t.Helper()
	m := d.sale(amount, pan(t, "north", 0))
	m.Set(2, number)
	m.Unset(14)
	m.Set(14, "4912")
	m.Set(22, "052")
	m.Set(23, sequence)
	var b []byte
	for _, x := range []struct {
		tag uint32
		hex string
	}{{0x9F26, "0102030405060708"}, {0x9F27, "80"}, {0x9F10, "07010103A0A000"}, {0x9F37, "A1B2C3D4"}, {0x9F36, fmt.Sprintf("%04X", atc)}, {0x95, "0000000000"}, {0x9A, "261120"},
		{0x9C, "00"}, {0x9F02, fmt.Sprintf("%012d", amount.Fen())}, {0x5F2A, "0156"}, {0x82, "7C00"}, {0x9F1A, "0156"}, {0x9F03, "000000000000"}, {0x9F33, "E0F1C8"}} {
		v, err := hex.DecodeString(x.hex)
		must(t, err)
		b = spec.AppendTLV(b, x.tag, v)
	}
	m.SetBytes(55, b)
	return m
}

// A chip counts up. One that does not was copied or recorded: it is noticed,
// and with RefuseReplays refused. A repeat is not one, nor is another card of
// the account, which has another sequence number; and a counter out of the air,
// which no issuer approves, blocks nobody.
func TestChipCounters(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint("refused ", refuse), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			s := newStreet(t, withConfig(func(c *switching.Config) { c.RefuseReplays = refuse }))
			term := s.terminal(4)
			must(t, term.SignIn(ctx))
			card := chipCard(t, "north", 3600)
			card.SetATC(9)
			sell := func(what, want string, replays int) {
				t.Helper()
				res, err := term.Sale(ctx, terminal.Sale{Amount: money.Yuan(20), Card: card, PIN: card.PIN, Fault: &terminal.Fault{Twice: true}})
				must(t, err)
				if res.Code != want || res.Repeated == nil || res.Repeated.Code != want {
					t.Errorf("%s: answered %s and %+v, want %s twice", what, res.Code, res.Repeated, want)
				}
				if got := s.metric("acquirer_chip_replays_total"); got != float64(replays) {
					t.Errorf("%s: %v replays noticed, want %d", what, got, replays)
				}
			}
			backwards := "00"
			if refuse {
				backwards = "59"
			}
			sell("the first", "00", 0)
			card.SetATC(card.ATC() - 1)
			sell("the same counter", backwards, 1)
			card.SetATC(3)
			sell("a lower one", backwards, 2)

			d := s.device(t, 5)
			w := s.wire(t)
			for _, sequence := range []string{"0" + card.PSN, "055"} {
				if rc := w.ask(d.frame(t, d.chipSale(t, money.Yuan(20), card.Number, sequence, 65535))).Text(39); rc == "00" || rc == "59" {
					t.Errorf("a counter out of the air: answered %s", rc)
				}
			}
			if rc := w.ask(d.frame(t, d.chipSale(t, money.Yuan(20), card.Number, "055", 1))).Text(39); rc == "00" || rc == "59" {
				t.Errorf("another card of the account: answered %s", rc)
			}
			card.SetATC(20)
			sell("a higher one", "00", 2)
			s.balanced()
		})
	}
}

// Chip data of any kind are answered, and none of them is an approval.
func TestGarbageFromTheChip(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	d := s.device(t, 4)
	w := s.wire(t)
	card := chipCard(t, "north", 3601)
	good := d.chipSale(t, money.Yuan(20), card.Number, "001", 1)
	rng := rand.New(rand.NewPCG(1, 2))
	whole := bytes.Clone(good.Bytes(55))
	for i := range 300 {
		b := bytes.Clone(whole)
		switch i % 5 {
		case 0:
			b = b[:rng.IntN(len(b))]
		case 1:
			b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		case 2:
			b = append(b, b[:rng.IntN(200-len(b)/2)%len(b)]...)
		case 3:
			b = bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(255))
		case 4:
			at := rng.IntN(len(b))
			b = append(append(bytes.Clone(b[:at]), 0x9F, 0x36, 0x84, 0xFF, 0xFF, 0xFF, 0xFF), b[at:]...)
		}
		m := clone(good)
		m.SetInt(11, int64(d.next()))
		m.SetBytes(55, b[:min(len(b), 255)])
		if rc := w.ask(d.frame(t, m)).Text(39); rc == "00" || rc == "96" || rc == "" {
			t.Errorf("%X: answered %q", b, rc)
		}
	}
	s.quiet()
	s.lawful()
}
