package journal

import (
	"strings"

	"acquirer/money"
	"acquirer/store"
)

// Schema is the tables of the journal. The unique key of txn leads with the
// day, so that inserts touch the end of the index whatever the terminal
// (measured: 2 % slower at 10 million rows, against 16-20 % when the terminal
// leads). outcome has an id of its own, in the order of closing, which is the
// order the ledger reads it in.
var Schema = store.Schema{Name: "journal", Steps: []string{`
create table txn (
	id BIGINT primary key,
	day INTEGER not null,          -- business date, yyyymmdd
	terminal TEXT not null,        -- DE 41
	batch INTEGER not null,        -- DE 60.2
	stan INTEGER not null,         -- DE 11
	kind INTEGER not null,
	merchant TEXT not null,        -- DE 42
	mti INTEGER not null,
	processing INTEGER not null,   -- DE 3
	entry INTEGER not null,        -- DE 22
	amount BIGINT not null,        -- fen
	currency INTEGER not null,     -- DE 49
	token BYTEA not null,          -- of the account number, keyed
	masked TEXT not null,
	sealed BYTEA,                  -- account number and expiry, encrypted
	channel INTEGER not null,
	issuer TEXT not null,
	rrn TEXT not null,             -- DE 37
	trace INTEGER not null,        -- DE 11 towards the issuer
	transmitted BIGINT not null,   -- DE 7 towards the issuer, microseconds
	fingerprint BYTEA not null,
	opened BIGINT not null,
	deadline BIGINT not null,
	node INTEGER not null,
	spent_on INTEGER not null      -- Beijing day whose limits it spends, 0 none
);
create unique index txn_key on txn (day, terminal, batch, stan, kind);
create table outcome (
	id BIGINT primary key,
	txn BIGINT not null,
	reason INTEGER not null,
	approval TEXT not null,        -- DE 38
	issuer_code TEXT not null,     -- DE 39 of the issuer
	additional TEXT not null,      -- DE 44
	chip BYTEA,                    -- DE 55 of the answer
	settles INTEGER not null,      -- DE 15, MMDD
	extra BYTEA,
	note TEXT not null,
	closed BIGINT not null
);
create unique index outcome_txn on outcome (txn);
create table owed (
	id BIGINT primary key,
	txn BIGINT not null,
	issuer TEXT not null,          -- as in txn, so that each issuer's list is walked alone
	why TEXT not null,
	created BIGINT not null,
	due BIGINT not null,
	tries INTEGER not null,
	state INTEGER not null,        -- 4 owed, 5 reversed, 6 manual
	holder INTEGER not null,       -- node that is sending it
	leased BIGINT not null,        -- until when
	note TEXT not null,
	ended BIGINT not null,
	approved INTEGER not null      -- 1 when the transaction had been approved, and this takes it back
);
create unique index owed_txn on owed (txn);
create index owed_due on owed (issuer, due) where state = 4;
create index owed_manual on owed (id) where state = 6;
create table journal_mark (
	name TEXT primary key,
	id BIGINT not null
)`, `
alter table txn add column original BIGINT not null default 0; -- the transaction it follows
alter table txn add column scheme TEXT not null default ''; -- of a foreign card
create index txn_original on txn (original) where original <> 0;
alter table txn add column condition INTEGER not null default 0; -- DE 25
alter table owed add column chip BYTEA; -- DE 55 of the terminal's reversal
alter table outcome add column part BIGINT not null default 0 -- approved, when less than asked for`, `
create table settling (            -- a terminal's settlement of a batch
	id BIGINT primary key,
	day INTEGER not null,
	terminal TEXT not null,
	merchant TEXT not null,
	batch INTEGER not null,
	claimed TEXT not null,         -- DE 48 of the terminal
	ours TEXT not null,            -- DE 48 of the answer
	at BIGINT not null,
	reminded INTEGER not null,     -- told that signatures are missing
	uploaded INTEGER not null,
	ended BIGINT not null,
	unique (terminal, batch, day)
);
create index settling_day on settling (day);
create table uploaded (            -- a record of a terminal's batch upload, or a difference
	id BIGINT primary key,
	day INTEGER not null,
	terminal TEXT not null,
	merchant TEXT not null,
	batch INTEGER not null,
	stan INTEGER not null,
	form TEXT not null,            -- which upload, '' for none
	amount BIGINT not null,
	masked TEXT not null,
	txn BIGINT not null,           -- 0 when the journal has none
	what TEXT not null,            -- how it differs, '' not at all
	at BIGINT not null,
	resolved BIGINT not null,
	unique (terminal, batch, stan, form, what, day)
);
create index uploaded_open on uploaded (id) where what <> '' and resolved = 0;
create table signature (
	txn BIGINT primary key,
	sealed BYTEA not null,         -- JBIG, encrypted
	received BIGINT not null
)`, `
create table stray (               -- a message of an issuer that found no caller
	id BIGINT primary key,
	txn BIGINT not null,           -- whose RRN it had
	at BIGINT not null,
	issuer TEXT not null,
	line INTEGER not null,
	kind TEXT not null,
	mti TEXT not null,
	code TEXT not null             -- DE 39
);
create index stray_txn on stray (txn)`, `
create table business_date (       -- the open ones; their row lock keeps opening and closing apart
	dates INTEGER primary key,     -- 1 of cards, 2 of wallets
	date INTEGER not null
);
insert into business_date (dates, date) values (1, 0), (2, 0);
create table cut_over (            -- every step of a business date
	id BIGINT primary key,         -- its place in the journal's order
	dates INTEGER not null,
	date INTEGER not null,         -- open from here on
	node INTEGER not null,
	at BIGINT not null,
	unique (dates, date)
)`, `
alter table txn add column checksum INTEGER;     -- of the columns before it
alter table outcome add column checksum INTEGER; -- of the columns before it
alter table owed add column checksum INTEGER     -- of those that never change`, `
alter table txn add column place TEXT not null default '';  -- DE 59 A5
alter table txn add column device TEXT not null default ''; -- DE 59 A2: type, serial number, version
create table retained (            -- past its time and still sealed: owed, or in dispute
	txn BIGINT primary key
)`, `
create table charged (             -- what issuers took back of a sale by chargeback, or may take again
	txn BIGINT primary key,
	amount BIGINT not null
)`}}

