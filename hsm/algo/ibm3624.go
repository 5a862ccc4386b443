package algo

import (
	"errors"
	"fmt"
)

// ErrDecimalisation says that a decimalisation table would tell PINs apart.
var ErrDecimalisation = errors.New("algo: decimalisation table wants 16 digits, at least 8 of them different and none more than 4 times")

// CheckDecimalisation refuses tables that make guessing a PIN easy: a caller
// who may choose the table finds a PIN digit by digit (Bond and Zielinski,
// 2003). payShield asks for the same.
func CheckDecimalisation(table string) error {
	if len(table) != 16 || !isDigits(table) {
		return ErrDecimalisation
	}
	var count [10]int
	different := 0
	for i := range len(table) {
		d := table[i] - '0'
		if count[d]++; count[d] == 1 {
			different++
		}
		if count[d] > 4 {
			return ErrDecimalisation
		}
	}
	if different < 8 {
		return ErrDecimalisation
	}
	return nil
}

// naturalPIN is the IBM 3624 PIN of a card: 8 bytes of validation data
// encrypted, each nibble replaced by the digit that the table has for it, the
// first n of them.
func naturalPIN(pvk *Key, table string, validation [8]byte, n int) (p PIN, err error) {
	if pvk.cipher != DES && pvk.cipher != TDES {
		return p, errors.New("algo: an IBM 3624 PVK is a DES or TDES key")
	}
	if len(table) != 16 || !isDigits(table) {
		return p, errors.New("algo: a decimalisation table has 16 digits")
	}
	if n < 4 || n > 12 {
		return p, fmt.Errorf("algo: an IBM 3624 PIN of %d digits, want 4 to 12", n)
	}
	out := pvk.Encrypt8(validation)
	for i := range n {
		p.digits[i] = table[nibble(out[:], i)] - '0'
	}
	p.n = n
	clear(out[:])
	return p, nil
}

// IBM3624PIN is the customer's PIN: the natural PIN with the offset added
// digit by digit, modulo 10. It has as many digits as the offset; an offset of
// zeros gives the natural PIN. validation is 16 nibbles of validation data,
// which may hold A to F where a card has no digit.
func IBM3624PIN(pvk *Key, table string, validation [8]byte, offset string) (PIN, error) {
	if !isDigits(offset) {
		return PIN{}, errors.New("algo: an IBM 3624 offset has digits only")
	}
	p, err := naturalPIN(pvk, table, validation, len(offset))
	for i := range p.n {
		p.digits[i] = (p.digits[i] + offset[i] - '0') % 10
	}
	return p, err
}

// IBM3624Offset is what the card or the issuer keeps of a PIN: its first n
// digits less those of the natural PIN, modulo 10; n of 4 to the length of the
// PIN, 0 for all of it.
func IBM3624Offset(pvk *Key, table string, validation [8]byte, pin PIN, n int) (string, error) {
	if n == 0 {
		n = pin.n
	}
	if n > pin.n {
		return "", fmt.Errorf("algo: an offset of %d digits is longer than its PIN", n)
	}
	natural, err := naturalPIN(pvk, table, validation, n)
	if err != nil {
		return "", err
	}
	offset := make([]byte, n)
	for i := range n {
		offset[i] = '0' + (10+pin.digits[i]-natural.digits[i])%10
	}
	return string(offset), nil
}
