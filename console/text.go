package console

import (
	"fmt"
	"net/http"

	"golang.org/x/text/language"
)

// Lang is a language of the console.
type Lang uint8

// The languages; Chinese is the one of whoever says nothing.
const (
	Chinese Lang = iota
	English
)

// Code is the language's tag as HTML and the cookie write it.
func (l Lang) Code() string {
	if l == English {
		return "en"
	}
	return "zh"
}

func (w Words) in(l Lang) string {
	if l == English && w.EN != "" || w.ZH == "" {
		return w.EN
	}
	return w.ZH
}

func langOf(code string) (Lang, bool) {
	switch code {
	case "zh":
		return Chinese, true
	case "en":
		return English, true
	}
	return Chinese, false
}

const langCookie = "lang"

// speaks returns the language of a request: the one chosen before, else the
// browser's, else Chinese.
func speaks(r *http.Request) Lang {
	if c, err := r.Cookie(langCookie); err == nil {
		if l, ok := langOf(c.Value); ok {
			return l
		}
	}
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return Chinese // a header nobody can read is no wish
	}
	for _, tag := range tags { // the most wanted first
		base, _ := tag.Base()
		if l, ok := langOf(base.String()); ok {
			return l
		}
	}
	return Chinese
}

// say returns the text of key with its arguments put in. A key that is not in
// the table is shown as it is: a new type of transaction reads as its name.
func (l Lang) say(key string, args ...any) string {
	w, ok := texts[key]
	if !ok {
		return key
	}
	if len(args) == 0 {
		return w.in(l)
	}
	return fmt.Sprintf(w.in(l), args...)
}

// count is say for n things: English has a form of its own for one, under
// key.1.
func (l Lang) count(key string, n int, args ...any) string {
	if n == 1 {
		if _, ok := texts[key+".1"]; ok {
			key += ".1"
		}
	}
	return l.say(key, append([]any{n}, args...)...)
}

// known is say for a word that comes from outside, such as a type of
// transaction: group.word when the table has it, else the word itself.
func (l Lang) known(group, word string) string {
	if w, ok := texts[group+"."+word]; ok {
		return w.in(l)
	}
	return word
}

