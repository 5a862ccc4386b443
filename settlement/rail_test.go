package settlement

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A bank that answers nonsense never makes a payout succeed, fail or be sent
// again: its fate is unknown.
func TestRailDistrustsTheBank(t *testing.T) {
	var answer func(w http.ResponseWriter, r *http.Request)
	orders := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			orders++
		}
		answer(w, r)
	}))
	defer server.Close()
	rail, err := NewHTTPRail(server.URL+"/", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer rail.Close()
	say := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	order := Instruction{Reference: "R1", Amount: 9640, Account: NewNumber("6228480402564890018"), Name: "王芳", Bank: "ABC"}
	good := `{"reference":"R1","status":"SUCCEEDED","amount":"96.40","bank_id":"B1"}`
	ctx := t.Context()

	answer = func(w http.ResponseWriter, r *http.Request) {
		var in map[string]string
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in["amount"] != "96.40" || in["account"] != "6228480402564890018" || in["reference"] != "R1" || in["name"] != "王芳" {
			t.Errorf("the bank got %v, %v", in, err)
		}
		if r.Header.Get("Idempotency-Key") != "" || r.URL.Path != "/v1/payouts" {
			t.Errorf("%s with headers %v", r.URL, r.Header)
		}
		fmt.Fprint(w, good)
	}
	if a, err := rail.Send(ctx, order); err != nil || a != (Answer{"R1", Succeeded, 9640, "B1", ""}) {
		t.Errorf("a good answer: %+v, %v", a, err)
	}
	for name, bad := range map[string]func(http.ResponseWriter, *http.Request){
		"nothing":           say(200, ""),
		"a page":            say(200, "<html>please log in</html>"),
		"error":             say(500, good),
		"conflict":          say(409, good),
		"unavailable":       say(503, `{}`),
		"too much":          say(200, strings.Repeat(" ", maxAnswer)+good),
		"redirect":          func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"another payout":    say(200, strings.Replace(good, "R1", "R2", 1)),
		"a strange status":  say(200, strings.Replace(good, "SUCCEEDED", "MAYBE", 1)),
		"not found to POST": say(404, `{"reference":"R1","status":"NOT_FOUND"}`),
		"a float":           say(200, strings.Replace(good, `"96.40"`, `96.4`, 1)),
		"a broken line":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		answer, orders = bad, 0
		a, err := rail.Send(ctx, order)
		if err == nil || errors.Is(err, ErrNotSent) || a.Status != "" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		if err != nil && strings.Contains(err.Error(), "6228480402564890018") {
			t.Errorf("%s: the error shows the account: %v", name, err)
		}
		if says := map[string]string{"redirect": "elsewhere", "too much": "more than 4 MB"}[name]; err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", name, err, says)
		}
		if orders != 1 {
			t.Errorf("%s: the order was sent %d times", name, orders)
		}
		if name == "not found to POST" {
			continue
		}
		if a, err := rail.Query(ctx, "R1"); err == nil {
			t.Errorf("query, %s: %+v", name, a)
		}
		if name != "another payout" {
			if c, next, err := rail.Changes(ctx, "7"); err == nil && len(c) > 0 || next != "7" && err != nil {
				t.Errorf("changes, %s: %+v %q %v", name, c, next, err)
			}
		}
	}
	answer = say(404, `{"reference":"R1","status":"NOT_FOUND"}`)
	if a, err := rail.Query(ctx, "R1"); err != nil || a.Status != NotFound {
		t.Errorf("the bank does not know it: %+v, %v", a, err)
	}
	answer = say(404, `{"error":"no such page"}`)
	if a, err := rail.Query(ctx, "R1"); err == nil {
		t.Errorf("a proxy's 404 is an answer: %+v", a)
	}
	answer = say(200, `{"next":"9","changes":[`+good+`]}`)
	if c, next, err := rail.Changes(ctx, "7"); err != nil || next != "9" || len(c) != 1 || c[0].Status != Succeeded {
		t.Errorf("changes %+v %q %v", c, next, err)
	}
	dead, err := NewHTTPRail("http://127.0.0.1:1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Send(ctx, order); !errors.Is(err, ErrNotSent) {
		t.Errorf("nobody listens: %v", err)
	}
	for _, bad := range []string{"", "bank", "ftp://bank", "http://", "127.0.0.1:80"} {
		if _, err := NewHTTPRail(bad, 0); err == nil {
			t.Errorf("%q is a bank", bad)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := rail.Send(gone, order); err == nil {
		t.Error("sent after the end")
	}
}

func TestAccountNumbersPrintMasked(t *testing.T) {
	i := Instruction{Reference: "R1", Account: NewNumber("6228480402564890018")}
	b, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(i), fmt.Sprintf("%+v %#v %s %x %d", i, i, i.Account, i.Account, i.Account), string(b)} {
		if strings.Contains(s, "6228480402564890018") || strings.Contains(s, "48040256489") || !strings.Contains(s, "622848*********0018") {
			t.Errorf("printed %s", s)
		}
	}
	var none Number
	if none.Reveal() != "" || none.String() != "" {
		t.Error("the zero number has digits")
	}
}
