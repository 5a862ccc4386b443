package spec

// MTI is a message type indicator, its four digits as BCD: 0x0200.
type MTI uint16

// Response is the type that answers m: 0200 -> 0210, 0420 -> 0430. A repeat
// (origin digit odd, 0401) is answered like the first sending.
func (m MTI) Response() MTI { return m&^0x0001 + 0x0010 }

// IsResponse reports whether the function digit is odd: 0210, 0430.
func (m MTI) IsResponse() bool { return m&0x0010 != 0 }

// Class is the message class, the second digit: 2 financial, 4 reversal,
// 8 network management.
func (m MTI) Class() int { return int(m >> 8 & 0x0f) }

// String gives the four digits.
func (m MTI) String() string {
	b := m.digits()
	return string(b[:])
}

func (m MTI) digits() [4]byte {
	const hex = "0123456789ABCDEF"
	return [4]byte{hex[m>>12], hex[m>>8&15], hex[m>>4&15], hex[m&15]}
}
