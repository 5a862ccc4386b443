package bankfile

import (
	"bufio"
	"bytes"
	"io"
	"iter"
)

// sniff looks at the beginning of a file, which stays to be read.
func sniff(r io.Reader) (again io.Reader, isXML bool, root []byte) {
	b := bufio.NewReaderSize(r, 4<<10)
	start, _ := b.Peek(4 << 10) // a shorter file is what it is
	start = bytes.TrimPrefix(start, []byte("\xef\xbb\xbf"))
	return b, bytes.HasPrefix(bytes.TrimLeft(start, " \t\r\n"), []byte("<")), start
}

// IsStatement reports whether the beginning of a file is that of movements on
// an account (camt or CSV) rather than of statuses. It reads from r and returns
// what is to be read in its place.
func IsStatement(r io.Reader) (again io.Reader, yes bool) {
	again, isXML, start := sniff(r)
	if isXML {
		return again, bytes.Contains(start, []byte(":xsd:camt."))
	}
	return again, bytes.HasPrefix(start, []byte("H,"+csvStatement+","))
}

// ReadStatus reads a file of statuses, pain.002 or CSV.
func ReadStatus(r io.Reader) (*Report, iter.Seq2[Status, error], error) {
	again, isXML, _ := sniff(r)
	if isXML {
		return ReadPain002(again)
	}
	return ReadResults(again)
}

// ReadStatement reads a file of movements, camt.053, camt.054 or CSV.
func ReadStatement(r io.Reader) (*Statement, iter.Seq2[Entry, error], error) {
	again, isXML, _ := sniff(r)
	if isXML {
		return ReadCamt(again)
	}
	return ReadStatementCSV(again)
}
