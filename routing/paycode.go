package routing

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"acquirer/card"
)

// PayCode is the number behind the QR or bar code that a buyer's wallet shows
// and the terminal scans: 16 to 24 digits, good for one payment within about a
// minute. Whoever holds it can take the buyer's money, so it prints masked
// under every verb, in JSON and in slog; Reveal alone gives the digits. They
// stand behind a pointer because package fmt reads unexported fields of a
// nested struct without asking its String method.
type PayCode struct{ digits *string }

// ErrPayCode says that something is not a payment code. It does not say what
// was found: that may be one digit away from a good one.
var ErrPayCode = errors.New("routing: not a payment code of 16 to 24 digits")

// ParsePayCode takes 16 to 24 ASCII digits. Whose code it is, and whether its
// length is one that this wallet gives, WalletOf says.
func ParsePayCode[T string | []byte](s T) (PayCode, error) {
	if len(s) < 16 || len(s) > 24 {
		return PayCode{}, ErrPayCode
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return PayCode{}, ErrPayCode
		}
	}
	d := string(s)
	return PayCode{&d}, nil
}

// IsZero reports whether there is no code.
func (c PayCode) IsZero() bool { return c.digits == nil }

// Reveal returns the clear digits, "" for the zero PayCode. Its one caller in
// the house is the message to the wallet.
func (c PayCode) Reveal() string {
	if c.digits == nil {
		return ""
	}
	return *c.digits
}

// Masked shows the first six and the last four digits: 134567********2345.
func (c PayCode) Masked() string { return string(c.AppendMasked(nil)) }

// AppendMasked appends Masked to dst without another allocation.
func (c PayCode) AppendMasked(dst []byte) []byte { return card.AppendMasked(dst, c.Reveal()) }

// Equal compares the digits.
func (c PayCode) Equal(d PayCode) bool { return c.Reveal() == d.Reveal() }

// String, GoString, Format, MarshalText and LogValue all mask.
func (c PayCode) String() string               { return c.Masked() }
func (c PayCode) GoString() string             { return "routing.PayCode(" + c.Masked() + ")" }
func (c PayCode) MarshalText() ([]byte, error) { return []byte(c.Masked()), nil }
func (c PayCode) LogValue() slog.Value         { return slog.StringValue(c.Masked()) }

// Format masks under every verb, %x and %d included.
func (c PayCode) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, c.Masked()) }

// The wallets that payment codes name. UnionPayQR is every wallet and bank app
// behind UnionPay's codes; it is not called unionpay, for an issuer may be.
const (
	WeChat     = "wechat"
	Alipay     = "alipay"
	UnionPayQR = "unionpay-qr"
)

// Wallets are the names WalletOf gives, in a fixed order.
var Wallets = []string{WeChat, Alipay, UnionPayQR}

// codes says whose code begins with which two digits and how long it is
// (docs/divergences.md, QR).
var codes = []struct {
	from, to string // the first two digits
	min, max int    // digits in all
	wallet   string
}{
	{"10", "15", 18, 18, WeChat},
	{"25", "30", 16, 24, Alipay},
	{"62", "62", 19, 19, UnionPayQR},
}

// WalletOf tells whose code it is; false for a beginning that belongs to no
// wallet, or a length that this wallet does not give.
func WalletOf(c PayCode) (wallet string, ok bool) {
	d := c.Reveal()
	if d == "" {
		return "", false
	}
	for _, r := range codes {
		if d[:2] >= r.from && d[:2] <= r.to && len(d) >= r.min && len(d) <= r.max {
			return r.wallet, true
		}
	}
	return "", false
}
