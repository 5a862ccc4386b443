package simwallet

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
)

// unionpay is UnionPay's gateway from its side.
type unionpay struct{ sign wallet.Signer }

func (t *unionpay) hear(r *http.Request, body []byte) (*question, []byte) {
	v, err := url.ParseQuery(string(body))
	p := map[string]string{}
	for k := range v {
		p[k] = v.Get(k)
	}
	refuse := func(code, words string) (*question, []byte) {
		return nil, t.seal(map[string]string{"merId": p["merId"], "orderId": p["orderId"], "txnTime": p["txnTime"], "respCode": code, "respMsg": words}, false)
	}
	sig, sigErr := base64.StdEncoding.DecodeString(p["signature"])
	kind := p["txnType"] + " " + p["txnSubType"]
	verb := map[string]string{"01 06": "pay", "00 00": "query", "99 01": "cancel", "04 00": "refund", "76 01": "bill"}[kind]
	path := map[string]string{"query": "gateway/api/queryTrans.do", "bill": ""}
	want, special := path[verb]
	if !special {
		want = "gateway/api/backTransReq.do"
	}
	_, timeErr := time.ParseInLocation("20060102150405", p["txnTime"], calendar.Beijing)
	switch {
	case err != nil || verb == "" || p["version"] != "5.1.0" || r.PathValue("question") != want:
		return refuse("10", "报文格式错误")
	case p["signMethod"] != wallet.SignMethod(t.sign.String()) || sigErr != nil || !t.sign.Verify(wallet.SignedText(t.sign, p), sig):
		return refuse("11", "验证签名失败")
	case p["merId"] == "" || timeErr != nil:
		return refuse("13", "报文交易要素缺失")
	}
	q := &question{verb: verb, order: p["orderId"], code: p["qrNo"], amount: fenIn(p["txnAmt"]), merchant: p["subMerId"], terminal: p["termId"], name: p["subMerAbbr"], echo: p}
	if verb == "refund" {
		q.refund, q.order = q.order, p["origOrderId"]
	}
	if verb == "bill" {
		// Month and day only: of the last twelve months.
		now := calendar.DateOf(time.Now())
		day, err := time.Parse("20060102", fmt.Sprintf("%04d%s", now.Year(), p["settleDate"]))
		if err != nil {
			return refuse("10", "settleDate")
		}
		if q.date = calendar.NewDate(day.Date()); q.date > now {
			q.date = calendar.NewDate(now.Year()-1, day.Month(), day.Day())
		}
	}
	return q, nil
}

func (t *unionpay) seal(p map[string]string, forged bool) []byte {
	p["version"], p["encoding"], p["signMethod"] = "5.1.0", "UTF-8", wallet.SignMethod(t.sign.String())
	for k, v := range p {
		if v == "" {
			delete(p, k)
		}
	}
	sig, err := t.sign.Sign(wallet.SignedText(t.sign, p))
	if err != nil {
		panic(fmt.Sprintf("simwallet: %v", err))
	}
	if forged {
		sig[len(sig)-1] ^= 1
	}
	p["signature"] = base64.StdEncoding.EncodeToString(sig)
	v := url.Values{}
	for k := range p {
		v.Set(k, p[k])
	}
	return []byte(v.Encode())
}

// unionpayErrors are our words as respCode.
var unionpayErrors = map[string]string{wallet.NotEnough: "64", wallet.BuyerRefused: "67", wallet.NotPermitted: "63", wallet.OverLimit: "33", wallet.CodeInvalid: "61",
	wallet.CodeExpired: "69", wallet.OrderConflict: "12", wallet.BadRequest: "10", wallet.NotPaid: "35", wallet.OverRefund: "36", TooLate: "39"}

