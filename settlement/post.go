package settlement

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

// postBatch is how many facts one transaction books. The one writer of SQLite
// also serves the terminals, so it must not be held long.
const postBatch = 256

// line is a row of settlement_line: a sale with the price it had.
type line struct {
	txn                   int64
	effect                int
	date, txnDate         calendar.Date
	merchant, terminal    string
	rrn, issuer, wallet   string
	speed                 merchant.Speed
	plan                  string
	planVersion           int
	amount                money.Amount
	feeRate, feeFixed     money.Amount
	speedFee              money.Amount
	issuerFee, networkFee money.Amount
	run                   int64
	parent                int64        // the sale it follows
	at                    int64        // when it was approved, microseconds
	note                  string       // why it is paid later than its merchant's speed says
	t1Fee                 money.Amount // for speed when it is paid T+1
	place, gone           int64        // where it stands in the order of the books, and where it was taken back before it was settled
	unpriced              string       // why there is no price
}

func (l *line) clearing() *ledger.Clearing {
	return &ledger.Clearing{Txn: l.txn, Date: l.date, Merchant: l.merchant, Wallet: l.wallet, Amount: l.amount,
		FeeRate: l.feeRate, FeeFixed: l.feeFixed, IssuerFee: l.issuerFee, NetworkFee: l.networkFee}
}

// id is the line's key: the transaction's, below zero for its taking back.
func (l *line) id() int64 {
	if l.effect == effectTaken {
		return -l.txn
	}
	return l.txn
}

func (l *line) args() []any {
	return []any{l.id(), l.effect, l.date, l.txnDate, l.merchant, l.terminal, l.rrn, l.issuer, l.wallet, l.speed, l.plan, l.planVersion,
		l.amount, l.feeRate, l.feeFixed, l.speedFee, l.issuerFee, l.networkFee, l.run, l.parent, l.at, l.note, l.t1Fee, l.place, l.gone}
}

func scanLine(r *store.Rows, l *line) error {
	defer func() {
		if l.txn < 0 {
			l.txn = -l.txn
		}
	}()
	return r.Scan(&l.txn, &l.effect, &l.date, &l.txnDate, &l.merchant, &l.terminal, &l.rrn, &l.issuer, &l.wallet, &l.speed, &l.plan, &l.planVersion,
		&l.amount, &l.feeRate, &l.feeFixed, &l.speedFee, &l.issuerFee, &l.networkFee, &l.run, &l.parent, &l.at, &l.note, &l.t1Fee, &l.place, &l.gone)
}

// price makes a fact's line: what the merchant's plan of that business date
// charges and what the network takes.
func (e *Engine) price(f *Fact) (line, error) {
	l := line{txn: f.Txn, effect: effectSale, date: f.Date, txnDate: f.Date, merchant: f.Merchant, terminal: f.Terminal,
		rrn: f.RRN, issuer: f.Issuer, wallet: f.Wallet, amount: f.Amount, at: store.Micros(f.At)}
	if f.Does == Nothing {
		return l, nil
	}
	if f.Amount <= 0 && f.Does != Adjusts || f.Date == 0 || f.Txn == 0 {
		return l, fmt.Errorf("settlement: fact %d of transaction %d on %s: amount %s: want an id, a date and an amount above zero", f.Cursor, f.Txn, f.Date, f.Amount)
	}
	m, known := e.cfg.Merchants.Merchant([]byte(f.Merchant))
	if !known {
		l.unpriced = "the merchant is not registered"
		return l, nil
	}
	l.speed, l.plan = m.Speed, m.Plan
	if f.Original != 0 && f.Does != Sells {
		return l, nil // its price follows from its original's
	}
	plan, err := e.cfg.Merchants.PlanOf(m, f.Date)
	if err != nil {
		l.unpriced = err.Error()
		return l, nil
	}
	l.plan = plan.Code
	if f.Does != Sells { // a refund whose sale nobody named: there is no fee that could come back
		l.planVersion = plan.Version
		if _, offered := plan.SpeedFee(m.Speed, f.Amount, 0); !offered {
			l.speed = merchant.T1
		}
		return l, nil
	}
	sale := e.saleOf(f)
	p := plan.Price(sale)
	if p.Rule == nil || p.Refusal == merchant.OutOfRange {
		l.unpriced = "plan " + plan.Code + " has no price for it: " + string(p.Refusal)
		return l, nil
	}
	l.planVersion = plan.Version
	l.feeRate, l.feeFixed = taken(&p, f.Amount)
	l.t1Fee, _ = plan.SpeedFee(merchant.T1, f.Amount, l.feeRate+l.feeFixed)
	if fee, offered := plan.SpeedFee(m.Speed, f.Amount, l.feeRate+l.feeFixed); offered {
		l.speedFee = fee
	} else {
		l.speedFee, l.speed, l.note = l.t1Fee, merchant.T1, fmt.Sprintf("plan %s does not offer %s", plan.Code, m.Speed)
	}
	if f.Channel == merchant.QR {
		if l.issuerFee, err = f.Amount.MulPPM(e.cfg.WalletPPM); err != nil {
			return l, fmt.Errorf("settlement: the wallet's fee of transaction %d: %w", f.Txn, err)
		}
	} else {
		cost, err := e.cfg.Tariff.Cost(f.CardType == merchant.Debit, sale.MCCClass == "exempt", f.Amount)
		if err != nil {
			return l, fmt.Errorf("settlement: costs of transaction %d: %w", f.Txn, err)
		}
		l.issuerFee, l.networkFee = cost.Issuer, cost.Network
	}
	return l, nil
}

