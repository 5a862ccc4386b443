package console

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// A report is a download under its own name; what cannot be asked for says why,
// other sites' pages get nothing, and only so many are made at once.
func TestReports(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	const good = "/reports/file?report=cost&from=2026-02-01&to=2026-02-13&format=xlsx"
	res, body := ask(t, "GET", base+good, inEnglish)
	if res.StatusCode != 200 || body != "a report" || res.Header.Get("Content-Disposition") != `attachment; filename="cost-20260213-1a2b3c4d.xlsx"` || res.ContentLength != 8 {
		t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
	}
	if q := house.reports[0]; q != (ReportQuery{Report: "cost", From: 20260201, To: 20260213, Format: "xlsx"}) {
		t.Errorf("asked for %+v", q)
	}
	res, _ = ask(t, "GET", base+"/reports/file?payout=20260213-898110054110001-T1-0&format=csv&merchant=x", inEnglish)
	if q := house.reports[1]; res.StatusCode != 200 || q != (ReportQuery{Report: "detail", Payout: "20260213-898110054110001-T1-0", Format: "csv"}) {
		t.Errorf("%d, asked for %+v", res.StatusCode, q)
	}
	for _, c := range []struct {
		path   string
		header map[string]string
		code   int
		says   string
	}{
		{"/reports/file?report=statement&from=2026-02-13&to=2026-02-13&format=pdf", inEnglish, 422, "name its MID"},
		{"/reports/file?report=cost&from=yesterday&to=2026-02-13&format=pdf", inEnglish, 400, "2026-02-13"},
		{good, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "本控制台"},
	} {
		res, body := ask(t, "GET", base+c.path, c.header)
		if res.StatusCode != c.code || !containsAny(body, c.says) {
			t.Errorf("%s: %d %.300s, want %d and %q", c.path, res.StatusCode, body, c.code, c.says)
		}
	}
	house.mu.Lock()
	house.fail = errors.New("the store is away")
	house.mu.Unlock()
	if res, body := ask(t, "GET", base+good, inEnglish); res.StatusCode != 503 || !containsAny(body, "the store is away") {
		t.Errorf("a house that fails: %d %.300s", res.StatusCode, body)
	}
	for _, n := range ReportNames {
		mustHave(t, fmt.Sprint("report.", n))
	}
}
