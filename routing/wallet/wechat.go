package wallet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/money"
)

// WeChat is WeChat Pay's API v2 as a service provider speaks it: XML, signed
// with HMAC-SHA256 over the sorted parameters (docs/divergences.md).
type WeChat struct {
	App      string // appid
	Merchant string // mch_id
	Sign     HMAC
	Address  string // spbill_create_ip; 127.0.0.1
}

func (*WeChat) manners() manners {
	return manners{poll: 5 * time.Second, unknown: 5 * time.Second, cancelAfter: 15 * time.Second, billFrom: 10 * time.Hour}
}

var wechatPaths = map[verb]string{pay: "/pay/micropay", query: "/pay/orderquery", cancel: "/secapi/pay/reverse", refund: "/secapi/pay/refund",
	refundQuery: "/pay/refundquery", bill: "/pay/downloadbill"}

func (x *WeChat) ask(base string, q *question) (call, error) {
	if x.Sign == nil || x.App == "" || x.Merchant == "" {
		return call{}, errors.New("WeChat Pay needs an app, a merchant number and a key")
	}
	p := map[string]string{"appid": x.App, "mch_id": x.Merchant, "sub_mch_id": q.sub, "nonce_str": nonce(), "sign_type": "HMAC-SHA256"}
	switch q.verb {
	case bill:
		p["bill_date"], p["bill_type"], p["tar_type"] = strings.ReplaceAll(q.date.String(), "-", ""), "ALL", "GZIP"
	case pay:
		address := x.Address
		if address == "" {
			address = "127.0.0.1"
		}
		p["body"], p["auth_code"], p["total_fee"], p["device_info"], p["spbill_create_ip"] = named(q.name), q.code.Reveal(), fen(q.Amount), q.Terminal, address
		p["fee_type"] = money.Currency
	case refund:
		p["out_refund_no"], p["total_fee"], p["refund_fee"], p["refund_fee_type"] = q.refund.Number, fen(q.Amount), fen(q.refund.Amount), money.Currency
	case refundQuery:
		p["out_refund_no"] = q.refund.Number
	}
	if q.verb != bill && (q.verb != refundQuery || q.refund.Number == "") {
		p["out_trade_no"] = q.Number
	}
	maps.DeleteFunc(p, func(_, v string) bool { return v == "" })
	p["sign"] = x.Sign(p)
	return call{url: base + wechatPaths[q.verb], kind: "text/xml; charset=utf-8", body: MarshalXML(p)}, nil
}

// wechatCodes are WeChat's err_code in our words.
var wechatCodes = map[string]string{
	"NOTENOUGH": NotEnough, "BUYER_MISMATCH": BuyerRefused, "NOAUTH": NotPermitted, "NOTSUPORTCARD": NotPermitted, "TRADE_ERROR": NotPermitted, "RULELIMIT": OverLimit,
	"AUTH_CODE_ERROR": CodeInvalid, "AUTH_CODE_INVALID": CodeInvalid, "AUTHCODEEXPIRE": CodeExpired, "OUT_TRADE_NO_USED": OrderConflict, "ORDERPAID": OrderConflict,
	"PARAM_ERROR": BadRequest, "LACK_PARAMS": BadRequest, "XML_FORMAT_ERROR": BadRequest, "POST_DATA_EMPTY": BadRequest, "NOT_UTF8": BadRequest, "INVALID_REQUEST": BadRequest,
	"SIGNERROR": BadRequest, "REQUIRE_POST_METHOD": BadRequest, "APPID_NOT_EXIST": BadRequest, "MCHID_NOT_EXIST": BadRequest, "APPID_MCHID_NOT_MATCH": BadRequest,
	"INVALID_TRANSACTIONID": NotPaid, "ORDERNOTEXIST": NotPaid, "TRADE_STATE_ERROR": NotPaid, "TRADE_OVERDUE": NotPaid, "REFUND_FEE_INVALID": OverRefund, "REFUND_FEE_MISMATCH": OrderConflict,
}

