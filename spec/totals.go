package spec

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// What a terminal and its host say to each other when a batch is closed: DE 48
// of settlement (0500) and of the upload of details (0320), DE 62 of chip
// details, and the signatures that a settlement answer asks for (fields.md,
// DE 48 and 62). The digits are those of Message.AppendText and Message.Set.

// ErrTotals says that totals or details cannot be read or written.
var ErrTotals = errors.New("spec: wrong totals or details")

// Balance is what a host found when it compared a terminal's totals with its
// own.
type Balance byte

// The results of a comparison. Requests carry NotCompared.
const (
	NotCompared  Balance = 0
	Balanced     Balance = 1
	NotBalanced  Balance = 2
	BalanceError Balance = 3
)

// Tally is a sum in fen and how many transactions made it, 0 to 999.
type Tally struct {
	Fen   int64
	Count int
}

// SideTotals are the totals of domestic or of foreign cards.
type SideTotals struct {
	Debit, Credit Tally
	Balance       Balance
}

// Totals are DE 48 of a settlement, 62 digits.
type Totals struct{ Domestic, Foreign SideTotals }

const (
	totalsDigits = 62
	detailDigits = 40
	// MaxDetails is how many details one upload may carry.
	MaxDetails = 8
)

// AppendTotals appends the 62 digits of t. A sum above twelve digits or below
// zero, and a count above 999, is ErrTotals.
func AppendTotals(dst []byte, t Totals) ([]byte, error) {
	start := len(dst)
	for _, s := range [...]SideTotals{t.Domestic, t.Foreign} {
		for _, y := range [...]Tally{s.Debit, s.Credit} {
			if y.Fen < 0 || y.Fen > 999999999999 || y.Count < 0 || y.Count > 999 {
				return dst[:start], fmt.Errorf("%w: %d fen in %d transactions do not fit twelve and three digits", ErrTotals, y.Fen, y.Count)
			}
			dst = appendDecimal(appendDecimal(dst, int(y.Fen), 12), y.Count, 3)
		}
		if s.Balance > BalanceError {
			return dst[:start], fmt.Errorf("%w: balance %d is none of 0 to 3", ErrTotals, s.Balance)
		}
		dst = append(dst, '0'+byte(s.Balance))
	}
	return dst, nil
}

// ParseTotals reads the 62 digits of DE 48 of a settlement or its answer.
func ParseTotals(digits []byte) (Totals, error) {
	var t Totals
	if len(digits) != totalsDigits || !allDigits(digits) {
		return t, fmt.Errorf("%w: DE 48 of %d, want 62 digits", ErrTotals, len(digits))
	}
	for _, s := range [...]*SideTotals{&t.Domestic, &t.Foreign} {
		for _, y := range [...]*Tally{&s.Debit, &s.Credit} {
			y.Fen, y.Count = int64(decimal(digits[:12])), decimal(digits[12:15])
			digits = digits[15:]
		}
		if digits[0] > '3' {
			return Totals{}, fmt.Errorf("%w: balance %c is none of 0 to 3", ErrTotals, digits[0])
		}
		s.Balance, digits = Balance(digits[0]-'0'), digits[1:]
	}
	return t, nil
}

// Detail is one stripe transaction of a batch upload. It prints its account
// number masked.
type Detail struct {
	Foreign bool
	STAN    int
	PAN     string // in clear, at most 20 digits without a leading zero; "" for a payment code
	Fen     int64
}

// AppendDetails appends DE 48 of a batch upload: the number of details and
// each as card kind 2, STAN 6, account number 20 and amount 12 digits.
func AppendDetails(dst []byte, details []Detail) ([]byte, error) {
	start := len(dst)
	if len(details) < 1 || len(details) > MaxDetails {
		return dst, fmt.Errorf("%w: %d details, want 1 to %d", ErrTotals, len(details), MaxDetails)
	}
	dst = appendDecimal(dst, len(details), 2)
	for i, d := range details {
		if d.STAN < 0 || d.STAN > 999999 || d.Fen < 0 || d.Fen > 999999999999 || len(d.PAN) > 20 || !allDigits(d.PAN) || strings.HasPrefix(d.PAN, "0") {
			return dst[:start], fmt.Errorf("%w: detail %d does not fit its digits", ErrTotals, i+1)
		}
		dst = append(dst, '0', '0'+oneIf(d.Foreign))
		dst = appendDecimal(dst, d.STAN, 6)
		dst = appendPaddedLeft(dst, d.PAN, 20)
		dst = appendDecimal(dst, int(d.Fen), 12)
	}
	return dst, nil
}

// ParseDetails reads DE 48 of a batch upload.
func ParseDetails(digits []byte) ([]Detail, error) {
	n := (len(digits) - 2) / detailDigits
	if n < 1 || n > MaxDetails || len(digits) != 2+n*detailDigits || !allDigits(digits) {
		return nil, fmt.Errorf("%w: %d digits are no 1 to %d details of 40", ErrTotals, len(digits), MaxDetails)
	}
	if decimal(digits[:2]) != n {
		return nil, fmt.Errorf("%w: %d details told, %d there", ErrTotals, decimal(digits[:2]), n)
	}
	out := make([]Detail, n)
	for i := range out {
		d := digits[2+i*detailDigits:]
		if d[0] != '0' || d[1] > '1' {
			return nil, fmt.Errorf("%w: detail %d: card kind %s is neither 00 nor 01", ErrTotals, i+1, d[:2])
		}
		out[i] = Detail{
			Foreign: d[1] == '1', STAN: decimal(d[2:8]),
			PAN: strings.TrimLeft(string(d[8:28]), "0"), Fen: int64(decimal(d[28:40])),
		}
	}
	return out, nil
}