const (
	txnColumns = `id, day, terminal, batch, stan, kind, merchant, mti, processing, entry, amount, currency, token, masked, sealed,
		channel, issuer, rrn, trace, transmitted, fingerprint, opened, deadline, node, spent_on, original, scheme, condition, place, device`
	txnCount       = 30
	outcomeColumns = `id, txn, reason, approval, issuer_code, additional, chip, settles, extra, note, closed, part`
	outcomeCount   = 12
	owedKept       = `id, txn, issuer, why, created, approved, chip` // never changed
	owedColumns    = `id, txn, issuer, why, created, due, tries, state, holder, leased, note, ended, approved, chip`
	owedCount      = 14
)

// Summed are the tables whose rows can be read back against their checksums.
// What changes of a debt while it is sent (due, tries, state, lease, note) is in
// none; Check looks that its state is a possible one.
var Summed = []store.Summed{
	{Table: "txn", Columns: txnColumns, Sum: "checksum", Date: "day"},
	{Table: "outcome", Columns: outcomeColumns, Sum: "checksum", Date: "coalesce((select t.day from txn t where t.id = outcome.txn), 0)"},
	{Table: "owed", Columns: owedKept, Sum: "checksum", Date: "coalesce((select t.day from txn t where t.id = owed.txn), 0)"},
}

