package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/store"
)

var detailColumns = []Column{
	{"settle_date", "结算日", Date}, {"merchant", "商户号", Code}, {"terminal", "终端号", Code}, {"time", "交易时间", Text}, {"type", "交易类型", Text},
	{"method", "支付方式", Text}, {"card", "卡号", Text}, {"issuer", "发卡方", Text}, {"batch", "批次号", Code}, {"stan", "凭证号", Code}, {"rrn", "参考号", Code},
	{"original_rrn", "原参考号", Code}, {"approval", "授权码", Code}, {"amount", "交易金额", Money}, {"fee_rate", "手续费(比例)", Money},
	{"fee_fixed", "手续费(固定)", Money}, {"speed_fee", "到账服务费", Money}, {"net", "净额", Money}, {"speed", "到账方式", Text}, {"plan", "费率方案", Text}, {"payout", "打款单号", Code}, {"note", "说明", Text},
}

// detail is every settled transaction of a period or of one payout. Account
// numbers are masked as the journal keeps them; a payment code has none.
func (b *Books) detail(ctx context.Context, r *Request, s sheet) error {
	if r.Payout != "" {
		return b.inPayout(ctx, r, s)
	}
	facts, err := b.facts(r)
	if err != nil {
		return err
	}
	if err := s.begin(&head{"结算明细", facts}); err != nil {
		return err
	}
	if err := s.table("明细", detailColumns); err != nil {
		return err
	}
	runs, err := b.runs(ctx, r.From, r.To)
	if err != nil {
		return err
	}
	var sum lineSum
	for _, run := range runs {
		merchants := []string{r.Merchant}
		if r.Merchant == "" {
			if merchants, err = b.settled(ctx, run.id); err != nil {
				return err
			}
		}
		for _, mid := range merchants {
			if err := b.lines(ctx, s, run, mid, "", &sum); err != nil {
				return err
			}
		}
	}
	return s.total(sum.cells())
}

// lineSum is what lines come to.
type lineSum struct{ amount, rate, fixed, speed money.Amount }

// cells are the total under detailColumns.
func (x *lineSum) cells() []any {
	cells := make([]any, len(detailColumns))
	cells[0] = "合计"
	for i, c := range detailColumns {
		switch c.Key {
		case "amount":
			cells[i] = x.amount
		case "fee_rate":
			cells[i] = x.rate
		case "fee_fixed":
			cells[i] = x.fixed
		case "speed_fee":
			cells[i] = x.speed
		case "net":
			cells[i] = x.amount - x.rate - x.fixed - x.speed
		}
	}
	return cells
}

