package simbank

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// exchange is how far the files have come.
type exchange struct {
	messages map[string]bool // taken, by identification
	csv      bool            // the last orders came as CSV, and so do answers
	told     int             // changes that stand in statuses
	booked   int             // movements that stand in notifications
	later    []move          // of them, those that wait for the rest of their message
	summed   map[string]bool // messages that were booked as one sum
	made     int             // files made, for their names
	spoil    Spoiling
}

// Spoiling is how the next file of answers is wrong.
type Spoiling string

// The spoilings.
const (
	Fine     Spoiling = ""
	CutShort Spoiling = "cut"      // it ends in the middle
	BadSum   Spoiling = "sum"      // its totals are not its records'
	Strange  Spoiling = "strange"  // it is about an order that nobody gave
	Again    Spoiling = "repeated" // the same file comes twice, under two names
)

// Spoil makes the next file of answers wrong.
func (b *Bank) Spoil(s Spoiling) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files.spoil = s
}

// Exchange takes the order files of the outbox, and writes into the inbox what
// has become of orders since the last time, and what was booked. A message that
// comes again is refused as a duplicate.
func (b *Bank) Exchange() error {
	if b.cfg.Folder == "" {
		return errors.New("simbank: it has no folder for files")
	}
	out := filepath.Join(b.cfg.Folder, "outbox")
	files, err := os.ReadDir(out)
	if err != nil {
		return fmt.Errorf("simbank: %w", err)
	}
	b.mu.Lock()
	why := b.closed(time.Now())
	b.mu.Unlock()
	for _, f := range files {
		if why != "" || strings.HasPrefix(f.Name(), ".") {
			continue // it waits for the morning, or is being written
		}
		path := filepath.Join(out, f.Name())
		if err := b.takeFile(path); err != nil {
			return fmt.Errorf("simbank: %s: %w", f.Name(), err)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("simbank: %w", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.tellStatuses(); err != nil {
		return err
	}
	return b.tellMoves()
}

func (b *Bank) exchangeNow(w http.ResponseWriter, r *http.Request) {
	if s := Spoiling(r.URL.Query().Get("spoil")); s != Fine {
		if !slices.Contains([]Spoiling{CutShort, BadSum, Strange, Again}, s) {
			answer(w, http.StatusBadRequest, map[string]string{"error": "spoil: want cut, sum, strange or repeated"})
			return
		}
		b.Spoil(s)
	}
	if err := b.Exchange(); err != nil {
		answer(w, http.StatusConflict, map[string]string{"error": err.Error()})
		return
	}
	b.statement(w, r)
}

// pain001 is as much of an order file as a bank looks at.
type pain001 struct {
	XMLName xml.Name `xml:"urn:iso:std:iso:20022:tech:xsd:pain.001.001.09 Document"`
	Message string   `xml:"CstmrCdtTrfInitn>GrpHdr>MsgId"`
	Count   int      `xml:"CstmrCdtTrfInitn>GrpHdr>NbOfTxs"`
	Sum     string   `xml:"CstmrCdtTrfInitn>GrpHdr>CtrlSum"`
	Orders  []struct {
		Ref     string `xml:"PmtId>EndToEndId"`
		Amount  string `xml:"Amt>InstdAmt"`
		Bank    string `xml:"CdtrAgt>FinInstnId>Nm"`
		Name    string `xml:"Cdtr>Nm"`
		Account string `xml:"CdtrAcct>Id>Othr>Id"`
	} `xml:"CstmrCdtTrfInitn>PmtInf>CdtTrfTxInf"`
}

// takeFile puts the orders of a file on the books, all or none.
func (b *Bank) takeFile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var message string
	var orders []order
	isCSV := bytes.HasPrefix(text, []byte("H,"))
	if isCSV {
		message, orders, err = readCSV(text)
	} else {
		message, orders, err = readPain001(text)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	seen := b.files.messages[message]
	if b.files.messages == nil {
		b.files.messages = map[string]bool{}
	}
	b.files.messages[message], b.files.csv = true, isCSV
	b.mu.Unlock()
	if seen {
		return b.refuseMessage(message, isCSV)
	}
	for i := range orders {
		orders[i].message = message
		if WeatherOf(orders[i].Account) == Lost {
			continue
		}
		if _, ok, err := b.take(&orders[i]); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("order %s belongs to another one", orders[i].Reference))
		}
	}
	return nil
}

func readPain001(text []byte) (string, []order, error) {
	var in pain001
	if err := xml.Unmarshal(text, &in); err != nil {
		return "", nil, err
	}
	var orders []order
	var sum money.Amount
	for _, o := range in.Orders {
		amount, err := money.Parse(o.Amount)
		if err != nil {
			return "", nil, err
		}
		sum += amount
		orders = append(orders, order{Reference: o.Ref, Amount: amount, Account: o.Account, Name: o.Name, Bank: o.Bank})
	}
	return in.Message, orders, right(in.Message, orders, in.Count, in.Sum, sum.String())
}

func readCSV(text []byte) (string, []order, error) {
	body, trailer, ok := bytes.Cut(text, []byte("\nT,"))
	if !ok {
		return "", nil, errors.New("no trailer")
	}
	hash := sha256.Sum256(append(slices.Clone(body), '\n'))
	rows := csv.NewReader(bytes.NewReader(body))
	rows.FieldsPerRecord = -1
	all, err := rows.ReadAll()
	if err != nil {
		return "", nil, err
	}
	end := strings.Split(strings.TrimSpace(string(trailer)), ",")
	if len(all) < 2 || len(all[0]) != 9 || all[0][1] != "PAYOUT" || len(end) != 3 || end[2] != hex.EncodeToString(hash[:]) {
		return "", nil, errors.New("not a file of orders, or its SHA-256 is wrong")
	}
	var orders []order
	var sum money.Amount
	for _, r := range all[1:] {
		if len(r) != 12 || r[0] != "D" {
			return "", nil, errors.New("a record that is no order")
		}
		fen, err := strconv.ParseInt(r[9], 10, 64)
		if err != nil {
			return "", nil, err
		}
		sum += money.Amount(fen)
		orders = append(orders, order{Reference: r[2], Amount: money.Amount(fen), Account: r[5], Name: r[4], Bank: r[6]})
	}
	count, err := strconv.Atoi(end[0])
	return all[0][3], orders, errors.Join(err, right(all[0][3], orders, count, end[1], strconv.FormatInt(sum.Fen(), 10)))
}

// right is what a bank checks before it takes a file.
func right(message string, orders []order, count int, said, sum string) error {
	if message == "" || len(orders) == 0 || len(orders) != count || said != sum {
		return fmt.Errorf("message %q has %d orders of %s; it says %d of %s", message, len(orders), sum, count, said)
	}
	for i := range orders {
		if err := orders[i].check(); err != nil {
			return fmt.Errorf("order %d: %w", i+1, err)
		}
	}
	return nil
}

// tellStatuses writes a file for each message whose orders have changed. b.mu
// is held.
func (b *Bank) tellStatuses() error {
	changed := map[string][]Payout{}
	var messages []string
	for _, p := range b.changes[b.files.told:] {
		if p.message == "" || p.Status == Returned || p.weather == Silent || p.weather == Breaks || p.weather == SilentThenLate && p.Status == Processing {
			continue // came over HTTP, came back (the notification says so), or is not answered
		}
		if changed[p.message] == nil {
			messages = append(messages, p.message)
		}
		changed[p.message] = append(changed[p.message], p)
	}
	for _, m := range messages {
		write := statusXML
		if b.files.csv {
			write = statusCSV
		}
		if err := b.put("STS", func(id string, s Spoiling) []byte { return write(id, m, changed[m], s) }); err != nil {
			return err
		}
	}
	b.files.told = len(b.changes)
	return nil
}

// tellMoves writes a notification of what was booked since the last one. b.mu
// is held.
func (b *Bank) tellMoves() error {
	moves := append(b.files.later, b.moves[b.files.booked:]...)
	write, later := movesXML, []move(nil)
	if b.files.csv {
		write = movesCSV
	} else if b.cfg.OneSum {
		moves, later = b.oneSum(moves)
	}
	if len(moves) == 0 {
		b.files.later, b.files.booked = later, len(b.moves)
		return nil
	}
	err := b.put("NTF", func(id string, s Spoiling) []byte { return write(id, b.cfg.Account, moves, time.Now(), s) })
	if err == nil {
		b.files.later, b.files.booked = later, len(b.moves)
	}
	return err
}

// oneSum books the payouts of a message as one movement, when nothing of the
// message is in process any more; until then they are told later. b.mu is held.
func (b *Bank) oneSum(moves []move) (now, later []move) {
	open := map[string]bool{}
	for _, p := range b.order {
		open[p.message] = open[p.message] || p.Status == Processing
	}
	at := map[string]int{}
	for _, m := range moves {
		i, known := at[m.message]
		switch {
		case m.kind != "payout" || m.message == "" || b.files.summed[m.message]:
			now = append(now, m)
		case open[m.message]:
			later = append(later, m)
		case known:
			now[i].amount += m.amount
			now[i].orders++
		default:
			at[m.message] = len(now)
			m.ref, m.orders = "", 1
			now = append(now, m)
		}
	}
	if b.files.summed == nil {
		b.files.summed = map[string]bool{}
	}
	for message := range at {
		b.files.summed[message] = true
	}
	return now, later
}

// refuseMessage answers a message that came before: DU01.
func (b *Bank) refuseMessage(message string, isCSV bool) error {
	if isCSV {
		return nil // the CSV files have no word for it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.put("STS", func(id string, _ Spoiling) []byte {
		return []byte(xml.Header + `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>` + header(id) +
			"<OrgnlGrpInfAndSts><OrgnlMsgId>" + esc(message) + "</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId><GrpSts>RJCT</GrpSts>" +
			"<StsRsnInf><Rsn><Cd>DU01</Cd></Rsn></StsRsnInf></OrgnlGrpInfAndSts></CstmrPmtStsRpt></Document>\n")
	})
}

