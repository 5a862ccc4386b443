package issuer

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
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
	return m.Has(4) || kindOf(m) == Balance || kindOf(m) == ScriptResult
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
	d := l.h.cfg.Dialect
	r.Reset(d, l.in.MTI().Response())
	r.Copy(&l.in, 2, 3, 4, 7, 11, 12, 13, 14, 18, 23, 25, 32, 33, 37, 41, 42, 49, 60, 100)
	if d.Declares(15) {
		r.SetInt(15, int64(calendar.BusinessDate(time.Now(), calendar.CardCutoff))%10000)
	}
}

// authorise decides a request or an advice and answers as the weather has it.
func (l *line) authorise(by signer) error {
	h, m := l.h, &l.in
	kind := kindOf(m)
	t, ok := traceOf(m)
	pan, err := card.ParsePAN([]byte(m.Text(2)))
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
	asked, ordered, pause := h.sky.draw(kind)
	storm, refusal := asked.Storm, asked.Code
	if kind.chosen() && !ordered && !h.cfg.CalmAmounts && Stormy(e.Amount) {
		storm, refusal = StormOf(e.Amount), pad(uint64(e.Amount%100), 2)
	}
	switch storm {
	case Lost:
		return nil
	case DropBefore:
		return errDropped
	}
	if e.Kind == ScriptResult {
		if result, ok := spec.FindTLV(m.Bytes(55), 0xDF31); ok {
			e.Scripts = strings.ToUpper(hex.EncodeToString(result))
		}
	}
	e.storm = storm
	if older := h.bank.claim(e); older != nil {
		return l.again(older, e, by, asked.Storm, pause)
	}
	l.decide(e, pan, refusal)
	l.respond()
	l.fill(e)
	return l.send(e, by, storm, pause)
}

// fill lays what the books answer into the reply.
func (l *line) fill(e *Entry) {
	r := &l.reply
	r.Set(39, e.Code)
	if e.Approval != "" {
		r.Set(38, e.Approval)
	}
	if e.Part != 0 {
		r.SetInt(4, e.Part.Fen())
	}
	if e.de54 != "" && r.Dialect().Declares(54) {
		r.Set(54, e.de54)
	}
	if e.de55 != nil {
		r.SetBytes(55, e.de55)
	}
}

// decide runs the checks in the order an issuer has them, books the result and
// makes DE 55 of the answer. refusal is DE 39 of a decline by the weather.
func (l *line) decide(e *Entry, pan card.PAN, refusal string) {
	h, m := l.h, &l.in
	code, chip := l.judge(e, pan)
	if e.storm == Decline && code == "00" {
		code = refusal
	}
	w := wish{
		approval: m.Text(38), part: asksPartial(m), half: e.storm == Half,
		answer: e.Kind == Sale && asksPartial(m), strict: h.cfg.StrictATC,
	}
	if original, ok := originalOf(m); ok {
		w.original = &original
	}
	if chip != nil && e.Kind != ChipOfflineSale { // which may be told of long after
		w.atc = &chip.atc
	}
	h.bank.decide(e, code, w)
	if chip == nil || e.Kind == ChipOfflineSale { // its chip has gone home
		return
	}
	if err := l.answerChip(e, pan, chip); err != nil {
		h.log.Error("the chip could not be answered", "error", err)
	}
}

// asksPartial reports whether an approval of a part will do, which only CUPS
// can say.
func asksPartial(m *spec.Message) bool {
	return m.Dialect().CUPS() && routing.AsksPartial(m.Bytes(60))
}

// answerChip makes DE 55 of the answer: 91, 9F36, and the scripts that the
// weather wants for an approval.
func (l *line) answerChip(e *Entry, pan card.PAN, chip *cryptogram) error {
	var err error
	if e.Code != "00" { // the ARPC is over the code; judge made the one for 00
		if chip.tag91, err = l.h.vault.authenticate(context.Background(), chip, e.Code); err != nil {
			return err
		}
	}
	b := spec.AppendTLV(nil, 0x91, chip.tag91[:])
	b = spec.AppendTLV(b, 0x9F36, chip.atc[:])
	if s, ok := scripts[e.storm]; ok && e.Code == "00" {
		if b, err = simcard.AppendScript(b, pan, chip.atc, chip.ac, s); err != nil {
			return err
		}
		if e.storm == ForgedScript {
			b[len(b)-1] ^= 1
		}
	}
	l.h.bank.mu.Lock()
	e.de55 = b
	l.h.bank.mu.Unlock()
	return nil
}

