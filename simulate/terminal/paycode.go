package terminal

import (
	"fmt"
	"strconv"

	"acquirer/routing"
)

// PayCode is the nth payment code that a buyer with one of routing.Wallets
// shows: digits as DE 59 A3 carries them. Different n give different codes, up
// to 10^14 of them; each pays once. "" for another wallet.
func PayCode(wallet string, n int) string {
	u := uint64(n)
	switch wallet {
	case routing.WeChat:
		return strconv.FormatUint(10+u%6, 10) + fmt.Sprintf("%016d", u%1e16)
	case routing.Alipay:
		length := 14 + int(u%9) // 16 to 24 digits in all
		return strconv.FormatUint(25+u%6, 10) + fmt.Sprintf("%0*d", length, u%1e14)
	case routing.UnionPayQR:
		return "62" + fmt.Sprintf("%017d", u%1e17)
	}
	return ""
}
