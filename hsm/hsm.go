// Package hsm is the house's hardware security module: the interface that the
// switch and the issuer lines speak to, and Software, an implementation in
// software.
//
// Keys are seen outside as key blocks only (ANSI X9.143:2021 version D under
// the master key), bound to one use. No verb returns a clear key or PIN.
package hsm

import (
	"context"
	"errors"
	"fmt"

	"acquirer/card"
	"acquirer/hsm/algo"
)

// Key is a key block: the key, wrapped under the HSM's master key together
// with what it may be used for. It is ASCII, safe to store, and means nothing
// without the HSM that made it.
type Key string

// Alg is a kind of key and its length in bytes.
type Alg uint8

// The kinds of key. DES8 is for the single-length working keys of UnionPay
// sign-in 001 and for MAC keys; it never encrypts another key.
const (
	DES8 Alg = iota + 1
	TDES16
	TDES24
	AES16
	AES32
	SM4
	HMAC32
)

// PINFormat is how a PIN lies in its block.
type PINFormat = algo.PINFormat

// The PIN block formats of TranslatePIN and VerifyPIN. ISO0 is what UnionPay
// terminals send under TDES (DE 53 digit 1 = 2), ISO4 is under AES, SM4WithPAN the same under SM4
// (digit 2 = 4; the block is in DE 63). UnionPayNoPAN and SM4NoPAN (digit 1 =
// 1) are bound to no account number and are taken, never made: see docs/hsm.md
// for what a host gives away that takes them.
const (
	ISO0          = algo.ISO0
	ISO1          = algo.ISO1
	ISO3          = algo.ISO3
	ISO4          = algo.ISO4
	UnionPayNoPAN = algo.UnionPayNoPAN
	SM4WithPAN    = algo.SM4WithPAN
	SM4NoPAN      = algo.SM4NoPAN
)

// PINBlock is an encrypted PIN block of 8 or 16 bytes, by value.
type PINBlock = algo.PINBlock

// PINBlockOf takes an encrypted block as it lies in a message. Anything but 8
// or 16 bytes gives the zero PINBlock, which is ErrPIN to every verb.
func PINBlockOf(b []byte) PINBlock { return algo.PINBlockOf(b) }

// TrackScheme is what of a track a terminal encrypts.
type TrackScheme = algo.TrackScheme

// The schemes of DecryptTrack. TrackTDB is the one of the UnionPay
// specification; TrackWhole is the whole track filled with F, TrackLength its
// length and the track filled with zeros.
const (
	TrackTDB    = algo.TrackTDB
	TrackWhole  = algo.TrackWhole
	TrackLength = algo.TrackLength
)

// MACAlg says how a MAC is made.
type MACAlg uint8

// The MACs. Every one gives 8 bytes.
const (
	MACUnionPay MACAlg = iota + 1 // UnionPay POS "ECB": 8 hex characters, single or double length or SM4 by the key
	MACX99                        // CBC-MAC, ISO 9797-1 algorithm 1, zero fill, with the key's own cipher: X9.9, the CUPS line
	MACX919                       // retail MAC, ISO 9797-1 algorithm 3, zero fill: X9.19
	MACCMAC                       // CMAC, its first 8 bytes
)

// KeySet is a set of working keys, by the DE 60.3 that asks for it.
type KeySet int

// The sets of protocol DE 60.3.
const (
	Set001 KeySet = 1 // single-length PIN and MAC key, DE 62 of 24 bytes
	Set003 KeySet = 3 // double-length, DE 62 of 40 bytes
	Set004 KeySet = 4 // double-length and a track key, DE 62 of 60 bytes
	Set005 KeySet = 5 // SM4 under an SM4 TMK: PIN, MAC and track key, DE 62 of 60 bytes
)

// MAKShape is what stands in the 16 bytes of the MAC key of sets 003 and 004,
// and which MAC the key is for. Set001 has room for a single length only; the
// MAC key of Set005 is SM4 whatever the shape, for MACCMAC under MAKCMAC and
// never for MACX919, which wants two halves.
type MAKShape uint8

