package spec

import "strconv"

// What the codes mean, in Chinese and English, for people who read a decoded
// message. Nothing decides by these tables. Response codes (DE 39) are told by
// the switch alone.

var mtiNames = map[MTI]string{
	0x0100: "预授权请求 Pre-authorisation request", 0x0110: "预授权应答 Pre-authorisation response",
	0x0200: "金融请求 Financial request", 0x0210: "金融应答 Financial response",
	0x0220: "金融通知 Financial advice", 0x0230: "金融通知应答 Financial advice response",
	0x0302: "文件更新请求 File update request", 0x0312: "文件更新应答 File update response",
	0x0320: "批上送请求 Batch upload request", 0x0330: "批上送应答 Batch upload response",
	0x0400: "冲正请求 Reversal request", 0x0410: "冲正应答 Reversal response",
	0x0420: "冲正通知 Reversal advice", 0x0430: "冲正通知应答 Reversal advice response",
	0x0500: "批结算请求 Settlement request", 0x0510: "批结算应答 Settlement response",
	0x0520: "对账通知 Reconciliation advice", 0x0530: "对账通知应答 Reconciliation advice response",
	0x0620: "管理通知 Administrative advice (script result)", 0x0630: "管理通知应答 Administrative advice response",
	0x0800: "网络管理请求 Network management request", 0x0810: "网络管理应答 Network management response",
	0x0820: "网络管理通知 Network management advice", 0x0830: "网络管理通知应答 Network management advice response",
	0x0920: "电子签名请求 Electronic signature request", 0x0930: "电子签名应答 Electronic signature response",
}

// Title is the name of the message type, "" when it has none.
func (m MTI) Title() string { return mtiNames[m] }

var processingNames = map[string]string{
	"00": "消费 purchase", "17": "现金充值撤销 load void", "20": "撤销/退货 void or refund", "30": "可用余额查询 balance inquiry",
	"03": "预授权 pre-authorisation", "31": "余额查询 balance inquiry", "33": "账户验证 account verification",
	"40": "账户转账 transfer", "47": "转账 transfer", "60": "指定账户圈存 load from own account", "62": "非指定账户圈存 load from another account",
	"63": "现金充值 cash load", "89": "身份验证 identity verification",
}

// isoProcessingNames are the first two digits of DE 3 in ISO 8583:1987 as
// terminals outside UnionPay's world use them.
var isoProcessingNames = map[string]string{
	"00": "消费/预授权 purchase or authorisation", "02": "撤销 void or debit adjustment", "03": "预授权 authorisation", "20": "退货 refund",
	"22": "贷记调整 credit adjustment", "30": "可用余额查询 available funds inquiry", "31": "余额查询 balance inquiry",
}

var entryModeNames = map[string]string{
	"00": "未知 unknown", "01": "手工 keyed", "02": "磁条 magnetic stripe", "03": "二维码 QR or bar code", "04": "扫码 scan",
	"05": "接触式IC contact chip", "07": "非接触IC contactless chip", "80": "降级 fallback", "90": "磁条全轨 full magnetic stripe",
	"91": "非接触磁条 contactless stripe", "92": "预约/手机 reservation or telephone", "95": "IC卡不可靠 chip, data unreliable",
	"96": "手机芯片 mobile chip", "98": "非接触全流程 contactless, full PBOC",
}

var pinEntryNames = map[byte]string{'0': "PIN能力未知 PIN unknown", '1': "有PIN with PIN", '2': "无PIN without PIN"}

var conditionNames = map[string]string{
	"00": "正常 normal", "06": "预授权类 pre-authorisation family", "08": "邮电 mail or telephone order", "18": "邮电预授权 mail-order pre-authorisation",
	"60": "追加预授权 additional pre-authorisation", "64": "分期 instalment", "65": "积分 bonus points", "66": "账户充值 account load",
	"67": "预约 reservation", "91": "电子现金充值 electronic cash load",
}

var reversalReasonNames = map[string]string{
	"06": "其他原因 other", "98": "超时未收到应答 no answer in time", "A0": "应答MAC错 MAC of the answer wrong",
}

