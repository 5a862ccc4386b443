package wallet_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/routing"
	"acquirer/routing/wallet"
	"acquirer/simulate/wallet"
)

// The signature that WeChat Pay's pages work out by hand.
func TestPublishedSignature(t *testing.T) {
	sign, err := wallet.NewHMAC("192006250b4c09247ec02edce69f6a2d")
	if err != nil {
		t.Fatal(err)
	}
	p := map[string]string{"appid": "wxd930ea5d5a258f4f", "mch_id": "10000100", "device_info": "1000", "body": "test", "nonce_str": "ibuaiVcKdpRxkhJA", "empty": "", "sign": "x"}
	if got := sign(p); got != "6A9AE1657590FD6257D693A078E1C3E4BB6BA4DC30B23E0EE2496E54170DACD6" {
		t.Errorf("signed %s", got)
	}
}

// What each wallet is asked, in its own words.
func TestQuestions(t *testing.T) {
	made := time.Date(2026, 8, 7, 8, 0, 1, 0, time.UTC)
	p := payment(t, 1234)
	p.Made = made
	for _, c := range []struct {
		wallet, kind string
		want         [4]string // of pay, query, cancel, refund: what the address and the body have
	}{
		{routing.WeChat, wallet.RSA, [4]string{
			"/pay/micropay <appid>wx0000000000000001< <auth_code>134567890123456789< <body>老王烧烤< <device_info>11000001< <out_trade_no>R1< <total_fee>1234< <sub_mch_id>1900000001<",
			"/pay/orderquery <out_trade_no>R1< <sub_mch_id>1900000001<", "/secapi/pay/reverse <out_trade_no>R1<",
			"/secapi/pay/refund <out_refund_no>B1< <total_fee>1234< <refund_fee>200<"}},
		{routing.Alipay, wallet.RSA, [4]string{
			`?charset=utf-8 method=alipay.trade.pay& sign_type=RSA2 "scene":"bar_code" "auth_code":"134567890123456789" "total_amount":"12.34" "out_trade_no":"R1" "subject":"老王烧烤" "merchant_id":"1900000001"`,
			`method=alipay.trade.query& "out_trade_no":"R1"`, "method=alipay.trade.cancel&", `method=alipay.trade.refund& "refund_amount":"2.00" "out_request_no":"B1"`}},
		{routing.UnionPayQR, wallet.RSA, [4]string{
			"/gateway/api/backTransReq.do txnType=01 txnSubType=06 qrNo=134567890123456789 txnAmt=1234 orderId=R1 txnTime=20260807160001 signMethod=01 subMerId=1900000001 subMerAbbr=老王烧烤",
			"/gateway/api/queryTrans.do txnType=00 orderId=R1 txnTime=20260807160001", "/gateway/api/backTransReq.do txnType=99 txnSubType=01 orderId=R1 txnTime=20260807160001",
			"txnType=04 orderId=B1 origOrderId=R1 origTxnTime=20260807160001 txnAmt=200 txnTime=20260808160001"}},
		{routing.UnionPayQR, wallet.SM2, [4]string{"signMethod=12", "signMethod=12", "signMethod=12", "signMethod=12"}},
	} {
		for n, want := range c.want {
			at, body, err := wallet.Ask(simwallet.TestWire(c.wallet, c.kind), n, p, "1900000001", wallet.Refund{Number: "B1", Amount: 200, Made: made.Add(24 * time.Hour)})
			if err != nil {
				t.Error(err)
			}
			if c.wallet != routing.WeChat {
				if body, err = url.QueryUnescape(body); err != nil {
					t.Error(err)
				}
			}
			for _, part := range strings.Fields(want) {
				if !strings.Contains(at+" "+body, part) {
					t.Errorf("%s %d: no %s in %s %s", c.wallet, n, part, at, body)
				}
			}
		}
	}
}

