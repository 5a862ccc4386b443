package spec

import "bytes"

// TerminalInfo is what a terminal says of itself in DE 59: A2, of which 03 and
// 04 are left out (the end of the account number, and what is encrypted with
// it), and A5. What was not said is empty.
type TerminalInfo struct {
	Type    string // A2 01, device type: 04 an intelligent terminal
	Serial  string // A2 02, serial number
	Version string // A2 05, version of its application
	Place   string // A5, where it stands: as a rule degrees of latitude and longitude, +31.23037/+121.47370
}

// The longest parts that are kept, in bytes of UTF-8.
const (
	maxDeviceType = 8
	maxSerial     = 50
	maxVersion    = 32
	maxPlace      = 64
)

// ReadTerminalInfo reads DE 59 as far as it can be read, in the variants that
// Describe knows too. A part that is too long or no printable text (a place's
// in GBK) is left out. Without A2 and A5 nothing is allocated.
func ReadTerminalInfo(de59 []byte) (i TerminalInfo) {
	if !bytes.Contains(de59, []byte("A2")) && !bytes.Contains(de59, []byte("A5")) {
		return i
	}
	start, width := de59Start(de59)
	for e := range elementsFrom(de59, start, width) {
		switch e.Tag {
		case "A2":
			for in := range elementsFrom(e.Value, 0, width) {
				switch in.Tag {
				case "01":
					i.Type = ascii(bounded(in.Value, maxDeviceType))
				case "02":
					i.Serial = ascii(bounded(in.Value, maxSerial))
				case "05":
					i.Version = ascii(bounded(in.Value, maxVersion))
				}
			}
		case "A5":
			i.Place = bounded(e.Value, maxPlace)
		}
	}
	return i
}

// Device is A2 again, of the parts that are kept; "" when there are none.
// ReadTerminalInfo reads it.
func (i TerminalInfo) Device() string {
	parts := [...]struct{ tag, value string }{{"01", i.Type}, {"02", i.Serial}, {"05", i.Version}}
	length := 0
	for _, part := range parts {
		if part.value != "" {
			length += 2 + 3 + len(part.value)
		}
	}
	if length == 0 {
		return ""
	}
	var room [128]byte
	b := appendDecimal(append(room[:0], "A2"...), length, 3)
	for _, part := range parts {
		if part.value != "" {
			b = append(appendDecimal(append(b, part.tag...), len(part.value), 3), part.value...)
		}
	}
	return string(b)
}

// bounded is b as text; "" when it is none, or longer than most bytes.
func bounded(b []byte, most int) string {
	s, ok := gbkText(b)
	if !ok || len(s) > most {
		return ""
	}
	return s
}

// ascii is s, or "" when it has other characters.
func ascii(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return ""
		}
	}
	return s
}
