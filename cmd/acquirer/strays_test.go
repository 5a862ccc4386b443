package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A late answer of a sale that was reversed meanwhile: the log names the sale by
// its RRN, and the console's page of the sale shows it.
func TestLateAnswerIsLinkedToItsSale(t *testing.T) {
	d := startDemo(t, "--switch-issuer-timeout", "500ms") // a late answer comes a second later
	if sold := d.sell(3, "sale 23.96 chip north:77"); sold.Approved || sold.Code != "98" {
		t.Fatalf("the late sale: %+v", sold)
	}
	var rrn string
	for end := time.Now().Add(20 * time.Second); rrn == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no line in the log tells of a late answer")
		}
		b, err := os.ReadFile(d.log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `"kind":"late","issuer":"north","line":1,"mti":"0210","rc":"00"`) && strings.Contains(line, `"kept":true`) {
				_, rest, _ := strings.Cut(line, `"rrn":"`)
				rrn, _, _ = strings.Cut(rest, `"`)
			}
		}
	}
	id, err := strconv.ParseInt(rrn, 36, 64)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.console+"transactions/"+strconv.FormatInt(id, 10), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: "lang", Value: "en"})
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(err, res.Status)
	}
	for _, want := range []string{rrn, "an answer that decided nothing", "late: 0210, north #1, DE 39 00"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
