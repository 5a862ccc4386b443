package payshield

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// refusal turns a code into an error that says what happened and what to do.
func refusal(verb, command string, code Code) error {
	e := &Error{command, code}
	switch code {
	case SourceParity, DestParity, BadInput, BlockMAC, BlockHeader:
		return fmt.Errorf("hsm: %s: %w under this LMK: %w", verb, hsm.ErrKey, e)
	case BadScheme, BadKeyLength, WrongKeyType, NotPermitted, BlockUsage, BlockExport, BadKeyType:
		return fmt.Errorf("hsm: %s: %w: %w", verb, hsm.ErrKeyUse, e)
	case Disabled, "47", "67":
		return fmt.Errorf("hsm: %s: %w: enable or license the command at the device", verb, e)
	case FormatOff, BadFormatCode:
		return fmt.Errorf("hsm: %s: %w: enable the PIN block format at the device", verb, e)
	case NotAuthorised:
		return fmt.Errorf("hsm: %s: %w: authorise the activity at the device", verb, e)
	}
	return fmt.Errorf("hsm: %s: %w", verb, e)
}

// askOK is do for a command whose every code but OK is an error.
func (c *Client) askOK(ctx context.Context, verb, command, fields string) (string, error) {
	answer, code, err := c.do(ctx, command, fields)
	if err != nil {
		return "", fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if code != OK {
		return "", refusal(verb, command, code)
	}
	return answer, nil
}

// load takes a key for a verb that takes the uses wanted.
func (c *Client) load(verb string, k hsm.Key, wanted ...hsm.Use) (token, error) {
	t, err := parseKey(k)
	if err != nil {
		return t, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if !slices.Contains(wanted, t.use) {
		return t, fmt.Errorf("hsm: %s with a %v: %w", verb, t.use, hsm.ErrKeyUse)
	}
	return t, nil
}

// garbled says that an answer does not have its fields.
func garbled(verb, command string) error {
	return fmt.Errorf("hsm: %s: the payShield's answer to %s does not have the fields that were asked for", verb, command)
}

// keyAt reads a key from the front of an answer.
func keyAt(answer string) (field, rest string, ok bool) {
	s, sealed, rest, err := algo.ParseKeyField(answer)
	if err != nil || len(sealed) != s.KeyLen() {
		return "", "", false
	}
	return answer[:len(answer)-len(rest)], rest, true
}

// ecb writes a cryptogram of ANSI X9.17 as a field.
func ecb(cryptogram []byte) string {
	letter := map[int]string{8: "", 16: "X", 24: "Y"}[len(cryptogram)]
	return letter + hexUpper(cryptogram)
}

// ecbScheme is the scheme of such a key.
func ecbScheme(a hsm.Alg) string {
	return map[hsm.Alg]string{hsm.DES8: "Z", hsm.TDES16: "X", hsm.TDES24: "Y"}[a]
}

// unECB is the inverse of ecb.
func unECB(field string) []byte {
	b, err := hex.DecodeString(strings.TrimLeft(field, "XYZ"))
	if err != nil {
		return nil
	}
	return b
}

// checkValueOf asks for 8 bytes of check value (BU). UnionPay wants 4, and
// most commands that make keys give 3.
func (c *Client) checkValueOf(ctx context.Context, verb string, t keyType, a hsm.Alg, field string) ([]byte, error) {
	flag := string(rune('0' + a.Len()/8 - 1))
	request := t.code[:1] + t.code[2:] + flag + field + ";000"
	if c.cfg.SeparateTypes {
		request = "FF" + flag + field + ";" + t.code + ";000"
	}
	answer, err := c.askOK(ctx, verb, "BU", request)
	if err != nil {
		return nil, err
	}
	value, err := hex.DecodeString(answer)
	switch {
	case err == nil && len(value) == 8:
		return value, nil
	case err == nil && len(value) == 3:
		return nil, fmt.Errorf("hsm: %s: the payShield gives check values of 3 bytes only, and UnionPay terminals want 4: allow 16-digit key check values (BU) in its security settings", verb)
	}
	return nil, garbled(verb, "BU")
}

// noDES says that a kind of key is none that a payShield has here.
func noDES(verb string, a hsm.Alg) error {
	return fmt.Errorf("hsm: %s of a key of %v: %w: use the software HSM or a device with SM4: %w", verb, a, ErrNoCommand, hsm.ErrKeyUse)
}

// local says whether the use is one of the software HSM beside the devices.
func local(u hsm.Use) bool { return u == hsm.UseDEK || u == hsm.UseHMAC }

func noLocal(verb string) error {
	return fmt.Errorf("hsm: %s: %w: give the switch a software HSM for data at rest and tokens beside it (hsm.file)", verb, ErrNoCommand)
}

// GenerateKey implements hsm.HSM (A0, BU).
func (c *Client) GenerateKey(ctx context.Context, use hsm.Use, alg hsm.Alg) (hsm.Key, hsm.KCV, error) {
	const verb = "GenerateKey"
	if err := use.Check(verb, alg); err != nil {
		return "", hsm.KCV{}, err
	}
	if local(use) {
		if c.cfg.Local == nil {
			return "", hsm.KCV{}, noLocal(verb)
		}
		return c.cfg.Local.GenerateKey(ctx, use, alg)
	}
	scheme, ok := schemeOfAlg(alg)
	if !ok {
		return "", hsm.KCV{}, noDES(verb, alg)
	}
	t := c.typeOf(use)
	answer, err := c.askOK(ctx, verb, "A0", "0"+t.code+scheme.String())
	if err != nil {
		return "", hsm.KCV{}, err
	}
	field, _, ok := keyAt(answer)
	if !ok {
		return "", hsm.KCV{}, garbled(verb, "A0")
	}
	value, err := c.checkValueOf(ctx, verb, t, alg, field)
	if err != nil {
		return "", hsm.KCV{}, err
	}
	return token{use, alg, use.MayLeave(), field}.key(), hsm.KCV(value[:4]), nil
}

// made is a random key for both sides.
type made struct {
	key        hsm.Key
	cryptogram []byte // under the key above, ECB
	check      []byte // 4 bytes
}

// makeUnder makes a random key under a terminal's key (A0 in mode 1, BU).
func (c *Client) makeUnder(ctx context.Context, verb string, above token, use hsm.Use, alg hsm.Alg) (m made, err error) {
	scheme, ok := schemeOfAlg(alg)
	if !ok {
		return m, noDES(verb, alg)
	}
	t := c.typeOf(use)
	answer, err := c.askOK(ctx, verb, "A0", "1"+t.code+scheme.String()+";1"+above.field+ecbScheme(alg))
	if err != nil {
		return m, err
	}
	own, rest, ok1 := keyAt(answer)
	sent, _, ok2 := keyAt(rest)
	if !ok1 || !ok2 || len(unECB(sent)) != alg.Len() {
		return m, garbled(verb, "A0")
	}
	value, err := c.checkValueOf(ctx, verb, t, alg, own)
	if err != nil {
		return m, err
	}
	return made{token{use, alg, false, own}.key(), unECB(sent), value[:4]}, nil
}

// ImportKey implements hsm.HSM (A6). Only a ZMK carries keys to a payShield.
func (c *Client) ImportKey(ctx context.Context, kek hsm.Key, use hsm.Use, cryptogram, kcv []byte) (hsm.Key, error) {
	const verb = "ImportKey"
	above, err := c.load(verb, kek, hsm.UseTMK, hsm.UseZMK)
	if err != nil {
		return "", err
	}
	alg := map[int]hsm.Alg{8: hsm.DES8, 16: hsm.TDES16, 24: hsm.TDES24}[len(cryptogram)]
	if alg == 0 {
		return "", fmt.Errorf("hsm: %s: cryptogram of %d bytes, want 8, 16 or 24", verb, len(cryptogram))
	}
	if err := use.Check(verb, alg); err != nil {
		return "", err
	}
	if use.Under() != above.use {
		return "", fmt.Errorf("hsm: %s of a %v under a %v: %w", verb, use, above.use, hsm.ErrKeyUse)
	}
	if !alg.Travels(above.alg) {
		return "", fmt.Errorf("hsm: %s of a %v of %v under a %v of %v: %w", verb, use, alg, above.use, above.alg, hsm.ErrKeyUse)
	}
	if above.use == hsm.UseTMK {
		return "", fmt.Errorf("hsm: %s of a %v under a TMK: %w", verb, use, ErrNoCommand)
	}
	if kcv != nil && (len(kcv) < 3 || len(kcv) > 8) {
		return "", fmt.Errorf("hsm: %s: check value of %d bytes, want 3 to 8", verb, len(kcv))
	}
	scheme, _ := schemeOfAlg(alg)
	t := c.typeOf(use)
	answer, code, err := c.do(ctx, "A6", t.code+above.field+ecb(cryptogram)+scheme.String())
	switch {
	case err != nil:
		return "", fmt.Errorf("hsm: %s: %w", verb, err)
	case code == MasqueradeKey || code == DestParity:
		return "", fmt.Errorf("hsm: %s of a %v: the key is weak or of equal parts, or %w: %w", verb, use, hsm.ErrKey, &Error{"A6", code})
	case code == VerifyFailed && kcv == nil:
		return "", fmt.Errorf("hsm: %s: %w: no check value was given, and the key has no odd parity", verb, hsm.ErrKCV)
	case code != OK && code != VerifyFailed:
		return "", refusal(verb, "A6", code)
	}
	field, rest, ok := keyAt(answer)
	if !ok || len(rest) < 6 {
		return "", garbled(verb, "A6")
	}
	got, err := hex.DecodeString(rest[:6])
	if err != nil {
		return "", garbled(verb, "A6")
	}
	if len(kcv) > 3 {
		if got, err = c.checkValueOf(ctx, verb, t, alg, field); err != nil {
			return "", err
		}
	}
	if kcv != nil && subtle.ConstantTimeCompare(got[:min(len(got), len(kcv))], kcv) != 1 {
		return "", fmt.Errorf("hsm: %s of a %v: %w", verb, use, hsm.ErrKCV)
	}
	return token{use, alg, false, field}.key(), nil
}

// ExportKey implements hsm.HSM: A8 under a ZMK, AE and AG under a TMK.
func (c *Client) ExportKey(ctx context.Context, kek, key hsm.Key) (cryptogram, kcv []byte, err error) {
	const verb = "ExportKey"
	t, err := parseKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	if !t.leave {
		return nil, nil, fmt.Errorf("hsm: %s of a %v that may not leave: %w", verb, t.use, hsm.ErrKeyUse)
	}
	above, err := c.load(verb, kek, hsm.UseTMK, hsm.UseZMK)
	if err != nil {
		return nil, nil, err
	}
	if t.use.Under() != above.use || !t.alg.Travels(above.alg) {
		return nil, nil, fmt.Errorf("hsm: %s of a %v under a %v: %w", verb, t.use, above.use, hsm.ErrKeyUse)
	}
	kind := c.typeOf(t.use)
	command, fields := "A8", kind.code+above.field+t.field+ecbScheme(t.alg)
	if above.use == hsm.UseTMK {
		fields = above.field + t.field + ";" + ecbScheme(t.alg) + "00"
		switch {
		case kind.code == type002.code:
			command = "AE"
		case kind.code == typeTAK.code:
			command = "AG"
		default:
			return nil, nil, fmt.Errorf("hsm: %s of a %v under a TMK: %w", verb, t.use, ErrNoCommand)
		}
	}
	answer, err := c.askOK(ctx, verb, command, fields)
	if err != nil {
		return nil, nil, err
	}
	field, _, ok := keyAt(answer)
	if cryptogram = unECB(field); !ok || len(cryptogram) != t.alg.Len() {
		return nil, nil, garbled(verb, command)
	}
	value, err := c.checkValueOf(ctx, verb, kind, t.alg, t.field)
	if err != nil {
		return nil, nil, err
	}
	return cryptogram, value[:4], nil
}

// DeliverTMK implements hsm.HSM (A0 in mode 1, BU).
func (c *Client) DeliverTMK(ctx context.Context, transport hsm.Key, alg hsm.Alg) (tmk hsm.Key, cryptogram, kcv []byte, err error) {
	const verb = "DeliverTMK"
	if err := hsm.UseTMK.Check(verb, alg); err != nil {
		return "", nil, nil, err
	}
	ttk, err := c.load(verb, transport, hsm.UseTTK)
	if err != nil {
		return "", nil, nil, err
	}
	if !alg.Travels(ttk.alg) {
		return "", nil, nil, fmt.Errorf("hsm: %s of %v under a TTK of %v: %w", verb, alg, ttk.alg, hsm.ErrKeyUse)
	}
	m, err := c.makeUnder(ctx, verb, ttk, hsm.UseTMK, alg)
	return m.key, m.cryptogram, m.check, err
}

// workingSet is what WorkingKeys makes.
func workingSet(verb string, set hsm.KeySet, shape hsm.MAKShape) (pin, mac, track hsm.Alg, macUse hsm.Use, err error) {
	pin, mac, macUse = hsm.TDES16, hsm.TDES16, hsm.UseTAK
	switch shape {
	case hsm.MAKSingle:
		mac = hsm.DES8
	case hsm.MAKDouble:
	case hsm.MAKRetail:
		macUse = hsm.UseTAK919
	case hsm.MAKCMAC:
		macUse = hsm.UseTAKCMAC
	default:
		return 0, 0, 0, 0, fmt.Errorf("hsm: %s: no such shape of MAC key: %d", verb, shape)
	}
	switch set {
	case hsm.Set001:
		pin, mac = hsm.DES8, hsm.DES8
	case hsm.Set003:
	case hsm.Set004:
		track = hsm.TDES16
	case hsm.Set005:
		return 0, 0, 0, 0, noDES(verb, hsm.SM4)
	default:
		return 0, 0, 0, 0, fmt.Errorf("hsm: %s: DE 60.3 %03d names no key set known here, want 001, 003 or 004", verb, set)
	}
	return pin, mac, track, macUse, macUse.Check(verb, mac)
}

// WorkingKeys implements hsm.HSM. The keys are made beside each other.
func (c *Client) WorkingKeys(ctx context.Context, tmk hsm.Key, set hsm.KeySet, shape hsm.MAKShape) (hsm.WorkingKeys, error) {
	const verb = "WorkingKeys"
	pin, mac, track, macUse, err := workingSet(verb, set, shape)
	if err != nil {
		return hsm.WorkingKeys{}, err
	}
	above, err := c.load(verb, tmk, hsm.UseTMK)
	if err != nil {
		return hsm.WorkingKeys{}, err
	}
	type made2 struct {
		made
		err error
	}
	algs, usesOf := []hsm.Alg{pin, mac}, []hsm.Use{hsm.UseTPK, macUse}
	if track != 0 {
		algs, usesOf = append(algs, track), append(usesOf, hsm.UseTDK)
	}
	results := make([]chan made2, len(algs))
	for i := range algs {
		results[i] = make(chan made2, 1)
		go func() {
			m, err := c.makeUnder(ctx, verb, above, usesOf[i], algs[i])
			results[i] <- made2{m, err}
		}()
	}
	var out hsm.WorkingKeys
	keys := []*hsm.Key{&out.TPK, &out.TAK, &out.TDK}
	var errs []error
	for i, r := range results {
		m := <-r
		errs = append(errs, m.err)
		*keys[i] = m.key
		out.DE62 = append(out.DE62, m.cryptogram...)
		if set != hsm.Set001 && len(m.cryptogram) == 8 {
			out.DE62 = append(out.DE62, make([]byte, 8)...) // a single-length MAC key in the place of a double one
		}
		out.DE62 = append(out.DE62, m.check...)
	}
	if err := errors.Join(errs...); err != nil {
		return hsm.WorkingKeys{}, err
	}
	return out, nil
}

// CheckValue implements hsm.HSM (BU).
func (c *Client) CheckValue(ctx context.Context, key hsm.Key) (hsm.KCV, error) {
	const verb = "CheckValue"
	if !IsKey(key) && c.cfg.Local != nil {
		return c.cfg.Local.CheckValue(ctx, key)
	}
	t, err := parseKey(key)
	if err != nil {
		return hsm.KCV{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	value, err := c.checkValueOf(ctx, verb, c.typeOf(t.use), t.alg, t.field)
	if err != nil {
		return hsm.KCV{}, err
	}
	return hsm.KCV(value[:4]), nil
}

// FormKey makes a key out of two to nine clear components as the software HSM
// does, when the devices have the published test LMK, under which anybody can
// encrypt. Components of real keys are entered at the device, by their
// custodians: NewKey takes what it prints.
func (c *Client) FormKey(ctx context.Context, use hsm.Use, alg hsm.Alg, components ...[]byte) (hsm.Key, hsm.KCV, error) {
	const verb = "FormKey"
	if err := use.Check(verb, alg); err != nil {
		return "", hsm.KCV{}, err
	}
	scheme, ok := schemeOfAlg(alg)
	if !ok {
		return "", hsm.KCV{}, noDES(verb, alg)
	}
	if err := c.AwaitUp(ctx); err != nil {
		return "", hsm.KCV{}, err
	}
	c.mu.Lock()
	test := c.test
	c.mu.Unlock()
	if !test {
		return "", hsm.KCV{}, fmt.Errorf("hsm: %s: %w: have the custodians enter the components at the device (console FK), and put what it prints into the seed as PS:%v:N:KEY", verb, ErrNoCommand, use)
	}
	if len(components) < 2 || len(components) > 9 {
		return "", hsm.KCV{}, fmt.Errorf("hsm: %s: %d components, want 2 to 9", verb, len(components))
	}
	clearKey := make([]byte, alg.Len())
	defer clear(clearKey)
	for i, part := range components {
		if len(part) != len(clearKey) {
			return "", hsm.KCV{}, fmt.Errorf("hsm: %s: component %d has %d bytes, want %d", verb, i+1, len(part), len(clearKey))
		}
		subtle.XORBytes(clearKey, clearKey, part)
	}
	algo.SetOddParity(clearKey)
	if err := algo.CheckDES(clearKey); err != nil {
		return "", hsm.KCV{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	pair, variant, err := algo.KeyTypePair(c.typeOf(use).code)
	if err != nil {
		return "", hsm.KCV{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	sealed, err := algo.TestLMK().EncryptKey(pair, variant, scheme, clearKey)
	if err != nil {
		return "", hsm.KCV{}, fmt.Errorf("hsm: %s: %w", verb, err)
	}
	key := token{use, alg, false, algo.FormatKeyField(scheme, sealed)}.key()
	kcv, err := c.CheckValue(ctx, key)
	return key, kcv, err
}
