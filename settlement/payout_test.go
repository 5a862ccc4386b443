package settlement

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// Every weather of the bank, what is known after the order, and in the end.
func TestPayoutWeather(t *testing.T) {
	storetest.Each(t, schemas, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		e := w.engine()
		cases := []struct {
			weather     string
			first, last PayoutState
			paid        bool // by the bank, in the end
		}{
			{"00", Paid, Paid, true}, {"91", Unknown, Paid, true}, {"92", Unknown, Failed, false}, {"93", InProcess, Paid, true},
			{"94", Failed, Failed, false}, {"95", Paid, CameBack, false}, {"96", Paid, Paid, true}, {"97", Unknown, Paid, true},
			{"98", InProcess, Failed, false}, {"99", Unknown, Paid, true},
		}
		mids := make([]string, len(cases))
		refs := make([]string, len(cases))
		for i, c := range cases {
			mids[i] = w.merchant(10+i, "ESIGN-STD", merchant.T1, c.weather)
			w.sale(mids[i], friday, 1000_00)
			refs[i] = fmt.Sprintf("20261120-%s-T1-0", mids[i])
		}
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		p := w.pay(e, clock(monday, 10, 0))
		if p.Sent != len(cases) || p.Paid != 3 || p.Failed != 1 || p.Unknown != 6 {
			t.Errorf("monday 10:00 %+v", p)
		}
		for i, c := range cases {
			if got := w.payout(e, refs[i]).state; got != c.first {
				t.Errorf("weather %s is %s after the order, want %s", c.weather, got, c.first)
			}
		}
		standing, err := e.PayoutsStanding(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		listed, err := e.PayoutsOpen(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range listed {
			c := standing[v.State]
			standing[v.State] = PayoutCount{c.Payouts - 1, c.Sum - v.Amount, time.Time{}}
			if want := clock(monday, 10, 0); v.State < Paid && !c.Since.IsZero() && !c.Since.Equal(want) {
				t.Errorf("the oldest that is %s waits since %s, want %s", v.State, c.Since, want)
			}
		}
		if len(listed) != 7 || len(standing) != 3 || standing[Unknown] != (PayoutCount{}) || standing[InProcess] != (PayoutCount{}) || standing[Failed] != (PayoutCount{}) {
			t.Errorf("the list of %d is another than what was counted: over %+v", len(listed), standing)
		}
		if in := w.balance(e, ledger.PayoutInTransit, ""); in != 0 {
			t.Errorf("in transit, posted: %s; unknown money is reserved, not moved", in)
		}
		w.sound(e)
		for i := range 4 { // a processing payout is decided after being asked for
			w.pay(e, clock(monday, 10, 1+i))
		}
		w.bank.Advance(1)
		w.pay(e, clock(monday, 12, 0)) // an hour and more later: the lost one has failed
		w.sound(e)
		owed := money.Amount(0)
		for i, c := range cases {
			p := w.payout(e, refs[i])
			if p.state != c.last {
				t.Errorf("weather %s ends %s (%s), want %s", c.weather, p.state, p.reason, c.last)
			}
			if !c.paid {
				owed += p.amount
			}
		}
		if got := w.balance(e, ledger.MerchantPayable, "") + w.balance(e, ledger.PayoutReturned, ""); got != owed {
			t.Errorf("owed to merchants %s, want %s", got, owed)
		}
		// No order was sent twice, and our bank account is the bank's.
		seen := map[string]bool{}
		for _, p := range w.bank.Payouts() {
			if p.Ordered() != 1 {
				t.Errorf("%s was ordered %d times", p.Reference, p.Ordered())
			}
			if seen[p.Reference] {
				t.Errorf("%s twice at the bank", p.Reference)
			}
			seen[p.Reference] = true
		}
		paidOut := money.Yuan(1_000_000) - w.bank.Balance()
		received, err := e.Expected(t.Context(), friday, "")
		if err != nil {
			t.Fatal(err)
		}
		if ours := w.balance(e, ledger.ClientBank, ""); ours != received-paidOut {
			t.Errorf("client bank account %s, want %s less %s", ours, received, paidOut)
		}
		tasks, err := e.Tasks(t.Context(), 100)
		if err != nil || len(tasks) != 4 {
			t.Errorf("%d tasks, %v: %+v", len(tasks), err, tasks)
		}
	})
}

// A returned payout becomes a new one, linked, to the account of then.
func TestReissue(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		bounced := w.merchant(1, "ESIGN-STD", merchant.T1, "95")
		closed := w.merchant(2, "ESIGN-STD", merchant.T1, "94")
		w.sale(bounced, friday, 1000_00)
		w.sale(closed, friday, 1000_00)
		w.close(e, friday)
		w.receive(e, friday, clock(monday, 9, 0))
		w.pay(e, clock(monday, 10, 0))
		w.bank.Advance(1)
		tuesday := monday.AddDays(1)
		if p := w.pay(e, clock(tuesday, 10, 0)); p.Returned != 1 {
			t.Errorf("tuesday %+v", p)
		}
		if got := w.balance(e, ledger.PayoutReturned, bounced); got != 994_00 {
			t.Errorf("returned %s", got)
		}
		ref := "20261120-" + bounced + "-T1-0"
		for _, mid := range []string{bounced, closed} {
			if err := w.reg.Put(ctx, []merchant.Merchant{w.shop(mid, "ESIGN-STD", merchant.T1, "95")}, nil); err != nil {
				t.Fatal(err)
			}
		}
		one, err := e.Reissue(ctx, ref, clock(tuesday, 11, 0))
		if err != nil || one != ref+"-R1" {
			t.Fatalf("reissued as %q, %v", one, err)
		}
		if again, err := e.Reissue(ctx, ref, clock(tuesday, 12, 0)); err != nil || again != one {
			t.Errorf("reissued again as %q, %v", again, err)
		}
		if _, err := e.Reissue(ctx, one, clock(tuesday, 12, 0)); !errors.Is(err, ErrReissue) {
			t.Errorf("reissuing what is not decided: %v", err)
		}
		failed, err := e.Reissue(ctx, "20261120-"+closed+"-T1-0", clock(tuesday, 11, 0))
		if err != nil {
			t.Fatal(err)
		}
		w.sound(e)
		w.pay(e, clock(tuesday, 13, 0))
		// The new card bounces too: again, to a good one.
		w.bank.Advance(1)
		wednesday := tuesday.AddDays(1)
		w.pay(e, clock(wednesday, 10, 0))
		if err := w.reg.Put(ctx, []merchant.Merchant{w.shop(bounced, "ESIGN-STD", merchant.T1, "00"), w.shop(closed, "ESIGN-STD", merchant.T1, "94")}, nil); err != nil {
			t.Fatal(err)
		}
		two, err := e.Reissue(ctx, one, clock(wednesday, 11, 0))
		if err != nil || two != ref+"-R2" {
			t.Fatalf("reissued as %q, %v", two, err)
		}
		// The other one fails at last: its money is still the returned money.
		three, err := e.Reissue(ctx, failed, clock(wednesday, 11, 0))
		if err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(wednesday, 12, 0))
		if s := w.payout(e, three).state; s != Failed {
			t.Errorf("%s is %s", three, s)
		}
		w.sound(e)
		if a, b := w.balance(e, ledger.PayoutReturned, bounced), w.balance(e, ledger.PayoutReturned, closed); a != 0 || b != 994_00 {
			t.Errorf("returned: %s and %s", a, b)
		}
		if _, err := e.Reissue(ctx, "no such", clock(wednesday, 12, 0)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("reissuing nothing: %v", err)
		}
		tasks, err := e.Tasks(ctx, 10)
		if err != nil || len(tasks) != 1 || tasks[0].Ref != three {
			t.Errorf("tasks %+v, %v", tasks, err)
		}
		if err := e.Done(ctx, tasks[0].Key, clock(wednesday, 13, 0)); err != nil {
			t.Fatal(err)
		}
		if tasks, err := e.Tasks(ctx, 10); err != nil || len(tasks) != 0 {
			t.Errorf("after done: %+v, %v", tasks, err)
		}
		// And is paid in the end.
		if err := w.reg.Put(ctx, []merchant.Merchant{w.shop(closed, "ESIGN-STD", merchant.T1, "00")}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Reissue(ctx, three, clock(wednesday, 14, 0)); err != nil {
			t.Fatal(err)
		}
		w.pay(e, clock(wednesday, 15, 0))
		w.sound(e)
		if left := w.balance(e, ledger.PayoutReturned, "") + w.balance(e, ledger.MerchantPayable, ""); left != 0 {
			t.Errorf("still owed %s", left)
		}
	})
}