// Every answer of every wallet, and what it means.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := payment(t, 1234)
		type asks func(*wallet.Wallet) (wallet.Result, error)
		pay := func(w *wallet.Wallet) (wallet.Result, error) { return w.Pay(t.Context(), p) }
		query := func(w *wallet.Wallet) (wallet.Result, error) { return w.Query(t.Context(), p.Order) }
		cancel := func(w *wallet.Wallet) (wallet.Result, error) { return w.Cancel(t.Context(), p.Order) }
		refund := func(w *wallet.Wallet) (wallet.Result, error) { return w.Refund(t.Context(), p.Order, back(200)) }
		const we, ali, union = routing.WeChat, routing.Alipay, routing.UnionPayQR
		for _, c := range []struct {
			wallet  string
			ask     asks
			answers []string
			state   wallet.State
			why     string // Code, or Why of an error
		}{
			{we, pay, []string{paid[we]}, wallet.Paid, ""},
			{we, pay, []string{"result_code=FAIL err_code=USERPAYING"}, wallet.BuyerPaying, ""},
			{we, pay, []string{"result_code=FAIL err_code!=NOTENOUGH"}, wallet.Failed, wallet.NotEnough},
			{we, pay, []string{"result_code=FAIL err_code!=AUTHCODEEXPIRE"}, wallet.Failed, wallet.CodeExpired},
			{we, pay, []string{"result_code=FAIL err_code!=OUT_TRADE_NO_USED"}, wallet.Failed, wallet.OrderConflict},
			{we, pay, []string{"result_code=FAIL err_code=STRANGE"}, wallet.Failed, wallet.Other},
			{we, pay, []string{"result_code=FAIL err_code=SYSTEMERROR"}, wallet.Unknown, string(wallet.Undecided)},
			{we, pay, []string{"result_code=FAIL err_code=BANKERROR"}, wallet.Unknown, string(wallet.Undecided)},
			{we, pay, []string{"result_code=FAIL err_code=ORDERPAID"}, wallet.Unknown, string(wallet.Undecided)},
			{we, pay, []string{"result_code=FAIL err_code=ORDERREVERSED"}, wallet.Closed, ""},
			{we, pay, []string{"return_code=FAIL return_msg=NO"}, wallet.Unknown, string(wallet.Distrusted)},
			{we, query, []string{paid[we] + " trade_state=SUCCESS"}, wallet.Paid, ""},
			{we, query, []string{"out_trade_no=R1 trade_state=USERPAYING"}, wallet.BuyerPaying, ""},
			{we, query, []string{"out_trade_no=R1 trade_state=NOTPAY"}, wallet.BuyerPaying, ""},
			{we, query, []string{"out_trade_no=R1 trade_state=CLOSED"}, wallet.Closed, ""},
			{we, query, []string{"out_trade_no=R1 trade_state=REVOKED"}, wallet.Closed, ""},
			{we, query, []string{"out_trade_no=R1 trade_state=REFUND transaction_id=4200001"}, wallet.Refunded, ""},
			{we, query, []string{"out_trade_no=R1 trade_state=PAYERROR"}, wallet.Failed, wallet.Other},
			{we, query, []string{"result_code=FAIL err_code=ORDERNOTEXIST"}, wallet.NoOrder, ""},
			{we, query, []string{"result_code=FAIL err_code=SYSTEMERROR"}, wallet.Unknown, string(wallet.Undecided)},
			{we, query, []string{"result_code=FAIL err_code=SIGNERROR"}, wallet.Unknown, string(wallet.Refused)},
			{we, query, []string{"out_trade_no=R1 trade_state=MAYBE"}, wallet.Unknown, string(wallet.Distrusted)},
			{we, cancel, []string{"recall=N", "out_trade_no=R1 refund_count=1 out_refund_no_0=X refund_status_0=SUCCESS"}, wallet.Refunded, ""},
			{we, cancel, []string{"recall=N", "result_code=FAIL err_code=REFUNDNOTEXIST"}, wallet.Closed, ""},
			{we, cancel, []string{"recall=N", "result_code=FAIL err_code=SYSTEMERROR"}, wallet.Unknown, string(wallet.Undecided)},
			{we, cancel, []string{paid[we] + " trade_state=SUCCESS"}, wallet.Unknown, string(wallet.Distrusted)}, // a query's answer, come twice
			{we, cancel, []string{"result_code=FAIL err_code=SYSTEMERROR recall=Y"}, wallet.Unknown, string(wallet.Undecided)},
			{we, cancel, []string{"result_code=FAIL err_code=USERPAYING recall=Y"}, wallet.Unknown, string(wallet.Undecided)},
			{we, cancel, []string{"result_code=FAIL err_code!=REVERSE_EXPIRE recall=N"}, wallet.Unknown, string(wallet.Refused)},
			{we, cancel, []string{"result_code=FAIL err_code=ORDERNOTEXIST recall=N"}, wallet.NoOrder, ""},
			{we, refund, []string{"out_trade_no=R1 out_refund_no=B1 refund_fee=200", "out_refund_no_0=B1 refund_status_0=PROCESSING"}, wallet.Refunded, ""},
			{we, refund, []string{"out_trade_no=R1 out_refund_no=B1 refund_fee=200", "out_refund_no_0=X refund_status_0=SUCCESS out_refund_no_1=B1 refund_status_1=CHANGE"}, wallet.Failed, wallet.Stuck},
			{we, refund, []string{"out_trade_no=R1 out_refund_no=B1 refund_fee=200", "out_refund_no_0=B1 refund_status_0=REFUNDCLOSE"}, wallet.Failed, wallet.Other},
			{we, refund, []string{"out_trade_no=R1 out_refund_no=B1 refund_fee=200", "out_refund_no_0=B2 refund_status_0=SUCCESS"}, wallet.Unknown, string(wallet.Distrusted)},
			{we, refund, []string{"out_trade_no=R1 out_refund_no=B1 refund_fee=201"}, wallet.Unknown, string(wallet.Distrusted)},
			{we, refund, []string{"result_code=FAIL err_code!=REFUND_FEE_INVALID"}, wallet.Failed, wallet.OverRefund},
			{we, refund, []string{"result_code=FAIL err_code!=BIZERR_NEED_RETRY"}, wallet.Unknown, string(wallet.Undecided)},

			{ali, pay, []string{paid[ali]}, wallet.Paid, ""},
			{ali, pay, []string{"code=10003 out_trade_no=R1 trade_no=1"}, wallet.BuyerPaying, ""},
			{ali, pay, []string{"code=20000 sub_code!=ACQ.SYSTEM_ERROR"}, wallet.Unknown, string(wallet.Undecided)},
			{ali, pay, []string{"code=40004 sub_code!=ACQ.SYSTEM_ERROR"}, wallet.Unknown, string(wallet.Undecided)},
			{ali, pay, []string{"code=40004 sub_code!=ACQ.BUYER_BALANCE_NOT_ENOUGH"}, wallet.Failed, wallet.NotEnough},
			{ali, pay, []string{"code=40004 sub_code!=ACQ.PAYMENT_AUTH_CODE_INVALID"}, wallet.Failed, wallet.CodeInvalid},
			{ali, pay, []string{"code=40004 sub_code!=ACQ.TRADE_HAS_SUCCESS"}, wallet.Unknown, string(wallet.Undecided)},
			{ali, pay, []string{"code=40004 sub_code!=ACQ.TRADE_HAS_CLOSE"}, wallet.Closed, ""},
			{ali, pay, []string{"code=40002 sub_code=isv.invalid-signature"}, wallet.Failed, wallet.BadRequest},
			{ali, query, []string{paid[ali] + " trade_status!=TRADE_SUCCESS"}, wallet.Paid, ""},
			{ali, query, []string{paid[ali] + " trade_status!=TRADE_FINISHED"}, wallet.Paid, ""},
			{ali, query, []string{"code=10000 out_trade_no=R1 trade_status!=WAIT_BUYER_PAY"}, wallet.BuyerPaying, ""},
			{ali, query, []string{"code=10000 out_trade_no=R1 trade_status!=TRADE_CLOSED"}, wallet.Closed, ""},
			{ali, query, []string{"code=10000 out_trade_no=R1 trade_status!=TRADE_CLOSED send_pay_date!=2026"}, wallet.Refunded, ""},
			{ali, query, []string{"code=40004 sub_code!=ACQ.TRADE_NOT_EXIST"}, wallet.NoOrder, ""},
			{ali, query, []string{"code=40004 sub_code!=ACQ.INVALID_PARAMETER"}, wallet.Unknown, string(wallet.Refused)},
			{ali, query, []string{"code=10000 out_trade_no=R1 trade_status=MAYBE"}, wallet.Unknown, string(wallet.Distrusted)},
			{ali, cancel, []string{"code=10000 out_trade_no=R1 retry_flag!=N action=close"}, wallet.Closed, ""},
			{ali, cancel, []string{"code=10000 out_trade_no=R1 retry_flag!=N action=refund"}, wallet.Refunded, ""},
			{ali, cancel, []string{"code=10000 out_trade_no=R1 retry_flag!=N"}, wallet.NoOrder, ""},
			{ali, cancel, []string{"code=10000 out_trade_no=R1 retry_flag!=Y"}, wallet.Unknown, string(wallet.Undecided)},
			{ali, cancel, []string{"code=20000 sub_code!=ACQ.SYSTEM_ERROR retry_flag!=Y"}, wallet.Unknown, string(wallet.Undecided)},
			{ali, cancel, []string{"code=40004 sub_code!=ACQ.TRADE_CANCEL_TIME_OUT retry_flag!=N"}, wallet.Unknown, string(wallet.Refused)},
			{ali, cancel, []string{"code=10000 out_trade_no=R1 retry_flag!=N action=other"}, wallet.Unknown, string(wallet.Distrusted)},
			{ali, refund, []string{"code=10000 out_trade_no=R1 fund_change!=Y"}, wallet.Refunded, ""},
			{ali, refund, []string{"code=10000 out_trade_no=R1 fund_change!=N", "code=10000 out_request_no=B1 refund_status!=REFUND_SUCCESS"}, wallet.Refunded, ""},
			{ali, refund, []string{"code=10000 out_trade_no=R1 fund_change!=N", "code=10000"}, wallet.Unknown, string(wallet.Undecided)},
			{ali, refund, []string{"code=10000 out_trade_no=R1 fund_change!=N", "code=10000 out_request_no=B2 refund_status!=REFUND_SUCCESS"}, wallet.Unknown, string(wallet.Distrusted)},
			{ali, refund, []string{"code=40004 sub_code!=ACQ.SELLER_BALANCE_NOT_ENOUGH"}, wallet.Failed, wallet.Stuck},

			{union, pay, []string{paid[union]}, wallet.Paid, ""},
			{union, pay, []string{"respCode=05"}, wallet.BuyerPaying, ""},
			{union, pay, []string{"respCode=03"}, wallet.Unknown, string(wallet.Undecided)},
			{union, pay, []string{"respCode=04"}, wallet.Unknown, string(wallet.Undecided)},
			{union, pay, []string{"respCode=64"}, wallet.Failed, wallet.NotEnough},
			{union, pay, []string{"respCode=12"}, wallet.Failed, wallet.OrderConflict},
			{union, pay, []string{"respCode=99"}, wallet.Failed, wallet.Other},
			{union, pay, []string{"respCode=35"}, wallet.Closed, ""},
			{union, query, []string{"origRespCode=00 txnAmt=1234 queryId=1"}, wallet.Paid, ""},
			{union, query, []string{"origRespCode=05"}, wallet.BuyerPaying, ""},
			{union, query, []string{"origRespCode=04"}, wallet.Unknown, string(wallet.Undecided)},
			{union, query, []string{"origRespCode=67"}, wallet.Failed, wallet.BuyerRefused},
			{union, query, []string{"origRespCode=35"}, wallet.Closed, ""},
			{union, query, []string{"origRespCode=35 settleAmt=1234"}, wallet.Refunded, ""},
			{union, query, []string{"respCode=34"}, wallet.NoOrder, ""},
			{union, query, []string{"respCode=11"}, wallet.Unknown, string(wallet.Refused)},
			{union, query, []string{"respCode=00"}, wallet.Unknown, string(wallet.Distrusted)},
			{union, cancel, []string{"origRespCode=00"}, wallet.Refunded, ""},
			{union, cancel, []string{"origRespCode=01"}, wallet.Closed, ""},
			{union, cancel, []string{"txnType=00 origRespCode=00"}, wallet.Unknown, string(wallet.Distrusted)}, // a query's answer, come twice
			{union, cancel, []string{"respCode=04"}, wallet.Unknown, string(wallet.Undecided)},
			{union, cancel, []string{"respCode=05"}, wallet.Unknown, string(wallet.Undecided)},
			{union, cancel, []string{"respCode=34"}, wallet.NoOrder, ""},
			{union, cancel, []string{"respCode=39"}, wallet.Unknown, string(wallet.Refused)},
			{union, refund, []string{"orderId=B1 txnAmt=200", "orderId=B1 origRespCode=00 txnAmt=200"}, wallet.Refunded, ""},
			{union, refund, []string{"orderId=B1 txnAmt=200", "orderId=B1 origRespCode=03"}, wallet.Unknown, string(wallet.Undecided)},
			{union, refund, []string{"orderId=B1 txnAmt=200", "orderId=B1 respCode=34"}, wallet.Unknown, string(wallet.Undecided)},
			{union, refund, []string{"orderId=B1 txnAmt=201"}, wallet.Unknown, string(wallet.Distrusted)},
			{union, refund, []string{"orderId=B1 respCode=36"}, wallet.Failed, wallet.OverRefund},
		} {
			s := openShop(t, c.wallet, wallet.RSA)
			w := s.way(t, func(c *wallet.Config) { c.CancelAfter = time.Nanosecond })
			time.Sleep(time.Second)
			s.script(c.answers...)
			r, err := c.ask(w)
			var se *routing.SendError
			said := r.Code
			if errors.As(err, &se) {
				said = string(se.Why)
			}
			if r.State != c.state || said != c.why || (err != nil) != (c.state == wallet.Unknown) || s.asked.Load() != int32(len(c.answers)) {
				t.Errorf("%s, %v: %+v, %v after %d questions; want %s %s", c.wallet, c.answers, r, err, s.asked.Load(), c.state, c.why)
			}
			w.Close()
		}
	})
}

