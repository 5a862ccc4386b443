package simwallet

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/routing"
	"acquirer/routing/wallet"
)

// BillFault is what is wrong with a wallet's bills, for whoever reconciles.
type BillFault string

// The faults. All but BillTruncated are bills that add up.
const (
	BillGood      BillFault = "none"
	BillMissing   BillFault = "missing"   // the first payment is not there
	BillExtra     BillFault = "extra"     // a payment that nobody made
	BillAmount    BillFault = "amount"    // the first payment is a fen too much
	BillFee       BillFault = "fee"       // its fee is a fen too much
	BillTruncated BillFault = "truncated" // the second half of it is not there
)

var billFaults = []BillFault{BillGood, BillMissing, BillExtra, BillAmount, BillFee, BillTruncated}

// spoilt are the faults of wallets' bills.
type spoilt struct {
	mu sync.Mutex
	of map[string]BillFault
}

// SpoilBills gives the bills of a wallet a fault from now on; BillGood ends it.
func (s *Wallets) SpoilBills(name string, fault BillFault) error {
	if s.tongues[name] == nil || !slices.Contains(billFaults, fault) {
		return fmt.Errorf("simwallet: fault %q of wallet %q; want one of %v of one of %v", fault, name, billFaults, s.Names())
	}
	s.spoilt.mu.Lock()
	defer s.spoilt.mu.Unlock()
	if s.spoilt.of == nil {
		s.spoilt.of = map[string]BillFault{}
	}
	s.spoilt.of[name] = fault
	return nil
}

// Bill is a wallet's bill of a day, from its books as they stand, in the form
// in which the wallet gives it, and how many lines it has. Unlike the wallet's
// own wire it gives today's too.
func (s *Wallets) Bill(name string, date calendar.Date) (bill []byte, rows int) {
	t := s.tongues[name]
	if t == nil {
		return nil, 0
	}
	s.spoilt.mu.Lock()
	fault := s.spoilt.of[name]
	s.spoilt.mu.Unlock()
	list := spoil(s.books.day(name, date), fault, date)
	text := t.daily(date, list)
	if fault == BillTruncated {
		text = truncate(name, text)
	}
	return text, len(list)
}

// day is what a wallet's books have of a day, in the order of time.
func (b *books) day(name string, date calendar.Date) []wallet.BillRecord {
	var out []wallet.BillRecord
	for _, o := range b.all() {
		if o.Wallet != name || o.PaidAt.IsZero() {
			continue
		}
		r := wallet.BillRecord{Wallet: name, Kind: wallet.BillPay, Order: o.Number, Number: o.Transaction, Time: o.PaidAt, Merchant: o.Merchant, Terminal: o.Terminal,
			Amount: o.Amount, Fee: o.Fee}
		if calendar.DateOf(o.PaidAt) == date {
			out = append(out, r)
		}
		for _, back := range o.Refunds {
			if calendar.DateOf(back.At) != date {
				continue
			}
			r.Kind, r.Refund, r.RefundNumber, r.Time, r.Amount, r.Fee = wallet.BillRefund, back.ID, back.Number, back.At, back.Amount, -back.Fee
			if back.ID == "" {
				r.Kind = wallet.BillRevoked
			}
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b wallet.BillRecord) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Kind, b.Kind)) })
	return out
}

func spoil(rows []wallet.BillRecord, fault BillFault, date calendar.Date) []wallet.BillRecord {
	first := slices.IndexFunc(rows, func(r wallet.BillRecord) bool { return r.Kind == wallet.BillPay })
	switch {
	case fault == BillExtra:
		rows = append(rows, wallet.BillRecord{Kind: wallet.BillPay, Order: "0EXTRA000001", Number: "99" + date.Time().Format("20060102"), Time: date.Time().Add(12 * time.Hour),
			Amount: money.Yuan(1), Merchant: "898110058120001", Terminal: "11000001"})
	case first < 0:
	case fault == BillMissing:
		rows = slices.Delete(rows, first, first+1)
	case fault == BillAmount:
		rows[first].Amount++
	case fault == BillFee:
		rows[first].Fee++
	}
	return rows
}

// truncate takes the second half of a bill away, where it hurts: within the
// text that WeChat Pay packs.
func truncate(name string, bill []byte) []byte {
	if name != routing.WeChat {
		return bill[:len(bill)/2]
	}
	z, err := gzip.NewReader(bytes.NewReader(bill))
	var text []byte
	if err == nil {
		text, err = io.ReadAll(z)
	}
	if err != nil {
		panic(fmt.Sprintf("simwallet: %v", err)) // daily packed it
	}
	return text[:len(text)/2]
}

// showBill gives a bill to people.
func (s *Wallets) showBill(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	date, err := calendar.ParseDate(q.Get("date"))
	if err == nil && s.tongues[q.Get("wallet")] == nil {
		err = errors.New("no such wallet")
	}
	if err != nil {
		http.Error(w, "wallet and date: "+err.Error(), http.StatusBadRequest)
		return
	}
	text, _ := s.Bill(q.Get("wallet"), date)
	_, _ = w.Write(text) // a client that is gone asks again
}

// showSignedBill is where Alipay's bill_download_url leads.
func (s *Wallets) showSignedBill(w http.ResponseWriter, r *http.Request) {
	t, ok := s.tongues[r.PathValue("wallet")].(*alipay)
	date, err := calendar.ParseDate(r.URL.Query().Get("date"))
	if !ok || err != nil {
		http.NotFound(w, r)
		return
	}
	q := &question{date: date, echo: map[string]string{"host": r.Host}}
	if t.billURL(q) != "http://"+r.Host+r.URL.RequestURI() {
		http.Error(w, "the signature is wrong", http.StatusForbidden)
		return
	}
	text, _ := s.Bill(routing.Alipay, date)
	_, _ = w.Write(text) // a client that is gone asks again
}
