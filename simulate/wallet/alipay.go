package simwallet

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing/wallet"
)

// alipay is Alipay's gateway from its side.
type alipay struct{ sign wallet.Signer }

var alipayVerbs = map[string]string{"alipay.trade.pay": "pay", "alipay.trade.query": "query", "alipay.trade.cancel": "cancel", "alipay.trade.refund": "refund",
	"alipay.trade.fastpay.refund.query": "refundquery", "alipay.data.dataservice.bill.downloadurl.query": "bill"}

func (t *alipay) hear(r *http.Request, body []byte) (*question, []byte) {
	v, err := url.ParseQuery(string(body))
	p := map[string]string{}
	for k := range v {
		p[k] = v.Get(k)
	}
	refuse := func(sub string) (*question, []byte) {
		return nil, t.seal(p["method"], map[string]any{"code": "40002", "msg": "Invalid Arguments", "sub_code": sub}, false)
	}
	sig, sigErr := base64.StdEncoding.DecodeString(p["sign"])
	verb := alipayVerbs[p["method"]]
	at, timeErr := time.ParseInLocation(time.DateTime, p["timestamp"], calendar.Beijing)
	switch {
	case err != nil || r.PathValue("question") != "gateway.do" && r.PathValue("question") != "" || verb == "":
		return refuse("isv.invalid-method")
	case p["sign_type"] != "RSA2" || p["charset"] != "utf-8" || sigErr != nil || !t.sign.Verify([]byte(wallet.Joined(p, "sign")), sig):
		return refuse("isv.invalid-signature")
	case p["app_id"] == "" || timeErr != nil:
		return refuse("isv.missing-app-id")
	}
	var b struct {
		Order    string `json:"out_trade_no"`
		Scene    string `json:"scene"`
		Code     string `json:"auth_code"`
		Subject  string `json:"subject"`
		Total    string `json:"total_amount"`
		Store    string `json:"store_id"`
		Terminal string `json:"terminal_id"`
		Refund   string `json:"refund_amount"`
		RefundNo string `json:"out_request_no"`
		Type     string `json:"bill_type"`
		Date     string `json:"bill_date"`
	}
	if err := json.Unmarshal([]byte(p["biz_content"]), &b); err != nil {
		return refuse("isv.invalid-parameter")
	}
	q := &question{verb: verb, order: b.Order, refund: b.RefundNo, code: b.Code, merchant: b.Store, terminal: b.Terminal, name: b.Subject, at: at, echo: p}
	amount := b.Total
	if verb == "refund" {
		amount = b.Refund
	}
	if amount != "" {
		if q.amount, err = money.Parse(amount); err != nil {
			return refuse("isv.invalid-parameter")
		}
	}
	if verb == "pay" && b.Scene != "bar_code" {
		return refuse("isv.invalid-parameter")
	}
	if verb == "bill" {
		day, err := time.Parse(time.DateOnly, b.Date)
		if err != nil || b.Type != "trade" {
			return refuse("isv.invalid-parameter")
		}
		q.date = calendar.NewDate(day.Date())
		p["host"] = r.Host
	}
	return q, nil
}

// seal signs the node of a method, over its bytes.
func (t *alipay) seal(method string, node map[string]any, forged bool) []byte {
	text, err := json.Marshal(node)
	if err != nil {
		panic(fmt.Sprintf("simwallet: %v", err)) // strings only
	}
	sig, err := t.sign.Sign(text)
	if err != nil {
		panic(fmt.Sprintf("simwallet: %v", err))
	}
	if forged {
		sig[0] ^= 1
	}
	return fmt.Appendf(nil, `{"%s_response":%s,"sign":"%s"}`, strings.ReplaceAll(method, ".", "_"), text, base64.StdEncoding.EncodeToString(sig))
}

// alipayErrors are our words as Alipay's sub_code.
var alipayErrors = map[string]string{wallet.NotEnough: "ACQ.BUYER_BALANCE_NOT_ENOUGH", wallet.BuyerRefused: "ACQ.PAYMENT_FAIL", wallet.NotPermitted: "ACQ.BUYER_ENABLE_STATUS_FORBID",
	wallet.OverLimit: "ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR", wallet.CodeInvalid: "ACQ.PAYMENT_AUTH_CODE_INVALID", wallet.CodeExpired: "ACQ.PAYMENT_AUTH_CODE_INVALID", wallet.OrderConflict: "ACQ.CONTEXT_INCONSISTENT", wallet.BadRequest: "ACQ.INVALID_PARAMETER",
	wallet.NotPaid: "ACQ.TRADE_STATUS_ERROR", wallet.OverRefund: "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", TooLate: "ACQ.TRADE_CANCEL_TIME_OUT"}