// Tallied are the tables of which every row stays for ever, with what never
// changes of it: store.Tally counts them, so that a transaction that is taken out
// whole is missed. What is owed is not among them: the delivery of an advice that
// is undone goes.
var Tallied = []store.Tallied{
	{Table: "txn", Columns: "id, day, terminal, batch, stan, kind, merchant, amount, rrn, original, channel, opened"},
	{Table: "outcome", Columns: "id, txn, reason, approval, part, closed"},
}

var (
	insertTxn = "insert into txn (" + txnColumns + ", checksum) values (" + numbered(txnCount+1) +
		") on conflict (day, terminal, batch, stan, kind) do nothing"
	insertOutcome = "insert into outcome (" + outcomeColumns + ", checksum) values (" + numbered(outcomeCount+1) + ") on conflict (txn) do nothing"
	insertOwed    = "insert into owed (" + owedColumns + ", checksum) values (" + numbered(owedCount+1) + ") on conflict (txn) do nothing"

	// entries reads a transaction with what became of it.
	entryColumns = prefixed("t", txnColumns) + ", " + prefixed("o", outcomeColumns) + ", " + prefixed("w", owedColumns)

	entries    = "select " + entryColumns + " from txn t left join outcome o on o.txn = t.id left join owed w on w.txn = t.id "
	entryByKey = entries + "where t.day = $1 and t.terminal = $2 and t.batch = $3 and t.stan = $4 and t.kind = $5"
	entryByID  = entries + "where t.id = $1"
)

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('$')
		if i >= 9 {
			b.WriteByte(byte('0' + (i+1)/10))
		}
		b.WriteByte(byte('0' + (i+1)%10))
	}
	return b.String()
}

func prefixed(table, columns string) string {
	names := strings.Split(columns, ",")
	for i, n := range names {
		names[i] = table + "." + strings.TrimSpace(n)
	}
	return strings.Join(names, ", ")
}

func bit(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// clean keeps text that came over a wire storable in both engines: valid
// UTF-8 without NUL.
func clean(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] == 0 || s[i] >= 0x80 {
			return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
		}
	}
	return s
}

// args are the columns of txn.
func (t *Transaction) args(a *store.Args) *store.Args {
	a.Reset().Int(t.ID).Int(int64(t.Day)).Text(t.Terminal).Int(int64(t.Batch)).Int(int64(t.STAN)).Int(int64(t.Kind)).Text(t.Merchant)
	a.Int(int64(t.MTI)).Int(int64(t.ProcessingCode)).Int(int64(t.EntryMode)).Int(t.Amount.Fen()).Int(int64(t.Currency))
	a.Bytes(t.PANToken[:]).Text(t.PANMasked).Bytes(t.PANSealed).Int(int64(t.Channel)).Text(t.Issuer).Text(t.RRN).Int(int64(t.Trace))
	a.Int(store.Micros(t.Transmitted)).Bytes(t.Fingerprint[:]).Int(store.Micros(t.Opened)).Int(store.Micros(t.Deadline)).Int(int64(t.Node)).Int(int64(t.SpentOn))
	return a.Int(t.Original).Text(t.Scheme).Int(int64(t.Condition)).Text(t.Place).Text(t.Device)
}

// args are the columns of outcome.
func (o *Outcome) args(a *store.Args, txn int64) *store.Args {
	a.Reset().Int(o.ID).Int(txn).Int(int64(o.Reason)).Text(o.Approval).Text(o.IssuerCode).Text(o.Additional).Bytes(o.Chip)
	return a.Int(int64(o.Settles)).Bytes(o.Extra).Text(o.Note).Int(store.Micros(o.Closed)).Int(o.Part.Fen())
}

func writeTxn(tx store.Tx, a *store.Args, t *Transaction) (fresh bool, err error) {
	t.args(a).Int(int64(a.Checksum()))
	n, err := tx.ExecArgs(insertTxn, a)
	return n == 1, err
}

func writeOutcome(tx store.Tx, a *store.Args, txn int64, o *Outcome) (won bool, err error) {
	o.args(a, txn).Int(int64(a.Checksum()))
	n, err := tx.ExecArgs(insertOutcome, a)
	return n == 1, err
}

