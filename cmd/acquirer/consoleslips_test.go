package main

import (
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"acquirer/journal"
	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/spec/jbig"
)

// request asks the console and returns what it says, whatever that is.
func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// The receipts of what a terminal did, signature and all; and how its batch
// was settled after it had forgotten half of it.
func TestReceiptsAndBatches(t *testing.T) {
	signature := jbig.New(128, 64)
	for i := range 60 {
		signature.SetBlack(20+i, 10+i*i/80, true)
		signature.SetBlack(21+i, 10+i*i/80, true)
	}
	file := filepath.Join(t.TempDir(), "signature.jbg")
	if err := os.WriteFile(file, jbig.Encode(signature, jbig.Options{}), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDemo(t)
	tid, mid := simcard.SeedTerminal(30)
	number := simcard.Issuers[0].PAN(4321).Reveal()
	at := func(stan int, actions ...string) []done {
		t.Helper()
		_, stdout, stderr := runs(t, append([]string{"simulate", "terminal", "--addr", d.terminal, "--tid", tid, "--mid", mid, "--card", "north:4321", "--json",
			"--batch", "77", "--stan", strconv.Itoa(stan)}, actions...)...)
		var all []done
		for line := range strings.Lines(stdout) {
			var x done
			if err := json.Unmarshal([]byte(line), &x); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, x)
		}
		if len(all) != len(actions)+1 { // and the sign-in
			t.Fatalf("%s%s", stdout, stderr)
		}
		return all[1:]
	}
	did := at(1, "sale 77.07 chip as a", "sign "+file+" a", "refund a 20.00", "sale 12.00 contactless nopin", "sale 100.00 chip as c", "tip c 8.00",
		"preauth 500.00 chip as room", "completion room 432.10", "sale 30.00 chip as v", "void v", "sale 12.51 chip", "balance chip", "qr 15.00 wechat:1 as q", "qr_refund q 5.00")
	sale, refund, tap, tipped, tip, preAuth, completion, voided, void, declined, balance, qr, back := did[0], did[2], did[3], did[4], did[5], did[6], did[7], did[8], did[9], did[10], did[11], did[12], did[13]
	for i, x := range did {
		if x.Approved != (i != 10) {
			t.Fatalf("%+v", x)
		}
	}
	id := func(x done) int64 {
		n, err := strconv.ParseInt(x.RRN, 36, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	link := func(x done) string { return fmt.Sprintf(`href="/transactions/%d"`, id(x)) }
	look := func(x done, page string, want int, texts ...string) string {
		t.Helper()
		status, body := request(t, "GET", fmt.Sprintf("%stransactions/%d%s", d.console, id(x), page))
		if status != want {
			t.Errorf("%s%s: status %d, want %d", x.Action, page, status, want)
		}
		for _, text := range append(texts, "") {
			if !strings.Contains(body, text) {
				t.Errorf("%s%s: %q is missing: %s", x.Action, page, text, body)
			}
		}
		if strings.Contains(body, number) {
			t.Errorf("%s%s shows the account number", x.Action, page)
		}
		return body
	}

	look(sale, "/receipt", 200, "签购单", "测试商户", mid, tid, simcard.Issuers[0].PAN(4321).Masked(), "north", "银联", "插卡", "消费", "000077", fmt.Sprintf("%06d", sale.STAN),
		sale.RRN, sale.AuthCode, "¥77.07", "交易特征码", fmt.Sprintf(`/transactions/%d/signature.png"`, id(sale)), "持卡人签名")
	look(refund, "/receipt", 200, "退货", "¥20.00", "原参考号", sale.RRN, sale.AuthCode, "未签名")
	if body := look(tap, "/receipt", 200, "挥卡", "免密免签"); strings.Contains(body, "持卡人签名") {
		t.Error("a tap below the limits is to be signed")
	}
	look(tip, "/receipt", 200, "小费", "¥8.00", "原金额", "¥100.00", "合计", "¥108.00", tipped.RRN)
	look(completion, "/receipt", 200, "预授权完成", "¥432.10", preAuth.RRN)
	look(void, "/receipt", 200, "消费撤销", voided.RRN)
	look(voided, "/receipt", 200, "消费", "¥30.00")
	if body := look(qr, "/receipt", 200, "扫码消费", "微信支付", "付款码", "扫码", "¥15.00"); strings.Contains(body, "持卡人签名") || strings.Contains(body, "卡组织") {
		t.Error("a payment by code has a receipt like a card's")
	}
	look(back, "/receipt", 200, "扫码退货", "¥5.00", qr.RRN)
	look(qr, "", 200, link(back), "¥10.00")
	look(declined, "/receipt", 404, "未获批准", link(declined))
	look(balance, "/receipt", 404, "不打印签购单")
	look(refund, "/signature.png", 404)
	look(sale, "", 200, fmt.Sprintf(`href="/transactions/%d/receipt"`, id(sale)), link(refund), "退货", "剩余金额", "¥57.07")
	look(refund, "", 200, link(sale), "原交易")
	look(tipped, "", 200, link(tip), "小费", "¥108.00")
	look(preAuth, "", 200, link(completion))
	look(completion, "", 200, link(preAuth))
	look(voided, "", 200, link(void), "剩余金额", "¥0.00")
	if body := look(declined, "", 200); strings.Contains(body, "/receipt") {
		t.Error("a declined sale leads to a receipt")
	}
	picture, err := png.Decode(strings.NewReader(look(sale, "/signature.png", 200)))
	if err != nil {
		t.Fatal(err)
	}
	for y := range 64 {
		for x := range 128 {
			if r, _, _, _ := picture.At(x, y).RGBA(); (r == 0) != signature.Black(x, y) {
				t.Fatalf("pixel %d, %d of the signature is another", x, y)
			}
		}
	}

	// A terminal that knows of its last sale alone settles.
	settles := at(200, "sale 20.00 chip", "settle")
	if s := settles[1].Settled; s == nil || s.Domestic != 2 || s.Foreign != 1 {
		t.Fatalf("%+v", settles[1])
	}
	_, body := request(t, "GET", d.console+"batches")
	for _, text := range []string{"终端批结算", tid, "批次 000077", "不平", "¥20.00", "已上送 1 笔", "外卡 贷记", "流水有，终端未上送", "−¥"} {
		if !strings.Contains(body, text) {
			t.Errorf("%q is missing on the page of batches: %s", text, body)
		}
	}
	if strings.Contains(body, number) {
		t.Error("the page of batches shows the account number")
	}
	open := regexp.MustCompile(`action="/(batches/differences/\d+/resolve\?date=[0-9-]+)"`).FindAllStringSubmatch(body, -1)
	if len(open) == 0 {
		t.Fatalf("no difference is open: %s", body)
	}
	if status, body := request(t, "POST", d.console+open[0][1]); status != http.StatusSeeOther {
		t.Errorf("resolving: status %d: %s", status, body)
	}
	if _, body := request(t, "GET", d.console+"batches"); strings.Contains(body, open[0][1]) || strings.Count(body, "/resolve?") != len(open)-1 {
		t.Errorf("what is resolved is still open: %s", body)
	}
	if status, _ := request(t, "POST", d.console+"batches/differences/1/resolve"); status != http.StatusNotFound {
		t.Errorf("resolving what is not there: status %d", status)
	}
	if status := d.stop(); status != 0 {
		t.Errorf("the demo stopped with status %d: %s", status, d.stderr.String())
	}
}

func TestTypeOfATransaction(t *testing.T) {
	for want, x := range map[string]journal.Transaction{
		"sale":              {Key: journal.Key{Kind: journal.Sale}, Channel: journal.Credit},
		"qr_sale":           {Key: journal.Key{Kind: journal.Sale}, Channel: journal.QR},
		"void":              {Key: journal.Key{Kind: journal.Void}, ProcessingCode: 200000},
		"qr_void":           {Key: journal.Key{Kind: journal.Void}, Channel: journal.QR},
		"ecash_load_void":   {Key: journal.Key{Kind: journal.Void}, ProcessingCode: 170000},
		"refund":            {Key: journal.Key{Kind: journal.Refund}},
		"qr_refund":         {Key: journal.Key{Kind: journal.Refund}, Channel: journal.QR},
		"preauth":           {Key: journal.Key{Kind: journal.PreAuth}},
		"preauth_void":      {Key: journal.Key{Kind: journal.PreAuthVoid}},
		"completion":        {Key: journal.Key{Kind: journal.Completion}, MTI: 0x0200},
		"completion_notice": {Key: journal.Key{Kind: journal.Completion}, MTI: 0x0220},
		"completion_void":   {Key: journal.Key{Kind: journal.CompletionVoid}},
		"balance":           {Key: journal.Key{Kind: journal.Inquiry}, ProcessingCode: 310000},
		"topup_check":       {Key: journal.Key{Kind: journal.Inquiry}, ProcessingCode: 330000},
		"offline_sale":      {Key: journal.Key{Kind: journal.OfflineSale}, MTI: 0x0220, EntryMode: 12},
		"chip_offline_sale": {Key: journal.Key{Kind: journal.OfflineSale}, MTI: 0x0220, EntryMode: 52},
		"tip":               {Key: journal.Key{Kind: journal.Adjustment}, Amount: 100},
		"adjust":            {Key: journal.Key{Kind: journal.Adjustment}, Amount: -100},
		"ecash_load":        {Key: journal.Key{Kind: journal.Load}, ProcessingCode: 600000, EntryMode: 51},
		"ecash_load_other":  {Key: journal.Key{Kind: journal.Load}, ProcessingCode: 620000, EntryMode: 51},
		"ecash_cash_load":   {Key: journal.Key{Kind: journal.Load}, ProcessingCode: 630000, EntryMode: 52},
		"topup_cash":        {Key: journal.Key{Kind: journal.Load}, ProcessingCode: 630000, EntryMode: 22},
		"topup_account":     {Key: journal.Key{Kind: journal.Load}, ProcessingCode: 400000, EntryMode: 21},
		"purse_load":        {Key: journal.Key{Kind: journal.Load}, ProcessingCode: 100000},
		"script_result":     {Key: journal.Key{Kind: journal.ScriptResult}, MTI: 0x0620},
		"none":              {},
	} {
		if got := typeOf(&x); got != want {
			t.Errorf("%v: %s, want %s", x.Kind, got, want)
		}
	}
	if got := typeOf(&journal.Transaction{Key: journal.Key{Kind: journal.OfflineSale}, MTI: 0x0200, EntryMode: 22}); got != "chip_offline_sale" {
		t.Errorf("an offline sale told as 0200: %s", got)
	}
}

func TestEntryOfATransaction(t *testing.T) {
	for mode, want := range map[int32]string{12: "keyed", 21: "stripe", 32: "code", 42: "code", 51: "chip", 52: "chip", 72: "contactless", 801: "fallback",
		912: "contactless", 922: "remote", 961: "contactless", 982: "contactless", 992: "DE 22 992"} {
		if got := entryOf(&journal.Transaction{EntryMode: mode}); got != want {
			t.Errorf("%03d: %s, want %s", mode, got, want)
		}
	}
}

// Every difference that a terminal's batch may show is said in both languages.
func TestDifferencesInWords(t *testing.T) {
	h := consoleHouse{v: openForReading(t, "sqlite:"+filepath.Join(t.TempDir(), "empty.db"))}
	for _, what := range journal.Differences {
		d := h.difference(&journal.Uploaded{What: what, Amount: 3, STAN: 7, Batch: 9, Form: "201"})
		if d.What.ZH == "" || d.What.EN == "" {
			t.Errorf("%q is not said in both languages", what)
		}
		records, amount := 0, money.Amount(3)
		if what == journal.OtherCount {
			records, amount = 3, 0
		}
		if d.Records != records || d.Amount != amount || d.Voucher != "000007" || d.Batch != "000009" {
			t.Errorf("%q: %+v", what, d)
		}
	}
	for form, want := range map[string]string{"": "批结", "201": "磁条明细", "203": "IC 卡证书", "205": "IC 卡证书", "204": "IC 卡失败交易", "206": "IC 卡失败交易", "30": "通知 30"} {
		if got := uploadOf(form).ZH; got != want {
			t.Errorf("upload %q: %s, want %s", form, got, want)
		}
	}
}
