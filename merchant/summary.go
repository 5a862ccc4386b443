package merchant

import (
	"strconv"
	"strings"
)

// WalletName is a wallet's name as merchants know it; a wallet without one
// keeps its code.
func WalletName(wallet string) string {
	switch wallet {
	case "wechat":
		return "微信支付"
	case "alipay":
		return "支付宝"
	case "unionpay-qr":
		return "云闪付"
	}
	return wallet
}

// ChannelName is a way of paying as merchants know it.
func ChannelName(channel Channel, cardType CardType, wallet string) string {
	switch {
	case channel == QR && wallet != "":
		return WalletName(wallet)
	case channel == QR:
		return "扫码"
	case cardType == Debit:
		return "借记卡"
	case cardType == Credit:
		return "贷记卡"
	case cardType == QuasiCredit:
		return "准贷记卡"
	case channel == Card:
		return "银行卡"
	}
	return "全部交易"
}

// Summary is the plan's whole price in one Chinese sentence, as a merchant reads
// it: rates, fees for speed, and what is taken apart from sales.
// 借记卡0.50%封顶20.00元,其他银行卡0.60%+3.00元/笔,扫码0.38%;T+1到账免费,D+0到账0.05%;设备免费,维修100.00元/次.
func (p *FeePlan) Summary() string {
	var parts []string
	seen := map[Channel]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		name := ChannelName(r.Channel, r.CardType, r.Wallet)
		if (seen[r.Channel] || r.Channel == AnyChannel && i > 0) && r.CardType == AnyCardType && r.Wallet == "" && r.Entry == AnyEntry && r.MCCClass == "" {
			name = "其他" + name
		}
		seen[r.Channel] = true
		parts = append(parts, r.conditions()+name+r.rate())
	}
	s := strings.Join(parts, ",")
	parts = nil
	for i := range p.SettleFees {
		parts = append(parts, p.SettleFees[i].words())
	}
	s += ";" + strings.Join(parts, ",")
	parts = nil
	for i := range p.Extras {
		parts = append(parts, p.Extras[i].words())
	}
	if len(parts) > 0 {
		s += ";" + strings.Join(parts, ",")
	}
	return s
}

// SpeedName is a settlement speed as merchants know it.
func SpeedName(s Speed) string {
	switch s {
	case T1:
		return "T+1"
	case D1:
		return "D+1"
	case D0:
		return "D+0"
	case S0:
		return "秒到"
	}
	return string(s)
}

func (f *SettleFee) words() string {
	s := SpeedName(f.Speed)
	if f.Speed != S0 {
		s += "到账"
	}
	if f.PPM == 0 && f.Fixed == 0 {
		return s + "免费"
	}
	if f.PPM > 0 {
		s += Percent(f.PPM)
	}
	if f.PPM > 0 && f.Fixed > 0 {
		s += "+"
	}
	if f.Fixed > 0 {
		s += f.Fixed.String() + "元/笔"
	}
	if f.Cap > 0 {
		s += "封顶" + f.Cap.String() + "元"
	}
	return s
}

func (x *Extra) words() string {
	name, each := "维修", "元/次"
	switch x.Kind {
	case Deposit:
		return "不收押金"
	case SIMYear:
		name, each = "流量卡", "元/年"
	case Device:
		name, each = "设备", "元/台"
	}
	if x.Amount == 0 {
		return name + "免费"
	}
	s := name + x.Amount.String() + each
	if x.FreeDays > 0 {
		s += "(前" + strconv.Itoa(x.FreeDays) + "天免费)"
	}
	if x.Waiver != nil {
		s += "(" + strconv.Itoa(x.Waiver.WithinDays) + "天内收款满" + x.Waiver.Sales.String() + "元免收)"
	}
	return s
}

// conditions are what besides the channel a rule asks for.
func (r *Rule) conditions() string {
	s := map[string]string{"exempt": "公益类商户", "discount": "优惠类商户", "standard": "标准类商户"}[r.MCCClass]
	if r.Entry == ContactlessNoPIN {
		s += "小额双免"
	}
	switch {
	case r.From > 0 && r.To > 0:
		s += r.From.String() + "元至不足" + r.To.String() + "元的"
	case r.From > 0:
		s += r.From.String() + "元及以上的"
	case r.To > 0:
		s += "不足" + r.To.String() + "元的"
	}
	return s
}

func (r *Rule) rate() string {
	s := Percent(r.PPM)
	if r.Fixed > 0 {
		s += "+" + r.Fixed.String() + "元/笔"
	}
	if r.Min > 0 {
		s += "最低" + r.Min.String() + "元"
	}
	if r.Cap > 0 {
		s += "封顶" + r.Cap.String() + "元"
	}
	if r.MinAmount > 0 {
		s += "(单笔不少于" + r.MinAmount.String() + "元)"
	}
	return s
}
