package simcard

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// The worked PBOC example of hsm.md 1.5 (553668.com/manong/959163, cnblogs
// 1024Planet/6256545): the data a chip puts together, its ARQC and the ARPC.
func TestARQCOfThePublishedExample(t *testing.T) {
	un, _ := hex.DecodeString("1E78EEBC")
	terms := Terms{
		Amount: [6]byte{5: 1}, Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56},
		TVR: [5]byte{0, 0x80, 4, 0x60, 0}, Date: [3]byte{0x14, 7, 1}, UN: [4]byte(un),
	}
	data := AppendARQCData(nil, &terms, [2]byte{0x7D, 0}, [2]byte{2, 0x40}, [4]byte{3, 0xA0, 0x40, 2})
	const want = "000000000001000000000000015600800460000156140701001E78EEBC7D00024003A04002"
	if got := hex.EncodeToString(data); got != hexLower(want) || len(data) != MaxARQCData {
		t.Fatalf("data %s (%d bytes)\nwant %s", got, len(data), want)
	}
	imk, _ := hex.DecodeString("F0C34A8124CEE0A91A0B034AA97D6EAC")
	k, err := algo.NewDESKey(imk)
	if err != nil {
		t.Fatal(err)
	}
	icc, err := algo.ICCKey(k, algo.OptionA, "6228000100001", "01")
	if err != nil {
		t.Fatal(err)
	}
	c := Card{icc: icc, atc: 0x023F}
	a, err := c.GenerateAC(&terms)
	if err != nil || a.ATC != [2]byte{2, 0x40} {
		t.Fatalf("ATC %X, %v", a.ATC, err)
	}
	// The example's card answered AIP 7D00 and another CVR, so its ARQC is
	// checked with the session key of this one.
	ac, err := algo.ARQC(c.session, algo.PadBit, data)
	if err != nil || hex.EncodeToString(ac[:]) != hexLower("5D016C91005E7CC2") {
		t.Fatalf("ARQC %X, %v", ac, err)
	}
	c.arqc = ac
	if err := c.CheckARPC(mustHex(t, "21415243527CE78F3031")); err != nil {
		t.Errorf("the published ARPC is refused: %v", err)
	}
	for _, bad := range []string{"21415243527CE78F3030", "21415243527CE78E3031", "21415243527CE78F", ""} {
		if err := c.CheckARPC(mustHex(t, bad)); !errors.Is(err, ErrARPC) {
			t.Errorf("tag 91 %q: %v", bad, err)
		}
	}
}

func TestCardAgainstItsIssuer(t *testing.T) {
	for _, is := range append(slices.Clone(Issuers), Abroad) {
		c := chipCard(t, is, Good)
		terms := Terms{Amount: [6]byte{5: 0x99}, Currency: [2]byte{1, 0x56}, UN: [4]byte{1, 2, 3, 4}}
		var previous uint16
		for range 3 {
			a, err := c.GenerateAC(&terms)
			if err != nil {
				t.Fatal(err)
			}
			if c.ATC() <= previous {
				t.Fatalf("counter went from %d to %d", previous, c.ATC())
			}
			previous = c.ATC()
			data := AppendARQCData(nil, &terms, a.AIP, a.ATC, [4]byte(a.IAD[3:7]))
			tag91, err := issuerCheck(c.Number, a.ATC, data, a.AC, [2]byte{'0', '0'})
			if err != nil {
				t.Fatalf("%s: %v", is.Name, err)
			}
			if err := c.CheckARPC(tag91[:]); err != nil {
				t.Errorf("%s: %v", is.Name, err)
			}
			data[0] ^= 1
			if _, err := issuerCheck(c.Number, a.ATC, data, a.AC, [2]byte{'0', '0'}); err == nil {
				t.Error("a changed amount passes")
			}
		}
	}
}

func TestBadChipAndNoChip(t *testing.T) {
	c := chipCard(t, Issuers[0], BadChip)
	terms := Terms{}
	a, err := c.GenerateAC(&terms)
	if err != nil {
		t.Fatal(err)
	}
	data := AppendARQCData(nil, &terms, a.AIP, a.ATC, [4]byte(a.IAD[3:7]))
	if _, err := issuerCheck(c.Number, a.ATC, data, a.AC, [2]byte{'0', '0'}); err == nil {
		t.Error("a bad chip's cryptogram passes")
	}
	for i := 0; ; i++ {
		c, err := New(Issuers[0].PAN(i))
		if err != nil {
			t.Fatal(err)
		}
		if c.HasChip {
			continue
		}
		if _, err := c.GenerateAC(&terms); !errors.Is(err, ErrNoChip) {
			t.Errorf("a card without a chip answers %v", err)
		}
		break
	}
	c.SetATC(0xFFFF)
	if _, err := c.GenerateAC(&terms); err == nil {
		t.Error("the counter wrapped")
	}
	foreign, err := card.ParsePAN("4111111111111111")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(foreign); err == nil {
		t.Error("a card of no synthetic issuer")
	}
}

// issuerCheck is the issuer's side: it verifies the ARQC and makes tag 91.
func issuerCheck(pan string, atc [2]byte, data []byte, arqc [8]byte, arc [2]byte) (tag91 [10]byte, err error) {
	is, _ := IssuerOf(pan)
	icc, err := chipKey(is, pan)
	if err != nil {
		return tag91, err
	}
	session, err := algo.PBOCSessionKey(icc, atc)
	if err != nil {
		return tag91, err
	}
	want, err := algo.ARQC(session, algo.PadBit, data)
	if err != nil {
		return tag91, err
	}
	if want != arqc {
		return tag91, errors.New("cryptogram is wrong")
	}
	arpc, err := algo.ARPC1(session, arqc, arc)
	copy(tag91[:], arpc[:])
	copy(tag91[8:], arc[:])
	return tag91, err
}

// chipCard finds a card with a chip.
func chipCard(t *testing.T, is Issuer, cond Condition) *Card {
	t.Helper()
	for i := range 100 {
		c, err := New(is.PANWith(cond, i))
		if err != nil {
			t.Fatal(err)
		}
		if c.HasChip {
			return c
		}
	}
	t.Fatalf("no chip among 100 cards of %s", is.Name)
	return nil
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hexLower(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(b)
}