var de60TypeNames = map[int]string{
	0: "管理/脚本 management or script result", 1: "余额查询 balance", 3: "积分查询 bonus inquiry", 7: "电子签名 electronic signature",
	10: "预授权 pre-authorisation", 11: "预授权撤销 pre-authorisation void", 20: "预授权完成请求 completion request",
	21: "预授权完成撤销 completion void", 22: "消费 sale", 23: "消费撤销 void", 24: "预授权完成通知 completion notice",
	25: "退货 refund", 27: "电子现金退货 electronic cash refund", 30: "离线结算 offline settle", 32: "结算调整 offline adjust",
	34: "小费调整 tip adjust", 36: "脱机消费 offline chip sale", 40: "电子钱包圈存 purse load", 41: "电子钱包圈存 purse load", 42: "电子钱包圈存 purse load",
	45: "指定账户圈存 e-cash load", 46: "现金充值 e-cash cash load", 47: "非指定账户圈存 e-cash load from another account",
	48: "磁条卡充值验证 stripe top-up check", 49: "磁条卡充值 stripe top-up", 51: "现金充值撤销 e-cash load void",
	53: "预约消费 reservation sale", 54: "预约撤销 reservation void",
}

var networkNames = map[int]string{
	0: "金融交易 financial", 1: "签到 单倍长 sign-in, single-length keys", 2: "签退 sign-off", 3: "签到 双倍长 sign-in, double-length keys",
	4: "签到 双倍长含磁道密钥 sign-in, double-length keys and track key", 5: "签到 国密 sign-in, SM4 keys",
	201: "批结算/磁条上送 settlement, stripe upload", 202: "批上送结束 不平 end of upload, not balanced", 207: "批上送结束 平 end of upload, balanced",
	203: "IC联机上送 平 chip upload, balanced", 205: "IC联机上送 不平 chip upload, not balanced",
	204: "IC失败上送 平 failed chip upload, balanced", 206: "IC失败上送 不平 failed chip upload, not balanced",
	301: "回响测试 echo test", 360: "参数下载 parameter download", 361: "参数下载结束 end of parameter download", 362: "状态上送 status upload",
	370: "公钥下载 CA key download", 371: "公钥下载结束 end of CA key download", 372: "公钥查询 CA key query",
	380: "IC参数下载 chip parameter download", 381: "IC参数下载结束 end of chip parameter download", 382: "IC参数查询 chip parameter query",
	390: "黑名单下载 black list download", 391: "黑名单下载结束 end of black list download",
	394: "非接参数下载 contactless parameter download", 395: "非接参数下载结束 end of contactless parameter download",
	401: "收银员积分签到 cashier bonus sign-in", 420: "主密钥下载 master key download", 682: "主密钥下载 master key download",
	800: "电子签名 electronic signature", 951: "脚本结果 script result",
}

var cupsNetworkNames = map[string]string{
	"001": "签到 sign-on", "002": "签退 sign-off", "101": "重置密钥 key reset", "201": "日期切换开始 cut-off begins",
	"202": "日期切换结束 cut-off ends", "301": "线路测试 echo test", "401": "交易流水批量 store and forward",
}

var capabilityNames = [10]string{"不确定 unknown", "", "磁条 stripe", "", "", "接触式IC contact chip", "非接触 contactless"}
var icConditionNames = [10]string{"未使用 not used", "上次IC读取成功 last chip read good", "上次IC读取失败 fallback after a failed chip read"}