// A single-length key followed by 8 zero bytes, which most acquirers send, or
// a key of full double length. The TAK is made for MACUnionPay and MACX99, but
// for MAKRetail, a double-length key for MACX919, and MAKCMAC, one for MACCMAC.
const (
	MAKSingle MAKShape = iota
	MAKDouble
	MAKRetail
	MAKCMAC
)

// WorkingKeys are a terminal's keys until its next sign-in: for the host as
// key blocks, for the terminal as DE 62 under its TMK. TDK is empty but for
// Set004 and Set005.
type WorkingKeys struct {
	TPK, TAK, TDK Key
	DE62          []byte
}

// KCV is a key check value of 4 bytes, as UnionPay sign-in carries it; the 3
// bytes that others show are its beginning.
type KCV [4]byte

// String returns 8 hex digits, Short the first 6.
func (k KCV) String() string { return fmt.Sprintf("%X", k[:]) }
func (k KCV) Short() string  { return fmt.Sprintf("%X", k[:3]) }

// PVV is a Visa PIN verification value: the index of its key, '0' to '9', and
// four digits in ASCII.
type PVV struct {
	Index byte
	Value [4]byte
}

// EMVScheme says how the card made its cryptogram.
type EMVScheme uint8

// The schemes. PBOC is PBOC 3.0 / UnionPay: option A, the PBOC session key,
// padding 2, ARPC method 1 under the session key. CVN10 is Visa cryptogram
// version 10: the card key itself, zero fill, ARPC method 1. CVN18 is the EMV
// common session key, padding 2, ARPC method 2. MChip is M/Chip 2.1: a session
// key of counter and unpredictable number, padding 2, ARPC method 1 under the
// card key. EMVCommon is the common session key, padding 2, ARPC method 1 under
// it.
const (
	PBOC EMVScheme = iota + 1
	CVN10
	CVN18
	MChip
	EMVCommon
)

// Cryptogram is an ARQC and what it was made over.
type Cryptogram struct {
	Scheme  EMVScheme
	PAN     card.PAN
	PSN     string  // DE 23, two digits; "" is "00"
	OptionB bool    // the card's key is derived by option B: another for account numbers of more than 16 digits
	ATC     [2]byte // tag 9F36
	UN      [4]byte // tag 9F37, for MChip
	Data    []byte  // the values the card put together, in its order
	ARQC    [8]byte // tag 9F26
	ARC     [2]byte // authorisation response code of the ARPC (method 1), in ASCII
	CSU     [4]byte // card status update of ARPC method 2
	Private []byte  // proprietary authentication data of ARPC method 2, at most 8 bytes, which follows the CSU in tag 91
}