func (d Detail) String() string {
	pan := []byte(d.PAN)
	for i := range pan {
		if len(pan) < 11 || i >= 6 && i < len(pan)-4 {
			pan[i] = '*'
		}
	}
	return fmt.Sprintf("%06d %s %d fen foreign=%v", d.STAN, pan, d.Fen, d.Foreign)
}

// Format, MarshalText and LogValue mask as String does.
func (d Detail) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, d.String()) }
func (d Detail) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
func (d Detail) LogValue() slog.Value         { return slog.StringValue(d.String()) }

// AppendDetailCount appends DE 48 of a batch end: how many records were
// uploaded, four digits.
func AppendDetailCount(dst []byte, n int) ([]byte, error) {
	if n < 0 || n > 9999 {
		return dst, fmt.Errorf("%w: %d records do not fit four digits", ErrTotals, n)
	}
	return appendDecimal(dst, n, 4), nil
}

// ParseDetailCount reads DE 48 of a batch end.
func ParseDetailCount(digits []byte) (int, error) {
	if len(digits) != 4 || !allDigits(digits) {
		return 0, fmt.Errorf("%w: DE 48 of %d, want the 4 digits of a number of records", ErrTotals, len(digits))
	}
	return decimal(digits), nil
}

// ChipFailure is why a chip transaction is uploaded as a failed one.
type ChipFailure byte

// The failures. The zero value is a transaction that did not fail.
const (
	ChipGood     ChipFailure = iota
	ChipRefused              // the card said no
	ChipBadARPC              // the host approved, but the card did not recognise its issuer
	chipFailures             // how many there are
)

// chipReasons are the reason before the amount and the result behind the
// currency, by ChipFailure.
var chipReasons = [chipFailures][2]string{ChipRefused: {"11", "10"}, ChipBadARPC: {"05", "22"}}

// ChipDetail is DE 62 of a chip upload (DE 60.3 203 to 206).
type ChipDetail struct {
	Failure  ChipFailure
	Foreign  bool
	Fen      int64
	Currency string // three digits
}

// AppendChipDetail appends "61", card kind, "00", amount and currency for a
// transaction that went well, and "71", card kind, reason, amount, currency and
// result for a failed one.
func AppendChipDetail(dst []byte, d ChipDetail) ([]byte, error) {
	if d.Failure >= chipFailures || d.Fen < 0 || d.Fen > 999999999999 || len(d.Currency) != 3 || !allDigits(d.Currency) {
		return dst, fmt.Errorf("%w: a chip detail that does not fit its digits", ErrTotals)
	}
	head, reason, result := "61", "00", ""
	if d.Failure != ChipGood {
		head, reason, result = "71", chipReasons[d.Failure][0], chipReasons[d.Failure][1]
	}
	dst = append(dst, head...)
	dst = append(dst, '0', '0'+oneIf(d.Foreign))
	dst = append(dst, reason...)
	dst = appendDecimal(dst, int(d.Fen), 12)
	dst = append(dst, d.Currency...)
	return append(dst, result...), nil
}

// ParseChipDetail reads DE 62 of a chip upload. Of a failed one the reason
// decides; what stands behind the currency must be its result.
func ParseChipDetail(b []byte) (ChipDetail, error) {
	var d ChipDetail
	if !allDigits(b) || len(b) != 21 && len(b) != 23 || b[2] != '0' || b[3] > '1' {
		return d, fmt.Errorf("%w: DE 62 of %d bytes is no chip detail", ErrTotals, len(b))
	}
	d = ChipDetail{Foreign: b[3] == '1', Fen: int64(decimal(b[6:18])), Currency: string(b[18:21])}
	head, reason, result := string(b[:2]), string(b[4:6]), string(b[21:])
	if head == "61" && reason == "00" && result == "" {
		return d, nil
	}
	for f := ChipRefused; head == "71" && f < chipFailures; f++ {
		if reason == chipReasons[f][0] && result == chipReasons[f][1] {
			d.Failure = f
			return d, nil
		}
	}
	return ChipDetail{}, fmt.Errorf("%w: chip detail %s with reason %s and result %q", ErrTotals, head, reason, result)
}

// AppendMissingSignatures appends what DE 62 of a settlement answer says when
// electronic signatures are missing: "ES", their number in two digits, and the
// trace numbers of their transactions.
func AppendMissingSignatures(dst []byte, stans []int) ([]byte, error) {
	start := len(dst)
	if len(stans) < 1 || len(stans) > 99 {
		return dst, fmt.Errorf("%w: %d missing signatures, want 1 to 99", ErrTotals, len(stans))
	}
	dst = appendDecimal(append(dst, "ES"...), len(stans), 2)
	for _, s := range stans {
		if s < 0 || s > 999999 {
			return dst[:start], fmt.Errorf("%w: trace number %d", ErrTotals, s)
		}
		dst = appendDecimal(dst, s, 6)
	}
	return dst, nil
}

// ParseMissingSignatures reads what AppendMissingSignatures writes.
func ParseMissingSignatures(b []byte) ([]int, error) {
	if len(b) < 10 || string(b[:2]) != "ES" || !allDigits(b[2:]) || len(b) != 4+6*decimal(b[2:4]) {
		return nil, fmt.Errorf("%w: DE 62 of %d bytes is no list of missing signatures", ErrTotals, len(b))
	}
	var out []int
	for b = b[4:]; len(b) > 0; b = b[6:] {
		out = append(out, decimal(b[:6]))
	}
	return out, nil
}

func allDigits[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return true
}

func oneIf(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendPaddedLeft(dst []byte, digits string, width int) []byte {
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
