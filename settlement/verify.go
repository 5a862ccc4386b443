package settlement

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// JournalReport is what a comparison of the ledger with the journal found.
type JournalReport struct {
	Facts    int      `json:"facts"`    // approvals and takings-back that were compared
	Behind   int      `json:"behind"`   // facts that the ledger has not come to yet
	Booked   int      `json:"booked"`   // transfers of transactions
	Problems []string `json:"problems"` // the first hundred
}

func (r *JournalReport) problem(format string, args ...any) {
	if len(r.Problems) < 100 {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// bookedAs is what the key of a transaction's transfer begins with. What moves no
// money would be wrong as a sale.
func (d Does) bookedAs() string {
	return map[Does]string{Sells: "sale/", Voids: "void/", Refunds: "refund/", Adjusts: "adjust/", Nothing: "sale/"}[d]
}

// effect is what a line of such a fact does.
func (d Does) effect() int {
	return map[Does]int{Sells: effectSale, Voids: effectVoid, Refunds: effectRefund, Adjusts: effectAdjust}[d]
}

// verification holds one moment of the books against what they stand for.
type verification struct {
	e      *Engine
	tx     store.Tx
	r      *JournalReport
	cursor int64          // facts behind it are not booked
	upto   int64          // facts up to here are booked; those between may have become visible late
	booked map[string]int // transfers that were wanted and found, by family
	wanted []wanted       // not looked for yet
}

// VerifyJournal reads the journal from its first fact and holds every one
// against its line and the line against the ledger: what was approved is settled
// with its merchant and amount, at the price of its plan, and booked with exactly
// the legs that follow, or waits in suspense because it has no price; what was
// taken back has the exact mirror of that, or neither. Then payouts, receipts,
// batches, items and holds, each against the transfers it stands for. No other
// transfer may be there. It looks at one moment of the books, so that it may run
// beside the house, and holds one page of them in memory.
func (e *Engine) VerifyJournal(ctx context.Context) (*JournalReport, error) {
	r := &JournalReport{}
	err := e.db.ReadLong(ctx, func(tx store.Tx) error {
		*r = JournalReport{}
		v := verification{e: e, tx: tx, r: r, booked: map[string]int{}}
		if err := tx.QueryRow("select cursor from settlement_state where id = 1").Scan(&v.cursor); err != nil {
			return err
		}
		// What became visible late is booked within a while; who sells no more has no such excuse.
		now := store.IDAt(time.Now())
		v.upto = max(e.cfg.Source.From(v.cursor), min(v.cursor, e.cfg.Source.From(e.cfg.Source.From(now))))
		if err := v.facts(ctx); err != nil {
			return err
		}
		for _, check := range []func() error{v.payouts, v.receipts, v.credits, v.batches, v.items, v.holds, v.others} {
			if err := check(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: comparing the ledger with the journal: %w", err)
	}
	return r, nil
}

// facts walks over the journal in pages.
func (v *verification) facts(ctx context.Context) error {
	for after := int64(0); ; {
		facts, err := v.e.cfg.Source.Facts(ctx, after, postBatch)
		if err != nil || len(facts) == 0 {
			return err
		}
		ids, keys := make([]string, 0, 2*len(facts)), make([]string, 0, 4*len(facts))
		for i := range facts {
			id := strconv.FormatInt(facts[i].Txn, 10)
			ids = append(ids, id, "-"+id)
			keys = append(keys, facts[i].Does.bookedAs()+id, "reversal/"+id, "long/unpriced-"+id, "long-resolved/unpriced-"+id)
		}
		rows, err := v.tx.Query("select " + lineColumns + " from settlement_line where id in (" + strings.Join(ids, ",") + ")")
		all, err := store.All(rows, err, scanLine)
		if err != nil {
			return err
		}
		lines := make(map[int64]*line, len(all))
		for i := range all {
			lines[all[i].id()] = &all[i]
		}
		have, err := ledger.TransfersTx(v.tx, keys)
		if err != nil {
			return err
		}
		for i := range facts {
			if f := &facts[i]; f.Cursor > v.cursor {
				v.r.Behind++
			} else if f.Taken {
				v.taken(f, have)
			} else {
				v.approved(f, lines, have)
			}
		}
		after = facts[len(facts)-1].Cursor
	}
}

// taken looks at a transaction that was taken back; what is booked of it is
// compared where it was approved.
func (v *verification) taken(f *Fact, have map[string]ledger.Transfer) {
	id := strconv.FormatInt(f.Txn, 10)
	_, booked := have[f.Does.bookedAs()+id]
	_, reversed := have["reversal/"+id]
	_, suspended := have["long/unpriced-"+id]
	_, resolved := have["long-resolved/unpriced-"+id]
	if (booked != reversed || suspended != resolved) && f.Cursor > v.upto {
		v.r.Behind++
		return
	}
	v.r.Facts++
	switch {
	case booked != reversed:
		v.r.problem("transaction %d was taken back; booked %v, reversed %v", f.Txn, booked, reversed)
	case suspended != resolved:
		v.r.problem("transaction %d has no price and was taken back; in suspense %v, resolved %v", f.Txn, suspended, resolved)
	}
}

// approved holds an approved transaction against its line and its transfers.
func (v *verification) approved(f *Fact, lines map[int64]*line, have map[string]ledger.Transfer) {
	id := strconv.FormatInt(f.Txn, 10)
	l, back := lines[f.Txn], lines[-f.Txn]
	find := func(key string) (ledger.Transfer, bool) {
		t, found := have[key]
		if found {
			v.booked[family(key)]++
			v.r.Booked++
		}
		return t, found
	}
	booked, isBooked := find(f.Does.bookedAs() + id)
	reversed, isReversed := find("reversal/" + id)
	suspended, isSuspended := find("long/unpriced-" + id)
	resolved, isResolved := find("long-resolved/unpriced-" + id)
	if l == nil && !isBooked && !isSuspended && f.Does != Nothing && f.Cursor > v.upto {
		v.r.Behind++
		return
	}
	v.r.Facts++
	wrong := func(format string, args ...any) { v.r.problem("transaction "+id+" "+format, args...) }
	switch {
	case f.Does == Nothing && (isBooked || isSuspended || l != nil):
		wrong("moves no money and is booked")
		return
	case f.Does == Nothing:
		return
	case l == nil:
		wrong("of %s was approved and waits nowhere to be settled; booked %v", max(f.Amount, -f.Amount), isBooked || isSuspended)
		return
	case isBooked && isSuspended:
		wrong("is booked and in suspense")
		return
	}
	if what := l.differs(f); what != "" {
		wrong("%s", what)
	}
	gone := l.run == lineTaken
	if gone && !isBooked && !isSuspended && !isReversed && !isResolved {
		return // taken back before it was booked
	}
	if l.run == lineUnpriced && l.amount == 0 && !isBooked && !isSuspended {
		return // a tip of nothing, without a price
	}
	if isSuspended || l.run == lineUnpriced {
		v.same(id, suspended, isSuspended, ledger.LongItem("unpriced-"+id, l.date, l.wallet, l.amount), f.Date, l.date)
		if gone || isResolved {
			v.same(id, resolved, isResolved, ledger.LongResolved("unpriced-"+id, 0, l.wallet, "", l.amount), suspended.Date, 0)
		}
		if isResolved && !gone {
			wrong("was taken out of suspense in the ledger alone")
		}
		return
	}
	if f.Does == Sells && !gone {
		if what := v.e.mispriced(v.e.cfg.Merchants.Plans(), f, l); what != "" {
			wrong("has another price than its plan: %s", what)
		}
	}
	t, any := l.transfer()
	if !any {
		if isBooked || isReversed {
			wrong("comes to nothing and is booked")
		}
		return
	}
	v.same(id, booked, isBooked, t, f.Date, l.date)
	switch {
	case isReversed && !gone && back == nil:
		wrong("is reversed in the ledger and stands in the settlement")
		return
	case !isReversed && !gone && back == nil:
		return
	}
	last := calendar.Date(0)
	if back != nil {
		last = back.date
		if what := back.undoes(l); what != "" {
			wrong("was taken back with %s", what)
		}
	}
	t, _ = l.clearing().Reversal(0)
	v.same(id, reversed, isReversed, t, booked.Date, last)
}

// same holds a transfer of a transaction against the one that should be, and its
// date against the first and last that it may have; a last of 0 is not known. A
// line that was held settles later than it was booked.
func (v *verification) same(id string, have ledger.Transfer, found bool, want ledger.Transfer, first, last calendar.Date) {
	want.Date = 0
	switch what := have.Differs(&want); {
	case !found:
		v.r.problem("transaction %s is not booked as it should be: %s is missing", id, want.Key)
	case what != "":
		v.r.problem("transaction %s, %s: %s", id, want.Key, what)
	case have.Date < first:
		v.r.problem("transaction %s, %s: it is booked on %s and happened on %s", id, want.Key, have.Date, first)
	case last != 0 && have.Date > last:
		v.r.problem("transaction %s, %s: it is booked on %s and settles on %s", id, want.Key, have.Date, last)
	}
}

// transfer is what a line is booked as; false when nothing is.
func (l *line) transfer() (ledger.Transfer, bool) {
	switch c := l.clearing(); l.effect {
	case effectVoid:
		return c.Void()
	case effectRefund:
		return c.Refund()
	case effectAdjust:
		return c.Adjustment()
	default:
		return c.Sale()
	}
}

// differs says in words how a line is not of its fact, "" when it is.
func (l *line) differs(f *Fact) string {
	amount, parent := f.Amount, f.Original
	switch f.Does {
	case Voids, Refunds:
		amount = -amount
	case Sells:
		parent = 0
	}
	switch {
	case l.effect != f.Does.effect():
		return fmt.Sprintf("is settled as another thing (%d) than it was (%d)", l.effect, f.Does.effect())
	case l.merchant != f.Merchant || l.terminal != f.Terminal:
		return fmt.Sprintf("is settled with merchant %s, terminal %s; it was made at merchant %s, terminal %s", l.merchant, l.terminal, f.Merchant, f.Terminal)
	case l.amount != amount:
		return fmt.Sprintf("is settled with %s and was made over %s", l.amount, amount)
	case l.wallet != f.Wallet || l.issuer != f.Issuer:
		return fmt.Sprintf("is settled with issuer %q, wallet %q; it was made with issuer %q, wallet %q", l.issuer, l.wallet, f.Issuer, f.Wallet)
	case l.rrn != f.RRN || l.parent != parent:
		return fmt.Sprintf("is settled as RRN %s after %d; it is RRN %s after %d", l.rrn, l.parent, f.RRN, parent)
	case l.txnDate != f.Date || l.date < f.Date:
		return fmt.Sprintf("is settled on %s as one of %s; it was made on %s", l.date, l.txnDate, f.Date)
	}
	return ""
}

// undoes says in words how a line is not the mirror of another, "" when it is.
// The fee for speed may have been left out of either.
func (l *line) undoes(o *line) string {
	if l.merchant != o.merchant || l.wallet != o.wallet || l.amount != -o.amount || l.feeRate != -o.feeRate || l.feeFixed != -o.feeFixed ||
		l.issuerFee != -o.issuerFee || l.networkFee != -o.networkFee {
		return fmt.Sprintf("%s less %s at merchant %s; it was settled with %s less %s at merchant %s", l.amount, l.feeRate+l.feeFixed, l.merchant, o.amount, o.feeRate+o.feeFixed, o.merchant)
	}
	return ""
}

// family is what a transfer's key begins with, up to what it names.
func family(key string) string {
	head, rest, _ := strings.Cut(key, "/")
	if strings.HasPrefix(rest, "unpriced-") {
		return head + "/unpriced"
	}
	return head
}

// wanted is a transfer that must be booked, and what for.
type wanted struct {
	what string
	ledger.Transfer
}

// want says that transfers must be booked, each as it is wanted; flush looks.
func (v *verification) want(what string, all ...ledger.Transfer) {
	for _, t := range all {
		v.wanted = append(v.wanted, wanted{what, t})
	}
}

// flush compares what was wanted with what is booked.
func (v *verification) flush() error {
	keys := make([]string, len(v.wanted))
	for i := range v.wanted {
		keys[i] = v.wanted[i].Key
	}
	have, err := ledger.TransfersTx(v.tx, keys)
	if err != nil {
		return err
	}
	for i := range v.wanted {
		w := &v.wanted[i]
		t, found := have[w.Key]
		if !found {
			v.r.problem("%s: %s is not booked", w.what, w.Key)
			continue
		}
		v.booked[family(t.Key)]++
		if how := t.Differs(&w.Transfer); how != "" {
			v.r.problem("%s, %s: %s", w.what, t.Key, how)
		}
	}
	v.wanted = v.wanted[:0]
	return nil
}

// undated takes the dates out of transfers whose date follows from nothing else.
func undated(all []ledger.Transfer) []ledger.Transfer {
	for i := range all {
		all[i].Date = 0
	}
	return all
}

// payouts holds every payout against what its state says must be booked.
func (v *verification) payouts() error {
	return eachPage(v, "select "+payoutColumns+" from settlement_payout where ref > $1 order by ref limit $2", scanPayout,
		func(p *payout) string { return p.ref }, func(page []payout) error {
			var keys, marks []string
			var refs []any
			for i := range page {
				for _, step := range []string{"cost", "repaid"} {
					keys = append(keys, "payout/"+page[i].ref+"/"+step)
				}
				refs, marks = append(refs, page[i].ref), append(marks, "$"+strconv.Itoa(i+1))
			}
			seen, err := ledger.TransfersTx(v.tx, keys)
			if err != nil {
				return err
			}
			rows, err := v.tx.Query("select "+longColumns+" from settlement_long where ref in ("+strings.Join(marks, ",")+")", refs...)
			longs, err := store.All(rows, err, scanLong)
			if err != nil {
				return err
			}
			for i := range page {
				p := &page[i]
				var l *long
				if n := slices.IndexFunc(longs, func(l long) bool { return l.ref == p.ref }); n >= 0 {
					l = &longs[n]
				}
				if p.long != (l != nil && l.way != wayOwed && l.way != wayBank) {
					v.r.problem("payout %s: that the bank paid it and it is not owed is %v in its row, and otherwise among the long ones", p.ref, p.long)
				}
				v.want("payout "+p.ref+", which is "+p.state.String(), p.booked(l, seen)...)
			}
			return nil
		})
}

// booked is what must be booked of a payout, without dates. l is what is known
// of it when it was paid after it had failed; seen are the transfers that may or
// may not be.
func (p *payout) booked(l *long, seen map[string]ledger.Transfer) []ledger.Transfer {
	book := p.booking(0, 0)
	if cost := seen["payout/"+p.ref+"/cost"]; len(cost.Legs) > 0 {
		book.Cost = cost.Legs[0].Amount // as high as it was then
	}
	_, repaid := seen["payout/"+p.ref+"/repaid"]
	all := book.Reserve()
	switch {
	case l != nil:
		all = append(append(all, book.Failed()...), l.booked(book)...)
	case p.state == Failed:
		all = append(all, book.Failed()...)
	case p.state == Paid || p.state == CameBack:
		all = append(all, book.Success()...)
	}
	if p.state == CameBack {
		all = append(all, book.Returned(repaid)...)
	}
	if repaid || p.state == Paid && p.repaid {
		all = append(all, book.Repaid()...)
	}
	return undated(all)
}

// receipts holds what networks and wallets paid against what is booked of it.
func (v *verification) receipts() error {
	type receipt struct {
		ref, wallet        string
		expected, received money.Amount
		suspense           bool
	}
	return eachRow(v, `select r.ref, r.wallet, r.expected, r.received, coalesce(c.suspense, 0) from settlement_receipt r
			left join settlement_credit c on c.entry = r.ref and c.state = 2 where r.ref > $1 order by r.ref limit $2`,
		func(r *store.Rows, x *receipt) error {
			return r.Scan(&x.ref, &x.wallet, &x.expected, &x.received, &x.suspense)
		},
		func(x *receipt) string { return x.ref }, func(x *receipt) {
			book := ledger.NetworkReceipt
			if x.suspense {
				book = ledger.CreditReceipt
			}
			if t, any := book(x.ref, 0, x.wallet, x.expected, x.received); any {
				v.want("receipt "+x.ref, t)
			}
		})
}

// credits holds what came and was in suspense against what is booked of it; as a
// receipt it is looked at there.
func (v *verification) credits() error {
	return eachRow(v, "select "+creditColumns+" from settlement_credit where entry > $1 and suspense = 1 order by entry limit $2", scanCredit,
		func(c *Credited) string { return c.Entry }, func(c *Credited) {
			all := []ledger.Transfer{ledger.CreditIn(c.Entry, 0, c.Amount)}
			switch c.State {
			case CreditMore:
				all = append(all, ledger.CreditMore(c.Entry, 0, c.Amount))
			case CreditBack:
				all = append(all, ledger.CreditBack(c.Entry, 0, c.Amount))
			}
			v.want("credit "+c.Entry, all...)
		})
}

// batches holds the fee for speed and the arrears of every batch against the
// ledger.
func (v *verification) batches() error {
	type settled struct {
		batch
		date calendar.Date
		seq  int
	}
	return eachRow(v, `select b.id, b.merchant, b.speed, b.speed_fee, b.arrears, b.date, r.seq from settlement_batch b join settlement_run r on r.id = b.run
			where b.id > $1 and (b.speed_fee <> 0 or b.arrears <> 0) order by b.id limit $2`,
		func(r *store.Rows, b *settled) error {
			return r.Scan(&b.id, &b.merchant, &b.speed, &b.speedFee, &b.arrears, &b.date, &b.seq)
		},
		func(b *settled) int64 { return b.id }, func(b *settled) {
			r := run{date: b.date, seq: b.seq}
			var all []ledger.Transfer
			if b.speedFee != 0 {
				all = append(all, ledger.D0Fee(r.ref(&b.batch, "fee"), b.date, b.merchant, b.speedFee))
			}
			switch {
			case b.arrears > 0:
				all = append(all, ledger.ToArrears(r.ref(&b.batch, "arrears"), b.date, b.merchant, b.arrears))
			case b.arrears < 0:
				all = append(all, ledger.ToArrears(r.ref(&b.batch, "collected"), b.date, b.merchant, b.arrears))
			}
			v.want("batch "+r.ref(&b.batch, ""), all...)
		})
}

// items holds chargebacks and fees against the ledger.
func (v *verification) items() error {
	return eachRow(v, "select key, merchant, date, amount, network, fee, wallet from settlement_item where key > $1 order by key limit $2",
		func(r *store.Rows, it *item) error {
			return r.Scan(&it.key, &it.merchant, &it.date, &it.amount, &it.network, &it.fee, &it.wallet)
		},
		func(it *item) string { return it.key }, func(it *item) { // those of holds and of reconciliation are looked at there
			kind, key, _ := strings.Cut(it.key, "/")
			book := ledger.Chargeback{Key: key, Date: it.date, Merchant: it.merchant, Wallet: it.wallet}
			switch kind {
			case "fee":
				v.want("fee "+key, ledger.ExtraFee(key, it.date, it.merchant, -it.amount))
			case "chargeback":
				book.Amount, book.Fee = it.fee-it.network, -it.fee
				book.Held = it.amount + book.Amount
				v.want("chargeback "+key, book.Book())
			case "chargeback-won":
				book.Amount = it.amount
				v.want("chargeback "+key+", which was won", book.Won())
			}
		})
}

// holds holds what is, or was, kept back against the ledger.
func (v *verification) holds() error {
	type kept struct {
		Hold
		freed money.Amount
	}
	return eachRow(v, `select h.key, h.merchant, h.amount, h.state, coalesce(i.amount, 0) from settlement_hold h left join settlement_item i on i.key = 'release/' || h.key
			where h.key > $1 order by h.key limit $2`,
		func(r *store.Rows, h *kept) error { return r.Scan(&h.Key, &h.Merchant, &h.Amount, &h.State, &h.freed) },
		func(h *kept) string { return h.Key }, func(h *kept) {
			book := ledger.Hold{Key: h.Key, Merchant: h.Merchant, Amount: h.Amount}
			all := []ledger.Transfer{book.Ask()}
			switch h.State {
			case HoldSure, HoldFreed:
				all = append(all, book.Confirm())
			case HoldRefused:
				all = append(all, book.Refuse())
			case HoldLapsed:
				all = append(all, book.Lapse())
			}
			if h.State == HoldFreed && h.freed > 0 {
				all = append(all, book.Release("", h.freed))
			}
			v.want("hold "+h.Key+", which is "+h.State.String(), all...)
		})
}

// funds looks at what the acquirer put in, which it does once, as high as the
// settings said then.
func (v *verification) funds(key string) error {
	have, err := ledger.TransfersTx(v.tx, []string{key})
	if err != nil {
		return err
	}
	own := ledger.OwnFunds(strings.TrimPrefix(key, "funds/"), 0, 1)
	if legs := have[key].Legs; len(legs) > 0 {
		own = ledger.OwnFunds(own.Ref, 0, legs[0].Amount)
	}
	v.want("own funds", own)
	return v.flush()
}

// others counts the transfers that nothing here stands for. Daily closes and
// sweeps are held against the signed dates by CheckAll; what reconciliation books
// has keys of its differences.
func (v *verification) others() error {
	elsewhere := []string{"close", "sweep", "long", "long-resolved", "short", "short-resolved", "short-found", "short-recovered", "fee-difference"}
	all, own := map[string]int{}, ""
	if err := ledger.KeysTx(v.tx, func(key string) {
		f := family(key)
		if all[f]++; f == "funds" {
			own = key
		}
	}); err != nil {
		return err
	}
	if own != "" {
		if err := v.funds(own); err != nil {
			return err
		}
	}
	families := make([]string, 0, len(all))
	for f := range all {
		families = append(families, f)
	}
	slices.Sort(families)
	for _, f := range families {
		if all[f] != v.booked[f] && !slices.Contains(elsewhere, f) {
			v.r.problem("the ledger has %d transfers %s/... and only %d of them stand for something", all[f], f, v.booked[f])
		}
	}
	return nil
}

// eachPage reads rows in the order of a key, calls each with a page of them at a
// time and looks for what it wanted. The query takes the key to begin behind and
// how many rows.
func eachPage[T any, K int64 | string](v *verification, query string, scan func(*store.Rows, *T) error, key func(*T) K, each func([]T) error) error {
	var after K
	for {
		rows, err := v.tx.Query(query, after, postBatch)
		page, err := store.All(rows, err, scan)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := each(page); err != nil {
			return err
		}
		if err := v.flush(); err != nil {
			return err
		}
		after = key(&page[len(page)-1])
	}
}

// eachRow is eachPage, row by row.
func eachRow[T any, K int64 | string](v *verification, query string, scan func(*store.Rows, *T) error, key func(*T) K, each func(*T)) error {
	return eachPage(v, query, scan, key, func(page []T) error {
		for i := range page {
			each(&page[i])
		}
		return nil
	})
}
