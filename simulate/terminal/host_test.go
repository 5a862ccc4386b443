package terminal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"acquirer/hsm/algo"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// host is a small switch and issuer in one, on clear keys, that checks all a
// terminal sends. reply changes or replaces what it answers.
type host struct {
	t        *testing.T
	set      string // DE 60.3 it answers to, by default what was asked
	fullMAK  bool   // the MAK slot holds a double-length key
	alg      MACAlg
	batch    string // DE 60.2 of the sign-in answer; "" echoes
	reply    func(h *host, req, ans *spec.Message) []byte
	mu       sync.Mutex
	keys     map[string]algo.SignInKeys // by TID
	approved map[string]int64           // TID + STAN -> fen
	reversed map[string]string          // TID + STAN -> reason
	seen     []spec.MTI
	bodies   [][]byte       // of all requests
	flags    []spec.Balance // of the settlements, domestic and foreign; the last two repeat
	missing  []int          // trace numbers whose signatures the first settlement misses
	conns    sync.WaitGroup
}

func newHost(t *testing.T) *host {
	h := &host{t: t, alg: MACUnionPay, keys: map[string]algo.SignInKeys{}, approved: map[string]int64{}, reversed: map[string]string{}}
	return h
}

// dial is the terminal's way in: a pipe whose other end is served.
func (h *host) dial(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	h.conns.Go(func() {
		if err := h.serve(b); err != nil {
			h.t.Error(err)
		}
	})
	return a, nil
}

func (h *host) types() []spec.MTI {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]spec.MTI(nil), h.seen...)
}

func (h *host) serve(c net.Conn) error {
	defer c.Close()
	r := bufio.NewReader(c)
	var req, ans spec.Message
	for {
		f, _, err := spec.ReadPOSFrame(r, nil, 4096)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, spec.ErrFrameCut) {
				return nil
			}
			return fmt.Errorf("host: reading: %w", err)
		}
		if err := spec.UnionPayPOS.Parse(&req, f.Body); err != nil {
			return fmt.Errorf("host: %w", err)
		}
		h.mu.Lock()
		h.seen, h.bodies = append(h.seen, req.MTI()), append(h.bodies, bytes.Clone(f.Body))
		err = h.answer(&req, &ans)
		h.mu.Unlock()
		if err != nil {
			return fmt.Errorf("host: %v: %w", req.MTI(), err)
		}
		out, err := f.AppendReply(nil, 0, &ans)
		if err != nil {
			return fmt.Errorf("host: packing %v: %w", ans.MTI(), err)
		}
		if ans.Has(64) {
			h.sign(req.Text(41), spec.FrameBody(out))
		}
		if h.reply != nil {
			out = h.reply(h, &req, &ans)
			if out == nil { // ans as the hook left it
				if out, err = f.AppendReply(nil, 0, &ans); err != nil {
					return err
				}
				if ans.Has(64) {
					h.sign(req.Text(41), spec.FrameBody(out))
				}
			}
		}
		if len(out) == 0 {
			continue // the hook wants silence
		}
		if _, err := c.Write(out); err != nil {
			if errors.Is(err, io.ErrClosedPipe) {
				return nil
			}
			return fmt.Errorf("host: writing: %w", err)
		}
	}
}

func (h *host) sign(tid string, body []byte) {
	block, mac := spec.SignedPart(body)
	sum, err := computeMAC(h.keys[tid].MAK, h.alg, block)
	if err != nil {
		h.t.Error(err)
	}
	copy(mac, sum[:])
}

// frame packs and signs a message as the host's answer to a terminal.
func (h *host) frame(tid string, m *spec.Message) []byte {
	out, err := spec.AppendRequest(nil, [5]byte{0x60}, [6]byte{0x60, 0x31}, m)
	if err != nil {
		h.t.Error(err)
	}
	if m.Has(64) {
		h.sign(tid, spec.FrameBody(out))
	}
	return out
}

func (h *host) answer(req, ans *spec.Message) error {
	ans.Reset(spec.UnionPayPOS, req.MTI().Response())
	ans.Copy(req, 2, 3, 4, 11, 25, 41, 42, 49, 60)
	switch req.MTI() {
	case 0x0800:
		ans.Set(39, "00")
		return h.signIn(req, ans)
	case 0x0820:
		ans.Set(39, "00")
		if !req.Has(64) {
			return nil
		}
	case 0x0320:
		ans.Set(39, "00")
		return nil
	case 0x0500:
		return h.settle(req, ans)
	}
	code, err := h.judge(req, ans)
	ans.Set(12, "101112")
	ans.Set(13, "0314")
	ans.Set(15, "0315")
	ans.Set(32, "48021000")
	ans.Set(44, "62100000   48021000   ")
	ans.Set(63, "CUP")
	if req.Text(22) == "032" {
		ans.Unset(2)
		ans.Set(59, "A4020VOUCHER0000000000042")
	}
	if req.Text(3) == "310000" {
		ans.Set(54, "1002156C000000012345")
	}
	ans.Set(37, "523456789012")
	ans.Set(39, code)
	ans.SetBytes(64, make([]byte, 8))
	return err
}

