package calendar

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.ParseInLocation("2006-01-02 15:04:05", s, Beijing)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The dated vectors: cut-off 23:00, the calendar of 2026, make-up days settle.
func TestSettleDateVectors(t *testing.T) {
	for _, c := range []struct{ moment, business, settle string }{
		{"2026-02-13 22:59:59", "2026-02-13", "2026-02-14"},
		{"2026-02-13 23:00:00", "2026-02-14", "2026-02-24"},
		{"2026-02-15 12:00:00", "2026-02-15", "2026-02-24"},
		{"2026-02-23 22:59:59", "2026-02-23", "2026-02-24"},
		{"2026-02-23 23:00:00", "2026-02-24", "2026-02-25"},
		{"2026-04-30 12:00:00", "2026-04-30", "2026-05-06"},
		{"2026-05-08 12:00:00", "2026-05-08", "2026-05-09"},
		{"2026-09-19 12:00:00", "2026-09-19", "2026-09-20"},
		{"2026-09-24 12:00:00", "2026-09-24", "2026-09-28"},
		{"2026-09-30 23:30:00", "2026-10-01", "2026-10-08"},
		{"2026-10-09 12:00:00", "2026-10-09", "2026-10-10"},
		{"2026-11-20 22:59:00", "2026-11-20", "2026-11-23"},
		{"2025-12-31 23:00:00", "2026-01-01", "2026-01-04"},
		{"2025-01-26 10:00:00", "2025-01-26", "2025-01-27"},
		{"2025-01-27 10:00:00", "2025-01-27", "2025-02-05"},
		{"2025-02-07 10:00:00", "2025-02-07", "2025-02-08"},
		{"2025-04-26 10:00:00", "2025-04-26", "2025-04-27"},
		{"2025-05-30 10:00:00", "2025-05-30", "2025-06-03"},
		{"2025-09-30 10:00:00", "2025-09-30", "2025-10-09"},
		{"2025-10-10 10:00:00", "2025-10-10", "2025-10-11"},
		{"2024-12-31 10:00:00", "2024-12-31", "2025-01-02"},
	} {
		b := BusinessDate(at(t, c.moment), CardCutoff)
		s, err := SettleDate(b)
		if err != nil || b.String() != c.business || s.String() != c.settle {
			t.Errorf("%s: business %s, settles %s, %v; want %s, %s", c.moment, b, s, err, c.business, c.settle)
		}
	}
	weekday := Chinese().WithoutMakeUp()
	for business, want := range map[Date]Date{20260508: 20260511, 20260919: 20260921, 20261009: 20261012} {
		if got, err := weekday.SettleDate(business); err != nil || got != want {
			t.Errorf("without make-up days %s settles %s, %v; want %s", business, got, err, want)
		}
	}
}

// Every day of holiday and of make-up work, counted: a typing error in the
// embedded years shows here.
func TestEmbeddedYears(t *testing.T) {
	for _, c := range []struct{ year, off, work, workingDays int }{
		{2025, 28, 5, 248},
		{2026, 33, 6, 248},
	} {
		off, work, working := 0, 0, 0
		for d := NewDate(c.year, 1, 1); d.Year() == c.year; d = d.AddDays(1) {
			if n, named := Chinese().off[d]; named && n.off {
				off++
			} else if named {
				work++
				if w := d.Weekday(); w != time.Saturday && w != time.Sunday {
					t.Errorf("%s is a make-up day on a %s", d, w)
				}
			}
			if is, err := Chinese().WorkingDay(d); err != nil {
				t.Fatal(err)
			} else if is {
				working++
			}
		}
		if off != c.off || work != c.work || working != c.workingDays {
			t.Errorf("%d: %d days off, %d make-up days, %d working days; want %d, %d, %d", c.year, off, work, working, c.off, c.work, c.workingDays)
		}
	}
}

