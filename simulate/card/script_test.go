package simcard

import (
	"bytes"
	"testing"

	"acquirer/spec"
)

func TestScripts(t *testing.T) {
	c := chipCard(t, Issuers[0], Good)
	a, err := c.GenerateAC(&Terms{})
	if err != nil {
		t.Fatal(err)
	}
	script := func(template uint32, id byte, command [4]byte, data ...byte) []byte {
		t.Helper()
		b, err := AppendScript(nil, c.PAN, a.ATC, a.AC, Script{Template: template, ID: [4]byte{0, 0, 0, id}, Command: command, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put := script(ScriptAfter, 1, PutData(0x9F79), 0, 0, 0, 0x12, 0x34, 0x56)
	block := script(ScriptBefore, 2, BlockApplication)
	if r, tvr := c.ApplyScripts(spec.AppendTLV(nil, 0x91, make([]byte, 10))); r != nil || tvr != 0 {
		t.Errorf("without a script: %X %02X", r, tvr)
	}
	forged := bytes.Clone(put)
	forged[len(forged)-1] ^= 1
	late := bytes.Clone(block)
	late[0] = 0x72
	late[len(late)-2] ^= 1
	for _, s := range []struct {
		what    string
		de55    []byte
		results string
		tvr     byte
	}{
		{"a wrong MAC", forged, "\x11\x00\x00\x00\x01", 0x10},
		{"wrong ones of both templates", append(bytes.Clone(late), bytes.Replace(forged, []byte{0x72}, []byte{0x71}, 1)...), "\x11\x00\x00\x00\x01\x11\x00\x00\x00\x02", 0x30},
		{"an unknown command", script(ScriptBefore, 3, [4]byte{0x84, 0x16}), "\x11\x00\x00\x00\x03", 0x20},
		{"one that cannot be read", spec.AppendTLV(nil, ScriptAfter, spec.AppendTLV(nil, 0x86, []byte{0x84})), "\x11\x00\x00\x00\x00", 0x10},
		{"the PIN's tries", script(ScriptBefore, 4, UnblockPIN), "\x20\x00\x00\x00\x04", 0},
	} {
		if r, tvr := c.ApplyScripts(s.de55); string(r) != s.results || tvr != s.tvr {
			t.Errorf("%s: results %X, TVR byte %02X; want %X, %02X", s.what, r, tvr, s.results, s.tvr)
		}
	}
	if c.Blocked() || c.Stored(0x9F79) != nil {
		t.Fatal("a refused script was obeyed")
	}
	r, tvr := c.ApplyScripts(append(bytes.Clone(put), block...)) // 71 comes first
	if string(r) != "\x20\x00\x00\x00\x02\x20\x00\x00\x00\x01" || tvr != 0 {
		t.Errorf("results %X, TVR byte %02X", r, tvr)
	}
	if !bytes.Equal(c.Stored(0x9F79), []byte{0, 0, 0, 0x12, 0x34, 0x56}) {
		t.Errorf("stored %X", c.Stored(0x9F79))
	}
	if a, err = c.GenerateAC(&Terms{}); err != nil || a.CID != AAC || !c.Blocked() {
		t.Errorf("a blocked card answers %02X, %v", a.CID, err)
	}
	if r, _ := c.ApplyScripts(put); string(r) != "\x11\x00\x00\x00\x01" {
		t.Errorf("a script of the last transaction: %X", r)
	}
	if r, _ := c.ApplyScripts(script(ScriptBefore, 5, UnblockApplication)); r[0] != scriptDone {
		t.Errorf("unblocking: %X", r)
	}
	if a, err = c.GenerateAC(&Terms{}); err != nil || a.CID != ARQC {
		t.Errorf("an unblocked card answers %02X, %v", a.CID, err)
	}
	two := spec.AppendTLV(nil, 0x9F18, []byte{0, 0, 0, 6})
	for _, s := range [][]byte{script(ScriptAfter, 6, UnblockPIN), script(ScriptAfter, 6, [4]byte{0x84, 0x16})} {
		_, inside, _ := bytes.Cut(s, []byte{0, 0, 0, 6})
		two = append(two, inside...)
	}
	if r, _ := c.ApplyScripts(spec.AppendTLV(nil, ScriptAfter, two)); string(r) != "\x12\x00\x00\x00\x06" {
		t.Errorf("the second of two commands fails: %X", r)
	}
	if _, err := AppendScript(nil, c.PAN, a.ATC, a.AC, Script{Data: make([]byte, 101)}); err == nil {
		t.Error("a script of 101 bytes was made")
	}
}

// TestWhichCryptogram walks the ends a transaction can have in the chip.
func TestWhichCryptogram(t *testing.T) {
	c := chipCard(t, Issuers[1], Good)
	terms := &Terms{Amount: [6]byte{5: 7}}
	check := func(what string, a Answer, err error, cid, cvr byte) {
		t.Helper()
		if err != nil || a.CID != cid || a.IAD[4] != cvr {
			t.Fatalf("%s: %02X with CVR %02X, %v; want %02X with %02X", what, a.CID, a.IAD[4], err, cid, cvr)
		}
		data := AppendARQCData(nil, terms, a.AIP, a.ATC, [4]byte(a.IAD[3:7]))
		if _, err := issuerCheck(c.Number, a.ATC, data, a.AC, [2]byte{'0', '0'}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	first := func(want byte) (Answer, error) { return c.FirstAC(want, terms) }
	second := func(want byte) (Answer, error) { return c.SecondAC(want, terms) }

	a, err := first(TC)
	check("approved offline", a, err, TC, 0x90)
	if _, err := second(TC); err == nil {
		t.Error("a TC was followed by another")
	}
	a, err = first(AAC)
	check("declined offline", a, err, AAC, 0x80)

	a, err = first(ARQC)
	check("online", a, err, ARQC, 0xA0)
	if _, err := second(ARQC); err == nil {
		t.Error("an ARQC was followed by another")
	}
	counted := a.ATC
	a, err = second(TC)
	check("approved by the issuer", a, err, TC, 0x60)
	if a.ATC != counted {
		t.Errorf("the counter went from %X to %X within a transaction", counted, a.ATC)
	}
	if _, err := second(AAC); err == nil {
		t.Error("a third cryptogram")
	}
	if _, err = first(ARQC); err != nil {
		t.Fatal(err)
	}
	a, err = second(AAC)
	check("declined by the issuer", a, err, AAC, 0x20)

	if _, err = first(ARQC); err != nil {
		t.Fatal(err)
	}
	if c.CheckARPC(make([]byte, 10)) == nil {
		t.Error("an ARPC of zeros passes")
	}
	a, err = second(TC)
	check("by somebody who is not its issuer", a, err, AAC, 0x28)
}

func TestContactlessWishes(t *testing.T) {
	c := chipCard(t, Issuers[2], Good)
	for _, w := range []struct {
		what string
		ttq  [4]byte
		ctq  [2]byte
	}{
		{"in the slot", [4]byte{}, [2]byte{}},
		{"no verification wanted", [4]byte{0x26, 0x80}, [2]byte{}},
		{"online PIN and signature", [4]byte{0x26, 0xC0}, [2]byte{0x80, 0}},
		{"signature alone", [4]byte{0x22, 0x40}, [2]byte{0x40, 0}},
		{"no means", [4]byte{0x20, 0x40}, [2]byte{}},
	} {
		if a, err := c.GenerateAC(&Terms{TTQ: w.ttq}); err != nil || a.CTQ != w.ctq {
			t.Errorf("%s: CTQ %X, %v; want %X", w.what, a.CTQ, err, w.ctq)
		}
	}
}
