package wallet

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"acquirer/calendar"
	"acquirer/routing"
)

const wechatHeader = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n"

const wechatBill = "\ufeff" + wechatHeader +
	"`2026-08-07 12:00:01,`wx1,`1900000001,`898110058120001,`11000001,`420001,`0ABC00000001,`o1,`MICROPAY,`SUCCESS,`OTHERS,`CNY,`23.00,`0.00,`0,`0,`0.00,`0.00,`,`,`面, 大碗,`,`0.04600,`0.20%,`23.00,`0.00,`\r\n" +
	"`2026-08-07 12:10:00,`wx1,`1900000001,`898110058120001,`11000001,`420001,`0ABC00000001,`o1,`MICROPAY,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`500001,`0ABC00000002,`10.00,`0.00,`ORIGINAL,`SUCCESS,`面, 大碗,`,`-0.02000,`0.20%,`0.00,`10.00,`\r\n" +
	"`2026-08-07 13:00:00,`wx1,`1900000001,`0,`,`420002,`0ABC00000003,`o1,`MICROPAY,`SUCCESS,`OTHERS,`CNY,`0.01,`0.00,`0,`0,`0,`0,`,`,`面,`,`0,`0.20%,`0.01,`0,`\r\n" +
	"`2026-08-07 13:00:20,`wx1,`1900000001,`0,`,`420002,`0ABC00000003,`o1,`MICROPAY,`REVOKED,`OTHERS,`CNY,`0.00,`0.00,`500002,`0,`0.01,`0.00,`ORIGINAL,`SUCCESS,`面,`,`0.00000,`0.20%,`0.00,`0.01,`\r\n" +
	"总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n" +
	"`4,`23.01,`10.01,`0.00,`0.02600,`23.01,`10.01\r\n"

// wechatOldBill has the columns of bills from before 2018.
const wechatOldBill = "交易时间,公众账号ID,商户号,子商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,总金额,代金券或立减优惠金额,微信退款单号,商户退款单号,退款金额,代金券或立减优惠退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率\n" +
	"`2016-11-10 16:33:45,`wx1,`10000100,`0,`1000,`1001,`1415,`o1,`MICROPAY,`SUCCESS,`CFT,`CNY,`0.01,`0.0,`0,`0,`0,`0,`,`,`被扫支付测试,`订单额外描述,`0,`0.60%\n" +
	"总交易单数,总交易额,总退款金额,总代金券或立减优惠退款金额,手续费总金额\n`1,`0.01,`0.0,`0.0,`0\n"

const alipayBill = "#支付宝业务明细查询\n#账号：[20881234567890120156]\n#起始日期：[2026年08月07日 00:00:00]   终止日期：[2026年08月08日 00:00:00]\n" +
	"#-----------------------------------------业务明细列表----------------------------------------\n" +
	"支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注\n" +
	"2026080722001\t,0ABC00000001\t,交易\t,\"面,大碗\",2026-08-07 12:00:00,2026-08-07 12:00:03,898110058120001\t,老王烧烤\t,\t,11000001\t,*三(138****1234)\t,24.00,24.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,\t,0.05,0.00,\n" +
	"2026080722001\t,0ABC00000001\t,退款\t,面,2026-08-07 12:00:00,2026-08-07 12:30:00,898110058120001\t,老王烧烤\t,\t,11000001\t,*三(138****1234)\t,-10.00,-10.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,0ABC00000002\t,-0.02,0.00,\n" +
	"2026080722002\t,0ABC00000003\t,交易\t,面,2026-08-07 13:00:00,2026-08-07 13:00:03,\t,\t,\t,\t,*三(138****1234)\t,1.00,1.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,\t,0.00,0.00,\n" +
	"2026080722002\t,0ABC00000003\t,退款\t,面,2026-08-07 13:00:00,2026-08-07 13:01:00,\t,\t,\t,\t,*三(138****1234)\t,-1.00,-1.00,0.00,0.00,0.00,0.00,0.00,,0.00\t,0.00,0ABC00000003\t,0.00,0.00,\n" +
	"#-----------------------------------------业务明细列表结束------------------------------------\n" +
	"#交易合计：2笔，商家实收共25.00元，商家优惠共0.00元\n#退款合计：2笔，商家实收退款共-11.00元，商家优惠退款共0.00元\n#导出时间：[2026年08月08日 03:48:32]\n"

