package spec

import "fmt"

// TransactionCode is the code of a transaction (交易特征码), eight hexadecimal
// digits that a terminal prints where the cardholder signs, so that the picture
// of a signature tells which transaction it is for. The settlement date (DE 15,
// MMDD, 0000 when it is empty) and the RRN (DE 37) are read as the sixteen
// digits of eight bytes; the code is the first four bytes XOR the last four.
//
// The rule is silent about RRNs beyond hexadecimal digits. Here a letter G to Z
// is the last digit of its value in base 36, as the digits 0 to F are of
// theirs: G is 0, Z is 3. Small letters are as large ones. The one terminal on
// record with such a letter printed the code of an RRN of zeros, so codes help
// a person who compares; they decide nothing.
//
// Anything but four digits or none, and twelve digits or letters, is an error.
func TransactionCode(de15, de37 string) (string, error) {
	if de15 == "" {
		de15 = "0000"
	}
	if len(de15) != 4 {
		return "", fmt.Errorf("transaction code: DE 15 is %q, want MMDD or nothing", de15)
	}
	if len(de37) != 12 {
		return "", fmt.Errorf("transaction code: DE 37 is %d characters, want 12", len(de37))
	}
	var code uint64
	for i, c := range []byte(de15 + de37) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case i < 4:
			return "", fmt.Errorf("transaction code: DE 15 is %q, want MMDD or nothing", de15)
		case 'A' <= c && c <= 'Z':
			c -= 'A' - 10
		case 'a' <= c && c <= 'z':
			c -= 'a' - 10
		default:
			return "", fmt.Errorf("transaction code: DE 37 has %q as character %d, want digits and letters", c, i-3)
		}
		code = code<<4 | uint64(c&0xF)
	}
	return fmt.Sprintf("%08X", uint32(code>>32)^uint32(code)), nil
}