// A wallet that answers nonsense never makes a payment succeed or fail: it is
// unanswered, and asked once.
func TestDistrusted(t *testing.T) {
	for _, name := range routing.Wallets {
		for _, kind := range []string{wallet.RSA, wallet.SM2} {
			if kind == wallet.SM2 && name != routing.UnionPayQR {
				continue
			}
			t.Run(name+" "+kind, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { distrusted(t, name, kind) }) })
		}
	}
}

func distrusted(t *testing.T, name, kind string) {
	s := openShop(t, name, kind)
	w := s.way(t, nil)
	type does func(w http.ResponseWriter, r *http.Request, question string)
	signed := func(pairs string, change func(string) string) does {
		return func(w http.ResponseWriter, _ *http.Request, question string) {
			_, _ = io.WriteString(w, change(s.signed(question, pairs)))
		}
	}
	as := func(a string) string { return a }
	replaced := func(old, new string) does { return signed(strings.Replace(paid[name], old, new, 1), as) }
	amount := map[string]string{routing.WeChat: "1234", routing.Alipay: "12.34", routing.UnionPayQR: "1234"}[name]
	for what, do := range map[string]does{
		"nothing":        signed(paid[name], func(string) string { return "" }),
		"a page":         signed(paid[name], func(string) string { return "<html>log in</html>" }),
		"half of it":     signed(paid[name], func(a string) string { return a[:len(a)/2] }),
		"too much":       signed(paid[name], func(a string) string { return a + strings.Repeat(" ", 65<<10) }),
		"another amount": replaced(amount, strings.Replace(amount, "2", "3", 1)),
		"no amount":      replaced(amount, "0"),
		"below zero":     replaced(amount, "-"+amount),
		"a fraction":     replaced(amount, amount+".345"),
		"no number":      replaced("4200001", ""),
		"a long number":  replaced("4200001", strings.Repeat("4", 65)),
		"a strange one":  replaced("4200001", "付款"),
		"HTTP 500": func(w http.ResponseWriter, _ *http.Request, question string) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, s.signed(question, paid[name]))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"a changed answer": signed(paid[name], func(a string) string {
			if name == routing.UnionPayQR {
				return strings.Replace(a, "txnAmt=1234", "txnAmt=1234&riskLevel=1", 1)
			}
			return strings.Replace(a, amount, amount+" ", 1)
		}),
		"another's signature": func(w http.ResponseWriter, _ *http.Request, question string) {
			a, b := s.signed(question, paid[name]), s.signed(question, paid[name]+" more=1")
			_, _ = io.WriteString(w, swapSignature(name, a, b))
		},
		"a broken line": func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) },
	} {
		s.asked.Store(0)
		s.does = func(w http.ResponseWriter, r *http.Request, question string, _ int) { do(w, r, question) }
		r, err := w.Pay(t.Context(), payment(t, 1234))
		var se *routing.SendError
		if !errors.Is(err, routing.ErrUnanswered) || errors.Is(err, routing.ErrUnreachable) || !errors.As(err, &se) || !se.Wallet || se.Issuer != name || r != (wallet.Result{}) {
			t.Errorf("%s: %+v, %v", what, r, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "routing: wallet "+name+": ") || strings.Contains(err.Error(), walletCode) {
			t.Errorf("%s: %v", what, err)
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times", what, n)
		}
	}
	w.Close()
}