// The bank is down before anything was sent: nothing is unknown. A merchant
// who may not be paid is held.
func TestBankDownAndHeld(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		mid, held, none := w.merchant(1, "ESIGN-STD", merchant.T1, "00"), w.merchant(2, "ESIGN-STD", merchant.T1, "00"), w.merchant(3, "ESIGN-STD", merchant.T1, "00")
		for _, m := range []string{mid, held, none} {
			w.sale(m, friday, 100_00)
		}
		up := w.rail
		down, err := NewHTTPRail("http://127.0.0.1:1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		w.cfg.Rail = down
		e := w.engine()
		w.close(e, friday)
		suspended, closed := w.shop(held, "ESIGN-STD", merchant.T1, "00"), w.shop(none, "ESIGN-STD", merchant.T1, "00")
		suspended.Status, closed.Account.Sealed = merchant.Suspended, nil
		if err := w.reg.Put(ctx, []merchant.Merchant{suspended, closed}, nil); err != nil {
			t.Fatal(err)
		}
		if p, err := e.Pay(ctx, clock(monday, 10, 0)); !errors.Is(err, ErrNotSent) || p.Sent != 0 || p.Held != 2 {
			t.Errorf("bank down: %+v, %v", p, err)
		}
		if p := w.payout(e, "20261120-"+mid+"-T1-0"); p.state != Created || p.submitted != 0 {
			t.Errorf("payout %+v", p)
		}
		w.sound(e)
		w.cfg.Rail = up
		e = w.engine()
		if p := w.pay(e, clock(monday, 11, 0)); p.Paid != 1 || p.Held != 2 {
			t.Errorf("bank up: %+v", p)
		}
		if err := w.reg.Put(ctx, []merchant.Merchant{w.shop(held, "ESIGN-STD", merchant.T1, "00")}, nil); err != nil {
			t.Fatal(err)
		}
		if p := w.pay(e, clock(monday, 12, 0)); p.Paid != 1 || p.Held != 1 {
			t.Errorf("one released: %+v", p)
		}
		w.sound(e)
	})
}