// judge looks at the card, its expiry, its track, its chip and its PIN. With a
// good cryptogram comes what it was made over. A script's result is told of a
// card that was judged when its transaction was.
func (l *line) judge(e *Entry, pan card.PAN) (code string, chip *cryptogram) {
	h, m := l.h, &l.in
	ctx := context.Background()
	number := pan.Reveal()
	condition := simcard.ConditionOf(number)
	switch {
	case !h.ours(number) || condition == simcard.NoAccount || !pan.Luhn():
		return "14", nil
	case e.Kind == ScriptResult:
		return "00", nil
	case condition == simcard.Lost || condition == simcard.Stolen || condition == simcard.Restricted || condition == simcard.TriedOut:
		return condition.Code(), nil
	}
	expiry := simcard.ExpiryFor(number)
	if m.Has(14) && m.Text(14) != expiry || card.Expiry(expiry).Before(yymm(time.Now())) {
		return "54", nil
	}
	if m.Has(35) && !sameTrack([]byte(m.Text(35)), simcard.Track2For(number)) {
		return "59", nil
	}
	if m.Has(55) {
		var err error
		chip, err = readCryptogram(m, pan)
		switch {
		case errors.Is(err, errNoARQC) && e.Kind != ChipOfflineSale: // as in a fallback
		case err != nil:
			return "05", nil
		case chip.cid >= 0 && byte(chip.cid) != cidOf(e.Kind) && (e.Kind != ChipOfflineSale || byte(chip.cid) != simcard.ARQC): // the acquirer stood in
			return "05", nil // a card that said no, or whose sale was approved offline
		}
		if chip != nil {
			if chip.tag91, err = h.vault.authenticate(ctx, chip, "00"); err != nil {
				return "05", nil
			}
		}
	}
	if pin := m.Bytes(52); pin != nil {
		switch err := h.vault.checkPIN(ctx, pin, pan, simcard.PINFor(number)); {
		case errors.Is(err, hsm.ErrPIN):
			return "55", chip // tries are not counted: a card answers the same each time
		case err != nil:
			h.log.Error("PIN could not be checked", "error", err)
			return "96", chip
		}
	}
	return "00", chip
}

// cidOf is the cryptogram that a chip gives for a kind.
func cidOf(k Kind) byte {
	if k == ChipOfflineSale {
		return simcard.TC
	}
	return simcard.ARQC
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

// balances is DE 54: ledger balance (01) and available balance (02), 20
// characters each.
func balances(ledger, available money.Amount) string {
	out := ""
	for kind, a := range []money.Amount{ledger, available} {
		sign, fen := "C", a.Fen()
		if fen < 0 {
			sign, fen = "D", -fen
		}
		out += "300" + string("12"[kind]) + "156" + sign + pad(uint64(fen), 12)
	}
	return out
}

// again answers a message whose trace is in the books already: the same
// request or advice gets its first answer, another one 94. The amount asked for
// its weather the first time only.
func (l *line) again(older, e *Entry, by signer, storm Storm, pause time.Duration) error {
	h := l.h
	l.respond()
	h.bank.mu.Lock()
	switch {
	case older.State == Unknown:
		older.Repeats++
		l.reply.Set(39, codeReversedBefore)
	case older.Kind == e.Kind && older.Amount == e.Amount && older.PAN.Equal(e.PAN) && older.State != undecided:
		older.Repeats++
		l.fill(older)
	default:
		l.reply.Set(39, "94")
	}
	h.bank.mu.Unlock()
	return l.send(older, by, storm, pause)
}

// send answers e, or does with the answer what the weather wants. l.reply holds
// the answer.
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
	if l.in.MTI().Class() != 4 {
		h.bank.answered(e)
	}
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
	if original.MTI != 0x0100 && original.MTI != 0x0200 { // what was done already is not undone
		l.refuse("12")
		return l.answer(&l.reply, by)
	}
	asked, _, pause := h.sky.draw(Reversal)
	storm := asked.Storm
	if storm == Calm {
		storm = h.bank.firstReversal(original)
	}
	switch storm {
	case LostReversal, Lost:
		return nil
	case DropBefore:
		return errDropped
	case Decline:
		l.refuse(asked.Code)
		return l.answer(&l.reply, by)
	}
	code, e := h.bank.reverse(original, m, time.Now())
	l.refuse(code)
	return l.send(e, by, storm, pause)
}
