package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"acquirer/calendar"
)

// ReportQuery is a report as the page of reports asks for it.
type ReportQuery struct {
	Report   string // one of ReportNames
	Merchant string // MID; may be empty
	Payout   string // reference, instead of all else
	From, To calendar.Date
	Format   string // one of ReportFormats
}

// ReportFile is a report that was made. Body is closed by who gets it.
type ReportFile struct {
	Name string // with dates and a part of its hash, no person's name
	Size int64
	Body io.ReadCloser
}

// ErrReport says that a report cannot be asked for like that; its text says why.
var ErrReport = errors.New("console: no such report")

// ReportNames and ReportFormats are what the page offers; "report." and the name
// is the text of each.
var (
	ReportNames   = []string{"statement", "detail", "cost", "safeguarding", "invoice", "payouts", "breaks", "instant", "trial-balance"}
	ReportFormats = []string{"xlsx", "csv", "pdf", "html", "json"}
)

// reportTime is how long one report may take, reportsAtOnce how many are made
// side by side: each is read from the store that terminals wait for.
const (
	reportTime    = 5 * time.Minute
	reportsAtOnce = 2
)

// reportForm is what the page's form begins with.
type reportForm struct {
	Merchant string
	From, To calendar.Date
}

// Names and Formats are the form's choices.
func (reportForm) Names() []string   { return ReportNames }
func (reportForm) Formats() []string { return ReportFormats }

// formOf begins with the address's merchant and date, or with the day before
// the open one.
func formOf(r *http.Request, open calendar.Date) reportForm {
	f := reportForm{Merchant: r.URL.Query().Get("merchant")}
	if f.From = open; open != 0 {
		f.From = open.AddDays(-1)
	}
	if d, err := calendar.ParseDate(r.URL.Query().Get("date")); err == nil {
		f.From = d
	}
	f.To = f.From
	return f
}

// report makes a report and hands it over as a file.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q := ReportQuery{Report: v.Get("report"), Merchant: v.Get("merchant"), Payout: v.Get("payout"), Format: v.Get("format")}
	if q.Payout != "" {
		q.Report, q.Merchant = "detail", ""
	} else {
		var err error
		if q.From, err = calendar.ParseDate(v.Get("from")); err == nil {
			q.To, err = calendar.ParseDate(v.Get("to"))
		}
		if err != nil {
			s.problem(w, r, http.StatusBadRequest, "error.date", "")
			return
		}
	}
	if !ownPage(r) {
		s.problem(w, r, http.StatusForbidden, "report.elsewhere", "")
		return
	}
	select {
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	default:
		s.problem(w, r, http.StatusServiceUnavailable, "report.busy", "")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), reportTime)
	defer cancel()
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * reportTime)); err != nil {
		s.log.Debug("console: a report's deadline", "error", err)
	}
	f, err := s.house.Report(ctx, q)
	switch {
	case errors.Is(err, ErrReport):
		s.problem(w, r, http.StatusUnprocessableEntity, "report.refused", err.Error())
		return
	case err != nil:
		s.complain(err)
		s.problem(w, r, http.StatusServiceUnavailable, "error.why", err.Error())
		return
	}
	defer func() {
		if err := f.Body.Close(); err != nil {
			s.log.Warn("console: closing a report", "error", err)
		}
	}()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+f.Name+`"`)
	h.Set("Content-Length", strconv.FormatInt(f.Size, 10))
	s.log.Info("a report was made", "report", f.Name)
	if _, err := io.Copy(w, f.Body); err != nil {
		s.log.Debug("console: the browser went away", "error", err)
	}
}
