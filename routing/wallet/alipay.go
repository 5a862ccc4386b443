package wallet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// Alipay is the open platform's gateway: a form with JSON in biz_content,
// signed RSA2 over the sorted parameters; of an answer the node of the method
// is signed, over its bytes as they came (docs/divergences.md).
type Alipay struct {
	App  string // app_id
	Sign Signer // RSA
}

func (*Alipay) manners() manners {
	return manners{poll: 3 * time.Second, unknown: 3 * time.Second, billFrom: 9 * time.Hour}
}

var alipayMethods = map[verb]string{pay: "alipay.trade.pay", query: "alipay.trade.query", cancel: "alipay.trade.cancel", refund: "alipay.trade.refund",
	refundQuery: "alipay.trade.fastpay.refund.query", bill: "alipay.data.dataservice.bill.downloadurl.query"}

// alipayBusiness is biz_content, whichever the method.
type alipayBusiness struct {
	Order    string          `json:"out_trade_no,omitempty"`
	Scene    string          `json:"scene,omitempty"`
	Code     string          `json:"auth_code,omitempty"`
	Subject  string          `json:"subject,omitempty"`
	Total    string          `json:"total_amount,omitempty"`
	Store    string          `json:"store_id,omitempty"`
	Terminal string          `json:"terminal_id,omitempty"`
	Merchant *alipayMerchant `json:"sub_merchant,omitempty"`
	Refund   string          `json:"refund_amount,omitempty"`
	RefundNo string          `json:"out_request_no,omitempty"`
	BillType string          `json:"bill_type,omitempty"`
	BillDate string          `json:"bill_date,omitempty"`
	Options  []string        `json:"query_options,omitempty"`
}

type alipayMerchant struct {
	ID string `json:"merchant_id"`
}

func (x *Alipay) ask(base string, q *question) (call, error) {
	if x.Sign.sign == nil || x.App == "" {
		return call{}, errors.New("Alipay needs an app and keys")
	}
	b := alipayBusiness{Order: q.Number}
	switch q.verb {
	case pay:
		b.Scene, b.Code, b.Subject, b.Total = "bar_code", q.code.Reveal(), named(q.name), q.Amount.String()
		b.Store, b.Terminal, b.Merchant = q.Merchant, q.Terminal, &alipayMerchant{q.sub}
	case refund:
		b.Refund, b.RefundNo = q.refund.Amount.String(), q.refund.Number
	case refundQuery:
		b.RefundNo = q.refund.Number
	case bill:
		b = alipayBusiness{BillType: "trade", BillDate: q.date.String()}
	}
	text, err := json.Marshal(b)
	if err != nil {
		return call{}, err
	}
	p := map[string]string{"app_id": x.App, "method": alipayMethods[q.verb], "format": "JSON", "charset": "utf-8", "sign_type": "RSA2",
		"timestamp": q.at.In(calendar.Beijing).Format(billTime), "version": "1.0", "biz_content": string(text)}
	signature, err := x.Sign.Sign([]byte(Joined(p, "sign")))
	if err != nil {
		return call{}, err
	}
	p["sign"] = base64.StdEncoding.EncodeToString(signature)
	// The gateway reads the charset before the form.
	return call{url: base + "?charset=utf-8", kind: "application/x-www-form-urlencoded; charset=utf-8", body: form(p)}, nil
}

func form(p map[string]string) []byte {
	v := url.Values{}
	for k := range p {
		v.Set(k, p[k])
	}
	return []byte(v.Encode())
}

// alipayAnswer is the node of a method.
type alipayAnswer struct {
	Code    string `json:"code"`
	Message string `json:"msg"`
	SubCode string `json:"sub_code"`
	SubText string `json:"sub_msg"`

	Order       string `json:"out_trade_no"`
	Transaction string `json:"trade_no"`
	Total       string `json:"total_amount"`
	State       string `json:"trade_status"`
	Paid        string `json:"send_pay_date"`
	Retry       string `json:"retry_flag"`
	Action      string `json:"action"`
	Changed     string `json:"fund_change"`
	RefundNo    string `json:"out_request_no"`
	RefundState string `json:"refund_status"`
	URL         string `json:"bill_download_url"`
}

// alipayCodes are Alipay's sub_code in our words, without ACQ.
var alipayCodes = map[string]string{
	"BUYER_BALANCE_NOT_ENOUGH": NotEnough, "BUYER_BANKCARD_BALANCE_NOT_ENOUGH": NotEnough, "BUYER_SELLER_EQUAL": NotPermitted, "TRADE_BUYER_NOT_MATCH": BuyerRefused,
	"ERROR_BALANCE_PAYMENT_DISABLE": NotPermitted, "BUYER_ENABLE_STATUS_FORBID": NotPermitted, "ERROR_BUYER_CERTIFY_LEVEL_LIMIT": NotPermitted, "PAYMENT_REQUEST_HAS_RISK": NotPermitted,
	"PRODUCT_AMOUNT_LIMIT_ERROR": OverLimit, "BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR": OverLimit, "BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR": OverLimit, "TOTAL_FEE_EXCEED": OverLimit,
	"PAYMENT_AUTH_CODE_INVALID": CodeInvalid, "PAYMENT_FAIL": BuyerRefused, "PULL_MOBILE_CASHIER_FAIL": BuyerRefused, "CONTEXT_INCONSISTENT": OrderConflict,
	"INVALID_PARAMETER": BadRequest, "ACCESS_FORBIDDEN": BadRequest, "TRADE_NOT_EXIST": NotPaid, "TRADE_STATUS_ERROR": NotPaid, "TRADE_HAS_FINISHED": NotPaid,
	"REFUND_AMT_NOT_EQUAL_TOTAL": OverRefund, "REFUND_FEE_ERROR": OverRefund, "DISCORDANT_REPEAT_REQUEST": OrderConflict, "SELLER_BALANCE_NOT_ENOUGH": Stuck,
}

