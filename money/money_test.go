package money

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestStringAndParse(t *testing.T) {
	for _, c := range []struct {
		fen  int64
		text string
	}{
		{0, "0.00"}, {1, "0.01"}, {-1, "-0.01"}, {10, "0.10"}, {10000, "100.00"}, {-201, "-2.01"},
		{math.MaxInt64, "92233720368547758.07"},
	} {
		if got := Amount(c.fen).String(); got != c.text {
			t.Errorf("Amount(%d) = %q, want %q", c.fen, got, c.text)
		}
		if got, err := Parse(c.text); err != nil || got != Amount(c.fen) {
			t.Errorf("Parse(%q) = %d, %v, want %d", c.text, got, err, c.fen)
		}
	}
	if got := Amount(math.MinInt64).String(); got != "-92233720368547758.08" {
		t.Errorf("smallest amount = %q", got)
	}
	for _, bad := range []string{"", ".", "1.", ".5", "1.234", "1,000", "1e3", "+1", "--1", "1.-2", " 1", "99999999999999999999"} {
		if v, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", bad, v)
		}
	}
	b, err := json.Marshal(map[string]Amount{"fee": 360})
	if err != nil || string(b) != `{"fee":"3.60"}` {
		t.Errorf("JSON = %s, %v", b, err)
	}
}

func TestAddOverflow(t *testing.T) {
	if _, err := Amount(math.MaxInt64).Add(1); !errors.Is(err, ErrOverflow) {
		t.Error("MaxInt64+1 did not overflow")
	}
	if _, err := Amount(math.MinInt64).Sub(1); !errors.Is(err, ErrOverflow) {
		t.Error("MinInt64-1 did not overflow")
	}
	if _, err := Amount(0).Sub(math.MinInt64); !errors.Is(err, ErrOverflow) {
		t.Error("0-MinInt64 did not overflow")
	}
	if _, err := Amount(math.MaxInt64).MulPPM(2 * Million); !errors.Is(err, ErrOverflow) {
		t.Error("MaxInt64*2 did not overflow")
	}
	if s, err := Sum(1, 2, -3, 7); err != nil || s != 7 {
		t.Errorf("Sum = %v, %v", s, err)
	}
}

// Against arbitrary-precision arithmetic: every sum and every rate agrees, and
// what does not fit is refused.
func TestArithmeticAgainstBig(t *testing.T) {
	fits := func(x *big.Int) bool { return x.IsInt64() }
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		sum := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		got, err := Amount(a).Add(Amount(b))
		if fits(sum) != (err == nil) || err == nil && int64(got) != sum.Int64() {
			t.Fatalf("%d+%d = %d, %v", a, b, got, err)
		}
		ppm := rapid.Int64Range(-3*Million, 3*Million).Draw(t, "ppm")
		p := new(big.Int).Mul(big.NewInt(a), big.NewInt(ppm))
		neg := p.Sign() < 0
		p.Abs(p).Add(p, big.NewInt(Million/2)).Quo(p, big.NewInt(Million))
		if neg {
			p.Neg(p)
		}
		got, err = Amount(a).MulPPM(ppm)
		if err == nil && int64(got) != p.Int64() {
			t.Fatalf("%d*%dppm = %d, want %s", a, ppm, got, p)
		}
		if err != nil && fits(p) && p.Int64() != math.MinInt64 {
			t.Fatalf("%d*%dppm refused though %s fits", a, ppm, p)
		}
	})
}

func TestShare(t *testing.T) {
	for _, c := range []struct{ a, part, whole, want Amount }{
		{60, 3333, 10000, 20}, {60, 6666, 10000, 40}, {60, 10000, 10000, 60}, {1, 1, 2, 1}, {1, 1, 3, 0}, {-1, 1, 2, -1}, {1, -1, 2, -1}, {0, 5, 7, 0},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64},
	} {
		if got, err := c.a.Share(c.part, c.whole); err != nil || got != c.want {
			t.Errorf("%d of %d/%d: %d %v, want %d", c.a, c.part, c.whole, got, err, c.want)
		}
	}
	for _, c := range [][3]Amount{{1, 1, 0}, {math.MaxInt64, 2, 1}} {
		if _, err := c[0].Share(c[1], c[2]); err == nil {
			t.Errorf("Share(%v) passed", c)
		}
	}
}
