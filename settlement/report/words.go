package report

import (
	"regexp"
	"strings"

	"acquirer/money"
)

// What stands in the books beside an amount is English where the house wrote it.
// Merchants read Chinese: what is fixed is put into it here, and what people, banks
// and networks wrote is left as it is.

// itemKinds are the kinds of what is no transaction, by the beginning of an item's
// key. The order is that of the statement.
var itemKinds = [...]struct{ prefix, name string }{
	{"chargeback/", "拒付"}, {"chargeback-won/", "拒付退回"}, {"fee/", "收费"}, {"hold/", "冻结"}, {"release/", "解冻"}, {"", "其他款项"},
}

// kindOf is an item's place in itemKinds.
func kindOf(key string) int {
	for i, k := range itemKinds {
		if strings.HasPrefix(key, k.prefix) {
			return i
		}
	}
	return len(itemKinds) - 1 // the last takes every key
}

// itemSum is what the items of a kind come to.
type itemSum struct {
	count int64
	sum   money.Amount
}

func sumItems(items []item) (sums [len(itemKinds)]itemSum) {
	for _, it := range items {
		k := &sums[kindOf(it.key)]
		k.count, k.sum = k.count+1, k.sum+it.amount
	}
	return sums
}

// itemText is an item's text in Chinese. What a person gave as the reason of a
// hold or a fee is the person's.
func itemText(it *item) string {
	switch {
	case strings.HasPrefix(it.key, "chargeback/"), strings.HasPrefix(it.key, "hold/dispute/"):
		return put(it.text, caseWords)
	case strings.HasPrefix(it.key, "chargeback-won/"), strings.HasPrefix(it.key, "release/"), strings.HasPrefix(it.key, "recover"):
		return put(it.text, itemWords)
	case strings.HasPrefix(it.key, "recon/"):
		if kind, rrn, ok := strings.Cut(it.text, " "); ok && breakNames[kind] != "" {
			return "对账差异: " + breakNames[kind] + " " + rrn
		}
	}
	return it.text
}

// breakNames are the kinds of differences, as reconciliation calls them.
var breakNames = map[string]string{"long": "长款", "short": "短款", "amount": "金额不符", "fee": "手续费不符", "late_reversal": "冲正未达", "duplicate": "重复清算",
	"payout_long": "代付长款", "payout_short": "代付短款", "receipt_long": "到账多", "receipt_short": "到账少", "terminal": "终端批不符"}

// reason is in Chinese why a payout or a line is as it is.
func reason(text string) string {
	if why, later := strings.CutSuffix(text, ": paid when the network has paid"); later {
		return reason(why) + "; 清算资金到账后付款"
	}
	if why, ok := strings.CutPrefix(text, "paid after all"); ok {
		return "最终已付" + strings.Replace(why, ": ", ", 曾被拒: ", 1)
	}
	return put(text, reasonWords)
}

// phrase is a fixed text of the house: its parts in parentheses stay.
type phrase struct {
	en *regexp.Regexp
	zh string
}

func put(text string, words []phrase) string {
	if text == "" {
		return ""
	}
	for i := range words {
		if at := words[i].en.FindStringSubmatchIndex(text); at != nil {
			return string(words[i].en.ExpandString(nil, words[i].zh, text, at))
		}
	}
	return text
}

func phrases(pairs ...[2]string) (words []phrase) {
	for _, p := range pairs {
		words = append(words, phrase{regexp.MustCompile("^" + p[0] + "$"), p[1]})
	}
	return words
}

