package calendar

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The days off and the make-up working days of the State Council's yearly
// notices, in the layout of the public holiday-cn files: the file named 2026.json
// says its notice.
//
//go:embed 2025.json 2026.json
var notices embed.FS

// Calendar tells working days from days off: Monday to Friday, without the
// holidays, with the weekends that the State Council declares working days to
// make up for them (调休). It is immutable and safe for concurrent use.
type Calendar struct {
	years   map[int]bool
	off     map[Date]notice
	weekend bool // make-up days do not settle
}

// notice is what the State Council says of a day: a holiday or a working day.
type notice struct {
	off  bool
	year int // whose notice says it
}

var (
	current   atomic.Pointer[Calendar]
	importing sync.Mutex
)

func init() {
	c := &Calendar{}
	for _, year := range []string{"2025.json", "2026.json"} {
		text, err := notices.ReadFile(year)
		if err == nil {
			c, err = c.With(bytes.NewReader(text))
		}
		if err != nil {
			panic("calendar: embedded " + year + ": " + err.Error())
		}
	}
	current.Store(c)
}

// Chinese returns the calendar in use: the embedded years and what Import added.
func Chinese() *Calendar { return current.Load() }

// Import adds a year to the calendar in use, or replaces it. The text is JSON
// in the layout of holiday-cn: {"year": 2027, "days": [{"name": "元旦", "date":
// "2027-01-01", "isOffDay": true}, ...]}, with isOffDay false for make-up
// working days. Nothing changes when it returns an error.
func Import(r io.Reader) error {
	importing.Lock()
	defer importing.Unlock()
	c, err := Chinese().With(r)
	if err != nil {
		return err
	}
	current.Store(c)
	return nil
}

// Assume adds the years from one date to another that are not known, with New
// Year's Day as their only holiday, and tells which: for worlds that are played
// at any time, and never where money is paid. Nothing changes when it returns
// an error.
func Assume(from, to Date) (assumed []int, err error) {
	importing.Lock()
	defer importing.Unlock()
	c := Chinese()
	for year := from.Year(); year <= to.Year(); year++ {
		if c.years[year] {
			continue
		}
		if c, err = c.With(strings.NewReader(fmt.Sprintf(`{"year": %d, "days": [{"name": "元旦", "date": "%04d-01-01", "isOffDay": true}]}`, year, year))); err != nil {
			return nil, err
		}
		assumed = append(assumed, year)
	}
	current.Store(c)
	return assumed, nil
}

// With returns the calendar with the year that r holds added to it, in the
// layout Import describes.
func (c *Calendar) With(r io.Reader) (*Calendar, error) {
	var file struct {
		Year int `json:"year"`
		Days []struct {
			Name   string `json:"name"`
			Date   string `json:"date"`
			OffDay *bool  `json:"isOffDay"`
		} `json:"days"`
	}
	if err := json.NewDecoder(io.LimitReader(r, 1<<20)).Decode(&file); err != nil {
		return nil, fmt.Errorf("calendar: the year is not JSON like {\"year\": 2027, \"days\": [{\"date\": \"2027-01-01\", \"isOffDay\": true}]}: %w", err)
	}
	if file.Year < 1990 || file.Year > 9998 {
		return nil, fmt.Errorf("calendar: year %d is out of range; the file needs \"year\": 2027 or alike", file.Year)
	}
	if len(file.Days) == 0 {
		return nil, fmt.Errorf("calendar: the file of %d names no days: it was written before the State Council's notice; get a newer one", file.Year)
	}
	out := &Calendar{years: maps.Clone(c.years), off: maps.Clone(c.off), weekend: c.weekend}
	if out.years == nil {
		out.years, out.off = map[int]bool{}, map[Date]notice{}
	}
	maps.DeleteFunc(out.off, func(_ Date, n notice) bool { return n.year == file.Year })
	for i, day := range file.Days {
		d, err := ParseDate(day.Date)
		if err != nil || day.OffDay == nil {
			return nil, fmt.Errorf("calendar: day %d of %d (%q) needs a date like 2027-01-01 and isOffDay true or false", i+1, file.Year, day.Date)
		}
		// A notice may reach a few days into the years beside its own.
		if away := d.Year() - file.Year; away < -1 || away > 1 {
			return nil, fmt.Errorf("calendar: day %d of %d is %s, which is another year", i+1, file.Year, d)
		}
		out.off[d] = notice{*day.OffDay, file.Year}
	}
	out.years[file.Year] = true
	return out, nil
}

// WithoutMakeUp returns the calendar of a rail that is closed on every weekend:
// make-up working days do not settle on it.
func (c *Calendar) WithoutMakeUp() *Calendar {
	return &Calendar{years: c.years, off: c.off, weekend: true}
}

// Years lists the years that are known, in order.
func (c *Calendar) Years() []int { return slices.Sorted(maps.Keys(c.years)) }

// ErrYear says that a date falls into a year whose holidays are not known.
// They are published in November of the year before and cannot be computed.
var ErrYear = errors.New("calendar: the holidays of the year are not known")

// WorkingDay reports whether banks settle on the day. A year without data is an
// error (ErrYear) and never a guess.
func (c *Calendar) WorkingDay(d Date) (bool, error) {
	if !c.years[d.Year()] {
		return false, fmt.Errorf("%w: %d (asked for %s); get its State Council notice as a JSON file in the layout of holiday-cn, %d.json, and name it: settlement.calendar of acquirer serve, --calendar of a command",
			ErrYear, d.Year(), d, d.Year())
	}
	w := d.Weekday()
	weekend := w == time.Saturday || w == time.Sunday
	n, named := c.off[d]
	switch {
	case named && n.off:
		return false, nil
	case named && !c.weekend:
		return true, nil
	}
	return !weekend, nil
}

// AddWorkingDays returns the n-th working day after d, n being at least 1.
func (c *Calendar) AddWorkingDays(d Date, n int) (Date, error) {
	if n < 1 {
		return 0, fmt.Errorf("calendar: asked for the working day %d days after %s; the number must be at least 1", n, d)
	}
	for {
		d = d.AddDays(1)
		working, err := c.WorkingDay(d)
		if err != nil {
			return 0, err
		}
		if working {
			if n--; n == 0 {
				return d, nil
			}
		}
	}
}

// SettleDate returns the day on which a business date is paid at T+1: the next
// working day, make-up days included. D+0 pays on the business date itself.
func (c *Calendar) SettleDate(business Date) (Date, error) { return c.AddWorkingDays(business, 1) }

// Last is the last business date from one on that can be paid T+1: the day before
// the last working day of the years that are known without a gap. It is before
// from when that one's own cannot be told.
func (c *Calendar) Last(from Date) Date {
	year := from.Year()
	for c.years[year+1] {
		year++
	}
	d := NewDate(year, time.December, 31)
	for ; d >= from; d = d.AddDays(-1) {
		if _, err := c.SettleDate(d); err == nil {
			break
		}
	}
	return d
}

// SettleDate is Calendar.SettleDate of the calendar in use.
func SettleDate(business Date) (Date, error) { return Chinese().SettleDate(business) }
