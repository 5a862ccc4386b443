package simcard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// Card is a synthetic card in a holder's hand. Like a real one it is in one
// terminal at a time: it is not safe for concurrent use.
type Card struct {
	PAN     card.PAN
	Number  string // the account number in clear
	Expiry  string // YYMM
	Track2  string // with '=' as separator
	PIN     string // what the holder types: TypedPIN
	PSN     string // two digits
	HasChip bool

	bad     bool      // BadChip
	icc     *algo.Key // the card's own key, nil without a chip
	atc     uint16
	session *algo.Key // of the last transaction
	arqc    [8]byte   // its first cryptogram
	asked   bool      // it was an ARQC, and no second one has been given
	failed  bool      // its issuer authentication failed
	blocked bool      // by a script
	stored  map[[2]byte][]byte
}

// New makes the card of an account number of one of Issuers.
func New(pan card.PAN) (*Card, error) {
	number := pan.Reveal()
	is, ok := IssuerOf(number)
	if !ok {
		return nil, fmt.Errorf("simcard: %s is not of a synthetic issuer", pan)
	}
	c := &Card{
		PAN: pan, Number: number, Expiry: ExpiryFor(number), Track2: Track2For(number),
		PIN: TypedPIN(number), PSN: fmt.Sprintf("%02d", PSNFor(number)),
		HasChip: HasChip(number), bad: ConditionOf(number) == BadChip,
	}
	if !c.HasChip {
		return c, nil
	}
	var err error
	if c.icc, err = chipKey(is, number); err != nil {
		return nil, err
	}
	return c, nil
}

func chipKey(is Issuer, number string) (*algo.Key, error) {
	imk := TestIMK(is.Name)
	k, err := algo.NewDESKey(imk[:])
	if err != nil {
		return nil, fmt.Errorf("simcard: master key of %s: %w", is.Name, err)
	}
	icc, err := algo.ICCKey(k, algo.OptionA, number, fmt.Sprintf("%02d", PSNFor(number)))
	if err != nil {
		return nil, fmt.Errorf("simcard: key of a card of %s: %w", is.Name, err)
	}
	return icc, nil
}

// Terms is what a terminal tells the chip when it asks for a cryptogram. The
// values are as the EMV tags carry them.
type Terms struct {
	Amount   [6]byte // 9F02, BCD
	Other    [6]byte // 9F03, BCD
	Country  [2]byte // 9F1A, BCD
	TVR      [5]byte // 95
	Currency [2]byte // 5F2A, BCD
	Date     [3]byte // 9A, BCD YYMMDD
	Type     byte    // 9C
	UN       [4]byte // 9F37
	TTQ      [4]byte // 9F66 of a contactless terminal; zeros in the slot
}

// Answer is what the chip gives back.
type Answer struct {
	AC  [8]byte  // 9F26
	CID byte     // 9F27: AAC, TC or ARQC
	ATC [2]byte  // 9F36
	AIP [2]byte  // 82
	IAD [19]byte // 9F10
	CTQ [2]byte  // 9F6C, what a contactless card wants of the terminal; zeros in the slot
}

// What a cryptogram says (9F27).
const (
	AAC  byte = 0x00 // declined
	TC   byte = 0x40 // approved: the proof of a sale
	ARQC byte = 0x80 // ask the issuer
)

// The chip's fixed values: AIP with SDA, DDA, cardholder verification,
// terminal risk management and issuer authentication; key index 1,
// cryptogram version 01 (PBOC, 3DES), CVR, whose second byte says which
// cryptograms were given, then issuer discretionary data of 10 bytes without a
// balance.
var (
	aip = [2]byte{0x7C, 0x00}
	iad = [19]byte{0x07, 0x01, 0x01, 0x03, 0xA0, 0x00, 0x00, 0x01, 0x0A, 0x01}
)

// ErrNoChip is the answer of a card without a chip.
var ErrNoChip = errors.New("simcard: the card has no chip")

// MaxARQCData is the length of AppendARQCData's result.
const MaxARQCData = 6 + 6 + 2 + 5 + 2 + 3 + 1 + 4 + 2 + 2 + 4

