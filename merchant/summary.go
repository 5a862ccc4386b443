package merchant

import (
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

// Summary is the plan's prices in one Chinese sentence, as a merchant reads them:
// 借记卡0.50%封顶20.00元,其他银行卡0.60%+3.00元/笔,扫码0.38%.
func (p *FeePlan) Summary() string {
	var parts []string
	seen := map[Channel]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		name := ChannelName(r.Channel, r.CardType, r.Wallet)
		if seen[r.Channel] && r.CardType == AnyCardType && r.Wallet == "" && r.Entry == AnyEntry && r.MCCClass == "" {
			name = "其他" + name
		}
		seen[r.Channel] = true
		parts = append(parts, r.conditions()+name+r.rate())
	}
	return strings.Join(parts, ",")
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
	return s
}
