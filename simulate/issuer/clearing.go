package issuer

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/settlement/clearing"
	simcard "acquirer/simulate/card"
)

// FileFault is something that goes wrong with a clearing file, or with what it
// says.
type FileFault string

// The faults of a record: it is never told, told a day late, invented, told with
// another amount, with another fee, twice, or as a sale though it was reversed,
// with its reversal the day after.
const (
	FaultMissing   FileFault = "missing"
	FaultLate      FileFault = "late"
	FaultExtra     FileFault = "extra"
	FaultAmount    FileFault = "amount"
	FaultFee       FileFault = "fee"
	FaultDuplicate FileFault = "duplicate"
	FaultStale     FileFault = "stale"
)

// FileFaults lists them.
var FileFaults = []FileFault{FaultMissing, FaultLate, FaultExtra, FaultAmount, FaultFee, FaultDuplicate, FaultStale}

// Injected is a fault that a file has.
type Injected struct {
	Fault FileFault     `json:"fault"`
	Date  calendar.Date `json:"date"`
	RRN   string        `json:"rrn"`
}

// cleared is what the bank keeps of its clearing files.
type cleared struct {
	told     map[*Entry]clearing.Record // in a file, as it said
	back     map[*Entry]bool            // its reversal too
	late     []clearing.Record          // for the next file
	files    map[calendar.Date][]clearing.Record
	acquirer string
	wishes   []FileFault
	injected []Injected
	invented int
	errors   []clearing.ErrorItem // for the next error file
	disputes int
}

// Misclear orders faults for the next clearing file, each once. One that finds
// no record it could spoil stays ordered.
func (h *Host) Misclear(faults ...FileFault) error {
	for _, f := range faults {
		if !slices.Contains(FileFaults, f) {
			return fmt.Errorf("issuer %s: a clearing file has no fault %q; there are %v", h.cfg.Name, f, FileFaults)
		}
	}
	h.bank.mu.Lock()
	defer h.bank.mu.Unlock()
	h.bank.cleared.wishes = append(h.bank.cleared.wishes, faults...)
	return nil
}

// Misclears lists the faults that the files so far have.
func (h *Host) Misclears() []Injected {
	h.bank.mu.Lock()
	defer h.bank.mu.Unlock()
	return slices.Clone(h.bank.cleared.injected)
}

// Owes is what the date's clearing file comes to, of what was sent by a moment:
// the net that is paid for it.
func (h *Host) Owes(date calendar.Date, until time.Time) (net money.Amount) {
	for _, r := range h.cleared(date, until) {
		net += r.Net
	}
	return net
}

// Cleared are the movements of a date's clearing file: what stands on the books
// and was in no file yet, and the reversals of what was in one. The same date
// again has the same file.
func (h *Host) Cleared(date calendar.Date) []clearing.Record { return h.cleared(date, time.Time{}) }

// sentAfter compares DE 7, which has no year, with a moment; the zero one is
// behind everything.
func sentAfter(sent uint32, until time.Time) bool {
	if until.IsZero() {
		return false
	}
	t := until.In(calendar.Beijing)
	last := uint32(((int(t.Month())*100+t.Day())*100+t.Hour())*10_000 + t.Minute()*100 + t.Second())
	switch months := int(sent/100_000_000) - int(t.Month()); {
	case months > 6: // of the year before
		return false
	case months < -6:
		return true
	}
	return sent > last
}

func (h *Host) cleared(date calendar.Date, until time.Time) []clearing.Record {
	b := h.bank
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.cleared
	if c.files == nil {
		c.files, c.told, c.back = map[calendar.Date][]clearing.Record{}, map[*Entry]clearing.Record{}, map[*Entry]bool{}
	}
	if file, ok := c.files[date]; ok {
		return file
	}
	debit := false
	if is, ok := simcard.IssuerNamed(h.cfg.Name); ok {
		debit = is.Debit
	}
	file := c.late
	c.late = nil
	for _, e := range b.books {
		if e.Acquirer != 0 {
			c.acquirer = fmt.Sprintf("%08d", e.Acquirer)
		}
		was, told := c.told[e]
		switch {
		case !told && sentAfter(e.Sent, until): // the next file's
		case told && e.reversed && !c.back[e]:
			c.back[e] = true
			was.Kind, was.Amount, was.IssuerFee, was.NetworkFee, was.Net = clearing.Reversal, -was.Amount, -was.IssuerFee, -was.NetworkFee, -was.Net
			file = append(file, was)
		case told, !e.approved, e.reversed && !c.wants(FaultStale, e):
		default:
			r, moves := e.clears(debit)
			if !moves {
				continue
			}
			c.told[e] = r
			if e.reversed {
				c.note(FaultStale, date, r.RRN)
			}
			file = append(file, r)
		}
	}
	file = c.spoil(file, date)
	c.files[date] = file
	return file
}

