package wallet

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"strings"
	"time"

	"acquirer/calendar"
)

// UnionPay is UnionPay's payer-shown code through its gateway (version 5.1.0):
// a form both ways, signed over the hexadecimal hash of the sorted parameters,
// with RSA or SM2. What its public pages leave open is our reading
// (docs/divergences.md).
type UnionPay struct {
	Merchant    string // merId
	Certificate string // certId: the serial number of our certificate
	Sign        Signer // RSA or SM2
}

func (*UnionPay) manners() manners {
	return manners{poll: 5 * time.Second, unknown: 5 * time.Second, billFrom: 10 * time.Hour}
}

// unionpayKinds are where a question goes and its txnType and txnSubType.
var unionpayKinds = map[verb][3]string{
	pay: {"/gateway/api/backTransReq.do", "01", "06"}, query: {"/gateway/api/queryTrans.do", "00", "00"}, cancel: {"/gateway/api/backTransReq.do", "99", "01"},
	refund: {"/gateway/api/backTransReq.do", "04", "00"}, refundQuery: {"/gateway/api/queryTrans.do", "00", "00"}, bill: {"/", "76", "01"},
}

const unionpayTime = "20060102150405"

// SignMethod is signMethod of a signature.
func SignMethod(kind string) string {
	if kind == SM2 {
		return "12" // with SM3: our reading
	}
	return "01"
}

func (x *UnionPay) ask(base string, q *question) (call, error) {
	if x.Sign.sign == nil || x.Merchant == "" {
		return call{}, errors.New("UnionPay QR needs a merchant number and keys")
	}
	kind := unionpayKinds[q.verb]
	made, back := q.Made.In(calendar.Beijing).Format(unionpayTime), q.refund.Made.In(calendar.Beijing).Format(unionpayTime)
	p := map[string]string{"version": "5.1.0", "encoding": "UTF-8", "signMethod": SignMethod(x.Sign.kind), "certId": x.Certificate, "bizType": "000000", "accessType": "0",
		"channelType": "08", "merId": x.Merchant, "subMerId": q.sub, "txnType": kind[1], "txnSubType": kind[2], "orderId": q.Number, "txnTime": made}
	switch q.verb {
	case pay:
		p["currencyCode"], p["txnAmt"], p["qrNo"], p["termId"], p["subMerAbbr"] = "156", fen(q.Amount), q.code.Reveal(), q.Terminal, named(q.name)
	case refund:
		p["orderId"], p["txnTime"], p["txnAmt"], p["currencyCode"] = q.refund.Number, back, fen(q.refund.Amount), "156"
		p["origOrderId"], p["origTxnTime"] = q.Number, made
	case refundQuery:
		p["orderId"], p["txnTime"] = q.refund.Number, back
	case bill:
		p["settleDate"], p["fileType"], p["txnTime"] = q.date.String()[5:7]+q.date.String()[8:], "00", q.at.In(calendar.Beijing).Format(unionpayTime)
		delete(p, "orderId")
	}
	maps.DeleteFunc(p, func(_, v string) bool { return v == "" })
	signature, err := x.Sign.Sign(SignedText(x.Sign, p))
	if err != nil {
		return call{}, err
	}
	p["signature"] = base64.StdEncoding.EncodeToString(signature)
	return call{url: base + kind[0], kind: "application/x-www-form-urlencoded; charset=UTF-8", body: form(p)}, nil
}

// SignedText is what UnionPay's version 5.1.0 signs: the hash of the sorted
// parameters in lower-case hexadecimal.
func SignedText(s Signer, p map[string]string) []byte {
	return []byte(hex.EncodeToString(s.Digest([]byte(Joined(p, "signature")))))
}

// unionpayCodes are respCode in our words.
var unionpayCodes = map[string]string{
	"10": BadRequest, "11": BadRequest, "12": OrderConflict, "13": BadRequest, "31": NotPermitted, "32": NotPermitted, "33": OverLimit, "34": NotPaid, "35": NotPaid,
	"36": OverRefund, "38": NotPermitted, "61": CodeInvalid, "62": NotPermitted, "63": NotPermitted, "64": NotEnough, "65": BuyerRefused, "67": BuyerRefused, "68": NotPermitted,
	"69": CodeExpired,
}