func writeOwed(tx store.Tx, a *store.Args, t *Transaction, d *Debt, approved bool) (fresh bool, err error) {
	was := int64(bit(approved && !d.Delivery()))
	kept := a.Reset().Int(d.ID).Int(t.ID).Text(t.Issuer).Text(string(d.Why)).Int(store.Micros(d.Created)).Int(was).Bytes(d.Chip).Checksum()
	a.Reset().Int(d.ID).Int(t.ID).Text(t.Issuer).Text(string(d.Why)).Int(store.Micros(d.Created)).Int(store.Micros(d.Due)).Int(int64(d.Tries))
	a.Int(int64(d.State)).Int(0).Int(0).Text(d.Note).Int(store.Micros(d.Ended)).Int(was).Bytes(d.Chip).Int(int64(kept))
	n, err := tx.ExecArgs(insertOwed, a)
	return n == 1, err
}

// scanEntry reads a row of entries; more are destinations of columns behind.
func scanEntry(rows *store.Rows, e *Entry) error {
	var transmitted, opened, deadline int64
	var o struct {
		id, txn, reason, settles, closed, part *int64
		approval, issuerCode, additional, note *string
		chip, extra                            []byte
	}
	var w struct {
		id, txn, created, due, tries, state, holder, leased, ended, approved *int64
		issuer, why, note                                                    *string
		chip                                                                 []byte
	}
	t := &e.Transaction
	err := rows.Scan(&t.ID, &t.Day, &t.Terminal, &t.Batch, &t.STAN, &t.Kind, &t.Merchant, &t.MTI, &t.ProcessingCode, &t.EntryMode,
		&t.Amount, &t.Currency, &t.PANToken, &t.PANMasked, &t.PANSealed, &t.Channel, &t.Issuer, &t.RRN, &t.Trace, &transmitted,
		&t.Fingerprint, &opened, &deadline, &t.Node, &t.SpentOn, &t.Original, &t.Scheme, &t.Condition, &t.Place, &t.Device,
		&o.id, &o.txn, &o.reason, &o.approval, &o.issuerCode, &o.additional, &o.chip, &o.settles, &o.extra, &o.note, &o.closed, &o.part,
		&w.id, &w.txn, &w.issuer, &w.why, &w.created, &w.due, &w.tries, &w.state, &w.holder, &w.leased, &w.note, &w.ended, &w.approved, &w.chip)
	if err != nil {
		return err
	}
	t.Transmitted, t.Opened, t.Deadline = store.Instant(transmitted), store.Instant(opened), store.Instant(deadline)
	if o.id != nil {
		e.Outcome = &Outcome{ID: *o.id, Reason: Reason(*o.reason), Approval: *o.approval, IssuerCode: *o.issuerCode, Additional: *o.additional,
			Chip: o.chip, Settles: int32(*o.settles), Extra: o.extra, Note: *o.note, Closed: store.Instant(*o.closed), Part: money.Amount(*o.part)}
	}
	if w.id != nil {
		e.Debt = &Debt{ID: *w.id, Why: Why(*w.why), Created: store.Instant(*w.created), Due: store.Instant(*w.due), Tries: int32(*w.tries),
			State: State(*w.state), Note: *w.note, Chip: w.chip, Ended: store.Instant(*w.ended)}
	}
	return nil
}

// entry reads the one entry of a query, nil when there is none.
func entry(tx store.Tx, sql string, args ...any) (*Entry, error) {
	rows, err := tx.Query(sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	e := new(Entry)
	if err := scanEntry(rows, e); err != nil {
		return nil, err
	}
	return e, rows.Close()
}

func entryAt(tx store.Tx, k Key) (*Entry, error) {
	return entry(tx, entryByKey, int64(k.Day), k.Terminal, int64(k.Batch), int64(k.STAN), int64(k.Kind))
}
