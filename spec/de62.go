package spec

import (
	"bytes"
	"strconv"
)

// de62Part is one piece of a terminal's DE 62, in order. What is behind the last
// one is hidden.
type de62Part struct {
	tag, name string
	from, to  int // bytes
	secret    bool
	text      bool
	note      string
}

// de62Parts takes DE 62 apart by the message's class and DE 60.3.
func de62Parts(m *Message) []de62Part {
	b := m.Bytes(62)
	d, _ := ParseDE60(m)
	if m.mti.Class() < 8 {
		return detailParts(b)
	}
	switch d.NetworkCode {
	case 1, 2, 3, 4, 5:
		if m.mti.IsResponse() {
			return keyParts(b, d.NetworkCode)
		}
		if bytes.HasPrefix(b, []byte("Sequence No")) {
			return []de62Part{{tag: "1", name: "终端入网信息 terminal licence and serial number", to: len(b), text: true}}
		}
	case 370, 371, 372, 380, 381, 382:
		return listParts(b, m.mti.IsResponse() || d.NetworkCode == 372 || d.NetworkCode == 382)
	case 360, 361, 362:
		return parameterParts(b)
	case 390, 391:
		if m.mti.IsResponse() {
			return blackListParts(b)
		}
		if _, err := ParseOffset(b); err == nil {
			return []de62Part{{tag: "1", name: "页号 page", to: len(b), text: true}}
		}
	case 394, 395:
		return limitParts(b)
	case 800:
		return []de62Part{{tag: "1", name: "签名图像 signature image (JBIG)", to: len(b), note: strconv.Itoa(len(b)) + " bytes"}}
	}
	if d.MessageType == 7 {
		return []de62Part{{tag: "1", name: "签名图像 signature image (JBIG)", to: len(b), note: strconv.Itoa(len(b)) + " bytes"}}
	}
	return nil
}

// keyParts are the working keys of a sign-in answer, under the terminal's
// master key, each with a check value of four bytes: 24 bytes single length
// (001), 40 or 60 double (003, 004), 56 or 84 triple; other lengths are read as
// blocks of 16 and 4, the last perhaps cut (005).
func keyParts(b []byte, network int) []de62Part {
	key := 16
	switch len(b) {
	case 24:
		key = 8
	case 56, 84:
		key = 24
	}
	names := [...]string{"PIN密钥 PIK", "MAC密钥 MAK", "磁道密钥 TDK"}
	var out []de62Part
	for i, o := 0, 0; o < len(b) && i < 8; i++ {
		name := "密钥 key " + strconv.Itoa(i+1)
		if i < len(names) {
			name = names[i]
		}
		end := min(o+key, len(b))
		note := strconv.Itoa(end-o) + " bytes under the terminal master key"
		if end-o == 16 && len(bytes.Trim(b[o+8:end], "\x00")) == 0 {
			note = "8 bytes and 8 of zeros, under the terminal master key"
		}
		out = append(out, de62Part{tag: strconv.Itoa(2*i + 1), name: name, from: o, to: end, secret: true, note: note})
		check := min(end+4, len(b))
		if check > end {
			p := de62Part{tag: strconv.Itoa(2*i + 2), name: name + " 校验值 check value", from: end, to: check}
			if check-end < 4 {
				p.note = "cut after " + strconv.Itoa(check-end)
			}
			out = append(out, p)
		}
		o = check
	}
	return out
}

// listParts are CA keys or applications (370 to 382): in queries and answers
// a first character 0, 1 or 2, then data objects or the two digits of an
// offset.
func listParts(b []byte, flagged bool) []de62Part {
	var out []de62Part
	o := 0
	if flagged && len(b) > 0 && b[0]-'0' < 3 {
		notes := [...]string{"没有 nothing to do", "最后一个 last packet", "还有 more follow"}
		out = append(out, de62Part{tag: "1", name: "标志 flag", to: 1, text: true, note: notes[b[0]-'0']})
		o = 1
		if len(b) == 3 && b[1]-'0' < 10 && b[2]-'0' < 10 {
			return append(out, de62Part{tag: "2", name: "起始号 offset", from: 1, to: 3, text: true})
		}
	}
	for o < len(b) {
		t, n, err := readTLV(b[o:], o)
		if err != nil {
			return append(out, de62Part{tag: "?", name: "不可读 unreadable", from: o, to: len(b)})
		}
		p := de62Part{tag: tagText(t.Tag), name: TagName(t.Tag), from: o + n - len(t.Value), to: o + n}
		if t.Tag == 0xDF05 && len(t.Value) == 8 {
			if s, ok := gbkText(t.Value); ok {
				p.note = s
			}
		}
		out = append(out, p)
		o += n
	}
	return out
}

// parameterParts are terminal parameters or status (360, 362).
func parameterParts(b []byte) []de62Part {
	var out []de62Part
	o := 0
	for e, err := range WalkParameters(b) {
		if err != nil {
			return append(out, de62Part{tag: "?", name: "不可读 unreadable", from: o, to: len(b), text: true})
		}
		out = append(out, de62Part{tag: e.Tag, name: parameterTags[e.Tag].name, from: o + 2, to: o + 2 + len(e.Value), text: true})
		o += 2 + len(e.Value)
	}
	return out
}

// limitParts are contactless limits (394).
func limitParts(b []byte) []de62Part {
	names := map[string]string{
		LimitNoPIN: "免密限额 limit without PIN", LimitNoSignature: "免签限额 limit without signature", LimitQuickPass: "非接快速业务标识 quick pass indicator",
		"FF805D": "BIN表A标识 BIN table A", "FF803A": "BIN表B标识 BIN table B", "FF803C": "CDCVM标识 CDCVM indicator",
	}
	var out []de62Part
	o := 0
	for e, err := range WalkLimits(b) {
		if err != nil {
			return append(out, de62Part{tag: "?", name: "不可读 unreadable", from: o, to: len(b), text: true})
		}
		tag, _ := gbkText([]byte(e.Tag))
		out = append(out, de62Part{tag: tag, name: names[tag], from: o + 9, to: o + 9 + len(e.Value), text: true})
		o += 9 + len(e.Value)
	}
	return out
}

// detailParts are what financial and upload messages carry: chip batch
// details, or text, in which long numbers are hidden.
func detailParts(b []byte) []de62Part {
	sizes, names := []int{2, 2, 2, 12, 3}, []string{"明细类型 detail", "卡类 card kind", "原因 reason", "金额 amount", "货币 currency"}
	if len(b) == 23 && bytes.HasPrefix(b, []byte("71")) {
		sizes, names = append(sizes, 2), append(names, "结果 result")
	}
	if (len(b) == 21 && bytes.HasPrefix(b, []byte("61"))) || len(sizes) == 6 {
		var out []de62Part
		o := 0
		for i, n := range sizes {
			out = append(out, de62Part{tag: strconv.Itoa(i + 1), name: names[i], from: o, to: o + n, text: true})
			o += n
		}
		return out
	}
	if _, ok := gbkText(b); !ok {
		return nil
	}
	var out []de62Part
	for o := 0; o < len(b); {
		end := o
		digit := b[o]-'0' < 10
		for end < len(b) && (b[end]-'0' < 10) == digit {
			end++
		}
		out = append(out, de62Part{from: o, to: end, secret: digit && end-o >= 12, text: true})
		o = end
	}
	return out
}

// de62Spans hides the secret pieces and what is behind the last piece.
func (v *view) de62Spans() (s []span) {
	end := 0
	for _, p := range de62Parts(v.m) {
		if p.secret {
			s = append(s, span{2 * p.from, 2 * p.to})
		}
		end = p.to
	}
	if n := len(v.m.Bytes(62)); end < n {
		s = append(s, span{2 * end, 2 * n})
	}
	return s
}