// taken is what a price takes of a sale that is done: a fee that should have
// refused it takes no more than there is.
func taken(p *merchant.Price, amount money.Amount) (rate, fixed money.Amount) {
	if p.Refusal == merchant.NotRefused {
		return p.Percent, p.Fixed
	}
	fixed = min(p.Fixed, amount)
	return min(p.Percent, amount-fixed), fixed
}

// CatchUp books every fact the journal has and returns how many it read. Where
// facts may become visible out of order, it reads anew what was young when the
// last one read.
func (e *Engine) CatchUp(ctx context.Context) (read int, err error) {
	began := time.Now()
	var cursor int64
	if err := e.db.Read(ctx, func(tx store.Tx) error {
		return tx.QueryRow("select cursor from settlement_state where id = 1").Scan(&cursor)
	}); err != nil {
		return 0, fmt.Errorf("settlement: reading the cursor: %w", err)
	}
	from, young := e.cfg.Source.From(cursor), int64(math.MaxInt64)
	now := store.IDAt(began)
	if overlap := store.IDTime(now).Sub(store.IDTime(e.cfg.Source.From(now))); overlap > 0 {
		young = store.IDAt(began.Add(-overlap))
		from = min(cursor, max(from, e.settled.Load()))
	}
	read, early, err := e.readOn(ctx, from, young)
	if err == nil && early > 0 {
		// What they follow was durable before they were, so now it is to be seen.
		var again int
		again, _, err = e.readOn(ctx, from, math.MaxInt64)
		read += again
	}
	if err == nil && young < math.MaxInt64 {
		e.settled.Store(young)
	}
	return read, err
}

// readOn books the facts behind from, page by page, up to the journal's end. Of
// those behind young it leaves out, and counts, what follows something that is
// not booked: that may be on its way.
func (e *Engine) readOn(ctx context.Context, from, young int64) (read, early int, err error) {
	began := time.Now()
	for {
		asked := time.Now()
		facts, err := e.cfg.Source.Facts(ctx, from, postBatch)
		if err != nil {
			return read, early, fmt.Errorf("settlement: reading the journal: %w", err)
		}
		if len(facts) == 0 {
			e.reach(asked)
			return read, early, nil
		}
		written := time.Now()
		waits, err := e.book(ctx, facts, young)
		if err != nil {
			return read, early, err
		}
		read, early, from = read+len(facts), early+waits, facts[len(facts)-1].Cursor
		last := store.IDTime(from)
		e.reach(last)
		if err := e.rest(ctx, time.Since(written)); err != nil {
			return read, early, err
		}
		if err := e.step("posted"); err != nil {
			return read, early, err
		}
		// Behind a page that is not full there was nothing. Who waited for an empty one
		// would not be let go by a house that never stops selling.
		if len(facts) < postBatch && last.After(began) {
			e.reach(asked)
			return read, early, nil
		}
	}
}

// reach says that everything before t is booked.
func (e *Engine) reach(t time.Time) {
	for {
		was := e.reached.Load()
		if t.UnixMicro() <= was || e.reached.CompareAndSwap(was, t.UnixMicro()) {
			return
		}
	}
}

// Reached is up to when this process knows everything of the journal to be
// booked; the zero time before the first CatchUp has read a page.
func (e *Engine) Reached() time.Time {
	if us := e.reached.Load(); us != 0 {
		return time.UnixMicro(us)
	}
	return time.Time{}
}

