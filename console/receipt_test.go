package console

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/spec/jbig"
)

func TestReceiptSaysWhatWasDone(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	row := house.rows[0]
	answered := calendar.NewDate(2026, 2, 13).Time().Add(9*time.Hour + 5*time.Second)
	original := &ReceiptOriginal{Type: "sale", Date: calendar.NewDate(2026, 2, 12), Batch: "000008", Voucher: "000199", RRN: "604312000199", Approval: "T00199"}
	for _, c := range []struct {
		name        string
		change      func(*Receipt)
		wants, nots []string
	}{
		{"a sale to be signed", func(*Receipt) {},
			[]string{"2026/02/13 09:00:05", "sale", "000001", "000482", "604414000482", "217734", "62260F6E", "not signed", "Cardholder signature", row.Issuer + " 63010001", "48029900", "Clears on", "0213"},
			[]string{"Original", "no PIN and no signature", "signature.png", "Asked for", "Total"}},
		{"a signed one", func(r *Receipt) { r.Signing = SigningPicture }, []string{fmt.Sprintf(`src="/transactions/%d/signature.png"`, row.ID), "Cardholder signature"}, []string{"not signed"}},
		{"a tap below the limits", func(r *Receipt) { r.Signing, r.Entry, r.PIN = SigningWaived, "contactless", false },
			[]string{"contactless", "no PIN and no signature", "62260F6E"}, []string{"Cardholder signature", "not signed"}},
		{"a payment code", func(r *Receipt) {
			r.Signing, r.Entry, r.Issuer, r.Scheme, r.PAN, r.Type, r.Approval = SigningNone, "code", "wechat", "", "134567******4321", "qr_sale", ""
		}, []string{"WeChat Pay", "Payment code", "134567******4321", "scanned", "QR sale"}, []string{"Card no.", "Scheme", "Cardholder signature", "Auth. code"}},
		{"a void", func(r *Receipt) { r.Type, r.Original = "void", original },
			[]string{"void", "Original", "2026-02-12", "000008 / 000199", "604312000199", "T00199"}, []string{"Before", "Total"}},
		{"a tip", func(r *Receipt) {
			tipped := *original
			tipped.Before = 10_000
			r.Type, r.Original, r.Amount, r.Signing = "tip", &tipped, 1_500, SigningNone
		}, []string{"tip", "¥15.00", "Before", "¥100.00", "Total", "¥115.00"}, []string{"Cardholder signature"}},
		{"approved in part", func(r *Receipt) { r.Amount, r.Asked = 5_000, 8_000 }, []string{"¥50.00", "Asked for, approved in part", "¥80.00"}, nil},
		{"of a foreign card", func(r *Receipt) { r.Scheme, r.Clears, r.IssuerNo = "VIS", "", "" }, []string{"Visa"}, []string{"UnionPay", "Clears on"}},
		{"with a number that came clear", func(r *Receipt) { r.PAN = "6228480402564890018" }, []string{"622848*********0018"}, []string{"6228480402564890018"}},
		{"of a shop with a cunning name", func(r *Receipt) { r.Merchant = `<script>alert("老王")</script>` }, []string{"&lt;script&gt;"}, []string{"<script>alert"}},
	} {
		r := receipt(row)
		r.Answered = answered
		c.change(&r)
		house.mu.Lock()
		house.receipts[row.ID] = r
		house.mu.Unlock()
		res, body := ask(t, "GET", fmt.Sprintf("%s/transactions/%d/receipt", base, row.ID), inEnglish)
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", c.name, res.StatusCode)
		}
		_, slips, _ := strings.Cut(body, `class="slips"`)
		if n := strings.Count(slips, "<article"); n != 2 {
			t.Errorf("%s: %d copies, want 2", c.name, n)
		}
		has(t, c.name, slips, append(c.wants, "merchant copy", "cardholder copy", row.MID, row.TID)...)
		for _, not := range c.nots {
			if strings.Contains(slips, not) {
				t.Errorf("%s: %q is on the receipt", c.name, not)
			}
		}
		// The cardholder keeps a copy that nobody signs.
		if _, theirs, _ := strings.Cut(slips, "</article>"); containsAny(theirs, "Cardholder signature", "signature.png") || !strings.Contains(theirs, "keep this copy") {
			t.Errorf("%s: the cardholder's copy is to be signed: %s", c.name, theirs)
		}
	}
}

