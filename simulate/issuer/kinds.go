package issuer

import (
	"slices"

	"acquirer/spec"
)

// Kind is a kind of transaction, by its name in the books.
type Kind string

// The kinds. Requests (0100, 0200) can be reversed; advices (0220) tell what
// was done already and can not.
const (
	Balance          Kind = "balance"
	Sale             Kind = "sale"
	Void             Kind = "void"
	Preauth          Kind = "preauth"
	PreauthVoid      Kind = "preauth_void"
	Completion       Kind = "completion"
	CompletionVoid   Kind = "completion_void"
	Refund           Kind = "refund"            // an advice, and the only one that may be declined for what it asks
	CompletionNotice Kind = "completion_notice" // an advice
	OfflineSale      Kind = "offline_sale"      // an advice
	ChipOfflineSale  Kind = "chip_offline_sale" // an advice with a TC
	Adjust           Kind = "adjust"            // an advice: a tip, or another correction by the difference
	ScriptResult     Kind = "script_result"     // 0620
	Reversal         Kind = "reversal"          // 0420; in the books only when it comes before its original
)

// Kinds are all kinds.
var Kinds = []Kind{Balance, Sale, Void, Preauth, PreauthVoid, Completion, CompletionVoid, Refund, CompletionNotice,
	OfflineSale, ChipOfflineSale, Adjust, ScriptResult, Reversal}

// originals are the kinds that a kind can stand on; DE 90 names which.
var originals = map[Kind][]Kind{
	Void:             {Sale},
	PreauthVoid:      {Preauth},
	Completion:       {Preauth},
	CompletionNotice: {Preauth},
	CompletionVoid:   {Completion},
	Refund:           {Sale, Completion, CompletionNotice, OfflineSale, ChipOfflineSale},
	Adjust:           {Sale, OfflineSale, ChipOfflineSale},
	ScriptResult:     {Balance, Sale, Void, Preauth, PreauthVoid, Completion, CompletionVoid},
}

// voids are the kinds that undo what they stand on.
func (k Kind) voids() bool { return k == Void || k == PreauthVoid || k == CompletionVoid }

// completes reports whether the kind takes what a pre-authorisation holds.
func (k Kind) completes() bool { return k == Completion || k == CompletionNotice }

// chosen reports whether the amount was chosen for this message: that of a void
// or a completion follows from an earlier one, and would ask for its weather
// again.
func (k Kind) chosen() bool { return k == Sale || k == Preauth }

// told reports whether the kind tells what was done already.
func (k Kind) told() bool {
	switch k {
	case CompletionNotice, OfflineSale, ChipOfflineSale, Adjust, ScriptResult:
		return true
	}
	return false
}

// kindOf tells the kind by MTI, the first two digits of DE 3, and DE 25; ""
// when no issuer offers it here. The presence rules of dialects other than CUPS
// tell it by the same names.
func kindOf(m *spec.Message) Kind {
	if d := m.Dialect(); !d.CUPS() {
		if k := Kind(d.Row(m)); known(k) {
			return k
		}
		return ""
	}
	var code string
	if b := m.Bytes(3); len(b) == 6 {
		code = string(b[:2])
	}
	mti := m.MTI() &^ 1
	preauth := string(m.Bytes(25)) == "06"
	switch {
	case mti == 0x0420:
		return Reversal
	case mti == 0x0620:
		return ScriptResult
	case mti == 0x0100 && code == "03":
		return Preauth
	case mti == 0x0100 && code == "20":
		return PreauthVoid
	case mti == 0x0200 && code == "31":
		return Balance
	case mti == 0x0200 && (code == "00" || code == "19"):
		return either(preauth, Completion, Sale)
	case mti == 0x0200 && code == "20":
		return either(preauth, CompletionVoid, Void)
	case mti == 0x0220 && code == "20":
		return Refund
	case mti == 0x0220 && (code == "02" || code == "22"):
		return Adjust
	case mti == 0x0220 && code == "00" && preauth:
		return CompletionNotice
	case mti == 0x0220 && code == "00":
		return either(m.Has(55), ChipOfflineSale, OfflineSale)
	}
	return ""
}

func either(is bool, yes, no Kind) Kind {
	if is {
		return yes
	}
	return no
}

func known(k Kind) bool { return slices.Contains(Kinds, k) }
