package terminal

import (
	"fmt"

	"acquirer/spec"
)

// Kind is a kind of financial transaction. The zero value is none.
type Kind uint8

// The kinds, by the names that logs and stories use.
const (
	_ Kind = iota
	KindBalance
	KindSale
	KindVoid
	KindRefund
	KindPreauth
	KindPreauthVoid
	KindCompletion
	KindCompletionNotice
	KindCompletionVoid
	KindOfflineSale
	KindAdjust
	KindTip
	KindChipOfflineSale
	KindEcashLoad
	KindEcashCashLoad
	KindEcashLoadOther
	KindEcashLoadVoid
	KindTopupCheck
	KindTopupCash
	KindTopupAccount
	KindInstalment
	KindPoints
	KindQRSale
	KindQRVoid
	KindQRRefund
	kindsEnd
)

// reading is which fields of the card a message carries.
type reading uint8

const (
	noCard   reading = iota // a payment code: DE 22 says scanned, no PIN
	byNumber                // DE 2 and 22
	byTrack                 // DE 2 or 35, 22, 53
	whole                   // all: DE 2, 14, 22, 23, 35, 53, 55, and 26 and 52 with a PIN
)

// naming is how a message names the transaction it is about: DE 61.
type naming uint8

const (
	noOriginal   naming = iota
	named12             // batch and trace number
	named16             // and the date
	maybe16             // the same where there is an original, else DE 61 stays away
	zeros16             // the same where there is an original, else zeros
	authorised29        // zeros, and how the authorisation was had
)

// ending is what a terminal does about an answer it did not hear (protocol.md
// 8.3).
type ending uint8

const (
	reversed ending = iota // sends a 0400 before the next transaction
	repeated               // keeps the message and sends it again after the next one
	givenUp                // forgets it
)

// side is where a transaction stands in the totals of its batch (9.1).
type side uint8

const (
	uncounted side = iota
	debit
	credit
	difference // to the amount of the debits, not to their number
)

// row is a kind's row of the matrix in protocol.md 3. All kinds carry DE 3,
// 11, 22, 25, 41, 42, 49, 60 and 64.
type row struct {
	name, title           string // title is FF01 of an electronic signature
	mti                   spec.MTI
	processing, condition string // DE 3, DE 25
	message               string // DE 60.1

	reading  reading
	naming   naming
	ending   ending
	side     side
	noAmount bool // DE 4 stays away
	pin      bool // a PIN may be typed
	chip     bool // the chip alone can do it
	rrn      bool // DE 37 of the original
	auth     bool // DE 38 of the original
	scheme   bool // DE 63: the original's scheme, or 000
	chain    bool // its reversal carries DE 61 (8.2)
	text     bool // DE 62 may carry text
}

// original reports whether the kind cannot do without one.
func (r *row) original() bool { return r.naming == named12 || r.naming == named16 }