// swapSignature puts the signature of b into a.
func swapSignature(name, a, b string) string {
	if name == routing.UnionPayQR {
		x, errX := url.ParseQuery(a)
		y, errY := url.ParseQuery(b)
		if errX != nil || errY != nil {
			return ""
		}
		x.Set("signature", y.Get("signature"))
		return x.Encode()
	}
	open, end := "<sign>", "</sign>"
	if name == routing.Alipay {
		open, end = `"sign":"`, `"}`
	}
	cut := func(s string) (int, int) {
		i := strings.Index(s, open) + len(open)
		return i, i + strings.Index(s[i:], end)
	}
	i, j := cut(a)
	k, l := cut(b)
	return a[:i] + b[k:l] + a[j:]
}

// Whatever a wallet signs, reading it never panics, and only the amount that
// was asked for is ever paid.
func FuzzAnswer(f *testing.F) {
	for i, name := range routing.Wallets {
		f.Add(uint8(i), uint8(i), paid[name])
	}
	f.Add(uint8(0), uint8(2), "result_code=FAIL err_code=SYSTEMERROR recall=Y")
	f.Add(uint8(1), uint8(1), "code=10000 out_trade_no=R1 trade_status!=TRADE_CLOSED")
	f.Add(uint8(2), uint8(1), "origRespCode=35 settleAmt=9")
	f.Fuzz(func(t *testing.T, which, verb uint8, pairs string) {
		name := routing.Wallets[int(which)%len(routing.Wallets)]
		s := &shop{name: name, kind: wallet.RSA, signer: simwallet.TestKeys(name, wallet.RSA).Signer}
		if name == routing.WeChat {
			s.hmac, _ = wallet.NewHMAC(simwallet.TestAPIKey)
		}
		r, err := wallet.Read(simwallet.TestWire(name, wallet.RSA), int(verb), payment(t, 1234), s.signed(wallet.MethodOf(int(verb)), pairs))
		if err == nil && r.State == wallet.Paid && (r.Amount <= 0 || r.Transaction == "") {
			t.Errorf("%s: %q is %+v", name, pairs, r)
		}
	})
}

// Whatever comes that no wallet has signed, it is no answer and no panic.
func FuzzUnsigned(f *testing.F) {
	for i, body := range []string{"<xml><return_code>SUCCESS</return_code><sign>A</sign></xml>", `{"alipay_trade_pay_response":{"code":"10000"},"sign":"AAAA"}`, "respCode=00&signature=AAAA",
		"<!DOCTYPE xml [<!ENTITY a \"b\">]><xml><a>&a;</a></xml>", "<xml><a><b>1</b></a></xml>", "", "{"} {
		f.Add(uint8(i), uint8(i), body)
	}
	f.Fuzz(func(t *testing.T, which, verb uint8, body string) {
		name := routing.Wallets[int(which)%len(routing.Wallets)]
		if r, err := wallet.Read(simwallet.TestWire(name, wallet.RSA), int(verb), payment(t, 1234), body); err == nil {
			t.Errorf("%s takes %q for %+v", name, body, r)
		}
	})
}
