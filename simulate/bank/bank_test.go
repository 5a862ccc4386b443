package simbank

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/money"
	"acquirer/settlement/bankfile"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func start(t *testing.T, cfg Config) *Bank {
	t.Helper()
	b, err := Start("127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func body(ref, amount, account string) string {
	return fmt.Sprintf(`{"reference":%q,"amount":%q,"account":%q,"name":"王芳","bank":"ABC"}`, ref, amount, account)
}

// ask makes one request; -1 is a connection that broke.
func ask(t *testing.T, method, url, text string) (int, Payout) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return -1, Payout{}
	}
	defer resp.Body.Close()
	var p Payout
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, p
}

// What the bank paid is asked for as a statement of a date, right or, on request,
// wrong.
func TestStatementOnRequest(t *testing.T) {
	b := start(t, Config{Opening: money.Yuan(1000)})
	ask(t, "POST", b.URL()+"/v1/payouts", body("A", "10.00", "622848040256489000"))
	get := func(query string) (int, string) {
		t.Helper()
		resp, err := http.Get(b.URL() + "/v1/statement" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	read := func(query string) (refs []string) {
		t.Helper()
		_, text := get(query)
		st, entries, err := bankfile.ReadStatement(strings.NewReader(text))
		if err != nil || st.Day != 20261120 || st.Account != "9999000000000001" {
			t.Fatalf("%s: %+v, %v: %s", query, st, err, text)
		}
		for e, err := range entries {
			if err != nil {
				t.Fatal(err)
			}
			refs = append(refs, e.Reference)
		}
		return refs
	}
	for _, format := range []string{"", "&format=csv"} {
		if refs := read("?date=2026-11-20" + format); !slices.Equal(refs, []string{"A"}) {
			t.Errorf("%q: %v", format, refs)
		}
	}
	for _, c := range []struct {
		what string
		want []string
	}{{"left out", nil}, {"invented", []string{"A", "NOBODYS-2"}}, {"doubled", []string{"A", "A"}}} {
		resp, err := http.Post(b.URL()+"/v1/misstate", "application/json", strings.NewReader(`["`+c.what+`"]`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if refs := read("?date=2026-11-20&format=csv"); !slices.Equal(refs, c.want) {
			t.Errorf("%s: %v", c.what, refs)
		}
	}
	if all := b.Misstatements(); len(all) != 3 || all[0] != (Misstated{LeftOut, "A"}) {
		t.Errorf("%v", all)
	}
	b.Advance(1)
	if refs := read("?date=2026-11-20"); len(refs) != 0 {
		t.Errorf("a day without movements: %v", refs)
	}
	if refs := read("?date=2026-11-20&day=0"); len(refs) != 1 {
		t.Errorf("the day before: %v", refs)
	}
	for _, wrong := range []string{"?date=x", "?date=2026-11-20&day=x", "?date=2026-11-20&format=pdf"} {
		if status, text := get(wrong); status != http.StatusBadRequest || !strings.Contains(text, "date=2026-11-20") {
			t.Errorf("%s: %d %s", wrong, status, text)
		}
	}
	if status, _ := ask(t, "POST", b.URL()+"/v1/misstate", `{"what":1}`); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
}

// Every weather: the answer to the order, to queries, and after a day.
func TestWeather(t *testing.T) {
	b := start(t, Config{Opening: money.Yuan(1000), Slow: time.Millisecond, Silence: time.Millisecond})
	for i, c := range []struct {
		weather     string
		status      int
		first       Status
		known, next Status
		costs       money.Amount
	}{
		{"00", 200, Succeeded, Succeeded, Succeeded, 10_00},
		{"90", 200, Succeeded, Succeeded, Succeeded, 10_00},
		{"91", -1, "", Succeeded, Succeeded, 10_00},
		{"92", -1, "", NotFound, NotFound, 0},
		{"93", 200, Processing, Processing, Succeeded, 10_00},
		{"94", 200, Rejected, Rejected, Rejected, 0},
		{"95", 200, Succeeded, Succeeded, Returned, 0},
		{"96", 200, Succeeded, Succeeded, Succeeded, 10_00},
		{"97", 500, "", Succeeded, Succeeded, 10_00},
		{"98", 200, Processing, Processing, Rejected, 0},
		{"99", -1, "", Processing, Succeeded, 10_00},
	} {
		before := b.Balance()
		ref, account := fmt.Sprintf("R%d", i), "6228480402564890"+c.weather
		for range 2 { // the same order twice is one order
			if status, p := ask(t, "POST", b.URL()+"/v1/payouts", body(ref, "10.00", account)); status != c.status || p.Status != c.first {
				t.Errorf("weather %s: order answered %d %s, want %d %s", c.weather, status, p.Status, c.status, c.first)
			}
		}
		if _, p := ask(t, "GET", b.URL()+"/v1/payouts/"+ref, ""); p.Status != c.known {
			t.Errorf("weather %s: known as %s, want %s", c.weather, p.Status, c.known)
		}
		b.Advance(1)
		if _, p := ask(t, "GET", b.URL()+"/v1/payouts/"+ref, ""); p.Status != c.next {
			t.Errorf("weather %s: a day later %s, want %s", c.weather, p.Status, c.next)
		}
		if spent := before - b.Balance(); spent != c.costs {
			t.Errorf("weather %s cost %s, want %s", c.weather, spent, c.costs)
		}
	}
	if n := len(b.Payouts()); n != 10 {
		t.Errorf("%d orders on the books", n)
	}
	// Asked for twice, a processing payout is decided.
	ask(t, "POST", b.URL()+"/v1/payouts", body("late", "1.00", "622848040256489093"))
	var last Status
	for range 3 {
		_, p := ask(t, "GET", b.URL()+"/v1/payouts/late", "")
		last = p.Status
	}
	if last != Succeeded {
		t.Errorf("asked three times it is %s", last)
	}
}

func TestRefusals(t *testing.T) {
	b := start(t, Config{Limit: 1})
	url := b.URL() + "/v1/payouts"
	good := body("R1", "10.00", "622848040256489018")
	for _, c := range []struct {
		text   string
		status int
	}{
		{"", 400}, {"{}", 400}, {"[1]", 400}, {strings.Replace(good, "10.00", "0.00", 1), 400}, {strings.Replace(good, "10.00", "-1.00", 1), 400},
		{strings.Replace(good, `"10.00"`, `10.0`, 1), 400}, {strings.Replace(good, "6228", "ABCD", 1), 400}, {strings.Replace(good, "622848040256489018", "622", 1), 400},
		{strings.Replace(good, "R1", strings.Repeat("R", 65), 1), 400}, {strings.Replace(good, "R1", "", 1), 400}, {strings.Replace(good, "name", "nom", 1), 400},
		{strings.Repeat(" ", 70<<10) + good, 400},
		{good, 200}, {good, 200}, {strings.Replace(good, "10.00", "11.00", 1), 409}, {strings.Replace(good, "489018", "489028", 1), 409},
		{strings.Replace(good, "R1", "R2", 1), 507},
	} {
		if status, _ := ask(t, "POST", url, c.text); status != c.status {
			t.Errorf("%.80s: %d, want %d", c.text, status, c.status)
		}
	}
	for path, want := range map[string]int{"/v1/changes?after=x": 400, "/v1/changes?after=-1": 400, "/v1/changes?after=99999": 200, "/v1/statement": 200} {
		if status, _ := ask(t, "GET", b.URL()+path, ""); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	for days, want := range map[string]int{"": 400, "0": 400, "367": 400, "2": 200} {
		if status, _ := ask(t, "POST", b.URL()+"/v1/advance?days="+days, ""); status != want {
			t.Errorf("advance %q: %d, want %d", days, status, want)
		}
	}
}

// The feed gives every change once, in order; callbacks tell of each, some
// twice.
func TestFeedAndCallbacks(t *testing.T) {
	heard := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var in map[string]string
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		heard <- in["reference"]
	}))
	defer server.Close()
	b := start(t, Config{Callback: server.URL})
	ask(t, "POST", b.URL()+"/v1/payouts", body("one", "1.00", "622848040256489096"))
	ask(t, "POST", b.URL()+"/v1/payouts", body("two", "2.00", "622848040256489095"))
	b.Advance(1)
	for _, want := range []string{"one", "one", "two", "two"} {
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("called back about %s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no callback about %s", want)
		}
	}
	after := ""
	for _, want := range []string{"one SUCCEEDED,two SUCCEEDED,two RETURNED", ""} {
		resp, err := http.Get(b.URL() + "/v1/changes?after=" + after)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Next    string
			Changes []Payout
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range page.Changes {
			got = append(got, c.Reference+" "+string(c.Status))
		}
		if strings.Join(got, ",") != want || page.Next != "3" {
			t.Errorf("after %q: %v, next %s", after, got, page.Next)
		}
		after = page.Next
	}
}

// Closing lets a silent order go.
func TestCloseWithASilentOrder(t *testing.T) {
	b := start(t, Config{Silence: time.Hour})
	broke := make(chan int)
	go func() {
		status, _ := ask(t, "POST", b.URL()+"/v1/payouts", body("R", "1.00", "622848040256489091"))
		broke <- status
	}()
	for len(b.Payouts()) == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if status := <-broke; status != -1 {
		t.Errorf("the silent order was answered %d", status)
	}
	if _, err := Start("127.0.0.1:99999", Config{}); err == nil {
		t.Error("a port that does not exist opened")
	}
}