func (t *alipay) say(q *question, a *reply, forged bool) []byte {
	o := &a.order
	node := map[string]any{"code": "10000", "msg": "Success"}
	no := func(code, sub string) { node["code"], node["msg"], node["sub_code"] = code, "Business Failed", sub }
	paid := func() {
		node["out_trade_no"], node["trade_no"], node["total_amount"], node["buyer_logon_id"] = o.Number, o.Transaction, o.Amount.String(), "138****0000"
		if !o.PaidAt.IsZero() {
			node["receipt_amount"], node["send_pay_date"] = o.Amount.String(), o.PaidAt.In(calendar.Beijing).Format(time.DateTime)
		}
	}
	switch state := a.state; {
	case state == "REFUSED" || state == "FAILED" && q.verb != "query" && q.verb != "cancel":
		no("40004", alipayErrors[a.code])
	case state == "UNKNOWN":
		no("20000", "ACQ.SYSTEM_ERROR")
		if q.verb == "cancel" {
			node["retry_flag"] = "Y"
		}
	case q.verb == "bill" && state == "NO_ORDER":
		no("40004", "BILL_NOT_EXIST")
	case q.verb == "bill":
		node["bill_download_url"] = t.billURL(q)
	case q.verb == "cancel":
		node["out_trade_no"], node["retry_flag"] = q.order, "N"
		switch state {
		case "NO_ORDER":
		case "REFUNDED":
			node["trade_no"], node["action"] = o.Transaction, "refund"
		default:
			node["trade_no"], node["action"] = o.Transaction, "close"
		}
	case state == "NO_ORDER":
		no("40004", "ACQ.TRADE_NOT_EXIST")
	case q.verb == "pay" && state == "PAYING":
		no("10003", "")
		node["out_trade_no"], node["trade_no"] = o.Number, o.Transaction
	case q.verb == "pay" && state == "PAID":
		paid()
		node["gmt_payment"] = node["send_pay_date"]
	case q.verb == "pay":
		no("40004", "ACQ.TRADE_HAS_CLOSE")
	case q.verb == "query":
		paid()
		node["trade_status"] = map[State]string{Paying: "WAIT_BUYER_PAY", Paid: "TRADE_SUCCESS"}[o.State]
		if node["trade_status"] == "" {
			node["trade_status"] = "TRADE_CLOSED"
		}
	case q.verb == "refund":
		node["out_trade_no"], node["trade_no"], node["refund_fee"], node["fund_change"] = o.Number, o.Transaction, o.Refunded.String(), "Y"
		if a.another {
			node["fund_change"] = "N"
		}
	case q.verb == "refundquery" && state == "RETURNED":
		node["out_trade_no"], node["trade_no"], node["out_request_no"] = o.Number, o.Transaction, a.refund.ID
		node["refund_amount"], node["refund_status"] = a.refund.Amount.String(), "REFUND_SUCCESS"
	}
	return t.seal(q.echo["method"], node, forged)
}

// billURL is where a bill can be fetched, signed so that nobody else does.
func (t *alipay) billURL(q *question) string {
	sig, err := t.sign.Sign([]byte("bill " + q.date.String()))
	if err != nil {
		panic(fmt.Sprintf("simwallet: %v", err))
	}
	return "http://" + q.echo["host"] + "/alipay/bill?date=" + q.date.String() + "&sign=" + url.QueryEscape(base64.StdEncoding.EncodeToString(sig[:32]))
}

const alipayHeader = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）," +
	"支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注\r\n"

// daily writes the zip with the lines and a summary, in GBK.
func (t *alipay) daily(date calendar.Date, rows []wallet.BillRecord) []byte {
	var text strings.Builder
	chinese := func(d calendar.Date) string { return d.Time().Format("2006年01月02日 15:04:05") }
	fmt.Fprintf(&text, "#支付宝业务明细查询\r\n#账号：[20880000000000000156]\r\n#起始日期：[%s]   终止日期：[%s]\r\n", chinese(date), chinese(date.AddDays(1)))
	rule := strings.Repeat("-", 41)
	text.WriteString("#" + rule + "业务明细列表" + rule + "\r\n" + alipayHeader)
	var paid, back money.Amount
	pays, backs := 0, 0
	for _, r := range rows {
		kind, amount, ours := "交易", r.Amount, ""
		if r.Kind == wallet.BillPay {
			paid, pays = paid+amount, pays+1
		} else {
			kind, amount, ours = "退款", -r.Amount, r.Refund
			back, backs = back+amount, backs+1
		}
		when := r.Time.In(calendar.Beijing).Format(time.DateTime)
		fmt.Fprintf(&text, "%s\t,%s\t,%s\t,POS,%s,%s,%s\t,\t,\t,%s\t,*测(138****0000)\t,%s,%s,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,%s\t,%s,0.00,\r\n",
			r.Number, r.Order, kind, when, when, r.Merchant, r.Terminal, amount, amount, ours, r.Fee)
	}
	fmt.Fprintf(&text, "#%s业务明细列表结束%s\r\n#交易合计：%d笔，商家实收共%s元，商家优惠共0.00元\r\n#退款合计：%d笔，商家实收退款共%s元，商家优惠退款共0.00元\r\n#导出时间：[%s]\r\n",
		rule, rule, pays, paid, backs, back, chinese(date.AddDays(1)))
	name := "20880000000000000156_" + strings.ReplaceAll(date.String(), "-", "")
	return zipGBK([2]string{name + "_业务明细(汇总).csv", "#支付宝业务汇总查询\r\n"}, [2]string{name + "_业务明细.csv", text.String()})
}

// zipGBK packs files whose names and texts are GBK, as Alipay does.
func zipGBK(files ...[2]string) []byte {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		name, text := gbk(f[0]), gbk(f[1])
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, NonUTF8: true, Method: zip.Deflate})
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			panic(fmt.Sprintf("simwallet: %v", err)) // a bytes.Buffer takes everything
		}
	}
	if err := z.Close(); err != nil {
		panic(fmt.Sprintf("simwallet: %v", err))
	}
	return out.Bytes()
}

// gbk writes what GBK has not as a question mark.
func gbk(s string) string {
	out, err := simplifiedchinese.GBK.NewEncoder().String(s)
	if err == nil {
		return out
	}
	var b strings.Builder
	for _, r := range s {
		c, err := simplifiedchinese.GBK.NewEncoder().String(string(r))
		if err != nil {
			c = "?"
		}
		b.WriteString(c)
	}
	return b.String()
}
