// Package terminal is a simulated UnionPay POS terminal: it signs in, keeps
// its working keys, sells, reverses what it heard no answer to, and checks
// every answer as a terminal in a shop does (protocol.md 1, 2, 3.8, 4 to 6, 8
// of the reference notes; docs/fields.md). It can also misbehave on request.
//
// A terminal does one thing at a time: a Terminal is used by one goroutine,
// starts none, and blocks in its calls until the answer, the time-out or the
// end of the context.
package terminal

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"acquirer/hsm/algo"
	"acquirer/spec"
)

// Dialer opens a connection to the host.
type Dialer func(ctx context.Context) (net.Conn, error)

// DialTCP dials addr, with TLS when conf is not nil.
func DialTCP(addr string, conf *tls.Config) Dialer {
	if conf != nil {
		d := &tls.Dialer{Config: conf}
		return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	var d net.Dialer
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

// Profile is what differs between makes of terminal and between the hosts they
// are set up for. A zero field takes the value of DefaultProfile.
type Profile struct {
	TPDU     string      `json:"tpdu,omitempty"`     // 10 hex digits
	Header   string      `json:"header,omitempty"`   // 12 hex digits (protocol.md 1.4)
	KeySet   int         `json:"key_set,omitempty"`  // DE 60.3 of sign-in: 1, 3, 4 or 5 (SM4)
	MAC      MACAlg      `json:"mac,omitempty"`      // how DE 64 is made
	Shape    string      `json:"shape,omitempty"`    // of the MAC key, for the host: a terminal sees it in DE 62
	Operator string      `json:"operator,omitempty"` // DE 63.1 of sign-in
	Tries    int         `json:"tries,omitempty"`    // how often a reversal is sent in one go
	PIN      PINStyle    `json:"pin,omitempty"`
	Track    TrackScheme `json:"track,omitempty"` // where there is a track key
	// BatchRule is whether sign-in takes over the host's batch number.
	BatchRule BatchRule `json:"batch,omitempty"`
	Download  string    `json:"download,omitempty"` // how a master key is asked for: 420, 682 or 99
	Device    Device    `json:"device,omitzero"`
	// GiveUp drops a reversal that was not accepted after Tries, as terminals
	// in the field do (protocol.md 8.4); without it the terminal keeps the
	// record and sells nothing until the host has taken it.
	GiveUp bool `json:"give_up,omitempty"`
}

// BatchRule is whose batch number is in force after a sign-in.
type BatchRule string

// The rules. Answered 77, both take the host's.
const (
	BatchOfHost     BatchRule = "host"
	BatchOfTerminal BatchRule = "own"
)

// Device is what the terminal says of itself in DE 59: without a Place in
// payments by code alone, with one in every transaction.
type Device struct {
	Type    string `json:"type,omitempty"`    // A2 01
	Serial  string `json:"serial,omitempty"`  // A2 02; without one there is no A2
	Version string `json:"version,omitempty"` // A2 05, of its application
	Place   string `json:"place,omitempty"`   // A5: degrees of latitude and longitude, +31.23037/+121.47370
}

// DefaultProfile is a common terminal: double-length keys and the UnionPay MAC.
var DefaultProfile = Profile{
	TPDU: "6000030000", Header: "603100311108", KeySet: 3,
	MAC: MACUnionPay, Operator: "01 ", Tries: 3,
	PIN: PINWithPAN, Track: TrackTDB, BatchRule: BatchOfHost, Download: "420",
}

func (p Profile) withDefaults() Profile {
	d := DefaultProfile
	if p.TPDU == "" {
		p.TPDU = d.TPDU
	}
	if p.Header == "" {
		p.Header = d.Header
	}
	if p.KeySet == 0 {
		p.KeySet = d.KeySet
	}
	if p.MAC == "" {
		p.MAC = d.MAC
	}
	if p.Operator == "" {
		p.Operator = d.Operator
	}
	if p.Tries == 0 {
		p.Tries = d.Tries
	}
	p.PIN, p.Track = cmp.Or(p.PIN, d.PIN), cmp.Or(p.Track, d.Track)
	p.BatchRule, p.Download = cmp.Or(p.BatchRule, d.BatchRule), cmp.Or(p.Download, d.Download)
	return p
}

func (p Profile) check() error {
	switch {
	case keySets[p.KeySet] == "":
		return fmt.Errorf("terminal: profile: key_set %d is none of 1, 3, 4, 5", p.KeySet)
	case p.MAC != MACUnionPay && p.MAC != MACX99 && p.MAC != MACX919 && p.MAC != MACCMAC && p.MAC != MACSM4:
		return fmt.Errorf("terminal: profile: mac %q is none of unionpay, x99, x919, cmac, sm4", p.MAC)
	case p.MAC == MACSM4 && p.KeySet != 5:
		return fmt.Errorf("terminal: profile: mac sm4 wants the keys of key_set 5, not %d", p.KeySet)
	case p.PIN != PINWithPAN && p.PIN != PINWithoutPAN:
		return fmt.Errorf("terminal: profile: pin %q is neither pan nor no-pan", p.PIN)
	case p.Track != TrackTDB && p.Track != TrackWhole && p.Track != TrackLength:
		return fmt.Errorf("terminal: profile: track %q is none of tdb, whole, length", p.Track)
	case p.BatchRule != BatchOfHost && p.BatchRule != BatchOfTerminal:
		return fmt.Errorf("terminal: profile: batch %q is neither host nor own", p.BatchRule)
	case downloads[p.Download][1] == "":
		return fmt.Errorf("terminal: profile: download %q is none of 420, 682, 99", p.Download)
	case p.Tries < 1 || p.Tries > 10:
		return fmt.Errorf("terminal: profile: tries %d is not 1 to 10", p.Tries)
	case len(p.Operator) > 3:
		return fmt.Errorf("terminal: profile: operator %q has more than 3 characters", p.Operator)
	}
	return nil
}

// DefaultTimeout is how long a terminal waits for an answer.
const DefaultTimeout = 60 * time.Second

// Config sets up a Terminal.
type Config struct {
	TID, MID string   // DE 41 (8 characters), DE 42 (15 characters)
	TMK      [16]byte // a TEST terminal master key, in clear: the terminal is its own secure element
	TTK      [16]byte // a TEST key that a downloaded TMK comes under; zeros for none
	Profile  Profile
	Dial     Dialer
	Timeout  time.Duration // for one answer; 0 is DefaultTimeout
	State    State         // what an earlier Terminal of this TID left behind
	// Save makes the state survive the terminal's power switch. It is called
	// before a transaction's first byte leaves, and after its end; an error
	// keeps the transaction from being sent. Nil keeps the state in memory.
	Save func(State) error
	// Observe sees every byte that goes over the line, in order.
	Observe func(Traffic)
	// KeepSlips makes the terminal keep its batch, up to 999 transactions between
	// two settlements: what Slips, Totals, Settle and Sign work on. Without it a
	// terminal can sell for as long as it likes.
	KeepSlips bool
	// Merchant is the name in electronic signatures.
	Merchant string
	// Book, when given, records what the terminal believes of each sale.
	Book *Book
}

// Traffic is one frame, or part of one that a fault cut, on the line.
type Traffic struct {
	At    time.Time
	TID   string
	Sent  bool
	Bytes []byte // with its length prefix; valid during the call only
}

// State is what a terminal keeps through a power cut: its counters, the
// transaction whose outcome it has not heard, what it has to tell the host, and
// its batch. It holds account numbers and a key in clear; it belongs into the
// memory of a test, not into a file.
type State struct {
	Batch   int    // batch number, 1 to 999999
	STAN    int    // the last trace number used, 0 to 999999
	Pending []byte // the packed 0400 without DE 39 and 64; empty when nothing is pending
	Reason  Reason // DE 39 that the pending reversal will carry

	Uploads    []Upload    // notices and offline sales to be sent
	Scripts    [][]byte    // packed 0620 without DE 64, to be sent
	Slips      []Slip      // the batch (Config.KeepSlips)
	Signatures []Signature // of the batch
	TMK        []byte      // downloaded; nil while Config.TMK is in force
}

// Terminal is one simulated terminal.
type Terminal struct {
	cfg     Config
	tpdu    [5]byte
	header  [6]byte
	tmk     *algo.Key
	ttk     *algo.Key       // nil when there is none
	keys    algo.SignInKeys // PIK, MAK and TDK; nil before the first sign-in
	resign  bool            // the host asked for a sign-in
	demands uint16          // what the host asked for in its headers, a bit each
	state   State
	last    []byte // the packed 0400 of the last reversible transaction, pending or not
	lastKey Key
	heardOf heardOf // of the answer to it

	conn   net.Conn
	in     *bufio.Reader
	frames spec.FrameReader

	req, ans, rev spec.Message
	out           []byte // the frame being sent
	body          []byte // the frame being read
	scratch       []byte // of the builders
}

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Terminal, error) {
	cfg.Profile = cfg.Profile.withDefaults()
	if err := cfg.Profile.check(); err != nil {
		return nil, err
	}
	switch {
	case len(cfg.TID) != 8:
		return nil, fmt.Errorf("terminal: TID %q has not 8 characters", cfg.TID)
	case len(cfg.MID) != 15:
		return nil, fmt.Errorf("terminal: MID %q has not 15 characters", cfg.MID)
	case cfg.Dial == nil:
		return nil, errors.New("terminal: no Dial in its configuration")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	t := &Terminal{cfg: cfg, state: cfg.State}
	if t.state.Batch == 0 {
		t.state.Batch = 1
	}
	if err := fromHex(t.tpdu[:], cfg.Profile.TPDU); err != nil {
		return nil, fmt.Errorf("terminal: profile: tpdu %q is not 10 hex digits", cfg.Profile.TPDU)
	}
	if err := fromHex(t.header[:], cfg.Profile.Header); err != nil {
		return nil, fmt.Errorf("terminal: profile: header %q is not 12 hex digits", cfg.Profile.Header)
	}
	var err error
	tmk := cfg.TMK[:]
	if t.state.TMK != nil {
		tmk = t.state.TMK
	}
	if t.tmk, err = masterKey(cfg.Profile.KeySet, tmk); err != nil {
		return nil, fmt.Errorf("terminal: TMK: %w", err)
	}
	if cfg.TTK != [16]byte{} {
		if t.ttk, err = masterKey(cfg.Profile.KeySet, cfg.TTK[:]); err != nil {
			return nil, fmt.Errorf("terminal: TTK: %w", err)
		}
	}
	if len(t.state.Pending) > 0 {
		t.last = append(t.last, t.state.Pending...)
		if t.lastKey, err = t.keyOf(t.last); err != nil {
			return nil, fmt.Errorf("terminal: the pending reversal of its state: %w", err)
		}
	}
	return t, nil
}

func fromHex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err == nil && len(b) != len(dst) {
		err = hex.ErrLength
	}
	copy(dst, b)
	return err
}

// TID names the terminal.
func (t *Terminal) TID() string { return t.cfg.TID }

// State returns what would survive a power cut.
func (t *Terminal) State() State {
	s := t.state
	s.Pending = append([]byte(nil), s.Pending...)
	s.Uploads, s.Scripts = slices.Clone(s.Uploads), slices.Clone(s.Scripts)
	s.Slips, s.Signatures = slices.Clone(s.Slips), slices.Clone(s.Signatures)
	return s
}

// Pending reports whether a reversal waits to be sent.
func (t *Terminal) Pending() bool { return len(t.state.Pending) > 0 }

// Close hangs up. The terminal may be used again and dials anew.
func (t *Terminal) Close() error {
	if t.conn == nil {
		return nil
	}
	err := t.conn.Close()
	t.conn, t.in = nil, nil
	return err
}

// NextSTAN takes the next trace number, 1 to 999999 and round again.
func (t *Terminal) NextSTAN() int {
	t.state.STAN = t.state.STAN%999999 + 1
	return t.state.STAN
}

func (t *Terminal) save() error {
	if t.cfg.Save == nil {
		return nil
	}
	if err := t.cfg.Save(t.State()); err != nil {
		return fmt.Errorf("terminal: saving its state: %w", err)
	}
	return nil
}