// settle compares nothing: it answers the flags it was told to.
func (h *host) settle(req, ans *spec.Message) error {
	totals, err := spec.ParseTotals(req.AppendText(nil, 48))
	if err != nil {
		return err
	}
	flags := []spec.Balance{spec.Balanced, spec.Balanced}
	if len(h.flags) > 0 {
		flags = h.flags[:2]
	}
	if len(h.flags) > 2 {
		h.flags = h.flags[2:]
	}
	totals.Domestic.Balance, totals.Foreign.Balance = flags[0], flags[1]
	if len(h.missing) > 0 {
		list, err := spec.AppendMissingSignatures(nil, h.missing)
		if err != nil {
			return err
		}
		ans.SetBytes(62, list)
		h.missing = nil
	}
	digits, err := spec.AppendTotals(nil, totals)
	ans.SetText(48, digits)
	ans.Set(15, "0315")
	ans.Set(37, "523456789099")
	return err
}

func (h *host) signIn(req, ans *spec.Message) error {
	tid := req.Text(41)
	tmk := simcard.TestTMK(tid)
	k, err := algo.NewDESKey(tmk[:])
	if err != nil {
		return err
	}
	set := req.Text(60)[8:11]
	if h.set != "" {
		set = h.set
	}
	n, mak := 16, 8
	if set == "001" {
		n = 8
	} else if h.fullMAK {
		mak = 16
	}
	pik, mk, tdk := desKey(n), desKey(mak), []byte(nil)
	if set == "004" {
		tdk = desKey(16)
	}
	de62, err := algo.AppendDE62(nil, k, pik, mk, tdk)
	if err != nil {
		return err
	}
	ans.SetBytes(62, de62)
	if h.batch != "" {
		ans.Set(60, "00"+h.batch+set)
	}
	h.keys[tid], err = algo.ParseDE62(k, de62)
	return err
}

// requests are the messages of a type that the host has seen.
func (h *host) requests(mti spec.MTI) (out []*spec.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.bodies {
		m := new(spec.Message)
		if err := spec.UnionPayPOS.Parse(m, b); err != nil {
			h.t.Error(err)
		} else if m.MTI() == mti {
			out = append(out, m)
		}
	}
	return out
}

func desKey(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	algo.SetOddParity(b)
	return b
}

// judge is the host's whole check of a financial message: its DE 39, or an
// error when the terminal sent what no terminal should.
func (h *host) judge(req, ans *spec.Message) (string, error) {
	tid := req.Text(41)
	keys := h.keys[tid]
	if keys.MAK == nil {
		return "97", nil
	}
	if !req.Has(64) {
		return "A0", nil
	}
	block, mac := spec.SignedPart(req.Raw())
	want, err := computeMAC(keys.MAK, h.alg, block)
	if err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare(want[:], mac) != 1 {
		return "A0", nil
	}
	id := tid + req.Text(11)
	amount, _ := req.Int(4)
	if req.MTI() == 0x0400 {
		if fen, ok := h.approved[id]; !ok {
			h.reversed[id] = req.Text(39)
			return "25", nil
		} else if fen != amount {
			return "64", nil
		}
		delete(h.approved, id)
		h.reversed[id] = req.Text(39)
		return "00", nil
	}
	var code string
	if req.MTI() == 0x0220 || req.MTI().Class() >= 6 || req.Text(22)[:2] == "03" || req.Text(60)[:2] == "36" {
		code = "00" // nothing of a card to be checked
	} else {
		code, err = h.checkCard(req, ans, keys)
	}
	if err == nil && code == "00" && req.MTI().Class() < 6 {
		h.approved[id] = amount
		ans.Set(38, "A12345")
	}
	return code, err
}