func (t *unionpay) say(q *question, a *reply, forged bool) []byte {
	o := &a.order
	p := map[string]string{"merId": q.echo["merId"], "orderId": q.echo["orderId"], "txnTime": q.echo["txnTime"], "txnType": q.echo["txnType"], "txnSubType": q.echo["txnSubType"],
		"respCode": "00", "respMsg": "成功"}
	if a.order.Number != "" && a.state == "PAID" && q.verb == "pay" {
		p["orderId"] = a.order.Number // another one when it is asked to be wrong
	}
	switch state := a.state; {
	case state == "REFUSED" || state == "FAILED" && q.verb != "query" && q.verb != "cancel":
		p["respCode"], p["respMsg"] = unionpayErrors[a.code], strings.ToLower(a.code)
	case state == "UNKNOWN":
		p["respCode"], p["respMsg"] = "04", "交易状态未明，请查询"
	case q.verb == "bill" && state == "NO_ORDER":
		p["respCode"], p["respMsg"] = "98", "文件不存在"
	case q.verb == "bill":
		p["fileContent"] = base64.StdEncoding.EncodeToString(packed(a.bill))
	case state == "NO_ORDER" || state == "NO_REFUND":
		p["respCode"], p["respMsg"] = "34", "查无此交易"
	case q.verb == "pay" && state == "PAYING":
		p["respCode"], p["respMsg"] = "05", "交易已受理，请稍后查询"
	case q.verb == "pay" && state == "PAID":
		p["queryId"], p["txnAmt"] = o.Transaction, fen(o.Amount)
	case q.verb == "pay":
		p["respCode"], p["respMsg"] = "35", "原交易状态不正确"
	case q.verb == "query":
		t.state(p, a)
	case q.verb == "cancel":
		p["queryId"], p["origRespCode"] = o.Transaction, "01"
		if state == "REFUNDED" {
			p["origRespCode"] = "00"
		}
	case q.verb == "refund":
		p["queryId"], p["txnAmt"] = a.refund.Number, fen(a.refund.Amount)
	}
	return t.seal(p, forged)
}

func (t *unionpay) state(p map[string]string, a *reply) {
	o := &a.order
	switch {
	case a.state == "RETURNED":
		p["origRespCode"], p["queryId"], p["txnAmt"] = "00", a.refund.Number, fen(a.refund.Amount)
	case o.State == Paying:
		p["origRespCode"] = "05"
	case o.State == Failed:
		p["origRespCode"], p["origRespMsg"] = unionpayErrors[o.Failure], strings.ToLower(o.Failure)
	case o.State == Closed || o.cancelled():
		p["origRespCode"] = "35"
		if o.cancelled() {
			p["queryId"], p["settleAmt"] = o.Transaction, fen(o.Amount)
		}
	default: // refunds stand for themselves
		p["origRespCode"], p["queryId"], p["txnAmt"] = "00", o.Transaction, fen(o.Amount)
	}
}

func packed(text []byte) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(text) // a bytes.Buffer takes everything
	_ = z.Close()
	return out.Bytes()
}

// daily writes the bill in the form of docs/divergences.md.
func (t *unionpay) daily(date calendar.Date, rows []wallet.BillRecord) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "BILL|%s|%s\n", routing.UnionPayQR, strings.ReplaceAll(date.String(), "-", ""))
	var paid, back, fees money.Amount
	for _, r := range rows {
		kind := map[wallet.BillKind]string{wallet.BillPay: "01", wallet.BillRefund: "04", wallet.BillRevoked: "99"}[r.Kind]
		if r.Kind == wallet.BillPay {
			paid += r.Amount
		} else {
			back += r.Amount
		}
		fees += r.Fee
		fmt.Fprintf(&text, "D|%s|%s|%s|%s|%s|%s|%s|%s|%d|%d\n", kind, r.Order, r.Refund, r.Number, r.RefundNumber, r.Time.In(calendar.Beijing).Format("20060102150405"),
			r.Merchant, r.Terminal, r.Amount, r.Fee)
	}
	fmt.Fprintf(&text, "T|%d|%d|%d|%d\n", len(rows), paid.Fen(), back.Fen(), fees.Fen())
	return []byte(text.String())
}
