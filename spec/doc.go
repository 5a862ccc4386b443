// Package spec speaks ISO 8583 on the wire. A dialect is declared once, as a
// moov-io/iso8583 MessageSpec, and compiled into a table by which messages are
// read as an index of offsets into the received bytes and built into a reused
// arena, without allocation. moov stays the language of the declaration and
// the oracle of the differential tests; it is never on the way of a message.
//
// Two dialects are declared here: UnionPayPOS, the BCD dialect of terminals
// (Q/CUP 009 as far as it is public), and CUPS, the ASCII dialect of the
// network side with its 46-byte header. Others are declared in files, which
// Load and LoadFile read: ISO 8583:1987 in ASCII and in BCD are built in. A
// dialect also says how its messages are framed (Dialect.Frames) and which
// fields each of them needs (Dialect.Check). "DE n" is data element n, as in
// the standard.
package spec
