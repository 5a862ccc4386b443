package algo

import "errors"

// decimalise picks n digits out of the 16 hex digits of a block: first the
// decimal ones from left to right, then A to F as 0 to 5 (Visa PIN and CVV
// rules; EMV option B).
func decimalise(dst []byte, hexDigits []byte, n int) []byte {
	for pass := range 2 {
		for _, b := range hexDigits {
			for _, v := range [2]byte{b >> 4, b & 15} {
				if n == 0 {
					return dst
				}
				switch {
				case pass == 0 && v < 10:
					dst = append(dst, '0'+v)
					n--
				case pass == 1 && v >= 10:
					dst = append(dst, '0'+v-10)
					n--
				}
			}
		}
	}
	return dst
}

// isDigits reports whether s holds ASCII digits only.
func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// packBCD packs an even number of digits.
func packBCD(dst []byte, digits string) []byte {
	for i := 0; i+1 < len(digits); i += 2 {
		dst = append(dst, (digits[i]-'0')<<4|(digits[i+1]-'0'))
	}
	return dst
}

// VisaPVV is the PIN verification value under a double-length PVK: the 11
// digits left of the account number's check digit, the key index '0' to '9'
// and the first 4 digits of the PIN, encrypted and decimalised.
func VisaPVV(pvk *Key, pan string, index byte, pin PIN) ([4]byte, error) {
	var pvv [4]byte
	if pvk.cipher != TDES {
		return pvv, errors.New("algo: a PVK is a TDES key")
	}
	if len(pan) < 12 || len(pan) > 19 || !isDigits(pan) {
		return pvv, errors.New("algo: PVV wants an account number of 12 to 19 digits")
	}
	if index < '0' || index > '9' {
		return pvv, errors.New("algo: the index of a PVK is a digit")
	}
	if pin.n < 4 {
		return pvv, errors.New("algo: a PIN has 4 to 12 digits")
	}
	var in [8]byte
	for i := range 11 {
		setNibble(in[:], i, pan[len(pan)-12+i]-'0')
	}
	setNibble(in[:], 11, index-'0')
	for i := range 4 {
		setNibble(in[:], 12+i, pin.digits[i])
	}
	out := pvk.Encrypt8(in)
	decimalise(pvv[:0], out[:], 4)
	return pvv, nil
}

// CVV is the card verification value of three digits under a CVK pair of 16
// bytes. expiry is four digits in the order that the value is made with: YYMM
// for CVV, and for CVV2 and iCVV what the scheme says; service is the service
// code, "000" for CVV2, "999" for iCVV.
func CVV(cvk *Key, pan, expiry, service string) ([3]byte, error) {
	var cvv [3]byte
	if cvk.cipher != TDES || cvk.length != 16 {
		return cvv, errors.New("algo: a CVK is a double-length TDES key")
	}
	if len(pan) < 1 || len(pan) > 19 || len(expiry) != 4 || len(service) != 3 || !isDigits(pan+expiry+service) {
		return cvv, errors.New("algo: CVV wants an account number, four digits of expiry and three of service code")
	}
	var data [16]byte
	packBCD(data[:0], pan+expiry+service+"0") // zeros behind; packBCD leaves a lone last digit out
	s := scratches.Get().(*scratch)
	defer s.release()
	x := s.a[:8]
	copy(x, data[:8])
	cvk.left.Encrypt(x, x)
	for i := range x {
		x[i] ^= data[8+i]
	}
	cvk.block.Encrypt(x, x)
	decimalise(cvv[:0], x, 3)
	return cvv, nil
}
