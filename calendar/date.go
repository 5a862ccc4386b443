// Package calendar knows which days money moves: Beijing dates, the business
// date a moment belongs to, and the working days of the Chinese calendar on
// which settlement reaches a bank account.
package calendar

import (
	"fmt"
	"time"
)

// Beijing is the one time zone of the house: UTC+8 without summer time since
// 1991 (GB/T 7408). It is fixed so that no zone database is needed.
var Beijing = time.FixedZone("CST", 8*3600)

// When a business date ends. Card transactions at or after CardCutoff belong
// to the next business date; wallets change theirs at midnight.
const (
	CardCutoff   = 23 * time.Hour
	WalletCutoff = 24 * time.Hour
)

// Date is a day as the number yyyymmdd: 20260213. It orders and stores as it
// stands. The zero Date is no date.
type Date int32

// DateOf returns the Beijing date of a moment.
func DateOf(t time.Time) Date {
	y, m, d := t.In(Beijing).Date()
	return NewDate(y, m, d)
}

// NewDate returns a date; days and months out of range are carried over, as
// time.Date does.
func NewDate(year int, month time.Month, day int) Date {
	if month >= 1 && month <= 12 && day >= 1 && day <= 28 {
		return Date(year*10000 + int(month)*100 + day)
	}
	y, m, d := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Date()
	return Date(y*10000 + int(m)*100 + d)
}

// ParseDate reads "2026-02-13" or "20260213".
func ParseDate(s string) (Date, error) {
	for _, layout := range [...]string{time.DateOnly, "20060102"} {
		if t, err := time.Parse(layout, s); err == nil {
			return NewDate(t.Date()), nil
		}
	}
	return 0, fmt.Errorf("calendar: %q is not a date; write it like 2026-02-13", s)
}

// Year, Month and Day are the parts of the date.
func (d Date) Year() int         { return int(d) / 10000 }
func (d Date) Month() time.Month { return time.Month(int(d) / 100 % 100) }
func (d Date) Day() int          { return int(d) % 100 }

// String prints "2026-02-13", "" for the zero Date.
func (d Date) String() string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year(), int(d.Month()), d.Day())
}

// Time is the midnight in Beijing at which the date begins.
func (d Date) Time() time.Time {
	return time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, Beijing)
}

// Valid reports that there is such a day.
func (d Date) Valid() bool { return d > 0 && NewDate(d.Year(), d.Month(), d.Day()) == d }

// AddDays returns the date n calendar days later, earlier when n is negative.
func (d Date) AddDays(n int) Date { return NewDate(d.Year(), d.Month(), d.Day()+n) }

// DaysUntil counts the calendar days from d to e, negative when e is earlier.
func (d Date) DaysUntil(e Date) int { return int(e.Time().Sub(d.Time()) / (24 * time.Hour)) }

// Weekday is the day of the week.
func (d Date) Weekday() time.Weekday { return d.Time().Weekday() }

// MarshalText writes the form of String, so that JSON carries "2026-02-13".
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText writes; empty text is the zero Date.
func (d *Date) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = 0
		return nil
	}
	v, err := ParseDate(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// BusinessDate returns the business date a moment belongs to: its Beijing
// date, or the day after once the clock has reached cutoff. A cutoff of 0 means
// midnight, the same as WalletCutoff.
func BusinessDate(t time.Time, cutoff time.Duration) Date {
	local := t.In(Beijing)
	d := DateOf(local)
	hour, minute, second := local.Clock()
	clock := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute +
		time.Duration(second)*time.Second + time.Duration(local.Nanosecond())
	if cutoff > 0 && clock >= cutoff {
		return d.AddDays(1)
	}
	return d
}

// Closes returns the moment at which a business date ends: the first one that
// BusinessDate gives to the day after.
func Closes(d Date, cutoff time.Duration) time.Time {
	if cutoff <= 0 {
		cutoff = WalletCutoff
	}
	return d.Time().Add(cutoff)
}
