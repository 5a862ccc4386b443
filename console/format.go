package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/money"
)

// yuan prints an amount with separators: ¥1,234.50, −¥2.01.
func yuan(a money.Amount) string {
	s := a.String()
	sign := ""
	if s[0] == '-' {
		sign, s = "−", s[1:]
	}
	whole, fen, _ := strings.Cut(s, ".")
	return sign + "¥" + thousands(whole) + "." + fen
}

func thousands(digits string) string {
	var b strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(digits[i])
	}
	return b.String()
}

func number(n int) string {
	if n < 0 {
		return "−" + thousands(strconv.Itoa(n)[1:])
	}
	return thousands(strconv.Itoa(n))
}

// clock is a time of day in Beijing; moment has the date and milliseconds too.
func clock(t time.Time) string { return t.In(calendar.Beijing).Format("15:04:05") }

func moment(t time.Time) string { return t.In(calendar.Beijing).Format("2006-01-02 15:04:05.000") }

// stamp is a time as receipts print it.
func stamp(t time.Time) string { return t.In(calendar.Beijing).Format("2006/01/02 15:04:05") }

// machine is the datetime attribute of a <time>.
func machine(t time.Time) string { return t.In(calendar.Beijing).Format(time.RFC3339Nano) }

// age says how long ago or how long until, in its two largest units.
func (l Lang) age(d time.Duration) string {
	s := int(max(d, 0) / time.Second)
	switch {
	case s >= 86400:
		return l.say("age.d", s/86400, s%86400/3600)
	case s >= 3600:
		return l.say("age.h", s/3600, s%3600/60)
	case s >= 60:
		return l.say("age.m", s/60, s%60)
	}
	return l.say("age.s", s)
}

// since prints how far into a transaction something began.
func since(d time.Duration) string {
	if d < 5*time.Microsecond {
		return "0"
	}
	return "+" + short(d)
}

// about is age in its largest unit from a minute up: a text that is read aloud
// when it changes should not change every second.
func (l Lang) about(d time.Duration) string {
	switch m := int(d / time.Minute); {
	case m >= 2*24*60:
		return l.count("about.d", m/(24*60))
	case m >= 2*60:
		return l.count("about.h", m/60)
	default:
		return l.count("about.m", max(m, 1))
	}
}

// short prints a latency with three significant digits: 0.42 ms, 12.3 ms,
// 1.50 s, an en dash for none.
func short(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d <= 0:
		return "–"
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 100_000:
		return fmt.Sprintf("%.2f s", ms/1000)
	}
	return fmt.Sprintf("%.0f s", ms/1000)
}

// pan is a card number in two parts, the second the last four digits, so that a
// narrow screen can show that alone. The house gives it masked; a number that
// comes clear all the same is masked here.
func pan(s string) (head, tail string) {
	if len(s) < 4 {
		return "", s
	}
	if !strings.Contains(s, "*") {
		s = string(card.AppendMasked(nil, s))
	}
	return s[:len(s)-4], s[len(s)-4:]
}

// per prints a rate per second with one decimal.
func per(perSecond float64) string { return strconv.FormatFloat(perSecond, 'f', 1, 64) }

// key19 is an id that sorts as text.
func key19(id int64) string { return fmt.Sprintf("%019d", id) }
