package simwallet

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing/wallet"
)

// wechat is WeChat Pay's API v2 from its side.
type wechat struct{ sign wallet.HMAC }

var wechatVerbs = map[string]string{"pay/micropay": "pay", "pay/orderquery": "query", "secapi/pay/reverse": "cancel", "secapi/pay/refund": "refund",
	"pay/refundquery": "refundquery", "pay/downloadbill": "bill"}

func wechatRefusal(words string) []byte {
	return wallet.MarshalXML(map[string]string{"return_code": "FAIL", "return_msg": words})
}

func (t *wechat) hear(r *http.Request, body []byte) (*question, []byte) {
	verb := wechatVerbs[r.PathValue("question")]
	p, err := wallet.ParseXML(body)
	switch {
	case verb == "":
		return nil, wechatRefusal("no such interface")
	case err != nil:
		return nil, wechatRefusal("XML格式错误")
	case p["sign_type"] != "HMAC-SHA256" || !hmac.Equal([]byte(p["sign"]), []byte(t.sign(p))):
		return nil, wechatRefusal("签名错误")
	case p["appid"] == "" || p["mch_id"] == "" || len(p["nonce_str"]) < 16 || len(p["nonce_str"]) > 32:
		return nil, wechatRefusal("缺少参数")
	}
	q := &question{verb: verb, order: p["out_trade_no"], refund: p["out_refund_no"], code: p["auth_code"], merchant: p["sub_mch_id"], terminal: p["device_info"],
		name: p["body"], echo: p}
	q.amount = fenIn(p["total_fee"])
	if verb == "refund" {
		q.total, q.amount = q.amount, fenIn(p["refund_fee"])
	}
	if verb == "bill" {
		day, err := time.Parse("20060102", p["bill_date"])
		if err != nil || p["bill_type"] != "ALL" {
			return nil, wechatRefusal("invalid bill_date or bill_type")
		}
		q.date = calendar.NewDate(day.Date())
	}
	return q, nil
}

// fenIn is an amount in fen, 0 for what is none.
func fenIn(s string) money.Amount {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 {
		return 0
	}
	return money.Amount(v)
}

// wechatErrors are our words as WeChat's err_code.
var wechatErrors = map[string]string{wallet.NotEnough: "NOTENOUGH", wallet.BuyerRefused: "BUYER_MISMATCH", wallet.NotPermitted: "NOAUTH", wallet.OverLimit: "RULELIMIT",
	wallet.CodeInvalid: "AUTH_CODE_INVALID", wallet.CodeExpired: "AUTHCODEEXPIRE", wallet.OrderConflict: "OUT_TRADE_NO_USED",
	wallet.BadRequest: "PARAM_ERROR", wallet.NotPaid: "TRADE_STATE_ERROR", wallet.OverRefund: "REFUND_FEE_INVALID", TooLate: "REVERSE_EXPIRE"}

func (t *wechat) say(q *question, a *reply, forged bool) []byte {
	if q.verb == "bill" {
		return t.sayBill(a)
	}
	p := map[string]string{"return_code": "SUCCESS", "return_msg": "OK", "result_code": "SUCCESS", "appid": q.echo["appid"], "mch_id": q.echo["mch_id"],
		"sub_mch_id": q.echo["sub_mch_id"], "nonce_str": q.echo["nonce_str"]}
	no := func(code, words string) { p["result_code"], p["err_code"], p["err_code_des"] = "FAIL", code, words }
	o := &a.order
	ours := func() { p["out_trade_no"] = o.Number }
	switch state := a.state; {
	case state == "REFUSED" || state == "FAILED" && q.verb != "query" && q.verb != "cancel":
		no(wechatErrors[a.code], strings.ToLower(a.code))
	case state == "UNKNOWN":
		no("SYSTEMERROR", "系统超时")
	case state == "NO_ORDER":
		no("ORDERNOTEXIST", "order not exist")
	case state == "NO_REFUND":
		no("REFUNDNOTEXIST", "not exist")
	case q.verb == "pay" && state == "PAYING":
		no("USERPAYING", "需要用户输入支付密码")
	case q.verb == "pay" && state == "PAID":
		ours()
		t.paid(p, o)
	case q.verb == "pay": // closed, or given back
		no("ORDERREVERSED", "订单已撤销")
	case q.verb == "query":
		ours()
		t.state(p, o)
	case q.verb == "cancel":
	case q.verb == "refund":
		ours()
		p["transaction_id"], p["out_refund_no"], p["refund_id"], p["refund_fee"], p["total_fee"] = o.Transaction, a.refund.ID, a.refund.Number, fen(a.refund.Amount), fen(o.Amount)
	case q.verb == "refundquery":
		ours()
		p["transaction_id"], p["total_fee"], p["refund_count"] = o.Transaction, fen(o.Amount), "1"
		p["out_refund_no_0"], p["refund_id_0"], p["refund_fee_0"], p["refund_status_0"] = a.refund.ID, a.refund.Number, fen(a.refund.Amount), "SUCCESS"
	}
	if q.verb == "cancel" {
		p["recall"] = "N"
		if a.state == "UNKNOWN" {
			p["recall"] = "Y"
		}
	}
	for k, v := range p {
		if v == "" {
			delete(p, k)
		}
	}
	p["sign"] = t.sign(p)
	if forged {
		p["sign"] = strings.Repeat("0", len(p["sign"]))
	}
	return wallet.MarshalXML(p)
}

