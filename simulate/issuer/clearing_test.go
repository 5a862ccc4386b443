package issuer

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement/clearing"
)

// A clearing file has what stands and was in no file yet; what is reversed
// behind its file comes back with the next one; the same date has the same
// file.
func TestClearingFile(t *testing.T) {
	tw := newTown(t, nil)
	const first, second, third calendar.Date = 20261120, 20261121, 20261122
	kept, gone, voided := tw.purchase(5, money.Yuan(100)), tw.purchase(6, money.Yuan(200)), tw.purchase(7, money.Yuan(300))
	tw.want(kept, "00")
	tw.want(gone, "00")
	tw.want(voided, "00")
	tw.want(tw.follow(Void, voided, money.Yuan(300)), "00")
	tw.want(tw.purchase(5, money.Yuan(30)+51), "51")
	never := tw.purchase(5, money.Yuan(40))
	tw.want(never, "00")
	tw.wantReversed(never, "00")
	records := tw.host.Cleared(first)
	if len(records) != 4 {
		t.Fatalf("%d records: %+v", len(records), records)
	}
	sum, fees := money.Amount(0), money.Amount(0)
	for _, r := range records {
		sum, fees = sum+r.Amount, fees+r.Fee()
		if r.Net != r.Amount-r.Fee() || strings.Contains(r.PAN, kept.PAN.Reveal()[8:12]+kept.PAN.Reveal()[12:]) {
			t.Errorf("%+v", r)
		}
	}
	if sum != money.Yuan(300) || fees != 45+3+90+7 {
		t.Errorf("sum %s, fees %s", sum, fees)
	}
	tw.wantReversed(gone, "00")
	if back := tw.host.Cleared(second); len(back) != 1 || back[0].Kind != clearing.Reversal || back[0].Amount != -money.Yuan(200) || back[0].RRN != gone.RRN || back[0].Fee() != -97 {
		t.Errorf("%+v", back)
	}
	if again := tw.host.Cleared(first); len(again) != 4 {
		t.Errorf("the same date again has %d records", len(again))
	}
	if more := tw.host.Cleared(third); len(more) != 0 {
		t.Errorf("nothing new: %+v", more)
	}
}

// What is ordered is wrong with the file, and told.
func TestMisclear(t *testing.T) {
	tw := newTown(t, nil)
	for i := range len(FileFaults) {
		tw.want(tw.purchase(i, money.Yuan(100)), "00")
	}
	late := tw.purchase(20, money.Yuan(50))
	tw.want(late, "00")
	tw.wantReversed(late, "00")
	if err := tw.host.Misclear("odd"); err == nil {
		t.Error("an odd fault was taken")
	}
	if err := tw.host.Misclear(FileFaults...); err != nil {
		t.Fatal(err)
	}
	const day calendar.Date = 20261120
	n := len(tw.host.Cleared(day))
	if want := len(FileFaults) + 1 - 2 + 2; n != want { // with the stale one; two left out, one invented, one twice
		t.Errorf("%d records, want %d", n, want)
	}
	seen := map[FileFault]string{}
	for _, x := range tw.host.Misclears() {
		seen[x.Fault] = x.RRN
	}
	if len(seen) != len(FileFaults) || seen[FaultStale] != late.RRN {
		t.Errorf("injected %v", seen)
	}
	next := tw.host.Cleared(day.AddDays(1))
	if len(next) != 2 {
		t.Fatalf("the next file: %+v", next)
	}
	for _, r := range next {
		if r.RRN != seen[FaultLate] && (r.RRN != late.RRN || r.Kind != clearing.Reversal) {
			t.Errorf("%+v", r)
		}
	}
}

// Over HTTP: the file in both forms, spoilt, and the error file.
func TestFilesOverHTTP(t *testing.T) {
	tw := newTown(t, nil)
	sale := tw.purchase(5, money.Yuan(100))
	tw.want(sale, "00")
	ask := func(method, path, body string) (int, []byte) {
		t.Helper()
		w := httptest.NewRecorder()
		tw.host.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		b, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.Code, b
	}
	_, file := ask("GET", "/clearing?date=2026-11-20", "")
	r, err := clearing.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r.Totals().Count != 1 || r.Header().Date != 20261120 {
		t.Errorf("%+v %+v", r.Header(), r.Totals())
	}
	_, zm := ask("GET", "/clearing?date=2026-11-20&format=zm", "")
	for rec, err := range clearing.ReadZM(bytes.NewReader(zm), "") {
		if err != nil || rec.RRN != sale.RRN {
			t.Errorf("%+v, %v", rec, err)
		}
	}
	for _, how := range []string{"truncated", "trailer", "encoding"} {
		_, spoilt := ask("GET", "/clearing?date=2026-11-20&damage="+how, "")
		if bytes.Equal(spoilt, file) {
			t.Errorf("%s left it whole", how)
		}
	}
	for path, code := range map[string]int{"/clearing": 400, "/clearing?date=2026-11-20&format=odd": 400, "/clearing?date=2026-11-20&damage=odd": 400} {
		if got, _ := ask("GET", path, ""); got != code {
			t.Errorf("%s: %d", path, got)
		}
	}
	if code, body := ask("POST", "/dispute", `{"rrn":"`+sale.RRN+`","kind":"chargeback","reason":"4853","fee":"5.00"}`); code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	for _, wrong := range []string{`{"rrn":"nobody's","kind":"chargeback"}`, `{"rrn":"` + sale.RRN + `","kind":"odd"}`, `{`} {
		if code, _ := ask("POST", "/dispute", wrong); code != http.StatusBadRequest {
			t.Errorf("%s: %d", wrong, code)
		}
	}
	_, zme := ask("GET", "/errors", "")
	n := 0
	for x, err := range clearing.ReadZME(bytes.NewReader(zme)) {
		if n++; err != nil || x.Kind != clearing.Chargeback || x.OriginalRRN != sale.RRN || x.OriginalSTAN != sale.STAN || x.Settle != -105_00 {
			t.Errorf("%+v, %v", x, err)
		}
	}
	if _, again := ask("GET", "/errors", ""); n != 1 || len(again) != 0 {
		t.Errorf("%d items, then %d bytes more", n, len(again))
	}
}