// HSM is what the house asks of a security module. Every key is a key block
// of this HSM and is refused with ErrKeyUse for a verb that it was not made
// for. All verbs may be called concurrently.
type HSM interface {
	// GenerateKey makes a random key.
	GenerateKey(ctx context.Context, use Use, alg Alg) (Key, KCV, error)
	// ImportKey takes a key that another party sent under a shared ZMK or a
	// TMK (ECB, ANSI X9.17): a DES key under TDES, an SM4 key under SM4. kcv is
	// its check value, 3 bytes to the whole block of the cipher; with nil a DES
	// key must have odd parity, and an SM4 key is refused. ErrKCV when the two do not agree.
	ImportKey(ctx context.Context, kek Key, use Use, cryptogram, kcv []byte) (Key, error)
	// ExportKey gives a key that GenerateKey made to another party, under a
	// shared ZMK or a TMK of its own family (ECB), with 4 bytes of check value.
	ExportKey(ctx context.Context, kek, key Key) (cryptogram, kcv []byte, err error)
	// DeliverTMK makes a random TMK for a terminal that asks for one: for the
	// host as key block, for the terminal under its transport key (ECB) with 4
	// bytes of check value. transport is a TTK of the same family as alg and of
	// at least its length. The TMK never leaves a second time.
	DeliverTMK(ctx context.Context, transport Key, alg Alg) (tmk Key, cryptogram, kcv []byte, err error)
	// WorkingKeys makes the keys of one terminal sign-in: Set005 under an SM4
	// TMK, the others under a TDES one.
	WorkingKeys(ctx context.Context, tmk Key, set KeySet, shape MAKShape) (WorkingKeys, error)
	// CheckValue returns a key's check value.
	CheckValue(ctx context.Context, key Key) (KCV, error)

	// TranslatePIN re-encrypts a PIN block from a TPK or ZPK to a ZPK, and
	// from one format to another, for one account number. A block bound to the
	// account number stays bound; the formats of UnionPay without it become
	// bound. Every failure of the PIN is ErrPIN, a block that does not fit the
	// format too.
	TranslatePIN(ctx context.Context, in Key, inFormat PINFormat, block PINBlock, pan card.PAN, out Key, outFormat PINFormat) (PINBlock, error)
	// TranslateDUKPT is TranslatePIN for a block from a DUKPT terminal: its key is
	// derived from the base derivation key and the key serial number (10 bytes
	// with TDES, 12 with AES; X9.24). ErrKSN for a number of no terminal. That a
	// terminal sends no number twice is the caller's to see to.
	TranslateDUKPT(ctx context.Context, bdk Key, ksn []byte, inFormat PINFormat, block PINBlock, pan card.PAN, out Key, outFormat PINFormat) (PINBlock, error)
	// VerifyPIN is the issuer's check by Visa PVV of a block in a format that
	// TranslatePIN makes. A wrong PIN and a broken block are both ErrPIN.
	VerifyPIN(ctx context.Context, key Key, format PINFormat, block PINBlock, pan card.PAN, pvk Key, ref PVV) error
	// VerifyCVV is the issuer's check of CVV, iCVV or CVV2: expiry in the
	// order of digits that the scheme uses, and the service code ("000" for
	// CVV2, "999" for iCVV). ErrCVV when it is wrong.
	VerifyCVV(ctx context.Context, cvk Key, pan card.PAN, expiry, service, cvv string) error
	// VerifyARQC is the issuer's check of a chip's cryptogram; it answers with
	// what leads tag 91: the ARPC of 8 bytes (method 1, the ARC follows it
	// there), or the ARPC of 4 bytes and the CSU (method 2, CVN18). ErrARQC
	// when the cryptogram is wrong.
	VerifyARQC(ctx context.Context, imk Key, c Cryptogram) (arpc [8]byte, err error)

	// MAC signs data.
	MAC(ctx context.Context, key Key, alg MACAlg, data []byte) ([8]byte, error)
	// VerifyMAC compares all 8 bytes of mac in constant time; ErrMAC.
	VerifyMAC(ctx context.Context, key Key, alg MACAlg, data, mac []byte) error

	// Encrypt seals data for storage under a DEK (AES-256-GCM, random nonce in
	// front). aad is bound to it and must be given again; name the row there.
	Encrypt(ctx context.Context, key Key, aad, data []byte) ([]byte, error)
	// Decrypt opens what Encrypt sealed; ErrData when it was changed or aad is
	// another.
	Decrypt(ctx context.Context, key Key, aad, data []byte) ([]byte, error)
	// Token gives the same 16 bytes for the same data under the same HMAC key
	// (HMAC-SHA-256, cut): a card can be looked up without being stored.
	Token(ctx context.Context, key Key, data []byte) ([16]byte, error)
	// DecryptTrack decrypts a track 2 or 3 by the scheme of its terminal, under
	// a TDES or SM4 TDK. track is as DE 35 and 36 have it: hexadecimal digits,
	// '=' for D; separators come back as '='. ErrTrack.
	DecryptTrack(ctx context.Context, tdk Key, scheme TrackScheme, track []byte) ([]byte, error)
}

// What the verbs refuse. Errors wrap one of these; none carries a key, a PIN
// or card data.
var (
	ErrKey    = errors.New("not a key block of this HSM")
	ErrKeyUse = errors.New("key may not be used so")
	ErrKCV    = errors.New("check value does not fit the key")
	ErrPIN    = errors.New("hsm: PIN refused")
	ErrMAC    = errors.New("hsm: MAC is wrong")
	ErrARQC   = errors.New("hsm: cryptogram is wrong")
	ErrCVV    = errors.New("hsm: card verification value is wrong")
	ErrData   = errors.New("hsm: sealed data was changed, or belongs elsewhere")
	ErrTrack  = errors.New("hsm: not an encrypted track")
)