// emvNames are the tags of EMV book 3 annex A, PBOC 3.0 and the UnionPay
// terminal dialect.
var emvNames = map[uint32]string{
	0x42: "Issuer identification number", 0x4F: "Application identifier (AID)", 0x50: "Application label", 0x56: "Track 1 data",
	0x57: "Track 2 equivalent data", 0x5A: "Application PAN", 0x61: "Application template", 0x6F: "FCI template",
	0x70: "Record template", 0x71: "Issuer script template 1", 0x72: "Issuer script template 2", 0x73: "Directory discretionary template",
	0x77: "Response template format 2", 0x80: "Response template format 1", 0x81: "Amount, authorised (binary)",
	0x82: "Application interchange profile", 0x83: "Command template", 0x84: "Dedicated file name", 0x86: "Issuer script command",
	0x87: "Application priority indicator", 0x88: "Short file identifier", 0x89: "Authorisation code", 0x8A: "Authorisation response code",
	0x8C: "CDOL1", 0x8D: "CDOL2", 0x8E: "CVM list", 0x8F: "CA public key index", 0x90: "Issuer public key certificate",
	0x91: "Issuer authentication data", 0x92: "Issuer public key remainder", 0x93: "Signed static application data",
	0x94: "Application file locator", 0x95: "Terminal verification results", 0x97: "TDOL", 0x98: "Transaction certificate hash",
	0x99: "Transaction PIN data", 0x9A: "Transaction date", 0x9B: "Transaction status information", 0x9C: "Transaction type", 0x9D: "Directory definition file name",
	0xA5: "FCI proprietary template", 0xBF0C: "FCI issuer discretionary data",
	0x5F20: "Cardholder name", 0x5F24: "Application expiration date", 0x5F25: "Application effective date", 0x5F28: "Issuer country code",
	0x5F2A: "Transaction currency code", 0x5F2D: "Language preference", 0x5F30: "Service code", 0x5F34: "PAN sequence number",
	0x5F36: "Transaction currency exponent", 0x5F50: "Issuer URL", 0x5F53: "IBAN", 0x5F54: "Bank identifier code", 0x5F55: "Issuer country code (alpha2)", 0x5F57: "Account type",
	0x9F01: "Acquirer identifier", 0x9F02: "Amount, authorised", 0x9F03: "Amount, other", 0x9F04: "Amount, other (binary)",
	0x9F05: "Application discretionary data", 0x9F06: "Application identifier (terminal)", 0x9F07: "Application usage control",
	0x9F08: "Application version (card)", 0x9F09: "Application version (terminal)", 0x9F0B: "Cardholder name, extended",
	0x9F0D: "Issuer action code, default", 0x9F0E: "Issuer action code, denial", 0x9F0F: "Issuer action code, online",
	0x9F10: "Issuer application data", 0x9F11: "Issuer code table index", 0x9F12: "Application preferred name", 0x9F13: "Last online ATC register",
	0x9F14: "Lower consecutive offline limit", 0x9F15: "Merchant category code", 0x9F16: "Merchant identifier", 0x9F17: "PIN try counter",
	0x9F18: "Issuer script identifier", 0x9F1A: "Terminal country code", 0x9F1B: "Terminal floor limit", 0x9F1C: "Terminal identification",
	0x9F1D: "Terminal risk management data", 0x9F1E: "Interface device serial number", 0x9F1F: "Track 1 discretionary data",
	0x9F20: "Track 2 discretionary data", 0x9F21: "Transaction time", 0x9F22: "CA public key index (terminal)", 0x9F23: "Upper consecutive offline limit",
	0x9F26: "Application cryptogram", 0x9F27: "Cryptogram information data", 0x9F2D: "ICC PIN public key certificate", 0x9F32: "Issuer public key exponent",
	0x9F33: "Terminal capabilities", 0x9F34: "CVM results", 0x9F35: "Terminal type", 0x9F36: "Application transaction counter",
	0x9F37: "Unpredictable number", 0x9F38: "PDOL", 0x9F39: "POS entry mode", 0x9F3A: "Amount, reference currency", 0x9F3B: "Application reference currency",
	0x9F3C: "Transaction reference currency", 0x9F3D: "Transaction reference currency exponent", 0x9F40: "Additional terminal capabilities",
	0x9F41: "Transaction sequence counter", 0x9F42: "Application currency code", 0x9F43: "Application reference currency exponent",
	0x9F44: "Application currency exponent", 0x9F45: "Data authentication code", 0x9F46: "ICC public key certificate", 0x9F47: "ICC public key exponent",
	0x9F48: "ICC public key remainder", 0x9F49: "DDOL", 0x9F4A: "Static data authentication tag list", 0x9F4B: "Signed dynamic application data",
	0x9F4C: "ICC dynamic number", 0x9F4D: "Log entry", 0x9F4E: "Merchant name and location", 0x9F4F: "Log format",
	0x9F51: "Application currency code (PBOC)", 0x9F52: "Card verification results (PBOC)", 0x9F53: "Consecutive transaction limit (PBOC)",
	0x9F5A: "Application program identifier", 0x9F5B: "Issuer script results", 0x9F5D: "Available offline spending amount",
	0x9F61: "Cardholder identification number", 0x9F62: "Cardholder identification type", 0x9F63: "Card product identification",
	0x9F66: "Terminal transaction qualifiers", 0x9F6B: "Track 2 data", 0x9F6C: "Card transaction qualifiers", 0x9F6D: "E-cash reset threshold",
	0x9F6E: "Form factor indicator", 0x9F74: "E-cash issuer authorisation code", 0x9F77: "E-cash balance limit", 0x9F78: "E-cash single transaction limit",
	0x9F79: "E-cash balance", 0x9F7A: "E-cash terminal indicator", 0x9F7B: "E-cash terminal transaction limit", 0x9F7C: "Customer exclusive data", 0x9F7D: "Signed static data (qPBOC)",
	0xDF01: "Application selection indicator", 0xDF02: "CA public key modulus", 0xDF03: "CA public key check sum", 0xDF04: "CA public key exponent",
	0xDF05: "CA public key expiry date", 0xDF06: "CA hash algorithm", 0xDF07: "CA public key algorithm",
	0xDF11: "Terminal action code, default", 0xDF12: "Terminal action code, online", 0xDF13: "Terminal action code, denial", 0xDF14: "Default DDOL",
	0xDF15: "Threshold for biased random selection", 0xDF16: "Maximum target percentage", 0xDF17: "Target percentage", 0xDF18: "Online PIN supported",
	0xDF19: "Contactless floor limit", 0xDF20: "Contactless transaction limit", 0xDF21: "Contactless CVM limit", 0xDF31: "Issuer script result", 0xDF32: "Chip serial number", 0xDF33: "Session key data", 0xDF34: "Terminal reading time",
	0xFF00: "商户名称 Merchant name", 0xFF01: "交易类型 Transaction type", 0xFF02: "操作员号 Operator", 0xFF03: "收单机构 Acquirer",
	0xFF04: "发卡机构 Issuer", 0xFF05: "有效期 Expiry date", 0xFF06: "日期时间 Date and time", 0xFF07: "授权码 Authorisation code",
	0xFF09: "交易币种 Currency", 0xFF23: "应用密文 Cryptogram", 0xFF30: "应用标签 Application label", 0xFF31: "应用标识 AID",
	0xFF60: "原凭证号 Original voucher", 0xFF62: "原参考号 Original reference", 0xFF63: "原交易日期 Original date", 0xFF64: "原授权码 Original authorisation code", 0xFF70: "打印联数 Print copies",
}

