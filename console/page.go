package console

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

//go:embed pages/*.html
var pageFiles embed.FS

// How much is listed.
const (
	recentRows   = 25
	owedRows     = 200
	todayRows    = 6
	batchRows    = 300
	comparedRows = 100
	waitingRows  = 200
)

// sight is where somebody looks: a page, in a language.
type sight struct {
	lang Lang
	page string        // a key of regions
	id   int64         // of the pages of a transaction
	date calendar.Date // of the pages of a business date; 0 is the open day
}

// dated reports that the page is of a business date.
func (v sight) dated() bool { return v.page == "settlement" || v.page == "batches" }

// regions are the parts of each page that are kept current. Each is a template
// of that name inside an element with data-region of that name. A page without
// regions, such as a receipt, stays as it was opened.
var regions = map[string][]string{
	"street":      {"nav", "status", "verdict", "rates", "issuers", "ledger", "today"},
	"lines":       {"nav", "status", "lines"},
	"owed":        {"nav", "status", "owed"},
	"settlement":  {"nav", "status", "settlement"},
	"batches":     {"nav", "status", "batches"},
	"waiting":     {"nav", "status", "waiting"},
	"compared":    {"nav", "status", "compared"},
	"transaction": {"nav", "status", "transaction"},
}

// spoken is the region that is read aloud. It is sent rarely.
const spoken = "spoken"

// page is what the templates see.
type page struct {
	Lang    Lang
	Name    string // of the page
	Title   string
	Live    string // where its stream is; empty when it has none
	Here    url.URL
	Now     time.Time
	AsOf    time.Time
	Problem string // why something could not be read, "" when all could

	Overview   Overview
	Concerns   []concern
	Rates      [Window]Rate
	Latency    map[string]latency // by issuer
	Today      Settlement
	Recent     []Row
	Owed       []Owed
	Settlement Settlement
	Batches    Batches
	Compared   Compared
	Waits      []Wait // the most urgent first
	Detail     Detail
	Receipt    Receipt
	Form       reportForm
	Lead       string // of an error page
	Back       int64  // the transaction that an error page leads back to; 0 for the street
}

type latency struct {
	P50, P99 time.Duration
	N        int
}

// Code is the language as HTML writes it.
func (p *page) Code() string { return p.Lang.Code() }

// LangLink is this page in the other language.
func (p *page) LangLink(code string) string {
	u := p.Here
	q := u.Query()
	q.Set(langCookie, code)
	u.RawQuery = q.Encode()
	return u.RequestURI()
}

// Mood is good, watch or act.
func (p *page) Mood() string {
	mood := "good"
	for _, c := range p.Concerns {
		if c.Act() {
			return "act"
		}
		mood = "watch"
	}
	return mood
}

// Acts counts what needs a hand.
func (p *page) Acts() int {
	n := 0
	for _, c := range p.Concerns {
		if c.Act() {
			n++
		}
	}
	return n
}

// Verdict is the page's first sentence.
func (p *page) Verdict() string {
	switch p.Mood() {
	case "act":
		return p.Lang.count("verdict.act", p.Acts())
	case "watch":
		return p.Lang.say("verdict.watch")
	}
	return p.Lang.say("verdict.good")
}

// Calm is what the good sentence rests on.
func (p *page) Calm() string {
	var parts []string
	if p.Overview.Ledger.Balanced && !p.Overview.Ledger.Checked.IsZero() {
		parts = append(parts, p.Lang.say("verdict.books"))
	}
	lines := 0
	for _, is := range p.Overview.Issuers {
		lines += len(is.Lines)
	}
	if lines > 0 {
		parts = append(parts, p.Lang.say("verdict.lines", lines))
	}
	if n := p.Overview.Owed.Due; n > 0 {
		parts = append(parts, p.Lang.count("verdict.settling", n))
	} else {
		parts = append(parts, p.Lang.say("verdict.nothing"))
	}
	return strings.Join(parts, " · ")
}

// pace is the mean of the last seconds, so that the figure can be read.
const pace = 10

func (p *page) sum(last int) (approved, declined, peak int) {
	for _, r := range p.Rates[Window-last:] {
		approved += r.Approved
		declined += r.Declined
		peak = max(peak, r.Approved+r.Declined)
	}
	return approved, declined, peak
}

// Approved and Declined are the pace of the last seconds.
func (p *page) Approved() string { a, _, _ := p.sum(pace); return per(float64(a) / pace) }
func (p *page) Declined() string { _, d, _ := p.sum(pace); return per(float64(d) / pace) }

// Peak is the busiest second of the last minute.
func (p *page) Peak() int { _, _, n := p.sum(Window); return n }

// Share is the approval rate of the last minute, an en dash for none.
func (p *page) Share() string {
	a, d, _ := p.sum(Window)
	if a+d == 0 {
		return "–"
	}
	return strconv.FormatFloat(float64(a)*100/float64(a+d), 'f', 1, 64) + " %"
}

// Chart draws the last minute.
func (p *page) Chart() template.HTML {
	a, d, peak := p.sum(Window)
	return chart(p.Rates, p.Lang.say("rates.alt", a, d, peak))
}

// Spoken is the page in a sentence.
func (p *page) Spoken() string {
	return p.Lang.say("spoken", p.Approved(), p.Declined(), p.Verdict())
}

// Left is how long the business date has still to run.
func (p *page) Left() string {
	left := p.Overview.CutOff.Sub(p.Now)
	if left <= 0 {
		return p.Lang.say("cutoff.past")
	}
	return p.Lang.say("cutoff", p.Lang.about(left))
}

