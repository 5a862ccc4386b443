package wallet

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"acquirer/money"
)

// What the three wires have in common.

func nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program first
	return hex.EncodeToString(b[:])
}

func fen(a money.Amount) string { return strconv.FormatInt(a.Fen(), 10) }

func fenOf(s string) (money.Amount, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v <= 0 {
		return 0, errors.New("its amount is not a number of fen above zero")
	}
	return money.Amount(v), nil
}

// named is what the buyer's telephone shows.
func named(name string) string {
	if name == "" {
		return "POS"
	}
	return name
}

// cut makes a wallet's words fit for a log: at most 64 bytes of valid UTF-8 on
// one line.
func cut(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	for len(s) > 64 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// failed is a payment or refund that was refused.
func failed(codes map[string]string, code, words string) Result {
	ours, ok := codes[code]
	if !ok {
		ours = Other
	}
	return Result{State: Failed, Code: ours, Said: cut(words)}
}
