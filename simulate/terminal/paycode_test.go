package terminal

import (
	"math"
	"testing"

	"acquirer/routing"
)

// Every code is its wallet's, and no two are the same.
func TestPayCode(t *testing.T) {
	seen := map[string]bool{}
	numbers := []int{-1, math.MaxInt, math.MinInt, 99_999_999_999_999}
	for n := range 1000 {
		numbers = append(numbers, n)
	}
	for _, wallet := range routing.Wallets {
		for _, n := range numbers {
			text := PayCode(wallet, n)
			code, err := routing.ParsePayCode(text)
			if err != nil {
				t.Fatalf("%s %d: %q: %v", wallet, n, text, err)
			}
			if of, ok := routing.WalletOf(code); !ok || of != wallet {
				t.Errorf("%s %d: %q is a code of %q", wallet, n, text, of)
			}
			if seen[text] {
				t.Errorf("%s %d: %q again", wallet, n, text)
			}
			seen[text] = true
		}
	}
	if c := PayCode("paypal", 1); c != "" {
		t.Errorf("paypal has code %q", c)
	}
}