// wants reports whether a stale record is ordered and e can be it.
func (c *cleared) wants(f FileFault, e *Entry) bool {
	return slices.Contains(c.wishes, f) && e.Kind == Sale && !c.back[e]
}

// note takes a fault off the orders.
func (c *cleared) note(f FileFault, date calendar.Date, rrn string) {
	if i := slices.Index(c.wishes, f); i >= 0 {
		c.wishes = slices.Delete(c.wishes, i, i+1)
	}
	c.injected = append(c.injected, Injected{Fault: f, Date: date, RRN: rrn})
}

// spoil carries out what is ordered, each on a sale of its own.
func (c *cleared) spoil(file []clearing.Record, date calendar.Date) []clearing.Record {
	spoilt := map[string]bool{}
	for _, x := range c.injected {
		spoilt[x.RRN] = true
	}
	for _, f := range slices.Clone(c.wishes) {
		if f == FaultStale {
			continue
		}
		at := slices.IndexFunc(file, func(r clearing.Record) bool {
			return r.Kind == clearing.Sale && !spoilt[r.RRN] && !slices.ContainsFunc(file, func(x clearing.Record) bool { return x.Original == r.RRN })
		})
		if at < 0 {
			continue
		}
		r := file[at]
		switch f {
		case FaultMissing, FaultLate:
			file = slices.Delete(slices.Clone(file), at, at+1)
			if f == FaultLate {
				c.late = append(c.late, r)
			}
		case FaultExtra:
			c.invented++
			r.RRN, r.STAN = fmt.Sprintf("ZZ%010d", c.invented), uint32(900_000+c.invented)
			file = append(file, r)
		case FaultAmount:
			file[at].Amount += 100
			file[at].Net += 100
		case FaultFee:
			file[at].IssuerFee += 50
			file[at].Net -= 50
		case FaultDuplicate:
			file = append(file, r)
		}
		spoilt[r.RRN] = true
		c.note(f, date, r.RRN)
	}
	return file
}

// clears is the entry as a clearing file has it; false when it moves no money.
// Fees are those of the tariff: a refund has none, a void and an adjustment
// those of what they change.
func (e *Entry) clears(debit bool) (r clearing.Record, moves bool) {
	r = clearing.Record{RRN: e.RRN, STAN: e.STAN, Sent: fmt.Sprintf("%010d", e.Sent), PAN: e.PAN.Masked(), Terminal: e.Terminal, Merchant: e.Merchant, Approval: e.Approval}
	if e.on != nil {
		r.Original = e.on.RRN
	}
	switch e.Kind {
	case Sale, Completion, CompletionNotice, OfflineSale, ChipOfflineSale:
		r.Kind, r.Amount = clearing.Sale, e.granted()
		r.IssuerFee, r.NetworkFee = tariff(debit, r.Amount)
	case Void, CompletionVoid:
		r.Kind, r.Amount = clearing.Void, -e.Amount
		if e.on != nil {
			sale := e.on.granted()
			r.IssuerFee, r.NetworkFee = tariff(debit, sale)
			issuer, network := r.IssuerFee, r.NetworkFee
			for _, x := range e.on.by {
				if x.Kind == Adjust && x.alive() {
					r.IssuerFee += part(issuer, x.difference(), sale)
					r.NetworkFee += part(network, x.difference(), sale)
				}
			}
			r.IssuerFee, r.NetworkFee = -r.IssuerFee, -r.NetworkFee
		}
	case Refund:
		r.Kind, r.Amount = clearing.Refund, -e.Amount
	case Adjust:
		r.Kind, r.Amount = clearing.Adjust, e.difference()
		if e.on != nil {
			issuer, network := tariff(debit, e.on.granted())
			r.IssuerFee, r.NetworkFee = part(issuer, r.Amount, e.on.granted()), part(network, r.Amount, e.on.granted())
		}
	default:
		return r, false
	}
	r.Net = r.Amount - r.Fee()
	return r, r.Amount != 0
}

