package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/hsm"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// financial answers a signed message: authorisation, notice or reversal.
func (l *line) financial() error {
	h, m := l.h, &l.in
	by, err := h.vault.verify(context.Background(), m)
	if err != nil {
		h.log.Warn("MAC is wrong", "mti", m.MTI(), "stan", m.Text(11))
		now, _ := h.vault.signers()
		l.refuse("A0")
		return l.answer(&l.reply, now)
	}
	code := ""
	switch {
	case !l.signedOn.Load():
		code = "91"
	case !complete(m):
		code = "30"
	case m.MTI() == 0x0420 || m.MTI() == 0x0421:
		return l.reverse(by)
	default:
		return l.authorise(by)
	}
	l.refuse(code)
	return l.answer(&l.reply, by)
}

// complete reports whether a message has what every financial one has.
func complete(m *spec.Message) bool {
	for _, n := range [...]int{2, 3, 7, 11, 32, 37, 41, 42, 49} {
		if !m.Has(n) {
			return false
		}
	}
	return m.Has(4) || m.Text(3) == "310000"
}

// refuse builds an answer that nothing in the books stands for.
func (l *line) refuse(code string) {
	l.respond()
	l.reply.Set(39, code)
}

// respond begins the answer with what it repeats of the request, and the
// settlement date.
func (l *line) respond() {
	r := &l.reply
	r.Reset(spec.CUPS, l.in.MTI().Response())
	r.Copy(&l.in, 2, 3, 4, 7, 11, 12, 13, 14, 18, 23, 25, 32, 33, 37, 41, 42, 49, 60, 100)
	r.SetInt(15, int64(calendar.BusinessDate(time.Now(), calendar.CardCutoff))%10000)
}

// kinds of authorisation by MTI and the first two digits of DE 3.
func kindOf(m *spec.Message) string {
	processing := m.Bytes(3)[:2]
	switch string(processing) {
	case "00", "19":
		switch {
		case m.MTI() == 0x0220:
			return "notice"
		case string(m.Bytes(25)) == "06":
			return "completion"
		}
		return "purchase"
	case "03":
		if m.MTI() == 0x0100 {
			return "pre-authorisation"
		}
	case "31":
		if m.MTI() == 0x0200 {
			return "balance"
		}
	case "20":
		if m.MTI() == 0x0220 {
			return "refund"
		}
		return "void"
	}
	return ""
}

// authorise decides a request and answers as the weather has it.
func (l *line) authorise(by signer) error {
	h, m := l.h, &l.in
	kind := kindOf(m)
	t, ok := traceOf(m)
	pan, err := card.ParsePAN(m.Bytes(2))
	if kind == "" || !ok || err != nil {
		code := "40"
		switch {
		case err != nil:
			code = "14"
		case !ok:
			code = "30"
		}
		l.refuse(code)
		return l.answer(&l.reply, by)
	}
	e := entryOf(m, t, kind, time.Now())
	storm, pause := Calm, time.Duration(0)
	if kind == "purchase" || kind == "pre-authorisation" {
		if !h.cfg.CalmAmounts {
			storm = StormOf(e.Amount)
		}
		drawn, declined, wait := h.sky.purchase()
		pause = wait
		if storm == Calm {
			if storm = drawn; declined {
				storm = Decline
			}
		}
	}
	switch storm {
	case Lost:
		return nil
	case DropBefore:
		return errDropped
	}
	e.storm = storm
	if older := h.bank.claim(e); older != nil {
		return l.again(older, e, by)
	}
	code, tag91 := l.decide(e, pan)
	l.respond()
	r := &l.reply
	r.Set(39, code)
	if e.Approval != "" {
		r.Set(38, e.Approval)
	}
	if kind == "balance" && code == "00" {
		r.Set(54, balances(h.bank.balance(pan)))
	}
	if tag91 != nil {
		b := spec.AppendTLV(nil, 0x91, tag91)
		if atc, ok := spec.FindTLV(m.Bytes(55), 0x9F36); ok {
			b = spec.AppendTLV(b, 0x9F36, atc)
		}
		r.SetBytes(55, b)
	}
	return l.send(e, by, storm, pause)
}

// decide runs the checks in the order an issuer has them and books the result.
// It returns DE 39 and the value of tag 91 for a chip.
func (l *line) decide(e *Entry, pan card.PAN) (code string, tag91 []byte) {
	h, m := l.h, &l.in
	code, arpc := l.judge(e, pan)
	takes := e.Amount
	switch e.Kind {
	case "balance":
		takes = 0
	case "refund":
		takes = -e.Amount
	case "void":
		takes = 0
		if code == "00" {
			if original, ok := originalOf(m); ok {
				code = h.bank.void(original, e.Amount)
			} else {
				code = "30"
			}
		}
	}
	if e.storm == Decline && code == "00" {
		if code = "05"; !h.cfg.CalmAmounts && StormOf(e.Amount) == Decline {
			code = pad(uint64(e.Amount%100), 2)
		}
	}
	h.bank.decide(e, code, takes)
	if e.Code != "00" && arpc != nil { // the ARPC is over the code; judge made it for 00
		tag91, err := h.vault.checkChip(context.Background(), m, pan, e.Code)
		if err != nil {
			h.log.Error("ARPC could not be made", "error", err)
			return e.Code, nil
		}
		arpc = tag91[:]
	}
	return e.Code, arpc
}

