package simcard

import (
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
	"acquirer/spec"
)

// Templates that carry issuer scripts in DE 55 (EMV book 3, 10.10).
const (
	ScriptBefore uint32 = 0x71 // for the card before its second cryptogram
	ScriptAfter  uint32 = 0x72 // and after it
)

// Script is one command of an issuer to a card's chip.
type Script struct {
	Template uint32  // ScriptBefore or ScriptAfter
	ID       [4]byte // 9F18
	Command  [4]byte // CLA INS P1 P2
	Data     []byte  // at most 100 bytes
}

// The commands that the cards know (EMV book 3, 6.5).
var (
	BlockApplication   = [4]byte{0x84, 0x1E, 0, 0}
	UnblockApplication = [4]byte{0x84, 0x18, 0, 0}
	UnblockPIN         = [4]byte{0x84, 0x24, 0, 0}
)

// PutData is the command that stores Data under a tag of two bytes.
func PutData(tag uint16) [4]byte { return [4]byte{0x04, 0xDA, byte(tag >> 8), byte(tag)} }

// TestSMI is the TEST master key of an issuer's script MACs: TestKey("IMK-SMI "+name).
func TestSMI(issuer string) [16]byte { return TestKey("IMK-SMI " + issuer) }

// AppendScript appends s in its template, with the MAC that the card wants for
// the transaction with this counter and this first cryptogram.
func AppendScript(dst []byte, pan card.PAN, atc [2]byte, arqc [8]byte, s Script) ([]byte, error) {
	if len(s.Data) > 100 {
		return dst, fmt.Errorf("simcard: a script of %d bytes, the longest is 100", len(s.Data))
	}
	command := append(s.Command[:], byte(len(s.Data)+4))
	mac, err := scriptMAC(pan.Reveal(), command, atc, arqc, s.Data)
	if err != nil {
		return dst, err
	}
	command = append(append(command, s.Data...), mac[:]...)
	inside := spec.AppendTLV(nil, 0x9F18, s.ID[:])
	return spec.AppendTLV(dst, s.Template, spec.AppendTLV(inside, 0x86, command)), nil
}

// scriptMAC is over header and length of the command, counter, cryptogram and
// data, by a session key of the card's script key (PBOC 3.0 part 5, annex D).
func scriptMAC(pan string, header []byte, atc [2]byte, arqc [8]byte, data []byte) (mac [4]byte, err error) {
	is, ok := IssuerOf(pan)
	if !ok {
		return mac, fmt.Errorf("simcard: a script for a card of no synthetic issuer")
	}
	smi := TestSMI(is.Name)
	master, err := algo.NewDESKey(smi[:])
	if err != nil {
		return mac, err
	}
	key, err := algo.ICCKey(master, algo.OptionA, pan, fmt.Sprintf("%02d", PSNFor(pan)))
	if err != nil {
		return mac, err
	}
	session, err := algo.PBOCSessionKey(key, atc)
	if err != nil {
		return mac, err
	}
	block := append(append(append(append([]byte(nil), header[:5]...), atc[:]...), arqc[:]...), data...)
	full, err := session.AppendRetailMAC(nil, algo.PadBit, block)
	copy(mac[:], full)
	return mac, err
}

// What a script's first result byte says in its high nibble; the low one
// counts the command that failed.
const (
	scriptFailed byte = 0x10
	scriptDone   byte = 0x20
)

// The bits that a failed script sets in the fifth byte of the TVR.
const (
	tvrFailedBefore byte = 0x20
	tvrFailedAfter  byte = 0x10
)

// ApplyScripts gives the card the scripts of an answer's DE 55, those of 71
// first, and tells what became of them: the value of DF31, five bytes for each
// (result and 9F18), and the bits to set in the fifth byte of the TVR. Without
// a script the results are nil.
func (c *Card) ApplyScripts(de55 []byte) (results []byte, tvr byte) {
	for _, template := range []uint32{ScriptBefore, ScriptAfter} {
		for t := range spec.WalkTLV(de55) {
			if t.Tag != template {
				continue
			}
			id, _ := spec.FindTLV(t.Value, 0x9F18)
			result := [5]byte{scriptDone}
			copy(result[1:], id)
			n := byte(0)
			for in := range spec.WalkTLV(t.Value) {
				if in.Tag != 0x86 {
					continue
				}
				if n++; !c.obey(in.Value) {
					result[0] = scriptFailed | min(n, 15)
					tvr |= map[uint32]byte{ScriptBefore: tvrFailedBefore, ScriptAfter: tvrFailedAfter}[template]
					break
				}
			}
			results = append(results, result[:]...)
		}
	}
	return results, tvr
}

// obey does one command when its MAC is right.
func (c *Card) obey(command []byte) bool {
	if c.session == nil || c.bad || len(command) < 9 || int(command[4]) != len(command)-5 {
		return false
	}
	data, got := command[5:len(command)-4], command[len(command)-4:]
	mac, err := scriptMAC(c.Number, command, [2]byte{byte(c.atc >> 8), byte(c.atc)}, c.arqc, data)
	if err != nil || string(mac[:]) != string(got) {
		return false
	}
	switch [4]byte(command) {
	case BlockApplication:
		c.blocked = true
	case UnblockApplication:
		c.blocked = false
	case UnblockPIN: // the tries of an offline PIN, which these cards do not count
	default:
		if command[0] != 0x04 || command[1] != 0xDA {
			return false
		}
		if c.stored == nil {
			c.stored = map[[2]byte][]byte{}
		}
		c.stored[[2]byte(command[2:4])] = append([]byte(nil), data...)
	}
	return true
}

// Blocked says that a script has blocked the card.
func (c *Card) Blocked() bool { return c.blocked }

// Stored is what a script has put into the card under a tag, nil when none has.
func (c *Card) Stored(tag uint16) []byte { return c.stored[[2]byte{byte(tag >> 8), byte(tag)}] }