// settled are the merchants of a run, in order.
func (b *Books) settled(ctx context.Context, run int64) (mids []string, err error) {
	err = b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select distinct merchant from settlement_batch where run = $1 order by merchant", run)
		mids, err = store.All(rows, err, func(r *store.Rows, mid *string) error { return r.Scan(mid) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report: reading the merchants of a run: %w", err)
	}
	return mids, nil
}

// inPayout goes from a payout, also one that replaced another, down to its
// transactions, and says how they come to its amount.
func (b *Books) inPayout(ctx context.Context, r *Request, s sheet) error {
	var first string
	var p struct {
		run                                                           int64
		date                                                          calendar.Date
		merchant, speed                                               string
		gross, fee, speedFee, other, arrears, carryIn, carryOut, paid money.Amount
	}
	err := b.db.Read(ctx, func(tx store.Tx) error {
		for first = r.Payout; ; {
			var parent string
			if err := tx.QueryRow("select parent from settlement_payout where ref = $1", first).Scan(&parent); err != nil {
				return err
			}
			if parent == "" {
				break
			}
			first = parent
		}
		return tx.QueryRow(`select run, date, merchant, speed, gross, fee, speed_fee, other, arrears, carry_in, carry_out, paid from settlement_batch
			where id = (select batch from settlement_payout where ref = $1)`, first).
			Scan(&p.run, &p.date, &p.merchant, &p.speed, &p.gross, &p.fee, &p.speedFee, &p.other, &p.arrears, &p.carryIn, &p.carryOut, &p.paid)
	})
	if errors.Is(err, store.ErrNotFound) {
		return refuse("there is no payout %q of a batch", r.Payout)
	}
	if err != nil {
		return fmt.Errorf("report: reading payout %s: %w", r.Payout, err)
	}
	facts, _, err := b.merchantFacts(&Request{Merchant: p.merchant, From: p.date, To: p.date})
	if err != nil {
		return err
	}
	if err := s.begin(&head{"打款明细", append(facts, [2]string{"打款单号", r.Payout})}); err != nil {
		return err
	}
	if err := s.table("打款构成", []Column{{"item", "项目", Text}, {"amount", "金额", Money}}); err != nil {
		return err
	}
	for _, row := range [][]any{{"交易净额(未扣费)", p.gross}, {"手续费", -p.fee}, {"快速到账服务费", -p.speedFee}, {"其他款项", p.other}, {"转入或收回欠款", p.arrears},
		{"期初结转", p.carryIn}, {"结转下期", -p.carryOut}, {"打款金额", p.paid}} {
		if err := s.row(row); err != nil {
			return err
		}
	}
	if err := s.table("交易", detailColumns); err != nil {
		return err
	}
	var sum lineSum
	if err := b.lines(ctx, s, run{p.run, p.date}, p.merchant, p.speed, &sum); err != nil {
		return err
	}
	return s.total(sum.cells())
}

// lines writes a merchant's lines of a run as the store gives them, and adds
// them up.
func (b *Books) lines(ctx context.Context, s sheet, run run, mid, speed string, sum *lineSum) error {
	err := b.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select l.effect, l.terminal, l.rrn, l.issuer, l.wallet, l.speed, l.plan, l.plan_version, l.amount, l.fee_rate, l.fee_fixed, l.speed_fee,
				coalesce(t.opened, 0), coalesce(t.masked, ''), coalesce(t.channel, 0), coalesce(t.batch, 0), coalesce(t.stan, 0), coalesce(o.approval, ''),
				coalesce(case when l.effect = 2 then l.rrn else p.rrn end, ''), coalesce(b.payout, ''),
				case when l.note <> '' then l.note else coalesce(b.reason, '') end
			from settlement_line l left join txn t on t.id = abs(l.id) left join outcome o on o.txn = abs(l.id)
			left join settlement_line p on p.id = l.parent and l.parent <> 0
			left join settlement_batch b on b.run = l.run and b.merchant = l.merchant and b.speed = l.speed
			where l.run = $1 and l.run > 0 and l.merchant = $2 and ($3 = '' or l.speed = $3) order by abs(l.id), l.effect`, run.id, mid, speed)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				effect, version                   int
				terminal, rrn, issuer, wallet     string
				plan, masked, approval, of, order string
				note                              string // why it is paid later than its merchant's speed says, or not
				speed                             merchant.Speed
				amount, rate, fixed, speedFee     money.Amount
				opened, batch, stan               int64
				channel                           journal.Channel
			)
			if err := rows.Scan(&effect, &terminal, &rrn, &issuer, &wallet, &speed, &plan, &version, &amount, &rate, &fixed, &speedFee,
				&opened, &masked, &channel, &batch, &stan, &approval, &of, &order, &note); err != nil {
				return err
			}
			sum.amount, sum.rate, sum.fixed, sum.speed = sum.amount+amount, sum.rate+rate, sum.fixed+fixed, sum.speed+speedFee
			at, name := "", ""
			if opened != 0 {
				at = time.UnixMicro(opened).In(calendar.Beijing).Format(time.DateTime)
			}
			if effect < len(effectNames) {
				name = effectNames[effect]
			}
			if channel == journal.QR {
				masked, issuer = "", merchant.WalletName(issuer)
			}
			if err := s.row([]any{run.date, mid, terminal, at, name, method(channel, wallet), masked, issuer, fmt.Sprintf("%06d", batch), fmt.Sprintf("%06d", stan), rrn,
				of, approval, amount, rate, fixed, speedFee, amount - rate - fixed - speedFee, merchant.SpeedName(speed), fmt.Sprintf("%s v%d", plan, version), order, reason(note)}); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil && !errors.Is(err, ErrRequest) {
		return fmt.Errorf("report: reading the lines of %s on %s: %w", mid, run.date, err)
	}
	return err
}