// rest waits as long as the house asks for.
func (e *Engine) rest(ctx context.Context, took time.Duration) error {
	if e.cfg.Rest == nil {
		return nil
	}
	pause := e.cfg.Rest(took)
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Post books facts in the order they come in: into the ledger, and as lines
// that wait to be settled. A fact that was booked before has no effect, and it
// does not matter which of a transaction's two facts comes first.
func (e *Engine) Post(ctx context.Context, facts []Fact) error {
	_, err := e.book(ctx, facts, math.MaxInt64)
	return err
}

// book is Post, but for what readOn leaves out.
func (e *Engine) book(ctx context.Context, facts []Fact, young int64) (early int, err error) {
	for part := range slices.Chunk(facts, postBatch) {
		lines := make([]line, len(part))
		for i := range part {
			var err error
			if lines[i], err = e.price(&part[i]); err != nil {
				return early, err
			}
		}
		fault.Hit("settlement.post.before")
		var waits int
		if err := e.db.Write(ctx, func(tx store.Tx) (err error) {
			waits, err = e.post(tx, part, lines, young)
			return err
		}); err != nil {
			return early, fmt.Errorf("settlement: booking %d facts up to %d: %w", len(part), part[len(part)-1].Cursor, err)
		}
		fault.Hit("settlement.post.after")
		early += waits
	}
	return early, nil
}

func (e *Engine) post(tx store.Tx, facts []Fact, priced []line, young int64) (early int, err error) {
	var open calendar.Date
	var writes int64
	if err := tx.QueryRow("update settlement_state set posts = posts + 1 where id = 1 returning open_date, posts").Scan(&open, &writes); err != nil {
		return 0, err
	}
	for i := range priced {
		priced[i].place = writes*postBatch + int64(i)
	}
	var sales []line
	for i := range facts {
		if f := &facts[i]; !f.Taken && f.Does == Sells {
			l := priced[i]
			// A closed date does not change: what comes late settles with the open one.
			l.date = max(l.date, open)
			if l.unpriced != "" {
				l.run = lineUnpriced
			}
			if err := e.seen(tx, &l); err != nil {
				return 0, err
			}
			if l.speed == merchant.S0 || l.speed == merchant.D0 {
				why, err := e.mayBeFast(tx, &l)
				if err != nil {
					return 0, err
				}
				if why != "" {
					l.speed, l.speedFee, l.note = merchant.T1, l.t1Fee, why
				}
			}
			sales = append(sales, l)
		}
	}
	fresh, err := insertLines(tx, sales)
	if err != nil {
		return 0, err
	}
	var transfers []ledger.Transfer
	for i := range sales {
		if fresh[i] {
			if transfers, err = bookSale(tx, transfers, &sales[i]); err != nil {
				return 0, err
			}
		}
	}
	// Sales first, then what became of them in the order in which it did: the
	// price of a second void depends on the first having been taken back.
	cursor := int64(0)
	for i := range facts {
		f := &facts[i]
		cursor = max(cursor, f.Cursor)
		switch {
		case f.Does == Nothing, f.Does == Sells && !f.Taken:
		case f.Taken:
			transfers, err = takeBack(tx, transfers, priced[i], max(f.On, f.Date, open))
		default:
			var waits bool
			transfers, waits, err = e.follow(tx, transfers, priced[i], f, open, f.Cursor > young)
			if waits {
				early++
			}
		}
		if err != nil {
			return 0, err
		}
	}
	if _, err := ledger.PostTx(tx, transfers); err != nil {
		return 0, err
	}
	_, err = tx.Exec("update settlement_state set cursor = $1 where id = 1 and cursor < $1", cursor)
	return early, err
}

// bookSale adds a new line's transfer. A sale without a price is money whose
// owner is not known: it waits in suspense for a person.
func bookSale(tx store.Tx, transfers []ledger.Transfer, l *line) ([]ledger.Transfer, error) {
	if l.run != lineUnpriced {
		if t, any := l.clearing().Sale(); any {
			transfers = append(transfers, t)
		}
		return transfers, nil
	}
	return suspend(tx, transfers, l)
}

// takeBack undoes a line, wherever it stands. priced is its line for the case
// that it never was.
func takeBack(tx store.Tx, transfers []ledger.Transfer, priced line, date calendar.Date) ([]ledger.Transfer, error) {
	rows, err := tx.Query("select "+lineColumns+" from settlement_line where id = $1 for update", priced.txn)
	all, err := store.All(rows, err, scanLine)
	if err != nil {
		return transfers, err
	}
	if len(all) == 0 {
		// The approval is still to come: leave a mark so that it has no effect.
		priced.run = lineTaken
		_, err := insertLines(tx, []line{priced})
		return transfers, err
	}
	l := all[0]
	switch {
	case l.run == lineTaken:
		return transfers, nil
	case l.run == lineOpen || l.run == lineHeld:
		if _, err := tx.Exec("update settlement_line set run = $1, gone = $2 where id = $3", lineTaken, priced.place, l.txn); err != nil {
			return transfers, err
		}
	case l.run == lineUnpriced:
		if _, err := tx.Exec("update settlement_line set run = $1, gone = $2 where id = $3", lineTaken, priced.place, l.txn); err != nil {
			return transfers, err
		}
		if l.amount == 0 {
			return transfers, nil // nothing of it is in suspense
		}
		return append(transfers, ledger.LongResolved("unpriced-"+strconv.FormatInt(l.txn, 10), date, l.wallet, "", l.amount)), nil
	default:
		// It is settled: the merchant owes it, with the next batch.
		back := l
		back.effect, back.date, back.run, back.t1Fee, back.place = effectTaken, date, lineOpen, 0, priced.place
		for _, a := range []*money.Amount{&back.amount, &back.feeRate, &back.feeFixed, &back.speedFee, &back.issuerFee, &back.networkFee} {
			*a = -*a
		}
		fresh, err := insertLines(tx, []line{back})
		if err != nil || !fresh[0] {
			return transfers, err
		}
	}
	if t, any := l.clearing().Reversal(date); any {
		transfers = append(transfers, t)
	}
	return transfers, nil
}

// insertLines writes the lines that are new and says which they are.
func insertLines(tx store.Tx, lines []line) ([]bool, error) {
	fresh := make([]bool, len(lines))
	if len(lines) == 0 {
		return fresh, nil
	}
	if !tx.Postgres() {
		for i := range lines {
			n, err := tx.Exec("insert into settlement_line ("+lineColumns+`) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25)
				on conflict (id) do nothing`, lines[i].args()...)
			if err != nil {
				return nil, err
			}
			fresh[i] = n == 1
		}
		return fresh, nil
	}
	var ints [17][]int64
	var texts [8][]string
	first := make(map[int64]int, len(lines)) // the first of equal keys in the set is the one inserted
	for i := range lines {
		l := &lines[i]
		if _, twice := first[l.id()]; !twice {
			first[l.id()] = i
		}
		for c, v := range []int64{l.id(), int64(l.effect), int64(l.date), int64(l.txnDate), int64(l.planVersion), int64(l.amount),
			int64(l.feeRate), int64(l.feeFixed), int64(l.speedFee), int64(l.issuerFee), int64(l.networkFee), l.run, l.parent, l.at, int64(l.t1Fee), l.place, l.gone} {
			ints[c] = append(ints[c], v)
		}
		for c, v := range []string{l.merchant, l.terminal, l.rrn, l.issuer, l.wallet, string(l.speed), l.plan, l.note} {
			texts[c] = append(texts[c], v)
		}
	}
	rows, err := tx.Query("insert into settlement_line ("+lineColumns+`)
		select u.id, u.effect, u.date, u.txn_date, u.merchant, u.terminal, u.rrn, u.issuer, u.wallet, u.speed, u.plan, u.plan_version,
			u.amount, u.fee_rate, u.fee_fixed, u.speed_fee, u.issuer_fee, u.network_fee, u.run, u.parent, u.at, u.note, u.t1_fee, u.place, u.gone
		from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
			$11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::bigint[], $21::bigint[], $22::text[], $23::bigint[], $24::bigint[], $25::bigint[])
			as u(id, effect, date, txn_date, plan_version, amount, fee_rate, fee_fixed, speed_fee, issuer_fee, network_fee, run,
				merchant, terminal, rrn, issuer, wallet, speed, plan, parent, at, note, t1_fee, place, gone)
		on conflict (id) do nothing returning id`,
		ints[0], ints[1], ints[2], ints[3], ints[4], ints[5], ints[6], ints[7], ints[8], ints[9], ints[10], ints[11],
		texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], ints[12], ints[13], texts[7], ints[14], ints[15], ints[16])
	inserted, err := store.All(rows, err, func(r *store.Rows, id *int64) error { return r.Scan(id) })
	if err != nil {
		return nil, err
	}
	for _, id := range inserted {
		i, known := first[id]
		if !known {
			return nil, errors.New("settlement: the database returned a line nobody asked for")
		}
		fresh[i] = true
	}
	return fresh, nil
}