var (
	caseWords = phrases(
		[2]string{`retrieval (\S+)`, "调单, 原因码${1}"},
		[2]string{`chargeback (\S+)`, "拒付, 原因码${1}"},
		[2]string{`second_chargeback (\S+)`, "二次拒付, 原因码${1}"},
		[2]string{`pre_arbitration (\S+)`, "预仲裁, 原因码${1}"},
		[2]string{`arbitration (\S+)`, "仲裁, 原因码${1}"},
		[2]string{`lost as retrieval (\S+)`, "调单未答复, 原因码${1}"},
		[2]string{`lost as chargeback (\S+)`, "拒付败诉, 原因码${1}"},
		[2]string{`lost as second_chargeback (\S+)`, "二次拒付败诉, 原因码${1}"},
		[2]string{`lost as pre_arbitration (\S+)`, "预仲裁败诉, 原因码${1}"},
		[2]string{`lost as arbitration (\S+)`, "仲裁败诉, 原因码${1}"},
	)
	itemWords = phrases(
		[2]string{`won`, "申诉成功, 款项退回"},
		[2]string{`released`, "解除冻结"},
		[2]string{`refused`, "冻结未获复核, 退回"},
		[2]string{`lapsed`, "冻结逾期未复核, 退回"},
		[2]string{`payout (\S+) was paid twice and came back`, "打款${1}重复付款后已退回"},
		[2]string{`payout (\S+) was paid twice`, "打款${1}重复付款, 扣回"},
	)
	reasonWords = phrases(
		[2]string{`nothing to pay`, "无应付款"},
		[2]string{`a debt of (\S+) is carried over`, "欠款${1}结转下期"},
		[2]string{`a debt of (\S+) moved to arrears`, "欠款${1}转入商户欠款"},
		[2]string{`collected (\S+) of arrears`, "收回欠款${1}"},
		[2]string{`below the smallest payout of (\S+)`, "低于最低打款金额${1}"},
		[2]string{`the payable account holds (\S+)`, "待清算款余额仅${1}"},
		[2]string{`the account takes (\S+) a day`, "收款账户每日限收${1}"},
		[2]string{`the account takes (\S+) a day and was sent (\S+)`, "收款账户每日限收${1}, 当日已付${2}"},
		[2]string{`it would be sent no earlier than T\+1`, "不早于T+1, 按T+1到账"},
		[2]string{`cut by (\S+) for hold \S+`, "因冻结减少${1}"},
		[2]string{`the first sale of a merchant is paid T\+1`, "商户首笔交易按T+1到账"},
		[2]string{`early payment begins (\d+) days after the first sale`, "首笔交易${1}天后方可快速到账"},
		[2]string{`early payment begins after (\d+) days in a row with sales`, "连续${1}天有交易后方可快速到账"},
		[2]string{`plan (\S+) does not offer D0`, "费率方案${1}不提供D+0"},
		[2]string{`plan (\S+) does not offer D1`, "费率方案${1}不提供D+1"},
		[2]string{`plan (\S+) does not offer S0`, "费率方案${1}不提供S0"},
		[2]string{`the bank pays at once only from (\S+) to (\S+)`, "银行仅在${1}至${2}实时付款"},
		[2]string{`no more than (\S+) a day is advanced to one merchant`, "单个商户每日垫资不超过${1}"},
		[2]string{`own funds do not cover it`, "自有资金不足"},
		[2]string{`refunds and chargebacks are (\S+) of the (\S+) sold in (\d+) days`, "${3}天内交易${2}, 退款与拒付${1}"},
		[2]string{`watched since (\S+): (.*)`, "自${1}起受关注: ${2}"},
		[2]string{`the settlement account was changed; payouts wait until (.*)`, "结算账户已变更, ${1}后付款"},
		[2]string{`the merchant is not registered`, "商户未登记"},
		[2]string{`the merchant is pending`, "商户待审核"},
		[2]string{`the merchant is suspended`, "商户已暂停"},
		[2]string{`the merchant is closed`, "商户已注销"},
		[2]string{`the merchant has no settlement account`, "商户无结算账户"},
		[2]string{`the bank does not know it yet`, "银行尚未收到"},
		[2]string{`the bank never received it`, "银行未收到"},
		[2]string{`the network's money has not come: 1001 does not cover it yet; it goes after the receipt`, "清算资金未到账, 到账后付款"},
		// What the wire said is for the operators' list of payouts, not for merchants.
		[2]string{`settlement: the payout was not sent(: the bank is closed)(?s:.*)`, "银行暂停受理, 待重发"},
		[2]string{`settlement: the payout was not sent(: the bank cannot take such an order)(?s:.*)`, "银行无法办理, 待处理"},
		[2]string{`settlement: the payout was not sent(?s:.*)`, "尚未送达银行, 待重发"},
		[2]string{`settlement: (?s:.*)`, "银行未答复, 查询中"},
		[2]string{`waits for the next file`, "待随下一批文件发出"},
		[2]string{`not needed: (\S+) was paid after all`, "无需再付: ${1}最终已付"},
		[2]string{`the bank paid (\S+), which it replaces, after all: acquirer payout recover \S+`, "被代替的${1}最终已付, 待处理"},
	)
)
