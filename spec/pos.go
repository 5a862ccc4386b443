package spec

import (
	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
)

// UnionPayPOS is the dialect of UnionPay terminals: BCD, lengths in BCD,
// text in GBK (docs/fields.md). It is read tolerantly: what captures of
// different vendors disagree on (lengths of DE 48 and 54 to 63) is capped by
// the three digits of the length alone; what a digit is, where a fixed field
// ends and what follows the last one is strict.
//
// Its presence rules (dialects/unionpay-pos-presence.json) ask for what the
// known hosts call mandatory and every captured request has.
var UnionPayPOS = posDialect()

func posDialect() *Dialect {
	d := mustCompile("unionpay-pos", posSpec())
	d.title, d.use, d.framing = "UnionPay terminals, BCD", useUnionPay, posFraming
	d.mac = &MACRule{Alg: "unionpay", Fields: []int{64}}
	if err := d.readPresence("dialects/unionpay-pos-presence.json"); err != nil {
		panic(err) // the table of this package is wrong: found by any test
	}
	return d
}

func mustCompile(name string, s *iso8583.MessageSpec) *Dialect {
	d, err := Compile(name, s)
	if err != nil {
		panic(err) // a dialect of this package is wrong: found by any test
	}
	return d
}

func str(k Kind, l Length, length int, name string) field.Field {
	return field.NewString(&field.Spec{Length: length, Description: name, Enc: k, Pref: l})
}

func bin(l Length, length int, name string) field.Field {
	return field.NewBinary(&field.Spec{Length: length, Description: name, Enc: Binary, Pref: l})
}

func bitmap() field.Field {
	return field.NewBitmap(&field.Spec{Length: 8, Description: "位图 Bitmap", Enc: bitmapBits, Pref: Fixed})
}