// TagName is the name of a tag of DE 55, "" when it has none here.
func TagName(tag uint32) string { return emvNames[tag] }

// tagText is a tag as hexadecimal: 9F26.
func tagText(tag uint32) string {
	s := strconv.FormatUint(uint64(tag), 16)
	b := make([]byte, 0, 8)
	if len(s)&1 != 0 {
		b = append(b, '0')
	}
	for i := range len(s) {
		b = append(b, hexDigits[hexNibble(s[i])])
	}
	return string(b)
}

// parameterTags are the tags of terminal parameters and status in DE 62: two
// digits and a value of fixed length.
var parameterTags = map[string]struct {
	size int
	name string
}{
	"11": {2, "应用类型 application"}, "12": {2, "超时时间 communication timeout"}, "13": {1, "重拨次数 dial retries"},
	"14": {14, "交易电话1 telephone 1"}, "15": {14, "交易电话2 telephone 2"}, "16": {14, "交易电话3 telephone 3"}, "17": {14, "管理电话 management telephone"},
	"18": {1, "是否支持小费 tip allowed"}, "19": {2, "小费百分比 tip percentage"}, "20": {1, "是否支持手工输入 manual entry allowed"},
	"21": {1, "是否自动签退 automatic sign-off"}, "22": {40, "商户名称 merchant name"}, "23": {1, "重发次数 resend times"},
	"24": {1, "离线上送方式 offline send mode"}, "25": {1, "主密钥索引 key index"}, "26": {4, "交易种类 open transactions"},
	"27": {2, "离线上送数 offline transactions kept"}, "51": {12, "拨号统计 dial statistics"},
}

var de59Names = map[string]string{
	"A1": "附加信息 additional information", "A2": "终端信息 terminal information", "A3": "付款码 payment code",
	"A4": "付款凭证码 payment voucher", "A5": "位置 location",
}

var terminalInfoNames = map[string]string{
	"01": "设备类型 device type", "02": "终端序列号 serial number", "03": "加密随机因子 encryption factor",
	"04": "密文 encrypted serial number", "05": "应用程序版本 application version",
}

var hardwareInfoNames = map[string]string{
	"04": "设备类型 device type", "05": "终端序列号 serial number", "06": "加密随机因子 encryption factor",
	"07": "密文 encrypted serial number", "08": "应用程序版本 application version",
}
