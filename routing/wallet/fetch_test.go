package wallet_test

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/simulate/wallet"
)

// A day at each wallet, its bill the morning after, and what can be wrong with
// one. The days are fake: the bubble begins on 1 January 2000, 8:00 in Beijing.
func TestFetchBill(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		from       time.Duration
	}{{routing.WeChat, wallet.RSA, 10 * time.Hour}, {routing.Alipay, wallet.RSA, 9 * time.Hour}, {routing.UnionPayQR, wallet.RSA, 10 * time.Hour}, {routing.UnionPayQR, wallet.SM2, 10 * time.Hour}} {
		t.Run(c.name+" "+c.kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fetchBill(t, c.name, c.kind, c.from) })
		})
	}
}

func fetchBill(t *testing.T, name, kind string, from time.Duration) {
	pipe := simwallet.NewPipe()
	s, err := simwallet.Serve(pipe, simwallet.Config{Keys: map[string]simwallet.Keys{name: simwallet.TestKeys(name, kind)}})
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Replace(s.URL(name), s.Addr(), "wallets", 1)
	w, err := wallet.New(wallet.Config{Name: name, URL: at, Wire: simwallet.TestWire(name, kind), Dial: pipe.Dial})
	if err != nil {
		t.Fatal(err)
	}
	day := calendar.DateOf(time.Now())
	// Paid, refunded in part, cancelled after it was paid; and one that failed,
	// which is on no bill.
	pays := []wallet.Payment{numbered(t, name, 1, 23_00), numbered(t, name, 2, 24_00), numbered(t, name, 3, 25_00), numbered(t, name, 4, 20_51)}
	for i, p := range pays {
		if r, err := w.Pay(t.Context(), p); err != nil || (r.State == wallet.Paid) != (i < 3) {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(time.Minute)
	}
	if r, err := w.Refund(t.Context(), pays[1].Order, wallet.Refund{Number: "B1", Amount: 4_00, Made: time.Now()}); err != nil || r.State != wallet.Refunded {
		t.Fatalf("%+v, %v", r, err)
	}
	time.Sleep(time.Second)
	if r, err := w.Cancel(t.Context(), pays[2].Order); err != nil || r.State != wallet.Refunded {
		t.Fatalf("%+v, %v", r, err)
	}

	var early *wallet.NotYetError
	if _, err := fetch(t, w, day); !errors.As(err, &early) || !early.From.Equal(day.AddDays(1).Time().Add(from)) {
		t.Errorf("today's bill: %v", err)
	}
	time.Sleep(time.Until(early.From) - time.Second)
	if _, err := fetch(t, w, day); !errors.As(err, &early) {
		t.Errorf("a second before its time: %v", err)
	}
	time.Sleep(time.Second)
	if _, err := fetch(t, w, day.AddDays(-1)); !errors.Is(err, wallet.ErrNoBill) {
		t.Errorf("of a day without payments: %v", err)
	}

	want := []wallet.BillRecord{
		{Kind: wallet.BillPay, Order: "R1", Amount: 23_00, Fee: 5}, {Kind: wallet.BillPay, Order: "R2", Amount: 24_00, Fee: 5}, {Kind: wallet.BillPay, Order: "R3", Amount: 25_00, Fee: 5},
		{Kind: wallet.BillRefund, Order: "R2", Refund: "B1", Amount: 4_00, Fee: -1}, {Kind: wallet.BillRevoked, Order: "R3", Amount: 25_00, Fee: -5},
	}
	records, err := fetch(t, w, day)
	if err != nil || len(records) != len(want) {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, r := range records {
		x := want[i]
		if r.Kind != x.Kind || r.Order != x.Order || r.Refund != x.Refund || r.Amount != x.Amount || r.Fee != x.Fee || r.Wallet != name || r.Merchant != "898110058120001" && name != routing.Alipay ||
			r.Terminal != "11000001" || calendar.DateOf(r.Time) != day || (r.RefundNumber != "") != (r.Kind != wallet.BillPay && name != routing.Alipay) {
			t.Errorf("record %d is %+v, want %+v", i, r, x)
		}
		if o, ok := s.Order(name, r.Order); !ok || o.Transaction != r.Number {
			t.Errorf("record %d has number %s, the books %s", i, r.Number, o.Transaction)
		}
	}

	// A good bill with a fault in it, for whoever reconciles; a damaged one is
	// refused whole.
	for fault, check := range map[simwallet.BillFault]func([]wallet.BillRecord, error) bool{
		simwallet.BillMissing: func(r []wallet.BillRecord, err error) bool {
			return err == nil && len(r) == 4 && r[0].Order == "R2"
		},
		simwallet.BillExtra: func(r []wallet.BillRecord, err error) bool {
			return err == nil && len(r) == 6 && r[5].Order == "0EXTRA000001"
		},
		simwallet.BillAmount: func(r []wallet.BillRecord, err error) bool {
			return err == nil && len(r) == 5 && r[0].Amount == 23_01
		},
		simwallet.BillFee: func(r []wallet.BillRecord, err error) bool { return err == nil && r[0].Fee == 6 },
		simwallet.BillTruncated: func(r []wallet.BillRecord, err error) bool {
			var damage *wallet.BillError
			return len(r) == 0 && (errors.As(err, &damage) || errors.Is(err, routing.ErrUnanswered))
		},
		simwallet.BillGood: func(r []wallet.BillRecord, err error) bool { return err == nil && len(r) == 5 },
	} {
		if err := s.SpoilBills(name, fault); err != nil {
			t.Fatal(err)
		}
		if r, err := fetch(t, w, day); !check(r, err) {
			t.Errorf("%s: %d records, %v", fault, len(r), err)
		}
	}
	w.Close()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func numbered(t *testing.T, name string, n int, amount money.Amount) wallet.Payment {
	t.Helper()
	p := payment(t, amount)
	digits := map[string]string{routing.WeChat: "1345678901234567", routing.Alipay: "2845678901234567", routing.UnionPayQR: "62345678901234567"}[name]
	var err error
	if p.Code, err = routing.ParsePayCode(digits + "0" + string(rune('0'+n))); err != nil {
		t.Fatal(err)
	}
	p.Number = "R" + string(rune('0'+n))
	return p
}

func fetch(t *testing.T, w *wallet.Wallet, day calendar.Date) ([]wallet.BillRecord, error) {
	t.Helper()
	var file bytes.Buffer
	if err := w.FetchBill(t.Context(), day, &file); err != nil {
		return nil, err
	}
	return all(wallet.ReadBill(w.Name(), day, bytes.NewReader(file.Bytes()), int64(file.Len())))
}

func all(bill iter.Seq2[wallet.BillRecord, error]) (out []wallet.BillRecord, failed error) {
	for r, err := range bill {
		if err != nil {
			failed = err
			continue
		}
		out = append(out, r)
	}
	return out, failed
}

// A wallet that cannot give its bill, and one whose word is not to be trusted.
func TestNoBill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		day := calendar.DateOf(time.Now())
		time.Sleep(48 * time.Hour)
		for _, c := range []struct {
			wallet, answer string // signed where it has no <
			why            routing.Why
		}{
			{routing.WeChat, "<xml><return_code>FAIL</return_code><return_msg>system busy</return_msg><error_code>100</error_code></xml>", wallet.Undecided},
			{routing.WeChat, "<xml><return_code>", wallet.Distrusted},
			{routing.Alipay, "code=40004 sub_code!=ACQ.SYSTEM_ERROR", wallet.Undecided},
			{routing.Alipay, "code=40004 sub_code!=INVAILID_ARGUMENTS", wallet.Refused},
			{routing.Alipay, "code=10000 bill_download_url=ftp://x/bill", wallet.Distrusted},
			{routing.Alipay, "code=10000", wallet.Distrusted},
			{routing.Alipay, "<html>", wallet.Distrusted},
			{routing.UnionPayQR, "respCode=05", wallet.Undecided},
			{routing.UnionPayQR, "respCode=11", wallet.Refused},
			{routing.UnionPayQR, "respCode=00 fileContent=%", wallet.Distrusted},
			{routing.UnionPayQR, "respCode=00 fileContent=QUJD", wallet.Distrusted},
			{routing.UnionPayQR, "<html>", wallet.Distrusted},
		} {
			s := openShop(t, c.wallet, wallet.RSA)
			s.does = func(w http.ResponseWriter, _ *http.Request, question string, _ int) {
				answer := c.answer
				if !strings.HasPrefix(answer, "<") {
					answer = s.signed(question, answer)
				}
				_, _ = io.WriteString(w, answer)
			}
			w := s.way(t, nil)
			_, err := fetch(t, w, day)
			var se *routing.SendError
			if !errors.As(err, &se) || se.Why != c.why {
				t.Errorf("%s, %s: %v, want %s", c.wallet, c.answer, err, c.why)
			}
			w.Close()
		}
		s := openShop(t, routing.WeChat, wallet.RSA)
		s.does = func(w http.ResponseWriter, _ *http.Request, _ string, _ int) {
			_, _ = io.WriteString(w, "交易时间\n")
		}
		w := s.way(t, nil)
		if err := w.FetchBill(t.Context(), day, full{}); err == nil || errors.Is(err, routing.ErrUnanswered) || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("a full disk: %v", err)
		}
		w.Close()
	})
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }
