package spec

import (
	"bytes"
	"strconv"
)

// Item is one field of a described message, or a part of one.
type Item struct {
	Field string `json:"field"`           // "2", "60.1", "55.9F26"
	Name  string `json:"name"`            // Chinese and English
	Value string `json:"value"`           // as text, masked unless revealed
	Note  string `json:"note,omitempty"`  // what the value means
	Sub   []Item `json:"parts,omitempty"` // sub-fields, data objects
}

// Describe lists the fields of a message with their names and parts, masked:
// account numbers show their first six and last four digits, tracks, PIN
// blocks, keys, payment codes and identity data are hidden. MACs and expiry
// dates are shown.
func Describe(m *Message) []Item { return describe(m, false) }

// Reveal is Describe without the mask. Every caller shows card data and key
// cryptograms to somebody.
func Reveal(m *Message) []Item { return describe(m, true) }

func describe(m *Message, reveal bool) []Item {
	if m.d == nil {
		return nil
	}
	v := newView(m, reveal)
	var out []Item
	for n := 2; n <= maxField; n++ {
		if m.Has(n) {
			i := Item{Field: strconv.Itoa(n), Name: m.d.FieldName(n), Value: v.exact(n)}
			v.describe(n, &i)
			out = append(out, i)
		}
	}
	return out
}

// describe adds the note and the parts of DE n.
func (v *view) describe(n int, i *Item) {
	t := v.chars(n)
	if v.m.d.use == useOpen {
		v.describeOpen(n, i, t)
		return
	}
	pos := v.m.d.use == useUnionPay
	switch n {
	case 3:
		i.Note = processingNames[string(t[:2])]
	case 4, 5, 6:
		i.Note = yuan(t)
		if c := v.m.Bytes(49); n == 4 && string(c) == "156" {
			i.Note += " CNY"
		}
	case 12:
		i.Note = string(t[:2]) + ":" + string(t[2:4]) + ":" + string(t[4:])
	case 13, 15:
		i.Note = string(t[:2]) + "-" + string(t[2:])
	case 22:
		i.Note = join(entryModeNames[string(t[:2])], pinEntryNames[t[2]])
	case 25:
		i.Note = conditionNames[string(t)]
	case 39:
		if v.m.mti.Class() == 4 && !v.m.mti.IsResponse() {
			i.Note = reversalReasonNames[string(t)]
		}
	case 44:
		if len(t) >= 11 {
			i.Sub = v.cut(n, []cutPart{{11, "发卡机构 issuer", nil}, {11, "收单机构 acquirer", nil}})
		}
	case 46:
		for e := range terminalInfo(t) {
			i.Sub = append(i.Sub, v.item(n, e.tag, hardwareInfoNames[e.tag], e.value.from, e.value.to))
		}
	case 48:
		if pos {
			i.Sub = v.totals(t)
		}
	case 49, 50, 51:
		if string(t) == "156" {
			i.Note = "CNY"
		}
	case 53:
		i.Sub = v.security(t, pos)
	case 54:
		i.Sub = v.balances(t)
	case 55:
		i.Sub = v.objects(v.m.Bytes(55), 0, 0)
	case 59:
		if pos {
			start, width := de59Start(t)
			i.Sub = v.elements(n, t, start, width, de59Names)
		}
	case 60:
		if pos {
			i.Sub = v.batch(t)
		} else {
			i.Sub = v.indicators(t)
		}
	case 61:
		if pos {
			i.Sub = v.cut(n, []cutPart{{6, "原批次号 original batch", nil}, {6, "原流水号 original trace number", nil}, {4, "原交易日期 original date", nil},
				{2, "原授权方式 original authorisation mode", nil}, {11, "原授权机构 original authorising institution", nil}})
		}
	case 62:
		if pos {
			v.describe62(i)
		}
	case 63:
		v.describe63(i, t, pos)
	case 64, 128:
		if s, ok := gbkText(v.m.Bytes(n)); ok {
			i.Note = "\"" + s + "\""
		}
	case 70:
		if !pos {
			i.Note = cupsNetworkNames[string(t)]
		}
	case 90:
		i.Sub = v.cut(n, originalParts)
	}
}

var originalParts = []cutPart{{4, "原消息类型 original message type", nil}, {6, "原系统跟踪号 original trace number", nil},
	{10, "原传输时间 original transmission time", nil}, {11, "原受理机构 original acquirer", nil}, {11, "原发送机构 original forwarder", nil}}

// describeOpen is describe for a dialect that a file declares: its fields may
// have any length, and private ones any meaning.
func (v *view) describeOpen(n int, i *Item, t []byte) {
	long := func(least int) bool { return len(t) >= least }
	switch {
	case n == 3 && long(2):
		i.Note = isoProcessingNames[string(t[:2])]
	case n == 12 && len(t) == 6:
		i.Note = string(t[:2]) + ":" + string(t[2:4]) + ":" + string(t[4:])
	case (n == 13 || n == 15) && len(t) == 4:
		i.Note = string(t[:2]) + "-" + string(t[2:])
	case n == 22 && long(3):
		i.Note = join(entryModeNames[string(t[:2])], pinEntryNames[t[2]])
	case n == 25:
		i.Note = conditionNames[string(t)]
	case n == 54:
		i.Sub = v.balances(t)
	case n == 55 && v.m.d.cells[n].kind == Binary:
		i.Sub = v.objects(v.m.Bytes(55), 0, 0)
	case n == 64 || n == 128:
		i.Note = "报文鉴别码 MAC"
	case n == 70:
		i.Note = cupsNetworkNames[string(t)]
	case n == 90:
		i.Sub = v.cut(n, originalParts)
	case v.m.d.pin != nil && n == v.m.d.pin.KSN:
		i.Note = "DUKPT"
	}
}

// item is one part of DE n, by position.
func (v *view) item(n int, tag, name string, from, to int) Item {
	return Item{Field: strconv.Itoa(n) + "." + tag, Name: name, Value: v.part(n, from, to)}
}

// cutPart is a part of fixed length.
type cutPart struct {
	size int
	name string
	note func(string) string
}

// cut takes DE n apart by fixed lengths, as far as it goes.
func (v *view) cut(n int, parts []cutPart) []Item {
	total := len(v.chars(n))
	var out []Item
	for o, k := 0, 0; k < len(parts) && o < total; k++ {
		p := parts[k]
		end := min(o+p.size, total)
		it := v.item(n, strconv.Itoa(k+1), p.name, o, end)
		if p.note != nil && end == o+p.size {
			it.Note = p.note(it.Value)
		}
		out = append(out, it)
		o = end
	}
	return out
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", " + b
}

// yuan shows an amount in minor units with two decimals.
func yuan(digits []byte) string {
	d := bytes.TrimLeft(digits, "0")
	for len(d) < 3 {
		d = append([]byte{'0'}, d...)
	}
	return string(d[:len(d)-2]) + "." + string(d[len(d)-2:])
}

// ofDigit is the name of a one-digit code.
func ofDigit(names [10]string, s string) string {
	if len(s) != 1 || s[0]-'0' > 9 {
		return ""
	}
	return names[s[0]-'0']
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// batch takes a terminal's DE 60 apart.
func (v *view) batch(t []byte) []Item {
	return v.cut(60, []cutPart{
		{2, "交易类型码 message type", func(s string) string { return de60TypeNames[number(s)] }},
		{6, "批次号 batch", nil},
		{3, "网络管理信息码 network management", func(s string) string { return networkNames[number(s)] }},
		{1, "终端读取能力 terminal capability", func(s string) string { return ofDigit(capabilityNames, s) }},
		{1, "IC卡条件代码 chip condition", func(s string) string { return ofDigit(icConditionNames, s) }},
		{1, "支持部分扣款和返回余额 partial approval and balance", nil},
		{3, "账户类型 account type", nil},
	})
}

// indicators take the DE 60 of CUPS apart.
func (v *view) indicators(t []byte) []Item {
	return v.cut(60, []cutPart{
		{4, "报文原因代码 message reason", nil}, {1, "服务点附加信息:账户所有人类型 account owner", nil},
		{1, "终端读取能力 terminal capability", func(s string) string { return ofDigit(capabilityNames, s) }},
		{1, "IC卡条件代码 chip condition", nil}, {1, "保留 reserved", nil}, {2, "终端类型 terminal type", nil},
		{1, "免密标志 no-PIN flag", nil}, {1, "IC卡验证可靠性 chip reliability", nil}, {2, "电子商务标志 e-commerce", nil},
		{1, "交互方式 interaction", nil}, {15, "附加信息 additional", nil},
	})
}

// security takes DE 53 apart.
func (v *view) security(t []byte, pos bool) []Item {
	if !pos {
		switch string(t[:2]) {
		case "16":
			return v.cut(53, []cutPart{{2, "重置密钥 key reset", func(string) string { return "PIK 双倍长 double length" }}})
		case "20":
			if v.m.mti.Class() == 8 {
				return v.cut(53, []cutPart{{2, "重置密钥 key reset", func(string) string { return "MAK 单倍长 single length" }}})
			}
		}
	}
	formats := map[string]string{"0": "无PIN no PIN", "1": "不带主账号 X9.8 without PAN", "2": "带主账号 X9.8 with PAN"}
	algorithms := map[string]string{"0": "单倍长DES single DES", "6": "双倍长3DES double-length 3DES", "3": "国密 SM4", "4": "国密 SM4"}
	tracks := map[string]string{"0": "不加密 clear", "1": "加密 encrypted"}
	return v.cut(53, []cutPart{
		{1, "PIN格式 PIN format", func(s string) string { return formats[s] }},
		{1, "加密算法 algorithm", func(s string) string { return algorithms[s] }},
		{1, "磁道加密标志 track encryption", func(s string) string { return tracks[s] }},
	})
}

// balances take DE 54 apart: account type 2, amount type 2, currency 3, sign,
// amount 12, repeated.
func (v *view) balances(t []byte) []Item {
	if len(t) == 0 || len(t)%20 != 0 {
		return nil
	}
	var out []Item
	for o := 0; o < len(t); o += 20 {
		it := v.item(54, strconv.Itoa(o/20+1), "余额 balance", o, o+20)
		if a := t[o+8 : o+20]; len(bytes.Trim(a, "0123456789")) == 0 {
			sign := ""
			if t[o+7] == 'D' {
				sign = "-"
			}
			it.Note = sign + yuan(a)
			if string(t[o+4:o+7]) == "156" {
				it.Note += " CNY"
			}
		}
		out = append(out, it)
	}
	return out
}

// totals take the DE 48 of settlement and batch upload apart.
func (v *view) totals(t []byte) []Item {
	flags := map[string]string{"0": "未对账 not compared", "1": "平 balanced", "2": "不平 not balanced", "3": "出错 error"}
	money := func(s string) string { return yuan([]byte(s)) }
	flag := func(s string) string { return flags[s] }
	switch {
	case len(t) == 62 && v.m.mti.Class() == 5:
		return v.cut(48, []cutPart{
			{12, "内卡借记总金额 domestic debits", money}, {3, "内卡借记总笔数 domestic debits, number", nil},
			{12, "内卡贷记总金额 domestic credits", money}, {3, "内卡贷记总笔数 domestic credits, number", nil}, {1, "内卡对账应答 domestic balance", flag},
			{12, "外卡借记总金额 foreign debits", money}, {3, "外卡借记总笔数 foreign debits, number", nil},
			{12, "外卡贷记总金额 foreign credits", money}, {3, "外卡贷记总笔数 foreign credits, number", nil}, {1, "外卡对账应答 foreign balance", flag},
		})
	case isBatchDetails(v.m, t):
		out := []Item{v.item(48, "1", "笔数 number", 0, 2)}
		for o := 2; o < len(t); o += 40 {
			k := strconv.Itoa(o/40 + 2)
			it := v.item(48, k, "明细 detail", o, o+40)
			it.Sub = []Item{
				v.item(48, k+".1", "卡类 card kind", o, o+2), v.item(48, k+".2", "流水号 trace number", o+2, o+8),
				v.item(48, k+".3", "卡号 account number", o+8, o+28), v.item(48, k+".4", "金额 amount", o+28, o+40),
			}
			out = append(out, it)
		}
		return out
	case v.m.mti.Class() == 3 && len(t) == 4:
		return v.cut(48, []cutPart{{4, "总笔数 number of records", nil}})
	}
	return nil
}

// objects lists the data objects of DE 55; at is the offset of b in bytes.
func (v *view) objects(b []byte, at, depth int) []Item {
	var out []Item
	for o := 0; o < len(b); {
		if b[o] == 0 {
			o++
			continue
		}
		t, n, err := readTLV(b[o:], o)
		if err != nil {
			it := v.item(55, "?", "不可读 unreadable", 2*(at+o), 2*(at+len(b)))
			it.Note = err.Error()
			return append(out, it)
		}
		start := at + o + n - len(t.Value)
		it := v.item(55, tagText(t.Tag), TagName(t.Tag), 2*start, 2*(at+o+n))
		if t.Tag>>8 == 0xFF || t.Tag == 0x50 || t.Tag == 0x9F1E || t.Tag == 0x9F12 || t.Tag == 0x8A || t.Tag == 0x9F74 {
			if s := v.ascii(55, start, at+o+n); s != "" && !bytes.HasPrefix([]byte(s), []byte(hexMark)) {
				it.Note = s
			}
		}
		if constructed(t.Tag) && depth < maxDepth {
			it.Sub = v.objects(t.Value, start, depth+1)
		}
		out = append(out, it)
		o += n
	}
	return out
}

// elements lists elements of tag 2 and a length of width digits from an offset,
// with what stands before them.
func (v *view) elements(n int, t []byte, start, width int, names map[string]string) []Item {
	var out []Item
	if start > 0 {
		out = append(out, v.item(n, "?", "终端自定义 terminal's own", 0, start))
	}
	end := max(start, 0)
	for e, at := range elementsFrom(t, end, width) {
		it := v.item(n, e.Tag, names[e.Tag], at, at+len(e.Value))
		if e.Tag == "A2" {
			for in, inAt := range elementsFrom(e.Value, 0, width) {
				it.Sub = append(it.Sub, v.item(n, "A2."+in.Tag, terminalInfoNames[in.Tag], at+inAt, at+inAt+len(in.Value)))
			}
		}
		out = append(out, it)
		end = at + len(e.Value)
	}
	if end < len(t) && len(out) > 0 {
		out = append(out, v.item(n, "?", "不可读 unreadable", end, len(t)))
	}
	return out
}

// describe62 lists the pieces of a terminal's DE 62.
func (v *view) describe62(i *Item) {
	for _, p := range de62Parts(v.m) {
		if p.tag == "" { // plain text
			if s := v.ascii(62, 0, v.m.Len(62)); len(s) < 4 || s[:4] != hexMark {
				i.Note = s
			}
			return
		}
		it := Item{Field: "62." + p.tag, Name: p.name, Note: p.note}
		if p.text {
			it.Value = v.ascii(62, p.from, p.to)
		} else {
			it.Value = v.part(62, 2*p.from, 2*p.to)
		}
		i.Sub = append(i.Sub, it)
	}
}

// describe63 takes DE 63 apart: operator or scheme, an answer's texts, or the
// elements SM and TK.
func (v *view) describe63(i *Item, t []byte, pos bool) {
	names := map[string]string{"SM": "国密PIN PIN under SM4", "TK": "令牌 token or track"}
	switch {
	case !pos || bytes.HasPrefix(t, []byte("SM")) || bytes.HasPrefix(t, []byte("TK")):
		i.Sub = v.elements(63, t, 0, 3, names)
	case v.m.mti.Class() >= 5:
		i.Note = "操作员 operator"
	case len(t) == 3:
		i.Note = "国际信用卡公司代码 scheme"
	case len(t) > 3:
		i.Sub = v.cut(63, []cutPart{{3, "国际信用卡公司代码 scheme", nil}, {20, "发卡方保留 issuer's text", nil},
			{20, "中国银联保留 UnionPay's text", nil}, {20, "受理机构保留 acquirer's text", nil}, {100, "终端保留 terminal's text", nil}})
	}
}