func TestMissingYearIsAnError(t *testing.T) {
	_, err := SettleDate(20261231)
	if !errors.Is(err, ErrYear) || !strings.Contains(err.Error(), "2027.json") {
		t.Fatalf("the day after 2026-12-31: %v, want ErrYear naming 2027.json", err)
	}
	if _, err := SettleDate(20231229); !errors.Is(err, ErrYear) {
		t.Errorf("2023: %v", err)
	}
	// Imported, it is known; a file that a notice has not reached yet is refused.
	c, err := Chinese().With(strings.NewReader(`{"year": 2027, "days": [{"name":"元旦","date":"2027-01-01","isOffDay":true},{"date":"2027-01-03","isOffDay":false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.SettleDate(20261231); err != nil || got != 20270103 {
		t.Errorf("with 2027: %s, %v, want the make-up Sunday 2027-01-03", got, err)
	}
	for _, row := range []struct {
		c          *Calendar
		from, last Date
	}{{Chinese(), 20261126, 20261230}, {Chinese(), 20250101, 20261230}, {Chinese(), 20261230, 20261230}, {Chinese(), 20261231, 20261230}, {Chinese(), 20270101, 20261231}, {c, 20261126, 20271230}} {
		if got := row.c.Last(row.from); got != row.last {
			t.Errorf("from %s on the last date that is paid T+1 is %s, want %s", row.from, got, row.last)
		}
	}
	if got := c.Years(); len(got) != 3 || got[2] != 2027 {
		t.Errorf("years %v", got)
	}
	for _, bad := range []string{``, `[]`, `{"year":2027,"days":[]}`, `{"year":0,"days":[{"date":"2027-01-01","isOffDay":true}]}`,
		`{"year":2027,"days":[{"date":"2027-02-30","isOffDay":true}]}`, `{"year":2027,"days":[{"date":"2027-01-01"}]}`,
		`{"year":2027,"days":[{"date":"2020-01-01","isOffDay":true}]}`} {
		if _, err := Chinese().With(strings.NewReader(bad)); err == nil {
			t.Errorf("%s was taken for a year", bad)
		}
	}
}

func TestImportReplacesTheCalendarInUse(t *testing.T) {
	old := Chinese()
	t.Cleanup(func() { current.Store(old) })
	if err := Import(strings.NewReader(`{"year": 2027, "days": [{"date":"2027-01-01","isOffDay":true}]}`)); err != nil {
		t.Fatal(err)
	}
	if got, err := SettleDate(20261231); err != nil || got != 20270104 {
		t.Errorf("after the import: %s, %v", got, err)
	}
	if err := Import(strings.NewReader(`{"year": 2027, "days": [{"date":"2027-01-04","isOffDay":true}]}`)); err != nil {
		t.Fatal(err)
	}
	if got, err := SettleDate(20261231); err != nil || got != 20270101 {
		t.Errorf("a year imported twice keeps the second: %s, %v", got, err)
	}
}

// A notice may name days of the year before its own. They stay when that year's
// notice is imported again, and go with their own notice alone.
func TestImportedAgainKeepsTheNextNotice(t *testing.T) {
	c := Chinese()
	for _, step := range []struct {
		notice string
		want   Date // settles what was sold on 2026-12-30, a Wednesday
	}{
		{`{"year": 2027, "days": [{"date":"2026-12-31","isOffDay":true},{"date":"2027-01-01","isOffDay":true}]}`, 20270104},
		{`{"year": 2026, "days": [{"date":"2026-10-01","isOffDay":true}]}`, 20270104},
		{`{"year": 2027, "days": [{"date":"2027-01-01","isOffDay":true}]}`, 20261231},
	} {
		var err error
		if c, err = c.With(strings.NewReader(step.notice)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.SettleDate(20261230); err != nil || got != step.want {
			t.Errorf("after %s: %s, %v, want %s", step.notice, got, err, step.want)
		}
	}
	for _, n := range []int{0, -1} {
		if d, err := c.AddWorkingDays(20261230, n); err == nil || !strings.Contains(err.Error(), "must be at least 1") {
			t.Errorf("%d working days later is %s, %v", n, d, err)
		}
	}
}

func TestAssumeKeepsTheYearsThatAreKnown(t *testing.T) {
	old := Chinese()
	t.Cleanup(func() { current.Store(old) })
	years, err := Assume(20260101, 20280101)
	if err != nil || !slices.Equal(years, []int{2027, 2028}) {
		t.Fatalf("assumed %v, %v", years, err)
	}
	for after, want := range map[Date]Date{20260930: 20261008, 20261231: 20270104, 20280930: 20281002} {
		if got, err := SettleDate(after); err != nil || got != want {
			t.Errorf("the day after %s: %s, %v, want %s", after, got, err, want)
		}
	}
	if years, err := Assume(20260101, 20280101); err != nil || len(years) != 0 {
		t.Errorf("a second time: %v, %v", years, err)
	}
	if _, err := SettleDate(20281231); !errors.Is(err, ErrYear) {
		t.Errorf("a year behind them: %v", err)
	}
}

func TestDateForms(t *testing.T) {
	for _, s := range []string{"2026-02-13", "20260213"} {
		if d, err := ParseDate(s); err != nil || d != 20260213 {
			t.Errorf("ParseDate(%q) = %d, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "2026-2-13", "2026-02-30", "13.02.2026", "2026-02-13T00:00:00Z", "202602131"} {
		if d, err := ParseDate(s); err == nil {
			t.Errorf("ParseDate(%q) = %s", s, d)
		}
	}
	b, err := json.Marshal(struct{ D, Z Date }{D: 20260213})
	if err != nil || string(b) != `{"D":"2026-02-13","Z":""}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	var back struct{ D, Z Date }
	if err := json.Unmarshal(b, &back); err != nil || back.D != 20260213 || back.Z != 0 {
		t.Errorf("back %+v, %v", back, err)
	}
	if got := DateOf(time.Date(2026, 2, 13, 16, 0, 0, 0, time.UTC)); got != 20260214 {
		t.Errorf("16:00 UTC is %s in Beijing", got)
	}
	if n := Date(20251231).DaysUntil(20260301); n != 60 {
		t.Errorf("%d days from new year's eve to the 1st of March, want 60", n)
	}
	if got := Closes(20260213, 0); !got.Equal(at(t, "2026-02-14 00:00:00")) {
		t.Errorf("a wallet's day closes %s", got)
	}
	if got := BusinessDate(at(t, "2026-02-13 23:59:59"), 0); got != 20260213 {
		t.Errorf("a wallet's last second belongs to %s", got)
	}
}

// Whatever the moment and the cut-off, a moment lies before the end of its own
// business date and not before the end of the one before; settlement is later
// than business and every day between is a day off.
func TestBusinessDateHolds(t *testing.T) {
	from, to := at(t, "2025-01-01 00:00:00").UnixNano(), at(t, "2026-12-30 00:00:00").UnixNano()
	rapid.Check(t, func(t *rapid.T) {
		moment := time.Unix(0, rapid.Int64Range(from, to).Draw(t, "moment"))
		cutoff := time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "cutoff"))
		b := BusinessDate(moment, cutoff)
		if !moment.Before(Closes(b, cutoff)) || moment.Before(Closes(b.AddDays(-1), cutoff)) {
			t.Fatalf("%s with cut-off %s is business date %s", moment, cutoff, b)
		}
		if d := NewDate(moment.UTC().Date()); d.AddDays(40).AddDays(-40) != d || DateOf(d.Time()) != d {
			t.Fatalf("%s does not come back from 40 days away", d)
		}
		s, err := SettleDate(b)
		if errors.Is(err, ErrYear) && b >= 20261230 {
			return
		}
		if err != nil || s <= b {
			t.Fatalf("%s settles %s, %v", b, s, err)
		}
		for d := b.AddDays(1); d < s; d = d.AddDays(1) {
			if working, err := Chinese().WorkingDay(d); working || err != nil {
				t.Fatalf("%s settles %s though %s is a working day (%v)", b, s, d, err)
			}
		}
	})
}