// put writes a file into the inbox under a new name, spoilt as was asked. b.mu
// is held.
func (b *Bank) put(kind string, write func(id string, s Spoiling) []byte) error {
	b.files.made++
	spoil := b.files.spoil
	b.files.spoil = Fine
	id := fmt.Sprintf("%s-%s-%06d", kind, calendar.DateOf(time.Now()), b.files.made)
	text, name := write(id, spoil), id+".xml"
	if bytes.HasPrefix(text, []byte("H,")) {
		name = id + ".csv"
	}
	if spoil == CutShort {
		text = text[:len(text)*2/3]
	}
	names := []string{name}
	if spoil == Again {
		names = append(names, "copy-of-"+name)
	}
	for _, n := range names {
		path := filepath.Join(b.cfg.Folder, "inbox", n)
		if err := errors.Join(os.WriteFile(path+".part", text, 0o600), os.Rename(path+".part", path)); err != nil {
			return fmt.Errorf("simbank: %w", err)
		}
	}
	return nil
}

func esc(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

func header(id string) string {
	return "<GrpHdr><MsgId>" + esc(id) + "</MsgId><CreDtTm>" + time.Now().In(calendar.Beijing).Format(time.RFC3339) + "</CreDtTm></GrpHdr>\n"
}

var isoStatus = map[Status]string{Processing: "PDNG", Succeeded: "ACSC", Rejected: "RJCT"}

func statusXML(id, message string, changes []Payout, spoil Spoiling) []byte {
	var b strings.Builder
	b.WriteString(xml.Header + `<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>` + header(id) +
		"<OrgnlGrpInfAndSts><OrgnlMsgId>" + esc(message) + "</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId><GrpSts>PART</GrpSts>")
	counts := map[string]int{}
	for _, p := range changes {
		counts[isoStatus[p.Status]]++
	}
	for _, s := range []string{"ACSC", "PDNG", "RJCT"} {
		if n := counts[s]; n > 0 {
			if spoil == BadSum {
				n++
			}
			fmt.Fprintf(&b, "<NbOfTxsPerSts><DtldNbOfTxs>%d</DtldNbOfTxs><DtldSts>%s</DtldSts></NbOfTxsPerSts>", n, s)
		}
	}
	b.WriteString("</OrgnlGrpInfAndSts>\n<OrgnlPmtInfAndSts><OrgnlPmtInfId>" + esc(message) + "</OrgnlPmtInfId>\n")
	for _, p := range changes {
		ref := p.Reference
		if spoil == Strange {
			ref = "STRANGE-" + ref
		}
		b.WriteString("<TxInfAndSts><OrgnlEndToEndId>" + esc(ref[:min(len(ref), 35)]) + "</OrgnlEndToEndId><TxSts>" + isoStatus[p.Status] + "</TxSts>")
		if p.Reason != "" && p.Status == Rejected {
			b.WriteString("<StsRsnInf><Rsn><Cd>AC04</Cd></Rsn><AddtlInf>" + esc(p.Reason) + "</AddtlInf></StsRsnInf>")
		}
		b.WriteString("<AcctSvcrRef>" + esc(p.BankID) + `</AcctSvcrRef><OrgnlTxRef><Amt><InstdAmt Ccy="CNY">` + p.Amount.String() + "</InstdAmt></Amt></OrgnlTxRef></TxInfAndSts>\n")
	}
	b.WriteString("</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>\n")
	return []byte(b.String())
}

// bookedAs is what a movement is by the code set of ISO 20022: a credit transfer
// issued, one returned, one received.
var bookedAs = map[string]string{"payout": bankCode("ICDT", "DMCT"), "return": bankCode("ICDT", "RRTN"), "receipt": bankCode("RCDT", "DMCT")}

func bankCode(family, sub string) string {
	return "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>" + family + "</Cd><SubFmlyCd>" + sub + "</SubFmlyCd></Fmly></Domn></BkTxCd>"
}

func movesXML(id, account string, moves []move, now time.Time, spoil Spoiling) []byte {
	var b strings.Builder
	var sum money.Amount
	for _, m := range moves {
		sum += m.amount
	}
	if spoil == BadSum {
		sum++
	}
	now = now.In(calendar.Beijing)
	fmt.Fprintf(&b, `%s<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn>%s<Ntfctn><Id>%s</Id><CreDtTm>%s</CreDtTm><Acct><Id><Othr><Id>%s</Id></Othr></Id></Acct><TxsSummry><TtlNtries><NbOfNtries>%d</NbOfNtries><Sum>%s</Sum></TtlNtries></TxsSummry>`+"\n",
		xml.Header, header(id), esc(id), now.Format(time.RFC3339), esc(account), len(moves), sum)
	for i, m := range moves {
		side := "DBIT"
		if m.credit {
			side = "CRDT"
		}
		ref := m.ref
		if spoil == Strange {
			ref = "STRANGE-" + ref
		}
		fmt.Fprintf(&b, `<Ntry><NtryRef>%d</NtryRef><Amt Ccy="CNY">%s</Amt><CdtDbtInd>%s</CdtDbtInd><RvslInd>%t</RvslInd><Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>%s</Dt></BookgDt><AcctSvcrRef>%s</AcctSvcrRef>%s<NtryDtls>`,
			i+1, m.amount, side, m.kind == "return", now.Format("2006-01-02"), esc(m.bankID), bookedAs[m.kind])
		if m.orders > 0 {
			fmt.Fprintf(&b, "<Btch><PmtInfId>%s</PmtInfId><NbOfTxs>%d</NbOfTxs></Btch></NtryDtls></Ntry>\n", esc(m.message), m.orders)
			continue
		}
		b.WriteString("<TxDtls><Refs><EndToEndId>" + esc(ref[:min(len(ref), 35)]) + "</EndToEndId></Refs>")
		if m.payer != "" {
			b.WriteString("<RltdPties><DbtrAcct><Id><Othr><Id>" + esc(m.payer) + "</Id></Othr></Id></DbtrAcct></RltdPties>")
		}
		if m.kind == "return" {
			b.WriteString("<RtrInf><Rsn><Cd>AC01</Cd></Rsn><AddtlInf>" + esc(strings.TrimPrefix(m.reason, "AC01 ")) + "</AddtlInf></RtrInf>")
		}
		b.WriteString("</TxDtls></NtryDtls></Ntry>\n")
	}
	b.WriteString("</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>\n")
	return []byte(b.String())
}

// sealCSV writes rows and their trailer.
func sealCSV(rows [][]string, sum money.Amount, spoil Spoiling) []byte {
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	_ = out.WriteAll(rows) // a bytes.Buffer takes everything
	hash := sha256.Sum256(b.Bytes())
	if spoil == BadSum {
		sum++
	}
	fmt.Fprintf(&b, "T,%d,%d,%s\n", len(rows)-1, sum.Fen(), hex.EncodeToString(hash[:]))
	return b.Bytes()
}

func statusCSV(id, message string, changes []Payout, spoil Spoiling) []byte {
	now := time.Now().In(calendar.Beijing).Format(time.RFC3339)
	rows := [][]string{{"H", "RESULT", "1", id, message, now}}
	var sum money.Amount
	for i, p := range changes {
		ref := p.Reference
		if spoil == Strange {
			ref = "STRANGE-" + ref
		}
		sum += p.Amount
		rows = append(rows, []string{"D", strconv.Itoa(i + 1), ref, string(p.Status), strconv.FormatInt(p.Amount.Fen(), 10), p.BankID, now, "", p.Reason})
	}
	return sealCSV(rows, sum, spoil)
}

func movesCSV(id, account string, moves []move, now time.Time, spoil Spoiling) []byte {
	day := now.In(calendar.Beijing).Format("2006-01-02")
	rows := [][]string{{"H", "STATEMENT", "1", id, account, day}}
	var sum money.Amount
	for i, m := range moves {
		side := "D"
		if m.credit {
			side = "C"
		}
		ref := m.ref
		if spoil == Strange {
			ref = "STRANGE-" + ref
		}
		sum += m.amount
		row := []string{"D", strconv.Itoa(i + 1), day, side, strconv.FormatInt(m.amount.Fen(), 10), m.kind, ref, m.bankID, m.reason}
		if m.payer != "" {
			row = append(row, m.payer)
		}
		rows = append(rows, row)
	}
	return sealCSV(rows, sum, spoil)
}

// Misstatement is something that a statement has wrong.
type Misstatement string

// A statement may leave a payout out, have one that nobody ordered, or one twice.
const (
	LeftOut  Misstatement = "left out"
	Invented Misstatement = "invented"
	Doubled  Misstatement = "doubled"
)

// Misstated is what a statement had wrong.
type Misstated struct {
	What      Misstatement `json:"what"`
	Reference string       `json:"reference"`
}

// misstatements lists them.
var misstatements = []Misstatement{LeftOut, Invented, Doubled}

// misstateNext is POST /v1/misstate: what the next statements have wrong, like
// ["left out","doubled"].
func (b *Bank) misstateNext(w http.ResponseWriter, r *http.Request) {
	var wrong []Misstatement
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<12)).Decode(&wrong)
	for _, x := range wrong {
		if !slices.Contains(misstatements, x) {
			err = fmt.Errorf("%q is none of %q", x, misstatements)
		}
	}
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	b.Misstate(wrong...)
	answer(w, http.StatusOK, wrong)
}