func (x *WeChat) answer(q *question, body []byte) (Result, error) {
	p, err := x.trust(body)
	if err != nil {
		return Result{}, err
	}
	if n := p["out_trade_no"]; n != "" && n != q.Number {
		return Result{}, errors.New("it is about another order")
	}
	code, words := p["err_code"], cut(p["err_code"]+" "+p["err_code_des"])
	if p["result_code"] != "SUCCESS" {
		return x.no(q, code, words, p)
	}
	r := Result{Transaction: p["transaction_id"]}
	switch q.verb {
	case pay:
		r.State = Paid
		r.Amount, err = fenOf(p["total_fee"])
	case query:
		r, err = x.state(p, r)
	case cancel:
		// Whether it had been paid, the answer does not say: Unknown.
		switch p["recall"] {
		case "N":
		case "Y":
			return Result{}, &said{Undecided, "recall: " + words}
		default:
			return Result{}, errors.New("it answers another question: no recall")
		}
	case refund:
		// Taken over: Unknown until the refund is asked for.
		if p["out_refund_no"] != q.refund.Number || p["refund_fee"] != fen(q.refund.Amount) {
			return Result{}, errors.New("it is about another refund")
		}
	case refundQuery:
		return x.refunded(q, p, r)
	}
	if err == nil && r.State == Paid && r.Transaction == "" {
		err = errors.New("a payment without a number")
	}
	return r, err
}

// trust reads an answer and verifies that it is signed and meant for us. What
// is only a return_code FAIL is not signed and proves nothing.
func (x *WeChat) trust(body []byte) (map[string]string, error) {
	p, err := ParseXML(body)
	if err != nil {
		return nil, err
	}
	if p["return_code"] != "SUCCESS" {
		return nil, fmt.Errorf("return_code %.10q: %s", p["return_code"], cut(p["return_msg"]))
	}
	if !hmac.Equal([]byte(p["sign"]), []byte(x.Sign(p))) {
		return nil, errors.New("its signature is missing or wrong; compare the keys of both sides")
	}
	if p["mch_id"] != x.Merchant || p["appid"] != x.App {
		return nil, errors.New("it is for another merchant number or app")
	}
	return p, nil
}

// no is an answer with result_code FAIL.
func (x *WeChat) no(q *question, code, words string, p map[string]string) (Result, error) {
	switch {
	case code == "SYSTEMERROR" || code == "BANKERROR" || code == "BIZERR_NEED_RETRY" || code == "FREQUENCY_LIMITED" || code == "ERROR" || p["recall"] == "Y":
		return Result{}, &said{Undecided, words}
	case code == "USERPAYING" && (q.verb == pay || q.verb == query):
		return Result{State: BuyerPaying}, nil
	case code == "USERPAYING":
		return Result{}, &said{Undecided, words}
	case code == "ORDERNOTEXIST" && q.verb != refund:
		return Result{State: NoOrder}, nil
	case code == "REFUNDNOTEXIST" && q.verb == refundQuery:
		if q.refund.Number != "" {
			return Result{}, &said{Undecided, words}
		}
		return Result{State: NoOrder}, nil
	case code == "ORDERREVERSED" || code == "ORDERCLOSED":
		if q.verb == pay || q.verb == cancel {
			return Result{State: Closed}, nil
		}
	case code == "ORDERPAID" && q.verb == pay:
		return Result{}, &said{Undecided, words} // the query has the amount
	}
	if q.verb == pay || q.verb == refund {
		return failed(wechatCodes, code, words), nil
	}
	return Result{}, &said{Refused, words}
}

