package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"time"

	"acquirer/calendar"
	"acquirer/console"
	"acquirer/hsm"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/settlement/clearing"
	"acquirer/settlement/dispute"
	"acquirer/spec"
	"acquirer/store"
	switching "acquirer/switch"
)

// archive is what the house keeps of payments, for disputes.
type archive struct {
	journal   *journal.Journal
	merchants *merchant.Registry
	hsm       hsm.HSM
	dataKey   hsm.Key
}

// payment is what an item of a network's file is about: by our RRN where it is
// passed on, else by trace number and time towards the issuer.
func (a archive) payment(ctx context.Context, source string, date calendar.Date, x clearing.ErrorItem) (dispute.Payment, error) {
	meant := func(e *journal.Entry) bool {
		return e.Issuer == source && (x.Merchant == "" || e.Merchant == x.Merchant)
	}
	if id, ok := journal.IDOf(x.OriginalRRN); ok {
		f, err := a.journal.Following(ctx, id)
		switch {
		case err == nil && !meant(f.Original):
			return dispute.Payment{}, fmt.Errorf("%w: %s is of merchant %s and went to %s", dispute.ErrUnknown, x.OriginalRRN, f.Original.Merchant, f.Original.Issuer)
		case err == nil:
			return paymentOf(f)
		case !errors.Is(err, store.ErrNotFound):
			return dispute.Payment{}, err
		}
	}
	// DE 7 has no year: the last such moment before the file's date.
	for year := date.Year(); year >= date.Year()-1; year-- {
		sent, err := time.ParseInLocation("20060102150405", fmt.Sprintf("%04d%s", year, x.OriginalSent), calendar.Beijing)
		if err != nil || calendar.DateOf(sent) > date {
			continue
		}
		found, err := a.journal.ByIssuerTrace(ctx, int32(x.OriginalSTAN), sent.Add(-time.Hour), sent.Add(time.Hour))
		if err != nil {
			return dispute.Payment{}, err
		}
		for _, e := range found {
			if e.Transmitted.In(calendar.Beijing).Format("0102150405") == x.OriginalSent && meant(e) {
				f, err := a.journal.Following(ctx, e.ID)
				if err != nil {
					return dispute.Payment{}, err
				}
				return paymentOf(f)
			}
		}
	}
	return dispute.Payment{}, fmt.Errorf("%w: RRN %q, trace %06d of %s", dispute.ErrUnknown, x.OriginalRRN, x.OriginalSTAN, x.OriginalSent)
}

// paymentOf is a transaction as something that can be disputed: it was approved
// and paid a merchant. What went back of it since is told.
func paymentOf(f *journal.Following) (dispute.Payment, error) {
	e := f.Original
	switch {
	case e.Kind != journal.Sale && e.Kind != journal.Completion && e.Kind != journal.OfflineSale:
		return dispute.Payment{}, fmt.Errorf("%w: %s is a %s, which paid no merchant", dispute.ErrAction, e.RRN, e.Kind)
	case e.Outcome == nil || e.Outcome.Reason != journal.Approved:
		return dispute.Payment{}, fmt.Errorf("%w: %s is a %s that was not approved (%s): nothing was paid for it; tell the network", dispute.ErrAction, e.RRN, e.Kind, e.State())
	}
	p := dispute.Payment{Txn: e.ID, RRN: e.RRN, Merchant: e.Merchant, Terminal: e.Terminal, PAN: e.PANMasked, Amount: e.Sum(), Date: e.Day, Debit: e.Channel == journal.Debit && !e.Abroad()}
	if e.Channel == journal.QR {
		p.Wallet = e.Issuer
	}
	whole := e.TakenBack()
	for _, x := range f.Followers {
		switch {
		case x.Kind == journal.Adjustment:
			p.Amount += x.Amount // both are bounded by DE 4, twelve digits
		case x.Kind == journal.Refund:
			p.Gone += x.Amount
		case x.Kind.Undoes():
			whole = true
		}
	}
	if whole {
		p.Gone = p.Amount
	}
	return p, nil
}

