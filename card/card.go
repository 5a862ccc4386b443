// Package card holds what is read off a payment card: the account number,
// the expiry date, track 2. Account numbers print masked wherever they are
// printed.
package card

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// PAN is a primary account number of 13 to 19 digits (ISO/IEC 7812-1). It
// prints masked under every verb, in JSON and in slog; Reveal alone gives the
// digits. They stand behind a pointer because package fmt reads unexported
// fields of a nested struct without asking its String method.
type PAN struct{ digits *string }

// ErrPAN says that something is not an account number. It does not say what
// was found: that may be one digit away from a card.
var ErrPAN = errors.New("card: not an account number of 13 to 19 digits")

// ParsePAN takes 13 to 19 ASCII digits.
func ParsePAN[T string | []byte](s T) (PAN, error) {
	if len(s) < 13 || len(s) > 19 {
		return PAN{}, ErrPAN
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return PAN{}, ErrPAN
		}
	}
	d := string(s)
	return PAN{&d}, nil
}

// IsZero reports whether there is no account number.
func (p PAN) IsZero() bool { return p.digits == nil }

// Reveal returns the clear digits, "" for the zero PAN. Every caller is a
// place where card data leaves the house: an issuer's message, the sealed
// column of the journal, the HSM.
func (p PAN) Reveal() string {
	if p.digits == nil {
		return ""
	}
	return *p.digits
}

// Masked shows the first six and the last four digits (PCI DSS 3.4.1):
// 622848******0002.
func (p PAN) Masked() string { return string(p.AppendMasked(nil)) }

// AppendMasked appends Masked to dst without another allocation.
func (p PAN) AppendMasked(dst []byte) []byte { return AppendMasked(dst, p.Reveal()) }

// AppendMasked appends digits with all but the first six and last four
// starred; fewer than 11 digits are starred whole.
func AppendMasked(dst []byte, digits string) []byte {
	for i := range len(digits) {
		if len(digits) < 11 || i >= 6 && i < len(digits)-4 {
			dst = append(dst, '*')
		} else {
			dst = append(dst, digits[i])
		}
	}
	return dst
}

// BIN returns the first n digits, fewer when the number is shorter.
func (p PAN) BIN(n int) string {
	d := p.Reveal()
	return d[:min(n, len(d))]
}

// LastFour returns the four digits a receipt may show.
func (p PAN) LastFour() string {
	d := p.Reveal()
	return d[max(0, len(d)-4):]
}

// Equal compares the digits.
func (p PAN) Equal(q PAN) bool { return p.Reveal() == q.Reveal() }

// Luhn reports whether the check digit is right (ISO/IEC 7812-1 annex B).
// Some UnionPay cards fail it, so the BIN table says where it is asked for.
func (p PAN) Luhn() bool {
	d := p.Reveal()
	return len(d) > 0 && CheckDigit(d[:len(d)-1]) == d[len(d)-1]
}

// CheckDigit returns the Luhn digit that belongs behind digits.
func CheckDigit(digits string) byte {
	sum := 0
	for i := range len(digits) {
		v := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return byte('0' + (10-sum%10)%10)
}

// String, GoString, Format, MarshalText and LogValue all mask.
func (p PAN) String() string               { return p.Masked() }
func (p PAN) GoString() string             { return "card.PAN(" + p.Masked() + ")" }
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.Masked()), nil }
func (p PAN) LogValue() slog.Value         { return slog.StringValue(p.Masked()) }

// Format masks under every verb, %x and %d included.
func (p PAN) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, p.Masked()) }

// Expiry is YYMM, as DE 14 and track 2 carry it.
type Expiry string

// ParseExpiry takes four digits with a month of 01 to 12.
func ParseExpiry(s string) (Expiry, error) {
	if len(s) != 4 {
		return "", fmt.Errorf("card: expiry is %d characters, want YYMM", len(s))
	}
	for i := range 4 {
		if s[i] < '0' || s[i] > '9' {
			return "", errors.New("card: expiry has a character that is not a digit, want YYMM")
		}
	}
	if m := (s[2]-'0')*10 + s[3] - '0'; m < 1 || m > 12 {
		return "", errors.New("card: expiry month is not 01 to 12, want YYMM")
	}
	return Expiry(s), nil
}

// Before reports whether the card had expired by the month yymm: a card is
// good to the end of the month printed on it. The century turns at 50.
func (e Expiry) Before(yymm string) bool { return e.full() < Expiry(yymm).full() }

func (e Expiry) full() string {
	if e < "50" {
		return "20" + string(e)
	}
	return "19" + string(e)
}

// Track2 is what DE 35 carries once decrypted: account number, expiry, service
// code (ISO/IEC 7813). The discretionary data behind them is looked at by the
// issuer only and is not kept here.
type Track2 struct {
	PAN         PAN
	Expiry      Expiry
	ServiceCode string
}

// ErrTrack says that a track 2 could not be read, without showing it.
var ErrTrack = errors.New("card: track 2 is not account number, separator, YYMM, service code")

// ParseTrack2 reads the text form with '=' or 'D' as separator. A track may
// stop after the expiry date (some cards keep no service code).
func ParseTrack2[T string | []byte](track T) (Track2, error) {
	t := string(track)
	sep := -1
	for i := range len(t) {
		if t[i] == '=' || t[i] == 'D' || t[i] == 'd' {
			sep = i
			break
		}
	}
	if sep < 0 || len(t) < sep+5 {
		return Track2{}, ErrTrack
	}
	pan, err := ParsePAN(t[:sep])
	if err != nil {
		return Track2{}, ErrTrack
	}
	exp, err := ParseExpiry(t[sep+1 : sep+5])
	if err != nil {
		return Track2{}, ErrTrack
	}
	out := Track2{PAN: pan, Expiry: exp}
	if len(t) >= sep+8 {
		out.ServiceCode = t[sep+5 : sep+8]
	}
	return out, nil
}

// String masks: a track never prints.
func (t Track2) String() string                { return "track2(" + t.PAN.Masked() + ")" }
func (t Track2) GoString() string              { return t.String() }
func (t Track2) LogValue() slog.Value          { return slog.StringValue(t.String()) }
func (t Track2) MarshalText() ([]byte, error)  { return []byte(t.String()), nil }
func (t Track2) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, t.String()) }

// HasChip reports whether the service code says that the card carries a chip
// (first digit 2 or 6): such a card may not be swiped where a chip can be read.
func (t Track2) HasChip() bool {
	return t.ServiceCode != "" && (t.ServiceCode[0] == '2' || t.ServiceCode[0] == '6')
}
