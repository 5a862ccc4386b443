package switching

import "golang.org/x/text/encoding/simplifiedchinese"

// gbk is text as terminals and issuers carry it. What GBK lacks becomes a
// question mark.
func gbk(s string) []byte {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return encodeGBK(s)
		}
	}
	return []byte(s)
}

func encodeGBK(s string) []byte {
	out := make([]byte, 0, len(s))
	e := simplifiedchinese.GBK.NewEncoder()
	for _, r := range s {
		b, err := e.Bytes([]byte(string(r)))
		if err != nil {
			b = []byte{'?'}
		}
		out = append(out, b...)
	}
	return out
}
