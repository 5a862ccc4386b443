package switching

import "acquirer/journal"

// ResponseCode is DE 39 of an answer: two characters a terminal understands
// (docs/fields.md, DE 39).
type ResponseCode string

// The codes this house gives by itself. An issuer's own code passes through
// verbatim (journal.IssuerDeclined).
const (
	RCApproved          ResponseCode = "00"
	RCInvalidMerchant   ResponseCode = "03"
	RCPartial           ResponseCode = "10"
	RCInvalidSale       ResponseCode = "12"
	RCInvalidAmount     ResponseCode = "13"
	RCInvalidCard       ResponseCode = "14"
	RCNoIssuer          ResponseCode = "15"
	RCInProgress        ResponseCode = "22"
	RCNoOriginal        ResponseCode = "25"
	RCFormat            ResponseCode = "30"
	RCPickUp            ResponseCode = "04"
	RCNotByIssuer       ResponseCode = "40"
	RCUseChip           ResponseCode = "45"
	RCFunds             ResponseCode = "51"
	RCCardCheck         ResponseCode = "59"
	RCAmountDiffers     ResponseCode = "64"
	RCExpired           ResponseCode = "54"
	RCWrongPIN          ResponseCode = "55"
	RCNotPermitted      ResponseCode = "57"
	RCNotPermittedHere  ResponseCode = "58"
	RCAmountLimit       ResponseCode = "61"
	RCCountLimit        ResponseCode = "65"
	RCTimeout           ResponseCode = "68"
	RCBatch             ResponseCode = "77"
	RCIssuerUnreachable ResponseCode = "91"
	RCDuplicate         ResponseCode = "94"
	RCMalfunction       ResponseCode = "96"
	RCUnknownTerminal   ResponseCode = "97"
	RCIssuerTimeout     ResponseCode = "98"
	RCPINFormat         ResponseCode = "99"
	RCMAC               ResponseCode = "A0"
	RCSecurity          ResponseCode = "A7"
)

// texts is the one table of what a terminal's screen says for each DE 39, and
// the same in English for operators. The Chinese is what UnionPay terminals
// show; docs/fields.md prints this table.
var texts = map[ResponseCode]struct{ zh, en string }{
	"00": {"交易成功", "approved"},
	"01": {"请持卡人与发卡银行联系", "refer to the issuer"},
	"03": {"无效商户", "invalid merchant"},
	"04": {"此卡被没收", "card picked up"},
	"05": {"持卡人认证失败", "cardholder not authenticated"},
	"10": {"部分承兑", "approved in part"},
	"11": {"成功，VIP客户", "approved, VIP"},
	"12": {"无效交易", "invalid transaction"},
	"13": {"无效金额", "invalid amount"},
	"14": {"无效卡号", "invalid card number"},
	"15": {"此卡无对应发卡方", "no issuer for this card"},
	"21": {"该卡未初始化或睡眠卡", "card not initialised or dormant"},
	"22": {"操作有误，或超出交易允许天数", "wrong step, or original still in progress"},
	"25": {"没有原始交易，请联系发卡方", "no original transaction"},
	"30": {"请重试", "format error"},
	"34": {"作弊卡，呼受理方", "suspected fraud"},
	"38": {"密码错误次数超限", "PIN tries exceeded"},
	"40": {"发卡方不支持的交易类型", "not supported by the issuer"},
	"41": {"挂失卡，请没收", "lost card"},
	"43": {"被窃卡，请没收", "stolen card"},
	"45": {"请使用芯片卡", "use the chip"},
	"51": {"可用余额不足", "insufficient funds"},
	"54": {"该卡已过期", "card expired"},
	"55": {"密码错误", "wrong PIN"},
	"57": {"不允许此卡交易", "not permitted to this card"},
	"58": {"发卡方不允许该卡在本终端进行此交易", "not permitted at this terminal"},
	"59": {"卡片校验错", "card verification failed"},
	"61": {"交易金额超限", "amount limit exceeded"},
	"62": {"受限制的卡", "restricted card"},
	"64": {"交易金额与原交易不匹配", "amount differs from the original"},
	"65": {"超出消费次数限制", "count limit exceeded"},
	"68": {"交易超时，请重试", "no answer in time"},
	"75": {"密码错误次数超限", "PIN tries exceeded"},
	"77": {"请向网络中心签到", "batch out of step, sign in"},
	"90": {"系统日切，请稍后重试", "system cut-over"},
	"91": {"发卡方状态不正常，请稍后重试", "issuer unreachable"},
	"92": {"发卡方线路异常，请稍后重试", "issuer line down"},
	"94": {"拒绝，重复交易，请稍后重试", "duplicate transaction"},
	"96": {"拒绝，交换中心异常，请稍后重试", "switch malfunction"},
	"97": {"终端未登记", "terminal not registered"},
	"98": {"发卡方超时", "issuer timed out, reversed by the switch"},
	"99": {"PIN格式错，请重新签到", "PIN block wrong, sign in"},
	"A0": {"MAC校验错，请重新签到", "MAC wrong, sign in"},
	"A1": {"转账货币不一致", "currencies differ"},
	"A2": {"交易成功，请向资金转入行确认", "approved, confirm with the receiving bank"},
	"A3": {"资金到账行账号不正确", "receiving account wrong"},
	"A4": {"交易成功，请向资金到账行确认", "approved, confirm with the receiving bank"},
	"A5": {"交易成功，请向资金到账行确认", "approved, confirm with the receiving bank"},
	"A6": {"交易成功，请向资金到账行确认", "approved, confirm with the receiving bank"},
	"A7": {"安全处理失败", "security processing failed"},
}