// difference is by how much an adjustment changes its sale.
func (e *Entry) difference() money.Amount {
	if e.credit {
		return -e.Amount
	}
	return e.Amount
}

func tariff(debit bool, amount money.Amount) (issuer, network money.Amount) {
	cost, err := ledger.UnionPay2016.Cost(debit, false, amount)
	if err != nil {
		return 0, 0 // the amount came in twelve digits: its fee fits
	}
	return cost.Issuer, cost.Network
}

func part(fee, of, whole money.Amount) money.Amount {
	share, err := fee.Share(of, whole)
	if err != nil {
		return 0 // of is a part of a twelve-digit amount
	}
	return share
}

// ClearingFile is the date's file, NETWORK-CLEAR v1.
func (h *Host) ClearingFile(date calendar.Date) ([]byte, clearing.Totals, error) {
	records := h.Cleared(date)
	var b bytes.Buffer
	w, err := clearing.NewWriter(&b, clearing.Header{Source: h.cfg.Name, Acquirer: h.acquirer(), Date: date})
	if err != nil {
		return nil, clearing.Totals{}, fmt.Errorf("issuer %s: %w", h.cfg.Name, err)
	}
	for _, r := range records {
		if err := w.Write(r); err != nil {
			return nil, clearing.Totals{}, fmt.Errorf("issuer %s: %w", h.cfg.Name, err)
		}
	}
	totals, err := w.Close()
	return b.Bytes(), totals, err
}

// WriteZM writes the date's file as a ZM file.
func (h *Host) WriteZM(w io.Writer, date calendar.Date) error {
	z := clearing.NewZM(w, h.acquirer())
	for _, r := range h.Cleared(date) {
		if err := z.Write(r, ""); err != nil {
			return fmt.Errorf("issuer %s: %w", h.cfg.Name, err)
		}
	}
	return z.Close()
}

func (h *Host) acquirer() string {
	h.bank.mu.Lock()
	defer h.bank.mu.Unlock()
	return h.bank.cleared.acquirer
}

// Dispute sends the acquirer an item with the next error file: of the approved
// transaction with the RRN, for the whole of it. Won is the ruling of an
// arbitration.
func (h *Host) Dispute(rrn string, kind clearing.ErrorKind, reason string, fee money.Amount, won bool) error {
	b := h.bank
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.IndexFunc(b.books, func(e *Entry) bool { return e.RRN == rrn && e.approved })
	if at < 0 {
		return fmt.Errorf("issuer %s: nothing was approved under %q", h.cfg.Name, rrn)
	}
	e := b.books[at]
	c := &b.cleared
	c.disputes++
	x := clearing.ErrorItem{Kind: kind, STAN: uint32(c.disputes), Sent: time.Now().In(calendar.Beijing).Format("0102150405"), PAN: e.PAN.Masked(), Amount: e.granted(),
		OriginalSTAN: e.STAN, OriginalSent: fmt.Sprintf("%010d", e.Sent), OriginalRRN: e.RRN, Reason: reason, Fee: fee, Settle: -e.granted() - fee, Merchant: e.Merchant}
	switch {
	case kind == clearing.Retrieval || kind == clearing.PreArbitration:
		x.Settle = 0
	case kind == clearing.Arbitration && won:
		x.Settle = e.granted()
	}
	if err := clearing.NewZME(io.Discard, "").Write(x); err != nil { // what cannot be written is refused now
		return fmt.Errorf("issuer %s: %w", h.cfg.Name, err)
	}
	c.errors = append(c.errors, x)
	return nil
}

// WriteErrors writes the items since the last error file as a ZME file.
func (h *Host) WriteErrors(w io.Writer) error {
	b := h.bank
	b.mu.Lock()
	items := b.cleared.errors
	b.cleared.errors = nil
	b.mu.Unlock()
	z := clearing.NewZME(w, h.acquirer())
	for _, x := range items {
		if err := z.Write(x); err != nil {
			return fmt.Errorf("issuer %s: %w", h.cfg.Name, err)
		}
	}
	return z.Close()
}