func (x *UnionPay) answer(q *question, body []byte) (Result, error) {
	p, err := x.trust(body)
	if err != nil {
		return Result{}, err
	}
	number := q.Number
	if q.verb == refund || q.verb == refundQuery {
		number = q.refund.Number
	}
	if p["orderId"] != number {
		return Result{}, errors.New("it is about another order")
	}
	if kind := p["txnType"]; kind != "" && kind != unionpayKinds[q.verb][1] {
		return Result{}, errors.New("it answers another question: txnType " + cut(kind))
	}
	code, words := p["respCode"], cut(p["respCode"]+" "+p["respMsg"])
	if q.verb == query || q.verb == refundQuery {
		if code == "00" { // the query went well; what it is about is in origRespCode
			return x.state(q, p)
		}
		if code == "34" && q.verb == query {
			return Result{State: NoOrder}, nil
		}
	}
	switch {
	case code == "03" || code == "04" || code == "06" || code == "02" || q.verb != pay && code == "05":
		return Result{}, &said{Undecided, words}
	case code == "05":
		return Result{State: BuyerPaying}, nil
	case code == "34" && q.verb == cancel:
		return Result{State: NoOrder}, nil
	case code == "34" && q.verb == refundQuery:
		return Result{}, &said{Undecided, words}
	case code == "00":
		return x.done(q, p)
	case q.verb == pay && code == "35":
		return Result{State: Closed}, nil
	case q.verb == pay || q.verb == refund:
		return failed(unionpayCodes, code, words), nil
	}
	return Result{}, &said{Refused, words}
}

func (x *UnionPay) trust(body []byte) (map[string]string, error) {
	v, err := url.ParseQuery(string(body))
	if err != nil || len(v) == 0 {
		return nil, errors.New("it is not the form that was expected")
	}
	p := map[string]string{}
	for k, values := range v {
		if len(values) != 1 {
			return nil, fmt.Errorf("it has %.32q twice", k)
		}
		p[k] = values[0]
	}
	sig, err := base64.StdEncoding.DecodeString(p["signature"])
	if err != nil || !x.Sign.Verify(SignedText(x.Sign, p), sig) {
		return nil, errors.New("its signature is missing or wrong; compare the keys of both sides")
	}
	if p["merId"] != x.Merchant {
		return nil, errors.New("it is for another merchant number")
	}
	return p, nil
}

// done is an answer with respCode 00.
func (x *UnionPay) done(q *question, p map[string]string) (Result, error) {
	r := Result{Transaction: p["queryId"]}
	var err error
	switch q.verb {
	case pay:
		r.State = Paid
		if r.Amount, err = fenOf(p["txnAmt"]); err == nil && r.Transaction == "" {
			err = errors.New("a payment without a number")
		}
	case cancel: // origRespCode says what the order was
		if r.State = Closed; p["origRespCode"] == "00" {
			r.State = Refunded
		}
	case refund: // taken over: Unknown until it is asked for
		if p["txnAmt"] != fen(q.refund.Amount) {
			err = errors.New("it is about another refund")
		}
	}
	return r, err
}

// state reads a query that went well.
func (x *UnionPay) state(q *question, p map[string]string) (Result, error) {
	r := Result{Transaction: p["queryId"]}
	code, words := p["origRespCode"], cut(p["origRespCode"]+" "+p["origRespMsg"])
	var err error
	switch {
	case code == "00" && q.verb == refundQuery:
		if r.State = Refunded; p["txnAmt"] != fen(q.refund.Amount) {
			err = errors.New("it is about another refund")
		}
	case code == "00":
		r.State = Paid
		if r.Amount, err = fenOf(p["txnAmt"]); err == nil && r.Transaction == "" {
			err = errors.New("a payment without a number")
		}
	case code == "05" && q.verb == query:
		r.State = BuyerPaying
	case code == "03" || code == "04" || code == "05" || code == "06":
		return Result{}, &said{Undecided, words}
	case code == "35": // reversed: paid before, when there is a sum to settle
		if r.State = Closed; p["settleAmt"] != "" && p["settleAmt"] != "0" {
			r.State = Refunded
		}
	case code == "":
		err = errors.New("it has no origRespCode")
	default:
		return failed(unionpayCodes, code, words), nil
	}
	return r, err
}

// bill fetches the file: base64 of zlib in fileContent.
func (x *UnionPay) bill(ctx context.Context, w *Wallet, q *question, to io.Writer) error {
	body, err := w.exchange(ctx, q, w.cfg.Timeout+time.Minute, maxUnionPayBill)
	if err != nil {
		return err
	}
	p, err := x.trust(body)
	if err != nil {
		return w.billError(err)
	}
	words := cut(p["respCode"] + " " + p["respMsg"])
	switch p["respCode"] {
	case "00":
	case "98":
		return ErrNoBill
	case "02", "03", "04", "05", "06":
		return w.billError(&said{Undecided, words})
	default:
		return w.billError(&said{Refused, words})
	}
	packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(p["fileContent"], " ", "+"))
	if err != nil {
		return w.billError(errors.New("fileContent is not base64"))
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return w.billError(errors.New("fileContent is not packed with zlib"))
	}
	return w.copy(ctx, to, z)
}

const maxUnionPayBill = 64 << 20 // bytes of the form that the file comes in