const unionpayBill = "BILL|unionpay-qr|20260807\n" +
	"D|01|0ABC00000001||2026080712||20260807120000|898110058120001|11000001|2500|5\n" +
	"D|04|0ABC00000001|0ABC00000002|2026080712|2026080713|20260807130000|898110058120001|11000001|500|-1\n" +
	"D|99|0ABC00000003||2026080714|2026080715|20260807140000|898110058120001|11000001|100|0\n" +
	"T|3|2500|600|4\n"

// zipped packs an Alipay bill as it comes: names and text in GBK, the summary
// first.
func zipped(t testing.TB, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, member := range [][2]string{{"20881234567890120156_20260807_业务明细(汇总).csv", "#支付宝业务汇总查询\n"}, {"20881234567890120156_20260807_业务明细.csv", text}} {
		name, err := simplifiedchinese.GBK.NewEncoder().String(member[0])
		if err != nil {
			t.Fatal(err)
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, NonUTF8: true, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		body, err := simplifiedchinese.GBK.NewEncoder().String(member[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read takes a whole bill.
func read(wallet string, bill []byte) (records []BillRecord, err error) {
	return readOf(wallet, 0, bill)
}

// readOf takes a whole bill, which must be of a day.
func readOf(wallet string, day calendar.Date, bill []byte) (records []BillRecord, err error) {
	for r, e := range ReadBill(wallet, day, bytes.NewReader(bill), int64(len(bill))) {
		if e != nil {
			err = e
			continue
		}
		records = append(records, r)
	}
	return records, err
}

func at(t testing.TB, clock string) time.Time {
	t.Helper()
	v, err := time.ParseInLocation("15:04:05", clock, calendar.Beijing)
	if err != nil {
		t.Fatal(err)
	}
	return time.Date(2026, 8, 7, v.Hour(), v.Minute(), v.Second(), 0, calendar.Beijing)
}

func TestReadBill(t *testing.T) {
	const mid, tid = "898110058120001", "11000001"
	wechat := []BillRecord{
		{Line: 2, Kind: BillPay, Order: "0ABC00000001", Number: "420001", Time: at(t, "12:00:01"), Merchant: mid, Terminal: tid, Amount: 23_00, Fee: 5},
		{Line: 3, Kind: BillRefund, Order: "0ABC00000001", Refund: "0ABC00000002", Number: "420001", RefundNumber: "500001", Time: at(t, "12:10:00"), Merchant: mid, Terminal: tid, Amount: 10_00, Fee: -2},
		{Line: 4, Kind: BillPay, Order: "0ABC00000003", Number: "420002", Time: at(t, "13:00:00"), Amount: 1},
		{Line: 5, Kind: BillRevoked, Order: "0ABC00000003", Number: "420002", RefundNumber: "500002", Time: at(t, "13:00:20"), Amount: 1},
	}
	for what, c := range map[string]struct {
		wallet string
		bill   []byte
		want   []BillRecord
	}{
		"wechat":      {routing.WeChat, []byte(wechatBill), wechat},
		"wechat gzip": {routing.WeChat, gzipped(t, wechatBill), wechat},
		"wechat 2016": {routing.WeChat, []byte(wechatOldBill), []BillRecord{
			{Line: 2, Kind: BillPay, Order: "1415", Number: "1001", Time: time.Date(2016, 11, 10, 16, 33, 45, 0, calendar.Beijing), Terminal: "1000", Amount: 1}}},
		"wechat without orders": {routing.WeChat, []byte(wechatHeader + "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\n`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\n"), nil},
		"alipay": {routing.Alipay, zipped(t, alipayBill), []BillRecord{
			{Line: 6, Kind: BillPay, Order: "0ABC00000001", Number: "2026080722001", Time: at(t, "12:00:03"), Merchant: mid, Terminal: tid, Amount: 24_00, Fee: 5},
			{Line: 7, Kind: BillRefund, Order: "0ABC00000001", Refund: "0ABC00000002", Number: "2026080722001", Time: at(t, "12:30:00"), Merchant: mid, Terminal: tid, Amount: 10_00, Fee: -2},
			{Line: 8, Kind: BillPay, Order: "0ABC00000003", Number: "2026080722002", Time: at(t, "13:00:03"), Amount: 1_00},
			{Line: 9, Kind: BillRevoked, Order: "0ABC00000003", Number: "2026080722002", Time: at(t, "13:01:00"), Amount: 1_00},
		}},
		"unionpay": {routing.UnionPayQR, []byte(unionpayBill), []BillRecord{
			{Line: 2, Kind: BillPay, Order: "0ABC00000001", Number: "2026080712", Time: at(t, "12:00:00"), Merchant: mid, Terminal: tid, Amount: 25_00, Fee: 5},
			{Line: 3, Kind: BillRefund, Order: "0ABC00000001", Refund: "0ABC00000002", Number: "2026080712", RefundNumber: "2026080713", Time: at(t, "13:00:00"), Merchant: mid, Terminal: tid, Amount: 5_00, Fee: -1},
			{Line: 4, Kind: BillRevoked, Order: "0ABC00000003", Number: "2026080714", RefundNumber: "2026080715", Time: at(t, "14:00:00"), Merchant: mid, Terminal: tid, Amount: 1_00},
		}},
	} {
		got, err := read(c.wallet, c.bill)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %d records, %v", what, len(got), err)
			continue
		}
		for i, r := range got {
			c.want[i].Wallet = c.wallet
			if !r.Time.Equal(c.want[i].Time) {
				t.Errorf("%s: record %d is of %s", what, i, r.Time)
			}
			r.Time = c.want[i].Time
			if r != c.want[i] {
				t.Errorf("%s: %+v, want %+v", what, r, c.want[i])
			}
		}
	}
	n := 0
	for range ReadBill(routing.WeChat, 20260807, strings.NewReader(wechatBill), int64(len(wechatBill))) {
		if n++; n == 2 {
			break
		}
	}
	if _, err := read("paypal", nil); err == nil || n != 2 {
		t.Errorf("paypal: %v; %d records before the end", err, n)
	}
}

// A bill of another day than the one that is wanted is refused whole, by the
// time of a payment or the date in its head.
func TestBillOfAnotherDay(t *testing.T) {
	const day calendar.Date = 20260807
	empty := wechatHeader + "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\n`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\n"
	quiet := alipayBill[:strings.Index(alipayBill, "2026080722001")] + "#----业务明细列表结束----\n#交易合计：0笔，商家实收共0.00元，商家优惠共0.00元\n#退款合计：0笔，商家实收退款共0.00元，商家优惠退款共0.00元\n"
	for what, c := range map[string]struct {
		wallet string
		bill   []byte
		line   int // where another day is found; 0: such a bill says no day
	}{
		"wechat":           {routing.WeChat, []byte(wechatBill), 2},
		"wechat, empty":    {routing.WeChat, []byte(empty), 0},
		"alipay":           {routing.Alipay, zipped(t, alipayBill), 3},
		"alipay, empty":    {routing.Alipay, zipped(t, quiet), 3},
		"alipay, no head":  {routing.Alipay, zipped(t, strings.Replace(alipayBill, "#起始日期", "#期", 1)), 6},
		"alipay, bad head": {routing.Alipay, zipped(t, strings.Replace(alipayBill, "[2026年08", "[2026年13", 1)), 3},
		"unionpay":         {routing.UnionPayQR, []byte(unionpayBill), 1},
		"unionpay, empty":  {routing.UnionPayQR, []byte("BILL|unionpay-qr|20260807\nT|0|0|0|0\n"), 1},
		"unionpay, a line": {routing.UnionPayQR, []byte(strings.Replace(unionpayBill, "BILL|unionpay-qr|20260807", "BILL|unionpay-qr|20260808", 1)), 2},
	} {
		if _, err := readOf(c.wallet, day, c.bill); what != "alipay, bad head" && what != "unionpay, a line" && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, other := range []calendar.Date{day.AddDays(-1), day.AddDays(1)} {
			records, err := readOf(c.wallet, other, c.bill)
			var bad *BillError
			if c.line == 0 {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			if !errors.As(err, &bad) || len(records) != 0 || bad.Line != c.line && what != "unionpay, a line" {
				t.Errorf("%s wanted of %s: %d records, %v", what, other, len(records), err)
			}
		}
	}
	// Money that went back may bear its payment's time, but never a later day's.
	back := strings.Replace(wechatBill, "`2026-08-07 12:10:00", "`2026-08-06 12:10:00", 1)
	if got, err := readOf(routing.WeChat, day, []byte(back)); err != nil || len(got) != 4 {
		t.Errorf("a refund of yesterday's payment: %d records, %v", len(got), err)
	}
	back = strings.Replace(wechatBill, "`2026-08-07 12:10:00", "`2026-08-08 00:00:00", 1)
	if _, err := readOf(routing.WeChat, day, []byte(back)); err == nil {
		t.Error("a refund of tomorrow was taken")
	}
}

// A damaged bill yields its fault, where it is, and not one record.
func TestDamagedBill(t *testing.T) {
	for _, c := range []struct {
		wallet, old, new string
		line, column     int
		why              string
	}{
		{routing.WeChat, "手续费,", "费,", 1, 0, "手续费"},
		{routing.WeChat, "公众账号ID", "商户号", 1, 3, "twice"},
		{routing.WeChat, "`23.00,`0.00,`\r", "`23.0x,`0.00,`\r", 2, 25, "订单金额"},
		{routing.WeChat, "`23.00,`0.00,`\r", "`23.001,`0.00,`\r", 2, 25, "订单金额"},
		{routing.WeChat, "`23.00,`0.00,`\r", "`-23.00,`0.00,`\r", 2, 25, "below zero"},
		{routing.WeChat, "2026-08-07 12:00:01", "2026-08-07", 2, 1, "交易时间"},
		{routing.WeChat, "`MICROPAY,`SUCCESS", "`MICROPAY,`PAID", 2, 10, "交易状态"},
		{routing.WeChat, "`OTHERS,`CNY", "`OTHERS,`USD", 2, 12, "CNY"},
		{routing.WeChat, "`0.04600", "`0.046001", 2, 23, "手续费"},
		{routing.WeChat, "`0ABC00000001", "`", 2, 7, "商户订单号"},
		{routing.WeChat, "`0ABC00000001", "`" + strings.Repeat("x", 65), 2, 7, "商户订单号"},
		{routing.WeChat, "`0ABC00000002,`10.00", "`0,`10.00", 3, 16, "商户退款单号"},
		{routing.WeChat, "`CNY,`23.00,", "`CNY,", 2, 26, "cells"},
		{routing.WeChat, "`2026-08-07 12:10:00", "2026-08-07 12:10:00", 3, 1, "backtick"},
		{routing.WeChat, "`23.00,`0.00,`\r", "`23.01,`0.00,`\r", 7, 6, "total"},
		{routing.WeChat, "`4,`23.01", "`5,`23.01", 7, 1, "total"},
		{routing.WeChat, "`10.01\r\n", "`10.02\r\n", 7, 7, "total"},
		{routing.WeChat, "`0.02600", "`0.02601", 7, 5, "total"},
		{routing.WeChat, "`10.01\r\n", "`10.01\r\nmore\r\n", 8, 0, "follows"},
		{routing.WeChat, "总交易单数,", "总数,", 6, 1, "backtick"},
		{routing.Alipay, "服务费（元）", "费", 5, 0, "服务费"},
		{routing.Alipay, "交易\t,\"面", "交换\t,\"面", 6, 3, "交换"},
		{routing.Alipay, ",24.00,24.00", ",24.0.0,24.00", 6, 12, "订单金额"},
		{routing.Alipay, ",-10.00,-10.00", ",10.00,10.00", 7, 3, "退款"},
		{routing.Alipay, "\"面,大碗\"", "面,大碗", 6, 26, "cells"},
		{routing.Alipay, "#交易合计：2笔", "#交易合计：3笔", 11, 0, "totals"},
		{routing.Alipay, "共25.00元", "共25.01元", 11, 0, "totals"},
		{routing.Alipay, "共-11.00元", "共-10.00元", 12, 0, "totals"},
		{routing.Alipay, "#交易合计", "#合计", 11, 0, "totals"},
		{routing.Alipay, "#支付宝业务明细查询", "#支付宝", 0, 0, "none of the 2 files"},
		{routing.Alipay, "业务明细列表结束", "结束", 10, 0, "comment"},
		{routing.UnionPayQR, "BILL|", "X|", 1, 0, "BILL|"},
		{routing.UnionPayQR, "20260807\n", "20261307\n", 1, 3, "date"},
		{routing.UnionPayQR, "D|01", "D|02", 2, 2, "02"},
		{routing.UnionPayQR, "|2500|5\n", "|2500\n", 2, 10, "cells"},
		{routing.UnionPayQR, "|2500|5\n", "|25.00|5\n", 2, 10, "fen"},
		{routing.UnionPayQR, "|2500|5\n", "|-2500|5\n", 2, 10, "below"},
		{routing.UnionPayQR, "T|3|2500", "T|2|2500", 5, 2, "total"},
		{routing.UnionPayQR, "T|3|2500", "T|3|2501", 5, 3, "total"},
		{routing.UnionPayQR, "|600|4", "|600|5", 5, 5, "total"},
	} {
		text := map[string]string{routing.WeChat: wechatBill, routing.Alipay: alipayBill, routing.UnionPayQR: unionpayBill}[c.wallet]
		broken := strings.Replace(text, c.old, c.new, 1)
		if broken == text {
			t.Fatalf("%q stands not in the bill", c.old)
		}
		bill := []byte(broken)
		if c.wallet == routing.Alipay {
			bill = zipped(t, broken)
		}
		got, err := read(c.wallet, bill)
		var damage *BillError
		if !errors.As(err, &damage) || damage.Line != c.line || damage.Column != c.column || !strings.Contains(err.Error(), c.why) || len(got) != 0 {
			t.Errorf("%q for %q: %d records, %v; want line %d, column %d, %s", c.new, c.old, len(got), err, c.line, c.column, c.why)
		}
	}
}

// A bill that lost its end anywhere is refused whole, in every form it comes.
func TestTruncatedBill(t *testing.T) {
	packed := zipped(t, alipayBill)
	for _, c := range []struct {
		wallet string
		bill   []byte
		whole  int // from how many bytes on nothing is missing
	}{
		{routing.WeChat, []byte(wechatBill), len(wechatBill) - len("\r\n")}, {routing.WeChat, gzipped(t, wechatBill), len(gzipped(t, wechatBill))},
		{routing.Alipay, packed, len(packed)}, {routing.UnionPayQR, []byte(unionpayBill), len(unionpayBill) - 1},
	} {
		for n := range len(c.bill) {
			got, err := read(c.wallet, c.bill[:n])
			var damage *BillError
			if n < c.whole && (!errors.As(err, &damage) || len(got) != 0) || n >= c.whole && err != nil {
				t.Errorf("%s, %d of %d bytes: %d records, %v", c.wallet, n, len(c.bill), len(got), err)
			}
		}
	}
}

// Whatever a wallet sends as its bill, it is read or refused whole; what is
// read adds up.
func FuzzReadBill(f *testing.F) {
	for i, seed := range [][]byte{[]byte(wechatBill), gzipped(f, wechatBill), []byte(wechatOldBill), zipped(f, alipayBill), []byte(unionpayBill), []byte("`,`,`\n"), {}} {
		f.Add(uint8(i), seed)
	}
	f.Fuzz(func(t *testing.T, which uint8, bill []byte) {
		wallet := routing.Wallets[int(which)%len(routing.Wallets)]
		records, err := read(wallet, bill)
		var damage *BillError
		if err != nil {
			if !errors.As(err, &damage) || len(records) != 0 {
				t.Fatalf("%d records and %v", len(records), err)
			}
			return
		}
		for _, r := range records {
			if r.Amount < 0 || r.Order == "" || r.Number == "" || r.Kind < BillPay || r.Kind > BillRevoked || (r.Refund != "") != (r.Kind == BillRefund) || r.Line < 2 {
				t.Fatalf("impossible record %+v", r)
			}
		}
	})
}