func posSpec() *iso8583.MessageSpec {
	n := func(length int, name string) field.Field { return str(BCDLeft, Fixed, length, name) }
	n3 := func(name string) field.Field { return str(BCDEither, Fixed, 3, name) }
	nLL := func(most int, name string) field.Field { return str(BCDLeft, BCDLL, most, name) }
	nLLL := func(most int, name string) field.Field { return str(BCDLeft, BCDLLL, most, name) }
	an := func(length int, name string) field.Field { return str(Text, Fixed, length, name) }
	anLL := func(most int, name string) field.Field { return str(Text, BCDLL, most, name) }
	anLLL := func(name string) field.Field { return str(Text, BCDLLL, 999, name) }
	bLLL := func(name string) field.Field { return bin(BCDLLL, 999, name) }

	f := map[int]field.Field{
		0: str(mtiBCD, Fixed, 4, "消息类型 Message type"),
		1: bitmap(),

		2:  nLL(19, "主账号 Primary account number"),
		3:  n(6, "交易处理码 Processing code"),
		4:  n(12, "交易金额 Amount"),
		5:  n(12, "清算金额 Settlement amount"),
		6:  n(12, "持卡人账户金额 Cardholder billing amount"),
		7:  n(10, "交易传输时间 Transmission date and time"),
		8:  n(8, "持卡人账户费用 Cardholder billing fee"),
		9:  n(8, "清算汇率 Settlement conversion rate"),
		10: n(8, "持卡人账户汇率 Cardholder billing conversion rate"),
		11: n(6, "受卡方系统跟踪号 System trace audit number"),
		12: n(6, "受卡方所在地时间 Local time"),
		13: n(4, "受卡方所在地日期 Local date"),
		14: n(4, "卡有效期 Expiry date"),
		15: n(4, "清算日期 Settlement date"),
		16: n(4, "兑换日期 Conversion date"),
		17: n(4, "获取日期 Capture date"),
		18: n(4, "商户类型 Merchant category"),
		19: n3("收单机构国家代码 Acquirer country"),
		20: n3("主账号国家代码 PAN country"),
		21: n3("转发机构国家代码 Forwarder country"),
		22: n3("服务点输入方式码 Point of service entry mode"),
		23: str(BCDRight, Fixed, 3, "卡序列号 Card sequence number"),
		24: n3("网络国际标识 Network international identifier"),
		25: n(2, "服务点条件码 Point of service condition code"),
		26: n(2, "服务点PIN获取码 PIN capture code"),
		27: n(1, "授权标识应答长度 Authorisation code length"),
		28: an(9, "交易费 Transaction fee"),
		29: an(9, "清算费 Settlement fee"),
		30: an(9, "交易处理费 Processing fee"),
		31: an(9, "清算处理费 Settlement processing fee"),
		32: nLL(11, "受理方标识码 Acquiring institution"),
		33: nLL(11, "转发机构标识码 Forwarding institution"),
		34: anLL(28, "扩展主账号 Extended account number"),
		35: str(Track, BCDLL, 64, "2磁道数据 Track 2"),
		36: str(Track, BCDLLL, 128, "3磁道数据 Track 3"),
		37: an(12, "检索参考号 Retrieval reference number"),
		38: an(6, "授权标识应答码 Authorisation code"),
		39: an(2, "应答码 Response code"),
		40: an(3, "服务限制码 Service restriction code"),
		41: an(8, "受卡机终端标识码 Terminal"),
		42: an(15, "受卡方标识码 Merchant"),
		43: an(40, "受卡方名称地址 Merchant name and location"),
		44: anLL(99, "附加响应数据 Additional response data"),
		45: anLL(79, "1磁道数据 Track 1"),
		46: anLLL("终端硬件信息 Terminal hardware information"),
		47: anLLL("附加数据 Additional data (national)"),
		48: nLLL(999, "附加数据 Additional data (totals, batch details, tip)"),
		49: an(3, "交易货币代码 Transaction currency"),
		50: an(3, "清算货币代码 Settlement currency"),
		51: an(3, "持卡人账户货币代码 Cardholder billing currency"),
		52: bin(Fixed, 8, "个人标识码数据 PIN block"),
		53: n(16, "安全控制信息 Security control information"),
		54: anLLL("附加金额 Additional amounts"),
		55: bLLL("IC卡数据域 IC card data"),
		56: anLLL("附加信息 Additional information"),
		57: anLLL("附加交易信息 Additional transaction information"),
		58: anLLL("PBOC电子钱包数据 PBOC electronic purse data"),
		59: anLLL("自定义域 QR code and terminal information"),
		60: nLLL(999, "自定义域 Batch and network management"),
		61: nLLL(999, "原始信息域 Original transaction"),
		62: bLLL("自定义域 Keys, parameters, details"),
		63: anLLL("自定义域 Operator, scheme, texts"),
		64: bin(Fixed, 8, "报文鉴别码 Message authentication code"),

		66:  n(1, "结算码 Settlement code"),
		67:  n(2, "扩展付款码 Extended payment code"),
		68:  n3("收单机构国家代码 Receiving institution country"),
		69:  n3("结算机构国家代码 Settlement institution country"),
		70:  n3("网络管理信息码 Network management information code"),
		71:  n(4, "报文编号 Message number"),
		72:  n(4, "最后报文编号 Last message number"),
		73:  n(6, "动作日期 Action date"),
		74:  n(10, "贷记笔数 Credits, number"),
		75:  n(10, "贷记撤销笔数 Credits reversed, number"),
		76:  n(10, "借记笔数 Debits, number"),
		77:  n(10, "借记撤销笔数 Debits reversed, number"),
		78:  n(10, "转账笔数 Transfers, number"),
		79:  n(10, "转账撤销笔数 Transfers reversed, number"),
		80:  n(10, "查询笔数 Inquiries, number"),
		81:  n(10, "授权笔数 Authorisations, number"),
		82:  n(12, "贷记手续费 Credits, processing fee"),
		83:  n(12, "贷记交易费 Credits, transaction fee"),
		84:  n(12, "借记手续费 Debits, processing fee"),
		85:  n(12, "借记交易费 Debits, transaction fee"),
		86:  n(16, "贷记金额 Credits, amount"),
		87:  n(16, "贷记撤销金额 Credits reversed, amount"),
		88:  n(16, "借记金额 Debits, amount"),
		89:  n(16, "借记撤销金额 Debits reversed, amount"),
		90:  n(42, "原始数据元 Original data elements"),
		91:  an(1, "文件修改码 File update code"),
		92:  an(2, "文件安全码 File security code"),
		93:  an(5, "响应标识 Response indicator"),
		94:  an(7, "服务标识 Service indicator"),
		95:  an(42, "替换金额 Replacement amounts"),
		96:  bin(Fixed, 8, "报文安全码 Message security code"),
		97:  an(17, "净结算额 Net settlement amount"),
		98:  an(25, "收款人 Payee"),
		99:  nLL(11, "结算机构标识码 Settlement institution"),
		100: nLL(11, "接收机构标识码 Receiving institution"),
		101: anLL(17, "文件名 File name"),
		102: anLL(28, "账户标识1 Account identification 1"),
		103: anLL(28, "账户标识2 Account identification 2"),
		104: anLLL("交易描述 Transaction description"),
		128: bin(Fixed, 8, "报文鉴别码 Message authentication code"),
	}
	for i := 105; i < 128; i++ {
		f[i] = anLLL("保留域 Reserved")
	}
	return &iso8583.MessageSpec{Name: "unionpay-pos", Fields: f}
}
