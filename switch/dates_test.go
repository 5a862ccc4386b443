package switching_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/spec"
	switching "acquirer/switch"
)

// A date in DE 61 has no year, and is the day on which the original was
// answered: its business date is that day, the next behind the cut-off, or the
// day before when it was answered behind midnight.
func TestDaysOfAnOriginal(t *testing.T) {
	at := func(text string) time.Time {
		m, err := time.ParseInLocation("2006-01-02 15:04", text, calendar.Beijing)
		must(t, err)
		return m
	}
	for _, c := range []struct {
		now    string
		cutOff time.Duration
		mmdd   int
		opened string // when the original was opened
	}{
		{"2026-11-20 12:00", 23 * time.Hour, 1120, "2026-11-20 11:00"},
		{"2026-11-20 23:30", 23 * time.Hour, 1120, "2026-11-20 23:10"},
		{"2026-11-21 10:00", 23 * time.Hour, 1120, "2026-11-20 23:10"},
		{"2026-12-31 23:30", 23 * time.Hour, 1231, "2026-12-31 23:10"}, // of the first business date of the year
		{"2027-01-01 09:00", 23 * time.Hour, 1231, "2026-12-31 22:00"},
		{"2027-01-01 09:00", 23 * time.Hour, 1231, "2026-12-31 23:10"},
		{"2027-01-01 00:10", 23 * time.Hour, 101, "2027-01-01 00:05"},
		{"2027-03-10 09:00", 23 * time.Hour, 1120, "2026-11-20 12:00"}, // a refund months later
		{"2028-03-01 09:00", 23 * time.Hour, 229, "2028-02-29 12:00"},
		{"2029-01-10 09:00", 23 * time.Hour, 229, "2028-02-29 12:00"}, // no day of this year
		{"2026-11-21 00:30", 0, 1121, "2026-11-20 23:59"},             // answered behind midnight, which is the cut-off
		{"2027-01-01 00:30", 24 * time.Hour, 101, "2026-12-31 23:59"},
	} {
		want := calendar.BusinessDate(at(c.opened), c.cutOff)
		if days := switching.DaysOf(c.cutOff, at(c.now), c.mmdd); !slices.Contains(days, want) {
			t.Errorf("at %s, %04d of a sale opened at %s: %v, want %v among them", c.now, c.mmdd, c.opened, days, want)
		}
	}
	if days := switching.DaysOf(0, at("2026-11-20 12:00"), 1332); len(days) != 0 {
		t.Errorf("a date that is none: %v", days)
	}
	if days := switching.DaysOf(0, at("2026-11-20 12:00"), 0); len(days) < 8 || days[0] != 20261120 {
		t.Errorf("no date: %v", days)
	}
}

// The business date moves on between a transaction and what follows it.
func TestFollowersOverTheCutOff(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withAll, withConfig(func(c *switching.Config) { c.CutOff = 24 * time.Hour }))
	d := s.device(t, 4)
	w := s.wire(t)
	n := 0
	do := func(mti spec.MTI, processing, condition, kind string) (*spec.Message, *spec.Message) {
		t.Helper()
		n++
		m := d.sale(money.Yuan(100), pan(t, "north", 3500+n))
		m.SetMTI(mti)
		m.Set(3, processing)
		m.Set(25, condition)
		m.Set(60, kind+"000001000600")
		a := w.ask(d.frame(t, m))
		if a.Text(39) != "00" {
			t.Fatalf("%v: answered %s", m.MTI(), a.Text(39))
		}
		return m, a
	}
	sale, sold := do(0x0200, "000000", "00", "22")
	voided, gone := do(0x0200, "000000", "00", "22")
	hold, held := do(0x0100, "030000", "06", "10")
	hold2, held2 := do(0x0100, "030000", "06", "10")
	hold3, held3 := do(0x0100, "030000", "06", "10")
	void := d.frame(t, d.follow(voided, gone, 0x0200, "200000", "23", money.Yuan(100)))
	refund := d.frame(t, d.follow(sale, sold, 0x0220, "200000", "25", money.Yuan(20)))
	var heard [][]byte
	for _, frame := range [][]byte{void, refund} {
		if rc := w.ask(frame).Text(39); rc != "00" {
			t.Fatalf("answered %s", rc)
		}
		heard = append(heard, bytes.Clone(w.body))
	}
	day := s.journalOf(d.tid)[0].Day

	s.stop()
	hours := int64(25 * time.Hour / time.Microsecond) // the terminal has signed in the day before
	s.change("update merchant_terminal set signed_in = signed_in - $2 where tid = $1", d.tid, hours)
	s.config.CutOff = time.Nanosecond
	s.reopen()
	w = s.wire(t)
	for i, frame := range [][]byte{void, refund} {
		if w.ask(frame); !sameButMAC(heard[i], w.body) {
			t.Errorf("a repeat behind the cut-off was answered\n%X\nfirst\n%X", w.body, heard[i])
		}
	}
	ask := func(what, want string, m *spec.Message, byDate bool) {
		t.Helper()
		if byDate {
			m.Unset(37)
		}
		if rc := w.ask(d.frame(t, m)).Text(39); rc != want {
			t.Errorf("%s: answered %s, want %s", what, rc, want)
		}
	}
	ask("void", "22", d.follow(sale, sold, 0x0200, "200000", "23", money.Yuan(80)), false)
	ask("tip", "22", d.follow(sale, sold, 0x0220, "000000", "34", money.Yuan(105)), false)
	ask("adjustment", "22", d.follow(sale, sold, 0x0220, "000000", "32", money.Yuan(70)), false)
	ask("refund", "00", d.follow(sale, sold, 0x0220, "200000", "25", money.Yuan(30)), false)
	ask("completion", "00", d.follow(hold, held, 0x0200, "000000", "20", money.Yuan(100)), true)
	ask("pre-authorisation void", "00", d.follow(hold2, held2, 0x0100, "200000", "11", money.Yuan(100)), true)

	// One more date, as if it had been opened the day before.
	id, err := s.journal.ByTrace(t.Context(), day, d.tid, 1, int32(n))
	must(t, err)
	s.change("update txn set day = $2 where id = $1", id[0].ID, day.AddDays(-1))
	late := d.follow(hold3, held3, 0x0200, "000000", "20", money.Yuan(115))
	late.Set(61, fmt.Sprintf("%06d%s%04d", 1, hold3.Text(11), int(day.AddDays(-1))%10000))
	ask("completion two dates later", "00", late, true)

	facts, err := s.journal.ClearingSince(t.Context(), 0, 100)
	must(t, err)
	for _, f := range facts {
		later := f.Kind == journal.Completion || f.Kind == journal.PreAuthVoid || f.Kind == journal.Refund && f.Amount == money.Yuan(30)
		want := day
		if later {
			want = day.AddDays(1)
		}
		if f.Kind != journal.PreAuth && f.Day != want {
			t.Errorf("%v of %s settles on %v, want %v", f.Kind, f.Amount, f.Day, want)
		}
	}
	s.agree()
}