// evidence collects what the house has of a payment: the slip with its
// signature, the transaction and what followed it, where the terminal was, what
// the chip and the issuer said, and what the terminal uploaded. missing says what there is not.
func (a archive) evidence(ctx context.Context, txn int64) (files []dispute.File, missing []string, err error) {
	f, err := a.journal.Following(ctx, txn)
	if errors.Is(err, store.ErrNotFound) {
		return nil, []string{"transaction: the journal does not have it"}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	e := f.Original
	add := func(name, from string, v any) error {
		text, err := json.MarshalIndent(v, "", "  ")
		files = append(files, dispute.File{Name: name, From: from, Content: append(text, '\n')})
		return err
	}
	all := []proofOfTransaction{proofOf(e)}
	for _, x := range f.Followers {
		all = append(all, proofOf(x))
	}
	if err := add("transaction.json", "journal", all); err != nil {
		return nil, nil, err
	}
	chip, why, err := a.chip(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	if chip != nil {
		if err := add("chip.json", "journal: DE 55 of the terminal's request, without what names the card, and of the issuer's answer", chip); err != nil {
			return nil, nil, err
		}
	}
	missing = append(missing, why...)
	place := placeOf(&e.Transaction)
	if place != (proofOfPlace{}) {
		if err := add("location.json", "journal: DE 59 of the terminal's request", place); err != nil {
			return nil, nil, err
		}
	}
	if place.Place == "" {
		missing = append(missing, "location: the terminal did not say where it was")
	}
	signed := false
	switch packed, err := switching.ReadSignature(ctx, a.journal, a.hsm, a.dataKey, txn); {
	case errors.Is(err, store.ErrNotFound):
		missing = append(missing, "signature: none was uploaded")
	case err != nil:
		return nil, nil, err
	default:
		drawn, err := console.DrawSignature(packed)
		if err != nil {
			return nil, nil, fmt.Errorf("the signature of %s: %w", e.RRN, err)
		}
		signed = true
		files = append(files, dispute.File{Name: "signature.png", From: "terminal", Content: drawn})
	}
	uploads, err := a.journal.OfUpload(ctx, e.Terminal, e.Batch, e.Day)
	if err != nil {
		return nil, nil, err
	}
	var own []journal.Uploaded
	for _, u := range uploads {
		if u.Txn == txn || u.STAN == e.STAN {
			own = append(own, u)
		}
	}
	if len(own) > 0 {
		if err := add("batch.json", "terminal's batch upload", own); err != nil {
			return nil, nil, err
		}
	} else {
		missing = append(missing, "batch: the terminal uploaded no record of it")
	}
	slip, err := a.slip(e, signed)
	if err != nil {
		return nil, nil, err
	}
	files = append(files, dispute.File{Name: "slip.html", From: "journal, as the terminal printed it", Content: slip})
	return files, missing, nil
}

// proofOfChip is what a chip and its issuer said to each other.
type proofOfChip struct {
	Sequence string      `json:"card_sequence,omitempty"` // DE 23
	Request  *proofOfTLV `json:"request,omitempty"`
	Answer   *proofOfTLV `json:"answer,omitempty"`
}

// proofOfTLV is one DE 55, as it was and taken apart.
type proofOfTLV struct {
	DE55 string      `json:"de55"` // hex
	Tags []spec.Item `json:"tags"`
}

// chip collects both sides of the chip's conversation, nil without any; missing
// says what there is not.
func (a archive) chip(ctx context.Context, e *journal.Entry) (p *proofOfChip, missing []string, err error) {
	asked, sequence, err := switching.ReadChip(ctx, a.hsm, a.dataKey, e)
	if err != nil {
		return nil, nil, err
	}
	p = &proofOfChip{Sequence: sequence, Request: proofOfDE55(asked)}
	if e.Outcome != nil {
		p.Answer = proofOfDE55(e.Outcome.Chip)
	}
	switch {
	case p.Request != nil:
	case e.PANSealed == nil && e.PANMasked != "" && e.Channel != journal.QR:
		missing = append(missing, "chip: what the chip said is not kept any more (dispute.keep_days)")
	default:
		missing = append(missing, "chip: no chip data came with the request")
	}
	if p.Answer == nil {
		missing = append(missing, "chip: no chip data came with the answer")
	}
	if p.Request == nil && p.Answer == nil {
		return nil, missing, nil
	}
	return p, missing, nil
}

// proofOfDE55 takes a DE 55 apart, masked; nil when there is none.
func proofOfDE55(de55 []byte) *proofOfTLV {
	if len(de55) == 0 {
		return nil
	}
	var m spec.Message
	m.Reset(spec.UnionPayPOS, 0x0200)
	m.SetBytes(55, de55)
	p := &proofOfTLV{DE55: hex.EncodeToString(de55)}
	for _, field := range spec.Describe(&m) {
		p.Tags = append(p.Tags, field.Sub...)
	}
	return p
}

// proofOfPlace is what the terminal said of where and what it was.
type proofOfPlace struct {
	Place   string `json:"place,omitempty"`
	Type    string `json:"device_type,omitempty"`
	Serial  string `json:"serial_number,omitempty"`
	Version string `json:"application_version,omitempty"`
}

func placeOf(t *journal.Transaction) proofOfPlace {
	i := spec.ReadTerminalInfo([]byte(t.Device))
	return proofOfPlace{Place: t.Place, Type: i.Type, Serial: i.Serial, Version: i.Version}
}

// proofOfTransaction is a transaction as evidence has it: masked, no keys, no
// sealed columns.
type proofOfTransaction struct {
	RRN          string        `json:"rrn"`
	Kind         string        `json:"kind"`
	State        string        `json:"state"`
	BusinessDate calendar.Date `json:"business_date"`
	Opened       time.Time     `json:"opened"`
	Closed       time.Time     `json:"closed,omitzero"`
	Merchant     string        `json:"merchant"`
	Terminal     string        `json:"terminal"`
	Batch        string        `json:"batch"`
	Voucher      string        `json:"voucher"`
	Card         string        `json:"card"`
	EntryMode    string        `json:"de22"`
	Entry        string        `json:"entry"`
	PINEntered   bool          `json:"pin_entered"`
	Amount       money.Amount  `json:"amount"`
	Currency     string        `json:"currency"`
	Issuer       string        `json:"issuer"`
	IssuerTrace  string        `json:"issuer_trace"`
	Sent         time.Time     `json:"sent"`
	Approval     string        `json:"approval_code,omitempty"`
	IssuerCode   string        `json:"issuer_response,omitempty"`
}

func proofOf(e *journal.Entry) proofOfTransaction {
	p := proofOfTransaction{RRN: e.RRN, Kind: e.Kind.String(), State: e.State().String(), BusinessDate: e.Day, Opened: e.Opened, Merchant: e.Merchant, Terminal: e.Terminal,
		Batch: fmt.Sprintf("%06d", e.Batch), Voucher: fmt.Sprintf("%06d", e.STAN), Card: e.PANMasked, EntryMode: fmt.Sprintf("%03d", e.EntryMode), Entry: entryOf(&e.Transaction),
		PINEntered: e.EntryMode%10 == 1, Amount: e.Sum(), Currency: fmt.Sprintf("%03d", e.Currency), Issuer: e.Issuer, IssuerTrace: fmt.Sprintf("%06d", e.Trace), Sent: e.Transmitted}
	if e.Outcome != nil {
		p.Closed, p.Approval, p.IssuerCode = e.Outcome.Closed, e.Outcome.Approval, e.Outcome.IssuerCode
	}
	return p
}

// slip is the slip (签购单) with what a retrieval asks for: card number, date and
// time, amount and currency, type, retrieval reference, merchant, signature.
func (a archive) slip(e *journal.Entry, signed bool) ([]byte, error) {
	data := struct {
		proofOfTransaction
		Name, Code string
		At         string
		Signed     bool
	}{proofOfTransaction: proofOf(e), Name: e.Merchant, At: e.Opened.In(calendar.Beijing).Format("2006-01-02 15:04:05"), Signed: signed}
	if m, ok := a.merchants.Merchant([]byte(e.Merchant)); ok {
		data.Name = m.Name
	}
	if o := e.Outcome; o != nil && o.Settles != 0 {
		if code, err := spec.TransactionCode(fmt.Sprintf("%04d", o.Settles), e.RRN); err == nil {
			data.Code = code
		}
	}
	var b bytes.Buffer
	if err := slipPage.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("the slip of %s: %w", e.RRN, err)
	}
	return b.Bytes(), nil
}

var slipPage = template.Must(template.New("slip").Parse(`<!doctype html>
<html lang="zh"><meta charset="utf-8"><title>签购单 {{.RRN}}</title>
<style>body{font-family:sans-serif;max-width:26em}td{padding:.15em .8em .15em 0;vertical-align:top}</style>
<h1>签购单 · Sales slip</h1>
<table>
<tr><td>商户名称 Merchant<td>{{.Name}}
<tr><td>商户编号 MID<td>{{.Merchant}}
<tr><td>终端编号 TID<td>{{.Terminal}}
<tr><td>卡号 Card<td>{{.Card}}
<tr><td>交易类型 Type<td>{{.Kind}}, {{.State}}
<tr><td>日期时间 Date, time<td>{{.At}}
<tr><td>批次号 Batch<td>{{.Batch}}
<tr><td>凭证号 Voucher<td>{{.Voucher}}
<tr><td>参考号 Reference<td>{{.RRN}}
<tr><td>授权码 Approval<td>{{.Approval}}
<tr><td>交易特征码 Code<td>{{.Code}}
<tr><td>读卡方式 Entry<td>{{.Entry}}{{if .PINEntered}}, PIN{{end}}
<tr><td>金额 Amount<td>RMB {{.Amount}} ({{.Currency}})
</table>
{{if .Signed}}<p>持卡人签名 Cardholder's signature<br><img src="signature.png" alt="signature">{{else}}<p>持卡人签名 Cardholder's signature: none on file{{end}}
</html>
`))