func (h *host) checkCard(req, ans *spec.Message, keys algo.SignInKeys) (string, error) {
	mode := req.Text(22)
	pan := req.Text(2)
	if req.Has(35) {
		track := req.AppendText(nil, 35)
		if encrypted := req.Text(53)[2] == '1'; encrypted != (keys.TDK != nil) {
			return "", fmt.Errorf("DE 53 %s under key set with TDK %v", req.Text(53), keys.TDK != nil)
		} else if encrypted {
			var err error
			if track, err = algo.AppendDecryptedTrack(nil, keys.TDK, algo.TrackTDB, track); err != nil {
				return "", err
			}
		} else if mode[:2] == "02" && pan != "" {
			return "", errors.New("a stripe sale with DE 2")
		}
		number, _, _ := strings.Cut(string(track), "=")
		if pan != "" && pan != number {
			return "", errors.New("track and DE 2 are of two cards")
		}
		pan = number
		if string(track) != simcard.Track2For(pan) {
			return "", errors.New("track 2 is not the card's")
		}
	} else if mode[:2] != "01" {
		return "", fmt.Errorf("entry mode %s without a track", mode)
	}
	if (mode[2] == '1') != req.Has(52) || req.Has(52) != req.Has(26) {
		return "", fmt.Errorf("entry mode %s, DE 52 present %v, DE 26 present %v", mode, req.Has(52), req.Has(26))
	}
	if req.Has(52) {
		if digit := req.Text(53)[1]; (digit == '6') != (keys.PIK.Len() == 16) {
			return "", fmt.Errorf("DE 53 %s with a PIN key of %d bytes", req.Text(53), keys.PIK.Len())
		}
		account := pan
		if req.Text(53)[0] == '1' {
			account = "0000000000000000"
		}
		pin, err := algo.DecodePIN(algo.ISO0, keys.PIK.Decrypt8([8]byte(req.Bytes(52))), account)
		if err != nil {
			return "99", nil
		}
		expected, err := algo.ParsePIN(simcard.PINFor(pan))
		if err != nil {
			return "", err
		}
		if pin != expected {
			return "55", nil
		}
	}
	if (mode[:2] == "05" || mode[:2] == "07") != req.Has(55) {
		return "", fmt.Errorf("entry mode %s, DE 55 present %v", mode, req.Has(55))
	}
	if req.Has(55) {
		tag91, err := checkChip(req, pan)
		if err != nil {
			return "05", nil
		}
		ans.SetBytes(55, spec.AppendTLV(nil, 0x91, tag91[:]))
	}
	return simcard.ConditionOf(pan).Code(), nil
}

// mandatory are the tags of a sale's DE 55 (protocol.md 2.4).
var mandatory = []uint32{0x9F26, 0x9F27, 0x9F10, 0x9F37, 0x9F36, 0x95, 0x9A, 0x9C, 0x9F02, 0x5F2A, 0x82, 0x9F1A, 0x9F03, 0x9F33}

func checkChip(req *spec.Message, pan string) ([10]byte, error) {
	de55 := req.Bytes(55)
	tags := map[uint32][]byte{}
	for v, err := range spec.WalkTLV(de55) {
		if err != nil {
			return [10]byte{}, err
		}
		tags[v.Tag] = v.Value
	}
	for _, tag := range mandatory {
		if tags[tag] == nil {
			return [10]byte{}, fmt.Errorf("tag %X is missing", tag)
		}
	}
	if amount, _ := req.Int(4); fmt.Sprintf("%012d", amount) != fmt.Sprintf("%X", tags[0x9F02]) {
		return [10]byte{}, fmt.Errorf("9F02 %X is not DE 4", tags[0x9F02])
	}
	var data []byte
	for _, tag := range []uint32{0x9F02, 0x9F03, 0x9F1A, 0x95, 0x5F2A, 0x9A, 0x9C, 0x9F37, 0x82, 0x9F36} {
		data = append(data, tags[tag]...)
	}
	data = append(data, tags[0x9F10][3:7]...)
	if psn := fmt.Sprintf("%03d", simcard.PSNFor(pan)); psn != req.Text(23) {
		return [10]byte{}, fmt.Errorf("DE 23 is %s, want %s", req.Text(23), psn)
	}
	return verifyARQC(pan, data, [2]byte(tags[0x9F36]), [8]byte(tags[0x9F26]))
}

// verifyARQC is the issuer's side of hsm.md 1.5; it makes tag 91 for DE 39 00.
func verifyARQC(pan string, data []byte, atc [2]byte, arqc [8]byte) (tag91 [10]byte, err error) {
	is, _ := simcard.IssuerOf(pan)
	clear := simcard.TestIMK(is.Name)
	imk, err := algo.NewDESKey(clear[:])
	if err != nil {
		return tag91, err
	}
	icc, err := algo.ICCKey(imk, algo.OptionA, pan, fmt.Sprintf("%02d", simcard.PSNFor(pan)))
	if err != nil {
		return tag91, err
	}
	session, err := algo.PBOCSessionKey(icc, atc)
	if err != nil {
		return tag91, err
	}
	want, err := algo.ARQC(session, algo.PadBit, data)
	if err != nil {
		return tag91, err
	}
	if want != arqc {
		return tag91, errors.New("cryptogram is wrong")
	}
	arpc, err := algo.ARPC1(session, arqc, [2]byte{'0', '0'})
	copy(tag91[:], arpc[:])
	copy(tag91[8:], "00")
	return tag91, err
}