// texts is everything the console says.
var texts = map[string]Words{
	"brand":          {"收单", "acquirer"},
	"env.demo":       {"演示", "demo"},
	"env.test":       {"测试", "test"},
	"env.production": {"生产", "production"},
	"skip":           {"跳到正文", "Skip to the content"},
	"nav":            {"主导航", "Main"},
	"nav.street":     {"街面", "Street"},
	"nav.lines":      {"线路", "Lines"},
	"nav.owed":       {"待冲正", "Owed"},
	"nav.settlement": {"结算", "Settlement"},
	"language":       {"语言", "Language"},
	"live":           {"实时", "live"},
	"lost":           {"连接中断，正在重连", "connection lost, trying again"},
	"noscript":       {"未启用脚本：页面每 10 秒刷新一次。", "Scripts are off: the page reloads every 10 seconds."},
	"beijing":        {"北京时间", "Beijing time"},
	"node":           {"节点 %d", "node %d"},
	"uptime":         {"已运行 %s", "up %s"},
	"businessdate":   {"营业日 %s", "business date %s"},
	"cutoff":         {"%s后日切", "cut-off in %s"},
	"cutoff.past":    {"已过日切时间", "past its cut-off"},

	"verdict.good":        {"一切正常", "All is in order"},
	"verdict.act":         {"有 %d 件事需要处理", "%d things need you"},
	"verdict.act.1":       {"有 %d 件事需要处理", "%d thing needs you"},
	"verdict.watch":       {"无需处理，留意以下情况", "Nothing to do, something to watch"},
	"verdict.books":       {"账平", "books balanced"},
	"verdict.lines":       {"%d 条线路全部在线", "all %d lines up"},
	"verdict.nothing":     {"无待冲正", "nothing owed"},
	"verdict.settling":    {"%d 笔冲正或通知发送中", "%d reversals or advices under way"},
	"verdict.settling.1":  {"%d 笔冲正或通知发送中", "%d reversal or advice under way"},
	"concern.house":       {"读取系统状态失败，显示的是 %s 的数据：%s", "The house did not answer; what you see is from %s: %s"},
	"concern.house.never": {"读取系统状态失败：%s", "The house did not answer: %s"},
	"concern.invariant":   {"不变量 %s 被破坏 %d 次：%s", "Invariant %s was violated, %d times: %s"},
	"concern.ledger":      {"总账不平，差额 %s", "The ledger is out of balance by %s"},
	"concern.unchecked":   {"总账自检已停 %s", "The ledger has not been checked for %s"},
	"concern.lag":         {"有交易 %s 未入账", "Approved transactions have waited %s for the ledger"},
	"concern.manual":      {"%d 笔冲正或通知需人工处理", "%d reversals or advices are left to you"},
	"concern.manual.1":    {"%d 笔冲正或通知需人工处理", "%d reversal or advice is left to you"},
	"concern.owed":        {"最早的冲正或通知已拖欠 %s", "The oldest reversal or advice has been owed for %s"},
	"concern.issuer":      {"发卡方 %s 全部线路中断", "Issuer %s has no line up"},
	"concern.breaker":     {"发卡方 %s 已熔断，暂不发送交易", "Issuer %s does not answer; its breaker is open"},
	"concern.line":        {"发卡方 %s 有 %d 条线路中断", "Issuer %s has %d lines down"},
	"concern.drained":     {"发卡方 %s 已停用", "Issuer %s is out of service"},
	"concern.line.1":      {"发卡方 %s 有 %d 条线路中断", "Issuer %s has %d line down"},
	"concern.payouts":     {"%d 笔付款被退回或结果不明", "%d payouts were returned or their fate is unknown"},
	"concern.payouts.1":   {"%d 笔付款被退回或结果不明", "%d payout was returned or its fate is unknown"},
	"concern.held":        {"%d 笔付款被暂停", "%d payouts are held"},
	"concern.held.1":      {"%d 笔付款被暂停", "%d payout is held"},
	"spoken":              {"每秒批准 %s 笔，拒绝 %s 笔。%s。", "%s approved and %s declined per second. %s."},
	"rates":               {"每秒交易", "Transactions per second"},
	"rates.approved":      {"批准/秒", "approved / s"},
	"rates.declined":      {"拒绝/秒", "declined / s"},
	"rates.share":         {"批准率", "approval rate"},
	"rates.inflight":      {"处理中", "in flight"},
	"rates.terminals":     {"在线终端", "terminals"},
	"rates.owed":          {"待冲正", "owed"},
	"rates.axis":          {"60 秒前", "60 s ago"},
	"rates.now":           {"现在", "now"},
	"rates.peak":          {"峰值 %d/秒", "peak %d/s"},
	"rates.legend.up":     {"批准", "approved"},
	"rates.legend.down":   {"拒绝", "declined"},
	"rates.alt":           {"最近一分钟：批准 %d 笔，拒绝 %d 笔，峰值每秒 %d 笔", "The last minute: %d approved, %d declined, at most %d in one second"},
	"recent":              {"最近交易", "Latest transactions"},
	"recent.empty":        {"还没有交易。", "No transaction yet."},
	"recent.sample":       {"繁忙时只显示一部分", "a sample when the street is busy"},
	"recent.pause":        {"暂停", "Pause"},
	"recent.resume":       {"继续", "Resume"},
	"recent.held":         {"笔新交易", "new"},
	"col.time":            {"时间", "Time"},
	"col.type":            {"类型", "Type"},
	"col.merchant":        {"商户", "Merchant"},
	"col.terminal":        {"终端", "Terminal"},
	"col.card":            {"卡号", "Card"},
	"col.issuer":          {"发卡方", "Issuer"},
	"col.amount":          {"金额", "Amount"},
	"col.outcome":         {"结果", "Outcome"},
	"col.took":            {"耗时", "Took"},
	"col.breaker":         {"熔断", "Breaker"},
	"col.line":            {"线路", "Line"},
	"col.state":           {"状态", "State"},
	"col.since":           {"持续", "For"},
	"col.echo":            {"回响", "Echo"},
	"col.drops":           {"断线", "Drops"},
	"col.error":           {"最近错误", "Last error"},
	"col.inflight":        {"处理中", "In flight"},
	"col.p50":             {"中位", "Median"},
	"col.p99":             {"p99", "p99"},
	"col.lines":           {"线路", "Lines"},
	"col.owedsince":       {"拖欠", "Owed for"},
	"col.why":             {"原因", "Why"},
	"col.attempts":        {"次数", "Tries"},
	"col.next":            {"下次", "Next"},
	"col.said":            {"最近回应", "Last heard"},
	"col.plan":            {"费率方案", "Plan"},
	"col.speed":           {"到账", "Speed"},
	"col.sales":           {"笔数", "Sales"},
	"col.gross":           {"交易额", "Gross"},
	"col.refunds":         {"退货", "Refunds"},
	"col.fees":            {"手续费", "Fees"},
	"col.net":             {"净额", "Net"},
	"col.payout":          {"付款", "Payout"},
	"col.step":            {"步骤", "Step"},
	"col.at":              {"起点", "Began"},
	"col.note":            {"结果", "What came of it"},
	"col.field":           {"域", "DE"},
	"col.name":            {"名称", "Name"},
	"col.value":           {"值", "Value"},
	"col.what":            {"关系", "What"},
	"outcome.undecided":   {"处理中", "in progress"},
	"outcome.approved":    {"已批准", "approved"},
	"outcome.declined":    {"已拒绝", "declined"},
	"outcome.reversing":   {"冲正中", "being reversed"},
	"outcome.manual":      {"待人工冲正", "reversal left to you"},
	"outcome.reversed":    {"已冲正", "reversed"},

	"type.sale":              {"消费", "sale"},
	"type.void":              {"消费撤销", "void"},
	"type.refund":            {"退货", "refund"},
	"type.reversal":          {"冲正", "reversal"},
	"type.preauth":           {"预授权", "pre-authorisation"},
	"type.preauth_void":      {"预授权撤销", "pre-auth void"},
	"type.completion":        {"预授权完成", "completion"},
	"type.completion_notice": {"预授权完成通知", "completion notice"},
	"type.completion_void":   {"预授权完成撤销", "completion void"},
	"type.balance":           {"余额查询", "balance"},
	"type.offline_sale":      {"离线消费", "offline sale"},
	"type.chip_offline_sale": {"脱机消费", "offline chip sale"},
	"type.adjust":            {"离线调整", "adjustment"},
	"type.tip":               {"小费", "tip"},
	"type.script_result":     {"脚本结果", "script result"},
	"type.qr_sale":           {"扫码消费", "QR sale"},
	"type.qr_void":           {"扫码撤销", "QR void"},
	"type.qr_refund":         {"扫码退货", "QR refund"},
	"type.instalment":        {"分期消费", "instalment"},
	"type.instalment_void":   {"分期撤销", "instalment void"},
	"type.points":            {"积分消费", "points"},
	"type.points_query":      {"积分查询", "points query"},
	"type.reservation":       {"预约消费", "reservation"},
	"type.reservation_void":  {"预约撤销", "reservation void"},
	"type.ecash_load":        {"电子现金圈存", "e-cash load"},
	"type.ecash_load_other":  {"电子现金非指定账户圈存", "e-cash load from another account"},
	"type.ecash_cash_load":   {"电子现金现金充值", "e-cash load in cash"},
	"type.ecash_load_void":   {"电子现金充值撤销", "e-cash load void"},
	"type.ecash_refund":      {"电子现金退货", "e-cash refund"},
	"type.purse_load":        {"电子钱包圈存", "purse load"},
	"type.topup_check":       {"充值账户验证", "top-up check"},
	"type.topup_cash":        {"现金充值", "top-up in cash"},
	"type.topup_account":     {"账户充值", "top-up from an account"},

	"issuers":             {"发卡方", "Issuers"},
	"issuers.empty":       {"未配置发卡方。", "No issuer is configured."},
	"issuers.all":         {"全部线路", "All lines"},
	"line.up":             {"在线", "up"},
	"line.signing":        {"签到中", "signing on"},
	"line.down":           {"中断", "down"},
	"breaker.closed":      {"正常", "closed"},
	"breaker.half-open":   {"试探中", "half-open"},
	"breaker.open":        {"已熔断", "open"},
	"line.drained":        {"停用", "out of service"},
	"line.of":             {"%d/%d 在线", "%d of %d up"},
	"line.none":           {"全部中断", "all down"},
	"lines.title":         {"线路状况", "Lines"},
	"lines.lead":          {"每个发卡方的线路、时延与回响。时延取最近 30 至 60 秒。", "Each issuer's lines, latency and echoes. Latency is of the last 30 to 60 seconds."},
	"ledger":              {"总账", "Ledger"},
	"ledger.balanced":     {"借贷平衡", "balanced"},
	"ledger.broken":       {"不平", "out of balance"},
	"ledger.never":        {"尚未自检", "not checked yet"},
	"ledger.checked":      {"%s前自检", "checked %s ago"},
	"ledger.unposted":     {"%d 笔待入账", "%d waiting to be posted"},
	"ledger.invariants":   {"不变量全部成立", "every invariant holds"},
	"today":               {"今日结算", "Today's settlement"},
	"today.all":           {"全部商户", "All merchants"},
	"today.empty":         {"这个营业日还没有可结算的交易。", "Nothing to settle on this business date yet."},
	"today.sum":           {"净额 · %s 笔 · 手续费 %s", "net · %s sales · fees %s"},
	"settlement.sales":    {"%s 笔 · %s", "%s sales · %s"},
	"today.more":          {"另有 %d 家商户", "and %d more merchants"},
	"today.more.1":        {"另有 %d 家商户", "and %d more merchant"},
	"total":               {"合计", "Total"},
	"settlement.title":    {"结算 %s", "Settlement of %s"},
	"settlement.before":   {"前一营业日", "The day before"},
	"settlement.after":    {"后一营业日", "The day after"},
	"settlement.current":  {"当前营业日", "The open day"},
	"holds":               {"冻结中的款项", "Money that is held"},
	"hold.remains":        {"冻结余额", "Held"},
	"hold.state":          {"状态", "State"},
	"hold.asked":          {"待复核", "waits for a second person"},
	"hold.sure":           {"已冻结", "confirmed"},
	"hold.release":        {"待解冻复核", "release waits for a second person"},
	"settlement.overflow": {"合计溢出", "total overflows"},
	"day.open":            {"进行中", "open"},
	"day.cut":             {"已日切，清分中", "cut off, being cleared"},
	"day.cleared":         {"已清分，付款中", "cleared, being paid"},
	"day.paid":            {"已全部付款", "paid"},
	"payout.none":         {"未到付款", "not yet"},
	"payout.due":          {"待付款", "due"},
	"payout.sent":         {"在途", "in transit"},
	"payout.paid":         {"已到账", "paid"},
	"payout.unknown":      {"结果不明，查询中", "unknown, being asked"},
	"payout.returned":     {"被退回", "returned"},
	"payout.held":         {"已暂停", "held"},
	"owed.title":          {"待冲正与待通知", "Owed to issuers and wallets"},
	"owed.lead":           {"发卡方或钱包尚未确认的两类：冲正（结果不明或不再需要），通知（delivery：终端已完成，只需告知）。系统按各自节奏重发，需要人工的排在最前。", "What issuers and wallets have not acknowledged: reversals of what has no known outcome or is unwanted, and advices (delivery) of what was done already. Each is tried again at its own pace; those left to you come first."},
	"owed.empty":          {"没有拖欠。", "Nothing is owed."},
	"owed.manual":         {"人工", "you"},
	"owed.cap":            {"仅列出前 %d 笔", "the first %d are listed"},
	"tx.title":            {"交易 %s", "Transaction %s"},
	"tx.back":             {"返回街面", "Back to the street"},
	"tx.timeline":         {"时间线", "Timeline"},
	"tx.steps.empty":      {"没有步骤记录。", "No steps were recorded."},
	"tx.messages":         {"报文", "Messages"},
	"tx.messages.empty":   {"没有报文记录。", "No messages were kept."},
	"tx.bytes":            {"%d 字节", "%d bytes"},
	"tx.related":          {"关联交易", "Related"},
	"tx.failed":           {"失败", "failed"},
	"tx.missing":          {"没有这笔交易", "No such transaction"},
	"tx.missing.why":      {"编号 %s 不在流水中。", "Number %s is not in the journal."},
	"fact.merchant":       {"商户", "Merchant"},
	"fact.terminal":       {"终端", "Terminal"},
	"fact.card":           {"卡号", "Card"},
	"fact.issuer":         {"发卡方", "Issuer"},
	"fact.rrn":            {"参考号", "RRN"},
	"fact.stan":           {"流水号", "STAN"},
	"fact.batch":          {"批次号", "Batch"},
	"fact.approval":       {"授权码", "Approval code"},
	"fact.date":           {"营业日", "Business date"},
	"fact.at":             {"受理时间", "Received"},
	"fact.took":           {"总耗时", "Took"},
	"step.check":          {"校验", "check"},
	"step.open":           {"开账落盘", "open (durable)"},
	"step.issuer":         {"发卡方", "issuer"},
	"step.close":          {"结账落盘", "close (durable)"},
	"step.write":          {"应答终端", "answer the terminal"},
	"step.reversal":       {"冲正", "reversal"},
	"step.delivery":       {"通知发卡方", "advice to the issuer"},
	"step.stray":          {"发卡方多余的应答", "an answer that decided nothing"},
	"step.post":           {"入账", "post to the ledger"},
	"party.terminal":      {"终端", "terminal"},
	"party.acquirer":      {"收单", "acquirer"},
	"party.issuer":        {"发卡方", "issuer"},
	"tx.receipt":          {"签购单", "Receipt"},
	"related.original":    {"原交易", "original"},
	"related.follows":     {"后续交易", "followed"},
	"related.left":        {"剩余金额", "Left of it"},

	"receipt":                {"签购单", "Receipt"},
	"receipt.title":          {"签购单 %s", "Receipt of %s"},
	"receipt.back":           {"返回交易", "Back to the transaction"},
	"receipt.lead":           {"按 58 毫米纸宽排版；打印时两联各占一页。", "For paper 58 mm wide; printed, each copy has a page of its own."},
	"receipt.again":          {"重打印", "printed again"},
	"receipt.none":           {"没有签购单", "No receipt"},
	"receipt.none.declined":  {"这笔交易未获批准，不打印签购单。", "The transaction was declined: nothing is printed of it."},
	"receipt.none.undecided": {"这笔交易还没有结果，获批准后才有签购单。", "The transaction is not decided yet; it has a receipt once it is approved."},
	"receipt.none.reversed":  {"这笔交易已冲正或正在冲正，签购单作废。", "The transaction was taken back, or is being: its receipt does not count."},
	"receipt.none.kind":      {"这类交易不打印签购单。", "Nothing is printed of such a transaction."},
	"copy.merchant":          {"商户存根", "merchant copy"},
	"copy.cardholder":        {"持卡人存根", "cardholder copy"},

	"slip.merchant":          {"商户名称", "Merchant"},
	"slip.mid":               {"商户编号", "MID"},
	"slip.tid":               {"终端编号", "TID"},
	"slip.acquirer":          {"收单机构", "Acquirer"},
	"slip.issuer":            {"发卡机构", "Issuer"},
	"slip.wallet":            {"支付方式", "Paid with"},
	"slip.code":              {"付款码", "Payment code"},
	"slip.card":              {"卡号", "Card no."},
	"slip.scheme":            {"卡组织", "Scheme"},
	"slip.entry":             {"输入方式", "Entry"},
	"slip.type":              {"交易类型", "Type"},
	"slip.batch":             {"批次号", "Batch no."},
	"slip.voucher":           {"凭证号", "Voucher no."},
	"slip.rrn":               {"参考号", "Ref. no."},
	"slip.approval":          {"授权码", "Auth. code"},
	"slip.at":                {"日期时间", "Date, time"},
	"slip.clears":            {"清算日期", "Clears on"},
	"slip.original":          {"原交易", "Original"},
	"slip.original.date":     {"原交易日期", "Its date"},
	"slip.original.voucher":  {"原批次/凭证", "Its batch / no."},
	"slip.original.rrn":      {"原参考号", "Its ref. no."},
	"slip.original.approval": {"原授权码", "Its auth. code"},
	"slip.before":            {"原金额", "Before"},
	"slip.amount":            {"金额", "Amount"},
	"slip.asked":             {"请求金额（部分承兑）", "Asked for, approved in part"},
	"slip.total":             {"合计", "Total"},
	"slip.tcode":             {"交易特征码", "Code"},
	"slip.waived":            {"免密免签：限额内交易，无需输入密码和签名", "Within the contactless limits: no PIN and no signature"},
	"slip.picture":           {"持卡人的电子签名", "The cardholder's signature"},
	"slip.unsigned":          {"未签名", "not signed"},
	"slip.sign":              {"持卡人签名", "Cardholder signature"},
	"slip.agree":             {"本人确认以上交易，同意将其记入本卡账户。", "I confirm the above and agree to its being charged to my card."},
	"slip.keep":              {"请妥善保管，以备核对。", "Please keep this copy for your records."},

	"entry.keyed":       {"手输", "keyed"},
	"entry.stripe":      {"刷卡", "swiped"},
	"entry.fallback":    {"降级刷卡", "swiped, chip failed"},
	"entry.chip":        {"插卡", "chip"},
	"entry.contactless": {"挥卡", "contactless"},
	"entry.code":        {"扫码", "scanned"},
	"entry.remote":      {"预约", "by reservation"},
	"scheme.CUP":        {"银联", "UnionPay"},
	"scheme.VIS":        {"Visa", "Visa"},
	"scheme.MCC":        {"Mastercard", "Mastercard"},
	"scheme.MAE":        {"Maestro", "Maestro"},
	"scheme.JCB":        {"JCB", "JCB"},
	"scheme.AMX":        {"American Express", "American Express"},
	"scheme.DCC":        {"Diners Club / Discover", "Diners Club / Discover"},
	"wallet.wechat":     {"微信支付", "WeChat Pay"},
	"wallet.alipay":     {"支付宝", "Alipay"},
	"wallet.unionpay":   {"云闪付", "UnionPay QR"},

	"nav.batches":        {"批结算", "Batches"},
	"batches":            {"终端结算", "Settlements of terminals"},
	"batches.title":      {"终端批结算 %s", "Batches of %s"},
	"batches.lead":       {"终端上报的合计与流水逐批核对；核对结果不影响入账。", "What terminals say of their batches beside what the journal has. Nothing here moves money."},
	"batches.empty":      {"这个营业日还没有终端结算。", "No terminal has settled on this business date yet."},
	"batches.more":       {"另有 %d 批未列出", "%d more are not listed"},
	"batches.more.1":     {"另有 %d 批未列出", "%d more is not listed"},
	"batch.number":       {"批次 %s", "batch %s"},
	"batch.uploaded":     {"已上送 %d 笔", "%d records uploaded"},
	"batch.uploaded.1":   {"已上送 %d 笔", "%d record uploaded"},
	"batch.open":         {"未批结", "not ended"},
	"batch.ended":        {"%s 批结", "ended at %s"},
	"batch.count":        {"%d 笔", "%d txns"},
	"batch.count.1":      {"%d 笔", "%d txn"},
	"balance.balanced":   {"平", "balanced"},
	"balance.unbalanced": {"不平", "not balanced"},
	"balance.unsigned":   {"待补签名", "signatures asked for"},
	"balance.unreadable": {"记录无法读取", "unreadable record"},
	"cards.domestic":     {"内卡", "Domestic"},
	"cards.foreign":      {"外卡", "Foreign"},
	"flow.debit":         {"借记", "debit"},
	"flow.credit":        {"贷记", "credit"},
	"differences":        {"待处理差异", "Open differences"},
	"differences.lead":   {"各营业日未处理的差异，最早的在前。查明后标记为已处理。", "Of any business date, the oldest first. Mark one when it is explained."},
	"differences.empty":  {"没有待处理的差异。", "No difference waits."},
	"difference.resolve": {"已处理", "Resolved"},
	"difference.records": {"%+d 条", "%+d records"},
	"difference.missing": {"没有这条差异", "No such difference"},
	"col.found":          {"发现于", "Found"},
	"col.difference":     {"差异", "Difference"},
	"col.upload":         {"来源", "Came with"},
	"col.totals":         {"合计", "Totals"},
	"col.claimed":        {"终端上报", "Terminal says"},
	"col.ours":           {"流水", "Journal has"},
	"col.off":            {"差额", "Off by"},

	"nav.reports":             {"报表", "Reports"},
	"reports.title":           {"报表", "Reports"},
	"reports.lead":            {"已结算营业日的对账单、明细、成本和余额。未关账的营业日还没有数据。", "Statements, details, costs and balances of closed business dates. An open date has no figures yet."},
	"report.statement":        {"商户对账单", "Merchant statement"},
	"report.detail":           {"结算明细", "Settlement detail"},
	"report.cost":             {"成本与毛利", "Costs and margin"},
	"report.safeguarding":     {"备付金日报", "Safeguarding, day by day"},
	"report.payouts":          {"打款报表", "Payouts"},
	"report.breaks":           {"长短款清单", "Long and short list"},
	"report.instant":          {"秒到时效", "How S0 kept its time"},
	"report.invoice":          {"手续费清单", "Fee invoice"},
	"report.trial-balance":    {"试算平衡表", "Trial balance"},
	"report.kind":             {"报表", "Report"},
	"report.merchant":         {"商户号", "Merchant (MID)"},
	"report.from":             {"起始日", "From"},
	"report.to":               {"截止日", "To"},
	"report.format":           {"格式", "Format"},
	"report.make":             {"下载", "Download"},
	"report.inside":           {"一笔打款里的交易", "What is in a payout"},
	"report.inside.lead":      {"按打款单号列出其中的每笔交易和金额的构成。", "Every transaction in it, and how its amount comes about."},
	"report.payout":           {"打款单号", "Payout reference"},
	"report.refused":          {"这份报表做不出来", "This report cannot be made"},
	"report.elsewhere":        {"请从本控制台的页面下载", "Ask from a page of this console"},
	"report.busy":             {"正在生成其他报表，请稍后再试", "Other reports are being made; try again in a moment"},
	"nav.compared":            {"对账", "Recon"},
	"compared.title":          {"对账与争议", "Reconciliation and disputes"},
	"compared.lead":           {"与银行卡网络、钱包、银行和终端逐笔核对。资金处理由两人在命令行完成（acquirer reconcile、acquirer dispute）。", "Our books beside those of networks, wallets, the bank and terminals. Two people move money at the command line: acquirer reconcile, acquirer dispute."},
	"compared.open":           {"待处理差错", "Differences for people"},
	"compared.empty":          {"没有待处理的差错。", "No difference waits for people."},
	"compared.days":           {"各营业日", "Business dates"},
	"compared.none":           {"还没有核对过任何营业日。", "No business date has been compared yet."},
	"compared.missing":        {"缺 %s 的文件", "no file of %s"},
	"compared.half":           {"%s，待复核", "%s, and a second person"},
	"disputes":                {"争议", "Disputes"},
	"disputes.empty":          {"没有未结的争议。", "No dispute is open."},
	"dispute.ours":            {"待我方答复", "ours to answer"},
	"dispute.theirs":          {"待对方", "theirs"},
	"break.long":              {"长款", "long"},
	"break.short":             {"短款", "short"},
	"break.amount":            {"金额不符", "other amount"},
	"break.fee":               {"手续费不符", "other fee"},
	"break.late_reversal":     {"冲正未达", "late reversal"},
	"break.duplicate":         {"重复清算", "twice in their files"},
	"break.payout_long":       {"代付长款", "paid and not ordered"},
	"break.payout_short":      {"代付短款", "booked as paid, not on the statement"},
	"break.receipt_long":      {"到账多", "more came than expected"},
	"break.receipt_short":     {"到账少", "less came than expected"},
	"break.terminal":          {"终端批不符", "terminal's batch"},
	"action.merchant":         {"归商户，待复核", "to the merchant; to be confirmed"},
	"action.payer":            {"退付款人，待复核", "to the payer; to be confirmed"},
	"action.write_off":        {"核销，待复核", "written off; to be confirmed"},
	"action.accept":           {"知悉，待复核", "accepted; to be confirmed"},
	"stage.retrieval":         {"调单", "retrieval"},
	"stage.chargeback":        {"一次退单", "chargeback"},
	"stage.second_chargeback": {"二次退单", "second chargeback"},
	"stage.pre_arbitration":   {"仲裁前置", "pre-arbitration"},
	"stage.arbitration":       {"仲裁", "arbitration"},
	"col.here":                {"我方", "Here"},
	"col.there":               {"对方", "There"},
	"col.asked":               {"已提请", "Asked for"},
	"col.case":                {"案号", "Case"},
	"col.stage":               {"阶段", "Stage"},
	"col.until":               {"期限", "Until"},
	"col.day":                 {"营业日", "Business date"},
	"col.files":               {"文件", "Files"},
	"col.found.share":         {"核对一致", "Found"},
	"col.waiting":             {"待后续文件", "Waiting"},
	"col.unresolved":          {"未决", "Unresolved"},
	"col.signed":              {"签核", "Signed"},

	"error.title": {"暂时读不到", "Not readable right now"},
	"error.why":   {"系统没有回应：%s", "The house did not answer: %s"},
	"error.path":  {"没有这个页面", "No such page"},
	"error.date":  {"日期写成 2026-02-13", "Write a date like 2026-02-13"},
	"age.d":       {"%d天%d时", "%dd %dh"},
	"age.h":       {"%d时%d分", "%dh %dm"},
	"age.m":       {"%d分%d秒", "%dm %ds"},
	"age.s":       {"%d秒", "%ds"},
	"about.d":     {"%d 天", "%d days"},
	"about.d.1":   {"%d 天", "%d day"},
	"about.h":     {"%d 小时", "%d hours"},
	"about.h.1":   {"%d 小时", "%d hour"},
	"about.m":     {"%d 分钟", "%d minutes"},
	"about.m.1":   {"%d 分钟", "%d minute"},
}