func fen(a money.Amount) string { return strconv.FormatInt(a.Fen(), 10) }

func (t *wechat) paid(p map[string]string, o *Order) {
	p["transaction_id"], p["total_fee"], p["cash_fee"], p["fee_type"], p["trade_type"] = o.Transaction, fen(o.Amount), fen(o.Amount), money.Currency, "MICROPAY"
	p["bank_type"], p["openid"], p["time_end"] = "OTHERS", "oTEST"+o.Code[len(o.Code)-4:], o.PaidAt.In(calendar.Beijing).Format("20060102150405")
}

func (t *wechat) state(p map[string]string, o *Order) {
	switch {
	case o.State == Paying:
		p["trade_state"] = "USERPAYING"
	case o.State == Failed:
		p["trade_state"], p["trade_state_desc"] = "PAYERROR", strings.ToLower(o.Failure)
	case o.State == Closed || o.cancelled():
		p["trade_state"] = "REVOKED"
	case o.Refunded > 0:
		p["trade_state"] = "REFUND"
		t.paid(p, o)
	default:
		p["trade_state"] = "SUCCESS"
		t.paid(p, o)
	}
}

// cancelled tells that a cancel gave the money back.
func (o *Order) cancelled() bool {
	return len(o.Refunds) > 0 && o.Refunds[len(o.Refunds)-1].ID == ""
}

func (t *wechat) sayBill(a *reply) []byte {
	switch a.state {
	case "NO_ORDER":
		return wallet.MarshalXML(map[string]string{"return_code": "FAIL", "return_msg": "No Bill Exist", "error_code": "20002"})
	case "PAID":
		return a.bill
	}
	return wallet.MarshalXML(map[string]string{"return_code": "FAIL", "return_msg": "system error", "error_code": "100"})
}

const wechatHeader = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额," +
	"微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n"

// daily writes the bill of tar_type GZIP.
func (t *wechat) daily(_ calendar.Date, rows []wallet.BillRecord) []byte {
	var text strings.Builder
	text.WriteString("\ufeff" + wechatHeader)
	var paid, back, fees money.Amount
	for _, r := range rows {
		state, order, refund, number, ours, kind, done := "SUCCESS", r.Amount, money.Amount(0), "0", "0", "", ""
		if r.Kind != wallet.BillPay {
			state, order, refund, number, ours, kind, done = "REFUND", 0, r.Amount, r.RefundNumber, r.Refund, "ORIGINAL", "SUCCESS"
		}
		if r.Kind == wallet.BillRevoked {
			state, ours = "REVOKED", "0"
		}
		paid, back, fees = paid+order, back+refund, fees+r.Fee
		cells := []string{r.Time.In(calendar.Beijing).Format(time.DateTime), TestApp, TestMerchant, r.Merchant, r.Terminal, r.Number, r.Order, "oTEST", "MICROPAY", state, "OTHERS",
			money.Currency, order.String(), "0.00", number, ours, refund.String(), "0.00", kind, done, "POS", "", r.Fee.String() + "000", "0.20%", order.String(), refund.String(), ""}
		text.WriteString("`" + strings.Join(cells, ",`") + "\r\n")
	}
	fmt.Fprintf(&text, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n`%d,`%s,`%s,`0.00,`%s000,`%s,`%s\r\n",
		len(rows), paid, back, fees, paid, back)
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write([]byte(text.String())) // a bytes.Buffer takes everything
	_ = z.Close()
	return out.Bytes()
}