// Totals adds up a settlement; nil when a sum does not fit.
func (s Settlement) Totals() *MerchantDay {
	var t MerchantDay
	fits := true
	add := func(sum *money.Amount, a money.Amount) {
		total, err := sum.Add(a)
		*sum, fits = total, fits && err == nil
	}
	for _, m := range s.Merchants {
		t.Sales += m.Sales
		add(&t.Gross, m.Gross)
		add(&t.Refunds, m.Refunds)
		add(&t.Fees, m.Fees)
		add(&t.Net, m.Net)
	}
	if !fits {
		return nil
	}
	return &t
}

// Some are the first merchants of the day, More how many there are besides.
func (s Settlement) Some() []MerchantDay { return s.Merchants[:min(len(s.Merchants), todayRows)] }
func (s Settlement) More() int           { return len(s.Merchants) - len(s.Some()) }

// Up counts the lines that carry traffic.
func (i Issuer) Up() int { return i.up() }

// Mood of an issuer: good, watch or act.
func (i Issuer) Mood() string {
	switch i.up() {
	case i.inService():
		if i.inService() > 0 {
			return "good"
		}
		if len(i.Lines) > 0 { // all were taken out of service
			return "watch"
		}
	case 0:
	default:
		return "watch"
	}
	return "act"
}

// Echo is the slowest of the last echoes.
func (i Issuer) Echo() time.Duration {
	var d time.Duration
	for _, l := range i.Lines {
		d = max(d, l.Echo)
	}
	return d
}

// Mood of a line.
func (l Line) Mood() string {
	switch {
	case l.SignedOn:
		return "up"
	case l.Drained:
		return "drained"
	case l.Connected:
		return "signing"
	}
	return "down"
}

// String is the key of the outcome's texts, and the class of its style.
func (o Outcome) String() string {
	return [...]string{"undecided", "approved", "declined", "reversing", "manual", "reversed"}[min(int(o), 5)]
}

// String is the key of the state's texts.
func (s DayState) String() string {
	return [...]string{"open", "cut", "cleared", "paid"}[min(int(s), 3)]
}

// String is the key of the state's texts.
func (s PayoutState) String() string {
	return [...]string{"none", "due", "sent", "paid", "unknown", "returned", "failed"}[min(int(s), 6)]
}

// flat is a field of a message with its depth in the tree.
type flat struct {
	Field
	Depth int
}

// flatten lists a tree, parents before their parts. Four levels are more than
// any message has.
func flatten(fields []Field) []flat {
	var out []flat
	var walk func(fs []Field, depth int)
	walk = func(fs []Field, depth int) {
		for _, f := range fs {
			out = append(out, flat{f, min(depth, 3)})
			walk(f.Sub, depth+1)
		}
	}
	walk(fields, 0)
	return out
}

// timed is a step with its place in the whole.
type timed struct {
	Step
	After time.Duration // since the request was read
	Bar   template.HTML
}

// Timeline lays the steps out over the transaction's life, as far as each
// began before the one before had ended. A reversal that came a minute later
// would squeeze the rest into nothing; it lies at the end of the scale.
func (d Detail) Timeline() []timed {
	whole := d.Took
	for i, s := range d.Steps {
		if after := s.At.Sub(d.At); i == 0 || s.Name != "reversal" && after <= whole+time.Microsecond {
			whole = max(whole, after+s.Took)
		}
	}
	var out []timed
	for _, s := range d.Steps {
		after := s.At.Sub(d.At)
		width := min(s.Took, max(whole-after, 0))
		out = append(out, timed{s, after, bar(float64(after), float64(width), float64(whole))})
	}
	return out
}

// paper is the templates of one language.
type paper struct{ t *template.Template }

func newPaper(l Lang) (paper, error) {
	t := template.New("").Funcs(template.FuncMap{
		"t":           l.say,
		"n":           l.count,
		"known":       l.known,
		"words":       func(w Words) string { return w.in(l) },
		"age":         func(d time.Duration) string { return l.age(d) },
		"about":       l.about,
		"yuan":        yuan,
		"fen":         func(n int64) string { return yuan(money.Amount(n)) },
		"stamp":       stamp,
		"number":      number,
		"short":       short,
		"since":       since,
		"clock":       clock,
		"moment":      moment,
		"machine":     machine,
		"key19":       key19,
		"flatten":     flatten,
		"panHead":     func(s string) string { h, _ := pan(s); return h },
		"panTail":     func(s string) string { _, t := pan(s); return t },
		"recently":    func() int { return recentRows },
		"atmost":      func() int { return batchRows },
		"waitsAtMost": func() int { return waitingRows },
	})
	t, err := t.ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return paper{}, fmt.Errorf("console: pages: %w", err)
	}
	return paper{t}, nil
}

// render executes one template. What it made before an error is not sent.
func (p paper) render(name string, data any) (string, error) {
	var b bytes.Buffer
	if err := p.t.ExecuteTemplate(&b, name, data); err != nil {
		return "", fmt.Errorf("console: page %s: %w", name, err)
	}
	return strings.TrimSpace(b.String()), nil
}

// rows renders rows in the given order.
func (p paper) rows(list []Row) ([]liveRow, error) {
	var out []liveRow
	var errs []error
	for _, r := range list {
		html, err := p.render("row", r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, liveRow{ID: key19(r.ID), HTML: html})
	}
	return out, errors.Join(errs...)
}
