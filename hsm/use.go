package hsm

import "fmt"

// Use is what a key was made for. It stands in the key block, under its MAC,
// and every verb asks for it.
type Use uint8

// The uses. A MAC key is bound to its mechanism too: making two kinds of MAC
// with one key lets one be forged with the other.
const (
	UseTMK     Use = iota + 1 // terminal master key, encrypts a terminal's working keys
	UseTTK                    // terminal transport key, from the factory: delivers the TMK (DeliverTMK)
	UseTPK                    // terminal PIN key (PIK)
	UseTAK                    // terminal MAC key (MAK): MACUnionPay, MACX99
	UseTAK919                 // terminal MAC key: MACX919
	UseTAKCMAC                // terminal MAC key: MACCMAC
	UseTDK                    // terminal track data key
	UseZMK                    // zone master key, shared with an issuer or network
	UseZPK                    // zone PIN key
	UseZAK                    // zone MAC key: MACX99, MACUnionPay
	UseZAK919                 // zone MAC key: MACX919
	UseZAKCMAC                // zone MAC key: MACCMAC
	UseDEK                    // data at rest: Encrypt, Decrypt
	UseHMAC                   // lookup tokens: Token
	UseBDK                    // base derivation key of DUKPT terminals
	UsePVK                    // issuer: Visa PVV
	UsePVKIBM                 // issuer: IBM 3624 offsets
	UseCVK                    // issuer: CVV
	UseIMK                    // issuer: master key of chip cryptograms
	UseSMI                    // issuer: master key of script MACs
	UseSMC                    // issuer: master key of script encryption
	UseKBPK                   // key block protection key: TMKs leave under it for devices that are loaded from a file
	uses
)

// useRules says how each use is written in a key block (X9.143:2021, 6.2 to
// 6.6) and what keys it takes. Two uses may share a usage code; the label
// block LB tells them apart.
var useRules = [uses]struct {
	name   string
	usage  string // key usage
	mode   byte   // mode of use
	export byte   // of a generated key: S may leave under a ZMK or TMK, N never
	algs   []Alg
	macs   []MACAlg
	kek    Use // what may encrypt it on its way in or out
}{
	UseTMK:     {"TMK", "K0", 'B', 'N', []Alg{TDES16, TDES24, SM4}, nil, UseZMK},
	UseTTK:     {"TTK", "K0", 'B', 'N', []Alg{TDES16, TDES24, SM4}, nil, UseZMK},
	UseTPK:     {"TPK", "P0", 'D', 'S', []Alg{DES8, TDES16, TDES24, AES16, AES32, SM4}, nil, UseTMK},
	UseTAK:     {"TAK", "M1", 'C', 'S', []Alg{DES8, TDES16, TDES24, SM4}, []MACAlg{MACUnionPay, MACX99}, UseTMK},
	UseTAK919:  {"TAK919", "M3", 'C', 'S', []Alg{TDES16}, []MACAlg{MACX919}, UseTMK},
	UseTAKCMAC: {"TAKCMAC", "M6", 'C', 'S', []Alg{TDES16, TDES24, AES16, AES32, SM4}, []MACAlg{MACCMAC}, UseTMK},
	UseTDK:     {"TDK", "D0", 'D', 'S', []Alg{TDES16, TDES24, SM4}, nil, UseTMK},
	UseZMK:     {"ZMK", "K0", 'B', 'N', []Alg{TDES16, TDES24, AES16, AES32, SM4}, nil, 0},
	UseZPK:     {"ZPK", "P0", 'B', 'S', []Alg{TDES16, TDES24, AES16, AES32, SM4}, nil, UseZMK},
	UseZAK:     {"ZAK", "M1", 'C', 'S', []Alg{DES8, TDES16, TDES24, SM4}, []MACAlg{MACX99, MACUnionPay}, UseZMK},
	UseZAK919:  {"ZAK919", "M3", 'C', 'S', []Alg{TDES16}, []MACAlg{MACX919}, UseZMK},
	UseZAKCMAC: {"ZAKCMAC", "M6", 'C', 'S', []Alg{TDES16, TDES24, AES16, AES32, SM4}, []MACAlg{MACCMAC}, UseZMK},
	UseDEK:     {"DEK", "D0", 'B', 'N', []Alg{AES32}, nil, 0},
	UseHMAC:    {"HMAC", "M7", 'C', 'N', []Alg{HMAC32}, nil, 0},
	UseBDK:     {"BDK", "B0", 'X', 'N', []Alg{TDES16, AES16, AES32}, nil, UseZMK},
	UsePVK:     {"PVK", "V2", 'V', 'N', []Alg{TDES16}, nil, UseZMK},
	UsePVKIBM:  {"PVKIBM", "V1", 'V', 'N', []Alg{TDES16, TDES24}, nil, UseZMK},
	UseCVK:     {"CVK", "C0", 'V', 'N', []Alg{TDES16}, nil, UseZMK},
	UseIMK:     {"IMK", "E0", 'X', 'N', []Alg{TDES16}, nil, UseZMK},
	UseSMI:     {"SMI", "E2", 'X', 'N', []Alg{TDES16}, nil, UseZMK},
	UseSMC:     {"SMC", "E1", 'X', 'N', []Alg{TDES16}, nil, UseZMK},
	UseKBPK:    {"KBPK", "K1", 'B', 'N', []Alg{TDES16, TDES24, AES16, AES32}, nil, 0},
}

// String returns the name payments people use: TMK, TPK, ...
func (u Use) String() string {
	if u == 0 || u >= uses {
		return fmt.Sprintf("use %d", uint8(u))
	}
	return useRules[u].name
}