func (x *Alipay) answer(q *question, body []byte) (Result, error) {
	a, err := x.trust(q, body)
	if err != nil {
		return Result{}, err
	}
	code, words := strings.TrimPrefix(a.SubCode, "ACQ."), a.SubCode+" "+a.SubText
	if a.Order != "" && a.Order != q.Number {
		return Result{}, errors.New("it is about another order")
	}
	switch {
	case a.Code == "20000" || strings.HasSuffix(a.SubCode, "SYSTEM_ERROR") || strings.HasPrefix(a.SubCode, "isp.") || a.Retry == "Y":
		return Result{}, &said{Undecided, cut(a.Code + " " + words)}
	case a.Code == "10003" && q.verb == pay:
		return Result{State: BuyerPaying, Transaction: a.Transaction}, nil
	case a.Code != "10000":
		return x.no(q, code, words)
	}
	r := Result{Transaction: a.Transaction}
	switch q.verb {
	case pay:
		r.State = Paid
		r.Amount, err = yuanOf(a.Total)
	case query:
		r, err = x.state(a, r)
	case cancel:
		switch a.Action {
		case "close":
			r.State = Closed
		case "refund":
			r.State = Refunded
		case "": // it found no such order
			r.State = NoOrder
		default:
			err = fmt.Errorf("action %.20q is neither close nor refund", a.Action)
		}
	case refund:
		if a.Changed == "Y" {
			r.State = Refunded // otherwise Unknown: a repeat, and the refund is asked for
		}
	case refundQuery:
		switch {
		case a.RefundNo == q.refund.Number && a.RefundState == "REFUND_SUCCESS":
			r.State = Refunded
		case a.RefundNo != "" && a.RefundNo != q.refund.Number:
			err = errors.New("it is about another refund")
		default: // it is on its way, or never came: the refund is asked for again
			return Result{}, &said{Undecided, "no such refund yet"}
		}
	}
	if err == nil && r.State == Paid && r.Transaction == "" {
		err = errors.New("a payment without a number")
	}
	return r, err
}

// trust verifies the signature over the bytes of the method's node.
func (x *Alipay) trust(q *question, body []byte) (*alipayAnswer, error) {
	var outer map[string]json.RawMessage
	var signature string
	if json.Unmarshal(body, &outer) != nil || json.Unmarshal(outer["sign"], &signature) != nil {
		return nil, errors.New("it is not the signed JSON that was expected")
	}
	node := outer[strings.ReplaceAll(alipayMethods[q.verb], ".", "_")+"_response"]
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(node) == 0 || !x.Sign.Verify(node, sig) {
		return nil, errors.New("its signature is missing or wrong; compare the keys of both sides")
	}
	a := new(alipayAnswer)
	if err := json.Unmarshal(node, a); err != nil {
		return nil, errors.New("its node is not the JSON that was expected")
	}
	return a, nil
}

// no is an answer with a code like 40004.
func (x *Alipay) no(q *question, code, words string) (Result, error) {
	switch {
	case code == "TRADE_NOT_EXIST" && (q.verb == query || q.verb == cancel):
		return Result{State: NoOrder}, nil
	case code == "TRADE_HAS_SUCCESS" && q.verb == pay:
		return Result{}, &said{Undecided, cut(words)} // the query has the amount
	case code == "TRADE_HAS_CLOSE" && q.verb == pay:
		return Result{State: Closed}, nil
	case q.verb == pay || q.verb == refund:
		r := failed(alipayCodes, code, words)
		if r.Code == Other && strings.HasPrefix(code, "isv.") {
			r.Code = BadRequest
		}
		return r, nil
	case code == "BILL_NOT_EXIST" || code == "NO_BILL_DATA" || strings.HasSuffix(code, ".bill-not-exist"):
		return Result{}, ErrNoBill
	}
	return Result{}, &said{Refused, cut(words)}
}

func (x *Alipay) state(a *alipayAnswer, r Result) (Result, error) {
	var err error
	switch a.State {
	case "TRADE_SUCCESS", "TRADE_FINISHED":
		r.State = Paid
		r.Amount, err = yuanOf(a.Total)
	case "WAIT_BUYER_PAY":
		r.State = BuyerPaying
	case "TRADE_CLOSED": // never paid, or all of it went back
		if r.State = Closed; a.Paid != "" {
			r.State = Refunded
		}
	default:
		err = fmt.Errorf("trade_status %.20q is none that is known", a.State)
	}
	return r, err
}

func yuanOf(s string) (money.Amount, error) {
	a, err := money.Parse(s)
	if err != nil || a <= 0 {
		return 0, errors.New("its amount is not in yuan and above zero")
	}
	return a, nil
}

// bill asks where the bill is, and fetches it from there: the address holds
// for 30 seconds.
func (x *Alipay) bill(ctx context.Context, w *Wallet, q *question, to io.Writer) error {
	body, err := w.exchange(ctx, q, w.cfg.Timeout, maxAnswer)
	if err != nil {
		return err
	}
	if _, err := x.answer(q, body); err != nil { // the wallet's no, or no answer
		return w.billError(err)
	}
	a, err := x.trust(q, body)
	if err != nil {
		return w.billError(err)
	}
	at, err := url.Parse(a.URL)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != strings.SplitN(w.cfg.URL, ":", 2)[0] {
		return w.fail(true, Distrusted, errors.New("the address of the bill is not one to fetch"))
	}
	resp, err := w.send(ctx, ctx, http.MethodGet, call{url: a.URL})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return w.copy(ctx, to, resp.Body)
}
