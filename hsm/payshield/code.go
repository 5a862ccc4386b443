package payshield

import "fmt"

// Code is the error code of an answer: two characters.
type Code string

// The codes that the server gives and the client knows (error table of the
// payShield). Some commands give the codes from 01 to 09 a meaning of their
// own; what they have in common stands here.
const (
	OK            Code = "00"
	VerifyFailed  Code = "01" // PIN, MAC, CVV or cryptogram is wrong; of an imported key: its parity was, and has been corrected
	BadMode       Code = "02" // the mode of a data or MAC command; of A0: inappropriate key length for the algorithm
	BadComponents Code = "03" // number of components; of data and MAC commands: the input format
	BadKeyType    Code = "04" // key type; of M6: the algorithm; of KQ and KW: the mode
	BadLengthFlag Code = "05" // length of the key; of M6: the key type; of KQ and KW: the scheme
	BadMessageLen Code = "06" // message length of a data or MAC command
	BadPadding    Code = "09" // padding method
	SourceParity  Code = "10" // the first key has wrong parity: it was changed, or is under another LMK or of another type
	DestParity    Code = "11" // the second key has
	NoUserStorage Code = "12" // a key was named by its place in the device's storage
	BadLMK        Code = "13" // LMK identifier
	BadPINUnder   Code = "14" // PIN under LMK
	BadInput      Code = "15" // fields missing, too many, or of the wrong characters
	NotAuthorised Code = "17"
	BadPINBlock   Code = "20" // the block does not hold a PIN of this format and account
	BadAccount    Code = "22"
	BadFormatCode Code = "23" // PIN block format
	BadPINLength  Code = "24"
	BadDecTable   Code = "25"
	BadScheme     Code = "26"
	BadKeyLength  Code = "27"
	WrongKeyType  Code = "28"
	NotPermitted  Code = "29" // this key may not be exported or imported so
	BadMessage    Code = "35"
	BadHeader     Code = "51" // message too short for header and command
	Disabled      Code = "68" // command unknown or not enabled
	FormatOff     Code = "69" // PIN block format not enabled
	MasqueradeKey Code = "75" // single length in the clothes of double length
	BadDataLength Code = "80"
	BlockHeader   Code = "A1" // key block: header
	BlockMAC      Code = "A4" // key block: authentication
	BlockUsage    Code = "A6" // key block: usage
	BlockExport   Code = "AA" // key block: may not be exported
)

var codeText = map[Code]string{
	OK: "no error", VerifyFailed: "verification failed, or key parity warning", BadMode: "mode or length",
	BadComponents: "number of components, or input format", BadKeyType: "key type, or algorithm", BadLengthFlag: "key length flag, key type or scheme",
	BadMessageLen: "message length", BadPadding: "padding method", SourceParity: "first key: parity", DestParity: "second key: parity",
	NoUserStorage: "no key in user storage", BadLMK: "LMK identifier", BadPINUnder: "PIN under LMK", BadInput: "input data", "16": "console or printer not ready",
	NotAuthorised: "not in authorised state", "18": "document format", "19": "diagnostics", BadPINBlock: "PIN block", "21": "storage index", BadAccount: "account number",
	BadFormatCode: "PIN block format code", BadPINLength: "PIN length", BadDecTable: "decimalisation table", BadScheme: "key scheme",
	BadKeyLength: "key length", WrongKeyType: "key type", NotPermitted: "not permitted", "30": "reference number", BadMessage: "message format",
	"33": "LMK key change storage", "39": "fraud detection", "40": "firmware checksum", "41": "hardware or software", "42": "DES failure",
	"47": "algorithm not licensed", BadHeader: "message header", "67": "command not licensed", Disabled: "command disabled", FormatOff: "PIN block format disabled",
	"74": "digest info", MasqueradeKey: "single-length key masquerading as a longer one", "76": "RSA key length", "77": "clear data block", "78": "private key length",
	"79": "hash algorithm", BadDataLength: "data length", "81": "certificate header, or PIN length", "82": "check value length", "83": "key block format",
	"84": "key block check value", "85": "OAEP mask", "86": "PIN in the table of weak ones", "87": "OAEP hash",
	"90": "parity in the request", "91": "longitudinal redundancy", "92": "transparent length", BlockHeader: "key block header", BlockMAC: "key block authentication",
	BlockUsage: "key block usage", "A8": "key block mode of use", BlockExport: "key block exportability",
}

// String is the code and what it says.
func (c Code) String() string {
	if t, ok := codeText[c]; ok {
		return string(c) + " (" + t + ")"
	}
	return string(c)
}

// Error is an answer other than OK: which command, which code. It carries no
// field of either message.
type Error struct {
	Command string
	Code    Code
}

// Error names command and code.
func (e *Error) Error() string {
	return fmt.Sprintf("payShield answered %s with error %v", e.Command, e.Code)
}
