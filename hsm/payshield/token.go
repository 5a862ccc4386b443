package payshield

import (
	"errors"
	"fmt"
	"strings"

	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// A key of a payShield, as the house stores it, is text: "PS", its use, N or S
// (may it leave?), and the key as the device gave it, under its LMK.
//
//	PS:TPK:N:U8463435FC4B4DAA0C49025272C29B12C
//
// A key block of the software HSM starts with its version, a letter and four
// digits, so that neither kind is taken for the other. The device itself tells
// key types apart, not uses: that a key is a TAK for X9.19 stands in the token
// only, and whoever can write the database can change it there.
const tokenPrefix = "PS:"

// token is a key taken apart.
type token struct {
	use   hsm.Use
	alg   hsm.Alg
	leave bool
	field string
}

// NewKey makes the key of a field that an operator got from the device (FK at
// its console, A6 or FC from a host): for the seed's TMKs and ZMKs. It never
// leaves the house again.
func NewKey(use hsm.Use, field string) (hsm.Key, error) {
	k := token{use: use, field: field}.key()
	_, err := parseKey(k)
	return k, err
}

func (t token) key() hsm.Key {
	leave := "N"
	if t.leave {
		leave = "S"
	}
	return hsm.Key(tokenPrefix + t.use.String() + ":" + leave + ":" + t.field)
}

// schemeOfAlg and algOfScheme are how keys lie under the LMK.
func schemeOfAlg(a hsm.Alg) (algo.Scheme, bool) {
	switch a {
	case hsm.DES8:
		return algo.SchemeZ, true
	case hsm.TDES16:
		return algo.SchemeU, true
	case hsm.TDES24:
		return algo.SchemeT, true
	}
	return 0, false
}

func algOfScheme(s algo.Scheme) hsm.Alg {
	switch s.KeyLen() {
	case 8:
		return hsm.DES8
	case 16:
		return hsm.TDES16
	}
	return hsm.TDES24
}

// parseKey refuses what NewKey and the client do not write.
func parseKey(k hsm.Key) (t token, err error) {
	text, ok := strings.CutPrefix(string(k), tokenPrefix)
	if !ok {
		if strings.HasPrefix(string(k), "D0") {
			return t, fmt.Errorf("%w: it is a key block of the software HSM", hsm.ErrKey)
		}
		return t, fmt.Errorf("%w: it does not start with %s", hsm.ErrKey, tokenPrefix)
	}
	name, text, _ := strings.Cut(text, ":")
	leave, field, _ := strings.Cut(text, ":")
	use, known := hsm.ParseUse(name)
	if !known || leave != "N" && leave != "S" {
		return t, fmt.Errorf("%w: want PS:USE:N:KEY", hsm.ErrKey)
	}
	s, _, rest, err := algo.ParseKeyField(field)
	if err != nil || rest != "" || len(field) == 17 {
		return t, fmt.Errorf("%w: behind the use stand 16 hex digits, U and 32 or T and 48", hsm.ErrKey)
	}
	t = token{use: use, alg: algOfScheme(s), leave: leave == "S", field: field}
	if err := use.Check("key", t.alg); err != nil {
		return t, err
	}
	return t, nil
}

// IsKey reports whether a stored key is one of a payShield.
func IsKey(k hsm.Key) bool { return strings.HasPrefix(string(k), tokenPrefix) }

// ErrNoCommand is wrapped by what a payShield cannot do: SM4, data at rest and
// tokens without a software HSM beside it, keys imported under a TMK.
var ErrNoCommand = errors.New("a payShield has no command for it")

// typeOf is the key type of a use at the device.
func (c *Client) typeOf(u hsm.Use) keyType {
	switch u {
	case hsm.UseZMK:
		return typeZMK
	case hsm.UseTMK, hsm.UseTTK:
		if c.cfg.SeparateTypes {
			return typeTMK
		}
		return type002
	case hsm.UseTPK:
		if c.cfg.SeparateTypes {
			return typeTPK
		}
		return type002
	case hsm.UseTAK, hsm.UseTAK919, hsm.UseTAKCMAC:
		return typeTAK
	case hsm.UseTDK:
		if c.cfg.SeparateTypes {
			return typeTEK
		}
		return typeDEK
	case hsm.UseZPK:
		return typeZPK
	case hsm.UseZAK, hsm.UseZAK919, hsm.UseZAKCMAC:
		return typeZAK
	case hsm.UsePVK, hsm.UsePVKIBM:
		return typePVK
	case hsm.UseBDK:
		return typeBDK
	case hsm.UseSMI:
		return typeMKSMI
	case hsm.UseSMC:
		return typeMKSMC
	case hsm.UseCVK:
		return typeCVK
	case hsm.UseIMK:
		return typeMKAC
	}
	return keyType{}
}