// AppendARQCData appends what the ARQC is computed over: 9F02 9F03 9F1A 95
// 5F2A 9A 9C 9F37 82 9F36 and the CVR out of 9F10 (PBOC 3.0 part 5 annex D;
// hsm.md 1.5).
func AppendARQCData(dst []byte, t *Terms, aip, atc [2]byte, cvr [4]byte) []byte {
	dst = append(dst, t.Amount[:]...)
	dst = append(dst, t.Other[:]...)
	dst = append(dst, t.Country[:]...)
	dst = append(dst, t.TVR[:]...)
	dst = append(dst, t.Currency[:]...)
	dst = append(dst, t.Date[:]...)
	dst = append(dst, t.Type)
	dst = append(dst, t.UN[:]...)
	dst = append(dst, aip[:]...)
	dst = append(dst, atc[:]...)
	return append(dst, cvr[:]...)
}

// GenerateAC counts the transaction and computes its ARQC: FirstAC for a
// terminal that is online.
func (c *Card) GenerateAC(t *Terms) (Answer, error) { return c.FirstAC(ARQC, t) }

// FirstAC counts the transaction and computes its first cryptogram: an ARQC, a
// TC for a sale that the terminal approves offline, or an AAC for one that it
// declines. A card that its issuer has blocked gives an AAC whatever is wanted.
func (c *Card) FirstAC(want byte, t *Terms) (Answer, error) {
	if c.icc == nil {
		return Answer{}, ErrNoChip
	}
	if c.atc == 0xFFFF {
		return Answer{}, errors.New("simcard: the transaction counter is used up")
	}
	if c.blocked || c.bad && want == TC { // a damaged one approves nothing by itself
		want = AAC
	}
	c.atc++
	var err error
	if c.session, err = algo.PBOCSessionKey(c.icc, [2]byte{byte(c.atc >> 8), byte(c.atc)}); err != nil {
		return Answer{}, err
	}
	c.asked, c.failed = want == ARQC, false
	a, err := c.cryptogram(want, 0x80|want>>2, t) // no second cryptogram yet; the first by its kind
	c.arqc = a.AC
	return a, err
}

// SecondAC ends a transaction whose ARQC the issuer has answered: a TC when it
// is approved, an AAC when not, or when the issuer's authentication failed.
// The counter is that of the ARQC. t's unpredictable number and TVR may be
// others than the first time.
func (c *Card) SecondAC(want byte, t *Terms) (Answer, error) {
	if !c.asked || want == ARQC {
		return Answer{}, errors.New("simcard: there is no ARQC whose transaction could end with this cryptogram")
	}
	c.asked = false
	cvr := byte(0x20) // the first was an ARQC
	if c.failed {
		want, cvr = AAC, cvr|0x08
	}
	return c.cryptogram(want, cvr|want, t)
}

// cryptogram computes one over t; cvr is the second byte of the CVR.
func (c *Card) cryptogram(cid, cvr byte, t *Terms) (a Answer, err error) {
	a = Answer{CID: cid, AIP: aip, IAD: iad}
	a.IAD[4] = cvr
	binary.BigEndian.PutUint16(a.ATC[:], c.atc)
	var room [MaxARQCData]byte
	data := AppendARQCData(room[:0], t, a.AIP, a.ATC, [4]byte(a.IAD[3:7]))
	if a.AC, err = algo.ARQC(c.session, algo.PadBit, data); err != nil {
		return Answer{}, err
	}
	if c.bad {
		a.AC[7] ^= 0xFF
	}
	a.CTQ = wishes(t.TTQ)
	return a, nil
}

// wishes is the CTQ to a contactless terminal's TTQ: where the terminal wants
// the holder verified, its online PIN if it takes one, else a signature.
func wishes(ttq [4]byte) (ctq [2]byte) {
	switch {
	case ttq[1]&0x40 == 0:
	case ttq[0]&0x04 != 0:
		ctq[0] = 0x80
	case ttq[0]&0x02 != 0:
		ctq[0] = 0x40
	}
	return ctq
}

// ErrARPC says that the card did not recognise its issuer.
var ErrARPC = errors.New("simcard: issuer authentication failed")

// CheckARPC is the card's side of EXTERNAL AUTHENTICATE: issuerData is tag 91,
// 8 bytes of ARPC and 2 of response code, for the last GenerateAC.
func (c *Card) CheckARPC(issuerData []byte) error {
	if c.session == nil || len(issuerData) != 10 {
		c.failed = true
		return ErrARPC
	}
	want, err := algo.ARPC1(c.session, c.arqc, [2]byte(issuerData[8:]))
	if err != nil || want != [8]byte(issuerData) {
		c.failed = true
		return ErrARPC
	}
	return nil
}

// ATC is the card's transaction counter.
func (c *Card) ATC() uint16 { return c.atc }

// SetATC continues a counter from an earlier run.
func (c *Card) SetATC(n uint16) { c.atc = n }
