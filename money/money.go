// Package money counts in fen: int64 minor units of one currency, the
// renminbi yuan (ISO 4217: CNY, 156, two decimals). Arithmetic is checked and
// nothing here touches a float.
package money

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Currency and its numeric code as DE 49 carries it (ISO 4217).
const (
	Currency        = "CNY"
	CurrencyNumeric = "156"
)

// ErrOverflow is returned when a sum does not fit in 64 bits. Nothing a POS
// acquirer books comes near; meeting it means a corrupted amount.
var ErrOverflow = errors.New("money: amount does not fit in 64 bits")

// Amount is a sum in fen (1/100 yuan). It may be negative.
type Amount int64

// Yuan returns n whole yuan.
func Yuan(n int64) Amount { return Amount(n * 100) }

// String prints yuan with two decimals and no separators: "100.00", "-2.01".
func (a Amount) String() string {
	neg, u := a < 0, uint64(a)
	if neg {
		u = -u
	}
	var b [24]byte
	out := b[:0]
	if neg {
		out = append(out, '-')
	}
	out = strconv.AppendUint(out, u/100, 10)
	return string(append(out, '.', byte('0'+u%100/10), byte('0'+u%10)))
}

// Fen is the bare number of fen, for storage and DE 4.
func (a Amount) Fen() int64 { return int64(a) }

// MarshalText writes the same form as String, so JSON carries "100.00" and
// never a float.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (a *Amount) UnmarshalText(b []byte) error {
	v, err := Parse(string(b))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// Parse reads yuan with at most two decimals: "100", "100.5", "100.00",
// "-2.01". Anything else (separators, exponents, a third decimal) is refused.
func Parse(s string) (Amount, error) {
	digits, neg := strings.CutPrefix(s, "-")
	whole, frac, dot := strings.Cut(digits, ".")
	if whole == "" || dot && frac == "" || len(frac) > 2 || !allDigits(whole) || !allDigits(frac) {
		return 0, fmt.Errorf("money: %q is not an amount in yuan; write it like 100.00", s)
	}
	for len(frac) < 2 {
		frac += "0"
	}
	v, err := strconv.ParseInt(whole+frac, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("money: %q: %w", s, ErrOverflow)
	}
	if neg {
		v = -v
	}
	return Amount(v), nil
}

func allDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Add returns a+b, or ErrOverflow.
func (a Amount) Add(b Amount) (Amount, error) {
	s := a + b
	if (s > a) != (b > 0) && b != 0 {
		return 0, ErrOverflow
	}
	return s, nil
}

// Sub returns a-b, or ErrOverflow.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b == math.MinInt64 {
		return 0, ErrOverflow
	}
	return a.Add(-b)
}

// Sum adds up amounts, or returns ErrOverflow.
func Sum(amounts ...Amount) (Amount, error) {
	var total Amount
	for _, a := range amounts {
		var err error
		if total, err = total.Add(a); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// Million is the denominator of a rate: rates are in ppm, so 0.60 % is 6000
// and 0.0325 % is 325.
const Million = 1_000_000

// MulPPM returns a*ppm/1e6 rounded half up (away from zero) to the fen, once,
// through a 128-bit product; the fen is the only rounding step of a fee
// (docs/ARCHITECTURE.md, money).
func (a Amount) MulPPM(ppm int64) (Amount, error) { return a.Share(Amount(ppm), Million) }

// Share returns a*part/whole rounded half up (away from zero) to the fen, once:
// the fee of a part of a sale. whole must not be zero.
func (a Amount) Share(part, whole Amount) (Amount, error) {
	if whole == 0 {
		return 0, fmt.Errorf("money: a share of nothing: %w", ErrOverflow)
	}
	neg := (a < 0) != (part < 0) != (whole < 0)
	d := abs(int64(whole))
	hi, lo := bits.Mul64(abs(int64(a)), abs(int64(part)))
	lo, carry := bits.Add64(lo, d/2, 0)
	if hi += carry; hi >= d {
		return 0, ErrOverflow
	}
	q, _ := bits.Div64(hi, lo, d)
	if q > math.MaxInt64 {
		return 0, ErrOverflow
	}
	if neg {
		return -Amount(q), nil
	}
	return Amount(q), nil
}

func abs(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}