// Chinese returns what a terminal shows for the code.
func (c ResponseCode) Chinese() string {
	if t, ok := texts[c]; ok {
		return t.zh
	}
	return "交易失败"
}

// English returns the same for operators.
func (c ResponseCode) English() string {
	if t, ok := texts[c]; ok {
		return t.en
	}
	return "declined"
}

// Approves reports whether a UnionPay terminal takes the code for a success:
// 00, 10, 11, A2, A4, A5, A6. An issuer may answer any of them.
func (c ResponseCode) Approves() bool {
	switch c {
	case "00", "10", "11", "A2", "A4", "A5", "A6":
		return true
	}
	return false
}

// plain is the code for a terminal outside UnionPay's world, which takes A2 to A6
// for a no.
func (c ResponseCode) plain() ResponseCode {
	if c.Approves() && c[0] == 'A' {
		return RCApproved
	}
	return c
}

// codeFor is the code of a refusal of this house, codeOf of any outcome; a
// fallback is answered as the configuration says.
func (s *Switch) codeFor(r journal.Reason) ResponseCode { return s.codeOf(r, "") }

func (s *Switch) codeOf(r journal.Reason, issuer string) ResponseCode {
	if r == journal.UseChip {
		return s.cfg.FallbackCode
	}
	return codeOf(r, issuer)
}

// CodeOf is codeOf for those who show what a terminal heard.
func CodeOf(r journal.Reason, issuer string) ResponseCode { return codeOf(r, issuer) }

// codeOf is the one place where the verdict becomes DE 39. issuer is the
// issuer's own code, which passes through when it spoke.
func codeOf(r journal.Reason, issuer string) ResponseCode {
	switch r {
	case journal.Approved:
		if issuer == "" { // an advice that was taken over
			return RCApproved
		}
		return ResponseCode(issuer)
	case journal.Declined:
		return ResponseCode(issuer)
	case journal.FormatError:
		return RCFormat
	case journal.NotSupported, journal.OriginalUndone:
		return RCInvalidSale
	case journal.IssuerCannot:
		return RCNotByIssuer
	case journal.UseChip:
		return RCUseChip
	case journal.PINRequired:
		return RCWrongPIN
	case journal.ChipReplayed:
		return RCCardCheck
	case journal.CardBlocked:
		return RCPickUp
	case journal.AmountDiffers:
		return RCAmountDiffers
	case journal.BatchOutOfStep:
		return RCBatch
	case journal.BadMAC, journal.NotSignedIn:
		return RCMAC
	case journal.BadPIN:
		return RCPINFormat
	case journal.AmountInvalid, journal.CurrencyInvalid, journal.FeeExceeds, journal.ChipDiffers:
		return RCInvalidAmount
	case journal.CardInvalid:
		return RCInvalidCard
	case journal.CardExpired:
		return RCExpired
	case journal.EntryNotAllowed:
		return RCNotPermitted
	case journal.UnknownCard:
		return RCNoIssuer
	case journal.Duplicate:
		return RCDuplicate
	case journal.InProgress, journal.Tombstoned, journal.OriginalClosed, journal.OriginalBusy:
		return RCInProgress
	case journal.OriginalNotFound, journal.OriginalDiffers:
		return RCNoOriginal
	case journal.UnknownTerminal:
		return RCUnknownTerminal
	case journal.TerminalNotActive, journal.RiskRefused:
		return RCNotPermittedHere
	case journal.MerchantNotActive:
		return RCInvalidMerchant
	case journal.LimitAmount, journal.AmountOver:
		return RCAmountLimit
	case journal.LimitCount:
		return RCCountLimit
	case journal.Unreachable, journal.IssuerBusy:
		return RCIssuerUnreachable
	case journal.Unanswered, journal.AnswerWrong, journal.Interrupted, journal.TerminalReversed:
		return RCIssuerTimeout
	}
	return RCMalfunction
}