// statementFile is GET /v1/statement?date=2026-11-20: the movements of the bank's
// day, or of ?day=N, as the statement of that date: camt.054, or CSV with
// &format=csv.
func (b *Bank) statementFile(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	date, err := calendar.ParseDate(q.Get("date"))
	b.mu.Lock()
	day := b.day
	b.mu.Unlock()
	if q.Has("day") {
		var bad error
		day, bad = strconv.Atoi(q.Get("day"))
		err = errors.Join(err, bad)
	}
	if format := q.Get("format"); format != "" && format != "csv" {
		err = errors.Join(err, fmt.Errorf("format %q is not csv", format))
	}
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "want ?date=2026-11-20, a day of the bank with &day=0, and &format=csv or none: " + err.Error()})
		return
	}
	var file bytes.Buffer
	if err := b.Statement(&file, fmt.Sprintf("ST%s-%d", strings.ReplaceAll(date.String(), "-", ""), day), day, date.Time().Add(23*time.Hour+30*time.Minute), q.Get("format") == "csv"); err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(file.Bytes()) // an error is whoever asked having gone
}

// Misstate orders something wrong for the next statement that has payouts.
func (b *Bank) Misstate(wrong ...Misstatement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.misstate = append(b.misstate, wrong...)
}

// Misstatements lists what the statements so far had wrong.
func (b *Bank) Misstatements() []Misstated {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.misstated)
}