var rows = [kindsEnd]row{
	KindBalance: {name: "balance", title: "余额查询", mti: 0x0200, processing: "310000", condition: "00", message: "01",
		reading: whole, noAmount: true, pin: true, ending: givenUp},
	KindSale: {name: "sale", title: "消费", mti: 0x0200, processing: "000000", condition: "00", message: "22",
		reading: whole, pin: true, side: debit},
	KindVoid: {name: "void", title: "消费撤销", mti: 0x0200, processing: "200000", condition: "00", message: "23",
		reading: whole, pin: true, naming: named12, rrn: true, auth: true, chain: true, side: credit},
	KindRefund: {name: "refund", title: "退货", mti: 0x0220, processing: "200000", condition: "00", message: "25",
		reading: byTrack, naming: zeros16, rrn: true, auth: true, scheme: true, ending: givenUp, side: credit},
	KindPreauth: {name: "preauth", title: "预授权", mti: 0x0100, processing: "030000", condition: "06", message: "10",
		reading: whole, pin: true, naming: maybe16, auth: true, chain: true},
	KindPreauthVoid: {name: "preauth_void", title: "预授权撤销", mti: 0x0100, processing: "200000", condition: "06", message: "11",
		reading: whole, pin: true, naming: named16, auth: true, chain: true},
	KindCompletion: {name: "completion", title: "预授权完成请求", mti: 0x0200, processing: "000000", condition: "06", message: "20",
		reading: whole, pin: true, naming: named16, auth: true, chain: true, side: debit},
	KindCompletionNotice: {name: "completion_notice", title: "预授权完成通知", mti: 0x0220, processing: "000000", condition: "06", message: "24",
		reading: whole, naming: named16, auth: true, ending: repeated, side: debit},
	KindCompletionVoid: {name: "completion_void", title: "预授权完成撤销", mti: 0x0200, processing: "200000", condition: "06", message: "21",
		reading: whole, pin: true, naming: named16, rrn: true, auth: true, chain: true, side: credit},
	KindOfflineSale: {name: "offline_sale", title: "离线结算", mti: 0x0220, processing: "000000", condition: "00", message: "30",
		reading: byNumber, naming: authorised29, auth: true, scheme: true, ending: repeated, side: debit},
	KindAdjust: {name: "adjust", title: "结算调整", mti: 0x0220, processing: "000000", condition: "00", message: "32",
		reading: byNumber, naming: named16, rrn: true, auth: true, scheme: true, ending: repeated, side: difference},
	KindTip: {name: "tip", title: "小费调整", mti: 0x0220, processing: "000000", condition: "00", message: "34",
		reading: byNumber, naming: named16, rrn: true, auth: true, scheme: true, ending: repeated, side: difference},
	KindChipOfflineSale: {name: "chip_offline_sale", title: "脱机消费", mti: 0x0200, processing: "000000", condition: "00", message: "36",
		reading: whole, chip: true, ending: repeated, side: debit},
	KindEcashLoad: {name: "ecash_load", title: "指定账户圈存", mti: 0x0200, processing: "600000", condition: "91", message: "45",
		reading: whole, pin: true, chip: true, text: true},
	KindEcashCashLoad: {name: "ecash_cash_load", title: "现金充值", mti: 0x0200, processing: "630000", condition: "91", message: "46",
		reading: whole, pin: true, chip: true, text: true},
	KindEcashLoadOther: {name: "ecash_load_other", title: "非指定账户圈存", mti: 0x0200, processing: "620000", condition: "91", message: "47",
		reading: whole, pin: true, chip: true, text: true},
	KindEcashLoadVoid: {name: "ecash_load_void", title: "现金充值撤销", mti: 0x0200, processing: "170000", condition: "91", message: "51",
		reading: whole, pin: true, chip: true, naming: named12, rrn: true, auth: true, chain: true},
	KindTopupCheck: {name: "topup_check", title: "磁条卡充值验证", mti: 0x0100, processing: "330000", condition: "00", message: "00",
		reading: whole, noAmount: true, pin: true, text: true, ending: givenUp},
	KindTopupCash: {name: "topup_cash", title: "磁条卡现金充值", mti: 0x0200, processing: "630000", condition: "66", message: "48",
		reading: whole, pin: true, text: true},
	KindTopupAccount: {name: "topup_account", title: "磁条卡账户充值", mti: 0x0200, processing: "400000", condition: "66", message: "49",
		reading: whole, pin: true, text: true},
	KindInstalment: {name: "instalment", title: "分期付款", mti: 0x0200, processing: "000000", condition: "64", message: "22",
		reading: whole, pin: true, text: true, side: debit},
	KindPoints: {name: "points", title: "积分消费", mti: 0x0200, processing: "000000", condition: "65", message: "22",
		reading: whole, pin: true, text: true, side: debit},
	KindQRSale: {name: "qr_sale", title: "扫码消费", mti: 0x0200, processing: "000000", condition: "00", message: "22",
		side: debit},
	KindQRVoid: {name: "qr_void", title: "扫码撤销", mti: 0x0200, processing: "200000", condition: "00", message: "23",
		naming: named12, rrn: true, auth: true, chain: true, side: credit},
	KindQRRefund: {name: "qr_refund", title: "扫码退货", mti: 0x0220, processing: "200000", condition: "00", message: "25",
		naming: named16, rrn: true, scheme: true, ending: givenUp, side: credit},
}

// row returns the kind's row; a row without a name is of no kind.
func (k Kind) row() *row {
	if k >= kindsEnd {
		k = 0
	}
	return &rows[k]
}

// String is the kind's name: "preauth_void".
func (k Kind) String() string {
	if r := k.row(); r.name != "" {
		return r.name
	}
	return "unknown kind"
}

// MarshalText is String.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ParseKind reads what String prints.
func ParseKind(name string) (Kind, error) {
	for k := range rows {
		if rows[k].name == name && name != "" {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("terminal: %q is no kind of transaction", name)
}

// Kinds are all kinds, in the order of the table.
func Kinds() []Kind {
	out := make([]Kind, 0, kindsEnd)
	for k := KindBalance; k < kindsEnd; k++ {
		out = append(out, k)
	}
	return out
}

// Reversible reports whether a 0400 undoes the kind.
func (k Kind) Reversible() bool { return k.row().ending == reversed }

// TakesPIN reports whether the kind may carry a PIN.
func (k Kind) TakesPIN() bool { return k.row().pin }

// NeedsOriginal reports whether the kind is about an earlier transaction and
// cannot be sent without it.
func (k Kind) NeedsOriginal() bool { return k.row().original() }

// NeedsChip reports whether only a chip can do the kind.
func (k Kind) NeedsChip() bool { return k.row().chip }

// NeedsCard reports whether a card is read, or its number keyed; where there
// is an original, its card stands in when none is given.
func (k Kind) NeedsCard() bool { return k.row().reading != noCard }

// NeedsAmount reports whether the kind has an amount of its own.
func (k Kind) NeedsAmount() bool { return k.row().name != "" && !k.row().noAmount }