// Words that fit no failed payout become tasks and move no money.
func TestWordsAfterFailed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		_, ref := w.failed(e, merchant.T1)
		before := w.tables()
		for _, a := range []Answer{{Reference: ref, Status: Rejected, Reason: "no"}, {Reference: ref, Status: Processing}, {Reference: ref, Status: NotFound}, {Reference: ref, Status: Returned, Amount: 99_40}} {
			if _, err := e.apply(ctx, a, clock(monday, 14, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if after := w.tables(); after != before {
			t.Errorf("changed:\n%s", difference(before, after))
		}
		if _, err := e.apply(ctx, Answer{Reference: ref, Status: Succeeded, Amount: 1}, clock(monday, 14, 0)); err != nil {
			t.Fatal(err)
		}
		if got := w.tasksOf(e); got != "payout_failed/"+ref+" answer/"+ref+"/amount" {
			t.Errorf("tasks %s", got)
		}
		w.sound(e)
	})
}

func TestNotified(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e, ctx := w.engine(), t.Context()
		mid := w.merchant(1, "ESIGN-STD", merchant.T1, "91")
		w.sale(mid, friday, 100_00)
		w.close(e, friday)
		w.pay(e, clock(monday, 10, 0))
		ref := "20261120-" + mid + "-T1-0"
		for range 3 { // a callback may come again
			if err := e.Notified(ctx, ref, clock(monday, 10, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if s := w.payout(e, ref).state; s != Paid {
			t.Errorf("after the callback: %s", s)
		}
		w.sound(e)
		handler := e.Callback(callbackSecret)
		for _, c := range []struct {
			method, body string
			want         int
		}{
			{"POST", `{"reference":"` + ref + `"}`, 204}, {"POST", `{"reference":"` + ref + `"}`, 204}, {"POST", `{"reference":"unknown"}`, 404},
			{"POST", `{"reference":"a b"}`, 400}, {"POST", `{}`, 400}, {"POST", ``, 400}, {"POST", `{"reference":"` + strings.Repeat("x", 5000) + `"}`, 400}, {"GET", ``, 405},
		} {
			answer := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, c.method, "/", strings.NewReader(c.body))
			r.Header.Set(CallbackHeader, signCallback(c.body, time.Now()))
			handler.ServeHTTP(answer, r)
			if answer.Code != c.want {
				t.Errorf("%s %.60s: %d, want %d", c.method, c.body, answer.Code, c.want)
			}
		}
		body := `{"reference":"` + ref + `"}`
		for name, header := range map[string]string{
			"none": "", "another's": strings.Replace(signCallback(body, time.Now()), "v1=", "v1=00", 1), "another body's": signCallback(body+" ", time.Now()),
			"old": signCallback(body, time.Now().Add(-6*time.Minute)), "from the future": signCallback(body, time.Now().Add(6*time.Minute)), "nonsense": "t=now,v1=yes",
		} {
			answer := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader(body))
			r.Header.Set(CallbackHeader, header)
			handler.ServeHTTP(answer, r)
			if answer.Code != 401 {
				t.Errorf("a callback whose signature is %s: %d, want 401", name, answer.Code)
			}
		}
		days, closed, err := e.Merchants(ctx, friday)
		if err != nil || !closed || len(days) != 1 || days[0].State != Paid || days[0].Net != 99_40 || days[0].Ref != ref || days[0].Due != monday {
			t.Errorf("the merchants' day: %+v, %v, %v", days, closed, err)
		}
		w.sale(mid, saturday, 100_00)
		if _, err := e.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if days, closed, err := e.Merchants(ctx, saturday); err != nil || closed || len(days) != 1 || days[0].State != 0 || days[0].Gross != 100_00 {
			t.Errorf("an open day: %+v, %v, %v", days, closed, err)
		}
		for _, bad := range []string{"a b", strings.Repeat("x", 65), "\n"} {
			if err := e.Notified(ctx, bad, clock(monday, 10, 1)); err == nil {
				t.Errorf("%q is a reference", bad)
			}
		}
		if err := e.Notified(ctx, "unknown", clock(monday, 10, 1)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown reference: %v", err)
		}
	})
}

var callbackSecret = []byte("a secret of thirty-two characters")

func signCallback(body string, at time.Time) string {
	mac := hmac.New(sha256.New, callbackSecret)
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), mac.Sum(nil))
}