// Statement is a day's movements on our account as a bank gives them out,
// camt.054 or CSV as docs/payouts.md lays it out; day counts from the
// bank's first, 0, and is dated as on says.
func (b *Bank) Statement(w io.Writer, id string, day int, on time.Time, asCSV bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var moves []move
	for _, m := range b.moves {
		if m.day == day {
			moves = append(moves, m)
		}
	}
	write := movesXML
	if asCSV {
		write = movesCSV
	}
	_, err := w.Write(write(id, b.cfg.Account, b.wrong(moves), on, Fine))
	return err
}

// wrong carries out what is ordered, each on a payout of its own. b.mu is held.
func (b *Bank) wrong(moves []move) []move {
	spoilt := map[string]bool{}
	for _, what := range slices.Clone(b.misstate) {
		at := slices.IndexFunc(moves, func(m move) bool { return m.kind == "payout" && !spoilt[m.ref] })
		if at < 0 {
			break
		}
		m := moves[at]
		switch what {
		case LeftOut:
			moves = slices.Delete(moves, at, at+1)
		case Invented:
			m.ref, m.bankID = fmt.Sprintf("NOBODYS-%d", len(b.misstated)+1), fmt.Sprintf("X%09d", len(b.misstated)+1)
			moves = append(moves, m)
		case Doubled:
			moves = append(moves, m)
		}
		spoilt[m.ref] = true
		b.misstate = slices.Delete(b.misstate, 0, 1)
		b.misstated = append(b.misstated, Misstated{what, m.ref})
	}
	return moves
}