// What was not approved, or is not any more, has no receipt, and the page says
// why.
func TestNoReceipt(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	for _, c := range []struct {
		outcome Outcome
		kind    string
		zh, en  string
	}{
		{Declined, "sale", "未获批准", "was declined"},
		{Undecided, "sale", "还没有结果", "not decided yet"},
		{Reversing, "sale", "已冲正或正在冲正", "was taken back"},
		{Manual, "sale", "已冲正或正在冲正", "was taken back"},
		{Reversed, "sale", "已冲正或正在冲正", "was taken back"},
		{Approved, "balance", "不打印签购单", "Nothing is printed"},
	} {
		house.mu.Lock()
		house.rows[0].Outcome, house.rows[0].Type = c.outcome, c.kind
		house.mu.Unlock()
		path := fmt.Sprintf("%s/transactions/%d/receipt", base, house.rows[0].ID)
		for header, want := range map[string]string{"zh-CN": c.zh, "en": c.en} {
			res, body := ask(t, "GET", path, map[string]string{"Accept-Language": header})
			if back := fmt.Sprintf(`href="/transactions/%d"`, house.rows[0].ID); !strings.Contains(body, back) {
				t.Errorf("%s of a %s: %q is missing", c.outcome, c.kind, back)
			}
			if res.StatusCode != 404 || !strings.Contains(body, want) || strings.Contains(body, `class="slip"`) {
				t.Errorf("%s of a %s in %s: %d, %q is missing: %s", c.outcome, c.kind, header, res.StatusCode, want, body)
			}
		}
	}
	_, body := ask(t, "GET", fmt.Sprintf("%s/transactions/%d", base, house.rows[0].ID), inEnglish)
	if !strings.Contains(body, "/receipt") {
		t.Error("an approved transaction does not lead to its receipt")
	}
	for _, r := range house.rows {
		_, body := ask(t, "GET", fmt.Sprintf("%s/transactions/%d", base, r.ID), inEnglish)
		if got := strings.Contains(body, "/receipt"); got != (r.Outcome == Approved) {
			t.Errorf("the page of one that is %s leads to a receipt: %t", r.Outcome, got)
		}
	}
}

// The picture is the one that came, pixel by pixel.
func TestSignaturePicture(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	signed, broken := house.rows[0].ID, house.rows[1].ID
	house.signed[signed], house.signed[broken] = handwriting(), handwriting()[:40]
	address := func(id int64) string { return fmt.Sprintf("%s/transactions/%d/signature.png", base, id) }

	res, body := ask(t, "GET", address(signed), nil)
	if ct := res.Header.Get("Content-Type"); res.StatusCode != 200 || ct != "image/png" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d, %s, %s", res.StatusCode, ct, res.Header.Get("Cache-Control"))
	}
	got, err := png.Decode(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	want, err := jbig.Decode(handwriting())
	if err != nil {
		t.Fatal(err)
	}
	if got.Bounds() != want.Bounds() {
		t.Fatalf("the picture is %v, want %v", got.Bounds(), want.Bounds())
	}
	black := 0
	for y := range want.Bounds().Dy() {
		for x := range want.Bounds().Dx() {
			r, _, _, _ := got.At(x, y).RGBA()
			if (r == 0) != want.Black(x, y) {
				t.Fatalf("pixel %d, %d differs", x, y)
			}
			if r == 0 {
				black++
			}
		}
	}
	if black < 500 {
		t.Errorf("%d black pixels: nobody wrote that", black)
	}
	if bytes.Contains([]byte(body), handwriting()) {
		t.Error("the terminal's bytes came along")
	}

	if res, body := ask(t, "GET", address(broken), nil); res.StatusCode != 500 || !strings.Contains(body, "could not be drawn") {
		t.Errorf("a picture that ends early: %d, %.100s", res.StatusCode, body)
	}
	house.mu.Lock()
	house.fail = errors.New("hsm: it sleeps")
	house.mu.Unlock()
	if res, body := ask(t, "GET", address(signed), nil); res.StatusCode != 503 || strings.Contains(body, "sleeps") {
		t.Errorf("a house that does not answer: %d, %.100s", res.StatusCode, body)
	}
}

// A transaction's page leads to what it follows and what followed it, and says
// what is left.
func TestRelatedTransactions(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	d := detail(house.rows[0])
	refund, tip, sale := house.rows[1], house.rows[2], house.rows[3]
	refund.Type, tip.Type, sale.Type = "refund", "tip", "preauth"
	d.Related = []Related{{Original: true, Row: sale}, {Row: tip}, {Row: refund}}
	left := d.Amount - 100
	d.Left = &left
	show := func() {
		house.mu.Lock()
		defer house.mu.Unlock()
		house.details[d.ID] = d
	}
	show()
	_, body := ask(t, "GET", fmt.Sprintf("%s/transactions/%d", base, d.ID), inEnglish)
	_, table, _ := strings.Cut(body, `class="related"`)
	table, _, _ = strings.Cut(table, "</section>")
	has(t, "related", table, "pre-authorisation", "original", "followed", "refund", "tip", "Left of it", yuan(left))
	for _, r := range d.Related {
		has(t, "related", table, fmt.Sprintf(`href="/transactions/%d"`, r.Row.ID), yuan(r.Row.Amount))
	}
	d.Left, d.Related = nil, nil
	show()
	if _, body := ask(t, "GET", fmt.Sprintf("%s/transactions/%d", base, d.ID), inEnglish); strings.Contains(body, "Left of it") {
		t.Error("something is left of what nothing followed")
	}
}