func (x *WeChat) state(p map[string]string, r Result) (Result, error) {
	var err error
	switch state := p["trade_state"]; state {
	case "SUCCESS":
		r.State = Paid
		r.Amount, err = fenOf(p["total_fee"])
	case "REFUND":
		// Some of it went back, and only the refunds know how much. A payment
		// that somebody still waits for can only have gone back whole, by a
		// cancel; whoever refunds does not ask for states.
		r.State = Refunded
	case "REVOKED", "CLOSED":
		r.State = Closed
	case "USERPAYING", "NOTPAY", "ACCEPT":
		r.State = BuyerPaying
	case "PAYERROR":
		r = failed(wechatCodes, state, state+" "+p["trade_state_desc"])
	default:
		err = fmt.Errorf("trade_state %.20q is none that is known", state)
	}
	return r, err
}

// refunded reads a refundquery: of one refund, or whether anything went back.
func (x *WeChat) refunded(q *question, p map[string]string, r Result) (Result, error) {
	for n := 0; ; n++ {
		i := strconv.Itoa(n)
		status := p["refund_status_"+i]
		if status == "" {
			break
		}
		if q.refund.Number != "" && p["out_refund_no_"+i] != q.refund.Number {
			continue
		}
		switch status {
		case "SUCCESS", "PROCESSING":
			r.State = Refunded
		case "CHANGE": // the buyer's account cannot take it
			r = Result{State: Failed, Code: Stuck, Said: "CHANGE"}
		case "REFUNDCLOSE":
			r = Result{State: Failed, Code: Other, Said: "REFUNDCLOSE"}
		default:
			return Result{}, fmt.Errorf("refund_status %.20q is none that is known", status)
		}
		return r, nil
	}
	if q.refund.Number == "" {
		return Result{State: NoOrder}, nil
	}
	return Result{}, errors.New("it is about another refund")
}

func (x *WeChat) bill(ctx context.Context, w *Wallet, q *question, to io.Writer) error {
	c, err := x.ask(w.cfg.URL, q)
	if err != nil {
		return w.fail(false, Unsaid, err)
	}
	resp, err := w.send(ctx, ctx, http.MethodPost, c)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := bufio.NewReader(io.LimitReader(resp.Body, maxBill+1))
	if head, _ := body.Peek(4); string(head) == "<xml" {
		text, err := io.ReadAll(io.LimitReader(body, maxAnswer))
		if err != nil {
			return w.lost(ctx, ctx, true, err)
		}
		p, err := ParseXML(text)
		switch {
		case err != nil:
			return w.fail(true, Distrusted, err)
		case p["error_code"] == "20002" || strings.EqualFold(p["return_msg"], "No Bill Exist"):
			return ErrNoBill
		}
		return w.fail(true, Undecided, errors.New(cut(p["error_code"]+" "+p["return_msg"])))
	}
	return w.copy(ctx, to, body)
}

// MarshalXML writes the flat XML of WeChat Pay, <xml><name>value</name></xml>,
// sorted by name.
func MarshalXML(p map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("<xml>")
	for _, k := range slices.Sorted(maps.Keys(p)) {
		b.WriteString("<" + k + ">")
		_ = xml.EscapeText(&b, []byte(p[k])) // a bytes.Buffer takes everything
		b.WriteString("</" + k + ">")
	}
	b.WriteString("</xml>")
	return b.Bytes()
}

// ParseXML reads what MarshalXML and WeChat Pay write: one level below xml,
// each name once. Declarations of types and entities are refused.
func ParseXML(text []byte) (map[string]string, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	p := map[string]string{}
	var path []string
	var value strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(p) > 0 && len(path) == 0 {
			return p, nil
		}
		if err != nil {
			return nil, errors.New("it is not the XML that was expected")
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("it declares types or entities")
		case xml.StartElement:
			path = append(path, t.Name.Local)
			value.Reset()
			if len(path) > 2 || path[0] != "xml" {
				return nil, errors.New("its XML is not flat")
			}
		case xml.CharData:
			value.Write(t)
		case xml.EndElement:
			if len(path) == 2 {
				if _, twice := p[path[1]]; twice {
					return nil, fmt.Errorf("it has %.32q twice", path[1])
				}
				p[path[1]] = value.String()
			}
			path = path[:len(path)-1]
		}
	}
}