// judge looks at the card, its expiry, its track, its chip and its PIN. With a
// good cryptogram comes tag 91 for an approval.
func (l *line) judge(e *Entry, pan card.PAN) (code string, tag91 []byte) {
	h, m := l.h, &l.in
	ctx := context.Background()
	number := pan.Reveal()
	condition := simcard.ConditionOf(number)
	switch {
	case !h.ours(number) || condition == simcard.NoAccount || !pan.Luhn():
		return "14", nil
	case condition == simcard.Lost || condition == simcard.Stolen || condition == simcard.Restricted || condition == simcard.TriedOut:
		return condition.Code(), nil
	}
	expiry := simcard.ExpiryFor(number)
	if m.Has(14) && m.Text(14) != expiry || card.Expiry(expiry).Before(yymm(time.Now())) {
		return "54", nil
	}
	if track := m.Bytes(35); track != nil && !sameTrack(track, simcard.Track2For(number)) {
		return "59", nil
	}
	if m.Has(55) {
		switch arpc, err := h.vault.checkChip(ctx, m, pan, "00"); {
		case err == nil:
			tag91 = arpc[:]
		case !errors.Is(err, errNoARQC):
			return "05", nil
		}
	}
	if pin := m.Bytes(52); pin != nil {
		switch err := h.vault.checkPIN(ctx, pin, pan, simcard.PINFor(number)); {
		case errors.Is(err, hsm.ErrPIN):
			return "55", tag91 // tries are not counted: a card answers the same each time
		case err != nil:
			h.log.Error("PIN could not be checked", "error", err)
			return "96", tag91
		}
	}
	return "00", tag91
}

// sameTrack compares a track with what is on the card; '=' and 'D' are the
// same separator.
func sameTrack(got []byte, want string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] != want[i] && (want[i] != '=' || got[i] != 'D') {
			return false
		}
	}
	return true
}

func yymm(t time.Time) string {
	d := calendar.DateOf(t)
	return pad(uint64(d.Year()%100*100+int(d.Month())), 4)
}

// balances is DE 54: ledger and available balance, 20 characters each.
func balances(available money.Amount) string {
	sign, fen := "C", available.Fen()
	if fen < 0 {
		sign, fen = "D", -fen
	}
	amount := pad(uint64(fen), 12)
	return "3001156" + sign + amount + "3002156" + sign + amount
}

// again answers a request whose trace is in the books already: the same
// request gets its first answer, another one 94.
func (l *line) again(older, e *Entry, by signer) error {
	h := l.h
	l.respond()
	r := &l.reply
	h.bank.mu.Lock()
	code := "94"
	switch {
	case older.State == Unknown:
		older.Repeats++
		code = codeReversedBefore
	case older.Amount == e.Amount && older.PAN.Equal(e.PAN) && older.State != undecided:
		older.Repeats++
		if code = older.Code; older.Approval != "" {
			r.Set(38, older.Approval)
		}
	}
	h.bank.mu.Unlock()
	r.Set(39, code)
	return l.answer(r, by)
}

// send answers an authorisation, or does with the answer what the weather
// wants. l.reply holds the answer.
func (l *line) send(e *Entry, by signer, storm Storm, pause time.Duration) error {
	h, r := l.h, &l.reply
	switch storm {
	case Silent, DeafReversal, LostReversal:
		return nil
	case DropAfter:
		return errDropped
	case WrongAmount:
		r.SetInt(4, e.Amount.Fen()+1)
	case WrongReference:
		rrn := []byte(e.RRN)
		rrn[len(rrn)-1] ^= 1
		r.SetText(37, rrn)
	case RollKey:
		_, zak := h.vault.keyLengths()
		if err := l.newKey(context.Background(), routing.ZAK, zak == 16, nil); err != nil {
			return err
		}
	}
	frame, err := l.frame(r, by)
	if err != nil {
		return err
	}
	h.bank.answered(e)
	switch {
	case storm == Late:
		l.later(h.cfg.Late, frame)
		return nil
	case storm == WrongMAC:
		frame[len(frame)-1] ^= 1
	case storm == Twice:
		l.put(frame, pause)
	}
	l.put(frame, pause)
	return nil
}

// put lays a frame out now, or later when the weather has a delay.
func (l *line) put(frame []byte, pause time.Duration) {
	if pause > 0 {
		l.later(pause, frame)
		return
	}
	l.post(frame)
}

// reverse answers 0420 and 0421.
func (l *line) reverse(by signer) error {
	h, m := l.h, &l.in
	original, ok := originalOf(m)
	if !ok {
		l.refuse("30")
		return l.answer(&l.reply, by)
	}
	storm, pause := h.sky.reversal()
	if first := h.bank.firstReversal(original); first != Calm {
		storm = first
	}
	if storm == LostReversal {
		return nil
	}
	code, _ := h.bank.reverse(original, m, time.Now())
	if storm == DeafReversal {
		return nil
	}
	l.refuse(code)
	frame, err := l.frame(&l.reply, by)
	if err != nil {
		return fmt.Errorf("answer to a reversal: %w", err)
	}
	l.put(frame, pause)
	return nil
}
